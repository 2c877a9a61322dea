//! Sources that run as tasks of their own, on an executor that the test drives by hand.

mod common;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use common::script::yield_now;
use common::waker::{Use, waker};
use common::{Answer, NEVER, Task, alive, ids, panic_of, polls, sources};
use futures_aggregate::types::SourceTask;
use futures_aggregate::{
    Interrupted, Limit, Reason, SourceError, TestTimer, each, fetch_and_aggregate, from_stream,
    hedge, process_batch, retry, spawned, stream_results,
};

/// Tasks in the order in which they were spawned. `None` is one that has ended.
#[derive(Clone, Default)]
struct Executor(Rc<RefCell<Vec<Option<Spawn>>>>);

struct Spawn {
    future: Pin<Box<dyn Future<Output = ()>>>,
    wakes: Arc<Wakes>,
}

/// Counts wakes. A new task was woken once.
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Executor {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let spawn = Spawn {
            future: Box::pin(task),
            wakes: Arc::new(Wakes(AtomicUsize::new(1))),
        };
        self.0.borrow_mut().push(Some(spawn));
    }

    /// What passes tasks to this executor.
    fn spawner<F: Future + 'static>(&self) -> impl FnMut(SourceTask<F>) + use<F>
    where
        F::Output: 'static,
    {
        let executor = self.clone();
        move |task| executor.spawn(task)
    }

    /// The number of tasks that were spawned.
    fn spawned(&self) -> usize {
        self.0.borrow().len()
    }

    /// Polls all tasks that were woken, until none is.
    fn run(&self) {
        while let Some(place) = self.woken() {
            self.poll(place);
        }
    }

    fn woken(&self) -> Option<usize> {
        let all = self.0.borrow();
        let is_woken = |spawn: &Spawn| spawn.wakes.0.load(Ordering::SeqCst) > 0;
        all.iter()
            .position(|spawn| spawn.as_ref().is_some_and(is_woken))
    }

    fn poll(&self, place: usize) {
        let mut spawn = self.0.borrow_mut()[place].take().unwrap();
        spawn.wakes.0.store(0, Ordering::SeqCst);
        let waker = Waker::from(spawn.wakes.clone());
        let poll = spawn.future.as_mut().poll(&mut Context::from_waker(&waker));
        if poll.is_pending() {
            self.0.borrow_mut()[place] = Some(spawn);
        }
    }

    /// Drops a task.
    fn abort(&self, place: usize) {
        let spawn = self.0.borrow_mut()[place].take();
        assert!(spawn.is_some(), "the task has ended");
    }

    /// Drives a run and the tasks until both wait.
    fn drive<F: Future>(&self, run: &mut Task<F>) -> Poll<F::Output> {
        loop {
            let poll = run.settle();
            self.run();
            if poll.is_ready() || !run.is_woken() {
                return poll;
            }
        }
    }
}

#[test]
fn task_is_spawned_when_its_source_starts() {
    let executor = Executor::default();
    let (handles, sources) = sources(5);
    let sources = spawned(sources, executor.spawner());
    let tasks = sources.tasks();
    let run = fetch_and_aggregate(sources, NEVER).concurrency(2);
    let mut run = Task::new(run.in_order());
    assert_eq!((executor.spawned(), tasks.alive()), (0, 0));
    assert!(executor.drive(&mut run).is_pending());
    assert_eq!((executor.spawned(), tasks.alive()), (2, 2));
    for handle in &handles {
        handle.answer(Ok(1));
    }
    let aggregate = executor.drive(&mut run);
    let Poll::Ready(Ok(aggregate)) = aggregate else {
        panic!("{aggregate:?}");
    };
    assert_eq!(ids(&aggregate.results), [0, 1, 2, 3, 4]);
    assert_eq!((executor.spawned(), tasks.alive()), (5, 0));
}

#[test]
fn future_is_dropped_before_its_outcome_is_there() {
    let executor = Executor::default();
    let (handles, sources) = sources(2);
    let mut run = Task::new(fetch_and_aggregate(
        spawned(sources, executor.spawner()),
        NEVER,
    ));
    // How many futures there are when the run is woken.
    let seen = Arc::<Mutex<Vec<usize>>>::default();
    let (watched, noted) = (handles.clone(), Arc::clone(&seen));
    let woken = waker(move |used| {
        if used == Use::Wake {
            noted.lock().unwrap().push(alive(&watched));
        }
    });
    assert!(run.poll_with(&woken).is_pending());
    executor.run();
    handles[1].answer(Ok(1));
    executor.run();
    assert!(run.poll_with(&woken).is_pending());
    handles[0].answer(Err("no"));
    executor.run();
    assert!(run.poll_with(&woken).is_ready());
    assert_eq!(*seen.lock().unwrap(), [1, 0]);
}

/// Ends a run with two sources in flight in some way. The tasks have to be gone when they are polled next.
fn cancelled(end: impl FnOnce(&mut Task<Pin<Box<dyn Future<Output = ()>>>>, &TestTimer)) {
    let executor = Executor::default();
    let (handles, sources) = sources(2);
    let sources = spawned(sources, executor.spawner());
    let tasks = sources.tasks();
    let timer = TestTimer::new();
    let run = fetch_and_aggregate(sources, Duration::from_secs(2)).timer(timer.clone());
    let run: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async {
        let partial = run.await.unwrap_err().partial;
        assert_eq!(partial.unfinished, [0, 1]);
    });
    let mut run = Task::new(run);
    assert!(executor.drive(&mut run).is_pending());
    let mut gone = Task::new(tasks.gone());
    assert!(gone.poll().is_pending());
    end(&mut run, &timer);
    assert_eq!((tasks.alive(), alive(&handles)), (2, 2));
    assert!(!gone.is_woken());
    executor.run();
    assert_eq!((tasks.alive(), alive(&handles)), (0, 0));
    assert!(gone.is_woken() && gone.poll().is_ready());
    assert_eq!(polls(&handles), [1, 1]);
    assert!(executor.0.borrow().iter().all(Option::is_none));
}

#[test]
fn tasks_of_a_run_that_is_dropped_end() {
    cancelled(|run, _| run.drop_future());
}

#[test]
fn tasks_of_a_run_that_times_out_end() {
    cancelled(|run, timer| {
        timer.advance(Duration::from_secs(2));
        assert!(run.settle().is_ready());
    });
}

#[test]
fn task_of_a_source_that_times_out_ends() {
    let executor = Executor::default();
    let (handles, sources) = sources(2);
    let timer = TestTimer::new();
    let run = fetch_and_aggregate(spawned(sources, executor.spawner()), NEVER);
    let run = run
        .timer(timer.clone())
        .source_timeout(Duration::from_secs(1));
    let mut run = Task::new(run);
    assert!(executor.drive(&mut run).is_pending());
    handles[1].answer(Ok(1));
    assert!(executor.drive(&mut run).is_pending());
    timer.advance(Duration::from_secs(1));
    let aggregate = run.finish().unwrap();
    assert_eq!(aggregate.errors, [(0, SourceError::TimedOut)]);
    executor.run();
    assert_eq!(alive(&handles), 0);
}

#[test]
fn answer_that_is_there_beats_the_timeout() {
    let executor = Executor::default();
    let (handles, sources) = sources(1);
    let timer = TestTimer::new();
    let run = fetch_and_aggregate(spawned(sources, executor.spawner()), Duration::from_secs(1));
    let mut run = Task::new(run.timer(timer.clone()));
    assert!(executor.drive(&mut run).is_pending());
    handles[0].answer(Ok(7));
    executor.run();
    timer.advance(Duration::from_secs(1));
    assert_eq!(run.finish().unwrap().results, [(0, 7)]);
}

#[test]
fn panic_is_an_outcome_or_unwinds_from_the_run() {
    for is_caught in [true, false] {
        let executor = Executor::default();
        let (handles, sources) = sources(2);
        handles[0].on_poll(|_| panic!("the first one breaks"));
        handles[1].answer(Ok(1));
        let run = fetch_and_aggregate(spawned(sources, executor.spawner()), NEVER);
        if is_caught {
            let mut run = Task::new(run.catch_panics());
            assert!(run.settle().is_pending());
            executor.run();
            let aggregate = run.finish().unwrap();
            let error = SourceError::Panicked("the first one breaks".to_owned());
            assert_eq!(aggregate.errors, [(0, error)]);
            assert_eq!(aggregate.results, [(1, 1)]);
        } else {
            let mut run = Task::new(run);
            assert!(run.settle().is_pending());
            executor.run();
            assert_eq!(panic_of(|| run.settle()), "the first one breaks");
        }
        assert_eq!(alive(&handles), 0);
    }
}

#[test]
fn source_whose_task_was_aborted_is_unfinished() {
    let executor = Executor::default();
    let (handles, sources) = sources(3);
    let timer = TestTimer::new();
    let sources = spawned(sources, executor.spawner());
    let tasks = sources.tasks();
    let run = fetch_and_aggregate(sources, Duration::from_secs(1)).catch_panics();
    let mut run = Task::new(run.timer(timer.clone()));
    assert!(executor.drive(&mut run).is_pending());
    executor.abort(1);
    assert_eq!((tasks.alive(), alive(&handles)), (2, 2));
    handles[0].answer(Ok(1));
    handles[2].answer(Err("no"));
    assert!(executor.drive(&mut run).is_pending());
    timer.advance(Duration::from_secs(1));
    let Interrupted {
        reason, partial, ..
    } = run.finish().unwrap_err();
    assert_eq!(reason, Reason::TimedOut);
    assert_eq!(partial.results, [(0, 1)]);
    assert_eq!(partial.errors, [(2, SourceError::Failed("no"))]);
    assert_eq!(partial.unfinished, [1]);
    assert_eq!(tasks.alive(), 0);
}

#[test]
fn panic_of_the_spawner_is_that_of_the_source() {
    let executor = Executor::default();
    let (handles, sources) = sources(3);
    let mut spawn = executor.spawner();
    let mut number = 0;
    let sources = spawned(sources, |task| {
        number += 1;
        assert_ne!(number, 2, "there is no runtime");
        spawn(task);
    });
    let tasks = sources.tasks();
    let mut run = Task::new(fetch_and_aggregate(sources, NEVER).catch_panics());
    assert!(executor.drive(&mut run).is_pending());
    assert_eq!((tasks.alive(), alive(&handles)), (2, 2));
    handles[0].answer(Ok(1));
    handles[2].answer(Ok(1));
    let Poll::Ready(Ok(aggregate)) = executor.drive(&mut run) else {
        panic!("the run has not ended");
    };
    assert_eq!(ids(&aggregate.results), [0, 2]);
    let [(1, SourceError::Panicked(message))] = &aggregate.errors[..] else {
        panic!("{aggregate:?}");
    };
    assert!(message.contains("there is no runtime"), "{message}");
}

/// There is no run any more that it could unwind from, and the task of an executor must not panic for it.
#[test]
fn panic_in_the_destructor_of_a_cancelled_source_is_dropped() {
    let executor = Executor::default();
    let (handles, sources) = sources(2);
    handles[0].on_drop(|| panic!("the destructor breaks"));
    let sources = spawned(sources, executor.spawner());
    let tasks = sources.tasks();
    let mut run = Task::new(fetch_and_aggregate(sources, NEVER));
    assert!(executor.drive(&mut run).is_pending());
    run.drop_future();
    executor.run();
    assert_eq!((tasks.alive(), alive(&handles)), (0, 0));
}

#[test]
fn panic_in_the_destructor_of_an_answered_source_unwinds_from_the_run_and_its_answer_counts() {
    let executor = Executor::default();
    let (handles, sources) = sources(2);
    handles[0].on_drop(|| panic!("the destructor breaks"));
    handles[0].answer(Ok(1));
    let sources = spawned(sources, executor.spawner());
    let mut run = Task::new(fetch_and_aggregate(sources, NEVER));
    assert!(run.settle().is_pending());
    executor.run();
    assert_eq!(panic_of(|| run.settle()), "the destructor breaks");
    handles[1].answer(Ok(2));
    let Poll::Ready(Ok(aggregate)) = executor.drive(&mut run) else {
        panic!("the run has not ended");
    };
    assert_eq!(aggregate.results, [(0, 1), (1, 2)]);
}

/// A source that waits, and panics when it is dropped.
struct Breaks;

impl Future for Breaks {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        Poll::Pending
    }
}

impl Drop for Breaks {
    fn drop(&mut self) {
        panic!("the destructor breaks");
    }
}

#[test]
fn sources_that_panic_in_their_destructors_do_not_abort() {
    let list = || [0, 1, 2].map(|id| (id, Breaks));
    let executor = Executor::default();
    // Never started, or one of them.
    for polls in [0, 1] {
        let run = fetch_and_aggregate(spawned(Vec::from(list()), executor.spawner()), NEVER);
        let mut run = Task::new(run.concurrency(1));
        (0..polls).for_each(|_| assert!(run.poll().is_pending()));
        assert_eq!(panic_of(|| run.drop_future()), "the destructor breaks");
        executor.run();
    }
    let batches = [(); 2].map(|()| spawned(Vec::from(list()), executor.spawner()));
    let run = process_batch(batches);
    assert_eq!(panic_of(|| drop(run)), "the destructor breaks");
    // The spawner panics as well.
    let sources = spawned(list(), |_: SourceTask<Breaks>| {
        panic!("there is no runtime")
    });
    let mut run = Task::new(fetch_and_aggregate(sources, NEVER).catch_panics());
    let aggregate = run.finish().unwrap();
    let error = SourceError::Panicked("there is no runtime".to_owned());
    assert_eq!(aggregate.errors, [0, 1, 2].map(|id| (id, error.clone())));
}

/// The run gives the place back before the task is gone.
#[test]
fn retry_in_a_task_loses_no_place_of_a_limit() {
    let executor = Executor::default();
    let limit = Limit::new(1);
    let of_retries = limit.clone();
    let failing = each(0..1, move |_| {
        let fails = |_| std::future::ready(Err::<u8, ()>(()));
        retry(Duration::from_secs(3600), 5, fails).release(&of_retries)
    });
    let sources = spawned(failing, executor.spawner());
    let run = fetch_and_aggregate(sources, NEVER).concurrency(&limit);
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    executor.poll(0);
    assert_eq!(limit.in_use(), 0);
    run.drop_future();
    let other = fetch_and_aggregate([(0, common::ready(Ok(1)))], NEVER).concurrency(&limit);
    assert_eq!(Task::new(other).finish().unwrap().results.len(), 1);
    executor.run();
    assert_eq!(limit.in_use(), 0);
}

/// A waker whose clone panics may come first.
#[test]
fn waker_that_panics_is_forgotten() {
    let executor = Executor::default();
    let (handles, sources) = sources(1);
    let mut run = Task::new(fetch_and_aggregate(
        spawned(sources, executor.spawner()),
        NEVER,
    ));
    assert!(run.settle().is_pending());
    let mut task = Task::new(executor.0.borrow_mut()[0].take().unwrap().future);
    let broken = waker(|used| assert_ne!(used, Use::Clone, "the clone breaks"));
    assert!(panic_of(|| task.poll_with(&broken)).contains("the clone breaks"));
    assert!(task.poll().is_pending());
    run.drop_future();
    assert!(task.is_woken() && task.poll().is_ready());
    assert_eq!(alive(&handles), 0);
}

#[test]
fn futures_that_waited_for_the_tasks_leave_no_waker() {
    let executor = Executor::default();
    let (_handles, sources) = sources(1);
    let sources = spawned(sources, executor.spawner());
    let tasks = sources.tasks();
    let mut run = Task::new(fetch_and_aggregate(sources, NEVER));
    assert!(executor.drive(&mut run).is_pending());
    let mut gone = Task::new(tasks.gone());
    assert!(gone.poll().is_pending());
    assert_eq!(gone.wakers(), 1);
    gone.drop_future();
    assert_eq!(gone.wakers(), 0);
}

/// Another thread counts the futures while the run ends.
#[test]
fn future_that_is_alive_is_counted_while_the_list_ends() {
    for _ in 0..2000 {
        let executor = Executor::default();
        let (_handles, sources) = sources(1);
        let sources = spawned(sources, executor.spawner());
        let tasks = sources.tasks();
        let mut run = Task::new(fetch_and_aggregate(sources, NEVER));
        let is_over = Arc::new(AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let (counted, seen) = (tasks.clone(), Arc::clone(&is_over));
            assert!(run.poll().is_pending());
            let counting = scope.spawn(move || {
                let mut least = usize::MAX;
                while seen.load(Ordering::SeqCst) == 0 {
                    least = least.min(counted.alive());
                }
                least
            });
            run.drop_future();
            is_over.store(1, Ordering::SeqCst);
            assert!(counting.join().unwrap() >= 1);
        });
        executor.run();
        assert_eq!(tasks.alive(), 0);
    }
}

#[test]
fn no_waker_of_the_run_or_of_a_task_is_left() {
    let executor = Executor::default();
    let (handles, sources) = sources(2);
    handles[0].answer(Ok(1));
    let sources = spawned(sources, executor.spawner());
    let mut run = Task::new(fetch_and_aggregate(sources, NEVER));
    assert!(executor.drive(&mut run).is_pending());
    let wakes: Vec<_> = {
        let all = executor.0.borrow();
        all.iter()
            .flatten()
            .map(|spawn| spawn.wakes.clone())
            .collect()
    };
    assert_eq!(wakes.len(), 1);
    run.drop_future();
    assert_eq!(run.wakers(), 0);
    executor.run();
    assert!(wakes.iter().all(|wakes| Arc::strong_count(wakes) == 1));
}

#[test]
fn gone_waits_for_sources_that_have_not_started() {
    let executor = Executor::default();
    let none: Vec<(u8, common::Source)> = Vec::new();
    let sources = spawned(none, executor.spawner());
    let mut gone = Task::new(sources.tasks().gone());
    assert!(gone.poll().is_pending());
    let mut run = Task::new(fetch_and_aggregate(sources, NEVER));
    assert!(run.finish().unwrap().results.is_empty());
    assert!(gone.is_woken() && gone.poll().is_ready());
}

#[test]
fn all_that_wait_for_the_tasks_are_woken() {
    let executor = Executor::default();
    let (handles, sources) = sources(2);
    let sources = spawned(sources, executor.spawner());
    let tasks = sources.tasks();
    let mut run = Task::new(fetch_and_aggregate(sources, NEVER));
    assert!(executor.drive(&mut run).is_pending());
    let mut waiting: Vec<_> = (0..3).map(|_| Task::new(tasks.gone())).collect();
    assert!(waiting.iter_mut().all(|gone| gone.poll().is_pending()));
    waiting.pop();
    handles[0].answer(Ok(1));
    assert!(executor.drive(&mut run).is_pending());
    assert!(waiting.iter_mut().all(|gone| gone.poll().is_pending()));
    handles[1].answer(Ok(1));
    executor.run();
    assert!(
        waiting
            .iter_mut()
            .all(|gone| gone.is_woken() && gone.poll().is_ready())
    );
}

#[test]
fn every_kind_of_sources_and_every_operation_can_be_spawned() {
    fn answer(id: &usize) -> impl Future<Output = Answer> + use<> {
        let answer = if id % 2 == 0 { Ok(1) } else { Err("odd") };
        async move {
            yield_now().await;
            answer
        }
    }
    let executor = Executor::default();
    let list = || (0..5).map(|id| (id, answer(&id)));
    let limit = Limit::new(2);

    let run = fetch_and_aggregate(spawned(each(0..5, answer), executor.spawner()), NEVER);
    let mut run = Task::new(run.concurrency_per(|id| id % 3, 1).concurrency(&limit));
    let Poll::Ready(Ok(aggregate)) = executor.drive(&mut run) else {
        panic!("the run has not ended");
    };
    assert_eq!((aggregate.results.len(), aggregate.errors.len()), (3, 2));

    let stream = from_stream(futures::stream::iter(list()));
    let batches = [
        spawned(list(), executor.spawner()),
        spawned(list(), executor.spawner()),
    ];
    let mut run = Task::new(process_batch(batches));
    let Poll::Ready(Ok(batches)) = executor.drive(&mut run) else {
        panic!("the run has not ended");
    };
    assert_eq!(batches.len(), 2);

    let (sender, receiver) = async_channel::unbounded();
    let mut run = Task::new(stream_results(spawned(stream, executor.spawner()), sender).in_order());
    assert!(executor.drive(&mut run).is_ready());
    let received: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
    assert_eq!(ids(&received), [0, 1, 2, 3, 4]);

    let hedged =
        list().map(|(id, _)| (id, hedge(Duration::from_secs(60), 1, move |_| answer(&id))));
    let mut run = Task::new(fetch_and_aggregate(
        spawned(hedged, executor.spawner()),
        NEVER,
    ));
    let Poll::Ready(Ok(aggregate)) = executor.drive(&mut run) else {
        panic!("the run has not ended");
    };
    assert_eq!(aggregate.results.len() + aggregate.errors.len(), 5);
    assert_eq!(limit.in_use(), 0);
}

/// An executor may poll a task with another waker each time.
#[test]
fn latest_waker_of_a_task_is_woken_when_its_source_is_dropped() {
    let executor = Executor::default();
    let (handles, sources) = sources(1);
    let sources = spawned(sources, executor.spawner());
    let mut run = Task::new(fetch_and_aggregate(sources, NEVER));
    assert!(run.settle().is_pending());
    let mut task = Task::new(executor.0.borrow_mut()[0].take().unwrap().future);
    let others: Vec<_> = (0..3).map(|_| Task::new(std::future::ready(()))).collect();
    for waker in [
        task.waker(),
        others[0].waker(),
        others[1].waker(),
        others[0].waker(),
    ] {
        assert!(task.poll_with(&waker).is_pending());
    }
    run.drop_future();
    assert_eq!(
        others.iter().map(Task::wakes).collect::<Vec<_>>(),
        [1, 0, 0]
    );
    assert!(!task.is_woken());
    assert!(task.poll().is_ready());
    assert_eq!(alive(&handles), 0);
}

/// Tasks are polled on two threads, while the run is polled on a third one and drops some of them.
#[test]
fn tasks_on_other_threads_lose_nothing() {
    let pool = futures::executor::ThreadPool::builder()
        .pool_size(2)
        .create()
        .unwrap();
    for round in 0..200_usize {
        let sources = (0..50_usize).map(|id| {
            let yields = (id * 7 + round) % 5;
            let source = async move {
                for _ in 0..yields {
                    yield_now().await;
                }
                if id % 7 == 0 { Err(id) } else { Ok(id) }
            };
            (id, source)
        });
        let sources = spawned(sources, |task| pool.spawn_ok(task));
        let tasks = sources.tasks();
        let enough = 1 + round % 50;
        let run = fetch_and_aggregate(sources, NEVER)
            .stop_when(move |so_far| so_far.results.len() + so_far.errors.len() >= enough);
        let aggregate = Task::new(run).wait().unwrap();
        let mut all: VecDeque<_> = ids(&aggregate.results).into();
        all.extend(aggregate.errors.iter().map(|(id, _)| *id));
        assert!(all.len() >= enough);
        all.extend(&aggregate.unfinished);
        all.make_contiguous().sort_unstable();
        assert!(all.into_iter().eq(0..50));
        Task::new(tasks.gone()).wait();
        assert_eq!(tasks.alive(), 0);
    }
}
