//! Clients that speak plain HTTP to the port that speaks TLS: a mistake in an address, so they are told.
//!
//! **Invariant:** nothing of what such a client sends is looked at but its first byte, and however many come, the log has
//! one line for each [`HINT_EVERY`].

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const HINT_EVERY: Duration = Duration::from_secs(60);

/// How long it may take to end the connection.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// What is read of the request before the connection is given up, so that the answer is not lost to a reset.
const REST_MAX_BYTES: usize = 64 * 1024;

const ANSWER: &[u8] = b"HTTP/1.1 400 This Port Speaks HTTPS\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\nContent-Length: 58\r\n\r\nThis port speaks HTTPS: open it as https:// or by wss://.\n";

/// Whether a first byte begins a TLS record of a handshake (RFC 8446 §5.1).
#[must_use]
pub fn begins_tls(byte: u8) -> bool {
    byte == 22
}

/// When the log was last told.
#[derive(Debug, Default)]
pub struct Hint(Mutex<Option<Instant>>);

impl Hint {
    /// Answers a client whose first byte was `byte`, and ends the connection.
    pub async fn answer(&self, mut stream: TcpStream, byte: u8, remote: SocketAddr) {
        if self.is_due(Instant::now()) {
            tracing::info!(
                "a client does not speak TLS to the HTTPS port: its address must begin with https:// or wss://"
            );
        }
        tracing::debug!(%remote, "no TLS");
        // A method is in capital letters; to anything else there is nothing to say.
        if !byte.is_ascii_uppercase() {
            return;
        }
        let farewell = async {
            stream.write_all(ANSWER).await?;
            stream.shutdown().await?;
            let mut chunk = [0; 4096];
            let mut read_bytes = 0;
            while read_bytes < REST_MAX_BYTES {
                match stream.read(&mut chunk).await? {
                    0 => break,
                    more => read_bytes += more,
                }
            }
            Ok::<(), std::io::Error>(())
        };
        let _ = timeout(CLOSE_DEADLINE, farewell).await;
    }

    fn is_due(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.duration_since(last) >= HINT_EVERY);
        if due {
            *last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_well_formed() {
        let text = std::str::from_utf8(ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{}", body.len());
    }

    #[test]
    fn the_log_is_told_once_a_minute() {
        let hint = Hint::default();
        let now = Instant::now();
        assert!(hint.is_due(now));
        assert!(!hint.is_due(now + HINT_EVERY / 2));
        assert!(hint.is_due(now + HINT_EVERY));
    }
}
