//! Batches as they are started: runs, each with its number.

use std::future::Future;
use std::time::Duration;

use super::Batch;
use crate::Reason;
use crate::fetch_and_aggregate::FetchAndAggregate;
use crate::run::{Follow, Hooks, Observed, Shared, Stop};

/// Turns batches into runs, each with its number.
pub(super) struct Numbered<B, N> {
    batches: B,
    next: usize,
    /// The number of a batch that panicked when its iterator was made. It comes next, without any
    /// source, so that it keeps its position.
    panicked: Option<usize>,
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
            panicked: None,
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
            panicked: self.panicked,
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
        if let Some(number) = self.panicked.take() {
            let hooks = self.hooks.clone();
            return Some((
                number,
                FetchAndAggregate::interrupted(Reason::Panicked, hooks),
            ));
        }
        let batch = self.batches.next()?;
        let number = self.next;
        self.next += 1;
        self.panicked = Some(number);
        let sources = batch.into_iter();
        self.panicked = None;
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
        let panicked = usize::from(self.panicked.is_some());
        let (least, most) = self.batches.size_hint();
        let most = most.and_then(|most| most.checked_add(panicked));
        (least.saturating_add(panicked), most)
    }
}
