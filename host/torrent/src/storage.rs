//! Files on the disk, written whole or not at all.
//!
//! librqbit 9.1.0 writes with one `pwritev` and takes a short write for a whole one, so that at the
//! end of a full disk a piece fails its hash, the peer is blamed, and the torrent goes on for ever.
//! Here each part is written until it is all there or the system says why not.

use std::any::TypeId;
use std::path::Path;

use librqbit::storage::filesystem::{FilesystemStorage, FilesystemStorageFactory};
use librqbit::storage::{BoxStorageFactory, StorageFactory, StorageFactoryExt, TorrentStorage};
use librqbit::{ManagedTorrentShared, TorrentMetadata};

/// librqbit's own files but for vectored writes.
#[derive(Clone, Copy, Default)]
pub(crate) struct WholeWrites(FilesystemStorageFactory);

impl StorageFactory for WholeWrites {
    type Storage = Files<FilesystemStorage>;

    fn create(
        &self,
        shared: &ManagedTorrentShared,
        metadata: &TorrentMetadata,
    ) -> anyhow::Result<Self::Storage> {
        Ok(Files(self.0.create(shared, metadata)?))
    }

    fn is_type_id(&self, type_id: TypeId) -> bool {
        self.0.is_type_id(type_id)
    }

    fn clone_box(&self) -> BoxStorageFactory {
        self.boxed()
    }
}

/// `pwrite_all_vectored` is left to the trait, which calls `pwrite_all` for each part.
pub(crate) struct Files<S>(S);

impl<S: TorrentStorage> TorrentStorage for Files<S> {
    fn init(&mut self, shared: &ManagedTorrentShared, metadata: &TorrentMetadata) -> anyhow::Result<()> {
        self.0.init(shared, metadata)
    }

    fn pread_exact(&self, file: usize, offset: u64, bytes: &mut [u8]) -> anyhow::Result<()> {
        self.0.pread_exact(file, offset, bytes)
    }

    fn pwrite_all(&self, file: usize, offset: u64, bytes: &[u8]) -> anyhow::Result<()> {
        // A chunk mostly comes as one part: the other is not worth a system call.
        if bytes.is_empty() { Ok(()) } else { self.0.pwrite_all(file, offset, bytes) }
    }

    fn remove_file(&self, file: usize, name: &Path) -> anyhow::Result<()> {
        self.0.remove_file(file, name)
    }

    fn remove_directory_if_empty(&self, path: &Path) -> anyhow::Result<()> {
        self.0.remove_directory_if_empty(path)
    }

    fn ensure_file_length(&self, file: usize, length: u64) -> anyhow::Result<()> {
        self.0.ensure_file_length(file, length)
    }

    fn take(&self) -> anyhow::Result<Box<dyn TorrentStorage>> {
        Ok(Box::new(Files(self.0.take()?)))
    }
}
