//! Calling: INVITEs over one route after the other.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tandem_call::id::LegId;
use tandem_call::output::Invite;
use tandem_clock as clock;
use tandem_media as media;
use tandem_routing::Outbound;
use tandem_routing::trunk::identity::{self, Behind};
use tandem_routing::trunk::passing;
use tandem_settings::Dtmf;
use tandem_sip as sip;
use tandem_stir::Vouch;

use super::{LegIo, headers};
use crate::redirect::Redirects;

/// A call to be placed, over one route after the other.
pub struct Attempt {
    /// The call.
    pub invite: Invite,
    /// The leg that it will be joined to.
    pub behind: Option<Behind>,
    /// Its Call-ID, the same over every route.
    pub call_id: Option<Arc<str>>,
    /// What we say of its caller's number.
    pub vouch: Vouch,
    /// That leg has not made an offer, and none is made over trunks that want it so.
    pub late_offer: bool,
    /// Where it goes next.
    pub routes: VecDeque<Outbound>,
    /// Whose trunks it may use, beside those that it is sent over.
    pub accounts: Vec<Arc<str>>,
}

/// Whom a leg called.
pub(super) struct Callee {
    /// `trunk "name" (uri)`, or the URI alone.
    pub(super) name: String,
    /// A challenge can be answered.
    pub(super) authenticates: bool,
}

impl LegIo {
    /// Sends an INVITE with our offer over the first route.
    pub fn invite(&mut self, session: media::Session, attempt: Attempt, route: Outbound) {
        self.session = Some(session);
        self.send_invite(&attempt, route);
        self.attempt = (!attempt.routes.is_empty()).then(|| Box::new(attempt));
    }

    /// Calls over the next route, if the event says that a trunk failed before anything was heard of the callee. `tune`
    /// makes the session one of that trunk's. What to log, and the trunk now called.
    pub fn fail_over(
        &mut self,
        event: &sip::Event,
        tune: impl Fn(&mut media::Session, Option<&str>),
    ) -> Option<(String, Option<Arc<str>>)> {
        let mut attempt = self.attempt.take()?;
        let sip::Event::Ended { cause, status, reason, .. } = event else {
            // A callee who is heard, or has answered, has been found.
            let found = matches!(event, sip::Event::Answered { .. }) || self.negotiated;
            self.attempt = (!found).then_some(attempt);
            return None;
        };
        let failed = match cause {
            sip::EndCause::Timeout
            | sip::EndCause::Unresolved
            | sip::EndCause::NoSocket
            | sip::EndCause::Unconnected(_)
            | sip::EndCause::TrunkFull => true,
            sip::EndCause::Rejected => status.is_some_and(|status| self.fails_over_on.contains(&status)),
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
        tracing::warn!(leg = %LegId(self.key.0), "call not placed: {line}");
        self.send_invite(&attempt, route);
        self.attempt = (!attempt.routes.is_empty()).then_some(attempt);
        Some((line, trunk))
    }

    fn send_invite(&mut self, attempt: &Attempt, route: Outbound) {
        let Some(session) = &mut self.session else { return };
        self.dtmf = route.trunk.as_ref().map(|trunk| trunk.dtmf).unwrap_or_default();
        session.set_events(self.dtmf == Dtmf::Rfc4733);
        let late = attempt.late_offer && route.trunk.as_ref().is_some_and(|trunk| trunk.late_offer);
        let sdp = if late { Bytes::new() } else { session.offer_preferring(&self.preferred) };
        let second_offer = if late { None } else { session.offer_secured() };
        let (invite, call_id) = (attempt.invite.clone(), attempt.call_id.clone());
        self.gone = false;
        let host = route.host();
        let mut presented = identity::present(route.trunk.as_deref(), &invite, attempt.behind.as_ref(), &host);
        if route.aor.is_none() {
            let now = clock::time();
            let (headers, vouched) = attempt.vouch.headers(route.trunk.as_deref(), &invite, &presented, now);
            presented.headers.extend(headers);
            self.vouched = vouched;
        }
        let passed = attempt.behind.as_ref().filter(|_| invite.inherits).map(|behind| {
            let usual = tandem_settings::header_pattern::usual();
            let patterns = route.trunk.as_ref().map_or(&usual, |trunk| &trunk.pass_headers);
            passing::passed(patterns, &behind.leg.sip.headers)
        });
        self.fails_over_on = route.trunk.as_ref().map(|trunk| trunk.failover_on.clone()).unwrap_or_default();
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
            from_user: presented.from_user,
            from_display: presented.from_display,
            from_host: presented.from_host.or(route.from_host),
            to: None,
            on_behalf_of: self.on_behalf_of.map(|leg| sip::LegKey(leg.0)),
            replaces: invite.replaces,
            prack: self.prack,
            impatient: !attempt.routes.is_empty(),
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
        // A phone of ours that sends its calls elsewhere is not known by its own URI.
        let redirects = self.may_be_redirected && route.aor.is_none();
        self.redirects = redirects.then(|| Box::new(Redirects::of(&outgoing)));
        let (leg, invite) = (self.key, Box::new(outgoing));
        self.send(match route.aor {
            Some(aor) => sip::Command::Ring { leg, aor, invite },
            None => sip::Command::Invite { leg, invite },
        });
    }
}
