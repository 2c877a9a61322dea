//! A paginated API to download from: numbered pages of records, some of them slow, some busy at first.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::time::sleep;
use url::form_urlencoded;

/// The number of pages. The first one is page 1.
pub const PAGES: usize = 300;

/// The number of records in each page but the last one.
const PER_PAGE: usize = 50;

/// The header with the number of pages.
pub const TOTAL_PAGES: &str = "x-total-pages";

/// The records of a page, one line each.
#[must_use]
pub fn lines(page: usize) -> String {
    let records = if page < PAGES { PER_PAGE } else { 7 };
    let mut lines = String::new();
    for record in 0..records {
        let id = (page - 1) * PER_PAGE + record;
        // Records have different lengths.
        let text = "data ".repeat(id % 17);
        let _ = writeln!(lines, r#"{{"id":{id},"text":"{text}"}}"#);
    }
    lines
}

/// Requests that were told to come again.
type Busy = Arc<Mutex<HashSet<usize>>>;

/// The API: `/records?page=1` is an array of records in JSON.
pub fn router() -> Router {
    Router::new()
        .route("/records", get(answer))
        .with_state(Busy::default())
}

async fn answer(State(busy): State<Busy>, uri: Uri) -> Response {
    let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let page = query
        .filter(|(name, _)| name == "page")
        .find_map(|(_, page)| page.parse().ok())
        .unwrap_or(1);
    if page == 0 || page > PAGES {
        return StatusCode::NOT_FOUND.into_response();
    }
    let is_first = |page| {
        let mut told = busy.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(page)
    };
    match page % 60 {
        13 | 43 => sleep(Duration::from_millis(50)).await,
        23 if is_first(page) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        _ => {}
    }
    let records = lines(page).trim_end().replace('\n', ",");
    let headers = [
        (CONTENT_TYPE.as_str(), "application/json"),
        (TOTAL_PAGES, &PAGES.to_string()),
    ];
    (headers, format!("[{records}]")).into_response()
}
