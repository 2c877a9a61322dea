//! The rules that are compared. Each of them sets a `Limit`; an adaptive limit needs none.

use std::collections::HashMap;
use std::time::Duration;

use congestion_limiter::limiter::{DefaultLimiter, Limiter, Outcome, Token};
use congestion_limiter::limits;
use futures::FutureExt;
use futures_aggregate::Limit;
use tokio::runtime::Runtime;

/// The range of each limit.
const RANGE: std::ops::RangeInclusive<usize> = 1..=256;
/// Where each limit begins, as an adaptive one does.
const FIRST: usize = 4;

/// How a request has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Answered,
    /// Refused, or timed out.
    Overloaded,
    Dropped,
}

/// A rule that is told of every request.
pub trait Rule {
    /// A request starts.
    fn start(&mut self, _request: u64, _now: Duration) {}

    /// A request, one of `in_flight`, has ended. Returns the limit.
    fn end(
        &mut self,
        request: u64,
        now: Duration,
        latency: Duration,
        in_flight: usize,
        ended: Ended,
    ) -> usize;
}

/// What decides the limit of a client.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Contender {
    Adaptive,
    /// Another limit for each phase.
    Fixed,
    TowerGradient,
    TowerVegas,
    TowerAimd,
    CongestionAimd,
    CongestionGradient,
    CongestionVegas,
    CongestionWindowed,
}

impl Contender {
    /// Those that adapt.
    pub const ALL: [Self; 8] = [
        Self::Adaptive,
        Self::TowerGradient,
        Self::TowerVegas,
        Self::TowerAimd,
        Self::CongestionAimd,
        Self::CongestionGradient,
        Self::CongestionVegas,
        Self::CongestionWindowed,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Adaptive => "Limit::adaptive",
            Self::Fixed => "best fixed limit",
            Self::TowerGradient => "tower-acc, Gradient2",
            Self::TowerVegas => "tower-acc, Vegas",
            Self::TowerAimd => "tower-acc, AIMD",
            Self::CongestionAimd => "congestion-limiter, AIMD",
            Self::CongestionGradient => "congestion-limiter, Gradient",
            Self::CongestionVegas => "congestion-limiter, Vegas",
            Self::CongestionWindowed => "congestion-limiter, Vegas by windows",
        }
    }

    /// The limit, and what sets it.
    pub fn make(self, fixed: usize) -> (Limit, Option<Box<dyn Rule>>) {
        let (least, most) = (*RANGE.start(), *RANGE.end());
        let rule: Box<dyn Rule> = match self {
            Self::Adaptive => return (Limit::adaptive(RANGE), None),
            Self::Fixed => return (Limit::new(fixed), None),
            Self::TowerGradient => {
                let builder = tower_acc::Gradient2::builder().initial_limit(FIRST);
                Box::new(Tower(builder.min_limit(least).max_limit(most).build()))
            }
            Self::TowerVegas => {
                let builder = tower_acc::Vegas::builder().initial_limit(FIRST);
                Box::new(Tower(builder.max_limit(most).build()))
            }
            Self::TowerAimd => {
                let builder = tower_acc::Aimd::builder().initial_limit(FIRST);
                Box::new(Tower(builder.min_limit(least).max_limit(most).build()))
            }
            Self::CongestionAimd => Congestion::boxed(limits::Aimd::new(FIRST, RANGE)),
            Self::CongestionGradient => Box::new(Gradient::new()),
            Self::CongestionVegas => Congestion::boxed(limits::Vegas::new(FIRST, RANGE)),
            Self::CongestionWindowed => Congestion::windowed(),
        };
        (Limit::new(FIRST), Some(rule))
    }
}

/// An algorithm of `tower-acc`. It has no clock.
struct Tower<A>(A);

impl<A: tower_acc::Algorithm> Rule for Tower<A> {
    fn end(
        &mut self,
        _: u64,
        _: Duration,
        latency: Duration,
        in_flight: usize,
        ended: Ended,
    ) -> usize {
        let is_error = ended == Ended::Overloaded;
        let is_canceled = ended == Ended::Dropped;
        self.0.update(latency, in_flight, is_error, is_canceled);
        self.0.max_concurrency()
    }
}

/// The rule of `congestion_limiter::limits::Gradient`, written anew: in release 0.1.0 that panics at the first
/// latency below its mean, because it subtracts unsigned durations.
struct Gradient {
    limit: f64,
    /// The mean latency in seconds, and the number of latencies.
    long: f64,
    count: u32,
}

impl Gradient {
    const INCREASE: f64 = 4.0;
    const TOLERANCE: f64 = 2.0;
    const SMOOTHING: f64 = 0.2;
    const WARM_UP: u32 = 10;
    const LONG: f64 = 500.0;

    fn new() -> Self {
        Self {
            limit: FIRST as f64,
            long: 0.0,
            count: 0,
        }
    }
}

impl Rule for Gradient {
    fn end(
        &mut self,
        _: u64,
        _: Duration,
        latency: Duration,
        in_flight: usize,
        ended: Ended,
    ) -> usize {
        let latency = latency.as_secs_f64();
        if ended != Ended::Dropped && latency >= 1e-6 {
            self.count += 1;
            let weight = match self.count <= Self::WARM_UP {
                true => 1.0 / f64::from(self.count),
                false => 2.0 / (Self::LONG + 1.0),
            };
            self.long += weight * (latency - self.long);
            let ratio = self.long / latency;
            if ratio > 2.0 {
                self.long *= 0.95;
            }
            let gradient = (Self::TOLERANCE * ratio).clamp(0.5, 1.0);
            let is_used = in_flight as f64 / self.limit > 0.8;
            let increase = if is_used && gradient > 0.9 {
                Self::INCREASE
            } else {
                0.0
            };
            let limit = self.limit * gradient + increase;
            let limit = self.limit * (1.0 - Self::SMOOTHING) + limit * Self::SMOOTHING;
            self.limit = limit.clamp(*RANGE.start() as f64, *RANGE.end() as f64);
        }
        self.limit.round() as usize
    }
}

/// A limiter of `congestion-limiter`. It takes the time from tokio, whose clock is paused and follows that of
/// the simulation. Its futures are ready at once.
struct Congestion<A> {
    runtime: Runtime,
    limiter: DefaultLimiter<A>,
    now: Duration,
    tokens: HashMap<u64, Token>,
}

impl<A: limits::LimitAlgorithm + std::fmt::Debug + Sync + 'static> Congestion<A> {
    fn boxed(algorithm: A) -> Box<dyn Rule> {
        Self::boxed_in(runtime(), algorithm)
    }

    fn boxed_in(runtime: Runtime, algorithm: A) -> Box<dyn Rule> {
        Box::new(Self {
            runtime,
            limiter: DefaultLimiter::new(algorithm),
            now: Duration::ZERO,
            tokens: HashMap::new(),
        })
    }
}

impl Congestion<()> {
    fn windowed() -> Box<dyn Rule> {
        let runtime = runtime();
        let guard = runtime.enter();
        let samples = congestion_limiter::aggregation::Percentile::default();
        let windowed = limits::Windowed::new(limits::Vegas::new(FIRST, RANGE), samples);
        drop(guard);
        Congestion::boxed_in(runtime, windowed)
    }
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let builder = builder.enable_time().start_paused(true);
    builder.build().expect("a runtime without I/O")
}

impl<A: limits::LimitAlgorithm + std::fmt::Debug + Sync> Rule for Congestion<A> {
    fn start(&mut self, request: u64, now: Duration) {
        let handle = self.runtime.handle().clone();
        let _guard = handle.enter();
        if let Some(by) = now.checked_sub(self.now).filter(|by| !by.is_zero()) {
            let _ = tokio::time::advance(by).now_or_never();
            self.now = now;
        }
        let token = self.limiter.try_acquire().now_or_never().flatten();
        self.tokens.extend(token.map(|token| (request, token)));
    }

    fn end(&mut self, request: u64, now: Duration, _: Duration, _: usize, ended: Ended) -> usize {
        let handle = self.runtime.handle().clone();
        let _guard = handle.enter();
        if let Some(by) = now.checked_sub(self.now).filter(|by| !by.is_zero()) {
            let _ = tokio::time::advance(by).now_or_never();
            self.now = now;
        }
        let outcome = match ended {
            Ended::Answered => Some(Outcome::Success),
            Ended::Overloaded => Some(Outcome::Overload),
            Ended::Dropped => None,
        };
        if let Some(token) = self.tokens.remove(&request) {
            let release = self.limiter.release(token, outcome);
            release.now_or_never();
        }
        self.limiter.state().limit()
    }
}
