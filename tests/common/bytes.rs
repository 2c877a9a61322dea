//! Cases decoded from bytes, for random tests and for the fuzzer.

use std::sync::Once;
use std::time::Duration;

use super::case::{Case, Policy, fetch, hand_over, process, stream};
use super::script::{Arrival, Interference, Kind, Script, quiet_panics};
use super::{NEVER, Task};

/// The numbers of the operations. Any other number stands for `fetch_and_aggregate`.
const PROCESS: u8 = 1;
const STREAM: u8 = 2;
const FOR_EACH: u8 = 3;

/// Plays the case that the bytes encode, and checks the result.
pub fn play(bytes: &[u8]) {
    static QUIET: Once = Once::new();
    QUIET.call_once(quiet_panics);
    let (head, scripts) = bytes.split_at(bytes.len().min(4));
    let [operation, policy, interference, at] = std::array::from_fn(|place| {
        // Missing bytes are zero.
        head.get(place).copied().unwrap_or(0)
    });
    let scripts: Vec<_> = scripts.iter().take(100).map(|&byte| script(byte)).collect();
    let kind = kind(operation);
    let operation = operation % 4;
    let kind = match (kind, operation) {
        (kind, PROCESS) => kind,
        (Kind::StreamOfLists(arrival), _) => Kind::Stream(arrival),
        (kind, _) => kind,
    };
    let case = Case {
        scripts: &scripts,
        kind,
        policy: self::policy(policy, operation),
        source_timeout: source_timeout(policy),
        interference: self::interference(interference),
        at: usize::from(at),
    };
    match operation {
        PROCESS => drop(Task::new(process(case)).finish()),
        STREAM => drop(Task::new(stream(case)).finish()),
        FOR_EACH => drop(Task::new(hand_over(case)).finish()),
        _ => drop(Task::new(fetch(case)).finish()),
    }
}

/// The number in the upper four bits of a byte.
fn number(byte: u8) -> u8 {
    byte >> 4
}

/// The source kind, from the part of the byte that does not select the operation.
fn kind(byte: u8) -> Kind {
    let arrival = Arrival::ALL[usize::from(byte / 4 % 4)];
    match byte / 16 % 5 {
        0 => Kind::Each,
        1 => Kind::StreamOfLists(arrival),
        2 => Kind::Stream(arrival),
        _ => Kind::List,
    }
}

fn script(byte: u8) -> Script {
    match byte & 15 {
        0 => Script::Fails,
        1 => Script::Yields(number(byte)),
        2 => Script::WakesOthers,
        3 => Script::Never,
        4 => Script::LeavesWaker,
        5 => Script::Panics(number(byte)),
        6 => Script::PanicsInDrop,
        7..=11 => Script::Waits,
        _ => Script::Succeeds,
    }
}

fn policy(byte: u8, operation: u8) -> Policy {
    let number = 1 + usize::from(number(byte));
    let has_keys = operation != PROCESS && operation != FOR_EACH;
    match byte & 7 {
        0 if operation == PROCESS && number > 8 => Policy::Shared,
        0 => Policy::AtATime(number),
        1 => Policy::CatchPanics,
        2 if operation < STREAM => Policy::FailFast,
        3 if operation < STREAM => Policy::Quorum(number),
        4 if operation < STREAM => Policy::StopWhen(number),
        5 if operation == PROCESS => Policy::BatchFails,
        6 if operation == PROCESS => Policy::BatchSucceeds,
        5 if operation == FOR_EACH => Policy::BodyFails,
        5 if has_keys => Policy::PerKey,
        6 if has_keys && number > 8 => Policy::Shared,
        6 if has_keys => Policy::Weighs,
        7 => Policy::InOrder,
        _ => Policy::All,
    }
}

/// The source timeout, from the bit that the policy does not use.
fn source_timeout(byte: u8) -> Duration {
    if byte & 8 == 0 { NEVER } else { Duration::ZERO }
}

fn interference(byte: u8) -> Interference {
    match byte % 8 {
        0 => Interference::Drop,
        1 => Interference::Cancel,
        2 => Interference::Expire,
        3 => Interference::Panic,
        4 => Interference::CloseReceiver,
        5 => Interference::Drain,
        6 => Interference::Deadline,
        _ => Interference::None,
    }
}
