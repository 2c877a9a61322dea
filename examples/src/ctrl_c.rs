//! Ctrl-C, pressed once and twice.

use std::future::{Future, pending};
use std::io;

use futures::channel::oneshot;
#[cfg(unix)]
use tokio::signal::unix::{SignalKind, signal};
#[cfg(windows)]
use tokio::signal::windows::ctrl_c as presses;

/// Two futures: one completes when the user presses Ctrl-C, the other when the user presses it again.
/// From this call on, Ctrl-C does not end the program.
///
/// Call it within the runtime of tokio.
pub fn ctrl_c() -> io::Result<(
    impl Future<Output = ()> + Send + use<>,
    impl Future<Output = ()> + Send + use<>,
)> {
    // One listener counts both. Two listeners could take two quick presses for one.
    let mut presses = presses()?;
    let (tell_first, first) = oneshot::channel();
    let (tell_second, second) = oneshot::channel();
    tokio::spawn(async move {
        for press in [tell_first, tell_second] {
            presses.recv().await;
            // A send fails when the run has ended and the future is gone.
            let _ = press.send(());
        }
        // Later presses have no effect.
    });
    Ok((told(first), told(second)))
}

#[cfg(unix)]
fn presses() -> io::Result<tokio::signal::unix::Signal> {
    signal(SignalKind::interrupt())
}

async fn told(press: oneshot::Receiver<()>) {
    // The task is gone because the runtime ends.
    if press.await.is_err() {
        pending().await
    }
}
