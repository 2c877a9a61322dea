//! Asks several exchanges over WebSockets for the price of several instruments, and shows the best
//! price of each. Uses async-std and async-tungstenite.
//!
//! ```text
//! cargo run -p examples --bin quotes
//! cargo run -p examples --bin quotes -- --instrument EUR/USD ws://a.example/ ws://b.example/
//! ```
//!
//! An exchange receives the name of an instrument and answers with a price. Without URLs the program
//! starts such servers. async-std and the clients made for it are no longer developed, but
//! async-tungstenite works over any socket.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use async_std::net::TcpStream;
use async_std::task;
use async_tungstenite::client_async;
use async_tungstenite::tungstenite::{self, Message};
use clap::Parser;
use examples::{exchanges, exit_code};
use futures::StreamExt;
use futures_aggregate::{BatchOutcome, process_batch};
use url::Url;

/// Ask several exchanges for the prices of several instruments, and show the lowest price of each.
/// Exits with 2 if some exchange did not answer in time.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Exchanges to ask. Without any, the program starts servers on this machine and asks those.
    #[arg(value_parser = examples::url(&["ws"]))]
    exchanges: Vec<Url>,

    /// An instrument to ask for. Can be given several times.
    #[arg(long = "instrument", value_name = "NAME", default_values = ["EUR/USD", "GBP/USD", "USD/JPY"])]
    instruments: Vec<String>,

    /// Time for each instrument, such as `1s` or `500ms`.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

fn main() -> ExitCode {
    examples::main(|args: Args| {
        task::block_on(async {
            let exchanges = exchanges::urls_or_own(args.exchanges).await?;
            let complete = show_all(&exchanges, &args.instruments, args.timeout).await?;
            Ok(exit_code(complete))
        })
    })
}

async fn show_all(
    exchanges: &[(String, Url)],
    instruments: &[String],
    timeout: Duration,
) -> io::Result<bool> {
    let batches = instruments.iter().map(|instrument| {
        let sources = exchanges.iter();
        sources.map(move |(name, url)| (name.as_str(), quote(url, instrument)))
    });
    let outcomes = process_batch(batches)
        .batch_timeout(timeout)
        .await
        .expect("only batches have a deadline");

    let mut out = io::stdout().lock();
    for (instrument, outcome) in instruments.iter().zip(&outcomes) {
        show(&mut out, instrument, outcome)?;
    }
    Ok(outcomes.iter().all(Result::is_ok))
}

fn show(
    out: &mut impl Write,
    instrument: &str,
    outcome: &BatchOutcome<&str, f64, tungstenite::Error>,
) -> io::Result<()> {
    // A late batch has the quotes that arrived in time.
    let quotes = match outcome {
        Ok(quotes) => quotes,
        Err(interrupted) => &interrupted.partial,
    };
    let lowest = |(_, one): &&(_, f64), (_, other): &&(_, f64)| one.total_cmp(other);
    match quotes.results.iter().min_by(lowest) {
        Some((exchange, price)) => writeln!(out, "{instrument}  {price:>9.4} at {exchange}")?,
        None => writeln!(out, "{instrument}  nobody knows")?,
    }
    for (exchange, error) in &quotes.errors {
        writeln!(out, "         {exchange} failed: {error}")?;
    }
    for exchange in &quotes.unfinished {
        writeln!(out, "         {exchange} did not answer in time")?;
    }
    Ok(())
}

async fn quote(exchange: &Url, instrument: &str) -> tungstenite::Result<f64> {
    let host = exchange.host_str().unwrap_or_default();
    let port = exchange.port_or_known_default().unwrap_or(80);
    let stream = TcpStream::connect(format!("{host}:{port}")).await?;
    let (mut connection, _) = client_async(exchange.as_str(), stream).await?;

    connection.send(Message::text(instrument)).await?;
    match connection.next().await {
        Some(Ok(Message::Text(price))) => Ok(price.parse().map_err(io::Error::other)?),
        Some(Err(error)) => Err(error),
        Some(Ok(_)) | None => Err(tungstenite::Error::ConnectionClosed),
    }
}
