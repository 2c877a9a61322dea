//! Counts of the entries that were delivered to this worker.

use std::cell::Cell;
use std::fmt;

use crate::settlement::Settlement;

/// The counts so far.
#[derive(Default)]
pub(crate) struct Tally {
    done: Cell<usize>,
    failed: Cell<usize>,
    unfinished: Cell<usize>,
    unstarted: Cell<usize>,
    dead: Cell<usize>,
}

impl Tally {
    pub(crate) fn add(&self, settlement: &Settlement) {
        let add = |count: &Cell<usize>, more| count.set(count.get() + more);
        add(&self.done, settlement.done.len());
        add(&self.failed, settlement.failed.len());
        add(&self.unfinished, settlement.unfinished.len());
        add(&self.unstarted, settlement.unstarted.len());
        add(&self.dead, settlement.dead.len());
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} done, {} failed and {} unfinished left to be delivered again, {} given back \
             unstarted, {} dead",
            self.done.get(),
            self.failed.get(),
            self.unfinished.get(),
            self.unstarted.get(),
            self.dead.get()
        )
    }
}
