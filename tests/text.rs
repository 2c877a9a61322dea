//! The text of results and errors.

use std::error::Error;
use std::io;

use futures_aggregate::{Aggregate, Batches, Interrupted, Reason, SourceError, Streamed};

fn aggregate(results: usize, errors: usize, unfinished: usize) -> Aggregate<usize, (), ()> {
    Aggregate {
        results: (0..results).map(|id| (id, ())).collect(),
        errors: (0..errors).map(|id| (id, SourceError::TimedOut)).collect(),
        unfinished: (0..unfinished).collect(),
        unseen: false,
    }
}

#[test]
fn text_of_interrupted_has_the_reason_and_the_counts() {
    let interrupted = Interrupted {
        reason: Reason::TimedOut,
        partial: aggregate(3, 1, 2),
    };
    assert_eq!(
        interrupted.to_string(),
        "timed out: 3 succeeded, 1 failed, 2 unfinished"
    );

    let batches: Batches<_, _, _> = vec![Ok(aggregate(1, 1, 0)), Err(interrupted)];
    let cancelled = |partial| Interrupted {
        reason: Reason::Cancelled,
        partial,
    };
    assert_eq!(
        cancelled(batches).to_string(),
        "cancelled: 4 succeeded, 2 failed, 2 unfinished in 2 batches"
    );
    assert_eq!(
        cancelled(vec![Ok(aggregate(1, 0, 0))]).to_string(),
        "cancelled: 1 succeeded, 0 failed, 0 unfinished in 1 batch"
    );

    let closed = Interrupted {
        reason: Reason::ReceiverClosed,
        partial: Streamed {
            delivered: 3,
            undelivered: vec![(9, Ok::<(), SourceError<()>>(()))],
            unfinished: vec![1, 2],
            unseen: false,
        },
    };
    assert_eq!(
        closed.to_string(),
        "receiver closed: 3 delivered, 1 undelivered, 2 unfinished"
    );
}

#[test]
fn interrupted_is_an_error_and_returns_its_partial_result() {
    fn fails() -> Result<(), Box<dyn Error + Send + Sync>> {
        Err(Interrupted {
            reason: Reason::Cancelled,
            partial: aggregate(0, 0, 1),
        })?;
        Ok(())
    }
    let error = fails().unwrap_err();
    assert!(error.to_string().starts_with("cancelled: "));
    let interrupted = error
        .downcast::<Interrupted<Aggregate<usize, (), ()>>>()
        .unwrap();
    assert_eq!(interrupted.into_partial(), aggregate(0, 0, 1));
}

#[test]
fn source_error_has_the_text_and_the_source_of_its_error() {
    #[derive(Debug)]
    struct Outer(io::Error);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("request failed")
        }
    }
    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }
    let failed = SourceError::Failed(Outer(io::Error::other("connection refused")));
    assert_eq!(failed.to_string(), "request failed");
    assert_eq!(failed.source().unwrap().to_string(), "connection refused");
    assert!(failed.is_failed() && !failed.is_timed_out() && !failed.is_panicked());
    assert_eq!(
        failed.into_failed().unwrap().0.to_string(),
        "connection refused"
    );

    let timed_out = SourceError::<io::Error>::TimedOut;
    assert_eq!(timed_out.to_string(), "source timed out");
    assert!(timed_out.source().is_none() && timed_out.is_timed_out());
    assert!(!timed_out.is_failed() && !timed_out.is_panicked());
    let panicked = SourceError::<io::Error>::Panicked("index out of bounds".to_owned());
    assert_eq!(panicked.to_string(), "source panicked: index out of bounds");
    assert!(panicked.source().is_none() && panicked.is_panicked());
    assert!(!panicked.is_failed() && !panicked.is_timed_out());
    assert!(panicked.into_failed().is_none());
}

#[test]
fn interrupted_says_that_some_sources_are_unseen() {
    let unseen = || Aggregate {
        unseen: true,
        ..aggregate(3, 1, 2)
    };
    let timed_out = Interrupted {
        reason: Reason::TimedOut,
        partial: unseen(),
    };
    assert_eq!(
        timed_out.to_string(),
        "timed out: 3 succeeded, 1 failed, 2 unfinished, and some unseen"
    );
    assert_eq!(
        format!("{timed_out:?}"),
        "Interrupted { reason: TimedOut, \
         partial: 3 succeeded, 1 failed, 2 unfinished, and some unseen }"
    );

    for batch in [Ok(unseen()), Err(timed_out)] {
        let cancelled = Interrupted {
            reason: Reason::Cancelled,
            partial: vec![Ok(aggregate(1, 0, 0)), batch],
        };
        assert_eq!(
            cancelled.to_string(),
            "cancelled: 4 succeeded, 1 failed, 2 unfinished in 2 batches, and some unseen"
        );
    }

    let closed = Interrupted {
        reason: Reason::ReceiverClosed,
        partial: Streamed::<usize, (), ()> {
            unseen: true,
            ..Streamed::default()
        },
    };
    assert_eq!(
        closed.to_string(),
        "receiver closed: 0 delivered, 0 undelivered, 0 unfinished, and some unseen"
    );
}
