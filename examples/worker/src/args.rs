//! What the user asked for.

use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use redis::Client;

/// Take jobs from a Redis stream, work on them in batches, and acknowledge those that have a
/// result.
///
/// An entry of the stream has the fields `job`, a number, and `backend`. What has no result stays
/// pending in the consumer group, and is delivered again, to this worker or to another one.
/// SIGTERM or Ctrl-C ends the worker with what it has by then.
///
/// Exits with 0 when it was told to stop, or has drained the stream; with 1 when Redis fails; with
/// 2 for bad arguments.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Args {
    /// This worker's name within the group, which no other worker may have.
    #[arg(long)]
    pub(crate) name: String,

    /// Where Redis is.
    #[arg(long, value_name = "URL", default_value = "redis://127.0.0.1:6379", value_parser = client)]
    pub(crate) redis: Client,

    /// The stream of jobs. What is kept beside it has its name with a suffix.
    #[arg(long, default_value = "jobs")]
    pub(crate) stream: String,

    /// The consumer group, which is made if there is none.
    #[arg(long, default_value = "workers")]
    pub(crate) group: String,

    /// Jobs to take at once, all backends together.
    #[arg(long, value_name = "NUMBER", default_value = "100", value_parser = at_least_one)]
    pub(crate) take: usize,

    /// Jobs in flight at the same time, of each backend.
    #[arg(long, value_name = "NUMBER", default_value = "8", value_parser = at_least_one)]
    pub(crate) concurrency: usize,

    /// Time for the batch of each backend, such as `2s` or `500ms`.
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = humantime::parse_duration)]
    pub(crate) batch_timeout: Duration,

    /// Time for each job, counted from its own start. One that is late has failed. A quarter of
    /// --batch-timeout by default, so that jobs that hang do not keep their places for all of it.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    job_timeout: Option<Duration>,

    /// Time after which a job that somebody took, and that has no result, is delivered again.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    pub(crate) min_idle: Duration,

    /// Deliveries of a job, those that were cut short included, but not those in which it only
    /// waited for a place. One that fails in the last of them becomes a dead letter.
    #[arg(long, value_name = "NUMBER", default_value = "5", value_parser = at_least_one)]
    pub(crate) deliveries: usize,

    /// End when no job is new and none is pending, rather than wait for more.
    #[arg(long)]
    pub(crate) drain: bool,
}

impl Args {
    /// Ends the program where there are none, or they do not fit together.
    pub(crate) fn get() -> Self {
        let args = Self::parse();
        if args.min_idle <= args.batch_timeout {
            let message = "--min-idle must be longer than --batch-timeout, or jobs that are being \
                           worked on are given to others too";
            Self::command()
                .error(ErrorKind::ValueValidation, message)
                .exit();
        }
        args
    }

    pub(crate) fn job_timeout(&self) -> Duration {
        self.job_timeout.unwrap_or(self.batch_timeout / 4)
    }
}

fn client(url: &str) -> Result<Client, String> {
    Client::open(url).map_err(|error| format!("{error}; a URL looks like redis://127.0.0.1:6379/0"))
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}
