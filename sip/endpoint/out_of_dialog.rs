//! Requests of this server that belong to no leg. The trunks create these requests, and the transactions send them.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Endpoint;
use super::locate::PendingLookup;
use super::state::tag_text;
use super::transactions::client::{NewClient, Purpose};
use super::trunks::{OutOfDialogMessage, OutOfDialogRequest, TrunkOutput};
use crate::compose::{self, RequestParts};
use crate::flow::{Flow, Target};
use crate::leg::EndCause;
use crate::message::{Method, Request};
use crate::trunk::TrunkStatus;

/// Maximum time to wait for the response to an OPTIONS. Over UDP, the OPTIONS is sent three times in this time. The
/// time is much shorter than Timer F (32 s).
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

impl Endpoint {
    /// Starts the registrations and probes of all trunks. Call this method once, when the shell can look up names.
    pub fn start_trunks(&mut self, now: Instant) {
        for trunk in self.core.config.trunk_settings.clone() {
            self.trunks.add(&mut self.core, now, trunk);
        }
        self.serve_trunks(now);
    }

    /// Removes all registrations of this server at trunks.
    pub fn withdraw(&mut self, now: Instant) {
        self.trunks.withdraw(&mut self.core, now);
        self.serve_trunks(now);
    }

    /// Returns whether the removal of at least one registration is not confirmed yet.
    #[must_use]
    pub fn is_withdrawing(&self) -> bool {
        self.trunks.is_withdrawing()
    }

    /// Returns the next trunk whose status changed, and the new status. The first value is the index of the trunk in
    /// [`crate::Config::trunk_settings`].
    pub fn poll_trunk_status(&mut self) -> Option<(usize, TrunkStatus)> {
        self.trunks.poll_status()
    }

    /// Executes the outputs of the trunks.
    pub(super) fn serve_trunks(&mut self, now: Instant) {
        while let Some(output) = self.trunks.poll_output() {
            match output {
                TrunkOutput::Locate { kind, uri, trunk } => {
                    self.locate(now, &uri, Some(trunk), PendingLookup::OutOfDialog(kind));
                }
                TrunkOutput::Send(message) => self.send_out_of_dialog(now, &message),
            }
        }
    }

    /// Sends a request outside every dialog. If there is no room for another transaction, the request fails at once.
    fn send_out_of_dialog(&mut self, now: Instant, message: &OutOfDialogMessage) {
        let (kind, Target { transport, address, identity }) = (message.kind, message.target);
        let Some(local) = self.core.local_for(transport, address.ip()).filter(|_| self.has_room()) else {
            return self.trunks.handle_failure(&mut self.core, now, kind, EndCause::Overload);
        };
        let flow = Flow { transport, peer: address, local, connection: None, identity, pinned: false, secure: false };
        let branch = self.core.random_u128();
        let from = format!("<{}>;tag={}", message.from.0, tag_text(message.from.1));
        let data: Bytes = compose::request(&RequestParts {
            method: message.method.as_str(),
            uri: message.uri.as_bytes(),
            via_transport: Some(transport),
            sent_by: self.core.sent_by(flow),
            branch,
            from: from.as_bytes(),
            to: compose::name_addr(None, &message.to).as_bytes(),
            call_id: message.call_id.as_bytes(),
            cseq: message.cseq,
            contact: Some(&message.contact),
            lines: &message.lines,
            user_agent: &self.core.config.user_agent,
            ..RequestParts::default()
        });
        let (method, purpose) = (message.method.clone(), Purpose::OutOfDialog(kind));
        let new = NewClient { method, branch, flow, data, leg: None, purpose };
        let client = self.transactions.start_client(&mut self.core, now, new);
        if let OutOfDialogRequest::Probe(_) = kind {
            self.transactions.expire_by(&mut self.core, client, now + PROBE_TIMEOUT);
        }
    }

    /// Returns whether this server expects a request although the source is in no trunk's networks. Such a request is a
    /// call from a registrar to this server's Contact, or the CANCEL of an existing call.
    pub(super) fn is_expected(&self, request: &Request) -> bool {
        let cancels = request.method == Method::Cancel
            && self.transactions.has_server(&self.core.server_key(request, &Method::Invite));
        cancels || self.trunks.registrar_of(request).is_some()
    }
}
