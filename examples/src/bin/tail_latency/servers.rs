//! HTTP servers on this machine that answer after a heavy-tailed delay.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use rand_distr::{Distribution, LogNormal};
use reqwest::{Client, Url};
use tokio::net::TcpListener;

/// The median delay.
pub(crate) const MEDIAN: Duration = Duration::from_millis(5);
/// The spread of the logarithm of the delay: the 99th percentile is ten times the median.
const SIGMA: f64 = 1.0;
/// The 99th percentile of the standard normal distribution.
const NORMAL_99: f64 = 2.326;

const SERVERS: usize = 20;

pub(crate) struct Servers {
    urls: Vec<Url>,
    requests: Arc<AtomicU64>,
    client: Client,
}

impl Servers {
    /// Starts the servers, each on a port of its own. They run until the program ends.
    pub(crate) async fn start() -> io::Result<Self> {
        let requests = Arc::new(AtomicU64::new(0));
        let mut urls = Vec::new();
        for _ in 0..SERVERS {
            urls.push(serve(Arc::clone(&requests)).await?);
        }
        // An error means that there is a provider already, and any provider is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .build()
            .map_err(io::Error::other)?;
        Ok(Self {
            urls,
            requests,
            client,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.urls.len()
    }

    /// Asks one of the servers.
    pub(crate) async fn ask(&self, server: usize) -> reqwest::Result<()> {
        let url = self.urls[server % self.urls.len()].clone();
        let response = self.client.get(url).send().await?.error_for_status()?;
        response.bytes().await?;
        Ok(())
    }

    /// The number of requests that all servers have received.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

async fn serve(requests: Arc<AtomicU64>) -> io::Result<Url> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let seconds = LogNormal::new(MEDIAN.as_secs_f64().ln(), SIGMA).map_err(io::Error::other)?;
    let answer = move || {
        requests.fetch_add(1, Ordering::Relaxed);
        let delay = Duration::from_secs_f64(seconds.sample(&mut rand::rng()));
        async move {
            tokio::time::sleep(delay).await;
            "done"
        }
    };
    let router = Router::new().route("/", get(answer));
    tokio::spawn(async { axum::serve(listener, router).await });
    Url::parse(&url).map_err(io::Error::other)
}

/// The 99th percentile of the delay.
pub(crate) fn percentile_99() -> Duration {
    MEDIAN.mul_f64((SIGMA * NORMAL_99).exp())
}
