//! Decides what happens to each entry, from its outcome. Pure bookkeeping, without Redis.

use std::collections::HashSet;

use futures_aggregate::SourceError;

use crate::work::Entry;

/// Entries that a run has accounted for, each in exactly one list.
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
    /// Entries that were taken and never started. They are given back, and this delivery does not count.
    pub(crate) unstarted: Vec<Entry>,
}

impl Settlement {
    /// What to do with one entry that has an outcome.
    pub(crate) fn of(
        entry: Entry,
        outcome: Result<(), SourceError<String>>,
        deliveries: usize,
    ) -> Self {
        let mut settlement = Self::default();
        settlement.add(entry, outcome, deliveries);
        settlement
    }

    /// Adds an entry that has an outcome.
    pub(crate) fn add(
        &mut self,
        entry: Entry,
        outcome: Result<(), SourceError<String>>,
        deliveries: usize,
    ) {
        match outcome {
            Ok(()) => self.done.push(entry),
            Err(_) if entry.deliveries < deliveries => self.failed.push(entry),
            Err(error) => self.dead.push((entry, error.to_string())),
        }
    }

    /// Adds entries without an outcome. `unstarted` has the ids of those that never started.
    pub(crate) fn add_without_outcome(
        &mut self,
        entries: impl IntoIterator<Item = Entry>,
        unstarted: &HashSet<String>,
    ) {
        for entry in entries {
            if unstarted.contains(&entry.id) {
                self.unstarted.push(entry);
            } else {
                self.unfinished.push(entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_results_and_last_failures_are_acknowledged() {
        let [done, failed, late, last, panicked, started, waiting] =
            [(1, 3), (2, 2), (3, 1), (4, 3), (5, 4), (6, 9), (7, 9)]
                .map(|(job, deliveries)| Entry::for_test(job, "mail", deliveries));
        let failure = || Err(SourceError::Failed("busy".to_owned()));
        let mut settlement = Settlement::of(done.clone(), Ok(()), 3);
        for (entry, outcome) in [
            (&failed, failure()),
            (&late, Err(SourceError::TimedOut)),
            (&last, failure()),
            (&panicked, Err(SourceError::Panicked("no".to_owned()))),
        ] {
            settlement.add(entry.clone(), outcome, 3);
        }
        // What only waited is given back even in its last delivery.
        let unstarted = HashSet::from([waiting.id.clone()]);
        settlement.add_without_outcome([started.clone(), waiting.clone()], &unstarted);

        let expected = Settlement {
            done: vec![done],
            dead: vec![
                (last, "busy".to_owned()),
                (panicked, "source panicked: no".to_owned()),
            ],
            failed: vec![failed, late],
            unfinished: vec![started],
            unstarted: vec![waiting],
        };
        assert_eq!(settlement, expected);
    }
}
