//! The node's side.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use crate::desk::Desk;
use crate::place::Place;
use crate::{Error, WorkerControl};

/// Clients served at one time; more wait in the kernel's queue.
const CLIENTS: usize = 16;
/// Pause after an accept that failed for want of something (file descriptors).
const PAUSE: Duration = Duration::from_millis(100);

/// The control socket, open. Its file is removed when this is dropped.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    desk: Arc<Desk>,
}

impl Server {
    /// Opens the socket at `path` with mode 0600. Its folder must exist and belong to the owner
    /// alone. A socket that nobody answers on is replaced. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When another process answers there, or the system refuses.
    pub fn bind(path: &Path, control: Arc<dyn WorkerControl>) -> Result<Self, Error> {
        clear_stale(path)?;
        let place = Place::of(path).map_err(failed("opening", path))?;
        let listener = UnixListener::bind(place.as_path()).map_err(failed("opening", path))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed("protecting", path))?;
        Ok(Self { listener, path: path.to_owned(), desk: Arc::new(Desk::new(control)) })
    }

    /// Answers until it is dropped.
    pub async fn run(self) {
        let places = Arc::new(Semaphore::new(CLIENTS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let desk = Arc::clone(&self.desk);
                    tokio::spawn(async move {
                        if let Err(error) = desk.serve(stream).await {
                            tracing::debug!("control client: {error}");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!("accepting on the control socket: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Failing is harmless: the next start replaces a socket that nobody answers on.
        let _ = fs::remove_file(&self.path);
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { doing, path, source }
}

/// Removes a socket that nobody answers on.
fn clear_stale(path: &Path) -> Result<(), Error> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(Error::NotASocket(path.to_owned()));
    }
    let place = Place::of(path).map_err(failed("opening", path))?;
    match std::os::unix::net::UnixStream::connect(place.as_path()) {
        Ok(_) => Err(Error::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed("replacing", path))
        }
        Err(error) => Err(failed("asking", path)(error)),
    }
}
