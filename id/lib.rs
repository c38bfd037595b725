//! The ids, the names of accounts and the time that the SIP stack, the media engine and the call model share. Every id
//! of a thing that is stored has 128 bits. The dialects write the same id in different forms (`CA` + 32 hex digits,
//! `v3:` + base64url, a UUID).
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod account;
mod entropy;
pub mod node;
mod time;

pub use account::AccountName;
pub use entropy::Entropy;
pub use time::{Deadline, Now};

use std::fmt;

use jiff::Timestamp;
use rand::Rng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u128);

        impl $name {
            /// Creates a new id with [`ordered`].
            pub fn new(at: Timestamp, rng: &mut impl Rng) -> Self {
                Self(ordered(at, rng))
            }
        }

        impl fmt::Display for $name {
            /// Writes 32 lower-case hex digits.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(digits(self.0, &mut [0; 32]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:032x})"), self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(digits(self.0, &mut [0; 32]))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                u128::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
            }
        }
    )+};
}

ids! {
    /// Id of a call. A call is one B2BUA session with one or more legs. Telnyx's word is "call session".
    CallId,
    /// Id of a leg. A leg is the connection of one party to this server. Twilio's word is "Call", Telnyx's word is
    /// "call leg".
    LegId,
    /// Id of a recording.
    RecordingId,
    /// Id of a conference.
    ConferenceId,
    /// Id of an audio stream to a WebSocket.
    StreamId,
    /// Id of a queue of an account.
    QueueId,
    /// Id of a transcription. A transcription is the text of the speech of a leg or a recording.
    TranscriptionId,
    /// Id of a conversation between a caller and an application or an agent.
    ConversationId,
    /// Id of a SIPREC session with a recording server. The SIP side uses the same id for the session's dialog.
    SiprecId,
}

/// Id of an operation on a leg's media: a playback, a recording or the tap of a stream. A command carries this id. The
/// events of the operation carry the same id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct OpId(pub u64);

/// Id of a running document request. The response carries the same id. So the call recognises a late response to a
/// request that was aborted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct FetchId(pub u64);

/// Writes an id as 32 lower-case hex digits into `text`. A call writes ids dozens of times, and the standard formatter
/// needs ten times as long for 128 bits. The function first spreads the bits of each 64-bit half until every nibble has
/// an octet of its own. Then the function converts 16 nibbles into digits at once.
pub fn digits(id: u128, text: &mut [u8; 32]) -> &str {
    const ONES: u128 = u128::MAX / 0xff;
    // Each step has a shift in bits and a mask. The shift moves the upper half of each group away from the lower half.
    // The mask keeps both halves and clears the other bits.
    const APART: [(u32, u128); 4] =
        [(32, u128::MAX / 0x1_0000_0001), (16, u128::MAX / 0x1_0001), (8, u128::MAX / 0x101), (4, u128::MAX / 0x11)];
    for (sixteen, half) in text.chunks_exact_mut(16).zip([id >> 64, id & u128::from(u64::MAX)]) {
        let nibbles = APART.iter().fold(half, |bits, (by, mask)| (bits | bits << by) & mask);
        let letters = ((nibbles + 6 * ONES) >> 4) & ONES;
        let digits = nibbles + u128::from(b'0') * ONES + u128::from(b'a' - b'9' - 1) * letters;
        sixteen.copy_from_slice(&digits.to_be_bytes());
    }
    // Hex digits are always valid UTF-8.
    std::str::from_utf8(text).unwrap_or_default()
}

/// Creates a new id: the current millisecond, then 74 random bits. Therefore ids sort by time, and database indexes
/// grow at one end only (as with UUIDs of version 7, RFC 9562 §5.7). The id has the form of a UUID of version 1,
/// because one provider shows its ids in this form. In a cluster, the last 16 bits name the node ([`node`]).
pub fn ordered(at: Timestamp, rng: &mut impl Rng) -> u128 {
    let random = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
    ordered_from(at.as_millisecond().cast_unsigned(), random)
}

/// Does the same as [`ordered`], with a time in ms since 1970 UTC and with random bits of the caller.
pub fn ordered_from(milliseconds: u64, random: u128) -> u128 {
    const VERSION: u128 = 0x1 << 76;
    const VARIANT: u128 = 0x2 << 62;
    const RANDOM: u128 = (0xfff << 64) | ((1 << 62) - 1);
    node::sign(u128::from(milliseconds) << 80 | VERSION | VARIANT | (random & RANDOM))
}

/// Writes an id as a UUID in lower case (RFC 9562 §4).
pub fn uuid(id: u128) -> String {
    let [a, b, c, d, e] =
        [id >> 96, (id >> 80) & 0xffff, (id >> 64) & 0xffff, (id >> 48) & 0xffff, id & 0xffff_ffff_ffff];
    format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
}

/// Parses a UUID, in upper or lower case (RFC 9562 §4).
pub fn parse_uuid(text: &str) -> Option<u128> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    let mut id = 0u128;
    for (index, &byte) in bytes.iter().enumerate() {
        if matches!(index, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return None;
            }
        } else {
            id = (id << 4) | u128::from(char::from(byte).to_digit(16)?);
        }
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn an_id_is_written_as_32_hexadecimal_digits() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(7);
        let ids = [0, u128::MAX, 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210, rng.next_u64().into(), 9 << 124, 10 << 124];
        for id in ids {
            assert_eq!(LegId(id).to_string(), format!("{id:032x}"));
        }
    }

    #[test]
    fn an_id_has_the_form_of_a_version_1_uuid() {
        let id = LegId::new(Timestamp::UNIX_EPOCH, &mut rand::rngs::StdRng::seed_from_u64(7)).to_string();
        assert_eq!(&id[12..13], "1");
        assert!("89ab".contains(&id[16..17]));
    }

    #[test]
    fn ids_are_in_the_order_of_time_and_differ_within_a_millisecond() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(7);
        let mut new = |millisecond| LegId::new(Timestamp::from_millisecond(millisecond).unwrap(), &mut rng);
        let ids = [0, 1, 1_795_342_203_804, 1_795_342_203_805, 253_000_000_000_000].map(&mut new);
        assert!(ids.is_sorted());
        assert!(ids[2].to_string().starts_with("01a202bbfb9c"));
        assert_eq!((0..1_000).map(|_| new(7)).collect::<std::collections::HashSet<_>>().len(), 1_000);
    }
}
