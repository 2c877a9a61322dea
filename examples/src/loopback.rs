//! Serves a router on this machine.

use std::io;
use std::net::TcpListener;
use std::thread;

use axum::Router;
use axum::serve::ListenerExt;
use reqwest::Url;
use tokio::net;
use tokio::runtime::Builder;

/// Serves `router` until the program ends, and returns its URL. The server runs on a thread of its own,
/// so any executor can ask it.
///
/// When a handler fails in the middle of an answer, the server resets the connection.
pub fn serve(router: Router) -> io::Result<Url> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let url = format!("http://{}/", listener.local_addr()?);
    let url = Url::parse(&url).map_err(io::Error::other)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let serve = async {
        let listener = net::TcpListener::from_std(listener)?.tap_io(|connection| {
            // Without a reset the client only sees the end of the connection, which is an error too.
            let _ = connection.set_zero_linger();
        });
        axum::serve(listener, router).await
    };
    thread::Builder::new().spawn(move || runtime.block_on(serve))?;
    Ok(url)
}
