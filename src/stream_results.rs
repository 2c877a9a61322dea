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
pub use delivery::Deliver;
use delivery::delivery;
pub use sink::Sink;

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
) -> StreamResults<L::Sources, K, F, T, E, impl Deliver<Outcome<K, T, E>>>
where
    L: IntoSources<Id = K, Future = F>,
    F: Future<Output = Result<T, E>>,
{
    let sink = Sink::new(delivery(sender));
    Operation::new(sources.into_sources(), Options::NONE, sink)
}

/// The future of [`stream_results`]: the driver that the caller spawns.
pub type StreamResults<L, K, F, T, E, D, S = Signals, H = NoHooks> =
    Operation<L, F, Sink<K, T, E, D>, S, H>;
