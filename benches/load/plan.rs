//! What is asked for on the command line.
//!
//! **Invariant:** what is not understood ends the bench with a line that says what would be.

use std::path::PathBuf;

use super::schedule::Shape;

const USAGE: &str = "\
--viewers N          how many watch (100)
--bitrate RATE       of the video, as 800k or 2500k or 6m (2500k); sound comes on top
--seconds N          how long each round measures (10; with --compare 3)
--rounds N           rounds, with a line of medians at the end (1)
--burst paced|frame  what leaves the broadcaster at once: as a browser paces it, or a whole frame (paced)
--floor              after each round, a bare sender of ready-made packets: what the kernel and a cipher cost by themselves
--idle               the viewers wait in an empty room; what does that cost?
--compare BINARY     this build against another one, by turns, until their ratio is known to 3 %; fails unless this is no slower";

/// Seconds of a round that nobody asked for.
const ROUND_SECONDS: u64 = 10;

/// The same where two servers take turns: what disturbs one is to meet the other as well.
const TURN_SECONDS: u64 = 3;

/// What is measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Viewers.
    pub viewers: usize,
    /// Of the video.
    pub bitrate_bps: u64,
    /// How long a round measures.
    pub seconds: u64,
    /// Rounds on the same connections.
    pub rounds: usize,
    /// How packets leave the broadcaster.
    pub shape: Shape,
    /// Whether a bare sender takes turns with the server.
    pub has_floor: bool,
    /// Whether nobody broadcasts.
    pub is_idle: bool,
    /// The other build that this one is compared with.
    pub other: Option<PathBuf>,
}

impl Plan {
    /// What the command line asks for.
    ///
    /// # Errors
    ///
    /// What was not understood, and what would be.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut plan = Self {
            viewers: 100,
            bitrate_bps: 2_500_000,
            seconds: 0,
            rounds: 1,
            shape: Shape::Paced,
            has_floor: false,
            is_idle: false,
            other: None,
        };
        let (mut seconds, mut rounds) = (None, None);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} takes a value\n{USAGE}"));
            match argument.as_str() {
                "--viewers" => plan.viewers = count(&value()?)?,
                "--seconds" => seconds = Some(count(&value()?)? as u64),
                "--rounds" => rounds = Some(count(&value()?)?),
                "--bitrate" => plan.bitrate_bps = rate_bps(&value()?)?,
                "--burst" => {
                    plan.shape = match value()?.as_str() {
                        "paced" => Shape::Paced,
                        "frame" => Shape::Frame,
                        other => return Err(format!("{other} is no --burst\n{USAGE}")),
                    };
                }
                "--floor" => plan.has_floor = true,
                "--idle" => plan.is_idle = true,
                "--compare" => plan.other = Some(binary(value()?)?),
                // Cargo's own.
                "--bench" => {}
                other => return Err(format!("{other} is unknown\n{USAGE}")),
            }
        }
        if plan.is_idle && plan.has_floor {
            return Err(format!("--idle sends nothing that --floor could be held against\n{USAGE}"));
        }
        if plan.other.is_some() && (plan.is_idle || plan.has_floor || rounds.is_some()) {
            return Err(format!("--compare goes with neither --idle nor --floor nor --rounds\n{USAGE}"));
        }
        plan.seconds = seconds.unwrap_or(if plan.other.is_some() { TURN_SECONDS } else { ROUND_SECONDS });
        plan.rounds = rounds.unwrap_or(1);
        Ok(plan)
    }
}

fn binary(text: String) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_file() { Ok(path) } else { Err(format!("--compare: there is no file {}", path.display())) }
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or(format!("{text} is no number above 0"))
}

fn rate_bps(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, factor) = match (lower.strip_suffix('k'), lower.strip_suffix('m')) {
        (Some(digits), _) => (digits, 1_000),
        (_, Some(digits)) => (digits, 1_000_000),
        _ => (lower.as_str(), 1),
    };
    Ok(count(digits)? as u64 * factor)
}
