//! Two connections over a link that the fuzzer changes. The first octet of the input chooses the kind of the far ends. Each datagram takes two octets of the input: the first says how far into
//! the datagram an octet is changed, and the second says how (0 leaves the datagram as it is, 255 loses it). When the input ends, the
//! rest of it is one more datagram from a known source.
#![no_main]

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tandem_webrtc::{Connection, Credentials, FarEnd, Identity, LocalAddress, Protocol, Remote, Role, Route};

static IDENTITY: LazyLock<Arc<Identity>> = LazyLock::new(|| Arc::new(Identity::generate().unwrap()));

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (kind, data) = data.split_first().unwrap_or((&0, &[]));
    let far_end = if kind & 1 == 0 { FarEnd::Browser } else { FarEnd::Phone };
    let mut now = Instant::now();
    let addresses: [SocketAddr; 2] = [([192, 0, 2, 1], 4_000).into(), ([192, 0, 2, 2], 5_000).into()];
    let credentials = ["aaaa", "bbbb"].map(|name| Credentials { ufrag: name.into(), password: name.repeat(6) });
    let local = addresses.map(|address| LocalAddress { protocol: Protocol::Udp, address });
    let mut sides = [0, 1].map(|side| {
        let mut connection =
            Connection::new(now, Arc::clone(&IDENTITY), &credentials[side], &[local[side]], side == 0, false);
        connection.set_remote(now, &Remote {
            credentials: credentials[1 - side].clone(),
            fingerprints: vec![IDENTITY.fingerprint().clone()],
            role: if side == 0 { Role::Server } else { Role::Client },
            lite: false,
            far_end,
        });
        for line in Connection::local_candidates(&[local[1 - side]]) {
            connection.add_candidate(now, &line);
        }
        connection
    });
    let mut input = data;
    for _ in 0..200 {
        now += Duration::from_millis(20);
        for from in 0..2 {
            sides[from].handle_timeout(now);
            while let Some(transmit) = sides[from].poll_transmit() {
                let mut octets = transmit.octets;
                let (place, change) = match input {
                    [place, change, rest @ ..] => {
                        input = rest;
                        (usize::from(*place), *change)
                    }
                    _ => (0, 0),
                };
                if change == 255 {
                    continue;
                }
                if let Some(octet) = octets.get_mut(place) {
                    *octet ^= change;
                }
                let route = Route { protocol: Protocol::Udp, local: addresses[1 - from], remote: addresses[from] };
                sides[1 - from].handle_datagram(now, route, &octets);
            }
            while sides[from].poll_event().is_some() {}
        }
    }
    let route = Route { protocol: Protocol::Udp, local: addresses[0], remote: addresses[1] };
    sides[0].handle_datagram(now, route, data);
    sides[0].add_candidate(now, &String::from_utf8_lossy(data));
});
