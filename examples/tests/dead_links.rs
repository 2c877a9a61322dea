//! Runs the program and checks its output.

mod common;

use common::{refuses, run};

const DEAD_LINKS: &str = env!("CARGO_BIN_EXE_dead_links");

#[test]
fn documents_of_its_own_have_dead_links_and_worse() {
    let said = run(DEAD_LINKS, &[]);
    assert_eq!(said.status, Some(2));
    for (document, says) in [
        ("guide.md", ": picture.svg does not exist"),
        ("old news.md", ": picture.svg does not exist"),
        ("missing.md", ": No such file"),
        ("latin-1.md", "utf-8"),
    ] {
        let line = said.line(document);
        assert!(line.contains(says), "{line}");
    }
    // Two documents link to the same picture.
    let totals = "3 of 5 documents read, 4 files looked up, 2 dead links";
    assert_eq!(said.output.lines().last(), Some(totals));
}

#[test]
fn front_page_of_this_project_has_none() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let said = run(DEAD_LINKS, &[readme]);
    assert_eq!(said.status, Some(0), "{}", said.output);
    assert!(said.output.starts_with("\n1 of 1 documents read"));
    assert!(!said.output.contains(" 0 files looked up"));
}

/// A pipe without a writer never opens.
#[cfg(unix)]
#[test]
fn document_that_cannot_be_read_in_time_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.md");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let sound = folder.path().join("sound.md");
    std::fs::write(&sound, "[itself](sound.md)").unwrap();

    let said = run(
        DEAD_LINKS,
        &[
            pipe.to_str().unwrap(),
            sound.to_str().unwrap(),
            "--timeout",
            "1s",
        ],
    );
    assert_eq!(said.status, Some(2));
    assert!(said.line("pipe.md").ends_with(": not read in time"));
    assert!(said.output.contains("\n1 of 2 documents read"));
}

#[test]
fn bad_arguments_are_refused_with_what_would_be_right() {
    refuses(
        DEAD_LINKS,
        &[
            (&["--timeout", "3"], "for example 3sec"),
            (&["--depth"], "unexpected argument"),
        ],
    );
}
