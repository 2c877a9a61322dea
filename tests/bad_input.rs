//! Unusual input: rows of the table in `src/guide/unusual_input.md`. Those about durations are in
//! `bad_durations.rs`, those about iterators in `bad_lists.rs`, and those about a wake that panics in
//! `adversarial.rs`.

mod common;

use std::time::{Duration, Instant};

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::thread;

use async_channel::bounded;
use common::waker::{Use, waker};
use common::{NEVER, Source, Task, alive, panic_of, polls, ready, source, sources};
use futures::future::FusedFuture;
use futures_aggregate::{
    AttemptBudget, Reason, Timer, fetch_and_aggregate, hedge, process_batch, stream_results,
};

const NONE: [(usize, Source); 0] = [];

#[test]
fn zero_where_at_least_one_is_required_panics_at_the_line_of_the_call() {
    let place = Arc::new(Mutex::new(None));
    let (seen, others) = (place.clone(), std::panic::take_hook());
    let this = thread::current().id();
    std::panic::set_hook(Box::new(move |info| {
        if thread::current().id() == this {
            let place = info.location();
            *seen.lock().unwrap() = place.map(|place| (place.file().to_owned(), place.line()));
        }
        others(info);
    }));
    let asks = |_| ready(Ok(0));
    let first_line = line!();
    let calls: [(&str, &dyn Fn()); 9] = [
        ("limit", &|| {
            drop(fetch_and_aggregate(NONE, NEVER).concurrency(0))
        }),
        ("limit", &|| drop(process_batch([NONE]).concurrency(0))),
        ("limit", &|| {
            drop(process_batch([NONE]).source_concurrency(0))
        }),
        ("limit", &|| {
            drop(stream_results(NONE, bounded(1).0).concurrency(0))
        }),
        ("quorum", &|| {
            drop(fetch_and_aggregate(NONE, NEVER).quorum(0))
        }),
        ("quorum", &|| drop(process_batch([NONE]).quorum(0))),
        ("quorum", &|| drop(process_batch([NONE]).batch_quorum(0))),
        ("attempts", &|| drop(hedge(NEVER, 0, asks))),
        ("tokens", &|| drop(AttemptBudget::new(0, 0.1))),
    ];
    let lines = first_line..line!();
    for (subject, call) in calls {
        let message = panic_of(call);
        assert!(message.contains(subject), "{message}");
        assert!(message.contains("at least 1"), "{message}");
        let (file, line) = place.lock().unwrap().take().unwrap();
        assert!(file == file!() && lines.contains(&line), "{file}:{line}");
    }
}

#[test]
fn receiver_inside_a_source_ends_the_run_when_the_source_is_dropped() {
    let (handles, list) = sources(2);
    let (sender, receiver) = bounded(4);
    handles[0].on_drop(move || drop(receiver));
    let mut task = Task::new(stream_results(list, sender));
    assert!(task.settle().is_pending());
    handles[0].answer(Ok(1));
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::ReceiverClosed);
    assert_eq!(interrupted.partial.undelivered, [(0, Ok(1))]);
    assert_eq!(alive(&handles), 0);
}

#[test]
fn no_source_is_polled_if_the_channel_is_closed_before_the_start() {
    for drops in [true, false] {
        let (handles, list) = sources(2);
        let (sender, receiver) = bounded(1);
        if drops {
            drop(receiver);
        } else {
            sender.close();
        }
        let run = stream_results(list, sender);
        let interrupted = Task::new(run).finish().unwrap_err();
        assert_eq!(interrupted.reason, Reason::ReceiverClosed);
        assert_eq!(interrupted.partial.unfinished, [0, 1]);
        assert_eq!(polls(&handles), [0, 0]);
    }
}

#[test]
fn channel_of_capacity_one_delivers_all_outcomes_in_order() {
    let (sender, receiver) = bounded(1);
    let list = (0..20).map(|id| (id, ready(Ok(id))));
    let mut task = Task::new(stream_results(list, sender));
    let mut received = Vec::new();
    while task.settle().is_pending() {
        while let Ok((id, _)) = receiver.try_recv() {
            received.push(id);
        }
        assert!(task.is_woken(), "room in the channel wakes the driver");
    }
    received.extend(receiver.try_recv().map(|(id, _)| id));
    assert!(received.into_iter().eq(0..20));
}

#[test]
fn poll_after_completion_panics_and_is_terminated_reports_completion() {
    let (sender, _receiver) = bounded(1);
    let mut fetch = Task::new(fetch_and_aggregate(NONE, NEVER));
    let mut batch = Task::new(process_batch([NONE]));
    let mut stream = Task::new(stream_results(NONE, sender));
    let mut hedge = Task::new(hedge(NEVER, 1, |_| ready(Ok(1))));
    assert!(!fetch.future().is_terminated() && !batch.future().is_terminated());
    assert!(!stream.future().is_terminated() && !hedge.future().is_terminated());
    assert!(fetch.settle().is_ready() && batch.settle().is_ready());
    assert!(stream.settle().is_ready() && hedge.settle().is_ready());
    assert!(fetch.future().is_terminated() && batch.future().is_terminated());
    assert!(stream.future().is_terminated() && hedge.future().is_terminated());
    for panic in [
        panic_of(|| fetch.settle()),
        panic_of(|| batch.settle()),
        panic_of(|| stream.settle()),
        panic_of(|| hedge.settle()),
    ] {
        assert!(panic.contains("polled after completion"), "{panic}");
        assert!(panic.contains("is_terminated()"), "{panic}");
    }
}

/// A waker that panics at the first use of kind `bad` after it is armed, and a function that arms it.
fn panics_once(bad: Use, wakes: Waker) -> (Waker, impl Fn()) {
    let armed = Arc::new(AtomicBool::new(false));
    let arm = armed.clone();
    let waker = waker(move |usage| {
        assert!(
            usage != bad || !armed.swap(false, Ordering::Relaxed),
            "waker"
        );
        if usage == Use::Wake {
            wakes.wake_by_ref();
        }
    });
    (waker, move || arm.store(true, Ordering::Relaxed))
}

#[test]
fn panic_in_the_clone_of_a_waker_fails_one_poll_and_loses_nothing() {
    let (handles, list) = sources(2);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    assert!(task.poll().is_pending());
    let other = Task::new(std::future::pending::<()>());
    let (panics, arm) = panics_once(Use::Clone, other.waker());
    arm();
    handles[0].answer(Ok(1));
    assert_eq!(panic_of(|| task.poll_with(&panics)), "waker");
    assert_eq!((alive(&handles), polls(&handles)), (1, vec![2, 1]));
    // The waker was not registered, so the poll itself has to wake the task.
    assert_eq!(other.wakes(), 1);
    assert!(task.poll_with(&panics).is_pending());
    handles[1].answer(Ok(2));
    assert_eq!(other.wakes(), 2);
    assert_eq!(task.finish().unwrap().results, [(0, 1), (1, 2)]);
}

#[test]
fn panic_in_the_drop_of_a_waker_fails_one_poll_and_loses_nothing() {
    for ending in ["moved", "answered", "cancelled", "dropped"] {
        let (handles, list) = sources(2);
        let (cancel, signal) = source();
        let mut task = Task::new(fetch_and_aggregate(list, NEVER).cancel_on(signal));
        let (panics, arm) = panics_once(Use::Drop, task.waker());
        assert!(task.poll_with(&panics).is_pending());
        drop(panics);
        arm();
        match ending {
            "answered" => handles.iter().for_each(|handle| handle.answer(Ok(1))),
            "cancelled" => cancel.answer(Ok(0)),
            _ => {}
        }
        if ending == "dropped" {
            assert_eq!(panic_of(|| task.drop_future()), "waker");
            assert_eq!(alive(&handles), 0);
            continue;
        }
        assert_eq!(panic_of(|| task.poll()), "waker");
        if ending == "cancelled" {
            assert_eq!(alive(&handles), 0);
            assert_eq!(task.finish().unwrap_err().partial.unfinished, [0, 1]);
            continue;
        }
        handles.iter().for_each(|handle| handle.answer(Ok(1)));
        assert_eq!(task.finish().unwrap().results, [(0, 1), (1, 1)]);
    }
}

#[test]
fn panic_in_the_drop_of_the_waker_of_an_earlier_task_loses_no_wake_of_the_new_task() {
    for deadline in [NEVER, Duration::from_millis(50)] {
        let (handles, list) = sources(2);
        let mut task = Task::new(fetch_and_aggregate(list, deadline));
        let wakes = Task::new(std::future::pending::<()>());
        let (panics, arm) = panics_once(Use::Drop, Waker::noop().clone());
        assert!(task.poll_with(&panics).is_pending());
        drop(panics);
        arm();
        // A poll by the new task drops the waker of the old one.
        assert_eq!(panic_of(|| task.poll_with(&wakes.waker())), "waker");
        if wakes.wakes() > 0 {
            assert!(task.poll_with(&wakes.waker()).is_pending());
        }
        let before = wakes.wakes();
        if deadline == NEVER {
            handles[0].answer(Ok(1));
        }
        let started = Instant::now();
        while wakes.wakes() == before {
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "nothing wakes the new task"
            );
        }
        handles[1].answer(Ok(2));
    }
}

#[test]
fn alarm_that_goes_off_before_a_late_run_waits_is_not_lost() {
    let (_, list) = sources(1);
    let mut task = Task::new(fetch_and_aggregate(list, Duration::from_millis(20)));
    assert!(task.poll().is_pending());
    thread::sleep(Duration::from_millis(30));
    // The run is polled late and sets an alarm. The alarm fires while the waker of the task is cloned.
    let (woken, was_woken) = std::sync::mpsc::channel();
    let slow = waker(move |usage| match usage {
        Use::Clone => thread::sleep(Duration::from_millis(50)),
        Use::Wake => woken.send(()).unwrap(),
        Use::Drop => {}
    });
    assert!(task.poll_with(&slow).is_pending());
    let patience = Duration::from_secs(10);
    assert!(
        was_woken.recv_timeout(patience).is_ok(),
        "nothing wakes the run"
    );
}

/// A timer whose sleeps never end.
struct Sleepless;

impl Timer for Sleepless {
    type Sleep = std::future::Pending<()>;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep_until(&self, _: Instant) -> Self::Sleep {
        std::future::pending()
    }
}

#[test]
fn signal_that_completes_before_a_late_run_waits_is_not_lost() {
    let (_, list) = sources(1);
    let (cancel, cancelled) = futures::channel::oneshot::channel::<()>();
    let run = fetch_and_aggregate(list, Duration::from_millis(5));
    let mut task = Task::new(run.cancel_on(cancelled).timer(Sleepless));
    assert!(task.poll().is_pending());
    thread::sleep(Duration::from_millis(10));
    // The run is polled late, and waits for its sleep. The signal completes while the waker of the task is
    // cloned, which is before that.
    let (woken, was_woken) = std::sync::mpsc::channel();
    let cancel = Mutex::new(Some(cancel));
    let slow = waker(move |usage| match usage {
        Use::Clone => drop(cancel.lock().unwrap().take()),
        Use::Wake => woken.send(()).unwrap(),
        Use::Drop => {}
    });
    assert!(task.poll_with(&slow).is_pending());
    assert!(was_woken.try_recv().is_ok(), "nothing wakes the run");
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Cancelled);
}
