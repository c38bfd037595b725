//! The octets that a client sends, with a time limit.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::STALLED;

/// Time limit and maximum for the octets that a client still sends after the end.
const AFTER_END: Duration = Duration::from_secs(2);
const LARGEST_REST: u64 = 128 << 20;

/// Reads from a connection. A client that sends nothing for [`STALLED`], or whose request is not complete in time, gives an error.
pub(super) struct Incoming {
    stream: TcpStream,
    until: Instant,
}

#[expect(clippy::disallowed_methods, reason = "the time limits are those of the clock")]
fn now() -> Instant {
    Instant::now()
}

impl Incoming {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, until: now() }
    }

    /// Sets the time limit for the octets from now on.
    pub(super) fn limit(&mut self, time: Duration) {
        self.until = now() + time;
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left.min(STALLED)))?;
        self.stream.read(buffer)
    }
}

/// Reads for a moment what a client still sends after the last message to it. Otherwise the system would reset the connection, and
/// the client would not see this message.
pub(super) fn drain(incoming: &mut Incoming) -> io::Result<()> {
    incoming.limit(AFTER_END);
    io::copy(&mut incoming.take(LARGEST_REST), &mut io::sink()).map(drop)
}

/// Whether the client has closed its side of a connection, or the connection has failed.
pub(super) fn is_gone(client: &TcpStream) -> bool {
    if client.set_nonblocking(true).is_err() {
        return true;
    }
    let found = client.peek(&mut [0]);
    let is_blocking = client.set_nonblocking(false).is_ok();
    let is_here = match found {
        Ok(count) => count > 0,
        Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
    };
    !(is_here && is_blocking)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn a_client_is_gone_when_it_has_closed_the_connection() {
        let (mut client, server) = pair();
        assert!(!is_gone(&server));
        client.write_all(b"x").unwrap();
        server.peek(&mut [0]).unwrap();
        assert!(!is_gone(&server));
        (&server).read_exact(&mut [0]).unwrap();
        drop(client);
        // Waits for the end.
        assert_eq!(server.peek(&mut [0]).unwrap(), 0);
        assert!(is_gone(&server));
    }

    #[test]
    fn a_request_that_is_not_complete_in_time_is_an_error_though_the_client_sends_octets() {
        let (mut client, server) = pair();
        client.write_all(b"GET / HTTP/1.1").unwrap();
        let mut incoming = Incoming::new(server);
        incoming.limit(Duration::from_secs(100));
        assert_eq!(incoming.read(&mut [0; 3]).unwrap(), 3);
        incoming.limit(Duration::ZERO);
        assert_eq!(incoming.read(&mut [0; 3]).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
