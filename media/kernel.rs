//! The kernel relay. This module is part of the shell (I/O and threads). An eBPF program relays plain RTP packets
//! before the packets reach a socket. The program drops packets that have no reader (`kernel/relay.bpf.c`,
//! docs/kernel-relay.md).
//!
//! The program is attached to the interfaces on which RTP arrives. The kernel detaches the program when this process
//! ends, also after a crash. The program handles only the packets of the flows in [`KernelRelay`]'s table. A flow has
//! exact addresses and ports of both ends, one SSRC, and one or two payload types. The program lets all other packets
//! pass.

mod route;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aya::maps::{Array, HashMap, MapData};
use aya::programs::tc::{SchedClassifier, TcAttachOptions, TcAttachType};
use aya::programs::{LinkOrder, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader};

use crate::offload::{FlowCounts, Forward, OffloadRule};

/// The compiled eBPF program. `make bpf` compiles the program.
static PROGRAM: &[u8] = aya::include_bytes_aligned!("kernel/relay.bpf.o");
/// `Key`, `Flow` and `Count` have the octets of `struct key`, `struct flow` and `struct count` in relay.bpf.c.
type Key = [u8; 12];
type Flow = [u8; 40];
type Count = [u8; 56];
/// The highest number of flows. A bridged call needs two flows. If the table is full, further calls are relayed in user
/// space.
const MAX_FLOWS: u32 = 32_768;
/// The highest number of interfaces to which the program is attached.
const MAX_INTERFACES: usize = 16;

/// The reason why the kernel cannot relay packets.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unavailable {
    #[error("it needs CAP_BPF and CAP_NET_ADMIN")]
    Permission,
    #[error("the verifier of this kernel refuses the eBPF program: {0}")]
    Verifier(String),
    #[error("media.listen is not an IPv4 address")]
    Family,
    #[error("it needs Linux 6.6 or newer: {0}")]
    Attach(ProgramError),
    #[error("{0}")]
    Program(#[from] ProgramError),
    #[error("{0}")]
    Load(EbpfError),
    #[error("cannot open the maps of the eBPF program: {0}")]
    Map(#[from] aya::maps::MapError),
    #[error("cannot query routes: {0}")]
    Routes(#[from] io::Error),
    #[error("the eBPF program lacks an expected part")]
    Foreign,
}

/// A flow that the kernel relays or drops.
#[derive(Debug)]
pub(crate) struct KernelFlow {
    key: Key,
    place: u32,
    /// Whether the engine receives a copy of each packet.
    pub(crate) copied: bool,
}

/// The local and the remote address of a leg's RTP socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) local: SocketAddrV4,
    pub(crate) remote: SocketAddrV4,
}

impl Ends {
    /// Returns the addresses of an IPv4 socket with a known far end. Returns `None` for IPv6. Also returns `None` if
    /// the remote port is 0, because no packet can be sent to port 0.
    pub(crate) fn new(local: SocketAddr, remote: SocketAddr) -> Option<Ends> {
        let v4 = |address: SocketAddr| match address.ip().to_canonical() {
            IpAddr::V4(ip) => Some(SocketAddrV4::new(ip, address.port())),
            IpAddr::V6(_) => None,
        };
        Some(Ends { local: v4(local)?, remote: v4(remote).filter(|remote| remote.port() != 0)? })
    }
}

/// The eBPF program and its tables. If this struct is dropped, the program is detached.
pub(crate) struct KernelRelay {
    tables: Mutex<Tables>,
    /// The number of flows in the table.
    flows: AtomicU64,
    interfaces: Vec<String>,
}

struct Tables {
    flows: HashMap<MapData, Key, Flow>,
    counts: Array<MapData, Count>,
    /// The free indices of `counts`.
    free: Vec<u32>,
    routes: route::Routes,
    /// The loaded eBPF program. It owns the attachments to the interfaces.
    _program: Ebpf,
}

impl std::fmt::Debug for KernelRelay {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("KernelRelay").field("interfaces", &self.interfaces).finish_non_exhaustive()
    }
}

impl KernelRelay {
    /// Loads and attaches the program for sockets on `listen`, with space for `max_flows` flows.
    pub(crate) fn start(listen: IpAddr, max_flows: u32) -> Result<KernelRelay, Unavailable> {
        let max_flows = max_flows.clamp(2, MAX_FLOWS);
        let mut loader = EbpfLoader::new();
        // The program uses no kernel types, so it needs no BTF.
        let loader = loader.btf(None).set_max_entries("FLOWS", max_flows).set_max_entries("COUNTS", max_flows);
        let mut program = loader.load(PROGRAM).map_err(|error| match is_refused(&error) {
            true => Unavailable::Permission,
            false => Unavailable::Load(error),
        })?;
        let relay = program.program_mut("relay").ok_or(Unavailable::Foreign)?;
        let relay: &mut SchedClassifier = relay.try_into()?;
        relay.load().map_err(Unavailable::of_program)?;
        let mut interfaces = Vec::new();
        let mut fault = None;
        for name in route::interfaces(listen, &route::table()).into_iter().take(MAX_INTERFACES) {
            // Attach the program with TCX. A program that is attached in the older way (netlink) remains attached when
            // the process is killed.
            let options = TcAttachOptions::TcxOrder(LinkOrder::default());
            match relay.attach_with_options(&name, TcAttachType::Ingress, options) {
                Ok(_) => interfaces.push(name),
                Err(error) => fault = Some(error),
            }
        }
        if let (true, Some(error)) = (interfaces.is_empty(), fault) {
            return Err(if is_refused(&error) { Unavailable::Permission } else { Unavailable::Attach(error) });
        }
        let flows = HashMap::try_from(program.take_map("FLOWS").ok_or(Unavailable::Foreign)?)?;
        let counts = Array::try_from(program.take_map("COUNTS").ok_or(Unavailable::Foreign)?)?;
        let routes = route::Routes::new()?;
        let tables = Tables { flows, counts, free: (0..max_flows).rev().collect(), routes, _program: program };
        Ok(KernelRelay { tables: Mutex::new(tables), flows: AtomicU64::new(0), interfaces })
    }

    /// The names of the interfaces to which the program is attached.
    pub(crate) fn interfaces(&self) -> &[String] {
        &self.interfaces
    }

    /// The number of flows that are installed now.
    pub(crate) fn flows(&self) -> u64 {
        self.flows.load(Ordering::Relaxed)
    }

    /// Installs a flow. From now on the kernel forwards the packets that arrive at `from`. The two addresses in
    /// `forward` are the source and the destination of the forwarded packets. If `forward` is `None`, the kernel counts
    /// the packets and drops them. Returns `None` if the kernel cannot install the flow.
    pub(crate) fn install(
        &self,
        from: Ends,
        forward: Option<(Ends, &Forward)>,
        rule: &OffloadRule,
    ) -> Option<KernelFlow> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let interface = forward.map_or(Some(0), |(to, _)| tables.routes.interface(to))?;
        let units = u8::try_from(rule.clock_rate / 1_000).ok()?;
        let place = tables.free.pop()?;
        let (key, flow) = (key(from), flow(forward, rule, units, interface, place));
        let done =
            tables.counts.set(place, count(&rule.counted), 0).is_ok() && tables.flows.insert(key, flow, 0).is_ok();
        if !done {
            tables.free.push(place);
            return None;
        }
        self.flows.fetch_add(1, Ordering::Relaxed);
        Some(KernelFlow { key, place, copied: forward.is_some_and(|(_, forward)| forward.copied) })
    }

    /// The current counters of a flow.
    pub(crate) fn counted(&self, flow: &KernelFlow) -> Option<FlowCounts> {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        counted(&tables.counts.get(&flow.place, 0).ok()?)
    }

    /// Removes a flow and returns its final counters.
    pub(crate) fn remove(&self, flow: KernelFlow) -> Option<FlowCounts> {
        {
            let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = tables.flows.remove(&flow.key);
        }
        let counted = self.counted(&flow);
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).free.push(flow.place);
        self.flows.fetch_sub(1, Ordering::Relaxed);
        counted
    }
}

impl Unavailable {
    /// Returns the reason why the kernel does not load the program. The verifier also answers with "permission denied",
    /// but writes a log.
    fn of_program(error: ProgramError) -> Unavailable {
        let verifier_message = match &error {
            ProgramError::LoadError { verifier_log, .. } => verifier_message(&verifier_log.to_string()),
            _ => None,
        };
        match verifier_message {
            Some(verifier_message) => Unavailable::Verifier(verifier_message),
            None if is_refused(&error) => Unavailable::Permission,
            None => error.into(),
        }
    }
}

/// Returns the line of the verifier's log that says why the program is refused. This is the last line before the
/// statistics. Returns `None` if there is no such line.
fn verifier_message(log: &str) -> Option<String> {
    let mut lines = log.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_statistics = |line: &&str| {
        ["processed ", "verification time", "stack depth", "max_states"].iter().any(|start| line.starts_with(start))
    };
    lines.rfind(|line| !is_statistics(line)).map(|line| line.chars().take(200).collect())
}

/// Whether the error is the kernel's answer to a process without the necessary capabilities.
fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    })
}

/// Writes octets one after the other. Octets that do not fit are ignored.
struct Octets<const N: usize> {
    octets: [u8; N],
    at: usize,
}

impl<const N: usize> Octets<N> {
    fn new() -> Octets<N> {
        Octets { octets: [0; N], at: 0 }
    }

    fn put(mut self, octets: &[u8]) -> Octets<N> {
        if let Some(place) = self.octets.get_mut(self.at..self.at + octets.len()) {
            place.copy_from_slice(octets);
        }
        self.at += octets.len();
        self
    }
}

fn key(ends: Ends) -> Key {
    let Ends { local, remote } = ends;
    Octets::new()
        .put(&local.ip().octets())
        .put(&remote.ip().octets())
        .put(&local.port().to_be_bytes())
        .put(&remote.port().to_be_bytes())
        .octets
}

/// Returns the table entry of a flow. The destination port 0 means that the kernel drops the packets. The payload type
/// 255 means that the flow has no comfort noise.
fn flow(forward: Option<(Ends, &Forward)>, rule: &OffloadRule, units: u8, interface: u32, place: u32) -> Flow {
    let OffloadRule { ssrc, audio, noise, .. } = *rule;
    let nowhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    let discard = Forward { to: 0, ssrc, sequence_offset: 0, timestamp_offset: 0, audio, noise, copied: false };
    let (to, sent) = forward.unwrap_or((Ends { local: nowhere, remote: nowhere }, &discard));
    Octets::new()
        .put(&to.local.ip().octets())
        .put(&to.remote.ip().octets())
        .put(&to.local.port().to_be_bytes())
        .put(&to.remote.port().to_be_bytes())
        .put(&ssrc.to_be_bytes())
        .put(&sent.ssrc.to_be_bytes())
        .put(&sent.timestamp_offset.to_ne_bytes())
        .put(&interface.to_ne_bytes())
        .put(&place.to_ne_bytes())
        .put(&sent.sequence_offset.to_ne_bytes())
        .put(&[audio, sent.audio, noise.unwrap_or(255), sent.noise.unwrap_or(255), units, sent.copied.into()])
        .octets
}

/// Returns the initial counters of a flow. The last transit time is 0, because there is no earlier packet.
fn count(from: &FlowCounts) -> Count {
    Octets::new()
        .put(&[0; 32])
        .put(&from.highest.to_ne_bytes())
        .put(&from.gaps.to_ne_bytes())
        .put(&from.jitter.to_ne_bytes())
        .put(&[0; 4])
        .put(&from.timestamp.to_ne_bytes())
        .octets
}

fn counted(count: &Count) -> Option<FlowCounts> {
    let long = |at: usize| Some(u64::from_ne_bytes(*count.get(at..)?.first_chunk()?));
    let short = |at: usize| Some(u32::from_ne_bytes(*count.get(at..)?.first_chunk()?));
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Duration::new(now.tv_sec.cast_unsigned(), u32::try_from(now.tv_nsec).unwrap_or(0));
    Some(FlowCounts {
        packets: long(0)?,
        octets: long(8)?,
        highest: short(32)?,
        gaps: short(36)?,
        jitter: short(40)?,
        timestamp: short(48)?,
        age: now.saturating_sub(Duration::from_nanos(long(16)?)),
    })
}

#[cfg(test)]
mod tests;
