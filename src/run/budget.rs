//! How many sources one poll of a run may poll.

/// Source polls in one poll of a run, before it yields to the executor: enough that yielding
/// costs nothing that can be measured, few enough that other tasks of the thread are not kept
/// waiting.
const POLLS: u32 = 256;
/// Source polls in one poll of a run that is small, and usually one of many in another run.
const FEW: u32 = 8;

/// What is left of one poll's allowance. The runs inside a run share its budget.
#[derive(Debug)]
pub struct Budget {
    left: u32,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self { left: POLLS }
    }

    pub(crate) fn small() -> Self {
        Self { left: FEW }
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.left == 0
    }

    pub(crate) fn spend(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Puts about a quarter aside, so that whoever is handed the rest cannot spend it. The quarter
    /// of a few is rounded up or down: where there is but one, it has to go round by turns.
    pub(crate) fn set_aside(&mut self, round_up: bool) -> u32 {
        let aside = (self.left + if round_up { 3 } else { 0 }) / 4;
        self.left -= aside;
        aside
    }

    /// Gives back what was put aside.
    pub(crate) fn give_back(&mut self, aside: u32) {
        self.left += aside;
    }

    /// Lets `work` take what it needs, and at least one: whoever is polled is polled once.
    #[inline(always)]
    pub(crate) fn spend_on<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.left;
        let result = work(self);
        if self.left == before {
            self.spend();
        }
        result
    }
}
