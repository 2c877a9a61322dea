//! A simple model of a run, without wakers, slots and timers. Random schedules compare the real run
//! with it; where the two differ, one of them is wrong.

mod compare;
mod limits;
mod operations;
mod schedule;
#[path = "../../tests/common/source.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the integration tests"
)]
mod source;

use crate::Reason;
use limits::InUse;
use schedule::{Kind, Operation, Setup, Ticks};

/// How a run ends.
type End = Result<(), Reason>;

/// The model of a run.
struct Model {
    /// How the run is set up.
    setup: Setup,
    /// All sources; their indices are their ids.
    sources: Vec<Source>,
    /// What is in use of its limits.
    in_use: InUse,
    /// The number of items of the stream that have arrived. Its end counts as one.
    arrived: usize,
    /// Whether the run has seen the end of the stream.
    has_seen_end: bool,
    /// The time on the clock.
    now: Ticks,
    /// The deadline of the whole run, known from its first poll.
    deadline: Option<Ticks>,
    /// Whether the run was polled.
    is_polled: bool,
    /// Whether the signal of `cancel_on` has completed.
    is_cancelled: bool,
    /// Whether the signal of `expire_on` has completed.
    is_expired: bool,
    /// Whether the run was polled before the signal of `drain_on` completed.
    has_started: bool,
    /// Whether the signal of `drain_on` has completed, and whether the run was polled since.
    is_drained: bool,
    has_seen_drain: bool,
    /// Whether the deadline is the end of the drain timeout.
    ends_drain: bool,
    /// A source that was taken from the stream after that, to look for its end.
    left_out: Option<usize>,
    /// The number of outcomes that were released in the order of their sources.
    released: usize,
    /// Whether a deadline had passed in the last poll. The real run may need more polls for it.
    reached_deadline: bool,
    /// The number of outcomes in the channel.
    in_channel: usize,
    /// The number of outcomes that wait for room in the channel.
    queued: usize,
    /// How the run ended, if it has.
    end: Option<End>,
}

/// A source is ready at the first poll after it was given an answer.
#[derive(Clone, Default)]
struct Source {
    /// Whether it succeeds, if it was given an answer.
    answer: Option<bool>,
    /// In how many further polls it wakes itself.
    self_wakes: u8,
    /// Whether it was woken since its last poll.
    is_woken: bool,
    /// How often it was polled.
    polls: usize,
    /// How far it has come.
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    NotStarted,
    InFlight {
        deadline: Option<Ticks>,
    },
    Succeeded,
    Failed,
    TimedOut,
}

impl Source {
    fn is_in_flight(&self) -> bool {
        matches!(self.state, State::InFlight { .. })
    }

    fn is_finished(&self) -> bool {
        self.state != State::NotStarted && !self.is_in_flight()
    }

    fn is_late(&self, due: Ticks) -> bool {
        matches!(self.state, State::InFlight { deadline: Some(deadline) } if deadline <= due)
    }

    fn poll(&mut self) {
        self.polls += 1;
        self.is_woken = self.self_wakes > 0;
        self.self_wakes = self.self_wakes.saturating_sub(1);
        match self.answer {
            Some(true) => self.state = State::Succeeded,
            Some(false) => self.state = State::Failed,
            None => {}
        }
    }
}

impl Model {
    fn new(setup: Setup) -> Self {
        let sources = setup.sources.iter();
        let sources = sources.map(|&self_wakes| Source {
            self_wakes,
            ..Source::default()
        });
        Self {
            sources: sources.collect(),
            in_use: InUse::new(&setup),
            arrived: 0,
            has_seen_end: false,
            setup,
            now: 0,
            deadline: None,
            is_polled: false,
            is_cancelled: false,
            is_expired: false,
            has_started: false,
            is_drained: false,
            has_seen_drain: false,
            ends_drain: false,
            left_out: None,
            released: 0,
            reached_deadline: false,
            in_channel: 0,
            queued: 0,
            end: None,
        }
    }

    fn answer(&mut self, id: usize, succeeds: bool) {
        self.sources[id].answer = Some(succeeds);
        self.wake(id);
    }

    fn wake(&mut self, id: usize) {
        self.sources[id].is_woken = self.sources[id].state != State::NotStarted;
    }

    /// Polls the run.
    fn poll(&mut self) {
        let is_first = !std::mem::replace(&mut self.is_polled, true);
        if is_first {
            let timeout = self.setup.timeout.map(|timeout| self.now + timeout);
            self.deadline = timeout.into_iter().chain(self.setup.deadline).min();
        }
        self.reached_deadline = false;
        self.end = self.step(is_first);
        if self.end.is_some() {
            self.pass_on_rest();
        }
    }

    /// One poll, in the order of the rules of a run. Returns how it ends, if it does.
    fn step(&mut self, is_first: bool) -> Option<End> {
        if self.is_cancelled {
            return Some(Err(Reason::Cancelled));
        }
        if self.is_drained && !std::mem::replace(&mut self.has_seen_drain, true) {
            self.start_drain_timeout();
        }
        if is_first && self.setup.deadline.is_some_and(|at| at <= self.now) {
            return Some(Err(Reason::TimedOut));
        }
        self.flush(usize::MAX);
        self.poll_woken();
        self.start_new();
        self.stop_late();
        self.flush(usize::MAX);
        if let Some(end) = self.completion() {
            return Some(end);
        }
        if self.is_past_deadline() || self.is_expired {
            self.reached_deadline = true;
            // A result beats the timeout, unless the timeout is zero.
            if self.setup.timeout != Some(0) {
                self.poll_woken();
                self.flush(usize::MAX);
            }
            let is_drain = self.ends_drain && self.is_past_deadline() && !self.is_expired;
            let reason = if is_drain {
                Reason::Drained
            } else {
                Reason::TimedOut
            };
            let end = self.completion().unwrap_or(Err(reason));
            return Some(end.map_err(|_| reason));
        }
        None
    }

    fn start_drain_timeout(&mut self) {
        let ends = self.setup.drain_timeout.map(|timeout| self.now + timeout);
        if let Some(ends) = ends.filter(|&ends| self.deadline.is_none_or(|at| ends < at)) {
            self.deadline = Some(ends);
            self.ends_drain = true;
        }
    }

    /// How the run ends if it is complete, or if it drains and every source that has started is over.
    fn completion(&mut self) -> Option<End> {
        if self.occupied() > 0 {
            return None;
        }
        if !self.has_seen_drain {
            let are_finished = self.sources.iter().all(Source::is_finished);
            return (are_finished && !self.has_unseen()).then_some(Ok(()));
        }
        if !self.has_started && self.setup.operation == Operation::Process {
            // The batch was never started.
            return Some(Err(Reason::Drained));
        }
        let next = self.next_not_started();
        match next {
            Some(id) if self.setup.kind == Kind::Stream && self.has_arrived(id) => {
                self.left_out = Some(id);
            }
            None => self.has_seen_end |= self.has_arrived(self.sources.len()),
            Some(_) => {}
        }
        let is_complete = next.is_none() && !self.has_unseen();
        Some(if is_complete {
            Ok(())
        } else {
            Err(Reason::Drained)
        })
    }

    /// The run has ended: outcomes that wait for those of earlier sources are passed on.
    fn pass_on_rest(&mut self) {
        let behind = self.sources.iter().skip(self.released);
        let rest = match self.setup.holds_back() {
            true => behind.filter(|source| source.is_finished()).count(),
            false => 0,
        };
        self.queued += rest;
        self.released = self.sources.len();
        match self.setup.operation {
            Operation::ForEach => {}
            _ if rest > 0 => self.flush(usize::MAX),
            // The blocked send of the oldest outcome is polled one last time.
            _ => self.flush(1),
        }
    }

    fn poll_woken(&mut self) {
        for id in 0..self.sources.len() {
            if self.sources[id].is_in_flight() && self.sources[id].is_woken {
                self.poll_source(id);
            }
        }
    }

    fn poll_source(&mut self, id: usize) {
        self.sources[id].poll();
        if self.sources[id].is_finished() {
            self.deliver();
        }
    }

    /// Passes on the outcome of a source, or, in order, those that need not wait any more.
    fn deliver(&mut self) {
        if !self.setup.holds_back() {
            return self.deliver_now();
        }
        while self
            .sources
            .get(self.released)
            .is_some_and(Source::is_finished)
        {
            self.released += 1;
            self.deliver_now();
        }
    }

    /// Puts an outcome into the channel, or queues it.
    fn deliver_now(&mut self) {
        let is_direct = self.setup.operation != Operation::ForEach;
        if is_direct && self.queued == 0 && self.channel_has_room() {
            self.in_channel += 1;
        } else {
            self.queued += 1;
        }
    }

    fn start_new(&mut self) {
        self.has_started |= !self.has_seen_drain;
        while let Some(id) = self.take_next() {
            self.count_start();
            let timeout = self.setup.timeout_of(id);
            let deadline = timeout.map(|timeout| self.now + timeout);
            self.sources[id].state = State::InFlight { deadline };
            self.poll_source(id);
        }
        self.has_seen_end |= self.can_see_end();
    }

    fn next_not_started(&self) -> Option<usize> {
        let is_next = |source: &Source| source.state == State::NotStarted;
        self.sources.iter().position(is_next)
    }

    /// The number of sources in flight and of outcomes that wait to be passed on, unless they wait for a
    /// source that will not start.
    fn occupied(&self) -> usize {
        match (self.has_seen_drain, self.in_flight()) {
            (true, 0) => self.queued,
            (_, in_flight) => in_flight + self.waiting(),
        }
    }

    /// The number of outcomes that wait to be passed on.
    fn waiting(&self) -> usize {
        let behind = self.sources.iter().skip(self.released);
        let held = match self.setup.holds_back() {
            true => behind.filter(|source| source.is_finished()).count(),
            false => 0,
        };
        self.queued + held
    }

    /// Whether an item has arrived. That of a list always has.
    fn has_arrived(&self, id: usize) -> bool {
        self.setup.kind != Kind::Stream || id < self.arrived
    }

    /// Whether the run may have ended before it saw all sources.
    fn has_unseen(&self) -> bool {
        self.setup.kind == Kind::Stream && !self.has_seen_end
    }

    fn stop_late(&mut self) {
        let due = self.deadline.map_or(self.now, |at| at.min(self.now));
        for id in 0..self.sources.len() {
            if !self.sources[id].is_late(due) {
                continue;
            }
            if self.sources[id].is_woken && self.setup.timeout_of(id) != Some(0) {
                self.poll_source(id);
            }
            if self.sources[id].is_in_flight() {
                self.sources[id].state = State::TimedOut;
                self.reached_deadline = true;
                self.deliver();
            }
        }
    }

    fn channel_has_room(&self) -> bool {
        self.in_channel < self.setup.capacity
    }

    /// Moves up to `most` queued outcomes into the channel, as far as there is room.
    fn flush(&mut self, most: usize) {
        let room = self.setup.capacity - self.in_channel;
        let number = self.queued.min(room).min(most);
        self.queued -= number;
        self.in_channel += number;
    }

    fn in_flight(&self) -> usize {
        let all = self.sources.iter();
        all.filter(|source| source.is_in_flight()).count()
    }

    fn is_past_deadline(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= self.now)
    }

    /// Whether the run would have timed out in the same poll, if it had not been drained.
    fn is_out_of_time(&self) -> bool {
        self.is_past_deadline() || self.is_expired
    }

    /// Whether the real run may need another poll, to look for the end of its stream.
    fn may_look_for_end(&self) -> bool {
        self.has_seen_drain && self.setup.kind == Kind::Stream
    }

    /// Whether the real run may have polled a source more often, in the grace of a deadline.
    fn had_grace(&self, id: usize) -> bool {
        self.reached_deadline || self.sources[id].state == State::TimedOut
    }

    /// Whether a finished source was woken. The real run may then poll another source in its slot.
    fn has_stale_wake(&self) -> bool {
        let mut all = self.sources.iter();
        all.any(|source| source.is_finished() && source.is_woken)
    }

    /// Why the run must be polled again, if it must.
    fn pending_work(&self) -> Option<String> {
        let woken = |source: &Source| source.is_in_flight() && source.is_woken;
        let late = |source: &Source| source.is_late(self.now);
        if let Some(id) = self.sources.iter().position(woken) {
            Some(format!("source {id} was woken"))
        } else if let Some(id) = self.sources.iter().position(late) {
            Some(format!("source {id} is late"))
        } else if self.is_cancelled || self.is_expired || self.is_drained != self.has_seen_drain {
            Some("a signal has completed".to_owned())
        } else if self.has_seen_drain && self.occupied() == 0 {
            Some("the drain is over".to_owned())
        } else if self.is_past_deadline() {
            Some("the deadline has passed".to_owned())
        } else if self.queued > 0 && self.channel_has_room() {
            Some("there is room in the channel".to_owned())
        } else if self.next_source().is_some() {
            Some("another source can start".to_owned())
        } else if self.can_park() {
            Some("there may be a source whose key has room".to_owned())
        } else if self.has_unseen() && self.can_see_end() {
            Some("the stream has ended".to_owned())
        } else {
            None
        }
    }
}
