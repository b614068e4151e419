//! For how long a thread ran, and for how long it stood in line for a core.
//!
//! **Invariant:** it can be read by every thread, and costs the one that it is about nothing.

use std::path::PathBuf;
use std::time::Duration;

/// Where the kernel tells of one thread's time.
#[derive(Debug)]
pub struct ThreadTime(PathBuf);

/// What it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// On a core.
    pub ran: Duration,
    /// Ready to run, while others did.
    pub waited: Duration,
}

impl ThreadTime {
    /// That of the thread that calls.
    #[must_use]
    pub fn of_this_thread() -> Self {
        Self(format!("/proc/self/task/{}/schedstat", nix::unistd::gettid()).into())
    }

    /// Its times by now; `None` where the kernel does not tell, or the thread has ended.
    #[must_use]
    pub fn read(&self) -> Option<Times> {
        times_in(&std::fs::read_to_string(&self.0).ok()?)
    }
}

/// Nanoseconds on a core, nanoseconds in line, and how often.
fn times_in(text: &str) -> Option<Times> {
    let mut words = text.split_ascii_whitespace().map(|word| word.parse().map(Duration::from_nanos));
    Some(Times { ran: words.next()?.ok()?, waited: words.next()?.ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_has_run() {
        let time = ThreadTime::of_this_thread();
        let begun = time.read().unwrap().ran;
        while time.read().unwrap().ran < begun + Duration::from_millis(2) {}
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || tell.send(ThreadTime::of_this_thread())).join().unwrap().unwrap();
        assert_eq!(told.recv().unwrap().read(), None, "it has ended");
    }

    #[test]
    fn what_is_no_pair_of_times_tells_nothing() {
        assert_eq!(times_in("7 8 9"), Some(Times { ran: Duration::from_nanos(7), waited: Duration::from_nanos(8) }));
        for text in ["", "7", "7 x", "-1 2"] {
            assert_eq!(times_in(text), None, "{text}");
        }
    }
}
