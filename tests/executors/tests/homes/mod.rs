//! Executors that a run can be spawned on, called homes here, and sources that wait for tasks and timers of
//! all of them.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, sync_channel};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use async_channel::bounded;
use calloop::EventLoop;
use executor_tests::{Census, LONG, OPERATIONS, Operation, Source};
use futures::future::{BoxFuture, Either, select};
use tokio::runtime::{Builder, Runtime};

pub static TOKIO: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().enable_time().build().unwrap());

/// Starts a task that is detached.
pub type Home = fn(BoxFuture<'static, ()>);

pub const HOMES: [(&str, Home); 6] = [
    ("tokio", on_tokio),
    ("smol", on_smol),
    ("async-std", on_async_std),
    ("a main loop", on_a_main_loop),
    ("compio", on_compio),
    ("a thread", on_a_thread),
];

pub fn on_tokio(task: BoxFuture<'static, ()>) {
    TOKIO.spawn(task);
}

fn on_smol(task: BoxFuture<'static, ()>) {
    smol::spawn(task).detach();
}

fn on_async_std(task: BoxFuture<'static, ()>) {
    async_std::task::spawn(task);
}

/// Runs an event loop for this task alone.
fn on_a_main_loop(task: BoxFuture<'static, ()>) {
    thread::spawn(|| {
        let mut main_loop = EventLoop::<()>::try_new().unwrap();
        main_loop.block_on(task, &mut (), |()| {}).unwrap();
    });
}

/// Runs a runtime for this task alone.
fn on_compio(task: BoxFuture<'static, ()>) {
    thread::spawn(|| compio_runtime::Runtime::new().unwrap().block_on(task));
}

fn on_a_thread(task: BoxFuture<'static, ()>) {
    thread::spawn(|| pollster::block_on(task));
}

/// Runs a check on every executor.
pub fn everywhere(check: impl Fn(Home)) {
    for (name, home) in HOMES {
        println!("{name}");
        check(home);
    }
}

/// Runs a check with every operation on every executor.
pub fn each_operation_everywhere(check: impl Fn(Operation, Home)) {
    for (name, operation) in OPERATIONS {
        println!("{name}");
        everywhere(|home| check(operation, home));
    }
}

/// A task that was started, for the thread that started it.
pub struct Started<T> {
    pending: Receiver<()>,
    output: Receiver<T>,
}

/// Starts a task on an executor.
pub fn start<F>(home: Home, task: F) -> Started<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    let (is_pending, pending) = sync_channel(1);
    let (report, output) = sync_channel(1);
    home(Box::pin(async move {
        let mut task = pin!(task);
        let noted = poll_fn(|cx| {
            let poll = task.as_mut().poll(cx);
            if poll.is_pending() {
                let _ = is_pending.try_send(());
            }
            poll
        });
        let _ = report.send(noted.await);
    }));
    Started { pending, output }
}

impl<T> Started<T> {
    /// Blocks this thread until the task has been polled and is pending.
    pub fn pending(&self) {
        let pending = self.pending.recv_timeout(LONG);
        pending.expect("the task was not polled, or did not return pending");
    }

    /// Blocks this thread until the task has ended.
    pub fn output(self) -> T {
        let output = self.output.recv_timeout(LONG);
        output.expect("the task has not ended")
    }
}

/// Polls a future once in a task of an executor, and returns it while it is pending.
pub fn poll_once<F>(home: Home, future: F) -> F
where
    F: Future + Send + Unpin + 'static,
{
    let mut future = Some(future);
    let once = poll_fn(move |cx| {
        let mut future = future.take().expect("the task is over");
        assert!(Pin::new(&mut future).poll(cx).is_pending());
        Poll::Ready(future)
    });
    start(home, once).output()
}

/// The ids of the sources that wait elsewhere.
pub const ELSEWHERE: [u32; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

/// Sources that wait for this time, by timers and by tasks of every executor, and what remains of them.
pub fn elsewhere(time: Duration) -> (Vec<Source>, Remains) {
    let (sources, tasks) = (Census::new(), Census::new());
    let mut waits = vec![
        tokio_task(time),
        tokio_timer(time),
        Box::pin(async move {
            smol::Timer::after(time).await;
        }),
        Box::pin(async_std::task::sleep(time)),
    ];
    waits.extend(HOMES.map(|(_, home)| answer_of_a_task(home, &tasks, time)));
    let list = ELSEWHERE.into_iter().zip(waits).map(|(id, wait)| {
        let source = sources.counted(async move {
            wait.await;
            Ok(id)
        });
        (id, Box::pin(source) as _)
    });
    (list.collect(), Remains { sources, tasks })
}

/// Counts what remains of the sources, and of the tasks that they wait for.
pub struct Remains {
    sources: Census,
    tasks: Census,
}

impl Remains {
    /// Checks that no source is alive, and waits for the tasks to end.
    pub fn are_gone(self) {
        assert_eq!(self.sources.alive(), 0);
        start(on_a_thread, self.tasks.all_gone()).output();
    }
}

fn tokio_task(time: Duration) -> BoxFuture<'static, ()> {
    let task = TOKIO.spawn(async move { tokio::time::sleep(time).await });
    Box::pin(async { task.await.unwrap() })
}

fn tokio_timer(time: Duration) -> BoxFuture<'static, ()> {
    let _context = TOKIO.enter();
    Box::pin(tokio::time::sleep(time))
}

/// Waits for a task. The task ends early if the future that waits for it is dropped.
fn answer_of_a_task(home: Home, tasks: &Census, time: Duration) -> BoxFuture<'static, ()> {
    let (reply, answer) = bounded(1);
    let task = tasks.counted(async move {
        let timer = futures_timer::Delay::new(time);
        if let Either::Left(_) = select(timer, pin!(reply.closed())).await {
            let _ = reply.send(()).await;
        }
    });
    home(Box::pin(task));
    Box::pin(async move { answer.recv().await.unwrap() })
}
