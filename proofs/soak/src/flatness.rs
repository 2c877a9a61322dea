//! The criteria for a flat soak.
//!
//! At no checkpoint may a source, a waker or a task be alive, and the number of threads may not change.
//! Memory may vary, because an allocator keeps some of the memory that was freed. So the median over the
//! last fifth of the checkpoints is compared with the median over the second fifth. The first fifth is left
//! out, because it has the allocations that are made once.

use crate::census::Census;
use crate::load::Checkpoint;

/// What has to be zero when all runs have ended.
const GONE: [(&str, fn(&Census) -> usize); 3] = [
    ("sources", |census| census.sources),
    ("wakers", |census| census.wakers),
    ("tasks", |census| census.tasks),
];

/// What may vary, but not grow.
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
    /// The growth that is allowed: this part of the value, plus `slack`.
    tolerance: f64,
    slack: usize,
}

/// The criteria that the checkpoints do not meet.
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

/// One fifth of the checkpoints. With fewer than five checkpoints, the fifths share some.
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
