use std::future::Future;
use std::time::Duration;

use executor_tests::{Executor, LocalExecutor, conforms, conforms_locally};

/// The global executor.
struct Smol;

impl Executor for Smol {
    fn run<F: Future>(&self, future: F) -> F::Output {
        smol::block_on(future)
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        smol::spawn(future).detach();
    }

    async fn sleep(duration: Duration) {
        smol::Timer::after(duration).await;
    }
}

/// An executor of one thread.
struct Local(smol::LocalExecutor<'static>);

impl Executor for Local {
    fn run<F: Future>(&self, future: F) -> F::Output {
        smol::block_on(self.0.run(future))
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        self.0.spawn(future).detach();
    }

    async fn sleep(duration: Duration) {
        Smol::sleep(duration).await;
    }
}

impl LocalExecutor for Local {
    fn spawn_local<F: Future<Output = ()> + 'static>(&self, future: F) {
        self.0.spawn(future).detach();
    }
}

#[test]
fn global_executor() {
    conforms(&Smol);
}

#[test]
fn local_executor() {
    let local = Local(smol::LocalExecutor::new());
    conforms(&local);
    conforms_locally(&local);
}
