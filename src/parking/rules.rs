//! The caller's closures that place a source: its key, and its weight.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

use super::groups::{Groups, UNLIMITED};
use crate::panics::{Contained, Panics};
use crate::sealed::Sealed;

/// The fewest keys that are looked through for unused ones.
const FEW_KEYS: usize = 64;

/// Where a source is counted, by its id.
///
/// The trait is sealed: it is implemented for [`ByKey`] and [`ByWeight`].
pub trait PlaceRule<K>: Sealed {
    /// Whether sources have keys.
    #[doc(hidden)]
    const HAS_KEYS: bool = false;

    /// The group of the source.
    #[doc(hidden)]
    fn group<S>(&mut self, _id: &K, _groups: &mut Groups<S>) -> usize {
        UNLIMITED
    }

    /// The weight of the source, at least 1.
    #[doc(hidden)]
    fn weight(&mut self, _id: &K) -> usize {
        1
    }
}

/// The limit of a key: the same for all, or what a closure returns.
///
/// The trait is sealed: it is implemented for [`ForEachKey`] and for closures.
pub trait KeyLimit<G>: Sealed {
    #[doc(hidden)]
    fn limit(&mut self, key: &G) -> usize;
}

/// The same limit for each key, as [`concurrency_per`](crate::Operation::concurrency_per) sets it.
#[derive(Debug, Clone, Copy)]
pub struct ForEachKey(pub(crate) usize);

impl Sealed for ForEachKey {}

impl<G> KeyLimit<G> for ForEachKey {
    fn limit(&mut self, _: &G) -> usize {
        self.0
    }
}

/// A closure that returns the limit of a key, as
/// [`concurrency_per_by`](crate::Operation::concurrency_per_by) sets it.
pub struct ByClosure<M>(Contained<M>);

impl<M> ByClosure<M> {
    pub(crate) fn new(limit: M) -> Self {
        Self(Contained::new(limit))
    }
}

impl<M> Sealed for ByClosure<M> {}

impl<G, M: FnMut(&G) -> usize> KeyLimit<G> for ByClosure<M> {
    fn limit(&mut self, key: &G) -> usize {
        let limit = self.0.get_mut()(key);
        assert!(
            limit > 0,
            "a limit of 0 for a key would never start its sources; it must be at least 1"
        );
        limit
    }
}

/// A limit for each key, as [`concurrency_per`](crate::Operation::concurrency_per) and
/// [`concurrency_per_by`](crate::Operation::concurrency_per_by) add it.
pub struct ByKey<N, G, M> {
    key: Contained<N>,
    limit: M,
    /// The number of the group of each key.
    numbers: HashMap<G, usize>,
    /// With this many keys, the unused ones are forgotten.
    most_keys: usize,
}

impl<N, G, M> ByKey<N, G, M> {
    pub(crate) fn new(key: N, limit: M) -> Self {
        Self {
            key: Contained::new(key),
            limit,
            numbers: HashMap::new(),
            most_keys: FEW_KEYS,
        }
    }
}

impl<N, G, M> Drop for ByKey<N, G, M> {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        panics.drop_each(std::mem::take(&mut self.numbers).into_keys());
        panics.resume();
    }
}

impl<N, G, M> Sealed for ByKey<N, G, M> {}

impl<K, N, G, M> PlaceRule<K> for ByKey<N, G, M>
where
    N: FnMut(&K) -> G,
    G: Hash + Eq,
    M: KeyLimit<G>,
{
    const HAS_KEYS: bool = true;

    fn group<S>(&mut self, id: &K, groups: &mut Groups<S>) -> usize {
        let key = self.key.get_mut()(id);
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        if self.numbers.len() >= self.most_keys {
            self.numbers
                .retain(|_, number| !groups.remove_unused(*number));
            self.most_keys = FEW_KEYS.max(self.numbers.len() * 2);
        }
        let number = groups.add(self.limit.limit(&key));
        self.numbers.insert(key, number);
        number
    }
}

/// A weight for each source, as [`weight`](crate::Operation::weight) adds it.
pub struct ByWeight<N>(Contained<N>);

impl<N> ByWeight<N> {
    pub(crate) fn new(of: N) -> Self {
        Self(Contained::new(of))
    }
}

impl<N> Sealed for ByWeight<N> {}

impl<K, N> PlaceRule<K> for ByWeight<N>
where
    N: FnMut(&K) -> usize,
{
    fn weight(&mut self, id: &K) -> usize {
        self.0.get_mut()(id).max(1)
    }
}

impl<N, G, M> fmt::Debug for ByKey<N, G, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByKey").finish_non_exhaustive()
    }
}

impl<M> fmt::Debug for ByClosure<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByClosure").finish_non_exhaustive()
    }
}

impl<N> fmt::Debug for ByWeight<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByWeight").finish_non_exhaustive()
    }
}
