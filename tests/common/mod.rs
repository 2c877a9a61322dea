//! Helpers for tests: tasks that are polled by hand, and sources that answer when the test tells them to.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test file uses its part"
)]

pub mod bytes;
pub mod case;
pub mod counting;
pub mod script;
pub mod source;
pub mod waker;

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

pub use source::*;

/// No timeout.
pub const NEVER: std::time::Duration = std::time::Duration::MAX;

/// The ids of outcomes.
pub fn ids<V>(outcomes: &[(usize, V)]) -> Vec<usize> {
    outcomes.iter().map(|(id, _)| *id).collect()
}

/// A task: a future that the test polls by hand, and a count of its wakes.
pub struct Task<F: Future> {
    future: Option<Pin<Box<F>>>,
    wakes: Arc<Wakes>,
    seen: usize,
}

impl<F: Future> Task<F> {
    pub fn new(future: F) -> Self {
        Self {
            future: Some(Box::pin(future)),
            wakes: Arc::default(),
            seen: 0,
        }
    }

    pub fn waker(&self) -> Waker {
        Waker::from(self.wakes.clone())
    }

    /// Polls once, woken or not.
    pub fn poll(&mut self) -> Poll<F::Output> {
        self.poll_with(&self.waker())
    }

    /// Polls once, as the task of `waker`.
    pub fn poll_with(&mut self, waker: &Waker) -> Poll<F::Output> {
        self.seen = self.wakes();
        let future = self.future.as_mut().expect("the future is there");
        future.as_mut().poll(&mut Context::from_waker(waker))
    }

    /// Polls once, and again while the task is woken, as an executor does.
    pub fn settle(&mut self) -> Poll<F::Output> {
        for _ in 0..100_000 {
            let poll = self.poll();
            if poll.is_ready() || !self.is_woken() {
                return poll;
            }
        }
        panic!("the task wakes itself for ever");
    }

    /// Polls as [`settle`](Self::settle) does, and panics if the future is still pending.
    pub fn finish(&mut self) -> F::Output {
        match self.settle() {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("the future is pending, and nothing will wake it"),
        }
    }

    /// Polls whenever the task is woken, also by other threads, until the future is done.
    pub fn wait(&mut self) -> F::Output {
        self.wait_for(std::time::Duration::from_secs(60))
    }

    /// The same. Panics if that takes longer than `limit`.
    #[track_caller]
    pub fn wait_for(&mut self, limit: std::time::Duration) -> F::Output {
        let started = std::time::Instant::now();
        loop {
            if let Poll::Ready(output) = self.poll() {
                return output;
            }
            assert!(started.elapsed() < limit, "still running after {limit:?}");
            while !self.is_woken() {
                assert!(started.elapsed() < limit, "nothing wakes the future");
                std::thread::yield_now();
            }
        }
    }

    /// How often the task was woken.
    pub fn wakes(&self) -> usize {
        self.wakes.0.load(Ordering::SeqCst)
    }

    /// Whether the task was woken since it was last polled.
    pub fn is_woken(&self) -> bool {
        self.wakes() > self.seen
    }

    /// How many wakers of the task there are.
    pub fn wakers(&self) -> usize {
        Arc::strong_count(&self.wakes) - 1
    }

    pub fn future(&mut self) -> Pin<&mut F> {
        self.future.as_mut().expect("the future is there").as_mut()
    }

    pub fn drop_future(&mut self) {
        self.future = None;
    }
}

/// Runs a step that has to panic, and returns the message of the panic.
#[track_caller]
pub fn panic_of<R>(step: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(_) => panic!("the step did not panic"),
        Err(payload) => text(&*payload),
    }
}

fn text(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .expect("the payload is a text")
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
