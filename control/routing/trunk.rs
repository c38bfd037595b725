//! The settings of a trunk for SIP, for telephone numbers ([`numbering`]) and for the caller's identity ([`identity`]).
//!
//! Within the server, numbers are in E.164 format if the trunk's settings allow the conversion. The number format of a
//! trunk is used only between this module and the trunk.

pub mod identity;
mod legs;
pub mod numbering;
pub mod passing;

use std::sync::Arc;
use std::time::Duration;

use tandem_settings::{InboundAuth, TrunkConfig};
use tandem_sip as sip;

use crate::with_user;

/// Returns the settings of a trunk for the SIP endpoint.
pub fn sip_trunk(trunk: &TrunkConfig) -> sip::Trunk {
    let credentials = trunk.username.as_ref().zip(trunk.password.as_ref()).map(|(username, password)| {
        sip::Credentials { username: username.to_string(), password: password.expose().to_owned() }
    });
    let registrar = trunk.registrar.as_deref().or(trunk.uri.as_deref()).map(without_user);
    let register = trunk.username.as_ref().zip(registrar).filter(|_| trunk.register).map(|(username, registrar)| {
        let host = registrar.split([';', '?']).next().unwrap_or(&registrar);
        let host = host.split_once(':').map_or(host, |(_, host)| host);
        let domain = trunk.from_domain.as_deref().unwrap_or_else(|| without_port(host));
        sip::Register {
            address: with_user(&format!("sip:{domain}"), username),
            contact_user: trunk.contact_user.as_ref().unwrap_or(username).to_string(),
            expires: Duration::from_secs(trunk.register_expires.into()),
            registrar,
        }
    });
    sip::Trunk {
        account: trunk.account.clone(),
        uri: trunk.uri.as_deref().map(without_user),
        credentials,
        register,
        options_interval: Some(trunk.options_interval)
            .filter(|seconds| *seconds > 0)
            .map(|seconds| Duration::from_secs(seconds.into())),
        max_calls: trunk.max_calls,
        max_cps: trunk.max_cps,
        nat: trunk.nat,
        known_by: match (&trunk.inbound_username, trunk.inbound_auth) {
            (None, _) => sip::KnownBy::Source,
            (Some(_), InboundAuth::Either) => sip::KnownBy::Either,
            (Some(_), InboundAuth::Both) => sip::KnownBy::Both,
        },
        ..sip::Trunk::new(Arc::clone(&trunk.name))
    }
}

fn without_user(uri: &str) -> String {
    match uri.split_once(':').and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
        Some((scheme, host)) => format!("{scheme}:{host}"),
        None => uri.to_owned(),
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registration_of_a_trunk_follows_its_settings() {
        let register = |more: serde_json::Value| {
            let mut trunk = serde_json::json!({
                "name": "t", "uri": "sip:x@10.0.0.1:5070;transport=tcp", "username": "u", "password": "p", "register": true
            });
            for (key, value) in more.as_object().unwrap() {
                trunk[key] = value.clone();
            }
            sip_trunk(&serde_json::from_value(trunk).unwrap()).register
        };
        let plain = register(serde_json::json!({})).unwrap();
        assert_eq!(plain.registrar, "sip:10.0.0.1:5070;transport=tcp");
        assert_eq!((&*plain.address, &*plain.contact_user), ("sip:u@10.0.0.1", "u"));
        assert_eq!(plain.expires, Duration::from_secs(3_600));
        let more = serde_json::json!({
            "registrar": "sip:reg.example", "from_domain": "example.com", "contact_user": "+4930", "register_expires": 120
        });
        let other = register(more).unwrap();
        assert_eq!(
            (&*other.registrar, &*other.address, &*other.contact_user),
            ("sip:reg.example", "sip:u@example.com", "+4930")
        );
        let named = register(serde_json::json!({ "username": "u@isp#1" })).unwrap();
        assert_eq!((&*named.address, &*named.contact_user), ("sip:u%40isp%231@10.0.0.1", "u@isp#1"));
        assert_eq!(register(serde_json::json!({ "register": false })), None);
        assert_eq!(without_port("[::1]"), "[::1]");
    }
}
