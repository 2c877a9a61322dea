//! Takes jobs from a Redis stream, works on them in batches, and acknowledges exactly those that
//! have a result.
//!
//! The consumer group of the stream delivers an entry again until it is acknowledged, and a run accounts
//! for every entry. The worker acknowledges `results`. It does not acknowledge `errors` and `unfinished`.
//! Unfinished entries that never started are given back, as if they had not been taken. So no job is
//! lost, however a worker ends. This is *at-least-once* delivery: a worker can be killed after a job has
//! changed something, and before the acknowledgement. Both are one step only if the change is in Redis
//! too, like the record of done jobs here.

mod args;
mod broker;
mod settlement;
mod work;

use std::collections::HashSet;
use std::future::Future;
use std::process::ExitCode;
use std::time::Instant;
use std::{fmt, io};

use args::Args;
use broker::Broker;
use futures::FutureExt;
use futures_aggregate::{Event, Interrupted, process_batch};
use redis::RedisResult;
use settlement::Settlement;
use work::Entry;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::get();
    match run(&args).await {
        Ok(tally) => {
            eprintln!("{}: {tally}", args.name);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {}: {error}", args.name);
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> RedisResult<Tally> {
    let stop = stop_signal()?.shared();
    let mut broker = Broker::connect(args).await?;
    let mut tally = Tally::default();
    while stop.clone().now_or_never().is_none() {
        let entries = broker.take(args.take).await?;
        let taken = Instant::now();
        if !entries.is_empty() {
            let settlement = process(entries, args, stop.clone()).await;
            broker.settle(&settlement, taken).await?;
            tally.add(&settlement);
        } else if args.drain && broker.is_drained().await? {
            break;
        }
    }
    Ok(tally)
}

/// Works on the entries until all are done, the deadline passes, or `stop` completes.
async fn process(entries: Vec<Entry>, args: &Args, stop: impl Future) -> Settlement {
    let source = |entry: Entry| (entry.clone(), work::work(entry, args.deliveries));
    let batches = settlement::batches(entries)
        .into_iter()
        .map(|batch| batch.into_iter().map(source));
    let mut started = HashSet::new();
    let outcomes = process_batch(batches)
        .batch_timeout(args.batch_timeout)
        .source_timeout(args.job_timeout())
        .source_concurrency(args.concurrency)
        .catch_panics()
        .cancel_on(stop)
        .observe(|event| {
            if let Event::Started { id: entry, .. } = event {
                started.insert(entry.id.clone());
            }
        })
        .await
        .unwrap_or_else(Interrupted::into_partial);
    Settlement::new(outcomes, &started, args.deliveries)
}

/// Completes when the worker has to stop.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut keyboard = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = keyboard.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Completes when the worker has to stop. Never completes if the system cannot report that.
#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    })
}

/// Counts of the entries that were delivered to this worker.
#[derive(Default)]
struct Tally {
    done: usize,
    failed: usize,
    unfinished: usize,
    unstarted: usize,
    dead: usize,
}

impl Tally {
    fn add(&mut self, settlement: &Settlement) {
        self.done += settlement.done.len();
        self.failed += settlement.failed.len();
        self.unfinished += settlement.unfinished.len();
        self.unstarted += settlement.unstarted.len();
        self.dead += settlement.dead.len();
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} done, {} failed and {} unfinished left to be delivered again, {} given back \
             unstarted, {} dead",
            self.done, self.failed, self.unfinished, self.unstarted, self.dead
        )
    }
}
