//! What another process uses, and the machine, from /proc.

use std::io;
use std::net::{IpAddr, SocketAddr};

/// Ticks of the kernel's clock a second, which Linux shows to programs on every architecture that we run on.
const TICKS: u64 = 100;

/// Memory that a process holds.
pub(super) fn rss_kb(pid: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.map_err(|error| io::Error::new(error.kind(), format!("--pid {pid}: {error}")))?;
    Ok(kilobytes(&status, "VmRSS:"))
}

/// The same, but of what it shares with others only its share; 0 where the kernel does not tell. To find out holds it up.
pub(super) fn pss_kb(pid: u32) -> u64 {
    kilobytes(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default(), "Pss:")
}

/// User and system time since it began; 0 of one that is gone.
pub(super) fn cpu_ms(pid: u32) -> u64 {
    ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default()) * 1_000 / TICKS
}

/// Cores of the machine, whichever of them are ours; 0 where it cannot be told.
pub(super) fn cores() -> usize {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    stat.lines()
        .filter(|line| {
            line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|next: char| next.is_ascii_digit()))
        })
        .count()
}

/// CPU time that all of the machine has spent, ms; 0 where it cannot be told.
pub(super) fn machine_ms() -> u64 {
    busy(&std::fs::read_to_string("/proc/stat").unwrap_or_default()) * 1_000 / TICKS
}

/// user, nice, system, irq, softirq; not idle, iowait or what a hypervisor stole.
fn busy(stat: &str) -> u64 {
    let fields: Vec<u64> = stat.lines().next().unwrap_or_default().split_whitespace().flat_map(str::parse).collect();
    [0, 1, 2, 5, 6].iter().filter_map(|place| fields.get(*place)).sum()
}

/// Datagrams that found the buffers of these sockets full since they were opened; 0 where it cannot be told.
pub(super) fn dropped(sockets: &[SocketAddr]) -> u64 {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
    let names: Vec<String> = sockets.iter().map(named).collect();
    of_sockets(&read("udp"), &names) + of_sockets(&read("udp6"), &names)
}

fn of_sockets(table: &str, names: &[String]) -> u64 {
    let drops = |line: &str| {
        let mut fields = line.split_whitespace();
        let own = fields.nth(1).is_some_and(|name| names.iter().any(|own| own == name));
        if own { fields.last()?.parse::<u64>().ok() } else { None }
    };
    table.lines().filter_map(drops).sum()
}

/// As the kernel writes it: words of 32 bits as they lie in memory.
fn named(socket: &SocketAddr) -> String {
    let words = |octets: &[u8]| -> String {
        octets.as_chunks::<4>().0.iter().map(|word| format!("{:08X}", u32::from_ne_bytes(*word))).collect()
    };
    let address = match socket.ip() {
        IpAddr::V4(address) => words(&address.octets()),
        IpAddr::V6(address) => words(&address.octets()),
    };
    format!("{address}:{:04X}", socket.port())
}

/// utime and stime; the name before them may hold anything.
fn ticks(stat: &str) -> u64 {
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn kilobytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        assert_eq!(ticks("7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 31 12 0 0 20 0 1 0"), 43);
        assert_eq!(kilobytes("Name:\tx\nVmRSS:\t   22440 kB\nVmData: 1 kB\n", "VmRSS:"), 22_440);
        assert!(rss_kb(std::process::id()).unwrap() > 0);
    }

    #[test]
    fn what_the_machine_did_is_told_without_its_idling() {
        assert_eq!(busy("cpu  1000 10 500 90000 77 3 20 8 0 0\ncpu0 1 1 1\n"), 1_533);
    }

    #[test]
    fn what_full_sockets_dropped_is_theirs_alone() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            101: 0200007F:C350 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 12 2 0000000000000000 41\n\
            102: 0300007F:C350 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 13 2 0000000000000000 7\n";
        assert_eq!(of_sockets(table, &[named(&"127.0.0.2:50000".parse().unwrap())]), 41);
        assert_eq!(named(&"[::1]:80".parse().unwrap()), "00000000000000000000000001000000:0050");
    }
}
