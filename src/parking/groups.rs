//! Groups of sources with the same key: how many of each are in flight, and which wait.

use std::collections::{BTreeSet, VecDeque};

/// The number of the group of all sources without a key.
pub(super) const UNLIMITED: usize = 0;

/// Groups, each with a number, and sources of type `S` that wait in them.
pub struct Groups<S> {
    groups: Vec<Group<S>>,
    /// The numbers of groups that are not used.
    free: Vec<usize>,
    /// The groups in which a source may start.
    open: Open,
    /// The number of sources that wait.
    waiting: usize,
}

struct Group<S> {
    limit: usize,
    in_flight: usize,
    /// The sources that wait, with their positions, in the order of the list.
    queue: VecDeque<(usize, S)>,
}

/// The groups in which a source may start, sorted: the position of that source, and the number of the group.
#[derive(Default)]
struct Open {
    /// The least one. Without keys there is no other.
    first: Option<(usize, usize)>,
    others: BTreeSet<(usize, usize)>,
}

impl Open {
    fn insert(&mut self, group: (usize, usize)) {
        let later = match self.first {
            Some(first) if first < group => group,
            first => {
                self.first = Some(group);
                let Some(first) = first else { return };
                first
            }
        };
        self.others.insert(later);
    }

    fn remove(&mut self, group: (usize, usize)) {
        if self.first == Some(group) {
            self.first = self.others.pop_first();
        } else {
            self.others.remove(&group);
        }
    }
}

impl<S> Group<S> {
    fn has_room(&self) -> bool {
        self.in_flight < self.limit
    }

    /// The position of the source that may start, if there is one.
    fn first(&self) -> Option<usize> {
        let (position, _) = self.queue.front().filter(|_| self.has_room())?;
        Some(*position)
    }
}

impl<S> Groups<S> {
    pub(super) fn new() -> Self {
        let mut groups = Self {
            groups: Vec::new(),
            free: Vec::new(),
            open: Open::default(),
            waiting: 0,
        };
        groups.add(usize::MAX);
        groups
    }

    /// The number of sources that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The number of a new group.
    pub(super) fn add(&mut self, limit: usize) -> usize {
        let group = Group {
            limit,
            in_flight: 0,
            queue: VecDeque::new(),
        };
        match self.free.pop() {
            Some(number) => {
                self.groups[number] = group;
                number
            }
            None => {
                self.groups.push(group);
                self.groups.len() - 1
            }
        }
    }

    /// Forgets a group that has no source. Returns whether it had none.
    pub(super) fn remove_unused(&mut self, number: usize) -> bool {
        let group = &self.groups[number];
        let is_unused = group.in_flight == 0 && group.queue.is_empty();
        if is_unused {
            self.free.push(number);
        }
        is_unused
    }

    /// Lets a source wait in its group, behind those before it.
    pub(super) fn wait(&mut self, number: usize, position: usize, source: S) {
        self.update(number, |group| group.queue.push_back((position, source)));
        self.waiting += 1;
    }

    /// The first source that may start.
    pub(super) fn first(&self) -> Option<&S> {
        let (_, number) = self.open.first?;
        let (_, first) = self.groups[number].queue.front()?;
        Some(first)
    }

    /// Takes the first source that may start. It is in flight from now on.
    pub(super) fn start_first(&mut self) -> Option<S> {
        let (_, number) = self.open.first?;
        let first = self.update(number, |group| {
            group.in_flight += 1;
            group.queue.pop_front()
        });
        self.waiting -= 1;
        Some(first?.1)
    }

    /// A source of the group has ended.
    pub(super) fn leave(&mut self, number: usize) {
        self.update(number, |group| group.in_flight -= 1);
    }

    /// Takes all sources that wait.
    pub(super) fn take_all(&mut self) -> Vec<S> {
        self.open = Open::default();
        self.waiting = 0;
        let queues = self
            .groups
            .iter_mut()
            .flat_map(|group| group.queue.drain(..));
        queues.map(|(_, source)| source).collect()
    }

    /// Changes a group, and notes which of its sources may start.
    fn update<R>(&mut self, number: usize, change: impl FnOnce(&mut Group<S>) -> R) -> R {
        let group = &mut self.groups[number];
        let before = group.first();
        let result = change(group);
        let after = group.first();
        if before != after {
            if let Some(position) = before {
                self.open.remove((position, number));
            }
            if let Some(position) = after {
                self.open.insert((position, number));
            }
        }
        result
    }
}
