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

use std::future::ready;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use examples::{Limits, Throttle, at_least_one, site, url};
use found::Found;
use futures::StreamExt;
use futures_aggregate::{Interrupted, for_each_result, from_stream};
use report::Report;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
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
    examples::main(|args: Args| examples::on_tokio(crawl(args)))
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

/// The pages that the crawl has found.
mod found {
    use std::cell::RefCell;
    use std::collections::HashSet;

    use async_channel::Sender;
    use reqwest::Url;
    use url::Origin;

    /// A page to visit.
    pub(crate) struct Page {
        url: Url,
        /// Where the pages go that this one links to. It keeps the channel open.
        queue: Sender<Page>,
    }

    impl Page {
        pub(crate) fn url(&self) -> &Url {
            &self.url
        }

        /// Queues the pages that this one links to, if they are new.
        pub(crate) fn queue(&self, links: impl IntoIterator<Item = Url>, found: &Found) {
            for link in links {
                found.add(link, &self.queue);
            }
        }
    }

    /// The URLs of all pages found.
    pub(crate) struct Found {
        urls: RefCell<HashSet<Url>>,
        /// The sites to stay on.
        origins: HashSet<Origin>,
    }

    impl Found {
        /// No pages yet. Pages on other sites than those of the start pages will not be added.
        pub(crate) fn new(start: &[Url]) -> Self {
            Self {
                urls: RefCell::default(),
                origins: start.iter().map(Url::origin).collect(),
            }
        }

        pub(crate) fn len(&self) -> usize {
            self.urls.borrow().len()
        }

        /// Adds a page to the queue, if it is new and on one of the sites.
        pub(crate) fn add(&self, mut url: Url, queue: &Sender<Page>) {
            url.set_fragment(None);
            let is_here = self.origins.contains(&url.origin());
            if !is_here || !self.urls.borrow_mut().insert(url.clone()) {
                return;
            }
            let page = Page {
                url,
                queue: queue.clone(),
            };
            // The queue has no bound, and its receiver is there until the crawl ends.
            let _ = queue.try_send(page);
        }
    }
}

/// Which list each page is in, and the progress bar.
mod report {
    use std::io::{self, Write};
    use std::time::Instant;

    use examples::Throttle;
    use futures_aggregate::{Outcome, Reason};
    use indicatif::{ProgressBar, ProgressStyle};
    use reqwest::Url;

    use crate::visit::{Failure, Visited};

    /// Prints the pages, and counts them.
    pub(crate) struct Report {
        started: Instant,
        /// Draws nothing if the output is not a terminal.
        bar: ProgressBar,
        fetched: usize,
        failed: usize,
        unfinished: usize,
        not_started: usize,
    }

    impl Report {
        pub(crate) fn new() -> Self {
            let bar = ProgressBar::new(1);
            let style =
                ProgressStyle::with_template("{wide_bar} {pos} of {len} pages found {elapsed}");
            if let Ok(style) = style {
                bar.set_style(style);
            }
            Self {
                started: Instant::now(),
                bar,
                fetched: 0,
                failed: 0,
                unfinished: 0,
                not_started: 0,
            }
        }

        /// Prints a page that was visited, while `found` pages are known.
        pub(crate) fn visited(
            &mut self,
            (url, outcome): &Outcome<Url, Visited, Failure>,
            found: usize,
        ) -> io::Result<()> {
            self.bar.set_length(found as u64);
            self.bar.inc(1);
            let (list, says) = match outcome {
                Ok(visited) => {
                    self.fetched += 1;
                    let says = match visited {
                        Visited::Links(links) => format!("{links} links"),
                        Visited::Moved(target) => format!("moved to {target}"),
                    };
                    ("fetched", says)
                }
                Err(error) => {
                    self.failed += 1;
                    ("failed", error.to_string())
                }
            };
            self.line(list, url, &says)
        }

        /// Counts a page that was in flight when the run ended, or that waited for its host.
        pub(crate) fn unfinished(&mut self, url: &Url, prints: bool) -> io::Result<()> {
            self.unfinished += 1;
            if prints {
                self.line("unfinished", url, "")?;
            }
            Ok(())
        }

        /// Counts a page that was still in the channel when the run ended.
        pub(crate) fn not_started(&mut self, url: &Url, prints: bool) -> io::Result<()> {
            self.not_started += 1;
            if prints {
                self.line("not-started", url, "")?;
            }
            Ok(())
        }

        /// Prints the counts. Returns whether every page was visited.
        pub(crate) fn totals(self, found: usize, reason: Option<Reason>) -> io::Result<bool> {
            self.bar.finish_and_clear();
            let Self {
                fetched,
                failed,
                unfinished,
                not_started,
                ..
            } = self;
            let end = match reason {
                Some(reason) => format!("interrupted: {reason}"),
                None if not_started > 0 => "enough pages".to_owned(),
                None => "no more pages".to_owned(),
            };
            writeln!(
                io::stdout(),
                "\n{found} pages found: {fetched} fetched, {failed} failed, {unfinished} unfinished, \
                 {not_started} not started in {:.1?}; {end}.",
                self.started.elapsed()
            )?;
            Ok(unfinished + not_started == 0)
        }

        /// A function that prints a message beside the bar.
        pub(crate) fn note(&self, message: &'static str) -> impl FnOnce() + use<> {
            let bar = self.bar.clone();
            move || bar.suspend(|| eprintln!("{message}"))
        }

        fn line(&self, list: &str, url: &Url, says: &str) -> io::Result<()> {
            let line = format!("{list:<11} {url} {says}");
            self.bar
                .suspend(|| writeln!(io::stdout(), "{}", line.trim_end()))
        }
    }

    /// Prints how many pages in flight were found to be right.
    pub(crate) fn adapted(limit: usize) -> io::Result<()> {
        writeln!(io::stdout(), "The limit is {limit} now.")
    }

    /// Prints what the site has seen of the crawl.
    pub(crate) fn throttled(throttle: &Throttle) -> io::Result<()> {
        let (most, refused) = (throttle.most(), throttle.refused());
        writeln!(
            io::stdout(),
            "The site had up to {most} requests at once, and refused {refused}."
        )
    }
}

/// One source: fetches a page, and queues the pages that it links to.
mod visit {
    use std::fmt;

    use examples::{Chain, is_overload};
    use html5gum::{Token, Tokenizer};
    use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION};
    use reqwest::{Client, Response, Url};

    use crate::found::{Found, Page};

    /// A page that was fetched.
    pub(crate) enum Visited {
        /// A page with so many links.
        Links(usize),
        /// A page that has moved.
        Moved(Url),
    }

    /// Why a page was not fetched.
    pub(crate) struct Failure(reqwest::Error);

    impl Failure {
        pub(crate) fn is_overload(&self) -> bool {
            is_overload(&self.0)
        }
    }

    impl From<reqwest::Error> for Failure {
        fn from(error: reqwest::Error) -> Self {
            // The output line names the URL already.
            Self(error.without_url())
        }
    }

    impl fmt::Display for Failure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            Chain(&self.0).fmt(f)
        }
    }

    pub(crate) async fn visit(
        page: Page,
        client: &Client,
        found: &Found,
    ) -> Result<Visited, Failure> {
        let response = client.get(page.url().clone()).send().await?;
        if response.status().is_redirection() {
            if let Some(target) = target(&response) {
                page.queue([target.clone()], found);
                return Ok(Visited::Moved(target));
            }
        }
        let response = response.error_for_status()?;
        if !is_html(response.headers()) {
            return Ok(Visited::Links(0));
        }
        // The links are relative to the URL of the page, which is never that of a redirection.
        let links = links(&response.text().await?, page.url());
        let visited = Visited::Links(links.len());
        // There is no `await` between here and the end: a page whose links are queued has answered.
        page.queue(links, found);
        Ok(visited)
    }

    /// Where a page has moved.
    fn target(response: &Response) -> Option<Url> {
        let location = response.headers().get(LOCATION)?.to_str().ok()?;
        response.url().join(location).ok()
    }

    fn is_html(headers: &HeaderMap) -> bool {
        let content_type = headers.get(CONTENT_TYPE).and_then(|of| of.to_str().ok());
        content_type.is_some_and(|of| of.starts_with("text/html"))
    }

    /// The links in a page.
    fn links(html: &str, base: &Url) -> Vec<Url> {
        let tags = Tokenizer::new(html).filter_map(|token| match token {
            Ok(Token::StartTag(tag)) if *tag.name == b"a" => Some(tag),
            _ => None,
        });
        tags.filter_map(|tag| {
            let target = tag.attributes.get(b"href".as_slice())?;
            base.join(std::str::from_utf8(target).ok()?).ok()
        })
        .collect()
    }
}
