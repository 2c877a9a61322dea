//! Servers on this machine, one for each kind of good or bad answer.

use std::future::pending;
use std::io;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use futures::{StreamExt, stream};
use reqwest::Url;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::time::sleep;

use crate::command::named;

/// These URLs with their names; or, if there are none, those of servers that it starts on this machine.
pub fn urls_or_own(urls: Vec<Url>) -> io::Result<Vec<(String, Url)>> {
    if urls.is_empty() {
        return start();
    }
    Ok(named(urls))
}

/// Starts each server on its own port. All of them run on one separate thread, so any executor can ask
/// them. They run until the program ends.
fn start() -> io::Result<Vec<(String, Url)>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let servers = runtime.block_on(serve_all())?;
    thread::Builder::new().spawn(move || runtime.block_on(pending::<()>()))?;
    Ok(servers)
}

async fn serve_all() -> io::Result<Vec<(String, Url)>> {
    Ok(vec![
        serve("fast", get("here you are")).await?,
        serve("slow", get(slow)).await?,
        serve("hanging", get(pending::<()>)).await?,
        serve("failing", get(StatusCode::INTERNAL_SERVER_ERROR)).await?,
        serve("half-way", get(half_way)).await?,
        garbage("garbage").await?,
        serve("large", get(|| async { vec![b'x'; 2_000_000] })).await?,
        serve("dripping", get(dripping)).await?,
        serve("too-late", get(pending::<()>)).await?,
    ])
}

async fn serve(name: &str, route: MethodRouter) -> io::Result<(String, Url)> {
    let (listener, url) = listen().await?;
    tokio::spawn(async { axum::serve(listener, Router::new().route("/", route)).await });
    Ok((name.to_owned(), url))
}

async fn listen() -> io::Result<(TcpListener, Url)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    Ok((listener, Url::parse(&url).map_err(io::Error::other)?))
}

async fn slow() -> &'static str {
    sleep(Duration::from_millis(600)).await;
    "sorry for the delay"
}

/// Promises more than it sends, and closes the connection.
async fn half_way() -> Response {
    let promised = Bytes::from_static(b"once upon a ti");
    let chunks = stream::iter([Ok(promised), Err(io::Error::other("out of paper"))]).then(
        // Send the first part before the connection closes.
        async |chunk| {
            sleep(Duration::from_millis(50)).await;
            chunk
        },
    );
    ([(CONTENT_LENGTH, "1000")], Body::from_stream(chunks)).into_response()
}

/// Sends small parts for a second.
async fn dripping() -> Response {
    let drops = stream::unfold(0, |sent| async move {
        sleep(Duration::from_millis(100)).await;
        (sent < 10).then_some((Ok::<_, io::Error>("drip "), sent + 1))
    });
    Body::from_stream(drops).into_response()
}

/// Answers every request with bytes that are not HTTP.
async fn garbage(name: &str) -> io::Result<(String, Url)> {
    let (listener, url) = listen().await?;
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(babble(connection));
        }
    });
    Ok((name.to_owned(), url))
}

async fn babble(mut connection: TcpStream) -> io::Result<()> {
    // The answer does not depend on the request.
    let _ = connection.read(&mut [0; 1024]).await?;
    connection.write_all(b"%&!#~ blah blah\r\n\r\n").await
}
