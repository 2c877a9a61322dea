//! All contenders in all scenarios, beside the best fixed limit of each phase.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::contenders::Contender;
use crate::scenarios::{Demand, Phase, Scenario};
use crate::simulate::{BIN, Bin, PhaseFigures, SETTLE, simulate};

/// The fixed limits among which the best one is, as parts of the number that keeps the server busy.
const FIXED: [f64; 10] = [0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0];
/// The best fixed limit has this part of the greatest goodput, and the least p99.
const NEARLY_ALL: f64 = 0.98;
/// The best fixed limit has at most this part of its requests refused. Otherwise a client that asks all the
/// time would get the most out of a server that refuses.
const REFUSED: f64 = 0.1;

/// What an adaptive limit has to reach, as parts of the figures of the best fixed one.
pub const GOODPUT: f64 = 0.9;
pub const P99: f64 = 1.5;
pub const P99_OF_TWO: f64 = 2.0;
/// The shares that each of two clients has to get.
pub const SHARES: std::ops::RangeInclusive<f64> = 0.4..=0.6;

/// The means of a phase over all seeds.
#[derive(Debug, Clone)]
pub struct Means {
    pub goodput: f64,
    pub p99: f64,
    pub refused: f64,
    /// The part of the first client.
    pub share: f64,
    pub bins: Vec<Bin>,
    pub greatest_limit: f64,
}

/// A contender in a phase, beside the best fixed limit.
#[derive(Debug, Clone, Copy)]
pub struct Score {
    pub goodput: f64,
    pub p99: f64,
    pub share: f64,
    /// The round trips until goodput and latency are near those of the best fixed limit.
    pub adapted: Option<f64>,
    pub is_held: bool,
}

/// All contenders in one scenario.
#[derive(Debug)]
pub struct Comparison {
    pub scenario: Scenario,
    /// The best fixed limit of each phase.
    pub fixed: Vec<usize>,
    pub best: Vec<Means>,
    pub rows: Vec<Row>,
}

#[derive(Debug)]
pub struct Row {
    pub contender: Contender,
    pub phases: Vec<Means>,
}

impl Comparison {
    /// Whether a phase counts. Nothing is answered in an outage.
    pub fn counts(&self, phase: usize) -> bool {
        !self.scenario.phases[phase].condition.is_down
    }

    pub fn score(&self, row: &Row, phase: usize) -> Score {
        let (own, best) = (&row.phases[phase], &self.best[phase]);
        let clients = self.scenario.phases[phase].clients;
        let goodput = own.goodput / best.goodput;
        let p99 = own.p99 / best.p99;
        let most = if clients > 1 { P99_OF_TWO } else { P99 };
        let is_fair = clients == 1 || SHARES.contains(&own.share);
        // Bins of a steady state are alike, so the later ones are a measure for all.
        let steady = &best.bins[(SETTLE / BIN) as usize / 2..];
        let mean = |of: fn(&Bin) -> f64| steady.iter().map(of).sum::<f64>() / steady.len() as f64;
        let (answers, latency) = (mean(|bin| bin.answers), mean(|bin| bin.latency));
        let is_near = |bin: &Bin| bin.answers >= 0.85 * answers && bin.latency <= 1.5 * latency;
        let adapted = own.bins.iter().position(is_near);
        Score {
            goodput,
            p99,
            share: own.share,
            adapted: adapted.map(|bin| (bin + 1) as f64 * BIN),
            is_held: goodput >= GOODPUT && p99 <= most && is_fair,
        }
    }
}

/// Compares contenders in scenarios.
pub fn compare(scenarios: &[Scenario], contenders: &[Contender], seeds: &[u64]) -> Vec<Comparison> {
    let phases: Vec<_> = scenarios
        .iter()
        .flat_map(|scenario| scenario.phases.iter().map(move |phase| (scenario, phase)))
        .collect();
    let mut best = each_of(&phases, |(scenario, phase)| best_fixed(scenario, phase)).into_iter();
    let fixed: Vec<Vec<_>> = scenarios
        .iter()
        .map(|scenario| best.by_ref().take(scenario.phases.len()).collect())
        .collect();
    compare_beside(scenarios, contenders, seeds, &fixed)
}

/// The same, beside these fixed limits of the phases of each scenario.
pub fn compare_beside(
    scenarios: &[Scenario],
    contenders: &[Contender],
    seeds: &[u64],
    fixed: &[Vec<usize>],
) -> Vec<Comparison> {
    let mut jobs = Vec::new();
    for (scenario, fixed) in scenarios.iter().zip(fixed) {
        for contender in [&[Contender::Fixed], contenders].concat() {
            for &seed in seeds {
                jobs.push((scenario, contender, fixed, seed));
            }
        }
    }
    let mut figures = each_of(&jobs, |(scenario, contender, fixed, seed)| {
        simulate(scenario, *contender, fixed, *seed)
    })
    .into_iter();
    let mut comparisons = Vec::new();
    for (scenario, fixed) in scenarios.iter().zip(fixed) {
        let mut rows: Vec<_> = [&[Contender::Fixed], contenders]
            .concat()
            .into_iter()
            .map(|contender| {
                let runs: Vec<_> = figures.by_ref().take(seeds.len()).collect();
                let phases = 0..scenario.phases.len();
                Row {
                    contender,
                    phases: phases.map(|phase| means(&runs, phase)).collect(),
                }
            })
            .collect();
        comparisons.push(Comparison {
            scenario: scenario.clone(),
            fixed: fixed.clone(),
            best: rows.remove(0).phases,
            rows,
        });
    }
    comparisons
}

/// The fixed limit with the least p99, of those with nearly the greatest goodput.
fn best_fixed(scenario: &Scenario, phase: &Phase) -> usize {
    let alone = Scenario {
        phases: vec![Phase {
            length: SETTLE + 300.0,
            ..*phase
        }],
        ..scenario.clone()
    };
    if phase.condition.is_down {
        return 1;
    }
    let condition = phase.condition;
    let busy = condition.places as f64 * condition.round_trip() / condition.service;
    let busy = busy / phase.clients as f64;
    let mut limits = FIXED.map(|part| ((part * busy) as usize).max(1)).to_vec();
    if let Demand::Part(most) = phase.demand {
        limits.insert(0, most);
    }
    limits.dedup();
    let mut found: Vec<_> = limits
        .into_iter()
        .map(|limit| {
            let runs = [101, 102].map(|seed| simulate(&alone, Contender::Fixed, &[limit], seed));
            (limit, means(&runs, 0))
        })
        .collect();
    found.retain(|(limit, means)| *limit == 1 || means.refused <= REFUSED);
    let greatest = found
        .iter()
        .map(|(_, means)| means.goodput)
        .fold(0.0, f64::max);
    let good = found
        .iter()
        .filter(|(_, means)| means.goodput >= NEARLY_ALL * greatest);
    let best = good.min_by(|(_, one), (_, other)| one.p99.total_cmp(&other.p99));
    best.map_or(1, |(limit, _)| *limit)
}

fn means(runs: &[Vec<PhaseFigures>], phase: usize) -> Means {
    let count = runs.len() as f64;
    let phases = || runs.iter().map(|run| &run[phase]);
    let mean = |of: &dyn Fn(&PhaseFigures) -> f64| phases().map(of).sum::<f64>() / count;
    let bins = (0..runs[0][phase].bins.len()).map(|bin| Bin {
        answers: mean(&|found| found.bins[bin].answers),
        latency: mean(&|found| found.bins[bin].latency),
        limit: mean(&|found| found.bins[bin].limit),
    });
    Means {
        goodput: mean(&|found| found.goodput.iter().sum()),
        p99: mean(&|found| found.p99),
        refused: mean(&|found| found.refused),
        share: mean(&|found| found.goodput[0] / found.goodput.iter().sum::<f64>().max(1e-9)),
        bins: bins.collect(),
        greatest_limit: mean(&|found| found.greatest_limit as f64),
    }
}

/// Does all jobs on all processors. The results are in the order of the jobs.
fn each_of<J: Sync, R: Send>(jobs: &[J], work: impl Fn(&J) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut done: Vec<_> = thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            loop {
                // Relaxed: the threads share nothing but the number.
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(job) = jobs.get(number) else {
                    return done;
                };
                done.push((number, work(job)));
            }
        };
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let done = workers
            .into_iter()
            .map(|worker| worker.join().expect("no simulation panics"));
        done.flatten().collect()
    });
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}
