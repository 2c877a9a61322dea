//! The sources of a run, those in flight and those not yet started, and the hooks that are told
//! about them. They are one, so that a run that is dropped can still tell which sources it stopped,
//! and so that no destructor of one of them meets the panic of another.

use super::hooks::Follow;
use super::panics::Panics;
use super::slots::Slots;
use crate::Reason;

/// Drops its sources one after another, and tells of each that it was stopped.
pub(crate) struct InFlight<I, K, F, H>
where
    H: Follow<K>,
{
    pub(crate) slots: Slots<K, F>,
    /// The sources not yet started. Gone once exhausted.
    pub(crate) list: Option<I>,
    /// Drops the rest of the list one by one.
    drain: Option<fn(&mut I, &mut Panics)>,
    /// Gone only when they were given away, before anything was in flight.
    hooks: Option<H>,
}

impl<I, K, F, H> InFlight<I, K, F, H>
where
    H: Follow<K>,
{
    pub(crate) fn new(list: Option<I>, hooks: H) -> Self {
        Self {
            slots: Slots::new(),
            list,
            drain: None,
            hooks: Some(hooks),
        }
    }

    /// The same sources under other hooks, made of these. Nothing may be in flight yet.
    pub(crate) fn map_hooks<N: Follow<K>>(
        self,
        hooks: impl FnOnce(H) -> N,
    ) -> InFlight<I, K, F, N> {
        let drain = self.drain;
        let mut mapped = self.map(std::convert::identity, hooks);
        mapped.drain = drain;
        mapped
    }

    pub(crate) fn hooks(&mut self) -> &mut H {
        self.hooks.as_mut().expect("hooks that were not given away")
    }

    pub(crate) fn list_and_hooks(&mut self) -> (Option<&I>, &mut H) {
        let hooks = self.hooks.as_mut();
        let hooks = hooks.expect("hooks that were not given away");
        (self.list.as_ref(), hooks)
    }

    /// Another list and other hooks, made of these. Nothing may be in flight yet.
    pub(crate) fn map<J, G, N: Follow<K>>(
        mut self,
        list: impl FnOnce(I) -> J,
        hooks: impl FnOnce(H) -> N,
    ) -> InFlight<J, K, G, N> {
        InFlight {
            slots: Slots::new(),
            list: self.list.take().map(list),
            drain: None,
            hooks: self.hooks.take().map(hooks),
        }
    }

    /// Drops a source that is in flight, and tells that it was stopped. Returns its id.
    #[inline(always)]
    pub(crate) fn stop(&mut self, index: usize, reason: Reason, panics: &mut Panics) -> Option<K> {
        let id = self.slots.remove(index, panics)?;
        panics.catch(|| self.hooks().unfinished(&id, reason));
        Some(id)
    }
}

impl<I, K, F, H> InFlight<I, K, F, H>
where
    I: Iterator<Item = (K, F)>,
    H: Follow<K>,
{
    /// Learns how to drop the list.
    pub(crate) fn know_list(&mut self) {
        self.drain = Some(drain);
    }
}

/// Whether a list is that of a collection of the standard library, which makes nothing when it is asked
/// for a source. Its name is all that is known of its type.
fn is_collection<I>() -> bool {
    const BATCHES: &str = "futures_aggregate::process_batch::numbered::Numbered<";
    const COLLECTIONS: [&str; 4] = [
        "alloc::vec::",
        "alloc::collections::",
        "core::array::",
        "core::option::",
    ];
    let name = std::any::type_name::<I>();
    let name = name.strip_prefix(BATCHES).unwrap_or(name);
    std::mem::needs_drop::<I>() && COLLECTIONS.iter().any(|module| name.starts_with(module))
}

/// Drops each source that a list still has, as far as it says how many there can be.
fn drain<K, F>(list: &mut impl Iterator<Item = (K, F)>, panics: &mut Panics) {
    let most = panics.catch(|| list.size_hint().1.unwrap_or(0));
    for _ in 0..most.unwrap_or(0) {
        match panics.catch(|| list.next()) {
            Some(Some(source)) => panics.drop_pairs([source]),
            Some(None) => return,
            None => {}
        }
    }
}

impl<I, K, F, H> Drop for InFlight<I, K, F, H>
where
    H: Follow<K>,
{
    fn drop(&mut self) {
        let mut panics = Panics::default();
        while let Some(oldest) = self.slots.oldest() {
            let id = self.stop(oldest, Reason::Cancelled, &mut panics);
            panics.drop_each(id);
        }
        if let Some(mut list) = self.list.take() {
            // A collection that drops two sources that panic aborts the process. So its sources are
            // dropped one by one. So are those of any other list where sources have panicked; it makes
            // them for it.
            if let Some(drain) = self
                .drain
                .filter(|_| panics.is_some() || is_collection::<I>())
            {
                drain(&mut list, &mut panics);
            }
            panics.catch(|| drop(list));
        }
        panics.resume();
    }
}
