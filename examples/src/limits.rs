//! The command-line arguments that limit requests.

use clap::Args;
use futures_aggregate::types::Concurrency;
use futures_aggregate::{Limit, Rate};

use crate::at_least_one;

/// Limits on requests, beside the number of all that are in flight.
#[derive(Args)]
pub struct Limits {
    /// URLs in flight on each host at the same time. The same name with another port is another host.
    #[arg(long, value_name = "NUMBER", value_parser = at_least_one)]
    pub per_host: Option<usize>,

    /// URLs that are started per second, evenly spaced, such as `20` or `0.5`.
    #[arg(long, value_name = "PER SECOND", value_parser = per_second, allow_negative_numbers = true)]
    pub rate: Option<f64>,

    /// Find out how many URLs the servers can bear at the same time, instead of a fixed number. Latency and the
    /// statuses 429 and 503 tell.
    #[arg(long, conflicts_with = "concurrency")]
    pub adaptive: bool,

    /// What finds it out.
    #[arg(skip = Limit::adaptive(1..=256))]
    limit: Limit,
}

impl Limits {
    /// The limit on all URLs in flight.
    #[must_use]
    pub fn concurrency(&self, number: usize) -> Concurrency<'_> {
        match self.adaptive {
            true => Concurrency::from(&self.limit),
            false => number.into(),
        }
    }

    /// The adaptive limit at this moment, if there is one.
    #[must_use]
    pub fn adapted(&self) -> Option<usize> {
        self.adaptive.then(|| self.limit.get())
    }

    /// The limit for each host. It is never reached if none was given.
    #[must_use]
    pub fn per_host(&self) -> usize {
        self.per_host.unwrap_or(usize::MAX)
    }

    /// The limit on starts, if one was given.
    #[must_use]
    pub fn rate(&self) -> Option<Rate> {
        self.rate.map(Rate::per_second)
    }
}

/// Parses a number of starts per second.
fn per_second(text: &str) -> Result<f64, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| "must be a number, such as 20 or 0.5".to_owned())?;
    match number {
        0.001..=1e9 => Ok(number),
        _ => Err("must be at least 0.001 and at most 1000000000".to_owned()),
    }
}
