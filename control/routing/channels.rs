//! Limits on concurrent calls. A limit applies to the number of legs of a connection or of an outbound profile.
//!
//! A leg takes its channels before the leg starts, and frees the channels when the leg ends. The table has at most one
//! entry for each live leg.
//!
//! The nodes of a cluster share the limits. Each node has a slice of each limit ([`Channels::share`]), and takes channels
//! only within its slice.

use std::collections::HashMap;
use std::fmt;

use parking_lot::Mutex;
use tandem_call::address::Address;
use tandem_call::route::{Decision, Route};
use tandem_id::{AccountName, LegId};
use tandem_leg::signal::Caller;
use tokio::sync::Notify;

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

/// The name of the limit for other nodes.
impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inbound(connection) => write!(f, "connection {connection} inbound"),
            Self::Outbound(connection) => write!(f, "connection {connection} outbound"),
            Self::Profile(profile) => write!(f, "profile {profile:032x}"),
        }
    }
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
pub struct Channels {
    table: Mutex<ChannelTable>,
    used_up: Notify,
}

#[derive(Debug, Default)]
struct ChannelTable {
    legs: HashMap<LegId, Vec<Channel>>,
    counts: HashMap<Channel, u32>,
    /// The slices of this node. `None` if this server is alone. Only channels with a limit have a slice.
    slices: Option<HashMap<Channel, Slice>>,
}

/// The part of a limit that this node may use, and the use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Maximum number of calls of this node.
    pub amount: u32,
    /// Number of calls that have the channel now.
    pub calls: u32,
    /// Number of calls that have taken the channel since the start.
    pub taken: u64,
    /// Number of calls that were refused since the start.
    pub refused: u64,
}

impl Channels {
    /// Takes all channels in `requested` for a leg, or takes no channel. The second value of each entry in `requested` is
    /// the limit of the channel. `None` means no limit. If the leg already has channels, the leg keeps these channels and
    /// takes no other channels.
    ///
    /// # Errors
    /// Returns [`Barred::Full`] with the first channel that has reached its limit.
    pub fn take(&self, leg: LegId, requested: Vec<(Channel, Option<u32>)>) -> Result<(), Barred> {
        let mut taken = self.table.lock();
        if requested.is_empty() || taken.legs.contains_key(&leg) {
            return Ok(());
        }
        let full = requested.iter().find(|(channel, max)| max.is_some_and(|max| taken.is_full(channel, max)));
        if let Some((channel, _)) = full {
            if let Some(slices) = &mut taken.slices {
                slices.entry(channel.clone()).or_default().refused += 1;
                self.used_up.notify_one();
            }
            return Err(Barred::Full(channel.clone()));
        }
        let limited = requested.iter().filter(|(_, max)| max.is_some()).map(|(channel, _)| channel);
        if taken.count_in_slices(limited) {
            self.used_up.notify_one();
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
        let mut taken = self.table.lock();
        for channel in taken.legs.remove(&leg).unwrap_or_default() {
            let left = taken.counts.get(&channel).copied().unwrap_or(1) - 1;
            if left == 0 {
                taken.counts.remove(&channel);
            } else {
                taken.counts.insert(channel, left);
            }
        }
    }

    /// Starts to share the limits with other nodes. From now on, a channel with a limit has the slice 0 until
    /// [`Self::set_slice`].
    pub fn share(&self) {
        self.table.lock().slices.get_or_insert_default();
    }

    /// Sets the slice of this node. Calls above the slice continue. Returns the larger of the slice and the number of calls.
    /// This node has at most so many calls from now on.
    pub fn set_slice(&self, channel: &Channel, amount: u32) -> u32 {
        let mut table = self.table.lock();
        let calls = table.counts.get(channel).copied().unwrap_or(0);
        if let Some(slices) = &mut table.slices {
            slices.entry(channel.clone()).or_default().amount = amount;
        }
        amount.max(calls)
    }

    /// Returns the slices and the use of these channels, and forgets those of all other channels. A channel that is
    /// forgotten has the slice 0.
    pub fn slices<'a>(&self, channels: impl Iterator<Item = &'a Channel>) -> Vec<Slice> {
        let mut table = self.table.lock();
        let ChannelTable { counts, slices, .. } = &mut *table;
        let mut known = slices.take().unwrap_or_default();
        let mut kept = HashMap::with_capacity(known.len());
        let seen = channels.map(|channel| {
            let (channel, slice) = known.remove_entry(channel).unwrap_or_else(|| (channel.clone(), Slice::default()));
            let slice = Slice { calls: counts.get(&channel).copied().unwrap_or(0), ..slice };
            kept.insert(channel, slice);
            slice
        });
        let seen = seen.collect();
        *slices = Some(kept);
        seen
    }

    /// Waits until a slice was used up, or a call was refused, since the last call of this function.
    pub async fn used_up(&self) {
        self.used_up.notified().await;
    }
}

impl ChannelTable {
    /// Whether a channel has reached its limit, or the slice of this node.
    fn is_full(&self, channel: &Channel, max: u32) -> bool {
        let slice = self.slices.as_ref().map(|slices| slices.get(channel).map_or(0, |slice| slice.amount));
        self.counts.get(channel).copied().unwrap_or(0) >= slice.map_or(max, |amount| amount.min(max))
    }

    /// Counts a call that takes these channels. Returns whether a slice is used up now.
    fn count_in_slices<'a>(&mut self, channels: impl Iterator<Item = &'a Channel>) -> bool {
        let Some(slices) = &mut self.slices else { return false };
        let mut is_used_up = false;
        for channel in channels {
            let slice = slices.entry(channel.clone()).or_default();
            slice.taken += 1;
            is_used_up |= self.counts.get(channel).copied().unwrap_or(0) + 1 >= slice.amount;
        }
        is_used_up
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

    /// Returns the limits on concurrent calls of all accounts.
    pub fn channel_limits(&self) -> HashMap<Channel, u32> {
        let mut found = HashMap::new();
        let mut add = |id: &str, limits: &Limits| {
            found.extend(limits.inbound.map(|max| (Channel::Inbound(id.to_owned()), max)));
            found.extend(limits.outbound.map(|max| (Channel::Outbound(id.to_owned()), max)));
        };
        self.inventory.applications.for_each(|held| add(&held.details.id, &held.details.limits));
        self.phones.connections().limits().for_each(|(id, limits)| add(&id.to_string(), limits));
        self.inventory.profiles.for_each(|profile| {
            found.extend(profile.details.most_calls.map(|max| (Channel::Profile(profile.id), max)));
        });
        found
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
        let taken = channels.table.lock();
        assert!(taken.legs.is_empty() && taken.counts.is_empty());
    }

    #[test]
    fn a_node_takes_channels_only_within_its_slice() {
        let channels = Channels::default();
        let (limited, free) = (Channel::Inbound("1".into()), Channel::Outbound("1".into()));
        let take = |leg| channels.take(LegId(leg), vec![(free.clone(), None), (limited.clone(), Some(3))]);
        assert_eq!(take(1), Ok(()));
        channels.share();
        assert_eq!(take(2), Err(Barred::Full(limited.clone())), "no slice yet");
        assert_eq!(channels.set_slice(&limited, 2), 2);
        assert_eq!(take(3), Ok(()));
        assert_eq!(take(4), Err(Barred::Full(limited.clone())));
        assert_eq!(channels.take(LegId(5), vec![(free.clone(), None)]), Ok(()), "without a limit");
        let both = [limited.clone(), Channel::Profile(7)];
        let slices = channels.slices(both.iter());
        assert_eq!(slices, [Slice { amount: 2, calls: 2, taken: 1, refused: 2 }, Slice::default()]);
        assert_eq!(channels.set_slice(&limited, 1), 2, "calls above the slice continue");
        channels.free(LegId(1));
        assert_eq!((take(6), channels.set_slice(&limited, 9)), (Err(Barred::Full(limited.clone())), 9));
        assert_eq!((take(6), take(7)), (Ok(()), Ok(())));
        assert_eq!(take(8), Err(Barred::Full(limited.clone())), "the limit stays");
        assert_eq!(channels.slices([].iter()), []);
        channels.free(LegId(6));
        assert_eq!(take(8), Err(Barred::Full(limited)), "a forgotten slice");
    }

    #[tokio::test]
    async fn a_used_up_slice_wakes_its_reader() {
        let channels = Channels::default();
        channels.share();
        let channel = Channel::Profile(7);
        channels.set_slice(&channel, 1);
        assert_eq!(channels.take(LegId(1), vec![(channel, Some(5))]), Ok(()));
        channels.used_up().await;
    }
}
