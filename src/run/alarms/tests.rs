use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use super::{Alarm, List, fire, wake_all};

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("the task's waker");
    }
}

/// A list of its own, with alarms after so many hours. Returns who counts their wakes.
fn list(now: Instant, hours: &[u32]) -> (List, Vec<Arc<Wakes>>) {
    let mut list = List::new();
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
fn alarms_go_off_at_their_time_and_not_before() {
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
fn timer_is_set_for_the_first_alarm_and_anew_only_for_an_earlier_one() {
    let now = Instant::now();
    let (mut list, _) = list(now, &[2]);
    let timer = |list: &mut List| {
        assert!(!list.set_timer());
        list.timer.as_ref().map(|(fires_at, _)| *fires_at)
    };
    assert_eq!(timer(&mut list), Some(now + HOUR * 2));
    list.wakers
        .insert((now + HOUR * 3, 7), Waker::noop().clone());
    assert_eq!(timer(&mut list), Some(now + HOUR * 2));
    list.wakers.insert((now + HOUR, 8), Waker::noop().clone());
    assert_eq!(timer(&mut list), Some(now + HOUR));
    // The first was taken back: its timer finds nothing, and goes on to the next.
    list.wakers.remove(&(now + HOUR, 8));
    assert_eq!(timer(&mut list), Some(now + HOUR));
    assert!(list.take_due(now + HOUR).is_empty());
    list.timer = None;
    assert_eq!(timer(&mut list), Some(now + HOUR * 2));
}

#[test]
fn waker_that_panics_keeps_no_other_from_being_woken() {
    let wakes = Arc::<Wakes>::default();
    wake_all(vec![
        Arc::new(Panics).into(),
        wakes.clone().into(),
        Arc::new(Panics).into(),
        wakes.clone().into(),
    ]);
    assert_eq!(wakes.0.load(Ordering::Relaxed), 2);
}

#[test]
fn timer_that_fires_too_early_wakes_nobody_and_is_set_again() {
    let wakes = Arc::<Wakes>::default();
    let alarm = Alarm::set(Instant::now() + HOUR, wakes.clone().into());
    fire();
    assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    let fires_at = List::lock().timer.as_ref().map(|(fires_at, _)| *fires_at);
    assert!(fires_at.is_some_and(|fires_at| fires_at <= alarm.at()));
}

#[test]
fn alarm_that_is_taken_back_leaves_no_waker() {
    let wakes = Arc::<Wakes>::default();
    let alarm = Alarm::set(Instant::now() + HOUR, wakes.clone().into());
    assert_eq!(Arc::strong_count(&wakes), 2);
    drop(alarm);
    assert_eq!(Arc::strong_count(&wakes), 1);
}

#[test]
fn alarm_that_is_due_goes_off() {
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
