//! The mids of an SDP and the BUNDLE group they form (RFC 9143), with stand-ins for mids that the engine would change.
//!
//! **Invariant:** `ours` are distinct, and the same mids have the same stand-ins in every later offer.

use super::sdp::{SdpError, Text};

/// The longest mid that the engine keeps as it is, in bytes.
const MID_MAX_BYTES: usize = 16;

/// The mids of an SDP's m-lines, in their order.
pub(super) struct Mids {
    /// Each m-line's mid as the engine gets it.
    pub(super) ours: Vec<String>,
    /// Whether each m-line is in the BUNDLE group.
    pub(super) bundled: Vec<bool>,
    /// Whether there is a BUNDLE group.
    pub(super) has_bundle: bool,
    /// Some mid is not the client's own.
    pub(super) some_changed: bool,
    /// Some mid is not even what the engine makes of the client's own in header extensions.
    pub(super) some_hashed: bool,
}

impl Mids {
    /// Reads the mids and their group. A single m-line needs neither.
    pub(super) fn read(text: &Text<'_>) -> Result<Self, SdpError> {
        let is_alone = text.media.len() == 1;
        let mut theirs: Vec<&str> = Vec::with_capacity(text.media.len());
        for (index, section) in text.media.iter().enumerate() {
            match section.mid() {
                Some(mid) if theirs.contains(&mid) => return Err(SdpError::DuplicateMid(mid.to_owned())),
                Some(mid) => theirs.push(mid),
                None if is_alone => theirs.push("0"),
                None => return Err(SdpError::MissingMid(index + 1)),
            }
        }
        let mut groups = text.session_values("group").filter_map(|group| group.strip_prefix("BUNDLE"));
        let group = groups.next();
        let mut bundled = vec![is_alone && group.is_none(); theirs.len()];
        for mid in group.unwrap_or_default().split_ascii_whitespace() {
            match theirs.iter().position(|their| *their == mid).and_then(|index| bundled.get_mut(index)) {
                Some(bundled) => *bundled = true,
                None => return Err(SdpError::UnknownBundleMid(mid.to_owned())),
            }
        }
        for (section, (mid, bundled)) in text.media.iter().zip(theirs.iter().zip(&bundled)) {
            if !bundled && !section.has_port_0() {
                return Err(group.map_or(SdpError::MissingBundle, |_| SdpError::PartialBundle((*mid).to_owned())));
            }
        }
        let fit: Vec<String> = theirs.iter().map(|mid| cut_mid(mid)).collect();
        let ours = theirs.iter().zip(&fit).map(|(mid, cut)| {
            let is_unique = fit.iter().filter(|other| *other == cut).count() == 1;
            // The mid in RTP header extensions is cut in the same way, so the cut mid serves best.
            if is_unique && !cut.is_empty() { cut.clone() } else { hashed_mid(mid) }
        });
        let ours: Vec<String> = ours.collect();
        let some_changed = ours.iter().zip(&theirs).any(|(ours, theirs)| ours != theirs);
        let some_hashed = ours.iter().zip(&fit).any(|(ours, cut)| ours != cut);
        Ok(Self { ours, bundled, has_bundle: group.is_some(), some_changed, some_hashed })
    }
}

/// A mid as the engine would keep it.
fn cut_mid(mid: &str) -> String {
    mid.chars().take(MID_MAX_BYTES).map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// A mid that stays the same from offer to offer (FNV-1a), for those that cannot be told apart once cut.
fn hashed_mid(mid: &str) -> String {
    let hash = mid
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("x{:015x}", hash >> 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mids: &[&str], group: &str) -> Result<Mids, SdpError> {
        let sections = mids.iter().map(|mid| format!("m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:{mid}\r\n"));
        let sdp = format!("v=0\r\na=group:BUNDLE {group}\r\n{}", sections.collect::<String>());
        Mids::read(&Text::parse(&sdp, 9).unwrap())
    }

    #[test]
    fn mids_stay_or_become_what_the_engine_makes_of_them() {
        let mids = read(&["0", "video-1", "a_very_long_name_of_a_mid"], "0 video-1 a_very_long_name_of_a_mid").unwrap();
        assert_eq!(mids.ours, ["0", "video_1", "a_very_long_name"]);
        assert!(mids.some_changed && !mids.some_hashed);
        let mids = read(&["0", "audio1"], "audio1 0").unwrap();
        assert_eq!(mids.ours, ["0", "audio1"]);
        assert!(!mids.some_changed);
    }

    #[test]
    fn mids_that_would_become_one_are_told_apart_and_stay_so() {
        let first = read(&["a.b", "a-b", "a_b"], "a.b a-b a_b").unwrap();
        assert!(first.some_hashed);
        let mut ours = first.ours.clone();
        ours.sort();
        ours.dedup();
        assert_eq!(ours.len(), 3);
        assert!(ours.iter().all(|mid| mid.len() <= MID_MAX_BYTES && *mid == cut_mid(mid)));
        assert_eq!(read(&["a.b", "a-b", "a_b", "new"], "a.b a-b a_b new").unwrap().ours[..3], first.ours);
    }
}
