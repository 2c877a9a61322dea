//! Random setups of a run, and random schedules of events.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Time on the clock of the test, in tenths of a millisecond.
pub(super) type Ticks = u32;

/// Where the sources of a run come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Iterator,
    Each,
    /// The schedule decides when items arrive.
    Stream,
}

/// What becomes of outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// They are collected.
    Fetch,
    /// They are collected in a batch.
    Process,
    /// They are sent into a channel.
    Stream,
    /// They go to bodies, which end at once.
    ForEach,
}

/// How a run is set up.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    /// Where the sources come from.
    pub(super) kind: Kind,
    /// For each source, in how many polls it wakes itself.
    pub(super) sources: Vec<u8>,
    /// The concurrency limit.
    pub(super) limit: usize,
    /// The other limits.
    pub(super) limits: Limits,
    /// The timeout of the run.
    pub(super) timeout: Option<Ticks>,
    /// When the run ends at the latest.
    pub(super) deadline: Option<Ticks>,
    /// The timeout of each source.
    pub(super) source_timeout: Option<Ticks>,
    /// Whether the timeout of a source depends on its id.
    pub(super) has_own_timeouts: bool,
    /// The time of the sources in flight after the signal of `drain_on`.
    pub(super) drain_timeout: Option<Ticks>,
    /// Whether outcomes are in the order of their sources.
    pub(super) in_order: bool,
    /// The capacity of the channel of a stream.
    pub(super) capacity: usize,
    /// The operation.
    pub(super) operation: Operation,
}

/// The limits of a run beside the number of its sources.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits {
    /// How many sources with the same key may be in flight.
    pub(super) per_key: Option<usize>,
    /// How many sources wait at most because their keys have no room.
    pub(super) look_ahead: usize,
    /// Whether sources have weights.
    pub(super) has_weights: bool,
    /// The places of a limit that others use as well.
    pub(super) places: Option<usize>,
    /// A rate that others use as well: the time between two starts, and the burst.
    pub(super) rate: Option<(Ticks, u32)>,
}

impl Limits {
    /// Whether sources that were taken from the list may have to wait.
    pub(super) fn parks(&self) -> bool {
        self.per_key.is_some() || self.has_weights
    }

    /// Whether there is any limit.
    pub(super) fn are_set(&self) -> bool {
        self.parks() || self.places.is_some() || self.rate.is_some()
    }
}

impl Setup {
    /// Whether an outcome waits for those of earlier sources.
    pub(super) fn holds_back(&self) -> bool {
        let is_collected = matches!(self.operation, Operation::Fetch | Operation::Process);
        self.in_order && !is_collected
    }

    /// The timeout of a source.
    pub(super) fn timeout_of(&self, id: usize) -> Option<Ticks> {
        let own = self.has_own_timeouts.then(|| own_timeout(id));
        self.source_timeout.into_iter().chain(own.flatten()).min()
    }
}

/// The timeout of a source that depends on its id.
pub(super) fn own_timeout(id: usize) -> Option<Ticks> {
    [None, Some(5), Some(2), Some(0)][id % 4]
}

/// One event. A step that names a source that does not exist does nothing.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// A source gets its answer, and is woken.
    Answer(usize, bool, Thread),
    /// A source is woken spuriously. It may be finished.
    Wake(usize, Thread),
    /// Some items of the stream arrive, or its end.
    Arrive(usize, Thread),
    /// Time passes.
    Wait(Ticks),
    /// The signal of `cancel_on` completes.
    Cancel,
    /// The signal of `expire_on` completes.
    Expire,
    /// The signal of `drain_on` completes.
    Drain,
    /// The run is polled once, woken or not.
    Poll,
    /// Another task on another thread polls the run.
    Move,
    /// The run is polled as long as it is woken.
    Settle,
    /// The receiver takes an outcome, if there is one.
    Receive,
    /// Another run takes a place of the shared limit, if there is one.
    Take,
    /// It gives one back.
    GiveBack,
    /// The shared limit is changed.
    SetPlaces(usize),
    /// Another run starts a source at the shared rate, if one is due.
    Start,
}

/// The thread that wakes a source.
#[derive(Debug, Clone, Copy)]
pub(super) enum Thread {
    This,
    Other,
}

/// A setup and a schedule.
#[derive(Debug, Clone)]
pub(super) struct Case {
    /// How the run is set up.
    pub(super) setup: Setup,
    /// What happens to it.
    pub(super) steps: Vec<Step>,
}

pub(super) fn case() -> impl Strategy<Value = Case> {
    (setup(), vec(step(), 0..40)).prop_map(|(setup, steps)| Case { setup, steps })
}

fn setup() -> impl Strategy<Value = Setup> {
    let self_wakes = prop_oneof![4 => Just(0), 1 => 1..4_u8];
    // Slots from 32 have their bits in the first segment, and slots from 96 in the second one.
    let count = prop_oneof![12 => 0..6_usize, 2 => 30..40_usize, 1 => 90..110_usize];
    let sources = count.prop_flat_map(move |count| vec(self_wakes.clone(), count));
    let limit = prop_oneof![2 => Just(usize::MAX), 4 => 1..4_usize, 1 => 30..36_usize];
    let capacity = prop_oneof![1 => Just(usize::MAX), 3 => 1..4_usize];
    let kind = prop_oneof![Just(Kind::Iterator), Just(Kind::Each), Just(Kind::Stream)];
    let has_own_timeouts = prop_oneof![4 => Just(false), 1 => Just(true)];
    let deadline = prop_oneof![3 => Just(None), 1 => (0..12_u32).prop_map(Some)];
    let times = (time(), deadline, time(), has_own_timeouts, time());
    (
        kind,
        sources,
        limit,
        limits(),
        times,
        any::<bool>(),
        capacity,
    )
        .prop_map(
            |(kind, sources, limit, limits, times, in_order, capacity)| {
                let (timeout, deadline, source_timeout, has_own_timeouts, drain_timeout) = times;
                Setup {
                    kind,
                    sources,
                    limit,
                    limits,
                    timeout,
                    deadline,
                    source_timeout,
                    has_own_timeouts,
                    drain_timeout,
                    in_order,
                    capacity,
                    operation: Operation::Fetch,
                }
            },
        )
}

fn limits() -> impl Strategy<Value = Limits> {
    let look_ahead = prop_oneof![1..4_usize, Just(64)];
    let rate = option::of((1..4_u32, 1..4_u32));
    let some = (
        option::of(1..3_usize),
        look_ahead,
        any::<bool>(),
        option::of(1..5_usize),
        rate,
    );
    let some = some.prop_map(|(per_key, look_ahead, has_weights, places, rate)| Limits {
        per_key,
        look_ahead,
        has_weights,
        places,
        rate,
    });
    prop_oneof![Just(Limits::default()), some]
}

fn time() -> impl Strategy<Value = Option<Ticks>> {
    prop_oneof![3 => Just(None), 4 => (1..8_u32).prop_map(Some), 1 => Just(Some(0))]
}

fn step() -> impl Strategy<Value = Step> {
    let source = || prop_oneof![4 => 0..6_usize, 1 => 0..110_usize];
    let thread = || prop_oneof![6 => Just(Thread::This), 1 => Just(Thread::Other)];
    let answer = (source(), any::<bool>(), thread());
    prop_oneof![
        12 => answer.prop_map(|(source, succeeds, thread)| Step::Answer(source, succeeds, thread)),
        6 => (source(), thread()).prop_map(|(source, thread)| Step::Wake(source, thread)),
        6 => (1..4_usize, thread()).prop_map(|(items, thread)| Step::Arrive(items, thread)),
        6 => (1..4_u32).prop_map(Step::Wait),
        8 => Just(Step::Settle),
        4 => Just(Step::Receive),
        4 => Just(Step::Poll),
        1 => Just(Step::Move),
        1 => prop_oneof![Just(Step::Cancel), Just(Step::Expire)],
        1 => Just(Step::Drain),
        4 => prop_oneof![Just(Step::Take), Just(Step::GiveBack), Just(Step::Start)],
        1 => (1..6_usize).prop_map(Step::SetPlaces),
    ]
}
