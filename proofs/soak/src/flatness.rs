//! When a soak is flat.
//!
//! No source, no waker and no task may be left at any checkpoint, and no thread may come or go. Of
//! memory an allocator keeps some that it was given back. So there the median of the last fifth of
//! the checkpoints counts, against that of the second: the first is for what is made once.

use crate::census::Census;
use crate::load::Checkpoint;

/// What has to be gone when all runs have ended.
const GONE: [(&str, fn(&Census) -> usize); 3] = [
    ("sources", |census| census.sources),
    ("wakers", |census| census.wakers),
    ("tasks", |census| census.tasks),
];

/// What may go up and down, but not climb.
const LEVEL: [Level; 3] = [
    Level {
        name: "resident bytes",
        measure: |census| census.resident_bytes,
        tolerance: 0.1,
        slack: 8 << 20,
    },
    Level {
        name: "allocated bytes",
        measure: |census| Some(census.allocated_bytes),
        tolerance: 0.01,
        slack: 16 << 10,
    },
    Level {
        name: "allocations",
        measure: |census| Some(census.allocations),
        tolerance: 0.01,
        slack: 32,
    },
];

struct Level {
    name: &'static str,
    measure: fn(&Census) -> Option<usize>,
    /// By how much it may be more in the end: by this part of it, and by this much.
    tolerance: f64,
    slack: usize,
}

/// What is not flat.
pub(crate) fn findings(checkpoints: &[Checkpoint]) -> Vec<String> {
    let left = GONE.iter().filter_map(|(name, measure)| {
        let mut counts = checkpoints.iter().map(|checkpoint| {
            let number = measure(&checkpoint.census);
            (number, checkpoint.runs)
        });
        let (number, runs) = counts.find(|(number, _)| *number > 0)?;
        Some(format!("{number} {name} left after {runs} runs"))
    });
    let climbed = LEVEL.iter().filter_map(|level| {
        let from = median(fifth(checkpoints, 1), level.measure)?;
        let to = median(fifth(checkpoints, 4), level.measure)?;
        let most = from as f64 * (1.0 + level.tolerance) + level.slack as f64;
        let name = level.name;
        (to as f64 > most).then(|| format!("{name} climbed from {from} to {to}"))
    });
    left.chain(climbed).chain(threads(checkpoints)).collect()
}

fn threads(checkpoints: &[Checkpoint]) -> Option<String> {
    let warm = &checkpoints[checkpoints.len() / 5..];
    let mut counts = warm.iter().filter_map(|each| each.census.threads);
    let before = counts.next()?;
    let after = counts.find(|threads| *threads != before)?;
    Some(format!("{before} threads became {after}"))
}

/// One of the five parts, which share checkpoints where there are too few.
fn fifth(checkpoints: &[Checkpoint], number: usize) -> &[Checkpoint] {
    let from = checkpoints.len() * number / 5;
    let to = checkpoints.len() * (number + 1) / 5;
    &checkpoints[from..to.max(from + 1)]
}

fn median(checkpoints: &[Checkpoint], measure: impl Fn(&Census) -> Option<usize>) -> Option<usize> {
    let values = checkpoints.iter().map(|each| measure(&each.census));
    let mut values = values.collect::<Option<Vec<_>>>()?;
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests;
