//! The recording of one broadcast: what was asked for, what is written, and why not.
//!
//! **Invariant:** a request outlives what the rule says: only another request changes it while the broadcast lasts.

use super::io::{RecordingId, RecordingNews};
use crate::signal::message::RecordingState;

/// A broadcast's recording, running or not.
#[derive(Debug, Default)]
pub struct Recording {
    /// The stretch that the recorder was given.
    pub id: Option<RecordingId>,
    /// The file that is being written.
    pub file: Option<String>,
    /// Why the latest file failed, until the next one begins.
    pub error: Option<String>,
    request: Request,
}

/// The latest request of a client.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Request {
    #[default]
    None,
    Start,
    Stop,
}

impl Recording {
    /// Whether the broadcast is to be recorded, given what the rule says of it.
    pub fn is_wanted(&self, by_rule: bool) -> bool {
        match self.request {
            Request::None => by_rule,
            Request::Start => true,
            Request::Stop => false,
        }
    }

    /// Someone asked for a recording, and it has begun.
    pub fn start_by_request(&mut self) {
        self.request = Request::Start;
    }

    /// Someone asked for its end: the stretch that ends.
    pub fn stop_by_request(&mut self) -> Option<RecordingId> {
        let ended = self.id.take()?;
        *self = Self { request: Request::Stop, ..Self::default() };
        Some(ended)
    }

    /// The recorder gave the stretch up.
    pub fn is_over(&mut self) {
        self.id = None;
        self.file = None;
    }

    /// Records the recorder's news about a file.
    pub fn note(&mut self, news: &RecordingNews) {
        let ended = match &news.file {
            Some(begun) if news.state == RecordingState::Started => {
                self.file = Some(begun.clone());
                self.error = None;
                return;
            }
            file => file.as_ref(),
        };
        // The next file may have begun before this one was finished.
        let is_overtaken = self.file.as_ref().zip(ended).is_some_and(|(running, ended)| stem(running) != stem(ended));
        if !is_overtaken {
            self.file = None;
            if news.state == RecordingState::Failed {
                self.error.clone_from(&news.error);
            }
        }
    }
}

/// A file's name without its ending, which differs between one that grows and one that is finished.
fn stem(file: &str) -> &str {
    let file = file.strip_suffix(".mp4").unwrap_or(file);
    file.strip_suffix(".part").unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(state: RecordingState, file: &str, error: Option<&str>) -> RecordingNews {
        let file = (!file.is_empty()).then(|| file.to_owned());
        RecordingNews { state, file, error: error.map(str::to_owned), facts: None }
    }

    #[test]
    fn a_request_outlives_the_rule_and_only_another_one_changes_it() {
        let mut recording = Recording::default();
        assert!(recording.is_wanted(true) && !recording.is_wanted(false));
        assert_eq!(recording.stop_by_request(), None);
        assert!(recording.is_wanted(true), "nothing ran, nothing was stopped");
        recording.id = Some(RecordingId(1));
        assert_eq!(recording.stop_by_request(), Some(RecordingId(1)));
        assert!(!recording.is_wanted(true));
        recording.start_by_request();
        assert!(recording.is_wanted(false));
    }

    #[test]
    fn an_error_stands_until_the_next_file_begins_or_the_recording_is_stopped() {
        let mut recording = Recording { id: Some(RecordingId(1)), ..Recording::default() };
        let failed = news(RecordingState::Failed, "", Some("no ffmpeg"));
        recording.note(&failed);
        assert_eq!((recording.file.as_deref(), recording.error.as_deref()), (None, Some("no ffmpeg")));
        recording.note(&news(RecordingState::Started, "r/u/1.mp4", None));
        assert_eq!((recording.file.as_deref(), recording.error.as_deref()), (Some("r/u/1.mp4"), None));
        // What failed is an earlier file, while the next one is being written.
        recording.note(&news(RecordingState::Started, "r/u/2.mp4", None));
        recording.note(&news(RecordingState::Failed, "r/u/1.part.mp4", Some("broken")));
        assert_eq!((recording.file.as_deref(), recording.error.as_deref()), (Some("r/u/2.mp4"), None));
        recording.note(&news(RecordingState::Failed, "r/u/2.part.mp4", Some("broken")));
        assert_eq!((recording.file.as_deref(), recording.error.as_deref()), (None, Some("broken")));
        recording.stop_by_request();
        assert_eq!(recording.error, None);
    }
}
