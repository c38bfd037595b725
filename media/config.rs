//! The `[media]` table of the configuration file.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde::Deserialize;

use crate::addresses::{self, Addresses, MediaPlace};
use crate::codec::{Codec, SampleRate};
use crate::handle::StartError;
use crate::sdp::Srtp;
use crate::thread_load::ThreadLoad;

/// The settings of the RTP engine. Every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The addresses that RTP and RTCP sockets are bound to, at most one of each family. Default 127.0.0.1. The wildcard
    /// `::` stands for both families, if `advertise` has an address of both.
    pub listen: Addresses,
    /// The addresses that our SDP contains instead of the bound addresses, at most one of each family. This setting is
    /// necessary behind NAT, and when `listen` is 0.0.0.0 or ::.
    pub advertise: Addresses,
    /// The range of the port pool, including both ends. Each session takes an even port for RTP and the next port for
    /// RTCP.
    pub ports: PortRange,
    /// The number of media threads, at most [`Config::MAX_WORKERS`]. If the value is 0, the number of threads is the
    /// number of CPU cores minus one, but at least one.
    pub workers: usize,
    /// The codecs that our offers contain and our answers accept, best first. The list has at least one codec.
    pub codecs: Vec<CodecName>,
    /// Whether a leg sends silence while the leg has no audio to send. The silence keeps NAT bindings open. It also
    /// keeps recordings at the far end aligned in time.
    pub send_silence: bool,
    /// The time in ms without RTP from a far end after which packets from any other source address can be accepted. The
    /// new source must then send five packets in a row with one SSRC. The default is 0. If the value is 0, a source can
    /// replace a source that has been silent for a second only if it is the same far end: SRTP authenticates its
    /// packets, or its packets continue the SSRC and the sequence numbers.
    pub relatch_probation_ms: u32,
    /// The percentage of a media thread's time, 0 to 100, that noise suppression may use. If noise suppression needs
    /// more time, or if the thread is late, the engine stops the newest suppressors.
    pub suppression_budget: u8,
    /// The percentage of a media thread's time, 0 to 100, that transcoding may use before new calls go to another thread
    /// or are refused. With 100, transcoding has no limit of its own.
    pub transcoding_budget: u8,
    /// The time in ms that a media thread may be late before new calls go to another thread or are refused. With 0, no
    /// call is refused because a thread is late or transcodes too much.
    pub overload_ms: u32,
    /// Whether the kernel relays the plain RTP packets of bridged calls.
    pub kernel_relay: UseKernel,
    /// Whether this server only answers the connectivity checks of ICE (RFC 8445 §2.5). This saves packets. The far ends must
    /// then reach the server at its advertised address.
    pub ice_lite: bool,
    /// The UDP port that all far ends with ICE share. Without it, each of them uses a port of `ports`.
    pub ice_udp_port: Option<u16>,
    /// The TCP port that all far ends with ICE share (RFC 6544). Without it, ICE has no TCP.
    pub ice_tcp_port: Option<u16>,
    /// The SRTP mode of a phone that has no SRTP setting of its own.
    pub endpoint_srtp: Srtp,
}

impl Config {
    /// The highest number of media threads.
    pub const MAX_WORKERS: usize = 256;

    /// Returns the places of the media, IPv4 first. There is at least one place.
    ///
    /// # Errors
    /// The addresses give no place, or an address of `advertise` has no socket of its family.
    pub fn places(&self) -> Result<Vec<MediaPlace>, StartError> {
        addresses::places(self.listen, self.advertise)
    }

    pub(crate) fn thread_load(&self) -> ThreadLoad {
        ThreadLoad::new(Duration::from_millis(self.overload_ms.into()), self.transcoding_budget)
    }

    pub(crate) fn relatch_probation(&self) -> Option<Duration> {
        (self.relatch_probation_ms > 0).then(|| Duration::from_millis(self.relatch_probation_ms.into()))
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST).into(),
            advertise: Addresses::default(),
            ports: PortRange { first: 20_000, last: 39_999 },
            workers: 0,
            codecs: vec![CodecName::Pcmu, CodecName::Pcma],
            send_silence: true,
            relatch_probation_ms: 0,
            suppression_budget: 60,
            transcoding_budget: 70,
            overload_ms: 100,
            kernel_relay: UseKernel::Auto,
            ice_lite: false,
            ice_udp_port: None,
            ice_tcp_port: None,
            endpoint_srtp: Srtp::Off,
        }
    }
}

/// Whether the kernel may relay packets (docs/kernel-relay.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UseKernel {
    /// The kernel relays packets if the kernel supports this and the process has the permission.
    #[default]
    Auto,
    /// The kernel never relays packets.
    Off,
    /// The kernel relays packets. If the kernel cannot relay packets, the server does not start.
    Required,
}

/// The name of a codec in the configuration. Upper and lower case are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum CodecName {
    /// G.711 mu-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// G.722.
    G722,
    /// Opus.
    Opus,
    /// Linear 16-bit samples at 16,000 Hz and at 8,000 Hz (RFC 3551 §4.5.11).
    L16,
}

impl CodecName {
    /// All codec names, in the order in which error messages list them.
    pub const ALL: [CodecName; 5] =
        [CodecName::Pcmu, CodecName::Pcma, CodecName::G722, CodecName::Opus, CodecName::L16];

    /// The codec's name in upper case, for example `PCMU`.
    pub const fn name(self) -> &'static str {
        match self {
            CodecName::Pcmu => "PCMU",
            CodecName::Pcma => "PCMA",
            CodecName::G722 => "G722",
            CodecName::Opus => "OPUS",
            CodecName::L16 => "L16",
        }
    }

    /// Returns the codecs with these names, in the order of the names. The name `L16` means two codecs.
    pub fn codecs(names: &[CodecName]) -> Vec<Codec> {
        let codecs = |name: &CodecName| match name {
            CodecName::Pcmu => &[Codec::Pcmu][..],
            CodecName::Pcma => &[Codec::Pcma],
            CodecName::G722 => &[Codec::G722],
            CodecName::Opus => &[Codec::Opus],
            CodecName::L16 => &[Codec::L16(SampleRate::Hz16000), Codec::L16(SampleRate::Hz8000)],
        };
        names.iter().flat_map(codecs).copied().collect()
    }
}

impl TryFrom<String> for CodecName {
    type Error = String;

    fn try_from(text: String) -> Result<CodecName, String> {
        let known = CodecName::ALL.iter().find(|name| name.name().eq_ignore_ascii_case(&text));
        known.copied().ok_or_else(|| {
            let names = CodecName::ALL.map(CodecName::name);
            format!("{text:?} is not one of \"{}\"", names.join("\", \""))
        })
    }
}

/// A range of UDP ports. The configuration writes a range as `"20000-39999"`. A valid range contains at least one even
/// port and the next odd port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Returns the even ports for which the next port is in the range too.
    pub fn pairs(self) -> impl Iterator<Item = u16> {
        let even = u32::from(self.first).next_multiple_of(2);
        (even..u32::from(self.last)).step_by(2).filter_map(|port| u16::try_from(port).ok())
    }
}

impl std::str::FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<PortRange, String> {
        let fault = || format!("{text:?} is not a range of ports such as \"20000-39999\"");
        let (first, last) = text.split_once('-').ok_or_else(fault)?;
        let range = PortRange {
            first: first.trim().parse().map_err(|_| fault())?,
            last: last.trim().parse().map_err(|_| fault())?,
        };
        if range.first > range.last {
            return Err(format!("{text:?} begins with the higher port; write \"{}-{}\"", range.last, range.first));
        }
        if range.first == 0 || range.pairs().next().is_none() {
            return Err(format!("{text:?} has no even port followed by the next odd port"));
        }
        Ok(range)
    }
}

impl TryFrom<String> for PortRange {
    type Error = String;

    fn try_from(text: String) -> Result<PortRange, String> {
        text.parse()
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_gives_the_defaults_and_an_unknown_setting_is_refused() {
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
        assert!(toml::from_str::<Config>("port = 1").is_err());
        let config: Config = toml::from_str("listen = \"::1\"\nports = \"5001-5004\"\nworkers = 2").unwrap();
        assert_eq!(config.ports.pairs().collect::<Vec<_>>(), [5_002]);
    }

    #[test]
    fn codec_names_in_the_settings_are_accepted() {
        let config: Config = toml::from_str("codecs = [\"opus\", \"L16\", \"Pcma\"]").unwrap();
        let [wide, narrow] = [SampleRate::Hz16000, SampleRate::Hz8000].map(Codec::L16);
        assert_eq!(CodecName::codecs(&config.codecs), [Codec::Opus, wide, narrow, Codec::Pcma]);
        let error = toml::from_str::<Config>("codecs = [\"g729\"]").unwrap_err();
        let message = "\"g729\" is not one of \"PCMU\", \"PCMA\", \"G722\", \"OPUS\", \"L16\"";
        assert!(error.message().contains(message), "{error}");
    }

    #[test]
    fn ranges_without_a_pair_are_refused() {
        for text in ["", "5", "9-3", "5001-5002", "0-10", "1-70000", "a-b"] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
    }
}
