//! Sources that answer when the test tells them to.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// The output of a source.
pub type Answer = Result<u32, &'static str>;

/// A source that its handle controls.
pub struct Source {
    shared: Arc<Mutex<Shared>>,
}

/// Controls a source, and observes it.
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

/// Makes `n` sources. Their ids are their numbers.
pub fn sources(n: usize) -> (Vec<Handle>, Vec<(usize, Source)>) {
    let (handles, sources): (Vec<_>, Vec<_>) = (0..n).map(|_| source()).unzip();
    (handles, sources.into_iter().enumerate().collect())
}

/// A source that answers in its first poll.
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

    /// Lets the source answer in its next poll but one, and wakes it. If a poll is going on, that is the
    /// poll after it.
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

    /// Runs `action` in every poll of the source, before the source looks for its answer.
    pub fn on_poll(&self, action: impl FnMut(&Waker) + Send + 'static) {
        self.shared.lock().unwrap().on_poll = Some(Box::new(action));
    }

    /// Runs `action` when the source is dropped.
    pub fn on_drop(&self, action: impl FnOnce() + Send + 'static) {
        self.shared.lock().unwrap().on_drop = Some(Box::new(action));
    }

    /// Lets the source wake itself in every poll.
    pub fn never_rests(&self) {
        self.on_poll(Waker::wake_by_ref);
    }

    /// Keeps the last waker of the source after the source is dropped.
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
            // The closure may hold handles of this source, which would be a reference cycle.
            shared.on_poll = None;
            shared.on_drop.take()
        };
        if let Some(on_drop) = on_drop {
            on_drop();
        }
    }
}
