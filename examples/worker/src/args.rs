//! The command-line arguments.

use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use redis::Client;

/// Take jobs from a Redis stream, work on them in batches, and acknowledge those that have a
/// result.
///
/// An entry of the stream has the fields `job`, a number, and `backend`. A job without a result stays
/// pending in the consumer group, and is delivered again, to this worker or to another one. On SIGTERM
/// or Ctrl-C the worker acknowledges its finished jobs and ends.
///
/// Exits with 0 on a signal, or when it has drained the stream; with 1 when Redis fails; with 2 for
/// bad arguments.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Args {
    /// This worker's name, unique within the group.
    #[arg(long)]
    pub(crate) name: String,

    /// The URL of the Redis server.
    #[arg(long, value_name = "URL", default_value = "redis://127.0.0.1:6379", value_parser = client)]
    pub(crate) redis: Client,

    /// The stream of jobs. Other keys have this name with a suffix.
    #[arg(long, default_value = "jobs")]
    pub(crate) stream: String,

    /// The consumer group. The worker creates it if it does not exist.
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

    /// Time for each job, counted from its own start. A late job has failed. A quarter of
    /// --batch-timeout by default, so that hanging jobs free their places early.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    job_timeout: Option<Duration>,

    /// Time after which a delivered job without a result is delivered again.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    pub(crate) min_idle: Duration,

    /// Deliveries of a job, including interrupted ones, but without those in which the job never
    /// started. A job that fails in its last delivery becomes a dead letter.
    #[arg(long, value_name = "NUMBER", default_value = "5", value_parser = at_least_one)]
    pub(crate) deliveries: usize,

    /// End when no job is new or pending, instead of waiting for more.
    #[arg(long)]
    pub(crate) drain: bool,
}

impl Args {
    /// Parses the arguments. Ends the program if they are invalid.
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
