//! The streams of a leg. This module starts and ends streams, and connects a stream to the audio of the leg and of the
//! bridged leg.

use tandem_call::leg::LegInfo;
use tandem_call::output::LegEvent;
use tandem_call::stream::{ConnectTiming, StreamFault, StreamSpec, StreamStatus};
use tandem_host::clock;
use tandem_id::{LegId, OpId, StreamId};
use tandem_legs::LegIo;
use tandem_legs::tracks;
use tandem_media as media;
use tandem_streams::{NewStream, Ready, StreamHandle, StreamUpdate};

use super::CallTask;
use super::port::InboxPort;
use crate::call_state::LiveLeg;
use crate::inbox::{Inbox, Message};

impl CallTask {
    pub(super) fn start_stream(&mut self, leg: LegId, op: OpId, id: StreamId, spec: StreamSpec) {
        let Some(info) = self.state.call.leg(leg).cloned() else { return };
        let services = &self.services;
        let found = services.dialects.get(&info.dialect).zip(services.accounts.by_name(&info.account));
        let Some((dialect, account)) = found else {
            let status = StreamStatus::Failed(StreamFault::Internal.because("unknown account or dialect"));
            return self.post_leg_event(leg, LegEvent::Stream { id, status });
        };
        let wire = dialect.stream(&account, &info, id, &spec, clock::time());
        let law = law_of(&info);
        let waits = spec.connect_timing != ConnectTiming::AtAnswer && info.answered_at.is_none();
        let name = dialect.stream_id(id);
        let call = InboxPort::new(&self.inbox, move |inbox: &Inbox, update: StreamUpdate| {
            inbox.post(match update {
                StreamUpdate::Open => Message::StreamOpen { leg, id },
                StreamUpdate::Ready(ready) => Message::StreamReady { leg, id, ready },
                StreamUpdate::Press(digits) => Message::StreamDigits { leg, id, digits },
                StreamUpdate::Warned(warning) => Message::LegEvent(leg, LegEvent::Warned(warning)),
                StreamUpdate::Over(status) => Message::Stream { leg, id, status },
            })
        });
        let account = info.account.clone();
        let handle =
            services.streams.start(Box::new(call), NewStream { leg, account, op, spec, wire, law, waits, name });
        let signalling = self.sip();
        let live =
            self.state.legs.entry(leg).or_insert_with(|| Box::new(LiveLeg::new(LegIo::outgoing(leg, signalling))));
        live.attachments.streams.insert(id, handle);
    }

    pub(super) fn attach_stream(&mut self, leg: LegId, id: StreamId, ready: Ready) {
        let Some(live) = self.state.legs.get_mut(&leg) else { return };
        let Some(stream) = live.attachments.streams.get_mut(&id) else { return };
        stream.attached = true;
        let (op, tracks) = (stream.op, tracks(stream.track));
        live.io.command(media::Command::Tap { op, tracks, sink: ready.sink });
        if let Some(source) = ready.source {
            live.io.command(media::Command::Source { op, source });
        }
        self.join_streams(leg);
        self.state.call.handle_leg(clock::now(), leg, LegEvent::Stream { id, status: StreamStatus::Started });
    }

    /// Continues the streams that were opened before the leg was answered.
    pub(super) fn begin_streams(&mut self, leg: LegId) {
        let Some(info) = self.state.call.leg(leg).cloned() else { return };
        let services = &self.services;
        let found = services.dialects.get(&info.dialect).zip(services.accounts.by_name(&info.account));
        let (Some((dialect, account)), Some(live)) = (found, self.state.legs.get_mut(&leg)) else { return };
        for (id, stream) in &mut live.attachments.streams {
            stream.begin(law_of(&info), |spec| dialect.stream(&account, &info, *id, spec, clock::time()));
        }
    }

    /// Plays the audio from the leg's stream applications to the bridged leg too. This applies only to streams whose
    /// target legs include the bridged leg.
    pub(super) fn join_streams(&self, leg: LegId) {
        let Some(live) = self.state.legs.get(&leg) else { return };
        let Some(bridged) = live.bridged_with.and_then(|bridged| self.state.legs.get(&bridged)) else { return };
        for stream in live.attachments.streams.values().filter(|stream| stream.attached) {
            if let Some(source) = stream.join() {
                bridged.io.command(media::Command::Source { op: stream.bridged_op(), source });
            }
        }
    }

    /// Removes a stream, and disconnects the stream from the audio of the leg and of the bridged leg.
    pub(super) fn detach_stream(&mut self, leg: LegId, id: StreamId) -> Option<StreamHandle> {
        let live = self.state.legs.get_mut(&leg)?;
        let stream = live.attachments.streams.remove(&id)?;
        live.io.command(media::Command::Untap { op: stream.op });
        if stream.plays {
            live.io.command(media::Command::Unsource { op: stream.op });
            let bridged = live.bridged_with.and_then(|bridged| self.state.legs.get(&bridged));
            if let Some(bridged) = bridged {
                bridged.io.command(media::Command::Unsource { op: stream.bridged_op() });
            }
        }
        Some(stream)
    }
}

fn law_of(leg: &LegInfo) -> media::g711::Law {
    if leg.sip.codec.as_deref() == Some("PCMA") { media::g711::Law::A } else { media::g711::Law::Mu }
}
