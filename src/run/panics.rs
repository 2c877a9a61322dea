//! Panics that must wait until the work around them is done.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The first panic of several steps that must all be taken.
#[derive(Default)]
pub struct Panics {
    first: Option<Box<dyn Any + Send>>,
}

impl Panics {
    /// Takes a step. Returns nothing if it panicked.
    pub(crate) fn catch<R>(&mut self, step: impl FnOnce() -> R) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(step)) {
            Ok(value) => Some(value),
            Err(payload) => {
                self.note(payload);
                None
            }
        }
    }

    /// Whether there was any.
    pub(crate) fn is_some(&self) -> bool {
        self.first.is_some()
    }

    /// Keeps a panic, unless there was one before.
    pub(crate) fn note(&mut self, payload: Box<dyn Any + Send>) {
        match self.first {
            None => self.first = Some(payload),
            Some(_) => discard(payload),
        }
    }

    /// Goes on with the first panic, if there was one, unless the thread is panicking already.
    #[inline]
    pub(crate) fn resume(self) {
        if let Some(payload) = self.first {
            resume(payload);
        }
    }
}

#[cold]
fn resume(payload: Box<dyn Any + Send>) {
    if std::thread::panicking() {
        discard(payload);
    } else {
        resume_unwind(payload);
    }
}

/// Drops what a panic carried, which may panic as well, and so may what that carried. It is let be
/// when there is no end to it.
pub(super) fn discard(mut payload: Box<dyn Any + Send>) {
    for _ in 0..8 {
        match catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            Ok(()) => return,
            Err(worse) => payload = worse,
        }
    }
    std::mem::forget(payload);
}

/// What a panic said.
pub(crate) fn message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "no message".to_owned()
    }
}
