//! Outcomes in the order of their sources.

mod common;

use std::time::Duration;

use common::{Handle, NEVER, Task, ids, polls, source, sources};
use futures::channel::oneshot;
use futures::future::{FutureExt, join, pending, ready};
use futures_aggregate::{
    Event, Interrupted, Reason, SourceError, each, fetch_and_aggregate, for_each_result,
    process_batch, stream_results,
};

/// Answers sources in this order. Odd ones fail.
fn answer(handles: &[Handle], order: &[usize]) {
    for &id in order {
        let answer = if id % 2 == 0 { Ok(1) } else { Err("odd") };
        handles[id].answer(answer);
    }
}

/// What the receiver has got so far.
fn received<T>(receiver: &async_channel::Receiver<(usize, T)>) -> Vec<usize> {
    std::iter::from_fn(|| receiver.try_recv().ok())
        .map(|(id, _)| id)
        .collect()
}

#[test]
fn aggregate_is_sorted() {
    let (handles, sources) = sources(70);
    let mut run = Task::new(fetch_and_aggregate(sources, NEVER).in_order());
    assert!(run.settle().is_pending());
    // One by one, so that they complete in this order.
    for id in (1..70).rev() {
        answer(&handles, &[id]);
        assert!(run.poll().is_pending());
    }
    answer(&handles, &[0]);
    let aggregate = run.finish().unwrap();
    assert_eq!(
        ids(&aggregate.results),
        (0..70).step_by(2).collect::<Vec<_>>()
    );
    assert_eq!(
        ids(&aggregate.errors),
        (1..70).step_by(2).collect::<Vec<_>>()
    );
}

#[test]
fn aggregate_of_an_interrupted_run_is_sorted() {
    let (handles, sources) = sources(6);
    let (cancel, cancelled) = oneshot::channel::<()>();
    let run = fetch_and_aggregate(sources, NEVER)
        .concurrency(5)
        .cancel_on(cancelled)
        .in_order();
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    for id in [4, 0, 2] {
        answer(&handles, &[id]);
        assert!(run.settle().is_pending());
    }
    cancel.send(()).unwrap();
    let partial = run.finish().unwrap_err().partial;
    assert_eq!(ids(&partial.results), [0, 2, 4]);
    assert_eq!(partial.unfinished, [1, 3, 5]);
}

#[test]
fn aggregates_of_batches_are_sorted() {
    let (handles, sources) = sources(4);
    let mut run = Task::new(process_batch([sources]).batch_timeout(NEVER).in_order());
    assert!(run.settle().is_pending());
    for id in [2, 0, 3] {
        answer(&handles, &[id]);
        assert!(run.settle().is_pending());
    }
    answer(&handles, &[1]);
    let aggregate = run.finish().unwrap().pop().unwrap().unwrap();
    assert_eq!(ids(&aggregate.results), [0, 2]);
    assert_eq!(ids(&aggregate.errors), [1, 3]);
}

#[test]
fn slot_that_is_used_again_has_the_position_of_its_source() {
    let (handles, sources) = sources(5);
    let run = fetch_and_aggregate(sources, NEVER)
        .concurrency(2)
        .in_order();
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    // The first slot has the sources 0, 2 and 3.
    for id in [0, 2, 3, 1] {
        handles[id].answer(Ok(1));
        assert!(run.settle().is_pending());
    }
    handles[4].answer(Ok(1));
    assert_eq!(ids(&run.finish().unwrap().results), [0, 1, 2, 3, 4]);
}

#[test]
fn outcome_waits_for_those_of_earlier_sources() {
    let (handles, sources) = sources(4);
    let (sender, receiver) = async_channel::unbounded();
    let mut run = Task::new(stream_results(sources, sender).in_order());
    assert!(run.settle().is_pending());
    answer(&handles, &[1, 3]);
    assert!(run.settle().is_pending());
    assert_eq!(received(&receiver), []);
    answer(&handles, &[0]);
    assert!(run.settle().is_pending());
    assert_eq!(received(&receiver), [0, 1]);
    answer(&handles, &[2]);
    assert_eq!(run.finish().unwrap().delivered, 4);
    assert_eq!(received(&receiver), [2, 3]);
}

/// 20,000 sources, of which the first is slow.
#[test]
fn outcomes_that_wait_count_as_sources_in_flight() {
    const SOURCES: usize = 20_000;
    let (sender, receiver) = async_channel::unbounded();
    let (handle, slow) = source();
    let mut slow = Some(slow);
    let list = (0..SOURCES).map(move |id| {
        let future = match slow.take() {
            Some(slow) => slow.left_future(),
            None => ready(Ok(1)).right_future(),
        };
        (id, future)
    });
    let (mut started, mut most_by_then) = (0, None);
    let run = stream_results(list, sender)
        .concurrency(4)
        .in_order()
        .observe(|event| match event {
            Event::Started { .. } => started += 1,
            Event::Finished { id: 0, .. } => most_by_then = Some(started),
            event => assert!(matches!(event, Event::Finished { .. })),
        });
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    assert_eq!(received(&receiver), []);
    handle.answer(Ok(1));
    assert_eq!(run.finish().unwrap().delivered, SOURCES);
    assert_eq!(received(&receiver), (0..SOURCES).collect::<Vec<_>>());
    drop(run);
    assert_eq!(
        most_by_then,
        Some(4),
        "the slow one, and three that wait for it"
    );
    assert_eq!(started, SOURCES);
}

/// While the first source is pending, at most three outcomes wait and no more sources start.
#[test]
fn concurrency_limits_how_many_outcomes_wait() {
    let (handles, sources) = sources(100);
    let (sender, receiver) = async_channel::unbounded();
    let mut run = Task::new(stream_results(sources, sender).concurrency(4).in_order());
    assert!(run.settle().is_pending());
    for handle in &handles[1..] {
        handle.answer(Ok(1));
    }
    assert!(run.settle().is_pending());
    let started = polls(&handles).iter().filter(|polls| **polls > 0).count();
    assert_eq!(started, 4, "one source and three outcomes");
    handles[0].answer(Ok(1));
    assert_eq!(run.finish().unwrap().delivered, 100);
    assert_eq!(received(&receiver), (0..100).collect::<Vec<_>>());
}

#[test]
fn outcomes_behind_a_gap_are_delivered_while_there_is_room() {
    let (handles, sources) = sources(8);
    let (sender, receiver) = async_channel::bounded(2);
    let (cancel, cancelled) = oneshot::channel::<()>();
    let run = stream_results(sources, sender)
        .concurrency(7)
        .cancel_on(cancelled)
        .in_order();
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    answer(&handles, &[6, 2, 4, 3]);
    assert!(run.settle().is_pending());
    cancel.send(()).unwrap();
    let interrupted = run.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Cancelled);
    let partial = interrupted.partial;
    assert_eq!(partial.delivered, 2);
    assert_eq!(ids(&partial.undelivered), [4, 6]);
    assert_eq!(partial.unfinished, [0, 1, 5, 7]);
    assert_eq!(received(&receiver), [2, 3]);
}

#[test]
fn source_that_times_out_or_panics_leaves_no_gap() {
    let (sender, receiver) = async_channel::unbounded();
    let panics = async { panic!("scripted") };
    let list = [
        (0, pending::<Result<u32, ()>>().boxed()),
        (1, panics.boxed()),
        (2, ready(Ok(1)).boxed()),
    ];
    let run = stream_results(list, sender)
        .source_timeout(Duration::from_millis(5))
        .catch_panics()
        .in_order();
    std::panic::set_hook(Box::new(|_| {}));
    assert_eq!(futures::executor::block_on(run).unwrap().delivered, 3);
    let (id, outcome) = receiver.try_recv().unwrap();
    assert_eq!((id, outcome), (0, Err(SourceError::TimedOut)));
    assert_eq!(received(&receiver), [1, 2]);
}

#[test]
fn source_whose_future_panics_when_it_is_made_leaves_no_gap() {
    let (sender, receiver) = async_channel::unbounded();
    let list = each(0..3, |&id| {
        assert!(id != 1, "scripted");
        ready(Ok::<_, ()>(id))
    });
    let run = stream_results(list, sender).catch_panics().in_order();
    assert_eq!(futures::executor::block_on(run).unwrap().delivered, 3);
    assert_eq!(received(&receiver), [0, 1, 2]);
}

#[test]
fn receiver_that_leaves_gets_the_outcomes_back_in_order() {
    let (handles, sources) = sources(5);
    let (sender, receiver) = async_channel::unbounded();
    let mut run = Task::new(stream_results(sources, sender).in_order());
    assert!(run.settle().is_pending());
    answer(&handles, &[4, 2]);
    assert!(run.settle().is_pending());
    drop(receiver);
    let interrupted = run.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::ReceiverClosed);
    assert_eq!(ids(&interrupted.partial.undelivered), [2, 4]);
    assert_eq!(interrupted.partial.unfinished, [0, 1, 3]);
}

#[test]
fn bodies_get_outcomes_in_order() {
    let (handles, sources) = sources(4);
    let mut seen = Vec::new();
    let (log, logged) = std::sync::mpsc::channel();
    let run = for_each_result(sources, move |(id, _)| {
        log.send(id).unwrap();
        ready(Ok::<_, ()>(()))
    });
    let mut run = Task::new(run.concurrency(4).in_order());
    assert!(run.settle().is_pending());
    for order in [[3, 1], [0, 2]] {
        answer(&handles, &order);
        let poll = run.settle();
        seen.push(logged.try_iter().collect::<Vec<_>>());
        if let std::task::Poll::Ready(handled) = poll {
            assert_eq!(handled.unwrap().handled, 4);
        }
    }
    assert_eq!(seen, [vec![], vec![0, 1, 2, 3]]);
}

#[test]
fn bodies_leave_outcomes_behind_a_gap_in_order() {
    let (handles, sources) = sources(5);
    let (cancel, cancelled) = oneshot::channel::<()>();
    let run = for_each_result(sources, |_| ready(Ok::<_, ()>(())));
    let mut run = Task::new(run.cancel_on(cancelled).in_order());
    assert!(run.settle().is_pending());
    answer(&handles, &[4, 3, 0]);
    assert!(run.settle().is_pending());
    cancel.send(()).unwrap();
    let Interrupted { partial, .. } = run.finish().unwrap_err();
    assert_eq!(partial.handled, 1);
    assert_eq!(ids(&partial.undelivered), [3, 4]);
    assert_eq!(partial.unfinished, [1, 2]);
}

/// A reader that is slow, real sleeps, and a small channel.
#[test]
fn order_holds_through_a_full_channel() {
    let (sender, receiver) = async_channel::bounded(2);
    let list = each(0..200_usize, |&id| {
        let millis = [3, 0, 1, 2][id % 4];
        futures_timer::Delay::new(Duration::from_millis(millis)).map(move |()| Ok::<_, ()>(id))
    });
    let driver = stream_results(list, sender).concurrency(8).in_order();
    let read = async {
        let mut next = 0;
        while let Ok((id, _)) = receiver.recv().await {
            assert_eq!(id, next);
            next += 1;
        }
        next
    };
    let (streamed, read) = futures::executor::block_on(join(driver, read));
    assert_eq!((streamed.unwrap().delivered, read), (200, 200));
}

/// The waker of the receiver panics while outcomes are released.
#[test]
fn receiver_whose_waker_panics_holds_up_no_outcome() {
    struct Panics;
    impl std::task::Wake for Panics {
        fn wake(self: std::sync::Arc<Self>) {
            panic!("waker of the receiver");
        }
    }
    let (handles, sources) = sources(3);
    let (sender, receiver) = async_channel::bounded(10);
    let mut run = Task::new(stream_results(sources, sender).in_order());
    assert!(run.settle().is_pending());
    let mut waiting = std::mem::ManuallyDrop::new(Box::pin(receiver.clone()));
    let waker = std::task::Waker::from(std::sync::Arc::new(Panics));
    let cx = &mut std::task::Context::from_waker(&waker);
    assert!(futures::Stream::poll_next(waiting.as_mut(), cx).is_pending());
    answer(&handles, &[1, 2]);
    assert!(run.settle().is_pending());
    answer(&handles, &[0]);
    let text = common::panic_of(|| run.settle());
    assert_eq!(text, "waker of the receiver");
    assert_eq!(run.finish().unwrap().delivered, 3);
    assert_eq!(received(&receiver), [0, 1, 2]);
    // It may wake another receiver, whose waker may panic as well.
    let waiting = std::mem::ManuallyDrop::into_inner(waiting);
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(waiting)));
}

#[test]
fn outcomes_in_the_queue_come_before_those_behind_a_gap() {
    let (handles, sources) = sources(6);
    let (sender, receiver) = async_channel::bounded(2);
    let (cancel, cancelled) = oneshot::channel::<()>();
    let run = stream_results(sources, sender)
        .in_order()
        .cancel_on(cancelled);
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    answer(&handles, &[0, 1, 2, 3, 5]);
    assert!(run.settle().is_pending());
    // Room for two more, which the run has not seen.
    assert_eq!(
        (
            receiver.try_recv().unwrap().0,
            receiver.try_recv().unwrap().0
        ),
        (0, 1)
    );
    cancel.send(()).unwrap();
    let partial = run.finish().unwrap_err().partial;
    assert_eq!((partial.delivered, ids(&partial.undelivered)), (4, vec![5]));
    assert_eq!(received(&receiver), [2, 3]);
}

#[test]
fn concurrency_limits_how_many_outcomes_for_bodies_wait() {
    let (handles, sources) = sources(100);
    let run = for_each_result(sources, async |_| Ok::<_, ()>(()));
    let mut run = Task::new(run.concurrency(4).in_order());
    assert!(run.settle().is_pending());
    handles[1..]
        .iter()
        .for_each(|handle: &Handle| handle.answer(Ok(1)));
    assert!(run.settle().is_pending());
    let started = handles.iter().filter(|handle| handle.polls() > 0).count();
    assert_eq!(started, 4, "one source and three outcomes");
    handles[0].answer(Ok(1));
    assert_eq!(run.finish().unwrap().handled, 100);
}
