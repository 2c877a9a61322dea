//! Servers on this machine, one for every kind of answer that the world gives.

use std::future::pending;
use std::io;
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
use tokio::time::sleep;

use crate::fetch::Target;

/// Starts the servers, each on a port of its own. They run until the program ends.
pub(crate) async fn start() -> io::Result<Vec<Target>> {
    let mut targets = vec![
        serve("fast", get("here you are")).await?,
        serve("slow", get(slow)).await?,
        serve("hanging", get(pending::<()>)).await?,
        serve("failing", get(StatusCode::INTERNAL_SERVER_ERROR)).await?,
        serve("half-way", get(half_way)).await?,
        garbage("garbage").await?,
        serve("large", get(|| async { vec![b'x'; 2_000_000] })).await?,
        serve("dripping", get(dripping)).await?,
        serve("too-late", get(pending::<()>)).await?,
    ];
    for (index, target) in targets.iter_mut().enumerate() {
        target.index = index;
    }
    Ok(targets)
}

async fn serve(name: &str, route: MethodRouter) -> io::Result<Target> {
    let (listener, target) = listen(name).await?;
    tokio::spawn(async { axum::serve(listener, Router::new().route("/", route)).await });
    Ok(target)
}

async fn listen(name: &str) -> io::Result<(TcpListener, Target)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let target = Target {
        index: 0,
        name: name.to_owned(),
        url: Url::parse(&url).map_err(io::Error::other)?,
    };
    Ok((listener, target))
}

async fn slow() -> &'static str {
    sleep(Duration::from_millis(600)).await;
    "sorry for the delay"
}

/// Promises more than it sends, and closes the connection.
async fn half_way() -> Response {
    let promised = Bytes::from_static(b"once upon a ti");
    let chunks = stream::iter([Ok(promised), Err(io::Error::other("out of paper"))]).then(
        // The first part must be on its way before the connection closes.
        async |chunk| {
            sleep(Duration::from_millis(50)).await;
            chunk
        },
    );
    ([(CONTENT_LENGTH, "1000")], Body::from_stream(chunks)).into_response()
}

/// Sends a little at a time, for a second.
async fn dripping() -> Response {
    let drops = stream::unfold(0, |sent| async move {
        sleep(Duration::from_millis(100)).await;
        (sent < 10).then_some((Ok::<_, io::Error>("drip "), sent + 1))
    });
    Body::from_stream(drops).into_response()
}

/// Answers whatever it is asked with what is not HTTP.
async fn garbage(name: &str) -> io::Result<Target> {
    let (listener, target) = listen(name).await?;
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(babble(connection));
        }
    });
    Ok(target)
}

async fn babble(mut connection: TcpStream) -> io::Result<()> {
    // However much of the question has come, the answer is the same.
    let _ = connection.read(&mut [0; 1024]).await?;
    connection.write_all(b"%&!#~ blah blah\r\n\r\n").await
}
