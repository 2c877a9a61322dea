//! The command-line arguments.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use examples::{Limits, at_least_one, url};
use reqwest::Url;

/// Fetch many URLs at once, under a deadline, and report the outcome of each.
///
/// Exits with 0 when every source has answered, failures included, or when the quorum was reached;
/// with 2 when the deadline, a failure or Ctrl-C interrupted the run; with 1 for bad arguments.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Args {
    /// URLs to fetch. Without any, the program starts servers on this machine and fetches those.
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

    #[command(flatten)]
    pub(crate) limits: Limits,

    /// Stop as soon as this many sources have succeeded.
    #[arg(long, value_name = "NUMBER", value_parser = at_least_one, conflicts_with = "stream")]
    pub(crate) quorum: Option<usize>,

    /// Stop at the first failure.
    #[arg(long, conflicts_with = "stream")]
    pub(crate) fail_fast: bool,

    /// Make a second request when a source has not answered for this long, and take the first
    /// answer.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) hedge_after: Option<Duration>,

    /// Retry a source that fails, up to this many times, within the same deadline.
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
    /// The limits from the arguments, or none. The program's own servers get limits under which each
    /// of them shows its behaviour.
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
