//! The result of `for_each_result`.

use std::fmt;

use crate::Outcome;
use crate::interrupted::Summary;

/// The result of [`for_each_result`](crate::for_each_result()).
///
/// Every source that the run has seen is counted in `handled`, or is in `undelivered` or in `unfinished`.
///
/// # Examples
///
/// ```
/// use futures_aggregate::{Interrupted, Reason, each, for_each_result};
///
/// # futures::executor::block_on(async {
/// let sources = each(1..=4, |&id| async move { Ok::<_, ()>(id) });
/// let Interrupted { reason, partial, .. } = for_each_result(sources, async |(id, _)| {
///     if id == 2 { Err("disk full") } else { Ok(()) }
/// })
/// .concurrency(1)
/// .await
/// .unwrap_err();
/// assert_eq!(reason, Reason::BodyFailed);
/// assert_eq!((partial.handled, partial.body_errors), (2, vec!["disk full"]));
/// assert_eq!(partial.undelivered.len() + partial.unfinished.len(), 2);
/// # });
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[must_use = "errors of bodies, and outcomes that no body has taken, are in here"]
pub struct Handled<K, T, E, B> {
    /// The number of outcomes that were passed to a body, also of bodies that have failed or panicked.
    pub handled: usize,
    /// The errors of the bodies that failed, in the order of completion. Let the error have the id if that
    /// matters.
    pub body_errors: Vec<B>,
    /// The outcomes that no body has taken, in the order of completion, or
    /// [in order](crate::Operation::in_order).
    pub undelivered: Vec<Outcome<K, T, E>>,
    /// The sources that had not answered when the run ended: first those in flight, in the order
    /// in which they were started, then those never started, in the order of the iterator.
    pub unfinished: Vec<K>,
    /// Whether the run ended before it reached the end of its sources, so that some may be in no
    /// list: those that are still in a stream, or in an iterator without an upper bound.
    pub unseen: bool,
}

impl<K, T, E, B> Default for Handled<K, T, E, B> {
    fn default() -> Self {
        Self {
            handled: 0,
            body_errors: Vec::new(),
            undelivered: Vec::new(),
            unfinished: Vec::new(),
            unseen: false,
        }
    }
}

impl<K, T, E, B> Summary for Handled<K, T, E, B> {
    fn write_counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} handled, {} undelivered, {} unfinished",
            self.handled,
            self.undelivered.len(),
            self.unfinished.len()
        )?;
        match self.body_errors.len() {
            0 => Ok(()),
            1 => f.write_str(", 1 body failed"),
            failed => write!(f, ", {failed} bodies failed"),
        }
    }

    fn has_unseen(&self) -> bool {
        self.unseen
    }
}
