//! The real run and the model, step by step beside each other.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::operations::{CameTo, Outcomes, Run, Start, TICK, fetch, process, stream};
use super::schedule::{Case, From, Setup, Step, Ticks, case};
use super::source::{self, Answer, Handle};
use super::{End, Model, State};
use crate::SourceError;
use crate::scheduler::alarms::tests::{Wakes, alone, wake_due};
use crate::scheduler::clock;

/// A run that was not polled for this long is late, which the model does not know.
const LATE: Ticks = 10;

/// More than a run that is on time polls before it draws the consequences of a deadline.
const MOST_POLLS_OF_A_GRACE: usize = 3000;

/// A batch may start so many sources in one poll.
const MOST_IN_ONE_POLL_OF_A_BATCH: usize = 60;

struct Comparison {
    model: Model,
    run: Run,
    outcomes: Outcomes,
    received: CameTo,
    task: Arc<Wakes>,
    handles: Vec<Handle>,
    cancel: Handle,
    expire: Handle,
    began: Instant,
    /// When the run was last polled.
    polled_at: Ticks,
    is_over: bool,
}

impl Comparison {
    fn new(setup: &Setup, start: Start) -> Self {
        let (handles, sources) = source::sources(setup.sources.len());
        for (handle, &restless) in handles.iter().zip(&setup.sources) {
            handle.keep_waker();
            let left = Cell::new(restless);
            handle.on_poll(move |waker| {
                if left.get() > 0 {
                    left.set(left.get() - 1);
                    waker.wake_by_ref();
                }
            });
        }
        let [(cancel, cancelled), (expire, expired)] = [source::source(), source::source()];
        let (run, outcomes) = start(setup, sources, [cancelled, expired]);
        Self {
            model: Model::new(setup.clone()),
            run,
            outcomes,
            received: CameTo::default(),
            task: Arc::default(),
            handles,
            cancel,
            expire,
            // A time that never comes, so that no timer fires but when the schedule says so.
            began: Instant::now() + Duration::from_secs(1_000_000),
            polled_at: 0,
            is_over: false,
        }
    }

    fn step(&mut self, step: Step) {
        let count = self.handles.len();
        match step {
            Step::Answer(source, ..) | Step::Wake(source, _) if source >= count => {}
            Step::Answer(source, succeeds, from) => {
                self.model.answer(source, succeeds);
                let handle = self.handles[source].clone();
                here_or_there(from, move || handle.answer(answer(source, succeeds)));
            }
            Step::Wake(source, from) => {
                self.model.wake(source);
                let handle = self.handles[source].clone();
                here_or_there(from, move || handle.wake());
            }
            Step::Wait(ticks) => {
                if self.model.now + ticks - self.polled_at >= LATE {
                    self.poll();
                }
                self.model.now += ticks;
                wake_due(self.now());
            }
            Step::Cancel => {
                self.model.is_cancelled = true;
                self.cancel.answer(Ok(0));
            }
            Step::Expire => {
                self.model.is_expired = true;
                self.expire.answer(Ok(0));
            }
            Step::Poll => self.poll(),
            Step::Move => {
                self.task = Arc::default();
                elsewhere(|| self.poll());
            }
            Step::Settle => self.settle(),
            Step::Receive => self.receive(),
        }
    }

    fn now(&self) -> Instant {
        self.began + TICK * self.model.now
    }

    fn poll(&mut self) {
        if self.is_over {
            return;
        }
        clock::stop_at(self.now());
        self.polled_at = self.model.now;
        self.model.poll();
        let mut poll = self.poll_run();
        if self.model.came_to_deadline {
            // There is a grace, in which nothing happens from outside.
            for _ in 0..MOST_POLLS_OF_A_GRACE {
                if poll.is_pending() && self.is_woken() {
                    poll = self.poll_run();
                }
            }
            while self.model.end.is_none() && self.model.work().is_some() {
                self.model.poll();
            }
        }
        match poll {
            Poll::Ready(outcome) => self.check_outcome(outcome),
            Poll::Pending => assert_eq!(self.model.end, None, "it goes on"),
        }
        self.check_polls();
    }

    fn poll_run(&mut self) -> Poll<(End, CameTo)> {
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
                assert_eq!(self.model.work(), None, "and nobody has woken the run");
                return;
            }
            self.poll();
        }
        panic!("the run never comes to rest");
    }

    fn check_polls(&self) {
        for (id, (source, handle)) in self.model.sources.iter().zip(&self.handles).enumerate() {
            let (polls, real) = (source.polls, handle.polls());
            assert!(
                real == polls
                    || real > polls && (self.model.is_stale() || self.model.had_grace(id)),
                "source {id}: {real} polls for {polls}"
            );
            let is_gone = self.is_over || source.is_gone();
            assert_eq!(handle.is_alive(), !is_gone, "source {id}");
        }
    }

    fn check_outcome(&mut self, (end, undelivered): (End, CameTo)) {
        assert_eq!(Some(end), self.model.end);
        let answered = |came_to: &CameTo| came_to.results.len() + came_to.errors.len();
        assert_eq!(answered(&undelivered), self.model.in_line, "in line");
        assert_eq!(self.outcomes.len(), self.model.in_channel, "in the channel");
        let mut came_to = undelivered;
        came_to.results.append(&mut self.received.results);
        came_to.errors.append(&mut self.received.errors);
        while let Ok(outcome) = self.outcomes.try_recv() {
            came_to.record(outcome);
        }
        came_to.results.sort_unstable();
        came_to.errors.sort_unstable_by_key(|&(id, _)| id);
        came_to.unfinished.sort_unstable();
        assert_eq!(came_to, self.expected());
        self.is_over = true;
    }

    fn expected(&self) -> CameTo {
        let mut expected = CameTo::default();
        for (id, source) in self.model.sources.iter().enumerate() {
            match source.state {
                State::Succeeded => expected.results.push((id, answer(id, true).unwrap())),
                State::Failed => expected.errors.push((id, SourceError::Failed("failed"))),
                State::TimedOut => expected.errors.push((id, SourceError::TimedOut)),
                State::InFlight { .. } | State::NotStarted => expected.unfinished.push(id),
            }
        }
        expected
    }

    /// Lets everything happen that must come.
    fn finish(mut self) {
        self.settle();
        let times = [self.model.setup.timeout, self.model.setup.source_timeout];
        for time in times.into_iter().flatten() {
            for _ in 0..time {
                self.step(Step::Wait(1));
                self.settle();
            }
        }
        for id in 0..self.handles.len() {
            self.step(Step::Answer(id, id % 2 == 0, From::Here));
            self.settle();
        }
        while !self.is_over && self.model.in_channel > 0 {
            self.step(Step::Receive);
            self.settle();
        }
        assert!(self.is_over, "it waits for what never comes");
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

fn here_or_there(from: From, action: impl FnOnce() + Send) {
    match from {
        From::Here => action(),
        From::AnotherThread => elsewhere(action),
    }
}

fn elsewhere(action: impl FnOnce() + Send) {
    let joined = thread::scope(|scope| scope.spawn(action).join());
    joined.unwrap_or_else(|payload| resume_unwind(payload));
}

/// For operations without a channel, in which every outcome has room at once.
fn without_receiver(case: Case) -> Case {
    let is_other = |step: &Step| !matches!(step, Step::Receive);
    let room = usize::MAX;
    Case {
        setup: Setup { room, ..case.setup },
        steps: case.steps.into_iter().filter(is_other).collect(),
    }
}

/// Lets no two deadlines pass between two polls: a batch does not know which of its own and its
/// sources' came first.
fn polled_at_each_tick(steps: &[Step]) -> Vec<Step> {
    let each = |&step: &Step| match step {
        Step::Wait(ticks) => [Step::Wait(1), Step::Settle].repeat(ticks as usize),
        _ => vec![step],
    };
    steps.iter().flat_map(each).collect()
}

fn compare(case: &Case, start: Start) {
    let _alone = alone();
    let mut comparison = Comparison::new(&case.setup, start);
    for &step in &case.steps {
        comparison.step(step);
    }
    comparison.finish();
}

/// `PROPTEST_CASES` makes them more.
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
    fn fetches_go_as_the_model_does(case in case()) {
        compare(&without_receiver(case), fetch);
    }

    #[test]
    fn batches_go_as_the_model_does(case in case()) {
        let steps = polled_at_each_tick(&case.steps);
        let mut setup = case.setup;
        setup.sources.truncate(MOST_IN_ONE_POLL_OF_A_BATCH);
        compare(&without_receiver(Case { setup, steps }), process);
    }

    #[test]
    fn streams_go_as_the_model_does(case in case()) {
        compare(&case, stream);
    }
}
