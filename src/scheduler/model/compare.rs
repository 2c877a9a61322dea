//! Compares the real run with the model, step by step.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::thread;

use proptest::prelude::*;

use super::operations::{
    Arrivals, Incoming, Outcomes, Outside, Report, Run, Shared, Start, TICK, fetch, hand_over,
    process, stream,
};
use super::schedule::{Case, Kind, Operation, Setup, Step, Thread, case, own_timeout};
use super::source::{self, Answer, Handle};
use super::{End, Model, State};
use crate::timer::Wakes;
use crate::{Reason, SourceError, TestTimer, Timer};

/// More polls than the grace of a run on time takes.
const MAX_GRACE_POLLS: usize = 5000;

/// A batch can start this many sources in one poll, and a run as many bodies.
const MAX_BATCH_SOURCES: usize = 60;

/// A run can take this many sources from its list, and start them, in one poll.
const MAX_LIMITED_SOURCES: usize = 40;

/// The longest time between two starts.
const MAX_INTERVAL: usize = 4;

/// The real run and the model.
struct Comparison {
    /// The model.
    model: Model,
    /// The real run.
    run: Run,
    /// The channel that the run sends into.
    outcomes: Outcomes,
    /// What was received from it.
    received: Report,
    /// The task that polls the run. It counts its wakes.
    task: Arc<Wakes>,
    /// Control the sources.
    handles: Vec<Handle>,
    /// Controls the items of the stream.
    arrivals: Arrivals,
    /// Controls the signal of `cancel_on`.
    cancel: Handle,
    /// Controls the signal of `expire_on`.
    expire: Handle,
    /// Controls the signal of `drain_on`.
    drain: Handle,
    /// The timer of the run.
    timer: TestTimer,
    /// The limit and the rate that it shares.
    shared: Shared,
    /// Whether the run has resolved.
    is_over: bool,
}

impl Comparison {
    fn new(setup: &Setup, start: Start) -> Self {
        let (handles, sources) = source::sources(setup.sources.len());
        for (handle, &self_wakes) in handles.iter().zip(&setup.sources) {
            handle.keep_waker();
            let left = Cell::new(self_wakes);
            handle.on_poll(move |waker| {
                if left.get() > 0 {
                    left.set(left.get() - 1);
                    waker.wake_by_ref();
                }
            });
        }
        let [(cancel, cancelled), (expire, expired), (drain, drained)] =
            std::array::from_fn(|_| source::source());
        let arrivals = Arrivals::default();
        let incoming = Incoming {
            sources,
            arrivals: arrivals.clone(),
        };
        let timer = TestTimer::new();
        let shared = Shared::new(setup);
        let outside = Outside {
            cancel: cancelled,
            expire: expired,
            drain: drained,
            timer: timer.clone(),
            shared: shared.clone(),
        };
        let (run, outcomes) = start(setup, incoming, outside);
        Self {
            model: Model::new(setup.clone()),
            run,
            outcomes,
            received: Report::default(),
            task: Arc::default(),
            handles,
            arrivals,
            cancel,
            expire,
            drain,
            timer,
            shared,
            is_over: false,
        }
    }

    fn step(&mut self, step: Step) {
        let count = self.handles.len();
        match step {
            Step::Answer(source, ..) | Step::Wake(source, _) if source >= count => {}
            Step::Answer(source, succeeds, thread) => {
                self.model.answer(source, succeeds);
                let handle = self.handles[source].clone();
                run_on(thread, move || handle.answer(answer(source, succeeds)));
            }
            Step::Wake(source, thread) => {
                self.model.wake(source);
                let handle = self.handles[source].clone();
                run_on(thread, move || handle.wake());
            }
            Step::Arrive(items, thread) => {
                self.model.arrived += items;
                let arrivals = self.arrivals.clone();
                run_on(thread, move || arrivals.arrive(items));
            }
            Step::Wait(ticks) => {
                self.model.now += ticks;
                self.timer.advance(TICK * ticks);
            }
            Step::Cancel => {
                self.model.is_cancelled = true;
                self.cancel.answer(Ok(0));
            }
            Step::Expire => {
                self.model.is_expired = true;
                self.expire.answer(Ok(0));
            }
            Step::Drain => {
                self.model.is_drained = true;
                self.drain.answer(Ok(0));
            }
            Step::Poll => self.poll(),
            Step::Move => {
                self.task = Arc::default();
                on_other_thread(|| self.poll());
            }
            Step::Settle => self.settle(),
            Step::Receive => self.receive(),
            Step::Take => self.take(),
            Step::GiveBack if self.model.in_use.others > 0 => {
                self.model.in_use.others -= 1;
                self.shared.limit.give_back(1);
            }
            Step::GiveBack => {}
            Step::SetPlaces(places) => {
                self.shared.limit.set(places);
                let in_use = &mut self.model.in_use;
                in_use.places = in_use.places.map(|_| places);
            }
            Step::Start => self.start_other(),
        }
        self.check_limit();
    }

    /// Another run takes a place.
    fn take(&mut self) {
        if self.model.in_use.places.is_none() {
            return;
        }
        let is_taken = self.shared.limit.try_take(1);
        if let Some(expected) = self.model.others_may_take() {
            assert_eq!(is_taken, expected, "another run takes a place");
        }
        self.model.in_use.others += usize::from(is_taken);
    }

    /// Another run starts a source.
    fn start_other(&mut self) {
        if self.model.setup.limits.rate.is_none() {
            return;
        }
        let is_started = self.shared.rate.start(None, self.timer.now()).is_ok();
        if let Some(expected) = self.model.others_may_start() {
            assert_eq!(is_started, expected, "another run starts a source");
        }
        if is_started {
            self.model.count_start();
        }
    }

    /// Checks that every place is in use, or kept for the run while it is about to be polled.
    fn check_limit(&self) {
        if self.model.in_use.places.is_none() {
            return;
        }
        let expected = self.model.in_use.others + self.model.weight_in_flight();
        let real = self.shared.limit.in_use();
        let may_be_kept = !self.is_over && self.is_woken();
        assert!(
            real == expected || real > expected && may_be_kept,
            "{real} places are in use instead of {expected}"
        );
    }

    fn poll(&mut self) {
        if self.is_over {
            return;
        }
        let poll = match self.model.setup.limits.are_set() {
            true => self.poll_to_rest(),
            false => self.poll_once(),
        };
        match poll {
            Poll::Ready(outcome) => self.check_outcome(outcome),
            Poll::Pending => assert_eq!(self.model.end, None, "the real run is pending"),
        }
        self.check_polls();
    }

    /// Polls both as long as there is something to do. A place that a source gives back may come to the next
    /// one through the queue of the limit, which takes the real run one more poll.
    fn poll_to_rest(&mut self) -> Poll<(End, Report)> {
        self.model.poll();
        while self.model.end.is_none() && self.model.pending_work().is_some() {
            self.model.poll();
        }
        let mut poll = self.poll_run();
        for _ in 0..MAX_GRACE_POLLS {
            if poll.is_pending() && self.is_woken() {
                poll = self.poll_run();
            }
        }
        poll
    }

    fn poll_once(&mut self) -> Poll<(End, Report)> {
        self.model.poll();
        let mut poll = self.poll_run();
        if self.model.may_look_for_end() && self.model.end.is_some() && poll.is_pending() {
            poll = self.poll_run();
        }
        if self.model.reached_deadline {
            // The real run may have a grace, in which it wakes itself.
            for _ in 0..MAX_GRACE_POLLS {
                if poll.is_pending() && self.is_woken() {
                    poll = self.poll_run();
                }
            }
            while self.model.end.is_none() && self.model.pending_work().is_some() {
                self.model.poll();
            }
        }
        poll
    }

    fn poll_run(&mut self) -> Poll<(End, Report)> {
        // SeqCst, here and below: any ordering is enough, because waking threads are joined.
        self.task.0.store(0, Ordering::SeqCst);
        let waker = Waker::from(self.task.clone());
        self.run.as_mut().poll(&mut Context::from_waker(&waker))
    }

    fn receive(&mut self) {
        if self.is_over {
            return;
        }
        let outcome = self.outcomes.try_recv();
        assert_eq!(outcome.is_ok(), self.model.in_channel > 0);
        if let Ok(outcome) = outcome {
            self.model.in_channel -= 1;
            self.received.record(outcome);
        }
    }

    fn is_woken(&self) -> bool {
        self.task.0.load(Ordering::SeqCst) > 0
    }

    fn settle(&mut self) {
        for _ in 0..1_000 {
            if self.is_over {
                return;
            }
            if self.model.is_polled && !self.is_woken() {
                assert_eq!(self.model.pending_work(), None, "the run was not woken");
                return;
            }
            self.poll();
        }
        panic!("the run wakes itself again and again");
    }

    fn check_polls(&self) {
        for (id, (source, handle)) in self.model.sources.iter().zip(&self.handles).enumerate() {
            let (polls, real) = (source.polls, handle.polls());
            assert!(
                real == polls
                    || real > polls && (self.model.has_stale_wake() || self.model.had_grace(id)),
                "source {id}: {real} polls instead of {polls}"
            );
            let is_gone = self.is_over || source.is_finished();
            assert_eq!(handle.is_alive(), !is_gone, "source {id}");
        }
    }

    fn check_outcome(&mut self, (end, undelivered): (End, Report)) {
        let is_tie = self.model.end == Some(Err(Reason::Drained)) && self.model.is_out_of_time();
        if !is_tie || end != Err(Reason::TimedOut) {
            assert_eq!(Some(end), self.model.end);
        }
        let outcomes = undelivered.results.len() + undelivered.errors.len();
        assert_eq!(outcomes, self.model.queued, "undelivered outcomes");
        assert_eq!(self.outcomes.len(), self.model.in_channel, "in the channel");
        let mut report = std::mem::take(&mut self.received);
        while let Ok(outcome) = self.outcomes.try_recv() {
            report.record(outcome);
        }
        report.results.extend(undelivered.results);
        report.errors.extend(undelivered.errors);
        report.unfinished = undelivered.unfinished;
        report.unseen = undelivered.unseen;
        if self.model.setup.in_order {
            assert!(report.results.is_sorted_by_key(|(id, _)| *id), "{report:?}");
            assert!(report.errors.is_sorted_by_key(|(id, _)| *id), "{report:?}");
            // With keys, those in flight come first.
            let is_parking = self.model.setup.limits.parks();
            assert!(is_parking || report.unfinished.is_sorted(), "{report:?}");
        }
        report.results.sort_unstable();
        report.errors.sort_unstable_by_key(|&(id, _)| id);
        report.unfinished.sort_unstable();
        assert_eq!(report, self.expected());
        self.is_over = true;
    }

    fn expected(&self) -> Report {
        let mut expected = Report {
            unseen: self.model.has_unseen(),
            ..Report::default()
        };
        for (id, source) in self.model.sources.iter().enumerate() {
            match source.state {
                State::Succeeded => expected.results.push((id, answer(id, true).unwrap())),
                State::Failed => expected.errors.push((id, SourceError::Failed("failed"))),
                State::TimedOut => expected.errors.push((id, SourceError::TimedOut)),
                State::NotStarted
                    if self.model.setup.kind == Kind::Stream
                        && self.model.left_out != Some(id)
                        && !self.model.is_parked(id) => {}
                State::InFlight { .. } | State::NotStarted => expected.unfinished.push(id),
            }
        }
        expected
    }

    /// Lets all deadlines pass, answers all sources, receives all outcomes, and drops the run.
    fn finish(mut self) {
        self.settle();
        let setup = &self.model.setup;
        let own = own_timeout(1).filter(|_| setup.has_own_timeouts);
        let times = [
            setup.timeout,
            setup.source_timeout,
            own,
            setup.drain_timeout,
        ];
        for time in times.into_iter().flatten() {
            for _ in 0..time {
                self.step(Step::Wait(1));
                self.settle();
            }
        }
        self.step(Step::Arrive(self.handles.len() + 1, Thread::This));
        self.settle();
        for id in 0..self.handles.len() {
            self.step(Step::Answer(id, id % 2 == 0, Thread::This));
            self.settle();
        }
        let operation = self.model.setup.operation;
        let has_receiver = matches!(operation, Operation::Stream | Operation::ForEach);
        while self.model.in_use.others > 0 {
            self.step(Step::GiveBack);
            self.settle();
        }
        for _ in 0..(self.handles.len() + 2) * MAX_INTERVAL {
            while has_receiver && !self.is_over && self.model.in_channel > 0 {
                self.step(Step::Receive);
                self.settle();
            }
            if self.is_over {
                break;
            }
            self.step(Step::Wait(1));
            self.settle();
        }
        self.check_limit();
        assert!(self.is_over, "the run never ends");
        drop(self.run);
        for handle in &self.handles {
            handle.wake();
        }
        assert!(!self.handles.iter().any(Handle::is_alive));
        assert_eq!(
            Arc::strong_count(&self.task),
            1,
            "wakers of the task are left"
        );
    }
}

fn answer(id: usize, succeeds: bool) -> Answer {
    match succeeds {
        true => Ok(u32::try_from(id).unwrap()),
        false => Err("failed"),
    }
}

fn run_on(thread: Thread, action: impl FnOnce() + Send) {
    match thread {
        Thread::This => action(),
        Thread::Other => on_other_thread(action),
    }
}

fn on_other_thread(action: impl FnOnce() + Send) {
    let joined = thread::scope(|scope| scope.spawn(action).join());
    joined.unwrap_or_else(|payload| resume_unwind(payload));
}

/// The case for an operation without a channel.
fn without_receiver(operation: Operation, case: Case) -> Case {
    let is_other = |step: &Step| !matches!(step, Step::Receive);
    let capacity = usize::MAX;
    Case {
        setup: Setup {
            capacity,
            operation,
            ..case.setup
        },
        steps: case.steps.into_iter().filter(is_other).collect(),
    }
}

/// Polls the run after each step, so that there is one order in which its sources can start.
fn settled(steps: &[Step]) -> Vec<Step> {
    steps
        .iter()
        .flat_map(|&step| [step, Step::Settle])
        .collect()
}

/// Adds a poll after each tick. If the deadlines of a batch and of its sources pass between two polls,
/// the batch does not know which was first.
fn polled_at_each_tick(steps: &[Step]) -> Vec<Step> {
    let each = |&step: &Step| match step {
        Step::Wait(ticks) => [Step::Wait(1), Step::Settle].repeat(ticks as usize),
        _ => vec![step],
    };
    steps.iter().flat_map(each).collect()
}

fn compare(case: &Case, start: Start) {
    let mut setup = case.setup.clone();
    let steps = match setup.limits.are_set() {
        true => {
            setup.sources.truncate(MAX_LIMITED_SOURCES);
            settled(&case.steps)
        }
        false => case.steps.clone(),
    };
    let mut comparison = Comparison::new(&setup, start);
    for step in steps {
        comparison.step(step);
    }
    comparison.finish();
}

/// At least 2,000 cases for each operation. `PROPTEST_CASES` sets more.
fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig {
        cases: config.cases.max(2_000),
        failure_persistence: None,
        ..config
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn fetch_and_aggregate_matches_the_model(case in case()) {
        compare(&without_receiver(Operation::Fetch, case), fetch);
    }

    #[test]
    fn process_batch_matches_the_model(case in case()) {
        let steps = polled_at_each_tick(&case.steps);
        let mut setup = case.setup;
        setup.sources.truncate(MAX_BATCH_SOURCES);
        // It would be that of the run of all batches.
        setup.deadline = None;
        // Its sources have no keys and no weights.
        setup.limits.per_key = None;
        setup.limits.has_weights = false;
        let case = Case { setup, steps };
        compare(&without_receiver(Operation::Process, case), process);
    }

    #[test]
    fn stream_results_matches_the_model(case in case()) {
        let setup = Setup { operation: Operation::Stream, ..case.setup };
        compare(&Case { setup, ..case }, stream);
    }

    #[test]
    fn for_each_result_matches_the_model(mut case in case()) {
        case.setup.sources.truncate(MAX_BATCH_SOURCES);
        case.setup.operation = Operation::ForEach;
        case.setup.capacity = usize::MAX;
        compare(&case, hand_over);
    }
}
