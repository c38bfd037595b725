//! The metrics of the process and of the build. The metrics have the same names as in Prometheus' client libraries.

use std::fs;

use jiff::Timestamp;

use crate::families;
use crate::page::Page;

/// Clock ticks per second in `/proc/PID/stat` (the kernel's USER_HZ). The value is 100 on all supported architectures.
const TICKS: f64 = 100.0;

/// The identity of the build.
#[derive(Debug, Clone, Copy, Default)]
pub struct Build {
    /// The version of the package.
    pub version: &'static str,
    /// The abbreviated commit id. Empty if the id was unknown at build time.
    pub commit: &'static str,
    /// The version of the compiler.
    pub rustc: &'static str,
}

/// Writes the metrics of this process. If the system does not provide a value, the metric is left out.
pub(super) fn render(page: &mut Page, build: &Build, started: Timestamp) {
    let Build { version, commit, rustc } = build;
    let labels = format!("version=\"{version}\",commit=\"{commit}\",rustc=\"{rustc}\"");
    page.family(&families::BUILD_INFO).row(&labels, 1);
    page.value(&families::PROCESS_START_TIME_SECONDS, started.as_millisecond() as f64 / 1_000.0);
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    // The count includes the descriptor of the directory itself.
    let open = fs::read_dir("/proc/self/fd").ok().map(|open| open.count().saturating_sub(1) as f64);
    for (family, value) in [
        (&families::PROCESS_CPU_SECONDS, cpu()),
        (&families::PROCESS_RESIDENT_MEMORY_BYTES, resident_bytes(&text("/proc/self/status"))),
        (&families::PROCESS_OPEN_FDS, open),
        (&families::PROCESS_MAX_FDS, most_files(&text("/proc/self/limits"))),
    ] {
        if let Some(value) = value {
            page.value(family, value);
        }
    }
}

/// Returns the CPU time of this process in seconds.
pub(super) fn cpu() -> Option<f64> {
    cpu_seconds(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// CPU time in seconds: user time plus system time. These times are fields 14 and 15 of `/proc/PID/stat`.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The program's name is in parentheses and may contain spaces.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / TICKS)
}

/// Resident memory in bytes: the value of `VmRSS` in `/proc/PID/status`.
fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some((kibibytes * 1_024) as f64)
}

/// The soft limit for open files, from `/proc/PID/limits`.
fn most_files(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_figures_are_parsed_from_the_files_of_the_kernel() {
        let stat = "42 (tan dem) S 1 42 42 0 -1 4194560 900 0 0 0 250 150 0 0 20 0 5 0 1000 1 2";
        assert_eq!(cpu_seconds(stat), Some(4.0));
        assert_eq!(resident_bytes("Name:\ttandem\nVmRSS:\t    2048 kB\n"), Some(2_097_152.0));
        assert_eq!(
            most_files("Max open files            1024                 524288               files\n"),
            Some(1_024.0)
        );
        assert_eq!((cpu_seconds(""), resident_bytes("VmRSS:"), most_files("")), (None, None, None));
        let mut page = Page::default();
        let build = Build { version: "1.2.3", commit: "abc", rustc: "1.95.0" };
        render(&mut page, &build, Timestamp::from_second(1_700_000_000).unwrap());
        let text = page.into_text();
        assert!(text.contains("tandem_build_info{version=\"1.2.3\",commit=\"abc\",rustc=\"1.95.0\"} 1\n"), "{text}");
        assert!(text.contains("\nprocess_start_time_seconds 1700000000\n"), "{text}");
        for name in
            ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"]
        {
            assert!(text.contains(&format!("\n{name} ")), "{text}");
        }
    }
}
