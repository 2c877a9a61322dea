//! Panics that are caught, and resumed when the work around them is done.
//!
//! A destructor that panics while another panic unwinds aborts the process. So each part that belongs
//! to the caller is dropped inside [`Panics::catch`], and the first panic is resumed when all parts are
//! dropped.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Waker;

/// The first panic of several steps that must all run.
#[derive(Default)]
pub struct Panics {
    /// The payload of the first panic.
    first: Option<Box<dyn Any + Send>>,
}

impl Panics {
    /// Runs a step. Returns `None` if it panicked.
    pub(crate) fn catch<R>(&mut self, step: impl FnOnce() -> R) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(step)) {
            Ok(value) => Some(value),
            Err(payload) => {
                self.note(payload);
                None
            }
        }
    }

    /// Whether there was a panic.
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

    /// Keeps the panic of later steps, unless there was one before.
    pub(crate) fn append(&mut self, later: Self) {
        if let Some(payload) = later.first {
            self.note(payload);
        }
    }

    /// Keeps a panic that came before all noted ones.
    pub(crate) fn note_first(&mut self, payload: Box<dyn Any + Send>) {
        if let Some(later) = self.first.replace(payload) {
            discard(later);
        }
    }

    /// Resumes the first panic, if there was one and the thread is not panicking already.
    #[inline]
    pub(crate) fn resume(self) {
        if let Some(payload) = self.first {
            resume(payload);
        }
    }

    /// Drops values one by one.
    pub(crate) fn drop_each<T>(&mut self, values: impl IntoIterator<Item = T>) {
        if std::mem::needs_drop::<T>() {
            for value in values {
                self.catch(|| drop(value));
            }
        }
    }

    /// Drops ids and values one by one.
    pub(crate) fn drop_pairs<K, V>(&mut self, pairs: impl IntoIterator<Item = (K, V)>) {
        if std::mem::needs_drop::<(K, V)>() {
            for (id, value) in pairs {
                self.catch(|| drop(id));
                self.catch(|| drop(value));
            }
        }
    }
}

/// Runs a step of a destructor. If it panics while the thread is panicking already, drops its panic.
pub(crate) fn contain(step: impl FnOnce()) {
    let mut panics = Panics::default();
    panics.catch(step);
    panics.resume();
}

/// Wakes tasks. If a waker panics, the others are woken before the panic is resumed.
pub(crate) fn wake_each(wakers: impl IntoIterator<Item = Waker>) {
    let mut panics = Panics::default();
    for waker in wakers {
        panics.catch(|| waker.wake());
    }
    panics.resume();
}

#[cold]
fn resume(payload: Box<dyn Any + Send>) {
    if std::thread::panicking() {
        discard(payload);
    } else {
        resume_unwind(payload);
    }
}

/// Drops a panic payload. If its destructor keeps panicking, leaks it after eight tries.
pub(crate) fn discard(mut payload: Box<dyn Any + Send>) {
    for _ in 0..8 {
        match catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            Ok(()) => return,
            Err(worse) => payload = worse,
        }
    }
    std::mem::forget(payload);
}

/// The text of a panic.
pub(crate) fn message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "no message".to_owned()
    }
}

/// A value of the caller, such as a closure or an iterator. If its destructor panics while the thread
/// is panicking already, drops that panic.
pub(crate) struct Contained<T> {
    /// The value. `None` only while it is dropped.
    value: Option<T>,
}

impl<T> Contained<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Some(value) }
    }

    pub(crate) fn get(&self) -> &T {
        self.value.as_ref().expect("a value that was not dropped")
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("the value was not dropped")
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        if std::mem::needs_drop::<T>() {
            contain(|| drop(self.value.take()));
        }
    }
}
