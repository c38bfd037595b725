//! Speech recognition in Twilio's webhooks and resources: results of a gather, live transcriptions, and transcriptions
//! of recordings.

use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_call::leg::LegInfo;
use tandem_call::recognition::{RecognisedText, RecognitionSpec};
use tandem_call::recording::Track;
use tandem_call::transcription::{
    Transcript, TranscriptState, TranscriptionFacts, TranscriptionSpec, TranscriptionStatus,
};
use tandem_call::{Callback, StatusEvent};
use tandem_dialect::{Context, Notice};
use tandem_id::{LegId, TranscriptionId};
use tandem_markup::speech;
use tandem_store::resources::Resource;

use super::error::ApiError;
use super::family::Owner;
use super::form::Parameters as Form;
use super::webhook::{self, Parameters};
use super::{format, recording};

/// Error number of a failed speech recogniser. Twilio has no specific number for this failure, so the server uses
/// Twilio's generic error number.
const TRANSCRIPTION_FAILED: u32 = 12400;
/// The `type` of every transcription of a recording.
const FAST: &str = "fast";
/// The `api_version` of a recording's transcription. This version is older than the version of the rest of the API.
const TRANSCRIPT_VERSION: &str = "2008-08-01";

/// Adds the recognised words to the parameters of a gather's action.
pub(super) fn recognised(words: &RecognisedText, push: &mut impl FnMut(&str, String)) {
    push("msg", "Gather End".into());
    push("SpeechResult", words.text());
    push("Confidence", confidence(words));
    if let Some(language) = &words.language {
        push("Language", language.clone());
    }
}

/// The callback with a partial result of a running gather.
pub(super) fn partial(
    owner: Owner<'_>,
    leg: &LegInfo,
    words: &RecognisedText,
    sequence: u32,
    callback: &Callback,
) -> Notice {
    let mut parameters = webhook::standard(owner, leg, format::status(leg.status));
    let stability = words.stability.unwrap_or(if words.unstable.is_empty() { 1.0 } else { 0.0 });
    for (name, value) in [
        ("UnstableSpeechResult", words.unstable.clone()),
        ("StableSpeechResult", words.stable.clone()),
        ("Stability", decimal(stability)),
        ("SequenceNumber", sequence.to_string()),
        ("Confidence", confidence(words)),
    ] {
        parameters.push((name.to_owned(), value));
    }
    webhook::form("gather-partial", callback, parameters, false)
}

/// The callback for an event of a live transcription. `None` if the application did not request callbacks.
pub(super) fn live_event(owner: Owner<'_>, leg: &LegInfo, facts: &TranscriptionFacts, at: Timestamp) -> Option<Notice> {
    let callback = facts.spec.callback.as_ref()?;
    let (event, more) = match &facts.status {
        TranscriptionStatus::Started => ("transcription-started", started(&facts.spec)),
        TranscriptionStatus::Recognised { track, words, is_final } => {
            ("transcription-content", content(&facts.spec, *track, words, *is_final))
        }
        TranscriptionStatus::Stopped | TranscriptionStatus::FullText(_) => ("transcription-stopped", Vec::new()),
        TranscriptionStatus::Failed(why) => {
            let code = TRANSCRIPTION_FAILED.to_string();
            ("transcription-error", vec![("TranscriptionErrorCode", code), ("TranscriptionError", why.clone())])
        }
    };
    let common = [
        ("AccountSid", owner.sid.to_owned()),
        ("CallSid", owner.ids.call(leg.id)),
        ("TranscriptionSid", owner.ids.transcription(facts.id)),
        ("TranscriptionEvent", event.to_owned()),
        ("Timestamp", format::iso8601(at)),
        ("SequenceId", (facts.sequence + 1).to_string()),
    ];
    let parameters: Parameters = common.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)).collect();
    Some(webhook::form(event, callback, parameters, false))
}

fn started(spec: &TranscriptionSpec) -> Vec<(&'static str, String)> {
    let recognition = &spec.recognition;
    let (engine, model) = &spec.engine;
    let configuration = json!({
        "profanityFilter": recognition.no_profanity.to_string(),
        "speechModel": model,
        "enableAutomaticPunctuation": recognition.punctuation.to_string(),
        "hints": recognition.hints.join(", "),
    });
    let mut parameters = vec![
        ("LanguageCode", recognition.language.clone().unwrap_or_default()),
        ("Track", track_word(spec.track).to_owned()),
        ("TranscriptionEngine", engine.clone()),
        ("ProviderConfiguration", configuration.to_string()),
        ("PartialResults", recognition.partials.to_string()),
    ];
    let (inbound, outbound) = &spec.labels;
    let named = [("Name", &spec.name), ("InboundTrackLabel", inbound), ("OutboundTrackLabel", outbound)];
    parameters.extend(named.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
    parameters
}

fn content(
    spec: &TranscriptionSpec,
    track: Track,
    words: &RecognisedText,
    is_final: bool,
) -> Vec<(&'static str, String)> {
    let data = json!({ "transcript": words.text(), "confidence": sure(words) });
    let language = words.language.clone().or_else(|| spec.recognition.language.clone());
    let mut parameters = vec![
        ("LanguageCode", language.unwrap_or_default()),
        ("Track", track_word(track).to_owned()),
        ("TranscriptionData", data.to_string()),
        ("Final", is_final.to_string()),
    ];
    if !is_final {
        parameters.push(("Stability", decimal(words.stability.unwrap_or_default())));
    }
    parameters
}

/// The callback with the transcription of a recording, or with the failure of the transcription.
pub(super) fn transcribed(
    owner: Owner<'_>,
    leg: &LegInfo,
    transcript: &Transcript,
    context: &Context,
) -> Option<Notice> {
    let callback = transcript.callback.as_ref()?;
    let (transcription, recording) =
        (owner.ids.transcript(transcript.id), owner.ids.recording(transcript.recording.id));
    let mut parameters = webhook::standard(owner, leg, format::status(leg.status));
    let path = owner.path(format_args!("Transcriptions/{transcription}"));
    for (name, value) in [
        ("TranscriptionSid", transcription),
        ("TranscriptionText", text(transcript).unwrap_or_default()),
        ("TranscriptionStatus", status(transcript).to_owned()),
        ("TranscriptionType", FAST.to_owned()),
        ("TranscriptionUrl", format!("{}{path}", context.public_url)),
        ("RecordingUrl", owner.recording_url(&context.public_url, &recording)),
        ("RecordingSid", recording),
    ] {
        parameters.push((name.to_owned(), value));
    }
    Some(webhook::form("transcription", callback, parameters, false))
}

/// The Transcription resource of a recording.
pub(super) fn transcript(owner: Owner<'_>, row: &Resource<Transcript>) -> Value {
    let facts = &row.details;
    let sid = owner.ids.transcript(facts.id);
    let mut value = json!({
        "sid": sid,
        "account_sid": owner.sid,
        "api_version": TRANSCRIPT_VERSION,
        "date_created": format::rfc2822(row.created_at),
        "date_updated": format::rfc2822(row.updated_at),
        "duration": format::recording_seconds(&facts.recording).to_string(),
        "price": null,
        "price_unit": "USD",
        "recording_sid": owner.ids.recording(facts.recording.id),
        "status": status(facts),
        "transcription_text": text(facts),
        "type": FAST,
        "uri": owner.uri(format_args!("Transcriptions/{sid}")),
    });
    // Twilio's resource has no `call_sid`.
    if let (Some(_), Some(fields)) = (owner.provider.answer(), value.as_object_mut()) {
        fields.insert("call_sid".into(), owner.ids.call(facts.recording.leg).into());
    }
    value
}

/// The transcribed text. `None` if the transcription is in progress or has failed.
pub(super) fn text(transcript: &Transcript) -> Option<String> {
    match &transcript.state {
        TranscriptState::Completed(words) => Some(words.text()),
        TranscriptState::InProgress | TranscriptState::Failed(_) => None,
    }
}

fn status(transcript: &Transcript) -> &'static str {
    match transcript.state {
        TranscriptState::InProgress => "in-progress",
        TranscriptState::Completed(_) => "completed",
        TranscriptState::Failed(_) => "failed",
    }
}

/// The resource of a live transcription.
pub(super) fn live(
    owner: Owner<'_>,
    call: LegId,
    id: TranscriptionId,
    name: Option<&str>,
    status: &'static str,
    now: Timestamp,
) -> Value {
    recording::companion(owner, call, ("Transcriptions", owner.ids.transcription(id)), name, status, now)
}

/// Parses a request for a live transcription.
pub(super) fn spec(parameters: &Form) -> Result<TranscriptionSpec, ApiError> {
    let tracks = speech::TRACKS;
    let target = parameters.target("StatusCallbackUrl", "StatusCallbackMethod", 21502)?;
    let own = |name: &str| parameters.get(name).map(str::to_owned);
    let engine = own("TranscriptionEngine").unwrap_or_else(|| speech::ENGINE.to_owned());
    let model = own("SpeechModel").unwrap_or_else(|| speech::MODEL.to_owned());
    Ok(TranscriptionSpec {
        name: own("Name"),
        track: parameters.word("Track", &tracks, Track::Both, 20001)?,
        recognition: RecognitionSpec {
            language: Some(own("LanguageCode").unwrap_or_else(|| speech::LANGUAGE.to_owned())),
            hints: speech::hints(parameters.get("Hints").unwrap_or_default()),
            model: speech::model(&engine, &model),
            partials: parameters.flag("PartialResults", false)?,
            no_profanity: parameters.flag("ProfanityFilter", true)?,
            punctuation: parameters.flag("EnableAutomaticPunctuation", true)?,
            ..RecognitionSpec::default()
        },
        labels: (own("InboundTrackLabel"), own("OutboundTrackLabel")),
        engine: (engine, model),
        at_end: false,
        if_none_runs: false,
        callback: target.map(|target| Callback::new(target, vec![StatusEvent::Completed])),
    })
}

fn track_word(track: Track) -> &'static str {
    speech::TRACKS.iter().find(|(_, one)| *one == track).map_or("", |(word, _)| word)
}

/// The confidence of recognised words, from 0 to 1. If the engine reports no confidence, the value is 1, because
/// applications require a minimum confidence. If there are no words and no confidence, the value is 0.
fn sure(words: &RecognisedText) -> f64 {
    words.decimal_confidence().unwrap_or(if words.text().is_empty() { 0.0 } else { 1.0 })
}

fn confidence(words: &RecognisedText) -> String {
    format!("{:?}", sure(words))
}

fn decimal(number: f32) -> String {
    format!("{:?}", (f64::from(number) * 1e6).round() / 1e6)
}
