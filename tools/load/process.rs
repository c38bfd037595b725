//! CPU and memory use of a process and of the machine, read from /proc.

use std::io;
use std::net::{IpAddr, SocketAddr};

/// Number of clock ticks per second in /proc. Linux uses 100 on every supported architecture.
const TICKS: u64 = 100;

/// Returns the resident memory of a process (RSS), in KiB.
pub(super) fn rss_kb(pid: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.map_err(|error| io::Error::new(error.kind(), format!("--pid {pid}: {error}")))?;
    Ok(kilobytes(&status, "VmRSS:"))
}

/// Returns the proportional memory (PSS) of a process in KiB, or 0 if the kernel does not report this value. If a
/// process shares a page with other processes, the PSS counts only a part of this page. The query stops the process for
/// a short time.
pub(super) fn pss_kb(pid: u32) -> u64 {
    kilobytes(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default(), "Pss:")
}

/// Returns the user and system CPU time, in ms, that a process has used since its start. Returns 0 if the process has
/// ended.
pub(super) fn cpu_ms(pid: u32) -> u64 {
    ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default()) * 1_000 / TICKS
}

/// Returns the number of the machine's cores, or 0 if the number is unknown. The result includes cores that this
/// process may not use.
pub(super) fn cores() -> usize {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    stat.lines()
        .filter(|line| {
            line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|next: char| next.is_ascii_digit()))
        })
        .count()
}

/// Returns the CPU time, in ms, that the whole machine has used. Returns 0 if the time is unknown.
pub(super) fn machine_ms() -> u64 {
    busy(&std::fs::read_to_string("/proc/stat").unwrap_or_default()) * 1_000 / TICKS
}

/// Returns the sum of the user, nice, system, irq and softirq times. Idle, iowait and steal times are not included.
fn busy(stat: &str) -> u64 {
    let fields: Vec<u64> = stat.lines().next().unwrap_or_default().split_whitespace().flat_map(str::parse).collect();
    [0, 1, 2, 5, 6].iter().filter_map(|place| fields.get(*place)).sum()
}

/// Returns the number of datagrams that the kernel has dropped because the buffers of these sockets were full. Returns
/// 0 if the number is unknown.
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

/// Formats an address like the kernel: 32-bit words in native byte order, in hexadecimal.
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

/// Returns the sum of utime and stime. The process name, which precedes these fields, may contain any characters.
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
    fn the_figures_of_a_process_are_parsed_with_any_process_name() {
        assert_eq!(ticks("7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 31 12 0 0 20 0 1 0"), 43);
        assert_eq!(kilobytes("Name:\tx\nVmRSS:\t   22440 kB\nVmData: 1 kB\n", "VmRSS:"), 22_440);
        assert!(rss_kb(std::process::id()).unwrap() > 0);
    }

    #[test]
    fn the_busy_time_of_the_host_excludes_idle_time() {
        assert_eq!(busy("cpu  1000 10 500 90000 77 3 20 8 0 0\ncpu0 1 1 1\n"), 1_533);
    }

    #[test]
    fn dropped_packets_are_counted_for_the_named_sockets_only() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            101: 0200007F:C350 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 12 2 0000000000000000 41\n\
            102: 0300007F:C350 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 13 2 0000000000000000 7\n";
        assert_eq!(of_sockets(table, &[named(&"127.0.0.2:50000".parse().unwrap())]), 41);
        assert_eq!(named(&"[::1]:80".parse().unwrap()), "00000000000000000000000001000000:0050");
    }
}
