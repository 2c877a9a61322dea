//! The future of every operation: how it is set up, polled and dropped.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::FusedFuture;
use pin_project_lite::pin_project;

use crate::Event;
use crate::consumer::{Aggregating, Consumer, OutcomeTypes, Single};
use crate::hooks::{Hooks, NoHooks, WithObserver, WithOverload, WithSourceTimeout};
use crate::limit::Concurrency;
use crate::panics::Panics;
use crate::parking::{ByClosure, ByKey, ByWeight, ForEachKey, Parking, PlaceRule};
use crate::rate::Rate;
use crate::scheduler::{Alarm, AnySignals, First, Options, Run, Signals, WithAlarm, limit};
use crate::sources::Sources;
use crate::timer::{Instant, SystemTimer, Timer};

pin_project! {
    /// A run of many sources: the future that [`fetch_and_aggregate`], [`process_batch`],
    /// [`stream_results`] and [`for_each_result`] return.
    ///
    /// Nothing happens before the first poll. Every method is to be called before it.
    ///
    /// | parameter | what it is |
    /// |---|---|
    /// | `L` | the [`Sources`](crate::types::Sources) |
    /// | `F` | the future of a source |
    /// | `C` | the [`Consumer`](crate::types::Consumer), which tells the operations apart |
    /// | `S` | the [`Signals`](crate::types::Signals) of the caller |
    /// | `H` | the [`Hooks`](crate::types::Hooks) of the caller |
    /// | `Z` | the [`Timer`] |
    ///
    /// [`FetchAndAggregate`], [`ProcessBatch`], [`StreamResults`] and [`ForEachResult`] are this type with
    /// a consumer.
    ///
    /// An operation is [`Unpin`] if its signals and the sleep of its timer are, whatever its sources are:
    /// those are boxed when they start. The sleep of [`SystemTimer`] is, that of tokio is not. The driver
    /// of [`stream_results`] is never `Unpin`.
    ///
    /// # Cancel safety
    ///
    /// Dropping an operation drops every source in it at once. The outcomes so far are dropped too. To
    /// keep them, end the run by [`cancel_on`](Self::cancel_on).
    ///
    /// [`fetch_and_aggregate`]: crate::fetch_and_aggregate()
    /// [`process_batch`]: crate::process_batch()
    /// [`stream_results`]: crate::stream_results()
    /// [`for_each_result`]: crate::for_each_result()
    /// [`FetchAndAggregate`]: crate::FetchAndAggregate
    /// [`ProcessBatch`]: crate::ProcessBatch
    /// [`StreamResults`]: crate::StreamResults
    /// [`ForEachResult`]: crate::ForEachResult
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct Operation<L, F, C, S = Signals, H = NoHooks, Z = SystemTimer>
    where
        C: OutcomeTypes,
        H: Hooks<C::Id, C::Value, C::Error>,
        Z: Timer,
    {
        in_flight: Attended<L, F, C, H, Z>,
        #[pin]
        consumer: C,
        #[pin]
        signals: S,
        #[pin]
        alarm: Alarm<Z::Sleep>,
    }
}

/// A run with the hooks that are told of its sources, also when it is dropped.
struct Attended<L, F, C, H, Z>
where
    Z: Timer,
    C: OutcomeTypes,
    H: Hooks<C::Id, C::Value, C::Error>,
{
    /// Gone only when they were moved to another operation, before the first poll.
    parts: Option<RunParts<L, F, C, H, Z>>,
}

struct Parts<R, H, Z> {
    run: R,
    hooks: H,
    timer: Z,
}

type RunParts<L, F, C, H, Z> =
    Parts<Run<L, <C as OutcomeTypes>::Key, <C as OutcomeTypes>::Slot<F>>, H, Z>;

const MOVED: &str = "a run that was not moved";

impl<L, F, C, H, Z> Attended<L, F, C, H, Z>
where
    Z: Timer,
    C: OutcomeTypes,
    H: Hooks<C::Id, C::Value, C::Error>,
{
    fn run(&self) -> &Run<L, C::Key, C::Slot<F>> {
        &self.parts.as_ref().expect(MOVED).run
    }

    #[inline(always)]
    fn parts(&mut self) -> &mut RunParts<L, F, C, H, Z> {
        self.parts.as_mut().expect(MOVED)
    }
}

impl<L, F, C, H, Z> Drop for Attended<L, F, C, H, Z>
where
    Z: Timer,
    C: OutcomeTypes,
    H: Hooks<C::Id, C::Value, C::Error>,
{
    fn drop(&mut self) {
        let mut panics = Panics::default();
        let parts = self.parts.as_mut();
        if let Some(parts) = parts.filter(|parts| parts.run.in_flight() > 0) {
            panics.catch(|| parts.run.close());
            C::abandon(&mut parts.run, &parts.timer, &mut parts.hooks, &mut panics);
        }
        panics.resume();
    }
}

impl<L, F, C> Operation<L, F, C>
where
    L: Sources<Id = C::Key>,
    C: OutcomeTypes,
{
    #[inline(always)]
    pub(crate) fn new(sources: L, options: Options, consumer: C) -> Self {
        Self {
            in_flight: Attended {
                parts: Some(Parts {
                    run: Run::new(sources, options),
                    hooks: NoHooks,
                    timer: SystemTimer,
                }),
            },
            consumer,
            signals: Signals::none(),
            alarm: Alarm::new(),
        }
    }
}

impl<L, F, C, S, H, Z> Operation<L, F, C, S, H, Z>
where
    Z: Timer,
    C: OutcomeTypes,
    H: Hooks<C::Id, C::Value, C::Error>,
{
    /// The settings of the run.
    #[track_caller]
    pub(crate) fn options(&mut self) -> &mut Options {
        self.in_flight.parts().run.options_mut()
    }

    /// The settings of the sources, which are those of the run unless its sources are batches.
    #[track_caller]
    fn source_options(&mut self) -> &mut Options {
        let of_run = self.in_flight.parts().run.options_mut();
        self.consumer.source_options(of_run)
    }

    /// The consumer, to be set up.
    #[track_caller]
    pub(crate) fn consumer_mut(&mut self) -> &mut C {
        self.options();
        &mut self.consumer
    }

    /// The same operation with other hooks, made of these.
    #[track_caller]
    pub(crate) fn map_hooks<N>(self, map: impl FnOnce(H) -> N) -> Operation<L, F, C, S, N, Z>
    where
        N: Hooks<C::Id, C::Value, C::Error>,
    {
        self.map_parts(|parts| Parts {
            run: parts.run,
            hooks: map(parts.hooks),
            timer: parts.timer,
        })
    }

    /// The same operation with another run and other hooks, made of these.
    #[track_caller]
    fn map_parts<M, N>(
        mut self,
        map: impl FnOnce(RunParts<L, F, C, H, Z>) -> RunParts<M, F, C, N, Z>,
    ) -> Operation<M, F, C, S, N, Z>
    where
        N: Hooks<C::Id, C::Value, C::Error>,
    {
        self.options();
        let parts = self.in_flight.parts.take().map(map);
        Operation {
            in_flight: Attended { parts },
            consumer: self.consumer,
            signals: self.signals,
            alarm: self.alarm,
        }
    }

    /// The same operation with a stop rule in its hooks.
    #[track_caller]
    pub(crate) fn map_hooks_to_rule<N>(
        mut self,
        map: impl FnOnce(H) -> N,
    ) -> Operation<L, F, C, S, N, Z>
    where
        N: Hooks<C::Id, C::Value, C::Error>,
    {
        self.options().policies.set_rule();
        self.map_hooks(map)
    }

    /// Limits the sources in flight to `limit`, or the batches of
    /// [`process_batch`](crate::process_batch()) with all their sources. Without it all of them start
    /// at once. The limit is a number, or a [`Limit`](crate::Limit) that other runs share. Called more
    /// than once, all limits apply.
    ///
    /// In [`stream_results`](crate::stream_results()) an outcome that waits for the receiver counts as
    /// in flight. So does one that waits for a body of [`for_each_result`](crate::for_each_result()), or
    /// for earlier ones in a run [in order](Self::in_order). [`source_concurrency`](crate::ProcessBatch::source_concurrency) limits the sources
    /// within each batch.
    ///
    /// An iterator is asked for a source only when there is room for it, so sources can be made as
    /// they are needed, from an endless iterator too.
    ///
    /// # Panics
    ///
    /// If `limit` is zero, or the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    /// use std::time::Duration;
    /// use futures::future::ready;
    /// use futures_aggregate::{each, fetch_and_aggregate};
    ///
    /// # futures::executor::block_on(async {
    /// let made = Cell::new(0);
    /// let endless = each(0.., |&id| {
    ///     made.set(made.get() + 1);
    ///     ready(Ok::<_, ()>(id))
    /// });
    /// let aggregate = fetch_and_aggregate(endless, Duration::from_secs(2))
    ///     .concurrency(1)
    ///     .quorum(3)
    ///     .await
    ///     .unwrap();
    /// assert_eq!(aggregate.results.len(), 3);
    /// assert_eq!(made.get(), 3);          // no source was made that was not needed
    /// # });
    /// ```
    #[track_caller]
    pub fn concurrency<'a>(mut self, limit: impl Into<Concurrency<'a>>) -> Self {
        self.options().limit_concurrency(limit.into());
        self
    }

    /// Lets sources start no faster than `rate`, together with those of all other runs that have the same
    /// [`Rate`]. In [`process_batch`](crate::process_batch()) it counts the sources in the batches. Called more than
    /// once, all rates apply.
    ///
    /// A source that waits for the rate has not started: its timeout does not run. The deadlines of the run and of
    /// its batch do.
    ///
    /// A list is asked for a source when a start is due. So a run whose list does not say how long it is, such as a
    /// stream, may find the end of the list only then, up to an interval after the last answer. Sources of a stream
    /// that are themselves under the same rate, with a burst of 1, would wait for each other for ever: give the runs
    /// that feed a run a rate of their own. With a [key](Self::concurrency_per) or a [weight](Self::weight) the list is
    /// asked before, and neither happens.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_aggregate::{Rate, each, fetch_and_aggregate};
    ///
    /// # async fn call(api: u32) -> Result<u32, ()> { Ok(api) }
    /// # futures::executor::block_on(async {
    /// // What the API allows, for all requests of this service.
    /// let rate = Rate::per_second(500.0).burst(10);
    /// let run = fetch_and_aggregate(each(0..20, |&id| call(id)), Duration::from_secs(2));
    /// assert_eq!(run.rate(&rate).await.unwrap().results.len(), 20);
    /// # });
    /// ```
    #[doc(alias = "rate_limit")]
    #[doc(alias = "throttle")]
    #[track_caller]
    pub fn rate(mut self, rate: &Rate) -> Self {
        self.options();
        self.source_options().limit_rate(rate);
        self
    }

    /// Marks answers that are a sign that the server has too much to do, such as the status 503, for an
    /// [adaptive limit](crate::Limit::adaptive).
    ///
    /// `rule` is called once for each answer of a source, with what its future has resolved to. Without an
    /// adaptive limit it is never called. A source that times out counts as a sign of overload in any case; a
    /// source that panics never does. Called more than once, each rule may find a sign. In
    /// [`process_batch`](crate::process_batch()) it is for the limits of
    /// [`source_concurrency`](crate::ProcessBatch::source_concurrency).
    ///
    /// If `rule` panics, the panic unwinds to the caller, and the answer counts as no sign.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_aggregate::{Limit, each, fetch_and_aggregate};
    ///
    /// #[derive(Debug, PartialEq)]
    /// enum Refused {
    ///     NotFound,
    ///     TooManyRequests,
    /// }
    ///
    /// # async fn fetch(page: u32) -> Result<u32, Refused> {
    /// #     if page % 2 == 0 { Err(Refused::TooManyRequests) } else { Ok(page) }
    /// # }
    /// # futures::executor::block_on(async {
    /// let limit = Limit::adaptive(1..=64);
    /// let pages = each(0..1000, |&page| fetch(page));
    /// let run = fetch_and_aggregate(pages, Duration::from_secs(60))
    ///     .concurrency(&limit)
    ///     .overload_if(|answer| *answer == Err(Refused::TooManyRequests));
    /// run.await.unwrap();
    /// assert_eq!(limit.get(), 1);         // half of the requests were refused
    /// # });
    /// ```
    #[track_caller]
    pub fn overload_if<N>(self, rule: N) -> Operation<L, F, C, S, WithOverload<H, N>, Z>
    where
        N: FnMut(&Result<C::Value, C::Error>) -> bool,
    {
        self.map_hooks(|before| WithOverload::new(before, rule))
    }

    /// Gives the run this much time from its first poll. Then it ends as
    /// [`Reason::TimedOut`](crate::Reason::TimedOut). Called more than once, the last timeout counts,
    /// also instead of that of [`fetch_and_aggregate`](crate::fetch_and_aggregate()).
    ///
    /// [`Duration::MAX`] is no limit: the default of [`stream_results`](crate::stream_results()) and
    /// [`process_batch`](crate::process_batch()), whose batches have a
    /// [`batch_timeout`](crate::ProcessBatch::batch_timeout) of 5 seconds each.
    /// [`Duration::ZERO`] gives one poll to every source that the first poll can reach. Of a stream it
    /// includes the time in which outcomes wait for the receiver.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::future::pending;
    /// use futures_aggregate::{Reason, stream_results};
    ///
    /// # futures::executor::block_on(async {
    /// let (sender, receiver) = async_channel::bounded(1);
    /// let sources = [("a", pending::<Result<(), ()>>())];
    /// let interrupted = stream_results(sources, sender)
    ///     .timeout(Duration::from_millis(5))
    ///     .await
    ///     .unwrap_err();
    /// assert_eq!(interrupted.reason, Reason::TimedOut);
    /// assert_eq!(interrupted.partial.unfinished, ["a"]);
    /// assert!(receiver.is_closed());
    /// # });
    /// ```
    #[track_caller]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options().limits.timeout = limit(timeout);
        self
    }

    /// Gives each source this much time from its own start. A source that is late fails as
    /// [`SourceError::TimedOut`](crate::SourceError::TimedOut) and disturbs no other.
    ///
    /// [`Duration::MAX`], the default, is no limit; [`Duration::ZERO`] gives each source one poll. If
    /// the task is polled so late that a batch and its sources have run out of time, the sources fail
    /// as timed out.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::future::{FutureExt, pending, ready};
    /// use futures_aggregate::{SourceError, fetch_and_aggregate};
    ///
    /// # futures::executor::block_on(async {
    /// let sources = [
    ///     ("fast", ready(Ok::<_, ()>(1)).left_future()),
    ///     ("stuck", pending().right_future()),
    /// ];
    /// let aggregate = fetch_and_aggregate(sources, Duration::from_secs(60))
    ///     .source_timeout(Duration::from_millis(5))
    ///     .await
    ///     .unwrap();
    /// assert_eq!(aggregate.results, [("fast", 1)]);
    /// assert_eq!(aggregate.errors, [("stuck", SourceError::TimedOut)]);
    /// # });
    /// ```
    #[track_caller]
    #[doc(alias = "withTimeout")]
    #[doc(alias = "per_request_timeout")]
    pub fn source_timeout(mut self, timeout: Duration) -> Self {
        self.source_options().limits.source_timeout = limit(timeout);
        self
    }

    /// Gives each source the time that `timeout` returns for its id, from its own start. A source that is
    /// late fails as [`SourceError::TimedOut`](crate::SourceError::TimedOut) and disturbs no other.
    ///
    /// `timeout` is called once for each source, when it starts. [`Duration::MAX`] is no limit;
    /// [`Duration::ZERO`] gives the source one poll. If [`source_timeout`](Self::source_timeout) is set
    /// too, or this is called more than once, the shortest time counts.
    ///
    /// If `timeout` panics, the panic unwinds to the caller, and the source starts without this limit.
    ///
    /// The deadlines are kept in a sorted queue: a start and an end cost `O(log n)` for `n` sources in
    /// flight. With `source_timeout` they cost `O(1)`.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::future::pending;
    /// use futures_aggregate::{SourceError, each, fetch_and_aggregate};
    ///
    /// # futures::executor::block_on(async {
    /// let jobs = ["report", "thumbnail"];
    /// let aggregate = fetch_and_aggregate(
    ///     each(jobs, |_| pending::<Result<(), ()>>()),
    ///     Duration::from_secs(60),
    /// )
    /// .source_timeout_by(|&job| match job {
    ///     "thumbnail" => Duration::from_millis(5),
    ///     _ => Duration::from_millis(20),
    /// })
    /// .await
    /// .unwrap();
    /// let late = SourceError::TimedOut;
    /// assert_eq!(aggregate.errors, [("thumbnail", late.clone()), ("report", late)]);
    /// # });
    /// ```
    #[track_caller]
    pub fn source_timeout_by<N>(
        mut self,
        timeout: N,
    ) -> Operation<L, F, C, S, WithSourceTimeout<H, N>, Z>
    where
        N: FnMut(&C::Id) -> Duration,
    {
        self.source_options().limits.source_timeout_by = true;
        self.map_hooks(|before| WithSourceTimeout::new(before, timeout))
    }

    /// Puts outcomes in the order of their sources, instead of the order of completion.
    ///
    /// | operation | effect |
    /// |---|---|
    /// | [`fetch_and_aggregate`](crate::fetch_and_aggregate()) | `results` and `errors` are sorted at the end of the run |
    /// | [`process_batch`](crate::process_batch()) | so are those of each batch |
    /// | [`stream_results`](crate::stream_results()), [`for_each_result`](crate::for_each_result()) | an outcome waits for those of all earlier sources |
    ///
    /// An outcome that waits counts as a source in flight, so
    /// [`concurrency`](Self::concurrency) limits how many wait: with `concurrency(n)` at most `n - 1`
    /// wait for a slow source. Without a limit, all may.
    ///
    /// If the run ends early, the sources that had not answered are unfinished. The outcomes that waited
    /// for them are sent into the channel in order, as far as there is room, and otherwise returned as
    /// undelivered; no body gets them. So the channel may have outcomes behind a gap: look at `unfinished`
    /// before you rely on the order of the last ones.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_aggregate::{each, fetch_and_aggregate};
    /// use futures_timer::Delay;
    ///
    /// # futures::executor::block_on(async {
    /// let sleep = |&millis: &u64| async move {
    ///     Delay::new(Duration::from_millis(millis)).await;
    ///     Ok::<_, ()>(())
    /// };
    /// let run = fetch_and_aggregate(each([20, 1, 10], sleep), Duration::from_secs(2));
    /// let aggregate = run.in_order().await.unwrap();
    /// assert_eq!(aggregate.results, [(20, ()), (1, ()), (10, ())]);
    /// # });
    /// ```
    #[doc(alias = "buffered")]
    #[doc(alias = "ordered")]
    #[track_caller]
    pub fn in_order(mut self) -> Self {
        self.source_options().in_order = true;
        self
    }

    /// Ends the run at a time of the clock, as [`Reason::TimedOut`](crate::Reason::TimedOut): for a
    /// deadline that was set further up, for example by the caller of a service.
    ///
    /// If there is a timeout too, the earlier end counts; called more than once, the earliest. If the time
    /// has passed when the run is polled first, no source is polled, and all are listed as unfinished. A
    /// [`timeout`](Self::timeout) of zero, in contrast, polls each source once that the first poll can start.
    ///
    /// The time is one of the clock of the run: that of [`Instant::now`](std::time::Instant::now), unless
    /// another [`timer`](Self::timer) is set.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use futures_aggregate::{Reason, each, fetch_and_aggregate};
    ///
    /// # async fn ask(replica: &str) -> Result<u32, ()> { unreachable!() }
    /// # futures::executor::block_on(async {
    /// let deadline = Instant::now();      // of the request; nothing is left of it
    /// let run = fetch_and_aggregate(each(["a", "b"], |&replica| ask(replica)), Duration::MAX);
    /// let interrupted = run.deadline(deadline).await.unwrap_err();
    /// assert_eq!(interrupted.reason, Reason::TimedOut);
    /// assert_eq!(interrupted.partial.unfinished, ["a", "b"]);
    /// # });
    /// ```
    #[track_caller]
    pub fn deadline(mut self, at: Instant) -> Self {
        let deadline = &mut self.options().limits.deadline;
        *deadline = Some(deadline.map_or(at, |before| before.min(at)));
        self
    }

    /// Takes the time of the run, of its sources and of its batches from `timer`, instead of
    /// [`SystemTimer`]: the timer of a runtime, or a [`TestTimer`](crate::TestTimer).
    ///
    /// # Panics
    ///
    /// If the operation has been polled. Later, if a method of the timer panics; see [`Timer`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use futures_aggregate::{SystemTimer, Timer, each, fetch_and_aggregate};
    ///
    /// # futures::executor::block_on(async {
    /// /// Prints when a run sleeps.
    /// struct Verbose;
    ///
    /// impl Timer for Verbose {
    ///     type Sleep = <SystemTimer as Timer>::Sleep;
    ///     fn now(&self) -> Instant { SystemTimer.now() }
    ///     fn sleep_until(&self, at: Instant) -> Self::Sleep {
    ///         println!("sleeps for {:?}", at - self.now());
    ///         SystemTimer.sleep_until(at)
    ///     }
    /// }
    ///
    /// let run = fetch_and_aggregate(each(0..3, |&id| async move { Ok::<_, ()>(id) }), Duration::MAX);
    /// assert_eq!(run.timer(Verbose).await.unwrap().results.len(), 3);
    /// # });
    /// ```
    #[track_caller]
    pub fn timer<N: Timer>(mut self, timer: N) -> Operation<L, F, C, S, H, N> {
        self.options();
        let parts = self.in_flight.parts.take();
        let parts = parts.map(|parts| Parts {
            run: parts.run,
            hooks: parts.hooks,
            timer,
        });
        Operation {
            in_flight: Attended { parts },
            consumer: self.consumer,
            signals: self.signals,
            alarm: Alarm::new(),
        }
    }

    /// Gives the sources in flight this much time after the signal of
    /// [`drain_on`](Self::drain_on). Then the run ends as
    /// [`Reason::Drained`](crate::Reason::Drained). If the deadline of the run is earlier, that one
    /// counts. Without a signal it has no effect.
    ///
    /// It does not end the bodies of [`for_each_result`](crate::for_each_result()) that have started: give
    /// them a timeout of their own.
    ///
    /// [`Duration::MAX`], the default, is no limit. With [`Duration::ZERO`] the run polls the sources
    /// that were woken, and ends.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::future::{pending, ready};
    /// use futures_aggregate::{Reason, fetch_and_aggregate};
    ///
    /// # futures::executor::block_on(async {
    /// let stop = futures_timer::Delay::new(Duration::from_millis(5));
    /// let interrupted = fetch_and_aggregate([("a", pending::<Result<(), ()>>())], Duration::MAX)
    ///     .drain_on(stop)
    ///     .drain_timeout(Duration::from_millis(5))
    ///     .await
    ///     .unwrap_err();
    /// assert_eq!(interrupted.reason, Reason::Drained);
    /// assert_eq!(interrupted.partial.unfinished, ["a"]);
    /// # });
    /// ```
    #[track_caller]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.options().limits.drain_timeout = limit(timeout);
        self
    }

    /// Turns the panic of a source into [`SourceError::Panicked`](crate::SourceError::Panicked).
    /// Without it the panic unwinds to the caller. Panics of the caller's own closures, bodies and signals
    /// unwind in any case, and so does that of a source which is dropped.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_aggregate::{SourceError, fetch_and_aggregate};
    ///
    /// async fn parse(text: &str) -> Result<u32, ()> {
    ///     Ok(text.parse().expect("a number"))
    /// }
    ///
    /// # std::panic::set_hook(Box::new(|_| {}));
    /// # futures::executor::block_on(async {
    /// let sources = ["1", "two"].map(|text| (text, parse(text)));
    /// let run = fetch_and_aggregate(sources, Duration::from_secs(2)).catch_panics();
    /// let aggregate = run.await.unwrap();
    /// assert_eq!(aggregate.results, [("1", 1)]);
    /// assert!(matches!(&aggregate.errors[..], [("two", SourceError::Panicked(message))]
    ///     if message.starts_with("a number")));
    /// # });
    /// ```
    #[track_caller]
    pub fn catch_panics(mut self) -> Self {
        self.source_options().catches_panics = true;
        self
    }

    /// Tells `observer` of every source: when it starts and when it is over, in the poll that sees it,
    /// and in a stream before the outcome is sent. For progress bars, metrics and tracing; see
    /// [`Event`].
    ///
    /// It must not block. If it panics, the panic unwinds to the caller and loses no outcome. Called
    /// more than once, all observers are told. A closure that is kept in a variable first needs the
    /// type of its argument: `|event: Event<'_, _, _, _>|`. An event does not say to which batch a
    /// source belongs: let the id say it.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::future::ready;
    /// use futures_aggregate::{Event, fetch_and_aggregate};
    ///
    /// # futures::executor::block_on(async {
    /// let (mut in_flight, mut most) = (0, 0);
    /// let sources = (0..10).map(|id| (id, ready(Ok::<_, ()>(id))));
    /// let aggregate = fetch_and_aggregate(sources, Duration::from_secs(2))
    ///     .observe(|event| {
    ///         match event {
    ///             Event::Started { .. } => in_flight += 1,
    ///             Event::Finished { .. } | Event::Unfinished { .. } => in_flight -= 1,
    ///             _ => {}         // a source that never started
    ///         }
    ///         most = most.max(in_flight);
    ///     })
    ///     .await
    ///     .unwrap();
    /// assert_eq!(aggregate.results.len(), 10);
    /// assert_eq!((in_flight, most), (0, 1));      // each was ready at once
    /// # });
    /// ```
    #[track_caller]
    pub fn observe<N>(self, observer: N) -> Operation<L, F, C, S, WithObserver<H, N>, Z>
    where
        N: FnMut(Event<'_, C::Id, C::Value, C::Error>),
    {
        self.map_hooks(|before| WithObserver::new(before, observer))
    }
}

impl<L, F, C, S, H, Z> Operation<L, F, C, S, H, Z>
where
    Z: Timer,
    C: OutcomeTypes,
    H: Hooks<C::Id, C::Value, C::Error>,
{
    /// Ends the run at the first failure of a source, as
    /// [`Reason::SourceFailed`](crate::Reason::SourceFailed), with the error in the partial result. A
    /// source that times out or panics has failed too.
    ///
    /// In [`process_batch`](crate::process_batch()) it ends the whole at the first batch that fails,
    /// which is one that was interrupted. A failure within a batch does not interrupt the batch, unless
    /// [`batch_fail_fast`](crate::ProcessBatch::batch_fail_fast) is set too.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::future::{FutureExt, pending, ready};
    /// use futures_aggregate::{Reason, SourceError, fetch_and_aggregate};
    ///
    /// # futures::executor::block_on(async {
    /// let sources = [
    ///     ("slow", pending::<Result<u32, _>>().left_future()),
    ///     ("broken", ready(Err("refused")).right_future()),
    /// ];
    /// let interrupted = fetch_and_aggregate(sources, Duration::from_secs(60))
    ///     .fail_fast()
    ///     .await
    ///     .unwrap_err();
    /// assert_eq!(interrupted.reason, Reason::SourceFailed);
    /// assert_eq!(interrupted.partial.errors, [("broken", SourceError::Failed("refused"))]);
    /// assert_eq!(interrupted.partial.unfinished, ["slow"]);
    /// # });
    /// ```
    #[track_caller]
    #[doc(alias = "try_join_all")]
    #[doc(alias = "try_collect")]
    pub fn fail_fast(mut self) -> Self
    where
        C: Aggregating,
    {
        self.options().policies.set_fail_fast();
        self
    }

    /// Ends the run with `Ok` as soon as `successes` sources have succeeded. The others are dropped
    /// and listed as unfinished; the errors until then are kept. A quorum of 1 is the first
    /// success.
    ///
    /// The run ends as [`Reason::QuorumUnreachable`](crate::Reason::QuorumUnreachable) as soon as too
    /// few sources are left: at once, if the list reports that it is too short.
    ///
    /// In [`process_batch`](crate::process_batch()) it counts batches. Those that are not over by then
    /// are interrupted as [`Reason::NotNeeded`](crate::Reason::NotNeeded).
    ///
    /// # Panics
    ///
    /// If `successes` is zero, or the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::future::{FutureExt, pending, ready};
    /// use futures_aggregate::fetch_and_aggregate;
    ///
    /// # futures::executor::block_on(async {
    /// let replicas = [
    ///     ("a", ready(Ok::<_, ()>(7)).left_future()),
    ///     ("b", pending().right_future()),
    ///     ("c", ready(Ok(7)).left_future()),
    /// ];
    /// let run = fetch_and_aggregate(replicas, Duration::from_secs(60)).quorum(2);
    /// let aggregate = run.await.unwrap();
    /// assert_eq!(aggregate.results, [("a", 7), ("c", 7)]);
    /// assert_eq!(aggregate.unfinished, ["b"]);
    /// # });
    /// ```
    #[track_caller]
    #[doc(alias = "any")]
    #[doc(alias = "select_ok")]
    #[doc(alias = "race_ok")]
    #[doc(alias = "first_ok")]
    pub fn quorum(mut self, successes: usize) -> Self
    where
        C: Aggregating,
    {
        self.options().policies.set_quorum(successes);
        self
    }
}

impl<L, F, C, S, H, Z> Operation<L, F, C, S, H, Z>
where
    Z: Timer,
    L: Sources<Id = C::Id>,
    C: Single + OutcomeTypes<Key = <C as OutcomeTypes>::Id>,
    H: Hooks<C::Id, C::Value, C::Error>,
{
    /// Limits the sources in flight that have the same key to `limit`: so many requests to each host, so many
    /// jobs of each tenant. `key` is called once for each source, when it is taken from the list.
    ///
    /// A source whose key has no room is parked, and others overtake it. Sources with the same key start in the
    /// order of the list. At most [`look_ahead`](Self::look_ahead) sources are parked, 64 unless it is set.
    /// A parked source has not started: its timeout does not run, observers are not told of it, and if the run
    /// ends early it is listed as unfinished.
    ///
    /// The other limits apply too: [`concurrency`](Self::concurrency), by number or by shared
    /// [`Limit`](crate::Limit)s, and [`weight`](Self::weight). While the number is full, no source is taken from
    /// the list. While a shared limit is full, or a [`rate`](Self::rate), the next source is taken and parked:
    /// the run has to know its weight. Called more than once, each source needs room for all of its keys. In that case a source that
    /// is parked for a later key counts for the earlier ones.
    ///
    /// The number of keys is not limited: those without sources are forgotten.
    ///
    /// Not for batches, because the sources of one batch do not wait for those of another. Put the sources of all
    /// batches into one run, or limit those within each batch by
    /// [`source_concurrency`](crate::ProcessBatch::source_concurrency).
    ///
    /// # Panics
    ///
    /// If `limit` is zero, or the operation has been polled. If `key` panics, or the hash or comparison of a key,
    /// the panic unwinds to the caller, and the source is started without this limit.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_aggregate::{each, fetch_and_aggregate};
    ///
    /// # async fn fetch(host: &str, page: u32) -> Result<u32, ()> { Ok(page) }
    /// # futures::executor::block_on(async {
    /// let pages = ["a.example", "b.example"]
    ///     .into_iter()
    ///     .flat_map(|host| (0..10).map(move |page| (host, page)));
    /// let run = fetch_and_aggregate(
    ///     each(pages, |&(host, page)| fetch(host, page)),
    ///     Duration::from_secs(60),
    /// )
    /// .concurrency(16)                                // in all
    /// .concurrency_per(|&(host, _)| host, 2);         // of each host
    /// assert_eq!(run.await.unwrap().results.len(), 20);
    /// # });
    /// ```
    ///
    /// The idea is that of `future_queue_grouped` in the crate
    /// [future-queue](https://docs.rs/future-queue).
    #[doc(alias = "future_queue_grouped")]
    #[doc(alias = "per_host")]
    #[track_caller]
    pub fn concurrency_per<N, G>(
        self,
        key: N,
        limit: usize,
    ) -> Operation<Parking<L, C::Id, L::Seed, ByKey<N, G, ForEachKey>>, F, C, S, H, Z>
    where
        N: FnMut(&C::Id) -> G,
        G: Hash + Eq,
    {
        assert!(
            limit > 0,
            "a limit of 0 for each key would never start a source; it must be at least 1"
        );
        self.park(ByKey::new(key, ForEachKey(limit)))
    }

    /// Limits the sources in flight that have the same key, as [`concurrency_per`](Self::concurrency_per) does,
    /// by a number that differs from key to key.
    ///
    /// `limit` is called when a source with a key is taken from the list and none with this key is parked or in
    /// flight. It may be called less often: the number of a key is kept until the key is forgotten.
    ///
    /// # Panics
    ///
    /// If the operation has been polled. If `key` or `limit` panics, or `limit` returns zero, the panic unwinds to
    /// the caller, and the source is started without this limit.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_aggregate::{each, fetch_and_aggregate};
    ///
    /// # async fn run_job(tenant: &str, job: u32) -> Result<u32, ()> { Ok(job) }
    /// # futures::executor::block_on(async {
    /// let jobs = (0..30).map(|job| (if job % 3 == 0 { "free" } else { "paying" }, job));
    /// let run = fetch_and_aggregate(each(jobs, |&(tenant, job)| run_job(tenant, job)), Duration::MAX)
    ///     .concurrency_per_by(
    ///         |&(tenant, _)| tenant,
    ///         |&tenant| if tenant == "free" { 1 } else { 8 },
    ///     );
    /// assert_eq!(run.await.unwrap().results.len(), 30);
    /// # });
    /// ```
    #[track_caller]
    pub fn concurrency_per_by<N, G, M>(
        self,
        key: N,
        limit: M,
    ) -> Operation<Parking<L, C::Id, L::Seed, ByKey<N, G, ByClosure<M>>>, F, C, S, H, Z>
    where
        N: FnMut(&C::Id) -> G,
        G: Hash + Eq,
        M: FnMut(&G) -> usize,
    {
        self.park(ByKey::new(key, ByClosure::new(limit)))
    }

    /// The most sources that are parked because there is no room for their
    /// [keys](Self::concurrency_per). The default is 64.
    ///
    /// With a greater number a run finds sources with other keys behind many that have the same. With 1, a source
    /// whose key is full holds up all behind it. Without a limit for each key it has no effect. With two limits for
    /// keys, so many may be parked for each of them.
    ///
    /// # Panics
    ///
    /// If `sources` is zero, or the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_aggregate::{each, fetch_and_aggregate};
    ///
    /// # futures::executor::block_on(async {
    /// // The list is sorted by host, so many sources are parked before another host comes.
    /// let pages = each(0..2000_u32, |&page| async move { Ok::<_, ()>(page) });
    /// let run = fetch_and_aggregate(pages, Duration::from_secs(60))
    ///     .concurrency_per(|page| page / 1000, 4)
    ///     .look_ahead(1000);
    /// assert_eq!(run.await.unwrap().results.len(), 2000);
    /// # });
    /// ```
    #[track_caller]
    pub fn look_ahead(mut self, sources: usize) -> Self {
        assert!(
            sources > 0,
            "with a look-ahead of 0 no source would be taken from the list; it must be at least 1"
        );
        self.options().look_ahead = sources;
        self
    }

    /// Says how much of the [`concurrency`](Self::concurrency) limit a source takes: its memory, its rows, its
    /// cost to a backend. `of` is called once for each source, when it is taken from the list.
    ///
    /// A weight counts against the number, and against every shared [`Limit`](crate::Limit) of the run. Sources
    /// start in the order of the list: a heavy one waits until there is room for it, and none overtakes it. One
    /// that is heavier than a limit is started when nothing else is in flight under that limit, so a weight is
    /// never too great. A weight of 0 counts as 1. Called more than once, the greatest weight counts.
    ///
    /// Limits for each [key](Self::concurrency_per) count sources, whatever their weight. So does an outcome that
    /// waits for a receiver or a body: it counts 1.
    ///
    /// # Panics
    ///
    /// If the operation has been polled. If `of` panics, the panic unwinds to the caller, and the source has a
    /// weight of 1.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_aggregate::{each, fetch_and_aggregate};
    ///
    /// # async fn resize(megapixels: usize) -> Result<usize, ()> { Ok(megapixels) }
    /// # futures::executor::block_on(async {
    /// let pictures = [12, 24, 3, 200];
    /// let run = fetch_and_aggregate(each(pictures, |&size| resize(size)), Duration::from_secs(60))
    ///     .concurrency(64)                    // megapixels in memory
    ///     .weight(|&size| size);              // the last one runs alone
    /// assert_eq!(run.await.unwrap().results.len(), 4);
    /// # });
    /// ```
    #[doc(alias = "future_queue")]
    #[track_caller]
    pub fn weight<N>(
        self,
        of: N,
    ) -> Operation<Parking<L, C::Id, L::Seed, ByWeight<N>>, F, C, S, H, Z>
    where
        N: FnMut(&C::Id) -> usize,
    {
        self.park(ByWeight::new(of))
    }

    /// The same operation, whose sources are counted by one more rule.
    #[track_caller]
    fn park<R>(self, rule: R) -> Operation<Parking<L, C::Id, L::Seed, R>, F, C, S, H, Z>
    where
        R: PlaceRule<C::Id>,
    {
        self.map_parts(|mut parts| {
            let list = parts.run.take_list().expect("the list of a new run");
            let options = parts.run.options_mut().clone();
            Parts {
                run: Run::new(Parking::new(list, rule), options),
                hooks: parts.hooks,
                timer: parts.timer,
            }
        })
    }
}

impl<L, F, C, X, Y, D, H, Z> Operation<L, F, C, Signals<X, Y, D>, H, Z>
where
    Z: Timer,
    C: OutcomeTypes,
    H: Hooks<C::Id, C::Value, C::Error>,
{
    /// Interrupts the run as [`Reason::Cancelled`](crate::Reason::Cancelled) once `signal` completes,
    /// whatever its output.
    ///
    /// Any future will do, see [the table](crate#what-to-pass-to-cancel_on). If the signal completes
    /// in the first poll, no source is polled. Called more than once, the first signal to complete
    /// counts.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::channel::oneshot;
    /// use futures::future::pending;
    /// use futures_aggregate::{Reason, fetch_and_aggregate};
    ///
    /// # futures::executor::block_on(async {
    /// let (cancel, cancelled) = oneshot::channel::<()>();
    /// let sources = [("a", pending::<Result<(), ()>>())];
    /// let run = fetch_and_aggregate(sources, Duration::from_secs(60)).cancel_on(cancelled);
    ///
    /// std::thread::spawn(move || cancel.send(()));
    /// let interrupted = run.await.unwrap_err();
    /// assert_eq!(interrupted.reason, Reason::Cancelled);
    /// assert_eq!(interrupted.partial.unfinished, ["a"]);
    /// # });
    /// ```
    #[track_caller]
    #[doc(alias = "CancellationToken")]
    #[doc(alias = "context")]
    #[doc(alias = "abort")]
    pub fn cancel_on<N: Future>(
        self,
        signal: N,
    ) -> Operation<L, F, C, Signals<First<X, N>, Y, D>, H, Z> {
        self.map_signals(|signals| signals.cancel_on(signal))
    }

    /// Times the run out when `timer` completes, whatever its output, as well as after the timeout:
    /// for a timer of the caller's, such as one of tokio, which tests can pause.
    ///
    /// The timeout of a run counts from its first poll; a timer usually from when it was made. The
    /// timeouts of batches and sources follow the [`timer`](Self::timer) of the run.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::future::pending;
    /// use futures_aggregate::{Reason, fetch_and_aggregate};
    /// use futures_timer::Delay;
    ///
    /// # futures::executor::block_on(async {
    /// // With tokio: `tokio::time::sleep`.
    /// let timer = Delay::new(Duration::from_millis(5));
    /// let interrupted = fetch_and_aggregate([("a", pending::<Result<(), ()>>())], Duration::MAX)
    ///     .expire_on(timer)
    ///     .await
    ///     .unwrap_err();
    /// assert_eq!(interrupted.reason, Reason::TimedOut);
    /// # });
    /// ```
    #[track_caller]
    pub fn expire_on<N: Future>(
        self,
        timer: N,
    ) -> Operation<L, F, C, Signals<X, First<Y, N>, D>, H, Z> {
        self.map_signals(|signals| signals.expire_on(timer))
    }

    /// Starts no more sources once `signal` completes, whatever its output, and lets those in flight
    /// finish: a graceful shutdown.
    ///
    /// The signal is polled first in every poll of the run. If it is woken while such a poll goes on,
    /// nothing starts before it was polled, in batches neither. The sources in flight keep their own timeouts,
    /// and the deadline of the run remains. [`drain_timeout`](Self::drain_timeout) adds another one.
    /// [`cancel_on`](Self::cancel_on) still cancels: pass it the second Ctrl-C, see [the
    /// guide](crate::guide::from_queue#two-signals-drain-then-cancel).
    ///
    /// The run ends with `Ok` if every source had started and has answered, and otherwise as
    /// [`Reason::Drained`](crate::Reason::Drained). The sources that were not started are listed as
    /// unfinished. Those that are still in a stream cannot be named; `unseen` is true then. To find out
    /// whether the sources have come to their end, the run polls a stream, or an iterator, once more
    /// when the last source has answered. A source that comes instead is named, and its future is dropped;
    /// [the guide](crate::guide::from_queue#take-nothing-after-the-signal) shows how to prevent that. So is
    /// one that was pulled when the signal came. Outcomes that wait for the receiver, or for a body,
    /// are still delivered, unless the drain timeout ends first.
    ///
    /// In [`process_batch`](crate::process_batch()) no more batches start, and no more sources in
    /// batches that have started. A batch whose sources had not all started is interrupted as
    /// [`Reason::Drained`](crate::Reason::Drained), and so is the whole, unless the batch runs into its own
    /// timeout before. A drained batch has neither failed nor succeeded for `fail_fast` and `quorum`.
    ///
    /// Called more than once, the first signal to complete counts.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::channel::oneshot;
    /// use futures_aggregate::{Reason, each, fetch_and_aggregate};
    ///
    /// # futures::executor::block_on(async {
    /// let (stop, stopped) = oneshot::channel::<()>();
    /// let mut stop = Some(stop);
    /// let sources = each(1..=4, |&id| {
    ///     if id == 2 {
    ///         stop.take().unwrap().send(()).unwrap();
    ///     }
    ///     async move { Ok::<_, ()>(id) }
    /// });
    /// let interrupted = fetch_and_aggregate(sources, Duration::from_secs(60))
    ///     .drain_on(stopped)
    ///     .await
    ///     .unwrap_err();
    /// assert_eq!(interrupted.reason, Reason::Drained);
    /// assert_eq!(interrupted.partial.results, [(1, 1), (2, 2)]);
    /// assert_eq!(interrupted.partial.unfinished, [3, 4]);
    /// # });
    /// ```
    #[doc(alias = "graceful_shutdown")]
    #[doc(alias = "shutdown")]
    #[track_caller]
    pub fn drain_on<N: Future>(
        self,
        signal: N,
    ) -> Operation<L, F, C, Signals<X, Y, First<D, N>>, H, Z> {
        self.map_signals(|signals| signals.drain_on(signal))
    }

    #[track_caller]
    fn map_signals<N>(
        mut self,
        map: impl FnOnce(Signals<X, Y, D>) -> N,
    ) -> Operation<L, F, C, N, H, Z> {
        self.options();
        Operation {
            in_flight: self.in_flight,
            consumer: self.consumer,
            signals: map(self.signals),
            alarm: self.alarm,
        }
    }
}

impl<L, F, C, S, H, Z> Future for Operation<L, F, C, S, H, Z>
where
    Z: Timer,
    L: Sources<Id = C::Key, Future = C::Slot<F>>,
    C: Consumer<F>,
    S: AnySignals,
    H: Hooks<C::Id, C::Value, C::Error>,
{
    type Output = C::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Parts { run, hooks, timer } = this.in_flight.parts();
        let signals = pin!(WithAlarm {
            signals: this.signals,
            alarm: this.alarm,
            timer: &*timer,
            waker: cx.waker(),
        });
        this.consumer.poll(run, &*timer, signals, hooks, cx)
    }
}

impl<L, F, C, S, H, Z> FusedFuture for Operation<L, F, C, S, H, Z>
where
    Z: Timer,
    Self: Future,
    C: OutcomeTypes,
    H: Hooks<C::Id, C::Value, C::Error>,
{
    fn is_terminated(&self) -> bool {
        self.in_flight.run().is_terminated() && self.consumer.is_idle()
    }
}

impl<L, F, C, S, H, Z> fmt::Debug for Operation<L, F, C, S, H, Z>
where
    Z: Timer,
    C: OutcomeTypes,
    H: Hooks<C::Id, C::Value, C::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.consumer.print(self.in_flight.run().in_flight(), f)
    }
}
