//! The identity of the caller in the headers of a trunk's calls: From, P-Asserted-Identity and P-Preferred-Identity
//! (RFC 3325), Remote-Party-ID, and Privacy (RFC 3323). This module also handles the forwarding party in Diversion (RFC
//! 5806) and History-Info (RFC 7044).
//!
//! The server ignores an identity that an untrusted trunk asserts. The server does not send an identity to an untrusted
//! trunk if the caller withholds the identity.

use std::sync::Arc;

use tandem_call::address::Address;
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::LegInfo;
use tandem_call::output::Invite;
use tandem_leg::signal::IncomingCall;
use tandem_settings::{CallerId, Forwarding, TrunkConfig};
use tandem_sip::{Party, header_values};

use super::numbering::Numbering;
use crate::with_user;

/// Maximum number of earlier forwardings in the headers of an outbound call.
const MAX_DIVERSIONS: usize = 5;
/// Host part of an anonymous From header (RFC 3323 §4.1.1.3).
const ANONYMOUS_HOST: &str = "anonymous.invalid";
/// Name of an anonymous caller within the server.
pub const ANONYMOUS: &str = "anonymous";

/// Converts the numbers and the caller's identity in a call from a trunk to our own format. If the caller requests
/// privacy, the caller becomes `anonymous`, and the asserted identity stays in the headers.
pub fn receive(trunk: &TrunkConfig, incoming: &mut IncomingCall) {
    let numbering = Numbering::of(trunk);
    incoming.to_user = numbering.called_in(&incoming.to_user);
    if withhold(incoming) {
        return;
    }
    let asserted = match trunk.caller_id {
        CallerId::Pai if trunk.trusted => party_in(&incoming.headers, "P-Asserted-Identity"),
        CallerId::Rpid if trunk.trusted => party_in(&incoming.headers, "Remote-Party-ID"),
        CallerId::From | CallerId::Pai | CallerId::Rpid => None,
    };
    if let Some(party) = asserted {
        incoming.from_user = party.user();
        incoming.from_display = party.display().map(str::to_owned).or(incoming.from_display.take());
        incoming.from_uri = party.uri();
    }
    incoming.from_user = numbering.caller_in(&incoming.from_user);
}

/// Makes the caller `anonymous` if the caller requests privacy. The source of the call does not matter, because a
/// request for privacy needs no trust. Returns whether the caller is anonymous.
pub fn withhold(incoming: &mut IncomingCall) -> bool {
    let headers = incoming.headers.iter().map(|(name, value)| (&**name, &**value));
    let host = Party::of_uri(&incoming.from_uri).map(|party| party.host()).unwrap_or_default();
    let withheld =
        is_withheld(&incoming.from_user) || host.eq_ignore_ascii_case(ANONYMOUS_HOST) || wants_privacy(headers);
    if withheld {
        ANONYMOUS.clone_into(&mut incoming.from_user);
        ANONYMOUS.clone_into(&mut incoming.from_uri);
        incoming.from_display = None;
    }
    withheld
}

/// Returns the user part of P-Asserted-Identity, even if the sender is not trusted.
pub fn asserted(headers: &HeaderFields) -> Option<String> {
    party_in(headers, "P-Asserted-Identity").map(|party| party.user())
}

/// Returns the number that last forwarded the call: the number in the top Diversion header, or in the next-to-last
/// History-Info entry.
pub fn forwarded_from(headers: &HeaderFields) -> Option<String> {
    if let Some(party) = party_in(headers, "Diversion") {
        return Some(party.user());
    }
    let history: Vec<String> = headers.named("History-Info").flat_map(Party::all).map(|party| party.user()).collect();
    let [.., before, last] = history.as_slice() else { return None };
    (before != last).then(|| before.clone())
}

/// The identity of the caller in the form that a trunk receives.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PresentedCaller {
    /// User part of the From header.
    pub from_user: String,
    /// Display name of the From header.
    pub from_display: Option<String>,
    /// Host part of the From header, if it is neither the trunk's domain nor our own host.
    pub from_host: Option<String>,
    /// The calling number in our own format. `None` if the trunk does not receive the number.
    pub number: Option<String>,
    /// Additional headers for the identity.
    pub headers: HeaderFields,
}

/// The leg that will be bridged with a new leg.
#[derive(Clone, Debug)]
pub struct ParentLeg {
    /// The data of the leg.
    pub leg: Arc<LegInfo>,
    /// Number format of the trunk over which the leg arrived.
    pub numbering: Numbering,
}

/// Returns the identity of the caller for a trunk, or for a far end that is not a trunk. `host` is the host part for
/// our own numbers.
pub fn present(
    trunk: Option<&TrunkConfig>,
    invite: &Invite,
    parent_leg: Option<&ParentLeg>,
    host: &str,
) -> PresentedCaller {
    let parent = parent_leg.map(|parent_leg| &*parent_leg.leg);
    let numbering = trunk.map(Numbering::of).unwrap_or_default();
    let inherited = parent.map_or(&[][..], |parent| &parent.sip.headers);
    let inherited = || inherited.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let same_caller = parent.is_some_and(|parent| parent.from == invite.from);
    let private = is_anonymous(&invite.from) || (same_caller && wants_privacy(inherited()));
    let known = match (&invite.from, is_anonymous(&invite.from)) {
        (from, false) => Some(from.user().into_owned()),
        // Only a trusted trunk receives the number of an anonymous caller.
        (_, true) => {
            let asserted = inherited().find(|(name, _)| name.eq_ignore_ascii_case("P-Asserted-Identity"));
            let party = asserted.filter(|_| same_caller).and_then(|(_, value)| Party::first(value));
            parent_leg.zip(party).map(|(parent_leg, party)| parent_leg.numbering.caller_in(&party.user()))
        }
    };
    let gets_private_number = |trunk: &TrunkConfig| trunk.trusted && trunk.caller_id != CallerId::From;
    let public = known.clone().filter(|_| !private || trunk.is_some_and(gets_private_number));
    let number = known.map(|number| numbering.caller_out(&number));
    let mut presented = PresentedCaller {
        from_user: number.clone().unwrap_or_default(),
        from_display: invite.caller_name.clone(),
        from_host: None,
        number: public,
        headers: HeaderFields::new(),
    };
    if private {
        "anonymous".clone_into(&mut presented.from_user);
        presented.from_display = Some("Anonymous".to_owned());
        presented.from_host = Some(ANONYMOUS_HOST.to_owned());
        presented.push("Privacy", "id");
    }
    if let (Some(trunk), Some(number)) = (trunk, number.filter(|number| !number.is_empty())) {
        let party = format!("<{}>", with_user(&format!("sip:{host}"), &number));
        let party = match invite.caller_name.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => format!("\"{}\" {party}", name.replace(['"', '\\'], "")),
            None => party,
        };
        let may_know = trunk.trusted || !private;
        match trunk.caller_id {
            CallerId::Pai if trunk.trusted => presented.push("P-Asserted-Identity", party),
            CallerId::Pai if may_know => presented.push("P-Preferred-Identity", party),
            CallerId::Rpid if may_know => {
                let privacy = if private { "full" } else { "off" };
                presented.push("Remote-Party-ID", format!("{party};party=calling;screen=yes;privacy={privacy}"));
            }
            CallerId::From | CallerId::Pai | CallerId::Rpid => {}
        }
    }
    if let (Some(trunk), Some(parent)) = (trunk, parent.filter(|_| same_caller)) {
        presented.forward(trunk, &numbering, invite, parent, host);
    }
    // Headers that the application sets take precedence.
    presented.headers.retain(|ours| invite.headers.iter().all(|(name, _)| !name.eq_ignore_ascii_case(&ours.0)));
    presented
}

impl PresentedCaller {
    fn push(&mut self, name: &str, value: impl Into<String>) {
        self.headers.push((name.to_owned(), value.into()));
    }

    /// Adds the forwarding headers, if the new leg calls a number other than the number that the caller dialled.
    fn forward(&mut self, trunk: &TrunkConfig, numbering: &Numbering, invite: &Invite, parent: &LegInfo, host: &str) {
        let called = parent.to.user();
        if called.is_empty() || called == invite.to.user() {
            return;
        }
        let own = format!("sip:{host}");
        let called = with_user(&own, &numbering.caller_out(&called));
        let before = |name: &str| {
            let lines = parent.sip.headers.named(name);
            lines.flat_map(header_values).map(str::to_owned).collect::<Vec<_>>()
        };
        match trunk.forwarding {
            Forwarding::Off => {}
            Forwarding::Diversion => {
                self.push("Diversion", format!("<{called}>;reason=unconditional;counter=1"));
                before("Diversion").into_iter().take(MAX_DIVERSIONS).for_each(|value| self.push("Diversion", value));
            }
            Forwarding::HistoryInfo => {
                let mut history = before("History-Info");
                history.truncate(MAX_DIVERSIONS);
                if history.is_empty() {
                    history.push(format!("<{called}>;index=1"));
                }
                // RFC 7044 §10.3: the index of a new target is one level below the index of the previous target.
                let is_index = |text: &String| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
                let index = history.last().and_then(|last| Party::first(last)?.parameter("index"));
                let index = index.filter(is_index).unwrap_or_else(|| "1".to_owned());
                let target = with_user(&format!("{own};cause=302"), &numbering.called_out(&invite.to.user()));
                history.push(format!("<{target}>;index={index}.1;mp={index}"));
                history.into_iter().for_each(|entry| self.push("History-Info", entry));
            }
        }
    }
}

/// Returns the first party with a user in the header fields of this name. There may be a SIP URI and a telephone number
/// (RFC 3325 §9.1). A Remote-Party-ID may also describe the called party.
fn party_in(headers: &HeaderFields, name: &str) -> Option<Party> {
    let is_calling = |party: &Party| party.parameter("party").is_none_or(|word| word.eq_ignore_ascii_case("calling"));
    headers.named(name).flat_map(Party::all).find(|party| is_calling(party) && !party.user().is_empty())
}

/// Whether the headers request privacy (RFC 3323 §4.2, RFC 3325 §9.3, or the privacy parameter of Remote-Party-ID).
fn wants_privacy<'a>(mut headers: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
    headers.any(|(name, value)| {
        if name.eq_ignore_ascii_case("Privacy") {
            let is_request = |word: &str| ["id", "user", "header"].iter().any(|one| word.eq_ignore_ascii_case(one));
            return value.split([';', ',']).any(|word| is_request(word.trim()));
        }
        let hides = |party: Party| party.parameter("privacy").is_some_and(|word| !word.eq_ignore_ascii_case("off"));
        name.eq_ignore_ascii_case("Remote-Party-ID") && Party::all(value).any(hides)
    })
}

fn is_anonymous(from: &Address) -> bool {
    is_withheld(&from.user())
}

fn is_withheld(user: &str) -> bool {
    user.eq_ignore_ascii_case(ANONYMOUS) || user.eq_ignore_ascii_case("restricted")
}

#[cfg(test)]
mod tests;
