//! Where the socket lies, also when its path is longer than a socket's name may be.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The longest path that `sockaddr_un` holds with its final zero (unix(7): 108 bytes; 104 on BSD).
const LONGEST: usize = 103;

/// A path that `bind` and `connect` take. Holds the folder open while it is needed.
pub(crate) struct Place {
    path: PathBuf,
    _folder: Option<File>,
}

impl Place {
    /// A short way to `path`: itself, or through `/proc` and an open folder when it is too long.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= LONGEST {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        shortened(path)
    }

    pub(crate) fn as_path(&self) -> &Path {
        &self.path
    }
}

#[cfg(target_os = "linux")]
fn shortened(path: &Path) -> io::Result<Place> {
    use std::os::fd::AsRawFd;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = File::open(parent)?;
    let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok(Place { path, _folder: Some(folder) })
}

#[cfg(not(target_os = "linux"))]
fn shortened(_path: &Path) -> io::Result<Place> {
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "the path is too long for a socket; choose a shorter state folder",
    ))
}
