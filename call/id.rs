//! Identities. Every id is 128 bits; a dialect only *spells* them (`CA` + 32 hex, `v3:` + base64url, a UUID).

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
            /// A new id, as [`ordered`] makes it.
            pub fn new(at: Timestamp, rng: &mut impl Rng) -> Self {
                Self(ordered(at, rng))
            }
        }

        impl fmt::Display for $name {
            /// 32 lower-case hex digits.
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
    /// One B2BUA session: one or more legs (Telnyx: call session).
    CallId,
    /// One party's SIP side (Twilio: Call; Telnyx: call leg).
    LegId,
    /// One recording.
    RecordingId,
    /// One conference.
    ConferenceId,
    /// One audio stream to a WebSocket.
    StreamId,
    /// One queue of an account.
    QueueId,
    /// What was said on a leg, or in a recording, in words.
    TranscriptionId,
    /// One conversation of a caller with an application.
    ConversationId,
    /// One session with a recording server; also the SIP key of its dialog.
    SiprecId,
}

/// An operation under way on a leg's media (a playback, a recording, a stream's tap): commands carry it, events echo it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct OpId(pub u64);

/// A document request under way; its answer echoes it, so that a late answer to an aborted fetch is known for what it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FetchId(pub u64);

/// Ids are spelled dozens of times a call, and the formatter takes ten times as long with 128 bits: each half is drawn out here
/// until a nibble has an octet to itself, and sixteen of them become digits at once.
pub(crate) fn digits(id: u128, text: &mut [u8; 32]) -> &str {
    const ONES: u128 = u128::MAX / 0xff;
    // By so many bits is the upper half of a group moved away from its lower one, which the mask leaves.
    const APART: [(u32, u128); 4] =
        [(32, u128::MAX / 0x1_0000_0001), (16, u128::MAX / 0x1_0001), (8, u128::MAX / 0x101), (4, u128::MAX / 0x11)];
    for (sixteen, half) in text.chunks_exact_mut(16).zip([id >> 64, id & u128::from(u64::MAX)]) {
        let nibbles = APART.iter().fold(half, |bits, (by, mask)| (bits | bits << by) & mask);
        let letters = ((nibbles + 6 * ONES) >> 4) & ONES;
        let digits = nibbles + u128::from(b'0') * ONES + u128::from(b'a' - b'9' - 1) * letters;
        sixteen.copy_from_slice(&digits.to_be_bytes());
    }
    // Digits are always text.
    std::str::from_utf8(text).unwrap_or_default()
}

/// A new id: the millisecond it was made in, then 74 random bits, so that a database's indexes grow at one end instead of
/// everywhere (as with UUIDs of version 7, RFC 9562 §5.7). It reads as a UUID of version 1, because one provider shows its ids
/// as such.
pub fn ordered(at: Timestamp, rng: &mut impl Rng) -> u128 {
    const VERSION: u128 = 0x1 << 76;
    const VARIANT: u128 = 0x2 << 62;
    const RANDOM: u128 = (0xfff << 64) | ((1 << 62) - 1);
    let milliseconds = u128::from(at.as_millisecond().cast_unsigned()) << 80;
    let random = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
    milliseconds | VERSION | VARIANT | (random & RANDOM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn an_id_is_spelled_as_the_formatter_does() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(7);
        let ids = [0, u128::MAX, 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210, rng.next_u64().into(), 9 << 124, 10 << 124];
        for id in ids {
            assert_eq!(LegId(id).to_string(), format!("{id:032x}"));
        }
    }

    #[test]
    fn an_id_reads_as_a_version_1_uuid() {
        let id = LegId::new(Timestamp::UNIX_EPOCH, &mut rand::rngs::StdRng::seed_from_u64(7)).to_string();
        assert_eq!(&id[12..13], "1");
        assert!("89ab".contains(&id[16..17]));
    }

    #[test]
    fn ids_are_in_the_order_of_their_milliseconds_and_differ_within_one() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(7);
        let mut new = |millisecond| LegId::new(Timestamp::from_millisecond(millisecond).unwrap(), &mut rng);
        let ids = [0, 1, 1_795_342_203_804, 1_795_342_203_805, 253_000_000_000_000].map(&mut new);
        assert!(ids.is_sorted());
        assert!(ids[2].to_string().starts_with("01a202bbfb9c"));
        assert_eq!((0..1_000).map(|_| new(7)).collect::<std::collections::HashSet<_>>().len(), 1_000);
    }
}
