//! Limits of calls at the same time: how many legs each connection and each outbound profile of an account has.
//!
//! A leg takes its channels before it begins and gives them back with its end. As many entries as there are live legs.

use std::collections::HashMap;

use parking_lot::Mutex;
use tandem_call::id::LegId;

/// What has a limit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Channel {
    /// Calls to the numbers of a connection, by its id.
    Inbound(String),
    /// Calls of a connection.
    Outbound(String),
    /// Calls of all connections of an outbound profile, by its id.
    Profile(u128),
}

/// Why a connection may not make a call.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Barred {
    /// As many calls are up as one of these may have.
    #[error("{}", match .0 {
        Channel::Profile(_) => "the outbound profile has as many calls as it may have",
        _ => "the connection has as many calls as it may have",
    })]
    Full(Channel),
    /// The outbound profile is switched off.
    #[error("the outbound profile is disabled")]
    Disabled,
    /// The outbound profile does not list the country of the called number.
    #[error("{0} is in no country that the outbound profile lists")]
    Destination(String),
}

/// The channels that legs have taken.
#[derive(Debug, Default)]
pub struct Channels(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    legs: HashMap<LegId, Vec<Channel>>,
    counts: HashMap<Channel, u32>,
}

impl Channels {
    /// Takes channels for a leg, all of them or none: each with its limit, if it has one. A leg that has taken some already
    /// keeps those.
    pub fn take(&self, leg: LegId, wanted: Vec<(Channel, Option<u32>)>) -> Result<(), Barred> {
        let mut taken = self.0.lock();
        if wanted.is_empty() || taken.legs.contains_key(&leg) {
            return Ok(());
        }
        let count = |channel: &Channel| taken.counts.get(channel).copied().unwrap_or(0);
        let full = wanted.iter().find(|(channel, most)| most.is_some_and(|most| count(channel) >= most));
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

    /// Gives a leg's channels back.
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
    fn a_leg_takes_all_of_its_channels_or_none_and_gives_them_back() {
        let channels = Channels::default();
        let (connection, profile) = (Channel::Outbound("1".into()), Channel::Profile(7));
        let wanted = |most| vec![(connection.clone(), None), (profile.clone(), Some(most))];
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
