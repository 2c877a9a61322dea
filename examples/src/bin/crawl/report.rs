//! Which list each page is in, and the progress bar.

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
        let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} pages found {elapsed}");
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
