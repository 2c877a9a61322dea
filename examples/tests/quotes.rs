//! Runs the program and checks its output.

mod common;

use async_std::task;
use common::{refuses, run};
use examples::exchanges;

const QUOTES: &str = env!("CARGO_BIN_EXE_quotes");

/// The output about each instrument: the line with its price, and the lines about exchanges.
fn by_instrument(output: &str) -> Vec<Vec<&str>> {
    let mut instruments = Vec::<Vec<_>>::new();
    for line in output.lines() {
        if line.starts_with(' ') {
            instruments.last_mut().unwrap().push(line.trim());
        } else {
            instruments.push(vec![line]);
        }
    }
    instruments
}

#[test]
fn each_instrument_has_what_was_there_at_its_own_deadline() {
    let said = run(QUOTES, &[]);
    assert_eq!(said.status, Some(2));
    let closed = "east failed: Connection closed normally";
    let late = "west did not answer in time";
    assert_eq!(
        by_instrument(&said.output),
        [
            vec!["EUR/USD     1.0841 at west", closed],
            vec!["GBP/USD     1.2703 at south", closed, late],
            vec!["USD/JPY   149.5301 at south", closed, late],
        ]
    );
}

#[test]
fn given_exchanges_that_all_answer_are_a_success() {
    let exchanges = task::block_on(exchanges::urls_or_own(Vec::new())).unwrap();
    let (north, south) = (exchanges[0].1.as_str(), exchanges[1].1.as_str());
    let said = run(
        QUOTES,
        &[north, south, "--instrument", "GBP/USD", "--timeout", "1min"],
    );
    assert_eq!(said.status, Some(0));
    assert_eq!(said.output, format!("GBP/USD     1.2703 at {south}\n"),);
}

#[test]
fn instrument_that_nobody_knows_has_no_price() {
    let exchanges = task::block_on(exchanges::urls_or_own(Vec::new())).unwrap();
    let north = exchanges[0].1.as_str();
    let said = run(QUOTES, &[north, "--instrument", "XXX", "--timeout", "1min"]);
    assert_eq!(said.status, Some(0));
    assert!(said.line("XXX").ends_with("nobody knows"));
    assert!(
        said.line(north)
            .ends_with("failed: Connection closed normally")
    );
}

#[test]
fn bad_arguments_are_refused_with_what_would_be_right() {
    refuses(
        QUOTES,
        &[
            (&["a.example"], "ws://example.com/page"),
            (&["http://a.example"], "only ws:"),
            (&["--instrument"], "a value is required"),
        ],
    );
}
