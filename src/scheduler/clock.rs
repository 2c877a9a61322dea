//! What time it is, and where clocks and timers differ between targets. A test can stop the clock of
//! its thread, and be the one who says so.

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
    "this target has neither a clock nor timers of its own, and futures-aggregate needs both: \
     switch on its feature `wasm-bindgen` to have them from JavaScript, in a browser or in Node, \
     or build for a target with a clock, such as wasm32-wasip1 (whose deadlines need a timer of \
     the host's, by `expire_on`)"
);

/// Whether the process goes on for as long as a timer is set, as Node does.
pub(super) const WAITS_FOR_TIMERS: bool = cfg!(all(target_family = "wasm", target_os = "unknown"));

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
