//! The clock, and the differences of clocks and timers between targets. A test can stop the clock of
//! its thread.

#[cfg(not(all(
    target_family = "wasm",
    target_os = "unknown",
    feature = "wasm-bindgen"
)))]
pub(super) use std::time::Instant;

#[cfg(all(
    target_family = "wasm",
    target_os = "unknown",
    feature = "wasm-bindgen"
))]
pub(super) use web_time::Instant;

#[cfg(all(
    target_family = "wasm",
    target_os = "unknown",
    not(feature = "wasm-bindgen")
))]
compile_error!(
    "futures-aggregate needs a clock and timers, and this target has none: in a browser or in Node, \
     enable the feature `wasm-bindgen` to use those of JavaScript; elsewhere, build for a target with \
     a clock, such as wasm32-wasip1, and pass a timer of the host to `expire_on`"
);

/// Whether a pending timer keeps the process alive, as in Node.
pub(super) const WAITS_FOR_TIMERS: bool = cfg!(all(target_family = "wasm", target_os = "unknown"));

/// Reads the clock.
#[cfg(not(test))]
#[inline]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Reads the clock, or the time at which the test has stopped it.
#[cfg(test)]
pub(super) fn now() -> Instant {
    STOPPED.get().unwrap_or_else(Instant::now)
}

#[cfg(test)]
thread_local! {
    /// The time at which the test has stopped the clock of this thread.
    static STOPPED: std::cell::Cell<Option<Instant>> = const { std::cell::Cell::new(None) };
}

/// Stops the clock of this thread at `time`.
#[cfg(test)]
pub(super) fn stop_at(time: Instant) {
    STOPPED.set(Some(time));
}
