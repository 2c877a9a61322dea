//! What an observer is told.

use std::fmt;

use crate::{Reason, SourceError};

/// What an `observe` closure is told of a source, during the poll that noticed it.
///
/// Every source that is started is told of twice: when it is started, and when it is over, which
/// is either `Finished` or `Unfinished`. A source that is never started is not told of.
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
///             Event::Started { id } => format!("{id} started"),
///             Event::Finished { id, result: Ok(value) } => format!("{id} came to {value}"),
///             Event::Finished { id, result: Err(error) } => format!("{id} failed: {error}"),
///             Event::Unfinished { id, reason } => format!("{id} was stopped: {reason}"),
///             _ => unreachable!("no more events in this version"),
///         });
///     })
///     .await;
///
/// assert_eq!(log, ["a started", "a came to 1", "b started", "b failed: refused"]);
/// # });
/// ```
#[non_exhaustive]
pub enum Event<'a, K, T, E> {
    /// The source is about to be polled for the first time.
    Started {
        /// Whose event it is.
        id: &'a K,
    },
    /// The source has an outcome, and is gone.
    Finished {
        /// Whose event it is.
        id: &'a K,
        /// Its value, or why there is none.
        result: Result<&'a T, &'a SourceError<E>>,
    },
    /// The source was stopped before it had an outcome, and is gone.
    Unfinished {
        /// Whose event it is.
        id: &'a K,
        /// What ended the run: [`Reason::Cancelled`] if it was dropped.
        reason: Reason,
    },
}

impl<'a, K, T, E> Event<'a, K, T, E> {
    /// The source that the event is about.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_aggregate::Event;
    ///
    /// let event: Event<'_, _, (), ()> = Event::Started { id: &"a.example" };
    /// assert_eq!(*event.id(), "a.example");
    /// ```
    pub fn id(&self) -> &'a K {
        match self {
            Self::Started { id } | Self::Finished { id, .. } | Self::Unfinished { id, .. } => id,
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
            Self::Finished { id, result } => f
                .debug_struct("Finished")
                .field("id", id)
                .field("is_ok", &result.is_ok())
                .finish_non_exhaustive(),
            Self::Unfinished { id, reason } => f
                .debug_struct("Unfinished")
                .field("id", id)
                .field("reason", reason)
                .finish(),
        }
    }
}
