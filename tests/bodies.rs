//! `for_each_result`: bodies are polled with the sources, and every outcome has one, or is returned.

mod common;

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use common::script::yield_now;
use common::{NEVER, Task, alive, ids, panic_of, ready, source, sources};
use futures::channel::oneshot;
use futures::future::FutureExt;
use futures_aggregate::{Interrupted, Reason, SourceError, each, for_each_result, from_stream};

#[test]
fn every_outcome_has_a_body_in_the_order_of_completion() {
    let (handles, sources) = sources(3);
    let log = Rc::new(std::cell::RefCell::new(Vec::new()));
    let seen = Rc::clone(&log);
    let run = for_each_result(sources, move |(id, result)| {
        seen.borrow_mut().push((id, result.is_ok()));
        async { Ok::<_, ()>(()) }
    });
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    handles[2].answer(Ok(1));
    assert!(run.settle().is_pending());
    handles[0].answer(Err("refused"));
    assert!(run.settle().is_pending());
    handles[1].answer(Ok(1));
    let handled = run.finish().unwrap();
    assert_eq!(handled.handled, 3);
    assert!(handled.undelivered.is_empty() && handled.unfinished.is_empty());
    assert!(handled.body_errors.is_empty() && !handled.unseen);
    assert_eq!(*log.borrow(), [(2, true), (0, false), (1, true)]);
}

#[test]
fn no_sources_need_no_body() {
    let run = for_each_result(sources(0).1, |_| async { Err::<(), _>("called") });
    assert_eq!(Task::new(run).finish().unwrap().handled, 0);
}

/// One permit, which each source and each body needs. In a loop over a stream this never ends.
#[test]
fn semaphore_shared_by_bodies_and_sources_does_not_deadlock() {
    let permit = futures::lock::Mutex::new(());
    let work = || async {
        let _permit = permit.lock().await;
        futures_timer::Delay::new(Duration::from_micros(100)).await;
    };
    for bodies in [1, 3] {
        let sources = each(0..50, |&id| work().map(move |()| Ok::<_, ()>(id)));
        let run = for_each_result(sources, |_| work().map(Ok::<_, ()>))
            .bodies(bodies)
            .timeout(Duration::from_secs(60));
        assert_eq!(futures::executor::block_on(run).unwrap().handled, 50);
    }
}

#[test]
fn slow_body_keeps_no_source_from_being_polled() {
    let (handles, sources) = sources(3);
    let run = for_each_result(sources, |_| pending::<Result<(), ()>>());
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    handles[0].answer(Ok(1));
    assert!(run.settle().is_pending());
    for (poll, handle) in handles[1..].iter().enumerate() {
        handle.answer(Ok(1));
        assert!(run.poll().is_pending());
        assert!(
            !handle.is_alive(),
            "its outcome is taken in the poll after {poll}"
        );
    }
}

#[test]
fn bodies_run_one_at_a_time_or_as_many_as_allowed() {
    let most_at_once = |limit: Option<usize>| {
        let (now, most) = (Cell::new(0), Cell::new(0));
        let body = async |_| {
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            yield_now().await;
            now.set(now.get() - 1);
            Ok::<_, ()>(())
        };
        let run = for_each_result((0..20).map(|id| (id, ready(Ok(1)))), body);
        let run = match limit {
            Some(limit) => run.bodies(limit),
            None => run,
        };
        assert_eq!(Task::new(run).finish().unwrap().handled, 20);
        most.get()
    };
    assert_eq!(most_at_once(None), 1);
    assert_eq!(most_at_once(Some(3)), 3);
    assert_eq!(most_at_once(Some(100)), 20);
}

#[test]
fn outcomes_that_wait_for_a_body_count_against_the_limit() {
    let (handles, sources) = sources(10);
    let run = for_each_result(sources, |_| pending::<Result<(), ()>>()).concurrency(3);
    let mut run = Task::new(run);
    handles.iter().for_each(|handle| handle.answer(Ok(1)));
    assert!(run.settle().is_pending());
    // One has a body, three wait for it.
    let started = handles.iter().filter(|handle| handle.polls() > 0).count();
    assert_eq!(started, 4);
}

#[test]
fn error_of_a_body_ends_the_run_and_everything_is_accounted_for() {
    let (handles, sources) = sources(8);
    let (fail, failed) = oneshot::channel::<()>();
    let (finish, finished) = oneshot::channel::<()>();
    let (mut failed, mut finished) = (Some(failed), Some(finished));
    let run = for_each_result(sources, move |(id, _)| {
        let (failed, finished) = (failed.take_if(|_| id == 0), finished.take_if(|_| id == 1));
        async move {
            if let Some(failed) = failed {
                failed.await.unwrap();
                return Err("disk full");
            }
            if let Some(finished) = finished {
                finished.await.unwrap();
            }
            Ok(())
        }
    });
    let run = run.bodies(2).concurrency(7);
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    for handle in &handles[..4] {
        handle.answer(Ok(1));
    }
    assert!(run.settle().is_pending());
    fail.send(()).unwrap();
    assert!(run.settle().is_pending(), "the other body has started");
    assert_eq!(alive(&handles), 0, "all sources are dropped at once");
    finish.send(()).unwrap();
    let Interrupted {
        reason, partial, ..
    } = run.finish().unwrap_err();
    assert_eq!(reason, Reason::BodyFailed);
    assert_eq!(partial.handled, 2);
    assert_eq!(partial.body_errors, ["disk full"]);
    assert_eq!(
        ids(&partial.undelivered),
        [2, 3],
        "no body starts after the failure"
    );
    assert_eq!(partial.unfinished, [4, 5, 6, 7]);
}

#[test]
fn error_of_the_last_body_is_the_result_of_the_run() {
    let run = for_each_result([(0, ready(Ok(1)))], async |_| {
        yield_now().await;
        Err::<(), _>("disk full")
    });
    let Interrupted {
        reason, partial, ..
    } = Task::new(run).finish().unwrap_err();
    assert_eq!((reason, partial.handled), (Reason::BodyFailed, 1));
    assert_eq!(partial.body_errors, ["disk full"]);
}

#[test]
fn errors_of_all_bodies_that_had_started_come_back() {
    let list = (0..10).map(|id| (id, ready(Ok(1))));
    let run = for_each_result(list, |(id, _)| async move {
        yield_now().await;
        Err::<(), _>(id)
    });
    let Interrupted { partial, .. } = Task::new(run.bodies(3)).finish().unwrap_err();
    assert_eq!(partial.handled, 3);
    assert_eq!(partial.body_errors, [0, 1, 2]);
    assert_eq!(partial.undelivered.len() + partial.unfinished.len(), 7);
}

#[test]
fn cancelled_run_waits_for_the_bodies_that_have_started() {
    let (handles, sources) = sources(4);
    let (cancel, cancelled) = oneshot::channel::<()>();
    let (finish, finished) = oneshot::channel::<()>();
    let mut finished = Some(finished);
    let run = for_each_result(sources, move |_| {
        finished.take().unwrap().map(|end| end.map_err(|_| ()))
    });
    let mut run = Task::new(run.cancel_on(cancelled));
    assert!(run.settle().is_pending());
    handles[0].answer(Ok(1));
    handles[1].answer(Ok(1));
    assert!(run.settle().is_pending());
    cancel.send(()).unwrap();
    assert!(run.settle().is_pending());
    assert_eq!(alive(&handles), 0);
    assert!(!futures::future::FusedFuture::is_terminated(&*run.future()));
    finish.send(()).unwrap();
    let Interrupted {
        reason, partial, ..
    } = run.finish().unwrap_err();
    assert_eq!(reason, Reason::Cancelled);
    assert_eq!(partial.handled, 1);
    assert_eq!(ids(&partial.undelivered), [1]);
    assert_eq!(partial.unfinished, [2, 3]);
    assert!(futures::future::FusedFuture::is_terminated(&*run.future()));
    assert!(panic_of(|| run.poll()).starts_with("polled after completion"));
}

/// A body that never ends keeps a cancelled run, and one whose time is up, from resolving.
#[test]
fn body_that_never_ends_is_ended_only_by_a_drop() {
    struct NoteDrop<'a>(&'a Cell<bool>);
    impl Drop for NoteDrop<'_> {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let is_dropped = Cell::new(false);
    let (handles, sources) = sources(2);
    let run = for_each_result(sources, |_| {
        let guard = NoteDrop(&is_dropped);
        async move {
            pending::<()>().await;
            drop(guard);
            Ok::<_, ()>(())
        }
    });
    let run = run.timeout(Duration::from_millis(5)).cancel_on(async {
        futures_timer::Delay::new(Duration::from_millis(1)).await;
    });
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    handles[0].answer(Ok(1));
    let deadline = std::time::Instant::now() + Duration::from_millis(50);
    while handles[1].is_alive() || std::time::Instant::now() < deadline {
        assert!(run.settle().is_pending());
        std::thread::yield_now();
    }
    assert!(!is_dropped.get());
    run.drop_future();
    assert!(is_dropped.get());
}

#[test]
fn drop_drops_sources_bodies_and_outcomes_that_wait() {
    let counted = Rc::new(());
    let (handles, sources) = sources(4);
    let sources = sources.into_iter().map(|(id, source)| {
        let token = Rc::clone(&counted);
        (id, source.map(move |answer| answer.map(|_| token)))
    });
    let run = for_each_result(sources, |outcome| async move {
        pending::<()>().await;
        drop(outcome);
        Ok::<_, ()>(())
    });
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    handles[..3].iter().for_each(|handle| handle.answer(Ok(1)));
    assert!(run.settle().is_pending());
    assert_eq!(Rc::strong_count(&counted), 5);
    run.drop_future();
    assert_eq!(Rc::strong_count(&counted), 1);
    assert_eq!(alive(&handles), 0);
}

#[test]
fn panic_of_a_body_unwinds_and_disturbs_no_other() {
    let list = (0..6).map(|id| (id, ready(Ok(1))));
    let run = for_each_result(list, |(id, _)| {
        assert!(id != 1, "closure");
        async move {
            yield_now().await;
            assert!(id != 3, "future");
            Ok::<_, ()>(())
        }
    });
    let mut run = Task::new(run.bodies(2));
    assert_eq!(panic_of(|| run.settle()), "closure");
    assert_eq!(panic_of(|| run.settle()), "future");
    let handled = run.finish().unwrap();
    assert_eq!(handled.handled, 6);
}

/// Also after the last source has answered.
#[test]
fn panic_of_the_last_body_unwinds() {
    let run = for_each_result([(0, ready(Ok(1)))], async |_| -> Result<(), ()> {
        yield_now().await;
        panic!("body");
    });
    let mut run = Task::new(run);
    assert_eq!(panic_of(|| run.settle()), "body");
    assert_eq!(run.finish().unwrap().handled, 1);
}

#[test]
fn fail_fast_and_quorum_count_sources() {
    let list = || {
        [
            (0, ready(Ok(1))),
            (1, ready(Err("refused"))),
            (2, ready(Ok(1))),
        ]
    };
    let run = for_each_result(list(), async |_| Ok::<_, ()>(())).fail_fast();
    let Interrupted {
        reason, partial, ..
    } = Task::new(run).finish().unwrap_err();
    assert_eq!(reason, Reason::SourceFailed);
    assert_eq!(partial.handled + partial.undelivered.len(), 2);
    assert_eq!(partial.unfinished, [2]);

    let run = for_each_result(list(), async |_| Ok::<_, ()>(())).quorum(1);
    let handled = Task::new(run).finish().unwrap();
    assert_eq!(handled.handled + handled.undelivered.len(), 1);
    assert_eq!(handled.unfinished, [1, 2]);
}

#[test]
fn timeouts_and_caught_panics_of_sources_are_outcomes() {
    let list = [
        (0, pending::<Result<(), ()>>().boxed()),
        (1, async { panic!("scripted") }.boxed()),
    ];
    let seen = Cell::new((0, 0));
    let run = for_each_result(list, async |(_, result)| {
        let (late, panicked) = seen.get();
        seen.set(match result {
            Err(SourceError::TimedOut) => (late + 1, panicked),
            Err(SourceError::Panicked(_)) => (late, panicked + 1),
            other => panic!("{other:?}"),
        });
        Ok::<_, ()>(())
    });
    let run = run.source_timeout(Duration::from_millis(5)).catch_panics();
    assert_eq!(futures::executor::block_on(run).unwrap().handled, 2);
    assert_eq!(seen.get(), (1, 1));
}

#[test]
fn drained_run_handles_what_is_in_flight() {
    let (handles, sources) = sources(4);
    let (drain, drained) = oneshot::channel::<()>();
    let run = for_each_result(sources, async |_| Ok::<_, ()>(()));
    let mut run = Task::new(run.concurrency(2).drain_on(drained));
    assert!(run.settle().is_pending());
    drain.send(()).unwrap();
    assert!(run.settle().is_pending());
    handles.iter().for_each(|handle| handle.answer(Ok(1)));
    let Interrupted {
        reason, partial, ..
    } = run.finish().unwrap_err();
    assert_eq!(reason, Reason::Drained);
    assert_eq!(partial.handled, 2);
    assert_eq!(partial.unfinished, [2, 3]);
}

#[test]
fn sources_may_come_from_a_stream_that_bodies_feed() {
    let (sender, receiver) = async_channel::unbounded();
    sender.try_send(3_u32).unwrap();
    let stream = receiver.clone();
    let stream = futures::StreamExt::map(stream, |id| (id, std::future::ready(Ok::<_, ()>(id))));
    let feed = Cell::new(Some(sender));
    let run = for_each_result(from_stream(stream), async |(id, _)| {
        // The last body closes the channel.
        let sender = feed.take().unwrap();
        if id > 0 {
            sender.try_send(id - 1).unwrap();
            feed.set(Some(sender));
        }
        Ok::<_, ()>(())
    });
    assert_eq!(Task::new(run).finish().unwrap().handled, 4);
}

#[test]
fn body_that_wakes_itself_for_ever_delays_no_deadline() {
    let (handle, slow) = source();
    let (end, ended) = (Cell::new(false), Cell::new(false));
    let run = for_each_result([(0, ready(Ok(1))), (1, slow)], |_| {
        poll_fn(|cx| {
            cx.waker().wake_by_ref();
            ended.set(end.get());
            match end.get() {
                true => Poll::Ready(Ok::<_, ()>(())),
                false => Poll::Pending,
            }
        })
    });
    let mut run = Task::new(run.timeout(Duration::from_millis(20)));
    let start = std::time::Instant::now();
    while handle.is_alive() {
        assert!(run.poll().is_pending());
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "the deadline has passed"
        );
    }
    assert!(!ended.get());
    end.set(true);
    let Interrupted {
        reason, partial, ..
    } = run.finish().unwrap_err();
    assert_eq!(reason, Reason::TimedOut);
    assert_eq!((partial.handled, partial.unfinished), (1, vec![1]));
}

#[test]
fn bodies_may_borrow_and_keep_state() {
    let mut total = 0;
    let list = (1..=10).map(|id| (id, ready(Ok(1))));
    let run = for_each_result(list, |(id, _)| {
        total += id;
        async { Ok::<_, ()>(()) }
    });
    assert!(Task::new(run.timeout(NEVER)).finish().is_ok());
    assert_eq!(total, 55);
}

#[test]
fn debug_shows_counts() {
    let (handles, sources) = sources(2);
    let mut run = Task::new(for_each_result(sources, |_| pending::<Result<(), ()>>()));
    handles[0].answer(Ok(1));
    assert!(run.settle().is_pending());
    let text = format!("{:?}", &*run.future());
    assert_eq!(text, "ForEachResult { in_flight: 1, bodies: 1, .. }");
}

#[test]
#[should_panic(expected = "it must be at least 1")]
fn zero_bodies_are_refused() {
    drop(for_each_result(sources(1).1, async |_| Ok::<_, ()>(())).bodies(0));
}

#[test]
fn outcomes_of_a_quorum_have_bodies() {
    let list = (0..5).map(|id| (id, ready(Ok(1))));
    let run = for_each_result(list, async |_| Ok::<_, ()>(())).quorum(5);
    let handled = Task::new(run).finish().unwrap();
    assert_eq!((handled.handled, handled.undelivered.len()), (5, 0));
}

#[test]
fn body_that_fails_after_a_quorum_leaves_the_other_outcomes_undelivered() {
    let list = (0..5).map(|id| (id, ready(Ok(1))));
    let run = for_each_result(list, async |_| Err::<(), _>("disk full")).quorum(5);
    let Interrupted {
        reason, partial, ..
    } = Task::new(run).finish().unwrap_err();
    assert_eq!(reason, Reason::BodyFailed);
    assert_eq!((partial.handled, partial.undelivered.len()), (1, 4));
}

/// Each poll of the body takes the whole time of a poll of the run.
#[test]
fn body_that_computes_leaves_time_for_the_sources() {
    let done = Cell::new(0);
    let body = async |(id, _)| {
        while id == 0 && done.get() < 300 {
            let until = std::time::Instant::now() + Duration::from_millis(2);
            while std::time::Instant::now() < until {}
            yield_now().await;
        }
        Ok::<_, ()>(())
    };
    let sources = each(0..=300_u32, |&id| {
        let done = &done;
        async move {
            for _ in 0..if id == 0 { 0 } else { 10 } {
                yield_now().await;
            }
            done.set(done.get() + u32::from(id > 0));
            Ok::<_, ()>(id)
        }
    });
    let started = std::time::Instant::now();
    let run = for_each_result(sources, body).bodies(400);
    assert_eq!(futures::executor::block_on(run).unwrap().handled, 301);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn bodies_go_on_while_sources_are_named() {
    let (handle, first) = source();
    let polls = Cell::new(0);
    let list = std::iter::once((0, first.left_future()))
        .chain((1..10_000).map(|id| (id, pending().right_future())));
    let run = for_each_result(list, |_| {
        poll_fn(|cx| {
            polls.set(polls.get() + 1);
            cx.waker().wake_by_ref();
            match polls.get() > 5 {
                true => Poll::Ready(Ok::<_, ()>(())),
                false => Poll::Pending,
            }
        })
    });
    let (cancel, cancelled) = oneshot::channel::<()>();
    let mut run = Task::new(run.concurrency(1).cancel_on(cancelled));
    handle.answer(Ok(1));
    assert!(run.poll().is_pending());
    cancel.send(()).unwrap();
    let before = polls.get();
    for _ in 0..4 {
        assert!(run.poll().is_pending(), "10,000 names take more polls");
    }
    assert!(polls.get() >= before + 3);
    assert_eq!(run.finish().unwrap_err().partial.unfinished.len(), 9_999);
}

#[test]
fn body_that_is_woken_after_the_last_source_wakes_the_run() {
    let (finish, finished) = oneshot::channel::<()>();
    let mut finished = Some(finished);
    let (handles, sources) = sources(1);
    let run = for_each_result(sources, |_| finished.take().unwrap());
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    handles[0].answer(Ok(1));
    assert!(run.settle().is_pending());
    finish.send(()).unwrap();
    assert!(run.is_woken());
    assert_eq!(run.finish().unwrap().handled, 1);
}
