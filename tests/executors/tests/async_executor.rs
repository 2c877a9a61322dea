use std::future::Future;
use std::thread;

use async_executor::Executor as Tasks;
use executor_tests::{Executor, LocalExecutor, conforms, conforms_locally};
use futures::executor::block_on;

/// Two threads run the tasks of one executor. The thread of the test runs none.
struct Threads<'a>(&'a Tasks<'static>);

impl Executor for Threads<'_> {
    fn run<F: Future>(&self, future: F) -> F::Output {
        block_on(future)
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        self.0.spawn(future).detach();
    }
}

/// An executor of one thread.
struct Local(async_executor::LocalExecutor<'static>);

impl Executor for Local {
    fn run<F: Future>(&self, future: F) -> F::Output {
        block_on(self.0.run(future))
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        self.spawn_local(future);
    }
}

impl LocalExecutor for Local {
    fn spawn_local<F: Future<Output = ()> + 'static>(&self, future: F) {
        self.0.spawn(future).detach();
    }
}

#[test]
fn executor_run_by_two_threads() {
    let tasks = Tasks::new();
    let (stop, stopped) = async_channel::bounded::<()>(1);
    thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| block_on(tasks.run(stopped.recv())));
        }
        conforms(&Threads(&tasks));
        drop(stop);
    });
}

#[test]
fn local_executor() {
    let local = Local(async_executor::LocalExecutor::new());
    conforms(&local);
    conforms_locally(&local);
}
