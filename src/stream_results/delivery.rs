//! Delivery of outcomes into the channel, and backpressure.
//!
//! An outcome is sent at once while the channel has room. If the channel is full, the oldest outcome is
//! in a blocked send, which wakes the run when there is room, and later outcomes are queued. A blocked
//! send returns its outcome only if the channel is closed.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Poll, Waker};

use async_channel::{SendError, Sender, TrySendError};
use pin_project_lite::pin_project;

use crate::Outcome;
use crate::panics::Panics;
use crate::scheduler::{Budget, Flag, Ready, Watch};
use crate::sealed::Sealed;

/// All receivers of the channel are gone.
pub struct Gone;

/// Delivers outcomes of type `O`.
///
/// It is a trait because the types of the channel's futures cannot be named. So `stream_results` needs
/// no box, and its future is `Send` if the outcomes are.
///
/// The trait is sealed. The channel of [`stream_results`](crate::stream_results()) implements it.
pub trait Deliver<O>: Sealed {
    /// Sends an outcome, or queues it.
    #[doc(hidden)]
    fn deliver(self: Pin<&mut Self>, outcome: O) -> Result<(), Gone>;

    /// Sends queued outcomes, as far as the channel has room and `budget` allows.
    #[doc(hidden)]
    fn flush(self: Pin<&mut Self>, ready: &mut Ready, budget: &mut Budget<'_>) -> Result<(), Gone>;

    /// Whether outcomes are queued although no send is blocked.
    #[doc(hidden)]
    fn can_flush(&self) -> bool;

    /// Whether the receivers are gone, even if there is nothing to send.
    #[doc(hidden)]
    fn is_receiver_gone(self: Pin<&mut Self>, ready: &mut Ready) -> bool;

    /// The number of outcomes that are queued or in the blocked send.
    #[doc(hidden)]
    fn waiting(&self) -> usize;

    /// Drops the sender, and takes the outcome back from the blocked send if that is possible. Before,
    /// sends the outcomes in `rest`, and those in the queue before them, as far as the channel has room.
    #[doc(hidden)]
    fn finish(self: Pin<&mut Self>, rest: Vec<O>, panics: &mut Panics);

    /// After `finish`: the number of delivered outcomes, and the outcomes that were not delivered.
    #[doc(hidden)]
    fn report(self: Pin<&mut Self>) -> (usize, Vec<O>);
}

/// Delivers the outcomes of a run into `sender`.
pub(super) fn delivery<K, T, E>(
    sender: Sender<Outcome<K, T, E>>,
) -> impl Deliver<Outcome<K, T, E>> {
    Delivery {
        receivers_gone: Watch::new(closed(sender.clone())),
        sender: Some(sender),
        make_send: send,
        blocked_send: Watch::idle(),
        room: None,
        queue: Queue(VecDeque::new()),
        delivered: 0,
    }
}

async fn send<O>(sender: Sender<O>, outcome: O) -> Result<(), SendError<O>> {
    sender.send(outcome).await
}

async fn closed<O>(sender: Sender<O>) {
    sender.closed().await;
}

pin_project! {
    /// The sender, and the outcomes that wait for room in the channel.
    struct Delivery<K, T, E, MakeSend, Send, Closed>
    where
        Send: Future<Output = Result<(), SendError<Outcome<K, T, E>>>>,
    {
        // `None` after `finish`.
        sender: Option<Sender<Outcome<K, T, E>>>,
        // Makes a send that owns its sender.
        make_send: MakeSend,
        // The send of the oldest outcome that waits. Idle if none waits for room.
        #[pin]
        blocked_send: Watch<Send>,
        // The waker of blocked sends. `None` before the first one.
        room: Option<Waker>,
        // Completes when the receivers are gone.
        #[pin]
        receivers_gone: Watch<Closed>,
        // The outcomes after the one in the blocked send, oldest first.
        queue: Queue<K, T, E>,
        // The number of outcomes sent.
        delivered: usize,
    }

    impl<K, T, E, MakeSend, Send, Closed> PinnedDrop for Delivery<K, T, E, MakeSend, Send, Closed>
    where
        Send: Future<Output = Result<(), SendError<Outcome<K, T, E>>>>,
    {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let mut panics = Panics::default();
            panics.catch(|| this.receivers_gone.clear());
            // The destructors of an id and of its value may both panic, so they are dropped one by
            // one. The blocked send drops them together, so its outcome is taken back if possible.
            if let Some(sender) = this.sender.take() {
                close(&sender, this.blocked_send.is_idle(), &mut panics);
                let is_closed = sender.is_closed();
                panics.catch(|| drop(sender));
                let polled = is_closed.then(|| panics.catch(|| this.blocked_send.as_mut().poll_now()));
                if let Some(Some(Poll::Ready(Err(SendError(outcome))))) = polled {
                    panics.drop_pairs([outcome]);
                }
            }
            panics.catch(|| this.blocked_send.clear());
            panics.resume();
        }
    }
}

/// Closes the channel if there is no other sender, so that the blocked send returns its outcome.
/// Outcomes in the channel can still be received.
fn close<O>(sender: &Sender<O>, is_idle: bool, panics: &mut Panics) {
    let own = 1 + usize::from(!is_idle);
    if sender.sender_count() == own {
        panics.catch(|| sender.close());
    }
}

/// Outcomes that are dropped one by one.
struct Queue<K, T, E>(VecDeque<Outcome<K, T, E>>);

impl<K, T, E> Drop for Queue<K, T, E> {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        panics.drop_pairs(std::mem::take(&mut self.0));
        panics.resume();
    }
}

/// Polls the blocked send. Counts its outcome first, because it is delivered even if the waker of the
/// receiver panics. If the send returns the outcome, puts it at the front of the queue.
fn poll_blocked_send<K, T, E>(
    queue: &mut Queue<K, T, E>,
    delivered: &mut usize,
    poll: impl FnOnce() -> Poll<Result<(), SendError<Outcome<K, T, E>>>>,
) -> Result<(), Gone> {
    *delivered += 1;
    let poll = poll();
    if let Poll::Ready(Ok(())) = poll {
        return Ok(());
    }
    *delivered -= 1;
    match poll {
        Poll::Ready(Err(SendError(outcome))) => {
            queue.0.push_front(outcome);
            Err(Gone)
        }
        _ => Ok(()),
    }
}

/// Sends an outcome, if the channel has room. Counts it first, because it is delivered even if the waker
/// of the receiver panics.
fn try_send<O>(
    sender: &Sender<O>,
    delivered: &mut usize,
    outcome: O,
) -> Result<(), TrySendError<O>> {
    *delivered += 1;
    let sent = sender.try_send(outcome);
    if sent.is_err() {
        *delivered -= 1;
    }
    sent
}

/// Sends outcomes as far as the channel has room.
fn send_all<K, T, E>(
    sender: &Sender<Outcome<K, T, E>>,
    queue: &mut Queue<K, T, E>,
    delivered: &mut usize,
    panics: &mut Panics,
) {
    while let Some(outcome) = queue.0.pop_front() {
        if let Some(Err(error)) = panics.catch(|| try_send(sender, delivered, outcome)) {
            return queue.0.push_front(error.into_inner());
        }
    }
}

impl<K, T, E, MakeSend, Send, Closed> Sealed for Delivery<K, T, E, MakeSend, Send, Closed> where
    Send: Future<Output = Result<(), SendError<Outcome<K, T, E>>>>
{
}

impl<K, T, E, MakeSend, Send, Closed> Deliver<Outcome<K, T, E>>
    for Delivery<K, T, E, MakeSend, Send, Closed>
where
    MakeSend: Fn(Sender<Outcome<K, T, E>>, Outcome<K, T, E>) -> Send,
    Send: Future<Output = Result<(), SendError<Outcome<K, T, E>>>>,
    Closed: Future<Output = ()>,
{
    fn deliver(self: Pin<&mut Self>, outcome: Outcome<K, T, E>) -> Result<(), Gone> {
        let this = self.project();
        let must_queue = !this.blocked_send.is_idle() || !this.queue.0.is_empty();
        let Some(sender) = this.sender.as_ref().filter(|_| !must_queue) else {
            this.queue.0.push_back(outcome);
            return Ok(());
        };
        let Err(error) = try_send(sender, this.delivered, outcome) else {
            return Ok(());
        };
        let gone = error.is_closed();
        this.queue.0.push_back(error.into_inner());
        if gone { Err(Gone) } else { Ok(()) }
    }

    fn flush(self: Pin<&mut Self>, ready: &mut Ready, budget: &mut Budget<'_>) -> Result<(), Gone> {
        let mut this = self.project();
        loop {
            poll_blocked_send(this.queue, this.delivered, || {
                this.blocked_send
                    .as_mut()
                    .poll(ready, Flag::Room, this.room)
            })?;
            if !this.blocked_send.is_idle() || !budget.has_more() {
                return Ok(());
            }
            let (Some(sender), Some(outcome)) = (this.sender.as_ref(), this.queue.0.pop_front())
            else {
                return Ok(());
            };
            // The next turn of the loop polls it. It blocks only if there is no room.
            let send = (this.make_send)(sender.clone(), outcome);
            this.blocked_send.as_mut().set(send);
            budget.spend();
        }
    }

    fn can_flush(&self) -> bool {
        self.blocked_send.is_idle() && !self.queue.0.is_empty()
    }

    fn is_receiver_gone(self: Pin<&mut Self>, ready: &mut Ready) -> bool {
        self.project()
            .receivers_gone
            .poll(ready, Flag::Receiver, &mut None)
            .is_ready()
    }

    fn waiting(&self) -> usize {
        usize::from(!self.blocked_send.is_idle()) + self.queue.0.len()
    }

    fn finish(self: Pin<&mut Self>, rest: Vec<Outcome<K, T, E>>, panics: &mut Panics) {
        let mut this = self.project();
        panics.catch(|| this.receivers_gone.clear());
        let sends_rest = !rest.is_empty();
        this.queue.0.extend(rest);
        let mut poll_blocked = |queue: &mut _, delivered: &mut _, panics: &mut Panics| {
            let poll = || this.blocked_send.as_mut().poll_now();
            panics.catch(|| poll_blocked_send(queue, delivered, poll));
            this.blocked_send.is_idle()
        };
        let (queue, delivered) = (this.queue, this.delivered);
        let is_idle = poll_blocked(queue, delivered, panics);
        if let Some(sender) = this.sender.take() {
            if sends_rest && is_idle {
                send_all(&sender, queue, delivered, panics);
            }
            close(&sender, is_idle, panics);
            poll_blocked(queue, delivered, panics);
            panics.catch(|| drop(sender));
        }
        panics.catch(|| this.blocked_send.clear());
        *this.room = None;
    }

    fn report(self: Pin<&mut Self>) -> (usize, Vec<Outcome<K, T, E>>) {
        let this = self.project();
        (*this.delivered, std::mem::take(&mut this.queue.0).into())
    }
}
