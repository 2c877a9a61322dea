//! After a panic in a poll: which source panicked, if any did, and what becomes of it.

use std::any::Any;

use super::Run;
use super::budget::Budget;
use super::driver::Driver;
use crate::limit::Ending;
use crate::panics::{self, Panics};
use crate::sources::Sources;

impl<L, K, G> Run<L, K, G>
where
    L: Sources<Id = K, Future = G>,
{
    /// Drops the source that panicked, and reports it. Returns the panics that are to unwind: that of
    /// the poll, unless it was a source's and the run catches those, and that of an observer.
    pub(super) fn recover(
        &mut self,
        payload: Box<dyn Any + Send>,
        budget: &mut Budget<'_>,
        driver: &mut impl Driver<K, G>,
    ) -> Panics {
        let mut panics = std::mem::take(&mut self.start_panics);
        let message = panics::message(&*payload);
        // The driver may call wakers of the caller.
        let mut more = Panics::default();
        let was_source = more.catch(|| self.drop_panicked(message, budget, driver, &mut panics));
        panics.append(more);
        let was_source = was_source.unwrap_or(true);
        if was_source && self.options.catches_panics {
            panics::discard(payload);
        } else if was_source && panics.is_some() {
            // The observer of the start panicked first.
            panics.note(payload);
        } else {
            panics.note_first(payload);
        }
        panics
    }

    /// Drops the source that was being polled or made, and reports it. Returns whether there was one.
    fn drop_panicked(
        &mut self,
        message: String,
        budget: &mut Budget<'_>,
        driver: &mut impl Driver<K, G>,
        panics: &mut Panics,
    ) -> bool {
        let Some(index) = self.polling.take() else {
            return false;
        };
        match self.in_flight.slots.source(index) {
            // It has dropped its own source that panicked, and goes on.
            Some(_) if Self::are_runs(driver) => return true,
            Some(_) => {}
            // It panicked when it was made, which cost nothing yet.
            None => budget.spend(),
        }
        // A second panic, in the destructor of the source, adds nothing.
        let mut second = Panics::default();
        let stay = self.in_flight.stay(index, true, budget.clock(), panics);
        self.end_sample(index, Ending::Error, budget.clock(), panics);
        let removed = self.in_flight.slots.remove(index, &mut second);
        self.note_end(index);
        if let Some(id) = removed {
            driver.panicked(id, message, stay, panics);
        }
        true
    }
}
