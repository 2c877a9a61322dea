//! Adaptive limits before simulated servers: `Limit::adaptive`, the rules of other crates, and the best fixed
//! limit.
//!
//! The clients are runs of futures-aggregate with a limit. The server is simulated, and the clock is a
//! `TestTimer`, so a simulation takes no time but that of its own work. The same seed gives the same figures.

pub mod chart;
pub mod compare;
pub mod contenders;
pub mod scenarios;
pub mod server;
pub mod simulate;
pub mod table;
