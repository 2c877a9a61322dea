//! The result of `process_batch`.

use crate::{Aggregate, Interrupted};

/// The outcome of each batch, in the order of the batches.
///
/// A batch that was interrupted has its own reason and its own partial aggregate. If the run was
/// interrupted before a batch started, all sources of that batch are in its `unfinished`.
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
