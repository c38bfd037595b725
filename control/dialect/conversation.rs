//! Conversations in the wire format of a provider. An application receives and sends text over a WebSocket.

pub mod messages;

use std::time::Duration;

use jiff::Timestamp;
use tandem_call::conversation::{AgentSpec, Inputs};
use tandem_call::program::instruction::Program;

/// Encoder and decoder for the messages of one conversation. Implementations do no I/O.
pub trait ConversationWire: Send {
    /// Returns the signed headers of the handshake, in addition to the WebSocket headers.
    fn handshake(&self) -> Vec<(String, String)>;
    /// Returns the first message, which is sent when the socket is open.
    fn setup(&self) -> String;
    /// Returns the message that reports an event to the application.
    fn encode(&self, event: &ConversationEvent, now: Timestamp) -> String;
    /// Parses one message of the application.
    ///
    /// # Errors
    /// If the message is invalid, returns the text to send to the application.
    fn decode(&self, text: &str) -> Result<ConversationCommand, String>;
    /// Returns the text to send to the application after a binary message.
    fn binary(&self) -> String;
    /// Returns the close code (RFC 6455 §7.4) and the reason for the close after too many consecutive invalid messages.
    fn malformed(&self) -> (u16, &'static str);
    /// Returns the close code and the reason for every other close.
    fn close_reason(&self) -> (u16, &'static str);
}

/// An event that is reported to the application.
#[derive(Clone, PartialEq, Debug)]
pub enum ConversationEvent {
    /// The caller said these words.
    Prompt {
        /// The recognised words.
        text: String,
        /// The language of the words.
        language: String,
        /// Whether the result is final. A final result does not change any more.
        last: bool,
        /// Probability that the caller has finished speaking, 0 to 1, if the recogniser estimates this. Only for a final
        /// result.
        end_of_turn: Option<f32>,
    },
    /// The caller pressed this digit.
    Digit(char),
    /// The caller interrupted the application's speech.
    Interrupted {
        /// The part of the text that the caller heard, exactly as the application wrote it.
        heard: String,
        /// Time from the start of the speech to the interruption.
        after: Duration,
    },
    /// The playout of the application's speech started (`true`) or stopped (`false`).
    AgentSpeaking(bool),
    /// The caller started to speak (`true`) or stopped (`false`).
    CallerSpeaking(bool),
    /// This text has been played to the caller.
    Played(String),
    /// An operation failed. The text is the reason.
    Problem(String),
    /// Speech recognition stopped or did not start. The text is the reason.
    RecognitionFailed(String),
}

/// A request of the application.
#[derive(Clone, PartialEq, Debug)]
pub enum ConversationCommand {
    /// Speak a piece of text. An application sends a sentence in many such pieces.
    Say {
        /// The piece exactly as the application wrote it. Pieces are concatenated without a separator.
        token: String,
        /// Whether this is the last piece of the reply.
        last: bool,
        /// The language of the text. `None` means the language of the conversation.
        language: Option<String>,
        /// The rules for interruptions of this text.
        interrupt_policy: InterruptPolicy,
    },
    /// Play an audio file.
    Play {
        /// The URL of the file.
        url: String,
        /// Number of times that the file is played, at least 1.
        times: u32,
        /// The rules for interruptions of this file.
        interrupt_policy: InterruptPolicy,
    },
    /// Send DTMF digits (`0-9 * #`) and pauses (`w`) after the queued speech.
    SendDigits(String),
    /// Change the languages of the conversation.
    Language {
        /// The new language of the speech. `None` means no change.
        speech_language: Option<String>,
        /// The new language of the recognition. `None` means no change.
        recognition_language: Option<String>,
    },
    End {
        /// Data for the application that continues the call.
        handoff: Option<String>,
    },
    /// Speak a text of this server, such as an apology. The text is not the reply to a turn of the caller, so its times
    /// say nothing about the application or the model.
    Phrase(String),
    /// Speak this text while the caller waits. The text is not part of a reply.
    Filler(String),
    /// `true`: synthesise the queued speech without playing it. `false`: play the queued speech.
    HoldBack(bool),
    /// Discard the requested speech that is not played yet.
    Withdraw,
    /// `false`: take no words and no digits of the caller. `true`: take them again.
    Listen(bool),
    /// Replace the words and phrases that the recogniser expects from the caller.
    Hints(Vec<String>),
    /// End the conversation after all queued speech is played.
    EndAfter(ConversationEnd),
}

/// The continuation of the call after the application or the agent has ended a conversation.
#[derive(Clone, PartialEq, Debug)]
pub enum ConversationEnd {
    /// The call continues. The text is data for the application that continues the call.
    Handoff(Option<String>),
    /// The leg is hung up.
    Hangup,
    /// The leg runs this program.
    Run(Box<Program>),
    /// The leg runs this program. At its end the conversation continues with this agent, and then the document.
    RunThenReturn {
        /// The program.
        program: Box<Program>,
        /// The agent, with the dialogue so far.
        agent: Box<AgentSpec>,
    },
}

/// The rules for interruptions of a text or a file. `None` in a field means the rule of the conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct InterruptPolicy {
    /// The inputs of the caller that interrupt the audio.
    pub by: Option<Inputs>,
    /// Whether later speech of the application interrupts the audio.
    pub preemptible: Option<bool>,
}
