//! `POST /v2/calls/{id}/actions/{action}`: converts JSON into commands for the leg.

use std::time::Duration;

use tandem_call::command::{Command, Interrupt};
use tandem_call::conversation::{ConversationSpec, ConversationTarget};
use tandem_call::leg::LegInfo;
use tandem_call::program::instruction::{
    AfterBridge, AudioSource, Dial, DialRecord, DialTarget, Enqueue, Gather, Instruction, Play, Refer, RejectReason,
    SendDigits, Speech, Wait,
};
use tandem_call::recording::{PauseBehavior, RecordingSource, Track};
use tandem_id::{LegId, RecordingId, StreamId};

use super::error::ApiError;
use super::parameters::Parameters;
use super::{agent, dial, media, queue, relay};

/// The actions that this server supports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Action {
    Answer,
    Reject,
    Hangup,
    Bridge,
    Transfer,
    Refer,
    Speak,
    PlaybackStart,
    PlaybackStop,
    Gather,
    GatherUsingSpeak,
    GatherUsingAudio,
    GatherStop,
    SendDtmf,
    RecordStart,
    RecordStop,
    RecordPause,
    RecordResume,
    StreamingStart,
    StreamingStop,
    ClientStateUpdate,
    Mute,
    Unmute,
    SuppressionStart,
    SuppressionStop,
    Enqueue,
    LeaveQueue,
    SwitchSupervisorRole,
    ForkStart,
    ForkStop,
    SiprecStart,
    SiprecStop,
    TranscriptionStart,
    TranscriptionStop,
    SendSipInfo,
    AssistantStart,
    AssistantStop,
    AssistantAddMessages,
    GatherUsingAi,
    RelayStart,
    RelayStop,
}

const ACTIONS: &[(&str, Action)] = &[
    ("answer", Action::Answer),
    ("reject", Action::Reject),
    ("hangup", Action::Hangup),
    ("bridge", Action::Bridge),
    ("transfer", Action::Transfer),
    ("refer", Action::Refer),
    ("speak", Action::Speak),
    ("playback_start", Action::PlaybackStart),
    ("playback_stop", Action::PlaybackStop),
    ("gather", Action::Gather),
    ("gather_using_speak", Action::GatherUsingSpeak),
    ("gather_using_audio", Action::GatherUsingAudio),
    ("gather_stop", Action::GatherStop),
    ("send_dtmf", Action::SendDtmf),
    ("record_start", Action::RecordStart),
    ("record_stop", Action::RecordStop),
    ("record_pause", Action::RecordPause),
    ("record_resume", Action::RecordResume),
    ("streaming_start", Action::StreamingStart),
    ("streaming_stop", Action::StreamingStop),
    ("client_state_update", Action::ClientStateUpdate),
    // Telnyx has no such actions for calls, but some deployed applications use these actions.
    ("mute", Action::Mute),
    ("unmute", Action::Unmute),
    ("suppression_start", Action::SuppressionStart),
    ("suppression_stop", Action::SuppressionStop),
    ("enqueue", Action::Enqueue),
    ("leave_queue", Action::LeaveQueue),
    ("switch_supervisor_role", Action::SwitchSupervisorRole),
    ("fork_start", Action::ForkStart),
    ("fork_stop", Action::ForkStop),
    ("siprec_start", Action::SiprecStart),
    ("siprec_stop", Action::SiprecStop),
    ("transcription_start", Action::TranscriptionStart),
    ("transcription_stop", Action::TranscriptionStop),
    ("send_sip_info", Action::SendSipInfo),
    ("ai_assistant_start", Action::AssistantStart),
    ("ai_assistant_stop", Action::AssistantStop),
    ("ai_assistant_add_messages", Action::AssistantAddMessages),
    ("gather_using_ai", Action::GatherUsingAi),
    ("conversation_relay_start", Action::RelayStart),
    ("conversation_relay_stop", Action::RelayStop),
];

/// Actions of Telnyx that this server does not support.
const NOT_PERMITTED: &[&str] = &["ai_assistant_join", "pay"];

impl Action {
    /// Parses the last segment of a path. Returns the error 404 if Telnyx has no such action. Returns the error 422 if
    /// this server does not support the action.
    pub(super) fn parse(name: &str) -> Result<Self, ApiError> {
        match ACTIONS.iter().find(|(known, _)| *known == name) {
            Some((_, action)) => Ok(*action),
            None if NOT_PERMITTED.contains(&name) => Err(ApiError::action_not_permitted(name)),
            None => Err(ApiError::no_resource()),
        }
    }
}

/// The parsed request.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Plan {
    /// The new client state of the leg. `None` leaves the client state unchanged.
    pub(super) client_state: Option<String>,
    /// The commands, in order. If the call refuses a command, the later commands are not executed. If there are no
    /// commands, the request changes only the client state.
    pub(super) commands: Vec<Command>,
}

/// Parses the request for this leg. `taken` is a leg that was taken from a queue and that will be bridged with this
/// leg.
pub(super) fn plan(
    action: Action,
    parameters: Parameters<'_>,
    leg: &LegInfo,
    taken: Option<LegId>,
) -> Result<Plan, ApiError> {
    let client_state = parameters.client_state("client_state")?;
    let mut commands = Vec::new();
    match action {
        Action::Answer => commands.extend(answer(parameters, leg)?),
        Action::Reject => {
            parameters.required("cause")?;
            let causes = [("CALL_REJECTED", RejectReason::Rejected), ("USER_BUSY", RejectReason::Busy)];
            commands.extend(parameters.word("cause", &causes)?.map(Command::Reject));
        }
        Action::Hangup => {
            commands.push(Command::Hangup { headers: parameters.headers()? });
        }
        Action::Bridge => commands.extend(bridge(parameters, taken)?),
        Action::Transfer => commands.push(transfer(parameters, leg)?),
        Action::Refer => commands.push(refer(parameters)?),
        Action::Speak => commands.push(speak(parameters)?),
        Action::PlaybackStart => commands.push(playback(parameters)?),
        Action::PlaybackStop => {
            parameters.refuse(&["overlay"])?;
            commands.push(Command::StopPlayback(parameters.interrupt()?.unwrap_or(Interrupt::All)));
        }
        Action::Gather => commands.push(gather_digits(parameters)?),
        Action::GatherUsingSpeak => commands.push(gather_using_speak(parameters)?),
        Action::GatherUsingAudio => {
            commands.push(Command::Gather(Box::new(asked_by_audio(parameters)?)));
        }
        Action::GatherStop => commands.push(Command::StopGather),
        Action::SendDtmf => commands.extend(send_dtmf(parameters)?),
        Action::RecordStart => commands.push(Command::StartRecording(media::record_start(parameters)?)),
        Action::RecordStop => commands.push(Command::StopRecording(recording(parameters)?)),
        Action::RecordPause => {
            commands
                .push(Command::PauseRecording { which: recording(parameters)?, pause_behavior: PauseBehavior::Skip });
        }
        Action::RecordResume => commands.push(Command::ResumeRecording(recording(parameters)?)),
        Action::StreamingStart => {
            parameters.refuse(&["enable_dialogflow", "dialogflow_config"])?;
            let spec = media::stream(parameters)?.ok_or_else(|| ApiError::missing("stream_url"))?;
            commands.push(Command::StartStream { spec, if_none_runs: true });
        }
        Action::StreamingStop => commands.push(Command::StopStream(parameters.uuid("stream_id")?.map(StreamId))),
        Action::ClientStateUpdate => {
            parameters.required("client_state")?;
            commands.push(Command::SetClientState);
        }
        Action::Mute => commands.push(Command::Mute(true)),
        Action::Unmute => commands.push(Command::Mute(false)),
        Action::SuppressionStart => commands.push(suppression_start(parameters)?),
        Action::SuppressionStop => commands.push(Command::SuppressNoise { track: Track::Both, on: false }),
        Action::Enqueue => commands.push(enter_queue(parameters)?),
        Action::LeaveQueue => commands.push(Command::LeaveQueue),
        Action::SwitchSupervisorRole => {
            parameters.required("role")?;
            commands.extend(parameters.word("role", dial::SUPERVISORS)?.map(Command::Supervise));
        }
        Action::ForkStart => {
            commands.push(Command::StartStream { spec: media::fork(parameters, leg)?, if_none_runs: true });
        }
        Action::ForkStop => {
            parameters.check("stream_type", &["raw", "decrypted"])?;
            commands.push(Command::StopNamedStream(media::FORK.to_owned()));
        }
        Action::SiprecStart => commands.push(Command::StartSiprec(Box::new(media::siprec(parameters)?))),
        Action::SiprecStop => commands.push(Command::StopNamedSiprec(media::SIPREC.to_owned())),
        Action::TranscriptionStart => {
            commands.push(Command::StartTranscription(Box::new(media::transcription(parameters)?)));
        }
        Action::TranscriptionStop => {
            commands.push(Command::StopNamedTranscription(media::TRANSCRIPTION.to_owned()));
        }
        Action::AssistantStart => commands.push(agent::start(parameters)?),
        Action::AssistantAddMessages => commands.push(agent::add_messages(parameters)?),
        Action::RelayStart => commands.push(agent::begin(relay::start(parameters)?)),
        Action::AssistantStop | Action::RelayStop => commands.push(Command::StopConversation),
        Action::GatherUsingAi => commands.push(agent::gather(parameters)?),
        Action::SendSipInfo => commands.push(send_info(parameters)?),
    }
    Ok(Plan { client_state, commands })
}

/// Maximum size of the body of a SIP INFO request, in octets.
const LARGEST_INFO: usize = 1_400;
const GATHERS_FOR: Duration = Duration::from_millis(60_000);
const BETWEEN_DIGITS: Duration = Duration::from_millis(5_000);

/// Transfers the far end to another SIP address.
fn refer(parameters: Parameters<'_>) -> Result<Command, ApiError> {
    parameters.required("sip_address")?;
    let to = parameters.text("sip_address")?.unwrap_or_default().to_owned();
    let refer = Refer { to, headers: parameters.headers()?, action: None };
    Ok(Command::Enqueue(Box::new(Instruction::Refer(refer))))
}

/// Speaks a text.
fn speak(parameters: Parameters<'_>) -> Result<Command, ApiError> {
    let to = parameters.target_legs("target_legs")?.unwrap_or_default();
    let play = Play::new(speech(parameters, "payload")?, parameters.loops()?);
    let interrupt = parameters.interrupt()?.unwrap_or(Interrupt::None);
    Ok(Command::Play { play, interrupt, to })
}

/// Gathers digits without a prompt.
fn gather_digits(parameters: Parameters<'_>) -> Result<Command, ApiError> {
    let first = parameters.milliseconds("initial_timeout_millis", 0..=600_000)?;
    let whole = parameters.milliseconds("timeout_millis", 1..=600_000)?.unwrap_or(GATHERS_FOR);
    let digits = digits(parameters, first.unwrap_or(BETWEEN_DIGITS), Some(whole))?;
    Ok(Command::Gather(Box::new(digits)))
}

/// Speaks a prompt and gathers digits.
fn gather_using_speak(parameters: Parameters<'_>) -> Result<Command, ApiError> {
    let prompt = Play::once(speech(parameters, "payload")?);
    let retry = match parameters.text("invalid_payload")? {
        Some(_) => vec![Play::once(speech(parameters, "invalid_payload")?)],
        None => Vec::new(),
    };
    Ok(Command::Gather(Box::new(gather_of(parameters, prompt, retry)?)))
}

/// Starts the noise suppression.
fn suppression_start(parameters: Parameters<'_>) -> Result<Command, ApiError> {
    let directions = [("inbound", Track::Inbound), ("outbound", Track::Outbound), ("both", Track::Both)];
    let track = parameters.word("direction", &directions)?.unwrap_or(Track::Inbound);
    // The server has a single noise suppression engine, so the engine name and the engine settings have no
    // effect.
    parameters.text("noise_suppression_engine")?;
    Ok(Command::SuppressNoise { track, on: true })
}

/// Puts the call into a queue.
fn enter_queue(parameters: Parameters<'_>) -> Result<Command, ApiError> {
    // In this server, a caller who hangs up always leaves the queue.
    if parameters.flag("keep_after_hangup")? {
        return Err(ApiError::not_permitted("keep_after_hangup"));
    }
    Ok(Command::EnterQueue(Box::new(Enqueue {
        queue: queue::name(parameters)?.into(),
        max_size: None,
        // The application sends commands that play audio while the caller waits.
        wait: Wait::Silence,
        max_duration: parameters.seconds("max_wait_time_secs", 1..=u32::MAX)?,
        action: None,
    })))
}

/// Sends a SIP INFO request.
fn send_info(parameters: Parameters<'_>) -> Result<Command, ApiError> {
    let content_type = parameters.required("content_type")?.to_owned();
    let fits = content_type.contains('/') && content_type.bytes().all(|b| (0x20..0x7f).contains(&b));
    if !fits {
        return Err(ApiError::bad_value("content_type", "The value must be a MIME type."));
    }
    let body = parameters.required("body")?.to_owned();
    if body.len() > LARGEST_INFO {
        return Err(ApiError::wrong_length("body", 1, LARGEST_INFO));
    }
    Ok(Command::SendInfo { content_type, body })
}

fn answer(parameters: Parameters<'_>, leg: &LegInfo) -> Result<Vec<Command>, ApiError> {
    parameters.refuse(&["deepfake_detection", "transcription"])?;
    let conversation = conversation(parameters)?;
    let callback = parameters.webhook(leg.status_callback.as_ref())?;
    let record = media::record(parameters, RecordingSource::Request)?;
    let (stream, headers) = (media::stream(parameters)?, parameters.headers()?);
    let set_callback = callback.map(|callback| Command::SetCallback(Some(callback)));
    let answer = [Command::Answer { record, stream, headers }];
    Ok(set_callback.into_iter().chain(answer).chain(conversation.map(agent::begin)).collect())
}

/// The conversation that starts with the answer.
pub(super) fn conversation(parameters: Parameters<'_>) -> Result<Option<ConversationSpec>, ApiError> {
    let assistant = agent::on_answer(parameters)?;
    let assistant = assistant.map(|agent| ConversationSpec::new(ConversationTarget::Agent(Box::new(agent))));
    match (assistant, relay::config(parameters)?) {
        (Some(_), Some(_)) => {
            let detail = "Only one of 'assistant' and 'conversation_relay_config' may be given.";
            Err(ApiError::bad_value("conversation_relay_config", detail))
        }
        (assistant, relay) => Ok(assistant.or(relay)),
    }
}

fn playback(parameters: Parameters<'_>) -> Result<Command, ApiError> {
    let to = parameters.target_legs("target_legs")?.unwrap_or_default();
    parameters.refuse(&["overlay"])?;
    parameters.check("audio_type", &["mp3", "wav"])?;
    let cached = parameters.get("cache_audio").is_none() || parameters.flag("cache_audio")?;
    let source = audio(parameters, "audio_url", "media_name", Some("playback_content"))?;
    let source = match source.ok_or_else(|| ApiError::missing("audio_url"))? {
        AudioSource::Url(url) if !cached => AudioSource::UncachedUrl(url),
        source => source,
    };
    let play = Play::new(source, parameters.loops()?);
    let interrupt = parameters.interrupt()?.unwrap_or(Interrupt::None);
    Ok(Command::Play { play, interrupt, to })
}

fn bridge(parameters: Parameters<'_>, taken: Option<LegId>) -> Result<Vec<Command>, ApiError> {
    parameters.refuse(&["video_room_id", "hold_after_unbridge"])?;
    mute_dtmf(parameters)?;
    parameters.flag("play_ringtone")?;
    let if_free = parameters.flag("prevent_double_bridge")?;
    let with = match taken {
        Some(taken) => taken,
        None => {
            parameters.required("call_control_id")?;
            parameters.leg("call_control_id")?.ok_or_else(|| ApiError::missing("call_control_id"))?
        }
    };
    let mut commands = vec![Command::Bridge { with, after: after_unbridge(parameters)?, if_free }];
    commands.extend(media::record(parameters, RecordingSource::Request)?.map(Command::StartRecording));
    Ok(commands)
}

/// The action `transfer`, which bridges this leg with a new leg. Until the new leg answers, this leg hears ringing or
/// stays unanswered. If the new leg does not answer, this leg continues.
fn transfer(parameters: Parameters<'_>, leg: &LegInfo) -> Result<Command, ApiError> {
    mute_dtmf(parameters)?;
    let callees = dial::callees(parameters)?;
    let caller_id = parameters.caller("from")?.unwrap_or_else(|| leg.to.clone());
    let early_media = parameters.get("early_media").is_none() || parameters.flag("early_media")?;
    let outbound = dial::outbound(parameters)?;
    let status = parameters.webhook(leg.status_callback.as_ref())?.or_else(|| leg.status_callback.clone());
    let client_state = parameters.client_state("target_leg_client_state")?;
    let target = |to| DialTarget {
        headers: outbound.headers.clone(),
        credentials: outbound.credentials.clone(),
        send_digits: outbound.send_digits.clone(),
        detect: outbound.detect.clone(),
        status: status.clone(),
        client_state: client_state.clone(),
        greeting: outbound.audio.clone(),
        ..DialTarget::new(to)
    };
    let record = media::record(parameters, RecordingSource::Dial)?;
    Ok(Command::Transfer(Box::new(Dial {
        targets: callees.into_iter().map(target).collect(),
        queue: None,
        sequential: false,
        timeout: outbound.timeout,
        time_limit: Some(outbound.time_limit),
        // The caller name of this leg is not used, because the new leg has another caller ID.
        caller_name: Some(outbound.caller_name.unwrap_or_else(|| caller_id.user().into_owned())),
        caller_id: Some(caller_id),
        answer_on_bridge: true,
        ring_tone: early_media.then(|| "us".into()),
        hangup_on_star: false,
        record: record.map(|spec| DialRecord { from_ringing: false, spec }),
        action: None,
        after: after_unbridge(parameters)?,
        pass_failure: false,
        refer: None,
    })))
}

fn after_unbridge(parameters: Parameters<'_>) -> Result<AfterBridge, ApiError> {
    let park = parameters.check("park_after_unbridge", &["self"])?.is_some();
    Ok(if park { AfterBridge::Continue } else { AfterBridge::Hangup })
}

fn mute_dtmf(parameters: Parameters<'_>) -> Result<(), ApiError> {
    match parameters.check("mute_dtmf", &["none", "both", "self", "opposite"])? {
        None | Some("none") => Ok(()),
        Some(_) => Err(ApiError::not_permitted("mute_dtmf")),
    }
}

/// A text to speak, with at most 3,000 characters.
pub(super) fn speech(parameters: Parameters<'_>, payload: &str) -> Result<AudioSource, ApiError> {
    let text = parameters.required(payload)?;
    parameters.sized(payload, 1..=3_000)?;
    let voice = parameters.required("voice")?;
    let ssml = parameters.word("payload_type", &[("text", false), ("ssml", true)])?.unwrap_or(false);
    parameters.check("service_level", &["basic", "premium"])?;
    let language = parameters.text("language")?.filter(|language| !language.is_empty());
    Ok(AudioSource::Speech(Speech {
        text: text.to_owned(),
        ssml,
        voice: Some(voice.to_owned()),
        language: language.map(Into::into),
    }))
}

/// Audio for playback. The request has a URL, the name of a stored file, or inline audio as base64.
pub(super) fn audio(
    parameters: Parameters<'_>,
    url: &str,
    stored: &str,
    inline: Option<&str>,
) -> Result<Option<AudioSource>, ApiError> {
    let file = dial::file(parameters, url, stored)?;
    let bytes = match inline {
        Some(name) => parameters.base64(name)?.map(AudioSource::Inline),
        None => None,
    };
    match (file, bytes) {
        (Some(_), Some(_)) => Err(ApiError::bad_value(url, "Only one source of audio may be given.")),
        (one, other) => Ok(one.or(other)),
    }
}

/// A gather with a prompt. The time in `timeout_millis` begins at the end of the prompt.
fn gather_of(parameters: Parameters<'_>, prompt: Play, retry_prompts: Vec<Play>) -> Result<Gather, ApiError> {
    let first = parameters.milliseconds("timeout_millis", 1..=600_000)?.unwrap_or(GATHERS_FOR);
    let tries = parameters.integer("maximum_tries", 1..=128)?.unwrap_or(3);
    Ok(Gather { prompts: vec![prompt], retry_prompts, tries, ..digits(parameters, first, None)? })
}

fn digits(
    parameters: Parameters<'_>,
    first_digit_timeout: Duration,
    total_timeout: Option<Duration>,
) -> Result<Gather, ApiError> {
    let min_digits = parameters.integer("minimum_digits", 1..=128)?.unwrap_or(1);
    let max_digits = parameters.integer("maximum_digits", 1..=128)?.unwrap_or(128);
    if min_digits > max_digits {
        return Err(ApiError::out_of_range("minimum_digits", 1, max_digits.into()));
    }
    let key = |c: char| c.is_ascii_digit() || "ABCD*#".contains(c);
    let terminators = parameters.text("terminating_digit")?.unwrap_or("#");
    if terminators.chars().count() > 1 || !terminators.chars().all(key) {
        return Err(ApiError::bad_value("terminating_digit", "The value must be one of 0123456789ABCD*#."));
    }
    let valid_digits = parameters.text("valid_digits")?.unwrap_or("0123456789#*");
    if valid_digits.is_empty() || valid_digits.len() > 64 || !valid_digits.chars().all(key) {
        return Err(ApiError::bad_value("valid_digits", "The value must be made of 0123456789ABCD*#."));
    }
    let between = parameters.milliseconds("inter_digit_timeout_millis", 1..=600_000)?;
    Ok(Gather {
        prompts: Vec::new(),
        retry_prompts: Vec::new(),
        tries: 1,
        min_digits,
        max_digits: Some(max_digits),
        terminators: terminators.into(),
        valid_digits: Some(valid_digits.into()),
        first_digit_timeout,
        holds_timers: false,
        inter_digit_timeout: between.unwrap_or(BETWEEN_DIGITS),
        speech: None,
        total_timeout,
        barge_in: true,
        action: None,
        action_on_empty: false,
        id: parameters.sized("gather_id", 1..=40)?.map(Into::into),
        callback: None,
    })
}

/// `gather_using_audio` for a participant of a conference. This action has two parameters more than the same action for
/// a call: the timeout for the first digit, and whether a digit stops the prompt.
pub(super) fn conference_gather(parameters: Parameters<'_>) -> Result<Gather, ApiError> {
    let first = parameters.milliseconds("initial_timeout_millis", 0..=600_000)?;
    let gather = asked_by_audio(parameters)?;
    Ok(Gather {
        first_digit_timeout: first.unwrap_or(gather.first_digit_timeout),
        barge_in: parameters.flag_or("stop_playback_on_dtmf", true)?,
        ..gather
    })
}

fn asked_by_audio(parameters: Parameters<'_>) -> Result<Gather, ApiError> {
    let prompt = audio(parameters, "audio_url", "media_name", None)?;
    let prompt = Play::once(prompt.ok_or_else(|| ApiError::missing("audio_url"))?);
    let retry = audio(parameters, "invalid_audio_url", "invalid_media_name", None)?;
    gather_of(parameters, prompt, retry.map(Play::once).into_iter().collect())
}

pub(super) fn send_dtmf(parameters: Parameters<'_>) -> Result<Option<Command>, ApiError> {
    parameters.required("digits")?;
    let tone = parameters.milliseconds("duration_millis", 100..=500)?.unwrap_or(Duration::from_millis(250));
    Ok(parameters.digits("digits")?.map(|digits| Command::SendDigits(SendDigits { digits, tone })))
}

fn recording(parameters: Parameters<'_>) -> Result<Option<RecordingId>, ApiError> {
    Ok(parameters.uuid("recording_id")?.map(RecordingId))
}
