//! Calls that stay within the server: to its own applications, numbers and SIP domains. They need neither a trunk nor
//! SIP.

use std::sync::Arc;

use tandem_call::address::{Address, PhoneNumber};
use tandem_call::route::Route;
use tandem_settings::{Bridge, NumberConfig};

use super::{Routing, names};

/// A destination on this server that is reached without SIP.
#[derive(Clone, PartialEq, Debug)]
pub struct InternalDestination {
    /// The route of the call.
    pub route: Route,
    /// The called party as the destination sees it.
    pub called: Address,
}

impl Routing {
    /// Returns the destination on this server that a leg of `account` to `to` reaches. `None` if the leg leaves the
    /// server or rings a phone. `via` names the chosen trunks; a leg over a chosen trunk always leaves the server.
    pub fn own(&self, account: &str, dialect: &str, to: &Address, via: &[Arc<str>]) -> Option<InternalDestination> {
        if let Address::Application(id) = to {
            let called = Address::Name(Arc::clone(id));
            return Some(InternalDestination { route: self.to_own_application(account, dialect, id)?, called });
        }
        // An account's phone takes precedence over a number, as in `from_phone`.
        if !via.is_empty() || self.phones.find(account, to).is_some() {
            return None;
        }
        match to {
            Address::Phone(number) => {
                let route = self.to_own_number(account, number.as_str())?;
                Some(InternalDestination { route, called: to.clone() })
            }
            Address::Sip(uri) if self.phones.is_here(uri) => {
                let route = self.to_own_number(account, to.user())?;
                Some(InternalDestination {
                    route,
                    called: to.user().parse().map_or_else(|_| to.clone(), Address::Phone),
                })
            }
            Address::Sip(uri) => {
                Some(InternalDestination { route: self.to_own_domain(account, uri)?, called: to.clone() })
            }
            Address::Application(_) | Address::Client(_) | Address::Name(_) => None,
        }
    }

    /// Returns the route of a call from within the server to a number. Every account can call a number in international
    /// format, as with the providers; an extension can be called by its own account only.
    ///
    /// Numbers of the file that only say where calls go are not destinations: prefixes with `bridge`, prefixes of fewer
    /// than seven digits, and `bridge = "trunk:*"`. Calls to those go over the trunks.
    fn to_own_number(&self, account: &str, user: &str) -> Option<Route> {
        let is_international = user.parse().is_ok_and(|number: PhoneNumber| number.is_e164());
        let account = (!is_international).then_some(account);
        let is_held = self.held(user).is_some_and(|held| account.is_none_or(|own| held.account == own));
        let is_given = || self.best_fit(account, user).is_some_and(|(number, _)| is_destination(number, user));
        if is_held || is_given() { self.to_number(account, user) } else { None }
    }

    /// Returns the route of a call from within the server to one of the account's own SIP domains. The domain of
    /// another account is called over SIP, where it requires its password.
    fn to_own_domain(&self, account: &str, uri: &str) -> Option<Route> {
        let domain = self.phones.domain_of(uri).filter(|domain| domain.account == account)?;
        self.to_domain(&domain)
    }
}

/// Whether a number of the file is the destination of a call, and not only a route for it.
fn is_destination(number: &NumberConfig, user: &str) -> bool {
    match (&number.bridge, number.number.exact()) {
        (Some(Bridge::Prefixes), _) | (Some(_), None) => false,
        (Some(_), Some(_)) => true,
        (None, _) => names(&number.number, user),
    }
}
