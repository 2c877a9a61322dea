//! The work of each stage.

use std::fmt;
use std::io::{self, Write};

use examples::Chain;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_aggregate::SourceError;
use reqwest::header::CONTENT_ENCODING;
use reqwest::{Client, Url};
use tokio::task::spawn_blocking;

/// Why a page was not stored.
pub(crate) enum Failure {
    /// The first stage has failed.
    Fetch(SourceError<reqwest::Error>),
    Compress(io::Error),
    Store(reqwest::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetch(SourceError::Failed(error)) => write!(f, "fetch: {}", Chain(error)),
            Self::Fetch(error) => write!(f, "fetch: {error}"),
            Self::Compress(error) => write!(f, "compress: {error}"),
            Self::Store(error) => write!(f, "store: {}", Chain(error)),
        }
    }
}

/// A source of the first stage.
pub(crate) async fn fetch(client: Client, url: Url) -> reqwest::Result<Vec<u8>> {
    let page = async {
        let response = client.get(url).send().await?.error_for_status()?;
        Ok(response.bytes().await?.to_vec())
    };
    // The output line names the page already.
    page.await.map_err(reqwest::Error::without_url)
}

/// A source of the last stage. Returns the size of the stored page.
pub(crate) async fn store(
    client: Client,
    store: Url,
    name: String,
    fetched: Result<Vec<u8>, SourceError<reqwest::Error>>,
) -> Result<usize, Failure> {
    let page = fetched.map_err(Failure::Fetch)?;
    // Compressing keeps the processor busy, so another thread does it.
    let compressed = spawn_blocking(move || compress(&page)).await;
    let compressed = compressed.unwrap_or_else(|error| Err(io::Error::other(error)));
    let compressed = compressed.map_err(Failure::Compress)?;
    let bytes = compressed.len();
    let request = client
        .put(place(store, &name))
        .header(CONTENT_ENCODING, "gzip")
        .body(compressed);
    let answer = request.send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status);
    answer.map_err(|error| Failure::Store(error.without_url()))?;
    Ok(bytes)
}

fn compress(page: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(page)?;
    encoder.finish()
}

/// The URL of a page in the store.
fn place(mut store: Url, name: &str) -> Url {
    // Only a URL such as `data:` has no segments, and it was refused.
    if let Ok(mut segments) = store.path_segments_mut() {
        segments.pop_if_empty().push(name);
    }
    store
}
