//! Sources from ids and a closure: `each` makes the future of a source when the source starts, and names
//! the other ids without making futures.

mod common;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use common::{Handle, NEVER, Source, Task, alive, panic_of, ready, source, sources};
use futures_aggregate::{
    Event, Interrupted, Reason, SourceError, each, fetch_and_aggregate, process_batch,
    stream_results,
};

/// The ids whose futures were made, in order, with the handles of the futures.
#[derive(Default)]
struct Made(RefCell<Vec<(usize, Handle)>>);

impl Made {
    fn make(&self, id: &usize) -> Source {
        let (handle, source) = source();
        self.0.borrow_mut().push((*id, handle));
        source
    }

    fn ids(&self) -> Vec<usize> {
        self.0.borrow().iter().map(|&(id, _)| id).collect()
    }

    fn handle(&self, id: usize) -> Handle {
        let made = self.0.borrow();
        let (_, handle) = made.iter().find(|(made, _)| *made == id).expect("a future");
        handle.clone()
    }

    fn alive(&self) -> usize {
        let made = self.0.borrow();
        made.iter().filter(|(_, handle)| handle.is_alive()).count()
    }
}

#[test]
fn future_is_made_when_its_source_starts() {
    let made = Made::default();
    let run = fetch_and_aggregate(each(0..5, |id| made.make(id)), NEVER).concurrency(2);
    let mut task = Task::new(run);
    assert_eq!(made.ids(), []);
    assert!(task.settle().is_pending());
    assert_eq!(made.ids(), [0, 1]);
    for next in 2..5 {
        made.handle(next - 2).answer(Ok(1));
        assert!(task.settle().is_pending());
        assert!(made.ids().into_iter().eq(0..=next));
    }
    made.handle(3).answer(Ok(1));
    made.handle(4).answer(Ok(1));
    assert_eq!(task.finish().unwrap().results.len(), 5);
    assert_eq!(made.ids().len(), 5, "each is made once");
}

#[test]
fn start_event_comes_before_the_future_is_made() {
    let log = RefCell::new(Vec::new());
    let sources = each([1, 2], |&id| {
        log.borrow_mut().push((id, "made"));
        ready(Ok(1))
    });
    let run = fetch_and_aggregate(sources, NEVER).observe(|event| {
        if let Event::Started { id, .. } = event {
            log.borrow_mut().push((*id, "started"));
        }
    });
    assert!(Task::new(run).finish().is_ok());
    let expected = [(1, "started"), (1, "made"), (2, "started"), (2, "made")];
    assert_eq!(log.into_inner(), expected);
}

#[test]
fn run_that_ends_early_names_ids_without_making_their_futures() {
    let endings = ["cancel", "expire", "timeout", "quorum", "fail_fast", "rule"];
    for ending in endings {
        let made = Made::default();
        let (cancel, signal) = source();
        let (deadline, timer) = source();
        let timeout = match ending {
            "timeout" => Duration::ZERO,
            _ => NEVER,
        };
        let run = fetch_and_aggregate(each(0..5, |id| made.make(id)), timeout)
            .concurrency(2)
            .cancel_on(signal)
            .expire_on(timer);
        let run = match ending {
            "quorum" => run.quorum(1),
            "fail_fast" => run.fail_fast(),
            _ => run,
        };
        let mut task =
            Task::new(run.stop_when(|so_far| ending == "rule" && !so_far.results.is_empty()));
        let result = match task.settle() {
            Poll::Ready(result) => result,
            Poll::Pending => {
                match ending {
                    "cancel" => cancel.answer(Ok(0)),
                    "expire" => deadline.answer(Ok(0)),
                    "fail_fast" => made.handle(1).answer(Err("refused")),
                    _ => made.handle(1).answer(Ok(1)),
                }
                task.finish()
            }
        };
        let aggregate = result.unwrap_or_else(Interrupted::into_partial);
        let answered = aggregate.results.len() + aggregate.errors.len();
        let unfinished = match answered {
            0 => vec![0, 1, 2, 3, 4],
            _ => vec![0, 2, 3, 4],
        };
        assert_eq!(aggregate.unfinished, unfinished, "{ending}");
        assert!(!aggregate.unseen, "{ending}");
        assert_eq!((made.ids(), made.alive()), (vec![0, 1], 0), "{ending}");
    }
}

#[test]
fn streams_and_batches_name_ids_without_making_their_futures() {
    let made = Made::default();
    let (sender, receiver) = async_channel::bounded(1);
    let run = stream_results(each(0..5, |id| made.make(id)), sender).concurrency(2);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    drop(receiver);
    let streamed = task.finish().unwrap_err().partial;
    assert!(streamed.unfinished.into_iter().eq(0..5));
    assert_eq!((made.ids(), streamed.unseen), (vec![0, 1], false));

    let made = Made::default();
    let (cancel, signal) = source();
    let batches = [0, 10, 20].map(|first| each(first..first + 3, |id| made.make(id)));
    let run = process_batch(batches)
        .concurrency(2)
        .source_concurrency(1)
        .cancel_on(signal);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    cancel.answer(Ok(0));
    let outcomes = task.finish().unwrap_err().partial;
    let unfinished: Vec<_> = outcomes
        .into_iter()
        .map(|batch| batch.unwrap_err().partial.unfinished)
        .collect();
    assert_eq!(unfinished, [[0, 1, 2], [10, 11, 12], [20, 21, 22]]);
    assert_eq!(made.ids(), [0, 10]);
}

#[test]
fn run_that_is_dropped_makes_no_futures() {
    let made = Made::default();
    drop(fetch_and_aggregate(
        each(vec![0, 1], |id| made.make(id)),
        NEVER,
    ));
    drop(process_batch([each(vec![0, 1], |id| made.make(id))]));
    assert_eq!(made.ids(), []);

    let run = fetch_and_aggregate(each(vec![0, 1, 2], |id| made.make(id)), NEVER);
    let mut task = Task::new(run.concurrency(1));
    assert!(task.settle().is_pending());
    made.handle(0).on_drop(|| panic!("drop"));
    assert_eq!(panic_of(|| task.drop_future()), "drop");
    assert_eq!((made.ids(), made.alive()), (vec![0], 0));
}

#[test]
fn ids_of_unknown_number_are_unseen() {
    let made = Made::default();
    let (cancel, signal) = source();
    let run = fetch_and_aggregate(each(0.., |id| made.make(id)), NEVER)
        .concurrency(2)
        .cancel_on(signal);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    cancel.answer(Ok(0));
    let partial = task.finish().unwrap_err().partial;
    assert_eq!((partial.unfinished, partial.unseen), (vec![0, 1], true));
    assert_eq!(made.ids(), [0, 1]);

    // `Lines` has no upper bound in its size hint.
    let lines = "a\nb\nc".lines();
    let run = process_batch([each(lines, |_| source().1)]).source_concurrency(1);
    let mut task = Task::new(run.cancel_on(ready(Ok(0))));
    let outcomes = task.finish().unwrap_err().partial;
    let batch = &outcomes[0].as_ref().unwrap_err().partial;
    assert_eq!((&batch.unfinished[..], batch.unseen), (&[][..], true));
}

/// Fails to make the future of source 1.
fn make_or_panic(id: &usize) -> Source {
    assert!(*id != 1, "no future {id}");
    ready(Ok(7))
}

fn panicked() -> SourceError<&'static str> {
    SourceError::Panicked("no future 1".to_owned())
}

#[test]
fn panic_of_make_is_the_outcome_of_its_source_if_panics_are_caught() {
    let mut events = Vec::new();
    let run = fetch_and_aggregate(each(0..3, make_or_panic), NEVER).catch_panics();
    let run = run.observe(|event| {
        let name = match event {
            Event::Started { .. } => "started",
            Event::Finished { result, .. } if result.is_err() => "panicked",
            _ => "finished",
        };
        events.push((*event.id(), name));
    });
    let aggregate = Task::new(run).finish().unwrap();
    assert_eq!(aggregate.results, [(0, 7), (2, 7)]);
    assert_eq!(aggregate.errors, [(1, panicked())]);
    assert_eq!(
        events,
        [
            (0, "started"),
            (0, "finished"),
            (1, "started"),
            (1, "panicked"),
            (2, "started"),
            (2, "finished")
        ]
    );

    let batches = [each(0..3, make_or_panic), each(2..4, make_or_panic)];
    let outcomes = Task::new(process_batch(batches).catch_panics()).finish();
    let outcomes = outcomes.unwrap();
    let first = outcomes[0].as_ref().unwrap();
    assert_eq!(
        (first.results.len(), &first.errors[..]),
        (2, &[(1, panicked())][..])
    );
    assert_eq!(outcomes[1].as_ref().unwrap().results.len(), 2);

    let (sender, receiver) = async_channel::unbounded();
    let run = stream_results(each(0..3, make_or_panic), sender).catch_panics();
    assert_eq!(Task::new(run).finish().unwrap().delivered, 3);
    let received: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
    assert_eq!(received, [(0, Ok(7)), (1, Err(panicked())), (2, Ok(7))]);
}

#[test]
fn panic_of_make_unwinds_otherwise_and_its_source_is_accounted_for() {
    let mut task = Task::new(fetch_and_aggregate(each(0..3, make_or_panic), NEVER));
    assert_eq!(panic_of(|| task.settle()), "no future 1");
    assert!(task.is_woken());
    let aggregate = task.finish().unwrap();
    assert_eq!(aggregate.results, [(0, 7), (2, 7)]);
    assert_eq!(aggregate.errors, [(1, panicked())]);

    let batches = [each(0..3, make_or_panic), each(2..4, make_or_panic)];
    let mut task = Task::new(process_batch(batches));
    assert_eq!(panic_of(|| task.settle()), "no future 1");
    let outcomes = task.finish().unwrap();
    let first = outcomes[0].as_ref().unwrap();
    assert_eq!(
        (first.results.len(), &first.errors[..]),
        (2, &[(1, panicked())][..])
    );
    assert_eq!(outcomes[1].as_ref().unwrap().results.len(), 2);

    let (sender, receiver) = async_channel::unbounded();
    let mut task = Task::new(stream_results(each(0..3, make_or_panic), sender));
    assert_eq!(panic_of(|| task.settle()), "no future 1");
    assert_eq!(receiver.len(), 2);
    assert_eq!(task.finish().unwrap().delivered, 3);
    let received: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
    assert_eq!(received, [(0, Ok(7)), (1, Err(panicked())), (2, Ok(7))]);
}

#[test]
fn policies_count_a_panic_of_make() {
    let run = fetch_and_aggregate(each(0..3, make_or_panic), NEVER).catch_panics();
    let interrupted = Task::new(run.fail_fast()).finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::SourceFailed);
    assert_eq!(interrupted.partial.errors, [(1, panicked())]);
    assert_eq!(interrupted.partial.unfinished, [2]);

    let run = fetch_and_aggregate(each(0..3, make_or_panic), NEVER).catch_panics();
    let interrupted = Task::new(run.quorum(3)).finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::QuorumUnreachable);
    assert_eq!(interrupted.partial.unfinished, [2]);
}

/// Panics without the message that the panic hook prints.
fn fail(_: &usize) -> Source {
    resume_unwind(Box::new("no future"))
}

#[test]
fn futures_that_cannot_be_made_cost_budget() {
    const MANY: usize = 5_000;
    let run = fetch_and_aggregate(each(0..MANY, fail), NEVER).catch_panics();
    let mut task = Task::new(run);
    let mut polls = 1;
    let aggregate = loop {
        match task.poll() {
            Poll::Ready(aggregate) => break aggregate.unwrap(),
            Poll::Pending => polls += 1,
        }
    };
    assert_eq!(aggregate.errors.len(), MANY);
    assert!(polls >= MANY / 64, "{MANY} panics in {polls} polls");
}

#[test]
fn deadline_holds_while_panics_of_make_are_caught() {
    let run = fetch_and_aggregate(each(0..1_000_000, fail), Duration::from_millis(5));
    let interrupted = Task::new(run.catch_panics()).wait().unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert!(!interrupted.partial.unfinished.is_empty());
}

#[test]
fn deadline_holds_while_futures_cannot_be_made() {
    let run = fetch_and_aggregate(each(0.., fail), Duration::from_millis(5));
    let mut task = Task::new(run);
    let started = Instant::now();
    let interrupted = loop {
        assert!(started.elapsed() < Duration::from_secs(60), "still running");
        match catch_unwind(AssertUnwindSafe(|| task.poll())) {
            Ok(Poll::Ready(result)) => break result.unwrap_err(),
            Ok(Poll::Pending) => {}
            Err(payload) => assert_eq!(payload.downcast_ref(), Some(&"no future")),
        }
    };
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert!(interrupted.partial.unseen && !interrupted.partial.errors.is_empty());
}

#[test]
fn panic_of_an_observer_unwinds_even_if_make_panics_too() {
    let mut panics = true;
    let run = fetch_and_aggregate(each(1..2, make_or_panic), NEVER)
        .catch_panics()
        .observe(|_| {
            if std::mem::take(&mut panics) {
                panic!("observer");
            }
        });
    let mut task = Task::new(run);
    assert_eq!(panic_of(|| task.settle()), "observer");
    assert_eq!(task.finish().unwrap().errors, [(1, panicked())]);
}

#[test]
fn panic_of_the_ids_unwinds_even_if_panics_of_sources_are_caught() {
    let ids = (0..3).inspect(|&id| assert!(id != 1, "no id {id}"));
    let run = fetch_and_aggregate(each(ids, |_| ready(Ok(1))), NEVER).catch_panics();
    let mut task = Task::new(run);
    assert_eq!(panic_of(|| task.settle()), "no id 1");
    assert_eq!(task.finish().unwrap().results, [(0, 1), (2, 1)]);
}

#[test]
fn closure_is_dropped_with_the_run() {
    let witness = Rc::new(());
    let (handles, list) = sources(1);
    let mut futures = list.into_iter().map(|(_, future)| future);
    let held = witness.clone();
    let made = each(0..9, move |_| {
        let _ = &held;
        futures.next().expect("one future")
    });
    let mut task = Task::new(fetch_and_aggregate(made, NEVER).concurrency(1));
    assert!(task.settle().is_pending());
    assert_eq!(Rc::strong_count(&witness), 2);
    task.drop_future();
    assert_eq!((Rc::strong_count(&witness), alive(&handles)), (1, 0));
    assert_eq!(format!("{:?}", each([1], |_| ready(Ok(1)))), "Each { .. }");
}
