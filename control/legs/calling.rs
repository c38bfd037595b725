//! Outbound calls: INVITEs over the routes of a call, one route after another.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tandem_call::output::Invite;
use tandem_clock as clock;
use tandem_media as media;
use tandem_routing::Outbound;
use tandem_routing::trunk::identity::{self, ParentLeg};
use tandem_routing::trunk::passing;
use tandem_settings::DtmfMode;
use tandem_sip as sip;
use tandem_stir::SigningRequest;

use super::{LegIo, headers};
use crate::redirect::Redirects;

/// An outbound call and its routes.
pub struct OutgoingCall {
    /// The parameters of the call.
    pub invite: Invite,
    /// The parent leg, with which the new leg will be bridged.
    pub parent_leg: Option<ParentLeg>,
    /// The Call-ID. All routes use this Call-ID.
    pub call_id: Option<Arc<str>>,
    /// The request for a signature of the caller's number (STIR).
    pub signing: SigningRequest,
    /// Whether the other leg has made no offer. In this case, an INVITE over a trunk with the setting `late_offer`
    /// contains no offer.
    pub late_offer: bool,
    /// The routes that are not yet tried.
    pub routes: VecDeque<Outbound>,
    /// The accounts whose trunks the call may use, in addition to the trunks of the routes.
    pub accounts: Vec<Arc<str>>,
}

/// The destination that a leg called.
pub(super) struct Callee {
    /// The text `trunk "name" (uri)`, or only the URI.
    pub(super) name: String,
    /// Whether credentials exist for a digest challenge.
    pub(super) authenticates: bool,
}

impl LegIo {
    /// Sends an INVITE with our offer over the first route.
    pub fn invite(&mut self, session: media::Session, attempt: OutgoingCall, route: Outbound) {
        self.session = Some(session);
        self.send_invite(&attempt, route);
        self.attempt = (!attempt.routes.is_empty()).then(|| Box::new(attempt));
    }

    /// Calls over the next route if the event says that the trunk failed before the call reached the callee. `tune`
    /// applies the settings of the new trunk to the media session. Returns the log line and the new trunk.
    pub fn fail_over(
        &mut self,
        event: &sip::Event,
        tune: impl Fn(&mut media::Session, Option<&str>),
    ) -> Option<(String, Option<Arc<str>>)> {
        let mut attempt = self.attempt.take()?;
        let sip::Event::Ended { cause, status, reason, .. } = event else {
            // If the callee has sent early media or has answered, the call has reached the callee.
            let found = matches!(event, sip::Event::Answered { .. }) || self.negotiated;
            self.attempt = (!found).then_some(attempt);
            return None;
        };
        let failed = match cause {
            sip::EndCause::Timeout
            | sip::EndCause::Unresolved
            | sip::EndCause::Forbidden
            | sip::EndCause::NoSocket
            | sip::EndCause::Unconnected(_)
            | sip::EndCause::Tls(_)
            | sip::EndCause::TrunkFull => true,
            sip::EndCause::Rejected => status.is_some_and(|status| self.failover_statuses.contains(&status)),
            _ => false,
        };
        if !failed || self.negotiated {
            return None;
        }
        let route = attempt.routes.pop_front()?;
        let why = self.why(*cause, *status, reason.clone()).unwrap_or_default();
        let trunk = route.trunk.as_ref().map(|trunk| Arc::clone(&trunk.name));
        if let Some(session) = &mut self.session {
            tune(session, route.trunk_name());
        }
        let line = format!("{why}; next: trunk \"{}\"", trunk.as_deref().unwrap_or_default());
        tracing::warn!(leg = %self.key, "call not placed: {line}");
        self.send_invite(&attempt, route);
        self.attempt = (!attempt.routes.is_empty()).then_some(attempt);
        Some((line, trunk))
    }

    fn send_invite(&mut self, attempt: &OutgoingCall, route: Outbound) {
        let Some(session) = &mut self.session else { return };
        self.dtmf = route.trunk.as_ref().map(|trunk| trunk.dtmf).unwrap_or_default();
        session.set_events(self.dtmf == DtmfMode::Rfc4733);
        let late = attempt.late_offer && route.trunk.as_ref().is_some_and(|trunk| trunk.late_offer);
        let sdp = if late { Bytes::new() } else { session.offer_preferring(&self.preferred) };
        let second_offer = if late { None } else { session.offer_secured() };
        let (invite, call_id) = (attempt.invite.clone(), attempt.call_id.clone());
        self.gone = false;
        let host = route.host();
        let mut presented = identity::present(route.trunk.as_deref(), &invite, attempt.parent_leg.as_ref(), &host);
        if route.aor.is_none() {
            let now = clock::time();
            let (headers, signing) = attempt.signing.headers(route.trunk.as_deref(), &invite, &presented, now);
            presented.headers.extend(headers);
            self.signing = signing;
        }
        let passed = attempt.parent_leg.as_ref().filter(|_| invite.inherits_headers).map(|parent_leg| {
            let usual = tandem_settings::header_pattern::usual();
            let patterns = route.trunk.as_ref().map_or(&usual, |trunk| &trunk.pass_headers);
            passing::passed(patterns, &parent_leg.leg.sip.headers)
        });
        self.failover_statuses = route.trunk.as_ref().map(|trunk| trunk.failover_on.clone()).unwrap_or_default();
        let uri = route.next_hop.as_ref().unwrap_or(&route.request_uri);
        let name = match &route.trunk {
            Some(trunk) => format!("trunk \"{}\" ({uri})", trunk.name),
            None => uri.clone(),
        };
        let authenticates = invite.credentials.is_some() || route.credentials.is_some();
        self.callee = Some(Callee { name, authenticates });
        let outgoing = sip::Outgoing {
            request_uri: route.request_uri,
            next_hop: route.next_hop,
            binding: None,
            from_user: presented.from_user,
            from_display: presented.from_display,
            from_host: presented.from_host.or(route.from_host),
            to: None,
            on_behalf_of: self.on_behalf_of,
            replaces: invite.replaces,
            prack: self.prack,
            has_alternatives: !attempt.routes.is_empty(),
            accounts: attempt.accounts.clone(),
            call_id: call_id.as_deref().map(str::to_owned),
            headers: headers(invite.headers)
                .into_iter()
                .chain(presented.headers)
                .chain(passed.into_iter().flatten())
                .collect(),
            trunk: route.trunk.map(|trunk| Arc::clone(&trunk.name)),
            credentials: invite
                .credentials
                .map(|own| sip::Credentials { username: own.username, password: own.password })
                .or(route.credentials),
            realm: None,
            sdp,
            second_offer: second_offer.unwrap_or_default(),
            recording: None,
        };
        // Redirects from a phone of this server are not followed, because the phone is not identified by its own URI.
        let redirects = self.may_be_redirected && route.aor.is_none();
        self.redirects = redirects.then(|| Box::new(Redirects::of(&outgoing)));
        let (leg, invite) = (self.key, Box::new(outgoing));
        self.send(match route.aor {
            Some(aor) => sip::Command::Ring { leg, aor, invite },
            None => sip::Command::Invite { leg, invite },
        });
    }
}
