//! Retries: when an attempt is made, how long the pauses are, and what ends them.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{pending, ready};
use std::time::Duration;

use common::{NEVER, Task, panic_of, sources};
use futures::executor::block_on;
use futures::future::{FusedFuture, FutureExt};
use futures_aggregate::{
    Attempt, AttemptBudget, AttemptsFailed, SystemTimer, TestTimer, Timer, each,
    fetch_and_aggregate, hedge, retry,
};

const SECOND: Duration = Duration::from_secs(1);

/// Attempts that fail, and the times and numbers of those that were made.
struct Failing<'a> {
    timer: &'a TestTimer,
    made: RefCell<Vec<(Duration, Attempt)>>,
}

impl<'a> Failing<'a> {
    fn new(timer: &'a TestTimer) -> Self {
        Self {
            timer,
            made: RefCell::default(),
        }
    }

    /// Fails with its number.
    fn ask(&self, attempt: Attempt) -> std::future::Ready<Result<(), usize>> {
        self.made.borrow_mut().push((self.timer.elapsed(), attempt));
        ready(Err(attempt.number))
    }

    fn times(&self) -> Vec<Duration> {
        self.made.borrow().iter().map(|(time, _)| *time).collect()
    }

    fn remaining(&self) -> Vec<Duration> {
        let made = self.made.borrow();
        made.iter().map(|(_, attempt)| attempt.remaining).collect()
    }
}

#[test]
fn first_success_is_the_answer() {
    let timer = TestTimer::new();
    let made = Cell::new(0);
    let ask = |attempt: Attempt| {
        made.set(made.get() + 1);
        assert_eq!(attempt.remaining, NEVER);
        ready(if attempt.number < 2 {
            Err("busy")
        } else {
            Ok(attempt.number)
        })
    };
    let retry = retry(SECOND, 5, ask).timer(&timer);
    assert_eq!(made.get(), 0, "nothing happens before the first poll");
    assert_eq!(block_on(timer.auto_advance(retry)), Ok(2));
    assert_eq!(made.get(), 3);
}

#[test]
fn errors_of_all_attempts_come_back() {
    let timer = TestTimer::new();
    let failing = Failing::new(&timer);
    let retry = retry(SECOND, 4, |attempt| failing.ask(attempt)).timer(&timer);
    let failed = block_on(timer.auto_advance(retry)).unwrap_err();
    assert_eq!((failed.last, failed.others), (3, vec![0, 1, 2]));
}

#[test]
fn pauses_double_up_to_a_limit_and_are_random() {
    let pauses = |seed: Option<u64>| {
        let timer = TestTimer::new();
        let failing = Failing::new(&timer);
        let retry = retry(SECOND, 8, |attempt| failing.ask(attempt)).timer(&timer);
        let retry = retry.max_pause(10 * SECOND);
        let retry = match seed {
            Some(seed) => retry.seed(seed),
            None => retry,
        };
        assert!(block_on(timer.auto_advance(retry)).is_err());
        let times = failing.times();
        times
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .collect::<Vec<_>>()
    };
    for seed in 0..100 {
        let longest = [1, 2, 4, 8, 10, 10, 10].map(|seconds| SECOND * seconds);
        for (pause, longest) in pauses(Some(seed)).into_iter().zip(longest) {
            assert!(pause <= longest, "{pause:?} instead of {longest:?}");
        }
    }
    assert_eq!(pauses(Some(7)), pauses(Some(7)));
    assert_ne!(pauses(Some(7)), pauses(Some(8)));
    assert_ne!(pauses(None), pauses(None));
}

#[test]
fn hint_of_the_error_is_the_least_pause() {
    let timer = TestTimer::new();
    let failing = Failing::new(&timer);
    let retry = retry(SECOND, 3, |attempt| failing.ask(attempt))
        .pause_hint(|&number| (number == 1).then_some(100 * SECOND))
        .timer(&timer);
    assert!(block_on(timer.auto_advance(retry)).is_err());
    let times = failing.times();
    assert!(times[1] <= SECOND);
    assert_eq!(times[2] - times[1], 100 * SECOND);
}

#[test]
fn error_that_may_not_be_retried_ends_it_and_takes_no_token() {
    let timer = TestTimer::new();
    let budget = AttemptBudget::new(2, 0.1);
    for _ in 0..10 {
        let failing = Failing::new(&timer);
        let retry = retry(SECOND, 5, |attempt| failing.ask(attempt))
            .retry_if(|_| false)
            .budget(&budget);
        let failed = block_on(retry).unwrap_err();
        assert_eq!((failed.last, failed.others.len()), (0, 0));
    }
    assert!(budget.allows());
}

#[test]
fn budget_is_shared_with_hedges() {
    let budget = AttemptBudget::new(4, 0.5);
    let timer = TestTimer::new();
    let made = |attempts: usize| {
        let failing = Failing::new(&timer);
        let retry = retry(Duration::ZERO, attempts, |attempt| failing.ask(attempt));
        assert!(block_on(retry.budget(&budget)).is_err());
        failing.times().len()
    };
    assert_eq!(made(1), 1);
    let refused = hedge(NEVER, 5, |_| ready(Err::<(), _>(()))).budget(&budget);
    assert!(block_on(refused).unwrap_err().others.is_empty());
    assert_eq!(made(5), 1, "half of the tokens are gone");
    for _ in 0..6 {
        let answers = retry(SECOND, 1, |_| ready(Ok::<_, ()>(()))).budget(&budget);
        assert!(block_on(answers).is_ok());
    }
    assert_eq!(made(5), 2);
}

#[test]
fn attempt_that_cannot_start_before_the_deadline_is_not_waited_for() {
    let timer = TestTimer::new();
    let failing = Failing::new(&timer);
    let deadline = timer.now() + 10 * SECOND;
    let retry = retry(SECOND, 100, |attempt| failing.ask(attempt))
        .pause_hint(|_| Some(3 * SECOND))
        .max_pause(SECOND)
        .deadline(deadline + SECOND)
        .deadline(deadline)
        .timer(&timer);
    let failed = block_on(timer.auto_advance(retry)).unwrap_err();
    let expected = [0, 3, 6, 9].map(|seconds| SECOND * seconds);
    assert_eq!(failing.times(), expected);
    assert_eq!(failing.remaining(), expected.map(|time| 10 * SECOND - time));
    assert_eq!(failed.others.len(), 3);
    assert_eq!(timer.elapsed(), 9 * SECOND, "it fails at once");
}

#[test]
fn first_attempt_is_made_even_after_the_deadline() {
    let timer = TestTimer::new();
    let failing = Failing::new(&timer);
    let passed = timer.now();
    timer.advance(SECOND);
    let retry = retry(SECOND, 5, |attempt| failing.ask(attempt))
        .deadline(passed)
        .timer(&timer);
    assert!(block_on(retry).is_err());
    assert_eq!(failing.remaining(), [Duration::ZERO]);
}

#[test]
fn run_that_ends_drops_the_attempt_and_the_pause() {
    let timer = TestTimer::new();
    let (handles, list) = sources(2);
    let mut sources: Vec<_> = list.into_iter().map(|(_, source)| Some(source)).collect();
    let ids = [0, 1];
    let make = |&id: &usize| {
        let mut source = sources[id].take();
        retry(3600 * SECOND, 5, move |_| source.take().unwrap())
            .seed(1)
            .timer(&timer)
    };
    let run = fetch_and_aggregate(each(ids, make), SECOND).timer(&timer);
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    handles[0].answer(Err("busy"));
    assert!(run.settle().is_pending());
    assert!(!handles[0].is_alive() && handles[1].is_alive());
    timer.advance(SECOND);
    let interrupted = run.finish().unwrap_err();
    assert_eq!(interrupted.partial.unfinished, ids);
    assert!(!handles[1].is_alive());
    assert_eq!(timer.next_deadline(), None, "the pause is over");
}

#[test]
fn attempts_that_fail_at_once_let_other_tasks_run() {
    let mut task = Task::new(retry(Duration::ZERO, 1000, |_| ready(Err::<(), _>(()))));
    let mut polls = 0;
    while task.poll().is_pending() {
        polls += 1;
        assert!(task.is_woken());
    }
    assert_eq!(polls, 999);
}

#[test]
fn sleep_that_ends_too_early_does_not_shorten_the_pause() {
    /// Its sleeps end at once.
    struct Early<'a>(&'a TestTimer);

    impl Timer for Early<'_> {
        type Sleep = std::future::Ready<()>;

        fn now(&self) -> std::time::Instant {
            self.0.advance(Duration::from_millis(1));
            self.0.now()
        }

        fn sleep_until(&self, _: std::time::Instant) -> Self::Sleep {
            ready(())
        }
    }

    let timer = TestTimer::new();
    let failing = Failing::new(&timer);
    let retry = retry(Duration::ZERO, 2, |attempt| failing.ask(attempt))
        .pause_hint(|_| Some(SECOND))
        .timer(Early(&timer));
    assert!(block_on(retry).is_err());
    assert!(failing.times()[1] >= SECOND);
}

#[test]
fn panic_ends_the_retry() {
    let mut task = Task::new(retry(SECOND, 5, |_| async {
        panic!("the attempt") as Result<(), ()>
    }));
    assert_eq!(panic_of(|| task.poll()), "the attempt");
    assert!(task.future().is_terminated());
    assert!(panic_of(|| task.poll()).contains("polled after completion"));
    let mut task = Task::new(retry(
        SECOND,
        5,
        |_| -> std::future::Ready<Result<(), ()>> { panic!("the closure") },
    ));
    assert_eq!(panic_of(|| task.poll()), "the closure");
    assert!(task.future().is_terminated());
    assert!(panic_of(|| task.poll()).contains("polled after completion"));
}

#[test]
fn bad_input_and_late_set_up_are_refused() {
    let message = panic_of(|| retry(SECOND, 0, |_| ready(Ok::<_, ()>(()))));
    assert!(message.contains("at least 1"), "{message}");
    let polled = || {
        let mut retry = retry(SECOND, 2, |_| pending::<Result<(), ()>>());
        let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
        assert!(retry.poll_unpin(cx).is_pending());
        retry
    };
    let budget = AttemptBudget::new(1, 1.0);
    for message in [
        panic_of(|| polled().max_pause(SECOND)),
        panic_of(|| polled().seed(1)),
        panic_of(|| polled().budget(&budget)),
        panic_of(|| polled().deadline(SystemTimer.now())),
        panic_of(|| polled().retry_if(|_| true)),
        panic_of(|| polled().pause_hint(|_| None)),
        panic_of(|| polled().timer(SystemTimer)),
    ] {
        assert!(message.contains("before it is polled"), "{message}");
    }
}

#[test]
fn failure_says_how_many_attempts_were_made() {
    let retry = retry(Duration::ZERO, 3, |_| ready(Err::<(), _>("busy")));
    let failed: AttemptsFailed<_> = block_on(retry).unwrap_err();
    assert_eq!(failed.to_string(), "all 3 attempts failed");
}

#[test]
fn attempt_whose_pause_has_ended_after_the_deadline_is_not_made() {
    let timer = TestTimer::new();
    let failing = Failing::new(&timer);
    let retry = retry(Duration::ZERO, 5, |attempt| failing.ask(attempt))
        .pause_hint(|_| Some(SECOND))
        .deadline(timer.now() + 2 * SECOND)
        .timer(&timer);
    let mut task = Task::new(retry);
    assert!(task.settle().is_pending());
    // The thread is busy for longer than the pause, and beyond the deadline.
    timer.advance(3 * SECOND);
    let failed = task.finish().unwrap_err();
    assert_eq!(
        (failed.last, failed.others.len(), failing.times().len()),
        (0, 0, 1)
    );
}

#[test]
fn sleeps_that_end_at_once_let_other_tasks_run() {
    /// Its clock stands still.
    struct Stuck(std::time::Instant);

    impl Timer for Stuck {
        type Sleep = std::future::Ready<()>;

        fn now(&self) -> std::time::Instant {
            self.0
        }

        fn sleep_until(&self, _: std::time::Instant) -> Self::Sleep {
            ready(())
        }
    }

    let retry = retry(Duration::ZERO, 2, |_| ready(Err::<(), _>(()))).pause_hint(|_| Some(SECOND));
    let mut task = Task::new(retry.timer(Stuck(std::time::Instant::now())));
    for _ in 0..100 {
        assert!(task.poll().is_pending());
        assert!(task.is_woken());
    }
}
