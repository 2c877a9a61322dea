//! Runs the simulations, and checks what their tables say.

use std::process::Command;

fn table(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_attempts"))
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// The numbers of the line that begins with these words.
fn numbers(table: &str, begin: &str) -> Vec<f64> {
    let line = table.lines().find(|line| line.starts_with(begin));
    let line = &line.unwrap_or_else(|| panic!("no {begin}: {table}"))[begin.len()..];
    let words = line.split([' ', ',', ';', '%']);
    words.filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn learned_delay_follows_the_backend_and_bounds_the_load() {
    for (slower, seed) in [("2", "3"), ("0.5", "4")] {
        let args = [
            "hedges",
            "--requests",
            "3000",
            "--slower",
            slower,
            "--seed",
            seed,
        ];
        let table = table(&args);
        let ratios = numbers(&table, "p99 against the best fixed delay of each half:");
        assert!(ratios[0] < 1.3 && ratios[1] < 1.3, "{table}");
        let load = numbers(&table, "extra load of the learned delay:");
        assert!(load[0] < load[1], "{table}");
        // A delay that was right for the first half is too short or too long in the second.
        let row = table
            .lines()
            .find(|row| row.contains("best of the first half"));
        let extra = row.unwrap().split_whitespace().rev().nth(3).unwrap();
        let is_too_much = extra.parse::<f64>().unwrap() > load[1];
        assert!(is_too_much || ratios[2] > 1.3, "{table}");
    }
}

#[test]
fn budget_bounds_the_requests_in_an_outage() {
    for (ratio, seed) in [("0.1", "1"), ("0.02", "2")] {
        let table = table(&[
            "retries",
            "--requests",
            "10000",
            "--ratio",
            ratio,
            "--seed",
            seed,
        ]);
        let without = numbers(&table, "without a budget");
        let with = numbers(&table, "with a budget");
        let most = numbers(&table, "The budget admits at most")[0];
        assert!(with.last().unwrap() <= &most, "{table}");
        assert!(without.last().unwrap() > &most, "{table}");
        // Nearly all requests are answered while the backend is up.
        assert!(with[2] > 0.98 * with[0], "{table}");
    }
}

#[test]
fn same_seed_gives_the_same_table() {
    let args = ["retries", "--requests", "1000", "--seed", "7"];
    assert_eq!(table(&args), table(&args));
}
