//! What another process uses, from /proc.

use std::io;

/// Ticks of the kernel's clock a second, which Linux shows to programs on every architecture that we run on.
const TICKS: u64 = 100;

/// CPU and memory of a process at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// User and system time since it began.
    pub(super) cpu_ms: u64,
    /// Memory it holds.
    pub(super) rss_kb: u64,
}

impl Usage {
    /// Reads `/proc/PID`.
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let read = |name: &str| {
            std::fs::read_to_string(format!("/proc/{pid}/{name}"))
                .map_err(|error| io::Error::new(error.kind(), format!("--pid {pid}: {error}")))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        Ok(Self { cpu_ms: ticks(&stat) * 1_000 / TICKS, rss_kb: resident(&status) })
    }
}

/// utime and stime; the name before them may hold anything.
fn ticks(stat: &str) -> u64 {
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn resident(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        assert_eq!(ticks("7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 31 12 0 0 20 0 1 0"), 43);
        assert_eq!(resident("Name:\tx\nVmRSS:\t   22440 kB\nVmData: 1 kB\n"), 22_440);
        assert!(Usage::of(std::process::id()).unwrap().rss_kb > 0);
    }
}
