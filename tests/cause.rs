//! Interrupted runs as errors: `Interrupted` itself, and the `Cause` that it turns into.

mod common;

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use common::{NEVER, panic_of};
use futures::executor::block_on;
use futures::future::{FutureExt, Ready, pending, ready};
use futures_aggregate::{
    Aggregate, Batches, Cause, Handled, Interrupted, Reason, SourceError, Streamed,
    fetch_and_aggregate, for_each_result, process_batch, stream_results,
};

/// A value that is neither `Debug` nor `Send`.
struct Opaque {
    _local: Rc<()>,
}

fn opaque() -> Opaque {
    Opaque {
        _local: Rc::new(()),
    }
}

/// An error of a source, with a type of its own.
#[derive(Debug, PartialEq)]
struct Status(u16);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            403 => f.write_str("403 Forbidden"),
            404 => f.write_str("404 Not Found"),
            code => write!(f, "{code}"),
        }
    }
}

impl Error for Status {}

type Source<E> = Ready<Result<Opaque, E>>;

/// A source that succeeds, and one that fails with this error.
fn sources<E>(error: E) -> [(String, Source<E>); 2] {
    [
        ("ok.example".to_owned(), ready(Ok(opaque()))),
        ("a.example".to_owned(), ready(Err(error))),
    ]
}

/// Completes after the sources that are ready at once have been polled.
async fn later() {
    let mut is_polled = false;
    poll_fn(|task| {
        if is_polled {
            return Poll::Ready(());
        }
        is_polled = true;
        task.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// An aggregate with these failures.
fn failed<E>(failures: Vec<(&str, SourceError<E>)>) -> Aggregate<&str, Opaque, E> {
    let mut aggregate = Aggregate::default();
    aggregate.results.push(("ok.example", opaque()));
    aggregate.errors = failures;
    aggregate
}

fn interrupted<P>(reason: Reason, partial: P) -> Interrupted<P> {
    Interrupted { reason, partial }
}

/// The texts of an error and of all its sources.
fn chain(error: &anyhow::Error) -> Vec<String> {
    error.chain().map(ToString::to_string).collect()
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
            unseen: false,
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

/// The error of a run that fails fast at an error of this type.
fn fail<E>(error: E) -> anyhow::Error
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let run = async {
        let run = fetch_and_aggregate(sources(error), NEVER);
        let aggregate = run.fail_fast().await.map_err(Interrupted::into_cause)?;
        anyhow::Ok(aggregate.results)
    };
    block_on(run).err().unwrap()
}

#[test]
fn anyhow_error_has_the_id_and_the_error_of_the_source() {
    let error = fail(Status(403));
    let texts = [
        r#"source failed: "a.example": 403 Forbidden"#,
        "403 Forbidden",
    ];
    assert_eq!(chain(&error), texts);
    assert_eq!(format!("{error:#}"), texts.join(": "));
    assert_eq!(
        error.root_cause().downcast_ref::<Status>(),
        Some(&Status(403))
    );

    let cause = error.downcast::<Cause<String>>().unwrap();
    assert_eq!(cause.reason, Reason::SourceFailed);
    assert_eq!(
        format!("{cause:?}"),
        r#"Cause { reason: SourceFailed, failure: Some(("a.example", Failed(Status(403)))) }"#
    );
    let (id, error) = cause.failure.unwrap();
    assert_eq!(id, "a.example");
    assert!(error.into_failed().unwrap().is::<Status>());
}

#[test]
fn cause_is_the_source_of_an_enum_that_derives_its_error() {
    #[derive(Debug, thiserror::Error)]
    enum PriceError {
        #[error("no prices")]
        Shops(#[from] Cause<String>),
    }

    async fn prices() -> Result<Vec<(String, Opaque)>, PriceError> {
        let run = fetch_and_aggregate(sources(Status(403)), NEVER);
        let aggregate = run.fail_fast().await.map_err(Interrupted::into_cause)?;
        Ok(aggregate.results)
    }

    let error = block_on(prices()).err().unwrap();
    assert!(matches!(&error, PriceError::Shops(cause) if cause.failure.is_some()));
    assert_eq!(
        chain(&error.into()),
        [
            "no prices",
            r#"source failed: "a.example": 403 Forbidden"#,
            "403 Forbidden",
        ]
    );
}

#[test]
fn errors_of_sources_need_not_implement_error() {
    let texts = [r#"source failed: "a.example": refused"#, "refused"];
    assert_eq!(chain(&fail("refused")), texts);
    assert_eq!(chain(&fail("refused".to_owned())), texts);

    let boxed: Box<dyn Error + Send + Sync> = Box::new(Status(403));
    let error = fail(boxed);
    assert_eq!(
        error.to_string(),
        r#"source failed: "a.example": 403 Forbidden"#
    );
    assert!(error.root_cause().is::<Status>());

    let error = fail(anyhow::Error::new(Status(403)).context("cannot log in"));
    assert_eq!(
        chain(&error),
        [
            r#"source failed: "a.example": cannot log in"#,
            "cannot log in",
            "403 Forbidden",
        ]
    );
}

#[test]
fn cause_of_a_run_that_timed_out_has_the_first_failure_if_there_is_one() {
    let late = |source: Source<Status>| {
        let sources = [
            ("slow.example", pending().left_future()),
            ("b.example", source.right_future()),
            ("c.example", ready(Err(Status(404))).right_future()),
        ];
        let run = fetch_and_aggregate(sources, NEVER).expire_on(later());
        block_on(run).err().unwrap().into_cause()
    };
    let cause = late(ready(Err(Status(403))));
    assert_eq!(cause.reason, Reason::TimedOut);
    assert_eq!(
        cause.to_string(),
        r#"timed out; first failure: "b.example": 403 Forbidden"#
    );
    assert!(cause.source().unwrap().is::<Status>());
    assert_eq!(
        late(ready(Ok(opaque()))).to_string(),
        r#"timed out; first failure: "c.example": 404 Not Found"#
    );

    let source = [("slow.example", pending::<Result<Opaque, Status>>())];
    let run = fetch_and_aggregate(source, Duration::ZERO);
    let cause = block_on(run).err().unwrap().into_cause();
    assert_eq!(cause.to_string(), "timed out");
    assert!(cause.failure.is_none() && cause.source().is_none());
}

#[test]
fn text_says_whether_failures_are_the_reason() {
    let text = |reason| {
        let failures = vec![("a", SourceError::Failed("refused"))];
        let cause = interrupted(reason, failed(failures)).into_cause();
        assert_eq!(cause.reason, reason);
        cause.to_string()
    };
    let texts = [
        (Reason::SourceFailed, r#"source failed: "a": refused"#),
        (
            Reason::QuorumUnreachable,
            r#"quorum unreachable: "a": refused"#,
        ),
        (
            Reason::TimedOut,
            r#"timed out; first failure: "a": refused"#,
        ),
        (
            Reason::Cancelled,
            r#"cancelled; first failure: "a": refused"#,
        ),
        (
            Reason::ReceiverClosed,
            r#"receiver closed; first failure: "a": refused"#,
        ),
        (
            Reason::NotNeeded,
            r#"not needed; first failure: "a": refused"#,
        ),
        (Reason::Panicked, r#"panicked; first failure: "a": refused"#),
    ];
    for (reason, expected) in texts {
        assert_eq!(text(reason), expected);
    }
}

#[test]
fn source_that_timed_out_is_a_failure_without_an_error() {
    let source = [("slow.example", pending::<Result<Opaque, Status>>())];
    let run = fetch_and_aggregate(source, NEVER).source_timeout(Duration::ZERO);
    let cause = block_on(run.fail_fast()).err().unwrap().into_cause();
    assert_eq!(
        cause.to_string(),
        r#"source failed: "slow.example": source timed out"#
    );
    assert!(cause.source().is_none());
    let (id, error) = cause.failure.unwrap();
    assert!(id == "slow.example" && error.is_timed_out());
}

#[test]
fn source_that_panicked_is_a_failure_without_an_error() {
    async fn index() -> Result<Opaque, Status> {
        panic!("index out of bounds");
    }
    let run = fetch_and_aggregate([(7, index())], NEVER).catch_panics();
    let cause = block_on(run.fail_fast()).err().unwrap().into_cause();
    assert_eq!(
        cause.to_string(),
        "source failed: 7: source panicked: index out of bounds"
    );
    assert!(cause.source().is_none());
    let (id, error) = cause.failure.unwrap();
    assert!(id == 7 && error.is_panicked());
}

#[test]
fn batches_have_the_first_failure_of_the_first_batch_with_one() {
    let run = async {
        let slow = [("slow.example".to_owned(), pending().left_future())];
        let good = [("ok.example".to_owned(), ready(Ok(opaque())).right_future())];
        let bad = [(
            "a.example".to_owned(),
            ready(Err(Status(403))).right_future(),
        )];
        let run = process_batch([slow, good, bad])
            .batch_fail_fast()
            .fail_fast();
        anyhow::Ok(run.await.map_err(Interrupted::into_cause)?.len())
    };
    let error = block_on(run).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"source failed: "a.example": 403 Forbidden"#
    );
    assert!(error.root_cause().is::<Status>());

    // An error does not fail its batch, and a batch that was interrupted counts as well.
    let error = |code| SourceError::Failed(Status(code));
    let first = |batches: Batches<&'static str, Opaque, Status>| {
        let cause = interrupted(Reason::Cancelled, batches).into_cause();
        assert_eq!(cause.reason, Reason::Cancelled);
        cause.failure.map(|(id, _)| id)
    };
    let late = |failures| Err(interrupted(Reason::TimedOut, failed(failures)));
    assert_eq!(
        first(vec![
            Ok(failed(vec![])),
            late(vec![]),
            Ok(failed(vec![("a", error(403)), ("b", error(404))])),
            late(vec![("c", error(405))]),
        ]),
        Some("a")
    );
    assert_eq!(
        first(vec![
            Ok(failed(vec![])),
            late(vec![("c", error(405)), ("d", error(406))]),
            Ok(failed(vec![("a", error(403))])),
        ]),
        Some("c")
    );
    assert_eq!(first(vec![Ok(failed(vec![])), late(vec![])]), None);
    assert_eq!(first(vec![]), None);
}

#[test]
fn streams_have_the_first_failure_that_was_not_delivered() {
    let drive = |room| {
        let sources = [
            ("a.example".to_owned(), ready(Err(Status(401)))),
            ("ok.example".to_owned(), ready(Ok(opaque()))),
            ("b.example".to_owned(), ready(Err(Status(403)))),
            ("c.example".to_owned(), ready(Err(Status(404)))),
        ];
        // The channel stays open and full until the run is over.
        let (sender, _receiver) = async_channel::bounded(room);
        let run = async {
            let driver = stream_results(sources, sender).expire_on(later());
            anyhow::Ok(driver.await.map_err(Interrupted::into_cause)?.delivered)
        };
        block_on(run).unwrap_err()
    };
    let error = drive(1);
    assert_eq!(
        error.to_string(),
        r#"timed out; first failure: "b.example": 403 Forbidden"#
    );
    assert_eq!(
        error.root_cause().downcast_ref::<Status>(),
        Some(&Status(403))
    );
    assert_eq!(
        drive(3).to_string(),
        r#"timed out; first failure: "c.example": 404 Not Found"#
    );

    let partial = Streamed {
        delivered: 1,
        undelivered: vec![("ok.example", Ok::<_, SourceError<Status>>(opaque()))],
        unfinished: vec!["slow.example"],
        unseen: false,
    };
    let cause = interrupted(Reason::ReceiverClosed, partial).into_cause();
    assert_eq!(cause.to_string(), "receiver closed");
    assert!(cause.failure.is_none() && cause.source().is_none());
}

#[test]
fn cause_holds_no_results() {
    let value = Rc::new(());
    let mut partial = Aggregate::<_, _, Status>::default();
    partial.results.push((1, value.clone()));
    partial.errors.push((2, SourceError::Failed(Status(403))));
    let cause = interrupted(Reason::SourceFailed, partial).into_cause();
    assert_eq!(Rc::strong_count(&value), 1);
    assert!(cause.failure.is_some());
}

#[test]
fn error_of_a_body_is_the_source_whatever_ended_the_run() {
    let handled = || Handled {
        undelivered: vec![(
            "a.example",
            Err::<Opaque, _>(SourceError::Failed(Status(403))),
        )],
        body_errors: vec![Status(404), Status(410)],
        ..Handled::default()
    };
    for (reason, text) in [
        (Reason::BodyFailed, "body failed: 404 Not Found"),
        (Reason::TimedOut, "timed out; body failed: 404 Not Found"),
        (Reason::Drained, "drained; body failed: 404 Not Found"),
    ] {
        let cause = interrupted(reason, handled()).into_cause();
        assert_eq!(cause.to_string(), text);
        let source = cause.source().unwrap();
        assert_eq!(source.downcast_ref(), Some(&Status(404)));
        assert_eq!(cause.failure.unwrap().0, "a.example");
    }

    // A body that fails after the run has been cancelled.
    let sources = [
        ("a", ready(Ok::<_, Status>(())).left_future()),
        ("b", pending().right_future()),
    ];
    let run = for_each_result(sources, |_| async {
        later().await;
        Err(Status(404))
    });
    let cause = block_on(run.cancel_on(later())).unwrap_err().into_cause();
    assert_eq!(cause.to_string(), "cancelled; body failed: 404 Not Found");
}
