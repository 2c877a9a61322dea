//! Ask many sources at once, under a deadline, and get back **everything that is known when time
//! is up**: every result, every error, and the name of every source that did not answer.
//!
//! - [`fetch_and_aggregate`] waits for all sources and returns what they came to.
//! - [`process_batch`] does so for several batches, each under a deadline of its own.
//! - [`stream_results`] sends each outcome into a channel the moment it is there.
//!
//! A *source* is a pair of an id and a future that resolves to a `Result`. All sources run
//! concurrently in the task that polls the operation: nothing is spawned, nothing blocks, and any
//! executor will do. When an operation resolves, no source exists any more; when it is dropped,
//! every source in it is dropped with it.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//! use futures_aggregate::{Interrupted, fetch_and_aggregate};
//!
//! # async fn fetch(url: &str) -> Result<String, std::io::Error> { Ok(url.to_owned()) }
//! # futures::executor::block_on(async {
//! let urls = ["https://a.example", "https://b.example"];
//!
//! let aggregate = fetch_and_aggregate(urls.map(|url| (url, fetch(url))), Duration::from_secs(2))
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
//! # Knowing when to stop
//!
//! By default a run waits for all sources, failures included. [`fail_fast`] ends it at the first
//! failure, [`quorum`] as soon as enough have succeeded or too few are left, [`stop_when`] by a
//! rule of your own. [`catch_panics`] makes a panic one more outcome. [`observe`] tells of every
//! source that it was started, and of what became of it. [`hedge`] is a source that asks again
//! before it has failed.
//!
//! [`fail_fast`]: FetchAndAggregate::fail_fast
//! [`quorum`]: FetchAndAggregate::quorum
//! [`stop_when`]: FetchAndAggregate::stop_when
//! [`catch_panics`]: FetchAndAggregate::catch_panics
//! [`observe`]: FetchAndAggregate::observe
//!
//! # Retries
//!
//! A source that is asked again when it fails is still one source, and the deadline of the run
//! spans all its attempts. Build it with a crate for retries, such as
//! [backon](https://docs.rs/backon):
//!
//! ```
//! use std::time::Duration;
//! use backon::{ExponentialBuilder, FuturesTimerSleeper, Retryable};
//! use futures_aggregate::fetch_and_aggregate;
//!
//! # use std::cell::Cell;
//! # let asked = Cell::new(0);
//! # let asked = &asked;
//! # let ask = |host: &'static str| async move {
//! #     asked.set(asked.get() + 1);
//! #     if asked.get() < 3 { Err("busy") } else { Ok(host.len()) }
//! # };
//! # futures::executor::block_on(async {
//! let sources = ["a.example"].map(|host| {
//!     let retried = (move || ask(host))
//!         .retry(ExponentialBuilder::default().with_min_delay(Duration::from_millis(1)))
//!         .sleep(FuturesTimerSleeper);
//!     (host, async { retried.await })
//! });
//! let aggregate = fetch_and_aggregate(sources, Duration::from_secs(2)).await?;
//! assert_eq!(aggregate.results, [("a.example", 9)]);
//! # assert_eq!(asked.get(), 3);
//! # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! # Operations inside other combinators
//!
//! An operation is a plain future: spawn it, box it, select on it. The compiler has one limit:
//! inside an `async` block that is spawned, an operation whose list *borrows* through a closure
//! cannot be handed to `join` directly, because `join` stores the output by way of a projection
//! that the check for `Send` does not see through. `async { operation.await }` can.
//!
//! # Unusual input
//!
//! | what the caller does | what happens |
//! |---|---|
//! | gives 0 where 1 is the least: a limit, a quorum, attempts, tokens | a panic at the line of the call, which says what would be right |
//! | gives no time at all, [`Duration::ZERO`] | each source that the first poll can reach gets one poll; a source or a batch without time gets one; a hedge without delay starts every attempt at once |
//! | gives more time than the clock can express, such as [`Duration::MAX`] | there is no limit, and no timer is set |
//! | passes a list that lies about its size | every source is asked all the same; when the run is interrupted, those never started are named no further than the list claims, and a quorum believes the list |
//! | a list that panics in `next` | the panic unwinds to the caller; what was started goes on, and the run pulls on; one that panics every time holds up neither a cancel nor a deadline |
//! | a list that panics in `size_hint` | every source is asked all the same, as of a list that does not know its size; when the run is interrupted, the panic unwinds once, and sources never started are not named |
//! | an endless list | under a limit it is pulled as far as the limit; without one each poll starts some hundred sources more, until the run is stopped |
//! | a list that is not fused | it is not asked again after its end |
//! | a list that wakes, answers, cancels, sends on the channel or drops the receiver in `next` | the same as if another thread did so: the next poll sees it |
//! | sources that wake themselves for ever | each is polled once in a poll; cancelling and deadlines hold |
//! | a receiver inside a source | the run ends when the source is dropped, and its outcome comes back |
//! | a channel of capacity one | all outcomes go through, in their order |
//! | a channel that is closed before the start | no source is polled |
//! | a poll after completion | a panic that says so; [`is_terminated`] tells before |
//! | a waker whose `clone`, `wake` or `drop` panics | the panic unwinds to whoever uses it, unless that is the thread of the timers; no outcome and no other wake is lost |
//! | no thread can be started for the timers | each poll that has to wait for a deadline panics; no outcome is lost, and once the deadline has passed the next poll ends the run |
//! | the process forks | timers have a thread, which a child does not have: if there was a deadline before the fork, none wakes a run in the child; each poll looks at the clock all the same, and [`expire_on`] takes any other timer |
//!
//! [`Duration::MAX`]: std::time::Duration::MAX
//! [`Duration::ZERO`]: std::time::Duration::ZERO
//! [`is_terminated`]: futures::future::FusedFuture::is_terminated
//! [`expire_on`]: FetchAndAggregate::expire_on
//!
//! # When not to use this
//!
//! - For two or three futures of different types: `join!` and `select!` are simpler.
//! - For work that keeps the processor busy: sources share one task, and so one thread. Let each
//!   source await a task of your executor that does the work.

#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod fetch_and_aggregate;
mod process_batch;
mod stream_results;

mod hedge;

mod aggregate;
mod event;
mod interrupted;

mod run;

pub use crate::aggregate::{Aggregate, Outcome, SourceError};
pub use crate::event::Event;
pub use crate::fetch_and_aggregate::{FetchAndAggregate, fetch_and_aggregate};
pub use crate::hedge::{AttemptsFailed, Hedge, HedgeBudget, hedge};
pub use crate::interrupted::{Interrupted, Reason};
pub use crate::process_batch::{BatchOutcome, Batches, ProcessBatch, process_batch};
pub use crate::run::{First, Hooks, Never, Observed, Ruled, Shared, Signals, Unobserved, Unruled};
pub use crate::stream_results::{StreamResults, Streamed, stream_results};

/// The README's examples, which run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
