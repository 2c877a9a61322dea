//! Runs the program and checks its output.

mod common;

use common::{refuses, run};
use examples::databases;

const SHARDS: &str = env!("CARGO_BIN_EXE_shards");

/// The program ends only because dropping a source stops its endless query.
#[test]
fn rows_of_all_files_are_merged_and_missing_files_named() {
    let said = run(SHARDS, &[]);
    assert_eq!(said.status, Some(2));
    let rows: Vec<_> = said.output.lines().take(5).map(str::trim).collect();
    assert_eq!(
        rows,
        [
            "310.00  Ada",
            "301.50  Frances",
            "295.00  Donald",
            "280.25  Edsger",
            "99.00  Alan",
        ]
    );
    assert!(said.line("broken.db").ends_with(": file is not a database"));
    assert!(said.line("endless.db").ends_with(": no answer within 1s"));
    let last = said.output.lines().last();
    assert_eq!(last, Some("No query is running any more."));
    assert_eq!(said.output.lines().count(), 8);
}

#[test]
fn given_files_that_all_answer_are_a_success() {
    let made = databases::given_or_made(Vec::new()).unwrap();
    let files = made.paths[..3].iter().map(|file| file.to_str().unwrap());
    let query = "SELECT 'to ' || customer, -amount FROM orders WHERE amount < 50";
    let options = ["--query", query, "--top", "2", "--timeout", "1min"];
    let said = run(SHARDS, &files.chain(options).collect::<Vec<_>>());
    assert_eq!(said.status, Some(0));
    let rows: Vec<_> = said.output.lines().take(2).map(str::trim).collect();
    assert_eq!(rows, ["-7.75  to Tony", "-12.00  to Barbara"]);
    assert_eq!(said.output.lines().count(), 3);
}

#[test]
fn question_that_a_file_cannot_answer_is_its_error() {
    let made = databases::given_or_made(Vec::new()).unwrap();
    let file = made.paths[0].to_str().unwrap();
    let nowhere = made.paths[0].with_file_name("nowhere.db");
    let said = run(
        SHARDS,
        &[
            file,
            nowhere.to_str().unwrap(),
            "--query",
            "SELECT 1 FROM none",
        ],
    );
    assert_eq!(said.status, Some(2));
    assert!(said.line("2024.db").contains("no such table: none"));
    assert!(said.line("nowhere.db").contains("No such file"));
    assert!(!nowhere.exists());
}

#[test]
fn question_may_end_in_a_comment() {
    let made = databases::given_or_made(Vec::new()).unwrap();
    let file = made.paths[0].to_str().unwrap();
    let query = "SELECT customer, amount FROM orders -- all of them";
    let said = run(SHARDS, &[file, "--query", query, "--timeout", "1min"]);
    assert_eq!(said.status, Some(0), "{}", said.output);
    assert!(said.line("Ada").contains("310.00"));
}

/// Opening a pipe without a writer would block longer than any deadline.
#[cfg(unix)]
#[test]
fn file_that_cannot_be_a_database_is_refused_unopened() {
    let made = databases::given_or_made(Vec::new()).unwrap();
    let file = made.paths[0].to_str().unwrap();
    let pipe = made.paths[0].with_file_name("pipe.db");
    let status = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(status.unwrap().success());
    let said = run(SHARDS, &[file, pipe.to_str().unwrap(), "--timeout", "1min"]);
    assert_eq!(said.status, Some(2));
    assert!(said.line("pipe.db").contains(": not a regular file"));
    assert!(said.line("Ada").contains("310.00"));
}

#[test]
fn bad_arguments_are_refused_with_what_would_be_right() {
    refuses(
        SHARDS,
        &[
            (&["--timeout", "3"], "for example 3sec"),
            (&["--top", "many"], "invalid digit"),
        ],
    );
}
