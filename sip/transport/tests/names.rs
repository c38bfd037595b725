//! Tests of RFC 3263 with a DNS server that the test starts.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const NAPTR: u16 = 35;
const SRV: u16 = 33;
const A: u16 = 1;

/// A DNS server that answers queries over UDP from a table. The TTL of the answers is 60 s.
struct Dns {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

type Table = HashMap<(&'static str, u16), Vec<Vec<u8>>>;

impl Dns {
    async fn start(table: Table) -> Self {
        let socket = UdpSocket::bind("127.0.30.53:0").await.unwrap();
        let (address, asked) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut buffer = [0; 1_500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                count.fetch_add(1, Ordering::SeqCst);
                socket.send_to(&reply(&buffer[..length], &table), from).await.unwrap();
            }
        });
        Self { address, asked }
    }
}

fn reply(query: &[u8], table: &Table) -> Vec<u8> {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8(query[at + 1..=at + length].to_vec()).unwrap().to_lowercase());
        at += length + 1;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let name = labels.join(".");
    let found = table.iter().find(|((known, of), _)| *known == name && *of == kind).map(|(_, found)| found);
    let exists = table.keys().any(|(known, _)| *known == name);
    let count = found.map_or(0, Vec::len) as u16;
    let mut out = query[..2].to_vec();
    out.extend([0x85, if exists { 0x80 } else { 0x83 }, 0, 1]);
    out.extend(count.to_be_bytes());
    out.extend([0; 4]);
    out.extend(&query[12..at + 5]);
    for data in found.into_iter().flatten() {
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1, 0, 0, 0, 60]);
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
    }
    out
}

fn name(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    labels.chain([0]).collect()
}

fn srv(priority: u16, port: u16, target: &str) -> Vec<u8> {
    [&priority.to_be_bytes()[..], &1_u16.to_be_bytes(), &port.to_be_bytes(), &name(target)].concat()
}

fn naptr(order: u16, service: &str, target: &str) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    [&order.to_be_bytes()[..], &[0, 10], &text("s"), &text(service), &text(""), &name(target)].concat()
}

fn a() -> Vec<Vec<u8>> {
    vec![Ipv4Addr::LOCALHOST.octets().to_vec()]
}

/// Calls the URI and checks that the call arrives. Returns the transport of the call.
async fn arrives(
    a: (&Handle, &mut UnboundedReceiver<Event>),
    b: (&Handle, &mut UnboundedReceiver<Event>),
    uri: &str,
) -> Transport {
    a.0.send(Command::Invite { leg: LegId(1), invite: outgoing(uri) }).unwrap();
    let arrived = event(b.1).await;
    let Event::Incoming { leg, incoming } = arrived else { panic!("{uri}: {arrived:?}") };
    b.0.send(hangup(leg)).unwrap();
    assert!(matches!(event(b.1).await, Event::Ended { .. }));
    let ended = event(a.1).await;
    assert!(matches!(ended, Event::Ended { cause: EndCause::Rejected, .. }), "{uri}: {ended:?}");
    incoming.transport
}

#[tokio::test]
async fn a_server_that_is_down_is_followed_by_the_next_of_naptr_srv_and_addresses() {
    let (b, mut b_events) = driver(|_| {}).await;
    let (udp, tcp) = (address(&b, Transport::Udp).port(), address(&b, Transport::Tcp).port());
    // No server listens on this port. A free port from the system could be given to another test.
    let closed = 1;
    let table = Table::from([
        (
            ("carrier.test", NAPTR),
            vec![
                naptr(10, "SIPS+D2T", "_sips._tcp.carrier.test"),
                naptr(50, "SIP+D2U", "_sip._udp.carrier.test"),
                naptr(20, "SIP+D2T", "_sip._tcp.carrier.test"),
            ],
        ),
        (("_sip._tcp.carrier.test", SRV), vec![srv(20, tcp, "up.carrier.test"), srv(10, closed, "down.carrier.test")]),
        (("_sip._udp.carrier.test", SRV), vec![srv(10, udp, "up.carrier.test")]),
        (("up.carrier.test", A), a()),
        (("down.carrier.test", A), a()),
        // `plain.test` has no NAPTR records. `bare.test` has only an address.
        (("_sip._udp.plain.test", SRV), vec![srv(0, udp, "up.carrier.test")]),
        (("plain.test", A), a()),
        (("bare.test", A), a()),
    ]);
    let dns = Dns::start(table).await;
    let (a, mut a_events) = driver(|config| config.nameservers = vec![dns.address]).await;
    let asked = || dns.asked.load(Ordering::SeqCst);
    for (uri, transport) in [
        // The call uses TCP: TLS has no socket, and the host prefers UDP less. The call does not use the server that is
        // down.
        ("sip:x@carrier.test".to_owned(), Transport::Tcp),
        ("sip:x@carrier.test;transport=udp".to_owned(), Transport::Udp),
        ("sip:x@plain.test".to_owned(), Transport::Udp),
        (format!("sip:x@bare.test:{tcp};transport=tcp"), Transport::Tcp),
    ] {
        assert_eq!(arrives((&a, &mut a_events), (&b, &mut b_events), &uri).await, transport, "{uri}");
        let after = asked();
        assert_eq!(arrives((&a, &mut a_events), (&b, &mut b_events), &uri).await, transport, "{uri}");
        assert_eq!(asked(), after, "{uri}: the answers are kept");
    }
    a.send(Command::Invite { leg: LegId(1), invite: outgoing("sip:x@nowhere.test") }).unwrap();
    assert!(matches!(event(&mut a_events).await, Event::Ended { cause: EndCause::Unresolved, .. }));
    a.shutdown().await;
    b.shutdown().await;
}
