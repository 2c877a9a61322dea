//! The operations, in the form in which the model is compared with them.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_channel::Receiver;
use futures::Stream;

use super::End;
use super::limits::key;
use super::schedule::{Kind, Setup, Ticks, own_timeout};
use super::source::Source;
use crate::consumer::{Consumer, OutcomeTypes, Single};
use crate::sources::{IntoSources, Sources};
use crate::{
    Aggregate, Interrupted, Limit, Operation, Outcome, Rate, TestTimer, Timer, each,
    fetch_and_aggregate, for_each_result, from_stream, process_batch, stream_results,
};

/// The length of a tick on the clock of the run.
pub(super) const TICK: Duration = Duration::from_micros(100);

/// Outcomes and unfinished sources.
pub(super) type Report = Aggregate<usize, u32, &'static str>;

/// The channel that outcomes are sent into.
pub(super) type Outcomes = Receiver<Outcome<usize, u32, &'static str>>;

/// A real run. It resolves to how it ended, and to what it did not send into the channel.
pub(super) type Run = Pin<Box<dyn Future<Output = (End, Report)> + Send>>;

/// Sources, and where they come from.
pub(super) struct Incoming {
    pub(super) sources: Vec<(usize, Source)>,
    pub(super) arrivals: Arrivals,
}

/// The signals of a run, and its timer.
pub(super) struct Outside {
    pub(super) cancel: Source,
    pub(super) expire: Source,
    pub(super) drain: Source,
    pub(super) timer: TestTimer,
    pub(super) shared: Shared,
}

/// A limit and a rate that the run shares with others.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) limit: Limit,
    pub(super) rate: Rate,
}

impl Shared {
    /// Those of the setup. They are not used if it has none.
    pub(super) fn new(setup: &Setup) -> Self {
        let (interval, burst) = setup.limits.rate.unwrap_or((1, 1));
        Self {
            limit: Limit::new(setup.limits.places.unwrap_or(usize::MAX)),
            rate: Rate::per_second(1.0 / (TICK * interval).as_secs_f64()).burst(burst),
        }
    }
}

/// Makes an operation on sources.
pub(super) type Start = fn(&Setup, Incoming, Outside) -> (Run, Outcomes);

/// Decides which items of a stream have arrived.
#[derive(Clone, Default)]
pub(super) struct Arrivals(Arc<Mutex<Arrived>>);

#[derive(Default)]
struct Arrived {
    /// How many items have arrived, with the end as the last one.
    items: usize,
    /// The waker of the stream, if it is pending.
    waker: Option<Waker>,
}

impl Arrivals {
    /// Lets some items arrive.
    pub(super) fn arrive(&self, items: usize) {
        let waker = {
            let mut arrived = self.0.lock().unwrap();
            arrived.items += items;
            arrived.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

/// A stream of the items that have arrived.
struct Arriving {
    items: std::vec::IntoIter<(usize, Source)>,
    yielded: usize,
    arrivals: Arrivals,
}

impl Stream for Arriving {
    type Item = (usize, Source);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut arrived = self.arrivals.0.lock().unwrap();
        if arrived.items <= self.yielded {
            arrived.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(arrived);
        self.yielded += 1;
        Poll::Ready(self.items.next())
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.arrivals.0.lock().unwrap().waker = None;
    }
}

impl Incoming {
    fn stream(
        self,
    ) -> impl IntoSources<Id = usize, Future = Source, Sources: Sources<Seed: Send> + Send + 'static>
    + Send {
        from_stream(Arriving {
            items: self.sources.into_iter(),
            yielded: 0,
            arrivals: self.arrivals,
        })
    }

    fn each(
        self,
    ) -> impl IntoSources<Id = usize, Future = Source, Sources: Sources<Seed: Send> + Send + 'static>
    + Send {
        let mut sources: Vec<_> = self.sources.into_iter().map(|(_, it)| Some(it)).collect();
        each(0..sources.len(), move |&id| {
            sources[id].take().expect("each source is made once")
        })
    }
}

fn time(ticks: Option<Ticks>) -> Duration {
    ticks.map_or(Duration::MAX, |ticks| TICK * ticks)
}

/// The timeout of each source, from its id.
fn own_timeouts(setup: &Setup) -> impl FnMut(&usize) -> Duration + use<> {
    let has_own_timeouts = setup.has_own_timeouts;
    move |&id| time(own_timeout(id).filter(|_| has_own_timeouts))
}

/// Adds what all operations have in common.
fn set_up<L, F, C>(
    run: Operation<L, F, C>,
    setup: &Setup,
    outside: Outside,
) -> impl Future<Output = C::Output> + use<L, F, C>
where
    L: Sources<Id = C::Key, Future = C::Slot<F>>,
    C: Consumer<F> + OutcomeTypes<Id = usize>,
{
    let run = run
        .source_timeout(time(setup.source_timeout))
        .cancel_on(outside.cancel)
        .expire_on(outside.expire)
        .drain_on(outside.drain)
        .drain_timeout(time(setup.drain_timeout))
        .source_timeout_by(own_timeouts(setup));
    let run = match setup.deadline {
        Some(deadline) => run.deadline(outside.timer.now() + TICK * deadline),
        None => run,
    };
    let run = run.timer(outside.timer);
    let run = match setup.limits.rate {
        Some(_) => run.rate(&outside.shared.rate),
        None => run,
    };
    match setup.in_order {
        true => run.in_order(),
        false => run,
    }
}

/// Adds the limits that batches do not have, and what all operations have in common.
fn set_up_with_limits<L, C>(
    run: Operation<L, Source, C>,
    setup: &Setup,
    outside: Outside,
) -> Pin<Box<dyn Future<Output = C::Output> + Send>>
where
    L: Sources<Id = usize, Future = Source, Seed: Send> + Send + 'static,
    C: Consumer<Source>
        + OutcomeTypes<Id = usize, Key = usize, Slot<Source> = Source>
        + Single
        + Send
        + 'static,
{
    let limits = setup.limits.clone();
    let run = match limits.places {
        Some(_) => run.concurrency(&outside.shared.limit),
        None => run,
    };
    if !limits.parks() {
        return Box::pin(set_up(run, setup, outside));
    }
    let run = run
        .concurrency_per(key, limits.per_key.unwrap_or(usize::MAX))
        .look_ahead(limits.look_ahead)
        .weight(move |&id| limits.weight_of(id));
    Box::pin(set_up(run, setup, outside))
}

/// What a run did not pass on.
fn not_passed_on(
    undelivered: Vec<Outcome<usize, u32, &'static str>>,
    unfinished: Vec<usize>,
    unseen: bool,
) -> Report {
    let mut report = Report {
        unfinished,
        unseen,
        ..Report::default()
    };
    undelivered
        .into_iter()
        .for_each(|outcome| report.record(outcome));
    report
}

fn end_of<T>(result: Result<T, Interrupted<T>>) -> (End, T) {
    match result {
        Ok(whole) => (Ok(()), whole),
        Err(interrupted) => (Err(interrupted.reason), interrupted.partial),
    }
}

pub(super) fn fetch(setup: &Setup, incoming: Incoming, outside: Outside) -> (Run, Outcomes) {
    match setup.kind {
        Kind::Iterator => fetch_from(setup, incoming.sources, outside),
        Kind::Each => fetch_from(setup, incoming.each(), outside),
        Kind::Stream => fetch_from(setup, incoming.stream(), outside),
    }
}

fn fetch_from<L>(setup: &Setup, sources: L, outside: Outside) -> (Run, Outcomes)
where
    L: IntoSources<Id = usize, Future = Source, Sources: Sources<Seed: Send> + Send + 'static>
        + Send
        + 'static,
{
    let run = fetch_and_aggregate(sources, time(setup.timeout)).concurrency(setup.limit);
    let run = set_up_with_limits(run, setup, outside);
    deliver(async { end_of(run.await) })
}

/// `process_batch` with one batch.
pub(super) fn process(setup: &Setup, incoming: Incoming, outside: Outside) -> (Run, Outcomes) {
    match setup.kind {
        Kind::Iterator => process_from(setup, incoming.sources, outside),
        Kind::Each => process_from(setup, incoming.each(), outside),
        Kind::Stream => process_from(setup, incoming.stream(), outside),
    }
}

fn process_from<L>(setup: &Setup, sources: L, outside: Outside) -> (Run, Outcomes)
where
    L: IntoSources<Id = usize, Future = Source, Sources: Sources<Seed: Send> + Send + 'static>
        + Send
        + 'static,
{
    let run = process_batch([sources])
        .batch_timeout(time(setup.timeout))
        .source_concurrency(setup.limit);
    let run = match setup.limits.places {
        Some(_) => run.source_concurrency(&outside.shared.limit),
        None => run,
    };
    let run = set_up(run, setup, outside);
    deliver(async {
        let (_, mut batches) = end_of(run.await);
        end_of(batches.remove(0))
    })
}

/// Sends all outcomes into a channel when the run has ended.
fn deliver(run: impl Future<Output = (End, Report)> + Send + 'static) -> (Run, Outcomes) {
    let (sender, receiver) = async_channel::unbounded();
    let run = async move {
        let (end, report) = run.await;
        let results = report.results.into_iter();
        let errors = report.errors.into_iter();
        let outcomes = results.map(|(id, value)| (id, Ok(value)));
        for outcome in outcomes.chain(errors.map(|(id, error)| (id, Err(error)))) {
            sender
                .try_send(outcome)
                .expect("an unbounded channel has room");
        }
        let unfinished = Report {
            unfinished: report.unfinished,
            unseen: report.unseen,
            ..Report::default()
        };
        (end, unfinished)
    };
    (Box::pin(run), receiver)
}

pub(super) fn stream(setup: &Setup, incoming: Incoming, outside: Outside) -> (Run, Outcomes) {
    match setup.kind {
        Kind::Iterator => stream_from(setup, incoming.sources, outside),
        Kind::Each => stream_from(setup, incoming.each(), outside),
        Kind::Stream => stream_from(setup, incoming.stream(), outside),
    }
}

fn stream_from<L>(setup: &Setup, sources: L, outside: Outside) -> (Run, Outcomes)
where
    L: IntoSources<Id = usize, Future = Source, Sources: Sources<Seed: Send> + Send + 'static>
        + Send
        + 'static,
{
    let (sender, receiver) = match setup.capacity {
        usize::MAX => async_channel::unbounded(),
        capacity => async_channel::bounded(capacity),
    };
    let run = stream_results(sources, sender)
        .timeout(time(setup.timeout))
        .concurrency(setup.limit);
    let run = set_up_with_limits(run, setup, outside);
    let undelivered = async {
        let (end, it) = end_of(run.await);
        let report = not_passed_on(it.undelivered, it.unfinished, it.unseen);
        (end, report)
    };
    (Box::pin(undelivered), receiver)
}

pub(super) fn hand_over(setup: &Setup, incoming: Incoming, outside: Outside) -> (Run, Outcomes) {
    match setup.kind {
        Kind::Iterator => hand_over_from(setup, incoming.sources, outside),
        Kind::Each => hand_over_from(setup, incoming.each(), outside),
        Kind::Stream => hand_over_from(setup, incoming.stream(), outside),
    }
}

/// Each body sends its outcome into a channel.
fn hand_over_from<L>(setup: &Setup, sources: L, outside: Outside) -> (Run, Outcomes)
where
    L: IntoSources<Id = usize, Future = Source, Sources: Sources<Seed: Send> + Send + 'static>
        + Send
        + 'static,
{
    let (sender, receiver) = async_channel::unbounded();
    let body = move |outcome| {
        sender
            .try_send(outcome)
            .expect("an unbounded channel has room");
        std::future::ready(Ok::<_, ()>(()))
    };
    let run = for_each_result(sources, body)
        .timeout(time(setup.timeout))
        .concurrency(setup.limit);
    let run = set_up_with_limits(run, setup, outside);
    let undelivered = async {
        let (end, it) = end_of(run.await);
        let report = not_passed_on(it.undelivered, it.unfinished, it.unseen);
        (end, report)
    };
    (Box::pin(undelivered), receiver)
}
