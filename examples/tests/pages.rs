//! Runs the program and checks its output, and when it comes.

mod common;

use std::io::{BufRead, BufReader};

use common::{answer, prompt_server, refuses, run, server, spawn};

const PAGES: &str = env!("CARGO_BIN_EXE_pages");

#[test]
fn servers_of_its_own_give_every_kind_of_page() {
    let said = run(PAGES, &[]);
    assert_eq!(said.status, Some(2));
    for (server, page) in [
        ("fast", " 12 bytes"),
        ("slow", " 19 bytes"),
        ("large", " 2000000 bytes"),
        ("dripping", " 50 bytes"),
        ("failing", " 500 Internal Server Error"),
        ("half-way", "end of file before message length reached"),
        ("garbage", "invalid HTTP version"),
        ("hanging", " no answer within 2s"),
        ("too-late", " no answer within 2s"),
    ] {
        let line = said.line(server);
        assert!(line.contains(page), "{line}");
    }
}

#[test]
fn page_is_shown_while_another_is_on_its_way() {
    let (slow, slow_url) = server();
    let quick_url = prompt_server();
    let mut program = spawn(PAGES, &[&slow_url, &quick_url, "--timeout", "1min"]);
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();

    let first = lines.next().unwrap().unwrap();
    assert_eq!(first, format!("{quick_url} 5 bytes"));
    answer(&slow);
    let second = lines.next().unwrap().unwrap();
    assert_eq!(second, format!("{slow_url} 5 bytes"));

    assert!(lines.next().is_none());
    assert_eq!(program.wait().unwrap().code(), Some(0));
}

#[test]
fn page_without_a_server_is_an_answer_too() {
    let (listener, url) = server();
    drop(listener);
    let said = run(PAGES, &[&url]);
    assert_eq!(said.status, Some(0));
    assert!(said.line(&url).contains("refused"), "{}", said.output);
}

#[test]
fn bad_arguments_are_refused_with_what_would_be_right() {
    refuses(
        PAGES,
        &[
            (&["a.example"], "http://example.com/page"),
            (&["https://a.example"], "only http:"),
            (&["--timeout", "soon"], "expected number"),
        ],
    );
}
