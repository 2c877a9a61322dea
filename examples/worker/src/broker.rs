//! The stream and its consumer group. Redis stores to which worker each entry was delivered, and how
//! often, until the entry is acknowledged. So nothing is lost when a worker dies.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::streams::{
    StreamAutoClaimOptions, StreamAutoClaimReply, StreamClaimOptions, StreamId,
    StreamPendingCountReply, StreamPendingReply, StreamReadOptions, StreamReadReply,
};
use redis::{AsyncCommands, AsyncConnectionConfig, RedisResult};

use crate::args::Args;
use crate::settlement::Settlement;
use crate::work::Entry;

/// How long to wait for new entries before the next search for overdue ones.
const BLOCK: Duration = Duration::from_millis(100);
/// How long Redis may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// One consumer of the group.
pub(crate) struct Broker {
    redis: MultiplexedConnection,
    stream: String,
    group: String,
    consumer: String,
    min_idle: Duration,
    /// Where the search for overdue entries continues.
    cursor: String,
}

impl Broker {
    pub(crate) async fn connect(args: &Args) -> RedisResult<Self> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(BLOCK + ANSWER));
        let client = &args.redis;
        let mut redis = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let created: RedisResult<()> = redis
            .xgroup_create_mkstream(&args.stream, &args.group, "0")
            .await;
        match created {
            Err(error) if error.code() != Some("BUSYGROUP") => return Err(error),
            _ => {}
        }
        Ok(Self {
            redis,
            stream: args.stream.clone(),
            group: args.group.clone(),
            consumer: args.name.clone(),
            min_idle: args.min_idle,
            cursor: "0-0".to_owned(),
        })
    }

    /// Takes up to `most` entries: first overdue entries of any worker, then new ones. Waits a little if
    /// there are none.
    pub(crate) async fn take(&mut self, most: usize) -> RedisResult<Vec<Entry>> {
        let mut entries = self.claim(most).await?;
        if entries.len() < most {
            let wait = entries.is_empty();
            entries.extend(self.read(most - entries.len(), wait).await?);
        }
        Ok(entries)
    }

    /// Overdue entries: delivered long ago and not acknowledged, by dead workers or by this one.
    async fn claim(&mut self, most: usize) -> RedisResult<Vec<Entry>> {
        let options = StreamAutoClaimOptions::default().count(most);
        let (min_idle, cursor) = (self.min_idle.as_millis() as usize, self.cursor.as_str());
        let reply: StreamAutoClaimReply = self
            .redis
            .xautoclaim_options(
                &self.stream,
                &self.group,
                &self.consumer,
                min_idle,
                cursor,
                options,
            )
            .await?;
        self.cursor = reply.next_stream_id;
        for id in reply.deleted_ids {
            eprintln!("warning: {id} was deleted from the stream before it was acknowledged");
        }
        if reply.claimed.is_empty() {
            return Ok(Vec::new());
        }

        // The reply does not contain the delivery counts.
        let mut asked = redis::pipe();
        for StreamId { id, .. } in &reply.claimed {
            asked.xpending_count(&self.stream, &self.group, id, id, 1);
        }
        let pending: Vec<StreamPendingCountReply> = asked.query_async(&mut self.redis).await?;
        let claimed = reply.claimed.iter().zip(&pending);
        // An entry that is not pending any more was acknowledged by a slow worker.
        let entries = claimed.filter_map(|(entry, pending)| {
            let pending = pending.ids.first()?;
            Some(Entry::new(entry, pending.times_delivered))
        });
        Ok(entries.collect())
    }

    /// New entries, never delivered to any worker.
    async fn read(&mut self, most: usize, wait: bool) -> RedisResult<Vec<Entry>> {
        let mut options = StreamReadOptions::default()
            .group(&self.group, &self.consumer)
            .count(most);
        if wait {
            options = options.block(BLOCK.as_millis() as usize);
        }
        let reply: Option<StreamReadReply> = self
            .redis
            .xread_options(&[&self.stream], &[">"], &options)
            .await?;
        let streams = reply.unwrap_or_default().keys;
        let entries = streams.iter().flat_map(|stream| &stream.ids);
        Ok(entries.map(|entry| Entry::new(entry, 1)).collect())
    }

    /// Acknowledges the settled entries and records their results in one transaction, so no entry is
    /// acknowledged without a record. Entries that were not started get their old delivery count and
    /// become overdue. All other entries stay pending and need no command.
    pub(crate) async fn settle(
        &mut self,
        settlement: &Settlement,
        taken: Instant,
    ) -> RedisResult<()> {
        let Settlement {
            done,
            dead,
            unstarted,
            ..
        } = settlement;
        if done.is_empty() && dead.is_empty() && unstarted.is_empty() {
            return Ok(());
        }
        let Self { stream, group, .. } = self;
        let mut transaction = redis::pipe();
        transaction.atomic();
        for entry in done {
            transaction
                .hincr(format!("{stream}:done"), &entry.job, 1)
                .hincr(format!("{stream}:by"), &self.consumer, 1)
                .xack(&*stream, &*group, &[&entry.id]);
        }
        for (entry, error) in dead {
            let letter = [
                ("id", &entry.id),
                ("job", &entry.job),
                ("backend", &entry.backend),
                ("error", error),
            ];
            transaction
                .xadd(format!("{stream}:dead"), "*", &letter)
                .xack(&*stream, &*group, &[&entry.id]);
        }
        // If this worker was slow, another worker may have taken an entry since. Such an entry has been
        // idle for less time, so this command does not take it back.
        let idle = taken.elapsed().as_millis() as usize;
        for entry in unstarted {
            let options = StreamClaimOptions::default()
                .idle(self.min_idle.as_millis() as usize)
                .retry(entry.deliveries - 1)
                .with_justid();
            let (consumer, ids) = (&self.consumer, [&entry.id]);
            transaction.xclaim_options(&*stream, &*group, consumer, idle, &ids, options);
        }
        transaction.exec_async(&mut self.redis).await
    }

    /// Whether no entry is pending for any worker.
    pub(crate) async fn is_drained(&mut self) -> RedisResult<bool> {
        let pending: StreamPendingReply = self.redis.xpending(&self.stream, &self.group).await?;
        Ok(pending.count() == 0)
    }
}
