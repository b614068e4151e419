//! A recorder with the test in the place of the hub.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use onair::handle::{HubPort, NewRecording, RECORDING_PACKETS_MAX, Request, bridge};
use onair::hub::io::{MediaPacket, Order, RecordingId, SessionId, TrackInfo};
use onair::record::{
    AudioFormat, Catalogue, DISK_DEADLINE, Disk, Growing, Query, RecordError, Recorder, RecorderConfig, RecordingFile,
    Retention, Turn,
};
use onair::rtp::codec::{Codec, CodecSet};
use onair::signal::message::RecordingState;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::sample::Sample;

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the recorder told about a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub recording: RecordingId,
    pub state: RecordingState,
    pub file: Option<String>,
    pub error: Option<String>,
}

/// A recorder, and the hub's side of its bridge.
pub struct Stage {
    pub dir: PathBuf,
    pub recorder: Recorder,
    pub port: HubPort,
    pub recordable: Vec<CodecSet>,
    pub keyframes_asked: usize,
    pub keyframes_due: usize,
    /// Recordings of which all was told.
    pub over: Vec<RecordingId>,
    last_recording: u64,
}

/// An empty directory of the test's own.
pub fn empty_dir(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recording").join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).unwrap();
    }
    dir
}

/// Does something with the disk as the server does.
pub async fn on_disk<T: Send + 'static>(work: impl FnOnce(&Turn) -> T + Send + 'static) -> T {
    Disk::default().run("testing", DISK_DEADLINE, |turn| Ok(work(turn))).await.unwrap()
}

/// All recordings below a directory, the newest first.
pub async fn list(dir: &Path) -> Vec<RecordingFile> {
    let catalogue = Catalogue::new(dir.to_owned());
    let query = Query { limit: 1000, ..Query::default() };
    on_disk(move |turn| catalogue.page(turn, &query, |_| true)).await.unwrap().recordings
}

/// A shell script that stands in the place of ffmpeg; `$REAL` is the real one.
pub fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(dir).unwrap();
    let (path, real) = (dir.join(name), config(dir).ffmpeg);
    std::fs::write(&path, format!("#!/bin/sh\nREAL={}\n{text}\n", real.display())).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A recorder without a limit, with the ffmpeg that the server's own variable names.
pub fn config(dir: &Path) -> RecorderConfig {
    let ffmpeg = std::env::var_os("ONAIR_FFMPEG").unwrap_or_else(|| "ffmpeg".into());
    RecorderConfig {
        dir: dir.to_owned(),
        ffmpeg: ffmpeg.into(),
        min_free_bytes: 0,
        retention: Retention::default(),
        growing: Growing::default(),
        segment: Duration::from_secs(6 * 3600),
        keyframes: None,
        audio: AudioFormat::Copy,
        on_recording: None,
    }
}

impl Stage {
    /// Starts a recorder in an empty directory.
    pub async fn new(name: &str) -> Self {
        Self::with(config(&empty_dir(name))).await.unwrap()
    }

    pub async fn with(config: RecorderConfig) -> Result<Self, RecordError> {
        let (handle, port, new_recordings) = bridge().unwrap();
        let dir = config.dir.clone();
        let recorder = Recorder::start(config, handle, new_recordings).await?;
        Ok(Self {
            dir,
            recorder,
            port,
            recordable: Vec::new(),
            keyframes_asked: 0,
            keyframes_due: 0,
            over: Vec::new(),
            last_recording: 0,
        })
    }

    /// Announces a broadcast with these tracks.
    pub async fn announce(&mut self, broadcast: &str, codecs: &[Codec]) -> (RecordingId, mpsc::Sender<MediaPacket>) {
        self.last_recording += 1;
        let (sender, packets) = mpsc::channel(RECORDING_PACKETS_MAX);
        let recording = RecordingId(self.last_recording);
        let tracks = codecs.iter().map(|codec| TrackInfo { kind: codec.kind(), codec: *codec }).collect();
        let (session, broadcast) = (SessionId(7), broadcast.parse().unwrap());
        let new = NewRecording { recording, session, broadcast, tracks, packets, dropped: Arc::default() };
        self.port.recordings.send(new).await.unwrap();
        (recording, sender)
    }

    /// Records a sample as fast as the recorder takes it.
    pub async fn play(&mut self, sample: &Sample, codecs: &[Codec]) -> RecordingId {
        let (recording, packets) = self.announce("room/user", codecs).await;
        feed(&packets, sample, Instant::now()).await;
        recording
    }

    /// Ends the recorder, and returns what it told since it was last asked.
    pub async fn end(mut self) -> Vec<Told> {
        self.recorder.finish(PATIENCE).await;
        let mut told = Vec::new();
        while let Ok(request) = self.port.requests.try_recv() {
            told.extend(sort(
                request,
                &mut self.recordable,
                &mut self.keyframes_asked,
                &mut self.keyframes_due,
                &mut self.over,
            ));
        }
        told
    }

    /// Ends the recorder, and returns its files in the order in which they began, all complete.
    pub async fn files(self) -> Vec<PathBuf> {
        let dir = self.dir.clone();
        let told = self.end().await;
        let of = |state| {
            let of_state = told.iter().filter(move |told| told.state == state);
            of_state.filter_map(|told| told.file.clone()).collect::<Vec<_>>()
        };
        let (started, finished) = (of(RecordingState::Started), of(RecordingState::Finished));
        assert!(started.len() == finished.len() && started.iter().all(|file| finished.contains(file)), "{told:?}");
        assert!(told.iter().all(|told| told.error.is_none()), "{told:?}");
        started.into_iter().map(|file| dir.join(file)).collect()
    }

    /// Records a sample that becomes one file.
    pub async fn record(mut self, sample: &Sample, codecs: &[Codec]) -> PathBuf {
        self.play(sample, codecs).await;
        let files = self.files().await;
        let [file] = files.as_slice() else {
            panic!("{files:?}");
        };
        file.clone()
    }

    /// Waits until all was told of a recording.
    pub async fn until_over(&mut self, recording: RecordingId) {
        while !self.over.contains(&recording) {
            let request = timeout(PATIENCE, self.port.requests.recv()).await.expect("it is never over");
            let told = sort(
                request.unwrap(),
                &mut self.recordable,
                &mut self.keyframes_asked,
                &mut self.keyframes_due,
                &mut self.over,
            );
            assert_eq!(told, None);
        }
    }

    /// The next thing that the recorder has told of a file, if there is one.
    pub fn told_now(&mut self) -> Option<Told> {
        while let Ok(request) = self.port.requests.try_recv() {
            let told =
                sort(request, &mut self.recordable, &mut self.keyframes_asked, &mut self.keyframes_due, &mut self.over);
            if told.is_some() {
                return told;
            }
        }
        None
    }

    /// The next thing that the recorder tells of a file.
    pub async fn told(&mut self) -> Told {
        loop {
            let request = timeout(PATIENCE, self.port.requests.recv()).await.expect("the recorder tells nothing");
            let request = request.expect("the recorder is gone");
            if let Some(told) =
                sort(request, &mut self.recordable, &mut self.keyframes_asked, &mut self.keyframes_due, &mut self.over)
            {
                return told;
            }
        }
    }
}

fn sort(
    request: Request,
    recordable: &mut Vec<CodecSet>,
    keyframes_asked: &mut usize,
    keyframes_due: &mut usize,
    over: &mut Vec<RecordingId>,
) -> Option<Told> {
    match request {
        Request::Order(Order::Recording { recording, state, file, error, .. }) => {
            return Some(Told { recording, state, file, error });
        }
        Request::Order(Order::RecordingOver(recording)) => over.push(recording),
        Request::Order(Order::Keyframe(_)) => *keyframes_asked += 1,
        Request::Order(Order::KeyframeDue(_)) => *keyframes_due += 1,
        Request::Order(Order::Recordable(codecs)) => recordable.push(codecs),
        Request::Order(Order::RecordingPaused(_)) => {}
        other => panic!("{other:?}"),
    }
    None
}

/// Sends a sample's packets as fast as they are taken, as if it had begun at `begin`.
pub async fn feed(packets: &mpsc::Sender<MediaPacket>, sample: &Sample, begin: Instant) {
    for packet in sample.media(begin) {
        packets.send(packet).await.expect("the recorder takes packets until the broadcast ends");
    }
}
