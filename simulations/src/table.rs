//! The table.

use std::fmt;

use crate::compare::{Comparison, GOODPUT, Score};
use crate::contenders::Contender;

/// The phases of a contender that count, with their scores.
pub fn scores(comparisons: &[Comparison], contender: Contender) -> Vec<(String, Score)> {
    let mut scores = Vec::new();
    for comparison in comparisons {
        for row in comparison
            .rows
            .iter()
            .filter(|row| row.contender == contender)
        {
            for phase in (0..row.phases.len()).filter(|phase| comparison.counts(*phase)) {
                let name = format!("{}, {}", comparison.scenario.name, phase + 1);
                scores.push((name, comparison.score(row, phase)));
            }
        }
    }
    scores
}

/// How each contender did, and where.
pub struct Table<'a> {
    pub comparisons: &'a [Comparison],
    pub contenders: &'a [Contender],
    /// Whether each phase of the first contender gets a line.
    pub has_phases: bool,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.has_phases {
            self.phases(f)?;
        }
        writeln!(
            f,
            "{:38}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "", "phases", "goodput", "", "p99", "", "adapted"
        )?;
        writeln!(
            f,
            "{:38}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "of the best fixed limit", "held", "mean", "worst", "mean", "worst", "(trips)"
        )?;
        for &contender in self.contenders {
            let scores = scores(self.comparisons, contender);
            let all = || scores.iter().map(|(_, score)| score);
            let count = scores.len().max(1) as f64;
            let held = all().filter(|score| score.is_held).count();
            let goodput = || all().map(|score| score.goodput);
            let p99 = || all().map(|score| score.p99);
            let adapted = all().map(|score| score.adapted.unwrap_or(f64::INFINITY));
            writeln!(
                f,
                "{:38}{:>10}{:>10.2}{:>10.2}{:>10.2}{:>10.2}{:>10.0}",
                contender.name(),
                format!("{held} of {}", scores.len()),
                goodput().sum::<f64>() / count,
                goodput().fold(f64::INFINITY, f64::min),
                p99().sum::<f64>() / count,
                p99().fold(0.0, f64::max),
                adapted.fold(0.0, f64::max),
            )?;
        }
        Ok(())
    }
}

impl Table<'_> {
    fn phases(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:38}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            self.contenders[0].name(),
            "best fixed",
            "limit",
            "goodput",
            "p99",
            "share",
            "adapted"
        )?;
        for comparison in self.comparisons {
            let rows = comparison.rows.iter();
            for row in rows.filter(|row| row.contender == self.contenders[0]) {
                for phase in 0..row.phases.len() {
                    self.phase(f, comparison, row, phase)?;
                }
            }
        }
        writeln!(f)
    }

    fn phase(
        &self,
        f: &mut fmt::Formatter<'_>,
        comparison: &Comparison,
        row: &crate::compare::Row,
        phase: usize,
    ) -> fmt::Result {
        let name = format!("{}, {}", comparison.scenario.name, phase + 1);
        let bins = &row.phases[phase].bins;
        let half = &bins[bins.len() / 2..];
        let limit = half.iter().map(|bin| bin.limit).sum::<f64>() / half.len() as f64;
        write!(f, "{name:38}{:>10}{limit:>10.1}", comparison.fixed[phase])?;
        if !comparison.counts(phase) {
            return writeln!(f);
        }
        let score = comparison.score(row, phase);
        write!(f, "{:>10.2}{:>10.2}", score.goodput, score.p99)?;
        write!(f, "{:>10.2}", score.share)?;
        match score.adapted {
            Some(trips) => write!(f, "{trips:>10}")?,
            None => write!(f, "{:>10}", "never")?,
        }
        let mark = match score.is_held {
            true => "",
            false if score.goodput < GOODPUT => "  low",
            false => "  slow",
        };
        writeln!(f, "{mark}")
    }
}
