//! Batches with their positions, as sources of the run of all batches.

use std::marker::PhantomData;
use std::task::{Context, Poll};

use super::batcher::Batch;
use crate::panics::Panics;
use crate::sealed::Sealed;
use crate::sources::{IntoSources, Items, Sources};

/// Batches with their positions.
pub struct Numbered<B, T, E> {
    batches: B,
    next: usize,
    values: PhantomData<fn(T, E)>,
}

impl<B, T, E> Numbered<B, T, E> {
    pub(super) fn new(batches: B) -> Self {
        Self {
            batches,
            next: 0,
            values: PhantomData,
        }
    }
}

impl<B, T, E> Sealed for Numbered<B, T, E> {}

impl<B, L, T, E> Sources for Numbered<B, T, E>
where
    B: Items<Item = L>,
    L: IntoSources,
{
    type Id = usize;
    type Seed = L;
    type Future = Batch<L::Sources, L::Id, L::Future, T, E>;

    const MAY_WAIT: bool = B::MAY_WAIT;
    const MAKING_MAY_PANIC: bool = true;

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(usize, L)>> {
        let Some(batch) = std::task::ready!(self.batches.poll_next_item(cx)) else {
            return Poll::Ready(None);
        };
        let position = self.next;
        self.next += 1;
        Poll::Ready(Some((position, batch)))
    }

    fn make(&mut self, _: &usize, batch: L) -> Self::Future {
        Batch::new(batch.into_sources())
    }

    /// A batch drops its own sources one by one.
    fn discard(&mut self, _: usize, batch: L, panics: &mut Panics) {
        let sources = panics.catch(|| batch.into_sources());
        panics.drop_each(sources.map(Batch::<_, _, L::Future, T, E>::new));
    }

    fn sources_left(&self) -> (usize, Option<usize>) {
        self.batches.items_left()
    }
}
