//! A worker's sockets. Packets are received and sent in batches.
//!
//! Most of the cost of a relayed packet is in the kernel. Two measures reduce it. First, a socket is connected when its
//! far end is known. This saves the route look-up, and the kernel drops packets from other sources. Second, epoll is
//! edge-triggered, so it does not examine a socket again that was already read.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use super::Shared;
use crate::HashMap;
use crate::kernel::{Ends, KernelFlow};
use crate::network::{Flow, Network, Pin};
use crate::offload::{FlowCounts, OffloadRule};
use crate::ports::Sockets;

/// The largest datagram in octets. A longer datagram is truncated. The truncated datagram is then refused or relayed.
const DATAGRAM: usize = 2_048;
/// The number of packets that are received before the first of these packets is processed.
const BATCH: usize = 64;
/// The distance between two packet buffers in octets. The distance is not a power of two, because all buffers would
/// then use the same cache sets.
const STRIDE: usize = DATAGRAM + 64;
/// A flag in the number of a socket. The flag means that the socket is read once more. If this read returns a packet,
/// the socket is read again until it is empty.
const AGAIN: u64 = 1 << 63;

fn number(slot: usize, flow: Flow) -> u64 {
    (slot as u64) << 1 | u64::from(flow == Flow::Rtcp)
}

/// Returns the slot and the flow that a socket's number encodes.
fn of_number(socket: u64) -> (usize, Flow) {
    (((socket & !AGAIN) >> 1) as usize, if socket & 1 == 0 { Flow::Rtp } else { Flow::Rtcp })
}

fn watch(epoll: &OwnedFd, slot: usize, flow: Flow, socket: &UdpSocket) -> io::Result<()> {
    let data = epoll::EventData::new_u64(number(slot, flow));
    Ok(epoll::add(epoll, socket.as_fd(), data, epoll::EventFlags::IN | epoll::EventFlags::ET)?)
}

/// Receives packets. The number of sockets limits the length of the inlet's queues.
pub(super) struct Inlet {
    events: Vec<epoll::Event>,
    /// The numbers of the sockets that must be read. epoll has reported these sockets, or they may hold more packets.
    ready: Vec<u64>,
    reading: Vec<u64>,
    buffers: Vec<u8>,
    /// The length and the source address of the packet in each buffer.
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

    /// Queues a socket as if epoll had reported it.
    #[cfg(test)]
    pub(super) fn expect(&mut self, slot: usize, flow: Flow) {
        self.ready.push(number(slot, flow));
    }

    /// Reads the sockets in at most `rounds` rounds. A round reads one packet of each socket. Packets that remain are
    /// read in the next call. `take` handles a packet and returns whether the packet's socket may hold more packets.
    /// The function returns whether any packet arrived.
    pub(super) fn drain(
        &mut self,
        table: &mut Table,
        rounds: usize,
        mut take: impl FnMut(&mut Table, usize, Flow, SocketAddr, &mut [u8]) -> bool,
    ) -> bool {
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut received = false;
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
                    // The session of a queued socket may have been removed since the socket was queued.
                    let received = table.socket(slot, flow).zip(buffer.get_mut(..DATAGRAM));
                    let received = received.map(|(from, buffer)| from.recv_from(buffer));
                    // The read first returns an ICMP error of an earlier packet, before the packets that wait. Such an
                    // error does not count as a packet. If no program listens at the far end's RTP port, only errors
                    // arrive.
                    if let Some(Err(error)) = &received
                        && error.kind() != io::ErrorKind::WouldBlock
                    {
                        self.ready.push(*socket | AGAIN);
                    }
                    self.packets.push(received.and_then(Result::ok));
                }
                let packets = sockets.iter().zip(self.buffers.chunks_exact_mut(STRIDE)).zip(&self.packets);
                for ((socket, buffer), packet) in packets {
                    let Some((length, from)) = *packet else { continue };
                    received = true;
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
        received
    }
}

/// The sockets of this worker's sessions, indexed by the session's slot.
pub(super) struct Table {
    pub(super) epoll: OwnedFd,
    slots: Vec<Option<Sockets>>,
    shared: Arc<Shared>,
    /// The flows that the kernel relays. The key is the slot that receives the packets of the flow.
    offloaded: HashMap<usize, KernelFlow>,
    outlet: Outlet,
    began: Instant,
}

/// Packets that are sent together, at most [`BATCH`]. The packets wait until the end of the step that produced them.
struct Outlet {
    waiting: Vec<Waiting>,
    octets: Vec<u8>,
}

impl Outlet {
    /// Creates an empty queue with its full capacity, so that a worker that is late does not need to allocate memory.
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

    /// Whether the kernel relays or drops the packets of all `sessions` sessions, and the engine gets copies of the
    /// packets of at least one session.
    pub(super) fn sees_only_copies(&self, sessions: usize) -> bool {
        self.offloaded.len() == sessions && self.offloaded.values().any(|flow| flow.copied)
    }

    /// Whether the kernel relays or drops the packets of at least one session on this worker.
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
        // The core has normally ended the kernel's flow already. A port must not have a flow when it returns to the
        // pool.
        self.revoke(slot);
        let sockets = self.slots.get_mut(slot)?.take()?;
        for socket in [Some(&sockets.rtp), sockets.rtcp()].into_iter().flatten() {
            let _ = epoll::delete(&self.epoll, socket.as_fd());
        }
        Some(sockets)
    }

    /// Sends all waiting packets.
    pub(super) fn flush(&mut self) {
        let mut rest = &self.outlet.octets[..];
        for Waiting { slot, flow, to, length } in self.outlet.waiting.drain(..) {
            let Some((packet, after)) = rest.split_at_checked(length) else { break };
            rest = after;
            let Some(Some(sockets)) = self.slots.get(slot) else { continue };
            // A far end that receives RTP may send reports about it. So the RTCP socket is needed from the first packet
            // on.
            if let Some(rtcp) = sockets.bind_rtcp()
                && let Err(error) = watch(&self.epoll, slot, Flow::Rtcp, rtcp)
            {
                tracing::error!(%error, "cannot add the session's RTCP socket to epoll");
            }
            // If the kernel does not accept a packet, the packet is lost. The far end's reports count such a loss.
            let _ = match flow {
                // The error is an ICMP error of an earlier packet. The current packet was not sent, so it is sent
                // again.
                Flow::Rtp if sockets.pinned == Some(Pin { source: to, only: true }) => match sockets.rtp.send(packet) {
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => sockets.rtp.send(packet),
                    other => other,
                },
                Flow::Rtp => sockets.rtp.send_to(packet, to),
                Flow::Rtcp => sockets.rtcp().map_or(Ok(0), |rtcp| rtcp.send_to(packet, to)),
                Flow::IceUdp | Flow::IceTcp => {
                    self.shared.ice_port.iter().for_each(|port| port.send(flow, to, packet));
                    Ok(0)
                }
            };
        }
        self.outlet.octets.clear();
    }

    /// Returns the local and the remote address of the slot's RTP socket. Returns `None` if the socket is not pinned to
    /// a far end.
    fn ends(&self, slot: usize) -> Option<Ends> {
        let sockets = self.slots.get(slot)?.as_ref()?;
        Ends::new(sockets.rtp.local_addr().ok()?, sockets.pinned?.source)
    }

    fn socket(&self, slot: usize, flow: Flow) -> Option<&UdpSocket> {
        let sockets = self.slots.get(slot)?.as_ref()?;
        match flow {
            Flow::Rtp => Some(&sockets.rtp),
            Flow::Rtcp => sockets.rtcp(),
            Flow::IceUdp | Flow::IceTcp => None,
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

    fn pin(&mut self, slot: usize, pin: Option<Pin>) {
        let Some(Some(sockets)) = self.slots.get_mut(slot) else { return };
        if sockets.pinned == pin {
            return;
        }
        let is_connected = sockets.pinned.is_some_and(|pin| pin.only);
        let done = match pin {
            Some(Pin { source, only: true }) => sockets.rtp.connect(source).is_ok(),
            Some(_) | None if is_connected => rustix::net::connect_unspec(&sockets.rtp).is_ok(),
            Some(_) | None => true,
        };
        // If a socket cannot be connected, it stays unconnected. This is safe, because the latch checks every source.
        sockets.pinned = pin.filter(|_| done);
        sockets.used = true;
    }

    fn note_target(&mut self, ufrag: &str, flow: Flow, address: SocketAddr) {
        self.shared.ice_port.iter().for_each(|port| port.note_target(ufrag, flow, address));
    }

    fn admit(&mut self, ufrag: &str, flow: Flow, address: SocketAddr) {
        self.shared.ice_port.iter().for_each(|port| port.admit(ufrag, flow, address));
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
