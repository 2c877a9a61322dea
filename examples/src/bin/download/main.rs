//! A download of a paginated API into one file: many requests at a time, written in the order of the
//! pages, in the memory of a few pages. After a crash it goes on where it stopped. Uses tokio and
//! reqwest.
//!
//! ```text
//! cargo run -p examples --bin download -- records.ndjson
//! cargo run -p examples --bin download -- records.ndjson --url "https://a.example/records?per_page=100"
//! ```
//!
//! The API numbers its pages: `?page=1` is an array of records in JSON, and the header `x-total-pages`
//! has the number of pages. The file gets one line for each record. Without a URL the program starts
//! such a server on this machine.
//!
//! `concurrency` bounds the memory too: a page that waits for an earlier one, or for the file, counts as
//! a page in flight. So there are never more pages in memory than this limit, and the one being written.
//!
//! The first Ctrl-C lets the pages in flight finish, and the second one stops at once. Start the program
//! again to go on. It must find the same pages as before.

mod fetch;
mod output;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Parser;
use examples::{at_least_one, exit_code, records, url};
use fetch::Fetcher;
use futures_aggregate::{Interrupted, SourceError, each, for_each_result};
use indicatif::{ProgressBar, ProgressStyle};
use output::Output;
use reqwest::Url;
use tokio::runtime::Runtime;
use tokio::task::spawn_blocking;

/// Download all records of a paginated API into a file, one line each. Exits with 0 if the file is
/// complete, with 2 if Ctrl-C stopped the download. Start it again to go on.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The file. A file with `.progress` at the end of its name is beside it until it is complete.
    file: PathBuf,

    /// The records. The program adds `page=1` and so on to the query. Without a URL, the program starts
    /// a server on this machine and downloads its records.
    #[arg(long, value_parser = url(&["http", "https"]))]
    url: Option<Url>,

    /// Pages in flight at the same time.
    #[arg(long, value_name = "NUMBER", default_value = "20", value_parser = at_least_one)]
    concurrency: usize,

    /// Time for each page, retries included, such as `30s` or `500ms`.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    page_timeout: Duration,
}

fn main() -> ExitCode {
    examples::main(|args: Args| {
        let runtime = Runtime::new()?;
        let complete = runtime.block_on(download(args));
        // A blocking name lookup must not keep the program alive.
        runtime.shutdown_background();
        Ok(exit_code(complete?))
    })
}

/// Returns whether the file is complete.
async fn download(args: Args) -> io::Result<bool> {
    // The port of the program's own server differs from run to run.
    let name = args.url.as_ref().map_or("its own server", Url::as_str);
    let name = name.to_owned();
    let output = Output::open(&args.file, &name)?;
    let client = examples::client(args.url.is_none(), |builder| builder)?;
    let url = match args.url {
        Some(url) => url,
        None => own_server()?,
    };
    let fetcher = Fetcher { client, url };
    let (done, total) = (output.pages(), fetcher.total().await?);
    if done > total {
        return Err(io::Error::other(format!(
            "{name} has {total} pages, and an earlier run has written {done}; delete {} and its \
             progress to start anew",
            args.file.display()
        )));
    }
    let bar = progress_bar(done, total);

    let (first_press, second_press) = examples::ctrl_c()?;
    let output = Arc::new(Mutex::new(output));
    let ended = for_each_result(
        each(done + 1..=total, |&page| fetcher.fetch(page)),
        async |(page, records)| {
            let records = records.map_err(|error| failed(page, &error))?;
            let output = Arc::clone(&output);
            // Writing blocks, so another thread does it. The other pages are fetched meanwhile.
            let write = move || lock(&output).append(page, &records);
            spawn_blocking(write).await.map_err(io::Error::other)??;
            bar.inc(1);
            Ok::<_, io::Error>(())
        },
    )
    .in_order()
    .concurrency(args.concurrency)
    .source_timeout(args.page_timeout)
    .drain_on(async {
        first_press.await;
        bar.suspend(|| {
            eprintln!("Waiting for the pages in flight. Press Ctrl-C again to stop now.");
        });
    })
    .cancel_on(second_press)
    .await;

    bar.finish_and_clear();
    let complete = ended.is_ok();
    let handled = ended.unwrap_or_else(Interrupted::into_partial);
    if let Some(error) = handled.body_errors.into_iter().next() {
        return Err(error);
    }
    let mut output = lock(&output);
    if complete {
        output.finish()?;
    }
    let (pages, file) = (output.pages(), args.file.display());
    let new = pages - done;
    let says = format!("{file}: {pages} of {total} pages, {new} of them new");
    writeln!(io::stdout(), "{says}")?;
    Ok(complete)
}

fn own_server() -> io::Result<Url> {
    let server = examples::serve(records::router())?;
    server.join("records").map_err(io::Error::other)
}

fn lock(output: &Mutex<Output>) -> MutexGuard<'_, Output> {
    output.lock().unwrap_or_else(PoisonError::into_inner)
}

fn progress_bar(done: usize, total: usize) -> ProgressBar {
    let bar = ProgressBar::new(total as u64).with_position(done as u64);
    match ProgressStyle::with_template("{wide_bar} {pos} of {len} pages {elapsed}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The error that ends the download: the pages after this one must wait for it.
fn failed(page: usize, error: &SourceError<io::Error>) -> io::Error {
    io::Error::other(format!(
        "page {page}: {error}; start the program again to go on from this page"
    ))
}
