//! Runs across executors: the sources, the run and the receiver are on different executors.

mod homes;

use std::future::{pending, ready};

use async_channel::bounded;
use executor_tests::{LONG, SHORT, Source};
use futures_aggregate::{Reason, fetch_and_aggregate, process_batch, stream_results};

use homes::{ELSEWHERE, TOKIO, each_operation_everywhere, elsewhere, everywhere, start};

/// The id of a source that answers at once.
const PROMPT: u32 = 10;

fn prompt() -> Source {
    (PROMPT, Box::pin(ready(Ok(PROMPT))))
}

fn hanging() -> [Source; 2] {
    [0, 1].map(|id| (id, Box::pin(pending()) as _))
}

#[test]
fn answers_come_from_everywhere() {
    each_operation_everywhere(|operation, home| {
        let (list, remains) = elsewhere(SHORT);
        let summary = start(home, operation(list, LONG)).output();
        remains.are_gone();
        assert_eq!(summary.reason, None);
        assert_eq!(summary.answered, ELSEWHERE.map(|id| (id, id)));
    });
}

#[test]
fn a_thread_receives_outcomes_from_everywhere() {
    everywhere(|home| {
        let (list, remains) = elsewhere(SHORT);
        let (sender, receiver) = bounded(1);
        let driver = start(home, stream_results(list, sender).timeout(LONG));
        let mut received = Vec::new();
        while let Ok((id, result)) = receiver.recv_blocking() {
            assert_eq!(result, Ok(id));
            received.push(id);
        }
        remains.are_gone();
        received.sort_unstable();
        assert_eq!(received, ELSEWHERE);
        assert_eq!(driver.output().unwrap().delivered, ELSEWHERE.len());
    });
}

#[test]
fn a_deadline_ends_sources_that_wait_elsewhere() {
    each_operation_everywhere(|operation, home| {
        let (mut list, remains) = elsewhere(LONG);
        list.push(prompt());
        let summary = start(home, operation(list, SHORT)).output();
        remains.are_gone();
        assert_eq!(summary.reason, Some(Reason::TimedOut));
        assert_eq!(summary.answered, [(PROMPT, PROMPT)]);
        assert_eq!(summary.unfinished, ELSEWHERE);
    });
}

#[test]
fn a_thread_that_drops_the_receiver_ends_a_driver_elsewhere() {
    everywhere(|home| {
        let (mut list, remains) = elsewhere(LONG);
        list.push(prompt());
        let (sender, receiver) = bounded(1);
        let driver = start(home, stream_results(list, sender));
        assert_eq!(receiver.recv_blocking(), Ok((PROMPT, Ok(PROMPT))));
        driver.pending();
        drop(receiver);
        let interrupted = driver.output().unwrap_err();
        remains.are_gone();
        assert_eq!(interrupted.reason, Reason::ReceiverClosed);
        assert_eq!(interrupted.partial.delivered, 1);
        assert_eq!(interrupted.partial.unfinished, ELSEWHERE);
    });
}

#[test]
fn signals_from_elsewhere_end_a_run() {
    everywhere(|home| {
        let task = TOKIO.spawn(async { tokio::time::sleep(SHORT).await });
        let run = fetch_and_aggregate(hanging(), LONG).cancel_on(task);
        let interrupted = start(home, run).output().unwrap_err();
        assert_eq!(interrupted.reason, Reason::Cancelled);

        let task = async_std::task::spawn(async_std::task::sleep(SHORT));
        let run = process_batch([hanging()]).cancel_on(task);
        let interrupted = start(home, run).output().unwrap_err();
        assert_eq!(interrupted.reason, Reason::Cancelled);

        let (sender, _receiver) = bounded(1);
        let timer = smol::Timer::after(SHORT);
        let run = stream_results(hanging(), sender).expire_on(timer);
        let interrupted = start(home, run).output().unwrap_err();
        assert_eq!(interrupted.reason, Reason::TimedOut);
    });
}
