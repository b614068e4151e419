//! What ffprobe and ffmpeg say of a file.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// One stream of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// `h264`, `opus`, …
    pub codec: String,
    /// The size of its picture.
    pub size: (u64, u64),
    /// Its packets.
    pub packets: usize,
    /// Its keyframes.
    pub keyframes: usize,
    /// When the first packet is shown, in seconds.
    pub begin_s: f64,
    /// How long it lasts, in seconds.
    pub duration_s: f64,
}

fn ffprobe(arguments: &[&str], file: &Path) -> String {
    let output = Command::new("ffprobe").args(arguments).arg(file).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.trim().is_empty(), "{arguments:?} {}: {errors}", file.display());
    String::from_utf8(output.stdout).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

/// The streams of a file: video first.
pub fn streams(file: &Path) -> Vec<Stream> {
    let arguments = ["-v", "error", "-show_streams", "-show_packets", "-of", "json"];
    let told: Value = serde_json::from_str(&ffprobe(&arguments, file)).unwrap();
    let packets = told["packets"].as_array().unwrap();
    let mut streams: Vec<Stream> = told["streams"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stream| {
            let own = || packets.iter().filter(|packet| packet["stream_index"] == stream["index"]);
            Stream {
                codec: stream["codec_name"].as_str().unwrap().to_owned(),
                size: (stream["width"].as_u64().unwrap_or(0), stream["height"].as_u64().unwrap_or(0)),
                packets: own().count(),
                keyframes: own().filter(|packet| packet["flags"].as_str().unwrap().starts_with('K')).count(),
                begin_s: number(&stream["start_time"]),
                duration_s: number(&stream["duration"]),
            }
        })
        .collect();
    streams.sort_by_key(|stream| stream.codec == "opus");
    streams
}

/// A hash of each packet of a track (`v` or `a`), in order.
pub fn packet_hashes(file: &Path, track: &str) -> Vec<String> {
    let arguments = ["-v", "error", "-select_streams", track, "-show_packets", "-show_data_hash", "md5"];
    let entries = ["-show_entries", "packet=data_hash", "-of", "csv=p=0"];
    let told = ffprobe(&[&arguments[..], &entries].concat(), file);
    told.lines().map(|line| line.trim_matches(',').to_owned()).filter(|line| !line.is_empty()).collect()
}

/// The size that the track header of the video tells.
pub fn shown_size(file: &Path) -> (u16, u16) {
    let bytes = std::fs::read(file).unwrap();
    let headers = bytes.windows(8).enumerate().filter(|(_, window)| window[4..] == *b"tkhd");
    let sizes = headers.map(|(at, window)| {
        let end = at + u32::from_be_bytes(window[..4].try_into().unwrap()) as usize;
        let field = |at: usize| u16::from_be_bytes(bytes[at..at + 2].try_into().unwrap());
        (field(end - 8), field(end - 4))
    });
    sizes.max().unwrap()
}

/// How many pictures a decoder makes of a file, in which it finds no error.
pub fn decoded_pictures(file: &Path) -> usize {
    let arguments = ["-v", "error", "-count_frames", "-select_streams", "v", "-show_entries", "stream=nb_read_frames"];
    ffprobe(&[&arguments[..], &["-of", "csv=p=0"]].concat(), file).trim().parse().unwrap()
}

/// The values of a metadata key, each with its time in seconds.
fn measured(file: &Path, filter: &[&str], key: &str) -> Vec<(f64, f64)> {
    let arguments = [&["-nostdin", "-v", "error", "-copyts", "-i", file.to_str().unwrap()], filter].concat();
    let output = Command::new("ffmpeg").args(arguments).args(["-f", "null", "-"]).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let (mut values, mut at_s) = (Vec::new(), 0.0);
    for line in text.lines() {
        if let Some((_, time)) = line.split_once("pts_time:") {
            at_s = time.trim().parse().unwrap();
        } else if let Some(value) = line.strip_prefix(key).and_then(|rest| rest.strip_prefix('=')) {
            values.push((at_s, value.parse().unwrap_or(f64::NEG_INFINITY)));
        }
    }
    assert!(!values.is_empty(), "nothing was measured");
    values
}

/// The moments at which values rise above a threshold.
fn rises(values: &[(f64, f64)], threshold: f64) -> Vec<f64> {
    let mut was_above = false;
    let mut rises = Vec::new();
    for (at_s, value) in values {
        let is_above = *value > threshold;
        if is_above && !was_above {
            rises.push(*at_s);
        }
        was_above = is_above;
    }
    rises
}

/// When the picture turns white.
pub fn flashes(file: &Path) -> Vec<f64> {
    let key = "lavfi.signalstats.YAVG";
    let filter = format!("signalstats,metadata=print:key={key}:file=-");
    rises(&measured(file, &["-an", "-vf", &filter], key), 200.0)
}

/// When a beep begins.
pub fn beeps(file: &Path) -> Vec<f64> {
    let key = "lavfi.astats.Overall.RMS_level";
    let filter = format!("asetnsamples=240,astats=metadata=1:reset=1,ametadata=print:key={key}:file=-");
    rises(&measured(file, &["-vn", "-af", &filter], key), -30.0)
}

/// How far the sound is behind the picture at each flash that has a beep, in seconds.
pub fn offsets(file: &Path) -> Vec<f64> {
    let beeps = beeps(file);
    let nearest = |flash: f64| beeps.iter().map(|beep| beep - flash).min_by(|a, b| a.abs().total_cmp(&b.abs()));
    flashes(file).into_iter().filter_map(nearest).filter(|offset| offset.abs() < 0.4).collect()
}
