//! Reads the SDP that carriers send, and splits a description into its m-lines. The modules `audio` and `transport` read
//! the lines of an m-line.
//!
//! The parser is written by hand and borrows from the body. The negotiation needs only three kinds of lines of RFC 8866
//! (`m=`, `c=`, `a=`). Most errors of real devices are in the other lines.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::SdpError;
use super::audio::{AudioLines, encodings};
use super::ice;
use super::section::{Section, lines, malformed};
use super::transport::{TransportLines, address};

/// The highest number of m-lines that an answer can contain.
const MAX_LINES: usize = 64;

/// The m-lines of a session description.
#[derive(Debug)]
pub(super) struct Description<'a> {
    /// All lines that are not empty, without line ends.
    text: Vec<&'a str>,
    pub(super) lines: Vec<Line<'a>>,
}

/// One m-line.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// The media type, for example `audio`. To refuse the stream, we send an m-line with this media type, port 0,
    /// `proto` and `formats`.
    pub(super) media: &'a str,
    pub(super) proto: &'a str,
    pub(super) formats: &'a str,
    /// The value of `a=mid`, if the profile has DTLS. A refused m-line keeps it.
    pub(super) mid: Option<&'a str>,
    /// The indices in `text` of the lines that belong to this m-line.
    more: Range<usize>,
    /// The stream of the line. The value is `None` if we cannot use the line. The reason may be another media type,
    /// another transport, port 0, no known codec, or no usable address.
    pub(super) stream: Option<Stream>,
    /// Whether the port is 0, so that the far end has disabled the stream (RFC 3264 §8.2).
    pub(super) is_disabled: bool,
}

/// The lines of an m-line that we can use.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) audio: AudioLines,
    pub(super) transport: TransportLines,
}

impl<'a> Description<'a> {
    /// Parses the result of [`section::text`](super::section::text). Lines may end with CR, LF or both. Trailing spaces are allowed.
    pub(super) fn parse(text: &'a str) -> Result<Self, SdpError> {
        let mut all = Vec::with_capacity(16);
        all.extend(lines(text).map(str::trim_end).filter(|line| !line.is_empty()));
        let begins = |line: &&str| line.starts_with("m=");
        let Some(first) = all.iter().position(begins) else {
            let is_line = |line: &&str| matches!(line.as_bytes(), [kind, b'=', ..] if kind.is_ascii_lowercase());
            return Err(match all.iter().any(is_line) {
                true => SdpError::Incompatible("no m-line".into()),
                false => malformed("no line of the form x=", ""),
            });
        };
        let (head, medias) = all.split_at(first);
        let head = Section(head);
        let connection = head.values("c=").next().map(address).transpose()?;
        let mut lines = Vec::new();
        let mut at = first;
        for media in medias.chunk_by(|_, next| !begins(next)) {
            if lines.len() == MAX_LINES {
                return Err(malformed("too many m-lines", ""));
            }
            let more = at + 1..at + media.len();
            at = more.end;
            lines.push(Line::read(media, more, head, connection)?);
        }
        Ok(Self { text: all, lines })
    }

    /// Returns the registered codec names of the first audio line ([`encodings`]).
    pub(super) fn encodings(&self) -> Vec<String> {
        let audio = self.lines.iter().find(|line| line.media.starts_with("audio"));
        let audio = audio.and_then(|line| Some((line.formats, self.text.get(line.more.clone())?)));
        audio.map(|(numbers, more)| encodings(numbers, Section(more))).unwrap_or_default()
    }
}

impl<'a> Line<'a> {
    /// Reads an m-line. `lines` are the m-line and the lines after it. `connection` is the address of the session's
    /// `c=` line.
    fn read(
        lines: &[&'a str],
        more: Range<usize>,
        head: Section<'_>,
        connection: Option<Option<IpAddr>>,
    ) -> Result<Self, SdpError> {
        let (line, rest) = lines.split_first().map_or(("", lines), |(line, rest)| (*line, rest));
        // Some devices write several spaces between two fields.
        let field = |text: &'a str| text.trim_ascii_start().split_once([' ', '\t']);
        let fields = field(line.strip_prefix("m=").unwrap_or(line)).and_then(|(media, rest)| {
            let (port, rest) = field(rest)?;
            let (proto, formats) = field(rest)?;
            Some((media, port, proto, formats.trim_ascii_start()))
        });
        let Some((media, port, proto, formats)) = fields.filter(|(.., formats)| !formats.is_empty()) else {
            return Err(malformed("an m-line that lacks something", line));
        };
        // The number of ports may follow the port: `4000/2`.
        let (port, count) = port.split_once('/').unwrap_or((port, "1"));
        let (Ok(port), Ok(_)) = (port.parse::<u16>(), count.parse::<u16>()) else {
            return Err(malformed("an m-line without a port", line));
        };
        let mid = rest.iter().find_map(|line| line.strip_prefix("a=mid:")).filter(|_| ice::is_dtls(proto));
        let rest = Section(rest);
        let mut own = None;
        for value in rest.values("c=") {
            let address = address(value)?;
            own = own.or(Some(address));
        }
        let ours = media == "audio" && port != 0;
        let remote = own.or(connection).flatten().filter(|_| ours).map(|ip| SocketAddr::new(ip, port));
        // With ICE, the address of the m-line has no meaning (RFC 8839 §4.2.1.3).
        let usable = remote.is_some() || ours && ice::is_dtls(proto);
        let stream = usable.then(|| {
            let transport = TransportLines::read(remote, proto, rest, head)?;
            Some(Stream { audio: AudioLines::read(formats, rest, head)?, transport })
        });
        Ok(Line { media, proto, formats, mid, more, stream: stream.flatten(), is_disabled: port == 0 })
    }
}
