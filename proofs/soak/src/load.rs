//! The load: many runs at a time, and a census whenever all of them have ended.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::task::{JoinSet, yield_now};

use crate::census::Census;
use crate::run::{Ending, Way, run};

/// The number of clients. Each client has one run at a time.
const CLIENTS: usize = 512;
/// The load stops at this much memory.
const MOST_MEMORY: usize = 1_000_000_000;
/// The most time that a task or a thread may take to drop its part of a run that has ended.
const GRACE: Duration = Duration::from_secs(1);
/// The time between two censuses.
const ROUND: Duration = Duration::from_millis(250);
const ROUNDS_OF_RUNS: u32 = 20;

/// The length of a soak: it ends at the first limit that is reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    rounds: u32,
    time: Option<Duration>,
    runs: u64,
}

impl Length {
    pub(crate) fn of_time(time: Duration) -> Self {
        Self {
            rounds: (time.as_millis() / ROUND.as_millis()) as u32,
            time: Some(time),
            runs: u64::MAX,
        }
    }

    pub(crate) fn of_runs(runs: u64) -> Self {
        Self {
            rounds: ROUNDS_OF_RUNS,
            time: None,
            runs,
        }
    }

    pub(crate) fn at_most(self, runs: u64) -> Self {
        Self {
            runs: self.runs.min(runs),
            ..self
        }
    }
}

/// A census at a time when all runs so far had ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checkpoint {
    pub(crate) elapsed: Duration,
    pub(crate) runs: u64,
    pub(crate) census: Census,
}

/// The number of runs for each [`Ending`], in its order.
pub(crate) type Endings = [u64; Ending::NUMBER];

pub(crate) struct Soak {
    pub(crate) way: Way,
    pub(crate) checkpoints: Vec<Checkpoint>,
    pub(crate) endings: Endings,
}

impl Soak {
    pub(crate) fn last(&self) -> &Checkpoint {
        self.checkpoints
            .last()
            .expect("the first checkpoint is made at the start")
    }
}

/// Puts one way under load. Shows a checkpoint each second.
pub(crate) fn soak(way: Way, length: Length, show: impl FnMut(&Checkpoint)) -> io::Result<Soak> {
    let runtime = Builder::new_multi_thread().enable_time().build()?;
    Ok(runtime.block_on(put_under_load(way, length, show)))
}

async fn put_under_load(way: Way, length: Length, mut show: impl FnMut(&Checkpoint)) -> Soak {
    let started = Instant::now();
    let checkpoint = |runs, census| Checkpoint {
        elapsed: started.elapsed(),
        runs,
        census,
    };
    // This is allocated at the start, so that it does not count as growing memory.
    let mut soak = Soak {
        way,
        checkpoints: Vec::with_capacity(length.rounds as usize + 1),
        endings: [0; Ending::NUMBER],
    };
    soak.checkpoints.push(checkpoint(0, Census::take()));
    show(soak.last());
    let mut seconds_shown = 0;
    let mut grace = GRACE;
    for round in 1..=length.rounds {
        let turns = Turns::of_round(round, length, started, soak.last().runs);
        let turns = Arc::new(turns);
        let clients = (0..CLIENTS).map(|_| client(way, Arc::clone(&turns)));
        for endings in clients.collect::<JoinSet<_>>().join_all().await {
            let sums = soak.endings.iter_mut().zip(endings);
            sums.for_each(|(sum, number)| *sum += number);
        }
        let census = at_rest(grace).await;
        if !census.is_at_rest() {
            // What is left once is not dropped later, so the next waits can be short.
            grace = GRACE / 20;
        }
        let checkpoint = checkpoint(soak.endings.iter().sum(), census);
        soak.checkpoints.push(checkpoint);

        let is_enough = checkpoint.runs >= length.runs || census.memory() >= MOST_MEMORY;
        let is_last = is_enough || round == length.rounds;
        let seconds = checkpoint.elapsed.as_secs();
        if is_last || seconds > seconds_shown {
            seconds_shown = seconds;
            show(&checkpoint);
        }
        if is_last {
            break;
        }
    }
    soak
}

/// Waits until no source, no waker and no task is alive, or until `grace` is over. Returns the census.
async fn at_rest(grace: Duration) -> Census {
    let started = Instant::now();
    loop {
        let census = Census::take();
        if census.is_at_rest() || started.elapsed() >= grace {
            return census;
        }
        yield_now().await;
    }
}

/// The numbers of the runs of a round.
struct Turns {
    next: AtomicU64,
    /// The first run of the next round.
    end: u64,
    until: Option<Instant>,
}

impl Turns {
    /// Each round has an equal part of the time, or of the runs if there is no time limit.
    fn of_round(round: u32, length: Length, started: Instant, next: u64) -> Self {
        let part = length.runs / u64::from(length.rounds);
        let (end, until) = match length.time {
            Some(time) => (length.runs, Some(started + time * round / length.rounds)),
            None if round < length.rounds => (part * u64::from(round), None),
            None => (length.runs, None),
        };
        Self {
            next: AtomicU64::new(next),
            end,
            until,
        }
    }

    fn take(&self) -> Option<u64> {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return None;
        }
        let more = |next| (next < self.end).then_some(next + 1);
        self.next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()
    }
}

async fn client(way: Way, turns: Arc<Turns>) -> Endings {
    let mut endings = [0; Ending::NUMBER];
    while let Some(number) = turns.take() {
        let ending = run(way, number).await;
        endings[ending as usize] += 1;
    }
    endings
}
