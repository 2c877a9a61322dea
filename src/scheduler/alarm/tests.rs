use std::cell::Cell;
use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use std::time::Duration;

use super::{Alarm, WithAlarm};
use crate::scheduler::ready::Ready;
use crate::scheduler::signals::{AnySignals, Signals};
use crate::timer::{Instant, Timer, TimerKind, Wakes};
use crate::{SystemTimer, TestTimer, fetch_and_aggregate};

const HOUR: Duration = Duration::from_secs(3600);

/// Counts its sleeps.
struct Counting(Cell<usize>);

impl Timer for Counting {
    type Sleep = <SystemTimer as Timer>::Sleep;

    fn now(&self) -> Instant {
        SystemTimer.now()
    }

    fn kind(&self) -> TimerKind {
        TimerKind::System
    }

    fn sleep_until(&self, at: Instant) -> Self::Sleep {
        self.0.set(self.0.get() + 1);
        SystemTimer.sleep_until(at)
    }
}

#[test]
fn run_sleeps_anew_only_for_an_earlier_deadline() {
    let timer = Counting(Cell::new(0));
    let now = timer.now();
    let ready = Ready::new();
    let mut alarm = pin!(Alarm::new());
    let mut sleeps_for = |hours: u32| {
        let mut signals = pin!(WithAlarm {
            signals: pin!(Signals::none()),
            alarm: alarm.as_mut(),
            timer: &timer,
            waker: Waker::noop(),
        });
        let at = Some(now + hours * HOUR);
        assert!(!signals.as_mut().set_alarm(at, now, &ready));
        timer.0.get()
    };
    assert_eq!(sleeps_for(4), 1);
    assert_eq!(sleeps_for(4), 1);
    assert_eq!(sleeps_for(5), 1);
    assert_eq!(sleeps_for(1), 2);
    assert_eq!(sleeps_for(2), 2);
}

#[test]
fn sleep_that_has_ended_is_noticed() {
    for kind in [TimerKind::System, TimerKind::Runtime, TimerKind::Test] {
        let timer = TestTimer::with_kind(kind);
        let began = timer.now();
        let ready = Ready::new();
        let wakes = Arc::<Wakes>::default();
        let waker = Waker::from(wakes.clone());
        let mut alarm = pin!(Alarm::new());
        let mut signals = pin!(WithAlarm {
            signals: pin!(Signals::none()),
            alarm: alarm.as_mut(),
            timer: &timer,
            waker: &waker,
        });
        assert!(
            !signals
                .as_mut()
                .set_alarm(Some(began + HOUR), began, &ready)
        );
        assert_eq!(signals.as_mut().poll_alarm(began), None);
        timer.advance(HOUR);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        let slept = signals.as_mut().poll_alarm(timer.now());
        assert_eq!(slept.is_some(), kind == TimerKind::Runtime);
        let now = timer.now();
        let has_passed = signals.as_mut().set_alarm(Some(now), now, &ready);
        assert!(has_passed);
        assert_eq!(signals.as_mut().poll_alarm(began), Some(began + HOUR));
        assert!(
            !signals
                .as_mut()
                .set_alarm(Some(began + 2 * HOUR), timer.now(), &ready)
        );
        signals.as_mut().set_alarm(None, timer.now(), &ready);
        assert_eq!(timer.next_deadline(), None);
    }
}

#[test]
fn sleep_wakes_the_task_that_has_polled_last() {
    for kind in [TimerKind::System, TimerKind::Runtime, TimerKind::Test] {
        let timer = TestTimer::with_kind(kind);
        let run = fetch_and_aggregate([(0, pending::<Result<(), ()>>())], HOUR);
        let mut run = pin!(run.timer(&timer));
        let tasks: [Arc<Wakes>; 3] = Default::default();
        for task in &tasks {
            let waker = Waker::from(task.clone());
            let poll = run.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(poll.is_pending());
        }
        timer.advance(HOUR);
        let wakes = tasks.map(|task| task.0.load(Ordering::Relaxed));
        assert_eq!(wakes, [0, 0, 1]);
    }
}
