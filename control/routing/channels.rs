//! Limits on concurrent calls. A limit applies to the number of legs of a connection or of an outbound profile.
//!
//! A leg takes its channels before the leg starts, and frees the channels when the leg ends. The table has at most one
//! entry for each live leg.

use std::collections::HashMap;

use parking_lot::Mutex;
use tandem_id::LegId;

/// A resource with a limit on concurrent calls.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Channel {
    /// Inbound calls of the connection with this id.
    Inbound(String),
    /// Outbound calls of the connection with this id.
    Outbound(String),
    /// Outbound calls of all connections that use the outbound profile with this id.
    Profile(u128),
}

/// The reason why a connection may not make a call.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Barred {
    #[error("{}", match .0 {
        Channel::Profile(_) => "the outbound profile has reached its call limit",
        _ => "the connection has reached its call limit",
    })]
    Full(Channel),
    /// The outbound profile is disabled.
    #[error("the outbound profile is disabled")]
    Disabled,
    /// The country of this called number is not in the outbound profile.
    #[error("the outbound profile does not list the country of {0}")]
    Destination(String),
}

/// The channels that legs have taken.
#[derive(Debug, Default)]
pub struct Channels(Mutex<ChannelTable>);

#[derive(Debug, Default)]
struct ChannelTable {
    legs: HashMap<LegId, Vec<Channel>>,
    counts: HashMap<Channel, u32>,
}

impl Channels {
    /// Takes all channels in `wanted` for a leg, or takes no channel. The second value of each entry in `wanted` is the
    /// limit of the channel. `None` means no limit. If the leg already has channels, the leg keeps these channels and
    /// takes no other channels.
    ///
    /// # Errors
    /// Returns [`Barred::Full`] with the first channel that has reached its limit.
    pub fn take(&self, leg: LegId, wanted: Vec<(Channel, Option<u32>)>) -> Result<(), Barred> {
        let mut taken = self.0.lock();
        if wanted.is_empty() || taken.legs.contains_key(&leg) {
            return Ok(());
        }
        let count = |channel: &Channel| taken.counts.get(channel).copied().unwrap_or(0);
        let full = wanted.iter().find(|(channel, max)| max.is_some_and(|max| count(channel) >= max));
        if let Some((channel, _)) = full {
            return Err(Barred::Full(channel.clone()));
        }
        let channels: Vec<Channel> = wanted.into_iter().map(|(channel, _)| channel).collect();
        for channel in &channels {
            *taken.counts.entry(channel.clone()).or_default() += 1;
        }
        taken.legs.insert(leg, channels);
        Ok(())
    }

    /// Frees the leg's channels.
    pub fn free(&self, leg: LegId) {
        let mut taken = self.0.lock();
        for channel in taken.legs.remove(&leg).unwrap_or_default() {
            let left = taken.counts.get(&channel).copied().unwrap_or(1) - 1;
            if left == 0 {
                taken.counts.remove(&channel);
            } else {
                taken.counts.insert(channel, left);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leg_takes_all_of_its_channels_or_none_and_frees_them() {
        let channels = Channels::default();
        let (connection, profile) = (Channel::Outbound("1".into()), Channel::Profile(7));
        let wanted = |max| vec![(connection.clone(), None), (profile.clone(), Some(max))];
        assert_eq!(channels.take(LegId(1), wanted(1)), Ok(()));
        assert_eq!(channels.take(LegId(1), wanted(1)), Ok(()), "it has them");
        assert_eq!(channels.take(LegId(2), wanted(1)), Err(Barred::Full(profile.clone())));
        let alone = vec![(connection.clone(), Some(2))];
        assert_eq!(channels.take(LegId(3), alone.clone()), Ok(()), "nothing was taken for the refused one");
        assert_eq!(channels.take(LegId(4), alone.clone()), Err(Barred::Full(connection.clone())));
        for leg in [1, 1, 2, 3] {
            channels.free(LegId(leg));
        }
        let taken = channels.0.lock();
        assert!(taken.legs.is_empty() && taken.counts.is_empty());
    }
}
