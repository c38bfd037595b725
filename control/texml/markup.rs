//! TeXML, Telnyx's markup: TwiML with additional verbs and attributes, and with different defaults.

use std::time::Duration;

use tandem_markup::flavour::{Defaults, Flavour, Meaning};
use tandem_markup::rules;
use tandem_telnyx::id;
use tandem_twilio::twiml::TWIML;

/// Explains why attributes that name a speech engine have no effect: this server uses its own speech engines.
const ENGINES: &str = "the server has its own speech engines";
/// Explains why `detectionMode` has no effect: this server has only one answering machine detector.
const ONE_DETECTOR: &str = "there is only one detector";
/// Explains why `sendRecordingUrl` and `format` have no effect. This server always sends the URL of a recording, and
/// the audio is available as WAV and MP3.
const ALWAYS: &str = "a recording's URL is always sent";

/// Warning number: an element is not supported.
const ELEMENT_NOT_SUPPORTED: u32 = 12200;

/// The table of TeXML's elements and their defaults.
pub static TEXML: Flavour = Flavour {
    name: "TeXML",
    root: "Response",
    elements: rules! {
        "Gather" in ["Response"] Meaning::Gather => {
            honoured: [
                "action", "actionOnEmptyResult", "bargeIn", "finishOnKey", "hints", "input", "language", "maxDigits",
                "maxSpeechTime", "method", "minDigits", "numDigits", "partialResultCallback",
                "partialResultCallbackMethod", "profanityFilter", "speechModel", "speechTimeout", "timeout", "validDigits",
            ],
            idle: [ENGINES => ["transcriptionEngine", "useEnhanced"]],
            refused: [12200 "the digits are sent to the action" => ["invalidDigitsAction"]],
        }
        "Record" in ["Response"] Meaning::Record => {
            honoured: [
                "action", "channels", "finishOnKey", "maxLength", "method", "playBeep", "recordingStatusCallback",
                "recordingStatusCallbackEvent", "recordingStatusCallbackMethod", "timeout", "transcription",
                "transcriptionCallback", "trim",
            ],
            idle: [ALWAYS => ["format", "sendRecordingUrl"], ENGINES => ["transcriptionEngine"]],
        }
        "Dial" in ["Response"] Meaning::Dial => {
            honoured: [
                "action", "answerOnBridge", "callerId", "fromDisplayName", "hangupOnStar", "method", "record",
                "recordMaxLength", "recordingChannels", "recordingStatusCallback", "recordingStatusCallbackEvent",
                "recordingStatusCallbackMethod", "recordingTrack", "ringTone", "sequential", "timeLimit", "timeout", "trim",
            ],
            idle: [ALWAYS => ["sendRecordingUrl"], "the trunk's configuration decides this" => ["passDiversionHeader"]],
            refused: [12200 "no audio is played to the called party" => ["audioUrl"]],
        }
        "Number" in ["Dial"] Meaning::Number => {
            honoured: [
                "machineDetection", "machineDetectionSilenceTimeout", "machineDetectionSpeechEndThreshold",
                "machineDetectionSpeechThreshold", "machineDetectionTimeout", "method", "sendDigits", "statusCallback",
                "statusCallbackEvent", "statusCallbackMethod", "url",
            ],
            idle: [ONE_DETECTOR => ["detectionMode"]],
        }
        "Sip" in ["Dial"] Meaning::Sip => {
            honoured: [
                "machineDetection", "machineDetectionSilenceTimeout", "machineDetectionSpeechEndThreshold",
                "machineDetectionSpeechThreshold", "machineDetectionTimeout", "method", "password", "statusCallback",
                "statusCallbackEvent", "statusCallbackMethod", "url", "username",
            ],
            idle: [ONE_DETECTOR => ["detectionMode"]],
        }
        "Sip" in ["Refer"] Meaning::Sip => {}
        "Conference" in ["Dial"] Meaning::Conference => {
            honoured: [
                "beep", "coach", "endConferenceOnExit", "maxParticipants", "muted", "participantLabel", "record",
                "recordingStatusCallback", "recordingStatusCallbackEvent", "recordingStatusCallbackMethod",
                "startConferenceOnEnter", "statusCallback", "statusCallbackEvent", "statusCallbackMethod", "trim",
                "waitMethod", "waitUrl",
            ],
            idle: [ALWAYS => ["sendRecordingUrl"], "a recording starts without a beep" => ["recordBeep", "recordingTimeout"]],
        }
        "Enqueue" in ["Response"] Meaning::Enqueue => {
            honoured: ["action", "maxQueueSize", "method", "waitUrl", "waitUrlMethod"],
            refused: [12200 "the wait document can end the wait" => ["maxWaitTimeSecs"]],
        }
        "Play" in ["Response", "Gather"] Meaning::Play => {
            honoured: ["digits", "loop"],
            refused: [12200 "there is no media storage" => ["mediaStorage"]],
        }
        "Stream" in ["Connect", "Start", "Stop"] Meaning::Stream => {
            honoured: [
                "bidirectionalCodec", "bidirectionalMode", "bidirectionalSamplingRate", "codec", "name", "statusCallback",
                "statusCallbackMethod", "track", "url",
            ],
            idle: ["a lost connection ends the stream" => ["enableReconnect"]],
        }
        "AIGather" in ["Response"] Meaning::AgentGather => { honoured: ["action", "method"] }
        "Greeting" in ["AIGather"] Meaning::Part => {}
        "Parameters" in ["AIGather"] Meaning::Part => {}
        "Voice" in ["AIGather"] Meaning::Part => {
            honoured: ["name"],
            idle: [ENGINES => ["api_key_ref", "voice_speed"]],
        }
        "MessageHistory" in ["AIGather"] Meaning::Part => {}
        "Message" in ["MessageHistory"] Meaning::Part => { honoured: ["role"] }
        "InterruptionSettings" in ["AIGather"] Meaning::Part => { honoured: ["enable"] }
        "Transcription" in ["AIGather"] Meaning::Part => {
            honoured: ["language"],
            idle: [ENGINES => ["model"]],
        }
        "Assistant" in ["AIGather"] Meaning::Part => {
            honoured: ["instructions"],
            idle: ["the configuration has the language models" => ["api_key_ref", "model"]],
        }
        "Tools" in ["AIGather", "Assistant"] Meaning::Part => {}
        "Tool" in ["Tools"] Meaning::Part => {}
        "AIAssistant" in ["Connect"] Meaning::Assistant => {
            honoured: ["dynamicVariables", "id"],
            refused: [12200 "an agent talks with one leg" => ["join", "participantName", "participantRole"]],
        }
        "ConversationRelay" in ["Connect"] Meaning::Conversation => {
            honoured: [
                "dtmfDetection", "interruptible", "language", "url", "voice", "welcomeGreeting",
                "welcomeGreetingInterruptible",
            ],
            idle: [ENGINES => ["transcriptionProvider", "ttsProvider"]],
        }
        "Language" in ["ConversationRelay"] Meaning::Part => {
            honoured: ["code", "speechModel", "voice"],
            idle: [ENGINES => ["transcriptionProvider", "ttsProvider"]],
        }
        "HttpRequest" in ["Response"] Meaning::Unsupported(ELEMENT_NOT_SUPPORTED) => {}
        "Suppression" in ["Start", "Stop"] Meaning::Suppression => {
            honoured: ["direction"],
            idle: ["there is only one engine" => ["engine", "noiseSuppressionEngine"]],
        }
        "Client" in ["Dial"] Meaning::Unsupported(ELEMENT_NOT_SUPPORTED) => {}
        "Application" in ["Dial"] Meaning::Unsupported(ELEMENT_NOT_SUPPORTED) => {}
        "Pay" in ["Response"] Meaning::Unsupported(ELEMENT_NOT_SUPPORTED) => {}
        "Prompt" in ["Pay"] Meaning::Unsupported(ELEMENT_NOT_SUPPORTED) => {}
    },
    base: Some(&TWIML),
    tracks: TWIML.tracks,
    defaults: Defaults {
        gather_finish_keys: 12,
        gather_by_application: true,
        record_timeout: Duration::ZERO,
        record_transcribed_max_length: Duration::from_secs(3600),
        detects_in_milliseconds: true,
        unsent_events: &["dtmf"],
        conversation_language: "en",
        partial_prompts: true,
        masks_profanity: false,
        ..TWIML.defaults
    },
    call_id: id::parse_call_control_id,
    phone: TWIML.phone,
};
