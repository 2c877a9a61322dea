//! A pipeline: fetches pages, compresses them, and puts them into a store. The outcomes of one run are
//! the sources of the next one. Uses tokio, reqwest and flate2.
//!
//! ```text
//! cargo run -p examples --bin pipeline
//! cargo run -p examples --bin pipeline -- --store http://b.example/archive/ http://a.example/
//! ```
//!
//! ```text
//! pages -> fetch (16 at a time) -> channel -> compress and store (4 at a time) -> channel -> report
//! ```
//!
//! - **Errors flow through.** The outcome of a fetch is the input of the store stage, also if it is an
//!   error. The store stage returns it as its own error. So each page comes out at the end once.
//! - **A slow stage slows the stage before it.** The channels have bounds.
//! - **The end of the last stage reaches the first one.** The deadline belongs to the last stage. When
//!   that stage ends, the program closes the channel before it, and so the first stage ends too.
//! - **A graceful end starts at the first stage.** The first Ctrl-C starts no more fetches. The channel
//!   then closes, and the last stage stores what is in the pipeline. The second Ctrl-C ends the last
//!   stage.
//! - **Every page is in one list:** stored, failed, not stored, or not fetched.

mod report;
mod stages;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use examples::store::Store;
use examples::{Asked, exit_code, url};
use futures::StreamExt;
use futures_aggregate::{Interrupted, Reason, from_stream, stream_results};
use report::Report;
use reqwest::Url;
use stages::{fetch, store};
use tokio::runtime::Runtime;

/// Fetch pages, compress them, and put them into a store. Exits with 0 if every page was stored or
/// failed, with 2 if the run ended before.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Pages to store. Without any, the program starts servers on this machine and fetches from those.
    #[arg(value_parser = url(&["http", "https"]))]
    urls: Vec<Url>,

    /// Where to put the pages: each gets a name below this URL. Without it, the program starts a store
    /// on this machine, which accepts only small objects.
    #[arg(long, value_name = "URL", value_parser = url(&["http", "https"]))]
    store: Option<Url>,

    /// Time for all pages, such as `10s` or `500ms`.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

fn main() -> ExitCode {
    examples::main(|args: Args| {
        let asked = examples::asked(args.urls)?;
        let store = match args.store {
            Some(store) => store,
            None => examples::serve(Store::default().router())?,
        };
        let runtime = Runtime::new()?;
        let complete = runtime.block_on(run(asked, store, args.timeout));
        // A blocking name lookup must not keep the program alive.
        runtime.shutdown_background();
        Ok(exit_code(complete?))
    })
}

/// Returns whether every page came to the end of the pipeline.
async fn run(asked: Asked, at: Url, timeout: Duration) -> io::Result<bool> {
    let Asked { targets, client } = asked;
    let mut report = Report::new(targets.len());
    let (first_press, second_press) = examples::ctrl_c()?;

    // The first stage. Each page that it fetches goes into the channel between the stages.
    let fetching = client.clone();
    let pages = targets
        .into_iter()
        .map(move |(name, url)| (name, fetch(fetching.clone(), url)));
    let (sender, fetched) = async_channel::bounded(4);
    let fetches = stream_results(pages, sender)
        .concurrency(16)
        .drain_on(async {
            first_press.await;
            eprintln!("Storing the pages in the pipeline. Press Ctrl-C again to stop now.");
        });
    let fetches = tokio::spawn(fetches);

    // The last stage. Its sources are the outcomes of the first one, good and bad ones.
    let pages = fetched
        .clone()
        .map(move |(name, page)| (name.clone(), store(client.clone(), at.clone(), name, page)));
    let (sender, stored) = async_channel::bounded(4);
    let stores = stream_results(from_stream(pages), sender)
        .concurrency(4)
        .timeout(timeout)
        .cancel_on(second_press);
    let stores = tokio::spawn(stores);

    while let Ok(outcome) = stored.recv().await {
        report.outcome(&outcome)?;
    }
    let stores = stores.await.map_err(io::Error::other)?;

    // The last stage has ended and takes no more pages. Closing the channel before it ends the first
    // stage, if that still runs. A closed channel keeps its pages until they are read.
    fetched.close();
    while let Ok(outcome) = fetched.recv().await {
        report.between(outcome)?;
    }
    let fetches = fetches.await.map_err(io::Error::other)?;

    // Pages that were stored or failed, but found no room in the channel.
    let (stores, stores_end) = result_and_reason(stores);
    for outcome in &stores.undelivered {
        report.outcome(outcome)?;
    }
    // Pages that were being stored. Some may be in the store nevertheless.
    for name in &stores.unfinished {
        report.not_stored(name)?;
    }
    // Pages that were fetched or failed, but found no room in the channel.
    let (fetches, fetches_end) = result_and_reason(fetches);
    for outcome in fetches.undelivered {
        report.between(outcome)?;
    }
    // Pages that were being fetched, and pages whose fetch had not started.
    for name in &fetches.unfinished {
        report.not_fetched(name)?;
    }
    report.totals(fetches_end, stores_end)
}

/// The result of a run, partial or not, and what has interrupted the run.
fn result_and_reason<P>(ended: Result<P, Interrupted<P>>) -> (P, Option<Reason>) {
    match ended {
        Ok(result) => (result, None),
        Err(interrupted) => (interrupted.partial, Some(interrupted.reason)),
    }
}
