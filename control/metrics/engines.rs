//! The figures that the media engine and SIP count themselves.

use std::time::Duration;

use tandem_media as media;
use tandem_sip::transport::{OwnCertificate, Statistics};
use tandem_sip::{Fill, GuardCounts, Health, Registered, TrunkName, TrunkStatus};

use crate::families;
use crate::page::Page;

/// Writes the figures of the media engine.
pub fn media(page: &mut Page, media: &media::Load) {
    for (family, value) in [
        (&families::LIVE_LEGS, media.sessions),
        (&families::RTP_PACKETS_IN, media.packets_in),
        (&families::RTP_PACKETS_OUT, media.packets_out),
        (&families::RTP_PACKETS_RELAYED, media.relayed),
        (&families::RTP_PACKETS_DROPPED, media.dropped),
        (&families::SDP_REFUSED, media.sdp_refused),
        (&families::ICE_PORT_REFUSED, media.ice_port_refused),
        (&families::ICE_PORT_LOST, media.ice_port_lost),
        (&families::KERNEL_RELAY_FLOWS, media.kernel_flows),
        (&families::MEDIA_THREADS, media.threads),
        (&families::MEDIA_THREADS_OVERLOADED, media.overloaded_threads),
        (&families::RTP_MALFORMED, media.malformed),
    ] {
        page.value(family, value);
    }
    page.value(&families::MEDIA_LATE_SECONDS, Duration::from_millis(media.late_ms).as_secs_f64());
}

/// Writes the figures of SIP, of the guard against abuse, and of the kept messages.
pub fn sip(page: &mut Page, sip: &Statistics, guarded: GuardCounts, ladder: Fill) {
    for (family, value) in [
        (&families::SIP_MESSAGES_IN, sip.received),
        (&families::SIP_MESSAGES_OUT, sip.sent),
        (&families::SIP_MESSAGES_DROPPED, sip.dropped),
        (&families::SIP_REQUESTS_SHED, sip.shed),
        (&families::SIP_STRANGERS, sip.unknown_source_requests),
        (&families::SIP_MALFORMED, sip.malformed),
        (&families::SIP_BANS, guarded.bans as u64),
        (&families::SIP_BANS_TOTAL, guarded.banned),
        (&families::SIP_BANNED_DROPPED, guarded.dropped),
        (&families::SIP_LIMITED, guarded.limited),
        (&families::SIP_CROWDED, guarded.limited_unknown),
        (&families::SIP_OVERLOADED, sip.overloaded.into()),
        (&families::SIP_HEP_SENT, sip.captured),
        (&families::SIP_HEP_DROPPED, sip.uncaptured),
        (&families::SIP_TRACE_CALLS, ladder.calls as u64),
        (&families::SIP_TRACE_MESSAGES, ladder.messages as u64),
        (&families::SIP_TRACE_BYTES, ladder.octets as u64),
        (&families::SIP_TRACE_OCTETS, ladder.octets as u64),
        (&families::SIP_TRANSACTIONS, sip.transactions as u64),
        (&families::SIP_CONNECTIONS, sip.connections as u64),
        (&families::SIP_LEGS, sip.legs as u64),
        (&families::SIP_REGISTRATIONS, sip.bindings as u64),
        (&families::SIP_WRONG_PASSWORDS, sip.wrong_passwords),
        (&families::SIP_RETRANSMISSIONS, sip.repeated),
    ] {
        page.value(family, value);
    }
}

/// Writes the state of each trunk.
pub fn trunks(page: &mut Page, trunks: &[(TrunkName, TrunkStatus)]) {
    type Value = fn(&TrunkStatus) -> Option<i64>;
    let limited: Value = |status| Some(i64::try_from(status.limited).unwrap_or(i64::MAX));
    let health: Value = |status| {
        Some(match status.health {
            Health::Up => 2,
            Health::Doubtful => 1,
            Health::Down => 0,
            Health::Unknown => -1,
        })
    };
    // A trunk without `register` has no value, so that 0 always means a missing registration.
    let registered: Value = |status| match status.registered {
        Registered::Not => None,
        registered => Some(i64::from(registered == Registered::Yes)),
    };
    let calls: Value = |status| Some(status.calls.into());
    for (family, value) in [
        (&families::TRUNK_CALLS, calls),
        (&families::TRUNK_LIMITED, limited),
        (&families::TRUNK_HEALTH, health),
        (&families::TRUNK_REGISTERED, registered),
    ] {
        let mut rows = page.family(family);
        for (trunk, status) in trunks {
            if let Some(value) = value(status) {
                rows.row(&format!("trunk=\"{trunk}\""), value);
            }
        }
    }
}

/// Writes the expiry of this server's certificates.
pub fn certificates(page: &mut Page, certificates: &[OwnCertificate]) {
    let mut rows = page.family(&families::CERTIFICATE_EXPIRY_TIMESTAMP_SECONDS);
    for certificate in certificates {
        rows.row(&format!("certificate=\"{}\"", certificate.setting), certificate.not_after);
    }
}
