//! What happens to one call: the route that the server finds for it, and the steps that lead there, each with its reason.

use serde::Serialize;
use tandem_call::address::Address;
use tandem_call::conversation::ConversationTarget;
use tandem_call::program::instruction::{Dial, Instruction, Program, RejectReason};
use tandem_call::route::{Decision, Route};
use tandem_clients::User;
use tandem_id::AccountName;
use tandem_routing::trunk::numbering::Numbering;
use tandem_routing::{
    Arrival, CallerIdCheck, Outbound, Routing, UnknownCaller, UnknownNumber, calling_account, calling_phone, with_user,
};
use tandem_settings::TrunkConfig;
use tandem_sip::Health;

use super::Origin;
use crate::numbers::GoesTo;

/// Maximum number of calls inside the server that one explanation follows.
const MAX_INTERNAL: u8 = 3;

/// What happens to the call of some callers.
#[derive(Clone, Debug, Serialize, PartialEq, Default)]
pub(super) struct Outcome {
    /// The callers for whose calls this holds.
    pub(super) callers: Vec<String>,
    pub(super) steps: Vec<Step>,
    /// How to change a refusal. Empty if nothing is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) advice: String,
    /// The destination, if the server takes the call.
    pub(super) goes_to: Option<GoesTo>,
    /// The SIP status with which the server refuses the call, if it refuses the call with a known status.
    pub(super) status: Option<u16>,
    /// Whether the call would reach something.
    pub(super) ok: bool,
}

/// One decision.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub(super) struct Step {
    text: String,
    because: String,
}

impl Outcome {
    pub(super) fn step(&mut self, text: impl Into<String>, because: impl Into<String>) {
        self.steps.push(Step { text: text.into(), because: because.into() });
    }

    fn refused(&mut self, status: u16, what: &str, because: impl Into<String>) {
        self.step(format!("{what}: the caller gets {status}"), because);
        (self.status, self.ok) = (Some(status), false);
    }
}

/// The state of the server on which the explanation depends.
pub(super) struct View<'a> {
    pub(super) routing: &'a Routing,
    pub(super) health: &'a dyn Fn(&str) -> Health,
    /// Whether a user has a phone or a page that rings now.
    pub(super) rings: &'a dyn Fn(&User, &Outbound) -> bool,
    /// Whether a page without a user of SIP has this name.
    pub(super) is_page: &'a dyn Fn(&User) -> bool,
    /// Whether an account is active.
    pub(super) is_active: &'a dyn Fn(&AccountName) -> bool,
    /// Whether the reader may see an account.
    pub(super) sees: &'a dyn Fn(&AccountName) -> bool,
    /// Whether the reader may see the numbers and phones of all accounts.
    pub(super) is_operator: bool,
    /// Whether the explanation is about one caller only.
    pub(super) is_detailed: bool,
}

/// A call that is explained.
struct ExplainedCall {
    /// The account of the calling phone.
    account: Option<AccountName>,
    /// The user name of the calling phone.
    phone: Option<String>,
    /// The calling number.
    from: String,
}

impl View<'_> {
    /// Explains the call of one caller.
    pub(super) fn outcome(&self, origin: &Origin, (from, to): (&str, &str)) -> Outcome {
        let mut outcome = Outcome { callers: vec![origin.name()], ..Outcome::default() };
        let (mut user, request_uri) = self.called(origin, to);
        let mut call = ExplainedCall { account: None, phone: None, from: from.to_owned() };
        let caller = match origin {
            Origin::Phone(phone) => {
                (call.account, call.phone) = (Some(phone.account.clone()), Some(phone.name.to_string()));
                Some(calling_phone(self.routing, phone, &request_uri))
            }
            Origin::Account(account) => {
                call.account = Some(account.clone());
                Some(calling_account(account))
            }
            Origin::Trunk(trunk) => {
                numbers_of_trunk(trunk, &mut user, &mut call.from, &mut outcome);
                None
            }
            Origin::Machine => None,
            Origin::Elsewhere => {
                self.unknown_caller(from, &mut outcome);
                return outcome;
            }
        };
        let trunk = match origin {
            Origin::Trunk(trunk) => Some(&**trunk),
            _ => None,
        };
        let arrival = Arrival {
            trunk: trunk.map(|trunk| &*trunk.name),
            caller: caller.as_ref(),
            request_uri: &request_uri,
            user: &user,
            // A phone of a domain that needs TLS uses TLS.
            is_secure: true,
        };
        let route = match self.routing.of_arrival(&arrival) {
            Ok(route) if caller.is_some() || (self.sees)(&route.owner.account) => route,
            Ok(_) => {
                outcome.refused(404, &format!("{user} is no number here"), self.unknown(&arrival, 404).why);
                return outcome;
            }
            Err(status) => {
                let UnknownNumber { why, remedy } = self.unknown(&arrival, status);
                outcome.refused(status, &format!("The server refuses the call to {user}"), why);
                outcome.advice = remedy;
                return outcome;
            }
        };
        if !(self.is_active)(&route.owner.account) {
            let UnknownNumber { why, .. } = UnknownNumber::inactive(&route.owner.account);
            outcome.refused(403, "The server refuses the call", why);
            return outcome;
        }
        if let Err(barred) = self.routing.channels(caller.as_ref(), &route, &user) {
            outcome.refused(403, "The server refuses the call", barred.to_string());
            return outcome;
        }
        let account = call.account.as_ref().or(trunk.and_then(|trunk| trunk.account.as_ref()));
        self.number(account, &user, &route, &mut outcome);
        self.decision(&route, &user, &call, MAX_INTERNAL, &mut outcome);
        outcome
    }

    /// Returns the called user and the Request-URI of a call to `to`. A caller dials at the address of the server, or at
    /// the own domain.
    fn called(&self, origin: &Origin, to: &str) -> (String, String) {
        let address = Address::from(to);
        if let Address::Sip(uri) = &address {
            return (address.user().into_owned(), uri.to_string());
        }
        let user = address.user().into_owned();
        let domain = match origin {
            Origin::Phone(phone) => phone.domain.clone(),
            _ => None,
        };
        let here = User { account: AccountName::server(), name: user.as_str().into(), domain };
        let uri = with_user(&self.routing.phones().uri(&here), &user);
        (user, uri)
    }

    /// Returns the reason for a refusal. An account sees nothing of other accounts.
    fn unknown(&self, arrival: &Arrival<'_>, status: u16) -> UnknownNumber {
        let is_phone = arrival.caller.is_some_and(|caller| caller.name().is_some() || status == 403);
        if self.is_operator || is_phone {
            return self.routing.refusal(arrival, status);
        }
        UnknownNumber { why: "the account has no such number".to_owned(), remedy: String::new() }
    }

    /// Explains the call of a caller that no trunk has in its networks.
    fn unknown_caller(&self, from: &str, outcome: &mut Outcome) {
        match self.routing.unknown_caller(from) {
            UnknownCaller::Challenged => outcome.refused(
                401,
                "The server asks for a password",
                "the address is in no trunk's inbound_from; a phone or a trunk that knows its password may call",
            ),
            UnknownCaller::Refused => outcome.refused(
                403,
                "The server refuses the call",
                "the address is in no trunk's inbound_from, and no phone or trunk has a password",
            ),
            UnknownCaller::Ignored => outcome.step(
                "The server does not answer the call",
                "the address is in no trunk's inbound_from, and sip.unknown_sources is \"silent\"",
            ),
        }
    }

    /// Adds the number that takes the call, if a number takes it.
    fn number(&self, account: Option<&AccountName>, user: &str, route: &Route, outcome: &mut Outcome) {
        let Some(taking) = self.routing.number_of_route(account, user, route) else { return };
        let source = if taking.is_configured { "the configuration" } else { "the API" };
        let owner = &route.owner.account;
        let text = match (self.sees)(owner) {
            true => format!("Number {} of account {owner} takes the call", taking.number),
            false => "A number of this server takes the call".to_owned(),
        };
        outcome.step(text, format!("it fits best; it comes from {source}"));
    }

    /// Explains what the route does with the call.
    fn decision(&self, route: &Route, user: &str, call: &ExplainedCall, internal: u8, outcome: &mut Outcome) {
        outcome.ok = true;
        let id = route.owner.application.as_deref();
        let goes_to = match &route.decision {
            Decision::Document { target, .. } => {
                let (method, url) = (target.method.name(), tandem_http::without_credentials(&target.url));
                GoesTo::request(method, &url, id)
            }
            Decision::Commands | Decision::CommandsWithTimeout(_) => {
                let url = route.status.as_ref().map(|status| tandem_http::without_credentials(&status.target.url));
                GoesTo::request("POST", url.as_deref().unwrap_or_default(), id)
            }
            Decision::Program(program) => match target_of(program) {
                Some(Ok(agent)) => GoesTo::plain("agent", format!("agent {agent}")),
                Some(Err(dial)) => return self.dialled(route, dial, call, internal, outcome),
                None => GoesTo::plain("document", "a document in the configuration"),
            },
            Decision::Reject(reason) => {
                let status = match reason {
                    RejectReason::Rejected => 603,
                    RejectReason::Busy => 486,
                    RejectReason::Status(status) => *status,
                };
                outcome.goes_to = Some(GoesTo::plain("nowhere", format!("nowhere: callers get {status}")));
                let why = format!("{user} has no destination, or its destination does not exist");
                return outcome.refused(status, "The server refuses the call", why);
            }
            Decision::Refuse(status, why) => {
                outcome.goes_to = Some(GoesTo::plain("nowhere", format!("nowhere: callers get {status}")));
                return outcome.refused(*status, "The server refuses the call", why);
            }
        };
        let is_visible = (self.sees)(&route.owner.account);
        if is_visible {
            let because = match (&call.phone, outcome.steps.is_empty()) {
                (Some(phone), true) => {
                    format!("the application of phone {phone}, or of its SIP domain, takes its calls")
                }
                _ => "this is the destination of the number".to_owned(),
            };
            outcome.step(format!("The call goes to {}", goes_to.text), because);
            outcome.goes_to = Some(goes_to);
        }
    }

    /// Explains a call that the server connects with another party: in this server, at a phone or over a trunk.
    fn dialled(&self, route: &Route, dial: &Dial, call: &ExplainedCall, internal: u8, outcome: &mut Outcome) {
        let Some(target) = dial.targets.first() else { return };
        let (routing, account) = (self.routing, &route.owner.account);
        let shown = match (&dial.caller_id, &call.phone) {
            (Some(own), _) => own.clone(),
            (None, Some(phone)) => Address::from(&**phone),
            (None, None) => Address::from(&*call.from),
        };
        let is_own = call.account.is_some() && routing.caller(account, &shown) == CallerIdCheck::Refused;
        if is_own {
            outcome.goes_to = Some(GoesTo::plain("nowhere", "nowhere"));
            outcome.ok = false;
            let because =
                "strict_caller_id = true: the number is neither a number nor a verified caller of the account";
            return outcome
                .step(format!("The call fails: account {account} may not show the calling number {shown}"), because);
        }
        let internal_call = routing.own(account, &route.owner.dialect, &target.to, &target.via);
        if let (Some(own), Some(left)) = (internal_call, internal.checked_sub(1)) {
            let user = own.called.user().into_owned();
            outcome.step(
                format!("The call to {} stays in this server", target.to),
                "the number is here, so no trunk is used",
            );
            self.number(Some(&own.route.owner.account), &user, &own.route, outcome);
            return self.decision(&own.route, &user, call, left, outcome);
        }
        let routes = routing.outbound(account, &target.to, &target.via, self.health, &mut rand::rng());
        match (routes.first(), &target.to) {
            (Some(Outbound { user: Some(user), .. }), _) => {
                let is_there = routes.first().is_some_and(|route| (self.rings)(user, route));
                self.phone(account, &user.name, is_there, outcome);
            }
            (None, Address::Client(name)) if target.via.is_empty() => {
                let user = User { account: account.clone(), name: name.clone(), domain: None };
                self.phone(account, name, (self.is_page)(&user), outcome);
            }
            (None, to) => {
                outcome.goes_to = Some(GoesTo::plain("nowhere", "nowhere"));
                outcome.ok = false;
                let because = format!("no trunk that account {account} may use has a prefix of this number and a uri");
                outcome.step(format!("The call fails: account {account} cannot call {to}"), because);
            }
            (Some(first), to) => {
                self.over_trunks(&routes, &dial_text(to, &target.via), !target.via.is_empty(), outcome);
                if self.is_detailed && call.phone.is_some() {
                    shows(first, &shown, dial.caller_id.is_some(), outcome);
                }
            }
        }
    }

    /// Explains a call that rings at a phone.
    fn phone(&self, account: &AccountName, name: &str, is_there: bool, outcome: &mut Outcome) {
        let state = if is_there { "registered" } else { "not registered now" };
        outcome.step(
            format!("The call goes to phone {name} of account {account}"),
            format!("{name} is the name of this phone"),
        );
        outcome.goes_to = Some(GoesTo::plain("phone", format!("phone {name} ({state})")));
        if !is_there {
            outcome.refused(480, "The phone cannot be reached", "the phone is not registered now");
        }
    }

    /// Explains a call that leaves the server over trunks.
    fn over_trunks(&self, routes: &[Outbound], to: &str, is_named: bool, outcome: &mut Outcome) {
        let named = routes.iter().map(|route| match route.trunk_name() {
            Some(name) => format!("trunk {name} ({})", state((self.health)(name))),
            None => route.request_uri.clone(),
        });
        let named = named.collect::<Vec<_>>().join(", then ");
        let because = match is_named {
            true => "the destination names these trunks, and trunks that are up come first",
            false => "trunks that are up come first, then the longest prefix, then the priority",
        };
        outcome.step(format!("The server calls {to} over {named}"), because);
        outcome.goes_to = Some(GoesTo::plain("bridge", named));
    }
}

/// Returns the state of a trunk as text.
fn state(health: Health) -> &'static str {
    match health {
        Health::Unknown => "not checked yet",
        Health::Up => "up",
        Health::Doubtful => "doubtful",
        Health::Down => "down",
    }
}

/// Adds the calling number that the called party sees.
fn shows(first: &Outbound, shown: &Address, is_set: bool, outcome: &mut Outcome) {
    let number = first.trunk.as_deref().map(Numbering::of).unwrap_or_default().caller_out(&shown.user());
    let because =
        if is_set { "the phone has this caller_id" } else { "the phone has no caller_id, so its user name is shown" };
    outcome.step(format!("The called party sees the calling number {number}"), because);
}

/// Converts the numbers of a call from a trunk, and adds a step for each number that changes.
fn numbers_of_trunk(trunk: &TrunkConfig, called: &mut String, calling: &mut String, outcome: &mut Outcome) {
    let numbering = Numbering::of(trunk);
    let (to, from) = (numbering.called_in(called), numbering.caller_in(calling));
    if to != *called {
        let because = "the trunk has number_format, inbound_strip_prefix or inbound_add_prefix";
        outcome.step(format!("The called number becomes {to}"), because);
    }
    if from != *calling {
        outcome.step(format!("The calling number becomes {from}"), "the trunk has number_format");
    }
    (*called, *calling) = (to, from);
}

/// Returns the agent, or the call to another party, with which a program begins.
fn target_of(program: &Program) -> Option<Result<&str, &Dial>> {
    match program.instructions.first()? {
        Instruction::Dial(dial) => Some(Err(dial)),
        Instruction::Converse(converse) => match &converse.spec.with {
            ConversationTarget::Agent(agent) => Some(Ok(&agent.name)),
            ConversationTarget::Application(_) => None,
        },
        _ => None,
    }
}

/// Returns the called party as text. A URI over named trunks is only the form of the number.
fn dial_text(to: &Address, via: &[std::sync::Arc<str>]) -> String {
    if via.is_empty() { to.text().into_owned() } else { to.user().into_owned() }
}
