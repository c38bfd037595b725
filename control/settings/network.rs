//! Networks in the configuration file. A value is a network such as `10.0.0.0/8`, or one address.

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

/// Parses a network in CIDR notation, or one address.
pub(super) fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))
}

pub(crate) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    Vec::<String>::deserialize(deserializer)?
        .iter()
        .map(|text| {
            network(text).ok_or_else(|| {
                serde::de::Error::custom(format!("{text:?} is not a network such as \"10.0.0.0/8\" or \"2001:db8::1\""))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_may_be_a_single_address() {
        assert_eq!(network("10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
        assert_eq!(network("::1").unwrap().to_string(), "::1/128");
        assert!(network("10.0.0.0/33").is_none());
    }
}
