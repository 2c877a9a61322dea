//! SIGTERM and Ctrl-C: the first asks the worker to drain, the second to stop at once.

use std::future::{Future, pending};
use std::io;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{BoxFuture, Shared};

/// Completes when the signal has come.
pub(crate) type Signal = Shared<BoxFuture<'static, ()>>;

/// The first signal, and the second one. SIGTERM and Ctrl-C count alike. From this call on they do not
/// end the program by themselves.
pub(crate) fn stop_signals() -> io::Result<(Signal, Signal)> {
    // One listener counts both. Two listeners could take two quick signals for one.
    let mut signals = Signals::listen()?;
    let (tell_first, first) = oneshot::channel();
    let (tell_second, second) = oneshot::channel();
    tokio::spawn(async move {
        for tell in [tell_first, tell_second] {
            signals.next().await;
            // A send fails when the worker has ended and the receiver is gone.
            let _ = tell.send(());
        }
    });
    Ok((signal(received(first)), signal(received(second))))
}

/// Lets several futures wait for `signal`.
pub(crate) fn signal(signal: impl Future<Output = ()> + Send + 'static) -> Signal {
    signal.boxed().shared()
}

async fn received(signal: oneshot::Receiver<()>) {
    // The sender is dropped without a signal only when the runtime ends.
    if signal.await.is_err() {
        pending().await
    }
}

#[cfg(unix)]
struct Signals {
    keyboard: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        Ok(Self {
            keyboard: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.keyboard.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    /// Never completes if the system cannot report Ctrl-C.
    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            pending().await
        }
    }
}
