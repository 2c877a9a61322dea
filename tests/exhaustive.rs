//! Every list of scripted sources up to a length, from every kind of sources, under every policy, with a
//! source timeout of zero and without one, in every operation, with every interference before every poll.
//! No source and no waker may outlive a run, and every source has to be accounted for.

mod common;

use std::time::Duration;

use common::NEVER;
use common::case::{Case, Policy, fetch, process, stream};
use common::script::{Arrival, Fate, Interference, Kind, Played, Script, quiet_panics};

const POLICIES: [Policy; 6] = [
    Policy::All,
    Policy::AtATime(1),
    Policy::FailFast,
    Policy::Quorum(2),
    Policy::StopWhen(2),
    Policy::CatchPanics,
];

const BATCH_POLICIES: [Policy; 8] = [
    Policy::All,
    Policy::AtATime(1),
    Policy::FailFast,
    Policy::Quorum(2),
    Policy::StopWhen(2),
    Policy::CatchPanics,
    Policy::BatchFails,
    Policy::BatchSucceeds,
];

const INTERFERENCES: [Interference; 4] = [
    Interference::Drop,
    Interference::Cancel,
    Interference::Expire,
    Interference::Panic,
];

const INTERFERENCES_WITH_STREAMS: [Interference; 5] = [
    Interference::Drop,
    Interference::Cancel,
    Interference::Expire,
    Interference::Panic,
    Interference::CloseReceiver,
];

/// Whether the interference has to end a run.
fn is_signal(interference: Interference) -> bool {
    matches!(
        interference,
        Interference::Cancel | Interference::Expire | Interference::CloseReceiver
    )
}

/// Plays a case without interference, and then with each interference before each poll. Returns the number
/// of runs.
fn play_all<T>(
    (kind, scripts): (Kind, &[Script]),
    (policy, source_timeout): (Policy, Duration),
    interferences: &[Interference],
    operation: fn(Case<'_>) -> Played<T>,
) -> usize {
    let mut runs = 1;
    let alone = Case {
        scripts,
        kind,
        policy,
        source_timeout,
        interference: Interference::None,
        at: usize::MAX,
    };
    let polls = operation(alone).polls;
    for &interference in interferences {
        for at in 0..=polls {
            let case = Case {
                interference,
                at,
                ..alone
            };
            let played = operation(case);
            assert!(
                !is_signal(interference) || matches!(played.fate, Fate::Resolved(_)),
                "{case:?}: the run goes on"
            );
            // The run may have ended before the interference.
            let was_interfered_with = matches!(played.fate, Fate::Dropped) || played.polls > at;
            runs += usize::from(was_interfered_with);
        }
    }
    runs
}

/// Every list of scripts of this many sources.
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
    kind: Kind,
    most: usize,
    policies: &[Policy],
    interferences: &[Interference],
    operation: fn(Case<'_>) -> Played<T>,
) -> usize {
    quiet_panics();
    let lists = (0..=most).flat_map(lists);
    lists
        .map(|list| {
            let policies = policies.iter();
            let each = policies.flat_map(|&policy| [NEVER, Duration::ZERO].map(|it| (policy, it)));
            each.map(|limits| play_all((kind, &list), limits, interferences, operation))
                .sum::<usize>()
        })
        .sum()
}

/// Plays sources from streams, and from ids and a closure.
fn play_other_kinds<T>(
    most: usize,
    policies: &[Policy],
    interferences: &[Interference],
    operation: fn(Case<'_>) -> Played<T>,
) -> usize {
    let streams = Arrival::ALL.map(Kind::Stream);
    let kinds = streams.into_iter().chain([Kind::Each]);
    kinds
        .map(|kind| play_every_list(kind, most, policies, interferences, operation))
        .sum()
}

const STREAM_POLICIES: [Policy; 3] = [Policy::All, Policy::AtATime(1), Policy::CatchPanics];

#[test]
fn every_fetch_keeps_the_rules_under_every_interference() {
    let runs = play_every_list(Kind::List, 3, &POLICIES, &INTERFERENCES, fetch);
    println!("{runs} runs of fetch_and_aggregate");
    assert!(runs > 135_000);
}

#[test]
fn every_batch_keeps_the_rules_under_every_interference() {
    let runs = play_every_list(Kind::List, 2, &BATCH_POLICIES, &INTERFERENCES, process);
    println!("{runs} runs of process_batch");
    assert!(runs > 18_000);
}

#[test]
fn every_stream_keeps_the_rules_under_every_interference() {
    let interferences = &INTERFERENCES_WITH_STREAMS;
    let runs = play_every_list(Kind::List, 3, &STREAM_POLICIES, interferences, stream);
    println!("{runs} runs of stream_results");
    assert!(runs > 155_000);
}

#[test]
fn every_fetch_of_ids_or_of_a_stream_keeps_the_rules_under_every_interference() {
    let runs = play_other_kinds(2, &POLICIES, &INTERFERENCES, fetch);
    println!("{runs} runs of fetch_and_aggregate with other sources");
    assert!(runs > 110_000);
}

#[test]
fn every_batch_of_ids_or_of_a_stream_keeps_the_rules_under_every_interference() {
    let mut runs = play_other_kinds(1, &BATCH_POLICIES, &INTERFERENCES, process);
    for arrival in Arrival::ALL {
        let kind = Kind::StreamOfLists(arrival);
        runs += play_every_list(kind, 1, &BATCH_POLICIES, &INTERFERENCES, process);
    }
    println!("{runs} runs of process_batch with other sources");
    assert!(runs > 25_000);
}

#[test]
fn every_stream_of_ids_or_of_a_stream_keeps_the_rules_under_every_interference() {
    let interferences = &INTERFERENCES_WITH_STREAMS;
    let runs = play_other_kinds(2, &STREAM_POLICIES, interferences, stream);
    println!("{runs} runs of stream_results with other sources");
    assert!(runs > 90_000);
}
