use std::cell::Cell;
use std::future::{Future, pending};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use crate::fetch_and_aggregate;
use crate::run::alarms::tests::alone;
use crate::run::clock;

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
    clock::stop_at(start + 2 * HOUR);
    assert!(poll().is_pending());
    assert!(
        (1..COUNT).contains(&alive.get()),
        "{} are left",
        alive.get()
    );
    while poll().is_pending() {}
    assert_eq!(alive.get(), 0);
}
