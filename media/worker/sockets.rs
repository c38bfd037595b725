//! A worker's sockets: what comes by them is read in batches, what leaves by them is sent in batches.
//!
//! Most of a relayed packet's cost is the kernel's: so sockets are connected once their peer is known (no route look-up, and
//! strangers end in the kernel), and epoll is edge-triggered (no second look at a socket that has been read).

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use super::Shared;
use crate::HashMap;
use crate::engine::{Flow, Network, Pin};
use crate::kernel::{Ends, KernelFlow};
use crate::offload::{FlowCounts, OffloadRule};
use crate::ports::Sockets;

/// Largest datagram; longer ones are cut off and then refused or relayed short.
const DATAGRAM: usize = 2_048;
/// Packets received before any of them is worked on.
const BATCH: usize = 64;
/// From one packet's buffer to the next: not a power of two, which would put all of them in the same cache sets.
const STRIDE: usize = DATAGRAM + 64;
/// Marks the number of a socket that is read once more: if it holds something, it is read until it holds nothing.
const AGAIN: u64 = 1 << 63;

fn number(slot: usize, flow: Flow) -> u64 {
    (slot as u64) << 1 | u64::from(flow == Flow::Rtcp)
}

/// The slot and flow of a socket's number.
fn of_number(socket: u64) -> (usize, Flow) {
    (((socket & !AGAIN) >> 1) as usize, if socket & 1 == 0 { Flow::Rtp } else { Flow::Rtcp })
}

fn watch(epoll: &OwnedFd, slot: usize, flow: Flow, socket: &UdpSocket) -> io::Result<()> {
    let data = epoll::EventData::new_u64(number(slot, flow));
    Ok(epoll::add(epoll, socket.as_fd(), data, epoll::EventFlags::IN | epoll::EventFlags::ET)?)
}

/// Where packets are taken in. What it holds is bounded by the sockets.
pub(super) struct Inlet {
    events: Vec<epoll::Event>,
    /// Sockets to be read, as [`Table::put`] numbers them: those with news, and those that may hold more.
    ready: Vec<u64>,
    reading: Vec<u64>,
    buffers: Vec<u8>,
    /// What the buffers hold.
    packets: Vec<Option<(usize, SocketAddr)>>,
}

impl Inlet {
    pub(super) fn new() -> Inlet {
        let nothing = epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        Inlet {
            events: vec![nothing; 1_024],
            ready: Vec::with_capacity(2_048),
            reading: Vec::with_capacity(2_048),
            buffers: vec![0; BATCH * STRIDE],
            packets: Vec::with_capacity(BATCH),
        }
    }

    /// As if the socket had news.
    #[cfg(test)]
    pub(super) fn expect(&mut self, slot: usize, flow: Flow) {
        self.ready.push(number(slot, flow));
    }

    /// Reads what has come, a packet of each socket in turn, so many rounds at most; what is left is read next time. `take` says
    /// whether a socket may hold more. Whether any packet came.
    pub(super) fn drain(
        &mut self,
        table: &mut Table,
        rounds: usize,
        mut take: impl FnMut(&mut Table, usize, Flow, SocketAddr, &mut [u8]) -> bool,
    ) -> bool {
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut came = false;
        for _ in 0..rounds {
            if let Ok(count) = epoll::wait(&table.epoll, &mut *self.events, Some(&none)) {
                self.ready.extend(self.events.iter().take(count).map(|event| event.data.u64()));
            }
            if self.ready.is_empty() {
                break;
            }
            std::mem::swap(&mut self.ready, &mut self.reading);
            for sockets in self.reading.chunks(BATCH) {
                self.packets.clear();
                for (socket, buffer) in sockets.iter().zip(self.buffers.chunks_exact_mut(STRIDE)) {
                    let (slot, flow) = of_number(*socket);
                    // A socket that was to be read again may be gone by now.
                    let received = table.socket(slot, flow).zip(buffer.get_mut(..DATAGRAM));
                    let received = received.map(|(from, buffer)| from.recv_from(buffer));
                    // An ICMP error of an earlier packet comes out here, before what else there is. It is no packet: where
                    // nobody listens for RTP, nothing but errors comes back.
                    if let Some(Err(error)) = &received
                        && error.kind() != io::ErrorKind::WouldBlock
                    {
                        self.ready.push(*socket | AGAIN);
                    }
                    self.packets.push(received.and_then(Result::ok));
                }
                let received = sockets.iter().zip(self.buffers.chunks_exact_mut(STRIDE)).zip(&self.packets);
                for ((socket, buffer), packet) in received {
                    let Some((length, from)) = *packet else { continue };
                    came = true;
                    let (slot, flow) = of_number(*socket);
                    let Some(packet) = buffer.get_mut(..length) else { continue };
                    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                    let more = take(table, slot, flow, from, packet);
                    if more || socket & AGAIN != 0 {
                        self.ready.push(*socket | AGAIN);
                    }
                }
                table.flush();
            }
            self.reading.clear();
        }
        came
    }
}

/// The sockets of this worker's sessions, by slot.
pub(super) struct Table {
    pub(super) epoll: OwnedFd,
    slots: Vec<Option<Sockets>>,
    shared: Arc<Shared>,
    /// The kernel's flows, by the slot that their packets come to.
    offloaded: HashMap<usize, KernelFlow>,
    outlet: Outlet,
    began: Instant,
}

/// Packets that wait to be sent together: at most [`BATCH`], until the end of what made them.
struct Outlet {
    waiting: Vec<Waiting>,
    octets: Vec<u8>,
}

impl Outlet {
    /// All it will ever take, so that a worker that has fallen behind allocates nothing either.
    fn new() -> Outlet {
        Outlet { waiting: Vec::with_capacity(BATCH), octets: Vec::with_capacity(BATCH * DATAGRAM) }
    }
}

struct Waiting {
    slot: usize,
    flow: Flow,
    to: SocketAddr,
    length: usize,
}

impl Table {
    #[expect(clippy::disallowed_methods, reason = "the shell gives the pure core its clock")]
    pub(super) fn new(shared: Arc<Shared>) -> io::Result<Table> {
        Ok(Table {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            slots: Vec::new(),
            shared,
            offloaded: HashMap::default(),
            outlet: Outlet::new(),
            began: Instant::now(),
        })
    }

    /// Whether the kernel passes on what comes from each of so many sessions, and we see copies.
    pub(super) fn sees_only_copies(&self, sessions: usize) -> bool {
        self.offloaded.len() == sessions && self.offloaded.values().any(|flow| flow.copied)
    }

    /// Whether the kernel passes on, or drops, what comes from anybody here.
    pub(super) fn offloads_any(&self) -> bool {
        !self.offloaded.is_empty()
    }

    pub(super) fn put(&mut self, slot: usize, sockets: Sockets) -> io::Result<()> {
        watch(&self.epoll, slot, Flow::Rtp, &sockets.rtp)?;
        if let Some(rtcp) = sockets.rtcp() {
            watch(&self.epoll, slot, Flow::Rtcp, rtcp)?;
        }
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(sockets);
        }
        Ok(())
    }

    pub(super) fn take(&mut self, slot: usize) -> Option<Sockets> {
        self.flush();
        // The core has ended it before; a port that is given back must have none in any case.
        self.revoke(slot);
        let sockets = self.slots.get_mut(slot)?.take()?;
        for socket in [Some(&sockets.rtp), sockets.rtcp()].into_iter().flatten() {
            let _ = epoll::delete(&self.epoll, socket.as_fd());
        }
        Some(sockets)
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self) {
        let mut rest = &self.outlet.octets[..];
        for Waiting { slot, flow, to, length } in self.outlet.waiting.drain(..) {
            let Some((packet, after)) = rest.split_at_checked(length) else { break };
            rest = after;
            let Some(Some(sockets)) = self.slots.get(slot) else { continue };
            // Who is sent something may have to report on it.
            if let Some(rtcp) = sockets.bind_rtcp()
                && let Err(error) = watch(&self.epoll, slot, Flow::Rtcp, rtcp)
            {
                tracing::error!(%error, "cannot add the session's RTCP socket to epoll");
            }
            // A packet that the kernel does not take is a lost packet; the peer's reports count it.
            let _ = match flow {
                // The error is an earlier packet's, told by ICMP; this one has not been sent.
                Flow::Rtp if sockets.pinned == Some(Pin { peer: to, only: true }) => match sockets.rtp.send(packet) {
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => sockets.rtp.send(packet),
                    other => other,
                },
                Flow::Rtp => sockets.rtp.send_to(packet, to),
                Flow::Rtcp => sockets.rtcp().map_or(Ok(0), |rtcp| rtcp.send_to(packet, to)),
            };
        }
        self.outlet.octets.clear();
    }

    /// Of a socket whose peer is known.
    fn ends(&self, slot: usize) -> Option<Ends> {
        let sockets = self.slots.get(slot)?.as_ref()?;
        Ends::new(sockets.rtp.local_addr().ok()?, sockets.pinned?.peer)
    }

    fn socket(&self, slot: usize, flow: Flow) -> Option<&UdpSocket> {
        let sockets = self.slots.get(slot)?.as_ref()?;
        match flow {
            Flow::Rtp => Some(&sockets.rtp),
            Flow::Rtcp => sockets.rtcp(),
        }
    }
}

impl Network for Table {
    fn send(&mut self, slot: usize, flow: Flow, to: SocketAddr, packet: &[u8]) {
        if self.outlet.waiting.len() == BATCH {
            self.flush();
        }
        self.outlet.waiting.push(Waiting { slot, flow, to, length: packet.len() });
        self.outlet.octets.extend_from_slice(packet);
    }

    fn pin(&mut self, slot: usize, peer: Option<Pin>) {
        let Some(Some(sockets)) = self.slots.get_mut(slot) else { return };
        if sockets.pinned == peer {
            return;
        }
        let is_connected = sockets.pinned.is_some_and(|pin| pin.only);
        let done = match peer {
            Some(Pin { peer, only: true }) => sockets.rtp.connect(peer).is_ok(),
            Some(_) | None if is_connected => rustix::net::connect_unspec(&sockets.rtp).is_ok(),
            Some(_) | None => true,
        };
        // A socket that cannot be connected goes on unconnected: the latch judges sources all the same.
        sockets.pinned = peer.filter(|_| done);
        sockets.used = true;
    }

    fn release(&mut self, slot: usize) {
        if let Some(sockets) = self.take(slot) {
            sockets.retire();
        }
    }

    fn offload(&mut self, rule: &OffloadRule) -> bool {
        let flow = self.shared.kernel.as_ref().and_then(|kernel| {
            let forward = match &rule.forward {
                Some(forward) => Some((self.ends(forward.to)?, forward)),
                None => None,
            };
            kernel.install(self.ends(rule.from)?, forward, rule)
        });
        flow.map(|flow| self.offloaded.insert(rule.from, flow)).is_some()
    }

    fn counted(&mut self, slot: usize) -> Option<FlowCounts> {
        self.shared.kernel.as_ref()?.counted(self.offloaded.get(&slot)?)
    }

    fn revoke(&mut self, slot: usize) -> Option<FlowCounts> {
        let flow = self.offloaded.remove(&slot)?;
        self.shared.kernel.as_ref()?.remove(flow)
    }

    fn stopwatch(&self) -> Duration {
        self.began.elapsed()
    }
}
