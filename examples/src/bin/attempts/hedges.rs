//! A backend that becomes slower half-way, and hedges with fixed and learned delays.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use futures_aggregate::{HedgeDelay, TestTimer, Timer, hedge};
use rand_distr::{Distribution, LogNormal};

use crate::load;

const MEDIAN: Duration = Duration::from_millis(5);

/// The part of the requests that a learned delay is to hedge.
const PERCENTILE: f64 = 0.95;

/// The most extra load of a learned delay, as `HedgeDelay` documents it.
const BOUND: f64 = 1.5 * (1.0 - PERCENTILE);

/// The table.
pub(crate) struct Table {
    rows: Vec<Row>,
}

struct Row {
    name: String,
    /// Of the first half, and of the second.
    halves: [Half; 2],
    extra_load: f64,
}

#[derive(Clone, Copy)]
struct Half {
    median: Duration,
    p99: Duration,
    extra_load: f64,
}

/// The backend: how long each attempt of each request takes.
#[derive(Clone, Copy)]
struct Backend {
    requests: u32,
    seed: u64,
    slower: f64,
    spread: f64,
}

impl Backend {
    fn latency(&self, request: u32, attempt: usize) -> Duration {
        let normal = LogNormal::new(0.0, self.spread).expect("a finite spread");
        let factor = if request < self.requests / 2 {
            1.0
        } else {
            self.slower
        };
        let random: f64 = normal.sample(&mut load::random(self.seed, request, attempt));
        MEDIAN.mul_f64(random * factor)
    }

    /// Makes all requests, hedged after `delay`.
    fn measure(&self, name: String, delay: &HedgeDelay) -> Row {
        let timer = TestTimer::new();
        let extra = [Cell::new(0_u32), Cell::new(0)];
        let half = |request| usize::from(request >= self.requests / 2);
        let request = |request| {
            let (timer, extra) = (&timer, &extra);
            async move {
                let began = timer.now();
                let ask = |attempt| {
                    if attempt > 0 {
                        let extra = &extra[half(request)];
                        extra.set(extra.get() + 1);
                    }
                    let sleep = timer.sleep_until(timer.now() + self.latency(request, attempt));
                    async {
                        sleep.await;
                        Ok::<_, ()>(())
                    }
                };
                let answer = hedge(delay, 2, ask).timer(timer).await;
                debug_assert!(answer.is_ok(), "no attempt fails");
                timer.now() - began
            }
        };
        let times = load::run(&timer, self.seed, self.requests, request);
        let (first, second) = times.split_at(times.len() / 2);
        let halves = [(first, &extra[0]), (second, &extra[1])].map(|(times, extra)| {
            let mut times = times.to_vec();
            times.sort_unstable();
            Half {
                median: times[times.len() / 2],
                p99: times[times.len() * 99 / 100],
                extra_load: f64::from(extra.get()) / times.len() as f64,
            }
        });
        Row {
            name,
            halves,
            extra_load: (halves[0].extra_load + halves[1].extra_load) / 2.0,
        }
    }
}

/// Measures no hedges, the best fixed delay for each half, and a learned one.
pub(crate) fn simulate(requests: u32, seed: u64, slower: f64, spread: f64) -> Table {
    let backend = Backend {
        requests,
        seed,
        slower,
        spread,
    };
    let none = backend.measure("no hedges".to_owned(), &Duration::MAX.into());
    let fixed = |percentile: f64| {
        let delay = none.percentile_of_first(&backend, percentile);
        let name = format!("fixed, {:.1} ms", delay.as_secs_f64() * 1e3);
        backend.measure(name, &delay.into())
    };
    // Of the delays that cause no more load than the learned one may, the one with the least p99.
    let all: Vec<_> = (0..20)
        .map(|step| fixed(0.8 + 0.01 * f64::from(step)))
        .collect();
    let best = |half: usize| {
        let is_light = |row: &&Row| row.halves[half].extra_load <= BOUND;
        let light = all.iter().filter(is_light);
        light
            .min_by_key(|row| row.halves[half].p99)
            .expect("a long delay causes little load")
    };
    let rename = |row: &Row, name: &str| Row {
        name: format!("{}, {name}", row.name),
        halves: row.halves,
        extra_load: row.extra_load,
    };
    let best_first = rename(best(0), "the best of the first half");
    let best_second = rename(best(1), "the best of the second half");
    let learned = HedgeDelay::percentile(PERCENTILE);
    let learned = backend.measure("learned, 95th percentile".to_owned(), &learned);
    Table {
        rows: vec![none, best_first, best_second, learned],
    }
}

impl Row {
    /// A percentile of the latency of single attempts in the first half; longer delays are multiples.
    fn percentile_of_first(&self, backend: &Backend, percentile: f64) -> Duration {
        let mut all: Vec<_> = (0..backend.requests)
            .map(|id| backend.latency(id, 0))
            .collect();
        all.sort_unstable();
        all[(percentile * (all.len() - 1) as f64) as usize]
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
        let percent = |part: f64| format!("{:.1} %", part * 100.0);
        writeln!(
            f,
            "{:46} {:^26} {:^26}",
            "milliseconds", "first half", "second half"
        )?;
        let columns = "     p50      p99     extra";
        writeln!(f, "{:46}{columns}{columns}    extra load", "")?;
        for row in &self.rows {
            write!(f, "{:46}", row.name)?;
            for half in row.halves {
                let (median, p99) = (millis(half.median), millis(half.p99));
                write!(f, "{median:>8} {p99:>8} {:>9}", percent(half.extra_load))?;
            }
            writeln!(f, "{:>14}", percent(row.extra_load))?;
        }
        let [_, first, second, learned] = &self.rows[..] else {
            return Ok(());
        };
        let ratio = |row: &Row, best: &Row, half: usize| {
            row.halves[half].p99.as_secs_f64() / best.halves[half].p99.as_secs_f64()
        };
        writeln!(
            f,
            "\np99 against the best fixed delay of each half: learned {:.2} and {:.2}; fixed for the first \
             half {:.2} in the second",
            ratio(learned, first, 0),
            ratio(learned, second, 1),
            ratio(first, second, 1),
        )?;
        writeln!(
            f,
            "extra load of the learned delay: {}, at most {}",
            percent(learned.extra_load),
            percent(BOUND)
        )
    }
}
