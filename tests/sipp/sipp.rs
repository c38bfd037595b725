//! Runs a SIPp process. Each process has its own address.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Time limit for a scenario.
const PATIENCE: Duration = Duration::from_secs(30);
/// Port of every SIPp process at its own address.
pub(crate) const PORT: u16 = 5060;

static ADDRESSES: AtomicU16 = AtomicU16::new(1);

/// A SIPp process that will run `scenarios/NAME.xml`.
pub(crate) struct Sipp {
    scenario: &'static str,
    address: Ipv4Addr,
    options: Vec<String>,
    calls: u32,
    transport: &'static str,
}

/// Returns whether SIPp is missing on this computer. If so, prints that the test is skipped.
pub(crate) fn is_missing() -> bool {
    let missing = std::process::Command::new("sipp").arg("-v").output().is_err();
    if missing {
        tandem_test_support::skip(tandem_test_support::Needs::Package("sip-tester"));
    }
    missing
}

#[allow(dead_code, reason = "what scenarios may need")]
impl Sipp {
    /// Creates a SIPp for one call over UDP, with an unused loopback address.
    pub(crate) fn new(scenario: &'static str) -> Self {
        let number = ADDRESSES.fetch_add(1, Ordering::SeqCst);
        let process = (std::process::id() % 250) as u8 + 1;
        let address = Ipv4Addr::new(127, 100 + (number >> 8) as u8, process, number as u8);
        Self { scenario, address, options: Vec::new(), calls: 1, transport: "u1" }
    }

    /// Creates another scenario with the same address. The other scenario runs after the end of this scenario.
    pub(crate) fn at_its_place(&self, scenario: &'static str) -> Self {
        Self { scenario, address: self.address, options: Vec::new(), calls: 1, transport: self.transport }
    }

    /// Returns the address of this SIPp, for trunks and for assertions.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::V4(SocketAddrV4::new(self.address, PORT))
    }

    /// Sets the address to the address of another SIPp that has ended.
    pub(crate) fn at(mut self, address: SocketAddr) -> Self {
        if let SocketAddr::V4(address) = address {
            self.address = *address.ip();
        }
        self
    }

    /// Returns the configuration of a trunk to this SIPp. `more` has additional settings, one per line.
    pub(crate) fn trunk(&self, name: &str, more: &str) -> String {
        let (address, transport) = (self.address, if self.transport.starts_with('t') { ";transport=tcp" } else { "" });
        format!(
            "[[trunks]]\nname = \"{name}\"\naccount = \"acme\"\nuri = \"sip:{address}:{PORT}{transport}\"\n\
             inbound_from = [\"{address}/32\"]\n{more}\n"
        )
    }

    /// Sets the number of calls. SIPp makes ten calls per second.
    pub(crate) fn calls(mut self, calls: u32) -> Self {
        self.calls = calls;
        self
    }

    /// Sets SIPp's option `-t`: `u1`, `t1` (one TCP connection), `tn` (one connection per call), `l1` (TLS) ...
    pub(crate) fn over(mut self, transport: &'static str) -> Self {
        self.transport = transport;
        self
    }

    /// Sets the called user. The scenario uses this user as `[service]`.
    pub(crate) fn to(self, user: &str) -> Self {
        self.option("-s", user)
    }

    /// Sets a keyword of the scenario. The scenario uses this keyword as `[name]`.
    pub(crate) fn key(mut self, name: &str, value: &str) -> Self {
        self.options.extend(["-key".into(), name.into(), value.into()]);
        self
    }

    /// Sets any other option of SIPp, for example `-au` or `-ap`.
    pub(crate) fn option(mut self, option: &str, value: &str) -> Self {
        self.options.extend([option.into(), value.into()]);
        self
    }

    /// Runs a scenario that sends the first message.
    pub(crate) fn call(self, server: SocketAddr) -> Running {
        self.start(Some(server))
    }

    /// Runs a scenario that receives the first message. Waits until SIPp listens.
    pub(crate) async fn answer(self) -> Running {
        let (table, address) = (if self.transport.starts_with('u') { "udp" } else { "tcp" }, self.address);
        let mut running = self.start(None);
        let listens = format!(" {:08X}:{PORT:04X} ", u32::from_le_bytes(address.octets()));
        let is_bound = async || {
            assert!(running.child.try_wait().unwrap().is_none(), "{}", running.output());
            std::fs::read_to_string(format!("/proc/net/{table}")).unwrap().contains(&listens)
        };
        tandem_test_support::wait_until(PATIENCE, "SIPp listens", is_bound).await;
        running
    }

    fn start(self, server: Option<SocketAddr>) -> Running {
        let folder = TempDir::new().unwrap();
        let scenario = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/sipp/scenarios").join(self.scenario);
        let file = |name: &str| folder.path().join(name);
        let screen = std::fs::File::create(file("screen")).unwrap();
        let mut command = Command::new("sipp");
        command.arg("-sf").arg(scenario.with_extension("xml"));
        command.args(["-i", &self.address.to_string(), "-mi", &self.address.to_string(), "-p", &PORT.to_string()]);
        command.args(["-t", self.transport, "-m", &self.calls.to_string(), "-r", "10", "-nostdin", "-nd"]);
        command.args(["-timeout", &PATIENCE.as_secs().to_string(), "-timeout_error"]);
        command.args(["-trace_err", "-error_file"]).arg(file("errors"));
        command.args(["-trace_msg", "-message_file"]).arg(file("messages"));
        command.args(&self.options);
        command.args(server.map(|server| server.to_string()));
        command.current_dir(folder.path()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(screen.try_clone().unwrap()).stderr(screen);
        Running { child: command.spawn().unwrap(), scenario: self.scenario, folder }
    }
}

/// A running SIPp process. It is killed when this value is dropped.
pub(crate) struct Running {
    child: Child,
    scenario: &'static str,
    folder: TempDir,
}

impl Running {
    /// Waits until all calls have ended, and asserts that all calls followed the scenario. Returns the logged messages.
    pub(crate) async fn succeed(mut self) -> String {
        let status = tokio::time::timeout(PATIENCE + Duration::from_secs(5), self.child.wait()).await;
        let well = matches!(&status, Ok(Ok(status)) if status.success());
        assert!(well, "SIPp's {} failed ({status:?})\n{}", self.scenario, self.output());
        self.messages()
    }

    /// Returns all messages up to now, as SIPp logs them.
    pub(crate) fn messages(&self) -> String {
        self.read("messages")
    }

    fn read(&self, name: &str) -> String {
        let bytes = std::fs::read(self.folder.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Returns the log that is shown for a failure.
    fn output(&self) -> String {
        let messages = self.messages();
        let tail = messages.len().saturating_sub(6_000);
        let tail = (tail..messages.len()).find(|at| messages.is_char_boundary(*at)).map_or("", |at| &messages[at..]);
        let screen = self.read("screen");
        let screen = if messages.is_empty() { screen.as_str() } else { "" };
        format!("{}\n{tail}\n{screen}", self.read("errors"))
    }
}
