//! The checkpoints as lines of text, and a summary.

use crate::census::{SOURCES, WAKERS};
use crate::load::{Checkpoint, Soak};

pub(crate) fn heading() -> String {
    format!(
        "{:>7} {:>10} {:>12} {:>12} {:>11} {:>7} {:>9} {:>9} {:>9}",
        "seconds",
        "runs",
        "resident MB",
        "allocated MB",
        "allocations",
        "threads",
        "sources",
        "wakers",
        "tasks"
    )
}

pub(crate) fn line(checkpoint: &Checkpoint) -> String {
    let census = &checkpoint.census;
    let unknown = || "unknown".to_owned();
    format!(
        "{:>7.1} {:>10} {:>12} {:>12} {:>11} {:>7} {:>9} {:>9} {:>9}",
        checkpoint.elapsed.as_secs_f64(),
        checkpoint.runs,
        census.resident_bytes.map_or_else(unknown, megabytes),
        format!("{:.3}", census.allocated_bytes as f64 / 1e6),
        census.allocations,
        census
            .threads
            .map_or_else(unknown, |threads| threads.to_string()),
        census.sources,
        census.wakers,
        census.tasks,
    )
}

pub(crate) fn summary(soak: &Soak) -> String {
    let last = soak.last();
    let [timed_out, cancelled, drained, aborted, left] = soak.endings;
    format!(
        "{} runs, {:.0} a second: {timed_out} timed out, {cancelled} cancelled, {drained} \
         drained, {aborted} aborted, {left} left by their receivers\nAt most {} sources and {} wakers at once, {} and {} in the end",
        last.runs,
        last.runs as f64 / last.elapsed.as_secs_f64(),
        SOURCES.most(),
        WAKERS.most(),
        last.census.sources,
        last.census.wakers,
    )
}

pub(crate) fn megabytes(bytes: usize) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}
