//! cXML, SignalWire's markup: TwiML with additional verbs and attributes.

use tandem_call::recording::Track;
use tandem_markup::flavour::{Defaults, Flavour, Meaning};
use tandem_markup::rules;
use tandem_twilio::sid::Ids;
use tandem_twilio::twiml::TWIML;

/// The reason in the error for an attribute of a feature that only SignalWire's hosted service has.
const HOSTED: &str = "part of a hosted product";
/// The reason in the error for attributes with a storage URL. This server stores recordings itself, and encrypts them
/// if the configuration requires this.
const STORAGE: &str = "recordings are stored on this server";

/// The words for `track`. SignalWire's Go client omits the suffix `_track`.
const TRACKS: [(&str, Track); 6] = [
    ("inbound_track", Track::Inbound),
    ("outbound_track", Track::Outbound),
    ("both_tracks", Track::Both),
    ("inbound", Track::Inbound),
    ("outbound", Track::Outbound),
    ("both", Track::Both),
];

/// The number of the warning that an element is not supported.
const ELEMENT_NOT_SUPPORTED: u32 = 12200;

/// The table of cXML's elements.
pub static CXML: Flavour = Flavour {
    name: "cXML",
    root: "Response",
    elements: rules! {
        "Dial" in ["Response"] Meaning::Dial => {
            honoured: [
                "action", "answerOnBridge", "callReason", "callerId", "callerName", "hangupOnStar", "method", "record",
                "recordingStatusCallback", "recordingStatusCallbackEvent", "recordingStatusCallbackMethod",
                "recordingTrack", "referMethod", "referUrl", "ringTone", "sequential", "timeLimit", "timeout", "trim",
            ],
            refused: [12200 STORAGE => ["recordingStorageUrl", "recordingStorageUrlMethod"]],
        }
        "Record" in ["Response"] Meaning::Record => {
            honoured: [
                "action", "finishOnKey", "maxLength", "method", "playBeep", "recordingStatusCallback",
                "recordingStatusCallbackEvent", "recordingStatusCallbackMethod", "timeout", "transcribe",
                "transcribeCallback", "trim",
            ],
            refused: [12200 STORAGE => ["storageUrl", "storageUrlMethod"]],
        }
        "Sip" in ["Dial"] Meaning::Sip => {
            honoured: [
                "amdStatusCallback", "amdStatusCallbackMethod", "machineDetection", "machineDetectionSilenceTimeout",
                "machineDetectionSpeechEndThreshold", "machineDetectionSpeechThreshold", "machineDetectionTimeout", "method",
                "password", "statusCallback", "statusCallbackEvent", "statusCallbackMethod", "url", "username",
            ],
            idle: [
                "the trunk and media.codecs decide the codecs" => ["codecs"],
                "sip.session_expires decides the session timer" => ["sessionTimeout"],
            ],
        }
        "Stream" in ["Connect", "Response", "Start", "Stop"] Meaning::Stream => {
            honoured: ["authBearerToken", "codec", "name", "statusCallback", "statusCallbackMethod", "track", "url"],
            idle: ["audio is always sent in real time" => ["realtime"]],
        }
        "AI" in ["Connect"] Meaning::Unsupported(ELEMENT_NOT_SUPPORTED) => {}
        "VirtualAgent" in ["Connect"] Meaning::Unsupported(ELEMENT_NOT_SUPPORTED) => {}
        "Room" in ["Connect"] Meaning::Unsupported(ELEMENT_NOT_SUPPORTED) => {}
        "Verto" in ["Dial"] Meaning::Unsupported(ELEMENT_NOT_SUPPORTED) => {}
        "Denoise" in ["Response"] Meaning::Unsupported(ELEMENT_NOT_SUPPORTED) => {
            refused: [12200 HOSTED => ["direction"]],
        }
    },
    base: Some(&TWIML),
    defaults: Defaults { gather_finish_keys: 12, ..TWIML.defaults },
    tracks: &TRACKS,
    call_id: |text| Ids::Uuid.parse_call(text),
    phone: TWIML.phone,
};
