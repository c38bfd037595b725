//! Internal calls: calls to applications, numbers and SIP domains of this server. An internal call needs neither a
//! trunk nor SIP.

use std::sync::Arc;

use tandem_call::address::{Address, PhoneNumber};
use tandem_call::route::Route;
use tandem_id::AccountName;
use tandem_settings::{Bridge, NumberConfig};

use crate::Routing;
use crate::ownership::names;

/// A destination on this server that a call reaches without SIP.
#[derive(Clone, PartialEq, Debug)]
pub struct InternalDestination {
    /// The route of the call.
    pub route: Route,
    /// The called party in the form that the destination sees.
    pub called: Address,
}

impl Routing {
    /// Returns the destination on this server for a call from a leg of `account` to `to`. Returns `None` if the call
    /// leaves the server or rings a phone. `via` names the chosen trunks. A call over a chosen trunk always leaves the
    /// server.
    pub fn own(
        &self,
        account: &AccountName,
        dialect: &str,
        to: &Address,
        via: &[Arc<str>],
    ) -> Option<InternalDestination> {
        if let Address::Application(id) = to {
            let called = Address::Name(Arc::clone(id));
            return Some(InternalDestination { route: self.to_own_application(account, dialect, id)?, called });
        }
        // A phone of the account takes precedence over a number, as in `from_client`.
        if !via.is_empty() || self.phones.find(account, to).is_some() {
            return None;
        }
        match to {
            Address::Phone(number) => {
                let route = self.to_own_number(account, number.as_str())?;
                Some(InternalDestination { route, called: to.clone() })
            }
            Address::Sip(uri) if self.phones.is_here(uri) => {
                let route = self.to_own_number(account, &to.user())?;
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

    /// Returns the route of an internal call to a number. Every account can call a number in international format. The
    /// providers behave in the same way. Other numbers are extensions. Only the account that owns an extension can call
    /// the extension.
    ///
    /// Without a number pool, an account may have taken a number that it does not own. So the call of another account to
    /// such a number goes to the carrier, if a trunk accepts the number. An account and its subaccounts trust each other;
    /// two subaccounts do not.
    ///
    /// Some numbers in the file only define a route: prefixes with `bridge`, prefixes of fewer than seven digits, and
    /// `bridge = "trunk:*"`. These numbers are not destinations of internal calls. Calls to these numbers go over the
    /// trunks.
    fn to_own_number(&self, account: &AccountName, user: &str) -> Option<Route> {
        let is_international = user.parse().is_ok_and(|number: PhoneNumber| number.is_e164());
        let caller = account;
        let account = (!is_international).then_some(account);
        let is_held =
            self.number(user).filter(|held| account.is_none_or(|own| held.account == *own)).is_some_and(|held| {
                let of_family = || {
                    let parent = |name: &AccountName| self.accounts.parent(name);
                    parent(&held.account).as_ref() == Some(caller) || parent(caller).as_ref() == Some(&held.account)
                };
                held.account == *caller || !self.pool.is_open() || of_family() || !self.has_way_out(caller, user)
            });
        let is_given = || self.best_fit(account, user).is_some_and(|(number, _)| is_destination(number, user));
        if is_held || is_given() { self.to_number(account, user) } else { None }
    }

    /// Returns the route of an internal call to a SIP domain of the same account. A call to the domain of another
    /// account goes over SIP. The domain of the other account then requires a password.
    fn to_own_domain(&self, account: &AccountName, uri: &str) -> Option<Route> {
        let domain = self.phones.domain_of(uri).filter(|domain| domain.account == *account)?;
        self.to_domain(&domain)
    }
}

/// Whether a number in the file is the destination of a call. Otherwise the number only defines a route.
fn is_destination(number: &NumberConfig, user: &str) -> bool {
    match (&number.bridge, number.number.exact()) {
        (Some(Bridge::Prefixes), _) | (Some(_), None) => false,
        (Some(_), Some(_)) => true,
        (None, _) => names(&number.number, user),
    }
}
