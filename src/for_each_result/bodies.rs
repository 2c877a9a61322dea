//! The bodies: a run of its own, whose sources are the outcomes of the other one.

use std::collections::VecDeque;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::panics::{Contained, Panics};
use crate::scheduler::{
    Around, Clock, Driver, End, Flag, Options, Ready, Run, Signals, Starts, Stay,
};
use crate::sealed::Sealed;
use crate::sources::Sources;
use crate::{Outcome, Reason};

/// After a long wait, memory for so many outcomes is kept.
const FEW: usize = 64;

/// The bodies that run, and the outcomes that wait for one.
pub(super) struct Bodies<K, T, E, M, G, B> {
    run: Run<Queue<K, T, E, M>, (), G>,
    results: Results<B>,
    /// The waker of the run while sources are in flight.
    waker: Option<Waker>,
    /// Whether the queue has changed since the last poll.
    is_changed: bool,
}

impl<K, T, E, M, G, B> Bodies<K, T, E, M, G, B>
where
    M: FnMut(Outcome<K, T, E>) -> G,
{
    pub(super) fn new(body: M) -> Self {
        let queue = Queue {
            outcomes: VecDeque::new(),
            body: Contained::new(body),
            is_closed: false,
        };
        let mut options = Options::NONE;
        options.concurrency = 1;
        Self {
            run: Run::new(queue, options),
            results: Results {
                started: 0,
                errors: Vec::new(),
                is_abandoned: false,
            },
            waker: None,
            is_changed: false,
        }
    }
}

impl<K, T, E, M, G, B> Bodies<K, T, E, M, G, B> {
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.run.options_mut().concurrency = limit;
    }

    /// Queues an outcome.
    #[inline]
    pub(super) fn push(&mut self, outcome: Outcome<K, T, E>) {
        if let Some(queue) = self.run.list_mut() {
            queue.outcomes.push_back(outcome);
        }
        self.is_changed = true;
    }

    /// Expects no more outcomes. Those in the queue still get their bodies.
    pub(super) fn close(&mut self) {
        self.is_changed = true;
        if let Some(queue) = self.run.list_mut() {
            queue.is_closed = true;
        }
    }

    /// Starts no more bodies. Returns the outcomes that wait for one.
    pub(super) fn abandon(&mut self) -> VecDeque<Outcome<K, T, E>> {
        self.close();
        self.results.is_abandoned = true;
        let queue = self.run.list_mut();
        queue.map_or_else(VecDeque::new, |queue| std::mem::take(&mut queue.outcomes))
    }

    /// Whether a body has failed while outcomes may still wait for one.
    pub(super) fn is_to_be_abandoned(&self) -> bool {
        self.has_failed() && !self.results.is_abandoned
    }

    /// The number of outcomes that wait for a body.
    pub(super) fn waiting(&self) -> usize {
        self.run.list().map_or(0, |queue| queue.outcomes.len())
    }

    /// The number of bodies that run.
    pub(super) fn in_flight(&self) -> usize {
        self.run.in_flight()
    }

    /// Whether the queue has changed since the last poll.
    pub(super) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Whether a body has failed.
    pub(super) fn has_failed(&self) -> bool {
        !self.results.errors.is_empty()
    }

    /// The number of bodies that were started, and the errors of those that failed.
    pub(super) fn take_results(&mut self) -> (usize, Vec<B>) {
        (
            self.results.started,
            std::mem::take(&mut self.results.errors),
        )
    }
}

impl<K, T, E, M, G, B> Bodies<K, T, E, M, G, B>
where
    M: FnMut(Outcome<K, T, E>) -> G,
    G: Future<Output = Result<(), B>>,
{
    /// Polls the bodies if there is anything to do, in a poll of the run of the sources.
    pub(super) fn poll_beside(&mut self, ready: &mut Ready, clock: &dyn Clock) {
        if !ready.take_flag(Flag::Bodies) && !self.is_changed {
            return;
        }
        let waker = self
            .waker
            .get_or_insert_with(|| ready.flag_waker(Flag::Bodies))
            .clone();
        let pending = self.poll(&mut Context::from_waker(&waker), clock);
        debug_assert!(pending.is_pending(), "the queue is not closed");
    }

    /// Polls the bodies. Ready when the queue is closed and the last body has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, clock: &dyn Clock) -> Poll<()> {
        if self.run.is_terminated() {
            return Poll::Ready(());
        }
        self.is_changed = false;
        let no_signals = pin!(Signals::none());
        let results = &mut self.results;
        let end = self
            .run
            .poll(cx, clock, Starts::Allowed, no_signals, results);
        end.map(|_| ())
    }
}

/// Outcomes that wait for a body.
struct Queue<K, T, E, M> {
    outcomes: VecDeque<Outcome<K, T, E>>,
    body: Contained<M>,
    /// Whether no more outcomes come.
    is_closed: bool,
}

impl<K, T, E, M> Drop for Queue<K, T, E, M> {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        panics.drop_pairs(std::mem::take(&mut self.outcomes));
        panics.resume();
    }
}

impl<K, T, E, M> Sealed for Queue<K, T, E, M> {}

impl<K, T, E, M, G> Sources for Queue<K, T, E, M>
where
    M: FnMut(Outcome<K, T, E>) -> G,
{
    type Id = ();
    type Seed = Outcome<K, T, E>;
    type Future = G;

    const MAY_WAIT: bool = true;
    // `MAKING_MAY_PANIC` remains false, which makes a start cheaper. It would make no difference: a panic of
    // the closure unwinds to the caller anyway, and drops the outcome.

    // It keeps no waker: `push` and `close` make sure that the run is polled.
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<((), Self::Seed)>> {
        let next = self.outcomes.pop_front();
        if self.outcomes.is_empty() {
            self.outcomes.shrink_to(FEW);
        }
        match next {
            Some(outcome) => Poll::Ready(Some(((), outcome))),
            None if self.is_closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn make(&mut self, (): &(), outcome: Self::Seed) -> G {
        self.body.get_mut()(outcome)
    }

    fn sources_left(&self) -> (usize, Option<usize>) {
        let waiting = self.outcomes.len();
        (waiting, self.is_closed.then_some(waiting))
    }
}

/// What the bodies have come to.
struct Results<B> {
    /// The number of bodies that were started.
    started: usize,
    /// The errors of those that failed, in the order of completion.
    errors: Vec<B>,
    /// Whether no more bodies start, and the queue is empty.
    is_abandoned: bool,
}

impl<B> Drop for Results<B> {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        panics.drop_each(std::mem::take(&mut self.errors));
        panics.resume();
    }
}

impl<G, B> Driver<(), G> for Results<B>
where
    G: Future<Output = Result<(), B>>,
{
    type Answer = Result<(), B>;

    const TIMES_SOURCES: bool = false;

    fn started(&mut self, (): &()) {
        self.started += 1;
    }

    fn poll_source(
        &mut self,
        body: Pin<&mut G>,
        cx: &mut Context<'_>,
        _: Around<'_>,
    ) -> Poll<Self::Answer> {
        body.poll(cx)
    }

    fn finished(
        &mut self,
        (): (),
        answer: Self::Answer,
        _: Stay,
        _: &mut Panics,
    ) -> ControlFlow<End> {
        self.errors.extend(answer.err());
        ControlFlow::Continue(())
    }

    fn timed_out(&mut self, (): (), _: Stay, _: &mut Panics) -> ControlFlow<End> {
        unreachable!("a body has no timeout")
    }

    // It has unwound to the caller.
    fn panicked(&mut self, (): (), _: String, _: Stay, _: &mut Panics) {}

    fn unfinished(&mut self, (): (), _: Reason, _: Duration, _: &mut Panics) {}

    fn not_started(&mut self, (): (), _: Reason, _: &mut Panics) {}

    fn leave_unseen(&mut self) {}

    // After a failure no body starts. The queue remains, until it is closed.
    fn may_start(&self) -> bool {
        self.errors.is_empty() || self.is_abandoned
    }
}
