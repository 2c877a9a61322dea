//! One conformance suite for every executor: the rules of futures-aggregate under real timers, with
//! drivers that are spawned as tasks.
//!
//! The tests of an executor implement [`Executor`] and call [`conforms`], and [`conforms_locally`] if the
//! executor takes futures that are not `Send`. [`OPERATIONS`] and [`Census`] are for runs that move between
//! executors.

mod hostile;
mod operations;
mod suite;
mod world;

use std::future::Future;
use std::marker::PhantomData;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::Stream;
use futures::future::BoxFuture;
use futures_aggregate::Timer;
pub use operations::{OPERATIONS, Operation, Run, Source, Summary};
pub use suite::{conforms, conforms_locally, timeouts_follow};
pub use world::{Census, LONG, SHORT, SLOW};

/// What the suite requires of an executor.
pub trait Executor {
    /// Drives a future to its end, and runs the spawned tasks meanwhile.
    fn run<F: Future>(&self, future: F) -> F::Output;

    /// Starts a task that is detached.
    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F);

    /// A channel of the executor, or of async-channel if it has none: a function that sends, and a
    /// stream of what was sent. The stream ends when the function is dropped.
    fn channel<T: Send + 'static>() -> (
        impl Fn(T) + Send + 'static,
        impl Stream<Item = T> + Send + 'static,
    ) {
        let (sender, receiver) = async_channel::unbounded();
        (move |item| drop(sender.try_send(item)), receiver)
    }

    /// The timer of the executor, or of futures-timer if it has none.
    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        futures_timer::Delay::new(duration)
    }

    /// A future that is busy for ever: it reads from a channel that is never empty. It yields when the
    /// executor forces it to, or else after a hundred messages.
    fn never_dry() -> impl Future<Output = ()> + Send + 'static {
        async {
            let (sender, receiver) = async_channel::unbounded();
            for message in 1_u64.. {
                let _ = sender.try_send(message);
                let _ = receiver.recv().await;
                if message % 100 == 0 {
                    yield_now().await;
                }
            }
        }
    }
}

/// Wakes its task, and returns pending once.
async fn yield_now() {
    let mut has_yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A timer that sleeps as the executor does.
pub struct ExecutorTimer<X>(PhantomData<fn(X)>);

impl<X> Default for ExecutorTimer<X> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<X: Executor> Timer for ExecutorTimer<X> {
    type Sleep = BoxFuture<'static, ()>;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep_until(&self, at: Instant) -> Self::Sleep {
        Box::pin(X::sleep(at.saturating_duration_since(Instant::now())))
    }
}

/// An executor that takes futures that are not `Send`.
pub trait LocalExecutor: Executor {
    /// Starts a task that is detached, on this thread.
    fn spawn_local<F: Future<Output = ()> + 'static>(&self, future: F);
}
