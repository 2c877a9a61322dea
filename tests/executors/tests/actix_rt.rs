use std::future::Future;
use std::time::Duration;

use actix_rt::{Arbiter, System, SystemRunner};
use executor_tests::{Executor, LocalExecutor, conforms, conforms_locally};

/// The thread of the system, and the thread of an arbiter, which runs the spawned tasks.
struct Actix {
    system: SystemRunner,
    arbiter: Arbiter,
}

impl Executor for Actix {
    fn run<F: Future>(&self, future: F) -> F::Output {
        self.system.block_on(future)
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        assert!(self.arbiter.spawn(future));
    }

    async fn sleep(duration: Duration) {
        actix_rt::time::sleep(duration).await;
    }
}

impl LocalExecutor for Actix {
    fn spawn_local<F: Future<Output = ()> + 'static>(&self, future: F) {
        self.system.runtime().spawn(future);
    }
}

#[test]
fn system_and_arbiter() {
    let actix = Actix {
        system: System::new(),
        arbiter: Arbiter::new(),
    };
    conforms(&actix);
    conforms_locally(&actix);
    actix.arbiter.stop();
    actix.arbiter.join().unwrap();
}
