//! Tests with many simultaneous calls over a network that loses and repeats datagrams. No call may fail, and nothing
//! may be left of the calls. A second test measures the memory that a live call uses, in the allocator.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a broken expectation ends the test"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tandem_app::{Server, Signals};
use tandem_call::address::Address;
use tandem_call::command::{Command, Request};
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::{LegInfo, LegOwner, Status};
use tandem_call::new_leg::{LegPlan, OnAnswer};
use tandem_call::program::instruction::AfterBridge;
use tandem_config::Config;
use tandem_history::query::{LegFilter, Page};
use tandem_id::{AccountName, LegId};
use tandem_routing::new_call::NewCall;
use tandem_sip as sip;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// Time limit for every wait.
const DEADLINE: Duration = Duration::from_secs(60);
/// Maximum number of other tasks that the server may start during the test. This number is much smaller than the number
/// of calls.
const OTHERS: usize = 5;
/// One fifth of the timers of RFC 3261. With these timers, the last timer of a call ends after 6.4 s.
const TIMERS: sip::Timers =
    sip::Timers { t1: Duration::from_millis(100), t2: Duration::from_millis(800), t4: Duration::from_secs(1) };
/// Makes the tests run one after the other, because each test measures the whole process.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The system allocator with a counter of the octets in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system allocator without a change.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        IN_USE.fetch_add(size, Ordering::Relaxed);
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_calls_over_a_lossy_network_succeed_and_leave_nothing() {
    let _alone = ALONE.lock().await;
    const CALLS: u128 = 300;
    let network = Network::new().await;
    let [mut caller, mut callee] = [Phone::start(network.front(0)).await, Phone::start(network.front(1)).await];
    let (server, _directory) = server(network.front(1), Some(network.front(2))).await;
    network.connect([caller.address, callee.address, server.sip_addrs()[0].1]);
    let before = tasks();

    // Of every three calls, a document answers one call, and two calls are bridged. The caller ends one of the bridged
    // calls, and the callee ends the other one.
    let begin = Instant::now();
    let target = network.front(2);
    let dial = caller.handle.clone();
    let pace = tokio::spawn(async move {
        for call in 0..CALLS {
            tokio::time::sleep_until(begin + Duration::from_millis(20) * u32::try_from(call).unwrap()).await;
            let number = if call % 3 == 0 { format!("5{call}") } else { format!("1{call}") };
            dial.send(invite(LegId(call), format!("sip:{number}@{target}"))).unwrap();
        }
    });
    let answering = tokio::spawn(async move {
        let (mut numbers, mut ended) = (HashMap::new(), 0);
        while ended < CALLS - CALLS.div_ceil(3) {
            match callee.next().await {
                sip::Event::Incoming { leg, incoming } => {
                    let call: u128 = incoming.to_user[1..].parse().unwrap();
                    assert!(numbers.insert(leg, call).is_none());
                    callee.answer(leg);
                }
                sip::Event::Acknowledged { leg, .. } if numbers[&leg] % 3 == 2 => callee.hang_up(leg),
                sip::Event::Ended { leg, cause, .. } => {
                    let expected = if numbers[&leg] % 3 == 2 { sip::EndCause::LocalHangup } else { sip::EndCause::Bye };
                    assert_eq!(cause, expected, "callee of {}", numbers[&leg]);
                    ended += 1;
                }
                _ => {}
            }
        }
        let mut calls: Vec<u128> = numbers.into_values().collect();
        calls.sort_unstable();
        calls
    });
    let (mut answered, mut ended) = (0, 0);
    while ended < CALLS {
        match caller.next().await {
            sip::Event::Answered { leg, .. } => {
                answered += 1;
                if leg.0 % 3 != 2 {
                    caller.hang_up(leg);
                }
            }
            sip::Event::Ended { leg, cause, .. } => {
                let expected = if leg.0 % 3 == 2 { sip::EndCause::Bye } else { sip::EndCause::LocalHangup };
                assert_eq!(cause, expected, "caller of {}", leg.0);
                ended += 1;
            }
            _ => {}
        }
    }
    assert_eq!(answered, CALLS);
    let called = timeout(DEADLINE, answering).await.unwrap().unwrap();
    assert_eq!(called, (0..CALLS).filter(|call| call % 3 != 0).collect::<Vec<_>>(), "each once");
    pace.await.unwrap();

    timeout(DEADLINE, server.calls().idle()).await.expect("every call is over");
    let legs = legs(&server).await;
    assert_eq!(legs.len() as u128, CALLS + CALLS - CALLS.div_ceil(3));
    for leg in legs {
        assert!(leg.end.is_some() && leg.status == Status::Completed, "{leg:?}");
    }
    eventually("no SIP leg or transaction is left", || {
        let sip = server.calls().services().sip.statistics();
        (sip.legs, sip.transactions) == (0, 0)
    })
    .await;
    eventually("no media session is left", || server.calls().live_legs() == 0).await;
    eventually("no call's task is left", || tasks() < before + OTHERS).await;
    server.shutdown(Signals::none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merged_calls_leave_no_task() {
    let _alone = ALONE.lock().await;
    let mut callee = Phone::start(SocketAddr::from(([127, 0, 0, 1], 0))).await;
    let (server, _directory) = server(callee.address, None).await;
    let before = tasks();
    for _ in 0..10 {
        let mut joined = Vec::new();
        for _ in 0..2 {
            joined.push(server.calls().create(new_call(callee.address)).await.unwrap().leg.id);
            let sip::Event::Incoming { leg, .. } = callee.next().await else { panic!("no call") };
            callee.answer(leg);
            callee.until(|event| matches!(event, sip::Event::Acknowledged { .. })).await;
        }
        let bridge = Command::Bridge { with: joined[1], after: AfterBridge::Hangup, if_free: false };
        command(&server, joined[0], bridge).await;
        command(&server, joined[0], Command::Hangup { headers: HeaderFields::new() }).await;
        for _ in 0..2 {
            callee.until(|event| matches!(event, sip::Event::Ended { .. })).await;
        }
    }
    timeout(DEADLINE, server.calls().idle()).await.expect("every call is over");
    assert!(legs(&server).await.iter().all(|leg| leg.end.is_some()));
    eventually("no call's task is left", || tasks() < before + OTHERS).await;
    server.shutdown(Signals::none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridged_call_holds_little_memory() {
    const CALLS: u128 = 128;
    /// The limit includes the legs of both phones, because the phones run in this process too. The limit does not
    /// include the stored messages. `sip.trace_mib` limits the stored messages.
    const MAX_OCTETS: usize = 48 * 1024;
    let _alone = ALONE.lock().await;
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let [mut caller, mut callee] = [Phone::start(anywhere).await, Phone::start(anywhere).await];
    let (server, _directory) = server(callee.address, None).await;
    let target = server.sip_addrs()[0].1;
    let mut before = 0;
    // The test makes the same number of calls before the measurement, because tables grow by doubling.
    for call in 0..2 * CALLS {
        if call == CALLS {
            legs(&server).await;
            before = IN_USE.load(Ordering::Relaxed);
        }
        caller.handle.send(invite(LegId(call), format!("sip:1{call}@{target}"))).unwrap();
        let sip::Event::Incoming { leg, .. } = callee.next().await else { panic!("no call") };
        callee.answer(leg);
        callee.until(|event| matches!(event, sip::Event::Acknowledged { .. })).await;
        caller.until(|event| matches!(event, sip::Event::Answered { .. })).await;
    }
    legs(&server).await;
    let held = || IN_USE.load(Ordering::Relaxed).saturating_sub(before) / usize::try_from(CALLS).unwrap();
    // The memory of records that are being written becomes free soon.
    eventually("a call is small", || held() <= MAX_OCTETS).await;
    eprintln!("a bridged call holds {} octets, with both phones", held());
    server.shutdown(Signals::none()).await;
}

async fn server(callee: SocketAddr, front: Option<SocketAddr>) -> (Server, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().display();
    let advertise = front.map(|front| format!("advertise = \"{front}\"")).unwrap_or_default();
    let text = format!(
        r#"
        data_dir = "{data}"
        [sip]
        listen = ["udp://127.0.0.1:0"]
        trace_mib = 0
        {advertise}
        [http]
        listen = "127.0.0.1:0"
        [database]
        url = "sqlite:{data}/tandem.db"
        [recordings]
        url = "file:{data}/recordings"
        [[accounts]]
        name = "acme"
        twilio = {{ account_sid = "AC00000000000000000000000000000001", auth_token = "secret" }}
        [[trunks]]
        name = "here"
        account = "acme"
        uri = "sip:{callee}"
        inbound_from = ["127.0.0.0/8"]
        [[numbers]]
        number = "1*"
        account = "acme"
        bridge = "sip:{{number}}@{callee}"
        [[numbers]]
        number = "5*"
        account = "acme"
        twiml = "<Response><Echo/></Response>"
        "#
    );
    let file = directory.path().join("tandem.toml");
    std::fs::write(&file, text).unwrap();
    let mut config = Config::load(Some(&file), []).unwrap_or_else(|errors| panic!("{errors}"));
    config.sip.timers = TIMERS;
    (Server::start(config).await.unwrap(), directory)
}

async fn legs(server: &Server) -> Vec<Arc<LegInfo>> {
    let page = Page { limit: 1_000, after: None, offset: 0 };
    server.calls().list(&AccountName::new("acme"), &LegFilter::default(), page).await.unwrap()
}

async fn command(server: &Server, leg: LegId, command: Command) {
    let request = Request { client_state: None, command };
    timeout(DEADLINE, server.calls().request(leg, request)).await.unwrap().unwrap();
}

fn new_call(callee: SocketAddr) -> NewCall {
    let (to, from) = (Address::from(format!("sip:somebody@{callee}").as_str()), Address::from("sip:us@127.0.0.1"));
    let plan = LegPlan::waiting(DEADLINE);
    NewCall { plan, ..NewCall::plain(LegOwner::new(AccountName::new("acme"), "twilio"), to, from, OnAnswer::Wait) }
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    tandem_test_support::wait_until(DEADLINE, what, async || holds()).await;
}

/// A SIP user agent that sends no audio.
struct Phone {
    handle: sip::transport::Handle,
    events: mpsc::UnboundedReceiver<sip::Event>,
    address: SocketAddr,
}

impl Phone {
    /// Starts a user agent. The user agent gives `advertise` as its address.
    async fn start(advertise: SocketAddr) -> Self {
        let everybody = sip::TrunkAcl { name: "everybody".into(), networks: vec!["127.0.0.0/8".parse().unwrap()] };
        let config = sip::Config {
            listen: vec!["udp://127.0.0.1:0".to_owned()],
            advertise: match advertise.port() {
                0 => sip::Advertise::default(),
                _ => advertise.to_string().parse().expect("an address"),
            },
            trunks: vec![everybody],
            timers: TIMERS,
            trace: false,
            trace_mib: 0,
            ..sip::Config::default()
        };
        let (sender, events) = mpsc::unbounded_channel();
        // The test may already have ended.
        let handle = sip::transport::start(config, move |event| drop(sender.send(event))).await.unwrap();
        let address = handle.local_addrs()[0].1;
        Self { handle, events, address }
    }

    async fn next(&mut self) -> sip::Event {
        timeout(DEADLINE, self.events.recv()).await.expect("something happens").unwrap()
    }

    async fn until(&mut self, mut fits: impl FnMut(&sip::Event) -> bool) {
        while !fits(&self.next().await) {}
    }

    fn answer(&self, leg: LegId) {
        self.handle.send(sip::Command::Provisional { leg, status: 180, sdp: None, headers: Vec::new() }).unwrap();
        self.handle.send(sip::Command::Answer { leg, sdp: sdp().into(), headers: Vec::new() }).unwrap();
    }

    fn hang_up(&self, leg: LegId) {
        self.handle.send(sip::Command::Hangup { leg, status: 480, reason: None, headers: Vec::new() }).unwrap();
    }
}

fn invite(leg: LegId, request_uri: String) -> sip::Command {
    let outgoing = sip::Outgoing {
        request_uri,
        from_user: "15550001111".to_owned(),
        sdp: sdp().into(),
        ..sip::Outgoing::default()
    };
    sip::Command::Invite { leg, invite: Box::new(outgoing) }
}

/// Returns an SDP with port 9 (discard). No socket receives on this port.
fn sdp() -> String {
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
     m=audio 9 RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n"
        .to_owned()
}

/// A network between three hosts on this computer. A host knows the other hosts only by the address of their front
/// socket. A front forwards each datagram to its host. The source of the forwarded datagram is the front of the sender.
/// One datagram in ten is lost, and the same datagram is lost at most twice. One datagram in twenty is sent twice.
struct Network {
    fronts: Vec<Arc<UdpSocket>>,
}

impl Network {
    async fn new() -> Self {
        let mut fronts = Vec::new();
        for _ in 0..3 {
            fronts.push(Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap()));
        }
        Self { fronts }
    }

    fn front(&self, host: usize) -> SocketAddr {
        self.fronts[host].local_addr().unwrap()
    }

    fn connect(&self, hosts: [SocketAddr; 3]) {
        let luck = Arc::new(Mutex::new(Luck { state: 1, lost: HashMap::new() }));
        for (front, host) in self.fronts.iter().cloned().zip(hosts) {
            let (fronts, luck) = (self.fronts.clone(), Arc::clone(&luck));
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                loop {
                    // The error is an ICMP message about a host that has ended.
                    let Ok((length, from)) = front.recv_from(&mut buffer).await else { continue };
                    let Some(sender) = hosts.iter().position(|host| *host == from) else { continue };
                    let copies = luck.lock().unwrap().copies(&buffer[..length]);
                    for _ in 0..copies {
                        let _ = fronts[sender].send_to(&buffer[..length], host).await;
                    }
                }
            });
        }
    }
}

struct Luck {
    state: u64,
    /// The number of losses of each datagram. The map key is the hash of the datagram.
    lost: HashMap<u64, u8>,
}

impl Luck {
    fn copies(&mut self, datagram: &[u8]) -> usize {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut hasher = DefaultHasher::new();
        datagram.hash(&mut hasher);
        match (self.state >> 33) % 20 {
            0 | 1 => {
                let lost = self.lost.entry(hasher.finish()).or_default();
                *lost += 1;
                usize::from(*lost > 2)
            }
            2 => 2,
            _ => 1,
        }
    }
}
