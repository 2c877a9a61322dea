//! The cooperative budget of tokio: in each poll, a task may do 128 operations, and tokio refuses the others.
//! One source that is always busy can use up all of them.

mod runtimes;

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use futures_aggregate::{
    Reason, each, fetch_and_aggregate, for_each_result, from_stream, process_batch, stream_results,
};
use runtimes::{NEVER, Source, flavours, in_block_on_and_spawned, ms, never_dry, restless, sleeps};
use tokio::sync::{mpsc, oneshot};

/// The most milliseconds that an answer may be late, on a machine that others use too. Runs end after a second.
const NEAR: u32 = 300;

#[test]
fn signals_are_seen_beside_busy_sources() {
    for (flavour, runtime) in flavours() {
        for busy in [1, 20] {
            let sources = move || (0..busy).map(|id| (id, never_dry())).collect::<Vec<_>>();
            let ends_in_time = |(elapsed, reason): (Duration, Reason), expected| {
                assert_eq!(reason, expected);
                let expected = ms(100)..ms(500);
                assert!(
                    expected.contains(&elapsed),
                    "{flavour}, {busy}: {elapsed:?}"
                );
            };
            let expire = move || async move {
                let started = Instant::now();
                let run = fetch_and_aggregate(sources(), NEVER);
                let outcome = run.expire_on(tokio::time::sleep(ms(100))).await;
                (started.elapsed(), outcome.unwrap_err().reason)
            };
            in_block_on_and_spawned(&runtime, expire, |end| ends_in_time(end, Reason::TimedOut));
            let cancel = move || async move {
                let started = Instant::now();
                let run = process_batch(sources().into_iter().map(|source| [source]));
                let outcome = run.cancel_on(tokio::time::sleep(ms(100))).await;
                (started.elapsed(), outcome.unwrap_err().reason)
            };
            in_block_on_and_spawned(&runtime, cancel, |end| ends_in_time(end, Reason::Cancelled));
        }
    }
}

/// A mix of sources: busy ones, ones that wake themselves, and others whose values are their lateness.
#[derive(Debug, Clone, Copy)]
struct Mix {
    busy: usize,
    restless: usize,
    others: usize,
    /// The position of the first busy source.
    at: usize,
}

const MIXES: [Mix; 9] = [
    Mix {
        busy: 1,
        restless: 0,
        others: 2,
        at: 0,
    },
    Mix {
        busy: 1,
        restless: 0,
        others: 2,
        at: 1,
    },
    Mix {
        busy: 1,
        restless: 0,
        others: 2,
        at: 2,
    },
    Mix {
        busy: 2,
        restless: 1,
        others: 2,
        at: 0,
    },
    Mix {
        busy: 10,
        restless: 0,
        others: 30,
        at: 0,
    },
    Mix {
        busy: 10,
        restless: 3,
        others: 200,
        at: 40,
    },
    Mix {
        busy: 1,
        restless: 1,
        others: 100,
        at: 31,
    },
    Mix {
        busy: 1,
        restless: 0,
        others: 5000,
        at: 4000,
    },
    Mix {
        busy: 10,
        restless: 10,
        others: 3000,
        at: 0,
    },
];

impl Mix {
    /// The sources. Of those that answer, every third waits for a task, and the others sleep.
    fn sources(self) -> Vec<Source> {
        let mut sources = Vec::new();
        for other in 0..self.others {
            if other == self.at {
                sources.extend((0..self.busy).map(|_| never_dry()));
                sources.extend((0..self.restless).map(|_| restless()));
            }
            sources.push(match other % 3 {
                0 => answered(ms(20)),
                _ => sleeps(ms(10 + other as u64 % 20)),
            });
        }
        if self.at >= self.others {
            sources.extend((0..self.busy).map(|_| never_dry()));
        }
        (0..).zip(sources).collect()
    }

    fn check(self, what: &str, results: &[(u32, u32)]) {
        assert_eq!(results.len(), self.others, "{what}, {self:?}");
        let latest = results.iter().map(|&(_, late)| late).max();
        assert!(latest <= Some(NEAR), "{what}, {self:?}: {latest:?} ms late");
    }
}

/// A source that another task answers after this time. Its value is the delay until it is polled.
fn answered(after: Duration) -> futures::future::BoxFuture<'static, runtimes::Answer> {
    Box::pin(async move {
        let (sender, receiver) = oneshot::channel();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let _ = sender.send(Instant::now());
        });
        let sent = receiver.await.map_err(|_| "dropped")?;
        Ok(sent.elapsed().as_millis() as u32)
    })
}

#[test]
fn every_source_that_can_answer_answers_near_its_time() {
    for (flavour, runtime) in flavours() {
        for mix in MIXES {
            let fetch = move || async move {
                let run = fetch_and_aggregate(mix.sources(), ms(400));
                run.await.unwrap_err().partial.results
            };
            in_block_on_and_spawned(&runtime, fetch, |results| mix.check(flavour, &results));
        }
    }
}

#[test]
fn sources_of_batches_and_streams_answer_near_their_time() {
    for (flavour, runtime) in flavours() {
        for mix in MIXES {
            let batches = move || async move {
                let batches = mix.sources().into_iter().map(|source| [source]);
                let run = process_batch(batches).timeout(ms(400));
                let outcomes = run.await.unwrap_err().partial;
                let results = outcomes.into_iter().flatten();
                results.flat_map(|batch| batch.results).collect::<Vec<_>>()
            };
            in_block_on_and_spawned(&runtime, batches, |results| {
                mix.check(&format!("batches, {flavour}"), &results);
            });
            let stream = move || async move {
                let (sender, receiver) = async_channel::unbounded();
                let driver = stream_results(mix.sources(), sender).timeout(ms(400));
                assert!(driver.await.is_err());
                let received = std::iter::from_fn(|| receiver.try_recv().ok());
                let received = received.map(|(id, result)| (id, result.unwrap()));
                received.collect::<Vec<_>>()
            };
            in_block_on_and_spawned(&runtime, stream, |results| {
                mix.check(&format!("stream, {flavour}"), &results);
            });
        }
    }
}

#[test]
fn sources_behind_a_limit_answer_beside_a_busy_one() {
    for (flavour, runtime) in flavours() {
        let run = || async {
            let mut sources: Vec<Source> = vec![(0, never_dry())];
            sources.extend((1..100).map(|id| (id, sleeps(ms(10)))));
            let run = fetch_and_aggregate(sources, ms(400)).concurrency(10);
            run.await.unwrap_err().partial
        };
        in_block_on_and_spawned(&runtime, run, |partial| {
            assert_eq!(
                partial.results.len(),
                99,
                "{flavour}: {:?}",
                partial.unfinished
            );
            assert_eq!(partial.unfinished, [0], "{flavour}");
        });
    }
}

#[test]
fn timeouts_of_sources_stop_only_the_busy_ones() {
    for (flavour, runtime) in flavours() {
        let run = || async {
            let sources = vec![
                (0, never_dry()),
                (1, sleeps(ms(10))),
                (2, restless()),
                (3, answered(ms(20))),
            ];
            let run = fetch_and_aggregate(sources, NEVER).source_timeout(ms(300));
            run.await.unwrap()
        };
        in_block_on_and_spawned(&runtime, run, |aggregate| {
            let ids = |outcomes: &[(u32, u32)]| {
                let mut ids: Vec<_> = outcomes.iter().map(|&(id, _)| id).collect();
                ids.sort_unstable();
                ids
            };
            assert_eq!(ids(&aggregate.results), [1, 3], "{flavour}: {aggregate:?}");
            assert_eq!(aggregate.errors.len(), 2, "{flavour}: {aggregate:?}");
        });
    }
}

/// Sends a busy source first, and then one ready source after another.
fn feed(count: u32, every: Duration) -> impl Stream<Item = Source> + Send + Unpin {
    let (sender, mut receiver) = mpsc::unbounded_channel::<Source>();
    tokio::spawn(async move {
        let _ = sender.send((count, never_dry()));
        for id in 0..count {
            tokio::time::sleep(every).await;
            let ready: Source = (id, Box::pin(std::future::ready(Ok(id))));
            let _ = sender.send(ready);
        }
        tokio::time::sleep(NEVER).await;
    });
    futures::stream::poll_fn(move |cx| receiver.poll_recv(cx))
}

#[test]
fn sources_from_a_stream_start_beside_a_busy_one() {
    for (flavour, runtime) in flavours() {
        let fetch = || async {
            let sources = from_stream(feed(10, ms(10)));
            let run = fetch_and_aggregate(sources, ms(1000)).await;
            run.unwrap_err().partial.results.len()
        };
        in_block_on_and_spawned(&runtime, fetch, |came| assert_eq!(came, 10, "{flavour}"));
        let stream = || async {
            let (sender, receiver) = async_channel::unbounded();
            let driver = stream_results(from_stream(feed(10, ms(10))), sender);
            let driver = driver.concurrency(50).timeout(ms(1000)).await;
            assert_eq!(driver.unwrap_err().partial.delivered, receiver.len());
            receiver.len()
        };
        in_block_on_and_spawned(&runtime, stream, |came| assert_eq!(came, 10, "{flavour}"));
        let batches = || async {
            let batches = feed(10, ms(10)).map(|source| [source]);
            let run = process_batch(from_stream(batches)).timeout(ms(1000)).await;
            let batches = run.unwrap_err().partial;
            batches.iter().filter(|batch| batch.is_ok()).count()
        };
        in_block_on_and_spawned(&runtime, batches, |came| assert_eq!(came, 10, "{flavour}"));
    }
}

/// Reads a queue that is never empty, for this long.
async fn busy_for(time: Duration) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    sender.send(()).unwrap();
    let end = Instant::now() + time;
    while Instant::now() < end {
        receiver.recv().await.unwrap();
        sender.send(()).unwrap();
    }
}

#[test]
fn sources_answer_beside_a_busy_body_and_bodies_end_beside_a_busy_source() {
    for (flavour, runtime) in flavours() {
        for is_body_busy in [true, false] {
            let handle = move || async move {
                let sources = each(0..=10_u64, move |&id| async move {
                    match id {
                        0 if !is_body_busy => busy_for(ms(600)).await,
                        0 => {}
                        _ => tokio::time::sleep(ms(10 * id)).await,
                    }
                    Ok::<_, ()>(id)
                });
                let (started, times) = (Instant::now(), Mutex::new(Vec::new()));
                let run = for_each_result(sources, async |(id, _)| {
                    match id {
                        0 if is_body_busy => busy_for(ms(600)).await,
                        0 => {}
                        _ => tokio::time::sleep(ms(10)).await,
                    }
                    times.lock().unwrap().push((id, started.elapsed()));
                    Ok::<_, ()>(())
                });
                assert_eq!(run.bodies(20).await.unwrap().handled, 11);
                times.into_inner().unwrap()
            };
            in_block_on_and_spawned(&runtime, handle, |times| {
                for (id, elapsed) in times.into_iter().filter(|(id, _)| *id > 0) {
                    let latest = ms(10 * id + 10) + ms(u64::from(NEAR));
                    assert!(
                        elapsed < latest,
                        "{flavour}, {is_body_busy}, {id}: {elapsed:?}"
                    );
                }
            });
        }
    }
}

/// tokio refuses to say that the signal has come, because a source has spent the budget.
#[test]
fn nothing_starts_after_a_signal_that_tokio_has_refused() {
    for (_, runtime) in flavours() {
        let run = || async {
            let (drain, drained) = oneshot::channel::<()>();
            let drain = Mutex::new(Some(drain));
            let (drain, sent) = (&drain, &AtomicUsize::new(0));
            let sources = each(0..50, move |&id| {
                sent.fetch_add(usize::from(drain.lock().unwrap().is_none()), Relaxed);
                async move {
                    if id == 0 {
                        let (sender, mut queue) = mpsc::unbounded_channel();
                        (0..1000).for_each(|job| sender.send(job).unwrap());
                        for _ in 0..127 {
                            queue.recv().await.unwrap();
                        }
                        let signal = drain.lock().unwrap().take();
                        signal.unwrap().send(()).unwrap();
                        queue.recv().await.unwrap();
                        queue.recv().await.unwrap();
                    }
                    Ok::<_, ()>(id)
                }
            });
            let run = fetch_and_aggregate(sources, NEVER).drain_on(drained);
            (run.await.unwrap_err().reason, sent.load(Relaxed))
        };
        assert_eq!(runtime.block_on(run()), (Reason::Drained, 0));
    }
}

/// The end of the stream is seen only with a budget that the last source has not spent.
#[test]
fn end_of_a_stream_is_seen_after_a_source_that_has_spent_the_budget() {
    for (_, runtime) in flavours() {
        let run = || async {
            let (drain, drained) = oneshot::channel::<()>();
            let (answer, answered) = oneshot::channel::<()>();
            let (sender, mut receiver) = mpsc::unbounded_channel();
            sender.send(answered).unwrap();
            drop(sender);
            let stream = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
            let sources = stream.map(|answered| {
                let source = async move {
                    answered.await.unwrap();
                    let (sender, mut queue) = mpsc::unbounded_channel();
                    (0..1000).for_each(|job| sender.send(job).unwrap());
                    while tokio::task::coop::has_budget_remaining() {
                        queue.recv().await.unwrap();
                    }
                    Ok::<_, ()>(())
                };
                (0, source)
            });
            let run = fetch_and_aggregate(from_stream(sources), NEVER)
                .concurrency(1)
                .drain_on(drained);
            let signals = async {
                tokio::time::sleep(ms(10)).await;
                drain.send(()).unwrap();
                tokio::time::sleep(ms(10)).await;
                answer.send(()).unwrap();
            };
            futures::future::join(async { run.await.is_ok() }, signals)
                .await
                .0
        };
        assert!(runtime.block_on(run()));
    }
}
