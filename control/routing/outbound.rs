//! Outbound calls: the routes to a called party, over trunks or to phones.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;

use rand::Rng;
use tandem_call::address::Address;
use tandem_call::program::instruction::is_trunk_id;
use tandem_clients as clients;
use tandem_id::AccountName;
use tandem_settings::TrunkConfig;
use tandem_sip as sip;

use crate::customer_trunk;
use crate::trunk::numbering::Numbering;
use crate::{Routing, with_user};

/// Maximum number of trunks that are tried for one call.
const MAX_ROUTES: usize = 8;

/// The destination of an outbound leg.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// Request-URI of the INVITE.
    pub request_uri: String,
    /// SIP URI of the next hop, if it differs from the Request-URI.
    pub next_hop: Option<String>,
    /// Host part of the From header, if the trunk sets it.
    pub from_host: Option<String>,
    /// Credentials of the trunk.
    pub credentials: Option<sip::Credentials>,
    /// The trunk. The field is also set if the call goes to a SIP URI that belongs to the trunk.
    pub trunk: Option<Arc<TrunkConfig>>,
    /// The user whose contacts ring. If this field is set, `request_uri` is the URI of the user, and the other fields are
    /// empty.
    pub user: Option<clients::User>,
}

impl Outbound {
    /// Creates the route to a user, who is called at all contacts. `request_uri` is the URI of the user.
    pub fn to_user(request_uri: String, user: clients::User) -> Self {
        let (next_hop, from_host, credentials, trunk) = (None, None, None, None);
        Self { request_uri, next_hop, from_host, credentials, trunk, user: Some(user) }
    }

    /// Returns the host part of the URIs for this server's own numbers. This is the domain of the trunk. If the trunk
    /// has no domain, it is the host of the next hop.
    pub fn host(&self) -> String {
        let uri = self.next_hop.as_deref().unwrap_or(&self.request_uri);
        let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
        let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        self.from_host.clone().unwrap_or_else(|| rest.split([';', '?']).next().unwrap_or(rest).to_owned())
    }

    /// Returns the URI of the next hop if an account has chosen this URI: in a request, or as a trunk made by REST.
    /// Returns `None` for the URIs of configured trunks and for phones.
    pub fn chosen_uri(&self) -> Option<&str> {
        let of_operator = self.trunk.as_ref().is_some_and(|trunk| customer_trunk::id(&trunk.name).is_none());
        if self.user.is_some() || of_operator && self.next_hop.is_some() {
            return None;
        }
        Some(self.next_hop.as_deref().unwrap_or(&self.request_uri))
    }

    /// Returns the IP address of the next hop, if its URI has an IP address and not a host name.
    pub fn address(&self) -> Option<IpAddr> {
        address_in(self.next_hop.as_deref().unwrap_or(&self.request_uri))
    }

    pub fn trunk_name(&self) -> Option<&str> {
        self.trunk.as_deref().map(|trunk| &*trunk.name)
    }
}

/// Returns the IP address in a SIP URI. Returns `None` if the URI has a host name.
pub fn address_in(uri: &str) -> Option<IpAddr> {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = rest.split([';', '?']).next().unwrap_or(rest);
    match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((host, _)) => host.parse().ok(),
        None => host.split(':').next().and_then(|host| host.parse().ok()),
    }
}

impl Routing {
    /// Returns the accounts whose trunks an account may use: the account itself and the account that created it.
    pub fn trunk_owners(&self, account: &AccountName) -> Vec<AccountName> {
        std::iter::once(account.clone()).chain(self.accounts.parent(account)).collect()
    }

    fn may_use(&self, account: &AccountName, trunk: &TrunkConfig) -> bool {
        let own = trunk.account.as_ref();
        own.is_none_or(|own| own == account || Some(own) == self.accounts.parent(account).as_ref())
    }

    /// Returns the trunk whose `byoc` setting is this id.
    fn byoc(&self, id: &str) -> Option<&Arc<TrunkConfig>> {
        self.trunks.iter().find(|trunk| trunk.byoc.as_deref() == Some(id))
    }

    /// Whether the account may use a trunk with this `byoc` setting.
    pub fn has_trunk_id(&self, account: &AccountName, id: &str) -> bool {
        self.byoc(id).is_some_and(|trunk| self.may_use(account, trunk))
    }

    /// Whether a trunk that the account may use accepts the number.
    pub(crate) fn has_way_out(&self, account: &AccountName, number: &str) -> bool {
        let accepts = |trunk: &TrunkConfig| trunk.prefixes.iter().any(|prefix| number.starts_with(&**prefix));
        self.trunks.iter().any(|trunk| self.may_use(account, trunk) && accepts(trunk))
    }

    /// Returns the routes to `user` over the named trunks. Trunks that are up come first. Otherwise the given order is
    /// used.
    fn over(&self, via: &[Arc<str>], user: &str, health: impl Fn(&str) -> sip::Health) -> Vec<Outbound> {
        let mut trunks: Vec<_> = via.iter().filter_map(|name| self.trunk(Some(name))).collect();
        trunks.sort_by_key(|trunk| trouble(health(&trunk.name)));
        trunks.into_iter().filter_map(|trunk| over_trunk(trunk, user)).take(MAX_ROUTES).collect()
    }

    /// Returns the routes for a leg of `account` to `to`, best route first. Returns at most 8 routes. If a route fails,
    /// the call continues over the next route. The list is empty if there is no route.
    ///
    /// `via` names the trunks to use. The names of configured trunks come only from the configuration; an application
    /// selects a trunk by its `byoc` id. If `via` is empty, a call to a number goes over the trunks that accept the
    /// number. Trunks that are up come first, then trunks with the longest matching prefix, then trunks with the lowest
    /// priority value. The order of otherwise equal trunks is random and depends on their weights.
    pub fn outbound(
        &self,
        account: &AccountName,
        to: &Address,
        via: &[Arc<str>],
        health: impl Fn(&str) -> sip::Health,
        rng: &mut impl Rng,
    ) -> Vec<Outbound> {
        if let Some(customer_trunk) = via.first().and_then(|name| customer_trunk::id(name)) {
            return self.phones.customer_trunks().originate(account, customer_trunk, &to.user(), rng);
        }
        if let Some(id) = via.first().filter(|id| is_trunk_id(id)) {
            let usable = self.byoc(id).filter(|trunk| self.may_use(account, trunk));
            return usable.and_then(|trunk| over_trunk(trunk, &to.user())).into_iter().collect();
        }
        if !via.is_empty() {
            return self.over(via, &to.user(), health);
        }
        if let Some(user) = self.phones.find(account, to) {
            return vec![Outbound::to_user(self.phones.target(&user, to), user)];
        }
        match to {
            Address::Phone(number) => {
                let number = number.as_str();
                let mut routes: Vec<_> = self
                    .trunks
                    .iter()
                    .filter(|trunk| self.may_use(account, trunk))
                    .filter_map(|trunk| {
                        let fits = trunk.prefixes.iter().filter(|prefix| number.starts_with(&***prefix));
                        let fit = fits.map(|prefix| prefix.len()).max()?;
                        let rank = (trouble(health(&trunk.name)), Reverse(fit), trunk.priority);
                        Some((rank, weighted_sort_key(trunk.weight, rng), over_trunk(trunk, number)?))
                    })
                    .collect();
                routes.sort_by(|(a, lot_a, _), (b, lot_b, _)| a.cmp(b).then(lot_a.total_cmp(lot_b)));
                routes.into_iter().take(MAX_ROUTES).map(|(_, _, route)| route).collect()
            }
            Address::Sip(uri) => {
                // The headers after `?` are not part of the Request-URI (RFC 3261 §19.1.5).
                let request_uri = uri.split('?').next().unwrap_or(uri).to_owned();
                let user = to.user();
                let called = with_user(&request_uri, &user);
                let trunk = self
                    .trunks
                    .iter()
                    .filter(|trunk| self.may_use(account, trunk))
                    .find(|trunk| trunk.uri.as_deref().is_some_and(|uri| with_user(uri, &user) == called));
                let from_host =
                    trunk.and_then(|trunk| trunk.from_domain.as_ref()).map(std::string::ToString::to_string);
                let trunk = trunk.cloned();
                vec![Outbound { request_uri, next_hop: None, from_host, credentials: None, trunk, user: None }]
            }
            // A call to an application is an internal call.
            Address::Client(_) | Address::Application(_) | Address::Name(_) => Vec::new(),
        }
    }
}

/// Returns the route to a number over a trunk. Returns `None` if the trunk has only inbound calls.
fn over_trunk(trunk: &Arc<TrunkConfig>, number: &str) -> Option<Outbound> {
    let uri = trunk.uri.as_deref()?;
    Some(Outbound {
        request_uri: with_user(uri, &Numbering::of(trunk).called_out(number)),
        next_hop: Some(uri.to_owned()),
        from_host: trunk.from_domain.as_ref().map(std::string::ToString::to_string),
        credentials: trunk_credentials(trunk),
        trunk: Some(Arc::clone(trunk)),
        user: None,
    })
}

fn trouble(health: sip::Health) -> u8 {
    match health {
        sip::Health::Up | sip::Health::Unknown => 0,
        sip::Health::Doubtful => 1,
        sip::Health::Down => 2,
    }
}

/// Returns a random sort key. The element with the lowest key comes first. The probability that an element comes first
/// is proportional to its weight (Efraimidis and Spirakis 2006).
pub fn weighted_sort_key(weight: u16, rng: &mut impl Rng) -> f64 {
    let chance = (f64::from(rng.next_u32()) + 1.0) / (f64::from(u32::MAX) + 1.0);
    -chance.ln() / f64::from(weight.max(1))
}

fn trunk_credentials(trunk: &TrunkConfig) -> Option<sip::Credentials> {
    let (username, password) = (trunk.username.as_ref()?, trunk.password.as_ref()?);
    Some(sip::Credentials { username: username.to_string(), password: password.expose().to_owned() })
}
