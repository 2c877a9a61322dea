//! One run of one of the operations, and the way in which it is ended.

use std::time::Duration;

use clap::ValueEnum;
use futures_aggregate::Reason;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::{leaking, tight};

/// How long a client waits before it ends its run.
const PATIENCE: Duration = Duration::from_millis(5);
/// The deadline of runs that are ended in another way.
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// The crate's operations.
    Tight,
    /// Tasks that send into channels, as in the leaking service.
    Leaking,
}

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tight => "futures-aggregate",
            Self::Leaking => "tasks that send into channels, as in the service that grew to 8 GB",
        }
    }

    fn start(self, operation: Operation, timeout: Duration, over: watch::Receiver<()>) -> Run {
        match self {
            Self::Tight => tight::start(operation, timeout, over),
            Self::Leaking => leaking::start(operation, timeout, over),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    FetchAndAggregate,
    ProcessBatch,
    /// Into a channel with this capacity, which is never read.
    StreamResults {
        room: usize,
    },
    ForEachResult,
}

/// A run under way.
pub(crate) struct Run {
    /// The task that polls the run. It resolves to the reason of its end.
    pub(crate) driver: JoinHandle<Reason>,
    pub(crate) cancel: oneshot::Sender<()>,
    pub(crate) drain: oneshot::Sender<()>,
    /// The receiver of the result.
    pub(crate) receiver: Box<dyn Send>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    TimedOut,
    /// Ended by a signal.
    Cancelled,
    /// Told to drain, which not all sources do in time.
    Drained,
    /// Dropped with the task that polls it.
    Aborted,
    /// Ended by the drop of the receiver.
    Left,
}

impl Ending {
    pub(crate) const NUMBER: usize = 5;

    fn reason(self, operation: Operation) -> Option<Reason> {
        match (self, operation) {
            (Self::TimedOut, _) => Some(Reason::TimedOut),
            (Self::Drained, _) => Some(Reason::Drained),
            (Self::Left, Operation::StreamResults { .. }) => Some(Reason::ReceiverClosed),
            (Self::Cancelled | Self::Left, _) => Some(Reason::Cancelled),
            (Self::Aborted, _) => None,
        }
    }
}

/// Every operation is ended equally often by its deadline, by its client, by its receiver and by a drain.
fn plan(number: u64) -> (Operation, Ending) {
    let operation = match number % 4 {
        0 => Operation::FetchAndAggregate,
        1 => Operation::ProcessBatch,
        2 => Operation::ForEachResult,
        // Two sources answer in time. With a capacity of 1, one outcome has to wait for room.
        _ if number / 32 % 2 == 0 => Operation::StreamResults { room: 1 },
        _ => Operation::StreamResults { room: 2 },
    };
    let ending = match number / 4 % 8 {
        0 | 3 => Ending::TimedOut,
        1 => Ending::Cancelled,
        4 => Ending::Aborted,
        5 | 7 => Ending::Drained,
        _ => Ending::Left,
    };
    (operation, ending)
}

/// Ends a run as planned, and checks that its reason is the planned one.
pub(crate) async fn run(way: Way, number: u64) -> Ending {
    let (operation, ending) = plan(number);
    let deadline = if ending == Ending::TimedOut {
        PATIENCE
    } else {
        DEADLINE
    };
    let (over, is_over) = watch::channel(());
    let run = way.start(operation, deadline, is_over);
    if ending != Ending::TimedOut {
        sleep(PATIENCE).await;
    }
    match ending {
        Ending::TimedOut => {}
        Ending::Cancelled => drop(run.cancel.send(())),
        Ending::Drained => drop(run.drain.send(())),
        Ending::Aborted => run.driver.abort(),
        Ending::Left => drop(run.receiver),
    }
    let reason = match timeout(DEADLINE, run.driver)
        .await
        .expect("a run did not end")
    {
        Ok(reason) => Some(reason),
        Err(error) if error.is_cancelled() => None,
        Err(error) => panic!("{error}"),
    };
    let expected = ending.reason(operation);
    assert_eq!(reason, expected, "{operation:?}, {ending:?}");
    drop(over);
    ending
}
