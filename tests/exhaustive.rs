//! Every list of scripted sources up to a length, from every kind of sources, under every policy, with a
//! source timeout of zero and without one, in every operation, with every interference before every poll.
//! No source and no waker may outlive a run, and every source has to be accounted for.

mod common;

use std::time::Duration;

use common::NEVER;
use common::case::{Case, Policy, fetch, hand_over, process, stream};
use common::script::{Arrival, Fate, Interference, Kind, Played, Script, quiet_panics};
use futures::executor::block_on;

const POLICIES: [Policy; 7] = [
    Policy::All,
    Policy::AtATime(1),
    Policy::FailFast,
    Policy::Quorum(2),
    Policy::StopWhen(2),
    Policy::CatchPanics,
    Policy::InOrder,
];

const BATCH_POLICIES: [Policy; 9] = [
    Policy::All,
    Policy::AtATime(1),
    Policy::FailFast,
    Policy::Quorum(2),
    Policy::StopWhen(2),
    Policy::CatchPanics,
    Policy::InOrder,
    Policy::BatchFails,
    Policy::BatchSucceeds,
];

const INTERFERENCES: [Interference; 6] = [
    Interference::Drop,
    Interference::Cancel,
    Interference::Expire,
    Interference::Deadline,
    Interference::Drain,
    Interference::Panic,
];

const INTERFERENCES_WITH_STREAMS: [Interference; 7] = [
    Interference::Drop,
    Interference::Cancel,
    Interference::Expire,
    Interference::Deadline,
    Interference::Drain,
    Interference::Panic,
    Interference::CloseReceiver,
];

/// Whether the interference has to end a run.
fn is_signal(interference: Interference) -> bool {
    matches!(
        interference,
        Interference::Cancel
            | Interference::Expire
            | Interference::Deadline
            | Interference::CloseReceiver
    )
}

/// Plays a case without interference, and then with each interference before each poll. Returns the number
/// of runs.
async fn play_all<T>(
    (kind, scripts): (Kind, &[Script]),
    (policy, source_timeout): (Policy, Duration),
    interferences: &[Interference],
    operation: impl AsyncFn(Case<'_>) -> Played<T>,
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
    let played = operation(alone).await;
    // A run that waits is polled once more after an interference. A run that has ended is not.
    let polls = played.polls + usize::from(matches!(played.fate, Fate::Waits));
    for &interference in interferences {
        for at in 0..polls {
            let case = Case {
                interference,
                at,
                ..alone
            };
            let played = operation(case).await;
            let has_ended = matches!(played.fate, Fate::Resolved(_));
            assert!(
                !is_signal(interference) || has_ended,
                "{case:?}: the run goes on"
            );
            let is_dropped = matches!(played.fate, Fate::Dropped);
            assert!(is_dropped || played.polls > at, "{case:?}: too few polls");
            runs += 1;
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
    operation: impl AsyncFn(Case<'_>) -> Played<T>,
) -> usize {
    quiet_panics();
    let mut runs = 0;
    for list in (0..=most).flat_map(lists) {
        for &policy in policies {
            for source_timeout in [NEVER, Duration::ZERO] {
                let limits = (policy, source_timeout);
                runs += block_on(play_all((kind, &list), limits, interferences, &operation));
            }
        }
    }
    runs
}

/// Plays sources from streams, and from ids and a closure.
fn play_other_kinds<T>(
    most: usize,
    policies: &[Policy],
    interferences: &[Interference],
    operation: impl AsyncFn(Case<'_>) -> Played<T>,
) -> usize {
    let streams = Arrival::ALL.map(Kind::Stream);
    let kinds = streams.into_iter().chain([Kind::Each]);
    kinds
        .map(|kind| play_every_list(kind, most, policies, interferences, &operation))
        .sum()
}

const LIMITS: [Policy; 3] = [Policy::PerKey, Policy::Weighs, Policy::Shared];

const STREAM_POLICIES: [Policy; 4] = [
    Policy::All,
    Policy::AtATime(1),
    Policy::CatchPanics,
    Policy::InOrder,
];

const BODY_POLICIES: [Policy; 5] = [
    Policy::All,
    Policy::AtATime(1),
    Policy::CatchPanics,
    Policy::InOrder,
    Policy::BodyFails,
];

#[test]
fn every_fetch_keeps_the_rules_under_every_interference() {
    let runs = play_every_list(Kind::List, 3, &POLICIES, &INTERFERENCES, fetch);
    println!("{runs} runs of fetch_and_aggregate");
    assert!(runs > 220_000);
}

#[test]
fn every_batch_keeps_the_rules_under_every_interference() {
    let runs = play_every_list(Kind::List, 2, &BATCH_POLICIES, &INTERFERENCES, process);
    println!("{runs} runs of process_batch");
    assert!(runs > 29_000);
}

#[test]
fn every_stream_keeps_the_rules_under_every_interference() {
    let interferences = &INTERFERENCES_WITH_STREAMS;
    let runs = play_every_list(Kind::List, 3, &STREAM_POLICIES, interferences, stream);
    println!("{runs} runs of stream_results");
    assert!(runs > 275_000);
}

#[test]
fn every_run_under_limits_keeps_them_under_every_interference() {
    let mut runs = play_every_list(Kind::List, 3, &LIMITS, &INTERFERENCES, fetch);
    runs += play_other_kinds(2, &LIMITS, &INTERFERENCES, fetch);
    runs += play_every_list(Kind::List, 2, &[Policy::Shared], &INTERFERENCES, process);
    runs += play_every_list(Kind::List, 2, &LIMITS, &INTERFERENCES_WITH_STREAMS, stream);
    println!("{runs} runs under limits");
    assert!(runs > 100_000);
}

#[test]
fn every_fetch_of_ids_or_of_a_stream_keeps_the_rules_under_every_interference() {
    let runs = play_other_kinds(2, &POLICIES, &INTERFERENCES, fetch);
    println!("{runs} runs of fetch_and_aggregate with other sources");
    assert!(runs > 185_000);
}

#[test]
fn every_batch_of_ids_or_of_a_stream_keeps_the_rules_under_every_interference() {
    let mut runs = play_other_kinds(1, &BATCH_POLICIES, &INTERFERENCES, process);
    for arrival in Arrival::ALL {
        let kind = Kind::StreamOfLists(arrival);
        runs += play_every_list(kind, 1, &BATCH_POLICIES, &INTERFERENCES, process);
    }
    println!("{runs} runs of process_batch with other sources");
    assert!(runs > 42_000);
}

#[test]
fn every_stream_of_ids_or_of_a_stream_keeps_the_rules_under_every_interference() {
    let interferences = &INTERFERENCES_WITH_STREAMS;
    let runs = play_other_kinds(2, &STREAM_POLICIES, interferences, stream);
    println!("{runs} runs of stream_results with other sources");
    assert!(runs > 158_000);
}

#[test]
fn every_run_with_bodies_keeps_the_rules_under_every_interference() {
    let lists = play_every_list(Kind::List, 2, &BODY_POLICIES, &INTERFERENCES, hand_over);
    let others = play_other_kinds(1, &BODY_POLICIES, &INTERFERENCES, hand_over);
    println!("{} runs of for_each_result", lists + others);
    assert!(lists + others > 28_000);
}
