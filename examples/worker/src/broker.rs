//! The stream and its consumer group. Redis stores to which worker each entry was delivered, how often,
//! and when, until the entry is acknowledged. So nothing is lost when a worker dies.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::time::{Duration, Instant};

use redis::streams::{
    StreamAutoClaimOptions, StreamAutoClaimReply, StreamClaimOptions, StreamId,
    StreamPendingCountReply, StreamPendingReply, StreamReadOptions, StreamReadReply,
};
use redis::{AsyncCommands, RedisResult};
use tokio::time::sleep;

use crate::args::Args;
use crate::connection::Connection;
use crate::held::Held;
use crate::settlement::Settlement;
use crate::signals::Signal;
use crate::work::Entry;

/// How long to wait for new entries, and the time between two searches for overdue ones.
const BLOCK: Duration = Duration::from_millis(100);
/// How long Redis may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// One consumer of the group.
pub(crate) struct Broker {
    /// Takes entries. Redis executes no later command of this connection while it waits for entries.
    taking: Connection,
    /// Settles and renews entries.
    settling: Connection,
    stream: String,
    group: String,
    consumer: String,
    min_idle: Duration,
    /// The entries that were taken and not settled.
    held: RefCell<Held>,
    /// Where the search for overdue entries continues, and when.
    cursor: RefCell<String>,
    next_search: Cell<Instant>,
}

impl Broker {
    /// Fails at once if Redis is away. Later commands are repeated, until `cancelled` completes.
    pub(crate) async fn connect(args: &Args, cancelled: &Signal) -> RedisResult<Self> {
        let mut redis = args.redis.get_multiplexed_async_connection().await?;
        let created: RedisResult<()> = redis
            .xgroup_create_mkstream(&args.stream, &args.group, "0")
            .await;
        match created {
            Err(error) if error.code() != Some("BUSYGROUP") => return Err(error),
            _ => {}
        }
        let connect =
            |answer| Connection::new(&args.redis, answer, args.patience, cancelled.clone());
        Ok(Self {
            taking: connect(BLOCK + ANSWER)?,
            settling: connect(ANSWER)?,
            stream: args.stream.clone(),
            group: args.group.clone(),
            consumer: args.name.clone(),
            min_idle: args.min_idle,
            held: RefCell::default(),
            cursor: RefCell::new("0-0".to_owned()),
            next_search: Cell::new(Instant::now()),
        })
    }

    /// Takes up to `most` entries: first overdue entries of any worker, then new ones. Waits a little if
    /// there are none.
    pub(crate) async fn take(&self, most: usize) -> RedisResult<Vec<Entry>> {
        let mut entries = Vec::new();
        if self.next_search.get() <= Instant::now() {
            entries = self.claim(most).await?;
            if entries.len() < most {
                self.next_search.set(Instant::now() + BLOCK);
            }
        }
        if entries.len() < most {
            let wait = entries.is_empty();
            entries.extend(self.read(most - entries.len(), wait).await?);
        }
        Ok(entries)
    }

    /// Overdue entries: delivered long ago and neither acknowledged nor renewed since. Their worker is
    /// dead or frozen, or has failed in them.
    async fn claim(&self, most: usize) -> RedisResult<Vec<Entry>> {
        let options = StreamAutoClaimOptions::default().count(most);
        let cursor = self.cursor.borrow().clone();
        let mut command = redis::pipe();
        command.xautoclaim_options(
            &self.stream,
            &self.group,
            &self.consumer,
            millis(self.min_idle),
            cursor,
            options,
        );
        let (reply,): (StreamAutoClaimReply,) = self.taking.run(&command).await?;
        self.cursor.replace(reply.next_stream_id);
        for id in reply.deleted_ids {
            eprintln!("warning: {id} was deleted from the stream before it was acknowledged");
        }
        if reply.claimed.is_empty() {
            return Ok(Vec::new());
        }

        // The reply does not contain the delivery counts.
        let mut counts = redis::pipe();
        for StreamId { id, .. } in &reply.claimed {
            counts.xpending_count(&self.stream, &self.group, id, id, 1);
        }
        let pending: Vec<StreamPendingCountReply> = self.taking.run(&counts).await?;
        let claimed = reply.claimed.iter().zip(&pending);
        // An entry that is not pending any more was acknowledged by a slow worker.
        let entries = claimed.filter_map(|(entry, pending)| {
            let pending = pending.ids.first()?;
            self.hold(entry, pending.times_delivered)
        });
        Ok(entries.collect())
    }

    /// New entries, never delivered to any worker.
    async fn read(&self, most: usize, wait: bool) -> RedisResult<Vec<Entry>> {
        let mut options = StreamReadOptions::default()
            .group(&self.group, &self.consumer)
            .count(most);
        if wait {
            options = options.block(millis(BLOCK));
        }
        let mut command = redis::pipe();
        command.xread_options(&[&self.stream], &[">"], &options);
        let (reply,): (Option<StreamReadReply>,) = self.taking.run(&command).await?;
        let streams = reply.unwrap_or_default().keys;
        let entries = streams.iter().flat_map(|stream| &stream.ids);
        Ok(entries.filter_map(|entry| self.hold(entry, 1)).collect())
    }

    /// Nothing if this worker works on the entry already.
    fn hold(&self, entry: &StreamId, deliveries: usize) -> Option<Entry> {
        let is_new = self.held.borrow_mut().add(&entry.id, Instant::now());
        is_new.then(|| Entry::new(entry, deliveries))
    }

    /// Acknowledges the entries that are done or dead, and records them in the same transaction, so no
    /// entry is acknowledged without a record. Entries that were not started get their old delivery count
    /// and become overdue, so that any worker can take them. All other entries stay pending, need no
    /// command, and become overdue in time.
    ///
    /// It may be repeated: the first record of a job stays, and an entry is acknowledged once.
    pub(crate) async fn settle(&self, settlement: &Settlement) -> RedisResult<()> {
        let Settlement {
            done,
            dead,
            unstarted,
            failed,
            unfinished,
        } = settlement;
        let Self { stream, group, .. } = self;
        let mut transaction = redis::pipe();
        transaction.atomic();
        for entry in done {
            transaction
                .hset_nx(format!("{stream}:done"), &entry.job, &self.consumer)
                .xack(stream, group, &[&entry.id]);
        }
        for (entry, error) in dead {
            transaction
                .hset_nx(format!("{stream}:dead"), &entry.id, error)
                .xack(stream, group, &[&entry.id]);
        }
        for entry in unstarted {
            let options = StreamClaimOptions::default()
                .idle(millis(self.min_idle))
                .retry(entry.deliveries - 1)
                .with_justid();
            // If another worker has taken the entry since, it has been idle for less time, so this
            // command does not take it back.
            let idle = self.held.borrow().idle_of(&entry.id, Instant::now());
            let ids = [&entry.id];
            transaction.xclaim_options(stream, group, &self.consumer, millis(idle), &ids, options);
        }
        if !transaction.is_empty() {
            let () = self.settling.run(&transaction).await?;
        }
        let settled = done.iter().chain(dead.iter().map(|(entry, _)| entry));
        let left = unstarted.iter().chain(failed).chain(unfinished);
        for entry in settled.chain(left) {
            self.held.borrow_mut().remove(&entry.id);
        }
        Ok(())
    }

    /// Keeps other workers from taking the entries that this worker holds, however long a job takes.
    /// Never completes.
    ///
    /// If Redis is away, the next attempt follows. If the entries become overdue until then, other workers
    /// take them, and some jobs are done more than once.
    pub(crate) async fn renew(&self) -> Infallible {
        loop {
            sleep(self.min_idle / 4).await;
            let idle = self.held.borrow().idle(Instant::now());
            if idle.is_empty() {
                continue;
            }
            let mut commands = redis::pipe();
            for (id, idle) in &idle {
                let options = StreamClaimOptions::default().with_justid();
                // As in `settle`, this takes back no entry from another worker.
                commands.xclaim_options(
                    &self.stream,
                    &self.group,
                    &self.consumer,
                    millis(*idle),
                    &[id],
                    options,
                );
            }
            let renewed: Vec<String> =
                match self.settling.run_once::<Vec<Vec<String>>>(&commands).await {
                    Ok(renewed) => renewed.into_iter().flatten().collect(),
                    // Redis may have renewed any of them.
                    Err(_) => idle.into_iter().map(|(id, _)| id).collect(),
                };
            let now = Instant::now();
            for id in renewed {
                self.held.borrow_mut().renew(&id, now);
            }
        }
    }

    /// Whether no entry is pending for any worker.
    pub(crate) async fn is_empty(&self) -> RedisResult<bool> {
        let mut command = redis::pipe();
        command.xpending(&self.stream, &self.group);
        let (pending,): (StreamPendingReply,) = self.settling.run(&command).await?;
        Ok(pending.count() == 0)
    }
}

/// Redis takes whole milliseconds.
fn millis(time: Duration) -> usize {
    usize::try_from(time.as_millis()).unwrap_or(usize::MAX)
}
