//! The events that observers receive.

use std::fmt;
use std::time::Duration;

use crate::{Reason, SourceError};

/// Something that happened to a source. Observers receive it in the poll that notices it.
///
/// Each source that starts produces exactly two events: `Started`, and then either `Finished` or
/// `Unfinished`. A source that is named without having started produces one: `NotStarted`. An
/// operation that is dropped does not name its sources, so they produce no `NotStarted`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures::future::ready;
/// use futures_aggregate::{Event, fetch_and_aggregate};
///
/// # futures::executor::block_on(async {
/// let mut log = Vec::new();
/// let sources = [("a", ready(Ok(1))), ("b", ready(Err("refused")))];
/// let aggregate = fetch_and_aggregate(sources, Duration::MAX)
///     .observe(|event| {
///         log.push(match event {
///             Event::Started { id, .. } => format!("{id} started"),
///             Event::Finished { id, result: Ok(value), .. } => format!("{id} returned {value}"),
///             Event::Finished { id, result: Err(error), .. } => format!("{id} failed: {error}"),
///             Event::Unfinished { id, reason, .. } => format!("{id} was stopped: {reason}"),
///             Event::NotStarted { id, reason, .. } => format!("{id} did not start: {reason}"),
///             _ => return,        // an event of a later version
///         });
///     })
///     .await;
///
/// assert_eq!(log, ["a started", "a returned 1", "b started", "b failed: refused"]);
/// # });
/// ```
#[non_exhaustive]
pub enum Event<'a, K, T, E> {
    /// The source is about to be polled for the first time.
    #[non_exhaustive]
    Started {
        /// The source.
        id: &'a K,
    },
    /// The source has an outcome, and is gone.
    #[non_exhaustive]
    Finished {
        /// The source.
        id: &'a K,
        /// Its value, or why there is none.
        result: Result<&'a T, &'a SourceError<E>>,
        /// The time since the source started.
        elapsed: Duration,
    },
    /// The source was dropped before it had an outcome.
    #[non_exhaustive]
    Unfinished {
        /// The source.
        id: &'a K,
        /// What ended the run: [`Reason::Cancelled`] if it was dropped.
        reason: Reason,
        /// The time since the source started.
        elapsed: Duration,
    },
    /// The source had not started when the run ended.
    #[non_exhaustive]
    NotStarted {
        /// The source.
        id: &'a K,
        /// What ended the run.
        reason: Reason,
    },
}

impl<'a, K, T, E> Event<'a, K, T, E> {
    /// The source that the event is about.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::future::ready;
    /// use futures_aggregate::fetch_and_aggregate;
    ///
    /// # futures::executor::block_on(async {
    /// let mut seen = Vec::new();
    /// let run = fetch_and_aggregate([("a.example", ready(Ok::<_, ()>(1)))], Duration::MAX);
    /// run.observe(|event| seen.push(*event.id())).await.unwrap();
    /// assert_eq!(seen, ["a.example", "a.example"]);     // it started, and it finished
    /// # });
    /// ```
    pub fn id(&self) -> &'a K {
        match self {
            Self::Started { id }
            | Self::Finished { id, .. }
            | Self::Unfinished { id, .. }
            | Self::NotStarted { id, .. } => id,
        }
    }
}

impl<K, T, E> Clone for Event<'_, K, T, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, T, E> Copy for Event<'_, K, T, E> {}

impl<K: fmt::Debug, T, E> fmt::Debug for Event<'_, K, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { id } => f.debug_struct("Started").field("id", id).finish(),
            Self::Finished {
                id,
                result,
                elapsed,
            } => f
                .debug_struct("Finished")
                .field("id", id)
                .field("is_ok", &result.is_ok())
                .field("elapsed", elapsed)
                .finish_non_exhaustive(),
            Self::Unfinished {
                id,
                reason,
                elapsed,
            } => f
                .debug_struct("Unfinished")
                .field("id", id)
                .field("reason", reason)
                .field("elapsed", elapsed)
                .finish(),
            Self::NotStarted { id, reason } => f
                .debug_struct("NotStarted")
                .field("id", id)
                .field("reason", reason)
                .finish(),
        }
    }
}
