//! A live leg of a call: the dialog, the media session, and everything that the call runs for the leg.

use foldhash::HashMap;
use serde::{Deserialize, Serialize};
use tandem_call::leg::Quality;
use tandem_call::output::Invite;
use tandem_conferences::Seat;
use tandem_conversations::ConversationHandle;
use tandem_documents::ScriptSlot;
use tandem_id::{LegId, OpId, StreamId};
use tandem_media as media;
use tandem_queues::{AgentRequest, QueueMembership};
use tandem_siprec as siprec;
use tandem_speech::tap::SpeechTap;
use tandem_streams::StreamHandle;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use tandem_legs::LegIo;

use crate::call_task::conferencing::Arriving;

/// A live leg, and everything that the call runs for the leg.
pub(crate) struct LiveLeg {
    /// The dialog and the media session.
    pub io: LegIo,
    /// The shell's data about the leg.
    pub facts: LegFacts,
    /// The stateful program (script) that provides the leg's documents, if there is a script.
    pub script: ScriptSlot,
    /// The leg that this leg is bridged with. The call gives the bridge again after a restart.
    pub bridged_with: Option<LegId>,
    /// The running verb, as it was published last.
    pub published_verb: Option<&'static str>,
    /// The handles of everything that runs for the leg.
    pub attachments: Attachments,
}

/// The shell's data about a leg, without handles.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LegFacts {
    /// The INVITE of the leg, which waits until the socket of a stream has opened or failed.
    pub waiting_invite: Option<Box<Invite>>,
    /// The last measurement of the audio quality.
    pub quality: Option<Box<Quality>>,
    /// Whether the far end had offered to send no audio at that measurement.
    #[serde(default)]
    pub is_silenced: bool,
}

/// The handles of everything that the call runs for a leg. They are not data: the commands that brought them bring them
/// again ([`Call::resume`](tandem_call::call::Call::resume)).
#[derive(Default)]
pub(crate) struct Attachments {
    /// The tasks that prepare audio, by operation.
    pub renders: HashMap<OpId, AbortHandle>,
    /// The leg's membership in a conference.
    pub seat: Option<Seat>,
    /// The conference that the leg is about to join.
    pub arriving: Option<Box<Arriving>>,
    /// The leg's membership in a queue.
    pub queue_membership: Option<QueueMembership>,
    /// The leg's request for the first caller in a queue.
    pub agent_request: Option<AgentRequest>,
    pub streams: HashMap<StreamId, StreamHandle>,
    /// The sessions with recording servers. A leg has only a few of these sessions.
    pub siprec_sessions: Vec<siprec::SiprecSession>,
    pub speech_taps: HashMap<OpId, SpeechTap>,
    /// The conversation with an application.
    pub conversation: Option<ConversationHandle>,
    /// The requests that wait for the next measurement of the audio quality.
    pub awaiting_quality: Option<Box<WaitingReaders>>,
}

/// The requests that wait for a measurement. They are in a box, because few legs have such requests.
#[derive(Default)]
pub(crate) struct WaitingReaders(pub Vec<oneshot::Sender<()>>);

impl LiveLeg {
    /// Creates a live leg for which nothing runs yet.
    pub(crate) fn new(io: LegIo) -> Self {
        Self {
            io,
            facts: LegFacts::default(),
            script: ScriptSlot::default(),
            bridged_with: None,
            published_verb: None,
            attachments: Attachments::default(),
        }
    }

    /// Stops a playback. If the audio of the playback is still being prepared, stops the preparation.
    pub(crate) fn stop(&mut self, op: OpId) {
        match self.attachments.renders.remove(&op) {
            Some(render) => render.abort(),
            None => {
                self.io.command(media::Command::Stop { op });
            }
        }
    }

    /// Ends everything that runs for the leg, and closes the media session of the leg. Returns whether the media engine
    /// will report a final event.
    pub(crate) fn release(&mut self) -> bool {
        self.attachments.end();
        self.io.release()
    }
}

impl Attachments {
    /// Ends everything that runs for the leg.
    fn end(&mut self) {
        for (_, render) in self.renders.drain() {
            render.abort();
        }
        for (_, stream) in self.streams.drain() {
            stream.stop();
        }
        for mut session in self.siprec_sessions.drain(..) {
            session.hangup();
        }
        if let Some(conversation) = self.conversation.take() {
            conversation.stop();
        }
        self.arriving = None;
        self.seat = None;
        self.queue_membership = None;
        self.agent_request = None;
    }
}
