//! Asks every source and hands each outcome to a channel the moment it is there.

mod delivery;
mod stream;

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_channel::Sender;
use futures::future::FusedFuture;
use pin_project_lite::pin_project;

use crate::interrupted::resolve;
use crate::run::{First, Follow, Hooks, Observe, Observed, Run, Signals};
use crate::{Event, Interrupted, Outcome};
use delivery::{Deliver, delivery};
use stream::Stream;

/// What a run of [`stream_results`] came to, besides what it delivered.
///
/// # Examples
///
/// ```
/// use futures::future::ready;
/// use futures_aggregate::{Interrupted, Streamed, stream_results};
///
/// # futures::executor::block_on(async {
/// let (sender, receiver) = async_channel::unbounded();
/// let driver = stream_results([("a", ready(Ok::<_, ()>(1))), ("b", ready(Ok(2)))], sender);
/// let Streamed { delivered, undelivered, unfinished } =
///     driver.await.unwrap_or_else(Interrupted::into_partial);
/// assert_eq!(delivered, 2);
/// assert!(undelivered.is_empty() && unfinished.is_empty());
/// # drop(receiver);
/// # });
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[must_use = "outcomes that could not be delivered are given back here"]
pub struct Streamed<K, T, E> {
    /// How many outcomes went into the channel. They belong to the receiver, read or not.
    pub delivered: usize,
    /// The outcomes that were there but could not be handed over, in the order of completion.
    pub undelivered: Vec<Outcome<K, T, E>>,
    /// The sources that had not answered when the run ended: first those in flight, in the order
    /// in which they were started, then those never started, in the order of the list.
    pub unfinished: Vec<K>,
}

impl<K, T, E> Default for Streamed<K, T, E> {
    fn default() -> Self {
        Self {
            delivered: 0,
            undelivered: Vec::new(),
            unfinished: Vec::new(),
        }
    }
}

/// Asks every source at once and sends each outcome into a channel as soon as it is there.
///
/// It returns at once, before anything has happened, with a driver: a future to be spawned on any
/// executor and forgotten, or awaited for its summary. The driver resolves to
///
/// - `Ok` with a [`Streamed`] once every source has answered and every outcome is in the channel;
/// - [`Interrupted`] with what could not be delivered, and the names of the sources that had not
///   answered.
///
/// A full channel holds no source up: the others are polled on, and their outcomes are queued.
/// With a [`concurrency`](StreamResults::concurrency) limit a queued outcome counts as a source
/// in flight, so that a slow receiver slows the starting of new sources. A receiver that is gone
/// ends the run at once, even while every source is pending.
///
/// Outcomes that are in the channel belong to the receiver, and are gone if it is dropped. To stop
/// early and lose nothing, close it (`receiver.close()`), read on
/// until it is empty, and take what it had no room for from the driver's `undelivered`.
///
/// There is no `fail_fast`, `quorum` or `stop_when`: whoever reads the outcomes decides, and
/// leaves.
///
/// When the driver ends it drops its sender, after the last outcome and after the last source.
/// If no other sender is left, the receiver sees the channel close.
///
/// # Examples
///
/// ```
/// use futures::future::ready;
/// use futures_aggregate::stream_results;
///
/// let sources = (0..100).map(|id| (id, ready(Ok::<_, ()>(id * id))));
/// let (sender, receiver) = async_channel::bounded(8);
///
/// // Any executor will do; this one is a plain thread.
/// let driver = stream_results(sources, sender);
/// std::thread::spawn(|| futures::executor::block_on(driver));
///
/// let mut sum = 0;
/// while let Ok((_id, square)) = receiver.recv_blocking() {
///     sum += square.unwrap_or(0);
/// }
/// assert_eq!(sum, 328_350);
/// ```
///
/// The type of `sources` is part of the driver's type. A list that borrows, and gives an iterator
/// that does not, has to be passed as that iterator for a driver that is to be `'static`.
///
/// # Errors
///
/// [`Reason::ReceiverClosed`](crate::Reason::ReceiverClosed),
/// [`Reason::Cancelled`](crate::Reason::Cancelled), and
/// [`Reason::TimedOut`](crate::Reason::TimedOut) where there is a
/// [`timeout`](StreamResults::timeout). A source that fails is no error of the whole.
///
/// When the run is interrupted, the outcomes that are queued are given back. So is the one whose
/// send waits for room, provided that the driver holds the channel's only senders: it closes the
/// channel then. If others hold senders too, and there is no room, that one outcome is lost.
///
/// # Panics
///
/// Polling panics if a source does, unless there is [`catch_panics`](StreamResults::catch_panics).
/// The source is gone then, and its outcome, which goes to the receiver, is
/// [`SourceError::Panicked`](crate::SourceError::Panicked); the future can be polled on for the
/// other sources, or dropped. Polling after completion panics.
///
/// Polling panics, too, where a deadline needs a timer and the thread that runs the timers cannot
/// be started. No outcome is lost by that, and every later poll still looks at the deadline.
///
/// # Cancel safety
///
/// Dropping the driver drops every source in it at once, and every queued outcome, and lets go
/// of the sender. To keep the outcomes, end the run by [`cancel_on`](StreamResults::cancel_on)
/// instead.
///
/// # Deadlines and fairness
///
/// As with [`fetch_and_aggregate`](crate::fetch_and_aggregate). A receiver that is gone before the
/// first poll means that no source is polled.
pub fn stream_results<L, K, F, T, E>(
    sources: L,
    sender: Sender<Outcome<K, T, E>>,
) -> StreamResults<L::IntoIter, K, F, T, E, impl Deliver<Outcome<K, T, E>>>
where
    L: IntoIterator<Item = (K, F)>,
    F: Future<Output = Result<T, E>>,
{
    StreamResults {
        run: Run::new(sources.into_iter(), Duration::MAX, Hooks::none()),
        unfinished: Vec::new(),
        values: PhantomData,
        delivery: delivery(sender),
        signals: Signals::none(),
    }
}

pin_project! {
    /// The future of [`stream_results`]: the driver that the caller spawns.
    #[must_use = "futures do nothing unless you spawn, `.await` or poll them"]
    pub struct StreamResults<I, K, F, T, E, D, S = Signals, H = Hooks>
    where
        H: Follow<K>,
    {
        run: Run<I, K, F, H>,
        unfinished: Vec<K>,
        values: PhantomData<fn(T, E)>,
        #[pin]
        delivery: D,
        #[pin]
        signals: S,
    }
}

impl<I, K, F, T, E, D, C, X, H> StreamResults<I, K, F, T, E, D, Signals<C, X>, H>
where
    H: Follow<K>,
{
    /// Has at most `limit` sources in flight, outcomes that wait for the receiver included.
    /// Without it all sources are started at once, and as many outcomes may wait.
    ///
    /// # Panics
    ///
    /// If `limit` is zero, or the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::future::{join, ready};
    /// use futures_aggregate::stream_results;
    ///
    /// # futures::executor::block_on(async {
    /// let (sender, receiver) = async_channel::bounded(1);
    /// let sources = (0..).map(|id| (id, ready(Ok::<_, ()>(id))));     // endless
    /// let driver = stream_results(sources, sender).concurrency(8);
    /// let take_two = async move { [receiver.recv().await, receiver.recv().await] };
    ///
    /// let (interrupted, received) = join(driver, take_two).await;
    /// assert!(received.iter().all(Result::is_ok));
    /// // What waited for the receiver comes back, and no more was asked than the limit allows.
    /// assert!(interrupted.unwrap_err().partial.undelivered.len() <= 8);
    /// # });
    /// ```
    #[track_caller]
    pub fn concurrency(mut self, limit: usize) -> Self {
        self.run.set_concurrency(limit);
        self
    }

    /// Gives the whole this much time from the first poll, the receiver's included.
    /// [`Duration::MAX`], the default, is no limit; [`Duration::ZERO`] gives one poll to every
    /// source that the first poll can reach.
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
        self.run.set_timeout(timeout);
        self
    }

    /// Gives each source this much time from its own start; the outcome of one that is late is
    /// [`SourceError::TimedOut`](crate::SourceError::TimedOut), and it disturbs no other.
    /// [`Duration::MAX`], the default, is no limit; [`Duration::ZERO`] gives each source one poll.
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
    /// use futures_aggregate::{SourceError, stream_results};
    ///
    /// # futures::executor::block_on(async {
    /// let (sender, receiver) = async_channel::bounded(1);
    /// let sources = [("a", pending::<Result<(), ()>>())];
    /// let streamed = stream_results(sources, sender)
    ///     .source_timeout(Duration::from_millis(5))
    ///     .await
    ///     .unwrap();
    /// assert_eq!(streamed.delivered, 1);
    /// assert_eq!(receiver.recv().await.unwrap(), ("a", Err(SourceError::TimedOut)));
    /// # });
    /// ```
    #[track_caller]
    pub fn source_timeout(mut self, timeout: Duration) -> Self {
        self.run.set_source_timeout(timeout);
        self
    }

    /// Interrupts the run as [`Reason::Cancelled`](crate::Reason::Cancelled) once `signal`
    /// completes, whatever its output.
    ///
    /// A signal that is already there at the first poll means that no source is polled. Called
    /// more than once, the first signal to complete counts.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::channel::oneshot;
    /// use futures::future::pending;
    /// use futures_aggregate::{Reason, stream_results};
    ///
    /// # futures::executor::block_on(async {
    /// let (sender, _receiver) = async_channel::bounded(1);
    /// let (cancel, cancelled) = oneshot::channel::<()>();
    /// let sources = [("a", pending::<Result<(), ()>>())];
    /// let driver = stream_results(sources, sender).cancel_on(cancelled);
    ///
    /// std::thread::spawn(move || cancel.send(()));
    /// let interrupted = driver.await.unwrap_err();
    /// assert_eq!(interrupted.reason, Reason::Cancelled);
    /// # });
    /// ```
    #[track_caller]
    pub fn cancel_on<N: Future>(
        self,
        signal: N,
    ) -> StreamResults<I, K, F, T, E, D, Signals<First<C, N>, X>, H> {
        self.run.check_is_new();
        StreamResults {
            run: self.run,
            unfinished: self.unfinished,
            values: PhantomData,
            delivery: self.delivery,
            signals: self.signals.cancel_on(signal),
        }
    }

    /// Lets the run's time be up once `timer` completes, whatever its output: for a timer of the
    /// caller's own, such as one of tokio, which tests can pause.
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
    /// use futures_timer::Delay;
    ///
    /// # futures::executor::block_on(async {
    /// let (sender, _receiver) = async_channel::bounded(1);
    /// // With tokio: `tokio::time::sleep`.
    /// let timer = Delay::new(Duration::from_millis(5));
    /// let sources = [("a", pending::<Result<(), ()>>())];
    /// let interrupted = stream_results(sources, sender).expire_on(timer).await.unwrap_err();
    /// assert_eq!(interrupted.reason, Reason::TimedOut);
    /// # });
    /// ```
    #[track_caller]
    pub fn expire_on<N: Future>(
        self,
        timer: N,
    ) -> StreamResults<I, K, F, T, E, D, Signals<C, First<X, N>>, H> {
        self.run.check_is_new();
        StreamResults {
            run: self.run,
            unfinished: self.unfinished,
            values: PhantomData,
            delivery: self.delivery,
            signals: self.signals.expire_on(timer),
        }
    }

    /// Turns the panic of a source into [`SourceError::Panicked`](crate::SourceError::Panicked).
    /// Without it the panic unwinds to the caller. Panics of the caller's own closures and signals
    /// unwind in any case, and so does that of a source which is dropped.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_aggregate::stream_results;
    ///
    /// async fn parse(text: &str) -> Result<u32, ()> {
    ///     Ok(text.parse().expect("a number"))
    /// }
    ///
    /// # std::panic::set_hook(Box::new(|_| {}));
    /// # futures::executor::block_on(async {
    /// let (sender, receiver) = async_channel::unbounded();
    /// let driver = stream_results(["two"].map(|text| (text, parse(text))), sender).catch_panics();
    /// assert_eq!(driver.await.unwrap().delivered, 1);
    /// let (id, outcome) = receiver.recv().await.unwrap();
    /// assert_eq!(id, "two");
    /// assert!(outcome.unwrap_err().is_panicked());
    /// # });
    /// ```
    #[track_caller]
    pub fn catch_panics(mut self) -> Self {
        self.run.set_catch_panics();
        self
    }
}

impl<I, K, F, T, E, D, S, O> StreamResults<I, K, F, T, E, D, S, Hooks<O>>
where
    O: Follow<K>,
{
    /// Has `observer` told of every source that is started, and of what becomes of it, in the poll
    /// that sees it: of an outcome before it is sent. It must not block. If it panics, the panic
    /// unwinds to the caller and loses no outcome. Called more than once, all observers are told.
    /// See [`Event`].
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::future::ready;
    /// use futures_aggregate::{Event, stream_results};
    ///
    /// # futures::executor::block_on(async {
    /// let (sender, _receiver) = async_channel::unbounded();
    /// let mut answers = 0;
    /// let sources = (0..3).map(|id| (id, ready(Ok::<_, ()>(id))));
    /// let driver = stream_results(sources, sender).observe(|event| {
    ///     answers += u32::from(matches!(event, Event::Finished { .. }));
    /// });
    /// assert_eq!(driver.await.unwrap().delivered, 3);
    /// assert_eq!(answers, 3);
    /// # });
    /// ```
    #[track_caller]
    pub fn observe<N>(
        self,
        observer: N,
    ) -> StreamResults<I, K, F, T, E, D, S, Hooks<Observed<O, N, T, E>>>
    where
        N: FnMut(Event<'_, K, T, E>),
    {
        StreamResults {
            run: self.run.map_hooks(|hooks| hooks.observe(observer)),
            unfinished: self.unfinished,
            values: PhantomData,
            delivery: self.delivery,
            signals: self.signals,
        }
    }
}

impl<I, K, F, T, E, D, C, X, H> Future for StreamResults<I, K, F, T, E, D, Signals<C, X>, H>
where
    I: Iterator<Item = (K, F)>,
    F: Future<Output = Result<T, E>>,
    D: Deliver<Outcome<K, T, E>>,
    C: Future,
    X: Future,
    H: Observe<K, T, E>,
{
    type Output = Result<Streamed<K, T, E>, Interrupted<Streamed<K, T, E>>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut stream = Stream {
            delivery: this.delivery.as_mut(),
            unfinished: this.unfinished,
        };
        let end = std::task::ready!(this.run.poll(cx, this.signals, true, &mut stream));
        let (delivered, undelivered) = this.delivery.report();
        let streamed = Streamed {
            delivered,
            undelivered,
            unfinished: std::mem::take(this.unfinished),
        };
        Poll::Ready(resolve(end, streamed))
    }
}

impl<I, K, F, T, E, D, C, X, H> FusedFuture for StreamResults<I, K, F, T, E, D, Signals<C, X>, H>
where
    Self: Future,
    H: Follow<K>,
{
    fn is_terminated(&self) -> bool {
        self.run.is_terminated()
    }
}

impl<I, K, F, T, E, D, S, H> fmt::Debug for StreamResults<I, K, F, T, E, D, S, H>
where
    H: Follow<K>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamResults")
            .field("in_flight", &self.run.in_flight())
            .finish_non_exhaustive()
    }
}
