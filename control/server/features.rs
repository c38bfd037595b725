//! The table of features in docs/compatibility.md: each provider's spelling of a feature, and whether this server
//! honours it. The table is generated from the flavours' tables of elements and from the measured parameters of
//! commands.

use std::collections::BTreeMap;

use tandem_markup::flavour::{AttributeSupport, Flavour, Meaning};
use tandem_signalwire::cxml::CXML;
use tandem_signalwire::swml;
use tandem_texml::markup::TEXML;
use tandem_twilio::twiml::TWIML;

const PAGE: &str = "../../docs/compatibility.md";
/// The page with the measured support of each command's parameters. A test of the commands' dialect writes it.
const MEASURED: &str = "../../docs/call-control.md";
const BEGIN: &str =
    "<!-- features: written by a test, UPDATE_DOCS=1 cargo test -p tandem-server features_in_the_docs -->\n";
const END: &str = "<!-- /features -->";

/// A feature's common name; then its `Element.attribute` in documents, its `command.parameter` in Call Control, and its
/// method in SWML. The table shows the first one that a provider knows.
type Feature = (&'static str, &'static [&'static str], &'static [&'static str], &'static [&'static str]);

const FEATURES: &[Feature] = &[
    ("answer", &[], &["answer"], &["answer"]),
    ("refuse a call", &["Reject.reason"], &["reject.cause"], &["hangup"]),
    ("hang up", &["Hangup"], &["hangup"], &["hangup"]),
    ("speak text", &["Say"], &["speak.payload"], &["play"]),
    ("speak with SSML", &["prosody"], &["speak.payload_type"], &[]),
    ("play a file", &["Play"], &["playback_start.audio_url"], &["play"]),
    ("play a stored file", &[], &["playback_start.media_name"], &[]),
    ("play audio of the request", &[], &["playback_start.playback_content"], &[]),
    ("play over and over", &["Play.loop"], &["playback_start.loop"], &[]),
    ("play over something else", &[], &["playback_start.overlay"], &[]),
    ("let both sides of a bridge hear it", &[], &["playback_start.target_legs"], &[]),
    ("pause", &["Pause.length"], &[], &["sleep"]),
    ("gather keys", &["Gather.numDigits"], &["gather.maximum_digits"], &["prompt"]),
    ("gather after a prompt", &["Gather.input"], &["gather_using_speak.payload"], &["prompt"]),
    ("ask again after a wrong key", &["Gather.invalidDigitsAction"], &["gather_using_speak.maximum_tries"], &[]),
    ("only some keys", &["Gather.validDigits"], &["gather.valid_digits"], &[]),
    ("gather speech", &["Gather.speechTimeout"], &[], &["prompt"]),
    ("partial results of speech", &["Gather.partialResultCallback"], &[], &[]),
    ("gather with a language model", &["AIGather"], &["gather_using_ai"], &["ai"]),
    ("send keys", &["Play.digits", "Number.sendDigits"], &["send_dtmf.digits"], &["send_digits"]),
    ("record a message", &["Record.maxLength"], &["record_start.max_length"], &["record"]),
    ("record the call", &["Recording", "Dial.record"], &["record_start"], &["record_call"]),
    (
        "record each side on a channel",
        &["Recording.channels", "Dial.record"],
        &["record_start.channels"],
        &["record_call"],
    ),
    ("record as MP3", &["Record.format"], &["record_start.format"], &["record_call"]),
    ("record one side", &["Dial.recordingTrack"], &["record_start.recording_track"], &["record_call"]),
    ("hold a recording", &[], &["record_pause"], &[]),
    ("transcribe a recording", &["Record.transcribe"], &["record_start.transcription"], &["transcribe"]),
    ("transcribe while they speak", &["Transcription"], &["transcription_start"], &["live_transcribe"]),
    ("translate while they speak", &[], &[], &["live_translate"]),
    ("dial a number", &["Number"], &["dial.to"], &["connect"]),
    ("dial a SIP URI", &["Sip"], &["transfer.to"], &["connect"]),
    ("dial a browser", &["Client"], &[], &["connect"]),
    ("several at once", &["Dial"], &["dial.to"], &["connect"]),
    ("one after the other", &["Dial.sequential"], &[], &["connect"]),
    ("how long it rings", &["Dial.timeout"], &["dial.timeout_secs"], &["connect"]),
    ("how long they talk", &["Dial.timeLimit"], &["dial.time_limit_secs"], &["connect"]),
    ("caller id", &["Dial.callerId"], &["dial.from"], &["connect"]),
    ("caller's name", &["Dial.callerName"], &["dial.from_display_name"], &["connect"]),
    ("ringback of a country", &["Dial.ringTone"], &["bridge.play_ringtone"], &["connect"]),
    ("header fields of SIP", &["Header.value"], &["dial.custom_headers"], &["connect"]),
    ("encrypted media by request", &[], &["dial.media_encryption"], &["connect.encryption"]),
    ("preferred codecs", &["Number.codecs", "Dial.preferredCodecs"], &["dial.preferred_codecs"], &["connect.codecs"]),
    (
        "who is there: person, machine",
        &["Number.machineDetection"],
        &["dial.answering_machine_detection"],
        &["detect_machine"],
    ),
    ("whisper to the called one first", &["Number.url"], &["dial.audio_url"], &["connect"]),
    ("join two calls", &[], &["bridge.call_control_id"], &[]),
    ("stay when the other goes", &["Dial.action"], &["bridge.park_after_unbridge"], &["connect"]),
    ("transfer by REFER", &["Refer"], &["refer.sip_address"], &["sip_refer"]),
    ("wait in a queue", &["Enqueue"], &["enqueue.queue_name"], &["enter_queue"]),
    ("take who waits", &["Queue"], &["bridge.queue"], &["connect"]),
    ("stay in the queue after hanging up", &[], &["enqueue.keep_after_hangup"], &[]),
    ("conference", &["Conference"], &["/v2/conferences"], &["join_conference"]),
    ("coach in a conference", &["Conference.coach"], &["switch_supervisor_role.role"], &["join_conference"]),
    ("supervise a call", &[], &["dial.supervise_call_control_id"], &[]),
    ("media stream, one way", &["Stream.url"], &["streaming_start.stream_url"], &["stream"]),
    ("media stream, both ways", &["Connect"], &["streaming_start.stream_bidirectional_mode"], &["connect"]),
    (
        "its codec",
        &["Stream.codec", "Stream.bidirectionalCodec"],
        &["streaming_start.stream_bidirectional_codec"],
        &["stream"],
    ),
    ("ConversationRelay", &["ConversationRelay"], &["conversation_relay_start"], &[]),
    ("fork as RTP", &[], &["fork_start"], &["tap"]),
    ("SIPREC", &["Siprec"], &["siprec_start"], &[]),
    ("noise suppression", &["Suppression.direction", "Denoise"], &["suppression_start.direction"], &["denoise"]),
    ("SIP INFO", &[], &["send_sip_info"], &[]),
    ("take a payment", &["Pay"], &["pay"], &["pay"]),
    ("an HTTP request of the document", &["HttpRequest"], &[], &["request"]),
    ("state of the application", &[], &["dial.client_state"], &["set"]),
    ("the same request twice does it once", &[], &["dial.command_id"], &[]),
    ("webhooks elsewhere", &["Number.statusCallback"], &["dial.webhook_url"], &["connect"]),
];

const NOTHING: &str = "–";
/// SWML parameters that are accepted without effect (docs/swml.md).
const SWML_IDLE: [&str; 2] = ["codecs", "encryption"];

fn markup(flavour: &'static Flavour, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| {
        let (element, attribute) = name.split_once('.').unwrap_or((name, ""));
        let rules: Vec<_> = flavour.rules().filter(|rule| rule.name == element).collect();
        // A flavour's own rule takes precedence over a shared rule.
        let rule = rules.iter().find(|rule| attribute.is_empty() || rule.standing(attribute).is_some())?;
        let spelled = format!("`<{}>`", format!("{element} {attribute}").trim_end());
        let standing = if attribute.is_empty() { None } else { rule.standing(attribute) };
        Some(match (rule.meaning, standing) {
            (Meaning::Unsupported(_) | Meaning::Pay, _) | (_, Some(AttributeSupport::Refused(..))) => {
                format!("refused: {spelled}")
            }
            (_, Some(AttributeSupport::Idle(_))) => format!("without effect: {spelled}"),
            (_, Some(AttributeSupport::Honoured) | None) => spelled,
        })
    })
}

/// The columns of the measured table: honoured, without effect, refused.
type Measured = BTreeMap<String, [Vec<String>; 3]>;

fn measured() -> Measured {
    let page = std::fs::read_to_string(MEASURED).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let parsed = rows.map(|(command, cells)| {
        let mut cells = cells.split('|').map(|cell| cell.split(',').map(|name| name.trim().to_owned()).collect());
        (command.to_owned(), std::array::from_fn(|_| cells.next().unwrap()))
    });
    parsed.collect()
}

fn command(measured: &Measured, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| {
        let (command, parameter) = name.split_once('.').unwrap_or((name, ""));
        let spelled = format!("`{}`", format!("{command} {parameter}").trim_end());
        if name.starts_with('/') {
            return Some(format!("`{name}`"));
        }
        let Some(columns) = measured.get(command) else { return Some(format!("refused: {spelled}")) };
        if parameter.is_empty() {
            return Some(spelled);
        }
        let column = columns.iter().position(|names| names.iter().any(|name| name == parameter))?;
        Some(match column {
            0 => spelled,
            1 => format!("without effect: {spelled}"),
            _ => format!("refused: {spelled}"),
        })
    })
}

fn method(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| {
        let spelled = format!("SWML `{}`", name.replace('.', " "));
        let (name, parameter) = name.split_once('.').unwrap_or((name, ""));
        if SWML_IDLE.contains(&parameter) {
            return Some(format!("without effect: {spelled}"));
        }
        Some(if swml::serves(name)? { spelled } else { format!("refused: {spelled}") })
    })
}

fn table() -> String {
    let measured = measured();
    let mut text = "| feature | Twilio | TeXML | Telnyx | SignalWire |\n|---|---|---|---|---|\n".to_owned();
    for (feature, elements, commands, methods) in FEATURES {
        let signalwire: Vec<String> = [markup(&CXML, elements), method(methods)].into_iter().flatten().collect();
        let cells = [
            markup(&TWIML, elements),
            markup(&TEXML, elements),
            command(&measured, commands),
            (!signalwire.is_empty()).then(|| signalwire.join(", ")),
        ];
        assert!(cells.iter().any(Option::is_some), "{feature}: nobody has it");
        let cells = cells.map(|cell| cell.unwrap_or_else(|| NOTHING.to_owned()));
        text.push_str(&format!("| {feature} | {} |\n", cells.join(" | ")));
    }
    text
}

#[test]
fn the_features_in_the_docs_are_those_that_are_here() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the table's place is marked");
    let (_, after) = rest.split_once(END).expect("and its end");
    let new = format!("{before}{BEGIN}{}{END}{after}", table());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, &new).unwrap();
    }
    let stale = "the features in docs/compatibility.md are stale: UPDATE_DOCS=1 cargo test -p tandem-server features_in_the_docs";
    assert!(std::fs::read_to_string(PAGE).unwrap() == new, "{stale}");
}
