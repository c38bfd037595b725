//! Outbound legs that will be created.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tandem_id::LegId;

use crate::Target;
use crate::conference::Participation;
use crate::conversation::ConversationSpec;
use crate::leg::{EndCause, LegInfo};
use crate::machine_detection::MachineDetection;
use crate::output::Invite;
use crate::program::instruction::{Play, Program, SendDigits};
use crate::recording::NewRecording;
use crate::stream::StreamSpec;
use crate::supervision::Supervision;

/// The parameters of an outbound leg that will be created.
#[derive(Clone, Debug)]
pub struct NewLeg {
    /// Facts about the new leg. The status in these facts is `Queued`.
    pub info: LegInfo,
    /// The INVITE to send.
    pub invite: Invite,
    /// The limits of the leg, and its actions after the answer.
    pub plan: LegPlan,
    /// The recording that starts with the answer.
    pub record: Option<NewRecording>,
    /// The race in which the leg takes part. The id of a race is the id of one of its legs. All legs of a race ring at
    /// the same time; the first answer ends the other legs.
    pub race: Option<LegId>,
}

/// The limits of an outbound leg, and its actions after the answer.
#[derive(Clone, PartialEq, Debug)]
pub struct LegPlan {
    /// Maximum time from the creation of the leg to its answer.
    pub timeout: Duration,
    /// Cause of the leg's end if the leg is not answered within `timeout`.
    pub unanswered: EndCause,
    /// Maximum duration of the leg after its answer. `None` means no limit.
    pub time_limit: Option<Duration>,
    /// The action of the leg after its answer.
    pub then: OnAnswer,
    /// DTMF digits that this server sends after the answer, before anything else.
    pub send_digits: Option<SendDigits>,
    /// Answering-machine detection that starts with the answer.
    pub detect: Option<Box<MachineDetection>>,
    /// The stream that carries the audio of the leg from the answer on. The stream may connect before the answer.
    pub stream: Option<StreamSpec>,
    /// The leg with which this leg is bridged after the answer.
    pub bridge_to: Option<LegId>,
    /// Whether this leg may be bridged only if the leg `bridge_to` is free. If `bridge_to` is bridged with a third leg
    /// at the time of the answer, this leg is hung up.
    pub if_free: bool,
}

impl LegPlan {
    /// Creates the plan of a leg that does nothing by itself after the answer. The creator of the leg controls the leg.
    pub fn waiting(timeout: Duration) -> Self {
        Self {
            timeout,
            unanswered: EndCause::Timeout,
            time_limit: None,
            then: OnAnswer::Wait,
            send_digits: None,
            detect: None,
            stream: None,
            bridge_to: None,
            if_free: false,
        }
    }
}

/// The action of an outbound leg after its answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum OnAnswer {
    /// Fetch and run this document.
    Document(Target),
    /// Run this program.
    Program(Program),
    /// Play this audio. Then bridge the leg if `bridge_to` is set, and wait for commands.
    Play(Play),
    /// Start a conversation, then wait for commands.
    Converse(Box<ConversationSpec>),
    /// Join a conference, then wait for commands.
    JoinConference(Box<Participation>),
    /// Supervise the call of another leg, then wait for commands.
    Supervise(Supervision),
    /// Wait for commands, or for the dial that created this leg.
    Wait,
}
