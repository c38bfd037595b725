//! Reads the SDP that carriers send, and extracts what the negotiation needs.
//!
//! The parser is written by hand and borrows from the body. The negotiation needs only three kinds of lines of RFC 8866
//! (`m=`, `c=`, `a=`). Most errors of real devices are in the other lines.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::SdpError;
use super::crypto::Offered;
use crate::codec::{Codec, SampleRate};

/// The longest accepted body, in octets.
const LONGEST: usize = 64 * 1024;
/// The highest number of m-lines that an answer can contain.
const MAX_LINES: usize = 64;

/// Converts a body to text. A body that is not ASCII is read as Latin-1. NULs at the end of the body, which some
/// devices send, are removed.
pub(super) fn text(body: &[u8]) -> Result<Cow<'_, str>, SdpError> {
    if body.len() > LONGEST {
        return Err(malformed("longer than 64 KiB", ""));
    }
    Ok(match std::str::from_utf8(body) {
        Ok(text) if text.is_ascii() && !body.contains(&0) => Cow::Borrowed(text),
        _ => body.iter().filter(|octet| **octet != 0).map(|octet| char::from(*octet)).collect(),
    })
}

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
    /// The indices in `text` of the lines that belong to this m-line.
    more: Range<usize>,
    /// The audio of the line. The value is `None` if we cannot use the line. The reason may be another media type,
    /// another transport, port 0, no known codec, or no usable address.
    pub(super) audio: Option<Audio>,
    /// Whether the port is 0, so that the far end has disabled the stream (RFC 3264 §8.2).
    pub(super) is_disabled: bool,
}

/// An audio line that we can use.
#[derive(Debug)]
pub(super) struct Audio {
    /// The RTP address. The value is `None` if the far end requests hold by the old method, which has the address
    /// 0.0.0.0 in `c=`.
    pub(super) remote: Option<SocketAddr>,
    pub(super) remote_rtcp: Option<SocketAddr>,
    /// The formats in the far end's order of preference, without duplicates. At least one format is audio.
    pub(super) formats: Vec<Format>,
    /// Whether the line has `useinbandfec=1` for Opus.
    pub(super) opus_fec: bool,
    /// The number of frames of 20 ms in a packet.
    pub(super) frames: u8,
    /// The longest packet in ms that the far end accepts (`a=maxptime`). `None` means any length.
    pub(super) max_packet_ms: Option<u8>,
    pub(super) direction: Direction,
    pub(super) keys: Offered,
}

/// A payload type and its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) number: u8,
    pub(super) meaning: Meaning,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Audio(Codec),
    /// Telephone-events at this clock rate in Hz.
    Events(u32),
    /// Comfort noise (RFC 3389).
    Noise,
}

impl Meaning {
    pub(super) fn codec(self) -> Option<Codec> {
        match self {
            Meaning::Audio(codec) => Some(codec),
            Meaning::Events(_) | Meaning::Noise => None,
        }
    }
}

/// The direction of a stream (RFC 3264 §5.1), seen from the side that wrote the description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl<'a> Description<'a> {
    /// Parses the result of [`text`]. Lines may end with CR, LF or both. Trailing spaces are allowed.
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

    /// Returns the registered codec names of the first audio line (`PCMU`, `opus`). The result includes codecs that we
    /// do not support. The result does not include formats that are not codecs.
    pub(super) fn encodings(&self) -> Vec<String> {
        let audio = self.lines.iter().find(|line| line.media.starts_with("audio"));
        let Some((line, more)) = audio.and_then(|line| Some((line, self.text.get(line.more.clone())?))) else {
            return Vec::new();
        };
        let formats = line.formats.split_ascii_whitespace().take(64).filter_map(|format| format.parse().ok());
        let names = formats.filter_map(|payload_type| encoding_of(payload_type, Section(more)));
        let signals = |name: &str| ["telephone-event", "CN", "red"].iter().any(|no| no.eq_ignore_ascii_case(name));
        names.map(|(name, ..)| name).filter(|name| !signals(name)).map(|name| name.chars().take(32).collect()).collect()
    }
}

/// Splits the text at CRs and LFs.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = text.bytes().position(|octet| matches!(octet, b'\r' | b'\n'));
        rest = end.and_then(|end| text.get(end + 1..));
        text.get(..end.unwrap_or(text.len()))
    })
}

/// A group of lines. The group contains the lines before the first m-line, or the lines of one m-line.
#[derive(Clone, Copy)]
struct Section<'a>(&'a [&'a str]);

impl<'a> Section<'a> {
    /// Returns the text after `beginning` for each line that starts with `beginning`.
    fn values(self, beginning: &'static str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter_map(move |line| line.strip_prefix(beginning))
    }

    fn direction(self) -> Option<Direction> {
        self.values("a=").find_map(|attribute| match attribute {
            "sendrecv" => Some(Direction::SendRecv),
            "sendonly" => Some(Direction::SendOnly),
            "recvonly" => Some(Direction::RecvOnly),
            "inactive" => Some(Direction::Inactive),
            _ => None,
        })
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
        let rest = Section(rest);
        let mut own = None;
        for value in rest.values("c=") {
            let address = address(value)?;
            own = own.or(Some(address));
        }
        let ours = media == "audio" && port != 0;
        let remote = own.or(connection).flatten().filter(|_| ours).map(|ip| SocketAddr::new(ip, port));
        let audio = remote.and_then(|remote| Audio::read(remote, proto, formats, rest, head));
        Ok(Line { media, proto, formats, more, audio, is_disabled: port == 0 })
    }
}

impl Audio {
    fn read(remote: SocketAddr, proto: &str, numbers: &str, media: Section<'_>, head: Section<'_>) -> Option<Audio> {
        let keys = Offered::read(proto, media.values("a="))?;
        let remote = (!remote.ip().is_unspecified()).then_some(remote);
        let remote_rtcp = remote.map(|remote| rtcp_address(media, remote));

        let mut formats: Vec<Format> = Vec::new();
        for format in numbers.split_ascii_whitespace().take(64) {
            let Ok(number @ 0..=127) = format.parse::<u8>() else { continue };
            let Some(meaning) = meaning_of(number, media) else { continue };
            if !formats.iter().any(|known| known.number == number || known.meaning == meaning) {
                formats.push(Format { number, meaning });
            }
        }
        formats.iter().find_map(|format| format.meaning.codec())?;
        let opus = formats.iter().find(|format| format.meaning == Meaning::Audio(Codec::Opus));
        Some(Audio {
            remote,
            remote_rtcp,
            opus_fec: opus.is_some_and(|opus| has_parameter(opus.number, "useinbandfec", "1", media)),
            formats,
            frames: frames(media),
            max_packet_ms: max_packet_ms(media),
            direction: media.direction().or_else(|| head.direction()).unwrap_or(Direction::SendRecv),
            keys,
        })
    }
}

/// Returns the meaning of a payload type, or `None` if we do not support it.
fn meaning_of(payload_type: u8, media: Section<'_>) -> Option<Meaning> {
    let (name, rate, channels) = encoding_of(payload_type, media)?;
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    let mono = channels == "1";
    Some(match rate {
        "8000" if is("PCMU") && mono => Meaning::Audio(Codec::Pcmu),
        "8000" if is("PCMA") && mono => Meaning::Audio(Codec::Pcma),
        // RFC 3551 §4.5.2 demands 8000, although G.722 has 16,000 samples a second. Some devices write 16000.
        "8000" | "16000" if is("G722") && mono => Meaning::Audio(Codec::G722),
        // RFC 7587 §7 demands two channels, even if only one is sent. Some devices omit the number.
        "48000" if is("opus") => Meaning::Audio(Codec::Opus),
        "16000" if is("L16") && mono => Meaning::Audio(Codec::L16(SampleRate::Hz16000)),
        "8000" if is("L16") && mono => Meaning::Audio(Codec::L16(SampleRate::Hz8000)),
        "8000" if is("CN") && mono => Meaning::Noise,
        "8000" if is("telephone-event") => Meaning::Events(8_000),
        "16000" if is("telephone-event") => Meaning::Events(16_000),
        "48000" if is("telephone-event") => Meaning::Events(48_000),
        _ => return None,
    })
}

/// Whether the payload type's `a=fmtp` line contains `name=value`.
fn has_parameter(payload_type: u8, name: &str, value: &str, media: Section<'_>) -> bool {
    media
        .values("a=fmtp:")
        .filter_map(|line| line.trim().split_once([' ', '\t']))
        .filter(|(number, _)| number.parse() == Ok(payload_type))
        .flat_map(|(_, parameters)| parameters.split(';'))
        .filter_map(|parameter| parameter.split_once('='))
        .any(|(key, given)| key.trim().eq_ignore_ascii_case(name) && given.trim() == value)
}

/// Returns the name, clock rate and channels of a payload type. They come from the `a=rtpmap` of the payload type.
/// Without `a=rtpmap`, they come from the static assignment in RFC 3551 §6.
fn encoding_of<'a>(payload_type: u8, media: Section<'a>) -> Option<(&'a str, &'a str, &'a str)> {
    for value in media.values("a=rtpmap:") {
        let Some((number, encoding)) = value.trim().split_once([' ', '\t']) else { continue };
        if number.parse() != Ok(payload_type) {
            continue;
        }
        let mut parts = encoding.trim().split('/');
        let name = parts.next().unwrap_or_default();
        return Some((name, parts.next().unwrap_or("8000"), parts.next().unwrap_or("1")));
    }
    let name = match payload_type {
        0 => "PCMU",
        3 => "GSM",
        4 => "G723",
        8 => "PCMA",
        9 => "G722",
        13 => "CN",
        18 => "G729",
        _ => return None,
    };
    Some((name, "8000", "1"))
}

/// Returns the value of an attribute in ms, for example of `a=ptime:`.
fn milliseconds(media: Section<'_>, name: &'static str) -> Option<f32> {
    media.values(name).next().and_then(|value| value.trim().parse::<f32>().ok())
}

fn frames(media: Section<'_>) -> u8 {
    let ptime = milliseconds(media, "a=ptime:").unwrap_or(20.0);
    let longest = milliseconds(media, "a=maxptime:").unwrap_or(60.0);
    // A cast from float to integer saturates, and converts NaN to 0.
    ((ptime.min(longest) / 20.0) as u8).clamp(1, 3)
}

fn max_packet_ms(media: Section<'_>) -> Option<u8> {
    milliseconds(media, "a=maxptime:").filter(|longest| *longest > 0.0).map(|longest| longest as u8)
}

/// Returns the RTCP address from a line such as `a=rtcp:53020 IN IP4 126.16.64.4` (RFC 3605). The IP address in this
/// line is optional. Without the line, the RTCP address is the port after the RTP port.
fn rtcp_address(media: Section<'_>, rtp: SocketAddr) -> SocketAddr {
    let mut rtcp = rtp;
    rtcp.set_port(rtp.port().saturating_add(1));
    let Some(value) = media.values("a=rtcp:").next() else { return rtcp };
    let mut parts = value.split_ascii_whitespace();
    if let Some(port) = parts.next().and_then(|port| port.parse().ok())
        && port != 0
    {
        rtcp.set_port(port);
        if let Some(ip) = parts.nth(2).and_then(|ip| ip.parse::<IpAddr>().ok())
            && !ip.is_unspecified()
        {
            rtcp.set_ip(ip);
        }
    }
    rtcp
}

/// Returns the address of a `c=` line such as `IN IP4 192.0.2.1`. Returns `None` if we cannot send to the address.
fn address(connection: &str) -> Result<Option<IpAddr>, SdpError> {
    let mut fields = connection.split(' ').filter(|field| !field.is_empty());
    let (Some(_), Some(_), Some(text), None) = (fields.next(), fields.next(), fields.next(), fields.next()) else {
        return Err(malformed("a c-line that is not of three fields", connection));
    };
    // A TTL or a count may follow a multicast address. Some devices send a TTL with a unicast address too.
    let text = text.split('/').next().unwrap_or_default();
    Ok(text.trim().parse().ok().filter(|ip: &IpAddr| !ip.is_multicast()))
}

fn malformed(fault: &str, line: &str) -> SdpError {
    let separator = if line.is_empty() { "" } else { ": " };
    SdpError::Malformed(format!("{fault}{separator}{line}").chars().take(200).collect())
}
