//! Tests of bans, limits and copies to a capture server, over loopback.

use super::*;
use crate::guard::{Bans, Offence};

/// Starts a driver whose only trunk is 127.0.0.1. Returns the driver's handle, a socket of the trunk, and a socket of
/// an unknown source.
async fn guarded(bans: Bans) -> (Handle, UdpSocket, UdpSocket) {
    let (handle, _) = driver(|config| {
        config.trunks = vec![TrunkAcl { name: "t".into(), networks: vec!["127.0.0.1/32".parse().unwrap()] }];
        config.bans = bans;
    })
    .await;
    (handle, UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.88:0").await.unwrap())
}

#[tokio::test]
async fn a_scanner_is_banned_on_every_transport_and_a_trunk_is_not() {
    let (handle, trunk, scanner) = guarded(Bans { refused: 5, ..Bans::default() }).await;
    let (udp, tcp) = (address(&handle, Transport::Udp), address(&handle, Transport::Tcp));
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.88:0".parse().unwrap()).unwrap();
    let mut open = socket.connect(tcp).await.unwrap();
    for number in 0..5 {
        let branch = format!("scan{number}x");
        scanner.send_to(options("UDP", &branch).as_bytes(), udp).await.unwrap();
        assert!(receive_until(&scanner, &branch).await.starts_with("SIP/2.0 403 "));
    }
    for number in 0..3 {
        scanner.send_to(options("UDP", &format!("late{number}")).as_bytes(), udp).await.unwrap();
    }
    // The next message on the open connection of the banned source closes the connection.
    open.write_all(options("TCP", "late").as_bytes()).await.unwrap();
    assert!(matches!(timeout(DEADLINE, open.read_to_end(&mut Vec::new())).await.expect("closed"), Ok(0) | Err(_)));
    trunk.send_to(options("UDP", "trunkx").as_bytes(), udp).await.unwrap();
    assert!(receive_until(&trunk, "trunkx").await.starts_with("SIP/2.0 200 "));
    let now = crate::testing::instant();
    let ban = handle.guard().bans(now).remove(0);
    assert_eq!((ban.source.to_string().as_str(), ban.why, ban.dropped), ("127.0.0.88/32", Offence::Refused, 4));
    assert!(handle.guard().unban(now, "127.0.0.88".parse().unwrap()));
    scanner.send_to(options("UDP", "again").as_bytes(), udp).await.unwrap();
    assert!(receive_until(&scanner, "again").await.starts_with("SIP/2.0 403 "));
    handle.shutdown().await;
}

#[tokio::test]
async fn responses_of_a_banned_source_are_handled_and_hosts_of_trunks_are_not_banned() {
    let (handle, mut events) = driver(|config| {
        config.trunks = Vec::new();
        config.bans = Bans { refused: 5, credentials: 1, ..Bans::default() };
        let uri = Some("sip:127.0.0.89".to_owned());
        config.trunk_settings = vec![crate::Trunk { uri, ..crate::Trunk::new("carrier".into()) }];
    })
    .await;
    let udp = address(&handle, Transport::Udp);
    let guesser = UdpSocket::bind("127.0.0.88:0").await.unwrap();
    let now = crate::testing::instant();
    assert!(handle.guard().record_offence(now, "127.0.0.88".parse().unwrap(), Offence::Credentials));
    let to = format!("sip:x@{}", guesser.local_addr().unwrap());
    handle.send(Command::Invite { leg: LegId(1), invite: outgoing(&to) }).unwrap();
    let invite = receive_until(&guesser, "INVITE ").await;
    let copied: String = ["Via: ", "From: ", "To: ", "Call-ID: ", "CSeq: "]
        .iter()
        .filter_map(|name| invite.split("\r\n").find(|line| line.starts_with(name)))
        .map(|line| format!("{line}\r\n"))
        .collect();
    let busy = format!("SIP/2.0 486 Busy Here\r\n{copied}Content-Length: 0\r\n\r\n");
    guesser.send_to(busy.as_bytes(), udp).await.unwrap();
    receive_until(&guesser, "ACK ").await;
    let Event::Ended { status, .. } = event(&mut events).await else { panic!("no end") };
    assert_eq!(status, Some(486));
    // Other messages of the banned source are dropped.
    guesser.send_to(options("UDP", "banned").as_bytes(), udp).await.unwrap();
    // 40 datagrams with the carrier's source address do not ban the carrier.
    let carrier = UdpSocket::bind("127.0.0.89:0").await.unwrap();
    for number in 0..40 {
        let branch = format!("forged{number}x");
        carrier.send_to(options("UDP", &branch).as_bytes(), udp).await.unwrap();
        assert!(receive_until(&carrier, &branch).await.starts_with("SIP/2.0 403 "));
    }
    assert_eq!(handle.guard().bans(now).len(), 1);
    handle.shutdown().await;
}

#[tokio::test]
async fn datagrams_above_the_rate_of_a_source_are_not_parsed() {
    let (handle, trunk, loud) = guarded(Bans { source_rate: 1, refused: 0, ..Bans::default() }).await;
    let udp = address(&handle, Transport::Udp);
    for number in 0..200 {
        loud.send_to(options("UDP", &format!("loud{number}")).as_bytes(), udp).await.unwrap();
    }
    trunk.send_to(options("UDP", "trunkx").as_bytes(), udp).await.unwrap();
    receive_until(&trunk, "trunkx").await;
    assert!(handle.statistics().unknown_source_requests < 50, "{:?}", handle.statistics());
    assert!(handle.guard().counts(crate::testing::instant()).limited > 150);
    handle.shutdown().await;
}

#[tokio::test]
async fn a_capture_server_gets_sent_and_received_messages() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let hep = format!("udp://{}", server.local_addr().unwrap());
    let (handle, _events) = driver(|config| config.hep = Some(hep)).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(options("UDP", "heard").as_bytes(), address(&handle, Transport::Udp)).await.unwrap();
    for expected in ["OPTIONS sip:x@127.0.0.1 SIP/2.0", "SIP/2.0 200 OK"] {
        assert!(receive_until(&server, expected).await.starts_with("HEP3"));
    }
    handle.shutdown().await;
    let wrong = Config { hep: Some("homer".into()), listen: vec!["udp://127.0.0.1:0".into()], ..Config::default() };
    assert_eq!(start(wrong, |_| {}).await.err().unwrap().to_string(), "sip.hep: \"homer\" is not udp://HOST:PORT");
}

#[tokio::test]
async fn messages_of_the_driver_are_in_the_ladder() {
    let (handle, mut events) = driver(|_| {}).await;
    let udp = address(&handle, Transport::Udp);
    // The server calls itself: there are two legs with the same Call-ID.
    handle.send(Command::Invite { leg: LegId(1), invite: outgoing(&format!("sip:x@{udp}")) }).unwrap();
    let Event::Incoming { leg, incoming } = event(&mut events).await else { panic!("no call") };
    handle.send(answer(leg)).unwrap();
    while !matches!(event(&mut events).await, Event::Acknowledged { .. }) {}
    let ladder = handle.ladder().unwrap();
    let trace = ladder.of_legs(&[leg]).remove(0);
    assert_eq!((trace.sip_call_id.as_str(), trace.legs.as_slice()), (&*incoming.sip_call_id, &[LegId(1), leg][..]));
    let both_ways =
        |word: &str| trace.messages.iter().filter(|message| message.data.starts_with(word.as_bytes())).count();
    assert_eq!((both_ways("INVITE "), both_ways("SIP/2.0 200 "), both_ways("ACK ")), (2, 2, 2));
    handle.shutdown().await;
}
