//! A connection that survives a restart of Redis.

use std::time::{Duration, Instant};

use futures::FutureExt;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{
    Client, FromRedisValue, Pipeline, RedisError, RedisResult, RetryMethod, ServerErrorKind,
};
use tokio::time::sleep;

use crate::signals::Signal;

/// The pause before the first repetition. Each pause is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Repeats commands while Redis does not answer, or loads its data.
///
/// Redis may have executed a command whose answer was lost, and then executes it again. So all commands
/// of the worker have the same effect once and twice.
pub(crate) struct Connection {
    /// Connects anew after a failure.
    manager: ConnectionManager,
    /// How long commands are repeated.
    patience: Duration,
    /// Ends the repetitions early.
    cancelled: Signal,
}

impl Connection {
    /// Connects when the first command is run. `answer` is the longest time to wait for an answer.
    pub(crate) fn new(
        client: &Client,
        answer: Duration,
        patience: Duration,
        cancelled: Signal,
    ) -> RedisResult<Self> {
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(answer))
            .set_number_of_retries(0);
        Ok(Self {
            manager: ConnectionManager::new_lazy_with_config(client.clone(), config)?,
            patience,
            cancelled,
        })
    }

    /// Runs the commands, again and again while Redis is away.
    pub(crate) async fn run<T: FromRedisValue>(&self, commands: &Pipeline) -> RedisResult<T> {
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.run_once(commands).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let gives_up = started.elapsed() >= self.patience
                || self.cancelled.clone().now_or_never().is_some();
            if gives_up || !is_temporary(&error) {
                return Err(error);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Runs the commands, without repetition.
    pub(crate) async fn run_once<T: FromRedisValue>(&self, commands: &Pipeline) -> RedisResult<T> {
        commands.query_async(&mut self.manager.clone()).await
    }
}

fn is_temporary(error: &RedisError) -> bool {
    // A transaction is refused as a whole, and only the errors of its commands say why.
    let errors = error.clone().into_server_errors();
    let is_loading = errors.is_some_and(|errors| {
        let loading = Some(ServerErrorKind::BusyLoading);
        errors.iter().any(|(_, error)| error.kind() == loading)
    });
    is_loading || !matches!(error.retry_method(), RetryMethod::NoRetry)
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;
    use crate::signals::signal;

    /// The arguments of the next command, or nothing at the end of the connection.
    fn command(input: &mut impl BufRead) -> Option<Vec<String>> {
        let mut line = || {
            let mut line = String::new();
            input.read_line(&mut line).ok().filter(|&read| read > 0)?;
            Some(line.trim().to_owned())
        };
        let count = line()?.strip_prefix('*')?.parse().ok()?;
        let argument = |_: usize| {
            line()?; // its length
            line()
        };
        (0..count).map(argument).collect()
    }

    /// A server that loads its data during this many transactions, and then executes them. It closes the
    /// connection after each of the first `closing` commands, except those that a client starts with.
    fn serve(connection: TcpStream, loading: &mut usize, closing: &mut usize) -> Option<()> {
        let mut output = connection.try_clone().unwrap();
        let mut input = BufReader::new(connection);
        loop {
            let command = command(&mut input)?;
            if command[0] != "CLIENT" && *closing > 0 {
                *closing -= 1;
                return None;
            }
            let answer = match &*command[0] {
                "PING" if *loading > 0 => "-LOADING Redis is loading the dataset in memory",
                "EXEC" if *loading > 0 => {
                    *loading -= 1;
                    "-EXECABORT Transaction discarded because of previous errors."
                }
                "PING" => "+QUEUED",
                "EXEC" => "*1\r\n+PONG",
                _ => "+OK",
            };
            write!(output, "{answer}\r\n").ok()?;
        }
    }

    fn server(mut loading: usize, mut closing: usize) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for connection in listener.incoming() {
                serve(connection.unwrap(), &mut loading, &mut closing);
            }
        });
        Client::open(format!("redis://{address}")).unwrap()
    }

    async fn ping(client: &Client, patience: Duration, cancelled: Signal) -> RedisResult<String> {
        let answer = Duration::from_secs(60);
        let connection = Connection::new(client, answer, patience, cancelled)?;
        let mut transaction = redis::pipe();
        transaction.atomic().ping();
        let (answer,) = connection.run(&transaction).await?;
        Ok(answer)
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn transaction_is_repeated_while_redis_loads_its_data_or_closes_the_connection() {
        for (loading, closing) in [(2, 0), (0, 2), (1, 1)] {
            let answer = ping(&server(loading, closing), MINUTE, signal(pending())).await;
            assert_eq!(answer.unwrap(), "PONG");
        }
    }

    #[tokio::test]
    async fn it_is_not_repeated_without_patience_or_after_the_second_signal() {
        for (patience, cancelled) in [
            (Duration::ZERO, signal(pending())),
            (MINUTE, signal(async {})),
        ] {
            let answer = ping(&server(1, 0), patience, cancelled).await;
            assert_eq!(answer.unwrap_err().code(), Some("EXECABORT"));
        }
    }
}
