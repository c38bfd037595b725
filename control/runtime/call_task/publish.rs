//! Reports the events of a call to the call's record, to the call's log and to the application.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tandem_call::conversation::ConversationStatus;
use tandem_call::engine::EngineEffect;
use tandem_call::event::{CallEvent, EventKind, GatherEnd, ReferState};
use tandem_call::leg::{Direction, LegInfo};
use tandem_call::program::instruction::AudioSource;
use tandem_call::recording::{Recording, RecordingLimit, RecordingSource, RecordingSpec, RecordingStatus};
use tandem_call::siprec::SiprecStatus;
use tandem_call::stream::StreamStatus;
use tandem_call::transcription::TranscriptState;
use tandem_causes::Cause;
use tandem_dialect::{Dialect, ReportedError};
use tandem_history::event_log::Line;
use tandem_history::notification::Level;
use tandem_history::problem::Problem;
use tandem_history::records;
use tandem_host::clock;
use tandem_http::without_credentials;
use tandem_id::RecordingId;
use tandem_media as media;
use tandem_store as store;
use tandem_webhooks::Submitted;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{CallTask, event_data};
use crate::call_state::{DelayedEnd, OwnRecording, PendingTeardown};
use crate::reporting::{ProblemOwner, signature_hint};
use crate::services::Services;

/// A hint for a stream whose URL requires TLS although the port in the URL does not speak TLS. The hint says where the
/// URL is written and how the host in the URL is mapped.
const TLS_OF_STREAMS: &str =
    "The URL is in the application's document. In [[origins]], write https:// and http:// for streams too.";
/// Maximum number of notices of one call that wait for the database. At this number, the call waits until the database
/// has stored notices.
const NOTICES: usize = 1024;

impl CallTask {
    /// Reports an event to the record, the log and the application.
    pub(super) async fn publish(&mut self, event: Box<CallEvent>) {
        self.log_event(&event);
        self.services.counters.count(&event);
        let is_internal = event.leg.handover.as_ref().is_some_and(|handover| handover.depth > 0);
        if matches!(event.kind, EventKind::Answered { .. }) && !is_internal {
            self.engine(event.leg.id, media::Command::ExpectAudio);
        }
        if matches!(event.kind, EventKind::Ended) {
            // The channel is freed first, because the application may start a new call as soon as it receives the
            // notice of the end.
            self.services.channels.free(event.leg.id);
        }
        // The record is stored before the notice to the application, because the application may read the record at
        // once.
        if matches!(event.kind, EventKind::MachineDetected(_)) {
            self.record(&event.leg, event.at);
        }
        // An application that receives a notice about a leg or a recording may request the record. So at the start the
        // record is stored before the notices or together with them. At the end the notices are stored first. Then,
        // after a crash, an ended record means that the notice of the end will be sent.
        let over = match &event.kind {
            EventKind::Recording(recording) => recording.ended_at.is_some(),
            kind => matches!(kind, EventKind::Ended),
        };
        self.registry.live().update(&event.leg, &self.inbox);
        // A follower that reads the leg because of the event sees the new state.
        self.services.events.publish_call(&event);
        if !over {
            self.write_record(&event).await;
        }
        if !self.delays_end(&event) {
            self.notify(&event).await;
        }
        if let Some(end) = self.take_delayed_end(&event) {
            self.notify(&end).await;
        }
        if matches!(event.kind, EventKind::Ended) {
            self.services.conferences.leg_is_over(&event.leg);
            self.finish_absent_agents(&event.leg);
        }
        if over {
            self.write_record(&event).await;
        }
        if matches!(event.kind, EventKind::Ended) {
            // From now on, requests for this leg read its record.
            self.registry.live().end(event.leg.id);
        }
    }

    /// Stores the changes that an event makes to the records.
    async fn write_record(&mut self, event: &CallEvent) {
        let store = &self.services.store;
        let stored = match &event.kind {
            EventKind::Initiated | EventKind::Ringing { .. } | EventKind::Answered { .. } | EventKind::Ended => {
                if matches!(event.kind, EventKind::Ended) {
                    let info = Some(Arc::clone(&event.leg));
                    self.state.facts.ended.insert(
                        event.leg.id,
                        PendingTeardown { info, dialog: false, branches: Vec::new(), media: false },
                    );
                }
                store::calls::upsert(store, records::call_row(&event.leg, event.at)).await
            }
            EventKind::Recording(recording) => {
                let path = self.services.recording_path(recording.id);
                let stored =
                    store::recordings::upsert(store, records::recording_row(recording, &event.leg, &path)).await;
                // The recording's file exists already, so its row must be stored without delay.
                if recording.status == RecordingStatus::InProgress {
                    store.writer().write_soon();
                } else if recording.ended_at.is_some() {
                    self.services.recordings.complete(recording.id);
                }
                stored
            }
            _ => Ok(()),
        };
        if let Err(error) = stored {
            tracing::error!(call = %self.state.call.id(), leg = %event.leg.id, %error, "record not stored");
        }
    }

    /// Returns `Some` if the server's log gets a line about this event. The value is the number of suppressed lines that
    /// this line stands for. Only lines about dialled legs that ended within a second, before their answer, are suppressed: a
    /// document can cause very many such legs. The call's own log has all lines.
    fn held_back_lines(&self, event: &CallEvent) -> Option<u64> {
        let leg = &event.leg;
        let end = leg.end.as_ref().filter(|_| matches!(event.kind, EventKind::Ended))?;
        let is_unplaced = leg.direction == Direction::OutboundDial
            && leg.answered_at.is_none()
            && end.at.duration_since(leg.created_at) < jiff::SignedDuration::from_secs(1);
        match is_unplaced {
            true => self.services.counters.unplaced_line(&leg.account, clock::now().instant),
            false => Some(0),
        }
    }

    /// Writes an event to the call's log, and the end of a leg to the server's log. Reports the problem, if the event is
    /// a problem.
    fn log_event(&mut self, event: &CallEvent) {
        if matches!(&event.kind, EventKind::Conversation(facts) if matches!(facts.status, ConversationStatus::Utterance(_) | ConversationStatus::PartialResult(_)))
        {
            // The task of the conversation has already logged this event.
            return;
        }
        let leg = &event.leg;
        let dialect = self.services.dialects.get(&leg.dialect);
        let mut text = describe(event, dialect);
        let code = dialect.and_then(|dialect| dialect.error_number(ReportedError::Event(&event.kind)));
        if let (EventKind::FetchFailed { .. }, Some(code)) = (&event.kind, code) {
            text = format!("{text} ({code})").into();
        }
        let held_back = self.held_back_lines(event);
        if let (Some(end), Some(held_back)) = (&leg.end, held_back) {
            tracing::info!(
                held_back = (held_back > 0).then_some(held_back),
                call = %self.state.call.id(),
                leg = %self.services.call_id(leg),
                account = %leg.account,
                from = %leg.from,
                to = %leg.to,
                trunk = leg.sip.trunk.as_deref(),
                seconds = format_args!("{:.3}", leg.duration(event.at).as_secs_f64()),
                end = end.cause.to_string(),
                sip_status = leg.final_response(),
                "{} call {text}",
                if leg.direction == Direction::Inbound { "inbound" } else { "outbound" },
            );
        }
        let kind = if matches!(event.kind, EventKind::EngineFailed(_)) { "speech" } else { "call" };
        let problem = self.problem(event, code, &text);
        let mut data = event_data::of(event, dialect);
        if let Some(problem) = &problem {
            data = Some(event_data::with_level(data, problem.level));
        }
        let data = data.map(Box::new);
        let line = Line { at: event.at, leg: Some(leg.id), kind: kind.into(), text: text.clone().into_owned(), data };
        match with_digits(event, &text) {
            Some(shown) => self.inbox.log().push_shown(line, &shown),
            None => self.inbox.log().push_line(line),
        }
        if let Some(problem) = problem {
            self.report(leg, event.at, problem);
        }
    }

    /// Reports a problem of a leg. The log of the call already has a line about the problem.
    pub(super) fn report(&self, leg: &LegInfo, at: Timestamp, problem: Problem) {
        let is_kept = {
            let mut log = self.inbox.log();
            log.push_advice(problem.advice_line(at, Some(leg.id)));
            log.admits_problem()
        };
        match is_kept {
            true => self.services.report(leg, at, problem),
            false => self.services.counters.problem(problem.cause),
        }
    }

    /// Adds the text of a problem of a leg to the call's log as a line of this kind, and reports the problem.
    pub(super) fn report_as(&self, leg: &LegInfo, kind: &'static str, problem: Problem) {
        let at = clock::time();
        let (text, data) = (problem.message.clone(), Some(Box::new(problem.data())));
        self.inbox.log().push_line(Line { at, leg: Some(leg.id), kind: kind.into(), text, data });
        self.report(leg, at, problem);
    }

    /// Returns the problem that an event reports. `None` if the event reports no problem. `code` is the provider's error
    /// number, and `text` is the text of the event.
    fn problem(&self, event: &CallEvent, code: Option<u32>, text: &str) -> Option<Problem> {
        let leg = &event.leg;
        let (cause, message) = match &event.kind {
            EventKind::Ended => (Cause::of_end(leg)?, self.failed_call_text(leg)),
            kind => (Cause::of_event(kind)?, text.to_owned()),
        };
        let level = level(&event.kind, cause);
        let hint = self.hint(leg, &event.kind, cause);
        let problem = Problem { level, hint, ..Problem::new(cause, message) };
        let Some(code) = code else { return Some(problem) };
        let message = match &event.kind {
            EventKind::Warned(warning) => warning.message.clone(),
            EventKind::FetchFailed { failure } => failure.detail.clone(),
            _ => text.to_owned(),
        };
        Some(problem.notified(code, message, self.inbox.log().last_exchange(leg.id).cloned()))
    }

    /// Returns the text about a failed leg: the destination, the trunk and the reason.
    fn failed_call_text(&self, leg: &LegInfo) -> String {
        let end = leg.end.as_ref().map(ToString::to_string).unwrap_or_default();
        if leg.direction == Direction::Inbound {
            let over = leg.sip.trunk.as_deref().map(|trunk| format!(" over trunk {trunk}")).unwrap_or_default();
            let status = leg.end.as_ref().and_then(|end| end.sip_status).unwrap_or_default();
            return match &self.refused_offer {
                Some(why) => format!("call from {}{over} to {} refused with {status}: {why}", leg.from, leg.to),
                None => format!("call from {}{over} to {} failed: {end}", leg.from, leg.to),
            };
        }
        let Some(trunk) = leg.sip.trunk.as_deref() else { return format!("call to {} failed: {end}", leg.to) };
        let routing = self.services.routing.load_full();
        let uri = routing.trunk(Some(trunk)).and_then(|trunk| trunk.uri.as_deref());
        let at = uri.map(|uri| format!(" ({uri})")).unwrap_or_default();
        // The reason from SIP may already contain the name of the trunk.
        let over = if end.contains(trunk) { String::new() } else { format!(" over trunk {trunk}{at}") };
        format!("call to {}{over} failed: {end}", leg.to)
    }

    /// Returns advice for this specific case, in addition to the advice of the cause.
    fn hint(&self, leg: &LegInfo, event: &EventKind, cause: Cause) -> Option<String> {
        if cause == Cause::TlsToPlainHttp && matches!(event, EventKind::Stream(_) | EventKind::Conversation(_)) {
            return Some(TLS_OF_STREAMS.to_owned());
        }
        match cause {
            Cause::StreamHandshake => {
                let signing = self.services.signing(&leg.account, &leg.dialect).filter(|signing| signing.covers_url)?;
                Some(format!("We signed the stream's URL with {}.", signing.key))
            }
            _ => {
                let log = self.inbox.log();
                let of = ProblemOwner::from(leg);
                signature_hint(&self.services, of, cause, log.last_exchange(leg.id)?)
            }
        }
    }

    /// Whether the event of the leg's end must wait until the recording that was requested with the leg is complete. If
    /// the recording is not complete after a short time, the call abandons the recording.
    fn delays_end(&mut self, event: &CallEvent) -> bool {
        let Some(own) = self.state.facts.own_recordings.get_mut(&event.leg.id) else { return false };
        let dialect = self.services.dialects.get(&event.leg.dialect);
        let holds = matches!(event.kind, EventKind::Ended)
            && own.facts.ended_at.is_none()
            && dialect.is_some_and(|dialect| dialect.ends_with_recording());
        if holds {
            own.end = Some(DelayedEnd { at: event.at, leg: Arc::clone(&event.leg) });
        }
        holds
    }

    /// Returns the delayed event of the leg's end, if the recording that was requested with the leg is complete now.
    fn take_delayed_end(&mut self, event: &CallEvent) -> Option<Box<CallEvent>> {
        let EventKind::Recording(facts) = &event.kind else { return None };
        if facts.spec.source != RecordingSource::Outbound {
            return None;
        }
        let own = self.state.facts.own_recordings.entry(event.leg.id);
        let own = own.or_insert_with(|| OwnRecording { facts: facts.clone(), end: None });
        own.facts = facts.clone();
        let DelayedEnd { at, leg } = own.end.take_if(|_| facts.ended_at.is_some())?;
        Some(Box::new(CallEvent { at, leg, kind: EventKind::Ended }))
    }

    async fn notify(&mut self, event: &CallEvent) {
        let leg = event.leg.id;
        let queue = self.services.position_for_notices(event).await;
        let recording = self.state.facts.own_recordings.get(&leg).map(|own| &own.facts);
        let sequence = self.state.facts.sequences.get(&leg).copied().unwrap_or_default();
        for delivery in self.services.notices_in_queue(event, sequence, recording, queue) {
            *self.state.facts.sequences.entry(leg).or_default() += u32::from(delivery.numbered.is_some());
            match self.services.deliveries.submit(delivery).await {
                Ok(submitted) => {
                    let (notices, _) = self.notices.get_or_insert_with(|| notifier(&self.services));
                    // The notifier task ends only after this task drops its channel.
                    let _ = notices.send(submitted).await;
                }
                Err(error) => tracing::error!(call = %self.state.call.id(), %leg, %error, "notice not stored"),
            }
        }
    }
}

/// Returns the severity of the problem that an event reports.
fn level(event: &EventKind, cause: Cause) -> Level {
    let is_error = match event {
        EventKind::Ended => cause != Cause::Shutdown,
        EventKind::FetchFailed { .. } => true,
        EventKind::EngineFailed(failure) => failure.effect != EngineEffect::Recovered,
        EventKind::Stream(facts) => matches!(&facts.status, StreamStatus::Failed(why) if why.is_fatal),
        EventKind::Conversation(facts) => {
            matches!(&facts.status, ConversationStatus::Failed { why, .. } if why.is_fatal)
        }
        EventKind::Recording(_) => true,
        EventKind::Siprec(facts) => facts.status != SiprecStatus::Paused,
        _ => false,
    };
    if is_error { Level::Error } else { Level::Warning }
}

/// Spawns the task that sends a call's notices in order. Each notice is stored before it is sent.
fn notifier(services: &Arc<Services>) -> (mpsc::Sender<Submitted>, JoinHandle<()>) {
    let (sender, mut receiver) = mpsc::channel(NOTICES);
    let services = Arc::clone(services);
    let task = tokio::spawn(async move {
        while let Some(submitted) = receiver.recv().await {
            if let Err(error) = services.deliveries.stored(submitted).await {
                tracing::error!(%error, "notice not stored");
            }
        }
    });
    (sender, task)
}

/// Returns the text of an event with its DTMF digits, for people who watch the call. `None` if the event has no digits.
fn with_digits(event: &CallEvent, text: &str) -> Option<String> {
    match &event.kind {
        EventKind::DtmfReceived { digit } => Some(format!("{text}: {digit}")),
        EventKind::GatherEnded { digits, .. } if !digits.is_empty() => Some(format!("{text} ({digits})")),
        _ => None,
    }
}

/// Returns the text of an event for a log line, with ids in the provider's form. The text omits DTMF digits, because
/// they may be a PIN.
fn describe(event: &CallEvent, dialect: Option<&Arc<dyn Dialect>>) -> Cow<'static, str> {
    let recorded = |id: RecordingId| named(dialect, id, |dialect| dialect.recording_id(id));
    match &event.kind {
        EventKind::Initiated => "initiated".into(),
        EventKind::Ringing { early_media: true } => "ringing, with early media".into(),
        EventKind::Ringing { early_media: false } => "ringing".into(),
        EventKind::Answered { .. } => "answered".into(),
        EventKind::Ended => event.leg.end.as_ref().map_or("ended".into(), |end| format!("ended: {end}").into()),
        EventKind::DtmfReceived { .. } => "DTMF digit received".into(),
        EventKind::PlaybackStarted(playback) => {
            let verb = if matches!(playback.source, AudioSource::Speech(_)) { "says" } else { "plays" };
            format!("{verb} {}", describe_source(&playback.source)).into()
        }
        EventKind::PlaybackEnded(_, end) => format!("playback {end}").into(),
        EventKind::GatherEnded { digits, terminator: Some(key), .. } if digits.is_empty() => {
            format!("gathered no digits: {key} was received").into()
        }
        EventKind::GatherEnded { digits, end, .. } => match digits.len() {
            0 if *end == GatherEnd::Valid => "gathered speech".into(),
            0 => format!("gathered no digits: {end}").into(),
            1 => format!("gathered 1 digit: {end}").into(),
            count => format!("gathered {count} digits: {end}").into(),
        },
        EventKind::GatherPartial { words, .. } => {
            format!("recognised {} characters so far", words.text().chars().count()).into()
        }
        EventKind::EngineFailed(failure) => failure.to_string().into(),
        EventKind::Transcription(facts) => format!("transcription {} {}", facts.id, facts.status).into(),
        EventKind::Transcribed(transcript) => match &transcript.state {
            TranscriptState::InProgress => format!("transcription {} started", transcript.id).into(),
            TranscriptState::Completed(_) => format!("transcription {} done", transcript.id).into(),
            TranscriptState::Failed(why) => format!("transcription {} failed: {why}", transcript.id).into(),
        },
        EventKind::Bridged { with } => {
            format!("bridged with {}", named(dialect, with.id, |dialect| dialect.call_id(with.id))).into()
        }
        EventKind::Unbridged => "no longer bridged".into(),
        EventKind::ConferenceJoined(one) => format!("joined conference {}", one.conference).into(),
        EventKind::ConferenceLeft(one) => format!("left conference {}", one.conference).into(),
        EventKind::Enqueued { queue, .. } => format!("waits in queue {queue}").into(),
        EventKind::Dequeued(outcome) => format!("left queue {}: {}", outcome.name, outcome.result).into(),
        EventKind::Recording(recording) => match recording.duration {
            Some(length) => {
                let (id, status, length) = (recorded(recording.id), recording.status.to_string(), length.as_millis());
                format!("recording {id} {status}, {length} ms{}", ended_by_limit(recording)).into()
            }
            None => format!("recording {} {}", recorded(recording.id), recording.status).into(),
        },
        EventKind::Conversation(facts) => {
            let id = named(dialect, facts.id, |dialect| dialect.conversation_id(facts.id));
            format!("conversation {id} {}", facts.status).into()
        }
        EventKind::Siprec(facts) => format!("recording session {} {}", facts.id, facts.status).into(),
        EventKind::Stream(stream) => {
            let id = named(dialect, stream.id, |dialect| dialect.stream_id(stream.id));
            format!("stream {id} {}", stream.status).into()
        }
        EventKind::MachineDetected(facts) => {
            format!("answered by {}, detected after {} ms", facts.result, facts.after.as_millis()).into()
        }
        EventKind::Dialed(result) => {
            format!("dial {}, bridged for {} ms", result.status, result.duration.as_millis()).into()
        }
        EventKind::Refer(facts) => match facts.state {
            ReferState::Started => "transfer requested from the far end".into(),
            ReferState::Completed => "transferred by the far end".into(),
            ReferState::Failed => format!(
                "transfer failed: {}",
                facts.progress.or(facts.answer).map_or("no answer".to_owned(), |status| status.to_string())
            )
            .into(),
        },
        EventKind::FetchFailed { failure } => format!("document failed: {}", failure.detail).into(),
        EventKind::Apologised => "apologises to the caller: an application error has occurred".into(),
        EventKind::Unsupported(_) => "the application is told that this request is not supported".into(),
        EventKind::Warned(warning) if warning.code == 0 => format!("warning: {}", warning.message).into(),
        EventKind::Warned(warning) => format!("warning {}: {}", warning.code, warning.message).into(),
    }
}

/// Returns the limit that ended a recording, as the end of a line.
fn ended_by_limit(recording: &Recording) -> String {
    let RecordingSpec { silence_timeout, max_length, .. } = &recording.spec;
    let of = |limit: &Option<Duration>| limit.unwrap_or_default().as_secs_f64();
    match recording.limit {
        Some(RecordingLimit::Silence) => format!(": ended by {} s of silence", of(silence_timeout)),
        Some(RecordingLimit::Length) => format!(": ended at the maximum length of {} s", of(max_length)),
        None => String::new(),
    }
}

/// Returns an id in the provider's form, or the unchanged id if the dialect is unknown.
pub(super) fn named(
    dialect: Option<&Arc<dyn Dialect>>,
    id: impl std::fmt::Display,
    name: impl Fn(&dyn Dialect) -> String,
) -> String {
    dialect.map_or_else(|| id.to_string(), |dialect| name(dialect.as_ref()))
}

/// Maximum number of characters of a spoken text in a log line.
const MAX_QUOTED: usize = 80;

/// Returns a spoken text in quotes on one line, truncated after [`MAX_QUOTED`] characters.
fn quoted(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = words.chars().take(MAX_QUOTED).collect();
    let more = if shown.len() < words.len() { " ..." } else { "" };
    format!("\"{shown}{more}\"")
}

fn describe_source(source: &AudioSource) -> String {
    match source {
        AudioSource::Speech(speech) => quoted(&speech.text),
        AudioSource::Url(url) | AudioSource::UncachedUrl(url) => without_credentials(url),
        AudioSource::Inline(bytes) => format!("{} octets", bytes.len()),
        AudioSource::Stored(name) => format!("the media file {}", quoted(name)),
        AudioSource::Tone(tone) => tone.to_string(),
        AudioSource::Music => "the server's music".to_owned(),
        AudioSource::Silence(length) => format!("{} ms of silence", length.as_millis()),
    }
}
