//! The host names of the providers' APIs. A proxy redirects requests to these names to this server.

/// The host names that [`is_provider`] accepts, as a text for users.
pub(crate) const HOSTS: &str = "*.twilio.com, api.telnyx.com, *.rtc.telnyx.com and *.signalwire.com";

/// The domains of the host names that [`is_provider`] accepts. The local certificate authority issues certificates only
/// for names in these domains.
pub(crate) const DOMAINS: [&str; 3] = ["twilio.com", "telnyx.com", "signalwire.com"];

/// Returns whether `host` is a host of a provider's API. Case is ignored. Examples are `api.twilio.com`,
/// `api.dublin.ie1.twilio.com` with edge and region, `api.telnyx.com` and `example.signalwire.com`.
pub(crate) fn is_provider(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let below = |domain: &str| host.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.')).is_some_and(is_name);
    let is_telnyx =
        ["api.telnyx.com", "rtc.telnyx.com", "rtcdev.telnyx.com"].contains(&&*host) || below("rtc.telnyx.com");
    host.len() <= MAX_NAME && (is_telnyx || below("twilio.com") || below("signalwire.com"))
}

/// Maximum length of a host name in octets (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;

fn is_name(labels: &str) -> bool {
    labels.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provider_hosts_of_every_product_region_and_edge_are_recognised() {
        for host in [
            "api.twilio.com",
            "API.Twilio.COM",
            "trunking.twilio.com",
            "api.us1.twilio.com",
            "api.dublin.ie1.twilio.com",
            "api.telnyx.com",
            "rtc.telnyx.com",
            "eu.rtc.telnyx.com",
            "voice-js.roaming.twilio.com",
            "example.signalwire.com",
            "puc.signalwire.com",
        ] {
            assert!(is_provider(host), "{host}");
        }
    }

    #[test]
    fn other_hosts_are_no_provider_hosts() {
        let long = format!("{}.twilio.com", "a".repeat(64));
        let longer = format!("{}twilio.com", "a.".repeat(125));
        for host in [
            "",
            "twilio.com",
            ".twilio.com",
            "a..twilio.com",
            "-a.twilio.com",
            "a b.twilio.com",
            "eviltwilio.com",
            "api.twilio.com.example.com",
            "portal.telnyx.com",
            "127.0.0.1",
            "[::1]",
            &long,
            &longer,
        ] {
            assert!(!is_provider(host), "{host}");
        }
    }
}
