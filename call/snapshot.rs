//! The state of a call as octets. A process that writes the state of its calls can be replaced: the next process reads
//! the calls, and [`Call::resume`] emits the commands that rebuild everything that the shell had running.
//!
//! The first octet is the version of the form. JSON follows (ADR 33). A field that a later version adds has a default, and
//! needs no new version. The octets contain secrets: credentials, tokens and digits of callers. Other states that belong
//! to a call have the same form, each with a version of its own: [`write()`] and [`read`].

use std::collections::VecDeque;
use std::fmt;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tandem_id::{CallId, Deadline, Entropy, LegId, Now};

use crate::call::Call;
use crate::leg_cx::Effects;
use crate::leg_state::LegState;
use crate::timer::{LegTimer, Timers};

/// The version of the form of a call and of a conference.
pub(crate) const VERSION: u8 = 1;

/// The reason why a state cannot be written or read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CallSnapshotError {
    /// The octets have another version. Contains this version.
    Version(u8),
    /// The octets are not a state of this version. Contains the reason in words.
    Malformed(String),
    /// The call has outputs that were not polled. These outputs would be lost.
    UnpolledOutputs,
    /// The state has no written form. Contains the reason in words.
    Unwritable(String),
}

impl fmt::Display for CallSnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "the state has version {version}, which this server does not read"),
            Self::Malformed(why) => write!(f, "the state is malformed: {why}"),
            Self::UnpolledOutputs => f.write_str("the state has outputs that were not polled"),
            Self::Unwritable(why) => write!(f, "the state cannot be written: {why}"),
        }
    }
}

impl std::error::Error for CallSnapshotError {}

/// Writes a state in the form with this version.
pub fn write(version: u8, state: &impl Serialize) -> Result<Vec<u8>, CallSnapshotError> {
    let mut octets = vec![version];
    serde_json::to_writer(&mut octets, state).map_err(|why| CallSnapshotError::Unwritable(why.to_string()))?;
    Ok(octets)
}

/// Reads what [`write()`] has written in the form with this version.
pub fn read<S: DeserializeOwned>(version: u8, octets: &[u8]) -> Result<S, CallSnapshotError> {
    match octets.split_first() {
        Some((&found, state)) if found == version => {
            serde_json::from_slice(state).map_err(|why| CallSnapshotError::Malformed(why.to_string()))
        }
        Some((&found, _)) => Err(CallSnapshotError::Version(found)),
        None => Err(CallSnapshotError::Malformed("no octets".to_owned())),
    }
}

/// The written form of a call. `L` and `E` are references when a call is written.
#[derive(Serialize, Deserialize)]
struct CallRecord<L, E> {
    id: CallId,
    legs: L,
    entropy: E,
    /// The timers, with wall-clock times ([`Deadline::to_wall_time`]).
    timers: Vec<(Timestamp, LegId, LegTimer)>,
    next_op: u64,
}

impl Call {
    /// Writes the whole state of the call. `now` converts the timers into wall-clock times. Poll every output first:
    /// outputs are not part of the state.
    pub fn write(&self, now: Now) -> Result<Vec<u8>, CallSnapshotError> {
        if !self.effects.outputs.is_empty() {
            return Err(CallSnapshotError::UnpolledOutputs);
        }
        write(
            VERSION,
            &CallRecord {
                id: self.id,
                legs: &self.leg_states,
                entropy: &self.effects.entropy,
                timers: self.effects.timers.iter().map(|(at, leg, timer)| (at.to_wall_time(now), leg, timer)).collect(),
                next_op: self.effects.next_op,
            },
        )
    }

    /// Reads a call that [`Call::write`] has written. A timer whose time has passed is due at once. Call
    /// [`Call::resume`] next.
    pub fn read(octets: &[u8], now: Now) -> Result<Self, CallSnapshotError> {
        let CallRecord { id, legs, entropy, timers, next_op } =
            read::<CallRecord<Vec<LegState>, Entropy>>(VERSION, octets)?;
        let mut all = Timers::default();
        for (at, leg, timer) in timers {
            all.set(Deadline::from_wall_time(at, now), leg, timer);
        }
        let effects = Effects { now, entropy, next_op, timers: all, outputs: VecDeque::new() };
        Ok(Self { id, leg_states: legs, effects })
    }
}

/// The written form of an `Option<Option<T>>`, for a field with `default` and `skip_serializing_if`. Without this module,
/// `Some(None)` would become `None`.
pub(crate) mod double_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<T: Serialize, S: Serializer>(
        value: &Option<Option<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().and_then(Option::as_ref).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Option<T>>, D::Error> {
        Option::deserialize(deserializer).map(Some)
    }
}

/// The written form of the octets of a file: base64.
pub mod base64_octets {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the octets.
    pub fn serialize<S: Serializer>(octets: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(octets))
    }

    /// Reads the octets.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Bytes::from).map_err(serde::de::Error::custom)
    }
}
