//! The server's conferences. A conference belongs to one account and has a name. Each conference has a media room from
//! its first participant to its last participant. Each conference also has a state machine, which decides the order of
//! the events.
//!
//! ```text
//!   JoinConference ──► join ──► Seat (kept by the leg) ──► media::Command::Join
//!                                  \-- left, dropped: the room closes with the last one
//!   requests ──► end, record, announce ──►┐
//!   the room's sink ──► joined, left, ... ├─► state::Conference ──► EventPublisher: webhooks and records, in order
//!                                         │                    ├──► room commands; Announcer: documents to play
//!                                         └────────────────────┴──► ParticipantUpdate::Removed: the leg's call
//! ```
//!
//! In a cluster, a conference lives at one node, and the legs of other nodes join it from there (elsewhere.rs).
//!
//! One lock guards all conferences. The lock is held only while the code updates state and sends commands, and never
//! during a wait. The files of this crate are parts of one table of conferences, so the files use each other.
#![forbid(unsafe_code)]

mod announcer;
mod elsewhere;
mod event_publisher;
pub mod history;
mod seat;
mod services;
mod stream;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tandem_call::Target;
use tandem_call::conference::event::{
    ConferenceEnd, ConferenceEvent, ConferenceEventKind, ConferenceInfo, ConferenceStatus, EndCause, LeftReason,
    ParticipantInfo, ParticipantStatus,
};
use tandem_call::conference::state::{Conference, ConferenceSpec, Output, Refused};
use tandem_call::conference::{Beep, LeaveReason, Participation};
use tandem_call::leg::{LegInfo, Status};
use tandem_call::program::instruction::{Play, Wait};
use tandem_call::recording::{PauseBehavior, Recording, RecordingEnd, RecordingSpec};
use tandem_call::stream::StreamSpec;
use tandem_causes::Cause;
use tandem_history::call_port::CallPort;
use tandem_history::problem::Problem;
use tandem_history::records;
use tandem_host::clock;
use tandem_id::{AccountName, ConferenceId, LegId, OpId, RecordingId, StreamId};
use tandem_media as media;
use tandem_store::{self as store, OwnedBy, StoreError};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use announcer::Announcer;
use elsewhere::{Elsewhere, Link};
pub use elsewhere::{GuestChange, Place};
use event_publisher::EventPublisher;
pub use seat::{JoinRefusal, ReservedSeat};
pub use services::{ConferenceServices, ParticipantUpdate, Reporter};

/// Time for which a conference waits for its first participant. This limit applies if a request has opened the
/// conference.
const FIRST_PARTICIPANT_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// Maximum number of concurrent announcements in one conference.
const MAX_ANNOUNCEMENTS: usize = 16;
/// Maximum number of concurrent playbacks that API requests have started in one conference.
const MAX_PLAYBACKS: usize = 128;

/// Name of the account, and name of the conference.
type Name = (AccountName, Arc<str>);

/// All conferences. The number of media rooms limits the number of conferences. This type is cheap to clone.
#[derive(Clone)]
pub struct Conferences(Arc<Shared>);

struct Shared {
    table: Mutex<ConferenceTable>,
    services: Arc<ConferenceServices>,
    elsewhere: Elsewhere,
}

#[derive(Default)]
struct ConferenceTable {
    live: HashMap<ConferenceId, LiveConference>,
    /// The conferences that can be joined, by account and name.
    names: HashMap<Name, ConferenceId>,
    /// The legs that are called for a conference and have not joined yet.
    expected: HashMap<LegId, ConferenceId>,
}

/// One conference, from its opening until its last event is reported.
struct LiveConference {
    state: Conference,
    /// The handle of the media room. The room closes when this handle is dropped.
    room: Option<media::RoomHandle>,
    /// The participants' calls, by leg.
    calls: HashMap<LegId, Arc<dyn CallPort<ParticipantUpdate>>>,
    services: Arc<ConferenceServices>,
    runtime: Handle,
    events: EventPublisher,
    /// The tasks that play a document to a waiting or held participant, by leg.
    documents: HashMap<LegId, AbortHandle>,
    announcements: usize,
    /// The playbacks that API requests have started. Each entry has the number of the playback, the leg that hears the
    /// playback, and the sender that stops the playback. If the leg is `None`, all legs hear the playback.
    announced: Vec<(u64, Option<LegId>, oneshot::Sender<()>)>,
    /// The task that ends the conference at its maximum duration.
    limit: Option<AbortHandle>,
    next_op: u64,
    /// The playbacks in the room. Each entry has the sender that reports the end of the playback.
    plays: HashMap<OpId, oneshot::Sender<()>>,
    recordings: HashMap<OpId, RecordingId>,
    streams: Vec<stream::Running>,
}

#[derive(Clone, Debug)]
pub struct ConferenceSnapshot {
    /// The conference.
    pub info: Arc<ConferenceInfo>,
    /// The participants in the order of their arrival. The list includes participants that are still being called.
    pub participants: Vec<ParticipantInfo>,
}

/// A leg's membership in a conference. The leg leaves the conference when this value is dropped.
pub struct Seat {
    at: SeatAt,
    name: Arc<str>,
    /// The state of the leg when the leg joined.
    leg: Arc<LegInfo>,
    left: bool,
}

/// The place of the conference of a [`Seat`].
enum SeatAt {
    Here(Conferences, ConferenceId),
    /// The conference lives at another node.
    Elsewhere(Box<Link>),
}

/// A reservation that keeps a conference open without participants until the reservation is dropped.
pub struct Reservation {
    conferences: Conferences,
    id: ConferenceId,
}

impl Conferences {
    /// Creates the table of conferences, which is empty.
    pub fn new(services: ConferenceServices) -> Self {
        let (table, services, elsewhere) = (Mutex::default(), Arc::new(services), Elsewhere::new());
        let conferences = Self(Arc::new(Shared { table, services, elsewhere }));
        conferences.serve_other_nodes();
        conferences
    }

    /// The receiver of the problems of conferences.
    pub fn reporter(&self) -> &Reporter {
        &self.0.services.reporter
    }

    /// Whether there is no conference that a leg can join.
    pub fn is_empty(&self) -> bool {
        self.0.table.lock().names.is_empty()
    }

    /// Returns the id of the account's conference with this name, if a leg can join the conference.
    pub fn find(&self, account: &AccountName, name: &str) -> Option<u128> {
        self.0.table.lock().names.get(&(account.clone(), name.into())).map(|id| id.0)
    }

    /// Returns the name of the account's live conference with this id.
    pub fn name(&self, account: &AccountName, id: u128) -> Option<Arc<str>> {
        self.get(account, ConferenceId(id)).map(|snapshot| Arc::clone(&snapshot.info.name))
    }

    /// Returns the legs of the conference's participants, including legs that are still being called. Returns an empty
    /// list if the conference has ended.
    pub fn members(&self, account: &AccountName, id: u128) -> Vec<LegId> {
        let snapshot = self.get(account, ConferenceId(id));
        snapshot.map(|snapshot| snapshot.participants.iter().map(|one| one.leg).collect()).unwrap_or_default()
    }

    /// Returns a snapshot of the account's conference with this id, if the conference is live.
    pub fn get(&self, account: &AccountName, id: ConferenceId) -> Option<ConferenceSnapshot> {
        self.0.table.lock().of(account, id).map(LiveConference::snapshot)
    }

    /// Returns snapshots of the account's live conferences, newest conference first.
    pub fn all(&self, account: &AccountName) -> Vec<ConferenceSnapshot> {
        self.of(|one| one == account)
    }

    /// Returns snapshots of the live conferences of these accounts, newest conference first.
    pub fn of(&self, selects: impl Fn(&AccountName) -> bool) -> Vec<ConferenceSnapshot> {
        let table = self.0.table.lock();
        let own = table.live.values().filter(|live| selects(&live.state.info().account));
        let mut all: Vec<_> = own.map(LiveConference::snapshot).collect();
        all.sort_by_key(|snapshot| std::cmp::Reverse((snapshot.info.created_at, snapshot.info.id)));
        all
    }

    /// Adds a leg to the conference with this name, if the conference is live at this node, or if this server is alone. A
    /// server that is alone opens the conference if it does not exist. Returns `None` if another node may have the
    /// conference: then use [`Self::arrive`].
    ///
    /// # Errors
    /// Returns [`JoinRefusal::NoRoom`] or [`JoinRefusal::Refused`].
    pub fn join(
        &self,
        leg: &Arc<LegInfo>,
        participation: &Participation,
        call: &Arc<dyn CallPort<ParticipantUpdate>>,
    ) -> Result<Option<Seat>, JoinRefusal> {
        let Some(reserved) = self.reserve_here(&spec_of(leg, participation))? else { return Ok(None) };
        self.enter(reserved.0.id, leg, participation, Arc::clone(call)).map(Some)
    }

    /// Adds a leg to the conference with this id.
    fn enter(
        &self,
        id: ConferenceId,
        leg: &Arc<LegInfo>,
        participation: &Participation,
        call: Arc<dyn CallPort<ParticipantUpdate>>,
    ) -> Result<Seat, JoinRefusal> {
        let mut table = self.0.table.lock();
        let refused = match table.live.get_mut(&id) {
            Some(live) => {
                let taken = live.state.enter(clock::time(), leg, participation.clone());
                if taken.is_ok() {
                    live.calls.insert(leg.id, call);
                }
                taken.err()
            }
            None => Some(Refused::Over),
        };
        table.expected.remove(&leg.id);
        table.settle(self, id);
        match refused {
            None => {
                let (at, name) = (SeatAt::Here(self.clone(), id), Arc::clone(&participation.conference));
                Ok(Seat { at, name, leg: Arc::clone(leg), left: false })
            }
            Some(why) => Err(JoinRefusal::Refused(why)),
        }
    }

    /// Opens a conference. Without a participant, the conference stays open for five minutes. Returns `None` if a live
    /// conference of the account has this name.
    pub async fn open(&self, spec: ConferenceSpec<'_>) -> Result<Option<ConferenceSnapshot>, JoinRefusal> {
        let Place::Here { reserved, is_new: true } = self.place(spec).await? else { return Ok(None) };
        let snapshot = self.0.table.lock().live.get(&reserved.id).map(LiveConference::snapshot);
        tokio::spawn(async move {
            tokio::time::sleep(FIRST_PARTICIPANT_TIMEOUT).await;
            drop(reserved);
        });
        Ok(snapshot)
    }

    /// Ends all conferences. The participants are not hung up.
    pub fn end_all(&self) {
        let all: Vec<_> = self.0.table.lock().live.keys().copied().collect();
        for id in all {
            self.end(id, false);
        }
    }

    /// Whether the conference would now accept a participant with these properties.
    fn admits(&self, id: ConferenceId, participation: &Participation) -> Result<(), Refused> {
        self.0.table.lock().live.get(&id).ok_or(Refused::Over)?.state.admits(participation)
    }

    /// Registers a leg that is being called for the conference.
    fn expect(&self, id: ConferenceId, leg: LegId, participation: Participation) -> Result<(), Refused> {
        let expected = self.with(id, |live| live.state.expect(clock::time(), leg, participation));
        if expected.unwrap_or(Err(Refused::Over))? {
            self.0.table.lock().expected.insert(leg, id);
        }
        Ok(())
    }

    /// Reports the end of a leg that was called for a conference and has not joined.
    pub fn leg_is_over(&self, leg: &LegInfo) {
        let Some(id) = self.0.table.lock().expected.remove(&leg.id) else { return };
        self.with(id, |live| live.state.fail(clock::time(), leg));
    }

    /// Ends a conference. If `clears` is true, the participants are hung up. Returns the legs that are still being
    /// called for the conference. The caller of this function must end these legs.
    pub fn end(&self, id: ConferenceId, clears: bool) -> Vec<LegId> {
        self.with(id, |live| live.state.end(clock::time(), clears)).unwrap_or_default()
    }

    /// Starts a recording. Returns `None` if the conference has ended or too many recordings run.
    pub fn record(&self, id: ConferenceId, spec: RecordingSpec) -> Option<Recording> {
        let now = clock::time();
        let recording = RecordingId::new(now, &mut rand::rng());
        self.with(id, |live| live.state.record(now, recording, spec))?
    }

    /// Returns the unfinished recordings of a conference.
    pub fn recordings(&self, id: ConferenceId) -> Vec<Recording> {
        self.0.table.lock().live.get(&id).map(|live| live.state.recordings().cloned().collect()).unwrap_or_default()
    }

    /// Pauses or resumes a recording. If `pause_behavior` is `None`, the recording resumes. Otherwise the recording
    /// pauses, and `pause_behavior` says what the recording contains for the time of the pause.
    pub fn pause(
        &self,
        id: ConferenceId,
        recording: RecordingId,
        pause_behavior: Option<PauseBehavior>,
    ) -> Result<Recording, Refused> {
        let paused = self.with(id, |live| live.state.pause_recording(clock::time(), recording, pause_behavior));
        paused.unwrap_or(Err(Refused::Over))
    }

    pub fn stop(&self, id: ConferenceId, recording: RecordingId) -> Result<Recording, Refused> {
        self.with(id, |live| live.state.stop_recording(recording)).unwrap_or(Err(Refused::Over))
    }

    /// Streams the audio that all participants hear to a WebSocket application.
    ///
    /// # Errors
    /// Returns [`Refused::Over`] if the conference has ended, or if the dialect of the conference has no conference
    /// streams. Returns [`Refused::Full`] if too many streams run.
    pub fn stream(&self, id: ConferenceId, spec: StreamSpec) -> Result<StreamId, Refused> {
        let conferences = self.clone();
        self.with(id, |live| {
            let (info, services) = (Arc::clone(live.state.info()), &live.services);
            let (dialect, account) = services
                .dialects
                .get(&info.dialect)
                .zip(services.accounts.by_name(&info.account))
                .ok_or(Refused::Over)?;
            if live.state.is_closing() {
                return Err(Refused::Over);
            }
            if live.streams.len() >= stream::MAX_STREAMS {
                return Err(Refused::Full);
            }
            let id = StreamId::new(clock::time(), &mut rand::rng());
            let (stop, stopped) = oneshot::channel();
            let new = stream::NewStream {
                wire: dialect.conference_stream(&account, &info, id, &spec).ok_or(Refused::Over)?,
                client: services.client.of_account(&info.account),
                idle: services.stream_idle,
                byte_order: services.stream_byte_order,
                events: live.events.clone(),
                conference: info,
                conferences,
                id,
                stopped,
                spec: spec.clone(),
            };
            live.streams.push(stream::Running { id, name: spec.name, stop });
            live.runtime.spawn(new.run());
            Ok(id)
        })
        .unwrap_or(Err(Refused::Over))
    }

    /// Stops the stream with this id or this name. Returns the id and the name of the stream.
    pub fn stop_stream(&self, id: ConferenceId, which: Result<StreamId, &str>) -> Option<(StreamId, Option<String>)> {
        self.with(id, |live| {
            let is =
                |one: &stream::Running| which.map_or_else(|name| one.name.as_deref() == Some(name), |id| one.id == id);
            let place = live.streams.iter().position(is)?;
            let stream::Running { id, name, stop } = live.streams.remove(place);
            // An error is ignored, because the stream may just have ended by itself.
            let _ = stop.send(());
            Some((id, name))
        })?
    }

    /// Plays a document as an announcement to all participants or to one participant. Returns `false` if the conference
    /// has ended or too many announcements run.
    pub fn announce(&self, id: ConferenceId, to: Option<LegId>, target: Target) -> bool {
        let conferences = self.clone();
        let started = self.with(id, |live| {
            let leg = live.state.leg(to).cloned().filter(|_| live.announcements < MAX_ANNOUNCEMENTS)?;
            live.announcements += 1;
            let announcer = live.announcer(&conferences, leg, to);
            live.runtime.spawn(async move {
                let failure = announcer.announce(target.clone()).await.err();
                conferences.with(id, |live| {
                    live.announcements -= 1;
                    live.state.announced(clock::time(), &target.url, to, failure);
                });
            });
            Some(())
        });
        started.flatten().is_some()
    }

    /// Plays the audio of an API request to all participants or to one participant, and reports the start and the end
    /// of the playback. Returns `false` if the conference has ended or too many playbacks run.
    pub fn play_announcement(&self, id: ConferenceId, play: Play, to: Option<LegId>) -> bool {
        let conferences = self.clone();
        let started = self.with(id, |live| {
            let leg = live.state.leg(to).cloned().filter(|_| live.announced.len() < MAX_PLAYBACKS)?;
            let number = live.new_op().0;
            let (stop, stopped) = oneshot::channel();
            live.announced.push((number, to, stop));
            let announcer = live.announcer(&conferences, leg, to);
            live.runtime.spawn(async move {
                announcer.play_announcement(play, stopped).await;
                conferences.with(id, |live| live.announced.retain(|(one, ..)| *one != number));
            });
            Some(())
        });
        started.flatten().is_some()
    }

    /// Stops playbacks that API requests have started. If `legs` is `None`, all these playbacks stop. If `legs` lists
    /// legs, a playback stops only if exactly one of these legs hears the playback.
    pub fn stop_announcements(&self, id: ConferenceId, legs: Option<&[LegId]>) {
        self.with(id, |live| {
            let ends = |to: Option<LegId>| legs.is_none_or(|legs| to.is_some_and(|leg| legs.contains(&leg)));
            let (ended, kept) = std::mem::take(&mut live.announced).into_iter().partition(|(_, to, _)| ends(*to));
            live.announced = kept;
            let ended: Vec<(u64, Option<LegId>, oneshot::Sender<()>)> = ended;
            for (_, _, stop) in ended {
                // An error is ignored, because the playback may have ended by itself.
                let _ = stop.send(());
            }
        });
    }

    fn end_after(&self, id: ConferenceId, lasts: Duration) -> AbortHandle {
        let conferences = self.clone();
        let ends = async move {
            tokio::time::sleep(lasts).await;
            conferences.with(id, |live| live.state.time_up(clock::time()));
        };
        tokio::spawn(ends).abort_handle()
    }

    /// Applies a function to a live conference. Then performs the outputs of the conference's state.
    fn with<T>(&self, id: ConferenceId, act: impl FnOnce(&mut LiveConference) -> T) -> Option<T> {
        let mut table = self.0.table.lock();
        let done = table.live.get_mut(&id).map(act);
        table.settle(self, id);
        done
    }

    /// Plays audio in a room, to all participants or only to the leg `to`. The returned receiver receives a message at
    /// the end of the playback.
    fn play(
        &self,
        id: ConferenceId,
        audio: Arc<media::Audio>,
        loops: Option<NonZeroU32>,
        to: Option<LegId>,
    ) -> Option<(OpId, oneshot::Receiver<()>)> {
        let mut table = self.0.table.lock();
        let live = table.live.get_mut(&id)?;
        let op = live.new_op();
        let to = to.map(|leg| vec![leg]);
        live.room.as_ref()?.command(media::RoomCommand::Play { op, audio, loops, to }).ok()?;
        let (sender, receiver) = oneshot::channel();
        live.plays.insert(op, sender);
        Some((op, receiver))
    }

    /// Stops a playback if it still runs.
    fn stop_play(&self, id: ConferenceId, op: OpId) {
        let mut table = self.0.table.lock();
        let Some(live) = table.live.get_mut(&id) else { return };
        if live.plays.remove(&op).is_some() {
            live.command(media::RoomCommand::Stop { op });
        }
    }
}

impl ConferenceTable {
    fn of(&self, account: &AccountName, id: ConferenceId) -> Option<&LiveConference> {
        self.live.get(&id).filter(|live| live.state.info().account == *account)
    }

    /// Reserves the conference with this name. Opens the conference if it does not exist.
    fn reserve(
        &mut self,
        conferences: &Conferences,
        spec: ConferenceSpec<'_>,
        new: Option<ConferenceId>,
    ) -> Result<ConferenceId, media::OpenError> {
        let id = self.find_or_open(conferences, spec, new)?;
        if let Some(live) = self.live.get_mut(&id) {
            live.state.reserve();
        }
        self.settle(conferences, id);
        Ok(id)
    }

    /// Returns the conference with this name. If it does not exist, opens it with the id `new`, or with a new id.
    fn find_or_open(
        &mut self,
        conferences: &Conferences,
        spec: ConferenceSpec<'_>,
        new: Option<ConferenceId>,
    ) -> Result<ConferenceId, media::OpenError> {
        let place = (spec.account.clone(), Arc::clone(spec.name));
        if let Some(id) = self.names.get(&place) {
            return Ok(*id);
        }
        let now = clock::time();
        let id = new.unwrap_or_else(|| ConferenceId::new(now, &mut rand::rng()));
        let music = Some(media::hold_music());
        let live_for = spec.opening.as_ref().and_then(|opening| opening.lasts);
        let starts_with = if spec.opening.as_ref().is_some_and(|opening| opening.starts_alone) { 1 } else { 2 };
        let room_spec = media::RoomSpec {
            max_participants: spec.max_participants,
            starts_with,
            music,
            ..media::RoomSpec::default()
        };
        let sink = sink(Arc::downgrade(&conferences.0));
        let services = &conferences.0.services;
        let room = services.media.open_room(media::RoomKey(id.0), id.0, room_spec, sink)?;
        let state = Conference::open(id, spec, now);
        let live = LiveConference {
            state,
            room: Some(room),
            calls: HashMap::new(),
            services: Arc::clone(services),
            runtime: Handle::current(),
            events: EventPublisher::start(services),
            documents: HashMap::new(),
            announcements: 0,
            announced: Vec::new(),
            limit: live_for.map(|lasts| conferences.end_after(id, lasts)),
            next_op: 0,
            plays: HashMap::new(),
            recordings: HashMap::new(),
            streams: Vec::new(),
        };
        self.live.insert(id, live);
        self.names.insert(place, id);
        Ok(id)
    }

    /// Performs the outputs of a conference's state. Removes the conference if it has ended.
    fn settle(&mut self, conferences: &Conferences, id: ConferenceId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        while let Some(output) = live.state.poll_output() {
            live.perform(conferences, output);
        }
        let info = live.state.info();
        if live.state.is_closing() {
            // From now on, a leg that joins opens a new conference.
            let name = (info.account.clone(), Arc::clone(&info.name));
            if self.names.get(&name) == Some(&id) {
                self.names.remove(&name);
                conferences.free_name(id);
            }
        }
        if info.status == ConferenceStatus::Completed {
            self.expected.retain(|_, of| *of != id);
            if let Some(live) = self.live.remove(&id) {
                live.documents.values().chain(&live.limit).for_each(AbortHandle::abort);
            }
        }
    }
}

impl LiveConference {
    fn snapshot(&self) -> ConferenceSnapshot {
        ConferenceSnapshot {
            info: Arc::clone(self.state.info()),
            participants: self.state.participants().cloned().collect(),
        }
    }

    fn new_op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op)
    }

    fn perform(&mut self, conferences: &Conferences, output: Output) {
        match output {
            Output::Event(event) => {
                if let ConferenceEventKind::Left { participant, .. } = &event.kind
                    && self.state.participant(participant.leg).is_none()
                {
                    self.calls.remove(&participant.leg);
                }
                self.events.publish(*event);
            }
            Output::Record { id, spec } => self.start_recording(id, &spec),
            Output::PauseRecording { id, pause_behavior } => {
                let silence = pause_behavior == PauseBehavior::Silence;
                self.to_recording(id, |op| media::RecordingCommand::Pause { op, silence });
            }
            Output::ResumeRecording(id) => self.to_recording(id, |op| media::RecordingCommand::Resume { op }),
            Output::StopRecording(id) => self.to_recording(id, |op| media::RecordingCommand::Stop { op }),
            Output::SetWaitAudio { leg, audio } => {
                if let Some(before) = self.documents.remove(&leg) {
                    before.abort();
                }
                if let (Some(audio), Some(info)) = (audio, self.state.leg(Some(leg)).cloned()) {
                    let announcer = self.announcer(conferences, info, Some(leg));
                    let task = self.runtime.spawn(announcer.repeat(audio));
                    self.documents.insert(leg, task.abort_handle());
                }
            }
            Output::ParticipantRemoved { leg, clears } => {
                if let Some(call) = self.calls.get(&leg) {
                    // The call may be over.
                    let _ = call.report(ParticipantUpdate::Removed { clears });
                }
            }
            Output::Close => self.room = None,
        }
    }

    fn announcer(&self, conferences: &Conferences, leg: Arc<LegInfo>, to: Option<LegId>) -> Announcer {
        let info = self.state.info();
        let call = self.calls.get(&leg.id).cloned();
        Announcer {
            conferences: conferences.clone(),
            services: Arc::clone(&self.services),
            id: info.id,
            name: Arc::clone(&info.name),
            leg,
            to,
            call,
        }
    }

    fn command(&self, command: media::RoomCommand) -> bool {
        self.room.as_ref().is_some_and(|room| room.command(command).is_ok())
    }

    fn start_recording(&mut self, id: RecordingId, spec: &RecordingSpec) {
        let op = self.new_op();
        let files = &self.services.recordings;
        let spec = media::RecordSpec {
            path: files.path(id),
            coding: files.coding,
            channels: media::Channels::Mono,
            track: media::Tracks::Both,
            max_length: spec.max_length,
            silence_timeout: spec.silence_timeout,
            trim: spec.trim,
            after: None,
            key: files.key.clone(),
        };
        if self.command(media::RoomCommand::Recording(media::RecordingCommand::Start { op, spec })) {
            self.recordings.insert(op, id);
        } else {
            let failed = RecordingEnd::Failed("the media engine accepts no commands".to_owned());
            self.state.handle_recorded(clock::time(), id, failed, Duration::ZERO);
        }
    }

    fn to_recording(&self, id: RecordingId, order: impl FnOnce(OpId) -> media::RecordingCommand) {
        if let Some((op, _)) = self.recordings.iter().find(|(_, one)| **one == id) {
            self.command(media::RoomCommand::Recording(order(*op)));
        }
    }

    fn handle_room_event(&mut self, now: Timestamp, event: media::RoomEvent) {
        match event {
            media::RoomEvent::Joined { session } => self.state.handle_joined(now, session),
            media::RoomEvent::Left { session } => self.state.handle_left(now, session),
            media::RoomEvent::Started => {
                self.state.handle_started(now, RecordingId::new(now, &mut rand::rng()));
            }
            media::RoomEvent::Speaks { session, speaks } => {
                // An application does not depend on speaker events to know the state. So for a slow application,
                // speaker events are dropped first.
                if !self.events.is_full() {
                    self.state.handle_speaks(now, session, speaks);
                }
            }
            media::RoomEvent::ActiveSpeaker(Some(session)) => {
                if !self.events.is_full() {
                    self.state.handle_active_speaker(now, session);
                }
            }
            media::RoomEvent::ActiveSpeaker(None) => {}
            media::RoomEvent::Finished { op, .. } => {
                if let Some(waiting) = self.plays.remove(&op) {
                    // The waiting task may have been aborted, so an error is ignored.
                    let _ = waiting.send(());
                }
            }
            media::RoomEvent::Recorded(event) => self.handle_recording_event(now, event),
            media::RoomEvent::Ended { .. } => self.state.handle_over(now),
        }
    }

    fn handle_recording_event(&mut self, now: Timestamp, event: media::Event) {
        let media::Event::RecordingFinished { op, reason, duration, dropped, path, .. } = event else { return };
        let Some(id) = self.recordings.remove(&op) else { return };
        if !dropped.is_zero() {
            let info = self.state.info();
            let (milliseconds, path) = (dropped.as_millis(), path.display());
            let text = format!("conference {}: {milliseconds} ms of {path} were replaced by silence", info.name);
            self.services.reporter.report(&info.account, Problem::new(Cause::DiskSlow, text));
        }
        let end = match reason {
            media::RecordingReason::Stopped => RecordingEnd::Stopped,
            media::RecordingReason::MaxLength => RecordingEnd::MaxLength,
            media::RecordingReason::Silence => RecordingEnd::Silence,
            media::RecordingReason::Error(why) => RecordingEnd::Failed(why),
        };
        self.state.handle_recorded(now, id, end, duration);
    }
}

impl Seat {
    /// Whether this membership belongs to the conference with this name in the leg's account.
    pub fn is_in(&self, conference: &str) -> bool {
        *self.name == *conference
    }

    /// Changes the properties of the leg's participation.
    pub fn change(&self, participation: &Participation) {
        match &self.at {
            SeatAt::Here(conferences, id) => {
                let (now, leg) = (clock::time(), self.leg.id);
                conferences.with(*id, |live| live.state.change(now, leg, participation));
            }
            SeatAt::Elsewhere(link) => link.change(participation),
        }
    }

    /// Leaves the conference. `leg` is the current state of the leg.
    pub fn leave(mut self, leg: &Arc<LegInfo>, why: LeaveReason) {
        self.left = true;
        self.give_up(leg, why);
    }

    fn give_up(&self, leg: &Arc<LegInfo>, why: LeaveReason) {
        match &self.at {
            SeatAt::Here(conferences, id) => {
                conferences.with(*id, |live| live.state.leave(clock::time(), leg, why));
            }
            SeatAt::Elsewhere(link) => link.leave(leg, why),
        }
    }

    /// Returns the command with which the media session of the leg stops to be a part of the conference.
    pub fn leave_command(&self) -> media::Command {
        match &self.at {
            SeatAt::Here(..) => media::Command::Leave,
            SeatAt::Elsewhere(_) => media::Command::Unbridge,
        }
    }

    /// Returns the command with which the media session of the leg becomes a part of the conference, or changes its part.
    pub fn command(&self, participation: &Participation) -> media::Command {
        let id = match &self.at {
            SeatAt::Here(_, id) => *id,
            SeatAt::Elsewhere(link) => return media::Command::Bridge { with: link.session() },
        };
        let role = match &participation.coach {
            Some(coaching) if coaching.on && coaching.legs.is_empty() => media::Role::Monitor,
            Some(coaching) if coaching.on => media::Role::Coach(coaching.legs.clone()),
            _ => media::Role::Speaker,
        };
        let participation = media::Participation {
            role,
            muted: participation.muted,
            hold: match participation.hold {
                None => media::Hold::No,
                Some(Wait::Music) => media::Hold::Music,
                Some(Wait::Silence | Wait::Document(_) | Wait::File(_) | Wait::Stored(_)) => media::Hold::Silence,
            },
            waits_in_silence: participation.wait != Wait::Music,
            waits: participation.waits,
            ends_room: participation.ends,
            beep: match participation.beep {
                Beep::None => media::Beep::None,
                Beep::Enter => media::Beep::Enter,
                Beep::Exit => media::Beep::Exit,
                Beep::Both => media::Beep::Both,
            },
            ..media::Participation::default()
        };
        media::Command::Join { room: media::RoomKey(id.0), participation }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.left {
            self.give_up(&self.leg, LeaveReason::Over);
        }
    }
}

impl Reservation {
    /// Returns the id of the reserved conference.
    pub fn id(&self) -> ConferenceId {
        self.id
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.conferences.with(self.id, |live| live.state.release(clock::time()));
    }
}

/// Ends the conferences that were live before a crash, and reports the end of each conference. Returns the number of
/// these conferences.
pub async fn recover(conferences: &Conferences, owner: &OwnedBy, now: Timestamp) -> Result<usize, StoreError> {
    let services = &*conferences.0.services;
    if services.cluster.is_on() {
        store::owned_names::free_all(&services.store, owner).await?;
    }
    let left = history::unfinished(&services.store, owner).await?;
    let count = left.len();
    for history::UnfinishedConference { mut info, participants } in left {
        let count = store::deliveries::list(&services.store, info.id.0).await?.len();
        let mut sequence = u32::try_from(count + 1).unwrap_or(u32::MAX);
        info.updated_at = now;
        let mut first = None;
        for mut participant in participants {
            let was_connected = participant.status == ParticipantStatus::Connected;
            // The recovery has already ended the leg records of the crashed server.
            let leg = store::calls::find(&services.store, participant.leg.0).await?;
            let call = leg.as_ref().and_then(records::leg_of).map_or(Status::Completed, |leg| leg.status);
            participant.status = if was_connected { ParticipantStatus::Left } else { ParticipantStatus::Failed };
            participant.updated_at = now;
            let why = if was_connected { LeftReason::Itself } else { LeftReason::NotReached };
            let kind = ConferenceEventKind::Left { participant, why, call };
            let leg = leg.as_ref().and_then(records::leg_of).map(Arc::new);
            let first = first.get_or_insert_with(|| leg.clone()).clone();
            let event = ConferenceEvent { at: now, conference: Arc::new(info.clone()), leg, first, kind };
            event_publisher::publish(services, &event, &mut sequence).await;
        }
        let end = Some(ConferenceEnd { cause: EndCause::Failed, by: None, label: None });
        let info = Arc::new(ConferenceInfo { status: ConferenceStatus::Completed, end, ..info });
        let first = first.flatten();
        let event =
            ConferenceEvent { at: now, conference: info, leg: first.clone(), first, kind: ConferenceEventKind::Ended };
        event_publisher::publish(services, &event, &mut sequence).await;
    }
    Ok(count)
}

/// Returns the conference that this leg opens if it does not exist.
pub fn spec_of<'a>(leg: &'a LegInfo, participation: &'a Participation) -> ConferenceSpec<'a> {
    let Participation { conference: name, max_participants, opening, .. } = participation;
    let (account, dialect) = (&leg.account, &leg.dialect);
    ConferenceSpec { account, dialect, name, max_participants: *max_participants, opening: opening.clone() }
}

/// Returns the sink that passes the events of a room to the room's conference.
fn sink(shared: Weak<Shared>) -> media::RoomSink {
    Arc::new(move |room, event| {
        let Some(shared) = shared.upgrade() else { return Ok(()) };
        let conferences = Conferences(shared);
        conferences.with(ConferenceId(room.0), |live| live.handle_room_event(clock::time(), event));
        Ok(())
    })
}
