//! Timers of the caller: every timeout follows their clock, and a timer that lies loses nothing.

mod common;

use std::cell::Cell;
use std::future::{Future, pending, poll_fn, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use common::{NEVER, Task, ids, panic_of, sources};
use futures::executor::{LocalPool, block_on};
use futures::future::{FutureExt, join};
use futures::task::LocalSpawnExt;
use futures_aggregate::{
    Interrupted, Reason, SourceError, SystemTimer, TestTimer, Timer, each, fetch_and_aggregate,
    for_each_result, from_stream, hedge, process_batch, stream_results,
};

const HOUR: Duration = Duration::from_secs(3600);

/// A source that sleeps on a timer.
async fn sleeps(timer: &TestTimer, time: Duration) -> Result<Duration, ()> {
    timer.sleep_until(timer.now() + time).await;
    Ok(timer.elapsed())
}

/// Two sources: one takes an hour, the other never answers.
fn hour_and_never(
    timer: &TestTimer,
) -> impl Iterator<Item = (usize, impl Future<Output = Result<Duration, ()>>)> {
    [HOUR, 1_000_000 * HOUR]
        .into_iter()
        .map(|time| sleeps(timer, time))
        .enumerate()
}

#[test]
fn every_timeout_follows_the_clock_of_the_timer() {
    let timer = TestTimer::new();
    let run = fetch_and_aggregate(hour_and_never(&timer), 2 * HOUR).timer(&timer);
    let interrupted = block_on(timer.auto_advance(run)).unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert_eq!(interrupted.partial.results, [(0, HOUR)]);
    assert_eq!(interrupted.partial.unfinished, [1]);
    assert_eq!(timer.elapsed(), 2 * HOUR);

    let timer = TestTimer::new();
    let run = fetch_and_aggregate(hour_and_never(&timer), NEVER).timer(&timer);
    let aggregate = block_on(timer.auto_advance(run.source_timeout(3 * HOUR))).unwrap();
    assert_eq!(aggregate.results, [(0, HOUR)]);
    assert_eq!(aggregate.errors, [(1, SourceError::TimedOut)]);
    assert_eq!(timer.elapsed(), 3 * HOUR);

    let timer = TestTimer::new();
    let by_id = |id: &usize| [NEVER, 4 * HOUR][*id];
    let run = fetch_and_aggregate(hour_and_never(&timer), NEVER).source_timeout_by(by_id);
    let aggregate = block_on(timer.auto_advance(run.timer(&timer))).unwrap();
    assert_eq!(ids(&aggregate.errors), [1]);
    assert_eq!(timer.elapsed(), 4 * HOUR);

    let timer = TestTimer::new();
    let run = fetch_and_aggregate(hour_and_never(&timer), NEVER)
        .drain_on(sleeps(&timer, HOUR / 2))
        .drain_timeout(HOUR)
        .timer(&timer);
    let interrupted = block_on(timer.auto_advance(run)).unwrap_err();
    assert_eq!(interrupted.reason, Reason::Drained);
    assert_eq!(interrupted.partial.results, [(0, HOUR)]);
    assert_eq!(timer.elapsed(), HOUR + HOUR / 2);

    let timer = TestTimer::new();
    let deadline = timer.now() + 5 * HOUR;
    let run = fetch_and_aggregate(hour_and_never(&timer), 6 * HOUR).deadline(deadline);
    let interrupted = block_on(timer.auto_advance(run.timer(&timer))).unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert_eq!(timer.elapsed(), 5 * HOUR);
}

#[test]
fn batches_streams_and_bodies_follow_the_clock_of_the_timer() {
    let timer = TestTimer::new();
    let batches = [1, 2].map(|_| hour_and_never(&timer));
    let run = process_batch(batches)
        .batch_timeout(2 * HOUR)
        .concurrency(1)
        .timer(&timer);
    let outcomes = block_on(timer.auto_advance(run)).unwrap();
    let ends: Vec<_> = outcomes
        .into_iter()
        .map(|batch| batch.unwrap_err().into_partial().results)
        .collect();
    // The second batch begins when the first one is over.
    assert_eq!(ends, [[(0, HOUR)], [(0, 3 * HOUR)]]);
    assert_eq!(timer.elapsed(), 4 * HOUR);

    let timer = TestTimer::new();
    let batches = [1, 2, 3].map(|_| hour_and_never(&timer));
    let run = process_batch(batches)
        .batch_timeout(NEVER)
        .source_timeout(2 * HOUR)
        .timer(&timer);
    let outcomes = block_on(timer.auto_advance(run)).unwrap();
    for batch in outcomes {
        assert_eq!(ids(&batch.unwrap().errors), [1]);
    }
    assert_eq!(timer.elapsed(), 2 * HOUR);

    let timer = TestTimer::new();
    let (sender, receiver) = async_channel::unbounded();
    let driver = stream_results(hour_and_never(&timer), sender)
        .timeout(2 * HOUR)
        .timer(&timer);
    let streamed = block_on(timer.auto_advance(driver))
        .unwrap_err()
        .into_partial();
    assert_eq!((streamed.delivered, streamed.unfinished), (1, vec![1]));
    assert_eq!(receiver.try_recv(), Ok((0, Ok(HOUR))));
    assert_eq!(timer.elapsed(), 2 * HOUR);

    let timer = TestTimer::new();
    let body = async |_outcome| sleeps(&timer, HOUR).await.map(|_| ());
    let run = for_each_result(hour_and_never(&timer), body)
        .source_timeout(2 * HOUR)
        .timer(&timer);
    assert_eq!(block_on(timer.auto_advance(run)).unwrap().handled, 2);
    assert_eq!(timer.elapsed(), 3 * HOUR);
}

#[test]
fn hedge_follows_the_clock_of_the_timer() {
    let timer = TestTimer::new();
    let ask = |attempt: usize| sleeps(&timer, [10 * HOUR, 2 * HOUR][attempt]);
    let answer = hedge(HOUR, 2, ask).timer(&timer);
    assert_eq!(block_on(timer.auto_advance(answer)), Ok(3 * HOUR));
}

#[test]
fn elapsed_times_of_events_follow_the_clock_of_the_timer() {
    use futures_aggregate::Event;

    let timer = TestTimer::new();
    let times = Cell::new((NEVER, NEVER));
    let run = fetch_and_aggregate(hour_and_never(&timer), NEVER)
        .observe(|event| match event {
            Event::Finished { elapsed, .. } => times.set((elapsed, times.get().1)),
            Event::Unfinished { elapsed, .. } => times.set((times.get().0, elapsed)),
            _ => {}
        })
        .timer(&timer);
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    timer.advance(HOUR);
    assert!(run.settle().is_pending());
    timer.advance(HOUR);
    run.drop_future();
    assert_eq!(times.get(), (HOUR, 2 * HOUR));
}

#[test]
fn clock_that_is_moved_by_hand_needs_no_executor() {
    let timer = TestTimer::new();
    let (handles, sources) = sources(2);
    let mut run = Task::new(fetch_and_aggregate(sources, 2 * HOUR).timer(&timer));
    assert!(run.settle().is_pending());
    assert_eq!(timer.next_deadline(), Some(timer.now() + 2 * HOUR));
    timer.advance(HOUR);
    assert!(!run.is_woken());
    handles[0].answer(Ok(1));
    // The clock passes the deadline by an hour. The answer came before.
    timer.advance(2 * HOUR);
    assert!(run.is_woken());
    let interrupted = run.finish().unwrap_err();
    assert_eq!(interrupted.partial.results, [(0, 1)]);
    assert_eq!(interrupted.partial.unfinished, [1]);
    assert_eq!(timer.next_deadline(), None, "the run has ended");
    assert!(!timer.advance_to_next());
    assert_eq!(timer.elapsed(), 3 * HOUR);
}

#[test]
fn time_does_not_jump_while_another_task_works() {
    let timer = TestTimer::new();
    let mut pool = LocalPool::new();
    let (sender, receiver) = async_channel::bounded(1);
    let work = async move {
        for step in 0..1000 {
            // Each step takes some turns of the executor.
            for _ in 0..step % 20 {
                common::script::yield_now().await;
            }
            sender.send((step, ready(Ok::<_, ()>(step)))).await.unwrap();
        }
    };
    pool.spawner().spawn_local(work).unwrap();
    let run = fetch_and_aggregate(from_stream(receiver), HOUR).timer(timer.clone());
    let aggregate = pool.run_until(timer.auto_advance(run)).unwrap();
    assert_eq!(aggregate.results.len(), 1000);
    assert_eq!(timer.elapsed(), Duration::ZERO);
}

#[test]
fn time_jumps_for_all_clones() {
    let timer = TestTimer::new();
    let mut pool = LocalPool::new();
    let spawner = pool.spawner();
    let order = Rc::new(Cell::new(0));
    for hours in [3, 1, 2] {
        let (timer, order) = (timer.clone(), order.clone());
        let task = async move {
            let run = fetch_and_aggregate([(0, pending::<Result<(), ()>>())], HOUR * hours);
            assert!(run.timer(&timer).await.is_err());
            assert_eq!(timer.elapsed(), HOUR * hours);
            order.set(order.get() * 10 + hours);
        };
        spawner.spawn_local(task).unwrap();
    }
    pool.run_until(timer.auto_advance(sleeps(&timer, 4 * HOUR)))
        .unwrap();
    assert_eq!(order.get(), 123);
    assert_eq!(timer.elapsed(), 4 * HOUR);
}

#[test]
fn deadline_that_has_passed_starts_nothing() {
    let made = Cell::new(0);
    let list = || {
        each(0..3, |&id| {
            made.set(made.get() + 1);
            ready(Ok::<_, ()>(id))
        })
    };
    let timer = TestTimer::new();
    let passed = timer.now();
    for timeout in [NEVER, HOUR, Duration::ZERO] {
        let run = fetch_and_aggregate(list(), timeout)
            .deadline(passed)
            .timer(&timer);
        let interrupted = Task::new(run).finish().unwrap_err();
        assert_eq!(interrupted.reason, Reason::TimedOut);
        assert_eq!(interrupted.partial.unfinished, [0, 1, 2]);
    }
    let run = process_batch([list(), list()])
        .deadline(passed)
        .timer(&timer);
    let batches = Task::new(run).finish().unwrap_err().into_partial();
    assert_eq!(batches.len(), 2);
    for batch in batches {
        assert_eq!(batch.unwrap_err().partial.unfinished, [0, 1, 2]);
    }
    let (sender, _receiver) = async_channel::unbounded();
    let run = stream_results(list(), sender)
        .deadline(passed)
        .timer(&timer);
    let streamed = Task::new(run).finish().unwrap_err().into_partial();
    assert_eq!(streamed.unfinished, [0, 1, 2]);
    let run = for_each_result(list(), |_| ready(Ok::<_, ()>(()))).deadline(passed);
    let handled = Task::new(run.timer(&timer))
        .finish()
        .unwrap_err()
        .into_partial();
    assert_eq!(handled.unfinished, [0, 1, 2]);
    assert_eq!(made.get(), 0);

    // A timeout of zero polls each source once.
    let run = fetch_and_aggregate(list(), Duration::ZERO).timer(&timer);
    assert_eq!(Task::new(run).finish().unwrap().results.len(), 3);
}

#[test]
fn earliest_deadline_counts() {
    let timer = TestTimer::new();
    let at = |hours| timer.now() + HOUR * hours;
    for (timeout, deadlines, ends) in [(3, [5, 4], 3), (6, [5, 4], 4), (6, [4, 5], 4)] {
        let began = timer.elapsed();
        let run = fetch_and_aggregate([(0, pending::<Result<(), ()>>())], HOUR * timeout)
            .deadline(at(deadlines[0]))
            .deadline(at(deadlines[1]))
            .timer(&timer);
        assert!(block_on(timer.auto_advance(run)).is_err());
        assert_eq!(timer.elapsed() - began, HOUR * ends);
    }
}

#[test]
fn system_timer_sleeps_until_a_time_for_any_task() {
    let at = Instant::now() + Duration::from_millis(20);
    let mut sleep = SystemTimer.sleep_until(at);
    // The first task has lost interest.
    let first = Task::new(pending::<()>());
    let poll = Pin::new(&mut sleep).poll(&mut Context::from_waker(&first.waker()));
    assert!(poll.is_pending());
    block_on(sleep);
    assert!(Instant::now() >= at);
    assert_eq!(first.wakes(), 0, "the waker was replaced");
}

/// What a timer does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Lie {
    Early,
    Late,
    Never,
    PanicsWhenMade,
    PanicsWhenPolled,
    PanicsWhenDropped,
    ClockGoesBack,
    ClockPanics,
}

/// A timer that lies.
#[derive(Clone)]
struct Liar {
    timer: TestTimer,
    lie: Lie,
    /// How often it has lied, so that it does not panic in each call.
    calls: Rc<Cell<u32>>,
}

impl Liar {
    fn new(timer: &TestTimer, lie: Lie) -> Self {
        let calls = Rc::default();
        let timer = timer.clone();
        Self { timer, lie, calls }
    }

    /// Counts a call, and panics in every third one.
    fn panic_now_and_then(&self) {
        self.calls.set(self.calls.get() + 1);
        assert!(self.calls.get() % 3 != 0, "the timer");
    }
}

impl Timer for Liar {
    type Sleep = Lies;

    fn now(&self) -> Instant {
        match self.lie {
            Lie::ClockPanics => self.panic_now_and_then(),
            Lie::ClockGoesBack => {
                self.calls.set(self.calls.get() + 1);
                return self.timer.now() - Duration::from_secs(10) * (self.calls.get() % 3 / 2);
            }
            _ => {}
        }
        self.timer.now()
    }

    fn sleep_until(&self, at: Instant) -> Lies {
        if self.lie == Lie::PanicsWhenMade {
            self.panic_now_and_then();
        }
        let at = match self.lie {
            Lie::Early => at.min(self.timer.now() + HOUR / 10),
            Lie::Late => at + HOUR,
            Lie::Never => at + HOUR * 1_000_000,
            _ => at,
        };
        Lies {
            sleep: self.timer.sleep_until(at).boxed_local(),
            timer: self.clone(),
        }
    }
}

struct Lies {
    sleep: futures::future::LocalBoxFuture<'static, ()>,
    timer: Liar,
}

impl Future for Lies {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.lie == Lie::PanicsWhenPolled {
            self.timer.panic_now_and_then();
        }
        self.sleep.as_mut().poll(cx)
    }
}

impl Drop for Lies {
    fn drop(&mut self) {
        if self.timer.lie == Lie::PanicsWhenDropped && !std::thread::panicking() {
            self.timer.panic_now_and_then();
        }
    }
}

/// Polls a task until it is done, also after panics. Moves the clock by a quarter of an hour whenever
/// nothing else is to be done, and polls the task then, woken or not.
fn finish_with<F: Future>(task: &mut Task<F>, timer: &TestTimer) -> F::Output {
    for _ in 0..100_000 {
        let mut poll = None;
        if let Err(payload) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            poll = Some(task.poll());
        })) {
            assert!(
                payload.downcast_ref::<&str>() == Some(&"the timer"),
                "another panic"
            );
            assert!(task.is_woken(), "after a panic the run has to be polled");
            // Each poll may panic at the same place.
            timer.advance(Duration::from_secs(60));
            continue;
        }
        match poll {
            Some(Poll::Ready(output)) => return output,
            _ if task.is_woken() => {}
            _ => timer.advance(HOUR / 4),
        }
    }
    panic!("the run does not end");
}

#[test]
fn timer_that_lies_loses_nothing_and_holds_nothing_up() {
    for lie in [
        Lie::Early,
        Lie::Late,
        Lie::Never,
        Lie::PanicsWhenMade,
        Lie::PanicsWhenPolled,
        Lie::PanicsWhenDropped,
        Lie::ClockGoesBack,
        Lie::ClockPanics,
    ] {
        // A run, its sources and batches have timeouts.
        for timeouts in 0..3 {
            let timer = TestTimer::new();
            let liar = Liar::new(&timer, lie);
            let sources = hour_and_never(&timer);
            let (results, late, took) = match timeouts {
                0 => {
                    let run = fetch_and_aggregate(sources, 2 * HOUR)
                        .timer(liar)
                        .observe(|_| {});
                    let partial = finish_with(&mut Task::new(run), &timer)
                        .unwrap_err()
                        .partial;
                    (partial.results.len(), partial.unfinished, timer.elapsed())
                }
                1 => {
                    let run = fetch_and_aggregate(sources, NEVER).source_timeout(2 * HOUR);
                    let run = run.timer(liar).observe(|_| {});
                    let aggregate = finish_with(&mut Task::new(run), &timer).unwrap();
                    (
                        aggregate.results.len(),
                        ids(&aggregate.errors),
                        timer.elapsed(),
                    )
                }
                _ => {
                    let run = process_batch([sources])
                        .batch_timeout(2 * HOUR)
                        .timer(liar)
                        .observe(|_| {});
                    let mut batches = finish_with(&mut Task::new(run), &timer).unwrap();
                    let partial = batches.remove(0).unwrap_err().partial;
                    (partial.results.len(), partial.unfinished, timer.elapsed())
                }
            };
            let what = format!("lie {}, timeouts {timeouts}", lie as u32);
            assert_eq!((results, late), (1, vec![1]), "{what}");
            let latest = match lie {
                Lie::Early => 2 * HOUR,
                // This task is polled every quarter of an hour, and a minute after each panic.
                _ => 3 * HOUR,
            };
            assert!((2 * HOUR..=latest).contains(&took), "{what}: {took:?}");
        }
    }
}

#[test]
fn timer_cannot_be_set_after_the_first_poll() {
    let mut run = fetch_and_aggregate([(0, pending::<Result<(), ()>>())], NEVER);
    assert!(
        run.poll_unpin(&mut Context::from_waker(std::task::Waker::noop()))
            .is_pending()
    );
    let message = panic_of(|| run.timer(TestTimer::new()));
    assert!(message.contains("before it is polled"), "{message}");
}

#[test]
fn timer_and_its_sleep_need_not_be_send() {
    struct Local(Rc<TestTimer>);

    impl Timer for Local {
        type Sleep = futures::future::LocalBoxFuture<'static, ()>;

        fn now(&self) -> Instant {
            self.0.now()
        }

        fn sleep_until(&self, at: Instant) -> Self::Sleep {
            let timer = self.0.clone();
            async move { timer.sleep_until(at).await }.boxed_local()
        }
    }

    let timer = TestTimer::new();
    let local = Local(Rc::new(timer.clone()));
    let run = fetch_and_aggregate(hour_and_never(&timer), 2 * HOUR).timer(local);
    let interrupted: Interrupted<_> = block_on(timer.auto_advance(run)).unwrap_err();
    assert_eq!(interrupted.partial.results.len(), 1);
}

#[test]
fn nested_runs_may_have_different_timers() {
    let (outer, inner) = (TestTimer::new(), TestTimer::new());
    let source = async {
        let run = fetch_and_aggregate([(0, pending::<Result<(), ()>>())], HOUR).timer(&inner);
        run.await
            .map(drop)
            .map_err(|interrupted| interrupted.reason)
    };
    let run = fetch_and_aggregate([("inner", source)], 2 * HOUR).timer(&outer);
    let both = join(run, async {
        poll_fn(|_| Poll::Ready(())).await;
        inner.advance(HOUR);
    });
    let (aggregate, ()) = block_on(both);
    let errors = aggregate.unwrap().errors;
    assert_eq!(errors, [("inner", SourceError::Failed(Reason::TimedOut))]);
    assert_eq!(outer.elapsed(), Duration::ZERO);
}

#[test]
fn two_that_advance_the_clock_skip_no_deadline() {
    let timer = TestTimer::new();
    let ends_after = |hours: u32| {
        let run = fetch_and_aggregate([(0, pending::<Result<(), ()>>())], HOUR * hours);
        let run = run.timer(timer.clone());
        let timer = timer.clone();
        timer.clone().auto_advance(async move {
            assert!(run.await.is_err());
            timer.elapsed()
        })
    };
    let both = block_on(join(ends_after(1), ends_after(5)));
    assert_eq!(both, (HOUR, 5 * HOUR));
}

/// A timer whose clock panics once.
struct PanicsOnce(Cell<bool>);

impl Timer for PanicsOnce {
    type Sleep = <SystemTimer as Timer>::Sleep;

    fn now(&self) -> Instant {
        assert!(self.0.replace(true), "the clock");
        SystemTimer.now()
    }

    fn sleep_until(&self, at: Instant) -> Self::Sleep {
        SystemTimer.sleep_until(at)
    }
}

#[test]
fn clock_that_panics_leaves_later_runs_of_the_thread_their_budget() {
    let polls = || {
        let sources = (0..1000).map(|id| (id, ready(Ok::<_, ()>(id))));
        // The clock stands still, so only the number of source polls ends a poll.
        let run = fetch_and_aggregate(sources, NEVER).timer(TestTimer::new());
        let mut task = Task::new(run);
        (1..).find(|_| task.poll().is_ready()).unwrap()
    };
    // A thread without earlier runs reads the clock in each poll, also without a deadline.
    let new_thread = std::thread::spawn(move || {
        let sources = [(0, ready(Ok::<_, ()>(0)))];
        let run = fetch_and_aggregate(sources, NEVER).timer(PanicsOnce(Cell::new(false)));
        let mut task = Task::new(run);
        assert_eq!(panic_of(|| task.settle()), "the clock");
        assert_eq!(task.finish().unwrap().results, [(0, 0)]);
        (polls(), polls())
    });
    assert_eq!(new_thread.join().unwrap(), (16, 16));
}
