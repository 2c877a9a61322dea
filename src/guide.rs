//! How to move here from other libraries, and recipes.
//!
//! - [`from_go`]: contexts, `errgroup`, wait groups and channels, each beside its counterpart.
//! - [`from_join_set`]: for code that spawns its sources on tokio.
//! - [`from_buffer_unordered`]: for code that drives a stream of futures.
//! - [`from_others`]: for users of Java, Kotlin, Trio and Elixir.
//! - [`from_queue`]: for work that arrives over time: queues, crawlers, pipelines, order, graceful
//!   shutdown.
//! - [`limits`]: which limit to take, per host, shared by runs, adaptive, by weight and per second; deadlocks.
//! - [`recipes`]: a handler of axum, errors, retries, spans, progress, timers and tests, parallelism, blocking work, WebAssembly.
//! - [`dropping`]: what stops when a future is dropped, and what does not.
//! - [`unusual_input`]: what happens to unusual input, and with misbehaving executors and wakers.
//!
//! The tests of this crate run every program in the guide, except the one for WebAssembly.

#[doc = include_str!("guide/from_go.md")]
pub mod from_go {}

#[doc = include_str!("guide/from_join_set.md")]
pub mod from_join_set {}

#[doc = include_str!("guide/from_buffer_unordered.md")]
pub mod from_buffer_unordered {}

#[doc = include_str!("guide/from_others.md")]
pub mod from_others {}

#[doc = include_str!("guide/from_queue.md")]
pub mod from_queue {}

#[doc = include_str!("guide/limits.md")]
pub mod limits {}

#[doc = include_str!("guide/recipes.md")]
pub mod recipes {}

#[doc = include_str!("guide/dropping.md")]
pub mod dropping {}

#[doc = include_str!("guide/unusual_input.md")]
pub mod unusual_input {}
