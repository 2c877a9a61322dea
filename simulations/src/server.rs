//! A simulated server: places, a queue, and what happens when there is too much to do.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;
use std::task::Waker;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal};

/// Seconds since the beginning of a simulation.
pub type Time = f64;

/// How a server treats more requests than it has places.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Discipline {
    /// They wait in the order in which they came.
    Fifo,
    /// So many of them wait, as a part of the places. The others are refused at once.
    Rejecting(f64),
    /// All requests share the places.
    Sharing,
    /// The same, and the server does less in all, the more requests there are.
    Thrashing,
}

/// How long requests take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Work {
    /// A log-normal distribution. This is the spread of the logarithm.
    Spread(f64),
    /// One in twenty takes twenty times as long.
    Bimodal,
}

/// The server in one phase.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Condition {
    pub places: usize,
    /// The mean time that a request takes in a place.
    pub service: Time,
    /// The time that a request and its answer are under way.
    pub network: Time,
    /// Whether every request fails.
    pub is_down: bool,
}

impl Condition {
    /// The latency without a queue.
    pub fn round_trip(&self) -> Time {
        self.service + self.network
    }
}

/// A request that the server has, or has had.
#[derive(Debug, Default)]
pub struct Ticket {
    /// Whether it was served. Refused if not.
    pub result: Cell<Option<bool>>,
    pub waker: RefCell<Option<Waker>>,
    /// Whether the client has gone. A request that waits is dropped then.
    pub is_gone: Cell<bool>,
}

#[derive(Debug)]
pub struct Server {
    pub condition: Condition,
    discipline: Discipline,
    work: Work,
    random: StdRng,
    now: Time,
    /// What happens next, in the order of its time.
    events: BinaryHeap<Reverse<Event>>,
    next_number: u64,
    /// Requests in a place, of a server whose requests do not share.
    running: usize,
    queue: VecDeque<(Rc<Ticket>, Time)>,
    /// Of a server whose requests share: the work that each one has had since the beginning.
    progress: Time,
    /// Those requests, in the order in which they will be done.
    sharing: BinaryHeap<Reverse<Event>>,
}

#[derive(Debug)]
struct Event {
    at: Time,
    number: u64,
    ticket: Rc<Ticket>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// A request has been served.
    Done,
    /// An answer arrives.
    Answer,
    /// A refusal arrives.
    Refusal,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let by_time = self.at.total_cmp(&other.at);
        by_time.then(self.number.cmp(&other.number))
    }
}

impl Server {
    pub fn new(condition: Condition, discipline: Discipline, work: Work, seed: u64) -> Self {
        Self {
            condition,
            discipline,
            work,
            random: StdRng::seed_from_u64(seed),
            now: 0.0,
            events: BinaryHeap::new(),
            next_number: 0,
            running: 0,
            queue: VecDeque::new(),
            progress: 0.0,
            sharing: BinaryHeap::new(),
        }
    }

    /// Takes a request.
    pub fn ask(&mut self) -> Rc<Ticket> {
        let ticket = Rc::new(Ticket::default());
        let work = self.draw();
        let Condition {
            places, is_down, ..
        } = self.condition;
        let is_full = match self.discipline {
            Discipline::Rejecting(queue) => {
                let most = places as f64 * (1.0 + queue);
                (self.running + self.queue.len()) as f64 >= most
            }
            _ => false,
        };
        if is_down || is_full {
            let delay = self.condition.network.max(self.condition.service / 5.0);
            self.push(self.now + delay, &ticket, Kind::Refusal);
        } else if self.shares() {
            let event = self.event(self.progress + work, &ticket, Kind::Done);
            self.sharing.push(Reverse(event));
        } else if self.running < places {
            self.running += 1;
            self.push(self.now + work, &ticket, Kind::Done);
        } else {
            self.queue.push_back((Rc::clone(&ticket), work));
        }
        ticket
    }

    /// When something happens next.
    pub fn next(&self) -> Option<Time> {
        let event = self.events.peek().map(|event| event.0.at);
        let times = [event, self.next_shared()];
        times.into_iter().flatten().reduce(f64::min)
    }

    /// When the next request of a server whose requests share is done.
    fn next_shared(&self) -> Option<Time> {
        let done = self.sharing.peek()?;
        Some(self.now + (done.0.at - self.progress).max(0.0) / self.speed())
    }

    /// Lets everything happen until then.
    pub fn advance(&mut self, to: Time) {
        while let Some(next) = self.next().filter(|next| *next <= to) {
            let heap = match self.next_shared() == Some(next) {
                true => &mut self.sharing,
                false => &mut self.events,
            };
            let event = heap.pop();
            self.pass(next);
            if let Some(Reverse(event)) = event {
                self.happen(event);
            }
        }
        self.pass(to);
        // After the number of places has grown.
        self.fill();
    }

    fn pass(&mut self, to: Time) {
        self.progress += (to - self.now).max(0.0) * self.speed();
        self.now = self.now.max(to);
    }

    fn happen(&mut self, event: Event) {
        match event.kind {
            Kind::Done => {
                if !self.shares() {
                    self.running -= 1;
                    self.fill();
                }
                let arrival = self.now + self.condition.network;
                self.push(arrival, &event.ticket, Kind::Answer);
            }
            Kind::Answer | Kind::Refusal => {
                event.ticket.result.set(Some(event.kind == Kind::Answer));
                if let Some(waker) = event.ticket.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    /// Gives free places to requests that wait.
    fn fill(&mut self) {
        while self.running < self.condition.places {
            let Some((ticket, work)) = self.queue.pop_front() else {
                break;
            };
            if !ticket.is_gone.get() {
                self.running += 1;
                self.push(self.now + work, &ticket, Kind::Done);
            }
        }
    }

    fn shares(&self) -> bool {
        matches!(self.discipline, Discipline::Sharing | Discipline::Thrashing)
    }

    /// The speed of each request of a server whose requests share.
    fn speed(&self) -> f64 {
        let share = self.condition.places as f64 / self.sharing.len().max(1) as f64;
        match self.discipline {
            Discipline::Thrashing => share.min(1.0).powf(1.5),
            _ => share.min(1.0),
        }
    }

    fn draw(&mut self) -> Time {
        let mean = self.condition.service;
        let part = match self.work {
            Work::Spread(spread) => LogNormal::new(-spread * spread / 2.0, spread)
                .expect("a finite spread")
                .sample(&mut self.random),
            Work::Bimodal => {
                let is_long = self.random.random_bool(0.05);
                let spread = self.random.random_range(0.5..1.5);
                if is_long {
                    20.0 * spread / 1.95
                } else {
                    spread / 1.95
                }
            }
        };
        mean * part
    }

    fn push(&mut self, at: Time, ticket: &Rc<Ticket>, kind: Kind) {
        let event = self.event(at, ticket, kind);
        self.events.push(Reverse(event));
    }

    fn event(&mut self, at: Time, ticket: &Rc<Ticket>, kind: Kind) -> Event {
        self.next_number += 1;
        Event {
            at,
            number: self.next_number,
            ticket: Rc::clone(ticket),
            kind,
        }
    }
}
