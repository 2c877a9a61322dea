use std::future::{pending, poll_fn};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures::channel::{mpsc, oneshot};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use crate::scheduler::clock;
use crate::scheduler::grace::{FUTURE_PATIENCE, MOST_POLLS, TURN};
use crate::{Interrupted, fetch_and_aggregate, from_stream};

/// A run that resolves to its number of answers.
struct Run(BoxFuture<'static, usize>);

impl Run {
    /// A run after its deadline, of two sources, of which the first answers when it is told to. Both
    /// were woken before the deadline and are pending: for all that the run knows, the runtime may have
    /// refused them. The clock stands still.
    fn after_its_deadline() -> (Self, oneshot::Sender<()>) {
        clock::stop_at(Instant::now());
        let (answer, answered) = oneshot::channel();
        let (expire, expired) = oneshot::channel::<()>();
        let sources = [answered.boxed(), pending().boxed()].map(|answer| async {
            yield_now().await;
            answer.await
        });
        let sources = sources.into_iter().enumerate();
        let run = fetch_and_aggregate(sources, Duration::MAX);
        let run = run.expire_on(expired);
        let run = run.map(|outcome| {
            outcome
                .unwrap_or_else(Interrupted::into_partial)
                .results
                .len()
        });
        let mut run = Self(run.boxed());
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
    clock::stop_at(clock::now() + FUTURE_PATIENCE);
    assert!(run.is_pending(TURN - 1));
    assert_eq!(run.poll(), Poll::Ready(0), "the time is up");
}

#[test]
fn end_of_a_stream_that_came_before_the_deadline_counts_in_a_late_poll() {
    let began = Instant::now();
    for (items, is_complete) in [(1, true), (2, false)] {
        clock::stop_at(began);
        let (sender, mut receiver) = mpsc::unbounded();
        let (answer, answered) = oneshot::channel();
        sender.unbounded_send((0, answered)).unwrap();
        let second = Duration::from_secs(1);
        // Without a size hint.
        let stream = futures::stream::poll_fn(move |cx| receiver.poll_next_unpin(cx));
        let mut run = Box::pin(fetch_and_aggregate(from_stream(stream), second));
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
        clock::stop_at(began + 2 * second);
        assert!(poll().is_pending());
        clock::stop_at(began + 3 * second);
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
