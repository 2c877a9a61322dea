//! Allocations of a run: how many it makes, and how many bytes they take.

mod common;

use std::cell::RefCell;
use std::future::{Future, poll_fn, ready};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::counting::{Counting, Counts};
use common::{NEVER, Task};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use futures_aggregate::{TestTimer, fetch_and_aggregate, from_stream, stream_results};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Answer = Result<(), ()>;

/// Pending until it is woken. Its waker goes into a list that all sources share.
struct Waits<'a> {
    wakers: &'a RefCell<Vec<Waker>>,
    was_polled: bool,
}

impl Future for Waits<'_> {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        if self.was_polled {
            return Poll::Ready(Ok(()));
        }
        self.was_polled = true;
        self.wakers.borrow_mut().push(cx.waker().clone());
        Poll::Pending
    }
}

/// A source that takes some more bytes.
async fn large(source: impl Future<Output = Answer>) -> Answer {
    let large = [0_u8; 300];
    let answer = source.await;
    assert_eq!(large.len(), 300);
    answer
}

/// Pending for ever. It takes 64 bytes, whether it keeps its waker or not.
struct Waits64 {
    keeps_waker: bool,
    waker: Option<Waker>,
    _rest: [u64; 5],
}

impl Waits64 {
    fn new(keeps_waker: bool) -> Self {
        const { assert!(size_of::<Self>() == 64) };
        Self {
            keeps_waker,
            waker: None,
            _rest: [0; 5],
        }
    }
}

impl Future for Waits64 {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        if self.keeps_waker {
            self.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[test]
fn run_of_ready_sources_makes_at_most_eight_allocations() {
    for count in [1, 5, 64] {
        let sources = (0..count).map(|id| (id, ready(Answer::Ok(()))));
        let mut task = Task::new(fetch_and_aggregate(sources, NEVER));
        let before = Counts::now();
        assert!(task.poll().is_ready());
        assert!(before.made_since() <= 8, "{}", before.made_since());
    }
}

/// A run of sources that wait until they are woken.
fn run_of_waiting_sources(count: usize, wakers: &RefCell<Vec<Waker>>) {
    let was_polled = false;
    let sources = (0..count).map(|id| (id, Waits { wakers, was_polled }));
    let mut task = Task::new(fetch_and_aggregate(sources, NEVER));
    assert!(task.settle().is_pending());
    wakers.take().into_iter().for_each(Waker::wake);
    assert!(task.settle().is_ready());
}

#[test]
fn later_run_takes_the_wakers_of_an_earlier_one() {
    let made = || {
        let before = Counts::now();
        run_of_waiting_sources(32, &RefCell::new(Vec::with_capacity(32)));
        before.made_since()
    };
    let first = made();
    assert!((32..).contains(&first), "{first}");
    let later = [made(), made()];
    // Its slots are in eight allocations.
    assert!(later[0] <= 20 && later[0] == later[1], "{later:?}");
    let made = || {
        let before = Counts::now();
        run_of_waiting_sources(1000, &RefCell::new(Vec::with_capacity(1000)));
        before.made_since()
    };
    let first = made();
    assert!((1000..).contains(&first), "{first}");
    let later = [made(), made()];
    assert!(
        later[0] <= 270 && later[0] == later[1],
        "{first}, {later:?}"
    );
}

#[test]
fn thread_keeps_a_bounded_amount_for_later_runs() {
    std::thread::spawn(|| {
        let before = Counts::now();
        let wakers = RefCell::default();
        let mut tasks: Vec<_> = (0..100)
            .map(|_| {
                let was_polled = false;
                let wakers = &wakers;
                let sources = (0..32).map(move |id| (id, Waits { wakers, was_polled }));
                let mut task = Task::new(fetch_and_aggregate(sources, NEVER));
                assert!(task.settle().is_pending());
                task
            })
            .collect();
        wakers.take().into_iter().for_each(Waker::wake);
        for task in &mut tasks {
            assert!(task.settle().is_ready());
        }
        drop(tasks);
        drop(wakers);
        let kept = before.bytes_since();
        assert!((50_000..90_000).contains(&kept), "{kept}");
        let mut most = 0;
        for count in [100, 1000, 4096, 10_000, 16_000, 100_000, 5, 10_000, 1000] {
            run_of_waiting_sources(count, &RefCell::default());
            most = most.max(before.bytes_since());
        }
        assert!((200_000..400_000).contains(&most), "{most}");
        println!("{kept} bytes after small runs, {most} after large ones");
    })
    .join()
    .unwrap();
}

#[test]
fn source_in_flight_costs_at_most_two_allocations() {
    const COUNT: usize = 10_000;
    let before = Counts::now();
    let sources = (0..COUNT).map(|id| (id, Waits64::new(true)));
    let mut task = Task::new(fetch_and_aggregate(sources, NEVER));
    assert!(task.settle().is_pending());
    let made = before.made_since();
    assert!((COUNT..2 * COUNT).contains(&made), "{made}");
}

#[test]
fn source_that_reuses_a_slot_costs_no_allocation() {
    const LIMIT: usize = 64;
    let wakers = RefCell::new(Vec::with_capacity(2 * LIMIT));
    let counted = RefCell::new(Vec::with_capacity(2));
    let sources = (0..100 * LIMIT).map(|id| {
        if id == 2 * LIMIT || id == 99 * LIMIT {
            counted.borrow_mut().push(Counts::now());
        }
        let source = Waits {
            wakers: &wakers,
            was_polled: false,
        };
        (id, source)
    });
    let mut task = Task::new(fetch_and_aggregate(sources, NEVER).concurrency(LIMIT));
    while task.settle().is_pending() {
        let mut woken = wakers.borrow_mut();
        woken.drain(..).for_each(Waker::wake);
    }
    drop(task);
    let counted = counted.into_inner();
    assert_eq!(counted[1].made - counted[0].made, 0);
}

/// Bytes for each of many sources in flight: in a run, and in a `FuturesUnordered`.
fn bytes_in_flight(keep_wakers: bool) -> (isize, isize) {
    const COUNT: usize = 10_000;
    let before = Counts::now();
    let sources = (0..COUNT).map(|id| (id, Waits64::new(keep_wakers)));
    let mut task = Task::new(fetch_and_aggregate(sources, NEVER));
    assert!(task.settle().is_pending());
    let own = before.bytes_since();
    drop(task);

    let before = Counts::now();
    let mut all: FuturesUnordered<_> = (0..COUNT)
        .map(|id| Waits64::new(keep_wakers).map(move |answer| (id, answer)))
        .collect();
    let mut task = Task::new(all.next());
    assert!(task.settle().is_pending());
    let peer = before.bytes_since();
    (own / COUNT as isize, peer / COUNT as isize)
}

#[test]
fn source_in_flight_takes_less_memory_than_in_futures_unordered_unless_it_keeps_its_waker() {
    let (own, peer) = bytes_in_flight(false);
    assert!(own <= peer, "{own} bytes, {peer} in a FuturesUnordered");
    // The waker of a source is then an allocation of its own, which takes more memory.
    let (own, peer) = bytes_in_flight(true);
    assert!(
        own * 6 <= peer * 8,
        "{own} bytes, {peer} in a FuturesUnordered"
    );
    println!("{own} bytes, {peer} in a FuturesUnordered");
}

#[test]
fn capacity_for_results_is_reserved_once_if_all_are_expected() {
    let sources = (0..1000).map(|id| (id, ready(Answer::Ok(()))));
    let aggregate = Task::new(fetch_and_aggregate(sources, NEVER)).finish();
    // A vector that grows would have a capacity of 1,024.
    assert!((1000..1024).contains(&aggregate.unwrap().results.capacity()));
}

#[test]
fn capacity_for_results_is_reserved_only_for_those_that_are_expected() {
    let source = |id: u64| (id, ready(Answer::Ok(())));
    // The number is unknown, or it is known but fewer are enough.
    let mut task = Task::new(fetch_and_aggregate((0..).map(source), NEVER).quorum(1));
    assert!(task.finish().unwrap().results.capacity() < 10);
    let mut task = Task::new(fetch_and_aggregate((0..1000).map(source), NEVER).quorum(1));
    assert!(task.finish().unwrap().results.capacity() < 10);
    let run = fetch_and_aggregate((0..1000).map(source), NEVER);
    let mut task = Task::new(run.stop_when(|so_far| so_far.results.len() == 1));
    assert!(task.finish().unwrap().results.capacity() < 10);
    // An iterator that may yield far fewer than its upper bound.
    let few = (0..1000).filter(|id| id % 100 == 0).map(source);
    let mut task = Task::new(fetch_and_aggregate(few, NEVER));
    assert!(task.finish().unwrap().results.capacity() < 100);
    // More than there is memory for.
    let before = Counts::now();
    let run = fetch_and_aggregate((0..1 << 40).map(source), NEVER).concurrency(1);
    let mut task = Task::new(run);
    assert!(task.poll().is_pending());
    assert!(before.bytes_since() <= (16 << 20) + 8192);
}

#[test]
fn burst_that_is_over_gives_its_memory_back() {
    const COUNT: usize = 100_000;
    let before = Counts::now();
    let wakers = RefCell::new(Vec::with_capacity(COUNT));
    let (sender, receiver) = async_channel::unbounded();
    let was_polled = false;
    let wakers_of = &wakers;
    let source = move |id| {
        let wakers = wakers_of;
        (id, Waits { wakers, was_polled })
    };
    (0..COUNT).for_each(|id| sender.try_send(source(id)).unwrap());
    let (outcomes, received) = async_channel::unbounded();
    let mut task = Task::new(stream_results(from_stream(receiver), outcomes));
    assert!(task.settle().is_pending());
    let burst = before.bytes_since();
    let answered = || std::iter::from_fn(|| received.try_recv().ok()).count();
    // All but four are woken, the ones in between last.
    let woken: Vec<_> = wakers.take();
    let is_left = |place: usize| place % 25_000 == 7;
    let mut left: Vec<_> = Vec::new();
    for (place, waker) in woken.into_iter().enumerate() {
        match is_left(place) {
            true => left.push(waker),
            false => waker.wake(),
        }
    }
    assert!(task.settle().is_pending());
    assert_eq!(answered(), COUNT - 4);
    let kept = before.bytes_since();
    assert!(kept * 8 < burst, "{kept} of {burst} bytes");
    println!("{kept} of {burst} bytes");
    // The run goes on as before, also in the slots whose memory was given back.
    (0..1000).for_each(|id| sender.try_send(source(COUNT + id)).unwrap());
    assert!(task.settle().is_pending());
    wakers.take().into_iter().chain(left).for_each(Waker::wake);
    drop(sender);
    let streamed = task.finish().unwrap();
    assert_eq!((streamed.delivered, answered()), (COUNT + 1000, 1004));
}

#[test]
fn burst_that_ends_in_the_last_poll_gives_its_memory_back() {
    const COUNT: usize = 1100;
    let wakers = RefCell::new(Vec::with_capacity(COUNT));
    let before = Counts::now();
    let source = |id| {
        let waits = Waits {
            wakers: &wakers,
            was_polled: false,
        };
        (id, large(waits))
    };
    let run = fetch_and_aggregate((0..COUNT).map(source), NEVER);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    let burst = before.bytes_since();
    // They are few only after the poll that gets the last answers.
    let mut woken = wakers.take();
    let _left = woken.split_off(COUNT - 60);
    woken.into_iter().for_each(Waker::wake);
    assert!(task.settle().is_pending());
    let kept = before.bytes_since();
    assert!(kept * 3 < burst, "{kept} of {burst} bytes");
}

#[test]
fn burst_that_times_out_within_a_poll_gives_its_memory_back() {
    const HOUR: Duration = Duration::from_secs(3600);
    const MOMENT: Duration = Duration::from_micros(100);
    let timer = TestTimer::new();
    let wakers = RefCell::new(Vec::with_capacity(1100));
    let before = Counts::now();
    let source = |id| {
        let mut waits = Waits {
            wakers: &wakers,
            was_polled: false,
        };
        let timer = timer.clone();
        let poll = move |cx: &mut Context<'_>| {
            if waits.was_polled {
                // A long poll, after which the run reads the clock.
                timer.advance(3 * MOMENT);
            }
            match waits.was_polled && id < 100 {
                true => Poll::Pending,
                false => waits.poll_unpin(cx),
            }
        };
        (id, large(poll_fn(poll)))
    };
    let run = fetch_and_aggregate((0..1100).map(source), NEVER)
        .timer(timer.clone())
        .source_timeout_by(|&id| match id {
            40..100 => HOUR,
            _ => NEVER,
        });
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    let mut woken = wakers.take();
    let left: Vec<_> = woken.drain(..100).collect();
    woken.into_iter().for_each(Waker::wake);
    assert!(task.settle().is_pending());
    let burst = before.bytes_since();
    // After so many polls the runtime refuses no source.
    for _ in 0..100 {
        left[0].wake_by_ref();
        assert!(task.poll().is_pending());
    }
    // In the next poll the time of all but 40 sources is up.
    timer.advance(HOUR - timer.elapsed() - MOMENT);
    left[0].wake_by_ref();
    assert!(task.settle().is_pending());
    let kept = before.bytes_since();
    assert!(kept * 3 < burst, "{kept} of {burst} bytes");
}

#[test]
fn large_source_is_stored_in_no_more_than_two_places() {
    let large = async {
        let large = [0_u8; 10_000];
        std::future::pending::<()>().await;
        assert_eq!(large.len(), 10_000);
        Answer::Ok(())
    };
    let size = size_of_val(&large) as isize;
    let before = Counts::now();
    let mut task = Task::new(fetch_and_aggregate(std::iter::once((0, large)), NEVER));
    assert!(task.settle().is_pending());
    // Once in the iterator, and once in its slot.
    assert!(
        before.bytes_since() < 2 * size + 4096,
        "{}",
        before.bytes_since()
    );
}

#[test]
fn sources_that_fail_leave_no_room_for_results() {
    for count in [1, 10, 1000, 1_000_000] {
        let sources = (0..count).map(|id: usize| (id, ready(Answer::Err(()))));
        let aggregate = Task::new(fetch_and_aggregate(sources, NEVER))
            .finish()
            .unwrap();
        assert_eq!(aggregate.errors.len(), count);
        assert_eq!(aggregate.results.capacity(), 0);
    }
    let few = |id| if id % 1000 == 0 { Ok(()) } else { Err(()) };
    let sources = (0..1_000_000).map(|id: usize| (id, ready(few(id))));
    let aggregate = Task::new(fetch_and_aggregate(sources, NEVER))
        .finish()
        .unwrap();
    assert_eq!(aggregate.results.len(), 1000);
    assert!(
        aggregate.results.capacity() <= 2000,
        "{}",
        aggregate.results.capacity()
    );
}
