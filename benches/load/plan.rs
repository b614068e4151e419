//! What is asked for on the command line.
//!
//! **Invariant:** what is not understood ends the bench with a line that says what would be.

use super::schedule::Shape;

const USAGE: &str = "\
--viewers N          how many watch (100)
--bitrate RATE       of the video, as 800k or 2500k or 6m (2500k); sound comes on top
--seconds N          how long each round measures (10)
--rounds N           rounds, with a line of medians at the end (1)
--burst paced|frame  what leaves the broadcaster at once: as a browser paces it, or a whole frame (paced)
--floor              after each round, a bare sender of ready-made packets: what the kernel and a cipher cost by themselves
--idle               the viewers wait in an empty room; what does that cost?";

/// What is measured.
#[derive(Debug, Clone, Copy)]
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
            seconds: 10,
            rounds: 1,
            shape: Shape::Paced,
            has_floor: false,
            is_idle: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} takes a value\n{USAGE}"));
            match argument.as_str() {
                "--viewers" => plan.viewers = count(&value()?)?,
                "--seconds" => plan.seconds = count(&value()?)? as u64,
                "--rounds" => plan.rounds = count(&value()?)?,
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
                // Cargo's own.
                "--bench" => {}
                other => return Err(format!("{other} is unknown\n{USAGE}")),
            }
        }
        if plan.is_idle && plan.has_floor {
            return Err(format!("--idle sends nothing that --floor could be held against\n{USAGE}"));
        }
        Ok(plan)
    }
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
