//! The audio of a description: codecs, telephone-events, comfort noise, packet lengths and the direction. This module
//! reads and writes these lines, and keeps the part of a negotiation that concerns them.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::section::Section;
use super::{Preference, SdpError};
use crate::codec::{Codec, SampleRate};

/// The highest number of payload types that a plan accepts as audio.
const MAX_RECEIVE_CODECS: usize = 8;
/// The highest number of payload types that a plan accepts as telephone-events.
const MAX_RECEIVE_EVENTS: usize = 6;

/// The part of a plan that says how a leg's audio is coded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AudioPlan {
    /// The codec that we send.
    pub(crate) codec: Codec,
    /// The payload type of packets that we send. The far end chooses this number. For packets to us we choose the
    /// number, so it may be different.
    pub(crate) payload_type: u8,
    /// The payload types that we accept as audio.
    pub(crate) receive_codecs: [Option<(u8, Codec)>; MAX_RECEIVE_CODECS],
    /// The telephone-events that we send (RFC 4733). They have the clock rate of `codec` if the far end supports this
    /// rate.
    pub(crate) events: Option<Events>,
    /// The telephone-events that we accept.
    pub(crate) receive_events: [Option<Events>; MAX_RECEIVE_EVENTS],
    /// The payload type of comfort noise (RFC 3389) at 8,000 Hz, in both directions.
    pub(crate) comfort_noise: Option<u8>,
    /// Whether the far end can use Opus in-band error correction (RFC 7587 §6.1, `useinbandfec`).
    pub(crate) opus_fec: bool,
    /// The number of frames of 20 ms in a packet that we send, 1 to 3. For Opus the number is 1, because Opus frames
    /// cannot be joined.
    pub(crate) frames: u8,
    /// The longest packet in ms that the far end accepts (`maxptime`), but at least the length of our shortest packets.
    /// `None` means any length.
    pub(crate) max_packet_ms: Option<u8>,
    pub(crate) sends: bool,
    pub(crate) receives: bool,
}

/// A payload type of telephone-events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Events {
    pub(crate) payload_type: u8,
    /// The clock rate in Hz. The durations and timestamps of the events have this clock rate. It equals the clock rate
    /// of the audio in the same stream (RFC 4733 §2.1).
    pub(crate) clock_rate: u32,
}

impl AudioPlan {
    /// The number of packets into which a frame of 20 ms is divided, so that no packet is longer than `maxptime`.
    pub(crate) fn packets_per_frame(&self) -> u8 {
        match self.max_packet_ms {
            None | Some(20..) => 1,
            Some(10..20) => 2,
            Some(..10) => 4,
        }
    }

    /// Whether a packet of `codec` can be relayed to the far end. Such a packet is unchanged, or is converted octet by
    /// octet between mu-law and A-law.
    pub(crate) fn passes(&self, codec: Codec) -> bool {
        codec == self.codec || (codec.law().is_some() && self.codec.law().is_some())
    }

    /// Returns the codec of a received payload type.
    pub(crate) fn codec_of(&self, payload_type: u8) -> Option<Codec> {
        self.receive_codecs.iter().flatten().find(|(number, _)| *number == payload_type).map(|(_, codec)| *codec)
    }

    /// Returns the clock rate in Hz if a received payload type is telephone-events.
    pub(crate) fn events_of(&self, payload_type: u8) -> Option<u32> {
        self.receive_events.iter().flatten().find(|one| one.payload_type == payload_type).map(|one| one.clock_rate)
    }

    /// Returns the plan for media that arrives before the answer to our offer of these formats.
    fn early(offered: &[Format]) -> Option<AudioPlan> {
        let (payload_type, codec) = offered.iter().find_map(|format| Some((format.number, format.meaning.codec()?)))?;
        let noise = offered.iter().find(|format| format.meaning == Meaning::Noise);
        Some(AudioPlan {
            codec,
            payload_type,
            receive_codecs: gather(offered.iter().filter_map(|format| Some((format.number, format.meaning.codec()?)))),
            events: events_for(codec, offered),
            receive_events: gather(offered.iter().filter_map(events)),
            comfort_noise: noise.map(|format| format.number),
            opus_fec: false,
            frames: 1,
            max_packet_ms: None,
            sends: true,
            receives: true,
        })
    }

    /// Returns the part of the plan that describes what we send to a far end with this description. `has_address` says
    /// whether the description contains the far end's address. The accepted payload types depend on the side that made
    /// the offer, so the caller sets them.
    fn to(audio: &AudioLines, codec: Codec, has_address: bool) -> AudioPlan {
        let number =
            |meaning| audio.formats.iter().find(|format| format.meaning == meaning).map(|format| format.number);
        let most_frames = match codec {
            Codec::Pcmu | Codec::Pcma | Codec::G722 | Codec::L16(SampleRate::Hz8000) => 3,
            // A packet of 60 ms would not fit into an Ethernet frame.
            Codec::L16(SampleRate::Hz16000) => 2,
            Codec::Opus | Codec::L16(SampleRate::Hz48000) => 1,
        };
        AudioPlan {
            codec,
            payload_type: number(Meaning::Audio(codec)).unwrap_or_default(),
            receive_codecs: [None; MAX_RECEIVE_CODECS],
            events: events_for(codec, &audio.formats),
            receive_events: [None; MAX_RECEIVE_EVENTS],
            comfort_noise: number(Meaning::Noise),
            opus_fec: audio.opus_fec,
            frames: audio.frames.min(most_frames),
            max_packet_ms: audio.max_packet_ms.map(|longest| longest.max(if codec == Codec::Opus { 20 } else { 5 })),
            sends: has_address && matches!(audio.direction, Direction::SendRecv | Direction::RecvOnly),
            receives: matches!(audio.direction, Direction::SendRecv | Direction::SendOnly),
        }
    }
}

/// The audio lines of an m-line that we can use.
#[derive(Debug)]
pub(super) struct AudioLines {
    /// The formats in the far end's order of preference, without duplicates. At least one format is audio.
    pub(super) formats: Vec<Format>,
    /// Whether the line has `useinbandfec=1` for Opus.
    opus_fec: bool,
    /// The number of frames of 20 ms in a packet.
    frames: u8,
    /// The longest packet in ms that the far end accepts (`a=maxptime`). `None` means any length.
    max_packet_ms: Option<u8>,
    direction: Direction,
}

/// A payload type and its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Format {
    pub(super) number: u8,
    pub(super) meaning: Meaning,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

impl AudioLines {
    /// Reads the audio of an m-line. `numbers` are the payload types of the m-line, `media` are the lines after it, and
    /// `head` are the lines before the first m-line. Returns `None` if no format is audio that we know.
    pub(super) fn read(numbers: &str, media: Section<'_>, head: Section<'_>) -> Option<AudioLines> {
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
        Some(AudioLines {
            opus_fec: opus.is_some_and(|opus| has_parameter(opus.number, "useinbandfec", "1", media)),
            formats,
            frames: frames(media),
            max_packet_ms: max_packet_ms(media),
            direction: direction(media).or_else(|| direction(head)).unwrap_or(Direction::SendRecv),
        })
    }

    pub(super) fn codecs(&self) -> impl Iterator<Item = Codec> {
        self.formats.iter().filter_map(|format| format.meaning.codec())
    }
}

/// Returns the registered codec names of an m-line (`PCMU`, `opus`). The result includes codecs that we do not support.
/// The result does not include formats that are not codecs.
pub(super) fn encodings(numbers: &str, media: Section<'_>) -> Vec<String> {
    let numbers = numbers.split_ascii_whitespace().take(64).filter_map(|number| number.parse().ok());
    let names = numbers.filter_map(|payload_type| encoding_of(payload_type, media));
    let signals = |name: &str| ["telephone-event", "CN", "red"].iter().any(|no| no.eq_ignore_ascii_case(name));
    names.map(|(name, ..)| name).filter(|name| !signals(name)).map(|name| name.chars().take(32).collect()).collect()
}

fn direction(section: Section<'_>) -> Option<Direction> {
    section.values("a=").find_map(|attribute| match attribute {
        "sendrecv" => Some(Direction::SendRecv),
        "sendonly" => Some(Direction::SendOnly),
        "recvonly" => Some(Direction::RecvOnly),
        "inactive" => Some(Direction::Inactive),
        _ => None,
    })
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

/// The audio of our next answer.
pub(super) struct AudioAnswer {
    pub(super) formats: Vec<Format>,
    pub(super) direction: &'static str,
    pub(super) plan: AudioPlan,
}

/// The part of a negotiation that concerns the audio.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AudioNegotiation {
    /// The codecs that we use, best first. The list is never empty.
    codecs_in_use: Vec<Codec>,
    /// Our payload types for all formats that any description of this session has named. The payload types do not
    /// change during the session (RFC 3264 §8.3.2).
    numbers: Vec<Format>,
    /// Whether telephone-events are offered and accepted.
    events: bool,
    /// Whether the far end speaks ICE and DTLS. Then offers have telephone-events at one clock rate only, that of the first
    /// codec, because Chrome sends only the last packets of a digit if there are more. And there is no comfort noise,
    /// because Chrome then takes steady sounds such as tones and music for silence.
    browser: bool,
    /// The label (RFC 4574) of the session. Only a session that sends a copy of another stream and receives nothing has
    /// a label.
    label: Option<u16>,
    /// The formats of our last offer.
    offered: Vec<Format>,
    /// The codecs of the far end's last description that we also use. They are in the order of the far end's
    /// description.
    common: Vec<Codec>,
}

impl AudioNegotiation {
    /// Creates a negotiation for G.711.
    pub(super) fn new() -> AudioNegotiation {
        AudioNegotiation {
            codecs_in_use: vec![Codec::Pcmu, Codec::Pcma],
            numbers: Vec::new(),
            events: true,
            browser: false,
            label: None,
            offered: Vec::new(),
            common: Vec::new(),
        }
    }

    pub(super) fn set_events(&mut self, events: bool) {
        self.events = events;
    }

    /// Sets whether the far end speaks ICE and DTLS, as browsers do.
    pub(super) fn set_browser(&mut self, browser: bool) {
        self.browser = browser;
    }

    pub(super) fn set_label(&mut self, label: u16) {
        (self.label, self.events) = (Some(label), false);
    }

    pub(super) fn set_codecs(&mut self, codecs: &[Codec]) {
        if !codecs.is_empty() {
            self.codecs_in_use.clear();
            add(&mut self.codecs_in_use, codecs);
        }
    }

    pub(super) fn codecs_in_use(&self) -> &[Codec] {
        &self.codecs_in_use
    }

    /// Whether we have made an offer.
    pub(super) fn has_offered(&self) -> bool {
        !self.offered.is_empty()
    }

    /// Returns the codecs with which the engine can relay between this leg and another leg. `agreed` is the agreed plan.
    pub(super) fn preference(&self, agreed: Option<&AudioPlan>) -> Preference {
        let mut codecs: Vec<Codec> = agreed.map(|plan| plan.codec).into_iter().collect();
        add(&mut codecs, &self.common);
        Preference { codecs, comfort_noise: agreed.is_some_and(|plan| plan.comfort_noise.is_some()) }
    }

    /// Chooses the formats of our next offer. The agreed codec comes first, then the codecs that another leg prefers.
    pub(super) fn begin_offer(&mut self, agreed: Option<&AudioPlan>, preferred: &Preference) {
        let mut codecs: Vec<Codec> = agreed.map(|plan| plan.codec).into_iter().collect();
        let noise = preferred.comfort_noise || agreed.is_some_and(|plan| plan.comfort_noise.is_some());
        add(&mut codecs, &preferred.codecs);
        codecs.retain(|codec| self.codecs_in_use.contains(codec));
        add(&mut codecs, &self.codecs_in_use);

        let mut meanings: Vec<Meaning> = codecs.iter().copied().map(Meaning::Audio).collect();
        // Comfort noise at 8,000 Hz is useful only with a narrowband codec.
        if noise && !self.browser && codecs.iter().any(|codec| codec.law().is_some()) {
            meanings.push(Meaning::Noise);
        }
        let rates = if self.browser { 1 } else { codecs.len() };
        for codec in codecs.into_iter().take(rates) {
            let events = Meaning::Events(codec.clock_rate());
            if self.events && !meanings.contains(&events) {
                meanings.push(events);
            }
        }
        self.offered = meanings.into_iter().map(|meaning| self.number(meaning)).collect();
    }

    /// Returns the plan for media that arrives before the answer to our offer.
    pub(super) fn early(&self) -> Option<AudioPlan> {
        AudioPlan::early(&self.offered)
    }

    /// Returns a plan for a stream that was never enabled.
    pub(super) fn disabled(&mut self) -> Option<AudioPlan> {
        let codec = self.codecs_in_use.first().copied().unwrap_or(Codec::Pcmu);
        let format = self.number(Meaning::Audio(codec));
        AudioPlan::early(&[format])
    }

    /// The formats of our offer, and the direction of our offer.
    pub(super) fn offer(&self) -> (&[Format], &'static str) {
        (&self.offered, if self.label.is_some() { "sendonly" } else { "sendrecv" })
    }

    /// Answers the audio of the far end's offer. The answer has the codec that another leg prefers, or the first codec
    /// of the offer that we use. `has_address` says whether the offer contains the far end's address.
    pub(super) fn answer(
        &mut self,
        audio: &AudioLines,
        preferred: &Preference,
        has_address: bool,
    ) -> Result<AudioAnswer, SdpError> {
        let common: Vec<Codec> = audio.codecs().filter(|codec| self.codecs_in_use.contains(codec)).collect();
        let first = preferred.codecs.iter().find(|codec| common.contains(codec)).or(common.first());
        let Some(codec) = first.copied() else {
            return Err(SdpError::Incompatible("no codec that is supported here".into()));
        };
        let direction = match (has_address, audio.direction) {
            (true, Direction::SendRecv | Direction::RecvOnly) if self.label.is_some() => "sendonly",
            _ if self.label.is_some() => "inactive",
            (true, Direction::SendRecv) => "sendrecv",
            (true, Direction::RecvOnly) => "sendonly",
            (_, Direction::SendOnly) | (false, Direction::SendRecv) => "recvonly",
            (_, Direction::Inactive) | (false, Direction::RecvOnly) => "inactive",
        };
        // From now on we use the far end's payload types in both directions.
        for format in &audio.formats {
            self.numbers.retain(|known| known.meaning != format.meaning && known.number != format.number);
        }
        self.numbers.extend(&audio.formats);
        let mut plan = AudioPlan::to(audio, codec, has_address);
        // The answer contains one codec, so that the far end does not change the codec during the call. If the far end
        // still changes to G.711, we accept it, because G.711 needs no decoder state.
        let answered = |format: &&Format| format.meaning == Meaning::Audio(codec);
        let besides = |format: &&Format| {
            let other = format.meaning.codec().filter(|other| *other != codec && other.law().is_some());
            other.is_some_and(|other| common.contains(&other))
        };
        let taken = audio.formats.iter().filter(answered).chain(audio.formats.iter().filter(besides));
        plan.receive_codecs = gather(taken.filter_map(|format| Some((format.number, format.meaning.codec()?))));
        plan.receive_events = gather(audio.formats.iter().filter_map(events));
        if !self.events {
            (plan.events, plan.receive_events) = (None, [None; MAX_RECEIVE_EVENTS]);
        }
        if self.browser {
            plan.comfort_noise = None;
        }
        let mut formats: Vec<Format> = audio.formats.iter().filter(answered).copied().collect();
        let noise = plan.comfort_noise.map(|number| Format { number, meaning: Meaning::Noise });
        let events =
            plan.events.map(|one| Format { number: one.payload_type, meaning: Meaning::Events(one.clock_rate) });
        formats.extend(noise.into_iter().chain(events));
        plan.receives &= self.label.is_none();
        self.common = common;
        Ok(AudioAnswer { formats, direction, plan })
    }

    /// Reads the audio of the far end's answer to our offer. `has_address` says whether the answer contains the far end's
    /// address. Returns the plan, and the codecs that both sides have. Returns `None` if no codec of the offer is left.
    /// The negotiation changes only with [`AudioNegotiation::set_common`].
    pub(super) fn accept(&self, audio: &AudioLines, has_address: bool) -> Option<(AudioPlan, Vec<Codec>)> {
        let ours = |meaning: Meaning| self.offered.iter().find(|format| format.meaning == meaning).copied();
        let common: Vec<Codec> = audio.codecs().filter(|codec| ours(Meaning::Audio(*codec)).is_some()).collect();
        let codec = common.first().copied()?;
        let mut plan = AudioPlan::to(audio, codec, has_address);
        // The far end must send with our payload types. Some devices use their own payload types instead. This is
        // harmless if we do not use these numbers.
        let agreed = audio.formats.iter().filter_map(|format| ours(format.meaning));
        let theirs = audio.formats.iter().filter(|format| {
            ours(format.meaning).is_some() && !self.offered.iter().any(|offered| offered.number == format.number)
        });
        let both: Vec<Format> = agreed.chain(theirs.copied()).collect();
        plan.receive_codecs = gather(both.iter().filter_map(|format| Some((format.number, format.meaning.codec()?))));
        plan.receive_events = gather(both.iter().filter_map(events));
        if !self.events {
            plan.events = None;
        }
        if ours(Meaning::Noise).is_none() {
            plan.comfort_noise = None;
        }
        plan.receives &= self.label.is_none();
        Some((plan, common))
    }

    /// Sets the codecs that both sides have, after an answer of the far end.
    pub(super) fn set_common(&mut self, common: Vec<Codec>) {
        self.common = common;
    }

    /// Returns our payload type for a format. The number is assigned when the format is first named.
    fn number(&mut self, meaning: Meaning) -> Format {
        if let Some(known) = self.numbers.iter().find(|format| format.meaning == meaning) {
            return *known;
        }
        let usual = match meaning {
            Meaning::Audio(codec) => codec.static_payload_type().unwrap_or(match codec {
                Codec::Opus => 111,
                Codec::L16(SampleRate::Hz8000) => 119,
                _ => 118,
            }),
            Meaning::Noise => 13,
            Meaning::Events(8_000) => 101,
            Meaning::Events(48_000) => 110,
            Meaning::Events(_) => 102,
        };
        let free = |number: &u8| !self.numbers.iter().any(|format| format.number == *number);
        let number = std::iter::once(usual).chain(101..=127).chain(96..101).find(free).unwrap_or(usual);
        let format = Format { number, meaning };
        self.numbers.push(format);
        format
    }

    /// Writes the payload types of an m-line, and the lines that explain them.
    pub(super) fn write_formats(formats: &[Format], body: &mut String) {
        // Writing to a String cannot fail.
        for format in formats {
            let _ = write!(body, " {}", format.number);
        }
        body.push_str("\r\n");
        for Format { number, meaning } in formats {
            let (name, rate, channels, parameters) = match *meaning {
                // SDP always states two channels for Opus (RFC 7587 §7).
                Meaning::Audio(Codec::Opus) => ("opus", 48_000, "/2", "useinbandfec=1"),
                Meaning::Audio(codec) => (codec.name(), codec.clock_rate(), "", ""),
                Meaning::Noise => ("CN", 8_000, "", ""),
                Meaning::Events(rate) => ("telephone-event", rate, "", "0-16"),
            };
            let _ = write!(body, "a=rtpmap:{number} {name}/{rate}{channels}\r\n");
            if !parameters.is_empty() {
                let _ = write!(body, "a=fmtp:{number} {parameters}\r\n");
            }
        }
    }

    /// Writes the packet length, the direction and the label.
    pub(super) fn write_direction(&self, direction: &str, body: &mut String) {
        // Writing to a String cannot fail.
        let _ = write!(body, "a=ptime:20\r\na={direction}\r\n");
        if let Some(label) = self.label {
            let _ = write!(body, "a=label:{label}\r\n");
        }
    }
}

/// Returns the telephone-events for a codec. If the far end has telephone-events with the codec's clock rate, returns
/// this format. Otherwise returns the format with 8,000 Hz. Many devices offer only 8,000 Hz with Opus. This violates
/// RFC 4733 §2.1, but is better than no telephone-events.
fn events_for(codec: Codec, formats: &[Format]) -> Option<Events> {
    let at = |rate| formats.iter().filter_map(events).find(|one| one.clock_rate == rate);
    at(codec.clock_rate()).or_else(|| at(8_000))
}

fn events(format: &Format) -> Option<Events> {
    match format.meaning {
        Meaning::Events(clock_rate) => Some(Events { payload_type: format.number, clock_rate }),
        Meaning::Audio(_) | Meaning::Noise => None,
    }
}

/// Returns the first `N` items.
fn gather<T: Copy, const N: usize>(found: impl Iterator<Item = T>) -> [Option<T>; N] {
    let mut all = [None; N];
    for (place, one) in all.iter_mut().zip(found) {
        *place = Some(one);
    }
    all
}

/// Appends the codecs of `more` that `codecs` does not contain.
fn add(codecs: &mut Vec<Codec>, more: &[Codec]) {
    for codec in more {
        if !codecs.contains(codec) {
            codecs.push(*codec);
        }
    }
}
