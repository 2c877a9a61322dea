//! The task of a source, and what remains of the source in its run.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use futures::task::AtomicWaker;
use pin_project_lite::pin_project;

use crate::panics::{Panics, contain, discard, wake_each};

/// Divides a future into its task and the source that waits for its output.
pub(super) fn split<F: Future>(
    future: F,
    tasks: &Tasks,
) -> (SourceTask<F>, SpawnedSource<F::Output>) {
    let link = Arc::new(Link::default());
    let task = SourceTask {
        work: Some(Work {
            future,
            _alive: Alive::new(&tasks.0),
        }),
        link: Arc::clone(&link),
    };
    (task, SpawnedSource { link })
}

/// What the task and the source share.
struct Link<O> {
    /// The output of the future, or its panic.
    output: Mutex<Option<Result<O, Box<dyn Any + Send>>>>,
    /// Whether there is an output.
    has_output: AtomicBool,
    /// Whether the source was dropped.
    is_cancelled: AtomicBool,
    /// The task of the run.
    run: AtomicWaker,
    /// The task of the source.
    task: AtomicWaker,
}

impl<O> Default for Link<O> {
    fn default() -> Self {
        Self {
            output: Mutex::new(None),
            has_output: AtomicBool::new(false),
            is_cancelled: AtomicBool::new(false),
            run: AtomicWaker::new(),
            task: AtomicWaker::new(),
        }
    }
}

impl<O> Link<O> {
    fn output(&self) -> MutexGuard<'_, Option<Result<O, Box<dyn Any + Send>>>> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes the output on, and wakes the run.
    fn finish(&self, output: Result<O, Box<dyn Any + Send>>) {
        *self.output() = Some(output);
        // Release: pairs with the Acquire in the poll of the source.
        self.has_output.store(true, Ordering::Release);
        self.run.wake();
    }
}

pin_project! {
    /// The task of a source that [`spawned`](crate::spawned()) passes to the caller's executor.
    #[must_use = "the source answers only if its task is spawned"]
    pub struct SourceTask<F: Future> {
        #[pin]
        work: Option<Work<F>>,
        link: Arc<Link<F::Output>>,
    }
}

pin_project! {
    /// A future that runs. It is dropped before it counts as gone.
    struct Work<F> {
        #[pin]
        future: F,
        _alive: Alive,
    }
}

impl<F: Future> Future for SourceTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let link = &**this.link;
        link.task.register(cx.waker());
        let mut panics = Panics::default();
        // Acquire: what came before the source was dropped is seen. A source that is dropped later wakes
        // this task.
        let output = match this.work.as_mut().as_pin_mut() {
            Some(work) if !link.is_cancelled.load(Ordering::Acquire) => {
                let poll = || work.project().future.poll(cx);
                match catch_unwind(AssertUnwindSafe(poll)) {
                    Ok(output) => Some(Ok(ready!(output))),
                    Err(payload) => Some(Err(payload)),
                }
            }
            _ => None,
        };
        // The future is gone when the run has its output.
        panics.catch(|| this.work.set(None));
        panics.catch(|| drop(link.task.take()));
        if let Some(output) = output {
            panics.catch(|| link.finish(output));
        }
        panics.resume();
        Poll::Ready(())
    }
}

impl<F: Future> fmt::Debug for SourceTask<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceTask")
            .field("is_done", &self.work.is_none())
            .finish_non_exhaustive()
    }
}

/// A source whose future runs in a task, made by [`spawned`](crate::spawned()). It resolves to the output of
/// the future. Dropping it cancels the task.
#[must_use = "a dropped source is cancelled"]
pub struct SpawnedSource<O> {
    link: Arc<Link<O>>,
}

// Nothing in it is pinned.
impl<O> Unpin for SpawnedSource<O> {}

impl<O> SpawnedSource<O> {
    fn take_output(&self) -> Option<O> {
        // Acquire: pairs with the Release when the output is passed on.
        if !self.link.has_output.load(Ordering::Acquire) {
            return None;
        }
        match self.link.output().take()? {
            Ok(output) => Some(output),
            Err(payload) => resume_unwind(payload),
        }
    }
}

impl<O> Future for SpawnedSource<O> {
    type Output = O;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<O> {
        self.link.run.register(cx.waker());
        match self.take_output() {
            Some(output) => Poll::Ready(output),
            None => Poll::Pending,
        }
    }
}

impl<O> Drop for SpawnedSource<O> {
    fn drop(&mut self) {
        let link = &*self.link;
        if link.has_output.load(Ordering::Acquire) {
            let rest = link.output().take();
            contain(|| match rest {
                Some(Err(payload)) => discard(payload),
                rest => drop(rest),
            });
            return;
        }
        contain(|| drop(link.run.take()));
        // Release: pairs with the Acquire in the poll of the task.
        link.is_cancelled.store(true, Ordering::Release);
        contain(|| link.task.wake());
    }
}

impl<O> fmt::Debug for SpawnedSource<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_done = self.link.has_output.load(Ordering::Relaxed);
        f.debug_struct("SpawnedSource")
            .field("is_done", &is_done)
            .finish_non_exhaustive()
    }
}

/// The tasks of sources that were [`spawned`](crate::spawned()). Clones are the same tasks.
#[derive(Clone, Default)]
pub struct Tasks(Arc<Count>);

#[derive(Default)]
struct Count {
    /// The number of futures that were not dropped.
    alive: AtomicUsize,
    /// Who waits until there is none.
    waiting: Mutex<Vec<Waker>>,
}

impl Count {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a future until it was dropped.
struct Alive(Arc<Count>);

impl Alive {
    fn new(count: &Arc<Count>) -> Self {
        // Relaxed: the one that waits was polled after the sources, or is woken.
        count.alive.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        // SeqCst: either this sees the waker of `Gone`, or `Gone` sees this count.
        if self.0.alive.fetch_sub(1, Ordering::SeqCst) == 1 {
            let wakers = std::mem::take(&mut *self.0.waiting());
            contain(|| wake_each(wakers));
        }
    }
}

impl Tasks {
    /// The number of sources whose futures have not been dropped yet, on whatever thread.
    pub fn alive(&self) -> usize {
        self.0.alive.load(Ordering::SeqCst)
    }

    /// Waits until no future of these sources is left. After a run has ended, that takes as long as its
    /// executor needs to poll the tasks that were cancelled.
    ///
    /// The future may be dropped at any time. It resolves too if there was never a task.
    pub fn gone(&self) -> Gone {
        Gone(self.clone())
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks")
            .field("alive", &self.alive())
            .finish()
    }
}

/// Waits until all tasks are gone, made by [`Tasks::gone`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are polled"]
pub struct Gone(Tasks);

impl Future for Gone {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.alive() == 0 {
            return Poll::Ready(());
        }
        let mut waiting = self.0.0.waiting();
        let is_known = waiting.iter().any(|waker| waker.will_wake(cx.waker()));
        if !is_known {
            waiting.push(cx.waker().clone());
        }
        drop(waiting);
        // The last one may have gone meanwhile.
        match self.0.alive() {
            0 => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}
