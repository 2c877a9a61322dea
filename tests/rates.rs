//! A limit on starts per second: when sources start, whose turn it is, and what counts as a start.

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use common::{Answer, NEVER, Task, ids, panic_of, sources};
use futures::channel::oneshot;
use futures::executor::block_on;
use futures::future::join_all;
use futures_aggregate::{
    Limit, Rate, Reason, TestTimer, Timer, each, fetch_and_aggregate, from_stream, process_batch,
};
use proptest::prelude::*;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// When sources start, since the timer was made.
#[derive(Clone)]
struct Starts {
    timer: TestTimer,
    zero: futures_aggregate::types::Instant,
    times: Rc<RefCell<Vec<Duration>>>,
}

impl Starts {
    fn new() -> Self {
        let timer = TestTimer::new();
        Self {
            zero: timer.now(),
            timer,
            times: Rc::default(),
        }
    }

    fn note(&self) {
        self.times.borrow_mut().push(self.timer.now() - self.zero);
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = Answer> + use<> {
        let sleep = self.timer.sleep_until(self.timer.now() + duration);
        async {
            sleep.await;
            Ok(1)
        }
    }

    fn millis(&self) -> Vec<u128> {
        self.times
            .borrow()
            .iter()
            .map(Duration::as_millis)
            .collect()
    }
}

#[test]
fn sources_start_at_the_rate_after_a_burst() {
    let starts = Starts::new();
    let rate = Rate::per_second(10.0).burst(3);
    let sources = each(0..6_usize, |_| {
        starts.note();
        starts.sleep(ms(5))
    });
    let run = fetch_and_aggregate(sources, NEVER)
        .rate(&rate)
        .timer(starts.timer.clone());
    let results = block_on(starts.timer.auto_advance(run)).unwrap().results;
    assert_eq!(results.len(), 6);
    assert_eq!(starts.millis(), [0, 0, 0, 100, 200, 300]);
}

#[test]
fn pause_earns_a_burst_and_not_more() {
    let starts = Starts::new();
    let rate = Rate::per_second(10.0).burst(2);
    for pause in [ms(0), ms(100), ms(10_000)] {
        let sources = each(0..3_usize, |_| {
            starts.note();
            starts.sleep(ms(0))
        });
        let run = fetch_and_aggregate(sources, NEVER)
            .rate(&rate)
            .timer(starts.timer.clone());
        starts.timer.advance(pause);
        drop(block_on(starts.timer.auto_advance(run)).unwrap());
    }
    // The second run begins 100 ms after the last start, which is one start later.
    let expected = [0, 0, 100, 200, 300, 400, 10_400, 10_400, 10_500];
    assert_eq!(starts.millis(), expected);
}

/// When so many sources start, in milliseconds, in a run under these rates.
fn starts_under(rates: &[Rate], sources: usize) -> Vec<u128> {
    let starts = Starts::new();
    let sources = each(0..sources, |_| {
        starts.note();
        starts.sleep(ms(0))
    });
    let run = fetch_and_aggregate(sources, NEVER).timer(starts.timer.clone());
    let run = rates.iter().fold(run, |run, rate| run.rate(rate));
    drop(block_on(starts.timer.auto_advance(run)).unwrap());
    starts.millis()
}

#[test]
fn fractions_of_a_start_are_rates_too() {
    let times = starts_under(&[Rate::per_second(0.5)], 3);
    assert_eq!(times, [0, 2000, 4000]);
}

#[test]
fn all_rates_of_a_run_apply() {
    let rates = [Rate::per_second(1.0).burst(4), Rate::per_second(10.0)];
    let times = starts_under(&rates, 6);
    assert_eq!(times, [0, 100, 200, 300, 1000, 2000]);
}

#[test]
fn same_rate_twice_counts_once() {
    let rate = Rate::per_second(10.0);
    let times = starts_under(&[rate.clone(), rate], 3);
    assert_eq!(times, [0, 100, 200]);
}

/// Runs that share a rate, and log their starts as (run, time).
fn race(runs: usize, sources: usize) -> Vec<(usize, u128)> {
    let starts = Starts::new();
    let log = RefCell::new(Vec::new());
    let rate = Rate::per_second(10.0);
    let run = |run: usize| {
        let (starts, log) = (&starts, &log);
        let sources = each(0..sources, move |_| {
            let at = (starts.timer.now() - starts.zero).as_millis();
            log.borrow_mut().push((run, at));
            starts.sleep(ms(1))
        });
        fetch_and_aggregate(sources, NEVER)
            .rate(&rate)
            .timer(starts.timer.clone())
    };
    block_on(starts.timer.auto_advance(join_all((0..runs).map(run))));
    log.into_inner()
}

#[test]
fn runs_that_share_a_rate_take_turns() {
    let log = race(3, 3);
    // The first run waits again before the others are polled.
    let order = [0, 0, 1, 2, 0, 1, 2, 1, 2];
    let expected: Vec<_> = order.into_iter().zip((0..).map(|at| at * 100)).collect();
    assert_eq!(log, expected);
}

#[test]
fn run_that_is_dropped_gives_its_turn_to_the_next_one() {
    let timer = TestTimer::new();
    let rate = Rate::per_second(1.0);
    let run = || {
        let (handles, list) = sources(2);
        let run = fetch_and_aggregate(list, NEVER)
            .rate(&rate)
            .timer(timer.clone());
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        (handles, task)
    };
    let (first, mut first_task) = run();
    let (second, second_task) = run();
    let (third, mut third_task) = run();
    assert_eq!([&first, &second, &third].map(|it| it[0].polls()), [1, 0, 0]);
    // The turns: the first run at 1 s, the second at 2 s, the third at 3 s.
    drop(second_task);
    assert!(third_task.is_woken() && !first_task.is_woken());
    assert!(third_task.settle().is_pending());
    timer.advance(ms(1000));
    assert!(first_task.settle().is_pending());
    assert!(third_task.settle().is_pending());
    assert_eq!([first[1].polls(), third[0].polls()], [1, 0]);
    timer.advance(ms(1000));
    assert!(third_task.is_woken());
    assert!(third_task.settle().is_pending());
    assert_eq!(third[0].polls(), 1);
}

#[test]
fn run_that_is_never_polled_holds_up_no_other() {
    let timer = TestTimer::new();
    let rate = Rate::per_second(1.0);
    let run = |count| {
        let (handles, list) = sources(count);
        let run = fetch_and_aggregate(list, NEVER)
            .rate(&rate)
            .timer(timer.clone());
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        (handles, task)
    };
    let (stalled, _stalled_task) = run(2);
    let (other, mut task) = run(3);
    for started in 1..=3 {
        timer.advance(ms(2000));
        assert!(task.settle().is_pending());
        assert_eq!(other[started - 1].polls(), 1, "{started}");
    }
    assert_eq!(stalled[1].polls(), 0);
}

#[test]
fn later_runs_do_not_overtake_one_that_waits() {
    let timer = TestTimer::new();
    let rate = Rate::per_second(10.0);
    let run = || {
        let run = fetch_and_aggregate(sources(1).1, NEVER).rate(&rate);
        Task::new(run.timer(timer.clone()))
    };
    let mut first = run();
    assert!(first.settle().is_pending());
    let (handles, list) = sources(1);
    let mut waits = Task::new(
        fetch_and_aggregate(list, NEVER)
            .rate(&rate)
            .timer(timer.clone()),
    );
    assert!(waits.settle().is_pending());
    timer.advance(ms(100));
    // A run that is polled right before it at its turn comes behind it.
    let mut later = run();
    assert!(later.settle().is_pending());
    assert_eq!(handles[0].polls(), 0);
    assert!(waits.settle().is_pending());
    assert_eq!(handles[0].polls(), 1);
}

#[test]
fn waiting_for_the_rate_counts_against_the_deadline_and_no_other_timeout() {
    let starts = Starts::new();
    let sources = each(0..5_usize, |_| starts.sleep(ms(30)));
    let run = fetch_and_aggregate(sources, ms(250))
        .rate(&Rate::per_second(10.0))
        .source_timeout(ms(40))
        .timer(starts.timer.clone());
    let interrupted = block_on(starts.timer.auto_advance(run)).unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert_eq!(ids(&interrupted.partial.results), [0, 1, 2]);
    assert!(interrupted.partial.errors.is_empty());
    assert_eq!(interrupted.partial.unfinished, [3, 4]);
    assert_eq!(starts.timer.now() - starts.zero, ms(250));
}

#[test]
fn run_that_waits_for_the_rate_can_be_cancelled_and_drained() {
    for drains in [false, true] {
        let timer = TestTimer::new();
        let (stop, stopped) = oneshot::channel::<()>();
        let (_handles, list) = sources(2);
        let rate = Rate::per_second(1.0);
        let run = fetch_and_aggregate(list, NEVER)
            .rate(&rate)
            .timer(timer.clone());
        let run: std::pin::Pin<Box<dyn Future<Output = _>>> = match drains {
            true => Box::pin(run.drain_on(stopped).drain_timeout(ms(5))),
            false => Box::pin(run.cancel_on(stopped)),
        };
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        stop.send(()).unwrap();
        if drains {
            assert!(task.settle().is_pending());
            assert!(!format!("{rate:?}").contains("waiting: 1"), "{rate:?}");
            timer.advance(ms(5));
        }
        let interrupted = task.finish().unwrap_err();
        assert_eq!(interrupted.partial.unfinished, [0, 1]);
        assert!(!format!("{rate:?}").contains("waiting: 1"), "{rate:?}");
    }
}

#[test]
fn full_limit_uses_up_no_start() {
    let starts = Starts::new();
    let (rate, limit) = (Rate::per_second(10.0).burst(2), Limit::new(1));
    let sources = each(0..3_usize, |_| {
        starts.note();
        starts.sleep(ms(1000))
    });
    let slow = fetch_and_aggregate(sources, NEVER)
        .rate(&rate)
        .concurrency(&limit)
        .timer(starts.timer.clone());
    let others = each(0..3_usize, |_| {
        starts.note();
        starts.sleep(ms(0))
    });
    let other = fetch_and_aggregate(others, NEVER)
        .rate(&rate)
        .timer(starts.timer.clone());
    let both = futures::future::join(slow, other);
    drop(block_on(starts.timer.auto_advance(both)));
    assert_eq!(starts.millis(), [0, 0, 100, 200, 1000, 2000]);
}

#[test]
fn rate_gives_back_the_place_under_a_limit_while_a_source_waits() {
    let timer = TestTimer::new();
    let (rate, limit) = (Rate::per_second(1.0), Limit::new(3));
    let (handles, list) = sources(3);
    let run = fetch_and_aggregate(list, NEVER)
        .rate(&rate)
        .concurrency(&limit)
        .timer(timer.clone());
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    assert_eq!((handles[0].polls(), limit.in_use()), (1, 1));
    timer.advance(ms(1000));
    assert!(task.settle().is_pending());
    assert_eq!((handles[1].polls(), limit.in_use()), (1, 2));
    drop(task);
    assert_eq!(limit.in_use(), 0);
}

#[test]
fn list_without_a_source_uses_up_no_start() {
    let starts = Starts::new();
    let rate = Rate::per_second(10.0).burst(2);
    let (sender, receiver) = async_channel::unbounded();
    let run = fetch_and_aggregate(from_stream(receiver), NEVER)
        .rate(&rate)
        .timer(starts.timer.clone());
    let mut task = Task::new(run);
    let (handles, list) = sources(4);
    let mut list = list.into_iter();
    for _ in 0..10 {
        assert!(task.poll().is_pending());
    }
    for _ in 0..2 {
        sender.try_send(list.next().unwrap()).unwrap();
        assert!(task.settle().is_pending());
    }
    let started = || handles.iter().filter(|handle| handle.polls() > 0).count();
    assert_eq!(started(), 2);
    sender.try_send(list.next().unwrap()).unwrap();
    assert!(task.settle().is_pending());
    assert_eq!(started(), 2);
    starts.timer.advance(ms(100));
    assert!(task.settle().is_pending());
    assert_eq!(started(), 3);
}

#[test]
fn sources_of_batches_start_at_the_rate() {
    let starts = Starts::new();
    let batch = |_| {
        each(0..2_usize, |_| {
            starts.note();
            starts.sleep(ms(1))
        })
    };
    let run = process_batch((0..2).map(batch))
        .rate(&Rate::per_second(10.0))
        .batch_timeout(ms(350))
        .timer(starts.timer.clone());
    let batches = block_on(starts.timer.auto_advance(run)).unwrap();
    assert!(batches.iter().all(Result::is_ok));
    assert_eq!(starts.millis(), [0, 100, 200, 300]);
}

#[test]
fn senseless_rates_are_refused() {
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(
            panic_of(|| Rate::per_second(rate)),
            format!("a rate must be a positive number of starts per second, and not {rate}")
        );
    }
    assert_eq!(
        panic_of(|| Rate::per_second(1e-12)),
        "a rate of 0.000000000001 starts per second is too low; it must be at least one in 500 years"
    );
    assert_eq!(
        panic_of(|| Rate::per_second(1.0).burst(0)),
        "a burst of 0 would never start a source; it must be at least 1"
    );
}

#[test]
fn extreme_rates_do_not_overflow() {
    let starts = Starts::new();
    for rate in [
        Rate::per_second(1e-9).burst(u32::MAX),
        Rate::per_second(f64::MAX).burst(u32::MAX),
    ] {
        let run = fetch_and_aggregate(each(0..100_usize, |_| starts.sleep(ms(0))), NEVER)
            .rate(&rate)
            .timer(starts.timer.clone());
        let aggregate = block_on(starts.timer.auto_advance(run)).unwrap();
        assert_eq!(aggregate.results.len(), 100);
    }
}

proptest! {
    /// In every span of time, at most as many sources start as the documentation says.
    #[test]
    fn no_span_of_time_has_too_many_starts(
        per_second in 1..2000_u32,
        burst in 1..6_u32,
        concurrency in 1..5_usize,
        lengths in prop::collection::vec(prop::collection::vec(0..300_u64, 0..20), 1..4),
    ) {
        let starts = Starts::new();
        let rate = Rate::per_second(f64::from(per_second)).burst(burst);
        let count: usize = lengths.iter().map(Vec::len).sum();
        let run = |lengths: Vec<u64>| {
            let starts = &starts;
            let sources = each(lengths.into_iter(), |length| {
                starts.note();
                starts.sleep(ms(*length))
            });
            fetch_and_aggregate(sources, NEVER)
                .concurrency(concurrency)
                .rate(&rate)
                .timer(starts.timer.clone())
        };
        let runs = join_all(lengths.into_iter().map(run));
        block_on(starts.timer.auto_advance(runs));
        let times = starts.times.borrow();
        prop_assert_eq!(times.len(), count);
        let interval = Duration::from_nanos((1e9 / f64::from(per_second)).ceil() as u64);
        for (first, from) in times.iter().enumerate() {
            for (last, to) in times.iter().enumerate().skip(first) {
                let allowed = u128::from(burst) + (*to - *from).as_nanos() / interval.as_nanos();
                prop_assert!((last - first + 1) as u128 <= allowed);
            }
        }
    }
}
