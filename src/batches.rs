//! The result of `process_batch`.

use std::fmt;

use crate::aggregate::write_sums;
use crate::interrupted::Summary;
use crate::{Aggregate, Interrupted};

/// The outcome of each batch, in the order of the batches.
///
/// A batch that was interrupted has its own reason and its own partial aggregate. If the run was
/// interrupted before a batch started, all sources of that batch are in its `unfinished`.
///
/// If the run ended early, batches that are still in a stream, or in an iterator without an upper bound,
/// are missing. The list does not say whether there are any: ask the stream, which can be passed as
/// `from_stream(&mut stream)`. Each aggregate has an [`unseen`](crate::Aggregate::unseen) of its own.
///
/// # Examples
///
/// ```
/// use futures_aggregate::Batches;
///
/// fn answers<K, E>(batches: &Batches<K, String, E>) -> usize {
///     let aggregates = batches.iter().map(|batch| match batch {
///         Ok(aggregate) => aggregate,
///         Err(interrupted) => &interrupted.partial,
///     });
///     aggregates.map(|aggregate| aggregate.results.len()).sum()
/// }
/// # assert_eq!(answers::<u32, ()>(&vec![Ok(Default::default())]), 0);
/// ```
pub type Batches<K, T, E> = Vec<BatchOutcome<K, T, E>>;

/// The outcome of one batch: its aggregate, or the reason why it was interrupted and its partial
/// aggregate.
///
/// # Examples
///
/// ```
/// use futures_aggregate::{BatchOutcome, Reason};
///
/// fn was_late<K, T, E>(batch: &BatchOutcome<K, T, E>) -> bool {
///     batch.as_ref().is_err_and(|interrupted| interrupted.reason == Reason::TimedOut)
/// }
/// # assert!(!was_late::<u32, u32, ()>(&Ok(Default::default())));
/// ```
pub type BatchOutcome<K, T, E> = Result<Aggregate<K, T, E>, Interrupted<Aggregate<K, T, E>>>;

impl<K, T, E> Summary for Batches<K, T, E> {
    fn write_counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_sums(self.iter().map(aggregate), f)?;
        let plural = if self.len() == 1 { "" } else { "es" };
        write!(f, " in {} batch{plural}", self.len())
    }

    fn has_unseen(&self) -> bool {
        self.iter().any(|batch| aggregate(batch).unseen)
    }
}

/// The aggregate of a batch, whole or partial.
fn aggregate<K, T, E>(batch: &BatchOutcome<K, T, E>) -> &Aggregate<K, T, E> {
    match batch {
        Ok(aggregate) => aggregate,
        Err(interrupted) => &interrupted.partial,
    }
}
