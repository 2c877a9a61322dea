//! The error of a run that ended before every source had answered.

use std::error::Error;
use std::fmt;

/// A run was stopped before every source had answered.
///
/// It has the reason and the partial result, which has all errors of the sources. If a partial result is
/// good enough, use [`into_partial`](Interrupted::into_partial). If it is a failure, use
/// `.map_err(Interrupted::into_cause)?`, whose error says which source or body has failed and why. `?`
/// alone passes on the reason and the counts.
///
/// The text and the `Debug` output have the reason and the counts. They end with `, and some unseen`
/// if some sources may be in no list, see [`Aggregate::unseen`](crate::Aggregate::unseen). They require nothing of the ids, the
/// values and the errors, so `unwrap` works even if those are not `Debug`.
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
#[must_use = "an interrupted run has a partial result"]
pub struct Interrupted<P> {
    /// What stopped the run. If several things did, the first one.
    pub reason: Reason,
    /// The result so far.
    pub partial: P,
}

impl<P> Interrupted<P> {
    /// The result so far.
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

/// The output of an operation, from how its run ended and its result.
pub(crate) fn resolve<P>(end: Result<(), Reason>, result: P) -> Result<P, Interrupted<P>> {
    match end {
        Ok(()) => Ok(result),
        Err(reason) => Err(Interrupted {
            reason,
            partial: result,
        }),
    }
}

impl<P: Summary> fmt::Display for Interrupted<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.reason)?;
        summarize(&self.partial, f)
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

// No `source`: the partial result has all errors of the sources, and none of them is the cause.
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
    /// The run was told to [drain](crate::Operation::drain_on), and some sources had not started, or there
    /// may be more in a stream; or the [drain timeout](crate::Operation::drain_timeout) ended before every
    /// source in flight had answered and every outcome was delivered.
    Drained,
    /// All receivers of the outcomes of [`stream_results`](crate::stream_results) are gone.
    ReceiverClosed,
    /// A body of [`for_each_result`](crate::for_each_result()) returned an error.
    BodyFailed,
    /// A source failed, and [`fail_fast`](crate::Operation::fail_fast) was set. Batches that
    /// are stopped because another one failed have this reason too, without errors of their own.
    SourceFailed,
    /// Too few sources are left to reach the [quorum](crate::Operation::quorum).
    QuorumUnreachable,
    /// The run succeeded, for example by a quorum, before this source or batch was over. Only events
    /// and the outcomes of single batches have this reason.
    NotNeeded,
    /// The iterator of this batch could not be made because `into_iter` panicked, so none of its
    /// sources is known. Only the outcomes of single batches have this reason. The panic has unwound
    /// to the caller.
    Panicked,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "timed out",
            Self::Cancelled => "cancelled",
            Self::Drained => "drained",
            Self::ReceiverClosed => "receiver closed",
            Self::BodyFailed => "body failed",
            Self::SourceFailed => "source failed",
            Self::QuorumUnreachable => "quorum unreachable",
            Self::NotNeeded => "not needed",
            Self::Panicked => "panicked",
        })
    }
}

impl Error for Reason {}

/// The counts in the text of an [`Interrupted`], for the results that a run can have.
pub trait Summary {
    /// Writes the counts.
    fn write_counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// Whether some sources may be in no list.
    fn has_unseen(&self) -> bool;
}

/// The counts of a partial result, as `Debug` output.
struct Counts<'a, P>(&'a P);

impl<P: Summary> fmt::Debug for Counts<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        summarize(self.0, f)
    }
}

fn summarize<P: Summary>(partial: &P, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    partial.write_counts(f)?;
    if partial.has_unseen() {
        f.write_str(", and some unseen")?;
    }
    Ok(())
}
