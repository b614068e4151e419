//! What OpenSSL takes for its socket.
//!
//! **Invariant:** each read is one datagram that came, and each write one that goes; where none has come, it would block.

use std::io::{self, Read, Write};

/// A datagram on its way in, and those on their way out.
#[derive(Debug, Default)]
pub struct Wire {
    /// What is read next.
    pub incoming: Option<Vec<u8>>,
    /// What was written, in order.
    written: Vec<Vec<u8>>,
}

impl Wire {
    /// Takes out what was written.
    pub fn take_written(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.written)
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let datagram = self.incoming.take().ok_or(io::ErrorKind::WouldBlock)?;
        // One that is longer than a record may be is cut, as by a socket.
        let len_bytes = datagram.len().min(buffer.len());
        for (place, byte) in buffer.iter_mut().zip(datagram) {
            *place = byte;
        }
        Ok(len_bytes)
    }
}

impl Write for Wire {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.written.push(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
