//! The types and traits in the types of operations, for code that has to name them.
//!
//! Where a box is good enough, none of them is needed: `run.boxed()` is a `BoxFuture` of the result. A field of
//! a struct without a box names the type of the operation:
//!
//! ```
//! use futures::channel::oneshot::Receiver;
//! use futures::future::{BoxFuture, FutureExt};
//! use futures_aggregate::FetchAndAggregate;
//! use futures_aggregate::types::{First, Never, Signals};
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
//! A function that is generic over an operation bounds its parameters by the traits here. This one
//! awaits the driver of any [`stream_results`](crate::stream_results()):
//!
//! ```
//! use futures_aggregate::{Interrupted, Outcome, StreamResults};
//! use futures_aggregate::types::{AnySignals, Deliver, Hooks, Sources};
//!
//! async fn delivered<L, K, F, T, E, D, S, H>(
//!     driver: StreamResults<L, K, F, T, E, D, S, H>,
//! ) -> usize
//! where
//!     L: Sources<Id = K, Future = F>,
//!     F: Future<Output = Result<T, E>>,
//!     D: Deliver<Outcome<K, T, E>>,
//!     S: AnySignals,
//!     H: Hooks<K, T, E>,
//! {
//!     driver.await.unwrap_or_else(Interrupted::into_partial).delivered
//! }
//!
//! # futures::executor::block_on(async {
//! # let (sender, _receiver) = async_channel::unbounded();
//! # let sources = [("a", std::future::ready(Ok::<_, ()>(1)))];
//! let driver = futures_aggregate::stream_results(sources, sender).cancel_on(std::future::pending::<()>());
//! assert_eq!(delivered(driver).await, 1);
//! # });
//! ```
//!
//! | method | makes |
//! |---|---|
//! | `each(ids, make)` | sources `Each<I, M>`: to name `M`, let `make` be a `fn(&K) -> F` |
//! | `cancel_on(a)` | `Signals<First<Never, A>>` |
//! | `cancel_on(a).expire_on(b)` | `Signals<First<Never, A>, First<Never, B>>` |
//! | `drain_on(c)` | `Signals<Never, Never, First<Never, C>>` |
//! | `observe(o)` | `WithObserver<NoHooks, O>` |
//! | `source_timeout_by(t)` | `WithSourceTimeout<NoHooks, T>` |
//! | `concurrency_per(k, 2)` | sources `Parking<L, K, D, ByKey<k, G, ForEachKey>>`, where `D` is `<L as Sources>::Seed` |
//! | `weight(w)` | sources `Parking<L, K, D, ByWeight<w>>` |
//! | `spawned(l, p)` | sources `Spawned<L, p>`, whose futures are `SpawnedSource<O>` |
//! | `overload_if(r)` | `WithOverload<NoHooks, R>` |
//! | `stop_when(r)` | `WithRule<NoHooks, R>`, or `WithBatchRule<NoHooks, R>` of batches |
//! | `observe(o).stop_when(r)` | `WithRule<WithObserver<NoHooks, O>, R>` |
//!
//! The `D` of [`StreamResults`](crate::StreamResults) has no name that can be written: take the driver
//! as a generic parameter, as `impl Future`, or box it.

pub use crate::consumer::{Aggregating, Consumer, OutcomeTypes, Single};
pub use crate::fetch_and_aggregate::Collector;
pub use crate::for_each_result::Handler;
pub use crate::hooks::{
    Hooks, NoHooks, WithBatchRule, WithObserver, WithOverload, WithRule, WithSourceTimeout,
};
pub use crate::limit::Concurrency;
pub use crate::parking::{
    ByClosure, ByKey, ByWeight, ForEachKey, KeyLimit, Parking, PlaceRule, Placed,
};
pub use crate::process_batch::{Batch, Batcher, Numbered};
pub use crate::scheduler::{AnySignals, First, MaybeSignal, Never, Signals};
pub use crate::sources::{Each, FromStream, IntoBatches, IntoSources, Items, Sources};
pub use crate::spawned::{Gone, SourceTask, Spawned, SpawnedSource};
pub use crate::stream_results::{Deliver, OutcomeSender, Sink};
#[cfg(any(test, feature = "test-util"))]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub use crate::timer::{AutoAdvance, TestSleep};
pub use crate::timer::{Instant, SystemSleep};
