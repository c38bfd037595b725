//! Live calls by leg, and the ended ones behind them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::RwLock;
use tandem_call::address::Address;
use tandem_call::call::{NewLeg, OnAnswer};
use tandem_call::command::{Accepted, Command, Refused, Request};
use tandem_call::id::{CallId, LegId, RecordingId};
use tandem_call::leg::{Direction, LegInfo, SipFacts, Status};
use tandem_call::output::Invite;
use tandem_call::program::instruction::{Credentials, Program, SendDigits};
use tandem_call::recording::{NewRecording, Recording, RecordingSpec, RecordingStatus};
use tandem_call::stream::StreamSpec;
use tandem_call::{Callback, Target};
use tandem_media as media;
use tandem_sip as sip;
use tokio::sync::{Notify, oneshot};

use crate::account::Accounts;
use crate::audio::AudioRoom;
use crate::call_task::{self, Beginning};
use crate::clock;
use crate::counters::Counters;
use crate::event_log::{self, Line};
use crate::http::Client;
use crate::inbox::{Inbox, Message};
use crate::notify::Dialects;
use crate::records;
use crate::routing::Routing;
use crate::store::calls::CallFilter;
use crate::store::{self, Store, TimeRange};
use crate::webhook::Deliveries;

/// What calls are made with. One for the server.
pub struct Services {
    /// Accounts of the configuration.
    pub accounts: Arc<Accounts>,
    /// Dialects by name.
    pub dialects: Dialects,
    /// Numbers and trunks.
    pub routing: Routing,
    /// The media engine.
    pub media: media::Engine,
    /// The database.
    pub store: Store,
    /// For documents, files and streams.
    pub client: Client,
    /// Audio for playback.
    pub audio: AudioRoom,
    /// What callers are told; no trailing slash.
    pub public_url: Arc<str>,
    /// Where recordings are.
    pub recordings: PathBuf,
    /// For `/metrics`.
    pub counters: Counters,
    sip: OnceLock<sip::transport::Handle>,
    deliveries: OnceLock<Deliveries>,
}

/// What [`Services`] is made of, but for what needs the calls themselves.
pub struct Parts {
    /// Accounts of the configuration.
    pub accounts: Arc<Accounts>,
    /// Dialects by name.
    pub dialects: Dialects,
    /// Numbers and trunks.
    pub routing: Routing,
    /// The media engine.
    pub media: media::Engine,
    /// The database.
    pub store: Store,
    /// For documents, files and streams.
    pub client: Client,
    /// Audio for playback.
    pub audio: AudioRoom,
    /// What callers are told; no trailing slash.
    pub public_url: Arc<str>,
    /// Where recordings are.
    pub recordings: PathBuf,
}

impl Services {
    /// The SIP endpoint. What comes in while the server is still being put together waits here.
    pub fn sip(&self) -> &sip::transport::Handle {
        self.sip.wait()
    }

    /// The webhook queues.
    pub fn deliveries(&self) -> &Deliveries {
        self.deliveries.wait()
    }

    /// The file of a recording.
    pub fn recording_path(&self, id: RecordingId) -> PathBuf {
        self.recordings.join(format!("{id}.wav"))
    }
}

/// Every call of the server. Cheap to clone.
#[derive(Clone)]
pub struct Calls(Arc<Registry>);

struct Registry {
    services: Arc<Services>,
    /// The inbox of each live leg and session, by id. As many as there are live legs.
    inboxes: RwLock<HashMap<u128, Inbox>>,
    draining: AtomicBool,
    /// Told when the last one is forgotten.
    idle: Notify,
}

impl Calls {
    /// No calls yet.
    pub fn new(parts: Parts) -> Self {
        let Parts { accounts, dialects, routing, media, store, client, audio, public_url, recordings } = parts;
        let services = Services {
            accounts,
            dialects,
            routing,
            media,
            store,
            client,
            audio,
            public_url,
            recordings,
            counters: Counters::default(),
            sip: OnceLock::new(),
            deliveries: OnceLock::new(),
        };
        let registry = Registry {
            services: Arc::new(services),
            inboxes: RwLock::default(),
            draining: AtomicBool::new(false),
            idle: Notify::new(),
        };
        Self(Arc::new(registry))
    }

    /// Gives them the webhook queues, which report to the calls themselves. Once, before the first call.
    pub fn connect_deliveries(&self, deliveries: Deliveries) {
        let set = self.0.services.deliveries.set(deliveries);
        debug_assert!(set.is_ok(), "connected twice");
    }

    /// Gives them SIP, which reports to the calls itself. Once.
    pub fn connect_sip(&self, sip: sip::transport::Handle) {
        let set = self.0.services.sip.set(sip);
        debug_assert!(set.is_ok(), "connected twice");
    }

    /// What calls are made with.
    pub fn services(&self) -> &Arc<Services> {
        &self.0.services
    }

    /// What SIP says; never waits.
    pub fn on_sip(&self, event: sip::Event) {
        match event {
            sip::Event::Incoming { leg, incoming } => self.incoming(LegId(leg.0), *incoming),
            event => {
                let leg = LegId(event.leg().0);
                let Some(inbox) = self.inbox(leg.0) else { return };
                match event {
                    sip::Event::Trace { .. } => inbox.offer(Message::Sip(leg, event)),
                    event => inbox.post(Message::Sip(leg, event)),
                }
            }
        }
    }

    fn incoming(&self, leg: LegId, incoming: sip::Incoming) {
        let services = self.services();
        let refuse = |status| {
            let reject = sip::Command::Reject { leg: sip::LegKey(leg.0), status, reason: None, headers: Vec::new() };
            if let Err(error) = services.sip().send(reject) {
                tracing::warn!(?error, "SIP takes no command");
            }
        };
        if self.0.draining.load(Ordering::Relaxed) {
            return refuse(503);
        }
        let Some(route) = services.routing.inbound(incoming.trunk.as_deref(), &incoming.to_user) else {
            tracing::info!(to = %incoming.to_user, "call to a number that is nobody's");
            services.counters.refused();
            return refuse(404);
        };
        let session = CallId::random(&mut rand::rng());
        let line = format!("<- {} {} INVITE {}", incoming.source, incoming.transport.token(), incoming.request_uri);
        let (info, offer) = inbound_leg(leg, session, incoming);
        let (inbox, receiver) = Inbox::new();
        self.register(leg.0, inbox.clone());
        self.register(session.0, inbox.clone());
        let beginning = Beginning::Incoming { info: Box::new(info), line, offer, route: Box::new(route) };
        call_task::spawn(self.clone(), session, inbox, receiver, beginning);
    }

    /// Makes an outbound call. Returns at once: its progress is told by events.
    pub async fn create(&self, call: NewCall) -> Result<Created, CreateError> {
        if self.0.draining.load(Ordering::Relaxed) {
            return Err(CreateError::Full);
        }
        let services = self.services();
        if services.routing.outbound(&call.account, &call.to).is_none() {
            return Err(CreateError::NoRoute(call.to.to_string()));
        }
        let linked = match call.link_to {
            Some(leg) => Some((self.inbox(leg.0).ok_or(CreateError::NoSuchLeg)?, self.live_session(leg).await)),
            None => None,
        };
        let session = match &linked {
            Some((_, session)) => session.ok_or(CreateError::NoSuchLeg)?,
            None => CallId::random(&mut rand::rng()),
        };
        let leg = outbound_leg(session, call, clock::now().time);
        let info = Arc::new(leg.info.clone());
        let recording = leg.record.as_ref().map(|new| new.id);
        let row = records::call_row(&info, info.created_at);
        store::calls::upsert(&services.store, row).await.map_err(store_failed)?;
        match linked {
            Some((inbox, _)) => {
                self.register(info.id.0, inbox.clone());
                inbox.send(Message::NewLeg(Box::new(leg))).await;
            }
            None => {
                let (inbox, receiver) = Inbox::new();
                self.register(info.id.0, inbox.clone());
                self.register(session.0, inbox.clone());
                call_task::spawn(self.clone(), session, inbox, receiver, Beginning::Outgoing(Box::new(leg)));
            }
        }
        Ok(Created { leg: info, recording })
    }

    async fn live_session(&self, leg: LegId) -> Option<CallId> {
        self.services().store.flush().await.ok()?;
        let row = store::calls::find(&self.services().store, leg.0).await.ok()??;
        Some(CallId(row.session))
    }

    /// Asks something of a live leg.
    pub async fn request(&self, leg: LegId, request: Request) -> Result<Accepted, Refused> {
        let inbox = self.inbox(leg.0).ok_or(Refused::NoSuchLeg)?;
        if let Command::Bridge { with, .. } = &request.command {
            self.unite(&inbox, *with).await?;
        }
        let (reply, answer) = oneshot::channel();
        inbox.send(Message::Request { leg, request: Box::new(request), reply }).await;
        answer.await.unwrap_or(Err(Refused::Ended))
    }

    /// Brings the call of another leg into the call behind `inbox`. Neither call waits for the other: this task does.
    async fn unite(&self, inbox: &Inbox, with: LegId) -> Result<(), Refused> {
        let other = self.inbox(with.0).ok_or(Refused::CannotBridge)?;
        if other.same(inbox) {
            return Ok(());
        }
        let (reply, room) = oneshot::channel();
        inbox.send(Message::Room(reply)).await;
        let room = room.await.map_err(|_| Refused::Ended)?;
        let (reply, estate) = oneshot::channel();
        other.send(Message::Surrender { heir: inbox.clone(), room, reply }).await;
        let estate = estate.await.map_err(|_| Refused::CannotBridge)?;
        inbox.send(Message::Absorb(estate)).await;
        Ok(())
    }

    /// A leg of this account, live or ended.
    pub async fn get(&self, account: &str, leg: LegId) -> Result<Option<Arc<LegInfo>>, StoreFailed> {
        let store = &self.services().store;
        store.flush().await.map_err(store_failed)?;
        let row = store::calls::get(store, account, leg.0).await.map_err(store_failed)?;
        Ok(row.as_ref().and_then(records::leg_of).map(Arc::new))
    }

    /// Legs of this account, newest first. At most `page.limit + 1` are returned, so that the caller sees whether there are more.
    pub async fn list(&self, account: &str, filter: &LegFilter, page: Page) -> Result<Vec<Arc<LegInfo>>, StoreFailed> {
        let store = &self.services().store;
        store.flush().await.map_err(store_failed)?;
        let after = match page.after {
            Some(id) => store::calls::get(store, account, id).await.map_err(store_failed)?.map(|row| row.cursor()),
            None => None,
        };
        let columns = CallFilter {
            to: filter.to.clone(),
            from: filter.from.clone(),
            parent: filter.parent.map(|id| id.0),
            session: filter.session.map(|id| id.0),
            status: filter.status.iter().map(|status| records::status_word(*status).to_owned()).collect(),
            dialect: None,
            direction: filter.direction.map(|direction| records::direction_word(direction).to_owned()),
            created: time_range(filter.started),
            answered: TimeRange::default(),
            ended: time_range(filter.ended),
        };
        let rows =
            store::calls::list(store, account, &columns, &store_page(page, after)).await.map_err(store_failed)?;
        let of_application =
            |leg: &LegInfo| filter.application.as_deref().is_none_or(|id| leg.application.as_deref() == Some(id));
        Ok(rows.iter().filter_map(records::leg_of).filter(of_application).map(Arc::new).collect())
    }

    /// Forgets an ended leg. `false` if there is none.
    pub async fn delete(&self, account: &str, leg: LegId) -> Result<bool, StoreFailed> {
        let store = &self.services().store;
        store.flush().await.map_err(store_failed)?;
        store::calls::delete(store, account, leg.0).await.map_err(store_failed)
    }

    /// The event log of the session a leg was born in.
    pub async fn log(&self, session: CallId) -> Result<Vec<Line>, StoreFailed> {
        let mut lines = Vec::new();
        if let Some(inbox) = self.inbox(session.0) {
            let (reply, answer) = oneshot::channel();
            inbox.send(Message::Log(reply)).await;
            lines = answer.await.unwrap_or_default();
        }
        let store = &self.services().store;
        store.flush().await.map_err(store_failed)?;
        lines.extend(event_log::read(store, session).await.map_err(store_failed)?);
        lines.sort_by_key(|line| line.at);
        Ok(lines)
    }

    /// A line for a session's log, live or over.
    pub fn note(&self, session: CallId, line: Line) {
        match self.inbox(session.0) {
            Some(inbox) => inbox.log(line),
            None => event_log::late(&self.services().store, session, line),
        }
    }

    /// No new calls from now on.
    pub fn stop_accepting(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Whether new calls are taken.
    pub fn accepts(&self) -> bool {
        !self.0.draining.load(Ordering::Relaxed)
    }

    /// Legs that have a media session.
    pub fn live_legs(&self) -> u64 {
        self.services().media.load().sessions
    }

    /// Returns when no call is alive.
    pub async fn idle(&self) {
        loop {
            let told = self.0.idle.notified();
            if self.0.inboxes.read().is_empty() {
                return;
            }
            told.await;
        }
    }

    /// Hangs every call up.
    pub fn hangup_all(&self) {
        let inboxes: Vec<_> = self.0.inboxes.read().values().cloned().collect();
        for inbox in inboxes {
            inbox.post(Message::HangupAll);
        }
    }

    pub(crate) fn register(&self, id: u128, inbox: Inbox) {
        self.0.inboxes.write().insert(id, inbox);
    }

    pub(crate) fn forget(&self, id: u128) {
        let mut inboxes = self.0.inboxes.write();
        inboxes.remove(&id);
        if inboxes.is_empty() {
            self.0.idle.notify_waiters();
        }
    }

    fn inbox(&self, id: u128) -> Option<Inbox> {
        self.0.inboxes.read().get(&id).cloned()
    }
}

/// Every recording of the server. Cheap to clone.
#[derive(Clone)]
pub struct Recordings(Arc<Services>);

impl Recordings {
    /// Those of these services.
    pub fn new(services: Arc<Services>) -> Self {
        Self(services)
    }

    /// A recording of this account.
    pub async fn get(&self, account: &str, id: RecordingId) -> Result<Option<Recording>, StoreFailed> {
        self.0.store.flush().await.map_err(store_failed)?;
        let row = store::recordings::get(&self.0.store, account, id.0).await.map_err(store_failed)?;
        Ok(row.as_ref().and_then(records::recording_of))
    }

    /// A recording by its id alone: its URL is the secret.
    pub async fn get_public(&self, id: RecordingId) -> Result<Option<Recording>, StoreFailed> {
        self.0.store.flush().await.map_err(store_failed)?;
        let row = store::recordings::find(&self.0.store, id.0).await.map_err(store_failed)?;
        Ok(row.as_ref().and_then(records::recording_of))
    }

    /// Recordings of this account, newest first; at most `page.limit + 1`.
    pub async fn list(
        &self,
        account: &str,
        filter: &RecordingFilter,
        page: Page,
    ) -> Result<Vec<Recording>, StoreFailed> {
        let store = &self.0.store;
        store.flush().await.map_err(store_failed)?;
        let after = match page.after {
            Some(id) => store::recordings::get(store, account, id).await.map_err(store_failed)?.map(|row| row.cursor()),
            None => None,
        };
        let columns = recording_columns(filter);
        let rows =
            store::recordings::list(store, account, &columns, &store_page(page, after)).await.map_err(store_failed)?;
        Ok(rows.iter().filter_map(records::recording_of).collect())
    }

    /// How many recordings of this account there are.
    pub async fn count(&self, account: &str, filter: &RecordingFilter) -> Result<usize, StoreFailed> {
        let counted = store::recordings::count(&self.0.store, account, &recording_columns(filter)).await;
        counted.map(|count| usize::try_from(count).unwrap_or(usize::MAX)).map_err(store_failed)
    }

    /// Forgets a recording and its audio. `false` if there is none.
    pub async fn delete(&self, account: &str, id: RecordingId) -> Result<bool, StoreFailed> {
        self.0.store.flush().await.map_err(store_failed)?;
        let found = store::recordings::delete(&self.0.store, account, id.0).await.map_err(store_failed)?;
        if found && let Err(error) = tokio::fs::remove_file(self.path(id)).await {
            tracing::warn!(%error, recording = %id, "recording's file not removed");
        }
        Ok(found)
    }

    /// The file with its audio (16-bit PCM WAV, 8 kHz), complete once the recording is completed.
    pub fn path(&self, id: RecordingId) -> PathBuf {
        self.0.recording_path(id)
    }

    /// Its audio as an MPEG layer III file.
    pub async fn mp3(&self, id: RecordingId) -> std::io::Result<bytes::Bytes> {
        let wav = tokio::fs::read(self.path(id)).await?;
        let encode = move || {
            let (samples, channels) = wav_samples(&wav);
            tandem_media::encode_mp3(&samples, channels)
        };
        tokio::task::spawn_blocking(encode).await.map(bytes::Bytes::from).map_err(std::io::Error::other)
    }
}

/// Samples and channel count of a WAV file that we wrote: a 44-octet header, then 16-bit PCM.
fn wav_samples(wav: &[u8]) -> (Vec<i16>, u16) {
    let channels = wav.get(22).copied().unwrap_or(1).into();
    let data = wav.get(44..).unwrap_or_default();
    let sample = |pair: &[u8]| match pair {
        [low, high] => i16::from_le_bytes([*low, *high]),
        _ => 0,
    };
    (data.chunks_exact(2).map(sample).collect(), channels)
}

fn inbound_leg(leg: LegId, session: CallId, incoming: sip::Incoming) -> (LegInfo, Option<bytes::Bytes>) {
    let header = |name: &str| {
        let found = incoming.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| header.value.clone())
    };
    let party = |user: &str, uri: &str| match user.parse() {
        Ok(number) => Address::Phone(number),
        Err(_) => Address::from(uri),
    };
    let info = LegInfo {
        id: leg,
        session,
        parent: None,
        account: "".into(),
        dialect: "".into(),
        application: None,
        direction: Direction::Inbound,
        from: party(&incoming.from_user, &incoming.from_uri),
        to: party(&incoming.to_user, &incoming.request_uri),
        caller_name: incoming.from_display.clone(),
        forwarded_from: header("Diversion").map(|value| diverting_user(&value)),
        status: Status::Initiated,
        created_at: clock::now().time,
        answered_at: None,
        end: None,
        client_state: None,
        status_callback: None,
        fallback: None,
        sip: SipFacts {
            call_id: Some(incoming.sip_call_id),
            source_ip: Some(incoming.source.ip()),
            trunk: incoming.trunk,
            headers: incoming.headers.into_iter().map(|header| (header.name, header.value)).collect(),
            ..SipFacts::default()
        },
    };
    (info, incoming.offer)
}

/// The user of a Diversion header's URI (RFC 5806).
fn diverting_user(value: &str) -> String {
    let uri = value.split(['<', '>']).nth(1).unwrap_or(value);
    Address::from(uri).user().to_owned()
}

fn outbound_leg(session: CallId, call: NewCall, now: Timestamp) -> NewLeg {
    let (then, fallback) = match call.first {
        First::Document { target, fallback } => (OnAnswer::Document(target), fallback),
        First::Program(program) => (OnAnswer::Program(program), None),
        First::Commands => (OnAnswer::Wait, None),
    };
    let info = LegInfo {
        id: LegId::random(&mut rand::rng()),
        session,
        parent: None,
        account: call.account,
        dialect: call.dialect.into(),
        application: call.application,
        direction: Direction::OutboundApi,
        from: call.from.clone(),
        to: call.to.clone(),
        caller_name: call.caller_name.clone(),
        forwarded_from: None,
        status: Status::Queued,
        created_at: now,
        answered_at: None,
        end: None,
        client_state: call.client_state,
        status_callback: call.status,
        fallback,
        sip: SipFacts::default(),
    };
    let invite = Invite {
        to: call.to,
        from: call.from,
        caller_name: call.caller_name,
        headers: call.headers,
        credentials: call.credentials,
    };
    NewLeg {
        info,
        invite,
        timeout: call.timeout,
        time_limit: call.time_limit,
        then,
        send_digits: call.send_digits.map(|digits| SendDigits { digits, tone: Duration::from_millis(100) }),
        record: call.record.map(|spec| NewRecording { id: RecordingId::random(&mut rand::rng()), spec }),
        stream: call.stream,
        bridge_to: call.link_to.filter(|_| call.bridge_on_answer),
    }
}

fn store_page(page: Page, after: Option<store::Cursor>) -> store::Page {
    let limit = u32::try_from(page.limit.min(1_000) + 1).unwrap_or(1_001);
    store::Page { limit, after, before: None, offset: page.offset as u64 }
}

fn recording_columns(filter: &RecordingFilter) -> store::recordings::RecordingFilter {
    let completed = || records::recording_status_word(&RecordingStatus::Completed).to_owned();
    store::recordings::RecordingFilter {
        leg: filter.leg.map(|id| id.0),
        session: filter.session.map(|id| id.0),
        from: filter.from.clone(),
        to: filter.to.clone(),
        dialect: None,
        status: filter.completed.then(completed).into_iter().collect(),
        created: time_range(filter.started),
    }
}

fn time_range(range: Range) -> TimeRange {
    TimeRange { since: range.from, before: range.until }
}

#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
fn store_failed(error: store::StoreError) -> StoreFailed {
    tracing::error!(%error, "database");
    StoreFailed
}

/// A call to be made.
#[derive(Clone, Debug)]
pub struct NewCall {
    /// Whose.
    pub account: Arc<str>,
    /// The dialect that speaks for it.
    pub dialect: &'static str,
    /// The application it belongs to.
    pub application: Option<Arc<str>>,
    /// Who is called.
    pub to: Address,
    /// Who calls.
    pub from: Address,
    /// Name shown with it.
    pub caller_name: Option<String>,
    /// Extra SIP headers.
    pub headers: Vec<(String, String)>,
    /// For a peer that challenges.
    pub credentials: Option<Credentials>,
    /// How long it may ring.
    pub timeout: Duration,
    /// How long it may last from the answer.
    pub time_limit: Option<Duration>,
    /// What it does once answered.
    pub first: First,
    /// DTMF sent first.
    pub send_digits: Option<String>,
    /// Recorded from the answer.
    pub record: Option<RecordingSpec>,
    /// Streamed from the answer.
    pub stream: Option<StreamSpec>,
    /// Told of its progress.
    pub status: Option<Callback>,
    /// Opaque word of the application.
    pub client_state: Option<String>,
    /// Made within that leg's session.
    pub link_to: Option<LegId>,
    /// Joined to `link_to` when answered.
    pub bridge_on_answer: bool,
}

/// A call that has been made: what its application is told at once.
#[derive(Clone, Debug)]
pub struct Created {
    /// The new leg.
    pub leg: Arc<LegInfo>,
    /// The recording that begins with the answer.
    pub recording: Option<RecordingId>,
}

/// What a new call does once answered.
#[derive(Clone, PartialEq, Debug)]
pub enum First {
    /// Fetch this.
    Document {
        /// The document.
        target: Target,
        /// When it fails.
        fallback: Option<Target>,
    },
    /// Run this.
    Program(Program),
    /// Wait for commands.
    Commands,
}

/// Why a call cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// No trunk takes the number.
    #[error("no trunk takes {0}")]
    NoRoute(String),
    /// `link_to` is not a live leg.
    #[error("no such leg to link to")]
    NoSuchLeg,
    /// Too many calls.
    #[error("the server takes no more calls")]
    Full,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// The database failed; its own words are in the log.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the database failed")]
pub struct StoreFailed;

/// Which legs.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LegFilter {
    /// Exactly this called party.
    pub to: Option<String>,
    /// Exactly this calling party.
    pub from: Option<String>,
    /// Children of this leg.
    pub parent: Option<LegId>,
    /// Legs born in this session.
    pub session: Option<CallId>,
    /// Of this application.
    pub application: Option<String>,
    /// In one of these states; all if empty.
    pub status: Vec<Status>,
    /// In this direction.
    pub direction: Option<Direction>,
    /// Answered (never answered: created) at or after / before.
    pub started: Range,
    /// Ended at or after / before.
    pub ended: Range,
}

/// Which recordings.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RecordingFilter {
    /// Of this leg.
    pub leg: Option<LegId>,
    /// Of this session.
    pub session: Option<CallId>,
    /// Of a leg with exactly this calling party.
    pub from: Option<String>,
    /// Of a leg with exactly this called party.
    pub to: Option<String>,
    /// Only those that are on disk, whole.
    pub completed: bool,
    /// Started at or after / before.
    pub started: Range,
}

/// A half-open span of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Range {
    /// At or after.
    pub from: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

/// A part of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// How many, at most 1,000.
    pub limit: usize,
    /// Those after (older than) this id; stable while new ones arrive.
    pub after: Option<u128>,
    /// How many of them to pass over.
    pub offset: usize,
}
