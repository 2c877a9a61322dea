//! The command-line arguments.

use std::time::Duration;

use clap::Parser;
use redis::Client;

/// Take jobs from a Redis stream while there is room for them, work on them, and acknowledge those that
/// have a result.
///
/// An entry of the stream has the fields `job`, a number, and `backend`, which is the kind of the job. A
/// job without a result stays pending in the consumer group, and is delivered again, to this worker or to
/// another one. On SIGTERM or Ctrl-C the worker takes no more jobs, finishes those in flight, and ends. At
/// the second signal it drops them, and they are delivered again.
///
/// Exits with 0 on a signal, or at the end of --until-empty; with 1 when Redis fails; with 2 for bad
/// arguments.
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

    /// Jobs in flight at the same time.
    #[arg(long, value_name = "NUMBER", default_value = "24", value_parser = at_least_one)]
    pub(crate) concurrency: usize,

    /// Time for each job, counted from its own start, such as `2s` or `500ms`. A late job has failed.
    #[arg(long, value_name = "TIME", default_value = "125ms", value_parser = humantime::parse_duration)]
    job_timeout: Duration,

    /// Another time for the jobs of one backend. May be given for several.
    #[arg(long, value_name = "BACKEND=TIME", default_value = "archive=500ms", value_parser = of_backend)]
    timeout_of: Vec<(String, Duration)>,

    /// Time after which a job without a result is delivered again, when its worker has failed in it, is
    /// dead, or is frozen. A worker reports four times as often that it works on a job.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    pub(crate) min_idle: Duration,

    /// Deliveries of a job, including interrupted ones, but without those in which the job never
    /// started. A job that fails in its last delivery becomes a dead letter.
    #[arg(long, value_name = "NUMBER", default_value = "5", value_parser = at_least_one)]
    pub(crate) deliveries: usize,

    /// How long to go on trying while Redis is away.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) patience: Duration,

    /// End when no job is new or pending, instead of waiting for more.
    #[arg(long)]
    pub(crate) until_empty: bool,

    /// Take and settle the jobs in batches, one for each backend. The backends share --concurrency. The
    /// first signal drops the jobs in flight.
    #[arg(long)]
    pub(crate) batches: bool,

    /// Jobs to take at once with --batches, all backends together.
    #[arg(long, value_name = "NUMBER", default_value = "100", value_parser = at_least_one)]
    pub(crate) take: usize,

    /// Time for each batch.
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = humantime::parse_duration)]
    pub(crate) batch_timeout: Duration,
}

impl Args {
    /// Time for a job of this backend.
    pub(crate) fn job_timeout(&self, backend: &str) -> Duration {
        let own = self.timeout_of.iter().find(|(of, _)| of == backend);
        own.map_or(self.job_timeout, |&(_, timeout)| timeout)
    }
}

fn of_backend(text: &str) -> Result<(String, Duration), String> {
    let pair = text.split_once('=');
    let (backend, time) = pair.ok_or("it looks like archive=500ms")?;
    let time = humantime::parse_duration(time).map_err(|error| error.to_string())?;
    Ok((backend.to_owned(), time))
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
