//! The one scheduling loop under all operations: sources in, outcomes out.
//!
//! A [`Run`] drives the sources and knows when to stop. What an outcome is worth and where it goes
//! is the business of an [`Operation`]. The order within a poll:
//!
//! 1. Was the run cancelled, or has everybody left who wanted its outcomes?
//! 2. The sources that were woken, each once.
//! 3. New sources, as many as the concurrency limit admits, each polled as it starts.
//! 4. Has every source answered?
//! 5. The deadlines, by one look at the clock.

mod budget;
mod deadlines;
mod panics;
mod ready;
mod signals;
mod slots;
mod task;

use std::future::Future;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

pub(crate) use budget::Budget;
use deadlines::Deadlines;
pub(crate) use panics::Panics;
pub(crate) use ready::{Flag, Ready};
pub(crate) use signals::Watch;
pub use signals::{First, Never, Signals};
use slots::Slots;

use crate::Reason;

/// How a run ends: every source has answered, or it was interrupted.
pub(crate) type End = Result<(), Reason>;

/// What is done with the sources of a run and with their outcomes.
pub(crate) trait Operation<K, F> {
    /// What a source resolves to.
    type Output;
    /// What is left of a source that is stopped.
    type Rest;

    /// Polls a source. One that polls sources of its own takes them out of `budget`.
    fn poll_source(
        &mut self,
        source: Pin<&mut F>,
        cx: &mut Context<'_>,
        budget: &mut Budget,
    ) -> Poll<Self::Output>;

    /// Takes what is left of a source that is about to be dropped.
    fn stop(&mut self, source: Pin<&mut F>, reason: Reason, panics: &mut Panics) -> Self::Rest;

    /// A source has answered, and is gone.
    fn finished(&mut self, id: K, output: Self::Output) -> ControlFlow<End>;

    /// A source has run into its own timeout, and is gone.
    fn timed_out(&mut self, id: K, rest: Self::Rest) -> ControlFlow<End>;

    /// A source has panicked, and is gone.
    fn panicked(&mut self, id: K, message: String);

    /// The run has ended before the source answered, and the source is gone.
    fn unfinished(&mut self, id: K, rest: Self::Rest);

    /// Whether a source can be polled again after a panic, because it dropped what panicked.
    const SOURCES_SURVIVE_PANICS: bool = false;

    /// Whether there is no more use for outcomes.
    fn poll_stop(&mut self, _ready: &Ready) -> Option<Reason> {
        None
    }

    /// Passes on outcomes that have waited.
    fn flush(&mut self, _ready: &Ready) -> ControlFlow<End> {
        ControlFlow::Continue(())
    }

    /// How many outcomes wait to be passed on. They count as sources in flight.
    fn waiting(&self) -> usize {
        0
    }
}

/// Sources, and all that is needed to drive them to their end.
pub(crate) struct Run<I, K, F> {
    /// Dropped first, so that what the sources wake when they are dropped wakes nobody.
    ready: Ready,
    slots: Slots<K, F>,
    /// The sources not yet started. Gone once exhausted.
    sources: Option<I>,
    concurrency: usize,
    deadlines: Deadlines,
    stage: Stage,
    /// The slot whose source is being polled. It is still set after the source has panicked.
    polling: Option<usize>,
}

/// How far a run has come.
#[derive(Clone, Copy)]
enum Stage {
    /// Never polled.
    New,
    Running,
    /// The deadline has passed. Sources that were woken before are polled once more.
    Closing,
    /// Ended, but for telling it.
    Ended(End),
    /// The end was told.
    Done,
}

impl<I, K, F> Run<I, K, F> {
    pub(crate) fn new(sources: I, timeout: Duration) -> Self {
        Self {
            ready: Ready::new(),
            slots: Slots::new(),
            sources: Some(sources),
            concurrency: usize::MAX,
            deadlines: Deadlines::new(timeout),
            stage: Stage::New,
            polling: None,
        }
    }

    /// # Panics
    ///
    /// If `limit` is zero.
    #[track_caller]
    pub(crate) fn set_concurrency(&mut self, limit: usize) {
        check_concurrency(limit);
        self.concurrency = limit;
    }

    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.deadlines.set_timeout(timeout);
    }

    pub(crate) fn set_source_timeout(&mut self, source_timeout: Duration) {
        self.deadlines.set_source_timeout(source_timeout);
    }

    /// The sources not yet started.
    pub(crate) fn sources_mut(&mut self) -> Option<&mut I> {
        self.sources.as_mut()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_terminated(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }
}

/// Refuses a concurrency limit of zero.
#[track_caller]
pub(crate) fn check_concurrency(limit: usize) {
    assert!(
        limit > 0,
        "a concurrency limit of 0 would never start a source; it must be at least 1"
    );
}

impl<I, K, F> Run<I, K, F>
where
    I: Iterator<Item = (K, F)>,
{
    /// Polls the sources, and tells how the run ends when it does.
    pub(crate) fn poll<C: Future, X: Future>(
        &mut self,
        cx: &mut Context<'_>,
        mut signals: Pin<&mut Signals<C, X>>,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F>,
    ) -> Poll<End> {
        match self.stage {
            Stage::Ended(end) => {
                self.stage = Stage::Done;
                return Poll::Ready(end);
            }
            Stage::Done => panic!("polled after completion, which `is_terminated()` tells"),
            Stage::New | Stage::Running | Stage::Closing => {}
        }
        self.ready.begin_poll(cx.waker());
        // One for the whole poll, because one around each source could be measured.
        let step = catch_unwind(AssertUnwindSafe(|| {
            self.step(signals.as_mut(), budget, operation)
        }));
        match step {
            Ok(ControlFlow::Continue(again)) => {
                self.ready.end_poll(cx.waker(), again);
                Poll::Pending
            }
            Ok(ControlFlow::Break(end)) => {
                let mut panics = Panics::default();
                panics.catch(|| signals.clear());
                self.end(end, operation, &mut panics);
                panics.resume();
                self.stage = Stage::Done;
                Poll::Ready(end)
            }
            Err(payload) => {
                self.recover(operation, panics::message(&*payload));
                self.ready.end_poll(cx.waker(), true);
                resume_unwind(payload)
            }
        }
    }

    /// One poll: to the end of the run, or to where it has to wait. `true` is for work left behind
    /// that must not wait for a wake.
    fn step<C: Future, X: Future>(
        &mut self,
        mut signals: Pin<&mut Signals<C, X>>,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F>,
    ) -> ControlFlow<End, bool> {
        if let Stage::New = self.stage {
            self.stage = Stage::Running;
            self.deadlines.start();
        }
        if let Stage::Closing = self.stage {
            return self.close(budget, operation);
        }

        if signals.as_mut().is_cancelled(&self.ready) {
            return ControlFlow::Break(Err(Reason::Cancelled));
        }
        if let Some(reason) = operation.poll_stop(&self.ready) {
            return ControlFlow::Break(Err(reason));
        }

        operation.flush(&self.ready)?;
        self.sweep(budget, operation)?;
        self.admit(budget, operation)?;
        operation.flush(&self.ready)?;
        if self.is_complete(operation) {
            return ControlFlow::Break(Ok(()));
        }

        self.deadlines.note_timer(&self.ready);
        let now = self.deadlines.now();
        if let Some(now) = now {
            self.expire_sources(now, budget, operation)?;
            operation.flush(&self.ready)?;
            if self.is_complete(operation) {
                return ControlFlow::Break(Ok(()));
            }
        }
        if now.is_some_and(|now| self.deadlines.is_over(now)) || signals.is_expired(&self.ready) {
            if self.deadlines.is_zero() {
                return ControlFlow::Break(Err(Reason::TimedOut));
            }
            self.stage = Stage::Closing;
            self.ready.start_sweep();
            return self.close(budget, operation);
        }

        let again = self.can_admit(operation) || !self.ready.is_swept() || self.ready.is_woken();
        match now {
            Some(now) if !again => {
                let next_source = self.slots.next_deadline();
                ControlFlow::Continue(self.deadlines.arm(now, next_source, &self.ready))
            }
            _ => ControlFlow::Continue(again),
        }
    }

    /// Polls the sources that were woken, each once. It goes on where the budget cut it off.
    fn sweep(
        &mut self,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F>,
    ) -> ControlFlow<End> {
        self.ready.start_sweep();
        // Sources that wake themselves for ever must not keep others from being started.
        let reserve = if self.can_admit(operation) {
            budget.left() / 4
        } else {
            0
        };
        self.sweep_until(reserve, budget, operation)
    }

    fn sweep_until(
        &mut self,
        reserve: u32,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F>,
    ) -> ControlFlow<End> {
        while budget.left() > reserve {
            let Some(index) = self.ready.next() else {
                break;
            };
            self.poll_slot(index, budget, operation)?;
        }
        ControlFlow::Continue(())
    }

    /// Starts new sources and polls each at once, so that one that is ready gives its slot
    /// straight back.
    fn admit(
        &mut self,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F>,
    ) -> ControlFlow<End> {
        while !budget.is_spent() && self.can_admit(operation) {
            match self.sources.as_mut().and_then(Iterator::next) {
                Some((id, source)) => {
                    let ready = &mut self.ready;
                    let index = self.slots.insert(id, source, |index| ready.waker(index));
                    self.poll_slot(index, budget, operation)?;
                }
                None => {
                    let exhausted = self.sources.take();
                    drop(exhausted);
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether there may be sources left to start, and room for one.
    fn can_admit(&self, operation: &impl Operation<K, F>) -> bool {
        let limit = self.concurrency.min(Slots::<K, F>::MAX);
        self.sources.is_some() && self.slots.len() + self.waiting(operation) < limit
    }

    /// The outcomes that count as sources in flight: all that wait, where there is a limit.
    fn waiting(&self, operation: &impl Operation<K, F>) -> usize {
        match self.concurrency {
            usize::MAX => 0,
            _ => operation.waiting(),
        }
    }

    fn poll_slot(
        &mut self,
        index: usize,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F>,
    ) -> ControlFlow<End> {
        if !self.slots.is_occupied(index) {
            return ControlFlow::Continue(());
        }
        self.polling = Some(index);
        let poll = self.slots.poll(index, |source, cx| {
            let left = budget.left();
            let poll = operation.poll_source(source, cx, budget);
            if budget.left() == left {
                budget.spend();
            }
            poll
        });
        self.polling = None;
        let Poll::Ready(output) = poll else {
            return ControlFlow::Continue(());
        };
        let mut panics = Panics::default();
        let removed = self.slots.remove(index, &mut panics, |_, _| ());
        let flow = match removed {
            Some((id, ())) => operation.finished(id, output),
            None => ControlFlow::Continue(()),
        };
        panics.resume();
        flow
    }

    /// Every source has answered, and every outcome was passed on.
    fn is_complete(&self, operation: &impl Operation<K, F>) -> bool {
        self.sources.is_none() && self.slots.is_empty() && operation.waiting() == 0
    }

    /// Stops the sources that are late. One that was woken in time is polled once more before.
    fn expire_sources(
        &mut self,
        now: Instant,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F>,
    ) -> ControlFlow<End> {
        if let Some(deadline) = self.deadlines.of_source(now) {
            self.slots.stamp(deadline);
        }
        let due = self.deadlines.due(now);
        while let (Some(index), Some(deadline)) = (self.slots.oldest(), self.slots.next_deadline())
        {
            if deadline > due {
                break;
            }
            if !self.deadlines.is_source_zero() {
                if budget.is_spent() {
                    break;
                }
                if self.ready.take(index) {
                    self.poll_slot(index, budget, operation)?;
                    if self.slots.oldest() != Some(index) {
                        continue;
                    }
                }
            }
            let mut panics = Panics::default();
            let removed = self.slots.remove(index, &mut panics, |source, panics| {
                operation.stop(source, Reason::TimedOut, panics)
            });
            let flow = match removed {
                Some((id, rest)) => operation.timed_out(id, rest),
                None => ControlFlow::Continue(()),
            };
            panics.resume();
            flow?;
        }
        ControlFlow::Continue(())
    }

    /// After the deadline: polls once more what was woken before, then draws the line.
    fn close(
        &mut self,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F>,
    ) -> ControlFlow<End, bool> {
        let flow = match self.sweep_until(0, budget, operation) {
            ControlFlow::Continue(()) => operation.flush(&self.ready),
            stop => stop,
        };
        match flow {
            ControlFlow::Break(Ok(())) => ControlFlow::Break(Ok(())),
            ControlFlow::Continue(()) if self.is_complete(operation) => ControlFlow::Break(Ok(())),
            ControlFlow::Continue(()) if !self.ready.is_swept() => ControlFlow::Continue(true),
            // What else would interrupt the run has come after the deadline.
            _ => ControlFlow::Break(Err(Reason::TimedOut)),
        }
    }

    /// Ends the run at once: drops every source in flight, oldest first, and names those never
    /// started, where the iterator knows how many there can be.
    pub(crate) fn end(
        &mut self,
        end: End,
        operation: &mut impl Operation<K, F>,
        panics: &mut Panics,
    ) {
        self.stage = Stage::Ended(end);
        self.deadlines.disarm();
        panics.catch(|| self.ready.close());
        let reason = end.err().unwrap_or(Reason::Cancelled);
        while let Some(index) = self.slots.oldest() {
            let removed = self.slots.remove(index, panics, |source, panics| {
                operation.stop(source, reason, panics)
            });
            if let Some((id, rest)) = removed {
                panics.catch(|| operation.unfinished(id, rest));
            }
        }
        if let Some(mut sources) = self.sources.take() {
            let most = most_left::<K>(&sources);
            for _ in 0..most {
                let Some(Some((id, source))) = panics.catch(|| sources.next()) else {
                    break;
                };
                let mut source = pin!(Some(source));
                if let Some(source) = source.as_mut().as_pin_mut() {
                    let rest = operation.stop(source, reason, panics);
                    panics.catch(|| operation.unfinished(id, rest));
                }
                panics.catch(|| source.set(None));
            }
            panics.catch(|| drop(sources));
        }
    }

    /// After a panic: drops the source that panicked, if it was one, and accounts for it.
    fn recover(&mut self, operation: &mut impl Operation<K, F>, message: String) {
        let Some(index) = self.polling.take() else {
            return;
        };
        // Of two panics the first is told.
        let mut second = Panics::default();
        if Self::survives(operation) {
            self.slots.wake(index);
        } else if let Some((id, ())) = self.slots.remove(index, &mut second, |_, _| ()) {
            second.catch(|| operation.panicked(id, message));
        }
    }

    fn survives<O: Operation<K, F>>(_: &O) -> bool {
        O::SOURCES_SURVIVE_PANICS
    }
}

/// How many sources an iterator may still have, or none if it does not know. More than memory can
/// hold is not known either: such lists were never meant to come to their end.
fn most_left<K>(sources: &impl Iterator) -> usize {
    let most_named = isize::MAX as usize / size_of::<K>().max(1);
    match sources.size_hint().1 {
        Some(most) if most <= most_named => most,
        _ => 0,
    }
}
