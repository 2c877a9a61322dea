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
//! # Operations inside other combinators
//!
//! An operation is a plain future: spawn it, box it, select on it. The compiler has one limit:
//! inside an `async` block that is spawned, an operation whose list *borrows* through a closure
//! cannot be handed to `join` directly, because `join` stores the output by way of a projection
//! that the check for `Send` does not see through. `async { operation.await }` can.
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
