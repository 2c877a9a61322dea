//! How long a hedge waits for an answer: a fixed time, or a percentile that it learns.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::window::{Latency, Window};

/// The percentile is computed anew after this part of the window.
const REFRESH: usize = 20;

/// The most extra attempts that are saved up.
const MOST_CREDIT: f64 = 5.0;

/// How long a [`hedge`](crate::hedge()) waits before it makes another attempt: a fixed time, or one that
/// all hedges of an endpoint learn.
///
/// A `Duration` converts into a fixed one. [`percentile`](Self::percentile) makes one that learns: the
/// time within which that part of the latest attempts had their answers. If the backend becomes slower or
/// faster, the delay follows. Clones share what they have learned: make one for each endpoint, and pass a
/// reference to each hedge.
///
/// - An attempt that was dropped, because another one was faster or because the hedge was dropped, counts
///   as "at least this slow" and not as an answer. So does an attempt that failed. The percentile is that
///   of Kaplan and Meier's estimator.
/// - Until there are enough attempts, the *warm-up*, a hedge makes another attempt only after a failure.
/// - **The extra load is bounded** while the delay is wrong: for each request a hedge earns `1.5 * (1 -
///   percentile)` of an extra attempt, and saves up at most 5. With `percentile(0.95)`, slowness causes at most
///   7.5 % more requests, and 5. Attempts after a failure are limited by the
///   [budget](crate::Hedge::budget) alone.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures::future::ready;
/// use futures_aggregate::{HedgeDelay, hedge};
///
/// # futures::executor::block_on(async {
/// // Once for the endpoint.
/// let delay = HedgeDelay::percentile(0.95).warm_up(100);
///
/// // For each request.
/// for _ in 0..100 {
///     let answer = hedge(&delay, 2, |_attempt| ready(Ok::<_, ()>(7))).await;
///     assert_eq!(answer, Ok(7));
/// }
/// assert!(delay.get().is_some_and(|delay| delay >= Duration::from_millis(1)));
/// # });
/// ```
#[derive(Clone)]
pub struct HedgeDelay(Kind);

#[derive(Clone)]
enum Kind {
    Fixed(Duration),
    Learned(Arc<Learned>),
}

/// What all clones share.
struct Learned {
    settings: Settings,
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
struct Settings {
    part: f64,
    least: Duration,
    most: Duration,
    window: usize,
    warm_up: usize,
}

struct State {
    window: Window,
    /// The number of latencies so far.
    seen: usize,
    /// The current percentile, within its bounds.
    delay: Option<Duration>,
    /// The extra attempts that may be made.
    credit: f64,
}

impl From<Duration> for HedgeDelay {
    fn from(delay: Duration) -> Self {
        Self(Kind::Fixed(delay))
    }
}

impl From<&Self> for HedgeDelay {
    fn from(delay: &Self) -> Self {
        delay.clone()
    }
}

impl HedgeDelay {
    /// A delay within which `part` of all attempts have their answers. By default it is between 1 ms and
    /// 10 s, comes from the latest 1,000 attempts, and is known after the first 100.
    ///
    /// # Panics
    ///
    /// If `part` is not between 0.5 and 0.999.
    #[track_caller]
    pub fn percentile(part: f64) -> Self {
        assert!(
            (0.5..=0.999).contains(&part),
            "the percentile {part} is out of range; it must be between 0.5 and 0.999, such as 0.95"
        );
        Self::learned(Settings {
            part,
            least: Duration::from_millis(1),
            most: Duration::from_secs(10),
            window: 1000,
            warm_up: 100,
        })
    }

    /// Keeps the delay within these bounds.
    ///
    /// # Panics
    ///
    /// If the range is empty, or the delay is a fixed one.
    #[track_caller]
    pub fn bounds(self, bounds: RangeInclusive<Duration>) -> Self {
        let (least, most) = bounds.into_inner();
        assert!(
            least <= most,
            "a delay cannot be at least {least:?} and at most {most:?}; the first bound must be the lower one"
        );
        self.with(|settings| Settings {
            least,
            most,
            ..settings
        })
    }

    /// Learns from this many attempts, the latest ones. A smaller window follows the backend sooner, and its
    /// percentile is less exact.
    ///
    /// # Panics
    ///
    /// If `attempts` is less than 20, or the delay is a fixed one.
    #[track_caller]
    pub fn window(self, attempts: usize) -> Self {
        assert!(
            attempts >= 20,
            "a window of {attempts} attempts is too small for a percentile; it must be at least 20"
        );
        self.with(|settings| Settings {
            window: attempts,
            ..settings
        })
    }

    /// Does not hedge slow attempts before this many have ended.
    ///
    /// # Panics
    ///
    /// If the delay is a fixed one.
    #[track_caller]
    pub fn warm_up(self, attempts: usize) -> Self {
        self.with(|settings| Settings {
            warm_up: attempts,
            ..settings
        })
    }

    /// The current delay. `None` during the warm-up.
    pub fn get(&self) -> Option<Duration> {
        match &self.0 {
            Kind::Fixed(delay) => Some(*delay),
            Kind::Learned(learned) => learned.lock().delay,
        }
    }

    fn learned(settings: Settings) -> Self {
        Self(Kind::Learned(Arc::new(Learned {
            settings,
            state: Mutex::new(State {
                window: Window::new(settings.window),
                seen: 0,
                delay: None,
                credit: 0.0,
            }),
        })))
    }

    /// A delay with other settings, that has learned nothing.
    #[track_caller]
    fn with(self, change: impl FnOnce(Settings) -> Settings) -> Self {
        match self.0 {
            Kind::Fixed(delay) => panic!(
                "a fixed delay of {delay:?} learns nothing; make a learned one by `HedgeDelay::percentile`"
            ),
            Kind::Learned(learned) => Self::learned(change(learned.settings)),
        }
    }

    pub(super) fn is_learned(&self) -> bool {
        matches!(self.0, Kind::Learned(_))
    }

    /// Begins a hedge. Returns how long to wait for the first attempt.
    pub(super) fn begin(&self) -> Duration {
        match &self.0 {
            Kind::Fixed(delay) => *delay,
            Kind::Learned(learned) => {
                let mut state = learned.lock();
                let earned = 1.5 * (1.0 - learned.settings.part);
                state.credit = (state.credit + earned).min(MOST_CREDIT);
                state.delay.unwrap_or(Duration::MAX)
            }
        }
    }

    /// Whether another attempt may be made because of slowness. It is counted.
    pub(super) fn take_credit(&self) -> bool {
        match &self.0 {
            Kind::Fixed(_) => true,
            Kind::Learned(learned) => {
                let mut state = learned.lock();
                let has_credit = state.credit >= 1.0;
                if has_credit {
                    state.credit -= 1.0;
                }
                has_credit
            }
        }
    }

    /// Notes how long an attempt has taken, and whether it has an answer.
    pub(super) fn note(&self, time: Duration, is_answered: bool) {
        let Kind::Learned(learned) = &self.0 else {
            return;
        };
        let settings = learned.settings;
        let mut state = learned.lock();
        state.window.push(Latency {
            time,
            is_at_least: !is_answered,
        });
        state.seen += 1;
        let step = (settings.window / REFRESH).max(1);
        let is_warm = state.seen >= settings.warm_up;
        if is_warm && (state.delay.is_none() || state.seen % step == 0) {
            let learned = state.window.percentile(settings.part);
            state.delay = learned.map(|delay| delay.clamp(settings.least, settings.most));
        }
    }
}

impl Learned {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for HedgeDelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Fixed(delay) => f.debug_tuple("HedgeDelay").field(delay).finish(),
            Kind::Learned(learned) => f
                .debug_struct("HedgeDelay")
                .field("percentile", &learned.settings.part)
                .field("delay", &self.get())
                .finish_non_exhaustive(),
        }
    }
}
