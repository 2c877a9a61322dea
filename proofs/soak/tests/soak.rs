//! The program from the outside, with few runs.

use std::process::{Command, Output};

fn soak(args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_soak");
    Command::new(program).args(args).output().unwrap()
}

fn text(output: Vec<u8>) -> String {
    String::from_utf8(output).unwrap()
}

#[test]
fn all_runs_end_as_planned_and_leave_nothing_behind() {
    let output = soak(&["--runs", "9600", "--only", "tight"]);
    let report = text(output.stdout);
    assert!(output.status.success(), "{report}{}", text(output.stderr));
    let endings = "2400 timed out, 1200 cancelled, 2400 drained, 1200 aborted, 2400 left by their receivers\n";
    assert!(report.contains(endings), "{report}");
    assert!(report.ends_with(", 0 and 0 in the end\nFlat\n"), "{report}");

    let lines = report.lines().map(|line| line.split_whitespace());
    let lines = lines.map(|words| words.collect::<Vec<_>>());
    let checkpoints: Vec<_> = lines.filter(|words| words.len() == 9).collect();
    assert_eq!(checkpoints[0][1], "0");
    assert_eq!(checkpoints.last().unwrap()[1], "9600");
    for checkpoint in checkpoints {
        assert_eq!(checkpoint[6..], ["0", "0", "0"], "{report}");
    }
}

#[test]
fn the_leaking_way_is_not_flat() {
    let output = soak(&["--runs", "9000", "--only", "leaking"]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(output.stderr);
    let findings = [
        "sources left after 450 runs",
        "wakers left after 450 runs",
        "tasks left after 450 runs",
        "allocated bytes climbed from",
        "allocations climbed from",
    ];
    for finding in findings {
        assert!(message.contains(finding), "{message}");
    }
    assert!(message.starts_with("error: not flat: "), "{message}");
}

#[test]
fn picture_has_both_ways() {
    let file = std::env::temp_dir().join(format!("soak-{}.svg", std::process::id()));
    let output = soak(&["--runs", "6000", "--svg", file.to_str().unwrap()]);
    let report = text(output.stdout);
    assert!(output.status.success(), "{report}{}", text(output.stderr));
    assert!(report.contains("\nFound out: not flat: "), "{report}");
    let picture = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(picture.matches("<polyline").count(), 8);
    assert!(picture.contains("To the end: 6,000 runs"), "{picture}");
}

#[test]
fn bad_arguments_are_refused() {
    let refused: [(&[&str], &str); 4] = [
        (&["--seconds", "4"], "4 is not in 5..=3600"),
        (&["--runs", "10"], "10 is not in 6000.."),
        (&["--runs", "6000", "--seconds", "5"], "cannot be used with"),
        (&["--only", "good"], "possible values: tight, leaking"),
    ];
    for (args, message) in refused {
        let output = soak(args);
        assert_eq!(output.status.code(), Some(2));
        let error = text(output.stderr);
        assert!(error.contains(message), "{error}");
    }
}
