use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use super::{ALARMS, Alarm, Alarms, List, State, TimerWaker, start, wake_all};

const HOUR: Duration = Duration::from_secs(3600);

/// Counts wakes.
#[derive(Default)]
pub(crate) struct Wakes(pub(crate) AtomicUsize);

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

/// A list of its own, for the rest of the process.
fn list() -> &'static List {
    // A leak sanitizer finds them here.
    static ALL: Mutex<Vec<&'static List>> = Mutex::new(Vec::new());
    let list: &List = Box::leak(Box::new(List::new()));
    ALL.lock().unwrap().push(list);
    list
}

/// Adds an alarm after each number of hours. Returns the counters of their wakes.
fn add(alarms: &mut Alarms, now: Instant, hours: &[u32]) -> Vec<Arc<Wakes>> {
    let add = |&hours| {
        let wakes = Arc::<Wakes>::default();
        alarms.heap.insert(now + HOUR * hours, wakes.clone().into());
        wakes
    };
    hours.iter().map(add).collect()
}

fn counts(all: &[Arc<Wakes>]) -> Vec<usize> {
    all.iter()
        .map(|one| one.0.load(Ordering::Relaxed))
        .collect()
}

#[test]
fn alarms_fire_at_their_time_and_not_before() {
    let now = Instant::now();
    let mut alarms = list().lock();
    let all = add(&mut alarms, now, &[3, 1, 2, 1]);
    wake_all(alarms.heap.take_due(now));
    assert_eq!(counts(&all), [0, 0, 0, 0]);
    wake_all(alarms.heap.take_due(now + HOUR));
    assert_eq!(counts(&all), [0, 1, 0, 1]);
    wake_all(alarms.heap.take_due(now + HOUR * 5));
    assert_eq!(counts(&all), [1, 1, 1, 1]);
    assert_eq!(alarms.heap.first(), None);
}

#[test]
fn timer_is_set_for_the_first_alarm_and_again_only_for_an_earlier_one() {
    let now = Instant::now();
    let mut alarms = list().lock();
    add(&mut alarms, now, &[2]);
    let timer = |alarms: &mut Alarms| alarms.next_timer().map(|(_, fires_at, _)| fires_at);
    assert_eq!(timer(&mut alarms), Some(now + HOUR * 2));
    add(&mut alarms, now, &[3]);
    assert_eq!(timer(&mut alarms), None);
    let first = alarms.heap.insert(now + HOUR, Waker::noop().clone());
    assert_eq!(timer(&mut alarms), Some(now + HOUR));
    // The first alarm is dropped. Its timer finds nothing, and then there is one for the next alarm.
    alarms.heap.remove(first);
    assert_eq!(timer(&mut alarms), None);
    assert!(alarms.heap.take_due(now + HOUR).is_empty());
    alarms.timer = None;
    assert_eq!(timer(&mut alarms), Some(now + HOUR * 2));
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

/// Fires the current timer.
fn fire(list: &'static List) {
    let number = list.lock().timer.as_ref().map(|timer| timer.number);
    if let Some(number) = number {
        Arc::new(TimerWaker { list, number }).wake();
    }
}

#[test]
fn timer_that_fires_too_early_wakes_nothing_and_is_set_again() {
    let list = list();
    let wakes = Arc::<Wakes>::default();
    let at = Instant::now() + HOUR;
    let _alarm = Alarm::set_in(list, at, wakes.clone().into());
    fire(list);
    assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    let alarms = list.lock();
    let timer = alarms.timer.as_ref().unwrap();
    assert!(timer.fires_at <= at);
    assert!(matches!(timer.state, State::Started(_)));
}

#[test]
fn timer_that_fires_while_it_is_started_is_not_lost() {
    let list = list();
    let wakes = Arc::<Wakes>::default();
    let soon = Instant::now();
    list.lock().heap.insert(soon, wakes.clone().into());
    let starts = AtomicUsize::new(0);
    let fires_at_once = |after, waker: &Waker| {
        starts.fetch_add(1, Ordering::Relaxed);
        waker.wake_by_ref();
        start(after, waker)
    };
    assert!(list.set_timer(fires_at_once).is_ok());
    assert_eq!(starts.into_inner(), 1);
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
}

#[test]
fn next_timer_is_set_before_a_waker_is_called() {
    struct Looks(&'static List, std::sync::mpsc::Sender<bool>);
    impl Wake for Looks {
        fn wake(self: Arc<Self>) {
            let _ = self.1.send(self.0.lock().timer.is_some());
        }
    }
    let list = list();
    let later = Alarm::set_in(list, Instant::now() + HOUR, Waker::noop().clone());
    let (sender, receiver) = std::sync::mpsc::channel();
    let looks = Arc::new(Looks(list, sender));
    list.lock().heap.insert(Instant::now(), looks.into());
    let has_fired = Cell::new(false);
    let first_fires_at_once = |after, waker: &Waker| {
        if !has_fired.replace(true) {
            waker.wake_by_ref();
        }
        start(after, waker)
    };
    assert!(list.set_timer(first_fires_at_once).is_ok());
    assert_eq!(receiver.recv(), Ok(true));
    drop(later);
}

#[test]
fn all_alarms_are_woken_if_no_timer_can_be_started() {
    let list = list();
    let wakes = Arc::<Wakes>::default();
    let first = Instant::now() - HOUR / 3600;
    for hours in 0..2 {
        let waker = wakes.clone().into();
        list.lock().heap.insert(first + HOUR * hours, waker);
    }
    assert!(list.set_timer(|_, _| panic!("no timer thread")).is_err());
    assert_eq!(wakes.0.load(Ordering::Relaxed), 2);
    assert!(list.lock().timer.is_none());
}

#[test]
fn waker_may_set_and_drop_alarms() {
    let list = list();
    struct Sets(
        &'static List,
        Mutex<Option<Alarm>>,
        std::sync::mpsc::Sender<()>,
    );
    impl Wake for Sets {
        fn wake(self: Arc<Self>) {
            let hour = Instant::now() + HOUR;
            drop(Alarm::set_in(self.0, hour, Waker::noop().clone()));
            *self.1.lock().unwrap() = None;
            let _ = self.2.send(());
        }
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    let another = Alarm::set_in(list, Instant::now() + HOUR, Waker::noop().clone());
    let sets = Sets(list, Mutex::new(Some(another)), sender);
    let _alarm = Alarm::set_in(list, Instant::now(), Arc::new(sets).into());
    assert_eq!(receiver.recv(), Ok(()));
}

#[test]
fn run_that_has_ended_leaves_no_alarm() {
    // No other test sets such a late alarm.
    let after = Instant::now() + HOUR * 1233;
    let ours = || {
        ALARMS
            .iter()
            .map(|list| list.lock().heap.after(after))
            .sum::<usize>()
    };
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
    let list = list();
    let wakes = Arc::<Wakes>::default();
    let alarm = Alarm::set_in(list, Instant::now() + HOUR, wakes.clone().into());
    assert_eq!(Arc::strong_count(&wakes), 2);
    drop(alarm);
    assert_eq!(Arc::strong_count(&wakes), 1);
}

#[test]
fn timer_stays_when_its_alarm_is_dropped() {
    let list = list();
    drop(Alarm::set_in(
        list,
        Instant::now() + HOUR,
        Waker::noop().clone(),
    ));
    assert!(list.lock().timer.is_some());
}

#[test]
fn alarm_that_is_due_fires() {
    let list = list();
    let (sender, receiver) = std::sync::mpsc::channel();
    struct Sends(std::sync::mpsc::Sender<()>);
    impl Wake for Sends {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
        }
    }
    let _alarm = Alarm::set_in(list, Instant::now(), Arc::new(Sends(sender)).into());
    assert_eq!(receiver.recv(), Ok(()));
}
