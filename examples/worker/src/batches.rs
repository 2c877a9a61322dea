//! The batch form, to compare with: takes a list of entries, works on it, settles all of it, and takes
//! the next list.

use std::collections::HashSet;

use futures::FutureExt;
use futures_aggregate::{Aggregate, Event, Interrupted, process_batch};
use redis::RedisResult;

use crate::args::Args;
use crate::broker::Broker;
use crate::settlement::Settlement;
use crate::signals::Signal;
use crate::tally::Tally;
use crate::work::{self, Entry};

/// Works on batches until the stream is empty, if that is asked for, or until `stop` completes, which
/// ends the batches too.
pub(crate) async fn run(
    broker: &Broker,
    args: &Args,
    stop: Signal,
    tally: &Tally,
) -> RedisResult<()> {
    while stop.clone().now_or_never().is_none() {
        let entries = broker.take(args.take).await?;
        if !entries.is_empty() {
            let settlement = process(entries, args, stop.clone()).await;
            broker.settle(&settlement).await?;
            tally.add(&settlement);
        } else if args.until_empty && broker.is_empty().await? {
            break;
        }
    }
    Ok(())
}

/// Works on the entries until all are done, the deadline passes, or `stop` completes.
async fn process(entries: Vec<Entry>, args: &Args, stop: Signal) -> Settlement {
    let source = |entry: Entry| (entry.clone(), work::work(entry, args.deliveries));
    let batches = batches(entries);
    let share = args.concurrency.div_ceil(batches.len());
    let batches = batches
        .into_iter()
        .map(|batch| batch.into_iter().map(source));
    let mut unstarted = HashSet::new();
    let outcomes = process_batch(batches)
        .batch_timeout(args.batch_timeout)
        .source_timeout_by(|entry| args.job_timeout(&entry.backend))
        .source_concurrency(share)
        .catch_panics()
        .cancel_on(stop)
        .observe(|event| {
            if let Event::NotStarted { id: entry, .. } = event {
                unstarted.insert(entry.id.clone());
            }
        })
        .await
        .unwrap_or_else(Interrupted::into_partial);
    let mut settlement = Settlement::default();
    for outcome in outcomes {
        let Aggregate {
            results,
            errors,
            unfinished,
            ..
        } = outcome.unwrap_or_else(Interrupted::into_partial);
        let results = results.into_iter().map(|(entry, ())| (entry, Ok(())));
        let errors = errors.into_iter().map(|(entry, error)| (entry, Err(error)));
        for (entry, outcome) in results.chain(errors) {
            settlement.add(entry, outcome, args.deliveries);
        }
        settlement.add_without_outcome(unfinished, &unstarted);
    }
    settlement
}

/// A batch for each backend, so that a slow backend takes neither time nor places from the others.
fn batches(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
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
    use super::*;

    #[test]
    fn batches_have_one_backend_each_and_keep_the_order() {
        let [a, b, c, d] = [(1, "mail"), (2, "search"), (3, "mail"), (4, "archive")]
            .map(|(job, backend)| Entry::for_test(job, backend, 1));
        let entries = vec![a.clone(), b.clone(), c.clone(), d.clone()];
        assert_eq!(batches(entries), [vec![a, c], vec![b], vec![d]]);
        assert!(batches(vec![]).is_empty());
    }
}
