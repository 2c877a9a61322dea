use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use super::{Alarm, List, State, TimerWaker, lock, set_timer, start, wake_all};

const HOUR: Duration = Duration::from_secs(3600);

/// Counts wakes.
#[derive(Default)]
pub(in crate::scheduler) struct Wakes(pub(in crate::scheduler) AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        // Relaxed, here and below: the count guards no other memory.
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("the task's waker");
    }
}

/// A list with an alarm after each number of hours. Returns the counters of their wakes.
fn list(now: Instant, hours: &[u32]) -> (List, Vec<Arc<Wakes>>) {
    let mut list = List {
        wakers: BTreeMap::new(),
        timer: None,
    };
    let mut all = Vec::new();
    for (number, &hours) in (0..).zip(hours) {
        let wakes = Arc::<Wakes>::default();
        let key = (now + HOUR * hours, number);
        list.wakers.insert(key, wakes.clone().into());
        all.push(wakes);
    }
    (list, all)
}

fn counts(all: &[Arc<Wakes>]) -> Vec<usize> {
    all.iter()
        .map(|one| one.0.load(Ordering::Relaxed))
        .collect()
}

#[test]
fn alarms_fire_at_their_time_and_not_before() {
    let now = Instant::now();
    let (mut list, all) = list(now, &[3, 1, 2, 1]);
    wake_all(list.take_due(now));
    assert_eq!(counts(&all), [0, 0, 0, 0]);
    wake_all(list.take_due(now + HOUR));
    assert_eq!(counts(&all), [0, 1, 0, 1]);
    wake_all(list.take_due(now + HOUR * 5));
    assert_eq!(counts(&all), [1, 1, 1, 1]);
    assert!(list.wakers.is_empty());
}

#[test]
fn timer_is_set_for_the_first_alarm_and_again_only_for_an_earlier_one() {
    let now = Instant::now();
    let (mut list, _) = list(now, &[2]);
    let timer = |list: &mut List| list.next_timer().map(|(_, fires_at, _)| fires_at);
    assert_eq!(timer(&mut list), Some(now + HOUR * 2));
    list.wakers
        .insert((now + HOUR * 3, 7), Waker::noop().clone());
    assert_eq!(timer(&mut list), None);
    list.wakers.insert((now + HOUR, 8), Waker::noop().clone());
    assert_eq!(timer(&mut list), Some(now + HOUR));
    // The first alarm is dropped. Its timer finds nothing, and then there is one for the next alarm.
    list.wakers.remove(&(now + HOUR, 8));
    assert_eq!(timer(&mut list), None);
    assert!(list.take_due(now + HOUR).is_empty());
    list.timer = None;
    assert_eq!(timer(&mut list), Some(now + HOUR * 2));
}

#[test]
fn waker_that_panics_does_not_stop_the_others() {
    let wakes = Arc::<Wakes>::default();
    wake_all(vec![
        Arc::new(Panics).into(),
        wakes.clone().into(),
        Arc::new(Panics).into(),
        wakes.clone().into(),
    ]);
    assert_eq!(wakes.0.load(Ordering::Relaxed), 2);
}

/// Held by the test that uses the list of the process.
static ALONE: Mutex<()> = Mutex::new(());

/// Waits until no other test uses the list of the process.
pub(in crate::scheduler) fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of an alarm, which differs from that of every other alarm.
pub(in crate::scheduler) fn number(alarm: &Alarm) -> u64 {
    alarm.key.1
}

/// Wakes the alarms that are due at `now`, as a timer does. The caller holds the guard of [`alone`].
pub(in crate::scheduler) fn wake_due(now: Instant) {
    let due = lock().take_due(now);
    wake_all(due);
}

/// Fires the current timer.
fn fire() {
    let number = lock().timer.as_ref().map(|timer| timer.number);
    if let Some(number) = number {
        Arc::new(TimerWaker { number }).wake();
    }
}

#[test]
fn timer_that_fires_too_early_wakes_nothing_and_is_set_again() {
    let _alone = alone();
    let wakes = Arc::<Wakes>::default();
    let alarm = Alarm::set(Instant::now() + HOUR, wakes.clone().into());
    fire();
    assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    let list = lock();
    let timer = list.timer.as_ref().unwrap();
    assert!(timer.fires_at <= alarm.at());
    assert!(matches!(timer.state, State::Started(_)));
}

#[test]
fn timer_that_fires_while_it_is_started_is_not_lost() {
    let _alone = alone();
    let wakes = Arc::<Wakes>::default();
    let soon = Instant::now();
    lock().wakers.insert((soon, u64::MAX), wakes.clone().into());
    let starts = AtomicUsize::new(0);
    let fires_at_once = |after, waker: &Waker| {
        starts.fetch_add(1, Ordering::Relaxed);
        waker.wake_by_ref();
        start(after, waker)
    };
    assert!(set_timer(fires_at_once).is_ok());
    assert_eq!(starts.into_inner(), 1);
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
}

#[test]
fn next_timer_is_set_before_a_waker_is_called() {
    struct Looks(std::sync::mpsc::Sender<bool>);
    impl Wake for Looks {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(lock().timer.is_some());
        }
    }
    let _alone = alone();
    let later = Alarm::set(Instant::now() + HOUR, Waker::noop().clone());
    let (sender, receiver) = std::sync::mpsc::channel();
    let key = (Instant::now(), u64::MAX);
    lock().wakers.insert(key, Arc::new(Looks(sender)).into());
    let has_fired = Cell::new(false);
    let first_fires_at_once = |after, waker: &Waker| {
        if !has_fired.replace(true) {
            waker.wake_by_ref();
        }
        start(after, waker)
    };
    assert!(set_timer(first_fires_at_once).is_ok());
    assert_eq!(receiver.recv(), Ok(true));
    drop(later);
}

#[test]
fn all_alarms_are_woken_if_no_timer_can_be_started() {
    let _alone = alone();
    let wakes = Arc::<Wakes>::default();
    let first = Instant::now() - HOUR / 3600;
    for number in 0..2 {
        let key = (first + HOUR * number, u64::MAX - 1);
        lock().wakers.insert(key, wakes.clone().into());
    }
    assert!(set_timer(|_, _| panic!("no timer thread")).is_err());
    assert_eq!(wakes.0.load(Ordering::Relaxed), 2);
    assert!(lock().timer.is_none());
}

#[test]
fn waker_may_set_and_drop_alarms() {
    let _alone = alone();
    struct Sets(Mutex<Option<Alarm>>, std::sync::mpsc::Sender<()>);
    impl Wake for Sets {
        fn wake(self: Arc<Self>) {
            let hour = Instant::now() + HOUR;
            drop(Alarm::set(hour, Waker::noop().clone()));
            *self.0.lock().unwrap() = None;
            let _ = self.1.send(());
        }
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    let another = Alarm::set(Instant::now() + HOUR, Waker::noop().clone());
    let sets = Sets(Mutex::new(Some(another)), sender);
    let _alarm = Alarm::set(Instant::now(), Arc::new(sets).into());
    assert_eq!(receiver.recv(), Ok(()));
}

#[test]
fn run_that_has_ended_leaves_no_alarm() {
    let _alone = alone();
    let is_ours = |(at, _): &&(Instant, u64)| *at > Instant::now() + HOUR * 1233;
    let ours = || lock().wakers.keys().filter(is_ours).count();
    let (sender, receiver) = async_channel::bounded::<()>(1);
    let pending = [(0, std::future::pending::<Result<(), ()>>())];
    let mut run = pin!(crate::fetch_and_aggregate(pending, HOUR * 1234).cancel_on(receiver.recv()));
    let waker = Waker::from(Arc::<Wakes>::default());
    let cx = &mut Context::from_waker(&waker);
    assert!(run.as_mut().poll(cx).is_pending());
    assert_eq!(ours(), 1);
    drop(sender);
    assert!(run.as_mut().poll(cx).is_ready());
    assert_eq!(ours(), 0);
}

#[test]
fn alarm_that_is_dropped_leaves_no_waker() {
    let _alone = alone();
    let wakes = Arc::<Wakes>::default();
    let alarm = Alarm::set(Instant::now() + HOUR, wakes.clone().into());
    assert_eq!(Arc::strong_count(&wakes), 2);
    drop(alarm);
    assert_eq!(Arc::strong_count(&wakes), 1);
}

#[test]
fn timer_stays_when_its_alarm_is_dropped() {
    let _alone = alone();
    let before = lock().timer.take();
    drop(before);
    drop(Alarm::set(Instant::now() + HOUR, Waker::noop().clone()));
    assert!(lock().timer.is_some());
}

#[test]
fn alarm_that_is_due_fires() {
    let _alone = alone();
    let (sender, receiver) = std::sync::mpsc::channel();
    struct Sends(std::sync::mpsc::Sender<()>);
    impl Wake for Sends {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
        }
    }
    let _alarm = Alarm::set(Instant::now(), Arc::new(Sends(sender)).into());
    assert_eq!(receiver.recv(), Ok(()));
}
