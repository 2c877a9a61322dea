use std::future::Future;
use std::time::Duration;

use executor_tests::{Executor, LocalExecutor, conforms, conforms_locally};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

struct Tokio(Runtime);

impl Executor for Tokio {
    fn run<F: Future>(&self, future: F) -> F::Output {
        self.0.block_on(future)
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        self.0.spawn(future);
    }

    async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

struct Local {
    runtime: Tokio,
    set: LocalSet,
}

impl Executor for Local {
    fn run<F: Future>(&self, future: F) -> F::Output {
        self.runtime.run(self.set.run_until(future))
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        self.runtime.spawn(future);
    }

    async fn sleep(duration: Duration) {
        Tokio::sleep(duration).await;
    }
}

impl LocalExecutor for Local {
    fn spawn_local<F: Future<Output = ()> + 'static>(&self, future: F) {
        self.set.spawn_local(future);
    }
}

fn current_thread() -> Tokio {
    Tokio(Builder::new_current_thread().enable_time().build().unwrap())
}

#[test]
fn multi_threaded() {
    let runtime = Builder::new_multi_thread().enable_time().build().unwrap();
    conforms(&Tokio(runtime));
}

#[test]
fn current_threaded() {
    conforms(&current_thread());
}

#[test]
fn local_set() {
    let local = Local {
        runtime: current_thread(),
        set: LocalSet::new(),
    };
    conforms(&local);
    conforms_locally(&local);
}
