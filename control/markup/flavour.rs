//! What sets one provider's documents apart from another's: which elements it has, with which attributes, and what holds when
//! an attribute is absent.

use std::time::Duration;

/// One provider's documents, as a table.
#[derive(Debug)]
pub struct Flavour {
    /// Name in messages.
    pub name: &'static str,
    /// The root element.
    pub root: &'static str,
    /// Every element it knows, below the root.
    pub elements: &'static [Rule],
    /// What holds when an attribute is absent.
    pub defaults: Defaults,
}

impl Flavour {
    /// What an element means here; `None` if it is not known.
    pub fn rule(&self, name: &str) -> Option<&'static Rule> {
        self.elements.iter().find(|rule| rule.name == name)
    }
}

/// One element of a flavour.
#[derive(Debug)]
pub struct Rule {
    /// As written; case matters.
    pub name: &'static str,
    /// What it says.
    pub meaning: Meaning,
    /// Attributes that are not worth a warning, whether they have an effect or not.
    pub attributes: &'static [&'static str],
}

/// What an element says, whatever it is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// Speak text.
    Say,
    /// Play a file, or send digits.
    Play,
    /// Wait.
    Pause,
    /// Collect digits.
    Gather,
    /// Record in the foreground.
    Record,
    /// Call others and join.
    Dial,
    /// Go on with another document.
    Redirect,
    /// Refuse the call.
    Reject,
    /// End the call.
    Hangup,
    /// Hand the call to what is inside, and wait.
    Connect,
    /// `Refer`.
    Refer,
    /// Begin what is inside, and do not wait.
    Start,
    /// End what is inside.
    Stop,
    /// Send the caller's own audio back.
    Echo,
    /// In a dial: a telephone number.
    Number,
    /// In a dial: a SIP URI.
    Sip,
    /// In a dial: a registered endpoint.
    Client,
    /// In a dial, alone: a conference.
    Conference,
    /// In `Connect`, `Start` and `Stop`: a stream.
    Stream,
    /// In `Start`: a recording.
    Recording,
    /// Part of one of the above, read by it (`Parameter`, `Uri`, `Headers` ...).
    Part,
    /// Known, but not served here; the code says so.
    Unserved(u32),
}

/// What holds when an attribute is absent.
#[derive(Debug)]
pub struct Defaults {
    /// `Gather timeout`.
    pub gather_timeout: Duration,
    /// `Gather finishOnKey`.
    pub gather_finish_on_key: &'static str,
    /// `Record timeout`.
    pub record_timeout: Duration,
    /// `Record maxLength`.
    pub record_max_length: Duration,
    /// `Record finishOnKey`.
    pub record_finish_on_key: &'static str,
    /// `Record trim`.
    pub record_trim: bool,
    /// Whether `Gather` and `Record` without `action` go back to the document they are in.
    pub action_is_current_document: bool,
    /// `Dial timeout`.
    pub dial_timeout: Duration,
    /// `Dial timeLimit`.
    pub dial_time_limit: Duration,
    /// `Dial ringTone`.
    pub ring_tone: &'static str,
}

macro_rules! rules {
    ($($name:literal $meaning:expr => [$($attribute:literal),* $(,)?]),+ $(,)?) => {
        &[$(Rule { name: $name, meaning: $meaning, attributes: &[$($attribute),*] }),+]
    };
}

/// TwiML.
pub static TWIML: Flavour = Flavour {
    name: "TwiML",
    root: "Response",
    elements: rules! {
        "Say" Meaning::Say => ["voice", "language", "loop"],
        "Play" Meaning::Play => ["loop", "digits"],
        "Pause" Meaning::Pause => ["length"],
        "Gather" Meaning::Gather => [
            "action", "actionOnEmptyResult", "bargeIn", "debug", "enhanced", "finishOnKey", "hints", "input", "language",
            "maxSpeechTime", "method", "numDigits", "partialResultCallback", "partialResultCallbackMethod",
            "profanityFilter", "speechModel", "speechTimeout", "timeout",
        ],
        "Record" Meaning::Record => [
            "action", "finishOnKey", "maxLength", "method", "playBeep", "recordingConfigurationId",
            "recordingStatusCallback", "recordingStatusCallbackEvent", "recordingStatusCallbackMethod", "timeout",
            "transcribe", "transcribeCallback", "trim",
        ],
        "Dial" Meaning::Dial => [
            "action", "answerOnBridge", "callReason", "callerId", "events", "hangupOnStar", "method", "passports", "record",
            "recordingConfigurationId", "recordingStatusCallback", "recordingStatusCallbackEvent",
            "recordingStatusCallbackMethod", "recordingTrack", "referMethod", "referUrl", "ringTone", "sequential",
            "timeLimit", "timeout", "trim",
        ],
        "Redirect" Meaning::Redirect => ["method"],
        "Reject" Meaning::Reject => ["reason"],
        "Hangup" Meaning::Hangup => [],
        "Connect" Meaning::Connect => ["action", "method"],
        "Start" Meaning::Start => ["action", "method"],
        "Stop" Meaning::Stop => [],
        "Echo" Meaning::Echo => [],
        "Number" Meaning::Number => [
            "amdStatusCallback", "amdStatusCallbackMethod", "byoc", "machineDetection", "machineDetectionSilenceTimeout",
            "machineDetectionSpeechEndThreshold", "machineDetectionSpeechThreshold", "machineDetectionTimeout", "method",
            "sendDigits", "statusCallback", "statusCallbackEvent", "statusCallbackMethod", "url",
        ],
        "Sip" Meaning::Sip => [
            "amdStatusCallback", "amdStatusCallbackMethod", "machineDetection", "machineDetectionSilenceTimeout",
            "machineDetectionSpeechEndThreshold", "machineDetectionSpeechThreshold", "machineDetectionTimeout", "method",
            "password", "statusCallback", "statusCallbackEvent", "statusCallbackMethod", "url", "username",
        ],
        "Client" Meaning::Client => ["method", "statusCallback", "statusCallbackEvent", "statusCallbackMethod", "url"],
        "Conference" Meaning::Conference => [
            "beep", "coach", "endConferenceOnExit", "eventCallbackUrl", "jitterBufferSize", "maxParticipants", "muted",
            "participantLabel", "record", "recordingConfigurationId", "recordingStatusCallback",
            "recordingStatusCallbackEvent", "recordingStatusCallbackMethod", "region", "startConferenceOnEnter", "statusCallback", "statusCallbackEvent",
            "statusCallbackMethod", "trim", "waitMethod", "waitUrl",
        ],
        "Stream" Meaning::Stream => [
            "audioFormat", "connectorName", "name", "sampleRate", "statusCallback", "statusCallbackMethod", "track", "url",
        ],
        "Recording" Meaning::Recording => [
            "channels", "recordingConfigurationId", "recordingStatusCallback", "recordingStatusCallbackEvent",
            "recordingStatusCallbackMethod", "track", "trim",
        ],
        "Parameter" Meaning::Part => ["name", "value"],
        "Identity" Meaning::Part => [],
        "Uri" Meaning::Part => ["password", "priority", "username", "weight"],
        "Headers" Meaning::Part => [],
        "Header" Meaning::Part => ["name", "value"],
        "AiSession" Meaning::Unserved(12200) => [],
        "Application" Meaning::Unserved(12200) => [],
        "Assistant" Meaning::Unserved(12200) => [],
        "Autopilot" Meaning::Unserved(12200) => [],
        "Conversation" Meaning::Unserved(12200) => [],
        "ConversationRelay" Meaning::Unserved(12200) => [],
        "ConversationRelaySession" Meaning::Unserved(12200) => [],
        "Enqueue" Meaning::Unserved(12200) => [],
        "Leave" Meaning::Unserved(12200) => [],
        "Pay" Meaning::Unserved(12200) => [],
        "Prompt" Meaning::Unserved(12200) => [],
        "Queue" Meaning::Unserved(12200) => [],
        "Refer" Meaning::Refer => ["action", "method"],
        "Room" Meaning::Unserved(12200) => [],
        "Sim" Meaning::Unserved(13258) => [],
        "Siprec" Meaning::Unserved(12200) => [],
        "Sms" Meaning::Unserved(13803) => [],
        "Transcription" Meaning::Unserved(12200) => [],
        "VirtualAgent" Meaning::Unserved(32604) => [],
        "WhatsApp" Meaning::Unserved(12200) => [],
    },
    defaults: Defaults {
        gather_timeout: Duration::from_secs(5),
        gather_finish_on_key: "#",
        record_timeout: Duration::from_secs(5),
        record_max_length: Duration::from_secs(3600),
        record_finish_on_key: "1234567890*#",
        record_trim: true,
        action_is_current_document: true,
        dial_timeout: Duration::from_secs(30),
        dial_time_limit: Duration::from_secs(14_400),
        ring_tone: "us",
    },
};
