//! Conferences over the nodes of a cluster. A conference lives at one node: the table `owned_names` has its id, and the id
//! names the node. A leg of another node joins it over the bus, and its audio goes by RTP between the two nodes.
//!
//! ```text
//!   node B owns the leg                            node A owns the conference
//!   Seat ──► Link ── Join, Change, Leave ──bus──►  Guest ──► Seat
//!   the leg's call ◄──────── Told ──────────bus──  GuestPort ◄── ParticipantUpdate
//!   the leg's session ◄─bridge─► link ◄──RTP──►    session (the id of the leg is its key) ──► room
//! ```
//!
//! For the conference, a guest is a participant like any other. When a node is gone, its guests leave, and the legs of
//! other nodes in its conferences continue as after the end of a conference.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tandem_call::conference::state::{ConferenceSpec, Refused};
use tandem_call::conference::{LeaveReason, Participation};
use tandem_call::leg::LegInfo;
use tandem_call::stream::CallOver;
use tandem_cluster::{ANSWER_TIME, CHANGE_TIME, Cluster, NAME_TIME, NameOwner, Question, REPEAT};
use tandem_history::call_port::CallPort;
use tandem_history::event_log::Line;
use tandem_host::clock;
use tandem_id::{ConferenceId, LegId};
use tandem_media as media;
use tandem_store::nodes::NodeRow;
use tandem_store::owned_names::{self, Named};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::{Conferences, JoinRefusal, ParticipantUpdate, Reservation, Seat, SeatAt, spec_of};

/// Maximum number of changes of one participation that wait for the other node. A later change is dropped.
const CHANGES: usize = 64;

/// Maximum number of attempts to find the place of a conference that ends just now.
const ATTEMPTS: usize = 4;

/// The node of a conference.
pub enum Place {
    /// This node.
    Here {
        /// Keeps the conference open.
        reserved: Reservation,
        /// Whether the conference was opened just now.
        is_new: bool,
    },
    /// Another node.
    At(Box<NodeRow>, ConferenceId),
}

/// The memberships over two nodes.
pub(super) struct Elsewhere {
    /// The media threads report too, and they are outside of the runtime.
    runtime: Handle,
    /// Held while this node takes a name and opens the conference.
    naming: tokio::sync::Mutex<()>,
    /// The legs of other nodes in the conferences of this node.
    guests: Mutex<HashMap<LegId, Guest>>,
    /// The legs of this node in the conferences of other nodes.
    links: Mutex<HashMap<LegId, LinkEnd>>,
}

impl Elsewhere {
    pub(super) fn new() -> Self {
        let (naming, guests, links) = (tokio::sync::Mutex::default(), Mutex::default(), Mutex::default());
        Self { runtime: Handle::current(), naming, guests, links }
    }
}

/// A leg of another node in a conference of this node.
struct Guest {
    /// The node of the leg.
    epoch: i64,
    seat: Seat,
    session: media::Session,
    /// Tells each change. Dropped when the guest has left.
    changed: watch::Sender<()>,
}

/// Waits for the next change of a guest. The node of the guest performs the requests for it, and then reports the change.
pub struct GuestChange(watch::Receiver<()>);

impl GuestChange {
    /// Waits until the conference has the change, or until the guest has left, for at most a second.
    pub async fn wait(mut self) {
        // An error means that the guest has left.
        if let Err(_elapsed) = tokio::time::timeout(ANSWER_TIME, self.0.changed()).await {
            tracing::warn!("a participant of another node has not changed yet");
        }
    }
}

/// The call of a leg in a conference of another node.
struct LinkEnd {
    /// The number of this membership. A leg may leave a conference and join the next one.
    number: u64,
    /// The node of the conference.
    epoch: i64,
    call: Arc<dyn CallPort<ParticipantUpdate>>,
}

/// A leg of the asking node joins a conference.
#[derive(Serialize, Deserialize)]
struct Join {
    conference: u128,
    /// The asking node.
    epoch: i64,
    leg: LegInfo,
    participation: Participation,
    /// The offer of RTP (SDP).
    offer: String,
}

impl Question for Join {
    const NAME: &'static str = "conference-join";
    /// The answer to the offer (SDP).
    type Answer = Result<String, GuestRefused>;
}

/// The reason why a leg of another node did not join.
#[derive(Serialize, Deserialize)]
enum GuestRefused {
    /// The conference has ended, or takes no further participants.
    Refused(Refused),
    NoMedia(String),
}

/// A guest participates in another way now.
#[derive(Serialize, Deserialize)]
struct Change {
    leg: LegId,
    participation: Participation,
}

impl Question for Change {
    const NAME: &'static str = "conference-change";
    type Answer = ();
}

/// A guest leaves.
#[derive(Serialize, Deserialize)]
struct Leave {
    /// The present state of the leg.
    leg: LegInfo,
    why: LeaveReason,
}

impl Question for Leave {
    const NAME: &'static str = "conference-leave";
    type Answer = ();
}

/// A report of a conference to the call of a guest.
#[derive(Serialize, Deserialize)]
struct Told {
    leg: LegId,
    update: ParticipantUpdate,
}

impl Question for Told {
    const NAME: &'static str = "conference-told";
    type Answer = ();
}

/// The membership of a leg of this node in a conference of another node.
pub(super) struct Link {
    conferences: Conferences,
    leg: LegId,
    number: u64,
    changes: mpsc::Sender<Participation>,
    leaving: Arc<Mutex<(Arc<LegInfo>, LeaveReason)>>,
    session: media::Session,
}

impl Conferences {
    /// Adds a leg to the conference with this name, at whatever node the conference lives. Opens the conference if it does
    /// not exist. `affinity` is that of the media session of the leg.
    pub async fn arrive(
        &self,
        leg: &Arc<LegInfo>,
        participation: &Participation,
        call: Arc<dyn CallPort<ParticipantUpdate>>,
        affinity: u128,
    ) -> Result<Seat, JoinRefusal> {
        for _ in 0..ATTEMPTS {
            match self.place(spec_of(leg, participation)).await? {
                Place::Here { reserved, .. } => return self.enter(reserved.id, leg, participation, call),
                Place::At(node, id) => {
                    match self.join_at(&node, id, (leg, participation), Arc::clone(&call), affinity).await {
                        // The conference ends just now, and its name will be free.
                        Err(JoinRefusal::Refused(Refused::Over)) => tokio::time::sleep(REPEAT / 4).await,
                        done => return done,
                    }
                }
            }
        }
        Err(JoinRefusal::Refused(Refused::Over))
    }

    /// Finds the node of a conference, and reserves the conference if it is this node. Opens the conference if it does not
    /// exist.
    pub async fn place(&self, spec: ConferenceSpec<'_>) -> Result<Place, JoinRefusal> {
        if let Some((reserved, is_new)) = self.reserve_here(&spec)? {
            return Ok(Place::Here { reserved, is_new });
        }
        let (services, elsewhere) = (&self.0.services, &self.0.elsewhere);
        let named = async {
            let naming = elsewhere.naming.lock().await;
            // Another task may have opened the conference meanwhile.
            if let Some((reserved, is_new)) = self.reserve_here(&spec)? {
                return Ok(Place::Here { reserved, is_new });
            }
            let new = ConferenceId::new(clock::time(), &mut rand::rng());
            let name = (spec.account, &**spec.name);
            match services.cluster.take_name(Named::Conference, name, new.0).await? {
                NameOwner::This => {}
                NameOwner::Other(node, id) => return Ok(Place::At(node, ConferenceId(id))),
                NameOwner::Unknown(refusal) => return Err(JoinRefusal::NoOwner(refusal.to_string())),
            }
            let opened = self.0.table.lock().reserve(self, spec.clone(), Some(new));
            drop(naming);
            match opened {
                Ok(id) => Ok(Place::Here { reserved: Reservation { conferences: self.clone(), id }, is_new: true }),
                Err(error) => {
                    self.free_name(new);
                    Err(error.into())
                }
            }
        };
        let late = || JoinRefusal::NoOwner(format!("the database did not answer within {} s", NAME_TIME.as_secs()));
        tokio::time::timeout(NAME_TIME, named).await.unwrap_or_else(|_| Err(late()))
    }

    /// Reserves the conference if it is live here, or if this server is alone. Returns whether it is new.
    pub(super) fn reserve_here(
        &self,
        spec: &ConferenceSpec<'_>,
    ) -> Result<Option<(Reservation, bool)>, media::OpenError> {
        let mut table = self.0.table.lock();
        let is_new = !table.names.contains_key(&(spec.account.clone(), Arc::clone(spec.name)));
        if is_new && self.0.services.cluster.is_on() {
            return Ok(None);
        }
        let id = table.reserve(self, spec.clone(), None)?;
        drop(table);
        Ok(Some((Reservation { conferences: self.clone(), id }, is_new)))
    }

    /// Frees the name of a conference that takes no further participants.
    pub(super) fn free_name(&self, id: ConferenceId) {
        let services = &self.0.services;
        if services.cluster.is_on() {
            let store = services.store.clone();
            let free = async move {
                // A name that is not freed is taken over by the next conference with this name.
                if let Err(error) = owned_names::free(&store, Named::Conference, id.0).await {
                    tracing::warn!(%error, "the name of an ended conference is not free yet");
                }
            };
            services.tasks.spawn_on(free, &self.0.elsewhere.runtime);
        }
    }

    /// Joins a conference of another node.
    async fn join_at(
        &self,
        node: &NodeRow,
        id: ConferenceId,
        (leg, participation): (&Arc<LegInfo>, &Participation),
        call: Arc<dyn CallPort<ParticipantUpdate>>,
        affinity: u128,
    ) -> Result<Seat, JoinRefusal> {
        let (cluster, elsewhere) = (&self.0.services.cluster, &self.0.elsewhere);
        let key = LegId::new(clock::time(), &mut rand::rng());
        let mut session = self.0.services.media.open(media::OpenSpec::new(key, affinity), Arc::new(|_, _| Ok(())))?;
        let offer = String::from_utf8_lossy(&session.offer()).into_owned();
        let join = Join {
            conference: id.0,
            epoch: cluster.epoch().unwrap_or_default(),
            leg: (**leg).clone(),
            participation: participation.clone(),
            offer,
        };
        // The conference may report to the call before the answer is here.
        let number = rand::random();
        let before = elsewhere.links.lock().insert(leg.id, LinkEnd { number, epoch: node.epoch, call });
        drop(before);
        let (changes, waiting) = mpsc::channel(CHANGES);
        let leaving = Arc::new(Mutex::new((Arc::clone(leg), LeaveReason::Over)));
        let answer = cluster.ask(node, &join).await;
        let (at, is_unknown) = ((cluster.clone(), node.clone(), leg.id), answer.is_err());
        let link =
            Link { conferences: self.clone(), leg: leg.id, number, changes, leaving: Arc::clone(&leaving), session };
        // If the answer was lost, the leg may be in the conference: the other node must hear that it leaves.
        if is_unknown || matches!(answer, Ok(Ok(_))) {
            self.0.services.tasks.spawn(carry(at, waiting, leaving));
        }
        let name = Arc::clone(&participation.conference);
        let seat = Seat { at: SeatAt::Elsewhere(Box::new(link)), name, leg: Arc::clone(leg), left: false };
        let refusal = match answer {
            Ok(Ok(answer)) => match seat.accept(answer) {
                Ok(seat) => return Ok(seat),
                Err(error) => JoinRefusal::NoOwner(error.to_string()),
            },
            Ok(Err(GuestRefused::Refused(why))) => JoinRefusal::Refused(why),
            Ok(Err(GuestRefused::NoMedia(why))) => JoinRefusal::NoOwner(format!("node {}: {why}", node.name)),
            Err(error) => JoinRefusal::NoOwner(format!("node {}: {error}", node.name)),
        };
        Err(refusal)
    }

    /// Answers the questions of other nodes about conferences.
    pub(super) fn serve_other_nodes(&self) {
        let cluster = &self.0.services.cluster;
        let weak = Arc::downgrade(&self.0);
        cluster.answer(move |join: Join| {
            let admitted = match weak.upgrade() {
                Some(shared) => Conferences(shared).admit(join),
                None => Err(GuestRefused::Refused(Refused::Over)),
            };
            std::future::ready(admitted)
        });
        let weak = Arc::downgrade(&self.0);
        cluster.answer(move |change: Change| {
            if let Some(shared) = weak.upgrade()
                && let Some(guest) = shared.elsewhere.guests.lock().get(&change.leg)
            {
                guest.seat.change(&change.participation);
                guest.command(&change.participation);
                guest.changed.send_replace(());
            }
            std::future::ready(())
        });
        let weak = Arc::downgrade(&self.0);
        cluster.answer(move |leave: Leave| {
            if let Some(shared) = weak.upgrade() {
                let guest = shared.elsewhere.guests.lock().remove(&leave.leg.id);
                if let Some(guest) = guest {
                    guest.leave(&Arc::new(leave.leg), leave.why);
                }
            }
            std::future::ready(())
        });
        let weak = Arc::downgrade(&self.0);
        cluster.answer(move |told: Told| {
            let shared = weak.upgrade();
            let call = shared
                .and_then(|shared| shared.elsewhere.links.lock().get(&told.leg).map(|link| Arc::clone(&link.call)));
            if let Some(call) = call {
                // The call may be over.
                let _ = call.report(told.update);
            }
            std::future::ready(())
        });
    }

    /// Adds a leg of another node to a conference of this node.
    fn admit(&self, join: Join) -> Result<String, GuestRefused> {
        let Join { conference, epoch, leg, participation, offer } = join;
        let (services, id, leg) = (&self.0.services, ConferenceId(conference), Arc::new(leg));
        if self.find(&leg.account, &participation.conference) != Some(conference) {
            return Err(GuestRefused::Refused(Refused::Over));
        }
        // A leg that has left a conference, and whose node has not said so yet, leaves it now.
        let before = self.0.elsewhere.guests.lock().remove(&leg.id);
        if let Some(guest) = before {
            guest.leave(&leg, LeaveReason::Elsewhere);
        }
        let no_media = |why: String| GuestRefused::NoMedia(why);
        let runtime = self.0.elsewhere.runtime.clone();
        let port = Arc::new(GuestPort { cluster: services.cluster.clone(), runtime, epoch, leg: leg.id });
        let (over, guest) = (Arc::clone(&port), leg.id);
        let sink = move |_: LegId, event: media::Event| {
            if matches!(event, media::Event::NotJoined { .. }) {
                let _ = over.report(ParticipantUpdate::Removed { clears: false });
            }
            Ok(())
        };
        let opened = services.media.open(media::OpenSpec::new(guest, conference), Arc::new(sink));
        let mut session = opened.map_err(|error| no_media(error.to_string()))?;
        let answer = session.answer(offer.as_bytes()).map_err(|error| no_media(error.to_string()))?;
        let seat = self.enter(id, &leg, &participation, port).map_err(|refusal| match refusal {
            JoinRefusal::Refused(why) => GuestRefused::Refused(why),
            other => no_media(other.to_string()),
        })?;
        let guest = Guest { epoch, seat, session, changed: watch::Sender::new(()) };
        guest.command(&participation);
        self.0.elsewhere.guests.lock().insert(leg.id, guest);
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Returns the number of legs of other nodes in the conferences of this node.
    pub fn guests(&self) -> u64 {
        self.0.elsewhere.guests.lock().len() as u64
    }

    /// If this leg is a guest of another node, returns what waits for its next change.
    pub fn next_change_of_guest(&self, leg: LegId) -> Option<GuestChange> {
        self.0.elsewhere.guests.lock().get(&leg).map(|guest| GuestChange(guest.changed.subscribe()))
    }

    /// A node is gone: its legs leave the conferences of this node, and its conferences are over for the legs of this node.
    pub fn node_left(&self, node: &NodeRow) {
        let elsewhere = &self.0.elsewhere;
        let mut guests = elsewhere.guests.lock();
        let gone: Vec<LegId> = guests.iter().filter(|(_, one)| one.epoch == node.epoch).map(|(leg, _)| *leg).collect();
        let gone: Vec<Guest> = gone.iter().filter_map(|leg| guests.remove(leg)).collect();
        drop(guests);
        for guest in gone {
            let leg = Arc::clone(&guest.seat.leg);
            guest.leave(&leg, LeaveReason::Ended);
        }
        let links = elsewhere.links.lock();
        let over: Vec<_> =
            links.values().filter(|link| link.epoch == node.epoch).map(|link| link.call.clone()).collect();
        drop(links);
        for call in over {
            // The call may be over.
            let _ = call.report(ParticipantUpdate::Removed { clears: false });
        }
    }
}

impl Guest {
    /// Gives the session its part in the room.
    fn command(&self, participation: &Participation) {
        if self.session.command(self.seat.command(participation)).is_err() {
            tracing::warn!(leg = %self.session.key(), "the media engine accepts no commands of a participant of another node");
        }
    }

    fn leave(self, leg: &Arc<LegInfo>, why: LeaveReason) {
        self.seat.leave(leg, why);
    }
}

impl Seat {
    /// Applies the answer of the other node to the offer of the link.
    fn accept(mut self, answer: String) -> Result<Self, media::SdpError> {
        if let SeatAt::Elsewhere(link) = &mut self.at {
            link.session.accept(answer.as_bytes())?;
        }
        Ok(self)
    }
}

impl Link {
    /// The media session that carries the audio of the leg to the other node.
    pub(super) fn session(&self) -> LegId {
        self.session.key()
    }

    pub(super) fn change(&self, participation: &Participation) {
        if self.changes.try_send(participation.clone()).is_err() {
            tracing::warn!(leg = %self.leg, "a change of a participant in a conference of another node was dropped");
        }
    }

    pub(super) fn leave(&self, leg: &Arc<LegInfo>, why: LeaveReason) {
        *self.leaving.lock() = (Arc::clone(leg), why);
    }
}

impl Drop for Link {
    /// The other node hears that the leg leaves, because the sender of the changes is dropped too.
    fn drop(&mut self) {
        let mut links = self.conferences.0.elsewhere.links.lock();
        if links.get(&self.leg).is_some_and(|link| link.number == self.number) {
            let end = links.remove(&self.leg);
            drop(links);
            drop(end);
        }
    }
}

/// Carries the changes of a participation to the node of the conference, one after the other, and then the end of the
/// participation. Repeats each of them until this node answers or is gone.
async fn carry(
    (cluster, node, leg): (Cluster, NodeRow, LegId),
    mut changes: mpsc::Receiver<Participation>,
    leaving: Arc<Mutex<(Arc<LegInfo>, LeaveReason)>>,
) {
    while let Some(participation) = changes.recv().await {
        cluster.repeat(&node, &Change { leg, participation }).await;
    }
    let (leg, why) = {
        let leaving = leaving.lock();
        ((*leaving.0).clone(), leaving.1)
    };
    cluster.repeat(&node, &Leave { leg, why }).await;
}

/// Reports of a conference to the call of a guest, at another node.
struct GuestPort {
    cluster: Cluster,
    runtime: Handle,
    epoch: i64,
    leg: LegId,
}

impl CallPort<ParticipantUpdate> for GuestPort {
    fn report(&self, update: ParticipantUpdate) -> Result<(), CallOver> {
        let (cluster, epoch) = (self.cluster.clone(), self.epoch);
        let told = Told { leg: self.leg, update };
        self.runtime.spawn(async move {
            if let Some(node) = cluster.other(epoch) {
                let repeated = cluster.repeat(&node, &told);
                if tokio::time::timeout(CHANGE_TIME, repeated).await.is_err() {
                    tracing::warn!("node {} does not know that a participant has left a conference", node.name);
                }
            }
        });
        Ok(())
    }

    /// The log of the call is at the other node.
    fn log(&self, _: Line) {}
}
