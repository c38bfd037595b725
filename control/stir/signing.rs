//! Signing and forwarding: the Identity headers of outbound calls.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use tandem_call::address::Address;
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::{Direction, LegInfo};
use tandem_call::output::Invite;
use tandem_host::hash;
use tandem_id::AccountName;
use tandem_routing::Routing;
use tandem_routing::trunk::identity::PresentedCaller;
use tandem_routing::trunk::numbering::Numbering;
use tandem_settings::TrunkConfig;
use tandem_sip::stir::{Attestation, Claims, Diverted, Signer, canonical_number};

use super::{Signers, Stir, identities};

/// The facts about a call that this server can attest. The facts are the same for every trunk that the call may use.
#[derive(Clone, Debug)]
pub struct SigningRequest {
    signers: Arc<Signers>,
    /// Our attestation of the calling number.
    attestation: Attestation,
    /// Origin of the call: an account, or the trunk of the inbound call.
    origin: String,
    /// The Identity headers of the inbound call, and its Date header. This list is empty if the outbound call has
    /// another caller than the inbound call.
    passed_on: HeaderFields,
    /// The originally called number, if this server diverts the call to another number. In this case, the signatures in
    /// `passed_on` are for a call to the original number.
    diverted_by: Option<String>,
}

/// The Identity headers of an outbound call, for the log and the counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningOutcome {
    /// Our own signature.
    Signed {
        /// The attestation level.
        attestation: Attestation,
        /// The signed calling number.
        orig: String,
    },
    /// The forwarded Identity headers, and our own signature. Our signature says that the number `div` diverts the call
    /// (RFC 8946).
    Diverted {
        /// The diverting number.
        div: String,
    },
    /// The forwarded Identity headers.
    PassedOn,
    /// No Identity header, because one of the numbers is not in international format.
    Unsigned,
}

impl SigningOutcome {
    /// The label of the outcome in `/metrics`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Signed { attestation: Attestation::A, .. } => "signed-A",
            Self::Signed { attestation: Attestation::B, .. } => "signed-B",
            Self::Signed { attestation: Attestation::C, .. } => "signed-C",
            Self::Diverted { .. } => "diverted",
            Self::PassedOn => "passed-on",
            Self::Unsigned => "unsigned",
        }
    }
}

impl fmt::Display for SigningOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signed { attestation, orig } => {
                write!(f, "Identity: signed with attestation {attestation} for {orig}")
            }
            Self::Diverted { div } => {
                write!(f, "Identity: forwarded unchanged, with our signature that {div} diverts the call")
            }
            Self::PassedOn => f.write_str("Identity: forwarded unchanged"),
            Self::Unsigned => f.write_str("Identity: not signed, because both numbers must be in international format"),
        }
    }
}

impl Stir {
    /// Determines the facts that this server can attest for a call of `account`. `parent_leg` is the leg that is
    /// bridged with this call.
    ///
    /// The attestation is A if the calling number belongs to the account. Otherwise the attestation is C if the call
    /// came over a trunk, and B if the account itself makes the call.
    ///
    /// A forwarded call that keeps its calling number also keeps the Identity headers of the inbound call, because the
    /// signer of these headers knows more about the caller. If the called number of the forwarded call is not the
    /// originally called number, this server adds its own signature.
    pub fn signing_request(
        &self,
        routing: &Routing,
        account: &AccountName,
        invite: &Invite,
        parent_leg: Option<&LegInfo>,
    ) -> SigningRequest {
        let parent_leg = parent_leg.filter(|leg| leg.direction == Direction::Inbound && leg.sip.trunk.is_some());
        let same = |one: &Address, other: &Address| match canonical_number(&one.user()) {
            Some(number) => canonical_number(&other.user()) == Some(number),
            None => false,
        };
        let same_caller = parent_leg.filter(|leg| same(&leg.from, &invite.from));
        let headers = same_caller.map_or(&[][..], |leg| &leg.sip.headers);
        let diverted_by = same_caller.filter(|leg| !same(&leg.to, &invite.to)).map(|leg| leg.to.user().into_owned());
        let gateway = parent_leg.and_then(|leg| leg.sip.trunk.as_deref());
        let (attestation, origin) = match gateway {
            _ if routing.owns(account, &invite.from.user()) => (Attestation::A, format!("account {account}")),
            Some(trunk) => (Attestation::C, format!("trunk {trunk}")),
            None => (Attestation::B, format!("account {account}")),
        };
        let headers = || headers.iter().map(|(name, value)| (&**name, &**value));
        let mut passed_on: HeaderFields =
            identities(headers()).map(|value| header("Identity", value.to_owned())).collect();
        let date = headers().find(|(name, _)| name.eq_ignore_ascii_case("Date")).filter(|_| !passed_on.is_empty());
        passed_on.extend(date.map(|(_, value)| header("Date", value.to_owned())));
        SigningRequest { signers: Arc::clone(&self.signers), attestation, origin, passed_on, diverted_by }
    }
}

impl SigningRequest {
    /// Returns the headers for a trunk, and a summary of the headers. If the far end is not a trunk, this server signs
    /// nothing.
    pub fn headers(
        &self,
        trunk: Option<&TrunkConfig>,
        invite: &Invite,
        presented: &PresentedCaller,
        now: Timestamp,
    ) -> (HeaderFields, Option<SigningOutcome>) {
        if trunk.is_some_and(|trunk| !trunk.stir.sign) {
            return (HeaderFields::new(), None);
        }
        if !self.passed_on.is_empty() && self.diverted_by.is_none() {
            return (self.passed_on.clone(), Some(SigningOutcome::PassedOn));
        }
        let Some((trunk, signer)) = trunk.and_then(|trunk| Some((trunk, self.signer(trunk)?))) else {
            return (HeaderFields::new(), None);
        };
        let orig = presented.number.as_deref().and_then(international);
        let Some((orig, dest)) = orig.zip(called(trunk, &invite.to)) else {
            return (HeaderFields::new(), Some(SigningOutcome::Unsigned));
        };
        let iat = now.as_second().unsigned_abs();
        if let Some(div) = self.diverted_by.as_deref().and_then(international).filter(|_| !self.passed_on.is_empty()) {
            let claims = Diverted { orig, div: div.clone(), dest, iat };
            let Some(identity) = signer.diversion(&claims) else { return (HeaderFields::new(), None) };
            let headers = self.passed_on.iter().cloned().chain([header("Identity", identity)]);
            return (headers.collect(), Some(SigningOutcome::Diverted { div }));
        }
        let attestation = trunk.stir.attestation.unwrap_or(self.attestation);
        let claims = Claims { attestation, orig: orig.clone(), dest, iat, origid: origid(signer, &self.origin) };
        let Some(identity) = signer.identity(&claims) else { return (HeaderFields::new(), None) };
        // Some verifiers require a matching Date header (RFC 8224 §6.1, with the format of RFC 3261 §20.17).
        let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        (
            HeaderFields::from([header("Date", date), header("Identity", identity)]),
            Some(SigningOutcome::Signed { attestation, orig }),
        )
    }

    fn signer(&self, trunk: &TrunkConfig) -> Option<&Signer> {
        self.signers.by_trunk.get(&trunk.name).or(self.signers.all.as_ref())
    }
}

fn header(name: &str, value: String) -> (String, String) {
    (name.to_owned(), value)
}

/// Returns the called number in canonical form. The number may be in the trunk's own format.
fn called(trunk: &TrunkConfig, to: &Address) -> Option<String> {
    match to {
        Address::Phone(number) => international(number.as_str()),
        // A bridged call goes to the URI of the trunk. This URI has the number in the trunk's format.
        Address::Sip(_) => international(&Numbering::of(trunk).caller_in(&to.user())),
        Address::Client(_) | Address::Application(_) | Address::Name(_) => None,
    }
}

/// Returns the canonical form of a number with a country code. `None` for a number without a country code, because such
/// a number could mean different numbers in different countries.
fn international(number: &str) -> Option<String> {
    number.starts_with('+').then(|| canonical_number(number)).flatten()
}

/// Returns a UUID for an origin. The UUID of an origin is always the same, and does not reveal the origin (RFC 8588 §5,
/// RFC 9562 §5.8).
fn origid(signer: &Signer, origin: &str) -> String {
    let number = hash::id([signer.certificate_url().as_bytes(), b"\n", origin.as_bytes()]);
    let version = (number & !(0xf << 76) | 8 << 76) & !(0b11 << 62) | 0b10 << 62;
    let hex = format!("{version:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}
