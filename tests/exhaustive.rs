//! Every list of scripted sources up to a length, under every policy, in every operation, with every
//! interference before every poll: no source and no waker outlives the run, and every source is
//! accounted for.

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use async_channel::Receiver;
use common::NEVER;
use common::script::{CANCEL, EXPIRE, Fate, Interference, Played, Script, World, play};
use futures_aggregate::{
    Aggregate, Batches, Interrupted, Outcome, Reason, SourceError, Streamed, fetch_and_aggregate,
    process_batch, stream_results,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    All,
    OneAtATime,
    FailFast,
    Quorum,
    StopWhen,
    CatchPanics,
}

const POLICIES: [Policy; 6] = [
    Policy::All,
    Policy::OneAtATime,
    Policy::FailFast,
    Policy::Quorum,
    Policy::StopWhen,
    Policy::CatchPanics,
];

const INTERFERENCES: [Interference; 5] = [
    Interference::Drop,
    Interference::Cancel,
    Interference::Expire,
    Interference::Panic,
    Interference::CloseReceiver,
];

type Ids = Aggregate<usize, usize, usize>;
type Fetched = Result<Ids, Interrupted<Ids>>;
type Processed = Result<Batches<usize, usize, usize>, Interrupted<Batches<usize, usize, usize>>>;
type Sent = Result<Streamed<usize, usize, usize>, Interrupted<Streamed<usize, usize, usize>>>;

/// One run: what is asked, how, and what comes between.
#[derive(Debug, Clone, Copy)]
struct Case<'a> {
    scripts: &'a [Script],
    policy: Policy,
    interference: Interference,
    at: usize,
}

impl Case<'_> {
    fn limit(self) -> usize {
        match self.policy {
            Policy::OneAtATime => 1,
            _ => usize::MAX,
        }
    }

    /// Checks how the run ended, by what it came to as a whole.
    fn check_end(self, end: Result<(), Reason>, came_to: &Ids, polls: usize, panics: usize) {
        let (succeeded, failed) = (came_to.results.len(), came_to.errors.len());
        let unfinished = came_to.unfinished.len();
        match end {
            Ok(()) => {
                let enough = match self.policy {
                    Policy::Quorum => succeeded >= 2,
                    Policy::StopWhen => succeeded + failed >= 2,
                    _ => false,
                };
                assert!(enough || unfinished == 0, "{self:?}: not complete");
                assert!(self.policy != Policy::FailFast || failed == 0, "{self:?}");
                // A panic may have kept the end from being told before.
                let is_cancelled = self.interference == Interference::Cancel && self.at < polls;
                assert!(!is_cancelled || panics > 0, "{self:?}: it was cancelled");
            }
            Err(Reason::Cancelled) => assert_eq!(self.interference, Interference::Cancel),
            Err(Reason::TimedOut) => assert_eq!(self.interference, Interference::Expire),
            Err(Reason::SourceFailed) => {
                assert_eq!(self.policy, Policy::FailFast);
                assert!(failed > 0, "{self:?}: nothing has failed");
            }
            Err(Reason::QuorumUnreachable) => {
                assert_eq!(self.policy, Policy::Quorum);
                assert!(succeeded + unfinished < 2, "{self:?}: it is in reach");
            }
            Err(reason) => panic!("{self:?}: {reason}"),
        }
        let panicked = came_to.errors.iter();
        let panicked = panicked.filter(|(_, error)| error.is_panicked()).count();
        if self.policy == Policy::CatchPanics {
            assert!(
                panicked >= panics.min(1) || self.panics_in_drop(),
                "{self:?}"
            );
        }
    }

    fn panics_in_drop(self) -> bool {
        self.scripts.contains(&Script::PanicsInDrop)
    }

    /// Checks that every source is named once, and rightly.
    fn check_ids(self, came_to: &Ids, count: usize) {
        for (id, value) in &came_to.results {
            assert_eq!(id, value, "{self:?}");
        }
        for (id, error) in &came_to.errors {
            match error {
                SourceError::Failed(value) => assert_eq!(id, value, "{self:?}"),
                SourceError::Panicked(message) => assert!(message.contains("as the"), "{self:?}"),
                error => panic!("{self:?}: {error:?}"),
            }
        }
        let results = came_to.results.iter().map(|&(id, _)| id);
        let errors = came_to.errors.iter().map(|&(id, _)| id);
        let mut ids: Vec<_> = results.chain(errors).collect();
        ids.extend(&came_to.unfinished);
        ids.sort_unstable();
        assert_eq!(ids, (0..count).collect::<Vec<_>>(), "{self:?}: {came_to:?}");
    }
}

fn end_of<T>(result: &Result<T, Interrupted<T>>) -> (Result<(), Reason>, &T) {
    match result {
        Ok(whole) => (Ok(()), whole),
        Err(interrupted) => (Err(interrupted.reason), &interrupted.partial),
    }
}

fn fetch(case: Case<'_>) -> Played<Fetched> {
    let world = Rc::<World>::default();
    let run = fetch_and_aggregate(world.list(0, case.scripts), NEVER)
        .concurrency(case.limit())
        .cancel_on(world.source(CANCEL, Script::Waits))
        .expire_on(world.source(EXPIRE, Script::Waits));
    let drive = |run| play(run, &world, case.interference, case.at, |_| false);
    let played = match case.policy {
        Policy::All | Policy::OneAtATime => drive(run),
        Policy::FailFast => drive(run.fail_fast()),
        Policy::Quorum => drive(run.quorum(2)),
        Policy::CatchPanics => drive(run.catch_panics()),
        Policy::StopWhen => {
            let enough = |so_far: &Ids| so_far.results.len() + so_far.errors.len() >= 2;
            play(
                run.stop_when(enough),
                &world,
                case.interference,
                case.at,
                |_| false,
            )
        }
    };
    if let Fate::Resolved(result) = &played.fate {
        let (end, came_to) = end_of(result);
        case.check_ids(came_to, case.scripts.len());
        case.check_end(end, came_to, played.polls, played.panics);
    }
    played
}

fn process(case: Case<'_>) -> Played<Processed> {
    let world = Rc::<World>::default();
    let count = case.scripts.len();
    let batches = [world.list(0, case.scripts), world.list(count, case.scripts)];
    let run = process_batch(batches)
        .batch_timeout(NEVER)
        .source_concurrency(case.limit())
        .cancel_on(world.source(CANCEL, Script::Waits))
        .expire_on(world.source(EXPIRE, Script::Waits));
    let drive = |run| play(run, &world, case.interference, case.at, |_| false);
    let played = match case.policy {
        Policy::All | Policy::OneAtATime => drive(run),
        Policy::FailFast => drive(run.batch_fail_fast()),
        Policy::Quorum => drive(run.batch_quorum(2)),
        Policy::CatchPanics => drive(run.catch_panics()),
        // One batch is enough.
        Policy::StopWhen => {
            let run = run.stop_when(|so_far| so_far.iter().any(Option::is_some));
            play(run, &world, case.interference, case.at, |_| false)
        }
    };
    if let Fate::Resolved(result) = &played.fate {
        let (end, batches) = end_of(result);
        assert_eq!(batches.len(), 2, "{case:?}");
        let mut whole = Ids::default();
        for batch in batches {
            let (end, came_to) = end_of(batch);
            if end != Err(Reason::NotNeeded) {
                let policy = match case.policy {
                    Policy::StopWhen => Policy::All,
                    policy => policy,
                };
                Case { policy, ..case }.check_end(end, came_to, 0, 0);
            }
            whole.results.extend(&came_to.results);
            whole.errors.extend(came_to.errors.iter().cloned());
            whole.unfinished.extend(&came_to.unfinished);
        }
        case.check_ids(&whole, 2 * count);
        assert!(
            matches!(
                (end, case.interference),
                (Ok(()), _)
                    | (Err(Reason::Cancelled), Interference::Cancel)
                    | (Err(Reason::TimedOut), Interference::Expire)
            ),
            "{case:?}: {end:?}"
        );
    }
    played
}

fn stream(case: Case<'_>) -> Played<Sent> {
    let world = Rc::<World>::default();
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
    let run = stream_results(world.list(0, case.scripts), sender)
        .concurrency(case.limit())
        .cancel_on(world.source(CANCEL, Script::Waits))
        .expire_on(world.source(EXPIRE, Script::Waits));
    let played = match case.policy {
        Policy::CatchPanics => {
            let run = run.catch_panics();
            play(run, &world, case.interference, case.at, outside)
        }
        _ => play(run, &world, case.interference, case.at, outside),
    };
    while receive_one() {}
    if let Some(receiver) = receiver.take() {
        assert!(receiver.is_closed(), "{case:?}: the channel is open");
    }
    if let Fate::Resolved(result) = &played.fate {
        let (end, streamed) = end_of(result);
        let received = received.into_inner();
        assert_eq!(streamed.delivered, received.len(), "{case:?}");
        let mut came_to = Ids {
            unfinished: streamed.unfinished.clone(),
            ..Ids::default()
        };
        for outcome in received
            .into_iter()
            .chain(streamed.undelivered.iter().cloned())
        {
            came_to.record(outcome);
        }
        case.check_ids(&came_to, case.scripts.len());
        if end == Err(Reason::ReceiverClosed) {
            assert_eq!(case.interference, Interference::CloseReceiver, "{case:?}");
        } else {
            assert!(end.is_err() || streamed.undelivered.is_empty(), "{case:?}");
            case.check_end(end, &came_to, played.polls, played.panics);
        }
    }
    played
}

/// Plays a case without interference, and then with each before each of its polls. Returns how many
/// runs that were.
fn play_all<T>(scripts: &[Script], policy: Policy, operation: fn(Case<'_>) -> Played<T>) -> usize {
    let mut runs = 1;
    let alone = Case {
        scripts,
        policy,
        interference: Interference::None,
        at: usize::MAX,
    };
    let polls = operation(alone).polls;
    for interference in INTERFERENCES {
        for at in 0..=polls {
            let case = Case {
                interference,
                at,
                ..alone
            };
            let played = operation(case);
            let is_end = matches!(interference, Interference::Cancel | Interference::Expire);
            assert!(
                !is_end || matches!(played.fate, Fate::Resolved(_)),
                "{case:?}: it goes on"
            );
            runs += 1;
        }
    }
    runs
}

/// Every list of scripts of so many sources.
fn lists(sources: usize) -> Vec<Vec<Script>> {
    (0..sources).fold(vec![Vec::new()], |lists, _| {
        lists
            .iter()
            .flat_map(|list| {
                Script::ALL.map(|script| {
                    let mut longer = list.clone();
                    longer.push(script);
                    longer
                })
            })
            .collect()
    })
}

fn play_every_list<T>(
    most: usize,
    policies: &[Policy],
    operation: fn(Case<'_>) -> Played<T>,
) -> usize {
    quiet_panics();
    let lists = (0..=most).flat_map(lists);
    lists
        .map(|list| {
            let each = policies.iter();
            each.map(|&policy| play_all(&list, policy, operation))
                .sum::<usize>()
        })
        .sum()
}

/// The sources panic by the thousand, and as they should: only what a test says is printed.
fn quiet_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let is_scripted = info.payload().downcast_ref().is_some_and(is_scripted);
        if !is_scripted {
            print(info);
        }
    }));
}

fn is_scripted(message: &&str) -> bool {
    message.contains("as the")
}

#[test]
fn every_fetch_ends_in_order_wherever_it_is_interfered_with() {
    let runs = play_every_list(3, &POLICIES, fetch);
    println!("{runs} runs of fetch_and_aggregate");
    assert!(runs > 100_000);
}

#[test]
fn every_batch_ends_in_order_wherever_it_is_interfered_with() {
    let runs = play_every_list(2, &POLICIES, process);
    println!("{runs} runs of process_batch");
    assert!(runs > 10_000);
}

#[test]
fn every_stream_ends_in_order_wherever_it_is_interfered_with() {
    let policies = [Policy::All, Policy::OneAtATime, Policy::CatchPanics];
    let runs = play_every_list(3, &policies, stream);
    println!("{runs} runs of stream_results");
    assert!(runs > 50_000);
}
