//! A crawler: follows the links from its start pages to every page of the same sites, and accounts for
//! each page that it finds. Uses tokio, reqwest and html5gum.
//!
//! ```text
//! cargo run -p examples --bin crawl
//! cargo run -p examples --bin crawl -- --pages 100 --per-host 2 --rate 10 --list https://a.example/
//! cargo run -p examples --bin crawl -- --throttle 4
//! cargo run -p examples --bin crawl -- --throttle 4 --adaptive
//! ```
//!
//! The sources find more sources. Each page that waits in the channel holds a sender of the channel, and
//! so does each page that is being visited. When the last of them is gone, the channel closes. This ends
//! the stream of sources, and the run.
//!
//! `for_each_result` fits better here than `stream_results`. The body only writes a line and counts, so
//! it needs no task and no channel of its own. The sources and the body run in one task, so they borrow
//! the list of the pages found, and need no locks. Use `stream_results` when another task reads the
//! outcomes.
//!
//! With `--per-host`, pages of a host that has enough requests in flight wait in the run, and pages of
//! other hosts overtake them. If the crawl ends before, they are unfinished.
//!
//! The first Ctrl-C lets the pages in flight finish, and the second one ends the crawl at once.

mod found;
mod report;
mod visit;

use std::future::ready;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use examples::{Limits, Throttle, at_least_one, exit_code, site, url};
use found::Found;
use futures::StreamExt;
use futures_aggregate::{Interrupted, for_each_result, from_stream};
use report::Report;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio::runtime::Runtime;
use visit::{Failure, visit};

/// Follow links to every page of a site. Exits with 0 if every page that was found was visited, with 2
/// if the crawl ended before.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Start pages. Links to other sites than theirs are not followed. Without any, the program starts a
    /// site on this machine and crawls that.
    #[arg(value_parser = url(&["http", "https"]))]
    urls: Vec<Url>,

    /// Visit at most this many pages.
    #[arg(long, value_name = "NUMBER", value_parser = at_least_one)]
    pages: Option<usize>,

    /// Time for the whole crawl, such as `10s` or `500ms`.
    #[arg(long, value_name = "TIME", default_value = "1min", value_parser = humantime::parse_duration)]
    timeout: Duration,

    /// Time for each page.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    page_timeout: Duration,

    /// Pages in flight at the same time.
    #[arg(long, value_name = "NUMBER", default_value = "32", value_parser = at_least_one)]
    concurrency: usize,

    #[command(flatten)]
    limits: Limits,

    /// Let the site on this machine work on at most this many requests at once, 5 ms on each. Three times
    /// as many wait. The site refuses the others with 503.
    #[arg(long, value_name = "NUMBER", value_parser = at_least_one, conflicts_with = "urls")]
    throttle: Option<usize>,

    /// Also print a line for each page that was found and not visited. Each line begins with `fetched`,
    /// `failed`, `unfinished` or `not-started`, and the URL.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    examples::main(|args: Args| {
        let runtime = Runtime::new()?;
        let complete = runtime.block_on(crawl(args));
        // A blocking name lookup must not keep the program alive.
        runtime.shutdown_background();
        Ok(exit_code(complete?))
    })
}

/// Returns whether every page that was found was visited.
async fn crawl(args: Args) -> io::Result<bool> {
    let client = client(&args)?;
    let throttle = args.throttle.map(Throttle::new);
    let start = start_pages(args.urls, throttle.as_ref())?;
    let found = Found::new(&start);
    let (queue, pages) = async_channel::unbounded();
    for url in start {
        found.add(url, &queue);
    }
    // From now on only the pages hold senders.
    drop(queue);

    let mut report = Report::new();
    let (first_press, second_press) = examples::ctrl_c()?;
    let draining = report.note("Waiting for the pages in flight. Press Ctrl-C again to stop now.");
    let to_visit = pages.clone().take(args.pages.unwrap_or(usize::MAX));
    let sources =
        from_stream(to_visit.map(|page| (page.url().clone(), visit(page, &client, &found))));

    let mut run = for_each_result(sources, |outcome| {
        ready(report.visited(&outcome, found.len()))
    })
    .concurrency(args.limits.concurrency(args.concurrency))
    .overload_if(|visited| visited.as_ref().is_err_and(Failure::is_overload))
    .concurrency_per(Url::origin, args.limits.per_host())
    .source_timeout(args.page_timeout)
    .timeout(args.timeout)
    .drain_on(async {
        first_press.await;
        draining();
    })
    .cancel_on(second_press);
    if let Some(rate) = args.limits.rate() {
        run = run.rate(&rate);
    }
    let ended = run.await;

    let reason = ended.as_ref().err().map(|interrupted| interrupted.reason);
    let handled = ended.unwrap_or_else(Interrupted::into_partial);
    if let Some(error) = handled.body_errors.into_iter().next() {
        return Err(error);
    }
    // Pages that were visited, but not reported before the run ended.
    for outcome in &handled.undelivered {
        report.visited(outcome, found.len())?;
    }
    for url in &handled.unfinished {
        report.unfinished(url, args.list)?;
    }
    // The pages that the run did not take. They hold senders, so the channel must be emptied: it would
    // keep itself alive.
    while let Ok(page) = pages.try_recv() {
        report.not_started(page.url(), args.list)?;
    }
    let is_complete = report.totals(found.len(), reason)?;
    if let Some(limit) = args.limits.adapted() {
        report::adapted(limit)?;
    }
    if let Some(throttle) = &throttle {
        report::throttled(throttle)?;
    }
    Ok(is_complete)
}

fn client(args: &Args) -> io::Result<Client> {
    // A page that has moved is a page with one link, so that no page is fetched twice.
    examples::client(args.urls.is_empty(), |builder| {
        builder.redirect(Policy::none())
    })
}

fn start_pages(urls: Vec<Url>, throttle: Option<&Throttle>) -> io::Result<Vec<Url>> {
    if !urls.is_empty() {
        return Ok(urls);
    }
    let router = site::router();
    let router = match throttle {
        Some(throttle) => throttle.layer(router),
        None => router,
    };
    let site = examples::serve(router)?;
    let start = site.join(&site::path(0)).map_err(io::Error::other)?;
    Ok(vec![start])
}
