//! Tests in which tokio's clock is paused: it controls every timeout, and production code is tested
//! unchanged.

mod runtimes;

use std::future::{pending, ready};
use std::time::{Duration, Instant};

use futures::future::join;
use futures_aggregate::{
    Attempt, AttemptsFailed, Interrupted, Reason, SourceError, Timer, each, fetch_and_aggregate,
    for_each_result, hedge, process_batch, retry, stream_results,
};
use runtimes::TokioTimer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// Runs a test with a paused clock. Returns how far the clock has moved.
fn paused<F: Future>(test: impl FnOnce() -> F) -> Duration {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().unwrap();
    let began = Instant::now();
    let elapsed = runtime.block_on(async {
        let began = tokio::time::Instant::now();
        test().await;
        began.elapsed()
    });
    assert!(began.elapsed() < 30 * SECOND, "real time has passed");
    elapsed
}

/// A source that takes so many seconds.
async fn takes(seconds: u32) -> Result<u32, ()> {
    sleep(SECOND * seconds).await;
    Ok(seconds)
}

#[test]
fn source_timeouts_are_those_of_the_paused_clock() {
    let elapsed = paused(|| async {
        let run = fetch_and_aggregate(each([30, 1, 2], |&it| takes(it)), 3600 * SECOND);
        let aggregate = run
            .source_timeout(2 * SECOND)
            .timer(TokioTimer)
            .await
            .unwrap();
        // An answer at the time of the timeout counts.
        assert_eq!(aggregate.results, [(1, 1), (2, 2)]);
        assert_eq!(aggregate.errors, [(30, SourceError::TimedOut)]);
    });
    assert_eq!(elapsed, 2 * SECOND);
}

#[test]
fn all_other_timeouts_are_those_of_the_paused_clock() {
    let list = || each([1, 1000], |&it| takes(it));
    let elapsed = paused(|| async {
        let run = fetch_and_aggregate(list(), 5 * SECOND).timer(TokioTimer);
        assert_eq!(run.await.unwrap_err().partial.results, [(1, 1)]);
    });
    assert_eq!(elapsed, 5 * SECOND);

    let elapsed = paused(|| async {
        let deadline = TokioTimer.now() + 7 * SECOND;
        let run = fetch_and_aggregate(list(), 8 * SECOND).deadline(deadline);
        assert_eq!(
            run.timer(TokioTimer).await.unwrap_err().reason,
            Reason::TimedOut
        );
    });
    assert_eq!(elapsed, 7 * SECOND);

    let elapsed = paused(|| async {
        let batches = [list(), list(), list()];
        let run = process_batch(batches)
            .batch_timeout(5 * SECOND)
            .concurrency(2);
        let batches = run.timer(TokioTimer).await.unwrap();
        assert!(batches.iter().all(|batch| batch.is_err()));
    });
    assert_eq!(elapsed, 10 * SECOND);

    let elapsed = paused(|| async {
        let (sender, _receiver) = async_channel::unbounded();
        let driver = stream_results(list(), sender)
            .drain_on(sleep(2 * SECOND))
            .drain_timeout(3 * SECOND)
            .timer(TokioTimer);
        let driver = tokio::spawn(driver);
        let interrupted = driver.await.unwrap().unwrap_err();
        assert_eq!(interrupted.reason, Reason::Drained);
        assert_eq!(interrupted.partial.delivered, 1);
    });
    assert_eq!(elapsed, 5 * SECOND);

    let elapsed = paused(|| async {
        let body = async |_outcome| takes(4).await.map(drop);
        let run = for_each_result(list(), body).source_timeout(3 * SECOND);
        assert_eq!(run.timer(TokioTimer).await.unwrap().handled, 2);
    });
    assert_eq!(elapsed, (1 + 4 + 4) * SECOND);

    let elapsed = paused(|| async {
        let answer = hedge(3 * SECOND, 2, |attempt| takes([1000, 4][attempt]));
        assert_eq!(answer.timer(TokioTimer).await, Ok(4));
    });
    assert_eq!(elapsed, 7 * SECOND);

    let elapsed = paused(|| async {
        let busy = |attempt: Attempt| ready(if attempt.number < 3 { Err(()) } else { Ok(()) });
        let retry = retry(Duration::ZERO, 5, busy).pause_hint(|()| Some(6 * SECOND));
        assert_eq!(retry.timer(TokioTimer).await, Ok(()));
    });
    assert_eq!(elapsed, 18 * SECOND);
}

/// What a service asks its replicas. It is the same in production and in tests.
async fn price(replicas: &[u32], deadline: Instant) -> Result<u32, Interrupted<Prices>> {
    let ask = |&replica: &u32| {
        retry(SECOND / 10, 3, move |attempt: Attempt| async move {
            assert!(attempt.remaining <= 5 * SECOND);
            let answer = hedge(2 * SECOND, 2, move |hedge| replica_answers(replica, hedge));
            answer.timer(TokioTimer).await.map_err(|failed| failed.last)
        })
        .retry_if(|error| *error == "busy")
        .deadline(deadline)
        .timer(TokioTimer)
    };
    let run = fetch_and_aggregate(each(replicas.to_vec(), ask), Duration::MAX);
    let aggregate = run.deadline(deadline).quorum(2).timer(TokioTimer).await?;
    Ok(aggregate
        .results
        .into_iter()
        .map(|(_, price)| price)
        .min()
        .unwrap_or(0))
}

type Prices = futures_aggregate::Aggregate<u32, u32, AttemptsFailed<&'static str>>;

/// A replica with an even number is slow the first time. One above 10 never answers.
async fn replica_answers(replica: u32, hedge: usize) -> Result<u32, &'static str> {
    match (replica, hedge) {
        (11.., _) => pending().await,
        (5, _) => Err("denied"),
        (_, 0) if replica % 2 == 0 => {
            sleep(10 * SECOND).await;
            Ok(replica)
        }
        _ => {
            sleep(SECOND / 2).await;
            Ok(replica)
        }
    }
}

#[test]
fn production_code_is_tested_at_virtual_instants() {
    let elapsed = paused(|| async {
        let deadline = TokioTimer.now() + 5 * SECOND;
        assert_eq!(price(&[2, 3, 5], deadline).await.unwrap(), 2);
    });
    // The hedge of replica 2 starts after two seconds, and takes half a second.
    assert_eq!(elapsed, 2 * SECOND + SECOND / 2);

    let elapsed = paused(|| async {
        let deadline = TokioTimer.now() + 5 * SECOND;
        let interrupted = price(&[3, 11, 12], deadline).await.unwrap_err();
        assert_eq!(interrupted.reason, Reason::TimedOut);
        assert_eq!(interrupted.partial.results, [(3, 3)]);
        assert_eq!(interrupted.partial.unfinished, [11, 12]);
    });
    assert_eq!(elapsed, 5 * SECOND);
}

/// The sockets of the runtime, and its timer, are polled in the same turn.
#[test]
fn answers_in_sockets_are_seen_in_the_turn_of_the_deadline() {
    let runtime = runtimes::current_thread();
    runtime.block_on(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let source = async {
            let mut stream = tokio::net::TcpStream::connect(address)
                .await
                .map_err(drop)?;
            stream.write_all(&[1]).await.map_err(drop)?;
            let mut answer = [0];
            stream.read_exact(&mut answer).await.map_err(drop)?;
            Ok::<_, ()>(answer[0])
        };
        // The server answers at once, in a thread that the busy one does not stop.
        std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0];
            stream.read_exact(&mut request).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            stream.write_all(&request).unwrap();
        });
        let stalls = async {
            sleep(Duration::from_millis(10)).await;
            std::thread::sleep(Duration::from_millis(100));
        };
        let run = fetch_and_aggregate([("socket", source)], Duration::from_millis(50));
        let (aggregate, ()) = join(run.timer(TokioTimer), stalls).await;
        assert_eq!(aggregate.unwrap().results, [("socket", 1)]);
    });
}
