//! Load: deadlines and signals hold while sources compute, panic, wake themselves, are nested in one
//! another, or are too many for one poll to name.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use common::{Handle, NEVER, Task, ready, source, sources};
use futures::FutureExt;
use futures_aggregate::{Reason, fetch_and_aggregate, process_batch, stream_results};

type Answer = Result<u32, &'static str>;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn compute(duration: Duration) {
    let started = Instant::now();
    while started.elapsed() < duration {
        std::hint::spin_loop();
    }
}

/// A source that wakes itself in every poll. Each poll takes this long, and is counted.
fn restless(polls: &Cell<usize>, takes: Duration) -> impl Future<Output = Answer> {
    poll_fn(move |cx| {
        polls.set(polls.get() + 1);
        compute(takes);
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Polls to the end of the run, and again after each panic. Returns how long that took, and how many
/// polls began after the deadline.
fn poll_through_panics<F: Future>(
    task: &mut Task<F>,
    deadline: Duration,
) -> (F::Output, Duration, usize) {
    let started = Instant::now();
    let mut polls = 0;
    loop {
        polls += usize::from(started.elapsed() >= deadline);
        match catch_unwind(AssertUnwindSafe(|| task.poll())) {
            Ok(Poll::Ready(output)) => return (output, started.elapsed(), polls),
            Ok(Poll::Pending) => {}
            Err(payload) if started.elapsed() > ms(2000) => resume_unwind(payload),
            Err(_) => {}
        }
    }
}

/// An endless iterator of sources.
fn endless<F: Future<Output = Answer>>(make: impl Fn() -> F) -> impl Iterator<Item = (u32, F)> {
    (0..).map(move |id| (id, make()))
}

#[test]
fn panics_in_every_poll_do_not_hold_up_the_deadline() {
    silence_panics();
    let deadline = ms(50);
    let in_time = |what: &str, elapsed: Duration, polls: usize| {
        assert!(elapsed >= deadline, "{what}: {elapsed:?}");
        assert!(
            elapsed < deadline + ms(200),
            "{what}: {elapsed:?}, {polls} polls"
        );
    };

    let list = endless(|| async { panic!("source") });
    let mut task = Task::new(fetch_and_aggregate(list, deadline).concurrency(3));
    let (outcome, elapsed, polls) = poll_through_panics(&mut task, deadline);
    assert_eq!(outcome.unwrap_err().reason, Reason::TimedOut);
    in_time("sources", elapsed, polls);

    let list = endless(|| async { Ok(1) });
    let run = fetch_and_aggregate(list, deadline).concurrency(3);
    let mut task = Task::new(run.observe(|_| panic!("observer")));
    let (outcome, elapsed, polls) = poll_through_panics(&mut task, deadline);
    assert_eq!(outcome.unwrap_err().reason, Reason::TimedOut);
    in_time("observer", elapsed, polls);

    let list = endless(|| async { Ok(1) });
    let run = fetch_and_aggregate(list, deadline).concurrency(3);
    let mut task = Task::new(run.stop_when(|_| panic!("rule")));
    let (outcome, elapsed, polls) = poll_through_panics(&mut task, deadline);
    assert_eq!(outcome.unwrap_err().reason, Reason::TimedOut);
    in_time("rule", elapsed, polls);

    struct PanicsInDrop;
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("drop");
        }
    }
    let list = endless(|| async {
        let _part = PanicsInDrop;
        Ok(1)
    });
    let mut task = Task::new(fetch_and_aggregate(list, deadline).concurrency(3));
    let (outcome, elapsed, polls) = poll_through_panics(&mut task, deadline);
    assert_eq!(outcome.unwrap_err().reason, Reason::TimedOut);
    in_time("drops", elapsed, polls);

    let list =
        std::iter::repeat_with(|| -> (u32, std::future::Ready<Answer>) { panic!("iterator") });
    let mut task = Task::new(fetch_and_aggregate(list, deadline));
    let (outcome, elapsed, polls) = poll_through_panics(&mut task, deadline);
    assert_eq!(outcome.unwrap_err().reason, Reason::TimedOut);
    in_time("iterator", elapsed, polls);

    let batches = (0..).map(|_| endless(|| async { panic!("source") }));
    let mut task = Task::new(process_batch(batches).concurrency(3).timeout(deadline));
    let (outcome, elapsed, polls) = poll_through_panics(&mut task, deadline);
    assert_eq!(outcome.unwrap_err().reason, Reason::TimedOut);
    in_time("batches", elapsed, polls);

    let (sender, _receiver) = async_channel::unbounded();
    let list = endless(|| async { panic!("source") });
    let mut task = Task::new(
        stream_results(list, sender)
            .concurrency(3)
            .timeout(deadline),
    );
    let (outcome, elapsed, polls) = poll_through_panics(&mut task, deadline);
    assert_eq!(outcome.unwrap_err().reason, Reason::TimedOut);
    in_time("stream", elapsed, polls);
}

/// Prints no message for the thousands of panics that the tests expect.
fn silence_panics() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.payload().downcast_ref::<&str>().copied();
        if !["source", "observer", "rule", "drop", "iterator"]
            .map(Some)
            .contains(&text)
        {
            eprintln!("{info}");
        }
    }));
}

#[test]
fn nested_runs_share_the_budget_of_the_outermost() {
    let polls = Cell::new(0);
    let leaf = || restless(&polls, Duration::ZERO);
    let of_leaves =
        || fetch_and_aggregate((0..1000).map(|id| (id, leaf())), NEVER).map(|_| Ok::<_, ()>(()));
    let of_runs = || fetch_and_aggregate((0..200).map(|id| (id, of_leaves())), NEVER);
    let mut task = Task::new(of_runs());
    for poll in 0..50 {
        let before = polls.get();
        assert!(task.poll().is_pending());
        assert!(
            polls.get() - before <= 600,
            "poll {poll}: {}",
            polls.get() - before
        );
    }

    // Three levels: the middle one is inside a combinator and a batch.
    let polls = Cell::new(0);
    let leaf = || restless(&polls, Duration::ZERO);
    let of_leaves =
        || fetch_and_aggregate((0..100).map(|id| (id, leaf())), NEVER).map(|_| Ok::<_, ()>(()));
    let of_batches = || {
        let batch = |_| (0..10).map(|id| (id, of_leaves()));
        let batches = process_batch((0..10).map(batch));
        futures::future::join(batches, pending::<()>()).map(|_| Ok::<_, ()>(()))
    };
    let mut task = Task::new(fetch_and_aggregate(
        (0..100).map(|id| (id, of_batches())),
        ms(100),
    ));
    let started = Instant::now();
    let outcome = loop {
        let before = polls.get();
        if let Poll::Ready(outcome) = task.poll() {
            break outcome;
        }
        assert!(polls.get() - before <= 1000, "{}", polls.get() - before);
    };
    assert_eq!(outcome.unwrap_err().reason, Reason::TimedOut);
    assert!(started.elapsed() < ms(600), "{:?}", started.elapsed());
}

#[test]
fn run_that_a_source_drives_in_one_poll_comes_to_its_end() {
    let source = || async {
        let list = (0..5000).map(|id| (id, ready(Ok(id))));
        let inner = futures::executor::block_on(fetch_and_aggregate(list, NEVER));
        Ok::<_, ()>(inner.unwrap().results.len())
    };
    let run = fetch_and_aggregate((0..3).map(|id| (id, source())), NEVER);
    let results = Task::new(run).finish().unwrap().results;
    assert_eq!(results, [(0, 5000), (1, 5000), (2, 5000)]);
}

#[test]
fn run_of_sources_that_compute_ends_after_the_source_that_is_being_polled() {
    for (count, takes, deadline) in [
        (1000, ms(5), ms(100)),
        (10, ms(40), ms(60)),
        (1000, ms(1), ms(20)),
    ] {
        // How many source polls began after the deadline.
        let late = Cell::new(0);
        let began = Cell::new(None);
        let source = || {
            poll_fn(|cx| {
                let began = began.get().unwrap_or_else(Instant::now);
                late.set(late.get() + usize::from(began.elapsed() >= deadline));
                compute(takes);
                cx.waker().wake_by_ref();
                Poll::<Answer>::Pending
            })
        };
        let list = (0..count).map(|id| (id, source()));
        let mut task = Task::new(fetch_and_aggregate(list, deadline));
        began.set(Some(Instant::now()));
        let interrupted = task.wait_for(ms(5000)).unwrap_err();
        assert_eq!(interrupted.reason, Reason::TimedOut);
        // One source is polled one last time, and the poll before may have started another one. A few
        // more are polled if the thread was preempted, so that the run is late.
        assert!(late.get() <= 10, "{takes:?}: {} late", late.get());
    }
}

#[test]
fn poll_of_sources_that_compute_is_short() {
    let polls = Cell::new(0);
    let list = (0..1000).map(|id| (id, restless(&polls, ms(2))));
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    for _ in 0..20 {
        let before = polls.get();
        assert!(task.poll().is_pending());
        assert!(
            (1..=2).contains(&(polls.get() - before)),
            "{}",
            polls.get() - before
        );
    }
    assert!(polls.get() > 20, "new sources are started");
}

#[test]
fn work_after_the_deadline_is_bounded_and_signals_are_checked() {
    for cancels in [false, true] {
        let (in_flight, takes) = (Cell::new(0), Cell::new(Duration::ZERO));
        // Every source wakes itself in every poll. The polls are short until the deadline.
        let wakes_itself = || {
            let mut is_new = true;
            let (in_flight, takes) = (&in_flight, &takes);
            poll_fn(move |cx| -> Poll<Answer> {
                in_flight.set(in_flight.get() + u32::from(std::mem::take(&mut is_new)));
                compute(takes.get());
                cx.waker().wake_by_ref();
                Poll::Pending
            })
        };
        let list = (0..50_000).map(|id| (id, wakes_itself()));
        let (cancel, signal) = source();
        let (deadline, timer) = source();
        let run = fetch_and_aggregate(list, NEVER)
            .cancel_on(signal)
            .expire_on(timer);
        let mut task = Task::new(run);
        while in_flight.get() < 50_000 {
            assert!(task.poll().is_pending());
        }
        takes.set(Duration::from_micros(20));
        deadline.answer(Ok(0));
        let started = Instant::now();
        assert!(task.poll().is_pending());
        if cancels {
            cancel.answer(Ok(0));
        }
        let reason = task.wait_for(ms(5000)).unwrap_err().reason;
        let (expected, most) = match cancels {
            // All sources together take a second.
            true => (Reason::Cancelled, ms(400)),
            false => (Reason::TimedOut, ms(600)),
        };
        assert_eq!(reason, expected);
        assert!(started.elapsed() < most, "{:?}", started.elapsed());
    }
}

#[test]
fn busy_batch_whose_time_is_up_does_not_delay_the_others() {
    let polls = Cell::new(0);
    let busy = |id| (id, restless(&polls, Duration::from_micros(5)).boxed_local());
    let (other, waits) = source();
    let batches = vec![
        (0..30_000).map(busy).collect::<Vec<_>>(),
        vec![(30_000, waits.boxed_local())],
    ];
    let run = process_batch(batches).batch_timeout(ms(300));
    let mut task = Task::new(run);
    let started = Instant::now();
    while other.polls() == 0 || started.elapsed() < ms(250) {
        assert!(task.poll().is_pending());
    }
    let mut answered = None;
    // This covers the time from just before the timeout of the busy batch until its end.
    loop {
        if started.elapsed() >= ms(299) && answered.is_none() {
            other.answer(Ok(1));
            answered = Some(Instant::now());
        }
        let poll = task.poll();
        if let Some(answered) = answered {
            assert!(
                !other.is_alive() || answered.elapsed() < ms(150),
                "the other batch waits"
            );
        }
        if let Poll::Ready(outcomes) = poll {
            assert_eq!(
                outcomes.unwrap()[1].as_ref().unwrap().results,
                [(30_000, 1)]
            );
            break;
        }
    }
    assert!(started.elapsed() < ms(700), "{:?}", started.elapsed());
}

#[test]
fn every_batch_gets_a_share_of_the_polls() {
    let (handles, list) = sources(10 * 1000);
    handles.iter().for_each(Handle::never_rests);
    let mut list = list.into_iter();
    let batches: Vec<Vec<_>> = (0..10)
        .map(|_| list.by_ref().take(1000).collect())
        .collect();
    let mut task = Task::new(process_batch(batches).batch_timeout(NEVER));
    for _ in 0..100 {
        assert!(task.poll().is_pending());
    }
    for batch in handles.chunks(1000) {
        let polls: usize = batch.iter().map(Handle::polls).sum();
        assert!(polls > 200, "{polls}");
    }
}

/// Counts the sources that it yields.
fn counted(
    count: u32,
    made: &Cell<usize>,
) -> impl Iterator<Item = (u32, std::future::Pending<Answer>)> {
    (0..count).map(move |id| {
        made.set(made.get() + 1);
        (id, pending())
    })
}

/// Polls to the end. Panics if one poll pulls more than 1,000 sources.
#[track_caller]
fn name_in_pieces<F: Future>(task: &mut Task<F>, made: &Cell<usize>) -> F::Output {
    loop {
        let before = made.get();
        let poll = task.poll();
        assert!(
            made.get() - before <= 1000,
            "{} in one poll",
            made.get() - before
        );
        match poll {
            Poll::Ready(output) => return output,
            Poll::Pending => assert!(task.is_woken()),
        }
    }
}

#[test]
fn sources_never_started_are_named_in_as_many_polls_as_it_takes() {
    const COUNT: u32 = 100_000;
    let made = Cell::new(0);
    let (cancel, signal) = source();
    let run = fetch_and_aggregate(counted(COUNT, &made), NEVER)
        .concurrency(10)
        .cancel_on(signal);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    cancel.answer(Ok(0));
    let interrupted = name_in_pieces(&mut task, &made).unwrap_err();
    assert_eq!(interrupted.reason, Reason::Cancelled);
    assert!(interrupted.partial.unfinished.iter().copied().eq(0..COUNT));

    let made = Cell::new(0);
    let (sender, receiver) = async_channel::bounded(1);
    let mut task = Task::new(stream_results(counted(COUNT, &made), sender).concurrency(10));
    assert!(task.settle().is_pending());
    drop(receiver);
    let interrupted = name_in_pieces(&mut task, &made).unwrap_err();
    assert_eq!(interrupted.reason, Reason::ReceiverClosed);
    assert_eq!(interrupted.partial.unfinished.len(), COUNT as usize);
}

#[test]
fn sources_of_batches_are_named_in_as_many_polls_as_it_takes() {
    const COUNT: u32 = 10_000;
    // Batches in flight and batches never started, whose run is cancelled, or which time out.
    for own_time in [false, true] {
        let made = Cell::new(0);
        let (cancel, signal) = source();
        let batches = (0..5).map(|_| counted(COUNT, &made));
        let run = process_batch(batches)
            .concurrency(2)
            .source_concurrency(10)
            .cancel_on(signal);
        let run = match own_time {
            true => run.batch_timeout(ms(10)),
            false => run.batch_timeout(NEVER),
        };
        let mut task = Task::new(run);
        let outcomes = if own_time {
            let started = Instant::now();
            loop {
                let before = made.get();
                let poll = task.poll();
                assert!(made.get() - before <= 1500, "{}", made.get() - before);
                if let Poll::Ready(outcomes) = poll {
                    break outcomes.unwrap();
                }
                assert!(started.elapsed() < ms(5000));
            }
        } else {
            assert!(task.settle().is_pending());
            cancel.answer(Ok(0));
            name_in_pieces(&mut task, &made).unwrap_err().partial
        };
        assert_eq!(outcomes.len(), 5);
        let reason = if own_time {
            Reason::TimedOut
        } else {
            Reason::Cancelled
        };
        for outcome in outcomes {
            let interrupted = outcome.unwrap_err();
            assert_eq!(interrupted.reason, reason);
            assert!(interrupted.partial.unfinished.iter().copied().eq(0..COUNT));
        }
    }
}

#[test]
fn sources_in_flight_are_dropped_before_the_others_are_named() {
    let (handles, list) = sources(10);
    let (cancel, signal) = source();
    let made = Rc::new(RefCell::new(0));
    let counted = made.clone();
    let rest = (10..100_000).map(move |id| {
        *counted.borrow_mut() += 1;
        (id, source().1)
    });
    let list = list.into_iter().chain(rest);
    let run = fetch_and_aggregate(list, NEVER)
        .concurrency(10)
        .cancel_on(signal);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    cancel.answer(Ok(0));
    assert!(task.poll().is_pending());
    assert_eq!(common::alive(&handles), 0);
    assert!(*made.borrow() < 2000);
    assert_eq!(task.finish().unwrap_err().partial.unfinished.len(), 100_000);
}

/// A source that answers after it has woken itself this many times.
fn yields(mut times: u32) -> futures::future::LocalBoxFuture<'static, Answer> {
    Box::pin(poll_fn(move |cx| {
        let Some(left) = times.checked_sub(1) else {
            return Poll::Ready(Ok(1));
        };
        times = left;
        cx.waker().wake_by_ref();
        Poll::Pending
    }))
}

#[test]
fn runs_that_are_nested_deeply_end() {
    type Nested = futures::future::LocalBoxFuture<'static, Answer>;
    let in_batch = |source: Nested| -> Nested {
        let run = process_batch([[(0, source)]]).batch_timeout(NEVER);
        Box::pin(run.map(|outcomes| outcomes.map(|_| 1).map_err(|_| "interrupted")))
    };
    let in_fetch = |source: Nested| -> Nested {
        let run = fetch_and_aggregate([(0, source)], NEVER);
        Box::pin(run.map(|aggregate| aggregate.map(|_| 1).map_err(|_| "interrupted")))
    };
    for depth in 1..10 {
        let batches = (0..depth).fold(yields(3), |source, _| in_batch(source));
        assert_eq!(Task::new(batches).wait_for(ms(2000)), Ok(1), "{depth}");
        let mixed = (0..depth).fold(in_batch(yields(3)), |source, _| in_fetch(source));
        assert_eq!(Task::new(mixed).wait_for(ms(2000)), Ok(1), "{depth}");
    }
}

#[test]
fn nested_runs_that_find_answers_without_end_do_not_hold_up_the_deadline() {
    for count in [10, 150, 1000] {
        let inner = || {
            let list = (0..).map(|id: u32| (id, std::future::ready(Err::<(), _>("refused"))));
            let run = fetch_and_aggregate(list, NEVER).concurrency(10);
            run.map(|_| Answer::Ok(1))
        };
        let run = fetch_and_aggregate((0..count).map(|id| (id, inner())), ms(100));
        let started = Instant::now();
        assert!(Task::new(run).wait_for(ms(3000)).is_err());
        assert!(
            started.elapsed() < ms(600),
            "{count}: {:?}",
            started.elapsed()
        );
    }
}

#[test]
fn panics_that_are_caught_cost_a_poll_its_budget() {
    silence_panics();
    let polls = Cell::new(0);
    let panics = || async {
        polls.set(polls.get() + 1);
        panic!("source")
    };
    let mut task = Task::new(
        fetch_and_aggregate(endless(panics).take(1_000_000), ms(50))
            .concurrency(3)
            .catch_panics(),
    );
    assert!(task.poll().is_pending());
    assert!(polls.get() <= 300, "{} polls", polls.get());
    assert_eq!(
        task.wait_for(ms(5000)).unwrap_err().reason,
        Reason::TimedOut
    );
}

#[test]
fn panics_in_every_poll_do_not_hold_up_the_timeouts_of_sources_and_batches() {
    silence_panics();
    let hangs_and_panics = || {
        let mut is_first = true;
        (0..).map(move |id| {
            let source = match std::mem::take(&mut is_first) {
                true => pending::<Answer>().boxed_local(),
                false => async { panic!("source") }.boxed_local(),
            };
            (id, source)
        })
    };
    let late = Cell::new(None);
    let started = Instant::now();
    let run = fetch_and_aggregate(hangs_and_panics(), ms(300))
        .concurrency(3)
        .source_timeout(ms(50))
        .observe(|event| {
            if let futures_aggregate::Event::Finished { id: 0, .. } = event {
                late.set(Some(started.elapsed()));
            }
        });
    let (outcome, ..) = poll_through_panics(&mut Task::new(run), ms(300));
    assert!(outcome.is_err());
    assert!(late.get() < Some(ms(280)), "{:?}", late.get());

    let hangs = [(0, pending::<Answer>().boxed_local())];
    let batches: [Box<dyn Iterator<Item = _>>; 2] =
        [Box::new(hangs.into_iter()), Box::new(hangs_and_panics())];
    let run = process_batch(batches)
        .batch_timeout(ms(50))
        .source_concurrency(3);
    let (outcome, elapsed, _) = poll_through_panics(&mut Task::new(run), ms(50));
    assert!(outcome.unwrap().iter().all(Result::is_err));
    assert!(elapsed < ms(800), "{elapsed:?}");
}

#[test]
fn run_that_is_dropped_while_it_names_sources_reports_each_source_at_most_once() {
    let told = RefCell::new([0, 0, 0]);
    let named = RefCell::new(std::collections::BTreeSet::new());
    let list = (0..100_000_u32).map(|id| (id, pending::<Answer>()));
    let (cancel, signal) = source();
    let run = fetch_and_aggregate(list, NEVER)
        .concurrency(2)
        .cancel_on(signal);
    let mut task = Task::new(run.observe(|event| {
        let what = match event {
            futures_aggregate::Event::Started { .. } => 0,
            futures_aggregate::Event::NotStarted { id, .. } => {
                assert!(named.borrow_mut().insert(*id), "{id} is named twice");
                2
            }
            _ => 1,
        };
        told.borrow_mut()[what] += 1;
    }));
    assert!(task.poll().is_pending());
    cancel.answer(Ok(0));
    assert!(task.poll().is_pending());
    let named_by_then = named.borrow().len();
    assert!((1..100_000).contains(&named_by_then));
    task.drop_future();
    assert_eq!(*told.borrow(), [2, 2, named_by_then]);
    assert!(named.borrow().iter().all(|id| (2..100_000).contains(id)));
}

#[test]
fn batch_whose_time_is_up_starts_no_more_sources() {
    let endless = || (0..).map(|id: u32| (id, std::future::ready(Err::<(), _>("refused"))));
    for whole in [false, true] {
        let run = process_batch([endless(), endless()]).source_concurrency(10);
        let run = match whole {
            true => run.batch_timeout(NEVER).timeout(ms(50)),
            false => run.batch_timeout(ms(50)),
        };
        let started = Instant::now();
        let outcomes = Task::new(run).wait_for(ms(2000));
        let outcomes = outcomes.unwrap_or_else(futures_aggregate::Interrupted::into_partial);
        for outcome in outcomes {
            assert_eq!(outcome.unwrap_err().reason, Reason::TimedOut);
        }
        assert!(started.elapsed() < ms(600), "{:?}", started.elapsed());
    }
}
