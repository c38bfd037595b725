//! `POST /v2/calls`: converts JSON into a new call.

use std::sync::Arc;
use std::time::Duration;

use tandem_call::address::Address;
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::{EndCause, LegOwner};
use tandem_call::machine_detection::MachineDetection;
use tandem_call::new_leg::{LegPlan, OnAnswer};
use tandem_call::output::Invite;
use tandem_call::program::instruction::{AudioSource, Credentials, Play, SendDigits};
use tandem_call::recording::RecordingSource;
use tandem_call::stream::{ConnectTiming, StreamSpec};
use tandem_call::supervision::{Supervision, SupervisorRole};
use tandem_call::{Callback, Target};
use tandem_id::AccountName;
use tandem_routing::new_call::NewCall;
use tandem_settings::Application;

use super::error::ApiError;
use super::parameters::{ALL_EVENTS, Parameters, WEB};
use super::{action, machine_detection, media};
use crate::NAME;

const RINGING_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_DURATION: Duration = Duration::from_secs(14_400);

/// The roles of a supervisor. The role decides which legs hear the supervisor.
pub(super) const SUPERVISORS: &[(&str, SupervisorRole)] =
    &[("barge", SupervisorRole::Barge), ("whisper", SupervisorRole::Whisper), ("monitor", SupervisorRole::Monitor)];

/// The parameters of a new outbound leg. The actions dial and transfer both have these parameters.
pub(super) struct Outbound {
    pub(super) caller_name: Option<String>,
    pub(super) headers: HeaderFields,
    pub(super) credentials: Option<Credentials>,
    pub(super) timeout: Duration,
    pub(super) time_limit: Duration,
    pub(super) send_digits: Option<String>,
    /// The settings of answering machine detection.
    pub(super) detect: Option<Box<MachineDetection>>,
    /// Audio for the called party only. The audio is played after the answer.
    pub(super) audio: Option<Play>,
}

/// Parses and checks the parameters of a new outbound leg. The far end cannot notice regions and codec preferences, so
/// these parameters are accepted without effect. The far end can notice encryption, so a request for encryption is
/// refused.
pub(super) fn outbound(parameters: Parameters<'_>) -> Result<Outbound, ApiError> {
    if parameters.check("media_encryption", &["disabled", "SRTP", "DTLS"])?.is_some_and(|mode| mode != "disabled") {
        return Err(ApiError::not_permitted("media_encryption"));
    }
    let audio = file(parameters, "audio_url", "media_name")?;
    parameters.check("sip_region", &["US", "Europe", "Canada", "Australia", "Middle East"])?;
    let codecs = ["G722", "PCMU", "PCMA", "G729", "OPUS", "VP8", "H264", "AMR-WB"];
    if let Some(preferred) = parameters.text("preferred_codecs")?
        && !preferred.split(',').all(|codec| codecs.contains(&codec.trim()))
    {
        return Err(ApiError::not_one_of("preferred_codecs", &codecs));
    }
    Ok(Outbound {
        caller_name: parameters.display_name()?,
        headers: parameters.invite_headers()?,
        credentials: parameters.credentials()?,
        timeout: parameters.seconds("timeout_secs", 5..=600)?.unwrap_or(RINGING_TIMEOUT),
        time_limit: parameters.seconds("time_limit_secs", 30..=14_400)?.unwrap_or(MAX_DURATION),
        send_digits: parameters.digits("send_digits_on_answer")?,
        detect: machine_detection::detection(parameters)?.map(Box::new),
        audio: audio.map(Play::once),
    })
}

/// An audio file. The request has the URL of the file, or the name of a stored file.
pub(super) fn file(parameters: Parameters<'_>, url: &str, stored: &str) -> Result<Option<AudioSource>, ApiError> {
    let by_url = parameters.url(url, WEB)?.map(AudioSource::Url);
    // Some clients cannot omit the parameter and send an empty text instead.
    let name = parameters.text(stored)?.filter(|name| !name.is_empty());
    match (by_url, name) {
        (Some(_), Some(_)) => Err(ApiError::bad_value(url, "Only one source of audio may be given.")),
        (by_url, name) => Ok(by_url.or_else(|| name.map(|name| AudioSource::Stored(name.to_owned())))),
    }
}

/// The called addresses. If the request names a transport, the SIP URIs contain this transport.
pub(super) fn callees(parameters: Parameters<'_>) -> Result<Vec<Address>, ApiError> {
    let several = parameters.callees("to")?;
    let transport = parameters.check("sip_transport_protocol", &["UDP", "TCP", "TLS"])?;
    let over = |to| match (to, transport) {
        // The transport parameter of the URI takes precedence (RFC 3261 §19.1.1).
        (Address::Sip(uri), Some(transport @ ("TCP" | "TLS")))
            if !uri.to_ascii_lowercase().contains(";transport=") && !uri.contains('?') =>
        {
            Address::Sip(format!("{uri};transport={}", transport.to_ascii_lowercase()).into())
        }
        (to, _) => to,
    };
    Ok(several.into_iter().map(over).collect())
}

/// Parses the request for a new call. `application` finds an application of the account by its id.
pub(super) fn new_call(
    parameters: Parameters<'_>,
    account: &AccountName,
    application: impl FnOnce(&str) -> Option<Application>,
) -> Result<NewCall, ApiError> {
    let connection = parameters.required("connection_id")?;
    let application = application(connection).filter(|application| &*application.provider == NAME);
    let application = application.ok_or_else(ApiError::no_such_connection)?;
    let mut callees = callees(parameters)?.into_iter();
    let to = callees.next().ok_or_else(|| ApiError::missing("to"))?;
    parameters.required("from")?;
    let from = parameters.caller("from")?.ok_or_else(|| ApiError::missing("from"))?;
    // Only a call to a SIP URI can have a name as the caller ID. A call to a phone number needs a phone number as the
    // caller ID.
    let calls_a_number = std::iter::once(&to).chain(callees.as_slice()).any(|to| matches!(to, Address::Phone(_)));
    if calls_a_number && !matches!(from, Address::Phone(_)) {
        return Err(ApiError::not_e164("from"));
    }
    parameters.refuse(&["deepfake_detection", "dialogflow_config", "enable_dialogflow", "transcription"])?;
    parameters.flag("send_silence_when_idle")?;
    // There is only one route. So `retry_on_timeout` only changes the end cause of an unanswered call.
    let retries = parameters.get("retry_on_timeout").is_none() || parameters.flag("retry_on_timeout")?;
    let outbound = outbound(parameters)?;
    let (role, supervises) =
        (parameters.word("supervisor_role", SUPERVISORS)?, parameters.leg("supervise_call_control_id")?);
    let link_to = parameters.leg("link_to")?.or(supervises);
    if supervises.is_some_and(|leg| link_to != Some(leg)) {
        let detail = "The call can be linked only to the supervised call.";
        return Err(ApiError::bad_value("link_to", detail));
    }
    let then = match (outbound.audio, supervises, action::conversation(parameters)?) {
        (None, None, None) => OnAnswer::Wait,
        (Some(audio), None, None) => OnAnswer::Play(audio),
        (None, None, Some(spec)) => OnAnswer::Converse(Box::new(spec)),
        (None, Some(of), None) => OnAnswer::Supervise(Supervision { of, role: role.unwrap_or(SupervisorRole::Barge) }),
        (audio, supervises, _) => {
            let (name, other) = match (audio, supervises) {
                (Some(_), Some(_)) => ("audio_url", "supervise_call_control_id"),
                (Some(_), None) => ("audio_url", "a conversation"),
                (None, _) => ("supervise_call_control_id", "a conversation"),
            };
            return Err(ApiError::bad_value(name, format!("{name} cannot be used with {other}.")));
        }
    };
    let (bridge_intent, bridge_on_answer) = (parameters.flag("bridge_intent")?, parameters.flag("bridge_on_answer")?);
    let park = parameters.check("park_after_unbridge", &["self"])?.is_some();
    if link_to.is_none() && (bridge_intent || bridge_on_answer || park) {
        return Err(ApiError::missing("link_to"));
    }
    // The WebSocket opens while the phone rings, or before the phone is called.
    let early = parameters.flag("stream_establish_before_call_originate")?;
    let connect_timing = if early { ConnectTiming::BeforeCalling } else { ConnectTiming::WhileCalling };
    let stream = media::stream(parameters)?.map(|stream| StreamSpec { connect_timing, ..stream });
    let own = callback(&application);
    let mut status = parameters.webhook(Some(&own))?.unwrap_or(own);
    // 0 means the default timeout, as in the settings of an application.
    let timeout = parameters.seconds("webhook_timeout_secs", 0..=30)?.filter(|timeout| !timeout.is_zero());
    status.timeout = timeout.or(status.timeout);
    Ok(NewCall {
        owner: LegOwner { application: Some(application.id.clone()), ..LegOwner::new(account.clone(), NAME) },
        invite: Invite {
            caller_name: outbound.caller_name,
            headers: outbound.headers,
            credentials: outbound.credentials,
            ..Invite::new(to, from)
        },
        also: callees.collect(),
        plan: LegPlan {
            timeout: outbound.timeout,
            unanswered: if retries { EndCause::Timeout } else { EndCause::NoAnswer },
            time_limit: Some(outbound.time_limit),
            then,
            send_digits: outbound.send_digits.map(SendDigits::new),
            detect: outbound.detect,
            stream,
            bridge_to: link_to.filter(|_| bridge_on_answer),
            if_free: parameters.flag("prevent_double_bridge")?,
        },
        record: media::record(parameters, RecordingSource::Outbound)?,
        fallback: None,
        status: Some(status),
        client_state: parameters.client_state("client_state")?,
        link_to,
        handover: None,
    })
}

/// The webhook URLs of an application.
fn callback(application: &Application) -> Callback {
    let method = application.webhook_method;
    let target = |url: &Arc<str>| Target { url: url.clone(), method };
    Callback {
        target: target(&application.webhook_url),
        failover: application.webhook_failover_url.as_ref().map(target),
        events: ALL_EVENTS.to_vec(),
        elsewhere: Vec::new(),
        timeout: application.webhook_timeout(),
    }
}
