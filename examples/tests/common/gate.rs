//! A server that notes every request, and holds those that the test wants to.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::middleware::{Next, from_fn};
use futures::channel::oneshot;

/// The requests so far: the path and the query, after the method if that is not GET.
#[derive(Default)]
pub(crate) struct Log {
    /// In the order in which they came.
    pub(crate) arrived: Vec<String>,
    /// When they came.
    pub(crate) arrived_at: Vec<Instant>,
    /// In the order in which they were answered.
    pub(crate) answered: Vec<String>,
    /// Those that wait for `open`.
    pub(crate) held: Vec<String>,
    /// The number of requests without an answer whose client still waits.
    pub(crate) in_flight: usize,
    /// The largest number so far.
    pub(crate) most_in_flight: usize,
    is_open: bool,
    releases: Vec<oneshot::Sender<()>>,
}

impl Log {
    /// Fails unless the requests came no faster than one in each `interval`. The program was started at
    /// `launch` or later.
    pub(crate) fn is_spaced(&self, launch: Instant, interval: Duration) {
        for (before, at) in (0..).zip(&self.arrived_at) {
            let earliest = launch + before * interval;
            assert!(
                *at >= earliest,
                "request {before} came {:?} too early",
                earliest - *at
            );
        }
    }
}

/// Controls a server.
#[derive(Clone)]
pub(crate) struct Gate(Arc<(Mutex<Log>, Condvar)>);

impl Gate {
    /// Serves `router`. Each request for which `holds` is true waits until the gate opens. `holds` sees
    /// the log with this request in it.
    pub(crate) fn serve(
        router: Router,
        holds: impl FnMut(&Log, &str) -> bool + Send + 'static,
    ) -> (Self, String) {
        let gate = Self(Arc::default());
        let holds = Arc::new(Mutex::new(holds));
        let layer = from_fn({
            let gate = gate.clone();
            move |request: Request, next: Next| pass(gate.clone(), holds.clone(), request, next)
        });
        let url = examples::serve(router.layer(layer)).unwrap();
        (gate, url.into())
    }

    /// Waits up to a minute until the log is as the test wants it.
    pub(crate) fn wait_until(&self, is_so: impl Fn(&Log) -> bool) {
        let minute = Duration::from_secs(60);
        let (log, waited) = self
            .0
            .1
            .wait_timeout_while(self.log(), minute, |log| !is_so(log))
            .unwrap();
        assert!(
            !waited.timed_out(),
            "{} requests came, {} were answered, {} are held, and nothing more happens",
            log.arrived.len(),
            log.answered.len(),
            log.held.len()
        );
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.0.0.lock().unwrap()
    }

    /// Lets the requests that are held go on, and holds no more.
    pub(crate) fn open(&self) {
        self.log().is_open = true;
        self.release();
    }

    /// Lets the requests that are held go on.
    pub(crate) fn release(&self) {
        let releases = {
            let mut log = self.log();
            log.held.clear();
            std::mem::take(&mut log.releases)
        };
        for release in releases {
            // The client may have left.
            let _ = release.send(());
        }
    }

    fn change(&self, change: impl FnOnce(&mut Log)) {
        change(&mut self.log());
        self.0.1.notify_all();
    }
}

/// Notes that the request is over, also if the client has left.
struct InFlight(Gate);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.change(|log| log.in_flight -= 1);
    }
}

async fn pass(
    gate: Gate,
    holds: Arc<Mutex<impl FnMut(&Log, &str) -> bool>>,
    request: Request,
    next: Next,
) -> axum::response::Response {
    let mut path = request.uri().path_and_query().unwrap().to_string();
    if request.method() != Method::GET {
        path = format!("{} {path}", request.method());
    }
    let mut held = None;
    gate.change(|log| {
        log.arrived.push(path.clone());
        log.arrived_at.push(Instant::now());
        log.in_flight += 1;
        log.most_in_flight = log.most_in_flight.max(log.in_flight);
        if !log.is_open && holds.lock().unwrap()(log, &path) {
            let (release, released) = oneshot::channel();
            log.releases.push(release);
            log.held.push(path.clone());
            held = Some(released);
        }
    });
    let in_flight = InFlight(gate.clone());
    if let Some(released) = held {
        let _ = released.await;
    }
    let answer = next.run(request).await;
    drop(in_flight);
    gate.change(|log| log.answered.push(path));
    answer
}
