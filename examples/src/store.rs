//! A server that stores objects.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::routing::put;

/// The size of the largest object that the server accepts.
pub const MOST_BYTES: usize = 1000;

/// Objects with their names.
#[derive(Clone, Default)]
pub struct Store(Arc<Mutex<BTreeMap<String, Bytes>>>);

impl Store {
    /// The objects.
    pub fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server: `PUT /name` stores an object. Objects that are too large are refused.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/{name}", put(store))
            .layer(DefaultBodyLimit::max(MOST_BYTES))
            .with_state(self.clone())
    }
}

async fn store(State(store): State<Store>, Path(name): Path<String>, object: Bytes) -> StatusCode {
    store.objects().insert(name, object);
    StatusCode::CREATED
}
