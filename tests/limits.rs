//! A limit that runs share: how many sources are in flight, who comes next, and that no place is lost.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{pending, ready};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{Handle, NEVER, Task, alive, ids, panic_of, sources};
use futures::executor::block_on;
use futures::future::FutureExt;
use futures_aggregate::{
    Attempt, Limit, Reason, TestTimer, Timer, each, fetch_and_aggregate, for_each_result,
    from_stream, process_batch, retry, stream_results,
};

type Run = std::pin::Pin<Box<dyn Future<Output = Vec<usize>>>>;

/// A run under a limit, which resolves to the ids with results, and its sources.
fn run_under(limit: &Limit, count: usize) -> (Vec<Handle>, Task<Run>) {
    let (handles, sources) = sources(count);
    let run = fetch_and_aggregate(sources, NEVER).concurrency(limit);
    let run: Run = Box::pin(run.map(|aggregate| ids(&aggregate.unwrap().results)));
    (handles, Task::new(run))
}

fn started(handles: &[Handle]) -> usize {
    handles.iter().filter(|handle| handle.polls() > 0).count()
}

#[test]
fn runs_share_the_limit() {
    let limit = Limit::new(3);
    let (first, mut first_run) = run_under(&limit, 5);
    let (second, mut second_run) = run_under(&limit, 5);
    assert!(first_run.settle().is_pending());
    assert!(second_run.settle().is_pending());
    assert_eq!((started(&first), started(&second)), (3, 0));
    assert_eq!(limit.in_use(), 3);
    // A place that becomes free goes to the run that has waited longest.
    for (answered, expected) in [(0, (4, 0)), (1, (4, 1))] {
        first[answered].answer(Ok(1));
        assert!(first_run.settle().is_pending());
        assert_eq!(second_run.is_woken(), expected.1 > 0);
        assert!(second_run.settle().is_pending());
        assert_eq!((started(&first), started(&second)), expected);
    }
    for handle in first.iter().chain(&second) {
        handle.answer(Ok(1));
    }
    while limit.in_use() > 0 {
        for run in [&mut first_run, &mut second_run] {
            if run.is_woken() {
                let _ = run.poll();
            }
        }
    }
    assert_eq!((started(&first), started(&second)), (5, 5));
}

#[test]
fn runs_that_wait_come_in_the_order_in_which_they_began_to_wait() {
    let limit = Limit::new(1);
    let mut runs: Vec<_> = (0..4).map(|_| run_under(&limit, 3)).collect();
    for (_, run) in &mut runs {
        assert!(run.settle().is_pending());
    }
    let mut order = Vec::new();
    for _ in 0..12 {
        let current = |(handles, _): &(Vec<Handle>, _)| {
            handles
                .iter()
                .any(|it: &Handle| it.polls() > 0 && it.is_alive())
        };
        let at = runs.iter().position(current).unwrap();
        order.push(at);
        let (handles, _) = &runs[at];
        let source = handles.iter().find(|it| it.polls() > 0 && it.is_alive());
        source.unwrap().answer(Ok(1));
        // All tasks are polled in the same order, so it is the limit that decides.
        for _ in 0..2 {
            for (_, run) in &mut runs {
                if run.is_woken() {
                    let _ = run.settle();
                }
            }
        }
    }
    // The first run has waited for its second source before the others waited.
    assert_eq!(order, [0, 0, 1, 2, 3, 0, 1, 2, 3, 1, 2, 3]);
    assert_eq!(limit.in_use(), 0);
}

#[test]
fn limit_can_be_changed_while_runs_go_on() {
    let limit = Limit::new(1);
    let (handles, mut run) = run_under(&limit, 10);
    assert!(run.settle().is_pending());
    assert_eq!(started(&handles), 1);
    limit.set(4);
    assert!(run.is_woken());
    assert!(run.settle().is_pending());
    assert_eq!((started(&handles), limit.in_use()), (4, 4));
    limit.set(2);
    assert!(run.settle().is_pending());
    assert_eq!(alive(&handles), 10, "nothing is stopped");
    for (answered, expected) in [(0, 4), (1, 4), (2, 5), (3, 6)] {
        handles[answered].answer(Ok(1));
        assert!(run.settle().is_pending());
        assert_eq!(started(&handles), expected);
    }
    assert_eq!((limit.get(), limit.in_use()), (2, 2));
}

#[test]
fn all_operations_keep_the_limit_and_give_all_places_back() {
    let limit = Limit::new(3);
    let most = Cell::new(0);
    let list = || {
        each(0..20, |_| async {
            assert!(limit.in_use() <= 3);
            most.set(most.get().max(limit.in_use()));
            common::script::yield_now().await;
            Ok::<_, ()>(())
        })
    };
    let aggregate = fetch_and_aggregate(list(), NEVER).concurrency(&limit);
    assert_eq!(block_on(aggregate).unwrap().results.len(), 20);
    let batches = process_batch([list(), list()]).source_concurrency(&limit);
    for batch in block_on(batches).unwrap() {
        assert_eq!(batch.unwrap().results.len(), 20);
    }
    let (sender, receiver) = async_channel::unbounded();
    let streamed = block_on(stream_results(list(), sender).concurrency(&limit));
    assert_eq!((streamed.unwrap().delivered, receiver.len()), (20, 20));
    let run = for_each_result(list(), |_| ready(Ok::<_, ()>(()))).concurrency(&limit);
    assert_eq!(block_on(run).unwrap().handled, 20);
    let stream = futures::stream::iter((0..20).map(|id| (id, ready(Ok::<_, ()>(id)))));
    let run = fetch_and_aggregate(from_stream(stream), NEVER).concurrency(&limit);
    assert_eq!(block_on(run).unwrap().results.len(), 20);
    assert_eq!((most.get(), limit.in_use()), (3, 0));
}

#[test]
fn number_and_several_limits_apply_together() {
    let (wide, narrow) = (Limit::new(5), Limit::new(3));
    for (numbers, expected) in [(None, 3), (Some([4, 9]), 3), (Some([9, 2]), 2)] {
        let (handles, sources) = sources(10);
        let mut run = fetch_and_aggregate(sources, NEVER)
            .concurrency(&wide)
            .concurrency(&narrow);
        for number in numbers.into_iter().flatten() {
            run = run.concurrency(number);
        }
        let mut run = Task::new(run);
        assert!(run.settle().is_pending());
        assert_eq!(started(&handles), expected);
        assert_eq!((wide.in_use(), narrow.in_use()), (expected, expected));
        run.drop_future();
        assert_eq!((wide.in_use(), narrow.in_use()), (0, 0));
    }
}

#[test]
fn run_that_waits_for_one_limit_holds_no_place_of_another() {
    let (first, second) = (Limit::new(1), Limit::new(1));
    let (_, mut holder) = run_under(&second, 1);
    assert!(holder.settle().is_pending());
    let (handles, list) = sources(1);
    let both = fetch_and_aggregate(list, NEVER)
        .concurrency(&first)
        .concurrency(&second);
    let mut both = Task::new(both);
    assert!(both.settle().is_pending());
    assert_eq!((started(&handles), first.in_use()), (0, 0));
    // Another run can have it.
    let (others, mut other) = run_under(&first, 1);
    assert!(other.settle().is_pending());
    assert_eq!(started(&others), 1);
    holder.drop_future();
    assert!(both.settle().is_pending());
    assert_eq!((started(&handles), second.in_use()), (0, 0));
    other.drop_future();
    assert!(both.settle().is_pending());
    assert_eq!(started(&handles), 1);
    assert_eq!((first.in_use(), second.in_use()), (1, 1));
}

#[test]
fn no_place_is_lost_when_a_run_ends_early() {
    let limit = Limit::new(2);
    let (cancel, cancelled) = futures::channel::oneshot::channel::<()>();
    let (_, list) = sources(5);
    let run = fetch_and_aggregate(list, NEVER)
        .concurrency(&limit)
        .cancel_on(cancelled);
    let mut cancelled_run = Task::new(run);
    assert!(cancelled_run.settle().is_pending());
    let (handles, mut waits) = run_under(&limit, 3);
    assert!(waits.settle().is_pending());
    // This one waits behind it, and is dropped while a place is kept for it.
    let (_, mut dropped) = run_under(&limit, 3);
    assert!(dropped.settle().is_pending());
    cancel.send(()).unwrap();
    let interrupted = cancelled_run.finish().unwrap_err();
    assert_eq!(interrupted.partial.unfinished, [0, 1, 2, 3, 4]);
    assert!(dropped.is_woken());
    dropped.drop_future();
    assert!(waits.settle().is_pending());
    assert_eq!((started(&handles), limit.in_use()), (2, 2));

    // A panic, and a timeout.
    let limit = Limit::new(1);
    let panics = [(0, async { panic!("the source") as Result<(), ()> })];
    let mut run = Task::new(fetch_and_aggregate(panics, NEVER).concurrency(&limit));
    assert_eq!(panic_of(|| run.poll()), "the source");
    assert_eq!(limit.in_use(), 0);
    let timer = TestTimer::new();
    let hangs = each(0..3, |_| pending::<Result<(), ()>>());
    let run = fetch_and_aggregate(hangs, NEVER).concurrency(&limit);
    let run = run.source_timeout(Duration::from_secs(1)).timer(&timer);
    assert_eq!(block_on(timer.auto_advance(run)).unwrap().errors.len(), 3);
    assert_eq!(
        (limit.in_use(), timer.elapsed()),
        (0, Duration::from_secs(3))
    );
}

#[test]
fn run_that_has_no_source_left_waits_for_no_place() {
    let limit = Limit::new(1);
    let (handles, mut run) = run_under(&limit, 1);
    assert!(run.settle().is_pending());
    let (others, mut other) = run_under(&limit, 2);
    assert!(other.settle().is_pending());
    // The other run has the only place now, and this one has to see the end of its list.
    handles[0].answer(Ok(1));
    assert!(run.settle().is_ready());
    assert!(other.settle().is_pending());
    assert_eq!(started(&others), 1);
    // A run that drains does not keep its place in the queue.
    let (_, list) = sources(1);
    let (drain, drained) = futures::channel::oneshot::channel::<()>();
    let run = fetch_and_aggregate(list, NEVER)
        .concurrency(&limit)
        .drain_on(drained);
    let mut waits = Task::new(run);
    assert!(waits.settle().is_pending());
    drain.send(()).unwrap();
    assert_eq!(waits.finish().unwrap_err().reason, Reason::Drained);
    others[0].answer(Ok(1));
    assert!(other.settle().is_pending());
    assert_eq!(started(&others), 2);
}

#[test]
fn place_that_a_pending_stream_does_not_need_is_for_others() {
    let limit = Limit::new(1);
    let (sender, receiver) = async_channel::unbounded();
    let mut run = Task::new(fetch_and_aggregate(from_stream(receiver), NEVER).concurrency(&limit));
    assert!(run.settle().is_pending());
    assert_eq!(limit.in_use(), 0);
    let (handles, mut other) = run_under(&limit, 1);
    assert!(other.settle().is_pending());
    assert_eq!(started(&handles), 1);
    sender.try_send((7, ready(Ok::<_, ()>(7)))).unwrap();
    assert!(run.settle().is_pending());
    handles[0].answer(Ok(1));
    assert!(other.settle().is_ready());
    drop(sender);
    assert_eq!(run.finish().unwrap().results, [(7, 7)]);
    assert_eq!(limit.in_use(), 0);
}

#[test]
fn runs_on_several_threads_share_a_limit_that_changes() {
    const RUNS: usize = 8;
    const SOURCES: usize = 2_000;
    let limit = Limit::new(3);
    let in_flight = AtomicUsize::new(0);
    let most_allowed = AtomicUsize::new(3);
    thread::scope(|scope| {
        for run in 0..RUNS {
            let (limit, in_flight, most_allowed) = (limit.clone(), &in_flight, &most_allowed);
            scope.spawn(move || {
                let list = each(0..SOURCES, |&id| async move {
                    let now = in_flight.fetch_add(1, Ordering::SeqCst) + 1;
                    assert!(now <= most_allowed.load(Ordering::SeqCst));
                    for _ in 0..(id + run) % 3 {
                        common::script::yield_now().await;
                    }
                    in_flight.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, ()>(id)
                });
                let aggregate = block_on(fetch_and_aggregate(list, NEVER).concurrency(&limit));
                assert_eq!(aggregate.unwrap().results.len(), SOURCES);
            });
        }
        for round in 0..200 {
            let next = 1 + round * 7 % 5;
            // While it is lowered, more may be in flight.
            most_allowed.store(5, Ordering::SeqCst);
            limit.set(next);
            thread::yield_now();
        }
    });
    assert_eq!((limit.in_use(), in_flight.into_inner()), (0, 0));
}

#[test]
fn retry_that_pauses_can_give_its_place_to_others() {
    let limit = Limit::new(1);
    let timer = TestTimer::new();
    let second = Duration::from_secs(1);
    let order = RefCell::new(Vec::new());
    let list = each(0..3, |&id| {
        let (order, timer) = (&order, &timer);
        retry(Duration::ZERO, 2, move |attempt: Attempt| async move {
            order.borrow_mut().push((id, attempt.number));
            timer.sleep_until(timer.now() + second).await;
            if id == 0 && attempt.number == 0 {
                Err(())
            } else {
                Ok(())
            }
        })
        .pause_hint(|()| Some(second / 2))
        .release(&limit)
        .timer(timer)
    });
    let run = fetch_and_aggregate(list, NEVER)
        .concurrency(&limit)
        .timer(&timer);
    let aggregate = block_on(timer.auto_advance(run)).unwrap();
    assert_eq!(aggregate.results.len(), 3);
    // The pause ends while source 1 has the place. Source 2 waits already.
    assert_eq!(*order.borrow(), [(0, 0), (1, 0), (2, 0), (0, 1)]);
    assert_eq!((limit.in_use(), timer.elapsed()), (0, 4 * second));
}

#[test]
fn retry_that_is_dropped_while_it_pauses_loses_no_place() {
    let timer = TestTimer::new();
    let second = Duration::from_secs(1);
    for pause in [second, 10 * second] {
        let limit = Limit::new(2);
        let (_, mut other) = run_under(&limit, 1);
        assert!(other.settle().is_pending());
        let list = each(0..2, |&id| {
            retry(Duration::ZERO, 2, move |_| async move {
                if id == 1 {
                    pending::<()>().await
                }
                Err::<(), ()>(())
            })
            .pause_hint(move |()| Some(pause))
            .release(&limit)
            .timer(&timer)
        });
        // Source 0 pauses, or waits for its place again, while source 1 has it.
        let mut run = Task::new(fetch_and_aggregate(list, NEVER).concurrency(&limit));
        assert!(run.settle().is_pending());
        timer.advance(2 * second);
        assert!(run.settle().is_pending());
        assert_eq!(limit.in_use(), 2);
        run.drop_future();
        assert_eq!(limit.in_use(), 1);
    }
}

#[test]
fn run_that_drains_leaves_the_queue() {
    let limit = Limit::new(2);
    let (_, mut holder) = run_under(&limit, 1);
    assert!(holder.settle().is_pending());
    let (drain, drained) = futures::channel::oneshot::channel::<()>();
    let (_, list) = sources(2);
    let run = fetch_and_aggregate(list, NEVER)
        .concurrency(&limit)
        .drain_on(drained);
    let mut drains = Task::new(run);
    assert!(drains.settle().is_pending());
    let (handles, mut waits) = run_under(&limit, 1);
    assert!(waits.settle().is_pending());
    drain.send(()).unwrap();
    assert!(drains.settle().is_pending());
    holder.drop_future();
    assert!(waits.settle().is_pending());
    assert_eq!(started(&handles), 1);
}

#[test]
fn limit_of_zero_is_refused() {
    for message in [
        panic_of(|| Limit::new(0)),
        panic_of(|| Limit::new(1).set(0)),
    ] {
        assert!(message.contains("at least 1"), "{message}");
    }
    let run = || fetch_and_aggregate([(0, ready(Ok::<_, ()>(0)))], NEVER);
    let message = panic_of(|| run().concurrency(0));
    assert!(message.contains("at least 1"), "{message}");
}

/// A run may leave the queue when a place is granted to it already.
#[test]
fn place_that_is_granted_too_late_does_not_keep_the_run_busy() {
    let limit = Limit::new(2);
    let (_, holder) = run_under(&limit, 1);
    let holder = Cell::new(Some(holder));
    assert!(
        holder
            .take()
            .map(|mut it| {
                assert!(it.settle().is_pending());
                holder.set(Some(it))
            })
            .is_some()
    );
    let (drain, drained) = futures::channel::oneshot::channel::<()>();
    // In the poll of the signal, the other run gives its place back. Then this one leaves the queue.
    let signal = async {
        let _ = drained.await;
        drop(holder.take());
    };
    let (handles, list) = sources(3);
    let run = fetch_and_aggregate(list, NEVER)
        .concurrency(&limit)
        .drain_on(signal);
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    drain.send(()).unwrap();
    assert!(
        run.settle().is_pending(),
        "it does not wake itself for ever"
    );
    assert_eq!((started(&handles), limit.in_use()), (1, 1));
}

#[test]
fn same_limit_counts_once() {
    let limit = Limit::new(1);
    let list = each(0..3, |&id| ready(Ok::<_, ()>(id)));
    let run = fetch_and_aggregate(list, NEVER)
        .concurrency(&limit)
        .concurrency(&limit.clone());
    assert_eq!(Task::new(run).finish().unwrap().results.len(), 3);
}

#[test]
fn places_that_are_kept_are_taken_back_when_the_limit_is_lowered() {
    let limit = Limit::new(2);
    let mut first = run_under(&limit, 1).1;
    let mut second = run_under(&limit, 1).1;
    let (handles, mut waits) = run_under(&limit, 1);
    for run in [&mut first, &mut second, &mut waits] {
        assert!(run.settle().is_pending());
    }
    second.drop_future();
    limit.set(1);
    assert!(waits.settle().is_pending());
    assert_eq!((started(&handles), limit.in_use()), (0, 1));
    first.drop_future();
    assert!(waits.is_woken());
    assert!(waits.settle().is_pending());
    assert_eq!((started(&handles), limit.in_use()), (1, 1));
}

#[test]
fn retry_outside_of_a_limit_takes_no_place_for_ever() {
    let limit = Limit::new(3);
    for _ in 0..3 {
        let fails = retry(Duration::ZERO, 2, |_| ready(Err::<(), _>(()))).release(&limit);
        assert!(block_on(fails).is_err());
    }
    assert_eq!(limit.in_use(), 0);
}

#[test]
fn retry_waits_for_its_place_only_until_its_deadline() {
    let limit = Limit::new(1);
    let timer = TestTimer::new();
    let second = Duration::from_secs(1);
    let deadline = timer.now() + 5 * second;
    let attempts = Cell::new(0);
    let fails = |_| {
        attempts.set(attempts.get() + 1);
        ready(Err::<(), _>(()))
    };
    let retries = retry(second, 2, fails)
        .seed(1)
        .deadline(deadline)
        .release(&limit)
        .timer(&timer);
    let hangs = async { pending::<Result<(), _>>().await };
    let list = [(0, retries.left_future()), (1, hangs.right_future())];
    let run = fetch_and_aggregate(list, 10 * second)
        .concurrency(&limit)
        .timer(&timer);
    let failed = Cell::new(None);
    let run = run.observe(|event| {
        if matches!(event, futures_aggregate::Event::Finished { .. }) {
            failed.set(Some(timer.elapsed()));
        }
    });
    assert!(block_on(timer.auto_advance(run)).is_err());
    assert_eq!((attempts.get(), failed.get()), (1, Some(5 * second)));
}

#[test]
fn pausing_retry_gives_all_places_of_its_weight_back() {
    let limit = Limit::new(10);
    let timer = TestTimer::new();
    let attempt = |attempt: Attempt| {
        ready(if attempt.number == 0 {
            Err("busy")
        } else {
            Ok(1)
        })
    };
    let heavy = each([0], |_| {
        retry(Duration::from_millis(10), 2, attempt)
            .timer(timer.clone())
            .release_weight(&limit, 5)
    });
    let first = fetch_and_aggregate(heavy, Duration::from_secs(3600))
        .weight(|_| 5)
        .concurrency(&limit)
        .timer(timer.clone());
    // It needs more than the first one leaves, and is there before that comes back.
    let sleep = || timer.sleep_until(timer.now() + Duration::from_millis(50));
    let other = each([0], |_| sleep().map(Ok::<_, ()>));
    let second = fetch_and_aggregate(other, Duration::from_secs(3600))
        .weight(|_| 8)
        .concurrency(&limit)
        .timer(timer.clone());
    let both = futures::future::join(first, second);
    let (first, second) = block_on(timer.auto_advance(both));
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(limit.in_use(), 0);
    assert!(timer.elapsed() < Duration::from_secs(1));
}
