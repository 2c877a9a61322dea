//! The budget of extra attempts that all hedges and retries of a backend share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One token. Tokens are counted in thousandths.
const TOKEN: u64 = 1000;

/// Limits the extra load of all hedges and retries that share it, so that they do not overload a
/// backend that fails already.
///
/// It starts full. An attempt that fails takes a token, and an attempt that succeeds gives part of one
/// back. Another attempt is made only while more than half of the tokens are left. This is the retry
/// throttling of gRPC ([proposal A6]). Clones share the tokens; use one budget for each backend.
///
/// While the backend is down, the extra attempts end after half of the tokens. In the long run, those that
/// are made after a failure are at most `ratio` times the successes, and half of the tokens.
///
/// An attempt that is slow, or dropped because another one was faster, takes no token. Give attempts a
/// timeout if slowness must count as a failure. An error that is not retried, because
/// [`give_up_if`](crate::Hedge::give_up_if) or [`retry_if`](crate::Retry::retry_if) says so, takes none
/// either.
///
/// [proposal A6]: https://github.com/grpc/proposal/blob/master/A6-client-retries.md
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures_aggregate::{AttemptBudget, hedge};
///
/// # futures::executor::block_on(async {
/// // Extra attempts stop after 5 failures in a row. 10 successes make up for one failure.
/// let budget = AttemptBudget::new(10, 0.1);
/// let mut attempts = 0;
/// for _ in 0..4 {
///     let fails = |_| {
///         attempts += 1;
///         std::future::ready(Err::<(), _>("refused"))
///     };
///     let failed = hedge(Duration::MAX, 2, fails).budget(&budget).await;
///     assert!(failed.is_err());
/// }
/// assert_eq!(attempts, 2 + 2 + 1 + 1);
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct AttemptBudget {
    /// Shared by all clones.
    shared: Arc<Tokens>,
}

/// Counts of tokens, in thousandths.
#[derive(Debug)]
struct Tokens {
    /// The tokens that are left.
    left: AtomicU64,
    /// The tokens of a full budget.
    most: u64,
    /// The part of a token that a success gives back.
    ratio: u64,
}

impl AttemptBudget {
    /// Makes a budget of `tokens`. A success gives `ratio` of a token back, rounded to three decimal
    /// places.
    ///
    /// # Panics
    ///
    /// If `tokens` is zero, or `ratio` is not between 0.001 and 1,000.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_aggregate::AttemptBudget;
    ///
    /// // Extra attempts stop after 50 failures in a row. 10 successes make up for one failure.
    /// let search = AttemptBudget::new(100, 0.1);
    /// # assert!(search.allows());
    /// ```
    #[track_caller]
    pub fn new(tokens: u32, ratio: f64) -> Self {
        assert!(
            tokens > 0,
            "a budget of 0 tokens would never allow an attempt; it must be at least 1"
        );
        assert!(
            (0.001..=1000.0).contains(&ratio),
            "the ratio {ratio} is out of range; it must be between 0.001 and 1,000"
        );
        let most = u64::from(tokens) * TOKEN;
        Self {
            shared: Arc::new(Tokens {
                left: AtomicU64::new(most),
                most,
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                ratio: (ratio * TOKEN as f64).round() as u64,
            }),
        }
    }

    /// Whether the budget allows another attempt now: whether more than half of the tokens are left.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_aggregate::AttemptBudget;
    ///
    /// let budget = AttemptBudget::new(10, 0.1);
    /// assert!(budget.allows());
    /// ```
    pub fn allows(&self) -> bool {
        // Relaxed: the count guards no other memory.
        self.shared.left.load(Ordering::Relaxed) * 2 > self.shared.most
    }

    /// Takes a token for a failure, or gives a part of one back for a success.
    pub(crate) fn record(&self, succeeded: bool) {
        let Tokens { left, most, ratio } = &*self.shared;
        // Relaxed: as in `allows`.
        let updated = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            Some(if succeeded {
                (left + ratio).min(*most)
            } else {
                left.saturating_sub(TOKEN)
            })
        });
        debug_assert!(updated.is_ok(), "the closure always returns a new count");
    }
}
