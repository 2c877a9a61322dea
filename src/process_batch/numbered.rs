//! Batches as they are started: runs, each with its number.

use std::future::Future;
use std::time::Duration;

use super::Batch;
use crate::fetch_and_aggregate::FetchAndAggregate;
use crate::run::{Follow, Hooks, Observed, Shared, Stop};

/// Turns batches into runs, each with its number.
pub(super) struct Numbered<B, N> {
    batches: B,
    next: usize,
    pub(super) source_concurrency: usize,
    pub(super) source_timeout: Duration,
    pub(super) stop: Stop,
    pub(super) catches_panics: bool,
    hooks: N,
}

impl<B> Numbered<B, Hooks> {
    pub(super) fn new(batches: B) -> Self {
        Self {
            batches,
            next: 0,
            source_concurrency: usize::MAX,
            source_timeout: Duration::MAX,
            stop: Stop::default(),
            catches_panics: false,
            hooks: Hooks::none(),
        }
    }
}

impl<B, O> Numbered<B, Hooks<O>> {
    pub(super) fn observe<T, E, M>(
        self,
        observer: M,
    ) -> Numbered<B, Hooks<Shared<Observed<O, M, T, E>>>> {
        Numbered {
            batches: self.batches,
            next: self.next,
            source_concurrency: self.source_concurrency,
            source_timeout: self.source_timeout,
            stop: self.stop,
            catches_panics: self.catches_panics,
            hooks: self.hooks.observe(observer).share(),
        }
    }
}

impl<B, L, K, F, T, E, N> Iterator for Numbered<B, N>
where
    B: Iterator<Item = L>,
    L: IntoIterator<Item = (K, F)>,
    F: Future<Output = Result<T, E>>,
    N: Follow<K> + Clone,
{
    type Item = (usize, Batch<L::IntoIter, K, F, T, E, N>);

    fn next(&mut self) -> Option<Self::Item> {
        let sources = self.batches.next()?.into_iter();
        let number = self.next;
        self.next += 1;
        let mut batch = FetchAndAggregate::new(sources, Duration::MAX, self.hooks.clone())
            .concurrency(self.source_concurrency)
            .source_timeout(self.source_timeout)
            .stop(self.stop);
        if self.catches_panics {
            batch = batch.catch_panics();
        }
        Some((number, batch))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.batches.size_hint()
    }
}
