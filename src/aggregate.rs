//! The outcome of a source, and the aggregate of all outcomes.

use std::error::Error;
use std::fmt;

use crate::interrupted::Summary;

/// The outcome of one source: its id, and its value or its error.
///
/// # Examples
///
/// ```
/// use futures_aggregate::Outcome;
///
/// fn log((url, result): &Outcome<&str, String, std::io::Error>) -> String {
///     match result {
///         Ok(page) => format!("{url}: {} bytes", page.len()),
///         Err(error) => format!("{url}: {error}"),
///     }
/// }
///
/// assert_eq!(log(&("a.example", Ok("page".to_owned()))), "a.example: 4 bytes");
/// ```
pub type Outcome<K, T, E> = (K, Result<T, SourceError<E>>);

/// The result of a whole run: values, errors and unfinished sources.
///
/// Every source that the run has seen is in exactly one of the three lists. If
/// [`fetch_and_aggregate`](crate::fetch_and_aggregate) returns [`Ok`], every source has answered and
/// `unfinished` is empty, unless a quorum or a stop rule has ended the run early.
///
/// A run that ends early names the sources that were never started only if the
/// [`size_hint`](Iterator::size_hint) of the iterator has an upper bound. That of `lines`, `flat_map`
/// and `from_fn` has none.
///
/// # Examples
///
/// ```
/// use futures_aggregate::{Aggregate, SourceError};
///
/// let mut aggregate = Aggregate::default();
/// aggregate.record(("cache", Ok(1)));
/// aggregate.record(("database", Err(SourceError::Failed("connection refused"))));
///
/// assert_eq!(aggregate.results, [("cache", 1)]);
/// assert_eq!(aggregate.errors.len(), 1);
/// assert!(aggregate.unfinished.is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[must_use = "an aggregate holds the errors and the unfinished sources too"]
pub struct Aggregate<K, T, E> {
    /// The sources that succeeded, with their values, in the order of completion, or of the sources if the
    /// run is [in order](crate::Operation::in_order).
    pub results: Vec<(K, T)>,
    /// The sources that failed, with their errors, in the same order.
    pub errors: Vec<(K, SourceError<E>)>,
    /// The sources that had not answered when the run ended: first those in flight, in the order
    /// in which they were started, then those never started, in the order of the iterator. An
    /// [observer](crate::Operation::observe) tells them apart: it gets
    /// [`Event::Unfinished`](crate::Event::Unfinished) for the former, and
    /// [`Event::NotStarted`](crate::Event::NotStarted) for the latter.
    pub unfinished: Vec<K>,
    /// Whether the run ended before it reached the end of its sources, so that some may be in no
    /// list: those that are still in a stream, or in an iterator without an upper bound.
    pub unseen: bool,
}

impl<K, T, E> Aggregate<K, T, E> {
    /// Adds an outcome to `results` or to `errors`. Use it to collect the outcomes of
    /// [`stream_results`](crate::stream_results()).
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_aggregate::{Aggregate, SourceError};
    ///
    /// let mut so_far = Aggregate::default();
    /// so_far.record(("a", Ok(1)));
    /// so_far.record(("b", Err(SourceError::Failed("refused"))));
    /// assert_eq!(so_far.results, [("a", 1)]);
    /// assert_eq!(so_far.errors, [("b", SourceError::Failed("refused"))]);
    /// ```
    #[inline]
    pub fn record(&mut self, (id, result): Outcome<K, T, E>) {
        match result {
            Ok(value) => self.results.push((id, value)),
            Err(error) => self.errors.push((id, error)),
        }
    }
}

impl<K, T, E> Aggregate<K, T, E> {
    /// Reserves memory for this many results: at most 16 MiB, and none if the allocation fails.
    pub(crate) fn reserve(&mut self, results: usize) {
        const MOST_BYTES: usize = 16 << 20;
        let most = MOST_BYTES / size_of::<(K, T)>().max(1);
        // On failure the vector grows when results come.
        let _ = self.results.try_reserve(results.min(most));
    }

    /// Frees reserved memory, if most of it is unused.
    pub(crate) fn shrink(&mut self) {
        const FEW: usize = 64;
        let room = self.results.capacity();
        if self.results.is_empty() {
            self.results = Vec::new();
        } else if room > FEW && self.results.len() < room / 2 {
            self.results.shrink_to_fit();
        }
    }
}

impl<K, T, E> Default for Aggregate<K, T, E> {
    fn default() -> Self {
        Self {
            results: Vec::new(),
            errors: Vec::new(),
            unfinished: Vec::new(),
            unseen: false,
        }
    }
}

impl<K, T, E> Summary for Aggregate<K, T, E> {
    fn write_counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_sums([self], f)
    }

    fn has_unseen(&self) -> bool {
        self.unseen
    }
}

/// Writes the sums of the counts of some aggregates.
pub(crate) fn write_sums<'a, K: 'a, T: 'a, E: 'a>(
    aggregates: impl IntoIterator<Item = &'a Aggregate<K, T, E>>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let (mut succeeded, mut failed, mut unfinished) = (0, 0, 0);
    for aggregate in aggregates {
        succeeded += aggregate.results.len();
        failed += aggregate.errors.len();
        unfinished += aggregate.unfinished.len();
    }
    write!(
        f,
        "{succeeded} succeeded, {failed} failed, {unfinished} unfinished"
    )
}

/// Why a source has no value.
///
/// Cancellation is never an error of a source. A source that was dropped because the run ended is in
/// [`Aggregate::unfinished`].
///
/// # Examples
///
/// ```
/// use futures_aggregate::SourceError;
///
/// let error = SourceError::Failed("connection refused");
/// assert_eq!(error.to_string(), "connection refused");
/// assert_eq!(error.into_failed(), Some("connection refused"));
/// assert!(SourceError::<&str>::TimedOut.is_timed_out());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SourceError<E> {
    /// The source answered with this error.
    Failed(E),
    /// The source did not answer within its own timeout.
    TimedOut,
    /// The source panicked, with this message.
    Panicked(String),
}

impl<E> SourceError<E> {
    /// The error of the source, if it is [`Failed`](Self::Failed).
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_aggregate::SourceError;
    ///
    /// assert_eq!(SourceError::Failed(404).into_failed(), Some(404));
    /// assert_eq!(SourceError::<u16>::TimedOut.into_failed(), None);
    /// ```
    pub fn into_failed(self) -> Option<E> {
        match self {
            Self::Failed(error) => Some(error),
            Self::TimedOut | Self::Panicked(_) => None,
        }
    }

    /// Whether the source answered with an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_aggregate::SourceError;
    ///
    /// assert!(SourceError::Failed("refused").is_failed());
    /// assert!(!SourceError::<&str>::TimedOut.is_failed());
    /// ```
    pub fn is_failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    /// Whether the source did not answer within its own timeout.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_aggregate::SourceError;
    ///
    /// let errors = [("a", SourceError::Failed("refused")), ("b", SourceError::TimedOut)];
    /// let mut late = errors.iter().filter(|(_, error)| error.is_timed_out());
    /// assert_eq!(late.next().unwrap().0, "b");
    /// ```
    pub fn is_timed_out(&self) -> bool {
        matches!(self, Self::TimedOut)
    }

    /// Whether the source panicked.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_aggregate::SourceError;
    ///
    /// let error = SourceError::<()>::Panicked("index out of bounds".to_owned());
    /// assert!(error.is_panicked());
    /// ```
    pub fn is_panicked(&self) -> bool {
        matches!(self, Self::Panicked(_))
    }
}

impl<E: fmt::Display> fmt::Display for SourceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::TimedOut => f.write_str("source timed out"),
            Self::Panicked(message) => write!(f, "source panicked: {message}"),
        }
    }
}

impl<E: Error> Error for SourceError<E> {
    // The text of `Failed` is that of its error, so that error is skipped here.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => error.source(),
            Self::TimedOut | Self::Panicked(_) => None,
        }
    }
}
