//! The result of `stream_results`.

use std::fmt;

use crate::Outcome;
use crate::interrupted::Summary;

/// The result of [`stream_results`](crate::stream_results()), apart from the outcomes in the channel.
///
/// # Examples
///
/// ```
/// use futures::future::ready;
/// use futures_aggregate::{Interrupted, Streamed, stream_results};
///
/// # futures::executor::block_on(async {
/// let (sender, receiver) = async_channel::unbounded();
/// let driver = stream_results([("a", ready(Ok::<_, ()>(1))), ("b", ready(Ok(2)))], sender);
/// let Streamed { delivered, undelivered, unfinished, unseen, .. } =
///     driver.await.unwrap_or_else(Interrupted::into_partial);
/// assert_eq!(delivered, 2);
/// assert!(undelivered.is_empty() && unfinished.is_empty() && !unseen);
/// # drop(receiver);
/// # });
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[must_use = "outcomes that were not delivered are in here"]
pub struct Streamed<K, T, E> {
    /// The number of outcomes that were sent into the channel. They belong to the receiver, even
    /// before it reads them.
    pub delivered: usize,
    /// The outcomes that were not sent into the channel, in the order of completion.
    pub undelivered: Vec<Outcome<K, T, E>>,
    /// The sources that had not answered when the run ended: first those in flight, in the order
    /// in which they were started, then those never started, in the order of the iterator.
    pub unfinished: Vec<K>,
    /// Whether the run ended before it reached the end of its sources, so that some may be in no
    /// list: those that are still in a stream, or in an iterator without an upper bound.
    pub unseen: bool,
}

impl<K, T, E> Default for Streamed<K, T, E> {
    fn default() -> Self {
        Self {
            delivered: 0,
            undelivered: Vec::new(),
            unfinished: Vec::new(),
            unseen: false,
        }
    }
}

impl<K, T, E> Summary for Streamed<K, T, E> {
    fn write_counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} delivered, {} undelivered, {} unfinished",
            self.delivered,
            self.undelivered.len(),
            self.unfinished.len()
        )
    }

    fn has_unseen(&self) -> bool {
        self.unseen
    }
}
