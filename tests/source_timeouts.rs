//! Timeouts of sources that depend on their ids.

mod common;

use std::cell::RefCell;
use std::future::pending;
use std::time::Duration;

use common::{NEVER, Task, panic_of, ready, sources};
use futures::future::FutureExt;
use futures_aggregate::{
    Aggregate, Interrupted, SourceError, each, fetch_and_aggregate, process_batch, stream_results,
};
use futures_timer::Delay;

type Answer = Result<u32, &'static str>;

/// Ids of late sources, in the order in which they were late.
fn late<E: PartialEq>(errors: &[(usize, SourceError<E>)]) -> Vec<usize> {
    let late = errors.iter().filter(|(_, error)| error.is_timed_out());
    late.map(|(id, _)| *id).collect()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn sources_time_out_in_the_order_of_their_deadlines() {
    const TIMES: [u64; 6] = [50, 10, 90, 30, 70, 10];
    let run = fetch_and_aggregate(each(0..6, |_| pending::<Answer>()), NEVER)
        .source_timeout_by(|&id| millis(TIMES[id]));
    let aggregate = futures::executor::block_on(run).unwrap();
    assert_eq!(late(&aggregate.errors), [1, 5, 3, 0, 4, 2]);
}

#[test]
fn time_counts_from_the_start_of_each_source() {
    // One at a time: 50 ms in all, and 40 for each.
    let sleep = |_: &usize| Delay::new(millis(5)).map(|()| Ok::<_, ()>(1));
    let run = fetch_and_aggregate(each(0..10, sleep), NEVER)
        .concurrency(1)
        .source_timeout_by(|_| millis(40));
    let aggregate = futures::executor::block_on(run).unwrap();
    assert_eq!(
        (aggregate.results.len(), late(&aggregate.errors)),
        (10, vec![])
    );
}

#[test]
fn shortest_of_several_timeouts_counts() {
    let run = fetch_and_aggregate(each(0..4, |_| pending::<Answer>()), millis(2000))
        .source_timeout(millis(60))
        .source_timeout_by(|&id| if id == 1 { millis(5) } else { NEVER })
        .source_timeout_by(|&id| if id == 2 { millis(30) } else { millis(1000) });
    let aggregate = futures::executor::block_on(run).unwrap();
    assert_eq!(late(&aggregate.errors), [1, 2, 0, 3]);
}

#[test]
fn zero_is_one_poll_and_the_maximum_is_no_limit() {
    let (handles, sources) = sources(3);
    handles[1].answer(Ok(1));
    let run = fetch_and_aggregate(sources, NEVER)
        .source_timeout_by(|&id| if id == 2 { NEVER } else { Duration::ZERO });
    let mut run = Task::new(run);
    assert!(run.poll().is_pending());
    assert!(!handles[0].is_alive(), "its one poll is over");
    assert_eq!(handles[0].polls(), 1);
    handles[2].answer(Ok(1));
    let aggregate = run.finish().unwrap();
    assert_eq!(aggregate.results, [(1, 1), (2, 1)]);
    assert_eq!(late(&aggregate.errors), [0]);
}

#[test]
fn it_is_asked_once_for_each_source_that_starts() {
    let asked = RefCell::new(Vec::new());
    let run = fetch_and_aggregate(sources(5).1, millis(10))
        .concurrency(2)
        .source_timeout_by(|&id| {
            asked.borrow_mut().push(id);
            NEVER
        });
    let interrupted = futures::executor::block_on(run).unwrap_err();
    assert_eq!(interrupted.partial.unfinished, [0, 1, 2, 3, 4]);
    assert_eq!(*asked.borrow(), [0, 1]);
}

#[test]
fn slot_that_is_used_again_has_the_timeout_of_its_source() {
    // The first source in the slot has answered long before its deadline.
    let run = fetch_and_aggregate(
        each(0..3, |&id| match id {
            0 => ready(Ok(1)).boxed(),
            1 => Delay::new(millis(40)).map(|()| Ok(1)).boxed(),
            _ => pending().boxed(),
        }),
        NEVER,
    );
    let run = run
        .concurrency(1)
        .source_timeout_by(|&id| if id == 1 { NEVER } else { millis(20) });
    let aggregate = futures::executor::block_on(run).unwrap();
    assert_eq!(aggregate.results, [(0, 1), (1, 1)]);
    assert_eq!(late(&aggregate.errors), [2]);
}

#[test]
fn answer_that_arrived_in_time_beats_a_late_poll() {
    let (handles, sources) = sources(2);
    let run = fetch_and_aggregate(sources, NEVER)
        .source_timeout_by(|&id| if id == 0 { millis(5) } else { NEVER });
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    handles[0].answer(Ok(1));
    std::thread::sleep(millis(20));
    handles[1].answer(Ok(1));
    assert_eq!(run.finish().unwrap().results.len(), 2);
}

#[test]
fn it_holds_in_batches_and_streams() {
    let batch = |first: usize| each(first..first + 2, |_| pending::<Answer>());
    let run = process_batch([batch(0), batch(2)])
        .source_timeout_by(|&id| millis(if id % 2 == 0 { 5 } else { 30 }));
    let batches = futures::executor::block_on(run).unwrap();
    let aggregates: Vec<Aggregate<_, _, _>> = batches
        .into_iter()
        .map(|batch| batch.unwrap_or_else(Interrupted::into_partial))
        .collect();
    assert_eq!(late(&aggregates[0].errors), [0, 1]);
    assert_eq!(late(&aggregates[1].errors), [2, 3]);

    let (sender, receiver) = async_channel::unbounded();
    let run = stream_results(batch(0), sender)
        .source_timeout_by(|&id| millis(if id == 0 { 30 } else { 5 }));
    assert_eq!(futures::executor::block_on(run).unwrap().delivered, 2);
    assert_eq!(receiver.try_recv().unwrap().0, 1);
}

#[test]
fn panic_of_the_closure_loses_no_source() {
    let (handles, sources) = sources(3);
    let run = fetch_and_aggregate(sources, NEVER).source_timeout_by(|&id| {
        assert!(id != 1, "scripted");
        NEVER
    });
    let mut run = Task::new(run);
    assert_eq!(panic_of(|| run.poll()), "scripted");
    assert!(run.settle().is_pending());
    handles.iter().for_each(|handle| handle.answer(Ok(1)));
    assert_eq!(run.finish().unwrap().results.len(), 3);
}

/// Many sources, each with another timeout: every one is late at its own time.
#[test]
fn many_different_deadlines_come_in_order() {
    const SOURCES: usize = 2000;
    let time = |id: usize| millis((id * 7919 % 50) as u64);
    let run = fetch_and_aggregate(each(0..SOURCES, |_| pending::<Answer>()), NEVER)
        .concurrency(300)
        .source_timeout_by(|&id| time(id));
    let aggregate = futures::executor::block_on(run).unwrap();
    assert_eq!(late(&aggregate.errors).len(), SOURCES);
}

#[test]
fn it_is_refused_after_the_first_poll() {
    let mut run = fetch_and_aggregate(sources(1).1, NEVER);
    assert!(futures::FutureExt::now_or_never(&mut run).is_none());
    let text = panic_of(move || drop(run.source_timeout_by(|_| NEVER)));
    assert!(text.starts_with("an operation must be set up before"));
}

#[test]
fn closure_that_panics_leaves_the_limits_of_the_others() {
    let run = fetch_and_aggregate([(0, pending::<Answer>())], NEVER)
        .source_timeout_by(|_| millis(5))
        .source_timeout_by(|_| panic!("scripted"));
    let mut run = Task::new(run);
    assert_eq!(panic_of(|| run.poll()), "scripted");
    assert_eq!(late(&run.wait().unwrap().errors), [0]);
}

/// An observer that panics delays the first poll of a source.
#[test]
fn zero_is_one_poll_also_after_a_panic() {
    for by_id in [false, true] {
        let (handles, sources) = sources(1);
        handles[0].answer(Ok(1));
        let mut panics = true;
        let run = fetch_and_aggregate(sources, NEVER)
            .source_timeout(if by_id { NEVER } else { Duration::ZERO })
            .source_timeout_by(|_| if by_id { Duration::ZERO } else { NEVER })
            .observe(move |_| assert!(!std::mem::take(&mut panics), "scripted"));
        let mut run = Task::new(run);
        assert_eq!(panic_of(|| run.poll()), "scripted");
        assert_eq!(run.finish().unwrap().results, [(0, 1)]);
    }
}

#[test]
fn observers_and_stop_rules_leave_it_on() {
    let list = || each(0..2, |_| pending::<Result<u32, ()>>());
    let run = fetch_and_aggregate(list(), millis(2000))
        .source_timeout_by(|_| millis(5))
        .stop_when(|_| false)
        .observe(|_| {});
    let aggregate = futures::executor::block_on(run).unwrap();
    assert_eq!(aggregate.errors.len(), 2);
    let run = process_batch([list()])
        .batch_timeout(millis(2000))
        .source_timeout_by(|_| millis(5))
        .stop_when(|_| false);
    let batches = futures::executor::block_on(run).unwrap();
    assert_eq!(batches[0].as_ref().unwrap().errors.len(), 2);
}
