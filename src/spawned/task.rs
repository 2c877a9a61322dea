//! The task of a source, and what remains of the source in its run.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};

use futures::task::AtomicWaker;
use pin_project_lite::pin_project;

use crate::panics::{Panics, contain, discard, wake_each};

/// Divides a future into its task and the source that waits for its output.
pub(super) fn split<F: Future>(
    future: F,
    alive: Arc<Alive>,
) -> (SourceTask<F>, SpawnedSource<F::Output>) {
    let link = Arc::new(Link::default());
    let task = SourceTask {
        work: Some(Work {
            future,
            _alive: alive,
        }),
        waker: None,
        link: Arc::clone(&link),
    };
    let has_answered = false;
    (task, SpawnedSource { link, has_answered })
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
        // The one that the link has.
        waker: Option<Waker>,
        link: Arc<Link<F::Output>>,
    }
}

pin_project! {
    /// A future that runs. It is dropped before it counts as gone.
    struct Work<F> {
        #[pin]
        future: F,
        _alive: Arc<Alive>,
    }
}

impl<F: Future> Future for SourceTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let link = &**this.link;
        if !this
            .waker
            .as_ref()
            .is_some_and(|own| own.will_wake(cx.waker()))
        {
            link.task.register(cx.waker());
            *this.waker = Some(cx.waker().clone());
        }
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
    has_answered: bool,
}

// Nothing in it is pinned.
impl<O> Unpin for SpawnedSource<O> {}

impl<O> SpawnedSource<O> {
    fn take_output(&mut self) -> Option<O> {
        // Acquire: pairs with the Release when the output is passed on.
        if !self.link.has_output.load(Ordering::Acquire) {
            return None;
        }
        let output = self.link.output().take()?;
        self.has_answered = true;
        match output {
            Ok(output) => Some(output),
            Err(payload) => resume_unwind(payload),
        }
    }
}

impl<O> Future for SpawnedSource<O> {
    type Output = O;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<O> {
        if let Some(output) = self.take_output() {
            return Poll::Ready(output);
        }
        self.link.run.register(cx.waker());
        // It may have come meanwhile.
        match self.take_output() {
            Some(output) => Poll::Ready(output),
            None => Poll::Pending,
        }
    }
}

impl<O> Drop for SpawnedSource<O> {
    fn drop(&mut self) {
        if self.has_answered {
            return;
        }
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
#[derive(Clone)]
pub struct Tasks {
    /// Each future has a reference, and the list of the sources has one.
    alive: Weak<Alive>,
    gone: Arc<Waiting>,
}

/// Shared by the futures of the sources, and by their list. Dropped with the last of them.
pub(super) struct Alive(Arc<Waiting>);

/// Who waits until all futures are gone.
#[derive(Default)]
struct Waiting {
    wakers: Mutex<Vec<Waker>>,
    /// Whether the list of the sources is gone.
    is_list_gone: AtomicBool,
}

/// The list's share of a count.
pub(super) struct Counting(Arc<Alive>);

impl Counting {
    pub(super) fn new() -> Self {
        Self(Arc::new(Alive(Arc::default())))
    }

    /// Counts one more future, until the value is dropped.
    pub(super) fn count(&self) -> Arc<Alive> {
        Arc::clone(&self.0)
    }

    pub(super) fn tasks(&self) -> Tasks {
        Tasks {
            alive: Arc::downgrade(&self.0),
            gone: Arc::clone(&self.0.0),
        }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.0.0.is_list_gone.store(true, Ordering::Release);
    }
}

impl Waiting {
    fn wakers(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        // The count is zero already, and whoever adds a waker after this looks at the count.
        let wakers = std::mem::take(&mut *self.0.wakers());
        contain(|| wake_each(wakers));
    }
}

impl Tasks {
    /// The number of sources whose futures were made and not dropped yet, on whatever thread.
    pub fn alive(&self) -> usize {
        let is_list_gone = self.gone.is_list_gone.load(Ordering::Acquire);
        let all = self.alive.strong_count();
        all.saturating_sub(usize::from(!is_list_gone))
    }

    /// Waits until no source and no future of one is left. After a run has ended, that takes as long as its
    /// executor needs to poll the tasks that were cancelled.
    ///
    /// The future may be dropped at any time.
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
        let Tasks { alive, gone } = &self.0;
        let mut wakers = gone.wakers();
        // Under the lock: the last one takes it after its count has become zero.
        if alive.strong_count() == 0 {
            return Poll::Ready(());
        }
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
