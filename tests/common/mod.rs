//! A world in which nothing happens but what the test does: tasks polled by hand, and sources that
//! answer when they are told to.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod counting;
pub mod script;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

/// No timeout.
pub const NEVER: std::time::Duration = std::time::Duration::MAX;

/// What a source answers with.
pub type Answer = Result<u32, &'static str>;

/// A future, and the task that polls it when the test says so.
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

    /// Polls once, and then for as long as the task is woken, as an executor would.
    pub fn settle(&mut self) -> Poll<F::Output> {
        for _ in 0..100_000 {
            let poll = self.poll();
            if poll.is_ready() || !self.is_woken() {
                return poll;
            }
        }
        panic!("the task wakes itself for ever");
    }

    /// Settles, and expects the future to be done.
    pub fn finish(&mut self) -> F::Output {
        match self.settle() {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("the future waits, and nothing would wake it"),
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

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A source that does nothing until its handle says so.
pub struct Source {
    shared: Arc<Mutex<Shared>>,
}

/// The test's hold on a source.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    answer: Option<Answer>,
    next_answer: Option<Answer>,
    polls: usize,
    dropped: bool,
    keeps_waker: bool,
    waker: Option<Waker>,
    on_poll: Option<Box<dyn FnMut(&Waker) + Send>>,
    on_drop: Option<Box<dyn FnOnce() + Send>>,
}

pub fn source() -> (Handle, Source) {
    let shared = Arc::new(Mutex::new(Shared::default()));
    let handle = Handle {
        shared: shared.clone(),
    };
    (handle, Source { shared })
}

/// `n` sources, named by their numbers.
pub fn sources(n: usize) -> (Vec<Handle>, Vec<(usize, Source)>) {
    let (handles, sources): (Vec<_>, Vec<_>) = (0..n).map(|_| source()).unzip();
    (handles, sources.into_iter().enumerate().collect())
}

/// A source that answers at its first poll.
pub fn ready(answer: Answer) -> Source {
    let (handle, source) = source();
    handle.answer(answer);
    source
}

pub fn alive(handles: &[Handle]) -> usize {
    handles.iter().filter(|handle| handle.is_alive()).count()
}

pub fn polls(handles: &[Handle]) -> Vec<usize> {
    handles.iter().map(Handle::polls).collect()
}

impl Handle {
    /// Lets the source answer, and wakes it.
    pub fn answer(&self, answer: Answer) {
        self.shared.lock().unwrap().answer = Some(answer);
        self.wake();
    }

    /// Wakes the source if it was ever polled.
    pub fn wake(&self) {
        let waker = self.shared.lock().unwrap().waker.clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Lets the source answer at its next poll but this one, and wakes it for that.
    pub fn answer_next(&self, answer: Answer) {
        self.shared.lock().unwrap().next_answer = Some(answer);
        self.wake();
    }

    pub fn polls(&self) -> usize {
        self.shared.lock().unwrap().polls
    }

    pub fn is_alive(&self) -> bool {
        !self.shared.lock().unwrap().dropped
    }

    /// Does something whenever the source is polled, before it looks for its answer.
    pub fn on_poll(&self, action: impl FnMut(&Waker) + Send + 'static) {
        self.shared.lock().unwrap().on_poll = Some(Box::new(action));
    }

    /// Does something when the source is dropped.
    pub fn on_drop(&self, action: impl FnOnce() + Send + 'static) {
        self.shared.lock().unwrap().on_drop = Some(Box::new(action));
    }

    /// Wakes itself at every poll.
    pub fn never_rests(&self) {
        self.on_poll(Waker::wake_by_ref);
    }

    /// Keeps the source's last waker when the source is gone.
    pub fn keep_waker(&self) {
        self.shared.lock().unwrap().keeps_waker = true;
    }
}

impl Future for Source {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let on_poll = {
            let mut shared = self.shared.lock().unwrap();
            assert!(!shared.dropped);
            shared.polls += 1;
            shared.waker = Some(cx.waker().clone());
            shared.on_poll.take()
        };
        if let Some(mut on_poll) = on_poll {
            on_poll(cx.waker());
            self.shared.lock().unwrap().on_poll = Some(on_poll);
        }
        let shared = &mut *self.shared.lock().unwrap();
        let answer = shared.answer.take();
        shared.answer = shared.next_answer.take();
        match answer {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let on_drop = {
            let mut shared = self.shared.lock().unwrap();
            assert!(!shared.dropped, "a source is dropped once");
            shared.dropped = true;
            if !shared.keeps_waker {
                shared.waker = None;
            }
            // What was to happen at a poll may hold the world together in a circle.
            shared.on_poll = None;
            shared.on_drop.take()
        };
        if let Some(on_drop) = on_drop {
            on_drop();
        }
    }
}
