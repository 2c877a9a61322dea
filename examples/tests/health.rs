//! Runs the program and checks its output.

mod common;

use common::{prompt_server, refuses, run, server};

const HEALTH: &str = env!("CARGO_BIN_EXE_health");

#[test]
fn services_of_its_own_are_up_and_down() {
    let said = run(HEALTH, &[]);
    assert_eq!(said.status, Some(2));
    for (service, health) in [
        ("fast", "up    200 OK"),
        ("slow", "up    200 OK"),
        ("half-way", "up    200 OK"),
        ("large", "up    200 OK"),
        ("dripping", "up    200 OK"),
        ("failing", "down  HTTP status server error (500"),
        ("garbage", "down  error sending request: "),
        ("hanging", "down  no answer within 2s"),
        ("too-late", "down  no answer within 2s"),
    ] {
        let line = said.line(service);
        assert!(line.contains(health), "{line}");
    }
    assert!(said.output.ends_with("\n5 up, 4 down\n"));
}

#[test]
fn given_services_that_are_all_up_are_a_success() {
    let (one, other) = (prompt_server(), prompt_server());
    let said = run(HEALTH, &[&one, &other, "--timeout", "1min"]);
    assert_eq!(said.status, Some(0));
    assert!(said.line(&one).contains(" up "));
    assert!(said.line(&other).contains(" up "));
    assert!(said.output.ends_with("\n2 up, 0 down\n"));
}

#[test]
fn one_that_does_not_answer_takes_nothing_from_the_others() {
    let up = prompt_server();
    // The system accepts the connection, and the server never answers.
    let (_listener, hanging) = server();
    let said = run(HEALTH, &[&hanging, &up, "--timeout", "3s"]);
    assert_eq!(said.status, Some(2));
    assert!(said.line(&up).contains(" up "));
    assert!(said.line(&hanging).contains("down  no answer within 3s"));
}

#[test]
fn bad_arguments_are_refused_with_what_would_be_right() {
    refuses(
        HEALTH,
        &[
            (&["a.example"], "https://example.com/page"),
            (&["ws://a.example"], "only http: and https:"),
            (&["--timeout", "3"], "for example 3sec"),
        ],
    );
}
