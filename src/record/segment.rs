//! One file while it is written: its name, its ffmpeg, and what ffmpeg is fed.
//!
//! **Invariant:** a segment whose write failed is over: its ffmpeg is gone, or was told to go.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::counters::Counters;
use super::ffmpeg::command::{Output, Streams, record};
use super::ffmpeg::feed::Feed;
use super::ffmpeg::process::{Exit, FfmpegError, Input, Process};
use super::files::growing::Growth;
use super::files::path::RecordingPath;
use super::fit::area;
use super::intake::picture::Picture;
use crate::hub::io::MediaPacket;
use crate::rtp::codec::TrackKind;

/// How long a dying ffmpeg may take to tell why.
const LAST_WORDS: Duration = Duration::from_secs(5);

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
    latest_ns: i64,
    largest: Option<(u16, u16)>,
    /// Sound that came before the file began, in order.
    waiting: VecDeque<(i64, MediaPacket)>,
    process: Process,
    feed: Feed,
    counters: Arc<Counters>,
    permit: Option<OwnedSemaphorePermit>,
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
    pub permit: Option<OwnedSemaphorePermit>,
}

impl Segment {
    /// Starts ffmpeg and tells it what will come.
    ///
    /// # Errors
    ///
    /// [`FfmpegError`].
    pub async fn begin(
        ffmpeg: &Path,
        path: RecordingPath,
        growth: Growth,
        streams: Streams,
        begin_ns: i64,
        permit: Option<OwnedSemaphorePermit>,
        counters: Arc<Counters>,
    ) -> Result<Self, FfmpegError> {
        let (input, stdin) = Input::pair().map_err(FfmpegError::Start)?;
        let mut process = Process::start(ffmpeg, &record(streams, Output::File(&path.part())), stdin)?;
        let feed = match Feed::begin(input, streams).await {
            Ok(feed) => feed,
            Err(error) => return Err(reason(&mut process, &error).await),
        };
        let latest_ns = begin_ns;
        Ok(Self {
            streams,
            path,
            growth,
            begin_ns,
            latest_ns,
            largest: None,
            waiting: VecDeque::new(),
            process,
            feed,
            counters,
            permit,
        })
    }

    /// ffmpeg's process id.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid
    }

    /// Where the file has come to on the broadcast's timeline.
    pub fn latest_ns(&self) -> i64 {
        self.latest_ns
    }

    /// Waits for an ffmpeg that ends by itself. Cancel safe.
    pub async fn ended(&mut self) -> Exit {
        self.process.ended().await
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
        self.write_waiting(at_ns).await?;
        let Some(since_begin_ns) = self.advance(at_ns) else {
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
        self.write_waiting(i64::MAX).await?;
        self.write_one(at_ns, sound).await
    }

    /// Takes sound that came before the file began. What stands before the beginning is left out, the rest goes out among the
    /// pictures: ffmpeg must see the first picture first, for it leaves out a stream that does not show within a second.
    pub fn wait_with(&mut self, sound: &VecDeque<(i64, MediaPacket)>) {
        self.waiting = sound.iter().filter(|(at_ns, _)| *at_ns >= self.begin_ns).cloned().collect();
    }

    /// Writes the waiting sound that stands before a moment of the broadcast's timeline.
    ///
    /// # Errors
    ///
    /// [`FfmpegError`]; the file is over then.
    pub async fn write_waiting(&mut self, before_ns: i64) -> Result<(), FfmpegError> {
        while self.waiting.front().is_some_and(|(at_ns, _)| *at_ns < before_ns)
            && let Some((at_ns, sound)) = self.waiting.pop_front()
        {
            self.write_one(at_ns, &sound).await?;
        }
        Ok(())
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

    async fn write_one(&mut self, at_ns: i64, sound: &MediaPacket) -> Result<(), FfmpegError> {
        let Some(since_begin_ns) = self.advance(at_ns).filter(|_| self.streams.audio) else {
            return Ok(());
        };
        let payload = std::slice::from_ref(&sound.payload);
        let sent = self.feed.send(TrackKind::Audio, since_begin_ns, sound.codec, payload).await;
        self.account(sent).await
    }

    fn advance(&mut self, at_ns: i64) -> Option<u64> {
        self.latest_ns = self.latest_ns.max(at_ns);
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
