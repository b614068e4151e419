//! Nothing that was written is removed, whatever happens to it later, and recording goes on after any failure.

use std::time::{Duration, Instant};

use onair::rtp::codec::{Codec, TrackKind};
use onair::signal::message::RecordingState;

use super::faults::{ffmpegs_in, until};
use super::media::streams;
use super::sample::sample;
use super::stage::{Stage, config, empty_dir, feed, list, script};

/// A copy that ends early, as on a disk with bad sectors, must not take the place of what was written.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_lacks_something_does_not_replace_the_fragments() {
    let dir = empty_dir("lossy-copy");
    let mut config = config(&dir);
    // The copy alone has an MP4 as its input; half of it is left out, and all seems well. It is no hybrid either.
    let text = r#"case " $* " in
        *" -h "*) exit 0 ;;
        *"-i file:"*) for last; do :; done; exec $REAL -v error -y -i "${10#file:}" -t 1.5 -c copy -f mp4 "$last" ;;
        *) exec $REAL "$@" ;;
        esac"#
        .replace("${10#file:}", "$(echo \"$*\" | sed 's/.*-i file:\\([^ ]*\\) .*/\\1/')");
    config.ffmpeg = script(&empty_dir("lossy-copy-bin"), "ffmpeg", &text);
    let mut stage = Stage::with(config).await.unwrap();
    let sample = sample("h264");
    let (_, packets) = stage.announce("room/user", &[Codec::H264, Codec::Opus]).await;
    feed(&packets, &sample, Instant::now()).await;
    drop(packets);
    assert_eq!(stage.told().await.state, RecordingState::Started);
    let failed = stage.told().await;
    assert_eq!(failed.state, RecordingState::Failed, "{failed:?}");
    assert!(failed.error.as_ref().unwrap().contains("samples"), "{failed:?}");
    let part = dir.join(failed.file.unwrap());
    assert!(part.to_str().unwrap().ends_with(".part.mp4"));
    assert_eq!(streams(&part)[0].packets, sample.pictures());
    assert!(!part.with_file_name(part.file_name().unwrap().to_str().unwrap().replace(".part", "")).exists());
}

/// What cannot be read is left alone: it may be somebody's only copy.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_never_removed() {
    let dir = empty_dir("unreadable");
    let user = dir.join("room/user");
    std::fs::create_dir_all(&user).unwrap();
    let garbage = user.join("20200101-000000.part.mp4");
    std::fs::write(&garbage, [0x5a; 4096]).unwrap();
    let headless = user.join("20200101-000001.part.mp4");
    std::fs::write(&headless, [&[0, 0, 1, 0][..], b"mdat", &[7; 248]].concat()).unwrap();
    let empty = user.join("20200101-000002.part.mp4");
    std::fs::write(&empty, []).unwrap();
    let stage = Stage::with(config(&dir)).await.unwrap();
    let gone = async {
        while empty.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("it is proven to hold nothing");
    // The oldest comes first, so the others have been tried.
    stage.end().await;
    assert!(garbage.exists() && headless.exists());
}

/// A server that is killed between giving a file its name and removing the fragments leaves both.
#[tokio::test(flavor = "multi_thread")]
async fn a_finished_file_beside_its_fragments_is_the_end_of_them_and_another_file_is_not() {
    let dir = empty_dir("both");
    let file = Stage::with(config(&dir)).await.unwrap().record(&sample("h264"), &[Codec::H264, Codec::Opus]).await;
    let user = file.parent().unwrap();
    let (whole, other) = (user.join("20200101-000000.mp4"), user.join("20200101-000001.mp4"));
    std::fs::copy(&file, &whole).unwrap();
    std::fs::copy(&file, whole.with_extension("part.mp4")).unwrap();
    std::fs::write(&other, "somebody's own").unwrap();
    std::fs::copy(&file, other.with_extension("part.mp4")).unwrap();
    let stage = Stage::with(config(&dir)).await.unwrap();
    until("the fragments are gone", || !whole.with_extension("part.mp4").exists()).await;
    until("the other gets another name", || !other.with_extension("part.mp4").exists()).await;
    let renamed = user.join("20200101-000001-2.part.mp4");
    assert!(renamed.exists() || renamed.with_file_name("20200101-000001-2.mp4").exists());
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "somebody's own");
    assert_eq!(std::fs::read(&whole).unwrap(), std::fs::read(&file).unwrap());
    stage.end().await;
    // The next start finds it at once.
    let stage = Stage::with(config(&dir)).await.unwrap();
    until("it is completed under that name", || user.join("20200101-000001-2.mp4").exists()).await;
    stage.end().await;
}

fn a_box(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A server without `--record-segment` wrote days into one file. To copy it would take gigabytes of memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_days_gets_its_name_as_it_is() {
    let dir = empty_dir("days");
    let user = dir.join("room/user");
    std::fs::create_dir_all(&user).unwrap();
    let header = a_box(b"tkhd", &[words(&[0, 0, 0, 1]), vec![0; 68]].concat());
    let media = a_box(b"mdia", &a_box(b"mdhd", &words(&[0, 0, 0, 1000, 0, 0])));
    let movie = a_box(b"moov", &a_box(b"trak", &[header, media].concat()));
    // Eight million samples of 20 ms.
    let run = a_box(b"trun", &words(&[0, 8_000_000]));
    let fragment = [a_box(b"tfhd", &words(&[0x8, 1, 20])), a_box(b"tfdt", &words(&[0, 0])), run].concat();
    let bytes = [a_box(b"ftyp", b"isom"), movie, a_box(b"moof", &a_box(b"traf", &fragment)), a_box(b"mdat", &[7; 99])];
    std::fs::write(user.join("20200101-000000.part.mp4"), bytes.concat()).unwrap();
    let stage = Stage::with(config(&dir)).await.unwrap();
    let file = user.join("20200101-000000.mp4");
    let there = async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), there).await.expect("it gets its name");
    assert_eq!(std::fs::read(&file).unwrap(), bytes.concat());
    let listed = list(&dir).await;
    assert!((listed[0].duration_s - 160_000.0).abs() < 0.1, "{listed:?}");
    stage.end().await;
}

/// The nice value of a process.
fn nice_of(pid: nix::unistd::Pid) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().parse().unwrap()
}

/// What encodes or copies goes behind the relay; what only writes down what comes does not.
#[tokio::test(flavor = "multi_thread")]
async fn encoders_and_copies_yield_to_the_relay() {
    let own = nice_of(nix::unistd::Pid::this());
    for (name, lower) in [("h264", 0), ("vp8", 10)] {
        let (dir, bin) = (empty_dir(&format!("priority-{name}")), empty_dir(&format!("priority-{name}-bin")));
        let copied = bin.join("copied");
        let text = format!(
            r#"case " $* " in
            *" -h "*) exit 0 ;;
            *"-i file:"*) sleep 0.5; cut -d' ' -f19 /proc/$$/stat > {} ;;
            esac
            exec $REAL "$@""#,
            copied.display()
        );
        let mut config = config(&dir);
        config.ffmpeg = script(&bin, "ffmpeg", &text);
        let mut stage = Stage::with(config).await.unwrap();
        let sample = sample(name);
        let (_, packets) = stage.announce("room/user", &[sample.codec, Codec::Opus]).await;
        feed(&packets, &sample, Instant::now()).await;
        assert_eq!(stage.told().await.state, RecordingState::Started);
        // While the script becomes ffmpeg it has no command line.
        let mut nice = None;
        until("one ffmpeg writes, with its priority", || {
            nice = ffmpegs_in(&dir).first().map(|writer| nice_of(*writer));
            nice == Some((own + lower).min(19))
        })
        .await;
        drop(packets);
        assert_eq!(stage.told().await.state, RecordingState::Finished);
        assert_eq!(std::fs::read_to_string(copied).unwrap().trim(), "19", "{name}");
        stage.end().await;
    }
}

/// Once a broadcast was given up after five failures, within 20 s.
#[tokio::test(flavor = "multi_thread")]
async fn recording_goes_on_after_any_number_of_failures() {
    let (dir, bin) = (empty_dir("keeps-trying"), empty_dir("keeps-trying-bin"));
    let text = format!(
        r#"case " $* " in
        *"-sdp_flags"*"file:"*) echo x >> {0}; test $(wc -l < {0}) -gt 9 || {{ echo "no luck" >&2; exit 1; }} ;;
        esac
        exec $REAL "$@""#,
        bin.join("count").display()
    );
    let mut config = config(&dir);
    config.ffmpeg = script(&bin, "ffmpeg", &text);
    let mut stage = Stage::with(config).await.unwrap();
    let (_, packets) = stage.announce("room/user", &[Codec::Opus]).await;
    // Six minutes of sound, as it would come, but quicker; each failure is seen before more is sent.
    let sound = sample("h264").repeated(120).only(TrackKind::Audio);
    let (begin, mut sent) = (Instant::now(), 0);
    let mut told = Vec::new();
    let all: Vec<_> = sound.media(begin).collect();
    while sent < all.len() {
        for packet in all.iter().skip(sent).take(25) {
            packets.send(packet.clone()).await.unwrap();
        }
        sent += 25;
        tokio::time::sleep(Duration::from_millis(25)).await;
        while let Some(news) = stage.told_now() {
            told.push((sent, news));
        }
    }
    drop(packets);
    let failures = told.iter().filter(|(_, told)| told.state == RecordingState::Failed).count();
    assert_eq!(failures, 9, "{told:?}");
    let ended = stage.end().await;
    let finished =
        ended.iter().chain(told.iter().map(|(_, told)| told)).filter(|told| told.state == RecordingState::Finished);
    assert_eq!(finished.count(), 1, "{told:?}");
    // At most once a minute, which is some 3,000 packets.
    let at: Vec<usize> =
        told.iter().filter(|(_, told)| told.state == RecordingState::Failed).map(|(sent, _)| *sent).collect();
    let apart: Vec<usize> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    println!("failures after {at:?} packets");
    assert!(apart.iter().all(|packets| *packets < 3300), "{apart:?}");
}
