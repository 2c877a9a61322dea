//! Policies: rules about outcomes that end a run before every source has answered.

mod common;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use common::{NEVER, Source, Task, alive, polls, ready, source, sources};
use futures_aggregate::{
    BatchOutcome, Batches, Reason, SourceError, fetch_and_aggregate, process_batch,
};

#[test]
fn failures_do_not_end_a_run_without_a_policy() {
    let list = [
        (0, ready(Err("a"))),
        (1, ready(Ok(1))),
        (2, ready(Err("b"))),
    ];
    let aggregate = Task::new(fetch_and_aggregate(list, NEVER))
        .finish()
        .unwrap();
    assert_eq!((aggregate.results.len(), aggregate.errors.len()), (1, 2));
}

#[test]
fn fail_fast_ends_the_run_at_the_first_error() {
    let (handles, list) = sources(4);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).fail_fast());
    handles[0].answer(Ok(0));
    assert!(task.settle().is_pending());
    handles[2].answer(Err("refused"));
    let interrupted = task.finish().unwrap_err();
    assert_eq!(alive(&handles), 0);
    assert_eq!(interrupted.reason, Reason::SourceFailed);
    assert_eq!(interrupted.partial.results, [(0, 0)]);
    assert_eq!(
        interrupted.partial.errors,
        [(2, SourceError::Failed("refused"))]
    );
    assert_eq!(interrupted.partial.unfinished, [1, 3]);
}

#[test]
fn fail_fast_polls_and_starts_no_source_after_the_error() {
    let (handles, list) = sources(3);
    handles[0].answer(Err("refused"));
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).fail_fast());
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::SourceFailed);
    assert_eq!(interrupted.partial.unfinished, [1, 2]);
    assert_eq!(polls(&handles), [1, 0, 0]);
}

#[test]
fn fail_fast_counts_the_error_of_the_last_source() {
    let run = fetch_and_aggregate([(0, ready(Ok(1))), (1, ready(Err("late")))], NEVER).fail_fast();
    let interrupted = Task::new(run).finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::SourceFailed);
    assert_eq!(interrupted.partial.results, [(0, 1)]);
    assert!(interrupted.partial.unfinished.is_empty());
}

#[test]
fn fail_fast_counts_timeouts_and_panics_as_failures() {
    let (_, list) = sources(2);
    let run = fetch_and_aggregate(list, NEVER)
        .fail_fast()
        .source_timeout(Duration::ZERO);
    let interrupted = Task::new(run).finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::SourceFailed);
    assert_eq!(interrupted.partial.errors, [(0, SourceError::TimedOut)]);
    assert_eq!(interrupted.partial.unfinished, [1]);

    let (handles, list) = sources(2);
    handles[1].on_poll(|_| panic!("source 1"));
    let run = fetch_and_aggregate(list, NEVER).fail_fast().catch_panics();
    let interrupted = Task::new(run).finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::SourceFailed);
    assert_eq!(interrupted.partial.unfinished, [0]);
}

#[test]
fn run_that_failed_by_a_panic_ends_in_the_next_poll() {
    let (handles, list) = sources(2);
    handles[0].on_poll(|_| panic!("source 0"));
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).fail_fast());
    assert!(catch_unwind(AssertUnwindSafe(|| task.settle().is_ready())).is_err());
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::SourceFailed);
    assert!(interrupted.partial.errors[0].1.is_panicked());
    assert_eq!(interrupted.partial.unfinished, [1]);
    assert_eq!(handles[1].polls(), 0);
}

#[test]
fn quorum_ends_the_run_with_its_last_success_and_keeps_the_errors_before() {
    let (handles, list) = sources(5);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).quorum(2));
    handles[3].answer(Ok(30));
    handles[1].answer(Err("refused"));
    assert!(task.settle().is_pending());
    handles[4].answer(Ok(40));
    let aggregate = task.finish().unwrap();
    assert_eq!(alive(&handles), 0);
    assert_eq!(aggregate.results, [(3, 30), (4, 40)]);
    assert_eq!(aggregate.errors, [(1, SourceError::Failed("refused"))]);
    assert_eq!(aggregate.unfinished, [0, 2]);
}

#[test]
fn quorum_of_one_is_the_first_success() {
    let list = [
        (0, ready(Err("refused"))),
        (1, ready(Ok(10))),
        (2, ready(Ok(20))),
    ];
    let run = fetch_and_aggregate(list, NEVER).quorum(1);
    let aggregate = Task::new(run).finish().unwrap();
    assert_eq!(aggregate.results, [(1, 10)]);
    assert_eq!(aggregate.errors.len(), 1);
    assert_eq!(aggregate.unfinished, [2]);
}

#[test]
fn unreachable_quorum_ends_the_run() {
    let (handles, list) = sources(4);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).quorum(3));
    handles[0].answer(Err("a"));
    assert!(task.settle().is_pending());
    handles[1].answer(Err("b"));
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::QuorumUnreachable);
    assert_eq!(interrupted.partial.unfinished, [2, 3]);
    assert_eq!(alive(&handles), 0);
}

#[test]
fn quorum_larger_than_the_number_of_sources_is_unreachable_before_any_is_polled() {
    let (handles, list) = sources(2);
    let interrupted = Task::new(fetch_and_aggregate(list, NEVER).quorum(3))
        .finish()
        .unwrap_err();
    assert_eq!(interrupted.reason, Reason::QuorumUnreachable);
    assert_eq!(interrupted.partial.unfinished, [0, 1]);
    assert_eq!(polls(&handles), [0, 0]);

    let none = Vec::<(u8, Source)>::new();
    let run = fetch_and_aggregate(none, NEVER).quorum(1);
    let interrupted = Task::new(run).finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::QuorumUnreachable);
}

#[test]
fn quorum_over_an_unknown_number_of_sources_is_unreachable_at_the_end_of_the_iterator() {
    let (handles, list) = sources(3);
    let mut list = list.into_iter();
    let unknown = std::iter::from_fn(|| list.next());
    let mut task = Task::new(fetch_and_aggregate(unknown, NEVER).quorum(4).concurrency(2));
    assert!(task.settle().is_pending());
    handles[0].answer(Ok(0));
    // Source 2 starts. The iterator is pulled again when there is room for another source, and then it
    // ends.
    assert!(task.settle().is_pending());
    handles[1].answer(Ok(1));
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::QuorumUnreachable);
    assert_eq!(interrupted.partial.results.len(), 2);
    assert_eq!(interrupted.partial.unfinished, [2]);
}

#[test]
fn stop_rule_is_called_after_each_outcome_until_it_returns_true() {
    let (handles, list) = sources(4);
    let mut seen = Vec::new();
    let run = fetch_and_aggregate(list, NEVER).stop_when(|so_far| {
        seen.push((so_far.results.len(), so_far.errors.len()));
        so_far.results.len() + so_far.errors.len() == 3
    });
    let mut task = Task::new(run);
    handles[0].answer(Ok(0));
    handles[1].answer(Err("refused"));
    assert!(task.settle().is_pending());
    assert!(task.poll().is_pending());
    handles[2].answer(Ok(2));
    let aggregate = task.finish().unwrap();
    assert_eq!(aggregate.unfinished, [3]);
    drop(task);
    assert_eq!(seen, [(1, 0), (1, 1), (2, 1)]);
    assert_eq!(alive(&handles), 0);
}

#[test]
fn any_of_several_stop_rules_is_enough() {
    for limits in [(1, 9), (9, 1)] {
        let list = (0..3).map(|id| (id, ready(Ok(id))));
        let run = fetch_and_aggregate(list, NEVER)
            .stop_when(|so_far| so_far.results.len() == limits.0)
            .stop_when(|so_far| so_far.results.len() == limits.1);
        assert_eq!(Task::new(run).finish().unwrap().results.len(), 1);
    }
}

#[test]
fn stop_rule_that_panics_unwinds_and_loses_nothing() {
    let list = (0..3).map(|id| (id, ready(Ok(id))));
    let run = fetch_and_aggregate(list, NEVER).stop_when(|so_far| {
        assert!(so_far.results.len() != 2, "two");
        false
    });
    let mut task = Task::new(run);
    assert!(catch_unwind(AssertUnwindSafe(|| task.settle().is_ready())).is_err());
    assert_eq!(task.finish().unwrap().results, [(0, 0), (1, 1), (2, 2)]);
}

/// Drives a run in which source 0 answers in the same poll in which the deadline passes.
fn at_the_deadline<R>(
    answer: common::Answer,
    run: impl FnOnce(Vec<(usize, Source)>, Source) -> R,
) -> R::Output
where
    R: Future,
{
    let (handles, list) = sources(2);
    let (deadline, timer) = source();
    let mut task = Task::new(run(list, timer));
    assert!(task.settle().is_pending());
    deadline.answer(Ok(0));
    handles[0].answer(answer);
    task.finish()
}

#[test]
fn outcome_that_decides_beats_a_deadline_in_the_same_poll() {
    let quorum = at_the_deadline(Ok(1), |list, timer| {
        fetch_and_aggregate(list, NEVER).quorum(1).expire_on(timer)
    });
    assert_eq!(quorum.unwrap().results, [(0, 1)]);

    let rule = at_the_deadline(Ok(1), |list, timer| {
        fetch_and_aggregate(list, NEVER)
            .stop_when(|so_far| !so_far.results.is_empty())
            .expire_on(timer)
    });
    assert_eq!(rule.unwrap().results, [(0, 1)]);

    let fail_fast = at_the_deadline(Err("refused"), |list, timer| {
        fetch_and_aggregate(list, NEVER)
            .fail_fast()
            .expire_on(timer)
    });
    assert_eq!(fail_fast.unwrap_err().reason, Reason::SourceFailed);

    let unreachable = at_the_deadline(Err("refused"), |list, timer| {
        fetch_and_aggregate(list, NEVER).quorum(2).expire_on(timer)
    });
    assert_eq!(unreachable.unwrap_err().reason, Reason::QuorumUnreachable);

    let undecided = at_the_deadline(Ok(1), |list, timer| {
        fetch_and_aggregate(list, NEVER).quorum(2).expire_on(timer)
    });
    assert_eq!(undecided.unwrap_err().reason, Reason::TimedOut);
}

#[test]
fn outcome_of_the_last_poll_after_the_deadline_can_decide() {
    // Source 0 is woken after the sweep in the poll of the deadline has passed it.
    for (answer, quorum, reason) in [
        (Ok(1), 1, None),
        (Err("refused"), 2, Some(Reason::QuorumUnreachable)),
        (Ok(1), 2, Some(Reason::TimedOut)),
    ] {
        let (handles, list) = sources(2);
        let (deadline, timer) = source();
        let run = fetch_and_aggregate(list, NEVER)
            .quorum(quorum)
            .expire_on(timer);
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        let first = handles[0].clone();
        handles[1].on_poll(move |_| first.answer(answer));
        handles[1].wake();
        deadline.answer(Ok(0));
        let ended = task.finish();
        assert_eq!(ended.err().map(|interrupted| interrupted.reason), reason);
    }
}

#[test]
fn cancel_beats_an_outcome_that_would_decide_in_the_same_poll() {
    let (handles, list) = sources(2);
    let (cancel, signal) = source();
    let run = fetch_and_aggregate(list, NEVER).quorum(1).cancel_on(signal);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    handles[0].answer(Ok(1));
    cancel.answer(Ok(0));
    assert_eq!(task.finish().unwrap_err().reason, Reason::Cancelled);
}

#[test]
fn last_outcome_can_reach_the_quorum() {
    let list = (0..3).map(|id| (id, ready(Ok(id))));
    let run = fetch_and_aggregate(list, NEVER).quorum(3);
    let aggregate = Task::new(run).finish().unwrap();
    assert_eq!(aggregate.results.len(), 3);
    assert!(aggregate.unfinished.is_empty());
}

#[test]
fn sources_that_were_never_started_are_named_when_the_quorum_is_reached() {
    let (handles, mut list) = sources(3);
    list.insert(0, (9, ready(Ok(90))));
    let run = fetch_and_aggregate(list, NEVER).quorum(1).concurrency(1);
    let aggregate = Task::new(run).finish().unwrap();
    assert_eq!(aggregate.results, [(9, 90)]);
    assert_eq!(aggregate.unfinished, [0, 1, 2]);
    assert_eq!(polls(&handles), [0, 0, 0]);
}

/// The reason of each batch. Panics if one is complete.
fn reasons<K, T, E>(batches: &Batches<K, T, E>) -> Vec<Reason> {
    let reason = |batch: &BatchOutcome<K, T, E>| match batch {
        Ok(_) => panic!("the batch is complete"),
        Err(interrupted) => interrupted.reason,
    };
    batches.iter().map(reason).collect()
}

#[test]
fn fail_fast_of_batches_ends_the_run_when_a_batch_is_interrupted() {
    let (handles, mut list) = sources(4);
    let second = list.split_off(2);
    let run = process_batch([list, second]).batch_fail_fast().fail_fast();
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    handles[3].answer(Err("refused"));
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::SourceFailed);
    let [first, second] = &interrupted.partial[..] else {
        panic!("one outcome for each batch");
    };
    let (first, second) = (first.as_ref().unwrap_err(), second.as_ref().unwrap_err());
    assert_eq!(first.partial.unfinished, [0, 1]);
    assert_eq!(second.reason, Reason::SourceFailed);
    assert_eq!(second.partial.unfinished, [2]);
    assert_eq!(alive(&handles), 0);
}

#[test]
fn batch_that_times_out_has_failed() {
    let (_, mut list) = sources(2);
    let second = list.split_off(1);
    let run = process_batch([list, second])
        .batch_timeout(Duration::ZERO)
        .fail_fast();
    let interrupted = Task::new(run).finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::SourceFailed);
    let reasons = reasons(&interrupted.partial);
    assert_eq!(reasons, [Reason::TimedOut, Reason::SourceFailed]);
}

#[test]
fn batch_that_fails_in_the_last_poll_after_the_deadline_decides() {
    let (handles, mut list) = sources(2);
    let second = list.split_off(1);
    let (deadline, timer) = source();
    let run = process_batch([list, second])
        .batch_fail_fast()
        .fail_fast()
        .expire_on(timer);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    // Source 0 is woken after the sweep in the poll of the deadline has passed it.
    let first = handles[0].clone();
    handles[1].on_poll(move |_| first.answer(Err("refused")));
    handles[1].wake();
    deadline.answer(Ok(0));
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::SourceFailed);
    assert_eq!(
        interrupted.partial[0].as_ref().unwrap_err().reason,
        Reason::SourceFailed
    );
}

#[test]
fn errors_in_a_batch_do_not_fail_the_batch() {
    let batches = [[(0, ready(Err("refused")))], [(1, ready(Ok(1)))]];
    let outcomes = Task::new(process_batch(batches).fail_fast())
        .finish()
        .unwrap();
    assert!(outcomes.iter().all(Result::is_ok));
}

#[test]
fn batch_that_fails_fast_does_not_affect_the_others() {
    let (handles, mut list) = sources(3);
    let second = list.split_off(2);
    let mut task = Task::new(process_batch([list, second]).batch_fail_fast());
    handles[0].answer(Err("refused"));
    assert!(task.settle().is_pending());
    handles[2].answer(Ok(20));
    let outcomes = task.finish().unwrap();
    let failed = outcomes[0].as_ref().unwrap_err();
    assert_eq!(failed.reason, Reason::SourceFailed);
    assert_eq!(failed.partial.unfinished, [1]);
    assert_eq!(outcomes[1].as_ref().unwrap().results, [(2, 20)]);
}

#[test]
fn quorum_of_batches_ends_the_run() {
    let (handles, list) = sources(3);
    let batches = list.into_iter().map(|one| [one]);
    let mut task = Task::new(process_batch(batches).quorum(2));
    handles[2].answer(Ok(20));
    assert!(task.settle().is_pending());
    handles[0].answer(Ok(0));
    let outcomes = task.finish().unwrap();
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    let stopped = outcomes[1].as_ref().unwrap_err();
    assert_eq!(stopped.reason, Reason::NotNeeded);
    assert_eq!(stopped.partial.unfinished, [1]);
    assert_eq!(alive(&handles), 0);
}

#[test]
fn unreachable_quorum_of_batches_ends_the_run() {
    let (handles, list) = sources(3);
    let batches = list.into_iter().map(|one| [one]);
    let mut task = Task::new(process_batch(batches).batch_quorum(1).quorum(2));
    handles[0].answer(Err("a"));
    assert!(task.settle().is_pending());
    handles[1].answer(Err("b"));
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::QuorumUnreachable);
    let reasons = reasons(&interrupted.partial);
    assert_eq!(reasons, [Reason::QuorumUnreachable; 3]);
}

#[test]
fn stop_rule_sees_finished_batches_at_their_positions() {
    let (handles, list) = sources(3);
    let batches = list.into_iter().map(|one| [one]);
    let run = process_batch(batches)
        .stop_when(|so_far| so_far.get(2).is_some_and(Option::is_some) && so_far[0].is_none());
    let mut task = Task::new(run);
    handles[1].answer(Ok(10));
    assert!(task.settle().is_pending());
    handles[2].answer(Ok(20));
    let outcomes = task.finish().unwrap();
    assert_eq!(outcomes[0].as_ref().unwrap_err().reason, Reason::NotNeeded);
    assert!(outcomes[1].is_ok() && outcomes[2].is_ok());
}

#[test]
fn deadline_of_the_run_does_not_count_as_a_failure_of_its_batches() {
    type Run = futures_aggregate::Batches<usize, u32, &'static str>;
    fn ends(result: Result<Run, futures_aggregate::Interrupted<Run>>) {
        let interrupted = result.unwrap_err();
        assert_eq!(interrupted.reason, Reason::TimedOut);
        // The second batch has its results, although the first one was stopped before it.
        let late = interrupted.partial[1].as_ref().unwrap_err();
        assert_eq!(late.partial.results.len(), 999);
        assert_eq!(reasons(&interrupted.partial), [Reason::TimedOut; 2]);
    }
    for policy in ["fail_fast", "quorum", "stop_when"] {
        let (handles, mut list) = sources(1001);
        let second = list.split_off(1);
        let (deadline, timer) = source();
        let run = process_batch([list, second]).expire_on(timer);
        let finish = || {
            deadline.answer(Ok(0));
            handles[2..].iter().for_each(|handle| handle.answer(Ok(1)));
        };
        match policy {
            "fail_fast" => {
                let mut task = Task::new(run.fail_fast());
                assert!(task.settle().is_pending());
                finish();
                ends(task.finish());
            }
            "quorum" => {
                let mut task = Task::new(run.quorum(2));
                assert!(task.settle().is_pending());
                finish();
                ends(task.finish());
            }
            _ => {
                let any = |so_far: &[Option<_>]| so_far.iter().any(Option::is_some);
                let mut task = Task::new(run.stop_when(any));
                assert!(task.settle().is_pending());
                finish();
                ends(task.finish());
            }
        }
    }
}

#[test]
fn panic_in_the_last_poll_after_the_deadline_decides() {
    for pending in [0, 1] {
        let (handles, list) = sources(2 + pending);
        let (deadline, timer) = source();
        let run = fetch_and_aggregate(list, NEVER)
            .fail_fast()
            .catch_panics()
            .expire_on(timer);
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        // Source 0 is woken after the sweep in the poll of the deadline has passed it, and panics.
        let first = handles[0].clone();
        handles[0].on_poll(|_| panic!("late"));
        handles[1].on_poll(move |_| first.wake());
        handles[1].answer(Ok(1));
        deadline.answer(Ok(0));
        let interrupted = task.finish().unwrap_err();
        assert_eq!(interrupted.reason, Reason::SourceFailed);
        assert_eq!(interrupted.partial.errors.len(), 1);
        assert_eq!(interrupted.partial.unfinished.len(), pending);
    }
}

#[test]
fn batch_that_panics_at_its_end_keeps_its_outcome() {
    for cancelled in [true, false] {
        let (handles, list) = sources(2);
        let (cancel, signal) = source();
        handles[1].on_drop(|| panic!("loser"));
        let run = process_batch([list])
            .batch_quorum(1)
            .batch_timeout(NEVER)
            .cancel_on(signal);
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        handles[0].answer(Ok(1));
        assert!(catch_unwind(AssertUnwindSafe(|| task.settle().is_ready())).is_err());
        let outcomes = if cancelled {
            cancel.answer(Ok(0));
            task.finish().unwrap_err().partial
        } else {
            assert!(task.is_woken());
            task.finish().unwrap()
        };
        assert_eq!(outcomes[0].as_ref().unwrap().results, [(0, 1)]);
    }
}

#[test]
fn last_outcome_after_the_deadline_completes_a_run_that_was_at_its_limit() {
    for limit in [1, 2] {
        let (handles, list) = sources(1);
        let (deadline, timer) = source();
        let run = fetch_and_aggregate(list, NEVER)
            .concurrency(limit)
            .expire_on(timer);
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        // The source answers in its last poll.
        let own = handles[0].clone();
        let mut woken = false;
        handles[0].on_poll(move |_| {
            if !std::mem::replace(&mut woken, true) {
                own.answer_next(Ok(1));
            }
        });
        handles[0].wake();
        deadline.answer(Ok(0));
        assert_eq!(task.finish().unwrap().results, [(0, 1)]);
    }
}

#[test]
fn failure_that_unwound_decides_before_a_later_cancel() {
    let (handles, list) = sources(2);
    let (cancel, signal) = source();
    handles[0].on_poll(|_| panic!("first"));
    let run = fetch_and_aggregate(list, NEVER)
        .fail_fast()
        .cancel_on(signal);
    let mut task = Task::new(run);
    assert!(catch_unwind(AssertUnwindSafe(|| task.settle().is_ready())).is_err());
    cancel.answer(Ok(0));
    assert_eq!(task.finish().unwrap_err().reason, Reason::SourceFailed);
}

/// The panic message of a setter that is called after the first poll. There is none for a driver of
/// `stream_results`, which cannot be moved after its first poll.
fn refusal<F: Future + Unpin, R>(mut run: F, set: impl FnOnce(F) -> R) -> String {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(std::pin::Pin::new(&mut run).poll(&mut cx).is_pending());
    common::panic_of(|| set(run))
}

#[test]
fn every_setter_panics_after_the_first_poll() {
    let signal = || std::future::pending::<()>();
    macro_rules! refused {
        ($run:expr, $($set:ident($($argument:expr),*)),*) => {
            $({
                let refusal = refusal($run, |run| run.$set($($argument),*));
                let expected = "an operation must be set up before it is polled for the first time";
                assert_eq!(refusal, expected, stringify!($set));
            })*
        };
    }
    refused!(
        fetch_and_aggregate(sources(1).1, NEVER),
        concurrency(1),
        source_timeout(NEVER),
        cancel_on(signal()),
        expire_on(signal()),
        fail_fast(),
        quorum(1),
        stop_when(|_| true),
        catch_panics(),
        observe(|_| ())
    );
    refused!(
        process_batch([sources(1).1]),
        concurrency(1),
        source_concurrency(1),
        timeout(NEVER),
        batch_timeout(NEVER),
        source_timeout(NEVER),
        cancel_on(signal()),
        expire_on(signal()),
        fail_fast(),
        quorum(1),
        batch_fail_fast(),
        batch_quorum(1),
        stop_when(|_| true),
        catch_panics(),
        observe(|_| ())
    );
}
