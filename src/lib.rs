//! Runs many futures at once under a deadline and returns **everything that is known when time is
//! up**: every result, every error, and the id of every source that did not answer.
//!
//! A service that fans out to many sources must stop waiting at some point. It must not lose the
//! results that arrived, and it must not leave anything running. Channels and spawned tasks make both
//! mistakes easy: a receiver that is dropped first leaves its senders blocked, and a timeout around a
//! collected stream throws away all results. Here all sources live inside one future. Dropping it drops
//! every source, and each source is accounted for.
//!
//! The idea that no task outlives its caller is [structured concurrency]. The names of the operations
//! are those of a service written in Go, whose leaks this crate does not have.
//!
//! [structured concurrency]: https://vorpus.org/blog/notes-on-structured-concurrency-or-go-statement-considered-harmful/
//!
//! # The operations
//!
//! | operation | what it does | resolves to |
//! |---|---|---|
//! | [`fetch_and_aggregate`] | waits for all sources, under one deadline | an [`Aggregate`]: results, errors, unfinished |
//! | [`process_batch`] | does so for several batches, each under its own deadline | one aggregate per batch, in order |
//! | [`stream_results`] | sends each outcome into a channel as soon as it arrives | what was delivered, and what was not |
//! | [`for_each_result`] | passes each outcome to an async closure as soon as it arrives | what was handled, and what was not |
//!
//! A *source* is an id, of any type, and a future that resolves to a `Result`. All sources run
//! concurrently in the task that polls the operation: it spawns no task and blocks no thread, and any
//! executor works. When an operation resolves, all its sources are dropped; when it is dropped, every
//! source in it is dropped with it.
//!
//! Sources come from [`each(ids, make)`](each), from any iterator of pairs `(id, future)`, or from a
//! stream of such pairs by [`from_stream`].
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//! use futures_aggregate::{Interrupted, each, fetch_and_aggregate};
//!
//! # async fn fetch(url: &str) -> Result<String, std::io::Error> { Ok(url.to_owned()) }
//! # futures::executor::block_on(async {
//! let urls = ["https://a.example", "https://b.example"];
//!
//! let aggregate = fetch_and_aggregate(each(urls, |&url| fetch(url)), Duration::from_secs(2))
//!     .concurrency(64)
//!     .source_timeout(Duration::from_millis(500))
//!     .await
//!     .unwrap_or_else(Interrupted::into_partial);
//!
//! for (url, page) in &aggregate.results {
//!     println!("{url}: {} bytes", page.len());
//! }
//! for (url, error) in &aggregate.errors {
//!     println!("{url}: {error}");
//! }
//! for url in &aggregate.unfinished {
//!     println!("{url}: no answer in time");
//! }
//! # assert_eq!(aggregate.results.len(), 2);
//! # });
//! ```
//!
//! A run ends early by a *signal*, which is a future that you pass in, by a *deadline*, or by a
//! *policy*, which is a rule about outcomes such as a quorum. It *drains* if it starts no more sources and
//! lets those in flight finish.
//!
//! # Which one do I want?
//!
//! | I want | use |
//! |---|---|
//! | all answers, or those that arrived within two seconds | [`fetch_and_aggregate`] with [`Interrupted::into_partial`] |
//! | all answers, or the first error | [`fetch_and_aggregate`] with [`fail_fast`], see [the guide](guide::recipes#all-or-nothing) |
//! | the first answer | [`quorum(1)`][quorum] |
//! | three answers out of five | [`quorum(3)`][quorum] |
//! | answers until they add up to enough | [`stop_when`] |
//! | each answer as soon as it arrives | [`stream_results`], and a task that reads the channel |
//! | async work for each answer, while the others are still awaited | [`for_each_result`] |
//! | answers in the order of the sources | [`in_order`] |
//! | work that arrives over time: a queue, a channel, a crawl | [`from_stream`], see [the guide](guide::from_queue) |
//! | a graceful shutdown | [`drain_on`] |
//! | several groups of sources, each with its own deadline | [`process_batch`] |
//! | at most N requests at a time | [`concurrency`] |
//! | at most N requests to a backend, by all runs of the process | [`concurrency`] with a [`Limit`] |
//! | at most N sources in all | `take(N)` of the iterator or the stream; if the sources send to the stream, see [the guide](guide::from_queue#a-crawler) |
//! | at most N requests at a time per host | [`concurrency_per`], see [the guide](guide::limits) |
//! | at most so much memory, or cost, at a time | [`weight`] |
//! | at most N starts per second | [`rate`] with a [`Rate`] |
//! | to give up one slow source, not all | [`source_timeout`] |
//! | to end by a deadline that the caller has set | [`deadline`] |
//! | tests that do not wait for timeouts | [`timer`], with a [`TestTimer`] or with the timer of a runtime, see [the guide](guide::recipes#the-timer-of-a-runtime) |
//! | a second attempt when a source is slow | [`hedge`] |
//! | a second attempt when a source fails | [`retry`], see [the guide](guide::recipes#deadlines-that-span-retries) |
//! | sources that compute, on all cores | [`spawned`] |
//! | a panic of a source as one more error | [`catch_panics`] |
//! | a progress bar, metrics, a trace | [`observe`] |
//!
//! # What to pass to `cancel_on` and `drain_on`
//!
//! Any future. A run that is cancelled resolves to its partial result; a run that is dropped returns
//! nothing.
//!
//! | to cancel by | pass |
//! |---|---|
//! | a call of yours, or dropping a handle | the receiver of `futures::channel::oneshot::channel::<()>()`; keep the sender as long as the run may continue |
//! | one decision for many runs | a clone of `futures::future::Shared`, made by `.shared()` of such a receiver |
//! | a token of tokio | `token.cancelled_owned()` of a `tokio_util::sync::CancellationToken` |
//! | Ctrl-C | `tokio::signal::ctrl_c()`, or `async move { receiver.recv().await }` where a handler of `ctrlc` sends into an `async_channel` |
//! | a client that hangs up | the future of its connection for that, such as `async move { sender.closed().await }` of a tokio oneshot channel |
//! | a channel that is closed | `async move { while receiver.recv().await.is_ok() {} }` of an `async_channel` |
//! | a shared state | `async move { watched.wait_for(\|is_over\| *is_over).await.map(drop) }` of a `tokio::sync::watch` |
//! | an optional signal | `async move { match signal { Some(signal) => drop(signal.await), None => pending().await } }` |
//! | a timer of yours | not this, but [`timer`], for all timeouts, or [`expire_on`], for one sleep; their reason is [`Reason::TimedOut`] |
//!
//! # When not to use this
//!
//! - For two or three futures of different types: `join!` and `select!` are simpler.
//! - For a handful of futures without a deadline and without errors: `join_all` is simpler and faster.
//! - Without `std`: futures-buffered.
//! - For work that has to outlive the code that started it: dropping a run drops its sources.
//!
//! # How it compares
//!
//! | | here | [`FuturesUnordered`], [`buffer_unordered`] | [futures-concurrency] | [futures-buffered] | [`JoinSet`] |
//! |---|---|---|---|---|---|
//! | outcomes carry the id of their source | yes | by hand | by place in `join`, by key in `FutureGroup` | by hand | by the task's id; `JoinMap` of tokio-util |
//! | names the sources that did not answer | yes | by hand | by hand | by hand | by hand; `JoinMap::keys` |
//! | keeps the results at a deadline | yes | `take_until` | `take_until` on a `FutureGroup` | `take_until` | yes, in the set |
//! | timeout for each source, or by its id | yes, one sleep for all | a timer for each | a timer for each | a timer for each | a timer for each |
//! | concurrency limit | yes | `buffer_unordered` | `limit`, for `for_each` and not for `collect` | yes | a semaphore |
//! | fail-fast, quorum | yes, with the partial result | `try_collect`, `take`, without it | `try_join`, `race_ok`, without it | `try_join_all`, `take`, without it | by hand |
//! | polls only woken sources | yes | yes | `join`, `try_join` and groups; not `race`, `race_ok` | yes | yes |
//! | sources may borrow, or be `!Send` | yes | yes | yes | yes | no; `spawn_local` |
//! | runs on all cores | [`spawned`] | no | no | no | yes |
//! | executors | any | any | any | any | tokio |
//! | drops its futures at once when dropped | yes; with [`spawned`], when each task is next polled | yes | yes | yes | when each task is next scheduled; `spawn_blocking` never, once it runs |
//! | ends one source from outside | a signal that the source awaits | `Abortable` | `FutureGroup::remove` | `Abortable` | `AbortHandle`; `JoinMap::abort` |
//! | more sources while it runs | [`from_stream`] | `push` | `FutureGroup::insert` | `push` | `spawn` |
//! | sources from a stream | yes | yes | yes | yes | by hand |
//! | outcomes in the order of the sources | [`in_order`] | `buffered` | `join` | `buffered_ordered` | `JoinQueue` of tokio-util |
//! | async work for each outcome while sources are polled | [`for_each_result`] | `for_each_concurrent`, below its limit | `ConcurrentStream::for_each` | `for_each_concurrent`, below its limit | yes, in the loop around `join_next` |
//! | graceful shutdown: start no more, finish the rest | [`drain_on`] | `take_until` on the stream of sources | the same | the same | spawn no more; `TaskTracker` of tokio-util |
//! | combinators on outcomes | no | yes | on a `FutureGroup` | yes | no |
//! | a few futures of different types | no | no | yes, tuples | no | with one output type |
//! | without `std` | no | yes | yes | yes | no |
//! | `unsafe` code | none | yes | yes | yes | yes |
//!
//! What each costs, with figures, is in the
//! [benchmarks](https://github.com/futures-aggregate/futures-aggregate/blob/main/docs/benchmarks.md). In
//! short: for a handful of sources that are ready at once, `join_all` is faster, because it makes no wakers
//! and keeps no account; where many sources wait, this crate is faster than [`FuturesUnordered`] and about as
//! fast as futures-buffered; where very many are woken at random, futures-buffered is faster.
//!
//! Three crates do parts of this. [future-queue] runs a stream of futures under weights and in groups, as
//! [`weight`] and [`concurrency_per`] do; it has no deadline and no ids, and tells each future the number of its
//! slot. [futures-bounded] has sets and maps of futures, of different types too, with a capacity and a timeout
//! for each future; a set that is full returns the future, and the outcomes of a map carry their keys.
//! `JoinMap` and `JoinQueue` of [tokio-util] add keys and order to [`JoinSet`].
//!
//! This was checked in November 2026, with futures 0.3.34, futures-concurrency 7.7, futures-buffered 0.2.14,
//! tokio 1.54, tokio-util 0.7.20, future-queue 0.4.1 and futures-bounded 0.3.1.
//!
//! # Features
//!
//! None is on by default.
//!
//! - `test-util`: [`TestTimer`], whose clock belongs to a test. Use it in dev-dependencies.
//! - `wasm-bindgen`: clock and timers from JavaScript on `wasm32-unknown-unknown`, in browsers and in
//!   Node. Without it this crate does not compile there, because no deadline would hold. It changes
//!   nothing on any other target (under resolver 2, the default since edition 2021, or later); see
//!   [the guide](guide::recipes#webassembly).
//!
//! # More
//!
//! - [The guide](guide): from Go, from `JoinSet`, from `buffer_unordered`; queues and streams; recipes;
//!   what dropping cannot do; what becomes of unusual input.
//! - [Examples](https://github.com/futures-aggregate/futures-aggregate/tree/main/examples):
//!   programs with real clients, on several executors.
//!
//! [`fail_fast`]: Operation::fail_fast
//! [quorum]: Operation::quorum
//! [`stop_when`]: FetchAndAggregate::stop_when
//! [`catch_panics`]: Operation::catch_panics
//! [`observe`]: Operation::observe
//! [`concurrency`]: Operation::concurrency
//! [`concurrency_per`]: Operation::concurrency_per
//! [`weight`]: Operation::weight
//! [`rate`]: Operation::rate
//! [`source_timeout`]: Operation::source_timeout
//! [`deadline`]: Operation::deadline
//! [`timer`]: Operation::timer
//! [`expire_on`]: Operation::expire_on
//! [`drain_on`]: Operation::drain_on
//! [`in_order`]: Operation::in_order
//! [`hedge`]: hedge()
//! [`retry`]: retry()
//! [`FuturesUnordered`]: https://docs.rs/futures/latest/futures/stream/struct.FuturesUnordered.html
//! [`buffer_unordered`]: https://docs.rs/futures/latest/futures/stream/trait.StreamExt.html#method.buffer_unordered
//! [futures-concurrency]: https://docs.rs/futures-concurrency
//! [futures-buffered]: https://docs.rs/futures-buffered
//! [`JoinSet`]: https://docs.rs/tokio/latest/tokio/task/struct.JoinSet.html
//! [future-queue]: https://docs.rs/future-queue
//! [futures-bounded]: https://docs.rs/futures-bounded
//! [tokio-util]: https://docs.rs/tokio-util/latest/tokio_util/task/

#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod operation;

mod fetch_and_aggregate;
mod for_each_result;
mod process_batch;
mod stream_results;

mod attempts;
mod hedge;
mod retry;
mod spawned;

mod consumer;
mod hooks;
mod in_order;
mod source_driver;
mod sources;

mod limit;
mod rate;
mod scheduler;

mod panics;
mod parking;
mod sealed;
mod timer;

mod aggregate;
mod batches;
mod cause;
mod event;
mod handled;
mod interrupted;
mod streamed;

pub mod types;

// The programs in it use more crates than this one has at hand: `tests/guide` runs them.
#[cfg(all(doc, not(doctest)))]
pub mod guide;

pub use crate::aggregate::{Aggregate, Outcome, SourceError};
pub use crate::attempts::{AttemptBudget, AttemptsFailed};
pub use crate::batches::{BatchOutcome, Batches};
pub use crate::cause::{Cause, Partial};
pub use crate::event::Event;
pub use crate::fetch_and_aggregate::{FetchAndAggregate, fetch_and_aggregate};
pub use crate::for_each_result::{ForEachResult, for_each_result};
pub use crate::handled::Handled;
pub use crate::hedge::{Hedge, HedgeDelay, hedge};
pub use crate::interrupted::{Interrupted, Reason};
pub use crate::limit::Limit;
pub use crate::operation::Operation;
pub use crate::process_batch::{ProcessBatch, process_batch};
pub use crate::rate::Rate;
pub use crate::retry::{Attempt, Retry, retry};
pub use crate::sources::{each, from_stream};
pub use crate::spawned::{Tasks, spawned};
pub use crate::stream_results::{StreamResults, stream_results};
pub use crate::streamed::Streamed;
#[cfg(any(test, feature = "test-util"))]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub use crate::timer::TestTimer;
pub use crate::timer::{SystemTimer, Timer};

/// The README's examples, which run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
