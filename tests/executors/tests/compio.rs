use std::future::Future;
use std::time::Duration;

use compio_driver::{DriverType, ProactorBuilder};
use compio_runtime::Runtime;
use executor_tests::{Executor, LocalExecutor, conforms, conforms_locally};

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
