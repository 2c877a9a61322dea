//! Memory: how many bytes a source takes that waits, here and in the peers, and what is left of a burst while
//! the run goes on.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use futures_aggregate::{fetch_and_aggregate, for_each_result, from_stream};
use num_format::{Locale, ToFormattedString};
use tokio::runtime::Builder;
use tokio::task::{JoinSet, yield_now};

/// The number of sources in a burst, and of those that are left.
const BURST: usize = 100_000;
const LEFT: usize = 4;

/// Counts the bytes that are allocated.
struct Counting;

static BYTES: AtomicIsize = AtomicIsize::new(0);

// SAFETY: the allocator of the system does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller keeps the rules of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A source of some bytes that waits for ever.
struct Waits<const BYTES: usize> {
    bytes: [u8; BYTES],
    keeps_waker: bool,
}

thread_local! {
    /// The wakers that sources have kept.
    static KEPT: RefCell<Vec<Waker>> = RefCell::default();
}

impl<const BYTES: usize> Future for Waits<BYTES> {
    type Output = Result<u8, ()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.keeps_waker {
            KEPT.with_borrow_mut(|kept| kept.push(cx.waker().clone()));
        }
        assert_eq!(self.bytes, [0; BYTES]);
        Poll::Pending
    }
}

fn sources<const BYTES: usize>(
    count: usize,
    keeps_waker: bool,
) -> impl Iterator<Item = Waits<BYTES>> {
    let source = move |_| Waits {
        bytes: [0; BYTES],
        keeps_waker,
    };
    (0..count).map(source)
}

/// The bytes of each source of a set, once all of them wait.
fn bytes_each<F: Future>(count: usize, set: impl FnOnce() -> F) -> isize {
    KEPT.set(Vec::with_capacity(count));
    let before = allocated();
    let mut set = Box::pin(set());
    let cx = &mut Context::from_waker(Waker::noop());
    for _ in 0..count {
        assert!(set.as_mut().poll(cx).is_pending());
    }
    let bytes = allocated() - before;
    drop(set);
    (bytes + count as isize / 2) / count as isize
}

fn row<const BYTES: usize>(count: usize, keeps_waker: bool) {
    let own = bytes_each(count, || {
        let sources = sources::<BYTES>(count, keeps_waker).enumerate();
        fetch_and_aggregate(sources, Duration::MAX)
    });
    let unordered = bytes_each(count, || async move {
        let all = sources::<BYTES>(count, keeps_waker).enumerate();
        let all = all.map(|(id, it)| async move { (id, it.await) });
        all.collect::<FuturesUnordered<_>>().next().await
    });
    let buffered = bytes_each(count, || async move {
        let all = sources::<BYTES>(count, keeps_waker).enumerate();
        let all = all.map(|(id, it)| async move { (id, it.await) });
        let mut all: futures_buffered::FuturesUnordered<_> = all.collect();
        all.next().await
    });
    let runtime = Builder::new_current_thread().build().unwrap();
    KEPT.set(Vec::with_capacity(count));
    let before = allocated();
    let mut set = JoinSet::new();
    runtime.block_on(async {
        for (id, source) in sources::<BYTES>(count, keeps_waker).enumerate() {
            set.spawn(async move { (id, source.await) });
        }
        yield_now().await;
    });
    let joined = (allocated() - before + count as isize / 2) / count as isize;
    let kept = if keeps_waker { "yes" } else { "no" };
    let count = count.to_formatted_string(&Locale::en);
    println!("| {count} | {BYTES} | {kept} | {own} | {unordered} | {buffered} | {joined} |");
}

fn allocated() -> isize {
    BYTES.load(Ordering::Relaxed)
}

/// A source that waits until it is woken.
struct Answers {
    was_polled: bool,
}

impl Future for Answers {
    type Output = Result<(), ()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.was_polled {
            return Poll::Ready(Ok(()));
        }
        self.was_polled = true;
        KEPT.with_borrow_mut(|kept| kept.push(cx.waker().clone()));
        Poll::Pending
    }
}

/// All but a few sources of a stream answer, and the run goes on.
fn burst() {
    KEPT.take();
    let answered = Rc::new(RefCell::new(0));
    let before = allocated();
    let burst = futures::stream::iter((0..BURST).map(|id| (id, Answers { was_polled: false })));
    let sources = from_stream(burst.chain(futures::stream::pending()));
    let count = Rc::clone(&answered);
    let mut run = Box::pin(for_each_result(sources, move |_| {
        *count.borrow_mut() += 1;
        std::future::ready(Ok::<_, ()>(()))
    }));
    let cx = &mut Context::from_waker(Waker::noop());
    let mut poll = || (0..BURST).for_each(|_| assert!(run.as_mut().poll(cx).is_pending()));
    poll();
    let wakers = KEPT.take();
    let list = wakers.capacity() * size_of::<Waker>();
    let most = allocated() - before - list as isize;
    let mut wakers = wakers.into_iter();
    let left: Vec<_> = wakers.by_ref().take(LEFT).collect();
    wakers.for_each(Waker::wake);
    poll();
    assert_eq!(*answered.borrow(), BURST - LEFT);
    let rest = allocated() - before;
    println!(
        "\n{} bytes while {} sources wait, {} when {LEFT} of them are left",
        most.to_formatted_string(&Locale::en),
        BURST.to_formatted_string(&Locale::en),
        rest.to_formatted_string(&Locale::en),
    );
    drop(left);
}

fn main() {
    println!(
        "| sources | bytes of the future | keeps its waker | here | FuturesUnordered | futures-buffered | JoinSet |"
    );
    println!("|---:|---:|---|---:|---:|---:|---:|");
    for count in [10_000, 1] {
        row::<0>(count, false);
        row::<0>(count, true);
        row::<64>(count, false);
        row::<64>(count, true);
        row::<1024>(count, false);
        row::<1024>(count, true);
    }
    burst();
}
