use std::cell::Cell;
use std::future::{Future, pending};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use super::Deadlines;
use crate::scheduler::options::{Options, limit};
use crate::{TestTimer, fetch_and_aggregate};

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
    let timer = TestTimer::new();
    let run = run.timer(timer.clone());
    let mut run = pin!(run);
    let mut poll = || run.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    for _ in 0..10 {
        assert!(poll().is_pending());
    }
    assert_eq!(alive.get(), COUNT);
    timer.advance(HOUR);
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
fn longest_duration_is_no_limit() {
    let mut limits = Options::NONE.limits;
    limits.timeout = limit(Duration::MAX);
    limits.source_timeout = limit(Duration::MAX);
    limits.pace = limit(Duration::MAX);
    let clock = TestTimer::new();
    assert_eq!(limits.now(&clock), None);
    assert_eq!(Deadlines::new().start(&limits, &clock), None);
    limits.source_timeout = limit(HOUR);
    assert!(limits.now(&clock).is_some());
}
