//! Limits on concurrent calls. A limit applies to the number of legs of a connection or of an outbound profile.
//!
//! A leg takes its channels before the leg starts, and frees the channels when the leg ends. The table has at most one
//! entry for each live leg.

use std::collections::HashMap;

use parking_lot::Mutex;
use tandem_call::address::Address;
use tandem_call::route::{Decision, Route};
use tandem_id::{AccountName, LegId};
use tandem_leg::signal::Caller;

use crate::Routing;
use crate::country;
use crate::inventory::{Limits, OutboundProfile};

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
    /// Takes all channels in `requested` for a leg, or takes no channel. The second value of each entry in `requested` is
    /// the limit of the channel. `None` means no limit. If the leg already has channels, the leg keeps these channels and
    /// takes no other channels.
    ///
    /// # Errors
    /// Returns [`Barred::Full`] with the first channel that has reached its limit.
    pub fn take(&self, leg: LegId, requested: Vec<(Channel, Option<u32>)>) -> Result<(), Barred> {
        let mut taken = self.0.lock();
        if requested.is_empty() || taken.legs.contains_key(&leg) {
            return Ok(());
        }
        let count = |channel: &Channel| taken.counts.get(channel).copied().unwrap_or(0);
        let full = requested.iter().find(|(channel, max)| max.is_some_and(|max| count(channel) >= max));
        if let Some((channel, _)) = full {
            return Err(Barred::Full(channel.clone()));
        }
        let channels: Vec<Channel> = requested.into_iter().map(|(channel, _)| channel).collect();
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

impl Routing {
    /// Returns the limits on concurrent calls for a connection or an application of an account.
    fn limits(&self, account: &AccountName, connection: &str) -> Limits {
        if let Some((_, connection)) = self.phones.connections().get(account, connection) {
            return connection.limits;
        }
        let application = self.inventory.applications.find(connection).filter(|held| held.account == *account);
        application.map(|held| held.details.limits).unwrap_or_default()
    }

    /// Returns the channels that a call to `user` takes, each with its limit. If the caller belongs to a connection and
    /// no application handles the call, the call takes the outbound channels of this connection. Otherwise the call
    /// takes the inbound channels of the connection or application that receives the call.
    pub fn channels(
        &self,
        caller: Option<&Caller>,
        route: &Route,
        user: &str,
    ) -> Result<Vec<(Channel, Option<u32>)>, Barred> {
        let account = &route.owner.account;
        if let (Some(caller), Decision::Program(_)) = (caller, &route.decision) {
            let domain = caller.domain().and_then(|domain| self.phones.domain(domain));
            let trunk = domain.filter(|domain| domain.details.trunk).map(|domain| domain.id);
            if let Some(id) = self.phones.connections().calling(account, caller.name().map(|name| &**name), trunk) {
                return self.outbound_channels(account, Some(&id), &Address::from(user));
            }
        }
        let held = self.number(user).filter(|held| held.account == *account);
        let of_number = held.and_then(|held| held.details.application.clone());
        let connection = route.owner.application.as_deref().map(str::to_owned).or(of_number);
        let channel = |id: String| {
            let limit = self.limits(account, &id).inbound;
            (Channel::Inbound(id), limit)
        };
        Ok(connection.map(channel).into_iter().collect())
    }

    /// Returns the channels that a call from a connection to `to` takes, each with its limit. Returns an error if the
    /// outbound profile forbids the call.
    pub fn outbound_channels(
        &self,
        account: &AccountName,
        connection: Option<&str>,
        to: &Address,
    ) -> Result<Vec<(Channel, Option<u32>)>, Barred> {
        let Some(connection) = connection else { return Ok(Vec::new()) };
        let limits = self.limits(account, connection);
        let mut channels = vec![(Channel::Outbound(connection.to_owned()), limits.outbound)];
        let profile = limits.profile.and_then(|id| self.inventory.profiles.find(&format!("{id:032x}")));
        if let Some(profile) = profile.filter(|profile| profile.account == *account) {
            let OutboundProfile { disabled, most_calls, destinations, .. } = &profile.details;
            if *disabled {
                return Err(Barred::Disabled);
            }
            if let Address::Phone(number) = to
                && number.is_e164()
                && !destinations.iter().any(|country| country == country::of(number.as_str()))
            {
                return Err(Barred::Destination(number.to_string()));
            }
            channels.push((Channel::Profile(profile.id), *most_calls));
        }
        Ok(channels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leg_takes_all_of_its_channels_or_none_and_frees_them() {
        let channels = Channels::default();
        let (connection, profile) = (Channel::Outbound("1".into()), Channel::Profile(7));
        let requested = |max| vec![(connection.clone(), None), (profile.clone(), Some(max))];
        assert_eq!(channels.take(LegId(1), requested(1)), Ok(()));
        assert_eq!(channels.take(LegId(1), requested(1)), Ok(()), "it has them");
        assert_eq!(channels.take(LegId(2), requested(1)), Err(Barred::Full(profile.clone())));
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
