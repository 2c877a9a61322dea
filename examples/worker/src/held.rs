//! Bookkeeping of the entries that this worker has taken and not settled.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The ids of the entries, each with the time of the last reply by which Redis gave it to this worker.
#[derive(Default)]
pub(crate) struct Held {
    since: HashMap<String, Instant>,
}

impl Held {
    /// Adds an entry that Redis has given to this worker. Returns whether it is new. It is not if the
    /// worker claimed an overdue entry that it still works on, for example after the worker was frozen.
    pub(crate) fn add(&mut self, id: &str, now: Instant) -> bool {
        self.since.insert(id.to_owned(), now).is_none()
    }

    /// Removes an entry that is settled.
    pub(crate) fn remove(&mut self, id: &str) {
        self.since.remove(id);
    }

    /// Restarts the time of an entry, if it is not settled yet.
    pub(crate) fn renew(&mut self, id: &str, now: Instant) {
        if let Some(since) = self.since.get_mut(id) {
            *since = now;
        }
    }

    /// All entries, each with the time for which Redis has heard nothing of it at least, if it is still
    /// this worker's. If another worker has taken the entry since, Redis has heard of it later.
    pub(crate) fn idle(&self, now: Instant) -> Vec<(String, Duration)> {
        let idle = |(id, &since): (&String, _)| (id.clone(), now.duration_since(since));
        self.since.iter().map(idle).collect()
    }

    /// The same of one entry. Zero if it is not held.
    pub(crate) fn idle_of(&self, id: &str, now: Instant) -> Duration {
        let since = self.since.get(id);
        since.map_or(Duration::ZERO, |&since| now.duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_is_held_once_and_its_time_counts_from_the_last_reply() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut held = Held::default();
        assert!(held.add("1-0", start));
        assert!(held.add("2-0", start));
        assert!(!held.add("1-0", after(1)));
        held.renew("2-0", after(3));
        held.renew("3-0", after(3));

        let mut idle = held.idle(after(5));
        idle.sort();
        let expected = [("1-0", 4), ("2-0", 2)];
        assert_eq!(
            idle,
            expected.map(|(id, seconds)| (id.to_owned(), Duration::from_secs(seconds)))
        );
        assert_eq!(held.idle_of("1-0", after(5)), Duration::from_secs(4));
        assert_eq!(held.idle_of("3-0", after(5)), Duration::ZERO);

        held.remove("1-0");
        assert_eq!(held.idle(after(5)).len(), 1);
        assert!(held.add("1-0", after(6)));
    }
}
