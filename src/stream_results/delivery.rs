//! How outcomes get to the receiver, and what becomes of those that do not.
//!
//! An outcome goes straight into the channel while there is room. When there is none, the oldest
//! outcome is parked in a send that wakes the run once there is, and those after it wait in line.
//! A parked send holds its outcome inside, and gives it back only when the channel is closed.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use async_channel::{SendError, Sender, TrySendError};
use pin_project_lite::pin_project;

use crate::run::{Flag, Ready, Watch};

/// The receiver is gone.
pub struct Gone;

/// Delivers outcomes of type `O`.
///
/// A trait only because the futures of a channel that own their sender have no name: with it
/// `stream_results` returns them unboxed, and its future is `Send` exactly when they are.
pub trait Deliver<O> {
    /// Hands an outcome over, or puts it in line.
    fn deliver(self: Pin<&mut Self>, outcome: O) -> Result<(), Gone>;

    /// Hands over what is in line, as far as there is room.
    fn flush(self: Pin<&mut Self>, ready: &Ready) -> Result<(), Gone>;

    /// Whether the receiver is gone, even if there is nothing to hand over.
    fn is_receiver_gone(self: Pin<&mut Self>, ready: &Ready) -> bool;

    /// How many outcomes are in line.
    fn waiting(&self) -> usize;

    /// Lets go of the channel. Returns how many outcomes were delivered, and those that were not.
    fn finish(self: Pin<&mut Self>) -> (usize, Vec<O>);
}

/// What delivers the outcomes of a run into `sender`.
pub(super) fn delivery<O>(sender: Sender<O>) -> impl Deliver<O> {
    Delivery {
        receiver: Watch::new(closed(sender.clone())),
        sender: Some(sender),
        send,
        parked: Watch::idle(),
        line: VecDeque::new(),
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
    struct Delivery<O, Send, Parked, Closed> {
        // Gone once the delivery has ended.
        sender: Option<Sender<O>>,
        send: Send,
        // The send of the oldest outcome, while there is no room for it.
        #[pin]
        parked: Watch<Parked>,
        #[pin]
        receiver: Watch<Closed>,
        // The outcomes after the parked one, the oldest first.
        line: VecDeque<O>,
        delivered: usize,
    }
}

impl<O, Send, Parked, Closed> Deliver<O> for Delivery<O, Send, Parked, Closed>
where
    Send: Fn(Sender<O>, O) -> Parked,
    Parked: Future<Output = Result<(), SendError<O>>>,
    Closed: Future<Output = ()>,
{
    fn deliver(self: Pin<&mut Self>, outcome: O) -> Result<(), Gone> {
        let this = self.project();
        match this.sender {
            Some(sender) if this.parked.is_idle() && this.line.is_empty() => {
                match sender.try_send(outcome) {
                    Ok(()) => {
                        *this.delivered += 1;
                        Ok(())
                    }
                    Err(TrySendError::Full(outcome)) => {
                        this.line.push_back(outcome);
                        Ok(())
                    }
                    Err(TrySendError::Closed(outcome)) => {
                        this.line.push_back(outcome);
                        Err(Gone)
                    }
                }
            }
            _ => {
                this.line.push_back(outcome);
                Ok(())
            }
        }
    }

    fn flush(self: Pin<&mut Self>, ready: &Ready) -> Result<(), Gone> {
        let mut this = self.project();
        loop {
            match this.parked.as_mut().poll(ready, Flag::Room) {
                Poll::Ready(Ok(())) => *this.delivered += 1,
                Poll::Ready(Err(SendError(outcome))) => {
                    this.line.push_front(outcome);
                    return Err(Gone);
                }
                Poll::Pending if !this.parked.is_idle() => return Ok(()),
                Poll::Pending => {}
            }
            let (Some(sender), Some(outcome)) = (this.sender.as_ref(), this.line.pop_front())
            else {
                return Ok(());
            };
            // A new send tries at once, and parks only if there is no room.
            let send = (this.send)(sender.clone(), outcome);
            this.parked.as_mut().set(send);
        }
    }

    fn is_receiver_gone(self: Pin<&mut Self>, ready: &Ready) -> bool {
        self.project()
            .receiver
            .poll(ready, Flag::Receiver)
            .is_ready()
    }

    fn waiting(&self) -> usize {
        usize::from(!self.parked.is_idle()) + self.line.len()
    }

    fn finish(self: Pin<&mut Self>) -> (usize, Vec<O>) {
        let mut this = self.project();
        this.receiver.clear();
        let mut undelivered = Vec::with_capacity(this.line.len() + 1);
        let mut parked = this.parked.as_mut().poll_now();
        if let Some(sender) = this.sender.take() {
            // Where nobody else sends, closing takes nothing from anybody, and makes the parked
            // send give its outcome back.
            let own = 1 + usize::from(!this.parked.is_idle());
            if sender.sender_count() == own {
                sender.close();
                if parked.is_pending() {
                    parked = this.parked.as_mut().poll_now();
                }
            }
        }
        match parked {
            Poll::Ready(Ok(())) => *this.delivered += 1,
            Poll::Ready(Err(SendError(outcome))) => undelivered.push(outcome),
            Poll::Pending => {}
        }
        this.parked.clear();
        undelivered.extend(this.line.drain(..));
        (*this.delivered, undelivered)
    }
}
