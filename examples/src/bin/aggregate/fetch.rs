//! One source: a page fetched by HTTP.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode, Url};

/// What to fetch, and what to call it.
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) url: Url,
}

/// What came back.
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) bytes: usize,
    pub(crate) elapsed: Duration,
}

/// Why nothing came back.
pub(crate) struct Failure {
    error: reqwest::Error,
    pub(crate) elapsed: Duration,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Chain(&self.error).fmt(f)
    }
}

/// An error with its causes.
struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

pub(crate) fn targets(urls: &[Url]) -> Vec<Target> {
    urls.iter()
        .map(|url| Target {
            name: url.to_string(),
            url: url.clone(),
        })
        .collect()
}

pub(crate) fn client() -> io::Result<Client> {
    build(Client::builder())
}

/// A client that takes no proxy, which could not reach the servers of this machine, and needs no
/// certificates, as they speak plain HTTP.
pub(crate) fn client_for_this_machine() -> io::Result<Client> {
    build(Client::builder().no_proxy().tls_certs_only([]))
}

fn build(builder: reqwest::ClientBuilder) -> io::Result<Client> {
    // An error says that there is a provider already, and any will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    builder
        .build()
        .map_err(|error| io::Error::other(Chain(&error).to_string()))
}

pub(crate) async fn fetch(client: Client, url: Url) -> Result<Page, Failure> {
    let started = Instant::now();
    let page = async {
        let response = client.get(url).send().await?.error_for_status()?;
        let status = response.status();
        let body = response.bytes().await?;
        Ok((status, body.len()))
    };
    match page.await {
        Ok((status, bytes)) => Ok(Page {
            status,
            bytes,
            elapsed: started.elapsed(),
        }),
        Err(error) => Err(Failure {
            // The line says already what was fetched.
            error: reqwest::Error::without_url(error),
            elapsed: started.elapsed(),
        }),
    }
}
