//! Polls sources concurrently, and passes each outcome to a body: an async closure of the caller.

mod bodies;
mod handler;

use std::future::Future;

use crate::Outcome;
use crate::hooks::{Hooks, NoHooks};
use crate::operation::Operation;
use crate::scheduler::{Options, Signals};
use crate::sources::IntoSources;
use crate::timer::{SystemTimer, Timer};
pub use handler::Handler;

/// Polls all sources concurrently, and passes each outcome to `body` as soon as it arrives.
///
/// It replaces the loop `while let Some(outcome) = stream.next().await { work(outcome).await }`. In such a
/// loop no source is polled while the body works, so a slow body lets connections time out, and a lock
/// that the body and a source both need is never released ([futures-rs #2387]). Here the future of the
/// body is polled together with the sources, in the same task.
///
/// One body runs at a time, or [`bodies(n)`](ForEachResult::bodies), started in the order in which the
/// outcomes arrive. An outcome that waits for a body counts as a source in flight, so
/// [`concurrency`](crate::Operation::concurrency) limits how many wait. A body that runs does not count.
///
/// The future resolves to
///
/// - `Ok` with a [`Handled`](crate::Handled) when every source has answered, or a
///   [`quorum`](crate::Operation::quorum) is reached, and no body has returned an error;
/// - [`Interrupted`](crate::Interrupted) as [`Reason::BodyFailed`](crate::Reason::BodyFailed) when a body
///   has returned an error, which ends the run, or with another reason if something else did.
///
/// When the run ends early, all sources are dropped at once, and no more bodies start. Bodies that have
/// started run to their end, since each owns an outcome; the future resolves after the last of them. The
/// outcomes that no body has taken are returned as `undelivered`.
///
/// # State
///
/// Several bodies may run at a time, so an async closure cannot change a variable that it captures: it does
/// not implement `FnMut`. Three ways around that:
///
/// - work without `await` in a plain closure: `|outcome| { count += 1; ready(Ok::<_, ()>(())) }`;
/// - a `Cell` or a `RefCell` that the closure borrows, or a mutex if the run has to be `Send`;
/// - an async mutex, such as that of `futures::lock`, where the lock is held across an `await`.
///
/// [futures-rs #2387]: https://github.com/rust-lang/futures-rs/issues/2387
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
/// use futures_aggregate::{each, for_each_result};
///
/// # futures::executor::block_on(async {
/// async fn fetch(page: u32) -> Result<String, std::io::Error> {
///     Ok(format!("page {page}"))
/// }
///
/// let bytes = Cell::new(0);
/// let sources = each(1..=100, |&page| fetch(page));
/// let handled = for_each_result(sources, async |(page, result)| {
///     let text = result.map_err(|error| format!("page {page}: {error}"))?;
///     bytes.set(bytes.get() + text.len());
///     Ok::<_, String>(())
/// })
/// .concurrency(16)
/// .await
/// .unwrap();
/// assert_eq!(handled.handled, 100);
/// assert_eq!(bytes.get(), 692);
/// # });
/// ```
///
/// # Errors
///
/// [`Reason::BodyFailed`](crate::Reason::BodyFailed), [`Reason::Cancelled`](crate::Reason::Cancelled),
/// [`Reason::Drained`](crate::Reason::Drained), and with a [`timeout`](crate::Operation::timeout) also
/// [`Reason::TimedOut`](crate::Reason::TimedOut). With the matching policy also
/// [`Reason::SourceFailed`](crate::Reason::SourceFailed) and
/// [`Reason::QuorumUnreachable`](crate::Reason::QuorumUnreachable). Without such a policy, a source that
/// fails does not interrupt the run: its outcome goes to a body.
///
/// # Panics
///
/// If a source panics, polling panics, unless [`catch_panics`](crate::Operation::catch_panics) is set; its
/// outcome, [`SourceError::Panicked`](crate::SourceError::Panicked), goes to a body. If a body panics,
/// polling panics. The body is dropped with its outcome; the future can be polled again for the other
/// bodies and the sources, or dropped. Polling after completion panics.
///
/// Polling also panics if a deadline needs a timer and the timer thread cannot be started. No outcome is
/// lost by that, and every later poll still checks the deadline.
///
/// # Cancel safety
///
/// Dropping the future drops every source, every body, and the outcomes that wait.
///
/// A run that is cancelled, or whose time is up, waits for the bodies that have started. If one never
/// ends, neither does the run: give bodies a timeout of their own, or drop the future. When all sources
/// have answered and only bodies are left, signals and deadlines have nothing to end any more. A body that
/// sends into the channel behind `from_stream` may find it closed.
///
/// # Deadlines and fairness
///
/// As with [`fetch_and_aggregate`](crate::fetch_and_aggregate()). Bodies have the budget of runs inside a
/// source, and share the time of a poll with the sources. In every second poll they come before the
/// sources, so that neither keeps the other from the cooperative budget of the task.
#[doc(alias = "for_each_concurrent")]
#[doc(alias = "try_for_each_concurrent")]
#[doc(alias = "async_stream")]
#[doc(alias = "flatMapMerge")]
#[doc(alias = "buffer_unordered")]
#[inline]
pub fn for_each_result<L, K, F, T, E, M, G, B>(
    sources: L,
    body: M,
) -> ForEachResult<L::Sources, K, F, T, E, M, G, B>
where
    L: IntoSources<Id = K, Future = F>,
    F: Future<Output = Result<T, E>>,
    M: FnMut(Outcome<K, T, E>) -> G,
    G: Future<Output = Result<(), B>>,
{
    Operation::new(sources.into_sources(), Options::NONE, Handler::new(body))
}

/// The future of [`for_each_result`]. `M` is the body, `G` its future, and `B` its error.
pub type ForEachResult<L, K, F, T, E, M, G, B, S = Signals, H = NoHooks, Z = SystemTimer> =
    Operation<L, F, Handler<K, T, E, M, G, B>, S, H, Z>;

impl<L, K, F, T, E, M, G, B, S, H, Z> ForEachResult<L, K, F, T, E, M, G, B, S, H, Z>
where
    Z: Timer,
    H: Hooks<K, T, E>,
{
    /// Runs up to `limit` bodies at a time, 1 by default. They start in the order of the outcomes.
    ///
    /// # Panics
    ///
    /// If `limit` is zero, or the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_aggregate::{each, for_each_result};
    /// use futures_timer::Delay;
    ///
    /// # futures::executor::block_on(async {
    /// let sources = each(0..8, |&id| async move { Ok::<_, ()>(id) });
    /// let started = std::time::Instant::now();
    /// for_each_result(sources, async |_| {
    ///     Delay::new(Duration::from_millis(20)).await;
    ///     Ok::<_, ()>(())
    /// })
    /// .bodies(8)
    /// .await
    /// .unwrap();
    /// assert!(started.elapsed() < Duration::from_millis(8 * 20));     // not one after another
    /// # });
    /// ```
    #[track_caller]
    pub fn bodies(mut self, limit: usize) -> Self {
        assert!(
            limit > 0,
            "with 0 bodies no outcome would ever be handled; it must be at least 1"
        );
        self.consumer_mut().set_bodies(limit);
        self
    }
}
