//! One source: a simulated job. Its outcome depends only on its number and its delivery count, so every
//! run of the example has the same failures.

use std::future::pending;
use std::time::Duration;

use redis::streams::StreamId;
use tokio::time::sleep;

/// A delivered job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// Its id in the stream.
    pub(crate) id: String,
    pub(crate) job: String,
    pub(crate) backend: String,
    /// How often it was delivered, including this time.
    pub(crate) deliveries: usize,
}

impl Entry {
    /// A missing field becomes empty, and the job fails.
    pub(crate) fn new(entry: &StreamId, deliveries: usize) -> Self {
        let field = |name| entry.get(name).unwrap_or_default();
        Self {
            id: entry.id.clone(),
            job: field("job"),
            backend: field("backend"),
            deliveries,
        }
    }

    #[cfg(test)]
    pub(crate) fn for_test(job: u32, backend: &str, deliveries: usize) -> Self {
        Self {
            id: format!("{job}-0"),
            job: job.to_string(),
            backend: backend.to_owned(),
            deliveries,
        }
    }
}

/// Does the job. Its only effect is a line on the standard output.
///
/// The line and the result come in one poll, so a worker that gets SIGTERM has both or none. A killed
/// worker may have only the line; then the job runs once more.
pub(crate) async fn work(entry: Entry, deliveries: usize) -> Result<(), String> {
    // For example a job that crashes the worker, and the jobs in flight together with it.
    if entry.deliveries > deliveries {
        return Err(format!("no outcome in {deliveries} deliveries"));
    }
    let number = entry.job.parse();
    let number: u32 = number.map_err(|_| format!("`{}` is not a job's number", entry.job))?;
    let slowness = match &*entry.backend {
        "mail" | "search" => 1,
        "archive" => 4,
        other => return Err(format!("there is no backend `{other}`")),
    };
    match (number % 100, entry.deliveries) {
        (13 | 37, 1) | (61, 1..=2) => return Err("busy".to_owned()),
        (50, 1) => pending().await,
        (77, 1) if number % 1000 == 77 => panic!("a job that panics when it is first delivered"),
        _ => sleep(slowness * Duration::from_millis(1 + u64::from(number % 20))).await,
    }
    println!("job {number} done");
    Ok(())
}
