//! An adaptive limit: what moves it, that every end of a source is told to it, and what it costs others.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use common::{NEVER, panic_of};
use futures::executor::block_on;
use futures::future::FutureExt;
use futures_aggregate::types::TestSleep;
use futures_aggregate::{
    Limit, Reason, SourceError, TestTimer, Timer, each, fetch_and_aggregate, for_each_result,
    process_batch, stream_results,
};

const LATENCY: Duration = Duration::from_millis(10);

/// Runs so many sources that take the same time, whatever their number is, and end as `answer` says.
fn run(limit: &Limit, count: usize, own: usize, answer: impl Fn(usize) -> Result<(), u16>) {
    let timer = TestTimer::new();
    let answer = &answer;
    let sources = each(0..count, |&id| {
        let sleep = timer.sleep_until(timer.now() + LATENCY);
        async move {
            sleep.await;
            answer(id)
        }
    });
    let run = fetch_and_aggregate(sources, NEVER)
        .concurrency(limit)
        .concurrency(own)
        .overload_if(|answer| *answer == Err(503))
        .timer(&timer);
    let aggregate = block_on(timer.auto_advance(run)).unwrap();
    assert_eq!(aggregate.results.len() + aggregate.errors.len(), count);
    assert_eq!(limit.in_use(), 0);
}

#[test]
fn limit_grows_while_latency_stays_and_the_limit_is_used() {
    let limit = Limit::adaptive(1..=64);
    assert_eq!(limit.get(), 4);
    run(&limit, 3000, usize::MAX, |_| Ok(()));
    assert_eq!(limit.get(), 64);
}

#[test]
fn limit_does_not_grow_while_the_caller_uses_a_part_of_it() {
    let limit = Limit::adaptive(1..=64);
    run(&limit, 3000, 2, |_| Ok(()));
    assert_eq!(limit.get(), 4);
}

#[test]
fn limit_does_not_grow_on_errors() {
    let limit = Limit::adaptive(1..=64);
    run(&limit, 3000, usize::MAX, |id| {
        match id < 40 || id % 4 == 0 {
            true => Ok(()),
            false => Err(404),
        }
    });
    assert!(limit.get() <= 9, "{}", limit.get());
}

#[test]
fn limit_grows_among_some_errors_that_are_no_sign_of_overload() {
    let limit = Limit::adaptive(1..=64);
    run(&limit, 3000, usize::MAX, |id| match id % 4 == 0 {
        true => Err(404),
        false => Ok(()),
    });
    assert_eq!(limit.get(), 64);
}

#[test]
fn limit_falls_when_answers_are_signs_of_overload() {
    let limit = Limit::adaptive(2..=64);
    run(&limit, 3000, usize::MAX, |id| {
        match id < 2000 || id % 4 > 0 {
            true => Ok(()),
            false => Err(503),
        }
    });
    assert_eq!(limit.get(), 2);
}

#[test]
fn limit_falls_when_sources_time_out() {
    let limit = Limit::adaptive(1..=64);
    run(&limit, 3000, usize::MAX, |_| Ok(()));
    let timer = TestTimer::new();
    let sources = (0..2000).map(|id| (id, pending::<Result<(), ()>>()));
    let run = fetch_and_aggregate(sources, NEVER)
        .concurrency(&limit)
        .source_timeout(LATENCY)
        .timer(&timer);
    let aggregate = block_on(timer.auto_advance(run)).unwrap();
    assert_eq!(aggregate.errors.len(), 2000);
    assert_eq!((limit.get(), limit.in_use()), (1, 0));
}

#[test]
fn source_gives_its_place_back_however_it_ends() {
    let limit = Limit::adaptive(1..=64);
    let sources = |count: usize| (0..count).map(|id| (id, pending::<Result<(), ()>>()));
    for round in 0..20 {
        // Dropped with its run, or by the end of it.
        let mut dropped = fetch_and_aggregate(sources(9), NEVER).concurrency(&limit);
        assert!((&mut dropped).now_or_never().is_none());
        assert!(limit.in_use() > 0, "round {round}");
        drop(dropped);
        assert_eq!(limit.in_use(), 0);
        let expired = fetch_and_aggregate(sources(9), Duration::ZERO).concurrency(&limit);
        let interrupted = block_on(expired).unwrap_err();
        assert_eq!(interrupted.reason, Reason::TimedOut);
        assert_eq!(limit.in_use(), 0);
        // In a panic, which the run catches or does not.
        let broken = || each(0..3, |_| async { panic!("broken") as Result<(), ()> });
        let caught = fetch_and_aggregate(broken(), NEVER).concurrency(&limit);
        let caught = block_on(caught.catch_panics()).unwrap();
        assert!(matches!(caught.errors[0].1, SourceError::Panicked(_)));
        assert_eq!(limit.in_use(), 0);
        let unwinds = fetch_and_aggregate(broken(), NEVER).concurrency(&limit);
        assert_eq!(panic_of(|| block_on(unwinds)), "broken");
        assert_eq!(limit.in_use(), 0);
    }
}

#[test]
fn panic_of_the_rule_for_overload_loses_nothing() {
    let limit = Limit::adaptive(1..=64);
    let calls = Cell::new(0);
    let mut run = fetch_and_aggregate((0..30).map(|id| (id, ready(Ok::<_, ()>(id)))), NEVER)
        .concurrency(&limit)
        .overload_if(|_| {
            calls.set(calls.get() + 1);
            assert!(calls.get() % 10 > 0, "rule");
            false
        });
    let mut panics = 0;
    let aggregate = loop {
        let poll = catch_unwind(AssertUnwindSafe(|| (&mut run).now_or_never()));
        match poll {
            Ok(Some(aggregate)) => break aggregate.unwrap(),
            Ok(None) => {}
            Err(_) => panics += 1,
        }
    };
    assert_eq!((calls.get(), panics), (30, 3));
    assert_eq!(aggregate.results.len(), 30);
    assert_eq!(limit.in_use(), 0);
}

#[test]
fn each_rule_for_overload_is_asked_beside_the_other_closures() {
    let limit = Limit::adaptive(1..=8);
    let asked = RefCell::new((Vec::new(), Vec::new()));
    let seen = Cell::new(0);
    let run = fetch_and_aggregate((0..4).map(|id| (id, ready(Ok::<_, ()>(id)))), NEVER)
        .overload_if(|answer| {
            asked.borrow_mut().0.push(*answer);
            true
        })
        .observe(|_| seen.set(seen.get() + 1))
        .source_timeout_by(|_| NEVER)
        .overload_if(|answer| {
            asked.borrow_mut().1.push(*answer);
            false
        })
        .stop_when(|so_far| so_far.results.len() == 3)
        .concurrency(&limit);
    assert_eq!(block_on(run).unwrap().results.len(), 3);
    let expected = vec![Ok(0), Ok(1), Ok(2)];
    assert_eq!(asked.into_inner(), (expected.clone(), expected));
    assert_eq!(seen.get(), 7);
}

#[test]
fn rule_for_overload_is_not_asked_without_an_adaptive_limit() {
    let run = fetch_and_aggregate([(0, ready(Ok::<_, ()>(0)))], NEVER)
        .concurrency(&Limit::new(3))
        .overload_if(|_| panic!("asked"));
    assert_eq!(block_on(run).unwrap().results.len(), 1);
}

#[test]
fn every_operation_moves_the_limit() {
    let sources = || (0..1000).map(|id| (id, ready(Err::<(), _>(503))));
    let limits = [(); 3].map(|()| Limit::adaptive(1..=64));
    let (sender, receiver) = async_channel::unbounded();
    let streamed = stream_results(sources(), sender)
        .concurrency(&limits[0])
        .overload_if(|answer| answer.is_err());
    assert!(block_on(streamed).is_ok());
    assert_eq!(receiver.len(), 1000);
    let handled = for_each_result(sources(), |_| async { Ok::<_, ()>(()) })
        .concurrency(&limits[1])
        .overload_if(|answer| answer.is_err());
    assert!(block_on(handled).is_ok());
    let batches = process_batch([sources(), sources()])
        .source_concurrency(&limits[2])
        .overload_if(|answer| answer.is_err());
    assert!(block_on(batches).is_ok());
    for limit in limits {
        assert_eq!((limit.get(), limit.in_use()), (1, 0));
    }
}

#[test]
fn caller_can_set_it_within_its_range() {
    let limit = Limit::adaptive(2..=64);
    for (set, expected) in [(10, 10), (1, 2), (1000, 64)] {
        limit.set(set);
        assert_eq!(limit.get(), expected);
    }
    // It goes on from there.
    run(&limit, 2000, usize::MAX, |_| Err(503));
    assert_eq!(limit.get(), 2);
}

#[test]
fn range_has_numbers_from_one() {
    assert!(panic_of(|| Limit::adaptive(0..=3)).starts_with("a limit of 0"));
    #[expect(clippy::reversed_empty_ranges, reason = "it is refused")]
    let empty = 4..=3;
    assert!(panic_of(|| Limit::adaptive(empty)).contains("is empty"));
    assert_eq!(Limit::adaptive(7..=9).get(), 7);
    assert_eq!(Limit::adaptive(1..=2).get(), 2);
}

/// A timer that counts how often its clock is read.
struct Counting(Cell<u32>, TestTimer);

impl Timer for Counting {
    type Sleep = TestSleep;

    fn now(&self) -> Instant {
        self.0.set(self.0.get() + 1);
        self.1.now()
    }

    fn sleep_until(&self, at: Instant) -> TestSleep {
        self.1.sleep_until(at)
    }
}

#[test]
fn only_an_adaptive_limit_reads_the_clock_for_each_source() {
    let reads = |limit: &Limit| {
        let timer = Counting(Cell::new(0), TestTimer::new());
        let sources = (0..1000).map(|id| (id, ready(Ok::<_, ()>(id))));
        let run = fetch_and_aggregate(sources, NEVER).concurrency(limit);
        assert!(block_on(run.timer(&timer)).is_ok());
        timer.0.get()
    };
    // The first run of a thread looks at the clock more often.
    reads(&Limit::new(4));
    let plain = reads(&Limit::new(4));
    assert!(plain < 200, "{plain}");
    assert_eq!(reads(&Limit::adaptive(4..=4)), plain + 2000);
}

/// The limit after sources that take 10 ms each. The first one may never end.
fn limit_after(limit: &Limit, weight: usize, is_first_endless: bool) -> usize {
    let timer = TestTimer::new();
    let sources = each(0..5000_usize, |&id| {
        let time = match id == 0 && is_first_endless {
            true => Duration::from_secs(1_000_000),
            false => Duration::from_millis(10),
        };
        timer.sleep_until(timer.now() + time).map(Ok::<_, ()>)
    });
    let run = fetch_and_aggregate(sources, Duration::from_secs(1000))
        .concurrency(limit)
        .weight(move |_| weight)
        .timer(timer.clone());
    drop(futures::executor::block_on(timer.auto_advance(run)));
    limit.get()
}

#[test]
fn sources_with_weights_use_the_limit_although_they_do_not_fill_it() {
    for weight in [1, 2, 3, 7, 20] {
        let limit = limit_after(&Limit::adaptive(1..=256), weight, false);
        assert!(limit > 100, "{limit} with weight {weight}");
    }
}

#[test]
fn source_that_never_ends_does_not_freeze_the_limit() {
    let limit = limit_after(&Limit::adaptive(1..=256), 1, true);
    assert!(limit > 20, "{limit}");
}
