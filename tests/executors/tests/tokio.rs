use std::cell::Cell;
use std::future::{Future, poll_fn, ready};
use std::pin::pin;
use std::time::Duration;

use executor_tests::{Executor, LocalExecutor, conforms, conforms_locally};
use futures::{Stream, stream};
use futures_aggregate::fetch_and_aggregate;
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;
use tokio::task::coop::cooperative;

struct Tokio(Runtime);

impl Executor for Tokio {
    fn run<F: Future>(&self, future: F) -> F::Output {
        self.0.block_on(future)
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        self.0.spawn(future);
    }

    fn channel<T: Send + 'static>() -> (
        impl Fn(T) + Send + 'static,
        impl Stream<Item = T> + Send + 'static,
    ) {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let stream = stream::poll_fn(move |cx| receiver.poll_recv(cx));
        (move |item| drop(sender.send(item)), stream)
    }

    async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// It yields when the cooperative budget of the task is used up.
    async fn never_dry() {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        while sender.send(()).is_ok() {
            receiver.recv().await;
        }
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

    fn channel<T: Send + 'static>() -> (
        impl Fn(T) + Send + 'static,
        impl Stream<Item = T> + Send + 'static,
    ) {
        Tokio::channel()
    }

    async fn sleep(duration: Duration) {
        Tokio::sleep(duration).await;
    }

    async fn never_dry() {
        Tokio::never_dry().await;
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

/// Tokio lets a task do 128 operations in one poll, and refuses the others (futures-rs #2526, tokio #2390).
/// One poll of a run polls at most 64 sources, and each source does three operations here.
#[test]
fn sources_that_use_up_the_cooperative_budget_are_not_polled_much_more_often() {
    const COUNT: usize = 10_000;
    let polls = Cell::new(0);
    let list = (0..COUNT).map(|id| {
        let source = async {
            let operations = async {
                cooperative(ready(())).await;
                cooperative(ready(())).await;
                cooperative(ready(Ok::<_, ()>(()))).await
            };
            let mut operations = pin!(operations);
            poll_fn(|cx| {
                polls.set(polls.get() + 1);
                operations.as_mut().poll(cx)
            })
            .await
        };
        (id, source)
    });
    let aggregate = current_thread().run(fetch_and_aggregate(list, Duration::MAX));
    assert_eq!(aggregate.unwrap().results.len(), COUNT);
    let most = (COUNT + 1)..3 * COUNT;
    assert!(most.contains(&polls.get()), "{}", polls.get());
}
