//! The continuous form: jobs start while there is room for them, and are settled one by one.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;

use futures::{Stream, StreamExt, stream};
use futures_aggregate::{Event, Handled, Interrupted, for_each_result, from_stream};
use redis::RedisResult;

use crate::args::Args;
use crate::broker::Broker;
use crate::settlement::Settlement;
use crate::signals::Signal;
use crate::tally::Tally;
use crate::work::{self, Entry};

/// Works on jobs until the stream is empty, if that is asked for, or a signal comes.
///
/// At the first signal, `drain`, the worker takes no more jobs and finishes those in flight. At the second
/// one, `cancel`, it drops them.
pub(crate) async fn run(
    broker: &Broker,
    args: &Args,
    drain: Signal,
    cancel: Signal,
    tally: &Tally,
) -> RedisResult<()> {
    let closed = Cell::new(false);
    let in_flight = Cell::new(0);
    let failure = Cell::new(None);
    let entries = stream::unfold((), async |()| {
        while !closed.get() {
            match take(broker, args, in_flight.get()).await {
                Ok(Taken::Entries(entries)) => return Some((stream::iter(entries), ())),
                Ok(Taken::Nothing) => {}
                Ok(Taken::End) => break,
                Err(error) => {
                    failure.set(Some(error));
                    break;
                }
            }
        }
        None
    });
    let job = |entry: Entry| (entry.clone(), work::work(entry, args.deliveries));
    let mut jobs = pin!(entries.flatten().map(job).fuse());

    let settle = async |settlement: Settlement| {
        broker.settle(&settlement).await?;
        tally.add(&settlement);
        Ok(())
    };
    let mut left = process(jobs.as_mut(), &settle, args, &in_flight, drain, cancel).await?;

    // The run has named the entries that it took from the stream. A drain can end the run while the stream
    // has more: it had read them, or its last read is under way. They were not started either.
    closed.set(true);
    left.unstarted
        .extend(jobs.map(|(entry, _)| entry).collect::<Vec<_>>().await);
    settle(left).await?;
    failure.take().map_or(Ok(()), Err)
}

/// What there was in Redis.
enum Taken {
    Entries(Vec<Entry>),
    Nothing,
    /// All jobs are done, and the worker does not wait for more.
    End,
}

/// Takes as many entries as there is room for. The run polls the stream only while it has room for one.
async fn take(broker: &Broker, args: &Args, in_flight: usize) -> RedisResult<Taken> {
    let room = args.concurrency.saturating_sub(in_flight).max(1);
    let entries = broker.take(room).await?;
    Ok(if !entries.is_empty() {
        Taken::Entries(entries)
    } else if args.until_empty && broker.is_empty().await? {
        Taken::End
    } else {
        Taken::Nothing
    })
}

/// Works on the jobs, and settles each as it finishes. Returns what is left to settle at the end: the
/// outcomes that were not settled, and the entries without an outcome. `in_flight` counts
/// the jobs that take a place: those that work, and those whose outcome waits to be settled.
///
/// Fails if an entry could not be settled. Then all entries that were not settled stay pending, and other
/// workers take them when they are overdue.
async fn process<F: Future<Output = Result<(), String>>>(
    jobs: impl Stream<Item = (Entry, F)>,
    settle: impl AsyncFn(Settlement) -> RedisResult<()>,
    args: &Args,
    in_flight: &Cell<usize>,
    drain: impl Future<Output = ()>,
    cancel: impl Future<Output = ()>,
) -> RedisResult<Settlement> {
    let unstarted = RefCell::new(HashSet::new());
    let ended = for_each_result(from_stream(jobs), async |(entry, outcome)| {
        in_flight.set(in_flight.get() - 1);
        settle(Settlement::of(entry, outcome, args.deliveries)).await
    })
    .concurrency(args.concurrency)
    // Redis executes the commands of all bodies that wait for it together.
    .bodies(args.concurrency)
    .source_timeout_by(|entry| args.job_timeout(&entry.backend))
    .catch_panics()
    .drain_on(drain)
    .cancel_on(cancel)
    .observe(|event| match event {
        Event::Started { .. } => in_flight.set(in_flight.get() + 1),
        Event::NotStarted { id: entry, .. } => {
            unstarted.borrow_mut().insert(entry.id.clone());
        }
        _ => {}
    })
    .await;
    let Handled {
        undelivered,
        unfinished,
        body_errors,
        ..
    } = ended.unwrap_or_else(Interrupted::into_partial);
    if let Some(error) = body_errors.into_iter().next() {
        return Err(error);
    }
    let mut left = Settlement::default();
    for (entry, outcome) in undelivered {
        left.add(entry, outcome, args.deliveries);
    }
    left.add_without_outcome(unfinished, &unstarted.into_inner());
    Ok(left)
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::task::Poll;
    use std::time::Duration;

    use clap::Parser;
    use futures::channel::{mpsc, oneshot};
    use futures::future::BoxFuture;
    use futures::{FutureExt, poll};
    use futures_aggregate::SourceError;
    use redis::{ErrorKind, RedisError};
    use tokio::time::timeout;

    use super::*;

    type Job = (Entry, BoxFuture<'static, Result<(), String>>);

    fn args(more: &[&str]) -> Args {
        Args::parse_from([&["worker", "--name", "test"], more].concat())
    }

    fn mail(job: u32) -> Entry {
        Entry::for_test(job, "mail", 1)
    }

    fn done(entry: &Entry) -> Job {
        (entry.clone(), ready(Ok(())).boxed())
    }

    fn hanging(entry: &Entry) -> Job {
        (entry.clone(), pending().boxed())
    }

    async fn received(signal: oneshot::Receiver<()>) {
        signal.await.unwrap();
    }

    /// What is left when the run has ended. Fails if it does not end.
    async fn ended(run: impl Future<Output = RedisResult<Settlement>>) -> Settlement {
        let ended = timeout(Duration::from_secs(60), run).await;
        ended.expect("the run goes on").unwrap()
    }

    #[tokio::test]
    async fn entries_are_taken_while_there_is_room_and_settled_as_they_finish() {
        let args = args(&["--concurrency", "2"]);
        let (sender, mut jobs) = mpsc::unbounded();
        let (finish, finished) = oneshot::channel();
        let finished = finished.map(|finished| finished.map_err(|error| error.to_string()));
        sender.unbounded_send((mail(1), finished.boxed())).unwrap();
        for job in 2..=4 {
            sender.unbounded_send(hanging(&mail(job))).unwrap();
        }
        let settled = RefCell::new(Vec::new());
        let settle = async |settlement: Settlement| {
            settled.borrow_mut().push(settlement);
            Ok(())
        };
        let in_flight = Cell::new(0);
        {
            let run = process(&mut jobs, settle, &args, &in_flight, pending(), pending());
            let mut run = pin!(run);
            assert!(poll!(run.as_mut()).is_pending());
            assert_eq!(in_flight.get(), 2);
            assert!(settled.borrow().is_empty());

            finish.send(()).unwrap();
            // The answer, its body and the next source may take a poll each.
            for _ in 0..3 {
                assert!(poll!(run.as_mut()).is_pending());
            }
            assert_eq!(in_flight.get(), 2);
        }
        assert_eq!(settled.into_inner(), [Settlement::of(mail(1), Ok(()), 5)]);
        // Of the four, three were taken.
        assert_eq!(jobs.try_recv().unwrap().0, mail(4));
    }

    #[tokio::test]
    async fn drained_run_finishes_what_is_in_flight_and_names_what_it_took_without_starting_it() {
        let args = args(&["--concurrency", "1"]);
        let (sender, mut jobs) = mpsc::unbounded();
        let (finish, finished) = oneshot::channel();
        let finished = finished.map(|finished| finished.map_err(|error| error.to_string()));
        sender.unbounded_send((mail(1), finished.boxed())).unwrap();
        for job in 2..=3 {
            sender.unbounded_send(done(&mail(job))).unwrap();
        }
        let settled = RefCell::new(Vec::new());
        let settle = async |settlement: Settlement| {
            settled.borrow_mut().push(settlement);
            Ok(())
        };
        let in_flight = Cell::new(0);
        let (drain, drained) = oneshot::channel();
        let left = {
            let drained = received(drained);
            let run = process(&mut jobs, settle, &args, &in_flight, drained, pending());
            let mut run = pin!(run);
            assert!(poll!(run.as_mut()).is_pending());
            drain.send(()).unwrap();
            assert!(poll!(run.as_mut()).is_pending());
            finish.send(()).unwrap();
            ended(run).await
        };
        assert_eq!(settled.into_inner(), [Settlement::of(mail(1), Ok(()), 5)]);
        // The run takes one more entry to see whether the stream has ended.
        let expected = Settlement {
            unstarted: vec![mail(2)],
            ..Settlement::default()
        };
        assert_eq!(left, expected);
        assert_eq!(jobs.try_recv().unwrap().0, mail(3));
        assert_eq!(in_flight.get(), 0);
    }

    #[tokio::test]
    async fn cancelled_run_keeps_known_outcomes_and_leaves_the_rest_pending() {
        let args = args(&["--concurrency", "4", "--deliveries", "3"]);
        let known = mail(5);
        let failed = mail(6);
        let last = Entry::for_test(7, "mail", 3);
        let unfinished = Entry::for_test(8, "mail", 3);
        let failure = || ready(Err("busy".to_owned())).boxed();
        let jobs = (1..=4).map(|job| done(&mail(job))).chain([
            done(&known),
            (failed.clone(), failure()),
            (last.clone(), failure()),
            hanging(&unfinished),
        ]);
        // Redis does not answer the first four, so the next three outcomes wait.
        let settled = RefCell::new(Vec::new());
        let (answer, answered) = oneshot::channel();
        let answered = received(answered).shared();
        let settle = async |settlement: Settlement| {
            answered.clone().await;
            settled.borrow_mut().push(settlement);
            Ok(())
        };
        let in_flight = Cell::new(0);
        let (cancel, cancelled) = oneshot::channel();
        let jobs = stream::iter(jobs).chain(stream::pending());
        let cancelled = received(cancelled);
        let run = process(jobs, settle, &args, &in_flight, pending(), cancelled);
        let mut run = pin!(run);
        for _ in 0..5 {
            assert!(poll!(run.as_mut()).is_pending());
        }
        assert_eq!(in_flight.get(), 4);
        cancel.send(()).unwrap();
        assert!(poll!(run.as_mut()).is_pending());
        answer.send(()).unwrap();
        let left = ended(run).await;

        let first = (1..=4).map(|job| Settlement::of(mail(job), Ok(()), 3));
        assert_eq!(settled.take(), first.collect::<Vec<_>>());
        let expected = Settlement {
            done: vec![known],
            failed: vec![failed],
            dead: vec![(last, "busy".to_owned())],
            unfinished: vec![unfinished],
            unstarted: vec![],
        };
        assert_eq!(left, expected);
    }

    #[tokio::test]
    async fn each_backend_has_its_own_timeout() {
        let args = args(&["--job-timeout", "0s", "--timeout-of", "archive=1h"]);
        let archive = Entry::for_test(2, "archive", 1);
        let settled = RefCell::new(Vec::new());
        let settle = async |settlement: Settlement| {
            settled.borrow_mut().push(settlement);
            Ok(())
        };
        let in_flight = Cell::new(0);
        let jobs = stream::iter([hanging(&mail(1)), hanging(&archive)]);
        let (cancel, cancelled) = oneshot::channel();
        let cancelled = received(cancelled);
        let run = process(jobs, settle, &args, &in_flight, pending(), cancelled);
        let mut run = pin!(run);
        let is_late = async {
            while settled.borrow().is_empty() {
                assert!(poll!(run.as_mut()).is_pending());
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), is_late).await.unwrap();
        cancel.send(()).unwrap();
        let left = ended(run).await;
        let late = Settlement::of(mail(1), Err(SourceError::TimedOut), 5);
        assert_eq!(settled.take(), [late]);
        assert_eq!(left.unfinished, [archive]);
    }

    #[tokio::test]
    async fn run_ends_when_an_entry_cannot_be_settled() {
        let args = args(&[]);
        let settle = async |_| {
            let error: RedisError = (ErrorKind::Client, "gone").into();
            Err(error)
        };
        let in_flight = Cell::new(0);
        let jobs = stream::iter([done(&mail(1))]).chain(stream::pending());
        let run = process(jobs, settle, &args, &in_flight, pending(), pending());
        let mut run = pin!(run);
        let Poll::Ready(Err(error)) = poll!(run.as_mut()) else {
            panic!("the run goes on");
        };
        assert!(error.to_string().contains("gone"));
    }
}
