//! Requests that arrive at random times, each with random numbers of its own.

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
