//! Where an operation takes its sources from: an iterator, ids and a closure, or a stream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;

use crate::panics::{Contained, Panics};
use crate::sealed::Sealed;

/// What can be turned into the sources of an operation.
///
/// | pass | a source's future is made |
/// |---|---|
/// | any [`IntoIterator`] whose items are pairs `(id, future)` | when the iterator yields the pair |
/// | [`each(ids, make)`](each) | when the source starts |
/// | [`from_stream(stream)`](from_stream), a [`Stream`] of such pairs | when the stream yields the pair |
///
/// The trait is sealed: it is implemented for these three.
///
/// # Examples
///
/// A function that is generic over its sources:
///
/// ```
/// use std::time::Duration;
/// use futures::future::ready;
/// use futures_aggregate::{Interrupted, each, fetch_and_aggregate};
/// use futures_aggregate::types::IntoSources;
///
/// async fn count<L, K, F, T, E>(sources: L) -> usize
/// where
///     L: IntoSources<Id = K, Future = F>,
///     F: Future<Output = Result<T, E>>,
/// {
///     let run = fetch_and_aggregate(sources, Duration::from_secs(1));
///     run.await.unwrap_or_else(Interrupted::into_partial).results.len()
/// }
///
/// # futures::executor::block_on(async {
/// assert_eq!(count([("a", ready(Ok::<_, ()>(1)))]).await, 1);
/// assert_eq!(count(each(0..3, |_| ready(Ok::<_, ()>(1)))).await, 3);
/// # });
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no sources: pairs of an id and a future",
    label = "this yields no pairs `(id, future)`",
    note = "pass `each(ids, make)`, an iterator of pairs `(id, future)`, or `from_stream(stream)` for a stream of such pairs",
    note = "the closure of `each` takes a reference to an id and returns a future: `|&id| fetch(id)`; it is not an `async` closure"
)]
pub trait IntoSources: Sealed {
    /// The caller's name for a source.
    type Id;
    /// The future of a source.
    type Future;
    /// What an operation takes its sources from.
    type Sources: Sources<Id = Self::Id, Future = Self::Future>;

    /// Turns this into sources.
    fn into_sources(self) -> Self::Sources;
}

/// The weight of a source by the rules around a list.
pub(crate) type Weigh<'a, K> = &'a mut dyn FnMut(&K) -> usize;

/// Sources that are not started yet.
///
/// The trait is sealed. [`IntoSources`] says what implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no sources: pairs of an id and a future",
    label = "this yields no pairs `(id, future)`",
    note = "pass `each(ids, make)`, an iterator of pairs `(id, future)`, or `from_stream(stream)` for a stream of such pairs",
    note = "the closure of `each` takes a reference to an id and returns a future: `|&id| fetch(id)`; it is not an `async` closure"
)]
pub trait Sources: Sealed {
    /// The caller's name for a source.
    type Id;
    /// What the future of a source is made of.
    type Seed;
    /// The future of a source.
    type Future;

    /// Whether [`poll_next`](Self::poll_next) may return `Pending`.
    #[doc(hidden)]
    const MAY_WAIT: bool = false;
    /// Whether a panic of [`make`](Self::make) counts as a panic of the source.
    #[doc(hidden)]
    const MAKING_MAY_PANIC: bool = false;
    /// Whether sources have keys or weights. Then sources that were taken from a list may be parked, and
    /// [`poll_start`](Self::poll_start) finds the next one.
    #[doc(hidden)]
    const PARKS: bool = false;

    /// Finds the source that starts next, and returns its weight; or takes one source from the list and returns 0,
    /// to be called again. At most `look_ahead` sources wait because
    /// there is no room for their keys. `weigh` is called once for each source, with rules around this list.
    #[doc(hidden)]
    fn poll_start(
        &mut self,
        _cx: &mut Context<'_>,
        _look_ahead: usize,
        _weigh: Option<Weigh<'_, Self::Id>>,
    ) -> Poll<Option<usize>> {
        Poll::Ready(Some(1))
    }

    /// The next source, as its id and what its future is made of. Call [`poll_start`](Self::poll_start)
    /// before.
    #[doc(hidden)]
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Self::Id, Self::Seed)>>;

    /// The next source of a run that starts no more: parked ones first, in the order of the list.
    #[doc(hidden)]
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Self::Id, Self::Seed)>> {
        self.poll_next(cx)
    }

    /// The weight of a source by the rules of this list.
    #[doc(hidden)]
    fn weight(&mut self, _id: &Self::Id) -> usize {
        1
    }

    /// The weight of all sources in flight. Only where sources are [parked](Self::PARKS).
    #[doc(hidden)]
    fn in_use(&self) -> usize {
        0
    }

    /// The number of sources before this one in the list, where sources may start in another order.
    #[doc(hidden)]
    fn position(_seed: &Self::Seed) -> Option<usize> {
        None
    }

    /// A source was put into a slot of the run.
    #[doc(hidden)]
    fn note_start(&mut self, _index: usize, _seed: &Self::Seed) {}

    /// The source in a slot of the run has ended.
    #[doc(hidden)]
    fn note_end(&mut self, _index: usize) {}

    /// Makes the future of a source that is about to start.
    #[doc(hidden)]
    fn make(&mut self, id: &Self::Id, seed: Self::Seed) -> Self::Future;

    /// Drops a source that was never started. A panic is noted in `panics`.
    #[doc(hidden)]
    fn discard(&mut self, id: Self::Id, seed: Self::Seed, panics: &mut Panics) {
        panics.drop_pairs([(id, seed)]);
    }

    /// Bounds on the number of sources left, as [`Iterator::size_hint`] reports them.
    #[doc(hidden)]
    fn sources_left(&self) -> (usize, Option<usize>);

    /// How many sources can be named at the end of a run, although the others are not known.
    #[doc(hidden)]
    fn names_left(&self) -> usize {
        0
    }

    /// Whether all sources that are left can be named, as those of an iterator with an upper bound.
    #[doc(hidden)]
    fn names_all(&self) -> bool {
        !Self::MAY_WAIT
    }
}

/// What can be turned into the batches of [`process_batch`](crate::process_batch): an iterator of
/// [sources](IntoSources), or a stream of them.
///
/// The trait is sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no batches of sources",
    label = "this yields no batches",
    note = "pass an iterator of batches, each of them `each(ids, make)`, an iterator of pairs `(id, future)`, or `from_stream(stream)`; or `from_stream` of a stream of batches"
)]
pub trait IntoBatches: Sealed {
    /// The sources of one batch.
    type Batch: IntoSources;
    /// What an operation takes its batches from.
    type Items: Items<Item = Self::Batch>;

    /// Turns this into batches.
    fn into_items(self) -> Self::Items;
}

/// Items of an iterator or of a stream.
///
/// The trait is sealed: it is implemented for iterators and for [`FromStream`].
pub trait Items: Sealed {
    /// What is yielded.
    type Item;

    /// Whether [`poll_next_item`](Self::poll_next_item) may return `Pending`.
    #[doc(hidden)]
    const MAY_WAIT: bool;

    /// The next item.
    #[doc(hidden)]
    fn poll_next_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::Item>>;

    /// Bounds on the number of items left.
    #[doc(hidden)]
    fn items_left(&self) -> (usize, Option<usize>);
}

#[diagnostic::do_not_recommend]
impl<I: Iterator> Items for I {
    type Item = I::Item;

    const MAY_WAIT: bool = false;

    #[inline(always)]
    fn poll_next_item(&mut self, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.next())
    }

    #[inline]
    fn items_left(&self) -> (usize, Option<usize>) {
        self.size_hint()
    }
}

#[diagnostic::do_not_recommend]
impl<L> Sealed for L where L: IntoIterator {}

#[diagnostic::do_not_recommend]
impl<L, K, F> IntoSources for L
where
    L: IntoIterator<Item = (K, F)>,
{
    type Id = K;
    type Future = F;
    type Sources = L::IntoIter;

    fn into_sources(self) -> L::IntoIter {
        self.into_iter()
    }
}

#[diagnostic::do_not_recommend]
impl<B, L> IntoBatches for B
where
    B: IntoIterator<Item = L>,
    L: IntoSources,
{
    type Batch = L;
    type Items = B::IntoIter;

    fn into_items(self) -> B::IntoIter {
        self.into_iter()
    }
}

/// Takes sources from a stream, finite or endless: from a channel, a paginated API, a crawler.
///
/// The items of the stream are pairs `(id, future)`, or batches of them for
/// [`process_batch`](crate::process_batch). An operation polls the stream only while it has room for
/// another source, so [`concurrency`](crate::Operation::concurrency) bounds how far it reads ahead. A
/// stream that is pending keeps no source from being polled. The run goes on until the stream has
/// ended and every source has answered.
///
/// If the run ends early, the items that are still in the stream are named nowhere, and `unseen` is
/// true in the result. To keep them, pass a clone of the receiver if it is one, or `&mut stream`, pinned
/// if the stream is not [`Unpin`].
///
/// A run that [drains](crate::Operation::drain_on) polls the stream once more when its last source has
/// answered, to see whether it has ended.
///
/// This allocates: the stream is boxed, since it may not be [`Unpin`].
///
/// # Panics
///
/// If the stream panics when it is polled, the operation panics. It polls the stream again in its
/// next poll but one.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures::future::ready;
/// use futures_aggregate::{fetch_and_aggregate, from_stream};
///
/// # futures::executor::block_on(async {
/// let (sender, receiver) = async_channel::bounded(4);
/// std::thread::spawn(move || {
///     for job in 0..100_u32 {
///         sender.send_blocking((job, ready(Ok::<_, ()>(job * 2)))).unwrap();
///     }
/// });
/// let aggregate = fetch_and_aggregate(from_stream(receiver), Duration::from_secs(60))
///     .concurrency(8)
///     .await
///     .unwrap();
/// assert_eq!(aggregate.results.len(), 100);
/// # });
/// ```
#[doc(alias = "JoinQueue")]
#[doc(alias = "channel")]
pub fn from_stream<S: Stream>(stream: S) -> FromStream<S> {
    FromStream(Box::pin(stream))
}

/// Sources from a stream, made by [`from_stream`].
pub struct FromStream<S>(Pin<Box<S>>);

impl<S> Sealed for FromStream<S> {}

impl<S: Stream> Items for FromStream<S> {
    type Item = S::Item;

    const MAY_WAIT: bool = true;

    fn poll_next_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.0.as_mut().poll_next(cx)
    }

    fn items_left(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

#[diagnostic::do_not_recommend]
impl<S, K, F> IntoSources for FromStream<S>
where
    S: Stream<Item = (K, F)>,
{
    type Id = K;
    type Future = F;
    type Sources = Self;

    fn into_sources(self) -> Self {
        self
    }
}

impl<S, L> IntoBatches for FromStream<S>
where
    S: Stream<Item = L>,
    L: IntoSources,
{
    type Batch = L;
    type Items = Self;

    fn into_items(self) -> Self {
        self
    }
}

impl<S> fmt::Debug for FromStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromStream").finish_non_exhaustive()
    }
}

#[diagnostic::do_not_recommend]
impl<L, K, F> Sources for L
where
    L: Items<Item = (K, F)>,
{
    type Id = K;
    type Seed = F;
    type Future = F;

    const MAY_WAIT: bool = L::MAY_WAIT;

    #[inline(always)]
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(K, F)>> {
        self.poll_next_item(cx)
    }

    #[inline(always)]
    fn make(&mut self, _: &K, future: F) -> F {
        future
    }

    #[inline]
    fn sources_left(&self) -> (usize, Option<usize>) {
        self.items_left()
    }
}

/// Makes the future of each source by `make`, from the source's id.
///
/// The future is made when its source starts. If the run ends early, the ids that were never started
/// are named without making their futures.
///
/// `make` is a closure that returns a future, not an `async` closure. The future cannot borrow from the id
/// that `make` gets, because the id may be returned before the future is dropped. Where the ids are references,
/// copy them: `|&url| fetch(url)`. Where they are owned, clone inside of `make`, as below; or pass pairs:
/// `urls.into_iter().map(|url| (url.clone(), fetch(url)))`, where `fetch` takes a `String`.
///
/// A panic of `make` counts as a panic of the source: under
/// [`catch_panics`](crate::Operation::catch_panics) it is the source's outcome.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures_aggregate::{each, fetch_and_aggregate};
///
/// async fn fetch(url: String) -> Result<usize, std::io::Error> {
///     Ok(url.len())
/// }
///
/// # futures::executor::block_on(async {
/// let urls = vec!["https://a.example".to_owned(), "https://b.example".to_owned()];
/// let run = fetch_and_aggregate(each(urls, |url| fetch(url.clone())), Duration::from_secs(2));
/// let aggregate = run.await.unwrap();
/// assert_eq!(aggregate.results.len(), 2);
/// # });
/// ```
pub fn each<I, M, F>(ids: I, make: M) -> Each<I::IntoIter, M>
where
    I: IntoIterator,
    M: FnMut(&I::Item) -> F,
{
    Each {
        ids: Contained::new(ids.into_iter()),
        make: Contained::new(make),
    }
}

/// Sources of ids and a closure, made by [`each`].
pub struct Each<I, M> {
    ids: Contained<I>,
    make: Contained<M>,
}

impl<I, M> Sealed for Each<I, M> {}

impl<I, M, F> Sources for Each<I, M>
where
    I: Iterator,
    M: FnMut(&I::Item) -> F,
{
    type Id = I::Item;
    type Seed = ();
    type Future = F;

    const MAKING_MAY_PANIC: bool = true;

    #[inline]
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<(I::Item, ())>> {
        Poll::Ready(self.ids.get_mut().next().map(|id| (id, ())))
    }

    #[inline]
    fn make(&mut self, id: &I::Item, (): ()) -> F {
        self.make.get_mut()(id)
    }

    #[inline]
    fn sources_left(&self) -> (usize, Option<usize>) {
        self.ids.get().size_hint()
    }
}

impl<I, M, F> IntoSources for Each<I, M>
where
    I: Iterator,
    M: FnMut(&I::Item) -> F,
{
    type Id = I::Item;
    type Future = F;
    type Sources = Self;

    fn into_sources(self) -> Self {
        self
    }
}

impl<I, M> fmt::Debug for Each<I, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Each").finish_non_exhaustive()
    }
}
