//! Seals the traits in public signatures: code outside of this crate can name them, but cannot
//! implement them.

/// Implemented for the types of this crate that implement a sealed trait.
pub trait Sealed {}
