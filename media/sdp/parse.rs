//! From SDP as carriers send it to what the negotiation asks of it.

use std::net::{IpAddr, SocketAddr};

use sdp_types::{Attribute, Connection, Media, Session};

use super::SdpError;
use super::crypto::Offered;
use crate::codec::{Codec, SampleRate};

/// Longest body that is looked at, in octets.
const LONGEST: usize = 64 * 1024;
/// Most m-lines that are answered.
const MOST_LINES: usize = 64;

/// A description, reduced to its m-lines.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) lines: Vec<Line>,
}

impl Description {
    /// The names of the codecs that its first audio line has.
    pub(super) fn take_encodings(&mut self) -> Vec<String> {
        let audio = self.lines.iter_mut().find(|line| line.media.starts_with("audio"));
        audio.map(|line| std::mem::take(&mut line.encodings)).unwrap_or_default()
    }
}

/// One m-line.
#[derive(Debug)]
pub(super) struct Line {
    /// `audio 0 RTP/AVP 0 8`, with port 0: how the line is refused.
    pub(super) media: String,
    pub(super) proto: String,
    pub(super) formats: String,
    /// Names of the formats that are codecs, as they are registered (`PCMU`, `opus`), those we cannot speak included.
    pub(super) encodings: Vec<String>,
    /// Not set when it cannot be ours: other media, other transport, port 0, no known codec, no usable address.
    pub(super) audio: Option<Audio>,
}

/// An audio line that we can speak.
#[derive(Debug)]
pub(super) struct Audio {
    /// `None`: on hold the old way, `c=` 0.0.0.0.
    pub(super) remote: Option<SocketAddr>,
    pub(super) remote_rtcp: Option<SocketAddr>,
    /// In the peer's order of preference, each meaning once; at least one is audio.
    pub(super) formats: Vec<Format>,
    /// It says `useinbandfec=1` of Opus.
    pub(super) opus_fec: bool,
    /// 20 ms frames in a packet.
    pub(super) frames: u8,
    pub(super) direction: Direction,
    pub(super) keys: Offered,
}

/// A payload type and what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) number: u8,
    pub(super) meaning: Meaning,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Audio(Codec),
    /// Telephone-events, at this clock rate.
    Events(u32),
    /// Comfort noise.
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

/// RFC 3264 §5.1, from the describer's own view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Description {
    pub(super) fn parse(body: &[u8]) -> Result<Description, SdpError> {
        if body.len() > LONGEST {
            return Err(SdpError::Malformed("longer than 64 KiB".to_owned()));
        }
        let repaired = repair(body)?;
        let session = Session::parse(&repaired)
            .map_err(|error| SdpError::Malformed(error.to_string().chars().take(200).collect()))?;
        if session.medias.is_empty() {
            return Err(SdpError::Incompatible("no m-line"));
        }
        if session.medias.len() > MOST_LINES {
            return Err(SdpError::Malformed("too many m-lines".to_owned()));
        }
        let lines = session.medias.iter().map(|media| Line::read(media, &session)).collect();
        Ok(Description { lines })
    }
}

impl Line {
    fn read(media: &Media, session: &Session) -> Line {
        Line {
            media: media.media.clone(),
            proto: media.proto.clone(),
            formats: media.fmt.clone(),
            encodings: encodings(media),
            audio: Audio::read(media, session),
        }
    }
}

impl Audio {
    fn read(media: &Media, session: &Session) -> Option<Audio> {
        if media.media != "audio" || media.port == 0 {
            return None;
        }
        let keys = Offered::read(&media.proto, &media.attributes)?;
        let connection = media.connections.first().or(session.connection.as_ref())?;
        let ip = address(connection)?;
        let remote = (!ip.is_unspecified()).then(|| SocketAddr::new(ip, media.port));
        let remote_rtcp = remote.map(|remote| rtcp_address(media, remote));

        let mut formats: Vec<Format> = Vec::new();
        for format in media.fmt.split_ascii_whitespace().take(64) {
            let Ok(number @ 0..=127) = format.parse::<u8>() else { continue };
            let Some(meaning) = meaning_of(number, &media.attributes) else { continue };
            if !formats.iter().any(|known| known.number == number || known.meaning == meaning) {
                formats.push(Format { number, meaning });
            }
        }
        formats.iter().find_map(|format| format.meaning.codec())?;
        let opus = formats.iter().find(|format| format.meaning == Meaning::Audio(Codec::Opus));
        Some(Audio {
            remote,
            remote_rtcp,
            opus_fec: opus.is_some_and(|opus| has_parameter(opus.number, "useinbandfec", "1", &media.attributes)),
            formats,
            frames: frames(&media.attributes),
            direction: direction(&media.attributes)
                .or_else(|| direction(&session.attributes))
                .unwrap_or(Direction::SendRecv),
            keys,
        })
    }
}

/// What a payload type stands for; `None`: nothing of ours.
fn meaning_of(payload_type: u8, attributes: &[Attribute]) -> Option<Meaning> {
    let (name, rate, channels) = encoding_of(payload_type, attributes)?;
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    let mono = channels == "1";
    Some(match rate {
        "8000" if is("PCMU") && mono => Meaning::Audio(Codec::Pcmu),
        "8000" if is("PCMA") && mono => Meaning::Audio(Codec::Pcma),
        // 8000 by RFC 3551 §4.5.2, whatever it samples at; some say so.
        "8000" | "16000" if is("G722") && mono => Meaning::Audio(Codec::G722),
        // Always /2 by RFC 7587 §7, whatever is sent; some leave it out.
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

/// Whether `a=fmtp` of a payload type has `name=value`.
fn has_parameter(payload_type: u8, name: &str, value: &str, attributes: &[Attribute]) -> bool {
    values(attributes, "fmtp")
        .filter_map(|line| line.trim().split_once([' ', '\t']))
        .filter(|(number, _)| number.parse() == Ok(payload_type))
        .flat_map(|(_, parameters)| parameters.split(';'))
        .filter_map(|parameter| parameter.split_once('='))
        .any(|(key, given)| key.trim().eq_ignore_ascii_case(name) && given.trim() == value)
}

/// Name, clock rate and channels of a payload type: its `a=rtpmap`, else RFC 3551 §6's static meaning.
fn encoding_of(payload_type: u8, attributes: &[Attribute]) -> Option<(&str, &str, &str)> {
    for value in values(attributes, "rtpmap") {
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

fn encodings(media: &Media) -> Vec<String> {
    let formats = media.fmt.split_ascii_whitespace().take(64).filter_map(|format| format.parse().ok());
    let names = formats.filter_map(|payload_type| encoding_of(payload_type, &media.attributes));
    let signals = |name: &str| ["telephone-event", "CN", "red"].iter().any(|no| no.eq_ignore_ascii_case(name));
    names.map(|(name, ..)| name).filter(|name| !signals(name)).map(|name| name.chars().take(32).collect()).collect()
}

fn frames(attributes: &[Attribute]) -> u8 {
    let milliseconds = |name| values(attributes, name).next().and_then(|value| value.trim().parse::<f32>().ok());
    let ptime = milliseconds("ptime").unwrap_or(20.0);
    let longest = milliseconds("maxptime").unwrap_or(60.0);
    // A float to integer cast saturates, and NaN becomes 0.
    ((ptime.min(longest) / 20.0) as u8).clamp(1, 3)
}

fn direction(attributes: &[Attribute]) -> Option<Direction> {
    attributes.iter().find_map(|attribute| match attribute.attribute.as_str() {
        "sendrecv" => Some(Direction::SendRecv),
        "sendonly" => Some(Direction::SendOnly),
        "recvonly" => Some(Direction::RecvOnly),
        "inactive" => Some(Direction::Inactive),
        _ => None,
    })
}

/// `a=rtcp:53020 IN IP4 126.16.64.4` (RFC 3605); the address is optional.
fn rtcp_address(media: &Media, rtp: SocketAddr) -> SocketAddr {
    let mut rtcp = rtp;
    rtcp.set_port(rtp.port().saturating_add(1));
    let Some(value) = values(&media.attributes, "rtcp").next() else { return rtcp };
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

fn address(connection: &Connection) -> Option<IpAddr> {
    // A TTL or count may follow (multicast); a unicast address of a trunk has none, but some send it.
    let text = connection.connection_address.split('/').next().unwrap_or_default();
    let ip: IpAddr = text.trim().parse().ok()?;
    (!ip.is_multicast()).then_some(ip)
}

fn values<'a>(attributes: &'a [Attribute], name: &'static str) -> impl Iterator<Item = &'a str> {
    attributes
        .iter()
        .filter(move |attribute| attribute.attribute == name)
        .filter_map(|attribute| attribute.value.as_deref())
}

/// Puts right what real gear sends and the parser does not take: bare LF or CR, NULs, blank lines and spaces at line
/// ends, a missing `v=`, `o=`, `s=` or `t=`, an `o=` with too few fields or a version too large, Latin-1 octets.
fn repair(body: &[u8]) -> Result<Vec<u8>, SdpError> {
    let text: String = body.iter().filter(|octet| **octet != 0).map(|octet| char::from(*octet)).collect();
    let lines: Vec<&str> = text.split(['\r', '\n']).map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let is_line = |line: &&str| matches!(line.as_bytes(), [kind, b'=', ..] if kind.is_ascii_lowercase());
    if !lines.iter().any(|line| line.starts_with("m=")) {
        let fault = if lines.iter().any(is_line) { "no m-line" } else { "no line of the form x=" };
        return Err(if fault == "no m-line" {
            SdpError::Incompatible(fault)
        } else {
            SdpError::Malformed(fault.to_owned())
        });
    }
    let first_media = lines.iter().position(|line| line.starts_with("m=")).unwrap_or(lines.len());
    let (head, medias) = lines.split_at(first_media);
    let value = |kind: &str| head.iter().find_map(|line| line.strip_prefix(kind));

    // The head is written anew, its lines in RFC 8866 §5's order; only what the negotiation reads is kept.
    let mut out = String::with_capacity(text.len() + 64);
    out.push_str("v=0\r\n");
    let origin = value("o=").unwrap_or_default();
    let fields: Vec<&str> = origin.split_ascii_whitespace().collect();
    let whole = fields.len() == 6 && fields.get(2).is_some_and(|version| version.parse::<u64>().is_ok());
    out.push_str("o=");
    out.push_str(if whole { origin } else { "- 0 0 IN IP4 0.0.0.0" });
    out.push_str("\r\ns=-\r\n");
    if let Some(connection) = value("c=") {
        push(&mut out, "c=", connection);
    }
    out.push_str("t=0 0\r\n");
    for line in head.iter().filter(|line| line.starts_with("a=")) {
        push(&mut out, "", line);
    }
    // Within a media description the order is m, i, c, b, k, a; senders that mix them up mean the same.
    for media in medias.chunk_by(|_, next| !next.starts_with("m=")) {
        for kind in ["m=", "c=", "a="] {
            for line in media.iter().filter(|line| line.starts_with(kind)) {
                push(&mut out, "", line);
            }
        }
    }
    Ok(out.into_bytes())
}

fn push(out: &mut String, kind: &str, value: &str) {
    out.push_str(kind);
    out.push_str(value);
    out.push_str("\r\n");
}
