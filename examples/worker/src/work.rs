//! One source: a job, which is pretended. It depends on its number and on how often it was
//! delivered alone, so that every run of the example has the same failures.

use std::future::pending;
use std::time::Duration;

use redis::streams::StreamId;
use tokio::time::sleep;

/// A job, as it was delivered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// The stream's name for it.
    pub(crate) id: String,
    pub(crate) job: String,
    pub(crate) backend: String,
    /// How often it was delivered, this time included.
    pub(crate) deliveries: usize,
}

impl Entry {
    /// A field that is missing is empty, and no job can be done with it.
    pub(crate) fn new(entry: &StreamId, deliveries: usize) -> Self {
        let field = |name| entry.get(name).unwrap_or_default();
        Self {
            id: entry.id.clone(),
            job: field("job"),
            backend: field("backend"),
            deliveries,
        }
    }
}

/// Does the job. What it changes in the world is a line on the standard output.
///
/// The line and the result come in one poll, so that a worker which is told to stop has either
/// both or none. One that is killed may have the line alone: then the job is done once more.
pub(crate) async fn work(entry: Entry, deliveries: usize) -> Result<(), String> {
    // Such as one that takes the worker down, and those that were taken along with it each time.
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
