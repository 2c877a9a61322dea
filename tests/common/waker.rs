//! A waker that reports when it is cloned, woken and dropped. Without `unsafe` code, a waker can report
//! only that it is woken.

use std::sync::Arc;
use std::task::{RawWaker, RawWakerVTable, Waker};

/// A use of a waker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Clone,
    Wake,
    Drop,
}

/// Makes a waker that calls `on_use` before it is cloned, woken or dropped.
pub fn waker(on_use: impl Fn(Use) + Send + Sync + 'static) -> Waker {
    let hook = Arc::into_raw(Arc::new(Hook(Box::new(on_use))));
    // SAFETY: each waker owns one count of its hook, which may be called from any thread.
    unsafe { Waker::new(hook.cast(), &VTABLE) }
}

struct Hook(Box<dyn Fn(Use) + Send + Sync>);

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop);

unsafe fn clone(hook: *const ()) -> RawWaker {
    // SAFETY: the waker that is cloned owns a count.
    unsafe {
        (*hook.cast::<Hook>()).0(Use::Clone);
        Arc::increment_strong_count(hook.cast::<Hook>());
    }
    RawWaker::new(hook, &VTABLE)
}

unsafe fn wake(hook: *const ()) {
    // SAFETY: the waker gives its count away.
    let hook = unsafe { Arc::from_raw(hook.cast::<Hook>()) };
    hook.0(Use::Wake);
}

unsafe fn wake_by_ref(hook: *const ()) {
    // SAFETY: the waker owns a count.
    let hook = unsafe { &*hook.cast::<Hook>() };
    hook.0(Use::Wake);
}

unsafe fn drop(hook: *const ()) {
    // SAFETY: the waker gives its count away.
    let hook = unsafe { Arc::from_raw(hook.cast::<Hook>()) };
    hook.0(Use::Drop);
}
