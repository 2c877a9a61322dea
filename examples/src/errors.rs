//! Errors printed with their causes.

use std::error::Error;
use std::fmt;

/// Whether a server says by this error that it has too much to do.
#[must_use]
pub fn is_overload(error: &reqwest::Error) -> bool {
    let status = error.status();
    status.is_some_and(|status| [429, 503].contains(&status.as_u16()))
}

/// An error with its causes.
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
