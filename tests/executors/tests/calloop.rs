use std::cell::{OnceCell, RefCell};
use std::future::Future;
use std::time::Duration;

use calloop::futures::{Scheduler, executor};
use calloop::timer::{TimeoutAction, Timer};
use calloop::{EventLoop, LoopHandle};
use executor_tests::{Executor, LocalExecutor, conforms, conforms_locally};

thread_local! {
    static MAIN_LOOP: OnceCell<LoopHandle<'static, ()>> = const { OnceCell::new() };
}

/// An event loop as graphical programs have it. Tasks and timers are event sources.
struct MainLoop {
    events: RefCell<EventLoop<'static, ()>>,
    tasks: Scheduler<()>,
}

impl MainLoop {
    fn new() -> Self {
        let events = EventLoop::try_new().unwrap();
        let (executor, tasks) = executor().unwrap();
        let handle = events.handle();
        handle.insert_source(executor, |(), _, ()| {}).unwrap();
        MAIN_LOOP.with(|main_loop| assert!(main_loop.set(handle).is_ok()));
        Self {
            events: RefCell::new(events),
            tasks,
        }
    }
}

impl Executor for MainLoop {
    fn run<F: Future>(&self, future: F) -> F::Output {
        let mut events = self.events.borrow_mut();
        let output = events.block_on(future, &mut (), |()| {}).unwrap();
        output.expect("the loop was stopped")
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        self.spawn_local(future);
    }

    async fn sleep(duration: Duration) {
        let (fire, fired) = async_channel::bounded::<()>(1);
        MAIN_LOOP.with(|main_loop| {
            let timer = Timer::from_duration(duration);
            let fire = move |_, _: &mut (), _: &mut ()| {
                fire.close();
                TimeoutAction::Drop
            };
            let main_loop = main_loop.get().expect("the loop of this thread");
            main_loop.insert_source(timer, fire).unwrap();
        });
        let _ = fired.recv().await;
    }
}

impl LocalExecutor for MainLoop {
    fn spawn_local<F: Future<Output = ()> + 'static>(&self, future: F) {
        self.tasks.schedule(future).unwrap();
    }
}

#[test]
fn main_loop() {
    let main_loop = MainLoop::new();
    conforms(&main_loop);
    conforms_locally(&main_loop);
}
