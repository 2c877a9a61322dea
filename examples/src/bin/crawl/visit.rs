//! One source: fetches a page, and queues the pages that it links to.

use std::fmt;

use examples::{Chain, is_overload};
use html5gum::{Token, Tokenizer};
use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Client, Response, Url};

use crate::found::{Found, Page};

/// A page that was fetched.
pub(crate) enum Visited {
    /// A page with so many links.
    Links(usize),
    /// A page that has moved.
    Moved(Url),
}

/// Why a page was not fetched.
pub(crate) struct Failure(reqwest::Error);

impl Failure {
    pub(crate) fn is_overload(&self) -> bool {
        is_overload(&self.0)
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        // The output line names the URL already.
        Self(error.without_url())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Chain(&self.0).fmt(f)
    }
}

pub(crate) async fn visit(page: Page, client: &Client, found: &Found) -> Result<Visited, Failure> {
    let response = client.get(page.url().clone()).send().await?;
    if response.status().is_redirection() {
        if let Some(target) = target(&response) {
            page.queue([target.clone()], found);
            return Ok(Visited::Moved(target));
        }
    }
    let response = response.error_for_status()?;
    if !is_html(response.headers()) {
        return Ok(Visited::Links(0));
    }
    // The links are relative to the URL of the page, which is never that of a redirection.
    let links = links(&response.text().await?, page.url());
    let visited = Visited::Links(links.len());
    // There is no `await` between here and the end: a page whose links are queued has answered.
    page.queue(links, found);
    Ok(visited)
}

/// Where a page has moved.
fn target(response: &Response) -> Option<Url> {
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    response.url().join(location).ok()
}

fn is_html(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|of| of.to_str().ok());
    content_type.is_some_and(|of| of.starts_with("text/html"))
}

/// The links in a page.
fn links(html: &str, base: &Url) -> Vec<Url> {
    let tags = Tokenizer::new(html).filter_map(|token| match token {
        Ok(Token::StartTag(tag)) if *tag.name == b"a" => Some(tag),
        _ => None,
    });
    tags.filter_map(|tag| {
        let target = tag.attributes.get(b"href".as_slice())?;
        base.join(std::str::from_utf8(target).ok()?).ok()
    })
    .collect()
}
