//! What an interrupted run is as an error.

mod common;

use std::error::Error;
use std::rc::Rc;

use common::{NEVER, panic_of};
use futures::executor::block_on;
use futures::future::{FutureExt, pending, ready};
use futures_aggregate::{
    Aggregate, Batches, Interrupted, Reason, SourceError, Streamed, fetch_and_aggregate,
};

/// It is neither `Debug` nor `Send`.
struct Opaque {
    _local: Rc<()>,
}

fn opaque() -> Opaque {
    Opaque {
        _local: Rc::new(()),
    }
}

#[test]
fn debug_output_has_the_reason_and_the_counts_and_requires_nothing() {
    let mut partial = Aggregate::<_, _, Opaque>::default();
    partial.results.push((opaque(), opaque()));
    partial.unfinished.push(opaque());
    let late = Interrupted {
        reason: Reason::TimedOut,
        partial,
    };
    assert_eq!(
        format!("{late:?}"),
        "Interrupted { reason: TimedOut, partial: 1 succeeded, 0 failed, 1 unfinished }"
    );

    let batches: Batches<_, _, _> = vec![Ok(Aggregate::default()), Err(late)];
    let cancelled = Interrupted {
        reason: Reason::Cancelled,
        partial: batches,
    };
    assert_eq!(
        format!("{cancelled:?}"),
        "Interrupted { reason: Cancelled, \
         partial: 1 succeeded, 0 failed, 1 unfinished in 2 batches }"
    );

    let undelivered = Err::<Opaque, _>(SourceError::Failed(opaque()));
    let closed = Interrupted {
        reason: Reason::ReceiverClosed,
        partial: Streamed {
            delivered: 2,
            undelivered: vec![(opaque(), undelivered)],
            unfinished: Vec::new(),
        },
    };
    assert_eq!(
        format!("{closed:?}"),
        "Interrupted { reason: ReceiverClosed, \
         partial: 2 delivered, 1 undelivered, 0 unfinished }"
    );
}

#[test]
fn unwrap_and_question_mark_take_values_that_are_not_debug() {
    let run = || {
        let sources = [
            ("a", ready(Ok::<_, Opaque>(opaque())).left_future()),
            ("b", pending().right_future()),
        ];
        block_on(fetch_and_aggregate(sources, NEVER).cancel_on(ready(())))
    };
    let message = panic_of(|| run().unwrap());
    assert!(
        message.contains("Interrupted { reason: Cancelled, partial: "),
        "{message}"
    );

    let values = || -> Result<Vec<Opaque>, Box<dyn Error>> {
        let aggregate = run()?;
        Ok(aggregate
            .results
            .into_iter()
            .map(|(_, value)| value)
            .collect())
    };
    let error = values().err().unwrap();
    assert!(error.to_string().starts_with("cancelled: "), "{error}");
    assert!(error.is::<Interrupted<Aggregate<&str, Opaque, Opaque>>>());
}
