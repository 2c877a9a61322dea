//! How many extra attempts all hedges of a backend may make together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tokens are counted in thousandths.
const TOKEN: u64 = 1000;

/// Bounds the extra load of all the hedges that hold it, so that a backend in trouble is not
/// given more of it.
///
/// It starts with all its tokens. An attempt that fails takes one, one that succeeds gives a part
/// of one back, and an attempt beyond the first is made only while more than half of them are
/// there: the retry throttling of gRPC ([proposal A6]). Clones share the tokens; keep one for
/// each backend.
///
/// What an attempt does within itself, such as retries, is not counted.
///
/// An attempt that is slow, and one that is dropped because another was faster, takes none. Give
/// attempts a timeout if slowness is to count as failure.
///
/// [proposal A6]: https://github.com/grpc/proposal/blob/master/A6-client-retries.md
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures_aggregate::{HedgeBudget, hedge};
///
/// # futures::executor::block_on(async {
/// // Extra attempts stop after 5 failures in a row. Each failure costs what 10 successes give.
/// let budget = HedgeBudget::new(10, 0.1);
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
pub struct HedgeBudget {
    shared: Arc<Tokens>,
}

#[derive(Debug)]
struct Tokens {
    /// In thousandths.
    left: AtomicU64,
    most: u64,
    /// What a success gives back, in thousandths.
    ratio: u64,
}

impl HedgeBudget {
    /// A budget of `tokens`, of which a success gives `ratio` back, taken to three decimal places.
    ///
    /// # Panics
    ///
    /// If `tokens` is zero, or `ratio` is not between 0.001 and 1,000.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_aggregate::HedgeBudget;
    ///
    /// // Extra attempts go on for as long as there are ten successes for each failure, and stop
    /// // after 50 failures in a row.
    /// let search = HedgeBudget::new(100, 0.1);
    /// # assert!(search.allows());
    /// ```
    #[track_caller]
    pub fn new(tokens: u32, ratio: f64) -> Self {
        assert!(
            tokens > 0,
            "a hedge budget of 0 tokens would never allow anything; it must be at least 1"
        );
        assert!(
            (0.001..=1000.0).contains(&ratio),
            "a success cannot give {ratio} tokens back; it must be between 0.001 and 1,000"
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

    /// Whether another attempt may be made now: whether more than half of the tokens are there.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_aggregate::HedgeBudget;
    ///
    /// let budget = HedgeBudget::new(10, 0.1);
    /// assert!(budget.allows());
    /// ```
    pub fn allows(&self) -> bool {
        self.shared.left.load(Ordering::Relaxed) * 2 > self.shared.most
    }

    /// Takes a token for a failure, or gives a part of one back for a success.
    pub(super) fn note(&self, succeeded: bool) {
        let Tokens { left, most, ratio } = &*self.shared;
        let noted = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            Some(if succeeded {
                (left + ratio).min(*most)
            } else {
                left.saturating_sub(TOKEN)
            })
        });
        debug_assert!(noted.is_ok(), "every count of tokens can be changed");
    }
}
