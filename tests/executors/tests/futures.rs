use std::cell::RefCell;
use std::future::Future;

use executor_tests::{Executor, LocalExecutor, conforms, conforms_locally};
use futures::Stream;
use futures::channel::mpsc;
use futures::executor::{LocalPool, LocalSpawner, ThreadPool, block_on};
use futures::task::LocalSpawnExt;

struct Local {
    pool: RefCell<LocalPool>,
    spawner: LocalSpawner,
}

impl Executor for Local {
    fn run<F: Future>(&self, future: F) -> F::Output {
        self.pool.borrow_mut().run_until(future)
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        self.spawn_local(future);
    }
}

impl LocalExecutor for Local {
    fn spawn_local<F: Future<Output = ()> + 'static>(&self, future: F) {
        self.spawner.spawn_local(future).unwrap();
    }
}

struct Threads(ThreadPool);

impl Executor for Threads {
    fn run<F: Future>(&self, future: F) -> F::Output {
        block_on(future)
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        self.0.spawn_ok(future);
    }

    fn channel<T: Send + 'static>() -> (
        impl Fn(T) + Send + 'static,
        impl Stream<Item = T> + Send + 'static,
    ) {
        let (sender, receiver) = mpsc::unbounded();
        (move |item| drop(sender.unbounded_send(item)), receiver)
    }
}

/// A thread for each future.
struct BlockOn;

impl Executor for BlockOn {
    fn run<F: Future>(&self, future: F) -> F::Output {
        block_on(future)
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        std::thread::spawn(|| block_on(future));
    }
}

#[test]
fn local_pool() {
    let pool = LocalPool::new();
    let local = Local {
        spawner: pool.spawner(),
        pool: RefCell::new(pool),
    };
    conforms(&local);
    conforms_locally(&local);
}

#[test]
fn thread_pool() {
    conforms(&Threads(ThreadPool::new().unwrap()));
}

#[test]
fn block_on_each_in_a_thread() {
    conforms(&BlockOn);
}
