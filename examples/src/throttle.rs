//! A server with a limited capacity.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// The work of one request.
const WORK: Duration = Duration::from_millis(5);
/// So many requests wait for each one that is in work. The server refuses more.
const QUEUE: usize = 3;

/// Lets a server work on a few requests at a time. Some more wait for them. The server answers the others
/// with 503 Service Unavailable.
#[derive(Clone)]
pub struct Throttle(Arc<State>);

struct State {
    at_once: usize,
    workers: Semaphore,
    /// Requests in work, and requests that wait.
    in_flight: AtomicUsize,
    most: AtomicUsize,
    refused: AtomicUsize,
}

/// Counts a request until it is answered or its client has left.
struct InFlight<'a>(&'a State);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Throttle {
    /// At most so many requests in work.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self(Arc::new(State {
            at_once,
            workers: Semaphore::new(at_once.min(Semaphore::MAX_PERMITS)),
            in_flight: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        }))
    }

    /// Throttles all routes of `router`.
    pub fn layer(&self, router: Router) -> Router {
        let throttle = self.clone();
        router.layer(from_fn(move |request: Request, next: Next| {
            let throttle = throttle.clone();
            async move { throttle.pass(request, next).await }
        }))
    }

    async fn pass(&self, request: Request, next: Next) -> Response {
        let state = &*self.0;
        let in_flight = state.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        let _in_flight = InFlight(state);
        state.most.fetch_max(in_flight, Ordering::Relaxed);
        if in_flight > state.at_once.saturating_mul(1 + QUEUE) {
            state.refused.fetch_add(1, Ordering::Relaxed);
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        let worker = state.workers.acquire().await;
        sleep(WORK).await;
        // A page that takes longer takes none of the capacity of the server meanwhile.
        drop(worker);
        next.run(request).await
    }

    /// The largest number of requests at the same time.
    #[must_use]
    pub fn most(&self) -> usize {
        self.0.most.load(Ordering::Relaxed)
    }

    /// The number of requests that were refused.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.0.refused.load(Ordering::Relaxed)
    }
}
