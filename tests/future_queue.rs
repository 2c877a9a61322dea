//! The test cases of the crate future-queue, for sources with weights and keys: sources that arrive over time,
//! and the exact time at which each of them starts.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use futures::executor::block_on;
use futures::future::join;
use futures_aggregate::{TestTimer, Timer, fetch_and_aggregate, from_stream};
use proptest::prelude::*;

/// Longer than any run. A run that loses a wake would otherwise last for ever.
const HOUR: Duration = Duration::from_secs(3600);

/// A source, as it arrives.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    /// The time since the one before has arrived, in milliseconds.
    pause: u64,
    /// How long the source takes, in milliseconds.
    takes: u64,
    weight: usize,
    group: Option<usize>,
}

impl Arrival {
    const fn new(pause: u64, takes: u64, weight: usize, group: Option<usize>) -> Self {
        Self {
            pause,
            takes,
            weight,
            group,
        }
    }
}

/// The limits of a run.
#[derive(Debug, Clone)]
struct Limits {
    total: usize,
    /// How many sources of each group, if there are groups.
    groups: Option<Vec<usize>>,
}

impl Limits {
    fn of_group(&self, group: Option<usize>) -> usize {
        let groups = self.groups.as_ref();
        groups
            .zip(group)
            .map_or(usize::MAX, |(groups, group)| groups[group])
    }
}

/// When each source starts in a run, in milliseconds.
fn starts(arrivals: &[Arrival], limits: &Limits) -> Vec<u64> {
    let timer = TestTimer::new();
    let zero = timer.now();
    let millis = Duration::from_millis;
    let starts = RefCell::new(vec![None; arrivals.len()]);
    let (sender, queue) = async_channel::unbounded();
    let arrive = async {
        for (id, arrival) in arrivals.iter().enumerate() {
            if arrival.pause > 0 {
                timer.sleep_until(timer.now() + millis(arrival.pause)).await;
            }
            let (timer, starts) = (&timer, &starts);
            let source = async move {
                let now = timer.now();
                let before = starts.borrow_mut()[id].replace((now - zero).as_millis() as u64);
                assert_eq!(before, None, "{id} starts twice");
                if arrival.takes > 0 {
                    timer.sleep_until(now + millis(arrival.takes)).await;
                }
                Ok::<_, ()>(id)
            };
            sender.try_send((id, source)).unwrap();
        }
        drop(sender);
    };
    let run = fetch_and_aggregate(from_stream(queue), HOUR)
        .timer(timer.clone())
        .concurrency(limits.total)
        .weight(|id: &usize| arrivals[*id].weight);
    let results = block_on(timer.auto_advance(async {
        // First those that arrive.
        let aggregate = match limits.groups {
            None => join(arrive, run).await.1,
            Some(_) => {
                let run = run
                    .concurrency_per_by(|id| arrivals[*id].group, |group| limits.of_group(*group))
                    .look_ahead(arrivals.len().max(1));
                join(arrive, run).await.1
            }
        };
        aggregate.unwrap().results
    }));
    assert_eq!(results.len(), arrivals.len());
    let starts = starts.into_inner().into_iter();
    starts.map(|start| start.expect("started")).collect()
}

/// When each source starts by the rules: the first one that has arrived and whose group has room starts as soon
/// as there is room for its weight. None overtakes it.
fn expected(arrivals: &[Arrival], limits: &Limits) -> Vec<u64> {
    let arrive = arrivals.iter().scan(0, |now, arrival| {
        *now += arrival.pause;
        Some(*now)
    });
    let arrive: Vec<u64> = arrive.collect();
    let mut starts = vec![None; arrivals.len()];
    // The ends of those that run.
    let mut running = BTreeMap::new();
    let mut now = 0;
    while starts.iter().any(Option::is_none) {
        running.retain(|_, end| *end > now);
        let in_use: usize = running.keys().map(|id: &usize| weight(arrivals[*id])).sum();
        let has_room = |id: &usize| {
            let group = arrivals[*id].group;
            let same = running.keys().filter(|it| arrivals[**it].group == group);
            same.count() < limits.of_group(group)
        };
        let waiting = (0..arrivals.len()).filter(|id| starts[*id].is_none() && arrive[*id] <= now);
        let next = waiting.into_iter().find(has_room);
        let next =
            next.filter(|id| running.is_empty() || in_use + weight(arrivals[*id]) <= limits.total);
        match next {
            Some(id) => {
                starts[id] = Some(now);
                running.insert(id, now + arrivals[id].takes);
            }
            None => {
                let arrivals = arrive.iter().filter(|at| **at > now);
                now = *arrivals
                    .chain(running.values())
                    .min()
                    .expect("a later event");
            }
        }
    }
    starts.into_iter().flatten().collect()
}

fn weight(arrival: Arrival) -> usize {
    arrival.weight.max(1)
}

#[test]
fn room_that_is_freed_outside_a_group_wakes_those_who_wait_in_it() {
    let limits = Limits {
        total: 3,
        groups: Some(vec![1]),
    };
    let arrivals = [
        Arrival::new(0, 100, 2, None),
        Arrival::new(0, 10, 1, Some(0)),
        // Parked, because its group is full. Then the group has room, and there is none in all.
        Arrival::new(0, 10, 2, Some(0)),
    ];
    assert_eq!(starts(&arrivals, &limits), [0, 0, 100]);
}

#[test]
fn source_that_arrives_while_others_run_starts_at_once() {
    let limits = Limits {
        total: 4,
        groups: Some(vec![1]),
    };
    let arrivals = [
        Arrival::new(0, 100_000, 1, None),
        Arrival::new(1000, 10, 1, Some(0)),
        Arrival::new(0, 10, 1, Some(0)),
    ];
    assert_eq!(starts(&arrivals, &limits), [0, 1000, 1010]);
}

#[test]
fn weight_above_the_maximum_waits_until_nothing_else_runs() {
    let limits = Limits {
        total: 3,
        groups: None,
    };
    let arrivals = [
        Arrival::new(0, 20, 1, None),
        Arrival::new(0, 30, 7, None),
        Arrival::new(0, 10, 0, None),
        Arrival::new(0, 10, 2, None),
        Arrival::new(0, 10, 1, None),
    ];
    // A weight of 0 counts as 1.
    assert_eq!(starts(&arrivals, &limits), [0, 20, 50, 50, 60]);
}

#[test]
fn group_without_room_lets_others_pass() {
    let limits = Limits {
        total: 10,
        groups: Some(vec![1, 2]),
    };
    let arrivals = [0, 0, 0, 1, 1, 1].map(|group| Arrival::new(0, 10, 1, Some(group)));
    assert_eq!(starts(&arrivals, &limits), [0, 10, 20, 0, 0, 10]);
}

fn pauses() -> impl Strategy<Value = u64> {
    // Most arrive together, so that they meet the limits.
    prop_oneof![6 => Just(0), 3 => 1..20_u64, 1 => 0..1000_u64]
}

fn arrivals(groups: usize) -> impl Strategy<Value = Vec<Arrival>> {
    let group = prop::option::of(0..groups);
    let arrival = (pauses(), 0..1000_u64, 0..8_usize, group);
    let arrival = arrival.prop_map(|(pause, takes, weight, group)| Arrival {
        pause,
        takes,
        weight,
        group,
    });
    prop::collection::vec(arrival, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 128 }))]

    #[test]
    fn sources_with_weights_start_as_soon_as_they_fit(
        arrivals in arrivals(1),
        total in 1..64_usize,
    ) {
        let limits = Limits { total, groups: None };
        let starts = starts(&arrivals, &limits);
        prop_assert!(starts.is_sorted(), "in the order of the list");
        prop_assert_eq!(starts, expected(&arrivals, &limits));
    }

    #[test]
    fn sources_in_groups_start_as_soon_as_they_fit(
        arrivals in arrivals(4),
        total in 1..64_usize,
        groups in prop::collection::vec(1..8_usize, 4),
    ) {
        let limits = Limits { total, groups: Some(groups) };
        prop_assert_eq!(starts(&arrivals, &limits), expected(&arrivals, &limits));
    }
}
