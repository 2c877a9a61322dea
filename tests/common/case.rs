//! Runs of scripted sources, and the checks after each run.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use async_channel::Receiver;
use futures_aggregate::{
    Aggregate, Batches, Event, Handled, Interrupted, Limit, Operation, Outcome, Reason,
    SourceError, Streamed, TestTimer, Timer, fetch_and_aggregate, for_each_result, process_batch,
    stream_results,
};

use super::NEVER;
use super::script::{
    Arrival, CANCEL, DEADLINE, DRAIN, EXPIRE, Fate, Interference, Kind, Played, Script, Scripted,
    World, play, yield_now,
};
use futures_aggregate::types::{
    First, IntoBatches, IntoSources, Never, NoHooks, OutcomeTypes, Signals, WithObserver,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    All,
    /// At most this many sources at a time.
    AtATime(usize),
    /// One even and one odd id at a time.
    PerKey,
    /// Even ids have the weight 1 and odd ones 2, of 2.
    Weighs,
    /// One source at a time, under a limit that can be shared.
    Shared,
    FailFast,
    /// A quorum of this many successes.
    Quorum(usize),
    /// A stop rule that is satisfied by this many answers, or by one batch.
    StopWhen(usize),
    CatchPanics,
    /// Outcomes are in the order of their sources.
    InOrder,
    /// The bodies of failures fail.
    BodyFails,
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

type Sourced = Outcome<usize, usize, usize>;
type Gate = First<Never, Scripted>;
type Scripts = Signals<Gate, Gate, Gate>;
type AllHandled = Handled<usize, usize, usize, usize>;
pub type HandedOver = Result<AllHandled, Interrupted<AllHandled>>;

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
    /// Whether the interference times the run out.
    fn expires(self) -> bool {
        matches!(
            self.interference,
            Interference::Expire | Interference::Deadline
        )
    }

    fn limit(self) -> usize {
        match self.policy {
            Policy::AtATime(limit) => limit,
            _ => usize::MAX,
        }
    }

    /// Which sources may be in flight together.
    fn may_run(self) -> fn(&[usize]) -> bool {
        match self.policy {
            Policy::AtATime(1) | Policy::Shared => |ids| ids.len() <= 1,
            Policy::PerKey => |ids| ids.len() <= 1 || ids.len() == 2 && ids[0] % 2 != ids[1] % 2,
            Policy::Weighs => |ids| ids.iter().map(weight).sum::<usize>() <= 2,
            _ => |_| true,
        }
    }

    /// Adds what all operations have in common: the timer, a deadline, the timeout of sources, the signals,
    /// and an observer.
    fn watch<L, F, C>(
        self,
        run: Operation<L, F, C>,
        world: &Rc<World>,
    ) -> Operation<
        L,
        F,
        C,
        Scripts,
        WithObserver<NoHooks, impl FnMut(Event<'_, usize, usize, usize>)>,
        TestTimer,
    >
    where
        C: OutcomeTypes<Id = usize, Value = usize, Error = usize>,
    {
        world.may_run.set(self.may_run());
        let timer = world.timer.clone();
        run.deadline(timer.now() + DEADLINE)
            .timer(timer)
            .source_timeout(self.source_timeout)
            .cancel_on(world.source(CANCEL, Script::Waits))
            .expire_on(world.source(EXPIRE, Script::Waits))
            .drain_on(world.source(DRAIN, Script::Waits))
            .observe(|event| world.note(event))
    }

    /// Collects the outcomes of a run that passes them on, and checks their order.
    fn collect(self, outcomes: Vec<Sourced>, unfinished: &[usize], unseen: bool) -> Ids {
        let is_in_order = outcomes.is_sorted_by_key(|(id, _)| *id);
        assert!(
            is_in_order || self.policy != Policy::InOrder,
            "{self:?}: {outcomes:?}"
        );
        let mut came_to = Ids {
            unfinished: unfinished.to_vec(),
            unseen,
            ..Ids::default()
        };
        outcomes
            .into_iter()
            .for_each(|outcome| came_to.record(outcome));
        came_to
    }

    /// Plays a run that has no receiver.
    async fn play<F: Future>(self, run: F, world: &Rc<World>) -> Played<F::Output> {
        self.play_with(run, world, |_| false).await
    }

    async fn play_with<F: Future>(
        self,
        run: F,
        world: &Rc<World>,
        outside: impl FnMut(Option<Interference>) -> bool,
    ) -> Played<F::Output> {
        play(run, world, self.interference, self.at, outside).await
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
            Err(Reason::TimedOut) => assert!(self.expires(), "{self:?}"),
            Err(Reason::Drained) => assert_eq!(self.interference, Interference::Drain),
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
            Err(Reason::TimedOut) => assert!(self.expires(), "{self:?}"),
            Err(Reason::Drained) => assert_eq!(self.interference, Interference::Drain),
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

fn weight(id: &usize) -> usize {
    id % 2 + 1
}

fn end_of<T>(result: &Result<T, Interrupted<T>>) -> (Result<(), Reason>, &T) {
    match result {
        Ok(whole) => (Ok(()), whole),
        Err(interrupted) => (Err(interrupted.reason), &interrupted.partial),
    }
}

pub async fn fetch(case: Case<'_>) -> Played<Fetched> {
    let world = Rc::<World>::default();
    let list = || world.list(0, case.scripts);
    match case.kind {
        Kind::List => fetch_from(case, &world, list()).await,
        Kind::Each => fetch_from(case, &world, world.each(0, case.scripts)).await,
        Kind::Stream(arrival) => fetch_from(case, &world, world.stream(0, list(), arrival)).await,
        Kind::StreamOfLists(_) => unreachable!("there are no batches"),
    }
}

async fn fetch_from<L>(case: Case<'_>, world: &Rc<World>, sources: L) -> Played<Fetched>
where
    L: IntoSources<Id = usize, Future = Scripted>,
{
    let limit = Limit::new(1);
    let run = fetch_and_aggregate(sources, NEVER).concurrency(case.limit());
    let watch = |run| case.watch(run, world);
    let played = match case.policy {
        Policy::All | Policy::AtATime(_) => case.play(watch(run), world).await,
        Policy::PerKey => {
            let run = run.concurrency_per(|id| id % 2, 1);
            case.play(case.watch(run, world), world).await
        }
        Policy::Weighs => {
            let run = run.weight(weight).concurrency(2);
            case.play(case.watch(run, world), world).await
        }
        Policy::Shared => case.play(watch(run.concurrency(&limit)), world).await,
        Policy::FailFast => case.play(watch(run).fail_fast(), world).await,
        Policy::Quorum(successes) => case.play(watch(run).quorum(successes), world).await,
        Policy::CatchPanics => case.play(watch(run).catch_panics(), world).await,
        Policy::InOrder => case.play(watch(run).in_order(), world).await,
        Policy::BodyFails | Policy::BatchFails | Policy::BatchSucceeds => {
            unreachable!("there are no bodies and no batches")
        }
        Policy::StopWhen(answers) => {
            let enough = |so_far: &Ids| so_far.results.len() + so_far.errors.len() >= answers;
            case.play(watch(run).stop_when(enough), world).await
        }
    };
    assert_eq!(limit.in_use(), 0, "{case:?}: a place is lost");
    if let Fate::Resolved(result) = &played.fate {
        let (end, came_to) = end_of(result);
        let seen = case.seen(came_to.unseen, case.scripts.len(), world);
        case.check_ids(came_to, seen, played.told);
        case.check_end(end, came_to, played.polls, played.panics);
        if case.policy == Policy::InOrder {
            assert!(
                came_to.results.is_sorted() && came_to.unfinished.is_sorted(),
                "{case:?}"
            );
            assert!(came_to.errors.is_sorted_by_key(|(id, _)| id), "{case:?}");
        }
    }
    played
}

pub async fn process(case: Case<'_>) -> Played<Processed> {
    let world = Rc::<World>::default();
    let firsts = [0, case.scripts.len()];
    let list = |first| world.list(first, case.scripts);
    match case.kind {
        Kind::List => process_from(case, &world, firsts.map(list)).await,
        Kind::Each => {
            let each = |first| world.each(first, case.scripts);
            process_from(case, &world, firsts.map(each)).await
        }
        Kind::Stream(arrival) => {
            let gates = case.scripts.len() + 1;
            let stream = |batch| world.stream(batch * gates, list(firsts[batch]), arrival);
            process_from(case, &world, [0, 1].map(stream)).await
        }
        Kind::StreamOfLists(arrival) => {
            let lists = Vec::from(firsts.map(list));
            process_from(case, &world, world.stream(0, lists, arrival)).await
        }
    }
}

async fn process_from<B>(case: Case<'_>, world: &Rc<World>, batches: B) -> Played<Processed>
where
    B: IntoBatches,
    B::Batch: IntoSources<Id = usize, Future = Scripted>,
{
    let count = case.scripts.len();
    let limit = Limit::new(1);
    let run = process_batch(batches)
        .batch_timeout(NEVER)
        .source_concurrency(case.limit());
    let run = case.watch(run, world);
    if case.policy != Policy::Shared {
        // A number is for each batch.
        world.may_run.set(|_| true);
    }
    let played = match case.policy {
        Policy::All | Policy::AtATime(_) => case.play(run, world).await,
        Policy::Shared => case.play(run.source_concurrency(&limit), world).await,
        Policy::PerKey | Policy::Weighs => unreachable!("not for batches"),
        Policy::FailFast => case.play(run.batch_fail_fast(), world).await,
        Policy::Quorum(successes) => case.play(run.batch_quorum(successes), world).await,
        Policy::CatchPanics => case.play(run.catch_panics(), world).await,
        Policy::InOrder => case.play(run.in_order(), world).await,
        Policy::BodyFails => unreachable!("there are no bodies"),
        Policy::BatchFails => case.play(run.batch_fail_fast().fail_fast(), world).await,
        Policy::BatchSucceeds => case.play(run.batch_fail_fast().quorum(1), world).await,
        Policy::StopWhen(_) => {
            let run = run.stop_when(|so_far| so_far.iter().any(Option::is_some));
            case.play(run, world).await
        }
    };
    assert_eq!(limit.in_use(), 0, "{case:?}: a place is lost");
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

pub async fn stream(case: Case<'_>) -> Played<Sent> {
    let world = Rc::<World>::default();
    let list = || world.list(0, case.scripts);
    match case.kind {
        Kind::List => stream_from(case, &world, list()).await,
        Kind::Each => stream_from(case, &world, world.each(0, case.scripts)).await,
        Kind::Stream(arrival) => stream_from(case, &world, world.stream(0, list(), arrival)).await,
        Kind::StreamOfLists(_) => unreachable!("there are no batches"),
    }
}

async fn stream_from<L>(case: Case<'_>, world: &Rc<World>, sources: L) -> Played<Sent>
where
    L: IntoSources<Id = usize, Future = Scripted>,
{
    let (sender, receiver) = async_channel::bounded(1);
    let receiver: RefCell<Option<Receiver<Sourced>>> = RefCell::new(Some(receiver));
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
    let limit = Limit::new(1);
    let run = stream_results(sources, sender).concurrency(case.limit());
    let watch = |run| case.watch(run, world);
    let played = match case.policy {
        Policy::CatchPanics => {
            let run = watch(run).catch_panics();
            case.play_with(run, world, outside).await
        }
        Policy::InOrder => case.play_with(watch(run).in_order(), world, outside).await,
        Policy::PerKey => {
            let run = case.watch(run.concurrency_per(|id| id % 2, 1), world);
            case.play_with(run, world, outside).await
        }
        Policy::Weighs => {
            let run = case.watch(run.weight(weight).concurrency(2), world);
            case.play_with(run, world, outside).await
        }
        Policy::Shared => {
            let run = watch(run.concurrency(&limit));
            case.play_with(run, world, outside).await
        }
        _ => case.play_with(watch(run), world, outside).await,
    };
    assert_eq!(limit.in_use(), 0, "{case:?}: a place is lost");
    while receive_one() {}
    if let Some(receiver) = receiver.take() {
        assert!(receiver.is_closed(), "{case:?}: the channel is still open");
    }
    if let Fate::Resolved(result) = &played.fate {
        let (end, streamed) = end_of(result);
        let received = received.into_inner();
        assert_eq!(streamed.delivered, received.len(), "{case:?}");
        let outcomes = received
            .into_iter()
            .chain(streamed.undelivered.iter().cloned())
            .collect();
        let came_to = case.collect(outcomes, &streamed.unfinished, streamed.unseen);
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

/// Runs bodies that yield once. Under [`Policy::BodyFails`] those of failures fail.
pub async fn hand_over(case: Case<'_>) -> Played<HandedOver> {
    let world = Rc::<World>::default();
    let list = || world.list(0, case.scripts);
    match case.kind {
        Kind::List => hand_over_from(case, &world, list()).await,
        Kind::Each => hand_over_from(case, &world, world.each(0, case.scripts)).await,
        Kind::Stream(arrival) => {
            hand_over_from(case, &world, world.stream(0, list(), arrival)).await
        }
        Kind::StreamOfLists(_) => unreachable!("there are no batches"),
    }
}

async fn hand_over_from<L>(case: Case<'_>, world: &Rc<World>, sources: L) -> Played<HandedOver>
where
    L: IntoSources<Id = usize, Future = Scripted>,
{
    let (taken, ended) = (RefCell::new(Vec::new()), Cell::new(0));
    let body = |outcome: Sourced| {
        let (id, fails) = (outcome.0, outcome.1.is_err());
        taken.borrow_mut().push(outcome);
        let ended = &ended;
        async move {
            yield_now().await;
            ended.set(ended.get() + 1);
            match case.policy {
                Policy::BodyFails if fails => Err(id),
                _ => Ok(()),
            }
        }
    };
    let run = for_each_result(sources, body).concurrency(case.limit());
    let run = case.watch(run, world);
    let played = match case.policy {
        Policy::CatchPanics => case.play(run.catch_panics(), world).await,
        Policy::InOrder => case.play(run.in_order().bodies(2), world).await,
        _ => case.play(run, world).await,
    };
    if let Fate::Resolved(result) = &played.fate {
        let (end, handled) = end_of(result);
        let taken = taken.into_inner();
        assert_eq!(handled.handled, taken.len(), "{case:?}");
        assert_eq!(ended.get(), taken.len(), "{case:?}: a body has not ended");
        let outcomes = taken
            .into_iter()
            .chain(handled.undelivered.clone())
            .collect();
        let came_to = case.collect(outcomes, &handled.unfinished, handled.unseen);
        let seen = case.seen(came_to.unseen, case.scripts.len(), world);
        case.check_ids(&came_to, seen, played.told);
        let has_failed = !handled.body_errors.is_empty();
        assert!(!has_failed || case.policy == Policy::BodyFails, "{case:?}");
        if end == Err(Reason::BodyFailed) {
            assert!(has_failed, "{case:?}");
        } else {
            assert!(end.is_err() || !has_failed, "{case:?}: a body has failed");
            assert!(end.is_err() || handled.undelivered.is_empty(), "{case:?}");
            case.check_end(end, &came_to, played.polls, played.panics);
        }
    }
    played
}
