//! The limit on the number of open files. Nearly every file descriptor of this server belongs to a socket.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tandem_config::Config;

/// Number of file descriptors for each leg: the RTP socket and the RTCP socket.
const PER_LEG: u64 = 2;
/// Number of file descriptors for the database, logs, recordings, webhooks and audio requests.
const OTHERS: u64 = 1_024;

/// Raises the limit to the permitted maximum and returns the new limit.
pub(super) fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "cannot raise the limit of open files");
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Returns the number of HTTP connections that the server may use. This is the configured number, but at most a quarter
/// of the limit, because calls have priority.
pub(super) fn http_connections(configured: usize, limit: u64) -> usize {
    configured.min(usize::try_from(limit / 4).unwrap_or(usize::MAX)).max(1)
}

/// Returns a warning if the configuration may need more open files than the limit permits.
pub(super) fn shortage(config: &Config, limit: u64) -> Option<String> {
    let legs = config.sip.max_legs.min(config.media.ports.pairs().count()) as u64;
    let connections = config.sip.max_connections as u64 + config.http.max_connections as u64;
    let needed = legs.saturating_mul(PER_LEG).saturating_add(connections).saturating_add(OTHERS);
    (needed > limit).then(|| {
        let fit = limit.saturating_sub(OTHERS).saturating_sub(connections) / PER_LEG;
        format!(
            "{legs} legs (sip.max_legs, media.ports) and {connections} connections take up to {needed} open files, but \
             the hard limit is {limit}, which suffices for {fit} legs: raise the hard limit (LimitNOFILE= of the service, or \
             `ulimit -Hn` as root), or lower these settings"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_limit_too_low_for_max_legs_causes_a_warning() {
        let mut config = Config::default();
        config.sip.max_legs = 100;
        let (connections, others) = (4_096 + 1_024, 1_024);
        assert_eq!(shortage(&config, 200 + connections + others), None);
        let text = shortage(&config, 199 + connections + others).expect("a warning");
        assert!(text.contains("suffices for 99 legs"), "{text}");
        // A leg that cannot get RTP ports needs no sockets.
        config.sip.max_legs = usize::MAX;
        assert_eq!(shortage(&config, 2 * 10_000 + connections + others), None);
    }

    #[test]
    fn http_gets_a_quarter_of_the_descriptors() {
        assert_eq!(http_connections(1_024, 160), 40);
        assert_eq!(http_connections(1_024, u64::MAX), 1_024);
        assert_eq!(http_connections(1_024, 0), 1);
    }
}
