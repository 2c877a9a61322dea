use std::cell::Cell;
use std::future::{Future, pending};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use super::Deadlines;
use crate::fetch_and_aggregate;
use crate::scheduler::alarms::tests::{alone, number};
use crate::scheduler::clock;
use crate::scheduler::options::{Options, limit};
use crate::scheduler::ready::Ready;

const HOUR: Duration = Duration::from_secs(3600);

struct Alive<'a>(&'a Cell<usize>);

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[test]
fn one_poll_stops_a_bounded_number_of_late_sources() {
    const COUNT: usize = 600;
    let _alone = alone();
    let alive = Cell::new(COUNT);
    let hanging = |id| {
        let guard = Alive(&alive);
        let source = async move {
            let _guard = guard;
            pending::<Result<(), ()>>().await
        };
        (id, source)
    };
    let run = fetch_and_aggregate((0..COUNT).map(hanging), Duration::MAX).source_timeout(HOUR);
    let mut run = pin!(run);
    let mut poll = || run.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let start = Instant::now();
    clock::stop_at(start);
    for _ in 0..10 {
        assert!(poll().is_pending());
    }
    assert_eq!(alive.get(), COUNT);
    clock::stop_at(start + HOUR);
    assert!(poll().is_pending());
    assert!(
        (1..COUNT).contains(&alive.get()),
        "{} are left",
        alive.get()
    );
    while poll().is_pending() {}
    assert_eq!(alive.get(), 0);
}

#[test]
fn alarm_is_set_anew_only_for_an_earlier_deadline() {
    let _alone = alone();
    let ready = Ready::new();
    let mut limits = Options::NONE.limits;
    limits.timeout = Some(4 * HOUR);
    let mut deadlines = Deadlines::new();
    deadlines.start(&limits);
    let now = Instant::now();
    let mut alarm_for = |source: Option<Duration>| {
        let source = source.map(|after| now + after);
        assert!(!deadlines.arm(now, [source, None], &ready));
        number(deadlines.alarm.as_ref().unwrap())
    };
    let first = alarm_for(None);
    assert_eq!(alarm_for(None), first);
    assert_eq!(alarm_for(Some(5 * HOUR)), first);
    let earlier = alarm_for(Some(HOUR));
    assert_ne!(earlier, first);
    assert_eq!(alarm_for(Some(HOUR)), earlier);
    assert_eq!(alarm_for(Some(2 * HOUR)), earlier);
}

#[test]
fn longest_duration_is_no_limit() {
    let mut limits = Options::NONE.limits;
    limits.timeout = limit(Duration::MAX);
    limits.source_timeout = limit(Duration::MAX);
    limits.pace = limit(Duration::MAX);
    assert_eq!(limits.now(), None);
    assert_eq!(Deadlines::new().start(&limits), None);
    limits.source_timeout = limit(HOUR);
    assert!(limits.now().is_some());
}
