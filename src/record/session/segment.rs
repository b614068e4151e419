//! One file while it is written: its name, its ffmpeg, and what ffmpeg is fed.
//!
//! **Invariant:** a segment whose write failed is over: its ffmpeg is gone, or was told to go.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::fit::area;
use crate::hub::io::MediaPacket;
use crate::record::counters::Counters;
use crate::record::ffmpeg::command::{Output, Streams, record};
use crate::record::ffmpeg::feed::Feed;
use crate::record::ffmpeg::process::{Exit, FfmpegError, Input, Priority, Process};
use crate::record::files::growing::Growth;
use crate::record::files::path::RecordingPath;
use crate::record::intake::picture::Picture;
use crate::rtp::codec::TrackKind;

/// How long a dying ffmpeg may take to tell why.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The ffmpeg that writes files.
#[derive(Debug, Clone, Copy)]
pub struct Ffmpeg<'a> {
    /// Its binary.
    pub binary: &'a Path,
    /// Whether its files become whole by themselves.
    pub hybrid: bool,
}

/// A file that is being written.
#[derive(Debug)]
pub struct Segment {
    /// What it is made of.
    pub streams: Streams,
    /// Its paths.
    pub path: RecordingPath,
    growth: Growth,
    /// Where it begins on the broadcast's timeline.
    pub begin_ns: i64,
    largest: Option<(u16, u16)>,
    process: Process,
    feed: Feed,
    counters: Arc<Counters>,
    permit: Option<Arc<OwnedSemaphorePermit>>,
}

/// What is left of a file when no packet follows.
#[derive(Debug)]
pub struct Ending {
    /// Its ffmpeg, which was told.
    pub process: Process,
    /// Our end of its input: it must stay until ffmpeg has ended.
    pub input: Input,
    /// Its paths.
    pub path: RecordingPath,
    /// Says that it is not finished yet.
    pub growth: Growth,
    /// The largest size of a picture that was copied.
    pub largest: Option<(u16, u16)>,
    /// The right to transcode.
    pub permit: Option<Arc<OwnedSemaphorePermit>>,
}

impl Segment {
    /// Starts ffmpeg and tells it what will come.
    ///
    /// # Errors
    ///
    /// [`FfmpegError`].
    pub async fn begin(
        ffmpeg: Ffmpeg<'_>,
        path: RecordingPath,
        growth: Growth,
        streams: Streams,
        begin_ns: i64,
        permit: Option<Arc<OwnedSemaphorePermit>>,
        counters: Arc<Counters>,
    ) -> Result<Self, FfmpegError> {
        let (input, stdin) = Input::pair().map_err(FfmpegError::Start)?;
        let output = Output::File { path: &path.part(), hybrid: ffmpeg.hybrid };
        let priority = if streams.is_encoded() { Priority::Yielding } else { Priority::Equal };
        let mut process = Process::start(ffmpeg.binary, &record(streams, output), stdin, priority)?;
        let feed = match Feed::begin(input, streams).await {
            Ok(feed) => feed,
            Err(error) => return Err(reason(&mut process, &error).await),
        };
        Ok(Self { streams, path, growth, begin_ns, largest: None, process, feed, counters, permit })
    }

    /// ffmpeg's process id.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid
    }

    /// How its ffmpeg ended, if it did so by itself.
    pub fn exit(&self) -> Option<Exit> {
        self.process.exit()
    }

    /// Writes a picture that stands at `at_ns` on the broadcast's timeline.
    ///
    /// # Errors
    ///
    /// [`FfmpegError`]; the file is over then.
    pub async fn write_picture(&mut self, at_ns: i64, picture: &Picture) -> Result<(), FfmpegError> {
        if let Some(size) = picture.size.filter(|_| !self.streams.is_transcoded()) {
            self.largest = Some(self.largest.map_or(size, |largest| larger(largest, size)));
        }
        let Some(since_begin_ns) = self.since_begin(at_ns) else {
            self.counters.packets_dropped.add(picture.payloads.len() as u64);
            return Ok(());
        };
        let sent = self.feed.send(TrackKind::Video, since_begin_ns, picture.codec, &picture.payloads).await;
        self.account(sent).await
    }

    /// Writes a packet of sound that stands at `at_ns` on the broadcast's timeline.
    ///
    /// # Errors
    ///
    /// [`FfmpegError`]; the file is over then.
    pub async fn write_sound(&mut self, at_ns: i64, sound: &MediaPacket) -> Result<(), FfmpegError> {
        let Some(since_begin_ns) = self.since_begin(at_ns).filter(|_| self.streams.audio.is_some()) else {
            self.counters.packets_dropped.add(1);
            return Ok(());
        };
        let payload = std::slice::from_ref(&sound.payload);
        let sent = self.feed.send(TrackKind::Audio, since_begin_ns, sound.codec, payload).await;
        self.account(sent).await
    }

    /// Tells ffmpeg that nothing more comes.
    pub fn end(self) -> Ending {
        Ending {
            process: self.process,
            input: self.feed.end(),
            path: self.path,
            growth: self.growth,
            largest: self.largest,
            permit: self.permit,
        }
    }

    fn since_begin(&self, at_ns: i64) -> Option<u64> {
        u64::try_from(at_ns.saturating_sub(self.begin_ns)).ok()
    }

    async fn account(&mut self, sent: io::Result<u64>) -> Result<(), FfmpegError> {
        match sent {
            Ok(count) => {
                self.counters.packets.add(count);
                Ok(())
            }
            Err(error) => Err(reason(&mut self.process, &error).await),
        }
    }
}

/// Why ffmpeg took no more.
async fn reason(process: &mut Process, error: &io::Error) -> FfmpegError {
    if error.kind() == io::ErrorKind::TimedOut {
        process.kill();
        return FfmpegError::Stalled;
    }
    match process.ended_within(LAST_WORDS).await {
        Ok(exit) => FfmpegError::Ended(exit.said),
        Err(slow) => slow,
    }
}

fn larger(a: (u16, u16), b: (u16, u16)) -> (u16, u16) {
    if area(b) > area(a) { b } else { a }
}
