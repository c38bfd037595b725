//! Conversations in a provider's wire format: an application receives and sends text over a WebSocket.

use std::time::Duration;

use jiff::Timestamp;
use tandem_call::conversation::Inputs;
use tandem_call::program::instruction::Program;

/// Encoder and decoder of one conversation's messages. Pure.
pub trait ConversationWire: Send {
    /// Signed headers of the handshake, in addition to the WebSocket's own.
    fn handshake(&self) -> Vec<(String, String)>;
    /// The first message. It is sent as soon as the socket is open.
    fn setup(&self) -> String;
    /// The message that reports an event to the application.
    fn told(&self, told: &ConversationEvent, now: Timestamp) -> String;
    /// Parses one message of the application.
    ///
    /// # Errors
    /// The text to send to the application when its message is invalid.
    fn decode(&self, text: &str) -> Result<ConversationCommand, String>;
    /// The text to send to the application when it sent a binary message.
    fn binary(&self) -> String;
    /// The close code (RFC 6455 §7.4) and reason after too many invalid messages in a row.
    fn malformed(&self) -> (u16, &'static str);
    /// The close code and reason in all other cases.
    fn farewell(&self) -> (u16, &'static str);
}

/// An event that is reported to the application.
#[derive(Clone, PartialEq, Debug)]
pub enum ConversationEvent {
    /// The caller said this.
    Prompt {
        /// The recognised words.
        text: String,
        /// The language of the words.
        language: String,
        /// Whether the result is final: the words will not change again.
        last: bool,
    },
    /// The caller pressed this digit.
    Key(char),
    /// The caller interrupted the application's speech.
    Interrupted {
        /// The part of the text that was heard, as the application wrote it.
        heard: String,
        /// Time from the start of the speech to the interruption.
        after: Duration,
    },
    /// Playout of the application's speech started (`true`) or stopped (`false`).
    AgentSpeaking(bool),
    /// The caller started (`true`) or stopped (`false`) speaking.
    CallerSpeaking(bool),
    /// This text has been played to the caller.
    Played(String),
    /// Something failed. Holds the reason.
    Problem(String),
    /// Speech recognition stopped, or never started. Holds the reason.
    Deaf(String),
}

/// A request of the application.
#[derive(Clone, PartialEq, Debug)]
pub enum ConversationCommand {
    /// Speak a piece of text. A sentence arrives in many such pieces.
    Say {
        /// The piece as the application wrote it. Pieces are concatenated without a separator.
        token: String,
        /// Whether this is the reply's last piece.
        last: bool,
        /// The language of the text; `None`: the conversation's.
        language: Option<String>,
        /// The rules for interruptions.
        cutting: InterruptPolicy,
    },
    /// Play a file.
    Play {
        /// The file's URL.
        url: String,
        /// Number of times to play it, at least 1.
        times: u32,
        /// The rules for interruptions.
        cutting: InterruptPolicy,
    },
    /// Send DTMF after the queued speech: `0-9 * # w`.
    Press(String),
    /// Change languages from now on.
    Language {
        /// The language to speak; `None`: unchanged.
        speaks: Option<String>,
        /// The language to recognise; `None`: unchanged.
        hears: Option<String>,
    },
    /// End the conversation.
    End {
        /// Data for the application that continues the call.
        handoff: Option<String>,
    },
    /// Speak this text while the caller waits. It is not part of a reply.
    Fill(String),
    /// `true`: synthesise queued speech but do not play it. `false`: play it.
    HoldBack(bool),
    /// Discard the speech that has been requested but not played.
    Withdraw,
    /// End the conversation when all queued speech has been played.
    EndAfter(ConversationEnd),
}

/// The continuation after a conversation that the application or the agent ended.
#[derive(Clone, PartialEq, Debug)]
pub enum ConversationEnd {
    /// The call continues. Holds data for the application that continues it.
    Handoff(Option<String>),
    /// The leg is hung up.
    Hangup,
    /// The leg runs this program.
    Run(Box<Program>),
}

/// The rules for interruptions of audio. `None` means the conversation's own rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct InterruptPolicy {
    /// The caller's inputs that interrupt it.
    pub by: Option<Inputs>,
    /// Whether later speech of the application interrupts it.
    pub preemptible: Option<bool>,
}
