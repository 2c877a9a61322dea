//! Sources that answer when they are told to.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// What a source answers with.
pub type Answer = Result<u32, &'static str>;

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
