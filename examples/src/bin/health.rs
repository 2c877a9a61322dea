//! Health checks: finds out within two seconds which services are up, whatever the services do.
//! Uses tokio and reqwest.
//!
//! ```text
//! cargo run -p examples --bin health
//! cargo run -p examples --bin health https://a.example/health https://b.example/health
//! ```

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use examples::{Asked, Chain};
use futures_aggregate::{Interrupted, SourceError, fetch_and_aggregate};
use reqwest::{Client, StatusCode, Url};

/// Check whether services are up. Exits with 0 if all are up, with 2 if not.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// URLs to check. Without any, the program starts servers on this machine and checks those.
    #[arg(value_parser = examples::url(&["http", "https"]))]
    urls: Vec<Url>,

    /// Time for all of them, such as `2s` or `500ms`.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

fn main() -> ExitCode {
    examples::main(|args: Args| {
        let asked = examples::asked(args.urls)?;
        examples::on_tokio(check_all(asked, args.timeout))
    })
}

async fn check_all(asked: Asked, timeout: Duration) -> io::Result<bool> {
    let client = asked.client;
    let services = asked.targets.into_iter();
    let sources = services.map(|(name, url)| (name, check(client.clone(), url)));

    let health = fetch_and_aggregate(sources, timeout)
        // The iterator is pulled only while there is room, so it can have any length.
        .concurrency(100)
        .await
        // A partial answer is fine here.
        .unwrap_or_else(Interrupted::into_partial);

    let mut out = io::stdout().lock();
    for (name, (status, time)) in &health.results {
        let time = time.as_millis();
        writeln!(out, "{name:<10} up    {status} after {time} ms")?;
    }
    for (name, error) in &health.errors {
        match error {
            SourceError::Failed(error) => writeln!(out, "{name:<10} down  {}", Chain(error))?,
            error => writeln!(out, "{name:<10} down  {error}")?,
        }
    }
    for name in &health.unfinished {
        writeln!(out, "{name:<10} down  no answer within {timeout:?}")?;
    }
    let (up, down) = (
        health.results.len(),
        health.errors.len() + health.unfinished.len(),
    );
    writeln!(out, "\n{up} up, {down} down")?;
    Ok(down == 0)
}

async fn check(client: Client, url: Url) -> reqwest::Result<(StatusCode, Duration)> {
    let started = Instant::now();
    let answer = client.get(url).send().await;
    let response = answer.and_then(reqwest::Response::error_for_status);
    // The output line names the service already.
    let response = response.map_err(reqwest::Error::without_url)?;
    Ok((response.status(), started.elapsed()))
}
