//! How many sources one poll of a run may poll.

/// Source polls in one poll of a run, before it yields to the executor: enough that yielding
/// costs nothing that can be measured, few enough that other tasks of the thread are not kept
/// waiting.
const POLLS: u32 = 256;

/// What is left of one poll's allowance. The runs inside a run share its budget.
#[derive(Debug)]
pub(crate) struct Budget {
    left: u32,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self { left: POLLS }
    }

    pub(crate) fn left(&self) -> u32 {
        self.left
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.left == 0
    }

    pub(crate) fn spend(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}
