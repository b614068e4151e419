//! Offers and answers of real clients, made fit, are taken by the media engine; what goes back speaks of the client's own
//! m-lines.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a sample that cannot be read must fail its test")]

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use onair::signal::foreign::{
    Foreign, OfferOptions, Role, SdpError, answer_has_no_media, candidates, normalise_answer, rejected_video,
};
use proptest::prelude::*;
use str0m::change::{SdpAnswer, SdpOffer};
use str0m::media::{Direction, MediaKind};
use str0m::{Candidate, Rtc, RtcConfig};

/// A server's side of a peer connection, as the hub makes it: ICE-lite, RTP mode, one UDP candidate.
fn server(configure: impl FnOnce(RtcConfig) -> RtcConfig) -> Rtc {
    str0m::crypto::from_feature_flags().install_process_default();
    let config = Rtc::builder().set_ice_lite(true).set_rtp_mode(true);
    let mut rtc = configure(config).build(Instant::now());
    let address = "127.0.0.1:8189".parse().unwrap();
    rtc.add_local_candidate(Candidate::host(address, "udp").unwrap()).unwrap();
    rtc
}

fn samples(folder: &str) -> Vec<(String, String)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/sdp").join(folder);
    let mut samples: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    samples.sort();
    assert!(samples.len() >= 2, "{folder} holds samples");
    samples
}

fn values<'a>(sdp: &'a str, prefix: &'a str) -> Vec<&'a str> {
    sdp.lines().filter_map(|line| line.strip_prefix(prefix)).map(str::trim_end).collect()
}

/// Kind and transport of each m-line.
fn transports(sdp: &str) -> Vec<(&str, &str)> {
    let m_lines = values(sdp, "m=").into_iter();
    m_lines.map(|m_line| m_line.split(' ').collect::<Vec<_>>()).map(|words| (words[0], words[2])).collect()
}

/// What the server answers to `offer`, as its client gets it.
fn answer(rtc: &mut Rtc, offer: &str, options: OfferOptions<'_>) -> Result<String, String> {
    let foreign = Foreign::offer(offer, options).map_err(|error| error.to_string())?;
    let fit = SdpOffer::from_sdp_string(foreign.sdp()).map_err(|error| error.to_string())?;
    let offered = values(foreign.sdp(), "m=").len();
    assert_eq!(values(&fit.to_sdp_string(), "m=").len(), offered, "an m-line was lost in parsing");
    let answer = rtc.sdp_api().accept_offer(fit).map_err(|error| error.to_string())?;
    Ok(foreign.answer(&answer.to_sdp_string()))
}

#[test]
fn every_broadcasters_offer_is_answered_in_its_own_terms() {
    for (name, offer) in samples("publish") {
        let answer = answer(&mut server(|config| config), &offer, OfferOptions::default()).expect(&name);
        assert_eq!(values(&answer, "a=mid:"), values(&offer, "a=mid:"), "{name}");
        assert_eq!(transports(&answer), transports(&offer), "{name}");
        assert!(!answer_has_no_media(&answer) && !rejected_video(&answer), "{name}: {answer}");
        assert_eq!(candidates(&answer), ["host udp 127.0.0.1:8189"], "{name}");
        assert!(values(&answer, "a=sendrecv").is_empty() && values(&answer, "a=sendonly").is_empty(), "{name}");
        assert!(!answer.contains("a=rid:") && !answer.contains("a=simulcast"), "{name}");
        assert!(!answer.contains("rtp-stream-id"), "{name}");
    }
}

#[test]
fn every_players_offer_is_answered_with_one_stream() {
    for (name, offer) in samples("play") {
        let options = OfferOptions { role: Role::Subscriber, stream: Some("onair"), ..OfferOptions::default() };
        let answer = answer(&mut server(|config| config), &offer, options).expect(&name);
        assert_eq!(values(&answer, "a=mid:"), values(&offer, "a=mid:"), "{name}");
        assert_eq!(values(&answer, "a=sendonly").len(), 2, "{name}: {answer}");
        let mut msids = values(&answer, "a=msid:");
        assert!(msids.iter().all(|msid| msid.starts_with("onair ")), "{name}: {msids:?}");
        msids.dedup();
        assert_eq!(msids.len(), 2, "{name}: one track id each");
        assert!(answer.to_lowercase().contains("opus/48000/2"), "{name}: sound");
    }
}

#[test]
fn renegotiation_keeps_the_mids_even_those_that_were_replaced() {
    let (_, offer) = samples("publish").into_iter().find(|(name, _)| name == "needs-mending.sdp").unwrap();
    let mut rtc = server(|config| config);
    let first = answer(&mut rtc, &offer, OfferOptions::default()).unwrap();
    let restarted = offer.replace("a=ice-ufrag:abcd", "a=ice-ufrag:efgh").replace("a=sendonly", "a=inactive");
    let second = answer(&mut rtc, &restarted, OfferOptions::default()).unwrap();
    assert_eq!(values(&first, "a=mid:"), values(&second, "a=mid:"));
    assert_ne!(values(&first, "a=ice-ufrag:"), values(&second, "a=ice-ufrag:"), "an ICE restart has new credentials");
}

#[test]
fn an_ice_restart_of_a_browser_follows_its_first_offer() {
    for browser in ["chromium", "firefox"] {
        let sample = |kind| samples("publish").into_iter().find(|(name, _)| *name == format!("{browser}-{kind}.sdp"));
        let (_, first) = sample("camera-mic-data").unwrap();
        let (_, restart) = sample("ice-restart").unwrap();
        let mut rtc = server(|config| config);
        answer(&mut rtc, &first, OfferOptions::default()).expect(browser);
        answer(&mut rtc, &restart, OfferOptions::default()).expect(browser);
    }
}

#[test]
fn no_codec_in_common_is_told_by_the_answer() {
    let video = samples("publish").into_iter().find(|(name, _)| name == "chromium-video-alone.sdp").unwrap().1;
    let deaf = || server(|config| config.clear_codecs().enable_h265(true));
    assert!(answer_has_no_media(&answer(&mut deaf(), &video, OfferOptions::default()).unwrap()));
    // GStreamer's video comes first: with it rejected, the candidates must be where the sound is.
    let both = samples("publish").into_iter().find(|(name, _)| name == "gstreamer-whip.sdp").unwrap().1;
    let mut no_video = server(|config| config.clear_codecs().enable_opus(true, false));
    let answer = answer(&mut no_video, &both, OfferOptions::default()).unwrap();
    assert!(rejected_video(&answer) && !answer_has_no_media(&answer), "{answer}");
    let sound = answer.split("m=audio").nth(1).unwrap();
    assert_eq!(values(sound, "a=candidate:").len(), 1, "{answer}");
    assert_eq!(values(&answer, "a=group:BUNDLE "), ["audio1"]);
}

#[test]
fn what_cannot_be_mended_is_refused_by_name() {
    let offer = samples("publish").into_iter().find(|(name, _)| name == "aiortc.sdp").unwrap().1;
    let refusal = |offer: &str| Foreign::offer(offer, OfferOptions::default()).unwrap_err();
    assert_eq!(refusal(&offer.replace("a=group:BUNDLE 0 1\r\n", "")), SdpError::MissingBundle);
    assert_eq!(refusal(&offer.replace("BUNDLE 0 1", "BUNDLE 0")), SdpError::PartialBundle("1".into()));
    assert_eq!(refusal(&offer.replace("BUNDLE 0 1", "BUNDLE 0 1 2")), SdpError::UnknownBundleMid("2".into()));
    assert_eq!(refusal(&offer.replace("a=mid:1\r\n", "")), SdpError::MissingMid(2));
    assert_eq!(refusal(&offer.replace("a=mid:1\r\n", "a=mid:0\r\n")), SdpError::DuplicateMid("0".into()));
    assert_eq!(refusal(&offer.replace("fingerprint", "fungerprint")), SdpError::MissingFingerprint);
    assert_eq!(refusal(&offer.replace("sha-256", "sha-512")), SdpError::Fingerprint);
    assert_eq!(refusal(&offer.replace("a=ice-pwd", "a=ice-pw")), SdpError::MissingIce);
    assert_eq!(refusal(&offer.replace("UDP/TLS/RTP/SAVPF", "TCP/MSRP")), SdpError::Transport("TCP/MSRP".into()));
    assert_eq!(refusal(&offer.replace("m=audio", "m=text")), SdpError::MediaType("text".into()));
    assert_eq!(refusal(&offer.replace("m=audio", "m=\u{7}udio")), SdpError::ControlCharacter(7));
    let options = OfferOptions { m_lines_max: 1, ..OfferOptions::default() };
    assert_eq!(Foreign::offer(&offer, options).unwrap_err(), SdpError::TooManyMLines(1));
}

#[test]
fn candidates_beyond_the_cap_are_dropped() {
    let offer = samples("publish").into_iter().find(|(name, _)| name == "chromium-camera-mic-data.sdp").unwrap().1;
    let options = OfferOptions { candidates_max: 1, ..OfferOptions::default() };
    let foreign = Foreign::offer(&offer, options).unwrap();
    assert!(candidates(&offer).len() > 1);
    assert_eq!(candidates(foreign.sdp()).len(), 1);
}

/// The server's offer to a viewer, and how its answers are taken.
fn accept_viewers_answer(written: &str) -> Result<(), String> {
    let mut rtc = server(|config| config);
    let mut changes = rtc.sdp_api();
    changes.add_media(MediaKind::Audio, Direction::SendOnly, Some("onair".into()), None, None);
    changes.add_media(MediaKind::Video, Direction::SendOnly, Some("onair".into()), None, None);
    changes.add_channel("health".into());
    let (offer, pending) = changes.apply().unwrap();
    let offer = offer.to_sdp_string();
    let theirs = values(written, "a=mid:");
    let mids: Vec<_> = theirs.iter().zip(values(&offer, "a=mid:")).collect();
    let lines = written.lines().map(|line| match (line.strip_prefix("a=mid:"), line.strip_prefix("a=group:BUNDLE ")) {
        (Some(mid), _) => format!("a=mid:{}", mids.iter().find(|(theirs, _)| **theirs == mid).unwrap().1),
        (_, Some(group)) => group.split(' ').fold("a=group:BUNDLE".to_owned(), |all, mid| {
            all + " " + mids.iter().find(|(theirs, _)| **theirs == mid).unwrap().1
        }),
        _ => line.to_owned(),
    });
    let renamed = lines.collect::<Vec<_>>().join("\r\n");
    let fit = normalise_answer(&renamed).map_err(|error| error.to_string())?;
    let answer = SdpAnswer::from_sdp_string(&fit).map_err(|error| error.to_string())?;
    rtc.sdp_api().accept_answer(pending, answer).map_err(|error| error.to_string())
}

#[test]
fn every_viewers_answer_is_accepted() {
    for (name, answer) in samples("answer") {
        accept_viewers_answer(&answer).expect(&name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is done to an offer, it is refused or parsed whole, without a panic anywhere.
    #[test]
    fn damaged_offers_never_reach_the_engine_half_parsed(
        sample in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..5, "[ -~]{0,12}"), 1..6),
    ) {
        let samples = samples("publish");
        let mut lines: Vec<String> = sample.get(&samples).1.lines().map(str::to_owned).collect();
        for (at, edit, text) in edits {
            let at = at.index(lines.len());
            match edit {
                0 => { lines.remove(at); }
                1 => lines.insert(at, lines[at].clone()),
                2 => lines[at] += &text,
                3 => { let half = lines[at].len() / 2; lines[at].truncate(half); }
                _ => lines.insert(at, format!("a={text}")),
            }
            if lines.is_empty() {
                break;
            }
        }
        let offer = lines.join("\r\n");
        let _ = answer(&mut server(|config| config), &offer, OfferOptions::default());
    }
}
