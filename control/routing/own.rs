//! Calls that stay within the server: to an application, a number or a SIP domain of it. They need no trunk and no SIP.

use std::sync::Arc;

use tandem_call::address::{Address, PhoneNumber};
use tandem_call::route::Route;
use tandem_settings::{Bridge, NumberConfig};

use super::{Routing, names};

/// A destination on this server.
#[derive(Clone, PartialEq, Debug)]
pub struct Own {
    /// Who decides about the call.
    pub route: Route,
    /// The called party, as the destination is told it.
    pub called: Address,
}

impl Routing {
    /// The destination on this server that a leg of `account` to `to` reaches; `None` if the leg leaves the server or rings a
    /// phone. `via`: the trunks that somebody has chosen for it; a leg over a chosen trunk always leaves.
    pub fn own(&self, account: &str, dialect: &str, to: &Address, via: &[Arc<str>]) -> Option<Own> {
        if let Address::Application(id) = to {
            let called = Address::Name(Arc::clone(id));
            return Some(Own { route: self.to_own_application(account, dialect, id)?, called });
        }
        // An account's phone comes before a number, as in `from_phone`.
        if !via.is_empty() || self.phones.find(account, to).is_some() {
            return None;
        }
        match to {
            Address::Phone(number) => {
                let route = self.to_own_number(account, number.as_str())?;
                Some(Own { route, called: to.clone() })
            }
            Address::Sip(uri) if self.phones.is_here(uri) => {
                let route = self.to_own_number(account, to.user())?;
                Some(Own { route, called: to.user().parse().map_or_else(|_| to.clone(), Address::Phone) })
            }
            Address::Sip(uri) => Some(Own { route: self.to_own_domain(account, uri)?, called: to.clone() }),
            Address::Application(_) | Address::Client(_) | Address::Name(_) => None,
        }
    }

    /// Who decides about a call from within to a number. A number in international form is reached from every account, like at
    /// the providers; an extension is the account's own.
    ///
    /// Numbers of the file that only say where calls go are not destinations: prefixes with `bridge`, prefixes of fewer than
    /// seven digits, and `bridge = "trunk:*"`. Calls to those go over the trunks.
    fn to_own_number(&self, account: &str, user: &str) -> Option<Route> {
        let is_international = user.parse().is_ok_and(|number: PhoneNumber| number.is_e164());
        let account = (!is_international).then_some(account);
        let is_held = self.held(user).is_some_and(|held| account.is_none_or(|own| held.account == own));
        let is_given = || self.best_fit(account, user).is_some_and(|(number, _)| is_destination(number, user));
        if is_held || is_given() { self.to_number(account, user) } else { None }
    }

    /// Who decides about a call from within to a SIP domain of the account's own. Another account's domain is called over SIP,
    /// where it asks for its password.
    fn to_own_domain(&self, account: &str, uri: &str) -> Option<Route> {
        let domain = self.phones.domain_of(uri).filter(|domain| domain.account == account)?;
        self.to_domain(&domain)
    }
}

/// Whether a number of the file is where a call ends, and not only the way that it takes.
fn is_destination(number: &NumberConfig, user: &str) -> bool {
    match (&number.bridge, number.number.exact()) {
        (Some(Bridge::Prefixes), _) | (Some(_), None) => false,
        (Some(_), Some(_)) => true,
        (None, _) => names(&number.number, user),
    }
}
