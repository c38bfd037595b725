//! Finds the messages in an octet stream by Content-Length (RFC 3261 §18.3). The module does no I/O.

use bytes::{Buf, Bytes, BytesMut};

use crate::message::MAX_MESSAGE;

/// Maximum length, in octets, of the start line and the header fields together.
const MAX_HEAD: usize = 32 * 1024;

/// The next element of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// One complete message.
    Message(Bytes),
    /// The double CRLF of RFC 5626 §4.4.1. The server must answer with a single CRLF.
    Ping,
}

/// The error for a stream in which the message boundaries are lost. The stream cannot be read further. If the head of
/// the invalid message is known, the message can still be answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) head: Option<Bytes>,
}

/// The octets that are not framed yet. The buffer never holds more than one message plus the octets of one read.
#[derive(Debug, Default)]
pub(super) struct Framer {
    pub(super) buffer: BytesMut,
    scanned: usize,
    /// Number of CRLFs since the last message.
    line_breaks: u8,
    /// Total length, in octets, of the message whose head is complete.
    needed: Option<usize>,
}

impl Framer {
    /// Returns whether a message has begun and is not complete.
    pub(super) fn is_inside(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Returns the next complete frame, or `None` if no frame is complete. `take_pong` says whether a CRLF between
    /// messages answers a ping of this server.
    ///
    /// # Errors
    /// [`Lost`] if the message boundaries are lost. In this case the connection must be closed.
    pub(super) fn next(&mut self, take_pong: impl Fn() -> bool) -> Result<Option<Frame>, Lost> {
        if self.needed.is_none() {
            while self.buffer.starts_with(b"\r\n") {
                self.buffer.advance(2);
                self.scanned = 0;
                if take_pong() {
                    continue;
                }
                self.line_breaks += 1;
                if self.line_breaks == 2 {
                    self.line_breaks = 0;
                    return Ok(Some(Frame::Ping));
                }
            }
            let from = self.scanned.min(self.buffer.len());
            let tail = self.buffer.get(from..).unwrap_or_default();
            let Some(end) = tail.windows(4).position(|window| window == b"\r\n\r\n") else {
                self.scanned = self.buffer.len().saturating_sub(3);
                return if self.buffer.len() > MAX_HEAD { Err(Lost { head: None }) } else { Ok(None) };
            };
            let head_length = from + end + 4;
            let head = self.buffer.get(..head_length).unwrap_or_default();
            match content_length(head) {
                Some(length) if head_length + length <= MAX_MESSAGE => self.needed = Some(head_length + length),
                _ => return Err(Lost { head: Some(Bytes::copy_from_slice(head)) }),
            }
        }
        match self.needed {
            Some(needed) if self.buffer.len() >= needed => {
                self.needed = None;
                self.scanned = 0;
                self.line_breaks = 0;
                Ok(Some(Frame::Message(self.buffer.split_to(needed).freeze())))
            }
            _ => Ok(None),
        }
    }
}

/// Returns the Content-Length of a head. Returns 0 if the head has neither Content-Length nor Content-Type. Returns
/// `None` if Content-Length is repeated, malformed or too large, or if there is a Content-Type without a
/// Content-Length. In these cases the end of the message is unknown.
fn content_length(head: &[u8]) -> Option<usize> {
    let mut length = None;
    let mut has_body = false;
    for line in head.split(|&byte| byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let name = name.trim_ascii_end();
        has_body |= name.eq_ignore_ascii_case(b"content-type") || name.eq_ignore_ascii_case(b"c");
        if !name.eq_ignore_ascii_case(b"content-length") && !name.eq_ignore_ascii_case(b"l") {
            continue;
        }
        let value = value.get(1..)?.trim_ascii();
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        if !digits || length.is_some() {
            return None;
        }
        let number: u64 = std::str::from_utf8(value).ok()?.parse().ok()?;
        length = Some(usize::try_from(number).ok().filter(|&number| number <= MAX_MESSAGE)?);
    }
    match length {
        None if has_body => None,
        length => Some(length.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[u8] = b"OPTIONS sip:a SIP/2.0\r\nl : 3\r\n\r\nabc";

    #[test]
    fn messages_are_found_in_any_fragmentation_of_the_stream() {
        let mut stream = b"\r\n".to_vec();
        for _ in 0..3 {
            stream.extend_from_slice(ONE);
        }
        stream.extend_from_slice(b"\r\n\r\n");
        stream.extend_from_slice(ONE);
        for size in 1..stream.len() {
            let (mut framer, mut found, mut pings) = (Framer::default(), 0, 0);
            for chunk in stream.chunks(size) {
                framer.buffer.extend_from_slice(chunk);
                while let Some(frame) = framer.next(|| false).unwrap() {
                    match frame {
                        Frame::Message(message) => {
                            assert_eq!(message, ONE);
                            found += 1;
                        }
                        Frame::Ping => pings += 1,
                    }
                }
            }
            assert_eq!((found, pings, framer.is_inside()), (4, 1, false), "chunks of {size}");
        }
    }

    #[test]
    fn an_invalid_content_length_closes_the_stream_and_keeps_the_head() {
        for field in ["l: -1", "Content-Length: 99999999999999999999", "l: 3\r\nl: 4", "c: application/sdp", "l: 70000"]
        {
            let mut framer = Framer::default();
            framer.buffer.extend_from_slice(format!("OPTIONS sip:a SIP/2.0\r\n{field}\r\n\r\n").as_bytes());
            assert!(matches!(framer.next(|| false), Err(Lost { head: Some(_) })), "{field}");
        }
        let mut framer = Framer::default();
        framer.buffer.extend_from_slice(&vec![b'a'; MAX_HEAD + 1]);
        assert_eq!(framer.next(|| false), Err(Lost { head: None }));
    }
}
