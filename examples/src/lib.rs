//! Code that the programs share, and that is not about this crate.

mod client;
mod command;
pub mod databases;
pub mod documents;
mod errors;
pub mod exchanges;
mod files;
pub mod picture;
mod servers;

pub use client::{Asked, asked};
pub use command::{at_least_one, exit_code, main, url};
pub use errors::Chain;
pub use files::Files;
pub use servers::urls_or_own;
