//! The task of a source, and what remains of the source in its run.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};

use pin_project_lite::pin_project;

use crate::panics::{Panics, contain, discard, wake_each};

type Payload = Box<dyn Any + Send>;

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
    shared: Mutex<Shared<O>>,
    /// Whether the source was dropped. Only to be read without the lock.
    is_cancelled: AtomicBool,
}

struct Shared<O> {
    /// The output of the future, or its panic.
    output: Option<Result<O, Payload>>,
    /// A panic of its destructor, after the output.
    late_panic: Option<Payload>,
    /// The waker of the source in its run.
    run: Option<Waker>,
    /// The waker of the task.
    task: Option<Waker>,
}

impl<O> Default for Link<O> {
    fn default() -> Self {
        Self {
            shared: Mutex::new(Shared {
                output: None,
                late_panic: None,
                run: None,
                task: None,
            }),
            is_cancelled: AtomicBool::new(false),
        }
    }
}

impl<O> Link<O> {
    fn lock(&self) -> MutexGuard<'_, Shared<O>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes the output on, and wakes the run. Returns it if the source was dropped.
    fn finish(
        &self,
        output: Result<O, Payload>,
        late_panic: Option<Payload>,
    ) -> Option<Result<O, Payload>> {
        let mut shared = self.lock();
        // Relaxed: it is set under the lock.
        if self.is_cancelled.load(Ordering::Relaxed) {
            return Some(output);
        }
        shared.output = Some(output);
        shared.late_panic = late_panic;
        let run = shared.run.take();
        drop(shared);
        wake_each(run);
        None
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

    impl<F: Future> PinnedDrop for SourceTask<F> {
        fn drop(this: Pin<&mut Self>) {
            // The executor may drop several tasks while one of them panics.
            let mut this = this.project();
            contain(|| this.work.set(None));
        }
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
        let is_known = |own: &Waker| own.will_wake(cx.waker());
        if !this.waker.as_ref().is_some_and(is_known) {
            let (own, shared) = (cx.waker().clone(), cx.waker().clone());
            let before = link.lock().task.replace(shared);
            *this.waker = Some(own);
            drop(before);
        }
        // Acquire: pairs with the Release when the source is dropped. A source that is dropped after this
        // wakes the task.
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
        let late_panic = catch_unwind(AssertUnwindSafe(|| this.work.set(None))).err();
        let mut panics = Panics::default();
        let left = match output {
            Some(output) => panics.catch(|| link.finish(output, late_panic)).flatten(),
            None => late_panic.map(Err),
        };
        // There is no run any more for these. The panic hook has reported a panic.
        match left {
            Some(Ok(value)) => drop(panics.catch(|| drop(value))),
            Some(Err(payload)) => discard(payload),
            None => {}
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

impl<O> Future for SpawnedSource<O> {
    type Output = O;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<O> {
        let waker = cx.waker().clone();
        let mut shared = self.link.lock();
        let Some(output) = shared.output.take() else {
            let before = shared.run.replace(waker);
            drop(shared);
            drop(before);
            return Poll::Pending;
        };
        drop(shared);
        self.has_answered = true;
        match output {
            Ok(output) => Poll::Ready(output),
            Err(payload) => resume_unwind(payload),
        }
    }
}

impl<O> Drop for SpawnedSource<O> {
    fn drop(&mut self) {
        let mut shared = self.link.lock();
        // Release: pairs with the Acquire in the poll of the task.
        self.link.is_cancelled.store(true, Ordering::Release);
        let (run, task) = (shared.run.take(), shared.task.take());
        let (output, late_panic) = (shared.output.take(), shared.late_panic.take());
        drop(shared);
        let mut panics = Panics::default();
        panics.catch(|| drop(run));
        match output {
            Some(Ok(output)) => drop(panics.catch(|| drop(output))),
            Some(Err(payload)) => discard(payload),
            None if self.has_answered => drop(panics.catch(|| drop(task))),
            // The task has not ended.
            None => drop(panics.catch(|| wake_each(task))),
        }
        if let Some(payload) = late_panic {
            panics.note(payload);
        }
        panics.resume();
    }
}

impl<O> fmt::Debug for SpawnedSource<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnedSource")
            .field("has_answered", &self.has_answered)
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
    wakers: Mutex<Wakers>,
    /// Whether the list of the sources is gone.
    is_list_gone: AtomicBool,
}

/// The wakers of those who wait, each with a number.
#[derive(Default)]
struct Wakers {
    all: BTreeMap<u64, Waker>,
    next: u64,
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
        // Relaxed: the Release is that of the reference, which is dropped after this.
        self.0.0.is_list_gone.store(true, Ordering::Relaxed);
    }
}

impl Waiting {
    fn wakers(&self) -> MutexGuard<'_, Wakers> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        // The count is zero already, and whoever adds a waker after this looks at the count.
        let wakers = std::mem::take(&mut self.0.wakers().all);
        contain(|| wake_each(wakers.into_values()));
    }
}

impl Tasks {
    /// The number of sources whose futures were made and not dropped yet, on whatever thread. While the run
    /// ends on another thread it may be one too high.
    pub fn alive(&self) -> usize {
        // The count first: if the list goes in between, it is counted.
        let all = self.alive.strong_count();
        // Acquire: pairs with the Release when the list drops its reference, so that a count without the
        // list is seen with the flag.
        fence(Ordering::Acquire);
        let is_list_gone = self.gone.is_list_gone.load(Ordering::Relaxed);
        all.saturating_sub(usize::from(!is_list_gone))
    }

    /// Waits until no source and no future of one is left. After a run has ended, that takes as long as its
    /// executor needs to poll the tasks that were cancelled. It counts the sources that have not started too, so
    /// await it after the run, and not in a source or a body of it.
    ///
    /// The future may be dropped at any time.
    pub fn gone(&self) -> Gone {
        let mut wakers = self.gone.wakers();
        wakers.next += 1;
        Gone {
            tasks: self.clone(),
            number: wakers.next,
        }
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
pub struct Gone {
    tasks: Tasks,
    /// The number of its waker.
    number: u64,
}

impl Future for Gone {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let Tasks { alive, gone } = &self.tasks;
        let mut wakers = gone.wakers();
        // Under the lock: the last one takes it after its count has become zero.
        if alive.strong_count() == 0 {
            return Poll::Ready(());
        }
        let before = wakers.all.insert(self.number, waker);
        drop(wakers);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        let own = self.tasks.gone.wakers().all.remove(&self.number);
        contain(|| drop(own));
    }
}
