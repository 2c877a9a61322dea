use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::channel::oneshot;
use futures::executor::LocalPool;
use futures::future::join;
use futures::task::LocalSpawnExt;

use crate::timer::Wakes;
use crate::{TestTimer, Timer, fetch_and_aggregate};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn clock_that_moves_wakes_the_sleeps_that_have_ended() {
    let timer = TestTimer::new();
    let began = timer.now();
    let mut sleeps = [1, 2, 3].map(|hours| Box::pin(timer.sleep_until(began + hours * HOUR)));
    let wakes = [0; 3].map(|_| Arc::<Wakes>::default());
    let mut poll = |index: usize| {
        let waker = Waker::from(Arc::clone(&wakes[index]));
        sleeps[index]
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
    };
    // Relaxed: one thread.
    let counts = || {
        wakes
            .each_ref()
            .map(|wakes| wakes.0.load(Ordering::Relaxed))
    };
    assert!((0..3).all(|index| poll(index).is_pending()));
    assert_eq!(timer.next_deadline(), Some(began + HOUR));

    timer.advance(2 * HOUR);
    assert_eq!(counts(), [1, 1, 0]);
    assert!(poll(0).is_ready() && poll(1).is_ready() && poll(2).is_pending());
    assert!(timer.advance_to_next());
    assert_eq!(counts(), [1, 1, 1]);
    assert_eq!(timer.elapsed(), 3 * HOUR);
    assert!(!timer.advance_to_next());
}

#[test]
fn sleep_that_is_dropped_is_no_deadline() {
    let timer = TestTimer::new();
    let mut sleep = Box::pin(timer.sleep_until(timer.now() + HOUR));
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(sleep.as_mut().poll(cx).is_pending());
    drop(sleep);
    assert_eq!(timer.next_deadline(), None);
}

#[test]
fn time_passes_by_itself_only_when_other_tasks_have_had_their_turns() {
    let timer = TestTimer::new();
    let mut pool = LocalPool::new();
    let (answer, answered) = oneshot::channel::<()>();
    let worker = async move {
        let mut turns = 50;
        poll_fn(|cx| {
            turns -= 1;
            cx.waker().wake_by_ref();
            if turns == 0 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        answer.send(()).unwrap();
    };
    pool.spawner().spawn_local(worker).unwrap();
    let run = fetch_and_aggregate([(0, answered)], HOUR).timer(timer.clone());
    let ended = pool.run_until(timer.auto_advance(run));
    assert_eq!(ended.unwrap().results, [(0, ())]);
    assert_eq!(timer.elapsed(), Duration::ZERO);
}

#[test]
fn time_passes_by_itself_from_deadline_to_deadline() {
    let timer = TestTimer::new();
    let seen = Cell::new(Duration::ZERO);
    let short = async {
        timer.sleep_until(timer.now() + HOUR).await;
        seen.set(timer.elapsed());
    };
    let long = fetch_and_aggregate([(0, pending::<Result<(), ()>>())], 5 * HOUR);
    let both = join(short, long.timer(&timer));
    let mut both = pin!(timer.auto_advance(both));
    let cx = &mut Context::from_waker(Waker::noop());
    let ended = (0..1000).find_map(|_| match both.as_mut().poll(cx) {
        Poll::Ready(((), ended)) => Some(ended),
        Poll::Pending => None,
    });
    assert!(ended.expect("time has passed").is_err());
    assert_eq!(seen.get(), HOUR);
    assert_eq!(timer.elapsed(), 5 * HOUR);
}
