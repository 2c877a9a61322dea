//! How outcomes get to the receiver, and what becomes of those that do not.
//!
//! An outcome goes straight into the channel while there is room. When there is none, the oldest
//! outcome is parked in a send that wakes the run once there is, and those after it wait in line.
//! A parked send holds its outcome inside, and gives it back only when the channel is closed.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use async_channel::{SendError, Sender};
use pin_project_lite::pin_project;

use crate::Outcome;
use crate::scheduler::{Budget, Flag, Panics, Ready, Watch};

/// The receiver is gone.
pub struct Gone;

/// Delivers outcomes of type `O`.
///
/// A trait only because the futures of a channel that own their sender have no name: with it
/// `stream_results` returns them unboxed, and its future is `Send` exactly when they are.
pub trait Deliver<O> {
    /// Hands an outcome over, or puts it in line.
    fn deliver(self: Pin<&mut Self>, outcome: O) -> Result<(), Gone>;

    /// Hands over what is in line, as far as there is room, each out of `budget`.
    fn flush(self: Pin<&mut Self>, ready: &mut Ready, budget: &mut Budget) -> Result<(), Gone>;

    /// Whether there are outcomes in line although none waits for room.
    fn can_flush(&self) -> bool;

    /// Whether the receiver is gone, even if there is nothing to hand over.
    fn is_receiver_gone(self: Pin<&mut Self>, ready: &mut Ready) -> bool;

    /// How many outcomes are in line.
    fn waiting(&self) -> usize;

    /// Lets go of the channel, and takes back what was not delivered.
    fn finish(self: Pin<&mut Self>, panics: &mut Panics);

    /// After that: how many outcomes were delivered, and those that were not.
    fn report(self: Pin<&mut Self>) -> (usize, Vec<O>);
}

/// What delivers the outcomes of a run into `sender`.
pub(super) fn delivery<K, T, E>(
    sender: Sender<Outcome<K, T, E>>,
) -> impl Deliver<Outcome<K, T, E>> {
    Delivery {
        receiver: Watch::new(closed(sender.clone())),
        sender: Some(sender),
        send,
        parked: Watch::idle(),
        line: Line(VecDeque::new()),
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
    struct Delivery<K, T, E, Send, Parked, Closed>
    where
        Parked: Future<Output = Result<(), SendError<Outcome<K, T, E>>>>,
    {
        // Gone once the delivery has ended.
        sender: Option<Sender<Outcome<K, T, E>>>,
        send: Send,
        // The send of the oldest outcome, while there is no room for it.
        #[pin]
        parked: Watch<Parked>,
        #[pin]
        receiver: Watch<Closed>,
        // The outcomes after the parked one, the oldest first.
        line: Line<K, T, E>,
        delivered: usize,
    }

    impl<K, T, E, Send, Parked, Closed> PinnedDrop for Delivery<K, T, E, Send, Parked, Closed>
    where
        Parked: Future<Output = Result<(), SendError<Outcome<K, T, E>>>>,
    {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let mut panics = Panics::default();
            panics.catch(|| this.receiver.clear());
            // The parked send drops its outcome as one value. It is taken back where that is
            // possible, and its id and its value are dropped one by one.
            if let Some(sender) = this.sender.take() {
                close(&sender, this.parked.is_idle(), &mut panics);
                let is_closed = sender.is_closed();
                panics.catch(|| drop(sender));
                let parked = is_closed.then(|| panics.catch(|| this.parked.as_mut().poll_now()));
                if let Some(Some(Poll::Ready(Err(SendError(outcome))))) = parked {
                    panics.drop_pairs([outcome]);
                }
            }
            panics.catch(|| this.parked.clear());
            panics.resume();
        }
    }
}

/// Closes a channel if nothing else sends into it. That takes nothing from anybody, and makes the
/// parked send give its outcome back.
fn close<O>(sender: &Sender<O>, is_idle: bool, panics: &mut Panics) {
    let own = 1 + usize::from(!is_idle);
    if sender.sender_count() == own {
        panics.catch(|| sender.close());
    }
}

/// Outcomes in line. They are dropped one by one.
struct Line<K, T, E>(VecDeque<Outcome<K, T, E>>);

impl<K, T, E> Drop for Line<K, T, E> {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        panics.drop_pairs(std::mem::take(&mut self.0));
        panics.resume();
    }
}

/// Polls the parked send. It is counted before, because a receiver whose waker panics has got the
/// outcome all the same. One that the channel gives back goes to the front of the line.
fn poll_parked<K, T, E>(
    line: &mut Line<K, T, E>,
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
            line.0.push_front(outcome);
            Err(Gone)
        }
        _ => Ok(()),
    }
}

impl<K, T, E, Send, Parked, Closed> Deliver<Outcome<K, T, E>>
    for Delivery<K, T, E, Send, Parked, Closed>
where
    Send: Fn(Sender<Outcome<K, T, E>>, Outcome<K, T, E>) -> Parked,
    Parked: Future<Output = Result<(), SendError<Outcome<K, T, E>>>>,
    Closed: Future<Output = ()>,
{
    fn deliver(self: Pin<&mut Self>, outcome: Outcome<K, T, E>) -> Result<(), Gone> {
        let this = self.project();
        let may_overtake = !this.parked.is_idle() || !this.line.0.is_empty();
        let Some(sender) = this.sender.as_ref().filter(|_| !may_overtake) else {
            this.line.0.push_back(outcome);
            return Ok(());
        };
        // Counted before, because a receiver whose waker panics has got the outcome all the same.
        *this.delivered += 1;
        let Err(error) = sender.try_send(outcome) else {
            return Ok(());
        };
        *this.delivered -= 1;
        let gone = error.is_closed();
        this.line.0.push_back(error.into_inner());
        if gone { Err(Gone) } else { Ok(()) }
    }

    fn flush(self: Pin<&mut Self>, ready: &mut Ready, budget: &mut Budget) -> Result<(), Gone> {
        let mut this = self.project();
        loop {
            poll_parked(this.line, this.delivered, || {
                this.parked.as_mut().poll(ready, Flag::Room)
            })?;
            if !this.parked.is_idle() || !budget.has_more() {
                return Ok(());
            }
            let (Some(sender), Some(outcome)) = (this.sender.as_ref(), this.line.0.pop_front())
            else {
                return Ok(());
            };
            // A new send tries at once, and parks only if there is no room.
            let send = (this.send)(sender.clone(), outcome);
            this.parked.as_mut().set(send);
            budget.spend();
        }
    }

    fn can_flush(&self) -> bool {
        self.parked.is_idle() && !self.line.0.is_empty()
    }

    fn is_receiver_gone(self: Pin<&mut Self>, ready: &mut Ready) -> bool {
        self.project()
            .receiver
            .poll(ready, Flag::Receiver)
            .is_ready()
    }

    fn waiting(&self) -> usize {
        usize::from(!self.parked.is_idle()) + self.line.0.len()
    }

    fn finish(self: Pin<&mut Self>, panics: &mut Panics) {
        let mut this = self.project();
        panics.catch(|| this.receiver.clear());
        let mut poll_parked = |parked: Pin<&mut Watch<Parked>>, panics: &mut Panics| {
            panics.catch(|| poll_parked(this.line, this.delivered, || parked.poll_now()));
        };
        poll_parked(this.parked.as_mut(), panics);
        if let Some(sender) = this.sender.take() {
            close(&sender, this.parked.is_idle(), panics);
            poll_parked(this.parked.as_mut(), panics);
            panics.catch(|| drop(sender));
        }
        panics.catch(|| this.parked.clear());
    }

    fn report(self: Pin<&mut Self>) -> (usize, Vec<Outcome<K, T, E>>) {
        let this = self.project();
        (*this.delivered, std::mem::take(&mut this.line.0).into())
    }
}
