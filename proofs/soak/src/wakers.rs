//! Wakers of tasks that are counted for as long as a clone of them exists.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use crate::census::{Alive, WAKERS};

struct Counted {
    waker: Waker,
    _alive: Alive,
}

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.waker.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.waker.wake_by_ref();
    }
}

/// Polls a future with a waker that is counted. The future has to stay in the task that polls it first.
pub(crate) async fn with_counted_waker<F: Future>(future: F) -> F::Output {
    let mut counted = None;
    let mut future = pin!(future);
    poll_fn(|cx| {
        let waker = counted.get_or_insert_with(|| {
            Waker::from(Arc::new(Counted {
                waker: cx.waker().clone(),
                _alive: WAKERS.enter(),
            }))
        });
        future.as_mut().poll(&mut Context::from_waker(waker))
    })
    .await
}
