//! The rules that every executor has to keep, each as a function of an executor.

use std::cell::Cell;
use std::future::ready;
use std::rc::Rc;
use std::time::Instant;

use async_channel::bounded;
use futures::future::{Either, select};
use futures_aggregate::{
    Aggregate, Reason, SourceError, Timer, each, fetch_and_aggregate, for_each_result, from_stream,
    hedge, process_batch, retry, spawned, stream_results,
};

use crate::hostile;
use crate::world::{Census, LONG, SHORT, SLOW};
use crate::{Executor, ExecutorTimer, LocalExecutor};

/// Checks every rule on an executor.
pub fn conforms<X: Executor>(executor: &X) {
    let rules: [(&str, fn(&X)); 25] = [
        ("sources run concurrently", sources_run_concurrently),
        ("batches run concurrently", batches_run_concurrently),
        ("streams run concurrently", streams_run_concurrently),
        ("sources need not be Send", sources_need_not_be_send),
        (
            "sources arrive from another task",
            sources_arrive_from_another_task,
        ),
        (
            "futures are made as their sources start",
            futures_are_made_as_their_sources_start,
        ),
        (
            "a timeout keeps the results so far",
            a_timeout_keeps_the_results_so_far,
        ),
        (
            "sources that time out are errors",
            sources_that_time_out_are_errors,
        ),
        (
            "batches that time out affect no other",
            batches_that_time_out_affect_no_other,
        ),
        (
            "a cancel from another task ends the run",
            a_cancel_from_another_task_ends_the_run,
        ),
        (
            "a drain from another task lets sources finish",
            a_drain_from_another_task_lets_sources_finish,
        ),
        (
            "each source has the timeout of its id",
            each_source_has_the_timeout_of_its_id,
        ),
        (
            "outcomes come in the order of the sources",
            outcomes_come_in_the_order_of_the_sources,
        ),
        (
            "bodies run beside the sources",
            bodies_run_beside_the_sources,
        ),
        (
            "a timer of the executor ends the run",
            a_timer_of_the_executor_ends_the_run,
        ),
        ("timeouts follow the timer of the executor", |executor| {
            timeouts_follow(executor, ExecutorTimer::<X>::default)
        }),
        (
            "a dropped receiver ends the driver",
            a_dropped_receiver_ends_the_driver,
        ),
        (
            "a receiver that stops reading does not block the driver",
            a_receiver_that_stops_reading_does_not_block_the_driver,
        ),
        (
            "sources answer beside busy ones",
            hostile::sources_answer_beside_busy_ones,
        ),
        (
            "signals are seen beside busy sources",
            hostile::signals_are_seen_beside_busy_sources,
        ),
        (
            "a stalled thread loses no answer",
            hostile::a_stalled_thread_loses_no_answer,
        ),
        (
            "an observer that panics loses nothing",
            hostile::an_observer_that_panics_loses_nothing,
        ),
        (
            "sources that are tasks answer and are gone",
            sources_that_are_tasks_answer_and_are_gone,
        ),
        (
            "tasks of a run that ends early are cancelled",
            tasks_of_a_run_that_ends_early_are_cancelled,
        ),
        (
            "many runs leave no source behind",
            many_runs_leave_no_source_behind,
        ),
    ];
    for (rule, check) in rules {
        println!("{rule}");
        check(executor);
    }
}

/// Checks the rules for executors that take futures that are not `Send`.
pub fn conforms_locally<X: LocalExecutor>(executor: &X) {
    let census = Census::new();
    let list: Vec<_> = (0..4)
        .map(|id| {
            let (id, source) = census.slow::<X>(id);
            let local = Rc::new(id);
            (local.clone(), async move {
                source.await.map(|value| (value, local))
            })
        })
        .collect();
    let (sender, receiver) = bounded(1);
    let driver = stream_results(list, sender);
    executor.spawn_local(async move { assert!(driver.await.is_ok()) });
    let mut received = executor.run(async {
        let mut received = Vec::new();
        while let Ok((id, result)) = receiver.recv().await {
            assert_eq!(result.map(|(value, _)| value), Ok(*id));
            received.push(*id);
        }
        received
    });
    received.sort_unstable();
    assert_eq!(received, [0, 1, 2, 3]);
    assert_eq!(census.alive(), 0);
}

/// Checks that the work of four sources takes as long as one of them.
fn takes_as_long_as_one_source(work: impl FnOnce()) {
    let started = Instant::now();
    work();
    let elapsed = started.elapsed();
    assert!(elapsed >= SLOW && elapsed < 4 * SLOW, "took {elapsed:?}");
}

fn sources_run_concurrently<X: Executor>(executor: &X) {
    let census = Census::new();
    let list = (0..4).map(|id| census.slow::<X>(id));
    takes_as_long_as_one_source(|| {
        let aggregate = executor.run(fetch_and_aggregate(list, LONG)).unwrap();
        assert_eq!(aggregate.results.len(), 4);
    });
    assert_eq!(census.alive(), 0);
}

fn batches_run_concurrently<X: Executor>(executor: &X) {
    let census = Census::new();
    let batches = (0..2).map(|batch| [0, 1].map(|id| census.slow::<X>(2 * batch + id)));
    takes_as_long_as_one_source(|| {
        let outcomes = executor.run(process_batch(batches)).unwrap();
        for (batch, outcome) in (0..).zip(outcomes) {
            let mut results = outcome.unwrap().results;
            results.sort_unstable();
            let (first, second) = (2 * batch, 2 * batch + 1);
            assert_eq!(results, [(first, first), (second, second)]);
        }
    });
}

fn streams_run_concurrently<X: Executor>(executor: &X) {
    let census = Census::new();
    let list: Vec<_> = (0..4).map(|id| census.slow::<X>(id)).collect();
    let (sender, receiver) = bounded(1);
    takes_as_long_as_one_source(|| {
        let driver = stream_results(list, sender);
        executor.spawn(async move { assert_eq!(driver.await.unwrap().delivered, 4) });
        let mut received = executor.run(async {
            let mut received = Vec::new();
            while let Ok((id, result)) = receiver.recv().await {
                assert_eq!(result, Ok(id));
                received.push(id);
            }
            received
        });
        received.sort_unstable();
        assert_eq!(received, [0, 1, 2, 3]);
    });
}

fn sources_need_not_be_send<X: Executor>(executor: &X) {
    let census = Census::new();
    let list = || {
        (0..3).map(|id| {
            let (id, source) = census.slow::<X>(id);
            let local = Rc::new(id);
            (id, async move { source.await.map(|_| local) })
        })
    };
    let aggregate = executor.run(fetch_and_aggregate(list(), LONG)).unwrap();
    assert_eq!(aggregate.results.len(), 3);
    let outcomes = executor.run(process_batch([list(), list()])).unwrap();
    assert!(outcomes.iter().all(Result::is_ok));
    let (sender, receiver) = bounded(3);
    let streamed = executor.run(stream_results(list(), sender)).unwrap();
    assert_eq!((streamed.delivered, receiver.len()), (3, 3));
}

/// Many sources arrive at a time, so that an executor with a cooperative budget refuses some polls of the
/// stream.
fn sources_arrive_from_another_task<X: Executor>(executor: &X) {
    const COUNT: u32 = 300;
    let send_each = |census: &Census| {
        let sources: Vec<_> = (0..COUNT).map(|id| census.slow::<X>(id)).collect();
        let (send, arriving) = X::channel();
        executor.spawn(async move {
            for source in sources {
                if source.0 % 100 == 0 {
                    X::sleep(SHORT).await;
                }
                send(source);
            }
        });
        from_stream(arriving)
    };

    let census = Census::new();
    let run = fetch_and_aggregate(send_each(&census), LONG);
    let aggregate = executor.run(run).unwrap();
    assert_eq!((aggregate.results.len(), aggregate.unseen), (300, false));
    assert_eq!(census.alive(), 0);

    let census = Census::new();
    let (sender, receiver) = bounded(1);
    let driver = stream_results(send_each(&census), sender);
    executor.spawn(async move { assert_eq!(driver.await.unwrap().delivered, 300) });
    let mut received = 0;
    executor.run(async {
        while receiver.recv().await.is_ok() {
            received += 1;
        }
    });
    assert_eq!((received, census.alive()), (300, 0));

    let (send, arriving) = X::channel();
    executor.spawn(async move {
        for batch in 0..3 {
            X::sleep(SHORT).await;
            send(each(batch..batch + 2, |&id| async move {
                X::sleep(SHORT).await;
                Ok::<_, String>(id)
            }));
        }
    });
    let outcomes = executor.run(process_batch(from_stream(arriving))).unwrap();
    assert_eq!(outcomes.len(), 3);
    for (batch, outcome) in (0..).zip(outcomes) {
        let mut results = outcome.unwrap().results;
        results.sort_unstable();
        assert_eq!(results, [(batch, batch), (batch + 1, batch + 1)]);
    }

    // The channel stays open.
    let census = Census::new();
    let (send, arriving) = X::channel();
    send(census.hanging(0));
    let run = fetch_and_aggregate(from_stream(arriving), SHORT);
    let interrupted = executor.run(run).unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert_eq!(interrupted.partial.unfinished, [0]);
    assert!(interrupted.partial.unseen);
    assert_eq!(census.alive(), 0);
    drop(send);
}

fn futures_are_made_as_their_sources_start<X: Executor>(executor: &X) {
    let census = Census::new();
    let made = Cell::new(0);
    let slow = |&id: &u32| {
        made.set(made.get() + 1);
        census.slow::<X>(id).1
    };
    takes_as_long_as_one_source(|| {
        let run = fetch_and_aggregate(each(0..4, slow), LONG);
        assert_eq!(executor.run(run).unwrap().results.len(), 4);
    });
    let run = fetch_and_aggregate(each(0..4, slow), LONG)
        .concurrency(2)
        .quorum(1);
    let aggregate = executor.run(run).unwrap();
    assert_eq!(
        (aggregate.results.len(), aggregate.unfinished.len()),
        (1, 3)
    );
    assert_eq!((made.get(), census.alive()), (4 + 2, 0));
}

fn a_timeout_keeps_the_results_so_far<X: Executor>(executor: &X) {
    let census = Census::new();
    let (id, quick) = census.slow::<X>(0);
    let list = [
        (id, Either::Left(quick)),
        (1, Either::Right(census.hanging(1).1)),
    ];
    let run = fetch_and_aggregate(list, SLOW + SHORT);
    let interrupted = executor.run(run).unwrap_err();
    assert_eq!(census.alive(), 0);
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert_eq!(interrupted.partial.results, [(0, 0)]);
    assert_eq!(interrupted.partial.unfinished, [1]);
}

fn sources_that_time_out_are_errors<X: Executor>(executor: &X) {
    let census = Census::new();
    let list = (0..3).map(|id| census.hanging(id));
    let run = fetch_and_aggregate(list, LONG)
        .source_timeout(SHORT)
        .concurrency(2);
    let aggregate = executor.run(run).unwrap();
    assert_eq!(aggregate.errors.len(), 3);
    assert!(
        aggregate
            .errors
            .iter()
            .all(|(_, error)| error.is_timed_out())
    );
    assert_eq!(census.alive(), 0);
}

fn batches_that_time_out_affect_no_other<X: Executor>(executor: &X) {
    let census = Census::new();
    let (id, quick) = census.slow::<X>(0);
    let batches = [
        [(id, Either::Left(quick))],
        [(1, Either::Right(census.hanging(1).1))],
    ];
    let run = process_batch(batches).batch_timeout(SLOW + SHORT);
    let outcomes = executor.run(run).unwrap();
    assert_eq!(outcomes[0].as_ref().unwrap().results, [(0, 0)]);
    let late = outcomes[1].as_ref().unwrap_err();
    assert_eq!(late.reason, Reason::TimedOut);
    assert_eq!(late.partial.unfinished, [1]);
    assert_eq!(census.alive(), 0);
}

fn a_cancel_from_another_task_ends_the_run<X: Executor>(executor: &X) {
    let census = Census::new();
    let list = (0..3).map(|id| census.hanging(id));
    let (cancel, cancelled) = bounded::<()>(1);
    executor.spawn(async move {
        X::sleep(SHORT).await;
        drop(cancel);
    });
    let run = fetch_and_aggregate(list, LONG).cancel_on(cancelled.recv());
    let interrupted = executor.run(run).unwrap_err();
    assert_eq!(interrupted.reason, Reason::Cancelled);
    assert_eq!(interrupted.partial.unfinished, [0, 1, 2]);
    assert_eq!(census.alive(), 0);
}

fn a_drain_from_another_task_lets_sources_finish<X: Executor>(executor: &X) {
    let census = Census::new();
    let list = (0..6).map(|id| census.slow::<X>(id));
    let (drain, drained) = bounded::<()>(1);
    executor.spawn(async move {
        X::sleep(SHORT).await;
        drop(drain);
    });
    let run = fetch_and_aggregate(list, LONG)
        .concurrency(4)
        .drain_on(drained.recv());
    let interrupted = executor.run(run).unwrap_err();
    assert_eq!(interrupted.reason, Reason::Drained);
    assert_eq!(interrupted.partial.results.len(), 4);
    assert_eq!(interrupted.partial.unfinished, [4, 5]);
    assert_eq!(census.alive(), 0);
}

fn each_source_has_the_timeout_of_its_id<X: Executor>(executor: &X) {
    let census = Census::new();
    let list = (0..4).map(|id| census.slow::<X>(id));
    let run =
        fetch_and_aggregate(list, LONG).source_timeout_by(|&id| if id == 2 { SHORT } else { LONG });
    let aggregate = executor.run(run).unwrap();
    assert_eq!(aggregate.errors, [(2, SourceError::TimedOut)]);
    assert_eq!((aggregate.results.len(), census.alive()), (3, 0));
}

fn outcomes_come_in_the_order_of_the_sources<X: Executor>(executor: &X) {
    let list = (0..40_u32).map(|id| {
        let answer = async move {
            X::sleep(SHORT / (1 + id * 7 % 5)).await;
            Ok::<_, String>(id)
        };
        (id, answer)
    });
    let (sender, receiver) = bounded(2);
    let driver = stream_results(list, sender).concurrency(8).in_order();
    executor.spawn(async move { assert_eq!(driver.await.unwrap().delivered, 40) });
    let received = executor.run(async {
        let mut received = Vec::new();
        while let Ok((id, _)) = receiver.recv().await {
            received.push(id);
        }
        received
    });
    assert_eq!(received, (0..40).collect::<Vec<_>>());
}

/// Bodies and sources need the same lock. A slow body holds it while it sleeps.
fn bodies_run_beside_the_sources<X: Executor>(executor: &X) {
    let census = Census::new();
    let lock = futures::lock::Mutex::new(());
    let list = (0..8).map(|id| {
        let (id, source) = census.slow::<X>(id);
        let lock = &lock;
        let source = async move {
            drop(lock.lock().await);
            source.await
        };
        (id, source)
    });
    takes_as_long_as_one_source(|| {
        let run = for_each_result(list, async |(_id, result)| {
            let _held = lock.lock().await;
            X::sleep(SHORT / 10).await;
            result.map(drop)
        });
        let handled = executor.run(run.bodies(2)).unwrap();
        assert_eq!((handled.handled, census.alive()), (8, 0));
    });
}

fn a_timer_of_the_executor_ends_the_run<X: Executor>(executor: &X) {
    let census = Census::new();
    let list = (0..3).map(|id| census.hanging(id));
    let run = fetch_and_aggregate(list, LONG).expire_on(X::sleep(SHORT));
    let interrupted = executor.run(run).unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert_eq!(census.alive(), 0);
}

/// Checks the timeouts of all operations with a timer, which need not be `Send`.
pub fn timeouts_follow<X: Executor, Z: Timer>(executor: &X, timer: impl Fn() -> Z) {
    let census = Census::new();
    let list = || {
        let quick = census.counted(async {
            X::sleep(SHORT / 2).await;
            Ok(0)
        });
        vec![
            (0, Either::Left(quick)),
            (1, Either::Right(census.hanging(1).1)),
        ]
    };
    let began = Instant::now();
    let run = fetch_and_aggregate(list(), SLOW).timer(timer());
    let partial = executor.run(run).unwrap_err().partial;
    assert_eq!(
        (partial.results, partial.unfinished),
        (vec![(0, 0)], vec![1])
    );

    let run = fetch_and_aggregate(list(), LONG)
        .source_timeout(SLOW)
        .timer(timer());
    let aggregate = executor.run(run).unwrap();
    assert_eq!(aggregate.results, [(0, 0)]);
    assert_eq!(aggregate.errors, [(1, SourceError::TimedOut)]);

    let run = process_batch([list(), list()])
        .batch_timeout(SLOW)
        .timer(timer());
    for batch in executor.run(run).unwrap() {
        let interrupted = batch.unwrap_err();
        assert_eq!(interrupted.reason, Reason::TimedOut);
        assert_eq!(interrupted.partial.results, [(0, 0)]);
    }

    let (sender, _receiver) = bounded(2);
    let run = stream_results(list(), sender).timeout(SLOW).timer(timer());
    assert_eq!(executor.run(run).unwrap_err().partial.delivered, 1);

    let body = async |_outcome| {
        X::sleep(SHORT).await;
        Ok::<_, String>(())
    };
    let deadline = timer().now() + SLOW;
    let run = for_each_result(list(), body)
        .deadline(deadline)
        .timer(timer());
    assert_eq!(executor.run(run).unwrap_err().partial.handled, 1);

    let run = fetch_and_aggregate(list(), LONG)
        .drain_on(ready(()))
        .drain_timeout(SLOW)
        .timer(timer());
    assert_eq!(executor.run(run).unwrap_err().reason, Reason::Drained);

    let ask = |attempt: usize| {
        let mut list = list();
        list.remove(1 - attempt).1
    };
    let answer = executor.run(hedge(SHORT, 2, ask).timer(timer()));
    assert_eq!(answer, Ok(0));
    let busy = retry(SHORT, 3, |attempt| {
        ready(if attempt.number < 2 {
            Err("busy")
        } else {
            Ok(attempt.number)
        })
    });
    assert_eq!(executor.run(busy.timer(timer())), Ok(2));
    assert!(began.elapsed() < LONG);
    assert_eq!(census.alive(), 0);
}

fn a_dropped_receiver_ends_the_driver<X: Executor>(executor: &X) {
    let census = Census::new();
    let list: Vec<_> = (0..3).map(|id| census.hanging(id)).collect();
    let (sender, receiver) = bounded(1);
    let driver = stream_results(list, sender);
    let (report, summary) = bounded(1);
    executor.spawn(async move {
        let _ = report.send(driver.await).await;
    });
    let summary = executor.run(async {
        // The driver usually starts in this time. It may also start later.
        X::sleep(SHORT).await;
        drop(receiver);
        census.all_gone().await;
        summary.recv().await.unwrap()
    });
    let interrupted = summary.unwrap_err();
    assert_eq!(interrupted.reason, Reason::ReceiverClosed);
    assert_eq!(interrupted.partial.unfinished, [0, 1, 2]);
}

fn a_receiver_that_stops_reading_does_not_block_the_driver<X: Executor>(executor: &X) {
    let census = Census::new();
    let list: Vec<_> = (0..3).map(|id| census.slow::<X>(id)).collect();
    let (sender, receiver) = bounded(1);
    let driver = stream_results(list, sender).timeout(2 * SLOW);
    let (report, summary) = bounded(1);
    executor.spawn(async move {
        let _ = report.send(driver.await).await;
    });
    let summary = executor.run(async {
        census.all_gone().await;
        summary.recv().await.unwrap()
    });
    let interrupted = summary.unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert_eq!(interrupted.partial.delivered, 1);
    assert_eq!(interrupted.partial.undelivered.len(), 2);
    assert!(interrupted.partial.unfinished.is_empty());
    assert!(receiver.try_recv().is_ok() && receiver.is_closed());
}

fn sources_that_are_tasks_answer_and_are_gone<X: Executor>(executor: &X) {
    let census = Census::new();
    let list: Vec<_> = (0..4).map(|id| census.slow::<X>(id)).collect();
    let broken = async { panic!("this source breaks") };
    let broken = (4, census.counted(broken));
    let sources = spawned(list, |task| executor.spawn(task));
    let tasks = sources.tasks();
    takes_as_long_as_one_source(|| {
        let run = fetch_and_aggregate(sources, LONG).in_order();
        let aggregate = executor.run(run).unwrap();
        assert_eq!(tasks.alive(), 0);
        assert_eq!(aggregate.results, [(0, 0), (1, 1), (2, 2), (3, 3)]);
    });
    let sources = spawned([broken], |task| executor.spawn(task));
    let run = fetch_and_aggregate(sources, LONG).catch_panics();
    let aggregate: Aggregate<u32, u32, String> = executor.run(run).unwrap();
    let error = SourceError::Panicked("this source breaks".to_owned());
    assert_eq!(aggregate.errors, [(4, error)]);
    assert_eq!(census.alive(), 0);
}

fn tasks_of_a_run_that_ends_early_are_cancelled<X: Executor>(executor: &X) {
    let census = Census::new();
    for limit in [1, 3, usize::MAX] {
        let list = [0, 1, 2].map(|id| {
            let never = std::future::pending::<Result<(), String>>();
            (id, census.counted(never))
        });
        let sources = spawned(list, |task| executor.spawn(task));
        let tasks = sources.tasks();
        let run = fetch_and_aggregate(sources, SHORT).concurrency(limit);
        let interrupted = executor.run(run).unwrap_err();
        assert_eq!(interrupted.reason, Reason::TimedOut);
        assert_eq!(interrupted.partial.unfinished, [0, 1, 2]);
        executor.run(tasks.gone());
        assert_eq!((tasks.alive(), census.alive()), (0, 0));
    }
}

fn many_runs_leave_no_source_behind<X: Executor>(executor: &X) {
    let census = Census::new();
    executor.run(async {
        for round in 0..60 {
            let list: Vec<_> = (0..5).map(|id| census.hanging(id)).collect();
            let timeout = SHORT / 30;
            match round % 5 {
                0 => drop(fetch_and_aggregate(list, timeout).await),
                1 => drop(process_batch([list]).batch_timeout(timeout).await),
                2 => {
                    let (sender, _receiver) = bounded::<(u32, Result<u32, SourceError<String>>)>(1);
                    executor.spawn(async move {
                        drop(stream_results(list, sender).timeout(timeout).await);
                    });
                }
                3 => {
                    let run = fetch_and_aggregate(list, LONG).cancel_on(X::sleep(timeout));
                    assert_eq!(run.await.unwrap_err().reason, Reason::Cancelled);
                }
                _ => {
                    // A timer completes before the run, so the run is dropped.
                    let run = Box::pin(fetch_and_aggregate(list, LONG));
                    drop(select(run, Box::pin(X::sleep(timeout))).await);
                }
            }
        }
        census.all_gone().await;
    });
}
