//! A limit on sources in flight that any number of runs share.

mod adaptive;
mod sampling;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, PoisonError};
#[cfg(not(all(test, futures_aggregate_loom)))]
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use adaptive::Adaptive;
pub(crate) use adaptive::{Ending, Start};
#[cfg(all(test, futures_aggregate_loom))]
use loom::sync::{Mutex, MutexGuard};

use crate::panics::{Panics, wake_each};

/// A limit that runs share: at most this many of their sources are in flight at any time.
///
/// Pass it to [`concurrency`](crate::Operation::concurrency) or to
/// [`source_concurrency`](crate::ProcessBatch::source_concurrency), of any number of runs, on any
/// threads and executors. Clones are the same limit: keep one for each backend, in a `static` or in the
/// state of a service.
///
/// - Runs that wait for room get it in the order in which they began to wait. A run waits for one source at
///   a time and then goes to the end of the queue, so no run starves that has one limit.
/// - The number can be [changed](Self::set) at any time. Lowering it stops nothing that is in flight.
/// - A source has its place from its start until it has answered, has timed out, has panicked or is dropped.
///   An outcome that waits for a receiver or a body has none.
/// - A source with a [weight](crate::Operation::weight) takes so many places. A heavy one that waits is not
///   overtaken by the light ones of other runs, and one that is heavier than the limit is started when no place
///   is taken.
/// - A run with several limits holds no place of one while it waits for another. So it starts a source only
///   when all of them have room at once. Beside other runs that keep each of them full, it may wait long.
/// - A run inside a source needs a place of its own. If both have the same limit, the outer sources can take all
///   places, and the inner runs wait for ever.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures::future::join;
/// use futures_aggregate::{Limit, each, fetch_and_aggregate};
///
/// # async fn fetch(page: u32) -> Result<u32, ()> { Ok(page) }
/// # futures::executor::block_on(async {
/// // Of the backend, for all requests of this service.
/// let limit = Limit::new(10);
///
/// let pages = |range| fetch_and_aggregate(each(range, |&page| fetch(page)), Duration::MAX);
/// let both = join(
///     pages(0..100).concurrency(&limit),
///     pages(100..200).concurrency(&limit),
/// );
/// let (first, second) = both.await;
/// assert_eq!(first.unwrap().results.len() + second.unwrap().results.len(), 200);
/// assert_eq!(limit.in_use(), 0);
/// # });
/// ```
#[derive(Clone)]
#[doc(alias = "Semaphore")]
#[doc(alias = "CapacityLimiter")]
#[doc(alias = "bulkhead")]
pub struct Limit {
    state: Arc<Mutex<State>>,
}

struct State {
    limit: usize,
    /// The places that are taken, or granted.
    in_use: usize,
    /// Places that were given back twice, until the second one to do so takes them again.
    owed: usize,
    /// Who waits for a place, in the order of their tickets.
    queue: BTreeMap<u64, Waiter>,
    /// The number of the next ticket.
    next: u64,
    /// What finds the limit, unless the caller does.
    adaptive: Option<Box<Adaptive>>,
}

struct Waiter {
    waker: Waker,
    /// How many places it needs.
    weight: usize,
    /// Whether they are kept for it.
    is_granted: bool,
}

impl State {
    /// Takes back places that are kept for those who wait, the last ones first, if the limit was lowered.
    fn revoke(&mut self) {
        let granted = self.queue.values_mut().rev().filter(|it| it.is_granted);
        for waiter in granted {
            if self.in_use <= self.limit {
                break;
            }
            waiter.is_granted = false;
            self.in_use = self.in_use.saturating_sub(waiter.weight);
        }
    }

    /// Whether somebody waits in vain. Places are granted in the order of the queue, so it is the last one.
    fn has_waiting(&self) -> bool {
        let last = self.queue.values().next_back();
        last.is_some_and(|waiter| !waiter.is_granted)
    }
}

/// Whether a source fits into a limit of which so much is in use. One that is heavier than the limit fits when
/// it is alone.
fn fits(weight: usize, in_use: usize, limit: usize) -> bool {
    in_use == 0 || in_use.checked_add(weight).is_some_and(|sum| sum <= limit)
}

impl Limit {
    /// At most `limit` sources in flight.
    ///
    /// # Panics
    ///
    /// If `limit` is zero.
    #[track_caller]
    pub fn new(limit: usize) -> Self {
        check(limit);
        Self::with(limit, None)
    }

    /// A limit that finds its number by itself, within `range`: the concurrency that a backend can bear.
    ///
    /// It begins at 4, or at the end of `range` that is nearest to it. From then on it follows what happens to
    /// the sources of all runs that share it:
    ///
    /// - **Latency.** Now and then it halves itself for some dozen sources, to see how long they take without a
    ///   queue. It grows while sources take hardly longer than that, and shrinks while they take much longer.
    ///   So it settles a little above the number that keeps the backend busy.
    /// - **Signs of overload.** If more than a tenth of the sources time out, or end in a way that the caller
    ///   marks by [`overload_if`](crate::Operation::overload_if), it falls to 70 %: at once, or after the measurement
    ///   that goes on.
    /// - **Use.** It grows only while it is full, and never while most sources fail.
    ///
    /// An error that is not marked says nothing. A panic says nothing, nor does a source that is dropped early.
    /// Mark the answers of a backend that refuses work, such as the status 503: they come fast, and the limit
    /// does not take that for speed, but it falls only if it is told. Give sources a
    /// [`source_timeout`](crate::Operation::source_timeout), or one that never ends keeps its place.
    ///
    /// The latency of a source is the time from its start to its end, of the [clock](crate::Timer) of its run.
    /// A source that [retries](crate::retry()) or [hedges](crate::hedge()) is one source, pauses included. Use one
    /// limit for each backend, and for work of the same kind. For each source that uses it, the clock is read
    /// twice.
    ///
    /// [`get`](Self::get) returns the current number. [`set`](Self::set) moves it, as far as `range` allows, and it
    /// begins anew from there.
    ///
    /// # Where it is weak
    ///
    /// `cargo run --release -p simulations` in the repository compares it with fixed limits, and with the rules
    /// of two other crates, before simulated servers: queues, servers that refuse, share or thrash, changes of
    /// capacity, outages, light load. As means over ten seeds it has at least 90 % of the goodput of the best
    /// fixed limit, and at most 1.5 times its 99th percentile of latency (2 times with two clients), in 55 of 57
    /// phases. The worst goodput is 89 %, and the worst latency 1.99 times. The best rule of the other crates
    /// reaches that in 16 phases.
    ///
    /// - **Several clients** of one backend measure the queues of each other. With two of them latency is
    ///   up to twice what it could be; with more it is worse. The shares of two clients are fair only on
    ///   average: in a single run one may get a third.
    /// - **A backend that comes nearer**: if latency falls for another reason than load, the limit may
    ///   stay too high for some hundred round trips, until it halves itself again.
    /// - **A backend that does less under load** gives up to a tenth less than it could.
    /// - **One or two places** at the backend: the limit can hardly be halved there, and a queue of one is
    ///   already long.
    /// - **Short runs.** The first number comes after 24 sources, and a good one after about 50 round trips.
    ///   Keep the limit beyond a run.
    ///
    /// The idea to compare latencies with those of an empty queue comes from TCP Vegas, and from Netflix's
    /// `concurrency-limits`; to measure the latter by a dip, from Envoy's adaptive concurrency filter.
    ///
    /// # Panics
    ///
    /// If `range` is empty or begins at zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_aggregate::{Limit, each, fetch_and_aggregate};
    ///
    /// # #[derive(Debug)] enum Refused { Busy }
    /// # async fn fetch(page: u32) -> Result<u32, Refused> { Ok(page) }
    /// # futures::executor::block_on(async {
    /// // Of the backend, for all requests of this service.
    /// let limit = Limit::adaptive(1..=256);
    ///
    /// let run = fetch_and_aggregate(each(0..100, |&page| fetch(page)), Duration::MAX)
    ///     .concurrency(&limit)
    ///     .overload_if(|answer| matches!(answer, Err(Refused::Busy)))
    ///     .source_timeout(Duration::from_secs(5));
    /// assert_eq!(run.await.unwrap().results.len(), 100);
    /// assert!((1..=256).contains(&limit.get()));
    /// # });
    /// ```
    #[doc(alias = "congestion")]
    #[doc(alias = "aimd")]
    #[doc(alias = "vegas")]
    #[doc(alias = "auto")]
    #[track_caller]
    pub fn adaptive(range: RangeInclusive<usize>) -> Self {
        check(*range.start());
        assert!(
            !range.is_empty(),
            "the range of an adaptive limit is empty: {range:?}"
        );
        let adaptive = Box::new(Adaptive::new(&range));
        Self::with(adaptive.limit(), Some(adaptive))
    }

    fn with(limit: usize, adaptive: Option<Box<Adaptive>>) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                limit,
                in_use: 0,
                owed: 0,
                queue: BTreeMap::new(),
                next: 0,
                adaptive,
            })),
        }
    }

    /// Changes the limit. If there is more room now, runs that wait start sources. If there is less, no
    /// source starts until enough of those in flight are over.
    ///
    /// An [adaptive](Self::adaptive) limit moves to the nearest number of its range. It forgets what it has
    /// measured, and goes on from there.
    ///
    /// # Panics
    ///
    /// If `limit` is zero. If a waker panics; all others are woken before that.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_aggregate::Limit;
    ///
    /// let limit = Limit::new(10);
    /// limit.set(5);
    /// assert_eq!(limit.get(), 5);
    /// ```
    #[track_caller]
    pub fn set(&self, limit: usize) {
        check(limit);
        let mut state = self.lock();
        let adaptive = state.adaptive.as_mut();
        let limit = adaptive.map_or(limit, |adaptive| adaptive.restart(limit));
        set_to(state, limit);
    }

    /// The current limit.
    pub fn get(&self) -> usize {
        self.lock().limit
    }

    /// The number of places that are taken: by sources in flight, and for a moment by those that are kept for
    /// runs that wait. It may be above the limit after that was lowered, while a source is in flight that is
    /// heavier than the limit, or after a [retry](crate::Retry::release) was dropped in its pause.
    pub fn in_use(&self) -> usize {
        self.lock().in_use
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes places, if there are enough and nobody waits.
    pub(crate) fn try_take(&self, weight: usize) -> bool {
        let mut state = self.lock();
        let is_free = fits(weight, state.in_use, state.limit) && !state.has_waiting();
        if is_free {
            state.in_use += weight;
        } else if let Some(adaptive) = &mut state.adaptive {
            adaptive.note_full();
        }
        is_free
    }

    /// Gives places back, to the one that has waited longest. Returns false if none was taken.
    pub(crate) fn give_back(&self, weight: usize) -> bool {
        let mut state = self.lock();
        let was_taken = state.in_use > 0;
        state.in_use = state.in_use.saturating_sub(weight);
        grant(state);
        was_taken
    }

    /// Gives back the places of a source that has left its run. A retry in a task of its own may have given
    /// them back before, and takes them again later.
    pub(crate) fn end(&self, weight: usize) {
        let mut state = self.lock();
        state.owed += weight.saturating_sub(state.in_use);
        state.in_use = state.in_use.saturating_sub(weight);
        grant(state);
    }

    /// Whether it is the same limit.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    /// Takes a place although there may be none. It is about to be given back.
    pub(crate) fn take_anyway(&self, weight: usize) {
        let mut state = self.lock();
        let owed = state.owed.min(weight);
        state.owed -= owed;
        state.in_use = state.in_use.saturating_add(weight - owed);
    }

    /// Waits for places. `waker` is woken when they are there.
    pub(crate) fn wait(&self, weight: usize, waker: Waker) -> Ticket {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let waiter = Waiter {
            waker,
            weight,
            is_granted: false,
        };
        state.queue.insert(number, waiter);
        let ticket = Ticket {
            limit: self.clone(),
            number,
            weight,
        };
        // There may be room since `try_take`.
        grant(state);
        ticket
    }
}

#[track_caller]
fn check(limit: usize) {
    assert!(
        limit > 0,
        "a limit of 0 would never start a source; it must be at least 1"
    );
}

/// Changes the limit.
fn set_to(mut state: MutexGuard<'_, State>, limit: usize) {
    state.limit = limit;
    state.revoke();
    grant(state);
}

/// Gives the free places to those who wait, and wakes them without the lock.
fn grant(mut state: MutexGuard<'_, State>) {
    let mut wakers = Vec::new();
    let State {
        limit,
        in_use,
        queue,
        ..
    } = &mut *state;
    if *in_use < *limit {
        for waiter in queue.values_mut().filter(|it| !it.is_granted) {
            if !fits(waiter.weight, *in_use, *limit) {
                break;
            }
            waiter.is_granted = true;
            *in_use += waiter.weight;
            wakers.push(waiter.waker.clone());
        }
    }
    drop(state);
    wake_each(wakers);
}

/// A place in the queue. When it is dropped, a place that was kept for it goes to the next one.
pub(crate) struct Ticket {
    limit: Limit,
    number: u64,
    weight: usize,
}

impl Ticket {
    /// How many places it is for.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// Takes the place, if it is there. It was waited for once.
    pub(crate) fn take(&self) -> bool {
        let mut state = self.limit.lock();
        let ours = state.queue.get(&self.number);
        if !ours.is_some_and(|ours| ours.is_granted) {
            return false;
        }
        let waiter = state.queue.remove(&self.number);
        drop(state);
        drop(waiter);
        true
    }

    /// Replaces the waker.
    pub(crate) fn set_waker(&self, waker: &Waker) {
        let mut state = self.limit.lock();
        let ours = state.queue.get_mut(&self.number);
        let before = ours
            .filter(|ours| !ours.waker.will_wake(waker))
            .map(|ours| std::mem::replace(&mut ours.waker, waker.clone()));
        drop(state);
        drop(before);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.limit.lock();
        let waiter = state.queue.remove(&self.number);
        if let Some(waiter) = waiter.as_ref().filter(|waiter| waiter.is_granted) {
            state.in_use = state.in_use.saturating_sub(waiter.weight);
        }
        let mut panics = Panics::default();
        panics.catch(|| grant(state));
        panics.drop_each(waiter);
        panics.resume();
    }
}

/// A place that its source has given back for a while. When this is dropped, the source has it again.
pub(crate) struct Released {
    limit: Limit,
    /// How many places.
    weight: usize,
    is_released: bool,
    ticket: Option<Ticket>,
}

impl Released {
    /// Gives places back.
    pub(crate) fn new(limit: &Limit, weight: usize) -> Self {
        let mut released = Self {
            limit: limit.clone(),
            weight,
            is_released: true,
            ticket: None,
        };
        released.is_released = limit.give_back(weight);
        released
    }

    /// Waits for a place.
    pub(crate) fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_released {
            return Poll::Ready(());
        }
        let has_place = match &self.ticket {
            None => {
                self.limit.try_take(self.weight) || {
                    let ticket = self.limit.wait(self.weight, cx.waker().clone());
                    self.ticket.insert(ticket).take()
                }
            }
            Some(ticket) => {
                // First the waker: the place may be granted at any time.
                ticket.set_waker(cx.waker());
                ticket.take()
            }
        };
        self.is_released = !has_place;
        match self.is_released {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }
}

impl Drop for Released {
    fn drop(&mut self) {
        if self.is_released {
            // Its run is about to give it back.
            self.limit.take_anyway(self.weight);
        }
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Limit")
            .field("limit", &state.limit)
            .field("in_use", &state.in_use)
            .field("waiting", &state.queue.len())
            .finish()
    }
}

/// A limit on sources in flight: a number for one run, or a [`Limit`] that runs share.
#[derive(Debug, Clone, Copy)]
pub struct Concurrency<'a>(pub(crate) Kind<'a>);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind<'a> {
    Number(usize),
    Shared(&'a Limit),
}

impl From<usize> for Concurrency<'_> {
    fn from(limit: usize) -> Self {
        Self(Kind::Number(limit))
    }
}

impl<'a> From<&'a Limit> for Concurrency<'a> {
    fn from(limit: &'a Limit) -> Self {
        Self(Kind::Shared(limit))
    }
}

#[cfg(all(test, futures_aggregate_loom))]
mod models;
