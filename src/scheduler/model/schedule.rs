//! What happens to a run, chosen at random.

use proptest::collection::vec;
use proptest::prelude::*;

/// Time on the clock that the test owns, in tenths of a millisecond.
pub(super) type Ticks = u32;

/// How a run is set up.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    /// For each source, in how many polls it wakes itself.
    pub(super) sources: Vec<u8>,
    pub(super) limit: usize,
    pub(super) timeout: Option<Ticks>,
    pub(super) source_timeout: Option<Ticks>,
    /// How many outcomes the channel of a stream has room for.
    pub(super) room: usize,
}

/// One thing that happens. Sources are named by any number, modulo how many there are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// The source has its answer, and is woken for it.
    Answer(usize, bool, From),
    /// The source is woken for nothing. It may be gone.
    Wake(usize, From),
    /// So many ticks go by.
    Wait(Ticks),
    Cancel,
    Expire,
    /// One poll, whether the run was woken or not.
    Poll,
    /// The run goes to another task on another thread, which polls it.
    Move,
    /// Polls for as long as the run is woken.
    Settle,
    /// The receiver takes an outcome, if there is one.
    Receive,
}

/// Where a wake comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum From {
    Here,
    AnotherThread,
}

#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) setup: Setup,
    pub(super) steps: Vec<Step>,
}

pub(super) fn case() -> impl Strategy<Value = Case> {
    (setup(), vec(step(), 0..40)).prop_map(|(setup, steps)| Case { setup, steps })
}

fn setup() -> impl Strategy<Value = Setup> {
    let restless = prop_oneof![4 => Just(0), 1 => 1..4_u8];
    // Beyond 32 the slots are in the tree, and beyond 96 in its second segment.
    let count = prop_oneof![12 => 0..6_usize, 2 => 30..40_usize, 1 => 90..110_usize];
    let sources = count.prop_flat_map(move |count| vec(restless.clone(), count));
    let limit = prop_oneof![2 => Just(usize::MAX), 4 => 1..4_usize, 1 => 30..36_usize];
    let room = prop_oneof![1 => Just(usize::MAX), 3 => 1..4_usize];
    (sources, limit, time(), time(), room).prop_map(
        |(sources, limit, timeout, source_timeout, room)| Setup {
            sources,
            limit,
            timeout,
            source_timeout,
            room,
        },
    )
}

fn time() -> impl Strategy<Value = Option<Ticks>> {
    prop_oneof![3 => Just(None), 4 => (1..8_u32).prop_map(Some), 1 => Just(Some(0))]
}

fn step() -> impl Strategy<Value = Step> {
    let source = || prop_oneof![4 => 0..6_usize, 1 => 0..110_usize];
    let from = || prop_oneof![6 => Just(From::Here), 1 => Just(From::AnotherThread)];
    let answer = (source(), any::<bool>(), from());
    prop_oneof![
        12 => answer.prop_map(|(source, succeeds, from)| Step::Answer(source, succeeds, from)),
        6 => (source(), from()).prop_map(|(source, from)| Step::Wake(source, from)),
        6 => (1..4_u32).prop_map(Step::Wait),
        8 => Just(Step::Settle),
        4 => Just(Step::Receive),
        4 => Just(Step::Poll),
        1 => Just(Step::Move),
        1 => prop_oneof![Just(Step::Cancel), Just(Step::Expire)],
    ]
}
