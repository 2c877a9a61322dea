//! Runs of scripted sources, and the checks after each run.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use async_channel::Receiver;
use futures_aggregate::{
    Aggregate, Batches, Interrupted, Outcome, Reason, SourceError, Streamed, fetch_and_aggregate,
    process_batch, stream_results,
};

use super::NEVER;
use super::script::{
    Arrival, CANCEL, EXPIRE, Fate, Interference, Kind, Played, Script, Scripted, World, play,
};
use futures_aggregate::types::{IntoBatches, IntoSources};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    All,
    /// At most this many sources at a time.
    AtATime(usize),
    FailFast,
    /// A quorum of this many successes.
    Quorum(usize),
    /// A stop rule that is satisfied by this many answers, or by one batch.
    StopWhen(usize),
    CatchPanics,
    /// The run fails at the first batch that fails, and a batch at its first source that fails.
    BatchFails,
    /// A quorum of one batch in which no source fails.
    BatchSucceeds,
}

pub type Ids = Aggregate<usize, usize, usize>;
pub type Fetched = Result<Ids, Interrupted<Ids>>;
pub type Processed =
    Result<Batches<usize, usize, usize>, Interrupted<Batches<usize, usize, usize>>>;
pub type Sent = Result<Streamed<usize, usize, usize>, Interrupted<Streamed<usize, usize, usize>>>;

/// One run: its sources, its settings, and an interference.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    pub scripts: &'a [Script],
    pub kind: Kind,
    pub policy: Policy,
    /// The timeout of each source: zero, which allows one poll, or none.
    pub source_timeout: Duration,
    pub interference: Interference,
    /// The number of the poll before which the interference comes.
    pub at: usize,
}

impl Case<'_> {
    fn limit(self) -> usize {
        match self.policy {
            Policy::AtATime(limit) => limit,
            _ => usize::MAX,
        }
    }

    /// Plays a run that has no receiver.
    fn play<F: Future>(self, run: F, world: &Rc<World>) -> Played<F::Output> {
        self.play_with(run, world, |_| false)
    }

    fn play_with<F: Future>(
        self,
        run: F,
        world: &Rc<World>,
        outside: impl FnMut(Option<Interference>) -> bool,
    ) -> Played<F::Output> {
        play(run, world, self.interference, self.at, outside)
    }

    /// Checks that the end of a run agrees with its aggregate.
    fn check_end(self, end: Result<(), Reason>, came_to: &Ids, polls: usize, panics: usize) {
        let (succeeded, failed) = (came_to.results.len(), came_to.errors.len());
        let unfinished = came_to.unfinished.len();
        match end {
            Ok(()) => {
                let enough = match self.policy {
                    Policy::Quorum(successes) => succeeded >= successes,
                    Policy::StopWhen(answers) => succeeded + failed >= answers,
                    _ => false,
                };
                assert!(enough || unfinished == 0, "{self:?}: not complete");
                assert!(self.policy != Policy::FailFast || failed == 0, "{self:?}");
                self.check_not_cancelled(polls, panics);
            }
            Err(Reason::Cancelled) => assert_eq!(self.interference, Interference::Cancel),
            Err(Reason::TimedOut) => assert_eq!(self.interference, Interference::Expire),
            Err(Reason::SourceFailed) => {
                assert_eq!(self.policy, Policy::FailFast);
                assert!(failed > 0, "{self:?}: no source failed");
            }
            Err(Reason::QuorumUnreachable) => {
                let Policy::Quorum(successes) = self.policy else {
                    panic!("{self:?}: there is no quorum");
                };
                assert!(
                    succeeded + unfinished < successes,
                    "{self:?}: the quorum is in reach"
                );
            }
            Err(reason) => panic!("{self:?}: {reason}"),
        }
        let is_caught = self.policy == Policy::CatchPanics && !self.panics_outside_of_polls();
        assert!(!is_caught || panics == 0, "{self:?}: the run panics");
    }

    /// Checks that a run that completed was not cancelled before.
    fn check_not_cancelled(self, polls: usize, panics: usize) {
        // A run that panicked may have been complete before it was cancelled.
        let is_cancelled = self.interference == Interference::Cancel && self.at < polls;
        assert!(
            !is_cancelled || panics > 0,
            "{self:?}: the run was cancelled"
        );
    }

    /// Checks that the end of a run of batches agrees with its outcomes.
    fn check_whole(
        self,
        end: Result<(), Reason>,
        batches: &Batches<usize, usize, usize>,
        polls: usize,
        panics: usize,
    ) {
        let succeeded = batches.iter().filter(|batch| batch.is_ok()).count();
        match end {
            Ok(()) => {
                match self.policy {
                    Policy::BatchFails => assert_eq!(succeeded, batches.len(), "{self:?}"),
                    Policy::BatchSucceeds => assert!(succeeded > 0, "{self:?}"),
                    _ => {}
                }
                self.check_not_cancelled(polls, panics);
            }
            Err(Reason::Cancelled) => assert_eq!(self.interference, Interference::Cancel),
            Err(Reason::TimedOut) => assert_eq!(self.interference, Interference::Expire),
            Err(Reason::SourceFailed) => {
                assert_eq!(self.policy, Policy::BatchFails);
                assert!(succeeded < batches.len(), "{self:?}");
            }
            Err(Reason::QuorumUnreachable) => {
                assert_eq!(self.policy, Policy::BatchSucceeds);
                assert_eq!(succeeded, 0, "{self:?}");
            }
            Err(reason) => panic!("{self:?}: {reason}"),
        }
    }

    /// How many sources the run has seen: all of them, unless some are still in a stream.
    fn seen(self, is_unseen: bool, count: usize, world: &World) -> usize {
        match self.kind {
            Kind::Stream(_) if is_unseen => world.yielded(),
            _ => {
                assert!(!is_unseen, "{self:?}: all sources are known");
                count
            }
        }
    }

    fn panics_outside_of_polls(self) -> bool {
        let streams_panic = matches!(
            self.kind,
            Kind::Stream(Arrival::Panics) | Kind::StreamOfLists(Arrival::Panics)
        );
        streams_panic || self.scripts.contains(&Script::PanicsInDrop)
    }

    /// Checks that every source that the run has seen is in exactly one list, with its own outcome. An
    /// observer has had events of `told` sources, which must be the same number.
    fn check_ids(self, came_to: &Ids, seen: usize, told: usize) {
        assert_eq!(told, seen, "{self:?}");
        for (id, value) in &came_to.results {
            assert_eq!(id, value, "{self:?}");
        }
        for (id, error) in &came_to.errors {
            match error {
                SourceError::Failed(value) => assert_eq!(id, value, "{self:?}"),
                SourceError::Panicked(message) => {
                    assert!(message.contains("scripted panic"), "{self:?}")
                }
                SourceError::TimedOut => assert_ne!(self.source_timeout, NEVER, "{self:?}"),
                error => panic!("{self:?}: {error:?}"),
            }
        }
        let results = came_to.results.iter().map(|&(id, _)| id);
        let errors = came_to.errors.iter().map(|&(id, _)| id);
        let mut ids: Vec<_> = results.chain(errors).collect();
        ids.extend(&came_to.unfinished);
        ids.sort_unstable();
        let seen: Vec<_> = match self.kind {
            // With two batches, the ids that were seen need not be contiguous.
            Kind::Stream(_) if came_to.unseen => {
                assert_eq!(ids.len(), seen, "{self:?}: {came_to:?}");
                ids.dedup();
                return assert_eq!(ids.len(), seen, "{self:?}: {came_to:?}");
            }
            _ => (0..seen).collect(),
        };
        assert_eq!(ids, seen, "{self:?}: {came_to:?}");
    }
}

fn end_of<T>(result: &Result<T, Interrupted<T>>) -> (Result<(), Reason>, &T) {
    match result {
        Ok(whole) => (Ok(()), whole),
        Err(interrupted) => (Err(interrupted.reason), &interrupted.partial),
    }
}

pub fn fetch(case: Case<'_>) -> Played<Fetched> {
    let world = Rc::<World>::default();
    let list = || world.list(0, case.scripts);
    match case.kind {
        Kind::List => fetch_from(case, &world, list()),
        Kind::Each => fetch_from(case, &world, world.each(0, case.scripts)),
        Kind::Stream(arrival) => fetch_from(case, &world, world.stream(0, list(), arrival)),
        Kind::StreamOfLists(_) => unreachable!("there are no batches"),
    }
}

fn fetch_from<L>(case: Case<'_>, world: &Rc<World>, sources: L) -> Played<Fetched>
where
    L: IntoSources<Id = usize, Future = Scripted>,
{
    let run = fetch_and_aggregate(sources, NEVER)
        .concurrency(case.limit())
        .source_timeout(case.source_timeout)
        .cancel_on(world.source(CANCEL, Script::Waits))
        .expire_on(world.source(EXPIRE, Script::Waits))
        .observe(|event| world.note(event));
    let played = match case.policy {
        Policy::All | Policy::AtATime(_) => case.play(run, world),
        Policy::FailFast => case.play(run.fail_fast(), world),
        Policy::Quorum(successes) => case.play(run.quorum(successes), world),
        Policy::CatchPanics => case.play(run.catch_panics(), world),
        Policy::BatchFails | Policy::BatchSucceeds => unreachable!("there are no batches"),
        Policy::StopWhen(answers) => {
            let enough = |so_far: &Ids| so_far.results.len() + so_far.errors.len() >= answers;
            case.play(run.stop_when(enough), world)
        }
    };
    if let Fate::Resolved(result) = &played.fate {
        let (end, came_to) = end_of(result);
        let seen = case.seen(came_to.unseen, case.scripts.len(), world);
        case.check_ids(came_to, seen, played.told);
        case.check_end(end, came_to, played.polls, played.panics);
    }
    played
}

pub fn process(case: Case<'_>) -> Played<Processed> {
    let world = Rc::<World>::default();
    let firsts = [0, case.scripts.len()];
    let list = |first| world.list(first, case.scripts);
    match case.kind {
        Kind::List => process_from(case, &world, firsts.map(list)),
        Kind::Each => {
            let each = |first| world.each(first, case.scripts);
            process_from(case, &world, firsts.map(each))
        }
        Kind::Stream(arrival) => {
            let stream = |first| world.stream(2 * first, list(first), arrival);
            process_from(case, &world, firsts.map(stream))
        }
        Kind::StreamOfLists(arrival) => {
            let lists = Vec::from(firsts.map(list));
            process_from(case, &world, world.stream(0, lists, arrival))
        }
    }
}

fn process_from<B>(case: Case<'_>, world: &Rc<World>, batches: B) -> Played<Processed>
where
    B: IntoBatches,
    B::Batch: IntoSources<Id = usize, Future = Scripted>,
{
    let count = case.scripts.len();
    let run = process_batch(batches)
        .batch_timeout(NEVER)
        .source_concurrency(case.limit())
        .source_timeout(case.source_timeout)
        .cancel_on(world.source(CANCEL, Script::Waits))
        .expire_on(world.source(EXPIRE, Script::Waits))
        .observe(|event| world.note(event));
    let played = match case.policy {
        Policy::All | Policy::AtATime(_) => case.play(run, world),
        Policy::FailFast => case.play(run.batch_fail_fast(), world),
        Policy::Quorum(successes) => case.play(run.batch_quorum(successes), world),
        Policy::CatchPanics => case.play(run.catch_panics(), world),
        Policy::BatchFails => case.play(run.batch_fail_fast().fail_fast(), world),
        Policy::BatchSucceeds => case.play(run.batch_fail_fast().quorum(1), world),
        Policy::StopWhen(_) => {
            let run = run.stop_when(|so_far| so_far.iter().any(Option::is_some));
            case.play(run, world)
        }
    };
    if let Fate::Resolved(result) = &played.fate {
        let (end, batches) = end_of(result);
        let seen = match case.kind {
            Kind::StreamOfLists(_) if end.is_err() || batches.len() < 2 => world.yielded(),
            _ => 2,
        };
        assert_eq!(batches.len(), seen, "{case:?}");
        let mut whole = Ids::default();
        for batch in batches {
            let (batch_end, came_to) = end_of(batch);
            let is_stopped_with_the_whole = end.is_err() && batch_end == end;
            if batch_end != Err(Reason::NotNeeded) && !is_stopped_with_the_whole {
                let policy = match case.policy {
                    Policy::StopWhen(_) => Policy::All,
                    Policy::BatchFails | Policy::BatchSucceeds => Policy::FailFast,
                    policy => policy,
                };
                // The batch may have ended before the run was cancelled.
                let polls = 0;
                Case { policy, ..case }.check_end(batch_end, came_to, polls, played.panics);
            }
            whole.results.extend(&came_to.results);
            whole.errors.extend(came_to.errors.iter().cloned());
            whole.unfinished.extend(&came_to.unfinished);
            whole.unseen |= came_to.unseen;
        }
        let seen = case.seen(whole.unseen, batches.len() * count, world);
        case.check_ids(&whole, seen, played.told);
        case.check_whole(end, batches, played.polls, played.panics);
    }
    played
}

pub fn stream(case: Case<'_>) -> Played<Sent> {
    let world = Rc::<World>::default();
    let list = || world.list(0, case.scripts);
    match case.kind {
        Kind::List => stream_from(case, &world, list()),
        Kind::Each => stream_from(case, &world, world.each(0, case.scripts)),
        Kind::Stream(arrival) => stream_from(case, &world, world.stream(0, list(), arrival)),
        Kind::StreamOfLists(_) => unreachable!("there are no batches"),
    }
}

fn stream_from<L>(case: Case<'_>, world: &Rc<World>, sources: L) -> Played<Sent>
where
    L: IntoSources<Id = usize, Future = Scripted>,
{
    let (sender, receiver) = async_channel::bounded(1);
    let receiver: RefCell<Option<Receiver<Outcome<usize, usize, usize>>>> =
        RefCell::new(Some(receiver));
    let received = RefCell::new(Vec::new());
    let receive_one = || {
        let receiver = receiver.borrow();
        let outcome = receiver.as_ref().and_then(|it| it.try_recv().ok());
        outcome
            .map(|outcome| received.borrow_mut().push(outcome))
            .is_some()
    };
    let outside = |interference| match interference {
        None => receive_one(),
        Some(Interference::CloseReceiver) => {
            while receive_one() {}
            receiver.take().is_some()
        }
        Some(_) => false,
    };
    let run = stream_results(sources, sender)
        .concurrency(case.limit())
        .source_timeout(case.source_timeout)
        .cancel_on(world.source(CANCEL, Script::Waits))
        .expire_on(world.source(EXPIRE, Script::Waits))
        .observe(|event| world.note(event));
    let played = match case.policy {
        Policy::CatchPanics => case.play_with(run.catch_panics(), world, outside),
        _ => case.play_with(run, world, outside),
    };
    while receive_one() {}
    if let Some(receiver) = receiver.take() {
        assert!(receiver.is_closed(), "{case:?}: the channel is still open");
    }
    if let Fate::Resolved(result) = &played.fate {
        let (end, streamed) = end_of(result);
        let received = received.into_inner();
        assert_eq!(streamed.delivered, received.len(), "{case:?}");
        let mut came_to = Ids {
            unfinished: streamed.unfinished.clone(),
            unseen: streamed.unseen,
            ..Ids::default()
        };
        for outcome in received
            .into_iter()
            .chain(streamed.undelivered.iter().cloned())
        {
            came_to.record(outcome);
        }
        let seen = case.seen(came_to.unseen, case.scripts.len(), world);
        case.check_ids(&came_to, seen, played.told);
        if end == Err(Reason::ReceiverClosed) {
            assert_eq!(case.interference, Interference::CloseReceiver, "{case:?}");
        } else {
            assert!(end.is_err() || streamed.undelivered.is_empty(), "{case:?}");
            case.check_end(end, &came_to, played.polls, played.panics);
        }
    }
    played
}
