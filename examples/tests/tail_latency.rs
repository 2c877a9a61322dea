//! Runs the program with few operations, and checks its output.

use std::process::Command;

#[test]
fn table_and_picture_have_every_way_to_wait() {
    let file = std::env::temp_dir().join(format!("tail-latency-{}.svg", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_tail_latency"))
        .args(["--operations", "5", "--svg", file.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success());
    let table = String::from_utf8(output.stdout).unwrap();
    for line in [
        "1 to 1: all answers ",
        "1 to 1: all answers, hedged",
        "1 to 20: all answers ",
        "1 to 20: all answers, hedged",
        "1 to 20: 95 % of the answers",
        "1 to 100: all answers ",
        "1 to 100: all answers, hedged",
        "1 to 100: 95 % of the answers",
    ] {
        let line = table.lines().find(|row| row.starts_with(line)).unwrap();
        assert!(line.ends_with('%'), "{line}");
    }
    assert!(table.contains("slowest of them"));
    let picture = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(picture.matches("<polyline").count(), 8);
}

#[test]
fn no_operations_are_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_tail_latency"))
        .args(["--operations", "0"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("0 is not in 1.."), "{message}");
}
