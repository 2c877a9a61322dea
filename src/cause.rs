//! The error that an interrupted run becomes when its results are not needed.

use std::error::Error;
use std::fmt;

use crate::interrupted::Summary;
use crate::{Aggregate, Batches, Handled, Interrupted, Outcome, Reason, SourceError, Streamed};

/// Why a run was interrupted, and the first failure of a source in it.
///
/// [`Interrupted::into_cause`] makes it. It has no values. So it converts into `anyhow::Error`, into
/// `Box<dyn Error + Send + Sync>` and into a `#[from]` field of an enum that derives
/// `thiserror::Error`, whatever the type of the values is. Such a conversion requires the ids to be
/// `Debug`, `Send`, `Sync` and `'static`.
///
/// # Text
///
/// | the run | [`to_string`](ToString::to_string) |
/// |---|---|
/// | ended because of failures, see [`Reason::SourceFailed`] and [`Reason::QuorumUnreachable`] | `source failed: "a.example": 403 Forbidden` |
/// | ended for another reason, after a source had failed | `timed out; first failure: "a.example": 403 Forbidden` |
/// | ended because a body failed, see [`Reason::BodyFailed`] | `body failed: disk full` |
/// | ended for another reason, and a body failed as well | `drained; body failed: disk full` |
/// | has no failure | `timed out` |
///
/// # Source
///
/// [`Error::source`] returns the error of the body, if there is one. Otherwise it returns the error of
/// the source, if the first failure is [`SourceError::Failed`]; `downcast_ref` finds its type. In all
/// other cases it returns `None`. The text of the cause contains the text of that error, so a log line
/// without the chain has it too; a log line with the whole chain has it twice.
///
/// # Examples
///
/// ```
/// use std::io::{self, ErrorKind};
/// use std::time::Duration;
/// use futures::future::ready;
/// use futures_aggregate::{Cause, Interrupted, fetch_and_aggregate};
///
/// #[derive(Debug, thiserror::Error)]
/// enum PriceError {
///     #[error("no prices")]
///     Shops(#[from] Cause<String>),
/// }
///
/// async fn prices() -> Result<Vec<u32>, PriceError> {
///     let refused = ready(Err::<u32, _>(io::Error::from(ErrorKind::ConnectionRefused)));
///     let aggregate = fetch_and_aggregate([("a.example".to_owned(), refused)], Duration::MAX)
///         .fail_fast()
///         .await
///         .map_err(Interrupted::into_cause)?;
///     Ok(aggregate.results.into_iter().map(|(_shop, price)| price).collect())
/// }
///
/// # futures::executor::block_on(async {
/// let PriceError::Shops(cause) = prices().await.unwrap_err();
/// assert_eq!(cause.to_string(), r#"source failed: "a.example": connection refused"#);
/// let (shop, _error) = cause.failure.unwrap();
/// assert_eq!(shop, "a.example");
/// # });
/// ```
#[non_exhaustive]
pub struct Cause<K> {
    /// What stopped the run.
    pub reason: Reason,
    /// The first failure in the partial result, with the id of the source.
    pub failure: Option<(K, SourceError<Box<dyn Error + Send + Sync>>)>,
    /// The first error of a body of [`for_each_result`](crate::for_each_result()). It can be there with
    /// any reason, because the bodies that have started run to their end after the run was cut off.
    pub body_error: Option<Box<dyn Error + Send + Sync>>,
}

impl<K: fmt::Debug> fmt::Debug for Cause<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Cause");
        fields.field("reason", &self.reason);
        fields.field("failure", &self.failure);
        if let Some(error) = &self.body_error {
            fields.field("body_error", error);
        }
        fields.finish()
    }
}

impl<K: fmt::Debug> fmt::Display for Cause<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        match &self.body_error {
            Some(error) if self.reason == Reason::BodyFailed => return write!(f, ": {error}"),
            Some(error) => return write!(f, "; {}: {error}", Reason::BodyFailed),
            None => {}
        }
        let Some((id, error)) = &self.failure else {
            return Ok(());
        };
        let separator = match self.reason {
            Reason::SourceFailed | Reason::QuorumUnreachable => ": ",
            Reason::TimedOut
            | Reason::Cancelled
            | Reason::Drained
            | Reason::ReceiverClosed
            | Reason::BodyFailed
            | Reason::NotNeeded
            | Reason::Panicked => "; first failure: ",
        };
        write!(f, "{separator}{id:?}: {error}")
    }
}

impl<K: fmt::Debug> Error for Cause<K> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match (&self.body_error, &self.failure) {
            (Some(error), _) | (None, Some((_, SourceError::Failed(error)))) => Some(&**error),
            (None, Some((_, SourceError::TimedOut | SourceError::Panicked(_))) | None) => None,
        }
    }
}

impl<P: Partial> Interrupted<P> {
    /// Drops the partial result and keeps the reason and the first failure, with the id of its source.
    ///
    /// Which failure is the first one depends on the partial result:
    ///
    /// | partial result | first failure |
    /// |---|---|
    /// | [`Aggregate`] | the first of [`errors`](Aggregate::errors), which is the first in time |
    /// | [`Batches`] | the first of `errors` in the first batch that has one, in the order of the batches |
    /// | [`Streamed`], [`Handled`] | the first among [`undelivered`](Streamed::undelivered); failures that were delivered belong to the receiver or to a body |
    ///
    /// With [`Reason::SourceFailed`], failures in batches that are complete do not count: they did not
    /// stop the run.
    ///
    /// The errors of the sources must convert into a `Box<dyn Error + Send + Sync>`. Every type that
    /// implements [`Error`] and is `Send`, `Sync` and `'static` does, and so do `String`, `&str`,
    /// `Box<dyn Error + Send + Sync>` and `anyhow::Error`, which do not implement [`Error`]. An
    /// `anyhow::Error` keeps its text and its chain, but becomes a private type of its crate:
    /// `downcast_ref` on the [`source`](Error::source) of the cause does not find the type of the
    /// error within.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::future::{FutureExt, pending, ready};
    /// use futures_aggregate::{Interrupted, fetch_and_aggregate};
    ///
    /// async fn lengths() -> anyhow::Result<Vec<usize>> {
    ///     let sources = [
    ///         ("a.example", pending::<Result<usize, String>>().left_future()),
    ///         ("b.example", ready(Err("403 Forbidden".to_owned())).right_future()),
    ///     ];
    ///     let aggregate = fetch_and_aggregate(sources, Duration::from_secs(2))
    ///         .fail_fast()
    ///         .await
    ///         .map_err(Interrupted::into_cause)?;
    ///     Ok(aggregate.results.into_iter().map(|(_host, length)| length).collect())
    /// }
    ///
    /// # futures::executor::block_on(async {
    /// let error = lengths().await.unwrap_err();
    /// assert_eq!(error.to_string(), r#"source failed: "b.example": 403 Forbidden"#);
    /// # });
    /// ```
    pub fn into_cause(mut self) -> Cause<P::Id>
    where
        P::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let body_error = self.partial.take_body_error();
        let failure = self
            .partial
            .into_first_failure(self.reason)
            .map(|(id, error)| {
                let error = match error {
                    SourceError::Failed(error) => SourceError::Failed(error.into()),
                    SourceError::TimedOut => SourceError::TimedOut,
                    SourceError::Panicked(message) => SourceError::Panicked(message),
                };
                (id, error)
            });
        Cause {
            reason: self.reason,
            failure,
            body_error,
        }
    }
}

/// A partial result of a run: an [`Aggregate`], [`Batches`], a [`Streamed`], or a [`Handled`] with body
/// errors that convert into a `Box<dyn Error + Send + Sync>`.
///
/// It names the types of the ids and the errors, so that one method [`Interrupted::into_cause`] serves
/// all operations. That method can be called without importing the trait. The trait is sealed:
/// no other type can implement it.
///
/// # Examples
///
/// A function for the interrupted runs of all operations:
///
/// ```
/// use std::error::Error;
/// use futures_aggregate::{Aggregate, Interrupted, Partial, Reason, Streamed};
///
/// fn into_boxed<P>(interrupted: Interrupted<P>) -> Box<dyn Error + Send + Sync>
/// where
///     P: Partial<Id = String>,
///     P::Error: Into<Box<dyn Error + Send + Sync>>,
/// {
///     interrupted.into_cause().into()
/// }
///
/// let partial = Aggregate::<String, u32, String>::default();
/// let error = into_boxed(Interrupted { reason: Reason::TimedOut, partial });
/// assert_eq!(error.to_string(), "timed out");
///
/// let partial = Streamed::<String, u32, std::io::Error>::default();
/// let error = into_boxed(Interrupted { reason: Reason::ReceiverClosed, partial });
/// assert_eq!(error.to_string(), "receiver closed");
/// ```
pub trait Partial: Summary {
    /// The type of the ids of the sources.
    type Id;

    /// The type of the errors of the sources.
    type Error;

    /// The first failure, for [`Interrupted::into_cause`].
    #[doc(hidden)]
    fn into_first_failure(self, reason: Reason) -> Option<(Self::Id, SourceError<Self::Error>)>;

    /// The first error of a body, for [`Interrupted::into_cause`].
    #[doc(hidden)]
    fn take_body_error(&mut self) -> Option<Box<dyn Error + Send + Sync>> {
        None
    }
}

impl<K, T, E> Partial for Aggregate<K, T, E> {
    type Id = K;
    type Error = E;

    fn into_first_failure(self, _: Reason) -> Option<(K, SourceError<E>)> {
        self.errors.into_iter().next()
    }
}

impl<K, T, E> Partial for Batches<K, T, E> {
    type Id = K;
    type Error = E;

    fn into_first_failure(self, reason: Reason) -> Option<(K, SourceError<E>)> {
        // Failures in a batch that is complete did not stop the run.
        let is_cause = matches!(reason, Reason::SourceFailed);
        let batches = self.into_iter().filter(|batch| !is_cause || batch.is_err());
        let mut partials = batches.map(|batch| batch.unwrap_or_else(Interrupted::into_partial));
        partials.find_map(|partial| partial.into_first_failure(reason))
    }
}

impl<K, T, E> Partial for Streamed<K, T, E> {
    type Id = K;
    type Error = E;

    fn into_first_failure(self, _: Reason) -> Option<(K, SourceError<E>)> {
        first_failure(self.undelivered)
    }
}

impl<K, T, E, B> Partial for Handled<K, T, E, B>
where
    B: Into<Box<dyn Error + Send + Sync>>,
{
    type Id = K;
    type Error = E;

    fn into_first_failure(self, _: Reason) -> Option<(K, SourceError<E>)> {
        first_failure(self.undelivered)
    }

    fn take_body_error(&mut self) -> Option<Box<dyn Error + Send + Sync>> {
        let first = std::mem::take(&mut self.body_errors).into_iter().next();
        first.map(Into::into)
    }
}

fn first_failure<K, T, E>(outcomes: Vec<Outcome<K, T, E>>) -> Option<(K, SourceError<E>)> {
    let mut failures = outcomes.into_iter();
    failures.find_map(|(id, result)| Some((id, result.err()?)))
}
