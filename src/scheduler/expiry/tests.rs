use std::future::{pending, poll_fn};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::channel::{mpsc, oneshot};
use futures::future::{BoxFuture, Map, Shared};
use futures::{FutureExt, StreamExt};

use crate::scheduler::grace::{FUTURE_PATIENCE, MOST_POLLS, TURN};
use crate::timer::{Instant, TimerKind};
use crate::{Interrupted, TestTimer, Timer, fetch_and_aggregate, from_stream, process_batch};

const SECOND: Duration = Duration::from_secs(1);

/// A run that resolves to its number of answers.
struct Run(BoxFuture<'static, usize>, TestTimer);

impl Run {
    /// A run after its deadline, of two sources, of which the first answers when it is told to. Both
    /// were woken before the deadline and are pending: for all that the run knows, the runtime may have
    /// refused them. The clock stands still.
    fn after_its_deadline() -> (Self, oneshot::Sender<()>) {
        let timer = TestTimer::new();
        let (answer, answered) = oneshot::channel();
        let (expire, expired) = oneshot::channel::<()>();
        let sources = [answered.boxed(), pending().boxed()].map(|answer| async {
            yield_now().await;
            answer.await
        });
        let sources = sources.into_iter().enumerate();
        let run = fetch_and_aggregate(sources, Duration::MAX);
        let run = run.expire_on(expired).timer(timer.clone());
        let run = run.map(|outcome| {
            outcome
                .unwrap_or_else(Interrupted::into_partial)
                .results
                .len()
        });
        let mut run = Self(run.boxed(), timer);
        assert!(run.is_pending(2));
        expire.send(()).unwrap();
        (run, answer)
    }

    fn poll(&mut self) -> Poll<usize> {
        self.0.poll_unpin(&mut Context::from_waker(Waker::noop()))
    }

    /// Whether it is pending for so many polls.
    fn is_pending(&mut self, polls: u32) -> bool {
        (0..polls).all(|_| self.poll().is_pending())
    }
}

/// Wakes its task and is pending, once.
async fn yield_now() {
    let mut has_yielded = false;
    let yields = poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    });
    yields.await;
}

#[test]
fn deadline_that_is_a_future_waits_for_refused_sources_however_fast_the_polls_are() {
    let (mut run, answer) = Run::after_its_deadline();
    assert!(run.is_pending(10 * TURN));
    answer.send(()).unwrap();
    let came = (0..=MOST_POLLS).find_map(|_| match run.poll() {
        Poll::Ready(came) => Some(came),
        Poll::Pending => None,
    });
    assert_eq!(came, Some(1));
}

#[test]
fn deadline_that_is_a_future_does_not_wait_for_ever() {
    let (mut run, _answer) = Run::after_its_deadline();
    assert!(run.is_pending(MOST_POLLS));
    assert_eq!(run.poll(), Poll::Ready(0), "the clock stands still");

    let (mut run, _answer) = Run::after_its_deadline();
    assert!(run.is_pending(1));
    run.1.advance(FUTURE_PATIENCE);
    assert!(run.is_pending(TURN - 1));
    assert_eq!(run.poll(), Poll::Ready(0), "the time is up");
}

#[test]
fn end_of_a_stream_that_came_before_the_deadline_counts_in_a_late_poll() {
    for (items, is_complete) in [(1, true), (2, false)] {
        let timer = TestTimer::with_kind(TimerKind::System);
        let (sender, mut receiver) = mpsc::unbounded();
        let (answer, answered) = oneshot::channel();
        sender.unbounded_send((0, answered)).unwrap();
        // Without a size hint.
        let stream = futures::stream::poll_fn(move |cx| receiver.poll_next_unpin(cx));
        let run = fetch_and_aggregate(from_stream(stream), SECOND);
        let mut run = Box::pin(run.timer(timer.clone()));
        let mut poll = || run.poll_unpin(&mut Context::from_waker(Waker::noop()));
        assert!(poll().is_pending());
        answer.send(()).unwrap();
        let mut unused = Vec::new();
        for id in 1..items {
            let (answer, answered) = oneshot::channel();
            unused.push(answer);
            sender.unbounded_send((id, answered)).unwrap();
        }
        drop(sender);
        // The thread is busy for two seconds. Then the run waits for more answers.
        timer.advance(2 * SECOND);
        assert!(poll().is_pending());
        timer.advance(SECOND);
        let result = std::iter::repeat_with(poll).find_map(|poll| match poll {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        });
        let result = result.unwrap();
        assert_eq!(result.is_ok(), is_complete);
        let aggregate = result.unwrap_or_else(Interrupted::into_partial);
        assert_eq!(aggregate.results, [(0, ())]);
        assert_eq!(aggregate.unfinished.len(), items - 1);
        assert_eq!(aggregate.unseen, !is_complete);
    }
}

/// The timer of a runtime whose thread is busy: a sleep completes when the runtime comes to it.
struct Busy {
    clock: TestTimer,
    turn: Shared<oneshot::Receiver<()>>,
}

impl Timer for Busy {
    type Sleep = Map<Shared<oneshot::Receiver<()>>, fn(Result<(), oneshot::Canceled>)>;

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn sleep_until(&self, _: Instant) -> Self::Sleep {
        self.turn.clone().map(drop)
    }
}

#[test]
fn late_run_waits_for_the_sleep_of_its_runtime_but_not_for_ever() {
    for completes in [true, false] {
        let clock = TestTimer::new();
        let (turn, turns) = oneshot::channel::<()>();
        let (answer, answered) = oneshot::channel::<()>();
        let sources = [answered.boxed(), pending().boxed()]
            .into_iter()
            .enumerate();
        let timer = Busy {
            clock: clock.clone(),
            turn: turns.shared(),
        };
        let mut run = Box::pin(fetch_and_aggregate(sources, SECOND).timer(timer));
        let mut poll = || run.poll_unpin(&mut Context::from_waker(Waker::noop()));
        assert!(poll().is_pending());
        // The thread is busy for a second too long. Then something else wakes the run, again and again.
        for passes in [2 * SECOND, Duration::from_millis(15)] {
            clock.advance(passes);
            assert!((0..10 * TURN).all(|_| poll().is_pending()));
        }
        if completes {
            // By now the runtime has polled its sockets.
            turn.send(()).unwrap();
            answer.send(()).unwrap();
        } else {
            clock.advance(Duration::from_millis(5));
        }
        let ended = (0..=2 * TURN).find_map(|_| match poll() {
            Poll::Ready(ended) => Some(ended),
            Poll::Pending => {
                clock.advance(Duration::from_millis(u64::from(completes)));
                None
            }
        });
        let partial = ended.expect("it has waited").unwrap_err().partial;
        assert_eq!(partial.results.len(), usize::from(completes));
        assert_eq!(partial.unfinished.len(), 2 - usize::from(completes));
    }
}

#[test]
fn batch_is_polled_at_its_deadline_without_a_wake() {
    let timer = TestTimer::new();
    let batches = [1, 2].map(|id| [(id, pending::<Result<(), ()>>())]);
    let run = process_batch(batches).batch_timeout(SECOND);
    let mut run = Box::pin(run.timer(timer.clone()));
    let mut poll = || run.poll_unpin(&mut Context::from_waker(Waker::noop()));
    assert!(poll().is_pending());
    assert_eq!(timer.next_deadline(), Some(timer.now() + SECOND));
    timer.advance(SECOND);
    let ended = (0..=TURN).find_map(|_| match poll() {
        Poll::Ready(ended) => Some(ended),
        Poll::Pending => None,
    });
    let batches = ended.expect("the deadline has passed").unwrap();
    let reasons = batches.into_iter().map(|batch| batch.unwrap_err().partial);
    assert!(reasons.map(|partial| partial.unfinished).eq([[1], [2]]));
}
