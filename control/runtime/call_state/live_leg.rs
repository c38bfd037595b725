//! A live leg of a call: the dialog, the media session, and everything that the call runs for the leg.

use foldhash::HashMap;
use tandem_call::leg::Quality;
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

/// A live leg, and everything that the call runs for the leg.
pub(crate) struct LiveLeg {
    /// The dialog and the media session.
    pub io: LegIo,
    pub bridged_with: Option<LegId>,
    /// The tasks that prepare audio, by operation.
    pub renders: HashMap<OpId, AbortHandle>,
    /// The leg's membership in a conference.
    pub seat: Option<Seat>,
    /// The leg's membership in a queue.
    pub queue_membership: Option<QueueMembership>,
    /// The leg's request for the first caller in a queue.
    pub agent_request: Option<AgentRequest>,
    pub streams: HashMap<StreamId, StreamHandle>,
    /// The sessions with recording servers. A leg has only a few of these sessions.
    pub siprec_sessions: Vec<siprec::SiprecSession>,
    pub speech_taps: HashMap<OpId, SpeechTap>,
    /// The stateful program (script) that provides the leg's documents, if there is a script.
    pub script: ScriptSlot,
    /// The conversation with an application.
    pub conversation: Option<ConversationHandle>,
    /// The last measurement of the audio quality.
    pub quality: Option<Box<Quality>>,
    /// The requests that wait for the next measurement.
    pub awaiting_quality: Vec<oneshot::Sender<()>>,
}

impl LiveLeg {
    /// Creates a live leg for which nothing runs yet.
    pub(crate) fn new(io: LegIo) -> Self {
        Self {
            io,
            bridged_with: None,
            renders: HashMap::default(),
            seat: None,
            queue_membership: None,
            agent_request: None,
            streams: HashMap::default(),
            siprec_sessions: Vec::new(),
            speech_taps: HashMap::default(),
            script: ScriptSlot::default(),
            conversation: None,
            quality: None,
            awaiting_quality: Vec::new(),
        }
    }

    /// Stops a playback. If the audio of the playback is still being prepared, stops the preparation.
    pub(crate) fn stop(&mut self, op: OpId) {
        match self.renders.remove(&op) {
            Some(render) => render.abort(),
            None => {
                self.io.command(media::Command::Stop { op });
            }
        }
    }

    /// Ends everything that runs for the leg, and closes the media session of the leg. Returns whether the media engine
    /// will report a final event.
    pub(crate) fn release(&mut self) -> bool {
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
        self.seat = None;
        self.queue_membership = None;
        self.agent_request = None;
        self.io.release()
    }
}
