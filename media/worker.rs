//! A media thread. This module is part of the shell (I/O and threads). The thread sleeps according to [`Wait`], reads
//! its sockets, and runs [`Core`].
//!
//! Packets are received, handled and sent in batches of 64. Each step runs for the whole batch, so that its code and
//! data stay in the CPU caches. Batches need one copy of each packet (172 octets), but save a tenth of the CPU time of
//! a relayed packet (docs/performance.md).
//!
//! A session lives on one worker at a time. Its *home* is the worker on which it was opened. All messages for the
//! session go to the home. If the session is on another worker, the home forwards the messages, so that the messages
//! stay in order. A bridge across workers moves the session with the larger key to the other worker. A room moves the
//! sessions that join it. The message that moves a session owns the session and its sockets.

mod sockets;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::HashMap;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

use self::sockets::{Inlet, Table};
use crate::command::{Command, LegId};
use crate::engine::{Core, Outcome};
use crate::event::Event;
use crate::ice_port::{Arrivals, IcePort};
use crate::kernel::KernelRelay;
use crate::network::{Counts, Flow};
use crate::ports::Sockets;
use crate::room::{NotJoined, Room, RoomCommand, RoomKey};
use crate::sdp::MediaPlan;
use crate::session::{MediaSession, Resumed, SessionState};
use crate::suppress::budget::SuppressionBudget;
use crate::thread_load::ThreadLoad;
use crate::writer::{Done, WriterHandle};

/// The number of waiting messages at which a worker refuses commands as busy.
const WAITING: usize = 8_192;
/// The highest number of rooms that are open at a time.
pub(crate) const MAX_ROOMS: usize = 10_000;
/// The highest number of messages that wait for one session while the session moves. When this number is reached, the
/// session is closed.
const MAX_HELD_MESSAGES: usize = 256;
/// The highest number of rounds over the sockets in one tick. With this limit a flood cannot delay the tick. One round
/// reads one packet from each socket. If a tick is late, there may be more rounds, but at most [`MAX_ROUNDS`] (the
/// capacity of a timeline). So all waiting packets are in the timeline before the timeline is read.
const ROUNDS: usize = 16;
const MAX_ROUNDS: usize = 50;
/// The highest number of sessions for which a worker wakes at each packet. If there are more sessions, the worker reads
/// packets only at each tick of 5 ms. A worker that wakes at each packet does not make the audio wait for the tick. For
/// this number of sessions it needs the same CPU time (docs/performance.md).
const PER_PACKET_SESSIONS: usize = 16;
/// The length of a sleep of a worker without sessions.
const EMPTY_SLEEP: Duration = Duration::from_secs(1);
/// The time without packets that must pass before an idle sleep. An idle sleep also requires that no session has
/// anything to send or to read.
const QUIET_BEFORE_IDLE: Duration = Duration::from_millis(100);
/// The longest idle sleep. After the sleep, the worker runs the overdue ticks. Idle sleeps save wake-ups, which are
/// most of the cost of a short call (ringing, then an answer without media). The idle sleep is one of six changes that
/// together saved a third of a short call's CPU time (docs/performance.md).
const IDLE_SLEEP: Duration = Duration::from_millis(60);

/// The state that all workers and the engine's handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) inboxes: Vec<Inbox>,
    /// The home worker of each session that has not ended. The number of ports limits the size of this map.
    pub(crate) homes: Mutex<HashMap<LegId, usize>>,
    /// The worker of each room that has not ended. The map has at most [`MAX_ROOMS`] entries.
    pub(crate) rooms: Mutex<HashMap<RoomKey, usize>>,
    pub(crate) published: Vec<Published>,
    /// The relay of plain packets in the kernel, or `None` if it is not available.
    pub(crate) kernel: Option<KernelRelay>,
    /// The ports that all sessions with ICE share, if the configuration has such ports.
    pub(crate) ice_port: Option<IcePort>,
    /// The number of offers and answers that were not SDP or had no audio that we can use.
    pub(crate) sdp_refused: AtomicU64,
}

impl Shared {
    /// Returns the state of workers that do not run.
    #[cfg(test)]
    pub(crate) fn of_workers(count: usize, ice_port: Option<IcePort>) -> io::Result<Shared> {
        Ok(Shared {
            inboxes: (0..count).map(|_| Inbox::new()).collect::<io::Result<_>>()?,
            homes: Mutex::default(),
            rooms: Mutex::default(),
            published: (0..count).map(|_| Published::default()).collect(),
            kernel: None,
            ice_port,
            sdp_refused: AtomicU64::new(0),
        })
    }

    pub(crate) fn note_refused_sdp(&self) {
        self.sdp_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn home(&self, key: LegId) -> Option<usize> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied()
    }

    /// Forgets a session that has ended. Returns its home.
    fn forget(&self, key: LegId) -> Option<usize> {
        let home = self.homes.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        self.ice_port.iter().for_each(|port| port.forget(key));
        home
    }

    fn room(&self, key: RoomKey) -> Option<usize> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied()
    }

    /// Returns the callback that reports the end of a recording to its room.
    pub(crate) fn room_done(self: &Arc<Shared>, key: RoomKey, worker: usize) -> Done {
        let shared = Arc::clone(self);
        Arc::new(move |_, event| shared.post(worker, Message::RoomRecorded { key, event }))
    }

    /// Posts a message to a session's home. The limit of the queue does not apply.
    fn post_home(&self, key: LegId, message: Message) {
        if let Some(inbox) = self.home(key).and_then(|home| self.inboxes.get(home)) {
            inbox.post(message);
        }
    }

    fn post(&self, worker: usize, message: Message) {
        if let Some(inbox) = self.inboxes.get(worker) {
            inbox.post(message);
        }
    }

    /// Returns the callback that reports the end of a recording to its session. The session may be on any worker.
    pub(crate) fn done(self: &Arc<Shared>) -> Done {
        let shared = Arc::clone(self);
        Arc::new(move |key, event| shared.post_home(key, Message::Recorded { key, event }))
    }
}

/// A worker's totals. Only the worker writes them.
#[derive(Debug, Default)]
pub(crate) struct Published {
    pub(crate) sessions: AtomicU64,
    pub(crate) packets_in: AtomicU64,
    pub(crate) packets_out: AtomicU64,
    pub(crate) relayed: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) malformed: AtomicU64,
    /// Whether the worker is overloaded, so that it should get no new calls.
    pub(crate) overloaded: AtomicBool,
    /// The largest lateness of a tick in the last half second, in ms.
    pub(crate) late_ms: AtomicU64,
}

impl Published {
    pub(crate) fn is_overloaded(&self) -> bool {
        self.overloaded.load(Ordering::Relaxed)
    }
}

/// The message queue of a worker. [`WAITING`] limits the commands from outside. The number of sessions limits the
/// messages between workers.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Mutex<VecDeque<Message>>,
    /// Packets of the shared ports.
    arrivals: Mutex<Arrivals>,
    wake: OwnedFd,
    /// The kind of messages that wake the worker at present, as an [`Attention`].
    attention: AtomicU8,
}

/// The messages that wake a sleeping worker. This distinction reduces the wake-ups of a short call from 8 to 4
/// (docs/performance.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Attention {
    All,
    /// Only urgent messages ([`Message::is_urgent`]) wake the worker.
    Urgent,
    /// No message wakes the worker. It reads messages within a tick (5 ms) in any case.
    Nothing,
}

impl Inbox {
    pub(crate) fn new() -> io::Result<Inbox> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let attention = AtomicU8::new(Attention::All as u8);
        Ok(Inbox { queue: Mutex::default(), arrivals: Mutex::default(), wake, attention })
    }

    /// Posts a message. Returns false if [`WAITING`] messages are already waiting.
    pub(crate) fn try_post(&self, message: Message) -> bool {
        let urgent = message.is_urgent();
        {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.len() >= WAITING {
                return false;
            }
            queue.push_back(message);
        }
        self.wake(urgent);
        true
    }

    /// Posts a message that must not be lost. These messages are openings, plans, closings and moves.
    pub(crate) fn post(&self, message: Message) {
        let urgent = message.is_urgent();
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(message);
        self.wake(urgent);
    }

    /// Adds a packet of a shared port. Returns false if too many packets wait.
    pub(crate) fn arrive(&self, key: LegId, flow: Flow, from: SocketAddr, packet: &[u8]) -> bool {
        let (is_first, has_place) = {
            let mut arrivals = self.arrivals();
            (arrivals.is_empty(), arrivals.push(key, flow, from, packet))
        };
        if is_first {
            self.wake(true);
        }
        has_place
    }

    pub(crate) fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, urgent: bool) {
        let attention = self.attention.load(Ordering::SeqCst);
        if attention == Attention::All as u8 || (urgent && attention == Attention::Urgent as u8) {
            // The write fails only if the eventfd's counter is full. In this case the worker is awake.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }

    /// Announces that the worker is about to sleep. Returns the reasons why the worker must not sleep: a message that wakes
    /// it is already in the queue, or a packet has arrived.
    fn sleeps(&self, attention: Attention) -> Woken {
        self.attention.store(attention as u8, Ordering::SeqCst);
        let queue = || self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        match attention {
            Attention::All => Woken { message: !queue().is_empty(), packet: !self.arrivals().is_empty() },
            Attention::Urgent => {
                Woken { message: queue().iter().any(Message::is_urgent), packet: !self.arrivals().is_empty() }
            }
            Attention::Nothing => Woken { message: false, packet: false },
        }
    }

    fn take(&self, woken: bool) -> VecDeque<Message> {
        if woken {
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.wake, &mut count);
        }
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Identifies the command that caused a message. The command is about a session's bridge or room. A newer command of
/// this kind makes the message void, even if several workers have forwarded the message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoutingCommand {
    by: LegId,
    number: u32,
}

/// A message to a worker.
pub(crate) enum Message {
    Open {
        session: Box<MediaSession>,
        sockets: Sockets,
    },
    /// A session that continues from data.
    Resume {
        resumed: Box<Resumed>,
        sockets: Sockets,
    },
    /// Asks for a session as data.
    Snapshot {
        key: LegId,
        done: Box<dyn FnOnce(SessionState) + Send>,
    },
    OpenRoom {
        room: Box<Room>,
    },
    Room {
        key: RoomKey,
        command: RoomCommand,
    },
    RoomRecorded {
        key: RoomKey,
        event: Event,
    },
    Plan {
        key: LegId,
        plan: MediaPlan,
    },
    Command {
        key: LegId,
        command: Command,
        /// The bridge or room command that caused this command. The value is set only if another worker has forwarded
        /// this command.
        of: Option<RoutingCommand>,
    },
    Close {
        key: LegId,
    },
    /// Gives a session another key.
    Rename {
        key: LegId,
        to: LegId,
    },
    Recorded {
        key: LegId,
        event: Event,
    },
    /// A message to a session's home. The home moves the session to worker `to`, where the session joins another
    /// session or a room.
    Bring {
        key: LegId,
        to: usize,
        join: Command,
        of: Option<RoutingCommand>,
    },
    /// A message to the worker on which a session is now. This worker sends the session to its home, and the home sends
    /// the session to its destination.
    Return {
        key: LegId,
    },
    /// A session that moves to the receiving worker. The session stays there, or continues to another worker.
    Arrive {
        session: Box<MediaSession>,
        sockets: Option<Sockets>,
        join: Option<(Command, Option<RoutingCommand>)>,
    },
    /// A message to a session's home. The session has ended on another worker.
    Gone {
        key: LegId,
    },
    Shutdown,
}

impl Message {
    /// Whether the message ends a worker's idle sleep. A message that only changes the source or the target of packets
    /// does not end the sleep, because the worker reads such a message before the next packet.
    fn is_urgent(&self) -> bool {
        !matches!(
            self,
            Message::Open { .. }
                | Message::Plan { .. }
                | Message::Close { .. }
                | Message::Rename { .. }
                | Message::Command { command: Command::Bridge { .. } | Command::Unbridge, .. }
        )
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Message")
    }
}

/// The place of a session that has left this worker. This worker is the session's home.
enum Away {
    At(usize),
    Moving { to: usize, join: (Command, Option<RoutingCommand>), held: Vec<Message> },
}

/// The ways in which a worker sleeps. The table shows when each kind of sleep ends.
///
/// | | ends at | ended by messages | ended by packets |
/// |---|---|---|---|
/// | `Empty` | 1 s | all | - |
/// | `Idle` | 60 ms | urgent ones; all, if the kernel relays for a session here | yes |
/// | `PerPacket` | the next tick that serves a session | all | yes |
/// | `Tick` | the next tick | none: they are read at the tick | no: they are read at the tick |
///
/// During `Empty` and `Idle` the worker misses ticks. It runs the missed ticks afterwards ([`Worker::wake_from_idle`]).
/// After `PerPacket` and `Tick` it runs [`Worker::wake_at_tick`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The worker has no session and no room.
    Empty { until: Instant },
    /// No session has anything to send or to read.
    Idle { until: Instant },
    /// The worker has few sessions. It wakes for each packet.
    PerPacket { until: Instant },
    /// The worker has many sessions. It handles packets in batches at the tick.
    Tick { until: Instant },
}

impl Wait {
    fn until(self) -> Instant {
        match self {
            Wait::Empty { until } | Wait::Idle { until } | Wait::PerPacket { until } | Wait::Tick { until } => until,
        }
    }
}

/// The reasons why a worker's sleep ended early. Both fields can be true. If the sleep lasted its full time, both
/// fields are false.
#[derive(Clone, Copy)]
struct Woken {
    message: bool,
    packet: bool,
}

/// One media thread.
pub(crate) struct Worker {
    number: usize,
    shared: Arc<Shared>,
    core: Core,
    sockets: Table,
    away: HashMap<LegId, Away>,
    /// Empty, except while its packets are handled.
    arrivals: Arrivals,
    load: ThreadLoad,
    /// The time at which the newest packet arrived.
    last_packet: Instant,
    /// The end of the current idle sleep. An interruption of the sleep does not change this time.
    idle_until: Option<Instant>,
    stopping: bool,
}

impl Worker {
    #[expect(clippy::disallowed_methods, reason = "the shell gives the pure core its clock")]
    pub(crate) fn new(
        number: usize,
        shared: Arc<Shared>,
        budget: SuppressionBudget,
        load: ThreadLoad,
        writer: WriterHandle,
    ) -> io::Result<Worker> {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // NTP time counts seconds from 1900 (RFC 5905 §6).
        let seconds = wall.as_secs().wrapping_add(2_208_988_800);
        let ntp = (seconds << 32) | ((u64::from(wall.subsec_nanos()) << 32) / 1_000_000_000);
        let mut core = Core::new(Instant::now(), ntp, budget, writer, shared.done());
        if shared.kernel.is_some() {
            core.enable_offload();
        }
        let sockets = Table::new(Arc::clone(&shared))?;
        Ok(Worker {
            number,
            shared,
            core,
            sockets,
            away: HashMap::default(),
            arrivals: Arrivals::default(),
            load,
            last_packet: Instant::now(),
            idle_until: None,
            stopping: false,
        })
    }

    #[expect(clippy::disallowed_methods, reason = "the shell gives the pure core its clock")]
    pub(crate) fn run(mut self) {
        // Load the noise suppression model now, and not during the first call that needs it.
        crate::suppress::prepare();
        let mut inlet = Inlet::new();
        loop {
            let before = Instant::now();
            let wait = self.next_wait(before);
            let woken = self.sleep(before, wait);
            self.wake(Instant::now(), wait, woken, &mut inlet);
            if self.stopping && self.core.is_empty() {
                self.publish();
                return;
            }
        }
    }

    /// Does one round of work after a sleep.
    fn wake(&mut self, now: Instant, wait: Wait, woken: Woken, inlet: &mut Inlet) {
        match wait {
            Wait::Empty { until } | Wait::Idle { until } => self.wake_from_idle(now, until, woken, inlet),
            Wait::PerPacket { .. } | Wait::Tick { .. } => self.wake_at_tick(now, woken, inlet),
        }
        self.sockets.flush();
    }

    /// Does the work after an `Empty` or `Idle` sleep. The worker first runs the overdue ticks, then handles messages,
    /// then handles packets.
    fn wake_from_idle(&mut self, now: Instant, until: Instant, woken: Woken, inlet: &mut Inlet) {
        // Run overdue ticks first. Otherwise a session that a message activates would be served for the time before the
        // message.
        if (woken.message || now >= until) && now >= self.core.next_tick() {
            self.tick(now);
        }
        // Handle waiting messages before the packet that may have ended the sleep.
        self.drain_inbox(now, woken.message);
        let ticks = self.wakes_per_packet() || now >= self.core.next_tick();
        if woken.packet || ticks {
            self.drain_sockets(now, inlet);
        }
        if woken.message {
            self.idle_until = None;
        } else if now < until && self.last_packet != now {
            // Only socket errors arrived, so the sleep continues.
            return;
        }
        if ticks {
            self.tick(now);
        }
    }

    /// Does the work after a `PerPacket` or `Tick` sleep. The worker first handles messages, then handles packets, then runs
    /// the tick if it is due. The order matters for a new plan: the far end sends its first connectivity check as soon as
    /// it has our answer. A check that is handled before the plan is lost, and comes again after 250 ms only.
    fn wake_at_tick(&mut self, now: Instant, woken: Woken, inlet: &mut Inlet) {
        let ticks = self.wakes_per_packet() || now >= self.core.next_tick();
        if woken.message || ticks {
            self.drain_inbox(now, woken.message);
        }
        if woken.packet || ticks {
            self.drain_sockets(now, inlet);
        }
        if ticks {
            self.run_due_ticks(now);
        }
    }

    /// Runs the ticks that are due, and measures the load of the thread. The ticks that an idle sleep has delayed do not
    /// count, because they do no harm.
    fn run_due_ticks(&mut self, now: Instant) {
        let due = self.core.next_tick();
        let late = now.saturating_duration_since(due);
        if now >= due && self.load.handle_ticks(now, late, self.core.take_transcoding()) {
            tracing::warn!(
                thread = self.number,
                sessions = self.core.len(),
                late_ms = self.load.latest().as_millis(),
                "a media thread is overloaded: it is late, or transcoding takes more than media.transcoding_budget; new calls go to other threads, or get 503"
            );
        }
        self.tick(now);
    }

    /// Whether the worker wakes for each packet. It does not wake for each packet if the kernel relays for every
    /// session and the engine gets only copies. The copies can wait for the next tick without a delay of the audio. The
    /// worker reads the copies at every tick, and not only at a tick that serves a session. The reason is that a
    /// recording needs the arrival time of each packet with the precision of one tick.
    fn wakes_per_packet(&self) -> bool {
        (1..=PER_PACKET_SESSIONS).contains(&self.core.len()) && !self.sockets.sees_only_copies(self.core.len())
    }

    /// Decides how the worker sleeps next.
    fn next_wait(&mut self, now: Instant) -> Wait {
        if self.core.is_empty() {
            self.load.reset();
            Wait::Empty { until: now + EMPTY_SLEEP }
        } else if let Some(until) = self.idle_until(now) {
            Wait::Idle { until }
        } else if self.wakes_per_packet() {
            Wait::PerPacket { until: self.core.poll_timeout() }
        } else {
            Wait::Tick { until: self.core.next_tick() }
        }
    }

    /// Returns the end of the idle sleep, or `None` if the worker is not idle. The function checks the sessions only
    /// when an idle sleep begins. There may be thousands of sessions, and the sleep may be interrupted a thousand times
    /// a second.
    fn idle_until(&mut self, now: Instant) -> Option<Instant> {
        if now.saturating_duration_since(self.last_packet) < QUIET_BEFORE_IDLE {
            self.idle_until = None;
        } else if self.idle_until.is_none_or(|until| until <= now) {
            self.idle_until = self.core.is_idle().then(|| now + IDLE_SLEEP);
        }
        self.idle_until
    }

    /// Sleeps according to `wait`. Returns the reasons why the sleep ended.
    fn sleep(&self, now: Instant, wait: Wait) -> Woken {
        let nothing = Woken { message: false, packet: false };
        let Some(inbox) = self.shared.inboxes.get(self.number) else { return nothing };
        let attention = match wait {
            Wait::Empty { .. } | Wait::PerPacket { .. } => Attention::All,
            // Packets that the kernel relays do not end the sleep. So messages about these packets must end it.
            Wait::Idle { .. } if self.sockets.offloads_any() => Attention::All,
            Wait::Idle { .. } => Attention::Urgent,
            Wait::Tick { .. } => Attention::Nothing,
        };
        let awake = inbox.sleeps(attention);
        if awake.message || awake.packet {
            return awake;
        }
        let left = wait.until().saturating_duration_since(now);
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut sources = [PollFd::new(&inbox.wake, PollFlags::IN), PollFd::new(&self.sockets.epoll, PollFlags::IN)];
        let sources = match wait {
            Wait::Tick { .. } => &mut sources[..1],
            Wait::Empty { .. } | Wait::Idle { .. } | Wait::PerPacket { .. } => &mut sources[..],
        };
        let _ = rustix::event::poll(sources, Some(&timeout));
        let is_ready = |source: Option<&PollFd<'_>>| source.is_some_and(|source| !source.revents().is_empty());
        let arrived = !matches!(wait, Wait::Tick { .. }) && !inbox.arrivals().is_empty();
        Woken { message: is_ready(sources.first()), packet: is_ready(sources.get(1)) || arrived }
    }

    /// Reads the sockets and handles their packets. One round reads one packet of each socket.
    fn drain_sockets(&mut self, now: Instant, inlet: &mut Inlet) {
        self.drain_arrivals(now);
        if self.core.is_empty() {
            return;
        }
        let late = now.saturating_duration_since(self.core.next_tick()).as_millis() / 20;
        let rounds = ROUNDS.saturating_add(late as usize).min(MAX_ROUNDS);
        let core = &mut self.core;
        let received = inlet.drain(&mut self.sockets, rounds, |sockets, slot, flow, from, packet| {
            core.handle_packet(now, slot, flow, from, packet, sockets)
        });
        if received {
            self.last_packet = now;
        }
    }

    /// Handles the packets of the shared ports.
    fn drain_arrivals(&mut self, now: Instant) {
        let Some(port) = &self.shared.ice_port else { return };
        let Some(inbox) = self.shared.inboxes.get(self.number) else { return };
        std::mem::swap(&mut *inbox.arrivals(), &mut self.arrivals);
        if !self.arrivals.is_empty() {
            self.last_packet = now;
        }
        let (core, sockets, away) = (&mut self.core, &mut self.sockets, &self.away);
        self.arrivals.drain(|key, flow, from, packet| {
            if let Some(slot) = core.slot(key) {
                core.handle_packet(now, slot, flow, from, packet, sockets);
            } else if let Some(Away::At(worker)) = away.get(&key) {
                port.give_to(*worker, key, (flow, from), packet, &self.shared);
            }
        });
    }

    fn tick(&mut self, now: Instant) {
        let (shared, away, number) = (&self.shared, &mut self.away, self.number);
        self.core.handle_tick(now, &mut self.sockets, |key| {
            let home = shared.forget(key);
            away.remove(&key);
            if let Some(home) = home.filter(|home| *home != number) {
                shared.post(home, Message::Gone { key });
            }
        });
        for room in self.core.take_ended_rooms() {
            self.shared.rooms.lock().unwrap_or_else(PoisonError::into_inner).remove(&room);
        }
        self.publish();
    }

    fn publish(&self) {
        let Some(published) = self.shared.published.get(self.number) else { return };
        published.overloaded.store(self.load.is_overloaded(), Ordering::Relaxed);
        published.late_ms.store(self.load.latest().as_millis() as u64, Ordering::Relaxed);
        let Counts { packets_in, packets_out, relayed, dropped, malformed } = self.core.counts;
        published.sessions.store(self.core.len() as u64, Ordering::Relaxed);
        published.packets_in.store(packets_in, Ordering::Relaxed);
        published.packets_out.store(packets_out, Ordering::Relaxed);
        published.relayed.store(relayed, Ordering::Relaxed);
        published.dropped.store(dropped, Ordering::Relaxed);
        published.malformed.store(malformed, Ordering::Relaxed);
    }

    fn drain_inbox(&mut self, now: Instant, woken: bool) {
        let Some(inbox) = self.shared.inboxes.get(self.number) else { return };
        for message in inbox.take(woken) {
            self.handle(now, message);
        }
    }

    fn handle(&mut self, now: Instant, message: Message) {
        let key = match &message {
            Message::Plan { key, .. }
            | Message::Command { key, .. }
            | Message::Close { key }
            | Message::Rename { key, .. }
            | Message::Recorded { key, .. }
            | Message::Snapshot { key, .. }
            | Message::Bring { key, .. } => *key,
            Message::Open { .. }
            | Message::Resume { .. }
            | Message::OpenRoom { .. }
            | Message::Room { .. }
            | Message::RoomRecorded { .. }
            | Message::Return { .. }
            | Message::Arrive { .. }
            | Message::Gone { .. }
            | Message::Shutdown => {
                return self.handle_own(now, message);
            }
        };
        if self.core.has(key) {
            return self.handle_here(now, message);
        }
        let overflow = match self.away.get_mut(&key) {
            None => false,
            Some(Away::At(worker)) => {
                let worker = *worker;
                match message {
                    Message::Bring { to, join, of, .. } if to == worker => {
                        self.shared.post(worker, Message::Command { key, command: join, of });
                    }
                    Message::Bring { to, join, of, .. } => {
                        self.away.insert(key, Away::Moving { to, join: (join, of), held: Vec::new() });
                        self.shared.post(worker, Message::Return { key });
                    }
                    message => self.shared.post(worker, message),
                }
                false
            }
            Some(Away::Moving { held, .. }) => {
                held.push(message);
                held.len() == MAX_HELD_MESSAGES
            }
        };
        if overflow && let Some(Away::Moving { held, .. }) = self.away.get_mut(&key) {
            held.clear();
            held.push(Message::Close { key });
        }
    }

    /// Handles a message for a session on this worker.
    fn handle_here(&mut self, now: Instant, message: Message) {
        match message {
            Message::Plan { key, plan } => {
                self.core.apply(now, key, plan, &mut self.sockets);
            }
            Message::Command { key, command, of } => self.handle_command(now, key, command, of),
            Message::Close { key } => self.core.close(now, key, &mut self.sockets),
            Message::Rename { key, to } => self.core.rename(now, key, to, &mut self.sockets),
            Message::Recorded { key, event } => {
                self.core.handle_recorded(key, event);
            }
            Message::Snapshot { key, done } => {
                if let Some(state) = self.core.snapshot(now, key, &mut self.sockets) {
                    done(state);
                }
            }
            Message::Bring { key, to, join, of } if to == self.number => {
                self.handle_here(now, Message::Command { key, command: join, of });
            }
            Message::Bring { of: Some(of), .. } if !self.core.is_newest_routing_command(of.by, of.number) => {}
            Message::Bring { key, to, join, of } => {
                if let Some((session, sockets)) = self.take_out(now, key) {
                    self.away.insert(key, Away::At(to));
                    self.shared.post(to, Message::Arrive { session, sockets, join: Some((join, of)) });
                }
            }
            _ => {}
        }
    }

    fn handle_command(&mut self, now: Instant, key: LegId, command: Command, of: Option<RoutingCommand>) {
        let of = match of {
            // A command from outside gets a number. A forwarded command is void if its session has a newer command.
            None => self.core.note_routing_command(key, &command).map(|number| RoutingCommand { by: key, number }),
            Some(of) if self.core.is_newest_routing_command(of.by, of.number) => Some(of),
            Some(_) => return,
        };
        match self.core.handle_command(now, key, command, &mut self.sockets) {
            Outcome::Done | Outcome::Unknown => {}
            Outcome::RoomElsewhere(room, join) => match self.shared.room(room) {
                Some(to) if to != self.number => {
                    let bring = Message::Bring { key, to, join, of };
                    if self.shared.home(key) == Some(self.number) {
                        // The message is handled now, so that no later command overtakes it.
                        self.handle(now, bring);
                    } else {
                        self.shared.post_home(key, bring);
                    }
                }
                _ => self.core.refuse(key, room, NotJoined::NoRoom),
            },
            Outcome::BridgedLegElsewhere(with) if key < with => {
                let join = Command::Bridge { with: key };
                self.shared.post_home(with, Message::Bring { key: with, to: self.number, join, of });
            }
            // The session with the larger key always moves, whichever session gets the command. So two simultaneous
            // commands have the same result.
            Outcome::BridgedLegElsewhere(with) => {
                let command = Command::Bridge { with: key };
                self.shared.post_home(with, Message::Command { key: with, command, of });
            }
        }
    }

    fn handle_own(&mut self, now: Instant, message: Message) {
        match message {
            Message::Open { session, sockets } => self.take_in(now, session, Some(sockets)),
            Message::Resume { resumed, sockets } => {
                let key = resumed.state.key;
                let slot = self.core.resume(now, *resumed);
                self.put_sockets(slot, key, sockets);
            }
            Message::OpenRoom { room } => {
                let key = room.key;
                self.core.open_room(*room);
                if self.stopping {
                    self.core.handle_room_command(key, RoomCommand::End);
                }
            }
            Message::Room { key, command } => self.core.handle_room_command(key, command),
            Message::RoomRecorded { key, event } => self.core.handle_room_recorded(key, event),
            Message::Return { key } => {
                if let Some((session, sockets)) = self.take_out(now, key) {
                    self.shared.post_home(key, Message::Arrive { session, sockets, join: None });
                }
            }
            Message::Arrive { session, sockets, join } => self.arrive(now, session, sockets, join),
            Message::Gone { key } => {
                self.away.remove(&key);
            }
            Message::Shutdown => {
                self.stopping = true;
                self.core.close_all(now, &mut self.sockets);
            }
            _ => {}
        }
    }

    fn arrive(
        &mut self,
        now: Instant,
        session: Box<MediaSession>,
        sockets: Option<Sockets>,
        join: Option<(Command, Option<RoutingCommand>)>,
    ) {
        let key = session.key;
        let (join, held) = match self.away.remove(&key) {
            // The session passes through its home on its way to another worker.
            Some(Away::Moving { to, join, held }) if to != self.number => {
                self.away.insert(key, Away::At(to));
                self.shared.post(to, Message::Arrive { session, sockets, join: Some(join) });
                for message in held {
                    self.handle(now, message);
                }
                return;
            }
            Some(Away::Moving { join, held, .. }) => (Some(join), held),
            _ => (join, Vec::new()),
        };
        self.take_in(now, session, sockets);
        if let Some((command, of)) = join {
            self.handle_here(now, Message::Command { key, command, of });
        }
        for message in held {
            self.handle(now, message);
        }
        if self.stopping {
            self.core.close(now, key, &mut self.sockets);
        }
    }

    fn take_in(&mut self, now: Instant, mut session: Box<MediaSession>, sockets: Option<Sockets>) {
        let key = session.key;
        session.schedule.arrive(now);
        let slot = self.core.insert(session);
        if let Some(sockets) = sockets {
            self.put_sockets(slot, key, sockets);
        }
    }

    fn put_sockets(&mut self, slot: usize, key: LegId, sockets: Sockets) {
        if let Err(error) = self.sockets.put(slot, sockets) {
            tracing::error!(%error, session = key.0, "cannot add the session's sockets to epoll");
        }
    }

    fn take_out(&mut self, now: Instant, key: LegId) -> Option<(Box<MediaSession>, Option<Sockets>)> {
        let (slot, session) = self.core.remove(now, key, &mut self.sockets)?;
        Some((session, self.sockets.take(slot)))
    }
}

#[cfg(test)]
mod tests;
