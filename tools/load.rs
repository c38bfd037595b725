//! `tandem load` generates paced SIP and RTP load. The command acts as both ends of each call, and measures at both
//! ends.
//!
//! ```text
//!  caller ──INVITE number──> server under test ──INVITE number──> answerer      one thread, one clock, two sockets
//!  caller <══RTP, stamped══> server            <══RTP, stamped══> answerer      another thread, with --media
//! ```
//!
//! Both ends use the same clock, so the delay that the server adds is the difference between two timestamps. The user
//! agents are minimal, because the measurement must show the performance of the server and not of the generator. A user
//! agent has only one dialog in each call, and uses retransmissions instead of full transactions.

mod calls;
pub(crate) mod figures;
mod message;
mod process;
mod sink;
mod stamp;
mod table;
mod voice;
mod webrtc;

use std::io::IsTerminal as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;
use tandem_cli::{say, say_error};

use serde_json::{Value, json};

use calls::{Generator, Outcome};
use tandem_cli::Failure;
use tandem_cli::paint::harmless_json;
use webrtc::WebRtcCodec;

/// Maximum number of calls in one run.
const MAX_TOTAL_CALLS: u64 = 1_000_000;
/// Maximum number of runs in a curve.
const MAX_RUNS: usize = 32;
/// Maximum number of calls per second. The same maximum applies to simultaneous calls.
const MAX_RATE_OR_CALLS: u32 = 20_000;
/// Pause between two steps of a search, so that a step does not affect the next step. After a step that was not clean,
/// the longer pause `PAUSE_BEFORE_REPEAT` is used.
const PAUSE: Duration = Duration::from_secs(2);
const PAUSE_BEFORE_REPEAT: Duration = Duration::from_secs(4);
/// Maximum duration of a run, in seconds.
const MAX_SECONDS: u64 = 3_600;

/// Generate paced SIP and RTP load on a SIP server, measure at both ends, and report as a table and as JSON
///
/// The command acts as both ends of each call. It sends the calls from --caller to the server under test. The server
/// must forward the calls to --answerer. Each call dials --number and a serial number of seven digits. The answering
/// end recognises the call by the serial number. Progress and a table are printed to standard error. A JSON report is
/// printed to standard output if standard output is not a terminal, or with --json. The exit code is 0 if every call
/// succeeded, and 2 if some calls failed.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// UDP address of the server under test
    #[arg(value_name = "HOST:PORT")]
    target: String,
    /// New calls per second. With --calls, this is the rate at which the calls are set up
    #[arg(long, value_name = "RATE", default_value_t = 10.0)]
    cps: f64,
    /// Time for which new calls are started. With --calls, this is the time for which all calls are held
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    seconds: u64,
    /// Hold this number of simultaneous calls, instead of making short calls. If there are several numbers
    /// (50,100,200), one run follows the other
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    calls: Vec<u32>,
    /// Duration of a short call after its answer
    #[arg(long, value_name = "MS", default_value_t = 200)]
    hold: u64,
    /// Time for which the answering end rings
    #[arg(long, value_name = "MS", default_value_t = 0)]
    ring: u64,
    /// Number to dial; the serial number of the call is appended
    #[arg(long, value_name = "DIGITS", default_value = "1")]
    number: String,
    /// Address of the calling end. The tested server finds the trunk by this address. Port 0 means any free port
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.2:5070")]
    caller: SocketAddr,
    /// Address of the answering end
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.3:5080")]
    answerer: SocketAddr,
    /// Do not use an answering end, because the server answers the calls itself (with an announcement or an echo)
    #[arg(long)]
    no_answerer: bool,
    /// Send G.711 u-law audio with 20 ms per packet in both directions, and count the packets that arrive
    #[arg(long)]
    media: bool,
    /// Let the calling ends speak WebRTC (ICE, DTLS-SRTP) with this codec, as browsers do. The answering ends stay phones
    #[arg(long, value_name = "CODEC", requires = "media")]
    webrtc: Option<WebRtcCodec>,
    /// Accept the media streams (WebSocket) that the server opens for the calls. Count the frames, and measure the
    /// delay between an RTP packet and its frame
    #[arg(long, value_name = "ADDRESS:PORT", requires = "media")]
    sink: Option<SocketAddr>,
    /// Find the highest clean rate. The search goes upwards from --cps, and each step takes --seconds. A rate is clean
    /// if all calls succeed and at most one call in a thousand needs a retransmission
    #[arg(long, conflicts_with = "calls")]
    search: bool,
    /// Measure CPU and memory of the process with this id, which is the server on the same machine
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Print the JSON report to standard output even if standard output is a terminal
    #[arg(long)]
    json: bool,
    /// Confirm that the target is another machine and that its operator agrees to the load
    #[arg(long)]
    remote: bool,
}

const EXAMPLES: &str = "\
Examples:
  Short calls (CPU per call, added delay):
    tandem load 127.0.0.1:5060 --cps 50 --ring 200 --pid $(pgrep -x tandem)
  Relay (CPU per call and second, loss, latency, memory):
    tandem load 127.0.0.1:5060 --calls 200 --seconds 15 --media --pid PID
  The same at each number of calls, as a curve:
    tandem load 127.0.0.1:5060 --calls 50,100,200,400 --cps 40 --media --pid PID
  The highest clean rate:
    tandem load 127.0.0.1:5060 --cps 400 --seconds 5 --search
  A server that echoes:
    tandem load 127.0.0.1:5060 --number 5 --no-answerer --media
  Media streams (CPU per stream, lateness, loss):
    tandem load 127.0.0.1:5060 --number 7 --no-answerer --media \\
      --sink 127.0.0.3:7000 --calls 500 --cps 50 --pid PID
  Browsers that call phones (transcoded; time to the first audio; memory of a leg):
    tandem load 127.0.0.1:5060 --webrtc opus --media --calls 100 --cps 20 --pid PID
  Handshakes (CPU per call with ICE and DTLS):
    tandem load 127.0.0.1:5060 --webrtc pcmu --media --cps 20 --hold 500 --pid PID
  JSON into a file, and the table on the terminal:
    tandem load ... > run.json

The server must accept calls from --caller and send the number to --answerer. For Tandem:
  [[trunks]]
  name = \"load\"
  account = \"acme\"
  uri = \"sip:127.0.0.3:5080\"
  inbound_from = [\"127.0.0.2/32\", \"127.0.0.3/32\"]
  [[numbers]]
  number = \"1*\"
  account = \"acme\"
  bridge = \"sip:{number}@127.0.0.3:5080\"
With --webrtc opus, the trunk also needs: codecs = [\"opus\", \"PCMU\"]
For media streams:
  [[numbers]]
  number = \"7*\"
  account = \"acme\"
  twiml = '<Response><Start><Stream url=\"ws://127.0.0.3:7000/\"/></Start><Pause length=\"3600\"/></Response>'

Fields of the report:
  ok, failed       calls that were answered and ended correctly at both ends; failed calls by SIP status or reason
  clean            no call failed, at most 1 call in 1,000 needed a retransmission, and at most 1 in 100 started late
  post_dial_delay  ms from the INVITE to the first 18x or 200. The time for which the answering end rings is included
  added_delay      the delay that the server adds: from INVITE in to INVITE out, plus from 200 in to 200 out
  media            packets sent and lost in each direction, one-way latency and jitter (RFC 3550) in ms. The generator
                   writes stamps into the audio. Stamps survive A-law; packets with other codecs count as unstamped.
                   first_audio_ms: from the INVITE until both ends have heard each other.
                   connected_ms: with --webrtc, from the answer to the keys of DTLS. With Opus, both ends send a tone, and
                   lost packets are counted by their RTP sequence numbers, so there is no latency.
                   dropped_here: packets that the full sockets of the generator dropped, so the server did not lose them
  streams          with --sink: messages received, and frames dropped according to their timestamps.
                   stamps: stamps found, missing between two found stamps, and missing at the start or end of a stream.
                   audio_cut_ms, audio_added_ms: audio that the server removed or added to follow the far end's clock.
                   packet_to_message: ms from sending a packet to receiving its message, with the server's jitter buffer.
                   later_than_fastest: the same, minus the time of the fastest message of the stream
  generator_late   lateness of the generator itself in ms. A server delay below this value cannot be measured
  cpu              with --pid: CPU ms for each call, or for each call and second with --calls. Memory of the server before
                   the run, at its end and at most. With --calls also the memory that each call adds (pss)
  machine          cores that the generator and all other processes except the server used. If all cores were busy, the
                   figures are not reliable
  started_late     calls that started more than 20 ms late because the generator had too little CPU time

If possible, the generator takes a high priority, as if it ran on another machine. On a busy machine, give the generator a
higher priority (chrt -f 20 tandem load ...). With two cores, give one core to the server and one to the generator
(taskset -c 0 tandem serve ..., taskset -c 1 tandem load ...).";

/// Generates the load, and prints the report.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let target = target(&arguments)?;
    check(&arguments)?;
    take_priority();
    let idle_kb = arguments.pid.map_or(0, process::pss_kb);
    let report = match arguments.calls.as_slice() {
        _ if arguments.search => search(&arguments, target, idle_kb)?,
        [] => one(&arguments, target, None, arguments.cps, idle_kb)?.0,
        [calls] => one(&arguments, target, Some(*calls), arguments.cps, idle_kb)?.0,
        _ => curve(&arguments, target, idle_kb)?,
    };
    if arguments.json || !std::io::stdout().is_terminal() {
        say!("{}", harmless_json(&format!("{report:#}")));
    }
    say_error!("{}", table::of(&report).trim_end());
    let failed = report.get("failed").and_then(Value::as_u64).unwrap_or(0);
    if failed > 0 {
        return Err(Failure::Environment(anyhow::anyhow!("{failed} calls failed")));
    }
    Ok(())
}

/// Raises the priority of this process, so that the generator gets CPU time even if the server uses all CPU time. A
/// generator on another machine would not compete with the server for CPU time. If the system does not permit the
/// priority, the report shows the generator's lateness. Threads that start later inherit the priority.
fn take_priority() {
    let _ = rustix::process::setpriority_process(None, -19);
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1_000));
}

fn target(arguments: &Arguments) -> Result<SocketAddr, Failure> {
    let text = &arguments.target;
    let found = text.to_socket_addrs().map_err(|error| input(format!("{text}: {error}")))?;
    let mut found = found.filter(|address| address.is_ipv4() == arguments.caller.is_ipv4());
    let target = found.next().ok_or_else(|| input(format!("{text} has no address of the same family as --caller")))?;
    if !target.ip().is_loopback() && !arguments.remote {
        return Err(input(format!("{target} is not this machine: give --remote to confirm that its owner agrees")));
    }
    Ok(target)
}

/// Checks the arguments. Each number has a maximum, so that a typing error does not cause a denial of service.
fn check(arguments: &Arguments) -> Result<(), Failure> {
    let calls = arguments.cps * arguments.seconds as f64;
    if !(arguments.cps > 0.0 && arguments.cps <= f64::from(MAX_RATE_OR_CALLS)) {
        return Err(input(format!("--cps is from 0.01 to {MAX_RATE_OR_CALLS}")));
    }
    if arguments.seconds == 0 || arguments.seconds > MAX_SECONDS {
        return Err(input(format!("--seconds is from 1 to {MAX_SECONDS}")));
    }
    if arguments.calls.iter().any(|calls| *calls == 0 || *calls > MAX_RATE_OR_CALLS) || arguments.calls.len() > MAX_RUNS
    {
        return Err(input(format!("--calls is from 1 to {MAX_RATE_OR_CALLS}, with up to {MAX_RUNS} values")));
    }
    if arguments.calls.is_empty() && calls > MAX_TOTAL_CALLS as f64 {
        return Err(input(format!("these are {calls:.0} calls; the maximum is {MAX_TOTAL_CALLS}")));
    }
    if arguments.hold > 600_000 || arguments.ring > 120_000 {
        return Err(input("--hold is at most 600000, --ring 120000".to_owned()));
    }
    if arguments.number.len() > 20 || !arguments.number.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+')
    {
        return Err(input("--number has digits or letters, at most 20".to_owned()));
    }
    Ok(())
}

fn input(text: String) -> Failure {
    Failure::Input(anyhow::anyhow!(text))
}

/// Makes one run. If `calls` is a number, the run holds this number of calls. Otherwise the run makes short calls.
/// Returns the report, and whether the run was clean. `idle_kb` is the memory of the server before the first call, in
/// KiB.
fn one(
    arguments: &Arguments,
    target: SocketAddr,
    calls: Option<u32>,
    cps: f64,
    idle_kb: u64,
) -> Result<(Value, bool), Failure> {
    let environment = |error: std::io::Error| Failure::Environment(error.into());
    let plan = calls::Plan {
        target,
        caller: arguments.caller,
        answerer: (!arguments.no_answerer).then_some(arguments.answerer),
        number: arguments.number.clone(),
        cps,
        calls: match calls {
            Some(calls) => u64::from(calls),
            None => (cps * arguments.seconds as f64).round().max(1.0) as u64,
        },
        hold: match calls {
            Some(_) => None,
            None => Some(Duration::from_millis(arguments.hold)),
        },
        measured_time: Duration::from_secs(arguments.seconds),
        ring: Duration::from_millis(arguments.ring),
        media: arguments.media,
        webrtc: arguments.webrtc,
        sink: arguments.sink,
    };
    let before = arguments.pid.map(process::rss_kb).transpose().map_err(environment)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(environment)?;
    let progress = std::io::stderr().is_terminal();
    let outcome =
        runtime.block_on(async { Generator::new(plan)?.run(arguments.pid, progress).await }).map_err(environment)?;
    let after = arguments.pid.map(process::rss_kb).transpose().map_err(environment)?;
    let clean = outcome.is_clean();
    let memory = before.zip(after).map(|(rss_before, rss_after)| Memory { rss_before, rss_after, idle_kb });
    Ok((report(arguments, target, calls, cps, &outcome, memory), clean))
}

/// Memory of the server in KiB: the RSS before the run, the RSS after the run, and the PSS before the first call.
struct Memory {
    rss_before: u64,
    rss_after: u64,
    idle_kb: u64,
}

fn report(
    arguments: &Arguments,
    target: SocketAddr,
    calls: Option<u32>,
    cps: f64,
    outcome: &Outcome,
    memory: Option<Memory>,
) -> Value {
    let mut report = json!({
        "target": target.to_string(),
        "mode": if calls.is_some() { "held" } else { "short" },
        "cps": cps,
        "seconds": arguments.seconds,
        "calls": outcome.calls,
        "ok": outcome.ok,
        "failed": outcome.failed(),
        "failures": outcome.failures,
        "clean": outcome.is_clean(),
        "most_at_a_time": outcome.max_calls,
        "retransmissions": outcome.retransmissions,
        "started_late": outcome.late,
        "post_dial_delay_ms": outcome.post_dial_delay.report(),
        "added_delay_ms": outcome.added.report(),
    });
    let Value::Object(fields) = &mut report else { return report };
    if let Some(media) = &outcome.media {
        fields.insert("media".to_owned(), media.report());
        if let Some(streams) = &outcome.streams {
            fields.insert("streams".to_owned(), streams.report(media.sent_by_callers()));
        }
    }
    let Some(resource_use) = &outcome.resource_use else { return report };
    let cores = |ms: u64| figures::rounded(ms as f64 / 1_000.0 / resource_use.seconds.max(0.001));
    let others = resource_use.machine_ms.saturating_sub(resource_use.cpu_ms + resource_use.own_ms);
    fields.insert(
        "machine".to_owned(),
        json!({
            "cores": process::cores(),
            "generator_cores": cores(resource_use.own_ms),
            "others_cores": arguments.pid.map(|_| cores(others)),
        }),
    );
    if let Some(Memory { rss_before, rss_after, idle_kb }) = memory {
        let (name, of) = match calls {
            Some(calls) => ("ms_a_call_and_second", f64::from(calls) * resource_use.seconds),
            None => ("ms_a_call", outcome.calls as f64),
        };
        let mut cpu = json!({
            "ms": resource_use.cpu_ms,
            name: figures::rounded(resource_use.cpu_ms as f64 / of.max(1.0)),
            "cores": cores(resource_use.cpu_ms),
            "rss_before_kb": rss_before,
            "rss_kb": rss_after,
            "most_rss_kb": outcome.max_rss_kb.max(rss_after),
        });
        if let (Value::Object(cpu), Some(calls)) = (&mut cpu, calls) {
            let more = resource_use.pss_kb.saturating_sub(idle_kb) as f64 / f64::from(calls.max(1));
            cpu.insert("pss_kb_a_call".to_owned(), json!(figures::rounded(more)));
        }
        fields.insert("cpu".to_owned(), cpu);
    }
    report
}

/// Makes one run for each number in --calls.
fn curve(arguments: &Arguments, target: SocketAddr, idle_kb: u64) -> Result<Value, Failure> {
    let mut runs = Vec::new();
    for calls in &arguments.calls {
        if !runs.is_empty() {
            std::thread::sleep(PAUSE);
        }
        runs.push(one(arguments, target, Some(*calls), arguments.cps, idle_kb)?.0);
    }
    let failed: u64 = runs.iter().filter_map(|run| run.get("failed")?.as_u64()).sum();
    Ok(json!({ "mode": "curve", "failed": failed, "runs": runs }))
}

/// Searches for the highest clean rate. Raises the rate by half until a step is not clean. Then halves the interval
/// between the highest clean rate and the lowest rate that was not clean, until the interval is a sixteenth of the
/// rate. A step that is not clean is repeated once, because the machine may have caused the failure.
fn search(arguments: &Arguments, target: SocketAddr, idle_kb: u64) -> Result<Value, Failure> {
    let (mut good, mut bad, mut rate) = (0.0, f64::INFINITY, arguments.cps);
    let (mut best, mut steps) = (Value::Null, Vec::new());
    while steps.len() < 16 && (0.5..=f64::from(MAX_RATE_OR_CALLS)).contains(&rate) && bad - good > good / 16.0 {
        let (mut report, mut clean) = one(arguments, target, None, rate, idle_kb)?;
        let again = !clean;
        if again {
            std::thread::sleep(PAUSE_BEFORE_REPEAT);
            (report, clean) = one(arguments, target, None, rate, idle_kb)?;
        }
        let result = if clean { "clean" } else { "not clean" };
        say_error!("{rate} calls a second: {result}{}", if again { ", the second time" } else { "" });
        let what = |name: &str| report.get(name).cloned().unwrap_or_default();
        steps.push(json!({
            "cps": rate, "clean": clean, "again": again, "failed": what("failed"), "failures": what("failures"),
            "retransmissions": what("retransmissions"), "started_late": what("started_late"),
        }));
        if clean {
            (good, best) = (rate, report);
        } else {
            bad = rate;
        }
        rate = if bad.is_finite() { ((good + bad) / 2.0).round() } else { (rate * 1.5).round() };
        std::thread::sleep(PAUSE);
    }
    Ok(json!({ "mode": "search", "most_clean_cps": good, "steps": steps, "at_most": best }))
}
