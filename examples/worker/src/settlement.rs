//! Decides what happens to each entry, from the outcome of its batch. Pure bookkeeping, without Redis.

use std::collections::HashSet;

use futures_aggregate::{Aggregate, Batches, Interrupted};

use crate::work::Entry;

/// The entries of one run, each in exactly one list.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Settlement {
    /// Entries with a result. They are acknowledged.
    pub(crate) done: Vec<Entry>,
    /// Entries that failed in their last delivery. They become dead letters, with the error.
    pub(crate) dead: Vec<(Entry, String)>,
    /// Entries that failed. They stay pending.
    pub(crate) failed: Vec<Entry>,
    /// Entries that started and did not finish. They stay pending.
    pub(crate) unfinished: Vec<Entry>,
    /// Entries that never started, because other jobs had all the places. They are given back, and this
    /// delivery does not count.
    pub(crate) unstarted: Vec<Entry>,
}

impl Settlement {
    /// `started` has the ids of the entries that were started.
    pub(crate) fn new(
        batches: Batches<Entry, (), String>,
        started: &HashSet<String>,
        deliveries: usize,
    ) -> Self {
        let mut settlement = Self::default();
        for batch in batches {
            let Aggregate {
                results,
                errors,
                unfinished,
                ..
            } = batch.unwrap_or_else(Interrupted::into_partial);
            let done = results.into_iter().map(|(entry, ())| entry);
            settlement.done.extend(done);
            for (entry, error) in errors {
                if entry.deliveries < deliveries {
                    settlement.failed.push(entry);
                } else {
                    settlement.dead.push((entry, error.to_string()));
                }
            }
            let (unfinished, unstarted): (Vec<_>, Vec<_>) = unfinished
                .into_iter()
                .partition(|entry| started.contains(&entry.id));
            settlement.unfinished.extend(unfinished);
            settlement.unstarted.extend(unstarted);
        }
        settlement
    }
}

/// A batch for each backend, so that a slow backend takes neither time nor places from the others.
pub(crate) fn batches(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut batches: Vec<Vec<Entry>> = Vec::new();
    for entry in entries {
        let of_same = |batch: &&mut Vec<Entry>| batch[0].backend == entry.backend;
        match batches.iter_mut().find(of_same) {
            Some(batch) => batch.push(entry),
            None => batches.push(vec![entry]),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use futures_aggregate::{Reason, SourceError};

    use super::*;

    fn entry(job: u32, backend: &str, deliveries: usize) -> Entry {
        Entry {
            id: format!("{job}-0"),
            job: job.to_string(),
            backend: backend.to_owned(),
            deliveries,
        }
    }

    #[test]
    fn only_results_and_last_failures_are_settled() {
        let [done, failed, late, last, panicked, unfinished, partial] =
            [(1, 3), (2, 2), (3, 1), (4, 3), (5, 4), (6, 9), (7, 1)]
                .map(|(job, deliveries)| entry(job, "mail", deliveries));
        let started = (1..=7).map(|job| format!("{job}-0")).collect();
        let failure = || SourceError::Failed("busy".to_owned());
        let complete = Aggregate {
            results: vec![(done.clone(), ())],
            errors: vec![
                (failed.clone(), failure()),
                (late.clone(), SourceError::TimedOut),
                (last.clone(), failure()),
                (panicked.clone(), SourceError::Panicked("no".to_owned())),
            ],
            ..Aggregate::default()
        };
        let interrupted = Interrupted {
            reason: Reason::TimedOut,
            partial: Aggregate {
                results: vec![(partial.clone(), ())],
                unfinished: vec![unfinished.clone()],
                ..Aggregate::default()
            },
        };
        let expected = Settlement {
            done: vec![done, partial],
            dead: vec![
                (last, "busy".to_owned()),
                (panicked, "source panicked: no".to_owned()),
            ],
            failed: vec![failed, late],
            unfinished: vec![unfinished],
            unstarted: vec![],
        };
        let batches = vec![Ok(complete), Err(interrupted)];
        assert_eq!(Settlement::new(batches, &started, 3), expected);
    }

    #[test]
    fn what_only_waited_for_a_place_is_given_back_even_in_its_last_delivery() {
        let [hanging, waiting] = [50, 5].map(|job| entry(job, "mail", 1));
        let started = HashSet::from([hanging.id.clone()]);
        let interrupted = Interrupted {
            reason: Reason::TimedOut,
            partial: Aggregate {
                unfinished: vec![hanging.clone(), waiting.clone()],
                ..Aggregate::default()
            },
        };
        let expected = Settlement {
            unfinished: vec![hanging],
            unstarted: vec![waiting],
            ..Settlement::default()
        };
        let batches = vec![Err(interrupted)];
        assert_eq!(Settlement::new(batches, &started, 1), expected);
    }

    #[test]
    fn batches_have_one_backend_each_and_keep_the_order() {
        let [a, b, c, d] = [(1, "mail"), (2, "search"), (3, "mail"), (4, "archive")]
            .map(|(job, backend)| entry(job, backend, 1));
        let entries = vec![a.clone(), b.clone(), c.clone(), d.clone()];
        assert_eq!(batches(entries), [vec![a, c], vec![b], vec![d]]);
        assert!(batches(vec![]).is_empty());
    }
}
