//! The disk behind downloads: what tower-http's file service reads goes through [`Disk`].
//!
//! **Invariant:** a body holds no thread while its client does not read, and a disk that hangs holds no more threads than the
//! disk's quota allows, however many downloads wait for it. A download that ends closes its file on such a thread.

use std::fs::Metadata;
use std::io::{self, SeekFrom};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tokio::task::JoinHandle;
use tower_http::services::fs::{Backend, File};

use crate::record::{Disk, DiskOwned, OpenRecording, Turn, recording_metadata};

/// How long the disk may take for the head of an answer.
const HEAD_MAX: Duration = Duration::from_secs(5);

/// How long it may take for a piece of the body, before the download is cut off.
const PIECE_MAX: Duration = Duration::from_secs(30);

/// The longest piece.
const PIECE_MAX_BYTES: usize = 256 * 1024;

/// The disk that recordings are served from.
#[derive(Debug, Clone)]
pub struct RecordingBackend(pub Disk);

impl Backend for RecordingBackend {
    type File = Download;
    type Metadata = Metadata;
    type OpenFuture = BoxFuture<'static, io::Result<Download>>;
    type MetadataFuture = BoxFuture<'static, io::Result<Metadata>>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let disk = self.0.clone();
        Box::pin(async move {
            let owner = disk.clone();
            let open = move |turn: &Turn| {
                let (file, metadata) = OpenRecording::open(turn, &path)?;
                Ok((DiskOwned::new(&owner, file), metadata))
            };
            let (file, metadata) = disk.run("opening a recording", HEAD_MAX, open).await?;
            Ok(Download { disk, file: Arc::new(file), metadata, offset: 0, reading: None })
        })
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        let disk = self.0.clone();
        let look = move |turn: &Turn| recording_metadata(turn, &path);
        Box::pin(async move { Ok(disk.run("looking at a recording", HEAD_MAX, look).await?) })
    }
}

/// A recording on its way to a client.
#[derive(Debug)]
pub struct Download {
    disk: Disk,
    file: Arc<DiskOwned<OpenRecording>>,
    metadata: Metadata,
    offset: u64,
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl File for Download {
    type Metadata = Metadata;
    type MetadataFuture<'a> = std::future::Ready<io::Result<Metadata>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        std::future::ready(Ok(self.metadata.clone()))
    }
}

impl AsyncRead for Download {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let max_bytes = buf.remaining().min(PIECE_MAX_BYTES);
        if max_bytes == 0 {
            return Poll::Ready(Ok(()));
        }
        let reading = this.reading.get_or_insert_with(|| {
            let (disk, file, offset) = (this.disk.clone(), Arc::clone(&this.file), this.offset);
            let read = move |turn: &Turn| {
                let file = file.get().ok_or(io::ErrorKind::NotFound)?;
                file.read_at(turn, offset, max_bytes)
            };
            tokio::spawn(async move { Ok(disk.run("reading a recording", PIECE_MAX, read).await?) })
        });
        let read = ready!(Pin::new(reading).poll(cx));
        this.reading = None;
        let bytes = read.map_err(io::Error::other).flatten()?;
        // The buffer may be another than when the piece was asked for; what does not fit is read again.
        let taken = bytes.get(..bytes.len().min(buf.remaining())).unwrap_or_default();
        buf.put_slice(taken);
        this.offset = this.offset.saturating_add(taken.len() as u64);
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for Download {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        let (base, by) = match position {
            SeekFrom::Start(offset) => (offset, 0),
            SeekFrom::Current(by) => (self.offset, by),
            SeekFrom::End(by) => (self.metadata.len(), by),
        };
        let offset = base.checked_add_signed(by).ok_or(io::ErrorKind::InvalidInput)?;
        self.reading = None;
        self.offset = offset;
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.offset))
    }
}
