//! A web site to crawl: some thousand pages, among them slow, broken and moved ones.

use std::fmt::Write;
use std::future::{pending, ready};
use std::io;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use futures::stream;
use tokio::time::sleep;

/// The number of pages. The first one is `/page/0`.
pub const PAGES: usize = 3000;

/// How the site answers a request for a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// At once.
    Sound,
    /// After 100 ms.
    Slow,
    /// With 500 Internal Server Error.
    Failing,
    /// With a reset of the connection.
    Reset,
    /// Never.
    Hanging,
    /// With a redirection to the next page.
    Moved,
}

/// How the site answers a request for `page`.
#[must_use]
pub fn kind(page: usize) -> Kind {
    match page % 50 {
        7 if page % 1000 == 507 => Kind::Hanging,
        7 => Kind::Failing,
        21 => Kind::Reset,
        33 => Kind::Moved,
        45 => Kind::Slow,
        _ => Kind::Sound,
    }
}

/// The pages that `page` links to, if it answers. A page that has moved links to its new place.
#[must_use]
pub fn links(page: usize) -> Vec<usize> {
    match kind(page) {
        Kind::Sound | Kind::Slow => {
            // A tree, links back, and links across.
            let links = [2 * page + 1, 2 * page + 2, page / 2, page * 37 % PAGES];
            links.into_iter().filter(|link| *link < PAGES).collect()
        }
        Kind::Moved => vec![page + 1],
        Kind::Failing | Kind::Reset | Kind::Hanging => Vec::new(),
    }
}

/// The path of a page.
#[must_use]
pub fn path(page: usize) -> String {
    format!("/page/{page}")
}

/// The site.
pub fn router() -> Router {
    Router::new().route("/page/{page}", get(answer))
}

async fn answer(Path(page): Path<usize>) -> Response {
    match kind(page) {
        _ if page >= PAGES => return StatusCode::NOT_FOUND.into_response(),
        Kind::Sound => {}
        Kind::Slow => sleep(Duration::from_millis(100)).await,
        Kind::Failing => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Kind::Reset => {
            let reset = stream::once(ready(Err::<Vec<u8>, _>(io::Error::other("reset"))));
            return Body::from_stream(reset).into_response();
        }
        Kind::Hanging => pending().await,
        Kind::Moved => return Redirect::to(&path(page + 1)).into_response(),
    }
    Html(html(page)).into_response()
}

fn html(page: usize) -> String {
    // Links that a crawler does not follow.
    let mut html = format!(
        "<!doctype html><title>Page {page}</title>
         <a href='#top'>top</a> <a href='mailto:a@a.example'>mail</a>
         <a href='https://a.example/'>elsewhere</a> <!-- <a href='/page/{PAGES}'>gone</a> -->"
    );
    for link in links(page) {
        let path = path(link);
        let _ = write!(html, "\n<a href='{path}#text'>Page {link}</a>");
    }
    html
}
