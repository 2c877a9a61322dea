use std::future::Future;
use std::time::{Duration, Instant};

use executor_tests::{Executor, LocalExecutor, conforms, conforms_locally, timeouts_follow};
use futures::FutureExt;
use futures::future::Map;
use futures_aggregate::Timer;

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

/// The timer of async-io, on which smol and async-std are built.
struct SmolTimer;

impl Timer for SmolTimer {
    type Sleep = Map<smol::Timer, fn(Instant)>;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep_until(&self, at: Instant) -> Self::Sleep {
        smol::Timer::at(at).map(drop)
    }
}

#[test]
fn timer_of_the_runtime() {
    timeouts_follow(&Smol, || SmolTimer);
}
