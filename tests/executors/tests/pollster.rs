use std::future::Future;

use executor_tests::{Executor, conforms};

/// A thread for each future.
struct Pollster;

impl Executor for Pollster {
    fn run<F: Future>(&self, future: F) -> F::Output {
        pollster::block_on(future)
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        std::thread::spawn(|| pollster::block_on(future));
    }
}

#[test]
fn pollster() {
    conforms(&Pollster);
}
