use std::future::Future;
use std::time::{Duration, Instant};

use compio_driver::{DriverType, ProactorBuilder};
use compio_runtime::Runtime;
use executor_tests::{Executor, LocalExecutor, conforms, conforms_locally, timeouts_follow};
use futures::future::LocalBoxFuture;
use futures_aggregate::Timer;

/// A runtime of one thread.
struct Compio(Runtime);

impl Executor for Compio {
    fn run<F: Future>(&self, future: F) -> F::Output {
        self.0.block_on(future)
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        self.spawn_local(future);
    }

    async fn sleep(duration: Duration) {
        // A timer of compio is not `Send`, so it lives in a task of its own.
        let (fire, fired) = async_channel::bounded::<()>(1);
        let timer = compio_runtime::spawn(async move {
            compio_runtime::time::sleep(duration).await;
            drop(fire);
        });
        timer.detach();
        let _ = fired.recv().await;
    }
}

impl LocalExecutor for Compio {
    fn spawn_local<F: Future<Output = ()> + 'static>(&self, future: F) {
        self.0.spawn(future).detach();
    }
}

/// The timer of the runtime, whose sleeps are not `Send`.
struct CompioTimer;

impl Timer for CompioTimer {
    type Sleep = LocalBoxFuture<'static, ()>;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep_until(&self, at: Instant) -> Self::Sleep {
        Box::pin(compio_runtime::time::sleep_until(at))
    }
}

#[test]
fn timer_of_the_runtime() {
    timeouts_follow(&Compio(Runtime::new().unwrap()), || CompioTimer);
}

#[test]
fn io_uring_where_it_is_available() {
    let compio = Compio(Runtime::new().unwrap());
    conforms(&compio);
    conforms_locally(&compio);
}

#[test]
fn polling() {
    let mut proactor = ProactorBuilder::new();
    proactor.driver_type(DriverType::Poll);
    let mut runtime = Runtime::builder();
    let compio = Compio(runtime.with_proactor(proactor).build().unwrap());
    conforms(&compio);
    conforms_locally(&compio);
}
