use std::future::Future;
use std::time::Duration;

use executor_tests::{Executor, LocalExecutor, conforms, conforms_locally};

struct AsyncStd;

impl Executor for AsyncStd {
    fn run<F: Future>(&self, future: F) -> F::Output {
        async_std::task::block_on(future)
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        async_std::task::spawn(future);
    }

    async fn sleep(duration: Duration) {
        async_std::task::sleep(duration).await;
    }
}

impl LocalExecutor for AsyncStd {
    fn spawn_local<F: Future<Output = ()> + 'static>(&self, future: F) {
        async_std::task::spawn_local(future);
    }
}

#[test]
fn async_std() {
    conforms(&AsyncStd);
    conforms_locally(&AsyncStd);
}
