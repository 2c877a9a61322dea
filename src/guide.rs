//! From what you know to what is here, and recipes.
//!
//! - [`from_go`]: contexts, `errgroup`, wait groups and channels, each beside its counterpart.
//! - [`from_join_set`]: for those who spawn their sources on tokio.
//! - [`from_buffer_unordered`]: for those who drive a stream of futures.
//! - [`recipes`]: retries, limits per host, spans, progress, paused time, parallelism, blocking
//!   work, WebAssembly.
//! - [`dropping`]: what stops when a future is dropped, and what does not.
//! - [`unusual_input`]: what becomes of input that nobody means to give.
//!
//! Every program in it is run with the tests of this crate, but the one for WebAssembly.

#[doc = include_str!("guide/from_go.md")]
pub mod from_go {}

#[doc = include_str!("guide/from_join_set.md")]
pub mod from_join_set {}

#[doc = include_str!("guide/from_buffer_unordered.md")]
pub mod from_buffer_unordered {}

#[doc = include_str!("guide/recipes.md")]
pub mod recipes {}

#[doc = include_str!("guide/dropping.md")]
pub mod dropping {}

#[doc = include_str!("guide/unusual_input.md")]
pub mod unusual_input {}
