//! One source: a page fetched by HTTP.

use std::fmt;
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use examples::{Chain, is_overload};
use futures::future::{BoxFuture, FutureExt};
use futures_aggregate::{AttemptBudget, hedge};
use reqwest::{Client, StatusCode, Url};
use url::Origin;

/// The first attempt, and one more if it is slow.
const ATTEMPTS: usize = 2;

/// A URL with its name.
pub(crate) struct Target {
    /// Its position in the list.
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) url: Url,
}

impl Target {
    /// The host that it is on.
    pub(crate) fn host(&self) -> Origin {
        self.url.origin()
    }
}

/// A successful answer.
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) bytes: usize,
    pub(crate) elapsed: Duration,
}

/// Why a request failed.
pub(crate) struct Failure {
    error: reqwest::Error,
    pub(crate) elapsed: Duration,
}

impl Failure {
    pub(crate) fn is_overload(&self) -> bool {
        is_overload(&self.error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Chain(&self.error).fmt(f)
    }
}

pub(crate) fn targets(named: Vec<(String, Url)>) -> Vec<Target> {
    let named = named.into_iter().enumerate();
    named
        .map(|(index, (name, url))| Target { index, name, url })
        .collect()
}

/// Fetches pages, with retries and hedging.
#[derive(Clone)]
pub(crate) struct Fetcher {
    pub(crate) client: Client,
    pub(crate) retries: usize,
    pub(crate) hedge_after: Option<Duration>,
    /// Shared by all sources: limits the extra requests to a backend in trouble.
    pub(crate) budget: AttemptBudget,
}

impl Fetcher {
    /// One source: retries and hedges all happen within the deadlines of the run.
    pub(crate) fn fetch(&self, url: Url) -> BoxFuture<'static, Result<Page, Failure>> {
        let Some(delay) = self.hedge_after else {
            return self.clone().fetch_with_retries(url).boxed();
        };
        let fetcher = self.clone();
        let attempt = move |_| fetcher.clone().fetch_with_retries(url.clone());
        let hedged = hedge(delay, ATTEMPTS, attempt).budget(&self.budget);
        async move {
            let started = Instant::now();
            let mut answer = hedged.await.map_err(|failed| failed.last);
            // Report the time of the source, not of its last attempt.
            match &mut answer {
                Ok(page) => page.elapsed = started.elapsed(),
                Err(failure) => failure.elapsed = started.elapsed(),
            }
            answer
        }
        .boxed()
    }

    async fn fetch_with_retries(self, url: Url) -> Result<Page, Failure> {
        let started = Instant::now();
        let policy = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_times(self.retries);
        let fetch = || fetch(self.client.clone(), url.clone());
        match fetch.retry(policy).sleep(tokio::time::sleep).await {
            Ok((status, bytes)) => Ok(Page {
                status,
                bytes,
                elapsed: started.elapsed(),
            }),
            Err(error) => Err(Failure {
                // The output line names the URL already.
                error: error.without_url(),
                elapsed: started.elapsed(),
            }),
        }
    }
}

async fn fetch(client: Client, url: Url) -> reqwest::Result<(StatusCode, usize)> {
    let response = client.get(url).send().await?.error_for_status()?;
    let status = response.status();
    let body = response.bytes().await?;
    Ok((status, body.len()))
}
