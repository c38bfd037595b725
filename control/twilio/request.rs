//! Parsing of forms that create calls, change calls, or start recordings and streams.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tandem_call::address::Address;
use tandem_call::command::Command;
use tandem_call::conference::{Beep, ConferenceSettings};
use tandem_call::fetch::{FailureKind, FetchFailure};
use tandem_call::header_fields::HeaderFields;
use tandem_call::internal_call::InternalCall;
use tandem_call::leg::{LegOwner, TargetLegs};
use tandem_call::machine_detection::{MachineDetection, Until};
use tandem_call::new_leg::{LegPlan, OnAnswer};
use tandem_call::output::Invite;
use tandem_call::program::instruction::{Credentials, Program, SendDigits};
use tandem_call::recording::{
    PauseBehavior, RecordingChannels, RecordingFormat, RecordingSource, RecordingSpec, Track,
};
use tandem_call::stream::{BidirectionalMode, ConnectTiming, StreamCodec, StreamSpec, StreamTransport};
use tandem_call::{Callback, Method, StatusEvent, Target};
use tandem_id::{AccountName, LegId};
use tandem_markup::verb::stream::CODECS;
use tandem_markup::verb::{conference, record};
use tandem_markup::{self as markup, Origin, party};
use tandem_routing::inventory::Voice;
use tandem_routing::new_call::NewCall;
use url::Url;

use super::error::{self, ApiError};
use super::family::Provider;
use super::form::Parameters;
use super::overrides;
use super::sid::{self, Ids};

/// Maximum length of an inline document, in characters.
const MAX_TWIML: usize = 4000;
/// Maximum length of `To`, in octets. The limit is high because a SIP URI may have headers.
const MAX_TO: usize = 2048;
/// Maximum number of unknown parameters for which one request gets warnings.
const MAX_UNKNOWN: usize = 20;
/// Maximum length of a user name or password for SIP digest authentication, in characters.
const MAX_CREDENTIAL: usize = 255;
/// Maximum number of a stream's custom parameters.
const MAX_STREAM_PARAMETERS: usize = 99;

/// Warning number: a list of events has a word that is not an event.
const INVALID_EVENT: u32 = 21626;

/// Prefix of parameters that set header fields of the INVITE.
const SIP_HEADER: &str = "SipHeader_";

const STATUS_EVENTS: [(&str, StatusEvent); 4] = [
    ("initiated", StatusEvent::Initiated),
    ("ringing", StatusEvent::Ringing),
    ("answered", StatusEvent::Answered),
    ("completed", StatusEvent::Completed),
];
const RECORDING_EVENTS: [(&str, StatusEvent); 4] = record::STATUS_EVENTS;
const TRACKS: [(&str, Track); 3] = [("inbound", Track::Inbound), ("outbound", Track::Outbound), ("both", Track::Both)];
pub(super) const STREAM_TRACKS: [(&str, Track); 3] =
    [("inbound_track", Track::Inbound), ("outbound_track", Track::Outbound), ("both_tracks", Track::Both)];

/// Parses a request for a new call (`POST Calls.json`). `application` finds an application of the account by the
/// application's SID.
pub(super) fn new_call(
    parameters: &Parameters,
    account: &AccountName,
    application: &dyn Fn(&str) -> Option<Voice>,
) -> Result<NewCall, ApiError> {
    let start = start(parameters, application)?;
    new_call_with(parameters, account, start)
}

/// Warnings about the events of a new participant's call, of the participant's conference and of their recordings.
pub(super) fn participant_warnings(parameters: &Parameters) -> Vec<(u32, String)> {
    let mut warnings = event_warnings(parameters, "StatusCallbackEvent", &STATUS_EVENTS);
    warnings.extend(event_warnings(parameters, "ConferenceStatusCallbackEvent", &conference::STATUS_EVENTS));
    warnings.extend(event_warnings(parameters, "ConferenceRecordingStatusCallbackEvent", &RECORDING_EVENTS));
    warnings.extend(recording_warnings(parameters));
    warnings
}

/// Warnings about the events of a new conference and of its recording.
pub(super) fn conference_warnings(parameters: &Parameters) -> Vec<(u32, String)> {
    let mut warnings = event_warnings(parameters, "StatusCallbackEvent", &conference::STATUS_EVENTS);
    warnings.extend(recording_warnings(parameters));
    warnings
}

/// Warnings about the events of a new recording.
pub(super) fn recording_warnings(parameters: &Parameters) -> Vec<(u32, String)> {
    event_warnings(parameters, "RecordingStatusCallbackEvent", &RECORDING_EVENTS)
}

/// One warning for each word of a list that is not the name of an event. [`Parameters::callback`] ignores such words.
fn event_warnings(parameters: &Parameters, name: &str, events: &[(&str, StatusEvent)]) -> Vec<(u32, String)> {
    let known: Vec<&str> = events.iter().map(|(event, _)| *event).collect();
    let unknown = parameters.all(name).filter(|word| !known.contains(word)).take(MAX_UNKNOWN);
    let warning = |word: &str| {
        let word: String = word.chars().take(80).collect();
        let known = known.join(", ");
        (INVALID_EVENT, format!("{name}: {word} is not an event that this server sends; the events are {known}"))
    };
    unknown.map(warning).collect()
}

/// A warning if one `StatusCallbackEvent` of a new call has several events. This server sends these events, but Twilio
/// takes the whole text for the name of one unknown event.
fn separate_events(parameters: &Parameters) -> Option<(u32, String)> {
    const NAME: &str = "StatusCallbackEvent";
    if parameters.provider().lists_events() {
        return None;
    }
    let values = parameters.pairs().filter(|(name, _)| *name == NAME);
    let several = |value: &str| value.trim().contains([' ', ',', '\n', '\t']);
    let (_, value) = values.into_iter().find(|(_, value)| several(value))?;
    let events: Vec<String> = parameters.all(NAME).take(MAX_UNKNOWN).map(|event| format!("{NAME}={event}")).collect();
    let value: String = value.chars().take(80).collect();
    let advice = events.join("&");
    let message = format!(
        "{NAME}={value:?} is one parameter with several events: Twilio knows no such event and sends only completed. \
         Repeat the parameter instead: {advice}"
    );
    Some((INVALID_EVENT, message))
}

/// Parses a request for a new call to a conference participant (`POST Conferences/{name}/Participants.json`). When the
/// call is answered, the call joins the conference.
pub(super) fn participant_call(
    parameters: &Parameters,
    account: &AccountName,
    program: Program,
) -> Result<NewCall, ApiError> {
    let status = parameters.callback("StatusCallback", &STATUS_EVENTS)?;
    let start = Start { first: OnAnswer::Program(program), fallback: None, status, application: None };
    let mut call = new_call_with(parameters, account, start)?;
    if let Some(detect) = &mut call.plan.detect {
        // The leg joins immediately and does not wait for the result of the detection.
        (detect.holds, detect.callback) = (false, parameters.callback("AmdStatusCallback", &[])?);
        if detect.callback.is_none() {
            return Err(ApiError::bad(21262, "MachineDetection of a participant needs an AmdStatusCallback"));
        }
    }
    Ok(call)
}

/// `CallerDisplayName`: the caller's name that the called party sees.
fn display_name(parameters: &Parameters) -> Result<Option<String>, ApiError> {
    match parameters.get("CallerDisplayName") {
        Some(text) if !(2..=255).contains(&text.chars().count()) || text.chars().any(char::is_control) => {
            Err(ApiError::bad(20001, "CallerDisplayName must have 2 to 255 characters"))
        }
        name => Ok(name.map(str::to_owned)),
    }
}

/// The header fields of the INVITE that parameters such as `SipHeader_X-Name` set.
fn own_headers(parameters: &Parameters) -> Result<HeaderFields, ApiError> {
    let mut headers = HeaderFields::new();
    for (name, value) in parameters.pairs().filter_map(|(name, value)| Some((name.strip_prefix(SIP_HEADER)?, value))) {
        if !party::is_allowed_header(name) {
            return Err(ApiError::bad(21228, format!("The SIP header {name} cannot be set")));
        }
        if value.chars().any(char::is_control) {
            return Err(ApiError::bad(21229, format!("The value of the SIP header {name} is not valid")));
        }
        headers.push((name.to_owned(), value.to_owned()));
    }
    let length: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if length >= party::MAX_HEADERS {
        return Err(ApiError::bad(21227, format!("The SIP headers have {} characters or more", party::MAX_HEADERS)));
    }
    Ok(headers)
}

/// Checks the name of a conference. An invalid name is error 13237.
pub(super) fn conference_name(text: &str) -> Result<&str, ApiError> {
    let fits = conference::is_name(text);
    fits.then_some(text).ok_or_else(|| ApiError::bad(13237, format!("The conference name {text} is not valid")))
}

/// Whether the text is a valid participant label. A label must not look like a call's SID.
pub(super) fn is_participant_label(ids: Ids, text: &str) -> bool {
    conference::is_label(text, |text| ids.parse_call(text).is_some())
}

/// The `Beep` parameter: which parties hear a beep when a participant joins or leaves.
pub(super) fn beep(parameters: &Parameters) -> Result<Beep, ApiError> {
    parameters.word("Beep", &conference::BEEPS, Beep::Both, 13235)
}

/// The settings of a whole conference. They come from the parameters that begin with `prefix`.
pub(super) fn conference_opening(parameters: &Parameters, prefix: &str) -> Result<ConferenceSettings, ApiError> {
    let name = |rest: &str| format!("{prefix}{rest}");
    let words = [("true", true), ("record-from-start", true), ("false", false), ("do-not-record", false)];
    let trims = [("trim-silence", true), ("do-not-trim", false)];
    let mut callback = parameters.callback(&name("StatusCallback"), &conference::STATUS_EVENTS)?;
    if let Some(callback) = &mut callback
        && callback.events == [StatusEvent::Completed]
    {
        // The request named no known event, so the callback gets the default events of conferences.
        callback.events = conference::USUAL.to_vec();
    }
    let record = parameters.word(&name("Record"), &words, false, 20001)?;
    let spec = RecordingSpec {
        transcribe: false,
        source: RecordingSource::Conference,
        channels: RecordingChannels::Mono,
        track: Track::Both,
        format: RecordingFormat::Wav,
        trim: parameters.word(&name("Trim"), &trims, true, 20001)?,
        max_length: None,
        silence_timeout: None,
        beep: false,
        callback: parameters.callback(&name("RecordingStatusCallback"), &RECORDING_EVENTS)?,
    };
    let region = parameters.get("Region").filter(|text| text.len() <= 32).map(Into::into);
    Ok(ConferenceSettings { callback, record: record.then_some(spec), region, ..ConferenceSettings::default() })
}

/// A URL and the HTTP method for this URL. The default method is `GET`.
pub(super) fn target_by_get(parameters: &Parameters, url: &str, method: &str) -> Result<Option<Target>, ApiError> {
    let target = parameters.target(url, method, 20001)?;
    let given = parameters.get(method).is_some();
    Ok(target.map(|target| if given { target } else { Target { method: Method::Get, ..target } }))
}

/// A new call that runs `start` when the call is answered.
fn new_call_with(parameters: &Parameters, account: &AccountName, start: Start) -> Result<NewCall, ApiError> {
    let Called { to, mut headers, handover } = called(parameters)?;
    headers.extend(own_headers(parameters)?);
    if let Some(reason) = parameters.get("CallReason").filter(|text| !text.is_empty()) {
        let bad = || ApiError::bad(20001, format!("CallReason may have at most {} characters", party::MAX_REASON));
        headers.push(party::call_reason(reason).ok_or_else(bad)?);
    }
    // Only a call to a phone number uses the BYOC trunk. A SIP URI and a client have their own routes.
    let byoc = parameters.get("Byoc").filter(|text| !text.is_empty() && matches!(to, Address::Phone(_)));
    if byoc.is_some_and(|text| sid::parse("BY", text).is_none()) {
        return Err(ApiError::bad(20001, "Byoc is not the SID of a BYOC trunk"));
    }
    let from = caller(parameters, &to)?;
    let detect = machine_detection(parameters)?;
    let timeout = parameters.number("Timeout", 1..=600, 21208)?.unwrap_or(60);
    let time_limit = parameters.number("TimeLimit", 1..=86_400, 20001)?.unwrap_or(14_400);
    let Start { first, fallback, status, application } = start;
    let record = parameters.flag("Record", false)?;
    let spec = recording(parameters, RecordingSource::Outbound, true)?;
    let dialect = parameters.provider().name();
    Ok(NewCall {
        owner: LegOwner { application, ..LegOwner::new(account.clone(), dialect) },
        invite: Invite {
            caller_name: display_name(parameters)?,
            headers,
            credentials: credentials(parameters)?,
            via: byoc.map(Arc::from).into_iter().collect(),
            ..Invite::new(to, from)
        },
        also: Vec::new(),
        plan: LegPlan {
            time_limit: Some(Duration::from_secs(time_limit)),
            then: first,
            send_digits: send_digits(parameters)?.map(SendDigits::new),
            detect: detect.map(Box::new),
            ..LegPlan::waiting(Duration::from_secs(timeout))
        },
        record: record.then_some(spec),
        fallback,
        status,
        client_state: None,
        link_to: None,
        handover,
    })
}

/// All parameters of a request for a new call.
const PARAMETERS: [&str; 41] = [
    "ApplicationSid",
    "AsyncAmd",
    "AsyncAmdStatusCallback",
    "AsyncAmdStatusCallbackMethod",
    "Byoc",
    "CallReason",
    "CallToken",
    "CallerDisplayName",
    "CallerId",
    "ClientNotificationUrl",
    "FallbackMethod",
    "FallbackUrl",
    "From",
    "IfMachine",
    "MachineDetection",
    "MachineDetectionSilenceTimeout",
    "MachineDetectionSpeechEndThreshold",
    "MachineDetectionSpeechThreshold",
    "MachineDetectionTimeout",
    "Method",
    "Passports",
    "Record",
    "RecordingChannels",
    "RecordingConfigurationId",
    "RecordingStatusCallback",
    "RecordingStatusCallbackEvent",
    "RecordingStatusCallbackMethod",
    "RecordingTimeout",
    "RecordingTrack",
    "SendDigits",
    "SipAuthPassword",
    "SipAuthUsername",
    "StatusCallback",
    "StatusCallbackEvent",
    "StatusCallbackMethod",
    "TimeLimit",
    "Timeout",
    "To",
    "Trim",
    "Twiml",
    "Url",
];

/// Warnings about the parameters of a new call. The call is created nevertheless. Each pair has a warning number and a
/// text.
pub(super) fn warnings(parameters: &Parameters) -> Vec<(u32, String)> {
    let mut warnings = Vec::new();
    if parameters.get("ApplicationSid").is_none()
        && parameters.get("Url").is_some()
        && parameters.get("Twiml").is_some()
    {
        warnings.push((32019, "Url and Twiml are both given; Url is used".to_owned()));
    }
    if let Some((to, number)) = parameters.get("To").and_then(|to| Some((to, doubled_plus(to)?))) {
        warnings.push((21211, format!("To is {to}, which is not a phone number; {number} is called instead")));
    }
    if let Some((from, number)) = parameters.get("From").and_then(|from| Some((from, doubled_plus(from)?))) {
        warnings.push((21212, format!("From is {from}, which is not a phone number; {number} is shown instead")));
    }
    if parameters.get("SendDigits").is_some() && parameters.get("MachineDetection").is_some() {
        let text = "SendDigits would be taken for the called party's answer: machine detection is off".to_owned();
        warnings.push((21263, text));
    }
    for name in ["StatusCallback", "RecordingStatusCallback", "AsyncAmdStatusCallback"] {
        let host =
            parameters.get(name).and_then(|url| Url::parse(url).ok()).and_then(|url| url.host_str().map(str::to_owned));
        if let Some(host) = host.filter(|host| host.contains('_')) {
            warnings.push((21609, format!("{name}: host {host} has an underscore, which Twilio refuses")));
        }
    }
    for name in ["Url", "FallbackUrl", "StatusCallback", "RecordingStatusCallback", "AsyncAmdStatusCallback"] {
        warnings.extend(parameters.get(name).map(overrides::faults).unwrap_or_default());
    }
    warnings.extend(event_warnings(parameters, "StatusCallbackEvent", &STATUS_EVENTS));
    warnings.extend(separate_events(parameters));
    warnings.extend(recording_warnings(parameters));
    let unknown = |(name, _): &(&str, &str)| !PARAMETERS.contains(name) && !name.starts_with(SIP_HEADER);
    warnings.extend(parameters.pairs().filter(unknown).take(MAX_UNKNOWN).map(|(name, _)| {
        let name: String = name.chars().take(80).collect();
        (20001, format!("{name} is not a parameter of a new call; it was ignored"))
    }));
    warnings
}

/// A parsed request to change a call (`POST Calls/{Sid}.json`).
#[derive(Clone, PartialEq, Debug)]
pub(super) struct CallUpdate {
    /// The change that ends the call or gives the call another document.
    pub(super) change: Option<Change>,
    /// Changes of settings, which are applied before `change`.
    pub(super) settings: Vec<Command>,
}

/// A change that ends a call or gives the call another document.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Change {
    /// `Status=canceled`: cancel the call before the answer.
    Cancel,
    /// `Status=completed`: end the call.
    Complete,
    /// Run another document. The document is in the request, or this server fetches the document.
    Redirect(Box<Command>),
}

/// Parses a request to change a call.
pub(super) fn call_update(parameters: &Parameters) -> Result<CallUpdate, ApiError> {
    let document = parameters.target("Url", "Method", 21205)?;
    let twiml = parameters.get("Twiml");
    if document.is_some() && twiml.is_some() {
        return Err(ApiError::bad(20001, "Url and Twiml are mutually exclusive"));
    }
    let change = match parameters.get("Status") {
        Some("canceled") => Some(Change::Cancel),
        Some("completed") => Some(Change::Complete),
        Some(other) => return Err(ApiError::bad(20001, format!("Status is not valid: {other}"))),
        None => match (document, twiml) {
            (Some(target), _) => Some(Change::Redirect(Box::new(Command::Redirect(target)))),
            (None, Some(twiml)) => {
                let program = inline(parameters.provider(), twiml)?;
                Some(Change::Redirect(Box::new(Command::Run(program))))
            }
            (None, None) => None,
        },
    };
    let mut settings = Vec::new();
    if let Some(callback) = parameters.callback("StatusCallback", &STATUS_EVENTS)? {
        settings.push(Command::SetCallback(Some(callback)));
    }
    if let Some(fallback) = parameters.target("FallbackUrl", "FallbackMethod", 21205)? {
        settings.push(Command::SetFallback(Some(fallback)));
    }
    if let Some(seconds) = parameters.number("TimeLimit", 1..=86_400, 20001)? {
        settings.push(Command::TimeLimit(Duration::from_secs(seconds)));
    }
    Ok(CallUpdate { change, settings })
}

/// The settings of a recording of a live call (`POST Calls/{Sid}/Recordings.json`). By default, silence at the start
/// and at the end of the recording is kept.
pub(super) fn call_recording(parameters: &Parameters) -> Result<RecordingSpec, ApiError> {
    Ok(RecordingSpec {
        transcribe: false,
        beep: parameters.flag("PlayBeep", false)?,
        ..recording(parameters, RecordingSource::Request, false)?
    })
}

/// A change of a running recording (`POST .../Recordings/{Sid}.json`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RecordingUpdate {
    /// `Status=paused`: pause the recording. `PauseBehavior` says whether the recording contains silence for the
    /// duration of the pause or omits the pause.
    Pause(PauseBehavior),
    /// `Status=in-progress`: continue the recording.
    Resume,
    /// `Status=stopped`: end the recording.
    Stop,
}

/// Parses a change of a recording.
pub(super) fn recording_update(parameters: &Parameters) -> Result<RecordingUpdate, ApiError> {
    let gaps = [("silence", PauseBehavior::Silence), ("skip", PauseBehavior::Skip)];
    let gap = parameters.word("PauseBehavior", &gaps, PauseBehavior::Silence, 20001)?;
    let words = [
        ("paused", Some(RecordingUpdate::Pause(gap))),
        ("in-progress", Some(RecordingUpdate::Resume)),
        ("stopped", Some(RecordingUpdate::Stop)),
    ];
    parameters.word("Status", &words, None, 20001)?.ok_or_else(|| ApiError::bad(20001, "Status is required"))
}

/// A stream of a live call (`POST Calls/{Sid}/Streams.json`). The stream is unidirectional unless `BidirectionalMode`
/// gives the format of the application's audio. Only SignalWire has `StreamCodec` and `AuthorizationBearerToken`.
pub(super) fn stream(parameters: &Parameters) -> Result<StreamSpec, ApiError> {
    let text = parameters.get("Url").ok_or_else(|| ApiError::bad(20001, "Url is required"))?;
    let url = Url::parse(text).map_err(|_| ApiError::bad(31923, format!("Url is not a valid URL: {text}")))?;
    if !matches!(url.scheme(), "ws" | "wss") || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(ApiError::bad(31922, format!("Url is not a WebSocket URL: {text}")));
    }
    let codecs = [("PCMU", StreamCodec::Pcmu), ("PCMA", StreamCodec::Pcma)];
    let codec = parameters.word("BidirectionalCodec", &codecs, StreamCodec::Pcmu, 20001)?;
    let modes = [("rtp", Some(BidirectionalMode::Payload(codec))), ("mp3", Some(BidirectionalMode::Files))];
    let bidirectional_mode = parameters.word("BidirectionalMode", &modes, None, 20001)?;
    Ok(StreamSpec {
        url: text.into(),
        name: parameters.get("Name").map(str::to_owned),
        track: parameters.word("Track", &STREAM_TRACKS, parameters.provider().stream_track(), 31941)?,
        // Without `StreamCodec`, a unidirectional stream is PCMU. A bidirectional stream uses the codec of the leg. The
        // first message of the stream names this codec.
        codec: match parameters.word("StreamCodec", &CODECS.map(|(word, codec)| (word, Some(codec))), None, 20001)? {
            Some(codec) => Some(codec),
            None => bidirectional_mode.is_none().then_some(StreamCodec::Pcmu),
        },
        bidirectional_mode,
        parameters: stream_parameters(parameters),
        callback: parameters.callback("StatusCallback", &[])?,
        target_legs: TargetLegs::Own,
        auth_token: parameters.get("AuthorizationBearerToken").map(str::to_owned),
        connect_timing: ConnectTiming::default(),
        transport: StreamTransport::Messages,
    })
}

/// The custom parameters for the application that receives the audio. The request has them as `Parameter1.Name`,
/// `Parameter1.Value` and so on.
pub(super) fn stream_parameters(parameters: &Parameters) -> Vec<(String, String)> {
    let pair = |number: usize| {
        let name = parameters.get(&format!("Parameter{number}.Name"))?;
        let value = parameters.get(&format!("Parameter{number}.Value")).unwrap_or_default();
        Some((name.to_owned(), value.to_owned()))
    };
    (1..=MAX_STREAM_PARAMETERS).filter_map(pair).collect()
}

/// The address that a new call goes to, with the data for the called party. `headers` are header fields of the INVITE.
/// `handover` has the parameters for a called application.
struct Called {
    to: Address,
    headers: HeaderFields,
    handover: Option<Box<InternalCall>>,
}

impl Called {
    fn with(to: Address, headers: HeaderFields) -> Self {
        Self { to, headers, handover: None }
    }
}

fn called(parameters: &Parameters) -> Result<Called, ApiError> {
    let text = parameters.get("To").ok_or_else(|| ApiError::bad(21201, "No 'To' number is specified"))?;
    let bad = || ApiError::bad(21211, format!("The 'To' number {text} is not a valid phone number."));
    if text.len() > MAX_TO || text.chars().any(char::is_control) {
        return Err(bad());
    }
    let number = doubled_plus(text).unwrap_or(text);
    if let Some(number) = party::north_american(number) {
        return Ok(Called::with(number, HeaderFields::new()));
    }
    match Address::from(number) {
        Address::Sip(_) => {
            let headers = text.split_once('?').map_or("", |(_, headers)| headers);
            if headers.len() >= party::MAX_HEADERS {
                return Err(ApiError::bad(21227, "The SIP headers of 'To' have 1024 characters or more"));
            }
            let (uri, headers) = party::split_sip_uri(text).map_err(|_| bad())?;
            if headers.iter().any(|(_, value)| value.chars().any(char::is_control)) {
                return Err(ApiError::bad(21229, "A SIP header's value is not valid"));
            }
            if headers.iter().any(|(name, _)| !party::is_allowed_header(name)) {
                return Err(ApiError::bad(21228, "A SIP header's name is not valid"));
            }
            Ok(Called::with(Address::Sip(uri.into()), headers))
        }
        Address::Client(name) => {
            let (name, parameters) = party::split_parameters(&name);
            // The called party is a phone, which takes no parameters. The parameters become header fields of the
            // INVITE.
            let headers = party::as_headers(parameters).map_err(|party::NotAHeader(name)| {
                ApiError::bad(21228, format!("The parameter {name} of 'To' cannot be a SIP header"))
            })?;
            if is_word(name) { Ok(Called::with(Address::Client(name.into()), headers)) } else { Err(bad()) }
        }
        Address::Application(text) => {
            let (id, handed) = party::split_parameters(&text);
            let ids = parameters.ids();
            let id = ids.parse("AP", id).map(|id| ids.spell("AP", id)).ok_or_else(bad)?;
            let handover = InternalCall { parameters: handed, depth: 1, ..InternalCall::default() };
            let to = Address::Application(id.into());
            Ok(Called { to, headers: HeaderFields::new(), handover: Some(Box::new(handover)) })
        }
        _ => Err(bad()),
    }
}

/// Removes all `+` but one if a number begins with more than one `+`. Some of Twilio's published examples have such
/// numbers. `None` if the number has at most one `+`.
fn doubled_plus(text: &str) -> Option<&str> {
    let digits = text.trim_start_matches('+');
    let pluses = text.len() - digits.len();
    (pluses > 1).then(|| &text[pluses - 1..])
}

fn caller(parameters: &Parameters, to: &Address) -> Result<Address, ApiError> {
    let from = parameters.get("From").ok_or_else(|| ApiError::bad(21213, "No 'From' number is specified"))?;
    let from = party_as(from, to)?;
    // `CallerId` replaces the displayed caller ID. Nevertheless `From` must be valid.
    parameters.get("CallerId").map_or(Ok(from), |shown| party_as(shown, to))
}

/// Parses a caller ID. The called party `to` must be able to display this caller ID.
fn party_as(text: &str, to: &Address) -> Result<Address, ApiError> {
    let bad = || ApiError::bad(21212, format!("The 'From' number {text} is not a valid phone number."));
    let text = doubled_plus(text).unwrap_or(text);
    let address = party::north_american(text).unwrap_or_else(|| Address::from(text));
    let fits = match (&address, to) {
        (Address::Phone(_), _) => true,
        // A trunk can show only a phone number.
        (_, Address::Phone(_)) => false,
        (Address::Sip(uri), _) => party::split_sip_uri(uri).is_ok(),
        (Address::Client(name) | Address::Name(name), _) => is_word(name),
        (Address::Application(_), _) => false,
    };
    if fits { Ok(address) } else { Err(bad()) }
}

fn is_word(text: &str) -> bool {
    (1..=256).contains(&text.len()) && !text.chars().any(|c| c.is_control() || c.is_whitespace() || "<>\"@".contains(c))
}

/// The first action of a new call, and the call's callbacks.
struct Start {
    first: OnAnswer,
    fallback: Option<Target>,
    status: Option<Callback>,
    application: Option<Arc<str>>,
}

/// The first document, the fallback document and the status callback of a new call. If the request names an
/// application, Twilio takes all three from the application. At other providers, the values of the request take
/// precedence over the values of the application.
fn start(parameters: &Parameters, application: &dyn Fn(&str) -> Option<Voice>) -> Result<Start, ApiError> {
    let provider = parameters.provider();
    let (document, twiml) = (parameters.target("Url", "Method", 21205)?, parameters.get("Twiml"));
    let status = parameters.callback("StatusCallback", &STATUS_EVENTS)?;
    let fallback = parameters.target("FallbackUrl", "FallbackMethod", 21205)?;
    let Some(sid) = parameters.get("ApplicationSid") else {
        if !provider.application_decides() {
            return Err(ApiError::bad(20001, "ApplicationSid is required"));
        }
        let first = document_or_text(provider, document, twiml)?;
        let first = first.ok_or_else(|| ApiError::bad(21205, "Url parameter is required."))?;
        return Ok(Start { first, fallback, status, application: None });
    };
    let bad = || ApiError::bad(21218, format!("ApplicationSid {sid} is not valid"));
    let voice = application(sid).ok_or_else(bad)?;
    let own = |voice: &Voice| {
        let nowhere = || ApiError::bad(21205, format!("The VoiceUrl of application {sid} is not a valid URL"));
        voice.document().map(OnAnswer::Document).ok_or_else(nowhere)
    };
    let application = Some(sid.into());
    if provider.application_decides() {
        return Ok(Start { first: own(&voice)?, fallback: voice.fallback(), status: voice.status(), application });
    }
    let first = document_or_text(provider, document, twiml)?.map_or_else(|| own(&voice), Ok)?;
    let (fallback, status) = (fallback.or_else(|| voice.fallback()), status.or_else(|| voice.status()));
    Ok(Start { first, fallback, status, application })
}

/// The first document of a new call. If the request has both a URL and a text, the URL takes precedence (Twilio's
/// warning 32019).
fn document_or_text(
    provider: &'static dyn Provider,
    document: Option<Target>,
    twiml: Option<&str>,
) -> Result<Option<OnAnswer>, ApiError> {
    Ok(match (document, twiml) {
        (Some(target), _) => Some(OnAnswer::Document(target)),
        (None, Some(twiml)) => Some(OnAnswer::Program(inline(provider, twiml)?)),
        (None, None) => None,
    })
}

fn inline(provider: &'static dyn Provider, twiml: &str) -> Result<Program, ApiError> {
    if twiml.chars().count() > MAX_TWIML {
        return Err(ApiError::bad(32018, format!("Twiml is longer than {MAX_TWIML} characters")));
    }
    markup::document(provider.flavour(), Origin::default(), twiml.as_bytes())
        .map_err(|failure| ApiError::bad(error::failure_code(&failure), detail(failure)))
}

fn detail(failure: FetchFailure) -> String {
    match failure.kind {
        FailureKind::Document(15004) => format!("Twiml: {}", failure.detail),
        _ => format!("Twiml is not valid: {}", failure.detail),
    }
}

pub(super) fn recording(
    parameters: &Parameters,
    source: RecordingSource,
    trim: bool,
) -> Result<RecordingSpec, ApiError> {
    let channels = [("mono", RecordingChannels::Mono), ("dual", RecordingChannels::Dual)];
    let silence = parameters.number("RecordingTimeout", 0..=14_400, 20001)?;
    Ok(RecordingSpec {
        transcribe: false,
        source,
        channels: parameters.word("RecordingChannels", &channels, RecordingChannels::Mono, 20001)?,
        track: parameters.word("RecordingTrack", &TRACKS, Track::Both, 20001)?,
        format: RecordingFormat::Wav,
        trim: parameters.word("Trim", &[("trim-silence", true), ("do-not-trim", false)], trim, 20001)?,
        max_length: None,
        silence_timeout: silence.filter(|seconds| *seconds > 0).map(Duration::from_secs),
        beep: false,
        callback: parameters.callback("RecordingStatusCallback", &RECORDING_EVENTS)?,
    })
}

fn send_digits(parameters: &Parameters) -> Result<Option<String>, ApiError> {
    let Some(text) = parameters.get("SendDigits") else { return Ok(None) };
    party::send_digits(text)
        .filter(|_| text.len() <= 32)
        .map(Some)
        .ok_or_else(|| ApiError::bad(21206, format!("SendDigits is not valid: {text}")))
}

fn credentials(parameters: &Parameters) -> Result<Option<Credentials>, ApiError> {
    let (username, password) = (parameters.get("SipAuthUsername"), parameters.get("SipAuthPassword"));
    let long = |text: Option<&str>| text.is_some_and(|text| text.chars().count() > MAX_CREDENTIAL);
    let is_invalid = |text: Option<&str>| text.is_some_and(|text| text.chars().any(|c| c.is_control() || c == '"'));
    for (bad, code, what) in [
        (long(username), 21221, "SipAuthUsername is longer than 255 characters"),
        (is_invalid(username), 21222, "SipAuthUsername has characters that SIP does not allow"),
        (long(password), 21223, "SipAuthPassword is longer than 255 characters"),
        (is_invalid(password), 21224, "SipAuthPassword has characters that SIP does not allow"),
        (username.is_some() != password.is_some(), 21225, "SipAuthUsername and SipAuthPassword must be given together"),
    ] {
        if bad {
            return Err(ApiError::bad(code, what));
        }
    }
    let pair = username.zip(password);
    Ok(pair.map(|(username, password)| Credentials { username: username.into(), password: password.into() }))
}

/// The settings of answering machine detection. A call with `SendDigits` has no detection, because the detection would
/// take the sent digits for speech of the called party.
fn machine_detection(parameters: &Parameters) -> Result<Option<MachineDetection>, ApiError> {
    let modes = [("Enable", Some(Until::FirstResult)), ("DetectMessageEnd", Some(Until::GreetingEnd))];
    let until = parameters.word("MachineDetection", &modes, None, 21234)?;
    let rules = parameters.provider().detection();
    let number = |name, (range, default): &(RangeInclusive<u64>, u64)| -> Result<u64, ApiError> {
        Ok(parameters.number(name, range.clone(), 21263)?.unwrap_or(*default))
    };
    let within = number("MachineDetectionTimeout", &rules.within)?;
    let within = if rules.within_seconds { Duration::from_secs(within) } else { Duration::from_millis(within) };
    let greeting = Duration::from_millis(number("MachineDetectionSpeechThreshold", &rules.greeting)?);
    let after_greeting = Duration::from_millis(number("MachineDetectionSpeechEndThreshold", &rules.after_greeting)?);
    let silence = Duration::from_millis(number("MachineDetectionSilenceTimeout", &rules.silence)?);
    let beside = parameters.flag("AsyncAmd", false)?;
    let callback = parameters.callback("AsyncAmdStatusCallback", &[])?;
    let until = until.filter(|_| parameters.get("SendDigits").is_none());
    Ok(until.map(|until| MachineDetection {
        holds: !beside,
        callback: callback.filter(|_| beside),
        ..MachineDetection::new(until, within, greeting, after_greeting, silence)
    }))
}

/// The id of the inbound leg that the new call forwards. The parameter `CallToken` contains this id.
pub(super) fn passed_on(parameters: &Parameters) -> Option<LegId> {
    let token: serde_json::Value = serde_json::from_str(parameters.get("CallToken")?).ok()?;
    parameters.ids().parse_call(token.get("parentCallInfoToken")?.as_str()?)
}

/// Converts the phone number of a party to the form in which filters compare numbers. For example, `+1 (555) 123-0001`
/// becomes `+15551230001`.
pub(super) fn filter_party(text: &str) -> String {
    party::north_american(text).map_or_else(|| text.into(), |address| address.to_string())
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
