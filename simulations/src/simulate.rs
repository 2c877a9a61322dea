//! One simulation: clients with limits, before a server, on a `TestTimer`.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures::Stream;
use futures_aggregate::types::TestSleep;
use futures_aggregate::{Limit, TestTimer, Timer, fetch_and_aggregate, from_stream};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::contenders::{Contender, Ended, Rule};
use crate::scenarios::{Demand, Scenario};
use crate::server::{Server, Ticket, Time};

/// The length of a bin of the curves, in round trips.
pub const BIN: f64 = 10.0;
/// The round trips at the beginning of a phase that the figures leave out.
pub const SETTLE: f64 = 100.0;

/// What happened in a phase.
#[derive(Debug, Clone, Default)]
pub struct PhaseFigures {
    /// Answers in a round trip, of each client.
    pub goodput: Vec<f64>,
    /// The part of the requests that were refused or have timed out.
    pub refused: f64,
    /// The 99th percentile of the latency since arrival, in round trips.
    pub p99: f64,
    /// The curves.
    pub bins: Vec<Bin>,
    /// The greatest limit of the first client.
    pub greatest_limit: usize,
}

/// What happened in a short time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bin {
    pub answers: f64,
    /// The mean latency of answers, in round trips, if there were any.
    pub latency: f64,
    /// The limit of the first client at the end.
    pub limit: f64,
}

/// What the requests of a simulation share.
struct World {
    timer: TestTimer,
    began: Instant,
    server: RefCell<Server>,
    records: RefCell<Records>,
    timeout: Option<Time>,
}

impl World {
    fn now(&self) -> Duration {
        self.timer.now() - self.began
    }
}

#[derive(Default)]
struct Records {
    /// Whether the figures of the phase count answers now.
    measures: bool,
    answers: Vec<u32>,
    refused: u32,
    latencies: Vec<Time>,
    bin_answers: u32,
    bin_latency: Time,
}

/// A client: a limit, what sets it, and what it asks for.
struct Client {
    number: usize,
    limit: Limit,
    /// How much the caller asks for, apart from the limit.
    demand: Limit,
    arrivals: RefCell<Arrivals>,
    rule: RefCell<Option<Box<dyn Rule>>>,
    counts: RefCell<Counts>,
}

#[derive(Default)]
struct Counts {
    requests: u64,
    in_flight: usize,
}

struct Arrivals {
    random: StdRng,
    next: Time,
    burst: u32,
    /// Requests in a second and at a time, if they come at random.
    open: Option<(f64, u32)>,
    is_away: bool,
}

/// A request of a client.
struct Request {
    world: Rc<World>,
    client: Rc<Client>,
    arrival: Duration,
    sent: Option<Sent>,
}

struct Sent {
    number: u64,
    at: Duration,
    ticket: Rc<Ticket>,
}

impl Future for Request {
    type Output = Result<(), ()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.sent.is_none() {
            let at = self.world.now();
            let number = {
                let mut counts = self.client.counts.borrow_mut();
                counts.in_flight += 1;
                counts.requests += 1;
                counts.requests
            };
            if let Some(rule) = &mut *self.client.rule.borrow_mut() {
                rule.start(number, at);
            }
            let ticket = self.world.server.borrow_mut().ask();
            self.sent = Some(Sent { number, at, ticket });
        }
        let result = self.sent.as_ref().and_then(|sent| {
            *sent.ticket.waker.borrow_mut() = Some(cx.waker().clone());
            sent.ticket.result.get()
        });
        let Some(is_answered) = result else {
            return Poll::Pending;
        };
        let ended = match is_answered {
            true => Ended::Answered,
            false => Ended::Overloaded,
        };
        self.end(ended);
        Poll::Ready(is_answered.then_some(()).ok_or(()))
    }
}

impl Request {
    fn end(&mut self, ended: Ended) {
        let Some(sent) = self.sent.take() else {
            return;
        };
        sent.ticket.is_gone.set(true);
        let now = self.world.now();
        let mut counts = self.client.counts.borrow_mut();
        if let Some(rule) = &mut *self.client.rule.borrow_mut() {
            let latency = now.saturating_sub(sent.at);
            let limit = rule.end(sent.number, now, latency, counts.in_flight, ended);
            if limit != self.client.limit.get() {
                self.client.limit.set(limit);
            }
        }
        counts.in_flight -= 1;
        let records = &mut *self.world.records.borrow_mut();
        records.refused += u32::from(ended == Ended::Overloaded && records.measures);
        if ended == Ended::Answered {
            let latency = now.saturating_sub(self.arrival).as_secs_f64();
            records.bin_answers += 1;
            records.bin_latency += latency;
            if records.measures {
                records.answers[self.client.number] += 1;
                records.latencies.push(latency);
            }
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let age = self
            .sent
            .as_ref()
            .map(|sent| self.world.now().saturating_sub(sent.at).as_secs_f64());
        let is_late = age
            .zip(self.world.timeout)
            .is_some_and(|(age, timeout)| age >= timeout);
        self.end(match is_late {
            true => Ended::Overloaded,
            false => Ended::Dropped,
        });
    }
}

/// The requests of a client, as they arrive.
struct Requests {
    world: Rc<World>,
    client: Rc<Client>,
    sleep: Option<Pin<Box<TestSleep>>>,
    /// So many are left.
    left: u64,
}

impl Stream for Requests {
    type Item = (u64, Request);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.left == 0 {
                return Poll::Ready(None);
            }
            if let Some(sleep) = &mut self.sleep {
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.sleep = None;
            }
            let now = self.world.now();
            let arrival = self.client.arrivals.borrow_mut().poll(now.as_secs_f64());
            match arrival {
                Ok(arrival) => {
                    let arrival = Duration::from_secs_f64(arrival).min(now);
                    let request = Request {
                        world: Rc::clone(&self.world),
                        client: Rc::clone(&self.client),
                        arrival,
                        sent: None,
                    };
                    self.left -= 1;
                    return Poll::Ready(Some((self.left, request)));
                }
                Err(next) => {
                    let at = self.world.began + Duration::from_secs_f64(next);
                    let at = at.max(self.world.timer.now() + Duration::from_nanos(1));
                    self.sleep = Some(Box::pin(self.world.timer.sleep_until(at)));
                }
            }
        }
    }
}

impl Arrivals {
    /// The time of the next arrival, if it has passed. Otherwise when to look again.
    fn poll(&mut self, now: Time) -> Result<Time, Time> {
        if self.is_away {
            self.next = now;
            return Err(now + 0.01);
        }
        let Some((rate, burst)) = self.open else {
            self.next = now;
            return Ok(now);
        };
        if self.next > now {
            return Err(self.next);
        }
        let arrival = self.next;
        self.burst = (self.burst + 1) % burst;
        if self.burst == 0 {
            let part: f64 = self.random.random_range(f64::MIN_POSITIVE..1.0);
            self.next += -part.ln() * f64::from(burst) / rate;
        }
        Ok(arrival)
    }
}

/// Asks for ever.
async fn ask(world: Rc<World>, client: Rc<Client>, drops: bool) {
    loop {
        let requests = Requests {
            world: Rc::clone(&world),
            client: Rc::clone(&client),
            sleep: None,
            left: if drops { 40 } else { u64::MAX },
        };
        let mut run = fetch_and_aggregate(from_stream(requests), Duration::MAX)
            .concurrency(&client.limit)
            .concurrency(&client.demand)
            .timer(&world.timer);
        if let Some(timeout) = world.timeout {
            run = run.source_timeout(Duration::from_secs_f64(timeout));
        }
        if drops {
            run = run.quorum(30);
        }
        // It keeps no results: there are too many.
        let _ = run.overload_if(|answer| answer.is_err()).await;
    }
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    flag: Arc<WokenFlag>,
}

struct WokenFlag(AtomicBool);

impl Wake for WokenFlag {
    fn wake(self: Arc<Self>) {
        // Relaxed: all of it happens on one thread.
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a scenario. `fixed` has a limit for each phase.
pub fn simulate(
    scenario: &Scenario,
    contender: Contender,
    fixed: &[usize],
    seed: u64,
) -> Vec<PhaseFigures> {
    let timer = TestTimer::new();
    let first = scenario.phases[0];
    let server = Server::new(first.condition, scenario.discipline, scenario.work, seed);
    let world = Rc::new(World {
        began: timer.now(),
        timer,
        server: RefCell::new(server),
        records: RefCell::default(),
        timeout: scenario.timeout,
    });
    let count = scenario.phases.iter().map(|phase| phase.clients).max();
    let clients: Vec<_> = (0..count.unwrap_or(1))
        .map(|number| {
            let (limit, rule) = contender.make(fixed.first().copied().unwrap_or(1));
            let random = StdRng::seed_from_u64(seed ^ (number as u64 + 1) << 32);
            Rc::new(Client {
                number,
                limit,
                demand: Limit::new(usize::MAX),
                arrivals: RefCell::new(Arrivals {
                    random,
                    next: 0.0,
                    burst: 0,
                    open: None,
                    is_away: false,
                }),
                rule: RefCell::new(rule),
                counts: RefCell::default(),
            })
        })
        .collect();
    let runs = if scenario.drops { 4 } else { 1 };
    let mut tasks: Vec<_> = clients
        .iter()
        .flat_map(|client| std::iter::repeat_n(client, runs))
        .map(|client| Task {
            future: Box::pin(ask(Rc::clone(&world), Rc::clone(client), scenario.drops)),
            flag: Arc::new(WokenFlag(AtomicBool::new(true))),
        })
        .collect();
    let mut figures = Vec::new();
    let mut end = 0.0;
    for (number, phase) in scenario.phases.iter().enumerate() {
        let begin = end;
        let trip = phase.condition.round_trip();
        end += phase.length * trip;
        world.server.borrow_mut().condition = phase.condition;
        for client in &clients {
            if contender == Contender::Fixed {
                client.limit.set(fixed[number.min(fixed.len() - 1)]);
            }
            let mut arrivals = client.arrivals.borrow_mut();
            arrivals.is_away = client.number >= phase.clients;
            arrivals.next = begin;
            let capacity = phase.condition.places as f64 / phase.condition.service;
            arrivals.open = match phase.demand {
                Demand::Open(part) => Some((part * capacity, 1)),
                Demand::Bursts(part, size) => Some((part * capacity, size)),
                _ => None,
            };
            client.demand.set(match phase.demand {
                Demand::Part(most) => most,
                _ => usize::MAX,
            });
        }
        let mut found = PhaseFigures::default();
        *world.records.borrow_mut() = Records {
            answers: vec![0; clients.len()],
            ..Records::default()
        };
        let bins = (phase.length / BIN) as u32;
        for bin in 0..bins {
            let settled = SETTLE.min(phase.length / 2.0);
            world.records.borrow_mut().measures = f64::from(bin) * BIN >= settled;
            run_until(&world, &mut tasks, begin + f64::from(bin + 1) * BIN * trip);
            let mut records = world.records.borrow_mut();
            let answers = f64::from(std::mem::take(&mut records.bin_answers));
            let latency = std::mem::take(&mut records.bin_latency);
            let limit = clients[0].limit.get();
            found.greatest_limit = found.greatest_limit.max(limit);
            found.bins.push(Bin {
                answers: answers / BIN,
                latency: latency / answers.max(1.0) / trip,
                limit: limit as f64,
            });
        }
        let mut records = world.records.borrow_mut();
        let trips = phase.length - SETTLE.min(phase.length / 2.0);
        let answers = records.answers.iter().take(phase.clients);
        found.goodput = answers.map(|answers| f64::from(*answers) / trips).collect();
        let refused = f64::from(records.refused);
        found.refused = refused / (refused + records.latencies.len() as f64).max(1.0);
        records.latencies.sort_by(f64::total_cmp);
        let place = records.latencies.len() * 99 / 100;
        found.p99 = records.latencies.get(place).map_or(0.0, |p99| p99 / trip);
        figures.push(found);
    }
    figures
}

/// Lets everything happen until then.
fn run_until(world: &World, tasks: &mut [Task], end: Time) {
    loop {
        for task in &mut *tasks {
            while task.flag.0.swap(false, Ordering::Relaxed) {
                let waker = Waker::from(Arc::clone(&task.flag));
                let cx = &mut Context::from_waker(&waker);
                // It never ends.
                let _ = task.future.as_mut().poll(cx);
            }
        }
        if tasks.iter().any(|task| task.flag.0.load(Ordering::Relaxed)) {
            continue;
        }
        let now = world.now();
        let sleep = world.timer.next_deadline();
        let sleep = sleep.map(|at| at.saturating_duration_since(world.began));
        let server = world.server.borrow().next();
        // Rounded up, so that the event has come.
        let server = server.map(|at| Duration::from_nanos((at * 1e9).ceil() as u64));
        let end = Duration::from_secs_f64(end);
        let next = [sleep, server].into_iter().flatten().min();
        let next = next.unwrap_or(end).min(end).max(now);
        world.timer.advance(next - now);
        // One nanosecond more than the clock, whose time is rounded: otherwise an event might not have come.
        world.server.borrow_mut().advance(next.as_secs_f64() + 1e-9);
        if next >= end {
            return;
        }
    }
}
