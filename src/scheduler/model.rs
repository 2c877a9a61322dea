//! A run in plain words, to compare the real one with: no wakers, no slots, no timers, and no wish
//! to be fast. Where the two come to differ, one of them is wrong.

mod compare;
mod operations;
mod schedule;
#[path = "../../tests/common/source.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the tests of the promises"
)]
mod source;

use crate::Reason;
use schedule::{Setup, Ticks};

/// How a run ends.
type End = Result<(), Reason>;

struct Model {
    setup: Setup,
    sources: Vec<Source>,
    now: Ticks,
    /// The deadline of the whole, once it was polled.
    whole: Option<Ticks>,
    is_polled: bool,
    is_cancelled: bool,
    is_expired: bool,
    /// Whether the last poll came to a deadline. The real run may take some polls more for it.
    came_to_deadline: bool,
    /// Outcomes that a receiver could take.
    in_channel: usize,
    /// Outcomes that wait for room in the channel.
    in_line: usize,
    end: Option<End>,
}

/// A source answers at the first poll for which it was given an answer.
#[derive(Clone, Default)]
struct Source {
    answer: Option<bool>,
    /// In how many polls it still wakes itself.
    restless: u8,
    is_woken: bool,
    polls: usize,
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

    fn is_gone(&self) -> bool {
        self.state != State::NotStarted && !self.is_in_flight()
    }

    fn is_late(&self, due: Ticks) -> bool {
        matches!(self.state, State::InFlight { deadline: Some(deadline) } if deadline <= due)
    }

    fn poll(&mut self) {
        self.polls += 1;
        self.is_woken = self.restless > 0;
        self.restless = self.restless.saturating_sub(1);
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
        let sources = sources.map(|&restless| Source {
            restless,
            ..Source::default()
        });
        Self {
            sources: sources.collect(),
            setup,
            now: 0,
            whole: None,
            is_polled: false,
            is_cancelled: false,
            is_expired: false,
            came_to_deadline: false,
            in_channel: 0,
            in_line: 0,
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

    /// The rules of a run, in their order.
    fn poll(&mut self) {
        let is_first = !std::mem::replace(&mut self.is_polled, true);
        if is_first {
            self.whole = self.setup.timeout.map(|timeout| self.now + timeout);
        }
        self.came_to_deadline = false;
        self.end = self.step();
    }

    fn step(&mut self) -> Option<End> {
        if self.is_cancelled {
            // The oldest outcome in line takes what room there is.
            self.hand_over(1);
            return Some(Err(Reason::Cancelled));
        }
        self.hand_over(usize::MAX);
        self.poll_woken();
        self.start_new();
        self.stop_late();
        self.hand_over(usize::MAX);
        if self.is_complete() {
            return Some(Ok(()));
        }
        if self.is_over() || self.is_expired {
            self.came_to_deadline = true;
            // A result beats the timeout, but for those that got no time at all.
            if self.setup.timeout != Some(0) {
                self.poll_woken();
                self.hand_over(usize::MAX);
            }
            return Some(match self.is_complete() {
                true => Ok(()),
                false => Err(Reason::TimedOut),
            });
        }
        None
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
        if self.sources[id].is_gone() {
            self.deliver();
        }
    }

    /// Puts an outcome into the channel, or in line.
    fn deliver(&mut self) {
        if self.in_line == 0 && self.has_room() {
            self.in_channel += 1;
        } else {
            self.in_line += 1;
        }
    }

    fn start_new(&mut self) {
        let deadline = self.setup.source_timeout.map(|timeout| self.now + timeout);
        while let Some(id) = self.next_source() {
            self.sources[id].state = State::InFlight { deadline };
            self.poll_source(id);
        }
    }

    /// The next source to be started, if there is room for it.
    fn next_source(&self) -> Option<usize> {
        let is_next = |source: &Source| source.state == State::NotStarted;
        let has_room = self.in_flight() + self.in_line < self.setup.limit;
        let next = self.sources.iter().position(is_next);
        next.filter(|_| has_room)
    }

    fn stop_late(&mut self) {
        let due = self.whole.map_or(self.now, |whole| whole.min(self.now));
        for id in 0..self.sources.len() {
            if !self.sources[id].is_late(due) {
                continue;
            }
            if self.sources[id].is_woken && self.setup.source_timeout != Some(0) {
                self.poll_source(id);
            }
            if self.sources[id].is_in_flight() {
                self.sources[id].state = State::TimedOut;
                self.came_to_deadline = true;
                self.deliver();
            }
        }
    }

    fn has_room(&self) -> bool {
        self.in_channel < self.setup.room
    }

    /// Puts outcomes from the line into the channel, as far as there is room.
    fn hand_over(&mut self, most: usize) {
        let room = self.setup.room - self.in_channel;
        let number = self.in_line.min(room).min(most);
        self.in_line -= number;
        self.in_channel += number;
    }

    fn in_flight(&self) -> usize {
        let all = self.sources.iter();
        all.filter(|source| source.is_in_flight()).count()
    }

    fn is_over(&self) -> bool {
        self.whole.is_some_and(|whole| whole <= self.now)
    }

    fn is_complete(&self) -> bool {
        self.sources.iter().all(Source::is_gone) && self.in_line == 0
    }

    /// Whether a source may have been polled more than once while a deadline had its grace.
    fn had_grace(&self, id: usize) -> bool {
        self.came_to_deadline || self.sources[id].state == State::TimedOut
    }

    /// Whether a source that is gone was woken, which may cost another one a poll.
    fn is_stale(&self) -> bool {
        let mut all = self.sources.iter();
        all.any(|source| source.is_gone() && source.is_woken)
    }

    /// Why the run has to be polled, if it has to be.
    fn work(&self) -> Option<String> {
        let woken = |source: &Source| source.is_in_flight() && source.is_woken;
        let late = |source: &Source| source.is_late(self.now);
        if let Some(id) = self.sources.iter().position(woken) {
            Some(format!("source {id} was woken"))
        } else if let Some(id) = self.sources.iter().position(late) {
            Some(format!("source {id} is late"))
        } else if self.is_cancelled || self.is_expired {
            Some("its signal was given".to_owned())
        } else if self.is_over() {
            Some("its time is up".to_owned())
        } else if self.in_line > 0 && self.has_room() {
            Some("there is room in the channel".to_owned())
        } else if self.next_source().is_some() {
            Some("there is room for another source".to_owned())
        } else {
            None
        }
    }
}
