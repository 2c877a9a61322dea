//! Simulates what hedges and retries do to a backend that becomes slow, or that is down for a while.
//!
//! Nothing here takes time: the clock is a `TestTimer`, which jumps to the next event. The same seed gives
//! the same table.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Simulate hedges and retries.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    simulation: Simulation,

    /// The number of requests.
    #[arg(long, global = true, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1000..))]
    requests: u32,

    /// Another seed gives other random numbers.
    #[arg(long, global = true, default_value_t = 1)]
    seed: u64,
}

#[derive(Subcommand)]
enum Simulation {
    /// The backend becomes slower half-way. Compares fixed delays with a learned one.
    Hedges {
        /// How many times slower.
        #[arg(long, default_value_t = 2.0)]
        slower: f64,

        /// The spread of the logarithm of the latency. With 1, the 99th percentile is ten times the median.
        #[arg(long, default_value_t = 1.0)]
        spread: f64,
    },
    /// The backend is down for the middle third. Compares retries with and without a budget.
    Retries {
        /// The part of a token that a success gives back to the budget.
        #[arg(long, default_value_t = 0.1)]
        ratio: f64,
    },
}

fn main() -> ExitCode {
    examples::main(|args: Args| run(&args).map(|()| ExitCode::SUCCESS))
}

fn run(args: &Args) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match args.simulation {
        Simulation::Hedges { slower, spread } => {
            let table = hedges::simulate(args.requests, args.seed, slower, spread);
            write!(out, "{table}")
        }
        Simulation::Retries { ratio } => {
            let table = retries::simulate(args.requests, args.seed, ratio);
            write!(out, "{table}")
        }
    }
}

/// A backend that becomes slower half-way, and hedges with fixed and learned delays.
mod hedges {
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
}

/// Requests that arrive at random times, each with random numbers of its own.
mod load {
    use std::time::Duration;

    use futures_aggregate::{TestTimer, Timer, each, fetch_and_aggregate};
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use rand_distr::{Distribution, Exp1};

    /// The mean time between two requests.
    const BETWEEN: Duration = Duration::from_millis(5);

    /// Random numbers that depend on nothing but these three: in each simulation the same attempt of the same
    /// request has the same latency.
    pub(crate) fn random(seed: u64, request: u32, attempt: usize) -> StdRng {
        let request = u64::from(request);
        StdRng::seed_from_u64(
            seed.wrapping_mul(1_000_003)
                .wrapping_add(request * 64 + attempt as u64),
        )
    }

    /// Makes all requests, each at its time, as one run. Returns their results in the order of arrival.
    pub(crate) fn run<T, F>(
        timer: &TestTimer,
        seed: u64,
        requests: u32,
        request: impl Fn(u32) -> F,
    ) -> Vec<T>
    where
        F: Future<Output = T>,
    {
        let mut arrivals = StdRng::seed_from_u64(seed);
        let mut at = timer.now();
        let sources = each(0..requests, |&id| {
            let between: f64 = Exp1.sample(&mut arrivals);
            at += BETWEEN.mul_f64(between);
            let arrival = timer.sleep_until(at);
            let request = request(id);
            async {
                arrival.await;
                Ok::<_, std::convert::Infallible>(request.await)
            }
        });
        let run = fetch_and_aggregate(sources, Duration::MAX)
            .in_order()
            .timer(timer);
        let aggregate = futures::executor::block_on(timer.auto_advance(run));
        let Ok(aggregate) = aggregate else {
            unreachable!("the run has no deadline")
        };
        aggregate
            .results
            .into_iter()
            .map(|(_, result)| result)
            .collect()
    }

    /// A random number from 0 to 1.
    pub(crate) fn part(random: &mut StdRng) -> f64 {
        random.random()
    }
}

/// A backend that is down for a while, and retries with and without a budget.
mod retries {
    use std::cell::Cell;
    use std::fmt;
    use std::time::Duration;

    use futures_aggregate::{AttemptBudget, TestTimer, Timer, retry};

    use crate::load;

    /// An error comes back this fast.
    const FAST: Duration = Duration::from_millis(1);

    /// The part of the requests that fails while the backend is up.
    const FAILURES: f64 = 0.01;

    /// The table.
    pub(crate) struct Table {
        ratio: f64,
        rows: Vec<Row>,
    }

    struct Row {
        name: &'static str,
        /// While the backend is up, and while it is down.
        calls: [u32; 2],
        sent: [u32; 2],
        answered: [u32; 2],
    }

    pub(crate) fn simulate(requests: u32, seed: u64, ratio: f64) -> Table {
        let budget = AttemptBudget::new(100, ratio);
        Table {
            ratio,
            rows: vec![
                measure("without a budget", requests, seed, None),
                measure("with a budget", requests, seed, Some(&budget)),
            ],
        }
    }

    fn measure(
        name: &'static str,
        requests: u32,
        seed: u64,
        budget: Option<&AttemptBudget>,
    ) -> Row {
        let timer = TestTimer::new();
        let sent = [Cell::new(0), Cell::new(0)];
        let is_down = |request: u32| (requests / 3..requests / 3 * 2).contains(&request);
        let half = |request| usize::from(is_down(request));
        let request = |id| {
            let (timer, sent) = (&timer, &sent);
            async move {
                let sent = &sent[half(id)];
                let ask = |attempt: futures_aggregate::Attempt| {
                    sent.set(sent.get() + 1);
                    let sleep = timer.sleep_until(timer.now() + FAST);
                    let random = &mut load::random(seed, id, attempt.number);
                    let fails = is_down(id) || load::part(random) < FAILURES;
                    async move {
                        sleep.await;
                        if fails { Err("503") } else { Ok(()) }
                    }
                };
                // The pauses are short, so that an outage is still the same when an attempt comes.
                let retry = retry(FAST, 4, ask).seed(u64::from(id)).timer(timer);
                let answer = match budget {
                    Some(budget) => retry.budget(budget).await,
                    None => retry.await,
                };
                answer.is_ok()
            }
        };
        let answers = load::run(&timer, seed, requests, request);
        let mut row = Row {
            name,
            calls: [0; 2],
            sent: sent.map(|sent| sent.get()),
            answered: [0; 2],
        };
        for (id, is_answered) in (0..).zip(answers) {
            row.calls[half(id)] += 1;
            row.answered[half(id)] += u32::from(is_answered);
        }
        row
    }

    impl fmt::Display for Table {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            writeln!(
                f,
                "{:20}{:^30}{:^30}",
                "", "backend is up", "backend is down"
            )?;
            let columns = "     calls      sent  answered";
            writeln!(f, "{:20}{columns}{columns}   sent for each call", "")?;
            for row in &self.rows {
                write!(f, "{:20}", row.name)?;
                for state in 0..2 {
                    let (calls, sent) = (row.calls[state], row.sent[state]);
                    write!(f, "{calls:>10}{sent:>10}{:>10}", row.answered[state])?;
                }
                let per_call =
                    f64::from(row.sent[0] + row.sent[1]) / f64::from(row.calls[0] + row.calls[1]);
                writeln!(f, "{per_call:>21.3}")?;
            }
            writeln!(
                f,
                "\nThe budget admits at most {:.3} requests for each call.",
                1.0 + self.ratio
            )
        }
    }
}
