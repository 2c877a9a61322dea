//! What the user asked for.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use examples::{at_least_one, url};
use reqwest::Url;

/// Fetch many URLs at once, under a deadline, and say what became of each.
///
/// Exits with 0 when every source has answered, failures included, or as many as were asked for;
/// with 2 when the run was interrupted, by its deadline, by a failure or by Ctrl-C; with 1 for bad
/// arguments.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Args {
    /// What to fetch. Without any, servers on this machine are started and fetched.
    #[arg(value_parser = url(&["http", "https"]))]
    pub(crate) urls: Vec<Url>,

    /// Time for the whole run, such as `2s` or `500ms`.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,

    /// Time for each source, counted from its own start.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    source_timeout: Option<Duration>,

    /// Sources in flight at the same time.
    #[arg(long, value_name = "NUMBER", value_parser = at_least_one)]
    concurrency: Option<usize>,

    /// Stop as soon as this many sources have succeeded.
    #[arg(long, value_name = "NUMBER", value_parser = at_least_one, conflicts_with = "stream")]
    pub(crate) quorum: Option<usize>,

    /// Stop at the first failure.
    #[arg(long, conflicts_with = "stream")]
    pub(crate) fail_fast: bool,

    /// Ask a source a second time when it has not answered for this long, and take what comes
    /// first.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) hedge_after: Option<Duration>,

    /// Ask a source that fails again, up to this many times, within the same deadline.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) retries: usize,

    /// Draw the run into an SVG file.
    #[arg(long, value_name = "FILE")]
    pub(crate) timeline: Option<PathBuf>,

    /// Show outcomes as they arrive, rather than all at the end.
    #[arg(long)]
    pub(crate) stream: bool,
}

/// The limits of a run.
pub(crate) struct Settings {
    pub(crate) timeout: Duration,
    pub(crate) source_timeout: Duration,
    pub(crate) concurrency: usize,
}

impl Args {
    /// What was asked for, and for the rest no limit. The servers of our own get limits under
    /// which each of them shows what it is there for.
    pub(crate) fn settings(&self) -> Settings {
        let (source_timeout, concurrency) = if self.urls.is_empty() {
            (Duration::from_millis(1500), 3)
        } else {
            (Duration::MAX, usize::MAX)
        };
        Settings {
            timeout: self.timeout,
            source_timeout: self.source_timeout.unwrap_or(source_timeout),
            concurrency: self.concurrency.unwrap_or(concurrency),
        }
    }
}
