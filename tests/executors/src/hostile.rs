//! Rules under hostile conditions: sources that are busy for ever, a thread that is blocked, an observer
//! that panics.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use std::time::{Duration, Instant};

use async_channel::bounded;
use futures::future::Either;
use futures_aggregate::{Reason, fetch_and_aggregate};

use crate::Executor;
use crate::operations::{OPERATIONS, Source};
use crate::world::{Census, LONG, SHORT, SLOW};

/// How late an event may be noticed on a loaded machine.
const LATE: Duration = Duration::from_millis(400);

/// Sources that are busy for ever.
fn busy<X: Executor>(census: &Census, ids: std::ops::Range<u32>) -> Vec<Source> {
    let source = |id| -> Source {
        let busy = async {
            X::never_dry().await;
            Err("not busy any more".to_owned())
        };
        (id, Box::pin(census.counted(busy)))
    };
    ids.map(source).collect()
}

pub(crate) fn sources_answer_beside_busy_ones<X: Executor>(executor: &X) {
    for (name, operation) in OPERATIONS {
        let census = Census::new();
        let mut list = busy::<X>(&census, 0..2);
        list.extend((2..6).map(|id| -> Source {
            let (id, slow) = census.slow::<X>(id);
            (id, Box::pin(slow))
        }));
        let run = operation(list, SLOW + LATE);
        let summary = executor.run(run);
        let answered: Vec<_> = (2..6).map(|id| (id, id)).collect();
        assert_eq!(summary.answered, answered, "{name}");
        assert_eq!(summary.unfinished.len(), 2, "{name}");
        assert_eq!(census.alive(), 0, "{name}");
    }
}

pub(crate) fn signals_are_seen_beside_busy_sources<X: Executor>(executor: &X) {
    let census = Census::new();
    for expected in [Reason::TimedOut, Reason::Cancelled] {
        let started = Instant::now();
        let run = fetch_and_aggregate(busy::<X>(&census, 0..3), LONG);
        let interrupted = match expected {
            Reason::TimedOut => executor.run(run.expire_on(X::sleep(SHORT))),
            _ => executor.run(run.cancel_on(X::sleep(SHORT))),
        };
        assert_eq!(interrupted.unwrap_err().reason, expected);
        assert!(started.elapsed() < SHORT + LATE, "{:?}", started.elapsed());
        assert_eq!(census.alive(), 0);
    }
}

/// The thread of the run is busy until after the deadline. Meanwhile another thread answers some of the
/// sources, and the timers of the others fire.
pub(crate) fn a_stalled_thread_loses_no_answer<X: Executor>(executor: &X) {
    for (name, operation) in OPERATIONS {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..200).map(|_| bounded(1)).unzip();
        let mut list: Vec<Source> = vec![(
            1000,
            Box::pin(async {
                X::sleep(SHORT / 2).await;
                let stalled = Instant::now();
                while stalled.elapsed() < 4 * SLOW {
                    std::hint::spin_loop();
                }
                Ok(1000)
            }),
        )];
        let answers = (0..).zip(receivers).map(|(id, receiver)| -> Source {
            (
                id,
                Box::pin(async move { receiver.recv().await.map_err(|error| error.to_string()) }),
            )
        });
        list.extend(answers);
        list.extend((200..210).map(|id| -> Source {
            (
                id,
                Box::pin(async move {
                    X::sleep(SHORT).await;
                    Ok(id)
                }),
            )
        }));
        std::thread::spawn(move || {
            std::thread::sleep(SHORT);
            for (id, sender) in (0..).zip(senders) {
                let _ = sender.try_send(id);
            }
        });
        let summary = executor.run(operation(list, SLOW));
        assert_eq!(
            summary.answered.len(),
            211,
            "{name}: {:?}",
            summary.unfinished
        );
    }
}

/// The run is polled again after each panic.
pub(crate) fn an_observer_that_panics_loses_nothing<X: Executor>(executor: &X) {
    let census = Census::new();
    let mut panics = 0;
    let list = (0..3).map(|id| match id {
        2 => Either::Left(census.hanging(id).1),
        _ => Either::Right(census.slow::<X>(id).1),
    });
    let list: Vec<_> = (0..).zip(list).collect();
    let run = fetch_and_aggregate(list, SLOW + LATE).observe(|_| {
        // This does not print the message of each panic.
        std::panic::resume_unwind(Box::new("observer"));
    });
    let mut run = Box::pin(run);
    let interrupted = executor.run(std::future::poll_fn(|cx| {
        let poll = catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(cx)));
        poll.unwrap_or_else(|_| {
            panics += 1;
            Poll::Pending
        })
    }));
    let interrupted = interrupted.unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert_eq!(interrupted.partial.results.len(), 2);
    assert_eq!(interrupted.partial.unfinished, [2]);
    assert!(panics > 3, "{panics} panics");
    assert_eq!(census.alive(), 0);
}
