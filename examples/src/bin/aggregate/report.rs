//! The output: one line for each source, and the counts.

use std::io::{self, Write};
use std::time::Duration;

use examples::Limits;
use futures_aggregate::{Reason, SourceError};

use crate::args::Settings;
use crate::fetch::{Failure, Page, Target};
use crate::watch::Watch;

/// Prints lines of one layout.
pub(crate) struct Report {
    /// The width of the longest name.
    width: usize,
    watch: Watch,
}

impl Report {
    pub(crate) fn new(targets: &[Target], watch: &Watch) -> Self {
        let width = targets
            .iter()
            .map(|target| target.name.chars().count())
            .max();
        Self {
            width: width.unwrap_or(0),
            watch: watch.clone(),
        }
    }

    /// Prints what the program fetches, and the limits.
    pub(crate) fn header(
        &self,
        settings: &Settings,
        more: &Limits,
        own_servers: bool,
    ) -> io::Result<()> {
        let mut limits = vec![format!("{} in all", time(settings.timeout))];
        if settings.source_timeout < Duration::MAX {
            limits.push(format!("{} each", time(settings.source_timeout)));
        }
        if more.adaptive {
            limits.push("as many at a time as the servers can bear".to_owned());
        } else if settings.concurrency < usize::MAX {
            limits.push(format!("{} at a time", settings.concurrency));
        }
        if let Some(number) = more.per_host {
            limits.push(format!("{number} of each host"));
        }
        if let Some(rate) = more.rate {
            limits.push(format!("{rate} per second"));
        }
        let what = if own_servers {
            "No URLs given: fetching from servers started on this machine"
        } else {
            "Fetching"
        };
        writeln!(io::stdout(), "{what}, {}.\n", limits.join(", "))
    }

    pub(crate) fn answered(&self, target: &Target, page: &Page) -> io::Result<()> {
        let status = page.status.as_u16();
        self.line(
            target,
            &format!("{status}"),
            &size(page.bytes),
            &time(page.elapsed),
            "",
        )
    }

    pub(crate) fn failed(&self, target: &Target, error: &SourceError<Failure>) -> io::Result<()> {
        match error {
            SourceError::Failed(failure) => self.line(
                target,
                "failed",
                "-",
                &time(failure.elapsed),
                &failure.to_string(),
            ),
            SourceError::TimedOut => self.stopped(target, "timed out", ""),
            other => self.stopped(target, "failed", &other_text(other)),
        }
    }

    pub(crate) fn unfinished(&self, target: &Target) -> io::Result<()> {
        self.stopped(target, "unfinished", "")
    }

    /// A source whose outcome does not carry its time.
    fn stopped(&self, target: &Target, outcome: &str, detail: &str) -> io::Result<()> {
        let elapsed = self.watch.elapsed(target).map(time);
        let elapsed = elapsed.as_deref().unwrap_or("-");
        self.line(target, outcome, "-", elapsed, detail)
    }

    /// The last line: the counts, and why the run ended.
    pub(crate) fn totals(
        &self,
        counts: [(usize, &str); 3],
        reason: Option<Reason>,
        elapsed: Duration,
    ) -> io::Result<()> {
        let unfinished = counts[2].0;
        let counts = counts.map(|(count, what)| format!("{count} {what}"));
        let end = match reason {
            None if unfinished > 0 => "as many as were asked for have answered".to_owned(),
            None => "every source has answered".to_owned(),
            Some(reason) => format!("interrupted: {reason}"),
        };
        let (counts, elapsed) = (counts.join(", "), time(elapsed));
        writeln!(io::stdout(), "\n{counts} in {elapsed}; {end}.")
    }

    fn line(
        &self,
        target: &Target,
        outcome: &str,
        size: &str,
        time: &str,
        detail: &str,
    ) -> io::Result<()> {
        let line = format!(
            "{:<width$}  {outcome:<10}  {size:>9}  {time:>8}  {detail}",
            target.name,
            width = self.width
        );
        self.watch
            .beside_the_bar(|| writeln!(io::stdout(), "{}", line.trim_end()))
    }
}

fn other_text(error: &SourceError<Failure>) -> String {
    match error {
        SourceError::Panicked(message) => format!("panicked: {message}"),
        _ => String::new(),
    }
}

pub(crate) fn time(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

fn size(bytes: usize) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}
