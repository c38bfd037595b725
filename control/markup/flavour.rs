//! The differences between the documents of providers. Each provider has a table. The table contains the elements, the
//! attributes of each element, the support for each attribute, and the defaults of absent attributes.

use std::time::Duration;

use tandem_call::address::Address;
use tandem_call::recording::Track;
use tandem_id::LegId;

/// A table that describes the documents of one provider.
#[derive(Debug)]
pub struct Flavour {
    /// Name of the flavour in messages.
    pub name: &'static str,
    /// Name of the root element.
    pub root: &'static str,
    /// The elements of this flavour that `base` does not have.
    pub elements: &'static [Rule],
    /// Another flavour, whose elements also belong to this flavour.
    pub base: Option<&'static Flavour>,
    /// Defaults of absent attributes.
    pub defaults: Defaults,
    /// Values of a stream's `track` attribute, each with the direction of the audio.
    pub tracks: &'static [(&'static str, Track)],
    /// Parses a call id of this provider.
    pub call_id: fn(&str) -> Option<LegId>,
    /// Parses a telephone number.
    pub phone: fn(&str) -> Option<Address>,
}

impl Flavour {
    /// Returns the rule of an element. Returns `None` if the element is unknown.
    pub fn rule(&self, name: &str) -> Option<&'static Rule> {
        self.rules().find(|rule| rule.name == name)
    }

    /// Iterates over all elements. The elements of the flavour itself come before the elements of the base.
    pub fn rules(&self) -> impl Iterator<Item = &'static Rule> {
        self.elements.iter().chain(self.base.iter().flat_map(|base| base.elements))
    }

    /// Returns the rule of an element inside this parent. If there is no such rule, returns the rule of the element
    /// inside any parent.
    pub fn rule_in(&self, name: &str, parent: &str) -> Option<&'static Rule> {
        let here = self.rules().find(|rule| rule.name == name && rule.inside.contains(&parent));
        here.or_else(|| self.rule(name))
    }
}

/// The rule of one element.
#[derive(Debug)]
pub struct Rule {
    /// Name as written. Names are case-sensitive.
    pub name: &'static str,
    /// Names of the elements that may contain this element.
    pub inside: &'static [&'static str],
    /// Meaning of the element.
    pub meaning: Meaning,
    /// All attributes of the element.
    pub attributes: &'static [Attribute],
}

impl Rule {
    /// Whether the element may be a child of `parent`.
    pub(crate) fn is_allowed_in(&self, parent: &str) -> bool {
        self.inside.contains(&parent)
    }

    /// Returns the support for an attribute. Returns `None` if the attribute is unknown.
    pub fn support(&self, attribute: &str) -> Option<AttributeSupport> {
        self.attributes.iter().find(|known| known.name == attribute).map(|known| known.support)
    }
}

/// An attribute of an element.
#[derive(Debug)]
pub struct Attribute {
    /// Name as written. Names are case-sensitive.
    pub name: &'static str,
    pub support: AttributeSupport,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttributeSupport {
    /// The attribute has an effect.
    Honoured,
    /// The attribute has no effect and causes no warning. The text is the reason.
    NoEffect(&'static str),
    /// The attribute has no effect and causes a warning with this error number and reason.
    Refused(u32, &'static str),
}

/// The meaning of an element. Elements with different names may have the same meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// Speak a text.
    Say,
    /// Play a file, or send digits.
    Play,
    /// Wait for a time.
    Pause,
    /// Collect digits or speech.
    Gather,
    /// Record the caller. The document continues after the recording.
    Record,
    /// Call other parties and bridge the legs.
    Dial,
    /// Continue with another document.
    Redirect,
    /// Refuse the call.
    Reject,
    /// End the call.
    Hangup,
    /// Connect the call to the child element (a stream or conversation), and wait for the end of the connection.
    Connect,
    /// Wait in a queue.
    Enqueue,
    /// Leave the queue.
    Leave,
    /// Transfer the call with a SIP REFER.
    Refer,
    /// Start the child element in the background.
    Start,
    /// Stop the object of the child element.
    Stop,
    /// Send the caller's own audio back to the caller (echo).
    Echo,
    /// Take a payment.
    Pay,
    /// A telephone number in a `Dial`.
    Number,
    /// A SIP URI in a `Dial`.
    Sip,
    /// A registered endpoint in a `Dial`.
    Client,
    /// An application of this server in a `Dial`. The application must be the only child of the `Dial`.
    Application,
    /// A conference in a `Dial`. The conference must be the only child of the `Dial`.
    Conference,
    /// A queue in a `Dial`. The `Dial` calls the first caller in this queue. The queue must be the only child of the
    /// `Dial`.
    Queue,
    /// A media stream in a `Connect`, `Start` or `Stop`.
    Stream,
    /// A conversation in a `Connect`. The caller talks with an application over a WebSocket.
    Conversation,
    /// A conversation in a `Connect`. The caller talks with a voice agent of this server.
    Agent,
    /// A conversation in a `Connect`. The caller talks with an agent that the account has stored, or that the
    /// configuration has.
    Assistant,
    /// A voice agent asks the caller for values. The document continues when the values are known.
    AgentGather,
    /// A recording in a `Start`.
    Recording,
    /// A session with a recording server (SIPREC) in a `Start` or `Stop`.
    Siprec,
    /// A live transcription in a `Start` or `Stop`.
    Transcription,
    /// Noise suppression in a `Start` or `Stop`.
    Suppression,
    /// Markup of spoken text (SSML).
    Speech,
    /// A part of the parent element, such as `Parameter`, `Uri` or `Headers`.
    Part,
    /// An element that is known but not supported here. The number is the error number.
    Unsupported(u32),
}

/// Defaults of absent attributes.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// Default of `Gather timeout`.
    pub gather_timeout: Duration,
    /// Default of `Gather finishOnKey`.
    pub gather_finish_on_key: &'static str,
    /// Whether the default of `Gather method` is the method of the application. Otherwise the default is `POST`.
    pub gather_by_application: bool,
    /// Maximum number of keys in `Gather finishOnKey`. Each key ends the input.
    pub gather_finish_keys: usize,
    /// Default of `Record timeout`.
    pub record_timeout: Duration,
    /// Default of `Record maxLength`.
    pub record_max_length: Duration,
    /// Default of `Record maxLength` if the recording is transcribed.
    pub record_transcribed_max_length: Duration,
    /// Default of `Record finishOnKey`.
    pub record_finish_on_key: &'static str,
    /// Default of `Record trim`.
    pub record_trim: bool,
    /// Whether a `Gather` or `Record` without `action` requests the document that contains this element.
    pub action_is_current_document: bool,
    /// Default of `Dial timeout`.
    pub dial_timeout: Duration,
    /// Default of `Dial timeLimit`.
    pub dial_time_limit: Duration,
    /// Whether `machineDetection` has the form of TeXML. In this form, all times are in milliseconds, and an event of
    /// the status callback reports the result.
    pub detects_in_milliseconds: bool,
    /// Events of status callbacks that the provider sends and this server does not send.
    pub unsent_events: &'static [&'static str],
    /// Default of `Dial ringTone`.
    pub ring_tone: &'static str,
    /// Default of `ConversationRelay language`.
    pub conversation_language: &'static str,
    /// Default of `ConversationRelay partialPrompts`.
    pub partial_prompts: bool,
    /// Default of `ConversationRelay profanityFilter`.
    pub masks_profanity: bool,
}

/// Builds the rows of a table. A row has the form `"Name" in ["Parent"] meaning => { honoured: [..], idle: [reason =>
/// [..]], refused: [number reason => [..]] }`. Each of the three lists may be absent.
#[macro_export]
macro_rules! rules {
    ($($name:literal in [$($parent:literal),+] $meaning:expr => {
        $(honoured: [$($honoured:literal),* $(,)?] $(,)?)?
        $(idle: [$($idle_for:expr => [$($idle:literal),+ $(,)?]),+ $(,)?] $(,)?)?
        $(refused: [$($code:literal $refused_for:tt => [$($refused:literal),+ $(,)?]),+ $(,)?] $(,)?)?
    })+) => {
        &[$($crate::flavour::Rule {
            name: $name,
            inside: &[$($parent),+],
            meaning: $meaning,
            attributes: &[
                $($($crate::flavour::Attribute { name: $honoured, support: $crate::flavour::AttributeSupport::Honoured },)*)?
                $($($($crate::flavour::Attribute { name: $idle, support: $crate::flavour::AttributeSupport::NoEffect($idle_for) },)+)+)?
                $($($($crate::flavour::Attribute { name: $refused, support: $crate::flavour::AttributeSupport::Refused($code, $refused_for) },)+)+)?
            ],
        }),+]
    };
}
