//! The types that builder methods put into the type of an operation.
//!
//! Nobody has to make one. They are public so that the type of an operation can be written down,
//! for instance where it is a field of a struct:
//!
//! ```
//! use futures::channel::oneshot::Receiver;
//! use futures::future::{BoxFuture, FutureExt};
//! use futures_aggregate::FetchAndAggregate;
//! use futures_aggregate::parts::{First, Never, Signals};
//!
//! type Source = BoxFuture<'static, Result<u32, String>>;
//! type List = std::vec::IntoIter<(&'static str, Source)>;
//!
//! struct Query {
//!     run: FetchAndAggregate<
//!         List,
//!         &'static str,
//!         Source,
//!         u32,
//!         String,
//!         Signals<First<Never, Receiver<()>>>,
//!     >,
//! }
//!
//! # use std::time::Duration;
//! # use futures_aggregate::fetch_and_aggregate;
//! # let (cancel, cancelled) = futures::channel::oneshot::channel();
//! let sources = vec![("a", async { Ok(1) }.boxed())];
//! let query = Query {
//!     run: fetch_and_aggregate(sources, Duration::from_secs(2)).cancel_on(cancelled),
//! };
//! # assert_eq!(futures::executor::block_on(query.run).unwrap().results, [("a", 1)]);
//! # drop(cancel);
//! ```
//!
//! | | adds |
//! |---|---|
//! | `cancel_on(a)` | `Signals<First<Never, A>>` |
//! | `cancel_on(a).expire_on(b)` | `Signals<First<Never, A>, First<Never, B>>` |
//! | `observe(o)` | `Hooks<Observed<Unobserved, O, T, E>>` |
//! | `stop_when(r)` | `Hooks<Unobserved, Ruled<Unruled, R>>` |
//! | `observe(o)` of batches | `Hooks<Shared<Observed<Unobserved, O, T, E>>>`, before that of `stop_when` |
//!
//! The driver of [`stream_results`](crate::stream_results) has no name that can be written: take it
//! as `impl Future`, or box it.

pub use crate::run::{First, Hooks, Never, Observed, Ruled, Shared, Signals, Unobserved, Unruled};
