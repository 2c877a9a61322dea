//! Takes jobs from a Redis stream while there is room for them, works on them, and acknowledges exactly
//! those that have a result.
//!
//! The consumer group of the stream delivers an entry again until it is acknowledged, and a run accounts
//! for every entry. The worker acknowledges a job as soon as it has a result. It does not acknowledge a
//! job that fails, or has no outcome. Entries that never started are given back, as if they had not been
//! taken. So no job is lost, however a worker ends. This is *at-least-once* delivery: a worker can be
//! killed after a job has changed something, and before the acknowledgement. Both are one step only if
//! the change is in Redis too, like the record of done jobs here.

mod args;
mod batches;
mod broker;
mod connection;
mod continuous;
mod held;
mod settlement;
mod signals;
mod tally;
mod work;

use std::process::ExitCode;

use args::Args;
use broker::Broker;
use clap::Parser;
use redis::RedisResult;
use tally::Tally;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let tally = Tally::default();
    let ended = run(&args, &tally).await;
    eprintln!("{}: {tally}", args.name);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}: {error}", args.name);
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args, tally: &Tally) -> RedisResult<()> {
    let (drain, cancel) = signals::stop_signals()?;
    let broker = Broker::connect(args, &cancel).await?;
    let work = async {
        if args.batches {
            batches::run(&broker, args, drain, tally).await
        } else {
            continuous::run(&broker, args, drain, cancel, tally).await
        }
    };
    tokio::select! {
        ended = work => ended,
        never = broker.renew() => match never {},
    }
}
