//! What [`hedge`](crate::hedge()) and [`retry`](crate::retry()) have in common: a request that is made several
//! times.

mod budget;

use std::error::Error;
use std::fmt;

pub use budget::AttemptBudget;

/// Every attempt of a [`hedge`](crate::hedge()) or a [`retry`](crate::retry()) that was made has failed, or one with an
/// error that another attempt cannot mend.
///
/// # Examples
///
/// ```
/// use std::error::Error;
/// use std::io::{self, ErrorKind};
/// use std::time::Duration;
/// use futures_aggregate::hedge;
///
/// # futures::executor::block_on(async {
/// let refused = |_| std::future::ready(Err::<(), _>(io::Error::from(ErrorKind::ConnectionRefused)));
/// let failed = hedge(Duration::from_millis(50), 2, refused).await.unwrap_err();
/// assert_eq!(failed.to_string(), "all 2 attempts failed");
/// assert_eq!(failed.last.kind(), ErrorKind::ConnectionRefused);
/// assert_eq!(failed.others.len(), 1);
/// assert!(failed.source().is_some());
/// # });
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct AttemptsFailed<E> {
    /// The last error.
    pub last: E,
    /// The errors before it, in the order of completion.
    pub others: Vec<E>,
}

impl<E> fmt::Display for AttemptsFailed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.others.len() + 1 {
            1 => f.write_str("the only attempt failed"),
            attempts => write!(f, "all {attempts} attempts failed"),
        }
    }
}

impl<E: Error + 'static> Error for AttemptsFailed<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.last)
    }
}
