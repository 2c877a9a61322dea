//! Code that the programs share, and that is not about this crate.

mod client;
mod command;
mod ctrl_c;
pub mod databases;
pub mod documents;
mod errors;
pub mod exchanges;
mod files;
mod limits;
mod loopback;
pub mod picture;
pub mod records;
mod servers;
pub mod site;
pub mod store;
mod throttle;
pub mod timeline;

pub use client::{Asked, asked, client};
pub use command::{at_least_one, exit_code, main, on_tokio, url};
pub use ctrl_c::ctrl_c;
pub use errors::{Chain, is_overload};
pub use files::Files;
pub use limits::Limits;
pub use loopback::serve;
pub use servers::urls_or_own;
pub use throttle::Throttle;
