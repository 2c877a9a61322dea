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

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use examples::store::Store;
use examples::{Asked, url};
use futures::StreamExt;
use futures_aggregate::{Interrupted, Reason, from_stream, stream_results};
use report::Report;
use reqwest::Url;
use stages::{fetch, store};

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
        examples::on_tokio(run(asked, store, args.timeout))
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

/// Which list each page is in.
mod report {
    use std::io::{self, Write};

    use futures_aggregate::{Outcome, Reason, SourceError};

    use crate::stages::Failure;

    /// Prints the pages, and counts them.
    #[derive(Default)]
    pub(crate) struct Report {
        pages: usize,
        stored: usize,
        failed: usize,
        not_stored: usize,
        not_fetched: usize,
    }

    impl Report {
        pub(crate) fn new(pages: usize) -> Self {
            Self {
                pages,
                ..Self::default()
            }
        }

        /// Prints a page that came to the end of the pipeline.
        pub(crate) fn outcome(
            &mut self,
            (name, outcome): &Outcome<String, usize, Failure>,
        ) -> io::Result<()> {
            match outcome {
                Ok(bytes) => {
                    self.stored += 1;
                    line("stored", name, &format!("{bytes} bytes"))
                }
                Err(error) => {
                    self.failed += 1;
                    line("failed", name, &error.to_string())
                }
            }
        }

        /// Prints a page that came out of the first stage, and not into the last one.
        pub(crate) fn between(
            &mut self,
            (name, fetched): Outcome<String, Vec<u8>, reqwest::Error>,
        ) -> io::Result<()> {
            match fetched {
                Ok(_) => self.not_stored(&name),
                Err(error) => {
                    self.outcome(&(name, Err(SourceError::Failed(Failure::Fetch(error)))))
                }
            }
        }

        /// Prints a page that was fetched, and perhaps stored too.
        pub(crate) fn not_stored(&mut self, name: &str) -> io::Result<()> {
            self.not_stored += 1;
            line("not-stored", name, "")
        }

        /// Prints a page that was not fetched.
        pub(crate) fn not_fetched(&mut self, name: &str) -> io::Result<()> {
            self.not_fetched += 1;
            line("not-fetched", name, "")
        }

        /// Prints the counts, and what has interrupted each stage. Returns whether every page came to the
        /// end of the pipeline.
        pub(crate) fn totals(
            self,
            fetches: Option<Reason>,
            stores: Option<Reason>,
        ) -> io::Result<bool> {
            let Self {
                pages,
                stored,
                failed,
                not_stored,
                not_fetched,
            } = self;
            let mut out = io::stdout().lock();
            writeln!(
                out,
                "\n{pages} pages: {stored} stored, {failed} failed, {not_stored} not stored, \
                 {not_fetched} not fetched."
            )?;
            for (stage, reason) in [("fetches", fetches), ("stores", stores)] {
                if let Some(reason) = reason {
                    writeln!(out, "The {stage} were interrupted: {reason}.")?;
                }
            }
            Ok(not_stored + not_fetched == 0)
        }
    }

    fn line(list: &str, name: &str, says: &str) -> io::Result<()> {
        let line = format!("{list:<11} {name} {says}");
        writeln!(io::stdout(), "{}", line.trim_end())
    }
}

/// The work of each stage.
mod stages {
    use std::fmt;
    use std::io::{self, Write};

    use examples::Chain;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use futures_aggregate::SourceError;
    use reqwest::header::CONTENT_ENCODING;
    use reqwest::{Client, Url};
    use tokio::task::spawn_blocking;

    /// Why a page was not stored.
    pub(crate) enum Failure {
        /// The first stage has failed.
        Fetch(SourceError<reqwest::Error>),
        Compress(io::Error),
        Store(reqwest::Error),
    }

    impl fmt::Display for Failure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Fetch(SourceError::Failed(error)) => write!(f, "fetch: {}", Chain(error)),
                Self::Fetch(error) => write!(f, "fetch: {error}"),
                Self::Compress(error) => write!(f, "compress: {error}"),
                Self::Store(error) => write!(f, "store: {}", Chain(error)),
            }
        }
    }

    /// A source of the first stage.
    pub(crate) async fn fetch(client: Client, url: Url) -> reqwest::Result<Vec<u8>> {
        let page = async {
            let response = client.get(url).send().await?.error_for_status()?;
            Ok(response.bytes().await?.to_vec())
        };
        // The output line names the page already.
        page.await.map_err(reqwest::Error::without_url)
    }

    /// A source of the last stage. Returns the size of the stored page.
    pub(crate) async fn store(
        client: Client,
        store: Url,
        name: String,
        fetched: Result<Vec<u8>, SourceError<reqwest::Error>>,
    ) -> Result<usize, Failure> {
        let page = fetched.map_err(Failure::Fetch)?;
        // Compressing keeps the processor busy, so another thread does it.
        let compressed = spawn_blocking(move || compress(&page)).await;
        let compressed = compressed.unwrap_or_else(|error| Err(io::Error::other(error)));
        let compressed = compressed.map_err(Failure::Compress)?;
        let bytes = compressed.len();
        let request = client
            .put(place(store, &name))
            .header(CONTENT_ENCODING, "gzip")
            .body(compressed);
        let answer = request.send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status);
        answer.map_err(|error| Failure::Store(error.without_url()))?;
        Ok(bytes)
    }

    fn compress(page: &[u8]) -> io::Result<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(page)?;
        encoder.finish()
    }

    /// The URL of a page in the store.
    fn place(mut store: Url, name: &str) -> Url {
        // Only a URL such as `data:` has no segments, and it was refused.
        if let Ok(mut segments) = store.path_segments_mut() {
            segments.pop_if_empty().push(name);
        }
        store
    }
}
