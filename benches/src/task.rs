//! A task on this thread that can be driven to the point where it waits, and later to its end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

pub(crate) struct Task {
    woken: Arc<Woken>,
    waker: Waker,
}

/// Whether the task has to be polled again, and the thread that polls it.
struct Woken {
    flag: AtomicBool,
    thread: Thread,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.flag.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }
}

impl Task {
    pub(crate) fn new() -> Self {
        let woken = Arc::new(Woken {
            flag: AtomicBool::new(false),
            thread: thread::current(),
        });
        Self {
            waker: Waker::from(Arc::clone(&woken)),
            woken,
        }
    }

    pub(crate) fn poll<F: Future + ?Sized>(&self, future: Pin<&mut F>) -> Poll<F::Output> {
        self.woken.flag.store(false, Ordering::Release);
        future.poll(&mut Context::from_waker(&self.waker))
    }

    /// Polls until the future waits. Some futures start all their sources in one poll, others in many.
    pub(crate) fn start<F: Future + ?Sized>(&self, mut future: Pin<&mut F>) {
        loop {
            assert!(self.poll(future.as_mut()).is_pending());
            if !self.woken.flag.load(Ordering::Acquire) {
                return;
            }
        }
    }

    /// Polls to the end of the future, whenever it is woken.
    pub(crate) fn finish<F: Future + ?Sized>(&self, mut future: Pin<&mut F>) -> F::Output {
        loop {
            if let Poll::Ready(output) = self.poll(future.as_mut()) {
                return output;
            }
            while !self.woken.flag.load(Ordering::Acquire) {
                thread::park();
            }
        }
    }
}
