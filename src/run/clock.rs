//! What time it is. A test can stop the clock of its thread, and be the one who says so.

use std::time::Instant;

#[cfg(not(test))]
#[inline]
pub(super) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
pub(super) fn now() -> Instant {
    STOPPED.get().unwrap_or_else(Instant::now)
}

#[cfg(test)]
thread_local! {
    static STOPPED: std::cell::Cell<Option<Instant>> = const { std::cell::Cell::new(None) };
}

/// From now on it is `time` on this thread.
#[cfg(test)]
pub(super) fn stop_at(time: Instant) {
    STOPPED.set(Some(time));
}
