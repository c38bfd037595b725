//! TwiML: every verb, noun and attribute of Twilio's own libraries. The table says which of these elements and
//! attributes this server honours.
//!
//! `docs/twiml.md` is generated from this table (`UPDATE_DOCS=1 cargo test -p tandem-server twiml_in_the_docs`). Tests
//! prove that each attribute marked as honoured has an effect. For each such attribute, `fixtures/honoured.xml` has a
//! document. Without the attribute, the parser makes a different program from the document.

use std::time::Duration;

use tandem_markup::flavour::{Defaults, Flavour, Meaning};
use tandem_markup::verb::stream::TRACKS;
use tandem_markup::{party, rules};

use super::sid::Ids;

/// Explains why attributes that tune the speech engines of Twilio's partners have no effect.
const ENGINES: &str = "the server has its own speech engines";
/// Explains why attributes that name settings in Twilio's console have no effect.
const CONSOLE: &str = "refers to settings in the provider's console";

/// Explains why payment attributes have no effect. This server takes no payments, because the handling of card data
/// requires a certification.
const NO_PAYMENTS: &str = "payments are not supported: the action receives that result";

/// Explains why attributes of task routing are refused. Task routing is a hosted product of Twilio.
const TASKS: &str = "task routing is a hosted product";

/// The table of TwiML's elements and their defaults.
pub static TWIML: Flavour = Flavour {
    name: "TwiML",
    root: "Response",
    elements: rules! {
        "Say" in ["Response", "Gather"] Meaning::Say => { honoured: ["language", "loop", "voice"] }
        "Play" in ["Response", "Gather"] Meaning::Play => { honoured: ["digits", "loop"] }
        "Pause" in ["Response", "Gather"] Meaning::Pause => { honoured: ["length"] }
        "Gather" in ["Response"] Meaning::Gather => {
            honoured: [
                "action", "actionOnEmptyResult", "bargeIn", "finishOnKey", "hints", "input", "language", "maxSpeechTime",
                "method", "numDigits", "partialResultCallback", "partialResultCallbackMethod", "profanityFilter",
                "speechModel", "speechTimeout", "timeout",
            ],
            idle: [
                "deprecated: there is only one quality" => ["enhanced"],
                "the call's log shows the recognised speech" => ["debug"],
            ],
        }
        "Record" in ["Response"] Meaning::Record => {
            honoured: [
                "action", "finishOnKey", "maxLength", "method", "playBeep", "recordingStatusCallback",
                "recordingStatusCallbackEvent", "recordingStatusCallbackMethod", "timeout", "transcribe", "transcribeCallback",
                "trim",
            ],
            idle: [CONSOLE => ["recordingConfigurationId"]],
        }
        "Dial" in ["Response"] Meaning::Dial => {
            honoured: [
                "action", "answerOnBridge", "callReason", "callerId", "hangupOnStar", "method", "record", "recordingStatusCallback",
                "recordingStatusCallbackEvent", "recordingStatusCallbackMethod", "recordingTrack", "referMethod", "referUrl",
                "ringTone", "sequential", "timeLimit", "timeout", "trim",
            ],
            idle: [
                CONSOLE => ["recordingConfigurationId"],
                "progress is sent to the status callbacks of the nouns" => ["events"],
                "calls are signed with the server's own certificate" => ["passports"],
            ],
        }
        "Redirect" in ["Response"] Meaning::Redirect => { honoured: ["method"] }
        "Reject" in ["Response"] Meaning::Reject => { honoured: ["reason"] }
        "Hangup" in ["Response"] Meaning::Hangup => {}
        "Echo" in ["Response"] Meaning::Echo => {}
        "Pay" in ["Response"] Meaning::Pay => {
            honoured: ["action", "method", "paymentMethod", "statusCallback", "statusCallbackMethod"],
            idle: [
                NO_PAYMENTS => [
                    "bankAccountType", "chargeAmount", "currency", "description", "input", "language", "maxAttempts",
                    "minPostalCodeLength", "paymentConnector", "postalCode", "securityCode", "timeout", "tokenType",
                    "validCardTypes",
                ],
            ],
        }
        "Refer" in ["Response"] Meaning::Refer => { honoured: ["action", "method"] }
        "Connect" in ["Response"] Meaning::Connect => { honoured: ["action", "method"] }
        "Start" in ["Response"] Meaning::Start => {
            idle: ["each started object has its own status callback" => ["action", "method"]],
        }
        "Stop" in ["Response"] Meaning::Stop => {}
        "Number" in ["Dial"] Meaning::Number => {
            honoured: [
                "amdStatusCallback", "amdStatusCallbackMethod", "byoc", "machineDetection", "machineDetectionSilenceTimeout",
                "machineDetectionSpeechEndThreshold", "machineDetectionSpeechThreshold", "machineDetectionTimeout", "method",
                "sendDigits", "statusCallback", "statusCallbackEvent", "statusCallbackMethod", "url",
            ],
        }
        "Sip" in ["Dial"] Meaning::Sip => {
            honoured: [
                "amdStatusCallback", "amdStatusCallbackMethod", "machineDetection", "machineDetectionSilenceTimeout",
                "machineDetectionSpeechEndThreshold", "machineDetectionSpeechThreshold", "machineDetectionTimeout", "method",
                "password", "statusCallback", "statusCallbackEvent", "statusCallbackMethod", "url", "username",
            ],
        }
        "Sip" in ["Refer"] Meaning::Sip => {}
        "Uri" in ["Sip"] Meaning::Part => {
            honoured: ["password", "priority", "username"],
            idle: ["URIs of equal priority are called in document order" => ["weight"]],
        }
        "Headers" in ["Sip"] Meaning::Part => {}
        "Header" in ["Headers"] Meaning::Part => { honoured: ["name", "value"] }
        "Client" in ["Dial"] Meaning::Client => {
            honoured: ["method", "statusCallback", "statusCallbackEvent", "statusCallbackMethod", "url"],
        }
        "Identity" in ["Client"] Meaning::Part => {}
        "Parameter" in ["Stream"] Meaning::Part => { honoured: ["name", "value"] }
        "Parameter" in ["Client"] Meaning::Part => { honoured: ["name", "value"] }
        "Application" in ["Dial"] Meaning::Application => {
            honoured: [
                "copyParentTo", "customerId", "method", "statusCallback", "statusCallbackEvent", "statusCallbackMethod", "url",
            ],
        }
        "ApplicationSid" in ["Application"] Meaning::Part => {}
        "Parameter" in ["Application"] Meaning::Part => { honoured: ["name", "value"] }
        "Prompt" in ["Response"] Meaning::Unsupported(64002) => {
            refused: [64002 NO_PAYMENTS => ["attempt", "cardType", "errorType", "for", "requireMatchingInputs"]],
        }
        "Prompt" in ["Pay"] Meaning::Part => {
            idle: [NO_PAYMENTS => ["attempt", "cardType", "errorType", "for", "requireMatchingInputs"]],
        }
        "Parameter" in ["Pay"] Meaning::Part => { idle: [NO_PAYMENTS => ["name", "value"]] }
        "Parameter" in ["Hangup", "Reject"] Meaning::Part => { honoured: ["name", "value"] }
        "Conference" in ["Dial"] Meaning::Conference => {
            honoured: [
                "beep", "coach", "endConferenceOnExit", "eventCallbackUrl", "maxParticipants", "muted", "participantLabel",
                "record", "recordingStatusCallback", "recordingStatusCallbackEvent", "recordingStatusCallbackMethod",
                "region", "startConferenceOnEnter", "statusCallback", "statusCallbackEvent", "statusCallbackMethod", "trim",
                "waitMethod", "waitUrl",
            ],
            idle: [
                CONSOLE => ["recordingConfigurationId"],
                "the buffer adapts to the measured jitter" => ["jitterBufferSize"],
            ],
        }
        "Queue" in ["Dial"] Meaning::Queue => {
            honoured: ["method", "url"],
            refused: [14219 TASKS => ["postWorkActivitySid", "reservationSid"]],
        }
        "Enqueue" in ["Response"] Meaning::Enqueue => {
            honoured: ["action", "maxQueueSize", "method", "waitUrl", "waitUrlMethod"],
            refused: [14226 TASKS => ["workflowSid"]],
        }
        "Task" in ["Enqueue"] Meaning::Unsupported(14226) => {
            refused: [14226 "part of a hosted product" => ["priority", "timeout"]],
        }
        "Leave" in ["Response"] Meaning::Leave => {}
        "Stream" in ["Connect", "Start", "Stop"] Meaning::Stream => {
            honoured: [
                "audioFormat", "name", "sampleRate", "statusCallback", "statusCallbackMethod", "track", "url",
            ],
            idle: [CONSOLE => ["connectorName"]],
        }
        "Recording" in ["Start"] Meaning::Recording => {
            honoured: [
                "channels", "recordingStatusCallback", "recordingStatusCallbackEvent", "recordingStatusCallbackMethod",
                "track", "trim",
            ],
            idle: [CONSOLE => ["recordingConfigurationId"]],
        }
        "Siprec" in ["Start", "Stop"] Meaning::Siprec => {
            honoured: ["connectorName", "name", "statusCallback", "statusCallbackMethod", "track"],
        }
        "Parameter" in ["Siprec"] Meaning::Part => { honoured: ["name", "value"] }
        "Transcription" in ["Start", "Stop"] Meaning::Transcription => {
            honoured: [
                "enableAutomaticPunctuation", "hints", "inboundTrackLabel", "languageCode", "name", "outboundTrackLabel",
                "partialResults", "profanityFilter", "speechModel", "statusCallbackMethod", "statusCallbackUrl", "track",
                "transcriptionEngine",
            ],
            idle: [
                "part of a hosted product" => ["intelligenceService"],
                "no external provider is involved" => ["enableProviderData"],
            ],
        }
        "Config" in ["Transcription"] Meaning::Part => { idle: ["the recogniser is configured on the server" => ["name", "value"]] }
        "Parameter" in ["Transcription"] Meaning::Part => {
            idle: ["the recogniser is configured on the server" => ["name", "value"]],
        }
        "Config" in ["VirtualAgent"] Meaning::Unsupported(32604) => {
            refused: [32604 "part of a hosted product" => ["name", "value"]],
        }
        // An extension of this server: one of the agents that `[[agents]]` configures.
        "Agent" in ["Connect"] Meaning::Agent => { honoured: ["firstMessage", "language", "name", "prompt", "voice"] }
        "ConversationRelay" in ["Connect"] Meaning::Conversation => {
            honoured: [
                "debug", "dtmfDetection", "events", "hints", "ignoreBackchannel", "interruptSensitivity", "interruptible", "language",
                "partialPrompts", "preemptible", "profanityFilter", "reportInputDuringAgentSpeech", "speechModel",
                "transcriptionLanguage", "ttsLanguage", "url", "voice", "welcomeGreeting", "welcomeGreetingInterruptible",
            ],
            idle: [
                ENGINES => [
                    "asrSmartFormat", "backgroundNoiseReduction", "backgroundnoisereduction", "deepgramSmartFormat",
                    "deepgramsmartformat", "eagerEotThreshold", "echoPromptFiltering", "elevenlabsLanguageTextNormalization",
                    "elevenlabsTextNormalization", "ignorebackchannel", "includeInPrompt",
                    "partialPromptOnHangup", "speechTimeout", "speechtimeout", "transcriptionProvider",
                    "ttsLanguageTextNormalization", "ttsProvider", "ttsTextNormalization", "turnDetection",
                ],
                CONSOLE => ["customerName", "intelligenceService"],
                "a lost connection ends the conversation, which is also the default" => ["applicationReconnect"],
            ],
        }
        "Language" in ["ConversationRelay"] Meaning::Part => {
            honoured: ["code", "hints", "speechModel", "voice"],
            idle: [
                ENGINES => [
                    "asrSmartFormat", "transcriptionProvider", "ttsLanguageTextNormalization", "ttsProvider",
                    "ttsTextNormalization",
                ],
            ],
        }
        "Parameter" in ["ConversationRelay"] Meaning::Part => { honoured: ["name", "value"] }
        // SSML elements. The voice decides how to render an SSML element.
        "break" in ["Say"] Meaning::Speech => { honoured: ["strength", "time"] }
        "emphasis" in ["Say"] Meaning::Speech => { honoured: ["level"] }
        "lang" in ["Say"] Meaning::Speech => { honoured: ["xml:lang"] }
        "p" in ["Say"] Meaning::Speech => {}
        "phoneme" in ["Say"] Meaning::Speech => { honoured: ["alphabet", "ph"] }
        "prosody" in ["Say"] Meaning::Speech => { honoured: ["pitch", "rate", "volume"] }
        "s" in ["Say"] Meaning::Speech => {}
        "say-as" in ["Say"] Meaning::Speech => { honoured: ["format", "interpret-as"] }
        "sub" in ["Say"] Meaning::Speech => { honoured: ["alias"] }
        "w" in ["Say"] Meaning::Speech => { honoured: ["role"] }
        // Elements that are refused, each with its error number.
        "Sms" in ["Response"] Meaning::Unsupported(13803) => {
            refused: [13803 "messages are not supported" => ["action", "from", "method", "statusCallback", "to"]],
        }
        "Sim" in ["Dial"] Meaning::Unsupported(13258) => {}
        "WhatsApp" in ["Dial"] Meaning::Unsupported(12200) => {
            refused: [
                12200 "WhatsApp is a separate network" => [
                    "method", "statusCallback", "statusCallbackEvent", "statusCallbackMethod", "url",
                ],
            ],
        }
        "VirtualAgent" in ["Connect"] Meaning::Unsupported(32604) => {
            refused: [
                32604 "part of a hosted product" => [
                    "connectorName", "language", "sentimentAnalysis", "statusCallback", "statusCallbackMethod",
                ],
            ],
        }
        "Parameter" in ["VirtualAgent"] Meaning::Unsupported(32604) => {
            refused: [32604 "part of a hosted product" => ["name", "value"]],
        }
        "AiSession" in ["Connect"] Meaning::Unsupported(13750) => {
            refused: [13750 "part of a hosted product" => ["aiConnector", "aiSessionConfiguration"]],
        }
        "Assistant" in ["Connect"] Meaning::Unsupported(13750) => {}
        "Autopilot" in ["Connect"] Meaning::Unsupported(13750) => {}
        "Conversation" in ["Connect"] Meaning::Unsupported(13750) => {
            refused: [
                13750 "part of a hosted product" => [
                    "inboundAutocreation", "inboundTimeout", "method", "record", "recordingStatusCallback",
                    "recordingStatusCallbackEvent", "recordingStatusCallbackMethod", "routingAssignmentTimeout",
                    "serviceInstanceSid", "statusCallback", "statusCallbackEvent", "statusCallbackMethod", "trim", "url",
                ],
            ],
        }
        "ConversationRelaySession" in ["Connect"] Meaning::Unsupported(13750) => {
            refused: [13750 "part of a hosted product" => ["connector", "sessionConfiguration"]],
        }
        "Room" in ["Connect"] Meaning::Unsupported(13750) => {
            refused: [13750 "part of a hosted product" => ["participantIdentity"]],
        }
    },
    base: None,
    defaults: Defaults {
        gather_timeout: Duration::from_secs(5),
        gather_finish_on_key: "#",
        gather_finish_keys: 1,
        gather_by_application: false,
        record_timeout: Duration::from_secs(5),
        record_max_length: Duration::from_secs(3600),
        record_transcribed_max_length: Duration::from_secs(120),
        record_finish_on_key: "1234567890*#",
        record_trim: true,
        action_is_current_document: true,
        dial_timeout: Duration::from_secs(30),
        dial_time_limit: Duration::from_secs(14_400),
        detects_in_milliseconds: false,
        unsent_events: &[],
        ring_tone: "us",
        conversation_language: "en-US",
        partial_prompts: false,
        masks_profanity: true,
    },
    tracks: &TRACKS,
    call_id: |text| Ids::Prefixed.parse_call(text),
    phone: party::north_american,
};

#[cfg(test)]
mod tests;
