//! The route of a call that arrives, from any caller, and the reason for a refusal. Live calls and explanations of calls
//! use this code.

use std::sync::Arc;

use tandem_call::address::Address;
use tandem_call::route::Route;
use tandem_clients::User;
use tandem_id::AccountName;
use tandem_leg::signal::{Caller, Identity};
use tandem_settings::{InboundAuth, TrunkConfig};
use tandem_sip::UnknownSources;

use crate::{Routing, UnknownNumber};

/// A call that arrives: the facts that decide about its route.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The trunk over which the call arrives.
    pub trunk: Option<&'a str>,
    /// The caller, if the caller is not a trunk.
    pub caller: Option<&'a Caller>,
    /// The Request-URI.
    pub request_uri: &'a str,
    /// The called user, in this server's form of numbers.
    pub user: &'a str,
    /// Whether the call came over TLS.
    pub is_secure: bool,
}

/// What the server does with a call from an address that belongs to no trunk and that proves no password.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnknownCaller {
    /// The server asks for a password (401).
    Challenged,
    /// The server refuses the call with 403.
    Refused,
    /// The server sends no response.
    Ignored,
}

/// The number that takes a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TakingNumber {
    /// The number. If `*` is at the end, it stands for all numbers with this prefix.
    pub number: String,
    /// Whether the number is an entry of the configuration. Otherwise an application has taken it.
    pub is_configured: bool,
}

/// Returns the caller of a call from a phone that has proved its password. The Request-URI decides about the called
/// domain, as in SIP.
pub fn calling_phone(routing: &Routing, phone: &User, request_uri: &str) -> Caller {
    let called = || routing.phones.domain_of(request_uri).map(|domain| domain.name.into());
    let identity =
        Identity::Sip { username: Some(Arc::clone(&phone.name)), domain: phone.domain.clone().or_else(called) };
    Caller { account: phone.account.clone(), identity }
}

/// Returns the caller of a call with the credentials of an account (`tandem call`).
pub fn calling_account(account: &AccountName) -> Caller {
    Caller { account: account.clone(), identity: Identity::Sip { username: None, domain: None } }
}

impl Routing {
    /// Returns the number that gives a call this route. Returns `None` if the route comes from no number. If `account` is
    /// given, only numbers of this account are considered.
    pub fn number_of_route(&self, account: Option<&AccountName>, user: &str, route: &Route) -> Option<TakingNumber> {
        if self.to_number(account, user).as_ref() != Some(route) {
            return None;
        }
        let owner = &route.owner.account;
        if self.number(user).is_some_and(|held| held.account == *owner) {
            return Some(TakingNumber {
                number: user.to_owned(),
                is_configured: self.configured_number(user).is_some(),
            });
        }
        let (number, _) = self.best_fit(Some(owner), user)?;
        Some(TakingNumber { number: number.number.to_string(), is_configured: true })
    }

    /// Returns the route of a call that arrives. The error is the SIP status for the caller.
    pub fn of_arrival(&self, arrival: &Arrival<'_>) -> Result<Route, u16> {
        let Arrival { trunk, caller, request_uri, user, is_secure } = *arrival;
        match caller {
            Some(_) if self.needs_tls(arrival) && !is_secure => Err(403),
            Some(caller) => self.from_client(caller, request_uri, user),
            None => self.inbound_or_phone(trunk, user, request_uri).ok_or(404),
        }
    }

    /// Explains why a call gets no route. `status` is the error of [`Self::of_arrival`].
    pub fn refusal(&self, arrival: &Arrival<'_>, status: u16) -> UnknownNumber {
        let Arrival { trunk, caller, request_uri, user, is_secure } = *arrival;
        let because = |why: String, remedy: &str| UnknownNumber { why, remedy: remedy.to_owned() };
        let Some(caller) = caller else {
            return self
                .phone_behind_trunk(trunk, user, request_uri)
                .unwrap_or_else(|| self.unknown_number(trunk, user));
        };
        let account = &caller.account;
        match &caller.identity {
            Identity::Token { application: None, .. } => because(
                "the page's token permits no calls (it has no outgoing application)".to_owned(),
                "Create the token with an outgoing application.",
            ),
            Identity::Token { application: Some(id), .. } => because(
                format!("the page's token names the application {id}, which has no document here"),
                "Create the token with an application of this account that has a URL.",
            ),
            Identity::Sip { .. } if self.needs_tls(arrival) && !is_secure => {
                because("calls to this domain must use TLS".to_owned(), "Set the transport of the phone to TLS.")
            }
            Identity::Sip { username: Some(_), .. } if status == 403 => because(
                "outbound = true is not set for the phone, so the phone may not call over a trunk".to_owned(),
                "To allow the call, set outbound = true in the [[endpoints]] entry of the phone.",
            ),
            Identity::Sip { username: None, .. } if status == 403 => because(
                "only a phone with outbound = true may call over a trunk".to_owned(),
                "Call from such a phone, or give the number a [[numbers]] entry.",
            ),
            Identity::Sip { username: None, .. } => self.unknown_number(trunk, user),
            Identity::Sip { .. } | Identity::Subscriber { .. } => UnknownNumber {
                why: format!(
                    "the account {account} has neither a phone nor a number {user}, and no trunk that the account may use \
                     has a prefix of {user}"
                ),
                remedy: format!(
                    "To reach it over a trunk, add a prefix of {user} to the trunk's prefixes. To take the call here, add \
                     {user} as a [[numbers]] entry or as an [[endpoints]] entry of the account."
                ),
            },
        }
    }

    /// Returns what the server does with a call from an address that belongs to no trunk. `from` is the user of the From
    /// header. Networks of SIP domains are not considered.
    pub fn unknown_caller(&self, from: &str) -> UnknownCaller {
        let by_password =
            |trunk: &Arc<TrunkConfig>| trunk.inbound_username.is_some() && trunk.inbound_auth == InboundAuth::Either;
        let is_silent = self.unknown_sources == UnknownSources::Silent;
        if self.trunks.iter().any(by_password) || self.phones.may_challenge(from, is_silent) {
            return UnknownCaller::Challenged;
        }
        if is_silent { UnknownCaller::Ignored } else { UnknownCaller::Refused }
    }

    /// Whether the called domain takes calls only over TLS.
    fn needs_tls(&self, arrival: &Arrival<'_>) -> bool {
        let domain = arrival.caller.and_then(|caller| caller.domain());
        domain.is_some_and(|domain| self.phones.is_secure(domain))
    }

    /// Explains why a call that comes without a password does not reach the phone that it names. Returns `None` if the
    /// call names no phone.
    fn phone_behind_trunk(&self, trunk: Option<&str>, user: &str, request_uri: &str) -> Option<UnknownNumber> {
        let settings = self.trunk(trunk);
        let own = settings.and_then(|trunk| trunk.account.as_ref());
        let is_mine = |account: &AccountName| own.is_none_or(|own| own == account);
        let named = Address::from(request_uri).user().into_owned();
        let name = [user, &*named]
            .into_iter()
            .find(|name| self.phones.callers(name).iter().any(|one| is_mine(&one.account)))?;
        Some(match settings {
            Some(trunk) if !trunk.phones => UnknownNumber {
                why: format!(
                    "{name} is a phone and no number, and calls over trunk {} may not go to phones",
                    trunk.name
                ),
                remedy: format!("To allow the call, set phones = true in the [[trunks]] entry {:?}.", &*trunk.name),
            },
            Some(trunk) => UnknownNumber {
                why: format!("{name} is a phone and no number, and the Request-URI does not name it at this server"),
                remedy: format!("Let the trunk {:?} call sip:{name}@ a name or address of this server.", &*trunk.name),
            },
            None => UnknownNumber {
                why: format!("{name} is a phone and no number, and only phones and accounts may call a phone"),
                remedy: format!("Call it from a phone of its account, or with `tandem call client:{name}`."),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use tandem_settings::{EndpointConfig, NumberConfig};
    use tandem_sip as sip;
    use tandem_store::Store;

    use super::*;
    use crate::phones::Phones;

    fn trunk(json: serde_json::Value) -> TrunkConfig {
        serde_json::from_value(json).unwrap()
    }

    async fn with_phone(trunks: Vec<TrunkConfig>) -> Routing {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}/tandem.db", directory.path().display())).await.unwrap();
        let alice = serde_json::json!({ "account": "acme", "username": "alice", "password": "change-me-please" });
        let alice: EndpointConfig = serde_json::from_value(alice).unwrap();
        let registrar = sip::RegistrarConfig { domains: vec!["pbx.example".to_owned()], ..Default::default() };
        let phones = Phones::new(&registrar, &sip::Advertise::default(), vec![alice], Default::default());
        phones.load(&store).await.unwrap();
        let number = serde_json::json!({ "number": "804*", "account": "acme", "voice_url": "http://app/" });
        let number: NumberConfig = serde_json::from_value(number).unwrap();
        Routing::new(vec![number], Arc::default(), trunks, |_| None).with_phones(Arc::new(phones))
    }

    fn over<'a>(trunk: &'a str, user: &'a str, request_uri: &'a str) -> Arrival<'a> {
        Arrival { trunk: Some(trunk), caller: None, request_uri, user, is_secure: false }
    }

    #[tokio::test]
    async fn a_refused_call_to_a_phone_over_a_trunk_gets_the_advice_for_phones() {
        let routing = with_phone(vec![
            trunk(serde_json::json!({ "name": "carrier" })),
            trunk(serde_json::json!({ "name": "desk", "account": "acme", "phones": true })),
        ])
        .await;
        let uri = "sip:alice@pbx.example";
        assert!(routing.of_arrival(&over("desk", "alice", uri)).is_ok());
        let call = over("carrier", "alice", uri);
        assert_eq!(routing.of_arrival(&call), Err(404));
        assert!(routing.refusal(&call, 404).remedy.contains("phones = true"));
        let elsewhere = over("desk", "alice", "sip:alice@elsewhere.example");
        assert!(routing.refusal(&elsewhere, 404).remedy.contains("sip:alice@"));
        assert!(routing.refusal(&over("carrier", "700", "sip:700@pbx.example"), 404).remedy.contains("[[numbers]]"));
    }

    #[tokio::test]
    async fn the_number_that_takes_a_call_is_named_with_its_prefix() {
        let routing = with_phone(vec![trunk(serde_json::json!({ "name": "carrier" }))]).await;
        let route = routing.of_arrival(&over("carrier", "8041", "sip:8041@pbx.example")).unwrap();
        let taking = routing.number_of_route(None, "8041", &route).unwrap();
        assert_eq!((&*taking.number, taking.is_configured), ("804*", true));
        let caller = calling_account(&AccountName::new("acme"));
        let call = Arrival { caller: Some(&caller), trunk: None, ..over("", "alice", "sip:alice@pbx.example") };
        let rings = routing.of_arrival(&call).unwrap();
        assert_eq!(routing.number_of_route(Some(&caller.account), "alice", &rings), None, "a phone");
    }

    #[tokio::test]
    async fn an_unknown_caller_is_challenged_refused_or_ignored() {
        let silent = |routing: Routing| routing.with_unknown_sources(UnknownSources::Silent);
        let phones = with_phone(Vec::new()).await;
        assert_eq!(phones.unknown_caller("+1555"), UnknownCaller::Challenged);
        let phones = silent(phones);
        assert_eq!(phones.unknown_caller("+1555"), UnknownCaller::Ignored);
        assert_eq!(phones.unknown_caller("alice"), UnknownCaller::Challenged, "an existing user");
        let none = Routing::default();
        assert_eq!(none.unknown_caller("alice"), UnknownCaller::Refused);
        let trunk = serde_json::json!({ "name": "t", "inbound_username": "t", "inbound_password": "change-me-please" });
        let by_password = Routing::new(Vec::new(), Arc::default(), vec![self::trunk(trunk)], |_| None);
        assert_eq!(silent(by_password).unknown_caller("+1555"), UnknownCaller::Challenged);
    }
}
