//! Sources that take real time, and a count of the sources that are alive.

use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};

use crate::Executor;

/// How long a slow source takes.
pub const SLOW: Duration = Duration::from_millis(100);

/// A timeout that is too short for a slow source.
pub const SHORT: Duration = Duration::from_millis(30);

/// A timeout that never passes in these tests.
pub const LONG: Duration = Duration::from_secs(60);

/// Counts the sources that are alive, and can wait until there are none.
pub struct Census {
    member: Option<Arc<Member>>,
    all_gone: Receiver<()>,
}

/// Every source holds one.
struct Member(#[allow(dead_code, reason = "closes when it is dropped")] Sender<()>);

impl Default for Census {
    fn default() -> Self {
        Self::new()
    }
}

impl Census {
    pub fn new() -> Self {
        let (sender, all_gone) = async_channel::bounded(1);
        Self {
            member: Some(Arc::new(Member(sender))),
            all_gone,
        }
    }

    /// Counts a future for as long as it exists.
    pub fn counted<F>(&self, future: F) -> impl Future<Output = F::Output> + Send + 'static + use<F>
    where
        F: Future + Send + 'static,
    {
        let member = self.member.clone();
        async move {
            let _member = member;
            future.await
        }
    }

    /// A source that answers after [`SLOW`].
    pub(crate) fn slow<X: Executor>(
        &self,
        id: u32,
    ) -> (
        u32,
        impl Future<Output = Result<u32, String>> + Send + 'static + use<X>,
    ) {
        let answer = async move {
            X::sleep(SLOW).await;
            Ok(id)
        };
        (id, self.counted(answer))
    }

    /// A source that never answers.
    pub(crate) fn hanging(
        &self,
        id: u32,
    ) -> (
        u32,
        impl Future<Output = Result<u32, String>> + Send + 'static,
    ) {
        (id, self.counted(pending()))
    }

    /// How many sources are alive.
    pub fn alive(&self) -> usize {
        self.member.as_ref().map_or(0, Arc::strong_count) - 1
    }

    /// Waits until no source is alive.
    pub async fn all_gone(mut self) {
        self.member = None;
        // Nothing is ever sent. The channel closes when the last member is dropped.
        let _ = self.all_gone.recv().await;
    }
}
