//! The sources: futures that are ready, that wake themselves before they answer, or that wait for a wake
//! from outside. A stream that pauses between its items.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures::Stream;

/// The output of a source. One of eight sources fails.
pub(crate) type Answer = Result<u64, u32>;

pub(crate) fn answer(id: usize) -> Answer {
    if id % 8 == 7 { Err(7) } else { Ok(id as u64) }
}

/// A source that wakes itself a number of times before it answers.
pub(crate) struct Yields {
    id: usize,
    left: u32,
}

impl Yields {
    pub(crate) fn new(id: usize, times: u32) -> Self {
        Self { id, left: times }
    }
}

impl Future for Yields {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        if self.left == 0 {
            return Poll::Ready(answer(self.id));
        }
        self.left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A source that answers after its gate is opened.
pub(crate) struct Waits {
    id: usize,
    gate: Arc<Gate>,
}

/// The gate of a source that waits.
#[derive(Default)]
pub(crate) struct Gate {
    open: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Gate {
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether the source was polled and is pending.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waker.lock().unwrap().is_some()
    }

    fn wake(&self) {
        let waker = self.waker.lock().unwrap().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Waits {
    pub(crate) fn new(id: usize) -> (Arc<Gate>, Self) {
        let gate = Arc::<Gate>::default();
        (gate.clone(), Self { id, gate })
    }
}

impl Future for Waits {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        if self.gate.open.load(Ordering::Acquire) {
            return Poll::Ready(answer(self.id));
        }
        *self.gate.waker.lock().unwrap() = Some(cx.waker().clone());
        if self.gate.open.load(Ordering::Acquire) {
            return Poll::Ready(answer(self.id));
        }
        Poll::Pending
    }
}

/// Sources that wait, and their gates.
pub(crate) fn waiting(size: usize) -> (Vec<Arc<Gate>>, Vec<Waits>) {
    (0..size).map(Waits::new).unzip()
}

/// A source that its own thread wakes again and again, and that never answers. It does as little work as
/// possible.
pub(crate) struct Sleeps(pub(crate) Rc<Sleeper>);

/// The waker that the source was polled with.
pub(crate) type Sleeper = RefCell<Option<Waker>>;

impl Future for Sleeps {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut kept = self.0.borrow_mut();
        if kept.as_ref().is_none_or(|kept| !kept.will_wake(cx.waker())) {
            *kept = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// A source that answers after 1 to 8 wakes. The sources of a set answer in an order that looks random.
pub(crate) fn shuffled(id: usize) -> Yields {
    Yields::new(id, 1 + (id * 5 % 8) as u32)
}

/// A stream that wakes itself and is pending before each item.
pub(crate) struct Pauses<I> {
    items: I,
    is_paused: bool,
}

impl<I: Iterator + Unpin> Pauses<I> {
    pub(crate) fn new(items: I) -> Self {
        Self {
            items,
            is_paused: false,
        }
    }
}

impl<I: Iterator + Unpin> Stream for Pauses<I> {
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<I::Item>> {
        self.is_paused = !self.is_paused;
        if self.is_paused {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.items.next())
    }
}
