//! Signalling of both ends. Starts calls at the configured rate, answers incoming calls, hangs up, and records
//! failures.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;
use tandem_cli::say_error;

use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::figures::Figures;
use super::message::{self, Caller, Message};
use super::process;
use super::sink::{Sink, SinkReport};
use super::voice::{Ports, Side, Voice, VoiceReport};
use super::webrtc::{Answer, WebRtc, WebRtcCodec};

/// First retransmission interval, which RFC 3261 calls T1.
const T1: Duration = Duration::from_millis(500);
/// Time limit for the final response to a BYE. For an INVITE, the time limit is the sum of this time and the ringing
/// time.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between the last packet of a call and the BYE. All packets can arrive in this time.
const LAST_PACKET: Duration = Duration::from_millis(100);
/// Time between the answer to the last held call and the start of the measurement.
const SETTLE: Duration = Duration::from_secs(2);
/// Time between the end of the last short call and the end of the measurement. The measurement includes this time,
/// because the server still writes data about the last calls.
const SETTLE_TIME: Duration = Duration::from_millis(500);
/// Requested size of the kernel's receive buffer, in octets. A buffer of 256 KiB would hold the datagrams of only 10 ms
/// at 1,500 calls per second.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// Maximum number of datagrams that are read from a socket before the timers are handled again.
const BATCH: usize = 64;
/// Maximum delay of a call's start after the planned time. A call with a longer delay counts as late, because the
/// generator did not have enough CPU time.
const LATE: Duration = Duration::from_millis(20);

/// Parameters of a run.
pub(super) struct Plan {
    pub(super) target: SocketAddr,
    pub(super) caller: SocketAddr,
    /// Address of the answering end, or `None` if the server itself answers the calls.
    pub(super) answerer: Option<SocketAddr>,
    pub(super) number: String,
    pub(super) cps: f64,
    pub(super) calls: u64,
    /// Time from the answer to the BYE. If the value is `None`, the run first starts all calls, and then holds all
    /// calls for the time `measured_time`.
    pub(super) hold: Option<Duration>,
    pub(super) measured_time: Duration,
    pub(super) ring: Duration,
    pub(super) media: bool,
    /// The codec of the calling ends with WebRTC, or `None` without WebRTC. WebRTC requires that `media` is true.
    pub(super) webrtc: Option<WebRtcCodec>,
    /// Address on which the application for media streams listens. A sink requires that `media` is true.
    pub(super) sink: Option<SocketAddr>,
}

/// Results of a run.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) calls: u64,
    pub(super) ok: u64,
    /// Number of failed calls for each reason.
    pub(super) failures: BTreeMap<String, u64>,
    /// Maximum number of simultaneous calls.
    pub(super) max_calls: usize,
    pub(super) retransmissions: u64,
    pub(super) late: u64,
    pub(super) post_dial_delay: Figures,
    pub(super) added: Figures,
    pub(super) media: Option<VoiceReport>,
    pub(super) streams: Option<SinkReport>,
    /// Resource use during the measured period. With short calls, the measured period is the whole run.
    pub(super) resource_use: Option<ResourceUse>,
    pub(super) max_rss_kb: u64,
}

/// Resource use during the measured period.
pub(super) struct ResourceUse {
    pub(super) cpu_ms: u64,
    pub(super) seconds: f64,
    /// Memory of the server at the end of the period (PSS), in KiB.
    pub(super) pss_kb: u64,
    /// CPU time of the whole machine during the period, in ms. `own_ms` is the CPU time of this process.
    pub(super) machine_ms: u64,
    pub(super) own_ms: u64,
}

/// CPU times at the start of the measured period.
struct UsageStart {
    at: Instant,
    cpu_ms: u64,
    machine_ms: u64,
    own_ms: u64,
}

impl UsageStart {
    fn now(pid: Option<u32>) -> Self {
        let cpu_ms = pid.map_or(0, process::cpu_ms);
        let (machine_ms, own_ms) = (process::machine_ms(), process::cpu_ms(std::process::id()));
        Self { at: Instant::now(), cpu_ms, machine_ms, own_ms }
    }

    fn until_now(&self, pid: Option<u32>) -> ResourceUse {
        let now = Self::now(pid);
        ResourceUse {
            cpu_ms: now.cpu_ms.saturating_sub(self.cpu_ms),
            seconds: now.at.duration_since(self.at).as_secs_f64(),
            pss_kb: pid.map_or(0, process::pss_kb),
            machine_ms: now.machine_ms.saturating_sub(self.machine_ms),
            own_ms: now.own_ms.saturating_sub(self.own_ms),
        }
    }
}

impl Outcome {
    /// Returns whether the run was clean. In a clean run no call fails, there is at most one retransmission for every
    /// thousand calls, and at most one call in a hundred starts late.
    pub(super) fn is_clean(&self) -> bool {
        self.failed() == 0 && self.retransmissions * 1_000 <= self.calls && self.late * 100 <= self.calls
    }

    /// Takes the results of the audio. A call without a media connection has failed.
    fn take_media(&mut self, media: Option<VoiceReport>) {
        for (why, calls) in media.iter().flat_map(|media| &media.failures) {
            self.ok = self.ok.saturating_sub(*calls);
            *self.failures.entry(why.clone()).or_default() += calls;
        }
        self.media = media;
    }

    pub(super) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Retransmits the INVITE or the BYE.
    Repeat,
    /// Retransmits the 200 response of the answering end.
    RepeatAnswer,
    Answer,
    Silence,
    Bye,
    GiveUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Calling,
    Proceeding,
    Up,
    Ending,
}

/// State of a call at the calling end.
struct Call {
    stage: Stage,
    began: Instant,
    /// The request that is retransmitted if no response comes. This is the INVITE until the answer, and the BYE later.
    request: String,
    interval: Duration,
    /// The ACK, which is sent again for each retransmitted 200.
    ack: String,
    has_rung: bool,
    forward: Option<Duration>,
    other_ended: bool,
    ended: bool,
}

/// State of a call at the answering end.
struct Answering {
    source: SocketAddr,
    answer: String,
    answered: Option<Instant>,
    acknowledged: bool,
    interval: Duration,
}

/// Generates the calls of a run and controls both ends of each call.
pub(super) struct Generator {
    plan: Plan,
    run: u32,
    /// The time from which the audio's times count.
    began: std::time::Instant,
    caller: UdpSocket,
    answerer: Option<UdpSocket>,
    calls: HashMap<u64, Call>,
    answering: HashMap<u64, Answering>,
    /// The serial numbers of the calls. The key is the Call-ID that the server chose for the call to the answering end.
    names: HashMap<String, u64>,
    timers: BinaryHeap<Reverse<(Instant, u64, Timer)>>,
    ports: Ports,
    voice: Option<Voice>,
    webrtc: Option<WebRtc>,
    sink: Option<Sink>,
    up: u64,
    outcome: Outcome,
}

impl Generator {
    pub(super) fn new(mut plan: Plan) -> io::Result<Self> {
        let bind = |address: SocketAddr| {
            let socket = std::net::UdpSocket::bind(address)
                .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
            // A large buffer holds bursts of responses. The system may grant a smaller size than requested.
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER);
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        };
        let caller = bind(plan.caller)?;
        plan.caller = caller.local_addr()?;
        let answerer = plan.answerer.map(bind).transpose()?;
        let answers_from = plan.answerer.unwrap_or(plan.caller);
        let began = Instant::now().into_std();
        let sink = plan.sink.map(|address| Sink::start(address, began)).transpose()?;
        let ports = Ports::open(plan.caller.ip(), answers_from.ip())?;
        let run = rand::random();
        let webrtc = plan.webrtc.map(|codec| WebRtc::new(codec, run)).transpose().map_err(io::Error::other)?;
        let voice = if plan.media { Some(Voice::start(&ports, began, webrtc.clone())?) } else { None };
        let outcome = Outcome { calls: plan.calls, ..Outcome::default() };
        let (calls, answering, names) = (HashMap::new(), HashMap::new(), HashMap::new());
        let timers = BinaryHeap::new();
        Ok(Self {
            plan,
            run,
            began,
            caller,
            answerer,
            calls,
            answering,
            names,
            timers,
            ports,
            voice,
            webrtc,
            sink,
            up: 0,
            outcome,
        })
    }

    /// Makes the run. Returns when the last call has ended.
    pub(super) async fn run(mut self, pid: Option<u32>, progress: bool) -> io::Result<Outcome> {
        // The function `try_send_to` fails until the reactor has reported for the first time that the socket is
        // writable.
        self.caller.writable().await?;
        if let Some(answerer) = &self.answerer {
            answerer.writable().await?;
        }
        let began = Instant::now();
        let (mut begun, mut shown) = (0_u64, began);
        let mut buffer = vec![0; 65_536];
        let run_start = UsageStart::now(pid);
        let (mut settled, mut measured_from): (Option<Instant>, Option<UsageStart>) = (None, None);
        if let (None, Some(voice)) = (self.plan.hold, &self.voice) {
            voice.count(false);
        }
        let cps = self.plan.cps;
        let pause = Duration::from_secs_f64;
        let due = |call: u64| began + pause(call as f64 / cps);
        loop {
            let now = Instant::now();
            while begun < self.plan.calls && due(begun) <= now {
                self.outcome.late += u64::from(due(begun) + LATE < now);
                self.begin(begun, now);
                begun += 1;
            }
            self.fire(now);
            self.drain(&mut buffer);
            if begun == self.plan.calls && self.calls.is_empty() {
                break;
            }
            // With held calls, the measurement starts when all calls have been answered, except calls that failed.
            if self.plan.hold.is_none() && begun == self.plan.calls && self.up as usize == self.calls.len() {
                let settled = *settled.get_or_insert(now + SETTLE);
                if measured_from.is_none() && now >= settled {
                    measured_from = Some(UsageStart::now(pid));
                    self.voice.iter().for_each(|voice| voice.count(true));
                }
            }
            if let Some(before) = measured_from.as_ref().filter(|before| now >= before.at + self.plan.measured_time)
                && self.outcome.resource_use.is_none()
            {
                self.outcome.resource_use = Some(before.until_now(pid));
                self.voice.iter().for_each(|voice| voice.count(false));
                // The calls end one after the other, because they also started one after the other.
                let calls = self.calls.keys().copied().enumerate();
                let ends = calls.map(|(place, call)| (now + pause(place as f64 / cps / 2.0), call));
                self.timers.extend(ends.map(|(at, call)| Reverse((at, call, Timer::Silence))));
            }
            if now >= shown + Duration::from_secs(1) {
                shown = now;
                let rss_kb = pid.and_then(|pid| process::rss_kb(pid).ok()).unwrap_or(0);
                self.outcome.max_rss_kb = self.outcome.max_rss_kb.max(rss_kb);
                self.show(began, begun, progress);
            }
            let mut wake = now + Duration::from_millis(100);
            if begun < self.plan.calls {
                wake = wake.min(due(begun));
            }
            if let Some(Reverse((at, ..))) = self.timers.peek() {
                wake = wake.min(*at);
            }
            let other = async {
                match &self.answerer {
                    Some(answerer) => answerer.readable().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ready = self.caller.readable() => ready?,
                ready = other => ready?,
                () = tokio::time::sleep_until(wake) => {}
            }
        }
        if progress {
            say_error!();
        }
        if self.outcome.resource_use.is_none() {
            tokio::time::sleep(SETTLE_TIME).await;
            self.outcome.resource_use = Some(run_start.until_now(pid));
        }
        self.outcome.take_media(self.voice.take().map(Voice::finish));
        self.outcome.streams = self.sink.take().map(Sink::finish);
        Ok(self.outcome)
    }

    fn show(&mut self, began: Instant, begun: u64, terminal: bool) {
        let recent = self.outcome.added.recent().map(|recent| format!("  added delay p50 {recent:.2} ms"));
        let line = format!(
            "{:4.0} s  started {begun}  live {}  ok {}  failed {}{}",
            began.elapsed().as_secs_f64(),
            self.calls.len(),
            self.outcome.ok,
            self.outcome.failed(),
            recent.unwrap_or_default()
        );
        if terminal {
            // An error means that nobody reads the output.
            let _ = write!(std::io::stderr(), "\r{line:<100}");
        } else {
            say_error!("{line}");
        }
    }

    fn begin(&mut self, call: u64, now: Instant) {
        let audio = self.ports.address(Side::Caller, call);
        let offer = self.webrtc.as_ref().map_or_else(|| message::sdp(audio), |webrtc| webrtc.offer(call, audio));
        let request = self.writer(call).invite(&offer);
        if let Some(voice) = &self.voice {
            voice.invited(call, now.into_std().saturating_duration_since(self.began));
        }
        self.send(Side::Caller, &request, self.plan.target);
        let call_of_ours = Call {
            stage: Stage::Calling,
            began: now,
            request,
            interval: T1,
            ack: String::new(),
            has_rung: false,
            forward: None,
            other_ended: self.answerer.is_none(),
            ended: false,
        };
        self.calls.insert(call, call_of_ours);
        self.outcome.max_calls = self.outcome.max_calls.max(self.calls.len());
        self.timers.push(Reverse((now + T1, call, Timer::Repeat)));
        self.timers.push(Reverse((now + self.plan.ring + RESPONSE_TIMEOUT, call, Timer::GiveUp)));
    }

    fn writer(&self, call: u64) -> Caller<'_> {
        let Plan { caller, target, number, .. } = &self.plan;
        Caller { run: self.run, call, from: *caller, target: *target, number }
    }

    fn send(&self, side: Side, text: &str, to: SocketAddr) {
        let socket = match side {
            Side::Caller => Some(&self.caller),
            Side::Answerer => self.answerer.as_ref(),
        };
        // If the kernel does not accept a datagram, it is lost as in any network, and a retransmission follows.
        let _ = socket.map(|socket| socket.try_send_to(text.as_bytes(), to));
    }

    fn fire(&mut self, now: Instant) {
        while let Some(Reverse((at, call, timer))) = self.timers.peek().copied() {
            if at > now {
                return;
            }
            self.timers.pop();
            match timer {
                Timer::Repeat => self.repeat(call, now),
                Timer::RepeatAnswer => self.repeat_answer(call, now),
                Timer::Answer => self.answer(call, now),
                Timer::Silence => {
                    let wait = match &self.voice {
                        Some(voice) => {
                            voice.stop(call);
                            LAST_PACKET
                        }
                        None => Duration::ZERO,
                    };
                    self.timers.push(Reverse((now + wait, call, Timer::Bye)));
                }
                Timer::Bye => self.hang_up(call, now),
                Timer::GiveUp => self.give_up(call),
            }
        }
    }

    fn repeat(&mut self, call: u64, now: Instant) {
        let Some(own) = self.calls.get_mut(&call) else { return };
        if own.stage == Stage::Calling || own.stage == Stage::Ending && !own.ended {
            own.interval *= 2;
            let (at, text) = (now + own.interval, own.request.clone());
            self.outcome.retransmissions += 1;
            self.timers.push(Reverse((at, call, Timer::Repeat)));
            self.send(Side::Caller, &text, self.plan.target);
        }
    }

    fn repeat_answer(&mut self, call: u64, now: Instant) {
        let Some(answering) = self.answering.get_mut(&call).filter(|answering| !answering.acknowledged) else { return };
        answering.interval *= 2;
        let (at, text, to) = (now + answering.interval, answering.answer.clone(), answering.source);
        self.outcome.retransmissions += 1;
        self.timers.push(Reverse((at, call, Timer::RepeatAnswer)));
        self.send(Side::Answerer, &text, to);
    }

    fn answer(&mut self, call: u64, now: Instant) {
        let Some(answering) = self.answering.get_mut(&call) else { return };
        answering.answered = Some(now);
        let (text, to) = (answering.answer.clone(), answering.source);
        self.timers.push(Reverse((now + T1, call, Timer::RepeatAnswer)));
        self.send(Side::Answerer, &text, to);
    }

    fn hang_up(&mut self, call: u64, now: Instant) {
        let Some(own) = self.calls.get_mut(&call).filter(|own| own.stage == Stage::Up) else { return };
        (own.stage, own.interval) = (Stage::Ending, T1);
        // The BYE was prepared when the ACK was sent.
        let text = own.request.clone();
        self.timers.push(Reverse((now + T1, call, Timer::Repeat)));
        self.timers.push(Reverse((now + RESPONSE_TIMEOUT, call, Timer::GiveUp)));
        self.send(Side::Caller, &text, self.plan.target);
    }

    fn give_up(&mut self, call: u64) {
        let Some(own) = self.calls.get(&call) else { return };
        let why = match own.stage {
            Stage::Up => return,
            Stage::Calling => "no response to INVITE",
            Stage::Proceeding => "no final response to INVITE",
            Stage::Ending if !own.ended => "no response to BYE",
            Stage::Ending => "the other end received no BYE",
        };
        self.fail(call, why.to_owned());
    }

    fn fail(&mut self, call: u64, why: String) {
        if self.calls.get(&call).is_some_and(|own| own.stage == Stage::Up) {
            self.up -= 1;
        }
        *self.outcome.failures.entry(why).or_default() += 1;
        self.forget(call);
    }

    fn forget(&mut self, call: u64) {
        self.calls.remove(&call);
        if let Some(voice) = &self.voice {
            voice.forget(call);
        }
    }

    fn drain(&mut self, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            let Ok((length, from)) = self.caller.try_recv_from(buffer) else { break };
            let data = buffer.get(..length).unwrap_or_default();
            if let Some(message) = Message::parse(data) {
                match message.status() {
                    Some(status) => self.response(&message, status),
                    None => self.request_to_caller(&message, from),
                }
            }
        }
        for _ in 0..BATCH {
            let Some(Ok((length, from))) = self.answerer.as_ref().map(|socket| socket.try_recv_from(buffer)) else {
                break;
            };
            let data = buffer.get(..length).unwrap_or_default();
            if let Some(message) = Message::parse(data).filter(|message| message.status().is_none()) {
                self.request_to_answerer(&message, from);
            }
        }
    }

    fn response(&mut self, response: &Message<'_>, status: u16) {
        let now = Instant::now();
        let Some(call) = message::call_of(response.call_id(), self.run) else { return };
        let (number, _) = response.cseq();
        let (hold, voiced) = (self.plan.hold, self.voice.is_some());
        let Some(own) = self.calls.get_mut(&call) else { return };
        if number == 2 {
            if status >= 200 && own.stage == Stage::Ending && !own.ended {
                own.ended = true;
                if status >= 300 {
                    return self.fail(call, format!("BYE {status}"));
                }
                self.finish(call);
            }
            return;
        }
        if status > 100 && status < 300 && !own.has_rung {
            own.has_rung = true;
            self.outcome.post_dial_delay.add(milliseconds(now - own.began));
        }
        match (own.stage, status) {
            (Stage::Calling | Stage::Proceeding, 100..=199) => own.stage = Stage::Proceeding,
            (Stage::Calling | Stage::Proceeding, 200..=299) => {
                own.stage = Stage::Up;
                let forward = own.forward;
                self.up += 1;
                let answered = self.answering.get(&call).and_then(|answering| answering.answered);
                if let (Some(forward), Some(answered)) = (forward, answered) {
                    self.outcome.added.add(milliseconds(forward + (now - answered)));
                }
                self.acknowledge(call, response);
                if let Some(voice) = &self.voice {
                    if self.webrtc.is_some() {
                        match Answer::read(response.body()) {
                            Ok(answer) => voice.connect(call, self.ports.address(Side::Caller, call), answer),
                            Err(why) => return self.fail(call, why.to_owned()),
                        }
                    } else if let Some(to) = response.audio() {
                        voice.begin(Side::Caller, call, to);
                    }
                }
                if let Some(hold) = hold {
                    let hold = if voiced { hold.saturating_sub(LAST_PACKET) } else { hold };
                    self.timers.push(Reverse((now + hold, call, Timer::Silence)));
                }
            }
            (Stage::Calling | Stage::Proceeding, _) => {
                let to = response.value("To", "t");
                let ack = self.writer(call).request("ACK", &self.writer(call).uri(), 1, "i", to, "");
                self.send(Side::Caller, &ack, self.plan.target);
                self.fail(call, status.to_string());
            }
            // The server retransmits a 200 if it has not received the ACK.
            (Stage::Up | Stage::Ending, 200..=299) => {
                let ack = own.ack.clone();
                self.outcome.retransmissions += 1;
                self.send(Side::Caller, &ack, self.plan.target);
            }
            (Stage::Up | Stage::Ending, _) => {}
        }
    }

    /// Sends the ACK for a 200 response, and prepares the BYE. Both requests use the Contact and the route set of the
    /// 200.
    fn acknowledge(&mut self, call: u64, response: &Message<'_>) {
        let mut routes: Vec<&str> = response.values("Record-Route", "Record-Route").collect();
        routes.reverse();
        let mut rest: String = routes.into_iter().map(|route| format!("Route: {route}\r\n")).collect();
        rest.push_str("Content-Length: 0\r\n\r\n");
        let writer = self.writer(call);
        let (own_uri, to) = (writer.uri(), response.value("To", "t"));
        let uri = response.contact().unwrap_or(&own_uri);
        let ack = writer.request("ACK", uri, 1, "a", to, &rest);
        let bye = writer.request("BYE", uri, 2, "b", to, &rest);
        self.send(Side::Caller, &ack, self.plan.target);
        if let Some(own) = self.calls.get_mut(&call) {
            (own.ack, own.request) = (ack, bye);
        }
    }

    fn request_to_caller(&mut self, request: &Message<'_>, from: SocketAddr) {
        let Some((method, _)) = request.request() else { return };
        if method == "ACK" {
            return;
        }
        let call = message::call_of(request.call_id(), self.run);
        self.send(Side::Caller, &message::response(request, "200 OK", "load", None, ""), from);
        // If both ends hang up at the same time, the call has not failed.
        let early = call.filter(|call| self.calls.get(call).is_some_and(|own| own.stage != Stage::Ending));
        if let Some(call) = early.filter(|_| method == "BYE") {
            self.fail(call, "the server hung up".to_owned());
        }
    }

    fn request_to_answerer(&mut self, request: &Message<'_>, from: SocketAddr) {
        let Some((method, uri)) = request.request() else { return };
        let known = self.names.get(request.call_id()).copied();
        match (method, known) {
            ("INVITE", Some(call)) => {
                // This is a retransmitted INVITE or a re-INVITE. A re-INVITE gets the same response as the INVITE.
                self.outcome.retransmissions += 1;
                if let Some(answering) = self.answering.get(&call).filter(|answering| answering.answered.is_some()) {
                    self.send(Side::Answerer, &answering.answer, from);
                }
            }
            ("INVITE", None) => self.invited(request, uri, from),
            ("ACK", Some(call)) => {
                if let Some(answering) = self.answering.get_mut(&call) {
                    answering.acknowledged = true;
                }
            }
            ("ACK", None) => {}
            ("BYE" | "CANCEL", Some(call)) => {
                self.send(Side::Answerer, &message::response(request, "200 OK", "load", None, ""), from);
                self.names.remove(request.call_id());
                self.answering.remove(&call);
                match self.calls.get_mut(&call) {
                    Some(own) if own.stage == Stage::Ending => {
                        own.other_ended = true;
                        self.finish(call);
                    }
                    Some(_) => self.fail(call, format!("{method} from the server")),
                    None => {}
                }
            }
            _ => self.send(Side::Answerer, &message::response(request, "200 OK", "load", None, ""), from),
        }
    }

    fn invited(&mut self, request: &Message<'_>, uri: &str, from: SocketAddr) {
        let now = Instant::now();
        let Some(at) = self.plan.answerer else { return };
        let call =
            message::serial(uri).filter(|call| self.calls.contains_key(call) && !self.answering.contains_key(call));
        let Some(call) = call else {
            // The call does not exist, or it has already ended.
            return self.send(Side::Answerer, &message::response(request, "404 Not Found", "load", None, ""), from);
        };
        if let Some(own) = self.calls.get_mut(&call) {
            own.forward = Some(now - own.began);
        }
        let audio = self.ports.address(Side::Answerer, call);
        if let (Some(voice), Some(to)) = (&self.voice, request.audio()) {
            voice.begin(Side::Answerer, call, to);
        }
        let tag = format!("b{call}");
        let answer = message::response(request, "200 OK", &tag, Some(at), &message::sdp(audio));
        self.names.insert(request.call_id().to_owned(), call);
        let answering = Answering { source: from, answer, answered: None, acknowledged: false, interval: T1 };
        self.answering.insert(call, answering);
        if self.plan.ring.is_zero() {
            return self.answer(call, now);
        }
        self.send(Side::Answerer, &message::response(request, "180 Ringing", &tag, Some(at), ""), from);
        self.timers.push(Reverse((now + self.plan.ring, call, Timer::Answer)));
    }

    /// Completes a call if both ends know that the call has ended.
    fn finish(&mut self, call: u64) {
        if self.calls.get(&call).is_some_and(|own| own.ended && own.other_ended) {
            self.outcome.ok += 1;
            self.forget(call);
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
