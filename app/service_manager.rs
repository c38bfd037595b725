//! The messages to systemd (sd_notify(3)): the server is ready, reads its configuration again, or stops; and the watchdog.
//! Without `NOTIFY_SOCKET` in the environment, nothing is sent.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tandem_runtime::app::Reloaded;

use crate::reload::NEEDS_RESTART;

/// A connection to the service manager, if the service manager has started this process.
#[derive(Debug)]
pub(crate) struct ServiceManager(Option<UnixDatagram>);

impl ServiceManager {
    /// Opens the connection that the environment names.
    pub(crate) fn from_environment() -> Self {
        Self(std::env::var("NOTIFY_SOCKET").ok().and_then(|name| {
            let opened = open(&name);
            opened.inspect_err(|error| tracing::warn!(%error, name, "cannot notify the service manager")).ok()
        }))
    }

    /// Sends lines such as `READY=1`.
    pub(crate) fn notify(&self, lines: &str) {
        if let Some(socket) = &self.0
            && let Err(error) = socket.send(lines.as_bytes())
        {
            tracing::warn!(%error, "cannot notify the service manager");
        }
    }

    /// Says that the server reads its configuration again. `READY=1` must follow.
    pub(crate) fn reloads(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.notify(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// Says that the reload has ended. `systemctl status` shows what is not in effect, until the next reload or restart.
    pub(crate) fn reloaded(&self, result: &Reloaded) {
        self.notify(&format!("READY=1\nSTATUS={}", status(result)));
    }

    /// The time between two signs of life: half of what the service manager permits. `None` if it has no watchdog.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.0.as_ref()?;
        let variable = |name| std::env::var(name).ok();
        let is_other = variable("WATCHDOG_PID").is_some_and(|pid| pid != std::process::id().to_string());
        interval(variable("WATCHDOG_USEC").as_deref()).filter(|_| !is_other)
    }
}

/// Connects to a socket: a path, or a name in the abstract namespace that begins with `@`.
fn open(name: &str) -> std::io::Result<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// Returns the line for the operator after a reload. Empty if all settings are in effect.
fn status(result: &Reloaded) -> String {
    match result {
        Ok(text) => text.lines().find(|line| line.starts_with(NEEDS_RESTART)).unwrap_or_default().to_owned(),
        Err(faults) => format!("not reloaded: {}", faults.lines().next().unwrap_or_default()),
    }
}

fn interval(microseconds: Option<&str>) -> Option<Duration> {
    let microseconds: u64 = microseconds?.parse().ok()?;
    (microseconds > 0).then(|| Duration::from_micros(microseconds / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_reach_a_socket_with_a_path_and_one_with_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify").to_str().unwrap().to_owned();
        let name = format!("@tandem-notify-{}", std::process::id());
        for (address, text) in [
            (SocketAddr::from_pathname(&path).unwrap(), &path),
            (SocketAddr::from_abstract_name(&name[1..]).unwrap(), &name),
        ] {
            let manager = UnixDatagram::bind_addr(&address).unwrap();
            ServiceManager(open(text).ok()).notify("READY=1");
            let mut buffer = [0; 64];
            let length = manager.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1", "{text}");
        }
        assert!(open("/nonexistent/notify").is_err());
    }

    #[test]
    fn the_status_after_a_reload_says_what_is_not_in_effect() {
        assert_eq!(status(&Ok("reloaded: trunks: 1\n".to_owned())), "");
        let removed = "reloaded: trunks: 1\nremoved: 1 trunk (a)\nrestart needed: sip.listen\n".to_owned();
        assert_eq!(status(&Ok(removed)), "restart needed: sip.listen");
        assert_eq!(status(&Err("3: sip: a\n4: sip: b\n".to_owned())), "not reloaded: 3: sip: a");
    }

    #[test]
    fn the_watchdog_gets_two_signs_of_life_in_its_time() {
        assert_eq!(interval(Some("30000000")), Some(Duration::from_secs(15)));
        assert_eq!([interval(None), interval(Some("0")), interval(Some("soon"))], [None; 3]);
    }
}
