//! One source: a page of the API, with retries.

use std::io;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use examples::Chain;
use examples::records::TOTAL_PAGES;
use reqwest::{Client, Url};
use serde_json::value::RawValue;

/// Fetches pages of the API.
pub(crate) struct Fetcher {
    pub(crate) client: Client,
    pub(crate) url: Url,
}

impl Fetcher {
    /// The number of pages.
    pub(crate) async fn total(&self) -> io::Result<usize> {
        let head = || async {
            let response = self.client.head(self.page(1)).send().await?;
            response.error_for_status()
        };
        let response = head.retry(retries()).await;
        let response = response.map_err(|error| io::Error::other(Chain(&error).to_string()))?;
        let total = response.headers().get(TOTAL_PAGES);
        total
            .and_then(|total| total.to_str().ok()?.parse().ok())
            .ok_or_else(|| {
                let url = &self.url;
                io::Error::other(format!(
                    "{url} does not say how many pages it has: \
                     its header {TOTAL_PAGES} must be a number"
                ))
            })
    }

    /// The records of a page, one line each.
    pub(crate) async fn fetch(&self, page: usize) -> io::Result<Vec<u8>> {
        let get = || async {
            let response = self.client.get(self.page(page)).send().await?;
            response.error_for_status()?.bytes().await
        };
        let bytes = get.retry(retries()).await;
        let bytes = bytes.map_err(|error| io::Error::other(Chain(&error).to_string()))?;
        let records: Vec<&RawValue> = serde_json::from_slice(&bytes)
            .map_err(|error| io::Error::other(format!("not an array of records: {error}")))?;
        let mut lines = Vec::with_capacity(bytes.len());
        for record in records {
            // Line breaks in JSON are only between its words, never within a text.
            let is_break = |byte| byte == b'\n' || byte == b'\r';
            let bytes = record.get().bytes();
            lines.extend(bytes.map(|byte| if is_break(byte) { b' ' } else { byte }));
            lines.push(b'\n');
        }
        Ok(lines)
    }

    fn page(&self, page: usize) -> Url {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("page", &page.to_string());
        url
    }
}

/// Three more attempts, after longer and longer pauses.
fn retries() -> ExponentialBuilder {
    ExponentialBuilder::default().with_min_delay(Duration::from_millis(100))
}
