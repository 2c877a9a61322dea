//! Batches: they run concurrently, their outcomes keep the order of the batches, and none affects another.

mod common;

use common::{Task, polls, ready, source, sources};
use futures_aggregate::{SourceError, process_batch};

#[test]
fn outcomes_are_in_the_order_of_the_batches() {
    let (handles, list) = sources(3);
    let batches = list.into_iter().map(|one| [one]);
    let mut task = Task::new(process_batch(batches));
    for (id, value) in [(2, 20), (0, 0), (1, 10)] {
        assert!(task.settle().is_pending());
        handles[id].answer(Ok(value));
    }
    let outcomes = task.finish().unwrap();
    let results: Vec<_> = outcomes
        .iter()
        .flat_map(|batch| &batch.as_ref().unwrap().results)
        .collect();
    assert_eq!(results, [&(0, 0), &(1, 10), &(2, 20)]);
}

#[test]
fn all_batches_start_without_waiting_for_each_other() {
    let (handles, mut list) = sources(4);
    let second = list.split_off(2);
    let mut task = Task::new(process_batch([list, second]));
    assert!(task.settle().is_pending());
    assert_eq!(polls(&handles), [1; 4]);
}

#[test]
fn empty_batch_has_an_empty_outcome_at_its_position() {
    let batches = [vec![("a", ready(Ok(1)))], vec![], vec![("b", ready(Ok(2)))]];
    let outcomes = Task::new(process_batch(batches)).finish().unwrap();
    assert_eq!(outcomes.len(), 3);
    assert_eq!(outcomes[1], Ok(Default::default()));
    assert_eq!(outcomes[2].as_ref().unwrap().results, [("b", 2)]);
}

#[test]
fn only_woken_sources_of_woken_batches_are_polled() {
    let (handles, mut list) = sources(4);
    let second = list.split_off(2);
    let mut task = Task::new(process_batch([list, second]));
    assert!(task.settle().is_pending());
    handles[3].wake();
    assert!(task.settle().is_pending());
    assert_eq!(polls(&handles), [1, 1, 1, 2]);
    assert!(task.poll().is_pending());
    assert_eq!(polls(&handles), [1, 1, 1, 2]);
}

#[test]
fn batches_are_pulled_lazily() {
    let pulled = std::cell::Cell::new(0);
    let batches = (0..1000).map(|batch| {
        pulled.set(pulled.get() + 1);
        [(batch, source().1)]
    });
    let mut task = Task::new(process_batch(batches).concurrency(3));
    assert_eq!(pulled.get(), 0);
    assert!(task.settle().is_pending());
    assert_eq!(pulled.get(), 3);
}

#[test]
fn batch_can_go_on_after_one_of_its_sources_panicked() {
    let (handles, list) = sources(2);
    let mut task = Task::new(process_batch([list]));
    assert!(task.settle().is_pending());
    handles[0].on_poll(|_| panic!("source 0"));
    handles[0].wake();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| task.settle()));
    assert!(panicked.is_err());
    assert!(!handles[0].is_alive());

    handles[1].answer(Ok(10));
    let outcomes = task.finish().unwrap();
    let batch = outcomes[0].as_ref().unwrap();
    assert_eq!(batch.results, [(1, 10)]);
    assert_eq!(
        batch.errors,
        [(0, SourceError::Panicked("source 0".to_owned()))]
    );
}
