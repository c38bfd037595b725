//! Recording servers (SIPREC). This module calls the recording servers for a leg, sends copies of the leg's audio to
//! the recording servers, and reports the bridged leg to the recording servers.

use std::sync::Arc;

use tandem_call::output::LegEvent;
use tandem_call::siprec::{SiprecFailure, SiprecFault, SiprecSpec, SiprecStatus};
use tandem_host::clock;
use tandem_id::{LegId, OpId, SiprecId};
use tandem_leg::signal::SignalEvent;
use tandem_media as media;
use tandem_siprec::{NewSession, RecordedLeg, SiprecSession, SiprecUpdate};

use super::CallTask;
use crate::call_state::PendingTeardown;

impl CallTask {
    pub(super) fn start_siprec(&mut self, leg: LegId, ops: (OpId, OpId), id: SiprecId, spec: Box<SiprecSpec>) {
        let status = match self.call_recorder(leg, ops, id, spec) {
            Ok(()) => return,
            Err(why) => SiprecStatus::Failed(why),
        };
        self.post_leg_event(leg, LegEvent::Siprec { id, status });
    }

    fn call_recorder(
        &mut self,
        leg: LegId,
        ops: (OpId, OpId),
        id: SiprecId,
        spec: Box<SiprecSpec>,
    ) -> Result<(), SiprecFailure> {
        let no_such_leg = || SiprecFault::Internal.because("no such leg");
        let account = self.state.call.leg(leg).ok_or_else(no_such_leg)?.account.clone();
        let parent = self.services.accounts.parent(&account);
        let connectors = self.services.siprec.load_full();
        let connector = connectors.find(&spec.connector, &account, parent.as_ref()).ok_or_else(|| {
            SiprecFault::NoConnector.because(format!("no recording server is named {:?}", spec.connector))
        })?;
        let live = self.state.legs.get(&leg).ok_or_else(no_such_leg)?;
        let (services, affinity) = (Arc::clone(&self.services), self.state.call.id().0);
        let far_end = connector.uris.first().and_then(|uri| tandem_routing::address_in(uri));
        let open = || {
            let counting = Arc::clone(&services);
            let sink: media::EventSink = Arc::new(move |_, event| {
                if let media::Event::Closed { stats, .. } = &event {
                    counting.counters.add_media(stats);
                }
                Ok(())
            });
            let spec = media::OpenSpec::new(LegId(rand::random()), affinity);
            services.media.open(media::OpenSpec { far_end: far_end.into(), ..spec }, sink)
        };
        let (sip, preferred, now) = (services.sip.clone(), live.io.preference(), clock::time());
        // The id is registered before the call, so that the answer of the recording server finds this call.
        self.registry.register(id.0, self.inbox.clone());
        let new = NewSession { connector, id, ops, spec, sip, preferred, now };
        let called = self.recorded(leg, |recorded| SiprecSession::call(new, recorded, open));
        match called.unwrap_or_else(|| Err(no_such_leg())) {
            Ok(session) => {
                let uri = connector.uris.first().map_or("", |uri| uri);
                let line = format!("calling recording server \"{}\" ({uri})", connector.name);
                self.note_line(now, leg, "siprec", line);
                if let Some(live) = self.state.legs.get_mut(&leg) {
                    live.attachments.siprec_sessions.push(session);
                }
                Ok(())
            }
            Err(why) => {
                self.registry.forget(id.0);
                Err(why)
            }
        }
    }

    /// Hangs up a recording session. The end of the dialog is reported later.
    pub(super) fn stop_siprec(&mut self, leg: LegId, id: SiprecId) {
        let Some(mut session) = self.take_session(leg, id) else { return };
        let dialog = session.dialog();
        if session.hangup() {
            self.state
                .facts
                .ended
                .insert(dialog, PendingTeardown { info: None, dialog: false, branches: Vec::new(), media: true });
        } else {
            self.registry.forget(dialog.0);
        }
    }

    /// Removes an ended recording session, and disconnects the session from the audio of the leg.
    fn take_session(&mut self, leg: LegId, id: SiprecId) -> Option<SiprecSession> {
        let live = self.state.legs.get_mut(&leg)?;
        let place = live.attachments.siprec_sessions.iter().position(|one| one.id() == id)?;
        let session = live.attachments.siprec_sessions.swap_remove(place);
        session.detach(|command| live.io.command(command));
        Some(session)
    }

    /// Returns the leg and the recording session of this dialog.
    pub(super) fn siprec_of(&self, dialog: LegId) -> Option<(LegId, SiprecId)> {
        let id = SiprecId(dialog.0);
        self.state
            .legs
            .iter()
            .find(|(_, live)| live.attachments.siprec_sessions.iter().any(|one| one.id() == id))
            .map(|(leg, _)| (*leg, id))
    }

    /// Handles a SIP event of a recording session.
    pub(super) fn handle_recorder_event(&mut self, leg: LegId, id: SiprecId, event: &SignalEvent) {
        let update = self.with_session(leg, id, |session, recorded| session.handle_signal(event, recorded));
        let is =
            |this: &mut Self, status| this.state.call.handle_leg(clock::now(), leg, LegEvent::Siprec { id, status });
        match update.unwrap_or(SiprecUpdate::Nothing) {
            SiprecUpdate::Nothing => {}
            SiprecUpdate::Status(status) => is(self, status),
            SiprecUpdate::Answered => {
                is(self, SiprecStatus::Started);
                let Some(live) = self.state.legs.get_mut(&leg) else { return };
                let wide = live.io.codec().is_some_and(|codec| !["PCMU", "PCMA"].contains(&codec));
                let Some(place) = live.attachments.siprec_sessions.iter().position(|one| one.id() == id) else {
                    return;
                };
                let mut session = live.attachments.siprec_sessions.swap_remove(place);
                session.attach(wide, |command| live.io.command(command));
                let paused = session.begins_paused();
                live.attachments.siprec_sessions.push(session);
                if paused {
                    is(self, SiprecStatus::Paused);
                }
            }
            SiprecUpdate::Next(why, uri) => {
                let line = format!("{}; calling the next recording server ({uri})", why.detail);
                self.note_line(clock::time(), leg, "siprec", line);
            }
            SiprecUpdate::Over(why) => {
                self.take_session(leg, id);
                self.registry.forget(id.0);
                is(self, SiprecStatus::Failed(why));
            }
            SiprecUpdate::Unusable(why) => {
                self.stop_siprec(leg, id);
                is(self, SiprecStatus::Failed(why));
            }
        }
    }

    /// Reports to the leg's recording servers which leg is bridged with the leg now.
    pub(super) fn update_recorders(&mut self, leg: LegId) {
        let ids: Vec<SiprecId> = self
            .state
            .legs
            .get(&leg)
            .map(|live| live.attachments.siprec_sessions.iter().map(SiprecSession::id).collect())
            .unwrap_or_default();
        for id in ids {
            let now = clock::time();
            self.with_session(leg, id, |session, recorded| session.handle_bridge(recorded, now));
        }
    }

    fn with_session<R>(
        &mut self,
        leg: LegId,
        id: SiprecId,
        act: impl FnOnce(&mut SiprecSession, &RecordedLeg<'_>) -> R,
    ) -> Option<R> {
        let live = self.state.legs.get_mut(&leg)?;
        let place = live.attachments.siprec_sessions.iter().position(|one| one.id() == id)?;
        let mut session = live.attachments.siprec_sessions.swap_remove(place);
        let done = self.recorded(leg, |recorded| act(&mut session, recorded));
        if let Some(live) = self.state.legs.get_mut(&leg) {
            live.attachments.siprec_sessions.push(session);
        }
        done
    }

    /// Calls `act` with the data that the recording servers of a leg receive about this leg.
    fn recorded<R>(&self, leg: LegId, act: impl FnOnce(&RecordedLeg<'_>) -> R) -> Option<R> {
        let info = self.state.call.leg(leg)?;
        let bridged = self
            .state
            .legs
            .get(&leg)
            .and_then(|live| live.bridged_with)
            .and_then(|bridged| self.state.call.shown(bridged));
        let url = url::Url::parse(&self.services.public_url).ok();
        let host = url.as_ref().and_then(url::Url::host_str).unwrap_or("localhost");
        let call_id = self.services.call_id(info);
        Some(act(&RecordedLeg { leg: info, call_id: &call_id, bridged_leg: bridged.map(|bridged| &**bridged), host }))
    }
}
