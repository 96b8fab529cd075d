//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Exit status of a process that a second signal ended, as shells count it (128 + SIGINT).
const INTERRUPTED: i32 = 130;

/// Tells whether it is time to stop.
#[derive(Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Takes the process's signals from now on. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the system refuses to hand over signals.
    pub fn on_signals() -> io::Result<Self> {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (asked, receiver) = watch::channel(false);
        tokio::spawn(async move {
            let mut first = true;
            loop {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                if !first {
                    std::process::exit(INTERRUPTED);
                }
                first = false;
                let _ = asked.send(true);
            }
        });
        Ok(Self(receiver))
    }

    /// Resolves once somebody asked for the end.
    pub async fn asked(&mut self) {
        // The sender lives as long as the process.
        let _ = self.0.wait_for(|asked| *asked).await;
    }
}
