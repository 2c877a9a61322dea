use std::time::Duration;

use super::*;

const MB: usize = 1_000_000;

/// The findings for a hundred flat checkpoints to which `change` is applied.
fn found_after(change: impl Fn(usize, &mut Census)) -> Vec<String> {
    let checkpoint = |number: usize| {
        let mut census = Census {
            sources: 0,
            wakers: 0,
            tasks: 0,
            threads: Some(4),
            allocations: 5_000,
            allocated_bytes: 2 * MB,
            resident_bytes: Some(20 * MB),
        };
        change(number, &mut census);
        Checkpoint {
            elapsed: Duration::from_secs(number as u64),
            runs: 1_000 * (number as u64 + 1),
            census,
        }
    };
    findings(&(0..100).map(checkpoint).collect::<Vec<_>>())
}

#[test]
fn warm_up_and_noise_and_a_single_peak_are_flat() {
    let found = found_after(|number, census| {
        if number < 15 {
            census.threads = Some(3);
            census.resident_bytes = Some((10 + number) * MB);
        }
        census.resident_bytes = census.resident_bytes.map(|bytes| bytes + number % 7 * MB);
        if number == 90 {
            census.allocations = 1_000_000;
        }
    });
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn what_is_left_at_one_checkpoint_is_found() {
    let found = found_after(|number, census| {
        census.sources = usize::from(number == 3);
        census.wakers = 2 * usize::from(number == 98);
        census.tasks = number / 50;
    });
    let expected = [
        "1 sources left after 4000 runs",
        "2 wakers left after 99000 runs",
        "1 tasks left after 51000 runs",
    ];
    assert_eq!(found, expected);
}

#[test]
fn slow_climbs_are_found() {
    let found = found_after(|number, census| {
        census.allocations += number * 10;
        census.allocated_bytes += number * 3_000;
        census.resident_bytes = Some(20 * MB + number * MB);
    });
    let expected = [
        "resident bytes climbed from 50000000 to 110000000",
        "allocated bytes climbed from 2090000 to 2270000",
        "allocations climbed from 5300 to 5900",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_thread_that_starts_late_is_found() {
    let found = found_after(|number, census| {
        census.threads = Some(4 + usize::from(number >= 60));
    });
    assert_eq!(found, ["4 threads became 5"]);
}

#[test]
fn figures_that_the_system_does_not_report_are_no_findings() {
    let found = found_after(|_, census| {
        census.threads = None;
        census.resident_bytes = None;
    });
    assert!(found.is_empty(), "{found:?}");
}
