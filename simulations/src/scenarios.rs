//! The scenarios.

use crate::server::{Condition, Discipline, Time, Work};

/// What the caller asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Demand {
    /// As much as the limit allows.
    Full,
    /// At most so many at once.
    Part(usize),
    /// Requests at random times: so many in each unit of service time of the whole server.
    Open(f64),
    /// The same, but so many at a time.
    Bursts(f64, u32),
}

/// Some time in which nothing changes.
#[derive(Debug, Clone, Copy)]
pub struct Phase {
    pub condition: Condition,
    pub demand: Demand,
    /// How many clients there are.
    pub clients: usize,
    /// Its length, in round trips.
    pub length: f64,
}

#[derive(Debug, Clone)]
pub struct Scenario {
    pub name: &'static str,
    pub discipline: Discipline,
    pub work: Work,
    /// The timeout of each source.
    pub timeout: Option<Time>,
    /// Whether the caller drops a part of its sources.
    pub drops: bool,
    pub phases: Vec<Phase>,
}

/// The length of most phases.
const LENGTH: f64 = 600.0;
/// The mean time of a request.
const SERVICE: Time = 0.01;

impl Scenario {
    fn new(name: &'static str, discipline: Discipline) -> Self {
        Self {
            name,
            discipline,
            work: Work::Spread(0.6),
            timeout: None,
            drops: false,
            phases: Vec::new(),
        }
    }

    /// Adds a phase with so many places.
    fn places(mut self, places: usize) -> Self {
        let before = self.phases.last().copied();
        let mut phase = before.unwrap_or(Phase {
            condition: Condition {
                places,
                service: SERVICE,
                network: 0.0,
                is_down: false,
            },
            demand: Demand::Full,
            clients: 1,
            length: LENGTH,
        });
        phase.condition.places = places;
        self.phases.push(phase);
        self
    }

    /// Adds the phase of before with a change.
    fn then(mut self, change: impl FnOnce(&mut Phase)) -> Self {
        let mut phase = *self.phases.last().expect("a phase");
        change(&mut phase);
        self.phases.push(phase);
        self
    }

    /// Changes all phases so far.
    fn all(mut self, change: impl Fn(&mut Phase)) -> Self {
        self.phases.iter_mut().for_each(change);
        self
    }
}

/// All scenarios.
pub fn all() -> Vec<Scenario> {
    use Discipline::{Fifo, Rejecting, Sharing, Thrashing};
    let network = |time| move |phase: &mut Phase| phase.condition.network = time;
    let clients = |count| move |phase: &mut Phase| phase.clients = count;
    let demand = |demand| move |phase: &mut Phase| phase.demand = demand;
    vec![
        Scenario::new("queue", Fifo)
            .places(16)
            .places(8)
            .places(16)
            .places(32),
        Scenario::new("queue, falls far", Fifo)
            .places(16)
            .places(4)
            .places(32),
        Scenario::new("queue, few places", Fifo).places(4).places(6),
        Scenario::new("queue, many places", Fifo)
            .places(64)
            .places(128),
        Scenario::new("refuses", Rejecting(0.5))
            .places(16)
            .places(8)
            .places(16),
        Scenario::new("refuses, 20 ms away", Rejecting(0.5))
            .places(8)
            .places(16)
            .all(network(0.02)),
        Scenario::new("thrashes", Thrashing)
            .places(16)
            .places(8)
            .places(16),
        Scenario::new("shares", Sharing)
            .places(16)
            .places(8)
            .places(16),
        Scenario {
            work: Work::Spread(1.0),
            ..Scenario::new("shares, wide spread", Sharing)
                .places(16)
                .places(8)
        },
        Scenario::new("1 ms away", Fifo)
            .places(16)
            .places(8)
            .all(network(0.001)),
        Scenario::new("50 ms away", Fifo)
            .places(16)
            .places(8)
            .all(network(0.05)),
        Scenario::new("latency rises and falls", Fifo)
            .places(16)
            .then(network(0.03))
            .then(network(0.0)),
        Scenario {
            work: Work::Bimodal,
            ..Scenario::new("short and long", Fifo)
                .places(16)
                .places(8)
                .places(16)
        },
        Scenario {
            timeout: Some(0.08),
            ..Scenario::new("timeouts", Fifo)
                .places(16)
                .places(6)
                .places(16)
        },
        Scenario::new("outage", Fifo)
            .places(16)
            .then(|phase| {
                phase.condition.is_down = true;
                phase.length = 200.0;
            })
            .then(|phase| {
                phase.condition.is_down = false;
                phase.length = LENGTH;
            }),
        Scenario {
            drops: true,
            ..Scenario::new("drops sources", Fifo).places(16).places(8)
        },
        Scenario::new("uses a part", Fifo)
            .places(16)
            .all(demand(Demand::Part(3)))
            .then(demand(Demand::Full))
            .then(demand(Demand::Part(6))),
        Scenario::new("light load", Fifo)
            .places(16)
            .all(demand(Demand::Open(0.7)))
            .then(demand(Demand::Open(0.4))),
        Scenario::new("bursts", Fifo)
            .places(16)
            .all(demand(Demand::Bursts(0.6, 40)))
            .then(demand(Demand::Bursts(0.6, 120))),
        Scenario::new("two clients, queue", Fifo)
            .places(16)
            .places(8)
            .all(clients(2)),
        Scenario::new("two clients, shares", Sharing)
            .places(16)
            .places(32)
            .all(clients(2)),
        Scenario::new("two clients, thrashes", Thrashing)
            .places(16)
            .all(clients(2)),
        Scenario::new("two clients, refuses", Rejecting(0.5))
            .places(16)
            .all(clients(2)),
        Scenario::new("a client comes and goes", Fifo)
            .places(16)
            .then(clients(2))
            .then(clients(1)),
    ]
}
