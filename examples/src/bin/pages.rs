//! Fetches pages and shows each as soon as it arrives, while the others are still on their way.
//! Uses smol and hyper; smol-hyper adapts the sockets.
//!
//! ```text
//! cargo run -p examples --bin pages
//! cargo run -p examples --bin pages http://a.example/ http://b.example/
//! ```

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use examples::{Chain, exit_code};
use futures::try_join;
use futures_aggregate::{Interrupted, Outcome, SourceError, stream_results};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use smol::net::TcpStream;
use smol_hyper::rt::FuturesIo;
use url::{Position, Url};

/// Fetch pages and show each as soon as it arrives. Exits with 2 if some did not answer in time.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// URLs to fetch. Without any, the program starts servers on this machine and fetches those.
    #[arg(value_parser = examples::url(&["http"]))]
    urls: Vec<Url>,

    /// Time for all of them, such as `2s` or `500ms`.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

fn main() -> ExitCode {
    examples::main(|args: Args| {
        let named = examples::urls_or_own(args.urls)?;
        let complete = smol::block_on(show_all(named, args.timeout))?;
        Ok(exit_code(complete))
    })
}

async fn show_all(named: Vec<(String, Url)>, timeout: Duration) -> io::Result<bool> {
    let sources = named.into_iter().map(|(name, url)| (name, fetch(url)));

    let (sender, pages) = async_channel::bounded(8);
    let run = smol::spawn(stream_results(sources, sender).timeout(timeout));
    let mut out = io::stdout().lock();
    // The channel closes when the run has ended.
    while let Ok(outcome) = pages.recv().await {
        show(&mut out, outcome)?;
    }

    let streamed = run.await.unwrap_or_else(Interrupted::into_partial);
    // Outcomes that found no room in the channel before the deadline.
    for outcome in streamed.undelivered {
        show(&mut out, outcome)?;
    }
    for name in &streamed.unfinished {
        writeln!(out, "{name:<10} no answer within {timeout:?}")?;
    }
    Ok(streamed.unfinished.is_empty())
}

type AnyError = Box<dyn Error + Send + Sync>;

fn show(out: &mut impl Write, (name, outcome): Outcome<String, Bytes, AnyError>) -> io::Result<()> {
    match outcome {
        Ok(page) => writeln!(out, "{name:<10} {} bytes", page.len()),
        Err(SourceError::Failed(error)) => writeln!(out, "{name:<10} {}", Chain(&*error)),
        Err(error) => writeln!(out, "{name:<10} {error}"),
    }
}

async fn fetch(url: Url) -> Result<Bytes, AnyError> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    let stream = TcpStream::connect(format!("{host}:{port}")).await?;
    let (mut sender, connection) = http1::handshake(FuturesIo::new(stream)).await?;

    let request = Request::get(&url[Position::BeforePath..])
        .header(HOST, url.authority())
        .body(Empty::<Bytes>::new())?;
    let page = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    };
    // The connection is polled here, not in a separate task, so dropping the source drops the socket.
    let ((), (status, page)) = try_join!(connection, page)?;
    if !status.is_success() {
        return Err(status.to_string().into());
    }
    Ok(page)
}
