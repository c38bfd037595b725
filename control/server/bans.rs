//! The SIP bans in a form for people: source, reason, start, end, and number of dropped messages.

use std::fmt::Write;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_cluster::Note;
use tandem_id::{Deadline, Now};
use tandem_sip as sip;

/// An operator has lifted a ban: the other nodes lift it too.
#[derive(Serialize, Deserialize)]
pub struct BanLifted {
    /// The address of the source.
    pub source: IpAddr,
}

impl Note for BanLifted {
    const NAME: &'static str = "ban-lifted";
}

/// An active ban.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ban {
    /// The banned source: an IPv4 address, or a /64 network of IPv6.
    pub source: String,
    /// The name of the exceeded limit in `[sip.bans]`: `credentials`, `malformed`, ...
    pub limit: &'static str,
    /// The reason as text, with the count.
    pub why: String,
    /// The time at which the ban started.
    pub since: Timestamp,
    /// The time at which the ban ends.
    pub until: Timestamp,
    /// Number of messages and connections from the source that were dropped since the start of the ban.
    pub dropped: u64,
    /// Number of bans of this source, including this ban.
    pub times: u8,
}

/// Returns the active bans, latest ban first.
pub(crate) fn list(guard: &sip::Guard, now: Now) -> Vec<Ban> {
    let bans = guard.bans(now.instant).into_iter();
    bans.map(|ban| Ban {
        source: if ban.source.addr().is_ipv4() { ban.source.addr().to_string() } else { ban.source.to_string() },
        limit: ban.why.word(),
        why: match ban.count {
            0 => format!("{}, at another node", ban.why.description()),
            count => format!("{count} {} within a minute", ban.why.description()),
        },
        since: Deadline::at(ban.since).to_wall_time(now),
        until: Deadline::at(ban.until).to_wall_time(now),
        dropped: ban.dropped,
        times: ban.times,
    })
    .collect()
}

/// Returns the bans as text, one line for each ban.
pub(crate) fn text(bans: &[Ban]) -> String {
    if bans.is_empty() {
        return "no bans\n".to_owned();
    }
    let mut out = String::new();
    for Ban { source, why, since, until, dropped, times, .. } in bans {
        // This never fails, because the text goes into a `String`.
        let _ = writeln!(
            out,
            "{source:<24} since {since:.0} until {until:.0}: {why}; {dropped} messages dropped since; ban number {times}"
        );
    }
    out
}
