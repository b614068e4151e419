//! The few boxes of an MP4 file (ISO/IEC 14496-12) that matter here: how long it lasts, and how large it is shown.
//!
//! **Invariant:** a file may hold anything: every read is bounded and nothing is written but the sizes of video tracks.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::disk::Turn;

/// The movie box is no larger than this: ten hours of a broadcast need some 30 MB.
const MOOV_MAX_BYTES: u64 = 256 << 20;

/// Boxes looked at on the top level, at most.
const TOP_BOXES_MAX: usize = 64;

/// A box within a file or a buffer: where its content begins and ends.
#[derive(Debug, Clone, Copy)]
struct Span {
    begin: u64,
    end: u64,
}

/// How long the file lasts by its movie header. `None` for what is no complete MP4 file.
///
/// # Errors
///
/// Where the disk fails.
pub fn duration(turn: &Turn, file: &File) -> io::Result<Option<Duration>> {
    let Some(moov) = find_moov(turn, file)? else {
        return Ok(None);
    };
    // The movie header stands first (§8.2.2 allows any order; ffmpeg writes it first).
    let mut bytes = vec![0; usize::try_from((moov.end - moov.begin).min(128)).unwrap_or(0)];
    file.read_exact_at(&mut bytes, moov.begin)?;
    Ok(movie_header_duration(&bytes))
}

fn movie_header_duration(bytes: &[u8]) -> Option<Duration> {
    let (kind, body, _) = next_box(bytes)?;
    if kind != *b"mvhd" {
        return None;
    }
    let (timescale, duration) = match body.first()? {
        0 => (be32(body, 12)?, u64::from(be32(body, 16)?)),
        _ => (be32(body, 20)?, be64(body, 24)?),
    };
    if timescale == 0 {
        return None;
    }
    Some(Duration::from_secs_f64(duration as f64 / f64::from(timescale)))
}

/// Makes the video tracks of a finished file say that they are of this size.
///
/// A copied stream may change its size; its header then tells the first one, which is the smallest as browsers grow.
/// Players take the shape of their window from the header (AVFoundation, and Chromium until the first picture) or from the
/// decoder (VLC, mpv, and Chromium from then on); these do not care.
///
/// # Errors
///
/// Where the disk fails.
pub fn set_size(turn: &Turn, file: &File, width: u16, height: u16) -> io::Result<()> {
    let Some(moov) = find_moov(turn, file)? else {
        return Ok(());
    };
    let Ok(length) = usize::try_from(moov.end - moov.begin) else {
        return Ok(());
    };
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, moov.begin)?;
    for (offset, value) in size_patches(&bytes, width, height) {
        file.write_all_at(&value, moov.begin.saturating_add(offset as u64))?;
    }
    Ok(())
}

/// What is to be written where, within the content of a movie box.
fn size_patches(moov: &[u8], width: u16, height: u16) -> Vec<(usize, Vec<u8>)> {
    let mut patches = Vec::new();
    for (kind, trak_at, trak) in boxes(moov) {
        if kind != *b"trak" {
            continue;
        }
        let is_video = find(trak, &[*b"mdia", *b"minf", *b"vmhd"]).is_some();
        let Some((header_at, header)) = find(trak, &[*b"tkhd"]).filter(|_| is_video) else {
            continue;
        };
        // §8.3.2: the width and height stand last, in 16.16 fixed point.
        if let Some(at) = header.len().checked_sub(8) {
            let size = [u32::from(width) << 16, u32::from(height) << 16].map(u32::to_be_bytes).concat();
            patches.push((trak_at + header_at + at, size));
        }
        // §12.1.3: the first sample entry begins 8 bytes into the sample descriptions, its size 32 bytes into the entry.
        let path = [*b"mdia", *b"minf", *b"stbl", *b"stsd"];
        if let Some((at, descriptions)) = find(trak, &path)
            && descriptions.len() >= 8 + 36
        {
            patches.push((trak_at + at + 8 + 32, [width, height].map(u16::to_be_bytes).concat()));
        }
    }
    patches
}

fn find_moov(_turn: &Turn, file: &File) -> io::Result<Option<Span>> {
    let file_end = file.metadata()?.len();
    let mut at = 0_u64;
    for _ in 0..TOP_BOXES_MAX {
        let mut header = [0; 16];
        if at.saturating_add(16) > file_end {
            return Ok(None);
        }
        file.read_exact_at(&mut header, at)?;
        let (size, header_bytes) = match (be32(&header, 0), be64(&header, 8)) {
            (Some(1), Some(large)) => (large, 16),
            (Some(0), _) => (file_end.saturating_sub(at), 8),
            (Some(size), _) => (u64::from(size), 8),
            _ => return Ok(None),
        };
        let end = at.saturating_add(size);
        if size < header_bytes || end > file_end {
            return Ok(None);
        }
        if header.get(4..8) == Some(b"moov") {
            return Ok((size <= MOOV_MAX_BYTES).then_some(Span { begin: at + header_bytes, end }));
        }
        at = end;
    }
    Ok(None)
}

/// The content of the box at the end of `path`, and where it begins.
fn find<'a>(bytes: &'a [u8], path: &[[u8; 4]]) -> Option<(usize, &'a [u8])> {
    let (first, rest) = path.split_first()?;
    let (_, at, body) = boxes(bytes).find(|(kind, _, _)| kind == first)?;
    if rest.is_empty() {
        return Some((at, body));
    }
    find(body, rest).map(|(inner_at, inner)| (at + inner_at, inner))
}

/// The boxes in a buffer: kind, where the content begins, content.
fn boxes(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], usize, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let at = bytes.len() - rest.len() + 8;
        let (kind, body, after) = next_box(rest)?;
        rest = after;
        Some((kind, at, body))
    })
}

fn next_box(bytes: &[u8]) -> Option<([u8; 4], &[u8], &[u8])> {
    let size = usize::try_from(be32(bytes, 0)?).ok()?;
    let kind = *bytes.get(4..)?.first_chunk::<4>()?;
    let (whole, after) = bytes.split_at_checked(size.min(bytes.len()))?;
    Some((kind, whole.get(8..)?, after))
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

    fn track(handler: &[u8; 4]) -> Vec<u8> {
        let header = a_box(b"tkhd", &[0; 84]);
        let entry = a_box(b"avc1", &[0; 78]);
        let descriptions = a_box(b"stsd", &[&[0, 0, 0, 0, 0, 0, 0, 1], &entry[..]].concat());
        let table = a_box(b"stbl", &descriptions);
        let information = a_box(b"minf", &[a_box(handler, &[0; 12]), table].concat());
        a_box(b"trak", &[header, a_box(b"mdia", &information)].concat())
    }

    fn movie_header(timescale: u32, duration: u32) -> Vec<u8> {
        let mut body = vec![0; 100];
        body[12..16].copy_from_slice(&timescale.to_be_bytes());
        body[16..20].copy_from_slice(&duration.to_be_bytes());
        a_box(b"mvhd", &body)
    }

    fn file_with(bytes: &[u8], name: &str) -> File {
        let path = std::env::temp_dir().join(format!("onair-mp4-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file
    }

    #[test]
    fn the_duration_is_read_behind_other_boxes() {
        let moov = a_box(b"moov", &movie_header(1000, 2500));
        let bytes = [a_box(b"ftyp", b"isom"), a_box(b"free", &[]), moov.clone(), a_box(b"mdat", &[0; 40])].concat();
        assert_eq!(
            duration(&Turn::for_tests(), &file_with(&bytes, "duration")).unwrap(),
            Some(Duration::from_millis(2500))
        );
        let cut = &bytes[..bytes.len() - 60];
        assert_eq!(duration(&Turn::for_tests(), &file_with(cut, "cut")).unwrap(), None);
        assert_eq!(duration(&Turn::for_tests(), &file_with(b"", "empty")).unwrap(), None);
    }

    #[test]
    fn the_size_is_written_into_video_tracks_alone() {
        let (video, sound) = (track(b"vmhd"), track(b"smhd"));
        let body = [movie_header(1000, 1), sound.clone(), video.clone()].concat();
        let file = file_with(&[a_box(b"ftyp", b"isom"), a_box(b"moov", &body)].concat(), "size");
        set_size(&Turn::for_tests(), &file, 1280, 720).unwrap();
        let mut after = vec![0; body.len()];
        file.read_exact_at(&mut after, 12 + 8).unwrap();
        let video_at = body.len() - video.len();
        assert_eq!(after[..video_at], body[..video_at], "sound is as it was");
        let header_end = video_at + 8 + 8 + 84;
        let entry_at = body.len() - 86;
        assert_eq!(after[entry_at + 32..entry_at + 36], [1280_u16.to_be_bytes(), 720_u16.to_be_bytes()].concat());
        assert_eq!(after[header_end - 8..header_end], [5, 0, 0, 0, 2, 208, 0, 0]);
    }

    proptest! {
        #[test]
        fn no_movie_box_is_written_outside_itself(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let body = [track(b"vmhd"), bytes].concat();
            for (offset, value) in size_patches(&body, 16, 16) {
                prop_assert!(offset + value.len() <= body.len());
            }
            let _ = movie_header_duration(&body);
        }
    }
}
