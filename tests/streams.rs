//! Sources and batches from streams: when a run polls the stream of `from_stream`, and what happens to the
//! items that are still in the stream when the run ends.

mod common;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_channel::{Sender, bounded, unbounded};
use common::{Handle, NEVER, Source, Task, alive, panic_of, ready, source, sources};
use futures::future::{BoxFuture, FutureExt};
use futures::{Stream, stream};
use futures_aggregate::{
    Event, Interrupted, Reason, SourceError, fetch_and_aggregate, from_stream, process_batch,
    stream_results,
};

/// A stream that yields the items of its feed.
struct Fed<T>(Arc<Mutex<State<T>>>);

/// Controls a stream, and observes it.
struct Feed<T>(Arc<Mutex<State<T>>>);

struct State<T> {
    items: VecDeque<T>,
    has_ended: bool,
    size_hint: (usize, Option<usize>),
    waker: Option<Waker>,
    polls: usize,
    drops: usize,
    on_poll: Option<Box<dyn FnMut(&Waker) + Send>>,
    on_drop: Option<Box<dyn FnOnce() + Send>>,
}

fn fed<T>(items: impl IntoIterator<Item = T>) -> (Feed<T>, Fed<T>) {
    let state = State {
        items: items.into_iter().collect(),
        has_ended: false,
        size_hint: (0, None),
        waker: None,
        polls: 0,
        drops: 0,
        on_poll: None,
        on_drop: None,
    };
    let state = Arc::new(Mutex::new(state));
    (Feed(state.clone()), Fed(state))
}

impl<T> Feed<T> {
    /// Adds an item, and wakes the stream.
    fn push(&self, item: T) {
        self.0.lock().unwrap().items.push_back(item);
        self.wake();
    }

    /// Ends the stream after its last item, and wakes it.
    fn end(&self) {
        self.0.lock().unwrap().has_ended = true;
        self.wake();
    }

    /// Wakes the stream if it is pending.
    fn wake(&self) {
        let waker = self.0.lock().unwrap().waker.take();
        waker.into_iter().for_each(Waker::wake);
    }

    fn polls(&self) -> usize {
        self.0.lock().unwrap().polls
    }

    fn drops(&self) -> usize {
        self.0.lock().unwrap().drops
    }

    /// Sets the size hint of the stream.
    fn set_size_hint(&self, size_hint: (usize, Option<usize>)) {
        self.0.lock().unwrap().size_hint = size_hint;
    }

    /// Runs `action` in every poll of the stream, before the stream yields an item.
    fn on_poll(&self, action: impl FnMut(&Waker) + Send + 'static) {
        self.0.lock().unwrap().on_poll = Some(Box::new(action));
    }

    /// Runs `action` when the stream is dropped.
    fn on_drop(&self, action: impl FnOnce() + Send + 'static) {
        self.0.lock().unwrap().on_drop = Some(Box::new(action));
    }
}

impl<T> Stream for Fed<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let on_poll = {
            let mut state = self.0.lock().unwrap();
            state.polls += 1;
            state.on_poll.take()
        };
        if let Some(mut on_poll) = on_poll {
            let result = catch_unwind(AssertUnwindSafe(|| on_poll(cx.waker())));
            self.0.lock().unwrap().on_poll = Some(on_poll);
            result.unwrap_or_else(|payload| std::panic::resume_unwind(payload));
        }
        let mut state = self.0.lock().unwrap();
        if let Some(item) = state.items.pop_front() {
            return Poll::Ready(Some(item));
        }
        if state.has_ended {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.lock().unwrap().size_hint
    }
}

impl<T> Drop for Fed<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock().unwrap();
        state.drops += 1;
        let items = std::mem::take(&mut state.items);
        let on_drop = state.on_drop.take();
        drop(state);
        drop(items);
        if let Some(on_drop) = on_drop {
            on_drop();
        }
    }
}

/// The ids of the items that a stream still has.
fn rest<K, F>(stream: &Fed<(K, F)>) -> Vec<K> {
    let items = std::mem::take(&mut stream.0.lock().unwrap().items);
    items.into_iter().map(|(id, _)| id).collect()
}

fn started(handles: &[Handle]) -> Vec<usize> {
    (0..handles.len())
        .filter(|&id| handles[id].polls() > 0)
        .collect()
}

// Polls of the stream.

#[test]
fn stream_is_not_polled_before_the_run_nor_without_room() {
    let (handles, list) = sources(5);
    let (feed, stream) = fed(list);
    let mut task = Task::new(fetch_and_aggregate(from_stream(stream), NEVER).concurrency(2));
    assert_eq!(feed.polls(), 0);
    assert!(task.settle().is_pending());
    assert_eq!((feed.polls(), started(&handles)), (2, vec![0, 1]));
    // Polls without room do not reach the stream, woken or not.
    handles[0].wake();
    assert!(task.settle().is_pending());
    feed.wake();
    assert!(task.poll().is_pending());
    assert_eq!(feed.polls(), 2);

    handles[1].answer(Ok(1));
    assert!(task.settle().is_pending());
    assert_eq!((feed.polls(), started(&handles)), (3, vec![0, 1, 2]));
}

#[test]
fn pending_stream_is_polled_again_only_when_it_wakes() {
    let (handles, mut list) = sources(2);
    let second = list.pop().unwrap();
    let (feed, stream) = fed(list);
    let mut task = Task::new(fetch_and_aggregate(from_stream(stream), NEVER));
    assert!(task.settle().is_pending());
    assert_eq!(feed.polls(), 2);
    for _ in 0..3 {
        handles[0].wake();
        assert!(task.settle().is_pending());
        assert!(task.poll().is_pending());
    }
    assert_eq!((feed.polls(), handles[0].polls()), (2, 4));

    // A wakeup without an item costs one poll.
    feed.wake();
    assert!(task.is_woken());
    assert!(task.settle().is_pending());
    assert_eq!(feed.polls(), 3);

    feed.push(second);
    assert!(task.is_woken());
    assert!(task.settle().is_pending());
    assert_eq!((feed.polls(), started(&handles)), (5, vec![0, 1]));
    assert_eq!(handles[0].polls(), 4, "the stream wakes no source");
}

#[test]
fn stream_that_wakes_itself_is_polled_once_in_each_poll_and_starves_no_source() {
    let (handles, list) = sources(1);
    let (feed, stream) = fed(list);
    let mut task = Task::new(fetch_and_aggregate(from_stream(stream), NEVER));
    assert!(task.poll().is_pending());
    feed.on_poll(Waker::wake_by_ref);
    feed.wake();
    let before = feed.polls();
    for polls in 1..10 {
        handles[0].wake();
        assert!(task.poll().is_pending());
        assert!(task.is_woken());
        assert_eq!(feed.polls(), before + polls);
        assert_eq!(handles[0].polls(), 1 + polls);
    }
    handles[0].answer(Ok(0));
    feed.end();
    assert_eq!(task.finish().unwrap().results, [(0, 0)]);
}

#[test]
fn wakeup_of_the_stream_from_another_thread_starts_the_next_source() {
    let (handles, list) = sources(2);
    let (feed, stream) = fed([]);
    let mut task = Task::new(fetch_and_aggregate(from_stream(stream), NEVER));
    assert!(task.settle().is_pending());
    let mut list = list.into_iter();
    let first = list.next().unwrap();
    let feed = std::thread::spawn(move || {
        feed.push(first);
        feed
    });
    let feed = feed.join().unwrap();
    assert!(task.is_woken());
    assert!(task.settle().is_pending());
    assert_eq!(started(&handles), [0]);

    // The thread may push before, between and after the polls of the task.
    let pushing = std::thread::spawn(move || {
        list.for_each(|source| feed.push(source));
        handles.iter().for_each(|handle| handle.answer(Ok(1)));
        feed.end();
    });
    assert_eq!(task.wait().unwrap().results.len(), 2);
    pushing.join().unwrap();
}

#[test]
fn wakeup_of_the_stream_reaches_the_task_that_polled_last() {
    let (feed, stream) = fed([]);
    let mut task = Task::new(fetch_and_aggregate(from_stream(stream), NEVER));
    let other = Task::new(std::future::pending::<()>());
    assert!(task.poll().is_pending());
    assert!(task.poll_with(&other.waker()).is_pending());
    feed.push((0, ready(Ok(0))));
    assert_eq!((task.wakes(), other.wakes()), (0, 1));
}

#[test]
fn stream_that_is_always_ready_takes_no_more_than_the_budget_of_a_poll() {
    let (cancel, signal) = source();
    let endless = stream::iter((0_u32..).map(|id| (id, ready(Ok(id)))));
    let run = fetch_and_aggregate(from_stream(endless), NEVER).cancel_on(signal);
    let mut results = 0;
    let mut task = Task::new(run.observe(|event| {
        results += usize::from(matches!(event, Event::Finished { .. }));
    }));
    for _ in 0..3 {
        assert!(task.poll().is_pending());
        assert!(task.is_woken());
    }
    cancel.answer(Ok(0));
    let interrupted = task.finish().unwrap_err();
    drop(task);
    assert_eq!(interrupted.reason, Reason::Cancelled);
    assert!((3..=3 * 64).contains(&results), "{results} in three polls");
    assert!(interrupted.partial.unseen);
    assert_eq!(interrupted.partial.results.len(), results);
}

// Runs with a pending stream.

#[test]
fn outcomes_come_while_the_stream_is_pending() {
    let (handles, list) = sources(2);
    let (_feed, stream) = fed(list);
    let (sender, receiver) = unbounded();
    let mut task = Task::new(stream_results(from_stream(stream), sender));
    assert!(task.settle().is_pending());
    for (id, handle) in handles.iter().enumerate() {
        handle.answer(Ok(7));
        assert!(task.poll().is_pending());
        assert_eq!(receiver.try_recv(), Ok((id, Ok(7))));
    }
}

#[test]
fn deadlines_hold_while_the_stream_is_pending() {
    let (_handles, list) = sources(1);
    let (_feed, stream) = fed(list);
    let run = fetch_and_aggregate(from_stream(stream), Duration::from_millis(5));
    let interrupted = Task::new(run).wait().unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert_eq!(interrupted.partial.unfinished, [0]);
    assert!(interrupted.partial.unseen);

    let (_handles, list) = sources(1);
    let (_feed, stream) = fed(list);
    let run = fetch_and_aggregate(from_stream(stream), NEVER)
        .source_timeout(Duration::from_millis(5))
        .stop_when(|so_far| !so_far.errors.is_empty());
    let aggregate = Task::new(run).wait().unwrap();
    assert_eq!(aggregate.errors, [(0, SourceError::TimedOut)]);

    let (_handles, list) = sources(1);
    let (_feed, batches) = fed([list]);
    let run = process_batch(from_stream(batches))
        .batch_timeout(Duration::from_millis(5))
        .stop_when(|so_far| so_far.iter().any(Option::is_some));
    let outcomes = Task::new(run).wait().unwrap();
    let late = outcomes[0].as_ref().unwrap_err();
    assert_eq!(late.reason, Reason::TimedOut);
    assert_eq!(late.partial.unfinished, [0]);
}

#[test]
fn run_that_has_no_source_yet_can_be_cancelled_and_expire() {
    for (fires, reason) in [(0, Reason::Cancelled), (1, Reason::TimedOut)] {
        let (signals, mut futures) = sources(2);
        let (timer, cancel) = (futures.remove(1).1, futures.remove(0).1);
        let (feed, stream) = fed::<(usize, Source)>([]);
        let run = fetch_and_aggregate(from_stream(stream), NEVER)
            .cancel_on(cancel)
            .expire_on(timer);
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        signals[fires].answer(Ok(0));
        let interrupted = task.finish().unwrap_err();
        assert_eq!(interrupted.reason, reason);
        assert!(interrupted.partial.unseen);
        assert_eq!(feed.drops(), 1);
    }
}

// The end of the stream.

#[test]
fn run_goes_on_until_the_stream_has_ended() {
    let (handles, list) = sources(2);
    let (feed, stream) = fed(list);
    let mut task = Task::new(fetch_and_aggregate(from_stream(stream), NEVER));
    assert!(task.settle().is_pending());
    handles.iter().for_each(|handle| handle.answer(Ok(1)));
    assert!(task.settle().is_pending());
    assert_eq!(alive(&handles), 0);
    feed.end();
    assert!(task.is_woken());
    let aggregate = task.finish().unwrap();
    assert_eq!((aggregate.results.len(), aggregate.unseen), (2, false));
}

#[test]
fn run_of_a_stream_that_has_ended_completes_with_its_last_source() {
    let (handles, list) = sources(2);
    let (feed, stream) = fed(list);
    feed.end();
    let mut task = Task::new(fetch_and_aggregate(from_stream(stream), NEVER));
    assert!(task.settle().is_pending());
    assert_eq!(
        (feed.polls(), feed.drops()),
        (3, 1),
        "it is dropped at its end"
    );
    handles[1].answer(Ok(1));
    assert!(task.settle().is_pending());
    handles[0].answer(Ok(0));
    let aggregate = task.finish().unwrap();
    assert_eq!(aggregate.results, [(1, 1), (0, 0)]);
    assert!(!aggregate.unseen);
}

#[test]
fn empty_stream_is_a_complete_run() {
    let empty = || from_stream(stream::empty::<(usize, Source)>());
    let aggregate = Task::new(fetch_and_aggregate(empty(), NEVER)).poll();
    let Poll::Ready(Ok(aggregate)) = aggregate else {
        panic!("nothing is left to wait for");
    };
    assert_eq!((aggregate.results.len(), aggregate.unseen), (0, false));

    let no_batches = from_stream(stream::empty::<Vec<(usize, Source)>>());
    assert!(
        Task::new(process_batch(no_batches))
            .finish()
            .unwrap()
            .is_empty()
    );
    let outcomes = Task::new(process_batch([empty()])).finish().unwrap();
    assert!(outcomes[0].as_ref().unwrap().results.is_empty());

    let (sender, receiver) = bounded(1);
    let streamed = Task::new(stream_results(empty(), sender)).finish().unwrap();
    assert_eq!((streamed.delivered, streamed.unseen), (0, false));
    assert!(receiver.is_closed());
}

#[test]
fn quorum_is_out_of_reach_once_the_stream_has_ended() {
    let (feed, stream) = fed([(0, ready(Ok(0)))]);
    let mut task = Task::new(fetch_and_aggregate(from_stream(stream), NEVER).quorum(2));
    assert!(task.settle().is_pending());
    feed.end();
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::QuorumUnreachable);
    assert_eq!(interrupted.partial.results, [(0, 0)]);
    assert!(!interrupted.partial.unseen);
}

// Runs that end before their streams.

/// How a run ends early, after two of its five sources have started.
#[derive(Debug, Clone, Copy)]
enum Early {
    Cancel,
    Expire,
    Timeout,
    Quorum,
    FailFast,
    StopWhen,
}

impl Early {
    const ALL: [Self; 6] = [
        Self::Cancel,
        Self::Expire,
        Self::Timeout,
        Self::Quorum,
        Self::FailFast,
        Self::StopWhen,
    ];
}

#[test]
fn items_left_in_the_stream_are_unseen_and_stay_with_the_caller() {
    for early in Early::ALL {
        let (handles, list) = sources(5);
        let (_feed, mut stream) = fed(list);
        let (cancel, signal) = source();
        let (deadline, timer) = source();
        let timeout = match early {
            Early::Timeout => Duration::ZERO,
            _ => NEVER,
        };
        let run = fetch_and_aggregate(from_stream(&mut stream), timeout)
            .concurrency(2)
            .cancel_on(signal)
            .expire_on(timer);
        let run = match early {
            Early::Quorum => run.quorum(1),
            Early::FailFast => run.fail_fast(),
            _ => run,
        };
        let is_enough = matches!(early, Early::StopWhen);
        let mut task = Task::new(run.stop_when(|so_far| is_enough && so_far.results.len() == 1));
        let result = match task.settle() {
            Poll::Ready(result) => result,
            Poll::Pending => {
                match early {
                    Early::Cancel => cancel.answer(Ok(0)),
                    Early::Expire => deadline.answer(Ok(0)),
                    Early::FailFast => handles[1].answer(Err("refused")),
                    _ => handles[1].answer(Ok(1)),
                }
                task.finish()
            }
        };
        let reason = result.as_ref().err().map(|interrupted| interrupted.reason);
        let expected = match early {
            Early::Cancel => Some(Reason::Cancelled),
            Early::Expire | Early::Timeout => Some(Reason::TimedOut),
            Early::FailFast => Some(Reason::SourceFailed),
            Early::Quorum | Early::StopWhen => None,
        };
        assert_eq!(reason, expected, "{early:?}");
        let aggregate = result.unwrap_or_else(Interrupted::into_partial);
        assert!(aggregate.unseen, "{early:?}");
        let answered = aggregate.results.len() + aggregate.errors.len();
        let unfinished = match answered {
            0 => vec![0, 1],
            _ => vec![0],
        };
        assert_eq!(aggregate.unfinished, unfinished, "{early:?}");
        assert_eq!(alive(&handles), 3, "{early:?}");
        drop(task);
        assert_eq!(rest(&stream), [2, 3, 4], "{early:?}");
    }
}

#[test]
fn dropped_receiver_leaves_the_rest_of_the_stream_with_the_caller() {
    let (_handles, list) = sources(3);
    let (_feed, mut stream) = fed(list);
    let (sender, receiver) = bounded(1);
    let run = stream_results(from_stream(&mut stream), sender).concurrency(2);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    drop(receiver);
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::ReceiverClosed);
    assert_eq!(interrupted.partial.unfinished, [0, 1]);
    assert!(interrupted.partial.unseen);
    drop(task);
    assert_eq!(rest(&stream), [2]);
}

#[test]
fn nothing_is_unseen_once_the_stream_has_ended() {
    let cancelled = |feed: Option<Feed<_>>, stream: Pin<Box<dyn Stream<Item = _>>>| {
        let (cancel, signal) = source();
        let run = fetch_and_aggregate(from_stream(stream), NEVER).cancel_on(signal);
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        feed.inspect(Feed::end);
        assert!(task.settle().is_pending());
        cancel.answer(Ok(0));
        task.finish().unwrap_err().partial
    };
    let (_handles, list) = sources(2);
    let (feed, stream) = fed(list);
    let partial = cancelled(Some(feed), Box::pin(stream));
    assert_eq!((partial.unfinished, partial.unseen), (vec![0, 1], false));

    // The upper bound of the size hint of this stream reaches 0, so the run learns that it has ended.
    let (_handles, list) = sources(2);
    let partial = cancelled(None, Box::pin(stream::iter(list)));
    assert_eq!((partial.unfinished, partial.unseen), (vec![0, 1], false));
}

#[test]
fn items_that_the_size_hint_reports_are_unseen_too() {
    let (handles, list) = sources(3);
    let (cancel, signal) = source();
    let mut stream = stream::iter(list);
    let run = fetch_and_aggregate(from_stream(&mut stream), NEVER);
    let mut task = Task::new(run.concurrency(1).cancel_on(signal));
    assert!(task.settle().is_pending());
    cancel.answer(Ok(0));
    let partial = task.finish().unwrap_err().partial;
    drop(task);
    assert_eq!((partial.unfinished, partial.unseen), (vec![0], true));
    assert_eq!((stream.size_hint().0, alive(&handles)), (2, 2));
}

// Panics and drops.

#[test]
fn stream_that_panics_once_unwinds_once_and_loses_nothing() {
    for catches in [false, true] {
        let (handles, mut list) = sources(4);
        let later = list.split_off(2);
        let (feed, stream) = fed(list);
        let run = fetch_and_aggregate(from_stream(stream), NEVER);
        let run = if catches { run.catch_panics() } else { run };
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        let mut panics = true;
        feed.on_poll(move |_| {
            if std::mem::take(&mut panics) {
                panic!("stream");
            }
        });
        later.into_iter().for_each(|source| feed.push(source));
        handles[0].answer(Ok(0));
        assert_eq!(panic_of(|| task.poll()), "stream");
        assert!(task.is_woken());
        assert!(task.settle().is_pending());
        assert_eq!(started(&handles), [0, 1, 2, 3]);
        handles[1..].iter().for_each(|handle| handle.answer(Ok(1)));
        feed.end();
        let mut results = task.finish().unwrap().results;
        results.sort_unstable();
        assert_eq!(results, [(0, 0), (1, 1), (2, 1), (3, 1)]);
    }
}

#[test]
fn stream_that_has_panicked_is_polled_again_in_the_next_poll_but_one() {
    let (handles, list) = sources(1);
    let (feed, stream) = fed(list);
    let mut task = Task::new(fetch_and_aggregate(from_stream(stream), NEVER));
    assert!(task.settle().is_pending());
    feed.on_poll(|_| panic!("stream"));
    feed.wake();
    for round in 1..4 {
        assert_eq!(panic_of(|| task.poll()), "stream");
        let polls = feed.polls();
        handles[0].wake();
        assert!(task.poll().is_pending());
        assert!(task.is_woken());
        assert_eq!(feed.polls(), polls);
        assert_eq!(handles[0].polls(), 1 + round);
    }
}

#[test]
fn deadline_holds_however_often_the_stream_panics() {
    let (_handles, list) = sources(1);
    let (feed, stream) = fed(list);
    let timeout = Duration::from_millis(5);
    let mut task = Task::new(fetch_and_aggregate(from_stream(stream), timeout));
    assert!(task.poll().is_pending());
    feed.on_poll(|_| panic!("stream"));
    feed.wake();
    let started = Instant::now();
    let interrupted = loop {
        assert!(started.elapsed() < Duration::from_secs(60), "still running");
        match catch_unwind(AssertUnwindSafe(|| task.poll())) {
            Ok(Poll::Ready(result)) => break result.unwrap_err(),
            Ok(Poll::Pending) => {}
            Err(payload) => assert_eq!(payload.downcast_ref(), Some(&"stream")),
        }
    };
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert_eq!(interrupted.partial.unfinished, [0]);
    assert!(interrupted.partial.unseen);
    assert!(feed.polls() > 2, "the stream has panicked");
}

#[test]
fn stream_is_dropped_once_and_its_waker_holds_no_task() {
    let endings = ["unpolled", "dropped", "cancelled", "ended"];
    for ending in endings {
        let (handles, list) = sources(1);
        let (cancel, signal) = source();
        let (feed, stream) = fed(list);
        let run = fetch_and_aggregate(from_stream(stream), NEVER).cancel_on(signal);
        let mut task = Task::new(run);
        if ending != "unpolled" {
            assert!(task.settle().is_pending());
        }
        match ending {
            "cancelled" => {
                cancel.answer(Ok(0));
                assert!(task.finish().is_err());
            }
            "ended" => {
                handles[0].answer(Ok(0));
                feed.end();
                assert!(task.finish().is_ok());
            }
            _ => task.drop_future(),
        }
        assert_eq!((feed.drops(), alive(&handles)), (1, 0), "{ending}");
        let wakes = task.wakes();
        feed.wake();
        assert_eq!((task.wakes(), task.wakers()), (wakes, 0), "{ending}");
        task.drop_future();
        assert_eq!(feed.drops(), 1, "{ending}");
    }
}

#[test]
fn panics_in_drops_of_the_stream_and_a_source_unwind_once() {
    for is_cancelled in [true, false] {
        let (handles, list) = sources(2);
        let (cancel, signal) = source();
        let (feed, stream) = fed(list);
        feed.on_drop(|| panic!("stream"));
        handles[0].on_drop(|| panic!("source"));
        let run = fetch_and_aggregate(from_stream(stream), NEVER).cancel_on(signal);
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        if is_cancelled {
            cancel.answer(Ok(0));
            assert_eq!(panic_of(|| task.settle()), "source");
            assert_eq!(feed.drops(), 1);
            assert_eq!(task.finish().unwrap_err().partial.unfinished, [0, 1]);
        } else {
            assert_eq!(panic_of(|| task.drop_future()), "source");
        }
        assert_eq!((feed.drops(), alive(&handles)), (1, 0));
    }
}

#[test]
fn run_that_is_dropped_leaves_the_rest_of_the_stream_with_the_caller() {
    let (handles, list) = sources(3);
    handles[0].on_drop(|| panic!("source"));
    let (feed, mut stream) = fed(list);
    feed.set_size_hint((2, Some(2)));
    let run = fetch_and_aggregate(from_stream(&mut stream), NEVER).concurrency(1);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    assert_eq!(panic_of(|| task.drop_future()), "source");
    drop(task);
    assert_eq!(rest(&stream), [1, 2]);
}

// Batches from streams, and streams in batches.

#[test]
fn batches_from_a_stream_have_their_outcomes_in_the_order_of_the_stream() {
    let (handles, list) = sources(6);
    let mut list = list.into_iter();
    let mut batch = || -> Vec<_> { list.by_ref().take(2).collect() };
    let (feed, batches) = fed([batch(), batch()]);
    let mut task = Task::new(process_batch(from_stream(batches)));
    assert!(task.settle().is_pending());
    assert_eq!((feed.polls(), started(&handles)), (3, vec![0, 1, 2, 3]));
    // The second batch ends first, while the stream is pending.
    handles[2..4].iter().for_each(|handle| handle.answer(Ok(1)));
    assert!(task.settle().is_pending());
    assert_eq!((feed.polls(), alive(&handles)), (3, 4));
    feed.push(batch());
    assert!(task.settle().is_pending());
    handles[4..].iter().for_each(|handle| handle.answer(Ok(2)));
    feed.end();
    assert!(task.settle().is_pending());
    handles[..2].iter().for_each(|handle| handle.answer(Ok(0)));
    let outcomes = task.finish().unwrap();
    let results: Vec<_> = outcomes.into_iter().map(|it| it.unwrap().results).collect();
    assert_eq!(
        results,
        [[(0, 0), (1, 0)], [(2, 1), (3, 1)], [(4, 2), (5, 2)]]
    );
}

#[test]
fn interrupted_run_has_outcomes_of_the_batches_that_it_has_seen() {
    let (handles, list) = sources(8);
    let mut list = list.into_iter();
    let batches: Vec<Vec<_>> = (0..4).map(|_| list.by_ref().take(2).collect()).collect();
    let (_feed, mut stream) = fed(batches);
    let (cancel, signal) = source();
    let run = process_batch(from_stream(&mut stream))
        .concurrency(2)
        .cancel_on(signal);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    assert_eq!(started(&handles), [0, 1, 2, 3]);
    handles[0].answer(Ok(0));
    handles[2..4].iter().for_each(|handle| handle.answer(Ok(1)));
    assert!(task.settle().is_pending());
    cancel.answer(Ok(0));
    let interrupted = task.finish().unwrap_err();
    drop(task);
    assert_eq!(interrupted.reason, Reason::Cancelled);
    let [first, second, third] = &interrupted.partial[..] else {
        panic!("three of four batches were seen");
    };
    let first = first.as_ref().unwrap_err();
    assert_eq!(first.reason, Reason::Cancelled);
    assert_eq!(first.partial.results, [(0, 0)]);
    assert_eq!(first.partial.unfinished, [1]);
    assert_eq!(second.as_ref().unwrap().results.len(), 2);
    assert_eq!(third.as_ref().unwrap_err().partial.unfinished, [4, 5]);
    assert_eq!(stream.0.lock().unwrap().items.len(), 1);
}

#[test]
fn quorum_of_batches_leaves_the_others_in_the_stream() {
    let (_, list) = sources(1);
    let batches = [vec![(9, ready(Ok(1)))], list, vec![]];
    let (feed, stream) = fed(batches);
    let run = process_batch(from_stream(stream)).concurrency(1).quorum(1);
    let outcomes = Task::new(run).finish().unwrap();
    assert_eq!(outcomes.len(), 1);
    assert_eq!(outcomes[0].as_ref().unwrap().results, [(9, 1)]);
    assert_eq!((feed.polls(), feed.drops()), (1, 1));
}

#[test]
fn each_batch_polls_its_own_stream_and_has_its_own_unseen_flag() {
    let (handles, mut list) = sources(4);
    let second = list.split_off(2);
    let (feeds, streams): (Vec<_>, Vec<_>) = [list, second].map(fed).into_iter().unzip();
    feeds[1].end();
    let (cancel, signal) = source();
    let run = process_batch(streams.into_iter().map(from_stream))
        .source_concurrency(1)
        .cancel_on(signal);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    assert_eq!(started(&handles), [0, 2]);
    assert_eq!((feeds[0].polls(), feeds[1].polls()), (1, 1));
    handles[2].answer(Ok(2));
    assert!(task.settle().is_pending());
    handles[3].answer(Ok(3));
    assert!(task.settle().is_pending());
    assert_eq!((feeds[0].polls(), feeds[1].polls()), (1, 3));
    cancel.answer(Ok(0));
    let outcomes = task.finish().unwrap_err().partial;
    let first = &outcomes[0].as_ref().unwrap_err().partial;
    assert_eq!((&first.unfinished[..], first.unseen), (&[0][..], true));
    let second = outcomes[1].as_ref().unwrap();
    assert_eq!((second.results.len(), second.unseen), (2, false));
}

#[test]
fn pending_stream_in_a_batch_is_polled_again_only_when_it_wakes() {
    let (handles, list) = sources(3);
    let (feeds, streams): (Vec<_>, Vec<_>) = (0..2).map(|_| fed([])).unzip();
    let mut task = Task::new(process_batch(streams.into_iter().map(from_stream)));
    assert!(task.settle().is_pending());
    for (id, source) in list {
        let before = feeds[1 - id % 2].polls();
        feeds[id % 2].push((id, source));
        assert!(task.is_woken());
        assert!(task.settle().is_pending());
        assert_eq!(handles[id].polls(), 1);
        assert_eq!(
            feeds[1 - id % 2].polls(),
            before,
            "the other stream is pending"
        );
    }
    handles.iter().for_each(|handle| handle.answer(Ok(1)));
    feeds.iter().for_each(Feed::end);
    let outcomes = task.finish().unwrap();
    assert_eq!(outcomes[0].as_ref().unwrap().results.len(), 2);
    assert_eq!(outcomes[1].as_ref().unwrap().results, [(1, 1)]);
}

// Slow receivers.

#[test]
fn stream_is_not_read_ahead_of_a_slow_receiver() {
    let (feed, stream) = fed((0..10).map(|id| (id, ready(Ok(id)))));
    feed.end();
    let (sender, receiver) = bounded(1);
    let run = stream_results(from_stream(stream), sender).concurrency(2);
    let mut task = Task::new(run);
    let mut received = Vec::new();
    for id in 0..7 {
        assert!(task.settle().is_pending());
        // One outcome is in the channel, and two wait for room in it.
        assert_eq!(feed.polls(), received.len() + 3);
        received.push(receiver.try_recv().unwrap());
        assert_eq!(received[received.len() - 1], (id, Ok(id)));
    }
    while task.settle().is_pending() {
        received.extend(receiver.try_recv());
    }
    received.extend(receiver.try_recv());
    assert!(received.into_iter().eq((0..10).map(|id| (id, Ok(id)))));
}

// Unusual streams.

#[test]
fn wrong_size_hint_of_a_stream_breaks_no_limit() {
    const MAX: usize = usize::MAX;
    let hints = [
        (0, Some(0)),
        (0, Some(1)),
        (3, Some(1)),
        (MAX, Some(MAX)),
        (MAX, None),
    ];
    for hint in hints {
        let (handles, mut list) = sources(6);
        let last = list.pop().unwrap();
        let (feed, stream) = fed(list);
        feed.set_size_hint(hint);
        let run = fetch_and_aggregate(from_stream(stream), NEVER).concurrency(2);
        let mut task = Task::new(run);
        for id in 0..5 {
            assert!(task.settle().is_pending());
            let in_flight = handles.iter().filter(|it| it.is_alive() && it.polls() > 0);
            assert_eq!(in_flight.count(), 2.min(5 - id), "{hint:?}");
            handles[id].answer(Ok(1));
        }
        assert!(
            task.settle().is_pending(),
            "{hint:?}: the stream is pending"
        );
        feed.push(last);
        feed.end();
        assert!(task.settle().is_pending(), "{hint:?}");
        handles[5].answer(Ok(1));
        assert_eq!(task.finish().unwrap().results.len(), 6, "{hint:?}");
    }
}

/// Each source holds a sender for the pages that it finds, so the channel closes after the last source.
#[test]
fn crawler_ends_when_its_last_source_is_gone() {
    type Crawl = (u32, BoxFuture<'static, Result<usize, &'static str>>);

    fn crawl(page: u32, found: Sender<Crawl>) -> Crawl {
        let links = [2 * page, 2 * page + 1];
        let visit = async move {
            let links = links.into_iter().filter(|&link| link < 100);
            let mut sent = 0;
            for link in links {
                let next = crawl(link, found.clone());
                found.send(next).await.map_err(|_| "closed")?;
                sent += 1;
            }
            Ok(sent)
        };
        (page, visit.boxed())
    }

    for limit in [1, 4, usize::MAX] {
        let (found, pages) = unbounded();
        let first = crawl(1, found.clone());
        found.try_send(first).unwrap();
        drop(found);
        let run = fetch_and_aggregate(from_stream(pages), NEVER).concurrency(limit);
        let aggregate = Task::new(run).finish().unwrap();
        let mut visited: Vec<_> = aggregate.results.iter().map(|&(page, _)| page).collect();
        visited.sort_unstable();
        assert!(visited.into_iter().eq(1..100));
        assert!(aggregate.errors.is_empty() && !aggregate.unseen);
    }
}

#[test]
fn debug_of_from_stream_shows_no_items() {
    fn prints(value: &impl Debug) -> String {
        format!("{value:?}")
    }
    let (_feed, stream) = fed::<(usize, Source)>([]);
    assert_eq!(prints(&from_stream(stream)), "FromStream { .. }");
}
