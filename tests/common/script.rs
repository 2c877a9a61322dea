//! Sources that follow a script, and a driver that interferes with their run before a chosen poll.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::Stream;
use futures_aggregate::types::{Each, FromStream};
use futures_aggregate::{Event, TestTimer, each, from_stream};

use super::Task;

/// The behaviour of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    Succeeds,
    Fails,
    /// Wakes itself this many times before it succeeds.
    Yields(u8),
    /// Succeeds after the world has woken it.
    Waits,
    /// In its first poll, wakes a source that waits, and uses all wakers that were left behind. Then it
    /// yields once, and succeeds.
    WakesOthers,
    Never,
    /// Succeeds, and leaves its waker with the world.
    LeavesWaker,
    /// Panics in the poll after this many polls in which it wakes itself.
    Panics(u8),
    /// Yields once, succeeds, and panics when it is dropped.
    PanicsInDrop,
}

impl Script {
    pub const ALL: [Self; 10] = [
        Self::Succeeds,
        Self::Fails,
        Self::Yields(2),
        Self::Waits,
        Self::WakesOthers,
        Self::Never,
        Self::LeavesWaker,
        Self::Panics(0),
        Self::Panics(1),
        Self::PanicsInDrop,
    ];
}

/// Where the sources of a run come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    List,
    /// Ids and a closure. For a source that panics in its first poll, the closure panics.
    Each,
    Stream(Arrival),
    /// Batches from a stream, with sources from lists.
    StreamOfLists(Arrival),
}

/// The behaviour of a stream before each item, and before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    Ready,
    /// Wakes itself once.
    Yields,
    /// Waits until the world wakes it, from another thread.
    Waits,
    /// Panics once.
    Panics,
}

impl Arrival {
    pub const ALL: [Self; 4] = [Self::Ready, Self::Yields, Self::Waits, Self::Panics];
}

/// The deadline of a run. Only an interference lets the clock come to it.
pub const DEADLINE: Duration = Duration::from_secs(3600);

/// By this much the clock moves after each poll.
const TICK: Duration = Duration::from_micros(100);

/// The state that the sources of a run share with its driver.
pub struct World {
    pub timer: TestTimer,
    alive: RefCell<BTreeMap<usize, Script>>,
    waiting: RefCell<BTreeMap<usize, Waker>>,
    open: RefCell<BTreeSet<usize>>,
    /// Wakers that were left behind.
    kept: RefCell<Vec<Waker>>,
    /// Whether the next source that is polled panics.
    panics: Cell<bool>,
    /// For each source, the number of events at its start and at its end.
    told: RefCell<BTreeMap<usize, (usize, usize)>>,
    /// Sources with a `NotStarted` event.
    named: RefCell<BTreeSet<usize>>,
    /// How many items streams have yielded.
    yielded: Cell<usize>,
    /// Whether these sources may be in flight together.
    pub may_run: Cell<fn(&[usize]) -> bool>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            timer: TestTimer::new(),
            alive: RefCell::default(),
            waiting: RefCell::default(),
            open: RefCell::default(),
            kept: RefCell::default(),
            panics: Cell::default(),
            told: RefCell::default(),
            named: RefCell::default(),
            yielded: Cell::default(),
            may_run: Cell::new(|_| true),
        }
    }
}

impl World {
    pub fn source(self: &Rc<Self>, id: usize, script: Script) -> Scripted {
        Scripted {
            id,
            script,
            polls: 0,
            world: Rc::clone(self),
        }
    }

    /// A list of sources with consecutive ids from `first` on.
    pub fn list(self: &Rc<Self>, first: usize, scripts: &[Script]) -> Vec<(usize, Scripted)> {
        (first..)
            .zip(scripts)
            .map(|(id, &script)| (id, self.source(id, script)))
            .collect()
    }

    /// Ids from `first` on, and a closure that makes their sources.
    pub fn each(
        self: &Rc<Self>,
        first: usize,
        scripts: &[Script],
    ) -> Each<std::ops::Range<usize>, impl FnMut(&usize) -> Scripted + use<>> {
        let (world, scripts) = (Rc::clone(self), scripts.to_vec());
        each(first..first + scripts.len(), move |&id| {
            let script = scripts[id - first];
            assert!(script != Script::Panics(0), "scripted panic");
            world.source(id, script)
        })
    }

    /// A stream of items that arrive in this way. Its gates are numbered from `first` on.
    pub fn stream<T>(
        self: &Rc<Self>,
        first: usize,
        items: Vec<T>,
        arrival: Arrival,
    ) -> FromStream<Arriving<T>> {
        from_stream(Arriving {
            items: items.into_iter(),
            gate: STREAMS + first,
            arrival,
            is_announced: false,
            world: Rc::clone(self),
        })
    }

    /// How many items streams have yielded.
    pub fn yielded(&self) -> usize {
        self.yielded.get()
    }

    pub fn alive(&self) -> usize {
        self.alive.borrow().len()
    }

    /// Opens a gate: that of a source that waits, or of a signal.
    pub fn open(&self, id: usize) {
        self.open.borrow_mut().insert(id);
        let waker = self.waiting.borrow_mut().remove(&id);
        let Some(waker) = waker else {
            return;
        };
        if (STREAMS..SIGNALS).contains(&id) {
            wake_elsewhere(waker);
        } else {
            waker.wake();
        }
    }

    /// Opens the first gate at which a source or a stream waits. Returns whether there was one.
    fn open_one(&self) -> bool {
        let first = self.waiting.borrow().keys().next().copied();
        let first = first.filter(|&id| id < SIGNALS);
        first.inspect(|&id| self.open(id)).is_some()
    }

    /// Sources that were woken and not polled. There must be none while the run waits.
    pub fn forgotten(&self) -> Vec<(usize, Script)> {
        let (alive, waiting) = (self.alive.borrow(), self.waiting.borrow());
        alive
            .iter()
            .filter(|(id, script)| **script != Script::Never && !waiting.contains_key(id))
            .map(|(&id, &script)| (id, script))
            .collect()
    }

    /// Whether a source waits for something that never happens.
    fn has_endless(&self) -> bool {
        let alive = self.alive.borrow();
        alive.values().any(|&script| script == Script::Never)
    }

    /// Uses the wakers that were left behind, whose sources may be gone.
    fn wake_kept(&self) {
        let kept = self.kept.take();
        kept.into_iter().for_each(Waker::wake);
    }

    /// Notes an event.
    pub fn note<T, E>(&self, event: Event<'_, usize, T, E>) {
        let id = *event.id();
        let mut told = self.told.borrow_mut();
        match event {
            Event::Started { .. } => {
                let is_drained = self.open.borrow().contains(&DRAIN);
                assert!(!is_drained, "{id} starts after the signal to drain");
                told.entry(id).or_default().0 += 1;
                let in_flight = told.iter().filter(|(_, (starts, ends))| starts > ends);
                let in_flight: Vec<_> = in_flight.map(|(id, _)| *id).collect();
                assert!(self.may_run.get()(&in_flight), "{in_flight:?} in flight");
            }
            Event::Finished { .. } | Event::Unfinished { .. } => {
                told.entry(id).or_default().1 += 1;
            }
            Event::NotStarted { .. } => {
                assert!(!told.contains_key(&id), "{id} has started");
                assert!(self.named.borrow_mut().insert(id), "{id} is named twice");
            }
            event => panic!("{event:?}"),
        }
    }
}

/// Wakes from another thread, and waits until that is done.
fn wake_elsewhere(waker: Waker) {
    thread_local! {
        /// One thread for all wakeups of a test. A thread for each one would take most of the time.
        static OTHER: (Sender<Waker>, Receiver<()>) = {
            let (sender, wakers) = channel::<Waker>();
            let (report, done) = channel();
            std::thread::spawn(move || {
                for waker in wakers {
                    waker.wake();
                    let _ = report.send(());
                }
            });
            (sender, done)
        };
    }
    OTHER.with(|(sender, done)| {
        sender.send(waker).unwrap();
        done.recv().unwrap();
    });
}

/// The numbers of the gates of streams start here, one gate for each item and one for the end.
const STREAMS: usize = 500;
/// The numbers of the gates of signals start here.
pub const SIGNALS: usize = 1000;
pub const CANCEL: usize = SIGNALS;
pub const EXPIRE: usize = SIGNALS + 1;
pub const DRAIN: usize = SIGNALS + 2;

pub struct Scripted {
    id: usize,
    script: Script,
    polls: u8,
    world: Rc<World>,
}

impl Scripted {
    fn yield_once(&mut self, cx: &Context<'_>) -> Poll<Result<usize, usize>> {
        self.polls += 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn keep_waker(&self, cx: &Context<'_>) {
        self.world.kept.borrow_mut().push(cx.waker().clone());
    }

    fn wait(&self, cx: &Context<'_>) -> Poll<Result<usize, usize>> {
        if self.world.open.borrow().contains(&self.id) {
            return Poll::Ready(Ok(self.id));
        }
        let mut waiting = self.world.waiting.borrow_mut();
        waiting.insert(self.id, cx.waker().clone());
        Poll::Pending
    }
}

impl Future for Scripted {
    type Output = Result<usize, usize>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.id < SIGNALS {
            self.world.alive.borrow_mut().insert(self.id, self.script);
            let told = self.world.told.borrow().get(&self.id).copied();
            assert_eq!(
                told,
                Some((1, 0)),
                "a source is polled without a start event"
            );
            assert!(!self.world.panics.take(), "scripted panic of any source");
        }
        match self.script {
            Script::Succeeds => Poll::Ready(Ok(self.id)),
            Script::Fails => Poll::Ready(Err(self.id)),
            Script::Yields(times) if self.polls < times => self.yield_once(cx),
            Script::WakesOthers | Script::PanicsInDrop if self.polls == 0 => {
                if self.script == Script::WakesOthers {
                    self.world.open_one();
                    self.world.wake_kept();
                }
                self.yield_once(cx)
            }
            Script::Panics(polls) if self.polls < polls => self.yield_once(cx),
            Script::Panics(_) => panic!("scripted panic"),
            Script::Yields(_) | Script::WakesOthers | Script::PanicsInDrop => {
                Poll::Ready(Ok(self.id))
            }
            Script::Waits => self.wait(cx),
            Script::LeavesWaker => {
                self.keep_waker(cx);
                Poll::Ready(Ok(self.id))
            }
            Script::Never => {
                self.keep_waker(cx);
                Poll::Pending
            }
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.world.alive.borrow_mut().remove(&self.id);
        self.world.waiting.borrow_mut().remove(&self.id);
        if self.script == Script::PanicsInDrop && !std::thread::panicking() {
            panic!("scripted panic in a drop");
        }
    }
}

/// A stream of scripted sources, or of lists of scripted sources.
pub struct Arriving<T> {
    items: std::vec::IntoIter<T>,
    /// The gate of the next item.
    gate: usize,
    arrival: Arrival,
    /// Whether the stream has yielded or panicked before the next item.
    is_announced: bool,
    world: Rc<World>,
}

impl<T> Unpin for Arriving<T> {}

impl<T> Stream for Arriving<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let is_announced = std::mem::replace(&mut self.is_announced, true);
        match self.arrival {
            Arrival::Yields if !is_announced => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Arrival::Waits if !self.world.open.borrow().contains(&self.gate) => {
                let mut waiting = self.world.waiting.borrow_mut();
                waiting.insert(self.gate, cx.waker().clone());
                return Poll::Pending;
            }
            Arrival::Panics => assert!(is_announced, "scripted panic of a stream"),
            _ => {}
        }
        self.is_announced = false;
        let item = self.items.next();
        if item.is_some() {
            self.gate += 1;
            self.world.yielded.set(self.world.yielded.get() + 1);
        }
        Poll::Ready(item)
    }
}

impl<T> Drop for Arriving<T> {
    fn drop(&mut self) {
        self.world.waiting.borrow_mut().remove(&self.gate);
    }
}

/// An interference with a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interference {
    None,
    Drop,
    Cancel,
    Expire,
    /// The clock comes to the deadline.
    Deadline,
    Drain,
    /// The next source that is polled panics.
    Panic,
    CloseReceiver,
}

/// The end of a run.
#[derive(Debug)]
pub enum Fate<T> {
    Resolved(T),
    /// It waits for something that never happens.
    Waits,
    Dropped,
}

/// A run that was driven to its end.
pub struct Played<T> {
    pub fate: Fate<T>,
    pub polls: usize,
    pub panics: usize,
    /// How many sources had events.
    pub told: usize,
}

/// Drives a run, interferes before poll `at`, and checks that no source and no waker outlives the run.
/// `outside` is called when the run waits, for the work of a receiver, and returns whether it did any.
/// Yields whenever the run has woken itself, so that other runs have a turn, as on an executor.
pub async fn play<F: Future>(
    run: F,
    world: &Rc<World>,
    interference: Interference,
    at: usize,
    mut outside: impl FnMut(Option<Interference>) -> bool,
) -> Played<F::Output> {
    let mut task = Task::new(run);
    let (mut polls, mut panics) = (0, 0);
    let fate = loop {
        if polls == at {
            match interference {
                Interference::Drop => break Fate::Dropped,
                Interference::Cancel => world.open(CANCEL),
                Interference::Expire => world.open(EXPIRE),
                Interference::Deadline => world.timer.advance(DEADLINE),
                Interference::Drain => world.open(DRAIN),
                Interference::Panic => world.panics.set(true),
                Interference::CloseReceiver | Interference::None => {}
            }
            outside(Some(interference));
        }
        polls += 1;
        assert!(polls < 10_000, "the run wakes itself for ever");
        let poll = catching(|| task.poll());
        world.timer.advance(TICK);
        match poll {
            Ok(Poll::Ready(output)) => break Fate::Resolved(output),
            Ok(Poll::Pending) => {}
            Err(payload) if is_scripted(&*payload) => {
                panics += 1;
                continue;
            }
            Err(payload) => resume_unwind(payload),
        }
        if task.is_woken() {
            yield_now().await;
            continue;
        }
        assert_eq!(world.forgotten(), [], "these were woken and not polled");
        let is_to_come = polls == at && interference != Interference::None;
        if !world.open_one() && !outside(None) && !is_to_come {
            assert!(world.has_endless(), "the run waits for nothing");
            break Fate::Waits;
        }
    };
    let is_left = !matches!(fate, Fate::Resolved(_));
    if is_left {
        if let Err(payload) = catching(|| task.drop_future()) {
            assert!(is_scripted(&*payload), "a panic that is in no script");
            panics += 1;
        }
    }
    assert_eq!(world.alive(), 0, "sources outlive the run");
    assert_eq!(task.wakers(), 0, "wakers of the task outlive the run");
    assert_eq!(
        world.timer.next_deadline(),
        None,
        "a sleep outlives the run"
    );
    let told = world.told.take();
    for (id, &times) in &told {
        assert_eq!(times, (1, 1), "the events of {id}");
    }
    let told = told.len() + world.named.take().len();
    let wakes = task.wakes();
    world.wake_kept();
    assert_eq!(task.wakes(), wakes, "a run that has ended wakes its task");
    Played {
        fate,
        polls,
        panics,
        told,
    }
}

/// Wakes its task and is pending, once.
pub async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Prints no message for panics that are in a script: there are thousands.
pub fn quiet_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !is_scripted(info.payload()) {
            print(info);
        }
    }));
}

fn is_scripted(payload: &dyn Any) -> bool {
    let message = payload.downcast_ref::<&str>();
    message.is_some_and(|message| message.contains("scripted panic"))
}

fn catching<R>(step: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(step))
}
