//! Runs many operations, and measures the time of each.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt};
use futures_aggregate::{AttemptBudget, fetch_and_aggregate, hedge};

use crate::milliseconds;
use crate::servers::Servers;

/// About how many requests are in flight. So few leave the processor mostly idle, so the figures show the
/// delay of the servers.
const IN_FLIGHT: usize = 100;
/// Longer than any answer takes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What to measure, and how often.
pub(crate) struct Workload {
    fan_out: usize,
    operations: u32,
}

impl Workload {
    pub(crate) fn new(fan_out: usize, operations: u32) -> Self {
        Self {
            fan_out,
            operations,
        }
    }
}

/// What an operation waits for.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    /// Every answer.
    All,
    /// Every answer, each request made once more after this long.
    Hedged(Duration),
    /// This many answers.
    Quorum(usize),
}

/// The times of the operations of a workload.
#[derive(Clone)]
pub(crate) struct Measurement {
    pub(crate) fan_out: usize,
    pub(crate) patience: Patience,
    /// In ascending order.
    times: Vec<Duration>,
    /// Extra requests, as a part of the requests that are needed at least.
    extra_load: f64,
}

impl Measurement {
    /// The time within which this part of the operations ended.
    pub(crate) fn percentile(&self, part: f64) -> Duration {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rank = (part * self.times.len() as f64).ceil() as usize;
        self.times[rank.clamp(1, self.times.len()) - 1]
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.patience {
            Patience::All => "all answers",
            Patience::Hedged(_) => "all answers, hedged",
            Patience::Quorum(_) => "95 % of the answers",
        }
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = format!("1 to {}: {}", self.fan_out, self.name());
        write!(f, "{what:<30} {:>7} ", self.times.len())?;
        for part in [0.5, 0.95, 0.99, 0.999] {
            write!(f, " {:>8.1}", milliseconds(self.percentile(part)))?;
        }
        write!(f, "  {:>8.1} %", self.extra_load * 100.0)
    }
}

/// Runs a workload: a run of operations. Each operation is a run of requests.
pub(crate) async fn measure(
    servers: &Servers,
    workload: &Workload,
    patience: Patience,
) -> io::Result<Measurement> {
    let before = servers.requests();
    let budget = AttemptBudget::new(100, 0.1);
    let operations = (0..workload.operations).map(|operation| {
        let operation = operation as usize;
        let run = time_one(servers, operation, workload.fan_out, patience, &budget);
        (operation, run)
    });
    let aggregate = fetch_and_aggregate(operations, Duration::MAX)
        .concurrency((IN_FLIGHT / workload.fan_out).max(1))
        .fail_fast()
        .await
        .map_err(|interrupted| {
            let error = interrupted.partial.errors.into_iter().next();
            let error = error.map(|(_, error)| error.to_string());
            io::Error::other(error.unwrap_or_default())
        })?;
    let mut times: Vec<_> = aggregate
        .results
        .into_iter()
        .map(|(_, time)| time)
        .collect();
    times.sort_unstable();
    let least = times.len() as f64 * workload.fan_out as f64;
    let made = servers.requests() - before;
    Ok(Measurement {
        fan_out: workload.fan_out,
        patience,
        times,
        extra_load: made as f64 / least - 1.0,
    })
}

/// One operation: asks many servers, and waits for the answers that its patience requires.
async fn time_one(
    servers: &Servers,
    operation: usize,
    fan_out: usize,
    patience: Patience,
    budget: &AttemptBudget,
) -> io::Result<Duration> {
    let started = Instant::now();
    // Every operation starts with another server.
    let requests =
        (0..fan_out).map(|leaf| (leaf, request(servers, operation + leaf, patience, budget)));
    let run = fetch_and_aggregate(requests, TIMEOUT);
    let answer = match patience {
        Patience::Quorum(answers) => run.quorum(answers).await,
        Patience::All | Patience::Hedged(_) => run.fail_fast().await,
    };
    match answer {
        Ok(_) => Ok(started.elapsed()),
        Err(interrupted) => Err(io::Error::other(interrupted.to_string())),
    }
}

fn request<'a>(
    servers: &'a Servers,
    server: usize,
    patience: Patience,
    budget: &AttemptBudget,
) -> BoxFuture<'a, reqwest::Result<()>> {
    match patience {
        Patience::Hedged(delay) => hedge(delay, 2, move |attempt| servers.ask(server + attempt))
            .budget(budget)
            .map(|answer| answer.map_err(|failed| failed.last))
            .boxed(),
        Patience::All | Patience::Quorum(_) => servers.ask(server).boxed(),
    }
}
