//! Polls sources concurrently and sends each outcome into a channel as soon as it arrives.

mod delivery;
mod sink;

use std::future::Future;

use async_channel::Sender;

use crate::Outcome;
use crate::hooks::NoHooks;
use crate::operation::Operation;
use crate::scheduler::{Options, Signals};
use crate::sources::IntoSources;
use crate::timer::SystemTimer;
pub use delivery::Deliver;
use delivery::delivery;
pub use sink::Sink;

/// Polls all sources concurrently, and sends each outcome into a channel as soon as it arrives.
///
/// It returns at once with a driver: a future to be spawned on any executor and forgotten, or awaited
/// for its summary. The driver resolves to
///
/// - `Ok` with a [`Streamed`](crate::Streamed) when every source has answered and every outcome is in
///   the channel;
/// - [`Interrupted`](crate::Interrupted) with the outcomes that were not delivered, and the ids of the
///   sources that had not answered.
///
/// A full channel blocks no source: the others are still polled, and their outcomes are queued. Under a
/// [`concurrency`](crate::Operation::concurrency) limit, a queued outcome counts as a source in flight,
/// so backpressure reaches the sources. If the receiver is dropped or closed, the run ends at once, even
/// while every source is pending.
///
/// Outcomes in the channel belong to the receiver, and are dropped with it. To stop early and lose
/// nothing, call `receiver.close()`, read the channel until it is empty, and take the rest from the
/// driver's `undelivered`.
///
/// There is no `fail_fast`, `quorum` or `stop_when`. To stop a stream early, drop its receiver.
///
/// When the driver ends, it drops its sender, after the last outcome and after the last source. The
/// channel closes if no other sender is left.
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
/// The type of `sources` is part of the driver's type. If the list borrows, but its iterator does not,
/// pass the iterator to get a `'static` driver.
///
/// # Errors
///
/// [`Reason::ReceiverClosed`](crate::Reason::ReceiverClosed),
/// [`Reason::Cancelled`](crate::Reason::Cancelled), [`Reason::Drained`](crate::Reason::Drained), and with a
/// [`timeout`](crate::Operation::timeout) also [`Reason::TimedOut`](crate::Reason::TimedOut). A source
/// that fails does not interrupt the run.
///
/// When the run is interrupted, queued outcomes are returned as `undelivered`. So is the outcome whose
/// send waits for room, if the driver holds the only senders of the channel: it closes the channel then.
/// If there are other senders and no room, that one outcome is lost.
///
/// # Panics
///
/// If a source panics, polling panics, unless [`catch_panics`](crate::Operation::catch_panics) is set.
/// The source is dropped, and [`SourceError::Panicked`](crate::SourceError::Panicked) is sent as its
/// outcome; the future can be polled again for the other sources, or dropped. Polling after completion
/// panics.
///
/// Polling also panics if a deadline needs a timer and the timer thread cannot be started. No outcome
/// is lost by that, and every later poll still checks the deadline.
///
/// # Cancel safety
///
/// Dropping the driver drops every source, every queued outcome, and the sender. To keep the outcomes,
/// end the run by [`cancel_on`](crate::Operation::cancel_on).
///
/// # Deadlines and fairness
///
/// As with [`fetch_and_aggregate`](crate::fetch_and_aggregate()). If the receiver is gone before the
/// first poll, no source is polled.
#[doc(alias = "as_completed")]
#[doc(alias = "buffer_unordered")]
#[inline]
pub fn stream_results<L, K, F, T, E>(
    sources: L,
    sender: impl OutcomeSender<Outcome<K, T, E>>,
) -> StreamResults<L::Sources, K, F, T, E, impl Deliver<Outcome<K, T, E>>>
where
    L: IntoSources<Id = K, Future = F>,
    F: Future<Output = Result<T, E>>,
{
    let sink = Sink::new(delivery(sender.into_sender()));
    Operation::new(sources.into_sources(), Options::NONE, sink)
}

/// The sender of a channel for outcomes of type `O`: that of the crate async-channel.
///
/// It is a trait so that the compiler can say this if the sender is another one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an `async_channel::Sender` of outcomes",
    label = "this is no sender of async-channel, or one of other values",
    note = "make the channel by `async_channel::bounded(n)` or `async_channel::unbounded()` of async-channel 2; for another channel, use `for_each_result` and send in its closure"
)]
pub trait OutcomeSender<O>: private::IsSender {
    #[doc(hidden)]
    fn into_sender(self) -> Sender<O>;
}

impl<O> OutcomeSender<O> for Sender<O> {
    fn into_sender(self) -> Self {
        self
    }
}

/// The trait that seals all others is implemented for iterators, which a sender may be one day.
mod private {
    pub trait IsSender {}
    impl<O> IsSender for async_channel::Sender<O> {}
}

/// The future of [`stream_results`]: the driver that the caller spawns.
pub type StreamResults<L, K, F, T, E, D, S = Signals, H = NoHooks, Z = SystemTimer> =
    Operation<L, F, Sink<K, T, E, D>, S, H, Z>;
