//! `POST /v2/calls`: from JSON to a call to be made.

use std::sync::Arc;
use std::time::Duration;

use tandem_call::address::Address;
use tandem_call::leg::EndCause;
use tandem_call::machine::MachineDetection;
use tandem_call::program::instruction::{AudioSource, Credentials, Play};
use tandem_call::recording::RecordingSource;
use tandem_call::stream::{Opens, StreamSpec};
use tandem_call::supervision::SupervisorRole;
use tandem_call::{Callback, Method, Target};
use tandem_routing::new_call::{First, NewCall};
use tandem_settings::Application;

use super::error::ApiError;
use super::parameters::{EVERY_MOMENT, Parameters, WEB};
use super::{machine, media};
use crate::NAME;

const RINGS_FOR: Duration = Duration::from_secs(30);
const LASTS_FOR: Duration = Duration::from_secs(14_400);

/// Who hears a supervisor.
pub(super) const SUPERVISORS: &[(&str, SupervisorRole)] =
    &[("barge", SupervisorRole::Barge), ("whisper", SupervisorRole::Whisper), ("monitor", SupervisorRole::Monitor)];

/// What dialling and transferring have in common: the new leg's signalling.
pub(super) struct Outbound {
    pub(super) caller_name: Option<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) credentials: Option<Credentials>,
    pub(super) timeout: Duration,
    pub(super) time_limit: Duration,
    pub(super) send_digits: Option<String>,
    /// Who answers is found out.
    pub(super) detect: Option<Box<MachineDetection>>,
    /// For the called party alone, once it has answered.
    pub(super) audio: Option<Play>,
}

/// Checks everything about the new leg's signalling. What the far end cannot notice (regions, codec preferences) is
/// accepted and has no effect; what it would (encryption) is refused.
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
        timeout: parameters.seconds("timeout_secs", 5..=600)?.unwrap_or(RINGS_FOR),
        time_limit: parameters.seconds("time_limit_secs", 30..=14_400)?.unwrap_or(LASTS_FOR),
        send_digits: parameters.digits("send_digits_on_answer")?,
        detect: machine::detection(parameters)?.map(Box::new),
        audio: audio.map(Play::once),
    })
}

/// A file by its URL or by the name of a stored medium.
pub(super) fn file(parameters: Parameters<'_>, url: &str, stored: &str) -> Result<Option<AudioSource>, ApiError> {
    let by_url = parameters.url(url, WEB)?.map(AudioSource::Url);
    // Some clients cannot leave it out.
    let name = parameters.text(stored)?.filter(|name| !name.is_empty());
    match (by_url, name) {
        (Some(_), Some(_)) => Err(ApiError::bad_value(url, "Only one source of audio may be given.")),
        (by_url, name) => Ok(by_url.or_else(|| name.map(|name| AudioSource::Stored(name.to_owned())))),
    }
}

/// Who is called, over which transport.
pub(super) fn callees(parameters: Parameters<'_>) -> Result<Vec<Address>, ApiError> {
    let several = parameters.callees("to")?;
    let transport = parameters.check("sip_transport_protocol", &["UDP", "TCP", "TLS"])?;
    let over = |to| match (to, transport) {
        // RFC 3261 §19.1.1: the URI's own parameter wins.
        (Address::Sip(uri), Some(transport @ ("TCP" | "TLS")))
            if !uri.to_ascii_lowercase().contains(";transport=") && !uri.contains('?') =>
        {
            Address::Sip(format!("{uri};transport={}", transport.to_ascii_lowercase()).into())
        }
        (to, _) => to,
    };
    Ok(several.into_iter().map(over).collect())
}

/// The call that this request asks for. `application`: the account's application of an id.
pub(super) fn new_call(
    parameters: Parameters<'_>,
    account: &Arc<str>,
    application: impl FnOnce(&str) -> Option<Application>,
) -> Result<NewCall, ApiError> {
    let connection = parameters.required("connection_id")?;
    let application = application(connection).filter(|application| &*application.provider == NAME);
    let application = application.ok_or_else(ApiError::no_such_connection)?;
    let mut callees = callees(parameters)?.into_iter();
    let to = callees.next().ok_or_else(|| ApiError::missing("to"))?;
    parameters.required("from")?;
    let from = parameters.caller("from")?.ok_or_else(|| ApiError::missing("from"))?;
    // A phone number is called from a phone number; only a SIP URI is shown a name.
    let calls_a_number = std::iter::once(&to).chain(callees.as_slice()).any(|to| matches!(to, Address::Phone(_)));
    if calls_a_number && !matches!(from, Address::Phone(_)) {
        return Err(ApiError::not_e164("from"));
    }
    parameters.refuse(&[
        "assistant",
        "conversation_relay_config",
        "deepfake_detection",
        "dialogflow_config",
        "enable_dialogflow",
        "transcription",
    ])?;
    parameters.flag("send_silence_when_idle")?;
    // There is one route: trying others changes only what the end is called.
    let retries = parameters.get("retry_on_timeout").is_none() || parameters.flag("retry_on_timeout")?;
    let outbound = outbound(parameters)?;
    let (role, supervises) =
        (parameters.word("supervisor_role", SUPERVISORS)?, parameters.leg("supervise_call_control_id")?);
    let link_to = parameters.leg("link_to")?.or(supervises);
    if supervises.is_some_and(|leg| link_to != Some(leg)) {
        let detail = "The call can be linked to the supervised call only.";
        return Err(ApiError::bad_value("link_to", detail));
    }
    let first = match (outbound.audio, supervises) {
        (Some(_), Some(_)) => {
            let detail = "The call of a supervisor begins with what it supervises.";
            return Err(ApiError::bad_value("audio_url", detail));
        }
        (None, Some(_)) => First::Supervise(role.unwrap_or(SupervisorRole::Barge)),
        (Some(audio), None) => First::Play(audio),
        (None, None) => First::Commands,
    };
    let (bridge_intent, bridge_on_answer) = (parameters.flag("bridge_intent")?, parameters.flag("bridge_on_answer")?);
    let park = parameters.check("park_after_unbridge", &["self"])?.is_some();
    if link_to.is_none() && (bridge_intent || bridge_on_answer || park) {
        return Err(ApiError::missing("link_to"));
    }
    // The socket opens while the phone rings, or before it is called at all.
    let early = parameters.flag("stream_establish_before_call_originate")?;
    let opens = if early { Opens::BeforeCalling } else { Opens::WhileCalling };
    let stream = media::stream(parameters)?.map(|stream| StreamSpec { opens, ..stream });
    let own = callback(&application);
    let mut status = parameters.webhook(Some(&own))?.unwrap_or(own);
    // Zero, as of an application, leaves it to the default.
    let timeout = parameters.seconds("webhook_timeout_secs", 0..=30)?.filter(|timeout| !timeout.is_zero());
    status.timeout = timeout.or(status.timeout);
    Ok(NewCall {
        account: account.clone(),
        dialect: NAME,
        application: Some(application.id.clone()),
        to,
        via: Vec::new(),
        also: callees.collect(),
        from,
        caller_name: outbound.caller_name,
        headers: outbound.headers,
        credentials: outbound.credentials,
        timeout: outbound.timeout,
        unanswered: if retries { EndCause::Timeout } else { EndCause::NoAnswer },
        time_limit: Some(outbound.time_limit),
        first,
        fallback: None,
        send_digits: outbound.send_digits,
        detect: outbound.detect,
        record: media::record(parameters, RecordingSource::Outbound)?,
        stream,
        status: Some(status),
        client_state: parameters.client_state("client_state")?,
        link_to,
        bridge_on_answer,
        if_free: parameters.flag("prevent_double_bridge")?,
        handover: None,
    })
}

/// Where an application's webhooks go by its configuration.
fn callback(application: &Application) -> Callback {
    let get = application.webhook_method.as_deref().is_some_and(|method| method.eq_ignore_ascii_case("GET"));
    let method = if get { Method::Get } else { Method::Post };
    let target = |url: &Arc<str>| Target { url: url.clone(), method };
    Callback {
        target: target(&application.webhook_url),
        failover: application.webhook_failover_url.as_ref().map(target),
        moments: EVERY_MOMENT.to_vec(),
        elsewhere: Vec::new(),
        timeout: application.webhook_timeout(),
    }
}
