//! Conversations in a provider's spelling: an application hears and says words over a WebSocket.

use std::time::Duration;

use jiff::Timestamp;
use tandem_call::conversation::Inputs;
use tandem_call::program::instruction::Program;

/// The messages of one conversation. Pure.
pub trait ConversationWire: Send {
    /// Headers of the handshake beyond the WebSocket's own, signed.
    fn handshake(&self) -> Vec<(String, String)>;
    /// The first message, sent as soon as the socket is open.
    fn setup(&self) -> String;
    /// What the application is told.
    fn told(&self, told: &Told, now: Timestamp) -> String;
    /// Understands one message of the application.
    ///
    /// # Errors
    /// What the application is to be told of a message that means nothing here.
    fn decode(&self, text: &str) -> Result<Ask, String>;
    /// What it is to be told of a binary message.
    fn binary(&self) -> String;
    /// How the socket is closed after too many messages in a row that meant nothing: a code of RFC 6455 §7.4 and why.
    fn malformed(&self) -> (u16, &'static str);
    /// How it is closed otherwise.
    fn farewell(&self) -> (u16, &'static str);
}

/// Something an application is told.
#[derive(Clone, PartialEq, Debug)]
pub enum Told {
    /// The caller said this.
    Prompt {
        /// The words.
        text: String,
        /// In this language.
        language: String,
        /// They will not change any more.
        last: bool,
    },
    /// The caller pressed this key.
    Key(char),
    /// The caller cut short what the application said.
    Interrupted {
        /// What of it was heard, as it was written.
        heard: String,
        /// How long it had been heard.
        after: Duration,
    },
    /// What the application says is heard, or no longer.
    AgentSpeaking(bool),
    /// The caller speaks, or no longer.
    CallerSpeaking(bool),
    /// This was heard.
    Played(String),
    /// Something did not work.
    Problem(String),
    /// The caller is not heard any more, or never was.
    Deaf(String),
}

/// Something an application asks for.
#[derive(Clone, PartialEq, Debug)]
pub enum Ask {
    /// Say a piece of text: one of many that a sentence comes in.
    Say {
        /// As it was written: pieces are joined as they are.
        token: String,
        /// Nothing of this reply follows.
        last: bool,
        /// In this language; the conversation's if `None`.
        language: Option<String>,
        /// How it may be cut short.
        cutting: Cutting,
    },
    /// Play a file.
    Play {
        /// Where it is.
        url: String,
        /// How often, at least once.
        times: u32,
        /// How it may be cut short.
        cutting: Cutting,
    },
    /// Send DTMF, after what is being said: `0-9 * # w`.
    Press(String),
    /// Other languages from now on.
    Language {
        /// To speak.
        speaks: Option<String>,
        /// To understand.
        hears: Option<String>,
    },
    /// The conversation is over.
    End {
        /// For whoever goes on with the call.
        handoff: Option<String>,
    },
    /// Say this meanwhile: it is no reply.
    Fill(String),
    /// Nothing further is heard of what was asked for until this is taken back; it is made meanwhile.
    HoldBack(bool),
    /// What was asked for and is not heard yet is not wanted any more.
    Withdraw,
    /// The conversation is over when all that waits has been heard.
    EndAfter(Parting),
}

/// How a conversation ends that the application, or the agent, ends.
#[derive(Clone, PartialEq, Debug)]
pub enum Parting {
    /// For whoever goes on with the call.
    Handoff(Option<String>),
    /// The leg is hung up.
    Hangup,
    /// The leg runs this instead.
    Run(Box<Program>),
}

/// How audio may be cut short; the conversation's own rules where `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cutting {
    /// By these doings of the caller.
    pub by: Option<Inputs>,
    /// By what the application says next.
    pub preemptible: Option<bool>,
}
