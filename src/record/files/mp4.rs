//! The few boxes of an MP4 file (ISO/IEC 14496-12) that matter here: how many samples it holds, how long it lasts, and
//! how large its picture is shown.
//!
//! A recording exists in two forms. While it grows it is *fragmented*: a movie box without samples, then a pair of `moof`
//! and `mdat` for each second or so. A *whole* file has one movie box that lists all samples.
//!
//! **Invariant:** a file may hold anything: every read is bounded, whatever a box claims to be, and nothing is written but
//! the sizes of video tracks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::disk::Turn;

/// Boxes on the top level that are looked at, at most. A day of fragments has 180,000.
const TOP_BOXES_MAX: usize = 10_000_000;

/// Boxes within one box that are looked at, at most.
const INNER_BOXES_MAX: usize = 1024;

/// A `moof` that is larger is not ours. One of a second has some 2 KB.
const MOOF_MAX_BYTES: u64 = 64 << 20;

/// A box: its kind, and where its content lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    kind: [u8; 4],
    begin: u64,
    end: u64,
    /// Where the content would end if the file were not cut off before.
    claimed_end: u64,
}

impl Span {
    fn is_cut_off(&self) -> bool {
        self.claimed_end > self.end
    }
}

/// What a file was found to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Samples that the movie box lists, by track.
    pub listed: BTreeMap<u32, u64>,
    /// Samples of the fragments that are there to their last byte, by track.
    pub fragmented: BTreeMap<u32, u64>,
    /// How long it lasts, by the movie box or by the fragments.
    pub duration: Duration,
    /// How large it is.
    pub size_bytes: u64,
    /// Whether every byte was understood as a box, and none of them holds media or stands for some.
    is_empty: bool,
}

impl Survey {
    /// Whether it is proven that the file holds no sample. A file that cannot be read to its end is not proven empty.
    pub fn is_proven_empty(&self) -> bool {
        self.is_empty
    }

    /// Whether one movie box lists samples.
    pub fn is_whole(&self) -> bool {
        self.listed.values().any(|count| *count > 0)
    }

    /// Whether nothing is left to be done: one movie box lists all samples, and some of each track.
    pub fn is_complete(&self) -> bool {
        self.is_whole() && self.fragmented.is_empty() && self.listed.values().all(|count| *count > 0)
    }

    /// The samples that can be read, of all tracks.
    pub fn total(&self) -> u64 {
        self.readable().values().sum()
    }

    fn readable(&self) -> &BTreeMap<u32, u64> {
        if self.fragmented.is_empty() { &self.listed } else { &self.fragmented }
    }

    /// Whether this whole file lists as many samples of each track as can be read in `part`.
    pub fn holds_all_of(&self, part: &Self) -> bool {
        // ffmpeg renumbers the tracks of the copy and keeps their order.
        let counts = |samples: &BTreeMap<u32, u64>| -> Vec<u64> {
            samples.values().copied().filter(|count| *count > 0).collect()
        };
        let (kept, held) = (counts(&self.listed), counts(part.readable()));
        kept.len() >= held.len() && kept.iter().zip(&held).all(|(kept, held)| kept >= held)
    }
}

/// Looks through a file, without reading its media.
///
/// # Errors
///
/// Where the disk fails.
pub fn survey(_turn: &Turn, file: &File) -> io::Result<Survey> {
    let file_end = file.metadata()?.len();
    let mut survey = Survey { size_bytes: file_end, is_empty: true, ..Survey::default() };
    let mut timescales = BTreeMap::new();
    let mut pending = None;
    let mut top = Boxes::new(file, 0, file_end, TOP_BOXES_MAX);
    while let Some(span) = top.next_box()? {
        match &span.kind {
            b"moov" if !span.is_cut_off() => {
                for track in tracks(file, span)? {
                    *survey.listed.entry(track.id).or_default() += track.samples;
                    survey.is_empty &= track.samples == 0;
                    timescales.insert(track.id, track.timescale);
                }
                survey.duration = survey.duration.max(movie_duration(file, span)?);
            }
            b"moof" => {
                survey.is_empty = false;
                pending = if span.is_cut_off() { None } else { fragment(file, span)? };
            }
            b"mdat" => {
                survey.is_empty &= span.claimed_end == span.begin;
                for Run { track, samples, end_ticks } in pending.take().into_iter().flatten() {
                    if span.is_cut_off() {
                        continue;
                    }
                    *survey.fragmented.entry(track).or_default() += samples;
                    let timescale = timescales.get(&track).copied().unwrap_or_default();
                    survey.duration = survey.duration.max(ticks(end_ticks, timescale));
                }
            }
            b"ftyp" | b"styp" | b"free" | b"skip" | b"moov" => {}
            // Whatever it is, it is not known to be nothing.
            _ => survey.is_empty = false,
        }
    }
    survey.is_empty &= top.was_understood;
    Ok(survey)
}

/// How long the file lasts. `None` for what is no MP4 file with samples.
///
/// # Errors
///
/// Where the disk fails.
pub fn duration(turn: &Turn, file: &File) -> io::Result<Option<Duration>> {
    Ok(Some(survey(turn, file)?.duration).filter(|duration| !duration.is_zero()))
}

/// Makes the video tracks of a whole file say that they are of this size.
///
/// A copied stream may change its size; its header then tells the first one, which is the smallest as browsers grow.
/// Players take the shape of their window from the header (AVFoundation, and Chromium until the first picture) or from the
/// decoder (VLC, mpv, and Chromium from then on); these do not care.
///
/// # Errors
///
/// Where the disk fails.
pub fn set_size(_turn: &Turn, file: &File, width: u16, height: u16) -> io::Result<()> {
    let file_end = file.metadata()?.len();
    let mut top = Boxes::new(file, 0, file_end, TOP_BOXES_MAX);
    while let Some(span) = top.next_box()? {
        if span.kind != *b"moov" || span.is_cut_off() {
            continue;
        }
        for trak in children(file, span)?.into_iter().filter(|child| child.kind == *b"trak") {
            set_track_size(file, trak, width, height)?;
        }
    }
    Ok(())
}

fn set_track_size(file: &File, trak: Span, width: u16, height: u16) -> io::Result<()> {
    if find(file, trak, &[*b"mdia", *b"minf", *b"vmhd"])?.is_none() {
        return Ok(());
    }
    // §8.3.2: the width and height stand last, in 16.16 fixed point.
    if let Some(header) = find(file, trak, &[*b"tkhd"])?.filter(|header| header.end - header.begin >= 8) {
        let size = [u32::from(width) << 16, u32::from(height) << 16].map(u32::to_be_bytes).concat();
        file.write_all_at(&size, header.end - 8)?;
    }
    // §12.1.3: the first sample entry begins 8 bytes into the sample descriptions, its size 32 bytes into the entry.
    let descriptions = find(file, trak, &[*b"mdia", *b"minf", *b"stbl", *b"stsd"])?;
    if let Some(descriptions) = descriptions.filter(|found| found.end - found.begin >= 8 + 36) {
        file.write_all_at(&[width, height].map(u16::to_be_bytes).concat(), descriptions.begin + 8 + 32)?;
    }
    Ok(())
}

/// One track as its movie box tells.
#[derive(Debug)]
struct Track {
    id: u32,
    timescale: u32,
    samples: u64,
}

fn tracks(file: &File, moov: Span) -> io::Result<Vec<Track>> {
    let mut tracks = Vec::new();
    for trak in children(file, moov)?.into_iter().filter(|child| child.kind == *b"trak") {
        let header = match find(file, trak, &[*b"tkhd"])? {
            Some(header) => read(file, header, 24)?,
            None => continue,
        };
        // §8.3.2: the times in front of the number have four bytes each, or eight.
        let id = be32(&header, if header.first() == Some(&0) { 12 } else { 20 });
        let media = match find(file, trak, &[*b"mdia", *b"mdhd"])? {
            Some(media) => read(file, media, 24)?,
            None => Vec::new(),
        };
        let timescale = be32(&media, if media.first() == Some(&0) { 12 } else { 20 });
        let sizes = match find(file, trak, &[*b"mdia", *b"minf", *b"stbl", *b"stsz"])? {
            Some(sizes) => read(file, sizes, 12)?,
            None => Vec::new(),
        };
        let samples = be32(&sizes, 8).unwrap_or_default();
        tracks.extend(id.map(|id| Track { id, timescale: timescale.unwrap_or_default(), samples: samples.into() }));
    }
    Ok(tracks)
}

fn movie_duration(file: &File, moov: Span) -> io::Result<Duration> {
    let Some(header) = find(file, moov, &[*b"mvhd"])? else {
        return Ok(Duration::ZERO);
    };
    let body = read(file, header, 32)?;
    // §8.2.2.
    let told = match body.first() {
        Some(0) => be32(&body, 12).zip(be32(&body, 16).map(u64::from)),
        Some(_) => be32(&body, 20).zip(be64(&body, 24)),
        None => None,
    };
    Ok(told.map_or(Duration::ZERO, |(timescale, duration)| ticks(duration, timescale)))
}

/// What one fragment holds of a track.
#[derive(Debug)]
struct Run {
    track: u32,
    samples: u64,
    end_ticks: u64,
}

/// The runs of a `moof`; `None` where it is not one that we can read.
fn fragment(file: &File, moof: Span) -> io::Result<Option<Vec<Run>>> {
    if moof.end - moof.begin > MOOF_MAX_BYTES {
        return Ok(None);
    }
    let mut runs = Vec::new();
    for traf in children(file, moof)?.into_iter().filter(|child| child.kind == *b"traf") {
        let (mut track, mut default_ticks, mut end_ticks, mut samples) = (0, 0, 0_u64, 0_u64);
        for inner in children(file, traf)? {
            let body = read(file, inner, MOOF_MAX_BYTES)?;
            match &inner.kind {
                b"tfhd" => {
                    track = be32(&body, 4).unwrap_or_default();
                    default_ticks = default_duration(&body).unwrap_or_default();
                }
                // §8.8.12.
                b"tfdt" => {
                    let begin = if body.first() == Some(&0) { be32(&body, 4).map(u64::from) } else { be64(&body, 4) };
                    end_ticks = begin.unwrap_or_default();
                }
                b"trun" => {
                    let count = be32(&body, 4).unwrap_or_default();
                    samples = samples.saturating_add(count.into());
                    end_ticks = end_ticks.saturating_add(run_duration(&body, count, default_ticks));
                }
                _ => {}
            }
        }
        runs.push(Run { track, samples, end_ticks });
    }
    Ok(Some(runs))
}

/// The default duration of a sample (§8.8.7): its place depends on which fields stand before it.
fn default_duration(tfhd: &[u8]) -> Option<u32> {
    let flags = be32(tfhd, 0)?;
    if flags & 0x08 == 0 {
        return None;
    }
    be32(tfhd, 8 + if flags & 0x01 == 0 { 0 } else { 8 } + if flags & 0x02 == 0 { 0 } else { 4 })
}

/// How long the samples of a run last together (§8.8.8).
fn run_duration(trun: &[u8], count: u32, default_ticks: u32) -> u64 {
    let flags = be32(trun, 0).unwrap_or_default();
    if flags & 0x100 == 0 {
        return u64::from(count) * u64::from(default_ticks);
    }
    let fields = [0x100, 0x200, 0x400, 0x800].into_iter().filter(|field| flags & field != 0).count();
    let begin = 8 + [0x01, 0x04].into_iter().filter(|field| flags & field != 0).count() * 4;
    let samples = trun.get(begin..).unwrap_or_default().chunks_exact(fields * 4);
    samples.take(count as usize).filter_map(|sample| be32(sample, 0)).map(u64::from).sum()
}

fn ticks(count: u64, timescale: u32) -> Duration {
    if timescale == 0 {
        return Duration::ZERO;
    }
    let timescale = u64::from(timescale);
    let nanos = u32::try_from(count % timescale * 1_000_000_000 / timescale).unwrap_or_default();
    Duration::new(count / timescale, nanos)
}

/// The boxes of a stretch of a file, one after the other.
#[derive(Debug)]
struct Boxes<'a> {
    file: &'a File,
    at: u64,
    end: u64,
    left: usize,
    /// False once something came that is no box.
    was_understood: bool,
}

impl<'a> Boxes<'a> {
    fn new(file: &'a File, at: u64, end: u64, max: usize) -> Self {
        Self { file, at, end, left: max, was_understood: true }
    }

    fn next_box(&mut self) -> io::Result<Option<Span>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let room = self.end - self.at;
        let mut header = [0; 16];
        let header_max = usize::try_from(room.min(16)).unwrap_or(16);
        let Some(head) = header.get_mut(..header_max) else {
            return Ok(None);
        };
        self.file.read_exact_at(head, self.at)?;
        let kind = header.get(4..8).and_then(|kind| kind.first_chunk::<4>().copied()).unwrap_or_default();
        let (size, header_bytes) = match (be32(&header, 0), be64(&header, 8)) {
            (Some(1), Some(large)) if room >= 16 => (large, 16),
            (Some(0), _) => (room, 8),
            (Some(size), _) => (u64::from(size), 8),
            _ => (0, 8),
        };
        self.left = self.left.saturating_sub(1);
        if room < 8 || size < header_bytes || self.left == 0 {
            self.was_understood = false;
            self.at = self.end;
            return Ok(None);
        }
        let claimed_end = self.at.saturating_add(size);
        let span = Span { kind, begin: self.at + header_bytes, end: claimed_end.min(self.end), claimed_end };
        self.at = span.end;
        Ok(Some(span))
    }
}

fn children(file: &File, span: Span) -> io::Result<Vec<Span>> {
    let mut boxes = Boxes::new(file, span.begin, span.end, INNER_BOXES_MAX);
    let mut found = Vec::new();
    while let Some(child) = boxes.next_box()? {
        // A box is never larger than the one around it.
        if !child.is_cut_off() {
            found.push(child);
        }
    }
    Ok(found)
}

/// The box at the end of `path`.
fn find(file: &File, within: Span, path: &[[u8; 4]]) -> io::Result<Option<Span>> {
    let mut span = within;
    for kind in path {
        let Some(child) = children(file, span)?.into_iter().find(|child| child.kind == *kind) else {
            return Ok(None);
        };
        span = child;
    }
    Ok(Some(span))
}

/// The beginning of a box's content, at most `max` bytes of it.
fn read(file: &File, span: Span, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from((span.end - span.begin).min(max)).unwrap_or_default()];
    file.read_exact_at(&mut bytes, span.begin)?;
    Ok(bytes)
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_be_bytes(*chunk))
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_be_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn a_box(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn track(id: u32, handler: &[u8; 4], samples: u32) -> Vec<u8> {
        let mut header = vec![0; 84];
        header[12..16].copy_from_slice(&id.to_be_bytes());
        let entry = a_box(b"avc1", &[0; 78]);
        let descriptions = a_box(b"stsd", &[&[0, 0, 0, 0, 0, 0, 0, 1], &entry[..]].concat());
        let sizes = a_box(b"stsz", &words(&[0, 0, samples]));
        let table = a_box(b"stbl", &[descriptions, sizes].concat());
        let information = a_box(b"minf", &[a_box(handler, &[0; 12]), table].concat());
        let media = [a_box(b"mdhd", &words(&[0, 0, 0, 1000, 0, 0])), information].concat();
        a_box(b"trak", &[a_box(b"tkhd", &header), a_box(b"mdia", &media)].concat())
    }

    fn movie(duration: u32, tracks: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![0; 100];
        body[12..16].copy_from_slice(&1000_u32.to_be_bytes());
        body[16..20].copy_from_slice(&duration.to_be_bytes());
        a_box(b"moov", &[a_box(b"mvhd", &body), tracks.concat()].concat())
    }

    /// A fragment of samples of 20 ms each, with their media.
    fn fragment(id: u32, begin: u32, samples: u32) -> Vec<u8> {
        let header = a_box(b"tfhd", &words(&[0x0002_0008, id, 20]));
        let run = a_box(b"trun", &words(&[0x1, samples, 0]));
        let traf = a_box(b"traf", &[header, a_box(b"tfdt", &words(&[0, begin])), run].concat());
        [a_box(b"moof", &[a_box(b"mfhd", &[0; 8]), traf].concat()), a_box(b"mdat", &[7; 50])].concat()
    }

    fn file_with(bytes: &[u8], name: &str) -> File {
        let path = std::env::temp_dir().join(format!("onair-mp4-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file
    }

    fn survey_of(bytes: &[u8], name: &str) -> Survey {
        survey(&Turn::for_tests(), &file_with(bytes, name)).unwrap()
    }

    fn movie_of(pictures: u32, sounds: u32) -> Vec<u8> {
        movie(2500, &[track(1, b"vmhd", pictures), track(2, b"smhd", sounds)])
    }

    #[test]
    fn a_whole_file_tells_its_samples_and_duration_wherever_its_index_stands() {
        let movie = movie_of(75, 125);
        let media = a_box(b"mdat", &[0; 40]);
        for parts in [[&movie, &media], [&media, &movie]] {
            let bytes = [&a_box(b"ftyp", b"isom")[..], &a_box(b"free", &[]), parts[0], parts[1]].concat();
            let told = survey_of(&bytes, "whole");
            assert_eq!(told.duration, Duration::from_millis(2500));
            assert_eq!(told.listed, BTreeMap::from([(1, 75), (2, 125)]));
            assert!(told.is_whole() && told.is_complete() && !told.is_proven_empty());
        }
        let silent = survey_of(&[movie_of(75, 0), media].concat(), "silent");
        assert!(silent.is_whole() && !silent.is_complete(), "a track without samples is to go");
    }

    /// A movie box of 64 hours has more than 256 MiB: once it was not read, taken for none, and the file was deleted.
    #[test]
    fn a_movie_box_of_any_size_is_read() {
        let file = file_with(b"", "huge");
        let sizes_bytes = 300_u64 << 20;
        let header = |kind: &[u8; 4], size: u64| [&(size as u32).to_be_bytes()[..], kind].concat();
        let tkhd = a_box(b"tkhd", &[&[0; 12][..], &[0, 0, 0, 1], &[0; 68]].concat());
        let around = [(b"stbl", 0_u64), (b"minf", 0), (b"mdia", 0), (b"trak", tkhd.len() as u64), (b"moov", 0)];
        let mut size = sizes_bytes + 20;
        let mut head = [header(b"stsz", size), words(&[0, 0, 78_643_200])].concat();
        for (kind, beside) in around {
            size += 8 + beside;
            let beside = if kind == b"trak" { tkhd.clone() } else { Vec::new() };
            head = [header(kind, size), beside, head].concat();
        }
        file.write_all_at(&head, 0).unwrap();
        file.set_len(size).unwrap();
        let told = survey(&Turn::for_tests(), &file).unwrap();
        assert_eq!(told.listed, BTreeMap::from([(1, 78_643_200)]));
        assert!(!told.is_proven_empty());
    }

    #[test]
    fn fragments_are_counted_as_far_as_their_media_is_there() {
        let begin = [a_box(b"ftyp", b"isom"), movie(0, &[track(1, b"vmhd", 0), track(2, b"smhd", 0)])].concat();
        let bytes = [&begin[..], &fragment(1, 0, 50), &fragment(2, 0, 40), &fragment(1, 1000, 30)].concat();
        let told = survey_of(&bytes, "fragments");
        assert_eq!(told.fragmented, BTreeMap::from([(1, 80), (2, 40)]));
        assert_eq!((told.duration, told.is_whole()), (Duration::from_millis(1600), false));
        let cut = survey_of(&bytes[..bytes.len() - 1], "cut");
        assert_eq!(cut.fragmented, BTreeMap::from([(1, 50), (2, 40)]));
        let copy = Survey { listed: BTreeMap::from([(1, 80), (2, 40)]), ..Survey::default() };
        assert!(copy.holds_all_of(&told) && copy.holds_all_of(&cut) && !cut.holds_all_of(&told));
        let short = Survey { listed: BTreeMap::from([(1, 80), (2, 39)]), ..Survey::default() };
        let lost = Survey { listed: BTreeMap::from([(1, 80)]), ..Survey::default() };
        assert!(!short.holds_all_of(&told) && !lost.holds_all_of(&told));
    }

    #[test]
    fn only_what_is_proven_to_hold_nothing_is_empty() {
        let ftyp = a_box(b"ftyp", b"isom");
        let begin = [&ftyp[..], &movie(0, &[track(1, b"vmhd", 0)])].concat();
        for (name, bytes) in [("nothing", &b""[..]), ("ftyp", &ftyp), ("movie", &begin), ("half", &begin[..40])] {
            assert!(survey_of(bytes, name).is_proven_empty(), "{name}");
        }
        let fragment = fragment(1, 0, 5);
        let with = |more: &[u8]| [&begin[..], more].concat();
        for (name, bytes) in [
            ("fragment", with(&fragment)),
            ("its-beginning", with(&fragment[..12])),
            ("media", [&ftyp[..], &a_box(b"mdat", &[1])].concat()),
            ("media-cut-off", [&ftyp[..], &a_box(b"mdat", &[1; 9])[..10]].concat()),
            ("garbage", with(&[0xff; 100])),
            ("a-few-bytes", with(&[0, 0, 0])),
            ("another-format", b"RIFF....AVI LIST".to_vec()),
        ] {
            assert!(!survey_of(&bytes, name).is_proven_empty(), "{name}");
        }
    }

    #[test]
    fn the_size_is_written_into_video_tracks_alone() {
        let (video, sound) = (track(1, b"vmhd", 1), track(2, b"smhd", 1));
        let bytes = [a_box(b"ftyp", b"isom"), movie(1, &[sound.clone(), video.clone()])].concat();
        let file = file_with(&bytes, "size");
        set_size(&Turn::for_tests(), &file, 1280, 720).unwrap();
        let mut after = vec![0; bytes.len()];
        file.read_exact_at(&mut after, 0).unwrap();
        let video_at = bytes.len() - video.len();
        assert_eq!(after[..video_at], bytes[..video_at], "sound is as it was");
        let header_end = video_at + 8 + 8 + 84;
        assert_eq!(after[header_end - 8..header_end], [5, 0, 0, 0, 2, 208, 0, 0]);
        let entry_at = video_at + video.windows(4).position(|kind| kind == b"avc1").unwrap() - 4;
        assert_eq!(after[entry_at + 32..entry_at + 36], [1280_u16.to_be_bytes(), 720_u16.to_be_bytes()].concat());
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_through(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..600) {
            let begin = [movie(0, &[track(1, b"vmhd", 0)]), fragment(1, 0, 3)].concat();
            let file = [&begin[..cut.min(begin.len())], &bytes].concat();
            let handle = file_with(&file, "any");
            let _ = survey(&Turn::for_tests(), &handle).unwrap();
            set_size(&Turn::for_tests(), &handle, 16, 16).unwrap();
            prop_assert_eq!(handle.metadata().unwrap().len(), file.len() as u64);
        }
    }
}
