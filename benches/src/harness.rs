//! Samples of the contenders by turns, and their medians.

use std::time::{Duration, Instant};

use crate::workloads::Workload;

/// A sample repeats its work for at least this long.
const SAMPLE: Duration = Duration::from_millis(4);

/// One way to do the work of a workload.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) work: Box<dyn FnMut()>,
}

impl Contender {
    pub(crate) fn new(name: &'static str, work: impl FnMut() + 'static) -> Self {
        Self {
            name,
            work: Box::new(work),
        }
    }
}

/// The cost of a workload of one size, for each contender.
pub(crate) struct Row {
    pub(crate) workload: &'static str,
    pub(crate) size: usize,
    pub(crate) name: String,
    /// Nanoseconds per source. This crate is the first.
    pub(crate) costs: Vec<(&'static str, f64)>,
}

impl Row {
    /// The time of each peer, divided by the time of this crate.
    pub(crate) fn ratios(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let own = self.costs[0].1;
        self.costs
            .iter()
            .skip(1)
            .map(move |&(name, cost)| (name, cost / own))
    }
}

pub(crate) fn measure(
    workload: &Workload,
    size: usize,
    mut contenders: Vec<Contender>,
    samples: u32,
) -> Row {
    let units = workload.units.unwrap_or(size);
    let repeats: Vec<_> = contenders.iter_mut().map(repeats_in_a_sample).collect();
    let mut times = vec![Vec::new(); contenders.len()];
    let count = contenders.len();
    for sample in 0..samples as usize {
        // Another one comes first each time.
        for place in (0..count).map(|place| (place + sample) % count) {
            let work = &mut contenders[place].work;
            let repeats = repeats[place];
            let started = Instant::now();
            for _ in 0..repeats {
                work();
            }
            let per_unit = started.elapsed().as_nanos() as f64 / f64::from(repeats) / units as f64;
            times[place].push(per_unit);
        }
    }
    let costs = contenders.iter().zip(&mut times);
    Row {
        workload: workload.name,
        size,
        name: workload.row_name(size),
        costs: costs
            .map(|(contender, times)| (contender.name, median(times)))
            .collect(),
    }
}

/// Warms up, and returns how often the work has to be repeated to fill a sample.
fn repeats_in_a_sample(contender: &mut Contender) -> u32 {
    let mut repeats = 1;
    loop {
        let started = Instant::now();
        for _ in 0..repeats {
            (contender.work)();
        }
        if started.elapsed() >= SAMPLE {
            return repeats;
        }
        repeats *= 2;
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}
