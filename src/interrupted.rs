//! Why a run stopped before every source had answered, and what it had by then.

use std::error::Error;
use std::fmt;

use crate::{Aggregate, Batches, Streamed};

/// A run was stopped before every source had answered.
///
/// It carries the reason and everything that was known by then. `?` is how a caller says that a
/// partial answer is no answer; [`into_partial`](Interrupted::into_partial) is how it says that a
/// partial answer is fine. Its text and its `Debug` output have the reason and the counts, and require
/// nothing of the ids, the values and the errors: `unwrap` works although they are not `Debug`. The
/// errors of the sources are in the partial.
///
/// It owns the ids, the values and the errors. `?` into a `Box<dyn Error>` therefore requires them to
/// be `'static`, and `?` into a `Box<dyn Error + Send + Sync>` requires them to be `Send` and `Sync`
/// too. [`into_cause`](Interrupted::into_cause) drops the values and keeps the first failure.
///
/// # Examples
///
/// ```
/// use futures_aggregate::{Aggregate, Interrupted, Reason};
///
/// let mut partial = Aggregate::<_, _, ()>::default();
/// partial.results.push(("a", 1));
/// partial.unfinished.push("b");
/// let run = Err(Interrupted { reason: Reason::TimedOut, partial });
///
/// assert_eq!(
///     run.as_ref().unwrap_err().to_string(),
///     "timed out: 1 succeeded, 0 failed, 1 unfinished",
/// );
/// assert_eq!(
///     format!("{:?}", run.as_ref().unwrap_err()),
///     "Interrupted { reason: TimedOut, partial: 1 succeeded, 0 failed, 1 unfinished }",
/// );
/// let aggregate = run.unwrap_or_else(Interrupted::into_partial);
/// assert_eq!(aggregate.results, [("a", 1)]);
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
#[must_use = "an interrupted run carries what was known when it stopped"]
pub struct Interrupted<P> {
    /// What stopped the run. The first cause wins.
    pub reason: Reason,
    /// What the run had come to when it was stopped.
    pub partial: P,
}

impl<P> Interrupted<P> {
    /// What the run had come to when it was stopped.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::future::pending;
    /// use futures_aggregate::{Interrupted, fetch_and_aggregate};
    ///
    /// # futures::executor::block_on(async {
    /// let run = fetch_and_aggregate([("a", pending::<Result<u32, ()>>())], Duration::ZERO);
    /// let aggregate = run.await.unwrap_or_else(Interrupted::into_partial);
    /// assert_eq!(aggregate.unfinished, ["a"]);
    /// # });
    /// ```
    pub fn into_partial(self) -> P {
        self.partial
    }
}

/// What an operation resolves to, when its run has ended in this way and come to this.
pub(crate) fn resolve<P>(end: Result<(), Reason>, came_to: P) -> Result<P, Interrupted<P>> {
    match end {
        Ok(()) => Ok(came_to),
        Err(reason) => Err(Interrupted {
            reason,
            partial: came_to,
        }),
    }
}

impl<P: Summary> fmt::Display for Interrupted<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.reason)?;
        self.partial.summarize(f)
    }
}

impl<P: Summary> fmt::Debug for Interrupted<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupted")
            .field("reason", &self.reason)
            .field("partial", &Counts(&self.partial))
            .finish()
    }
}

// The errors of the sources are in the partial, all of them, and none is the cause.
impl<P: Summary> Error for Interrupted<P> {}

/// What stopped a run before every source had answered.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures::future::pending;
/// use futures_aggregate::{Reason, fetch_and_aggregate};
///
/// # futures::executor::block_on(async {
/// let run = fetch_and_aggregate([("a", pending::<Result<u32, ()>>())], Duration::from_millis(5));
/// let status = match run.await {
///     Ok(_) => 200,
///     Err(interrupted) => match interrupted.reason {
///         Reason::TimedOut => 504,
///         _ => 503,
///     },
/// };
/// assert_eq!(status, 504);
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The run's deadline passed, or the future given to `expire_on` completed.
    TimedOut,
    /// The future given to `cancel_on` completed.
    Cancelled,
    /// Nobody is left to receive the outcomes of [`stream_results`](crate::stream_results).
    ReceiverClosed,
    /// A source failed, and the run was to [fail fast](crate::Operation::fail_fast). Batches
    /// that are stopped because another has failed have this reason too, without errors of their own.
    SourceFailed,
    /// Too few sources are left to reach the [quorum](crate::Operation::quorum).
    QuorumUnreachable,
    /// The run had come to what was asked for before this source, or this batch, was over. Such a
    /// run is a success: only observers and the outcomes of single batches have this reason.
    NotNeeded,
    /// The iterator of this batch panicked when it was made, so that none of its sources is known.
    /// Only the outcomes of single batches have this reason. The panic has unwound to the caller.
    Panicked,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "timed out",
            Self::Cancelled => "cancelled",
            Self::ReceiverClosed => "receiver closed",
            Self::SourceFailed => "source failed",
            Self::QuorumUnreachable => "quorum unreachable",
            Self::NotNeeded => "not needed",
            Self::Panicked => "panicked",
        })
    }
}

impl Error for Reason {}

/// The counts in the texts of an [`Interrupted`], for the three things a run can come to.
pub trait Summary {
    fn summarize(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// The counts of a partial, as `Debug` output.
struct Counts<'a, P>(&'a P);

impl<P: Summary> fmt::Debug for Counts<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.summarize(f)
    }
}

impl<K, T, E> Summary for Aggregate<K, T, E> {
    fn summarize(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        summarize([self], f)
    }
}

impl<K, T, E> Summary for Batches<K, T, E> {
    fn summarize(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let aggregates = self.iter().map(|batch| match batch {
            Ok(aggregate) => aggregate,
            Err(interrupted) => &interrupted.partial,
        });
        summarize(aggregates, f)?;
        let plural = if self.len() == 1 { "" } else { "es" };
        write!(f, " in {} batch{plural}", self.len())
    }
}

impl<K, T, E> Summary for Streamed<K, T, E> {
    fn summarize(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} delivered, {} undelivered, {} unfinished",
            self.delivered,
            self.undelivered.len(),
            self.unfinished.len()
        )
    }
}

fn summarize<'a, K: 'a, T: 'a, E: 'a>(
    aggregates: impl IntoIterator<Item = &'a Aggregate<K, T, E>>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let (mut succeeded, mut failed, mut unfinished) = (0, 0, 0);
    for aggregate in aggregates {
        succeeded += aggregate.results.len();
        failed += aggregate.errors.len();
        unfinished += aggregate.unfinished.len();
    }
    write!(
        f,
        "{succeeded} succeeded, {failed} failed, {unfinished} unfinished"
    )
}
