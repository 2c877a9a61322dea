//! Hedged requests: when another attempt starts, which answer counts, and how a budget limits attempts.

mod common;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use common::{Handle, NEVER, Source, Task, alive, panic_of, polls, sources};
use futures::executor::block_on;
use futures::future::FusedFuture;
use futures_aggregate::{
    AttemptBudget, AttemptsFailed, HedgeDelay, TestTimer, Timer, fetch_and_aggregate, hedge,
    process_batch,
};

/// Attempts that the test controls, and the closure that makes them.
fn attempts(n: usize) -> (Vec<Handle>, impl FnMut(usize) -> Source) {
    let (handles, list) = sources(n);
    let mut sources: Vec<_> = list.into_iter().map(|(_, source)| Some(source)).collect();
    let make = move |attempt: usize| sources[attempt].take().expect("an attempt is made once");
    (handles, make)
}

/// Polls the task when a timer wakes it, until `condition` holds.
fn wait_for<F: Future>(task: &mut Task<F>, condition: impl Fn() -> bool) {
    while !condition() {
        if task.is_woken() {
            assert!(task.poll().is_pending());
        }
    }
}

#[test]
fn no_other_attempt_is_made_if_the_first_one_answers() {
    let (handles, make) = attempts(3);
    let mut task = Task::new(hedge(Duration::from_secs(60), 3, make));
    assert!(task.settle().is_pending());
    assert_eq!(polls(&handles), [1, 0, 0]);
    handles[0].answer(Ok(7));
    assert_eq!(task.finish(), Ok(7));
    assert_eq!(polls(&handles), [2, 0, 0]);
}

#[test]
fn nothing_happens_before_the_first_poll() {
    let made = RefCell::new(0);
    let hedge = hedge(Duration::ZERO, 3, |_| {
        *made.borrow_mut() += 1;
        std::future::ready(Ok::<_, ()>(1))
    });
    assert_eq!(made.take(), 0);
    assert_eq!(block_on(hedge), Ok(1));
    assert_eq!(made.take(), 1);
}

#[test]
fn another_attempt_is_made_after_each_delay_without_an_answer() {
    let delay = Duration::from_millis(20);
    let (handles, make) = attempts(3);
    let mut task = Task::new(hedge(delay, 3, make));
    let started = Instant::now();
    assert!(task.settle().is_pending());
    for next in [1, 2] {
        assert_eq!(handles[next].polls(), 0);
        wait_for(&mut task, || handles[next].polls() > 0);
        assert!(started.elapsed() >= delay * u32::try_from(next).unwrap());
    }
    assert_eq!(polls(&handles), [1, 1, 1]);
    assert!(task.settle().is_pending());
    assert!(!task.is_woken());
}

#[test]
fn first_success_wins_and_drops_the_other_attempts() {
    for winner in 0..3 {
        let (handles, make) = attempts(3);
        let mut task = Task::new(hedge(Duration::ZERO, 3, make));
        assert!(task.settle().is_pending());
        assert_eq!(polls(&handles), [1, 1, 1]);
        handles[winner].answer(Ok(7));
        assert_eq!(task.finish(), Ok(7));
        assert_eq!(alive(&handles), 0);
        assert!(task.future().is_terminated());
        assert_eq!(task.wakers(), 0);
    }
}

#[test]
fn failure_starts_the_next_attempt_at_once() {
    let (handles, make) = attempts(3);
    let mut task = Task::new(hedge(NEVER, 3, make));
    assert!(task.settle().is_pending());
    handles[0].answer(Err("first"));
    assert!(task.poll().is_pending());
    assert_eq!(polls(&handles), [2, 1, 0]);
    assert!(!handles[0].is_alive());
    handles[1].answer(Err("second"));
    assert!(task.poll().is_pending());
    assert_eq!(polls(&handles), [2, 2, 1]);
    handles[2].answer(Ok(3));
    assert_eq!(task.finish(), Ok(3));
}

#[test]
fn delay_counts_from_the_attempt_that_was_started_last() {
    let delay = Duration::from_millis(200);
    let (handles, make) = attempts(3);
    let mut task = Task::new(hedge(delay, 3, make));
    let started = Instant::now();
    assert!(task.settle().is_pending());
    while started.elapsed() < delay / 2 {
        std::hint::spin_loop();
    }
    handles[0].answer(Err("first"));
    let second = Instant::now();
    assert!(task.settle().is_pending());
    wait_for(&mut task, || handles[2].polls() > 0);
    assert!(second.elapsed() >= delay);
}

#[test]
fn hedge_whose_attempts_have_all_failed_returns_all_errors() {
    let (handles, make) = attempts(3);
    let mut task = Task::new(hedge(Duration::ZERO, 3, make));
    assert!(task.settle().is_pending());
    handles[2].answer(Err("c"));
    assert!(task.settle().is_pending());
    handles[0].answer(Err("a"));
    assert!(task.settle().is_pending());
    handles[1].answer(Err("b"));
    let failed = task.finish().unwrap_err();
    assert_eq!((failed.last, &failed.others[..]), ("b", &["c", "a"][..]));
    assert_eq!(failed.to_string(), "all 3 attempts failed");
}

#[test]
fn error_of_the_last_attempt_is_the_source_of_the_failure() {
    let fails = |attempt| {
        std::future::ready(Err::<(), _>(std::io::Error::other(format!(
            "attempt {attempt}"
        ))))
    };
    let failed: AttemptsFailed<_> = block_on(hedge(NEVER, 1, fails)).unwrap_err();
    assert_eq!(failed.to_string(), "the only attempt failed");
    let cause = std::error::Error::source(&failed).unwrap();
    assert_eq!(cause.to_string(), "attempt 0");
}

#[test]
fn dropping_a_hedge_drops_every_attempt() {
    let (handles, make) = attempts(3);
    let mut task = Task::new(hedge(Duration::ZERO, 3, make));
    assert!(task.settle().is_pending());
    task.drop_future();
    assert_eq!(alive(&handles), 0);
    assert_eq!(task.wakers(), 0);
}

#[test]
fn hedge_can_be_a_source() {
    let (handles, make) = attempts(2);
    let (others, more) = attempts(2);
    let list = [
        (0, hedge(Duration::ZERO, 2, make.boxed())),
        (1, hedge(Duration::ZERO, 2, more.boxed())),
    ];
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).quorum(1));
    assert!(task.settle().is_pending());
    handles[1].answer(Ok(7));
    let aggregate = task.finish().unwrap();
    assert_eq!(aggregate.results, [(0, 7)]);
    assert_eq!(aggregate.unfinished, [1]);
    assert_eq!(alive(&handles) + alive(&others), 0);

    let (handles, make) = attempts(2);
    let batch = [(0, hedge(Duration::ZERO, 2, make))];
    let mut task = Task::new(process_batch([batch]));
    assert!(task.settle().is_pending());
    handles[0].answer(Err("a"));
    handles[1].answer(Err("b"));
    let outcomes = task.finish().unwrap();
    assert!(outcomes[0].as_ref().unwrap().errors[0].1.is_failed());
}

/// Boxes closures, so that they have one type.
trait Boxed {
    fn boxed(self) -> Box<dyn FnMut(usize) -> Source>;
}

impl<M: FnMut(usize) -> Source + 'static> Boxed for M {
    fn boxed(self) -> Box<dyn FnMut(usize) -> Source> {
        Box::new(self)
    }
}

#[test]
fn attempt_that_panics_unwinds_and_the_others_go_on() {
    let (handles, make) = attempts(2);
    handles[0].on_poll(|_| panic!("attempt 0"));
    let mut task = Task::new(hedge(NEVER, 2, make));
    assert!(catch_unwind(AssertUnwindSafe(|| task.settle().is_ready())).is_err());
    assert!(!handles[0].is_alive());
    assert!(task.settle().is_pending());
    handles[1].answer(Ok(7));
    assert_eq!(task.finish(), Ok(7));
}

/// The attempt succeeds before its drop panics.
#[test]
fn success_whose_attempt_panics_in_its_drop_is_kept() {
    let (handles, make) = attempts(2);
    handles[0].on_drop(|| panic!("first"));
    let mut task = Task::new(hedge(Duration::ZERO, 2, make));
    assert!(task.settle().is_pending());
    handles[0].answer(Ok(7));
    assert!(catch_unwind(AssertUnwindSafe(|| task.settle().is_ready())).is_err());
    assert!(task.is_woken());
    assert_eq!(task.finish(), Ok(7));
    assert_eq!(polls(&handles), [2, 1]);
}

/// Runs a hedge whose attempts all fail, and returns how many it makes.
fn attempts_made(budget: &AttemptBudget, most: usize) -> usize {
    let mut made = 0;
    let fails = |_| {
        made += 1;
        std::future::ready(Err::<(), _>(()))
    };
    let failed = block_on(hedge(NEVER, most, fails).budget(budget)).unwrap_err();
    assert_eq!(failed.others.len() + 1, made);
    made
}

fn succeed(budget: &AttemptBudget) {
    let succeeds = |_| std::future::ready(Ok::<_, ()>(()));
    assert!(block_on(hedge(NEVER, 1, succeeds).budget(budget)).is_ok());
}

#[test]
fn budget_allows_extra_attempts_while_it_is_more_than_half_full() {
    let budget = AttemptBudget::new(10, 0.5);
    // Four failures leave six tokens of ten, and the fifth one leaves five.
    assert_eq!(attempts_made(&budget, 4), 4);
    assert_eq!(attempts_made(&budget, 4), 1);
    assert!(!budget.allows());
    succeed(&budget);
    assert!(budget.allows());
    assert_eq!(attempts_made(&budget, 4), 1);
}

#[test]
fn budget_is_shared_by_its_clones_and_has_a_maximum() {
    let budget = AttemptBudget::new(4, 1.0);
    let clone = budget.clone();
    (0..100).for_each(|_| succeed(&clone));
    assert_eq!(attempts_made(&budget, 9), 2);
    assert!(!clone.allows());
}

#[test]
fn budget_refuses_attempts_after_the_delay_too() {
    let budget = AttemptBudget::new(1, 0.001);
    assert_eq!(attempts_made(&budget, 1), 1);
    let (handles, make) = attempts(3);
    let mut task = Task::new(hedge(Duration::ZERO, 3, make).budget(&budget));
    assert!(task.settle().is_pending());
    assert_eq!(polls(&handles), [1, 0, 0]);
    handles[0].answer(Ok(7));
    assert_eq!(task.finish(), Ok(7));
}

#[test]
fn budgets_out_of_bounds_panic() {
    for (tokens, ratio, says) in [
        (0, 0.1, "at least 1"),
        (10, 0.0, "between 0.001"),
        (10, -1.0, "between 0.001"),
        (10, 1000.001, "between 0.001"),
        (10, f64::NAN, "between 0.001"),
        (10, f64::INFINITY, "between 0.001"),
    ] {
        let payload = catch_unwind(|| drop(AttemptBudget::new(tokens, ratio))).unwrap_err();
        let message = payload.downcast_ref::<String>().cloned().or_else(|| {
            payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
        });
        assert!(message.unwrap().contains(says));
    }
}

#[test]
fn budgets_at_the_bounds_are_accepted() {
    for (tokens, ratio) in [(1, 0.001), (u32::MAX, 1000.0)] {
        let budget = AttemptBudget::new(tokens, ratio);
        succeed(&budget);
        assert!(budget.allows());
    }
}

#[test]
fn attempt_that_panics_takes_a_token_too() {
    let budget = AttemptBudget::new(1, 0.001);
    let panics = |_| -> std::future::Ready<Result<(), ()>> { panic!("make") };
    let mut task = Task::new(hedge(NEVER, 1, panics).budget(&budget));
    assert!(catch_unwind(AssertUnwindSafe(|| task.settle().is_ready())).is_err());
    assert!(budget.allows(), "no attempt was started");

    let (handles, make) = attempts(1);
    handles[0].on_poll(|_| panic!("attempt"));
    let mut task = Task::new(hedge(NEVER, 1, make).budget(&budget));
    assert!(catch_unwind(AssertUnwindSafe(|| task.settle().is_ready())).is_err());
    assert!(!budget.allows());
}

#[test]
fn hedges_in_one_run_share_the_budget_of_its_poll() {
    let made = RefCell::new(0);
    let hedges = (0..256).map(|id| {
        let fails = |_| {
            *made.borrow_mut() += 1;
            std::future::ready(Err::<(), _>(()))
        };
        (id, hedge(NEVER, 1000, fails))
    });
    let mut task = Task::new(fetch_and_aggregate(hedges, NEVER));
    assert!(task.poll().is_pending());
    assert!(*made.borrow() <= 256 * 10, "{}", made.borrow());
}

#[test]
fn final_error_ends_the_hedge_and_drops_the_other_attempts() {
    let (handles, make) = attempts(4);
    let budget = AttemptBudget::new(2, 0.1);
    let hedge = hedge(Duration::ZERO, 2, make)
        .give_up_if(|error| *error == "denied")
        .budget(&budget);
    let mut task = Task::new(hedge);
    assert!(task.settle().is_pending());
    assert_eq!(polls(&handles), [1, 1, 0, 0]);
    handles[1].answer(Err("denied"));
    let failed = task.finish().unwrap_err();
    assert_eq!((failed.last, failed.others), ("denied", vec![]));
    assert_eq!(alive(&handles[..2]), 0);
    assert!(budget.allows(), "it takes no token");
}

#[test]
fn error_that_is_not_final_is_hedged() {
    let (handles, make) = attempts(3);
    let mut task = Task::new(hedge(NEVER, 3, make).give_up_if(|error| *error == "denied"));
    assert!(task.settle().is_pending());
    handles[0].answer(Err("busy"));
    assert!(task.settle().is_pending());
    handles[1].answer(Err("denied"));
    let failed = task.finish().unwrap_err();
    assert_eq!((failed.last, failed.others), ("denied", vec!["busy"]));
    assert_eq!(polls(&handles), [2, 2, 0]);
}

#[test]
fn panic_of_the_closure_loses_no_error() {
    let (handles, make) = attempts(2);
    let hedge = hedge(NEVER, 2, make).give_up_if(|_| panic!("the closure"));
    let mut task = Task::new(hedge);
    assert!(task.settle().is_pending());
    for handle in &handles {
        handle.answer(Err("busy"));
        assert_eq!(panic_of(|| task.settle()), "the closure");
    }
    let failed = task.finish().unwrap_err();
    assert_eq!((failed.last, failed.others), ("busy", vec!["busy"]));
}

const MILLI: Duration = Duration::from_millis(1);

/// Asks once, on a clock of the test; the attempts take this long. Returns how long the hedge took, and how
/// many attempts it made.
fn ask(delay: &HedgeDelay, millis: [u32; 2]) -> (Duration, usize) {
    let timer = TestTimer::new();
    let made = Cell::new(0);
    let ask = |attempt: usize| {
        made.set(made.get() + 1);
        let sleep = timer.sleep_until(timer.now() + MILLI * millis[attempt]);
        async {
            sleep.await;
            Ok::<_, ()>(())
        }
    };
    let answer = hedge(delay, 2, ask).timer(&timer);
    block_on(timer.auto_advance(answer)).unwrap();
    (timer.elapsed(), made.get())
}

#[test]
fn delay_is_the_percentile_after_the_warm_up() {
    let delay = HedgeDelay::percentile(0.9).warm_up(100).window(100);
    for millis in 1..=100 {
        assert_eq!(delay.get(), None);
        // During the warm-up nothing is hedged.
        assert_eq!(ask(&delay, [millis, 1]), (MILLI * millis, 1));
    }
    assert_eq!(delay.get(), Some(90 * MILLI));
    assert_eq!(ask(&delay, [1000, 5]), (95 * MILLI, 2));
    // The clones have learned it too.
    assert_eq!(ask(&delay.clone(), [89, 1]), (89 * MILLI, 1));
}

/// Asks once. The only attempt takes this long, and is dropped after 20 ms.
fn ask_for_20_ms(delay: &HedgeDelay, millis: u32) {
    let timer = TestTimer::new();
    let make = |_| {
        let sleep = timer.sleep_until(timer.now() + MILLI * millis);
        async {
            sleep.await;
            Ok::<_, ()>(())
        }
    };
    let mut task = Task::new(hedge(delay, 1, make).timer(&timer));
    for _ in 0..20 {
        if task.settle().is_ready() {
            return;
        }
        timer.advance(MILLI);
    }
}

#[test]
fn attempts_that_were_dropped_count_as_at_least_this_slow() {
    // A tenth of the attempts would take a second, and is dropped. Of those that take 10 or 30 ms, half.
    let delay = HedgeDelay::percentile(0.75).warm_up(99).window(99);
    for request in 0..33 {
        ask_for_20_ms(&delay, 10);
        ask_for_20_ms(&delay, 1000);
        assert_eq!(ask(&delay, [30, 1]).1, 1, "{request}");
    }
    // 33 took 10 ms, 33 at least 20, 33 took 30. If the dropped ones had been answers after 20 ms, less than
    // 0.75 would have had an answer then; but if they were forgotten, half would have.
    assert_eq!(delay.get(), Some(30 * MILLI));
    let delay = HedgeDelay::percentile(0.6).warm_up(99).window(99);
    for _ in 0..33 {
        ask_for_20_ms(&delay, 10);
        ask_for_20_ms(&delay, 1000);
        ask(&delay, [30, 1]);
    }
    assert_eq!(
        delay.get(),
        Some(30 * MILLI),
        "20 ms if dropped ones were answers"
    );
}

#[test]
fn failed_attempts_are_no_answers() {
    let delay = HedgeDelay::percentile(0.5).warm_up(40).window(40);
    for _ in 0..20 {
        let refused = hedge(&delay, 1, |_| std::future::ready(Err::<(), _>("refused")));
        assert!(block_on(refused).is_err());
        ask(&delay, [50, 1]);
    }
    assert_eq!(delay.get(), Some(50 * MILLI), "errors come at once");
}

#[test]
fn slowness_causes_a_bounded_number_of_extra_attempts() {
    // Every attempt is slower than the delay can become, so every hedge would make another one.
    let delay = HedgeDelay::percentile(0.95).bounds(MILLI..=10 * MILLI);
    for _ in 0..100 {
        assert_eq!(ask(&delay, [1000, 1000]).1, 1, "the warm-up");
    }
    let slow = |_| ask(&HedgeDelay::from(&delay), [1000, 1000]).1 - 1;
    let extra: usize = (0..1000).map(slow).sum();
    assert!((40..=5 + 75).contains(&extra), "{extra}");
}

#[test]
fn hedge_without_credit_still_makes_an_attempt_after_a_failure() {
    let delay = HedgeDelay::percentile(0.95).warm_up(1).window(20);
    ask(&delay, [10, 1]);
    assert_eq!(delay.get(), Some(10 * MILLI));
    let timer = TestTimer::new();
    let (handles, make) = attempts(2);
    let mut task = Task::new(hedge(&delay, 2, make).timer(&timer));
    assert!(task.settle().is_pending());
    // The first request earns less than one extra attempt.
    timer.advance(20 * MILLI);
    assert!(task.settle().is_pending());
    assert_eq!(polls(&handles), [1, 0]);
    handles[0].answer(Err("busy"));
    assert!(task.settle().is_pending());
    assert_eq!(polls(&handles), [2, 1]);
    handles[1].answer(Ok(7));
    assert_eq!(task.finish(), Ok(7));
}

#[test]
fn delay_stays_within_its_bounds() {
    for (millis, learned) in [(1, 5), (7, 7), (100, 9)] {
        let delay = HedgeDelay::percentile(0.5)
            .bounds(5 * MILLI..=9 * MILLI)
            .warm_up(1);
        ask(&delay, [millis, 1]);
        assert_eq!(delay.get(), Some(learned * MILLI));
    }
}

#[test]
fn delays_out_of_bounds_panic() {
    let fixed = || HedgeDelay::from(MILLI);
    for (message, what) in [
        (panic_of(|| HedgeDelay::percentile(0.3)), "0.5 and 0.999"),
        (
            panic_of(|| HedgeDelay::percentile(f64::NAN)),
            "0.5 and 0.999",
        ),
        (
            panic_of(|| HedgeDelay::percentile(0.9).window(19)),
            "at least 20",
        ),
        (
            panic_of(|| HedgeDelay::percentile(0.9).bounds(2 * MILLI..=MILLI)),
            "first bound",
        ),
        (panic_of(|| fixed().window(100)), "learns nothing"),
        (panic_of(|| fixed().warm_up(1)), "learns nothing"),
        (panic_of(|| fixed().bounds(MILLI..=MILLI)), "learns nothing"),
    ] {
        assert!(message.contains(what), "{message}");
    }
}

/// A delay that is learned, and has no extra attempt left.
fn without_credit() -> HedgeDelay {
    let delay = HedgeDelay::percentile(0.95).warm_up(1).window(20);
    ask(&delay, [10, 1]);
    assert_eq!(delay.get(), Some(10 * MILLI));
    delay
}

#[test]
fn hedge_without_credit_goes_on_after_a_panic() {
    for panics_in_closure in [false, true] {
        let delay = without_credit();
        let timer = TestTimer::new();
        let (handles, list) = sources(2);
        let mut list: Vec<_> = list.into_iter().map(|(_, source)| Some(source)).collect();
        let make = |attempt: usize| {
            let source = list[attempt].take().unwrap();
            async move {
                let answer = source.await;
                assert!(panics_in_closure || answer.is_ok(), "the attempt");
                answer
            }
        };
        let hedge = hedge(&delay, 2, make)
            .give_up_if(|_| panic!("the closure"))
            .timer(&timer);
        let mut task = Task::new(hedge);
        assert!(task.settle().is_pending());
        timer.advance(20 * MILLI);
        assert!(task.settle().is_pending());
        handles[0].answer(Err("busy"));
        let message = panic_of(|| task.settle());
        assert_eq!(
            message,
            ["the attempt", "the closure"][usize::from(panics_in_closure)]
        );
        assert!(task.is_woken());
        assert!(task.settle().is_pending());
        assert_eq!(handles[1].polls(), 1, "the attempt after the failure");
        handles[1].answer(Ok(7));
        assert_eq!(task.finish(), Ok(7));
    }
}

#[test]
fn attempts_after_failures_cost_no_credit() {
    let delay = HedgeDelay::percentile(0.9)
        .warm_up(1)
        .bounds(10 * MILLI..=10 * MILLI);
    for _ in 0..100 {
        let first_fails = |attempt| std::future::ready(if attempt == 0 { Err(()) } else { Ok(()) });
        assert!(block_on(hedge(&delay, 2, first_fails)).is_ok());
    }
    // All that was earned is left.
    for _ in 0..5 {
        assert_eq!(ask(&delay, [1000, 5]), (15 * MILLI, 2));
    }
}

#[test]
fn refused_hedge_does_not_wake_after_each_delay() {
    let delay = without_credit();
    let timer = TestTimer::new();
    let (_handles, make) = attempts(2);
    let mut task = Task::new(hedge(&delay, 2, make).timer(&timer));
    assert!(task.settle().is_pending());
    timer.advance(10 * MILLI);
    assert!(task.settle().is_pending());
    assert_eq!(timer.next_deadline(), None);
}
