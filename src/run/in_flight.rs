//! The sources in flight, and who is told about them. They are one, so that a run that is dropped
//! can still tell whom it stopped.

use std::pin::Pin;

use super::hooks::Follow;
use super::panics::Panics;
use super::slots::Slots;
use crate::Reason;

/// Drops its sources one after another, and tells of each that it was stopped.
pub(crate) struct InFlight<K, F, H>
where
    H: Follow<K>,
{
    pub(crate) slots: Slots<K, F>,
    /// Gone only when they were given away, before anything was in flight.
    hooks: Option<H>,
}

impl<K, F, H> InFlight<K, F, H>
where
    H: Follow<K>,
{
    pub(crate) fn new(hooks: H) -> Self {
        Self {
            slots: Slots::new(),
            hooks: Some(hooks),
        }
    }

    pub(crate) fn hooks(&mut self) -> &mut H {
        self.hooks.as_mut().expect("hooks that were not given away")
    }

    /// Room for other sources, under hooks made of these. Nothing may be in flight yet.
    pub(crate) fn map_hooks<G, N: Follow<K>>(
        mut self,
        map: impl FnOnce(H) -> N,
    ) -> InFlight<K, G, N> {
        InFlight {
            slots: Slots::new(),
            hooks: self.hooks.take().map(map),
        }
    }

    /// Drops the source that was started first, after `last` has had one more look at it, and tells
    /// that it was stopped. Returns its id and what was seen.
    pub(crate) fn stop_oldest<R>(
        &mut self,
        reason: Reason,
        panics: &mut Panics,
        last: impl FnOnce(Pin<&mut F>, &mut Panics) -> R,
    ) -> Option<(K, R)> {
        let oldest = self.slots.oldest()?;
        let (id, seen) = self.slots.remove(oldest, panics, last)?;
        panics.catch(|| self.hooks().unfinished(&id, reason));
        Some((id, seen))
    }
}

impl<K, F, H> Drop for InFlight<K, F, H>
where
    H: Follow<K>,
{
    fn drop(&mut self) {
        let mut panics = Panics::default();
        while let Some((id, ())) = self.stop_oldest(Reason::Cancelled, &mut panics, |_, _| ()) {
            panics.catch(|| drop(id));
        }
        panics.resume();
    }
}
