//! Tests of the shell over loopback. The system chooses the ports. Each test waits for events, with a deadline.

mod names;
mod nodes;
mod secure;
mod torture;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tandem_id::Now;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::{Handle, start};
use crate::testing::{answer, hangup, outgoing};
use crate::{Command, Config, EndCause, Event, LegId, ResumeError, Transport, TrunkAcl};

const DEADLINE: Duration = Duration::from_secs(20);

async fn driver(change: impl FnOnce(&mut Config)) -> (Handle, UnboundedReceiver<Event>) {
    let networks = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    let mut config = Config {
        listen: vec!["udp://127.0.0.1:0".into(), "tcp://127.0.0.1:0".into()],
        trunks: vec![TrunkAcl { name: "t".into(), networks }],
        trace: false,
        ..Config::default()
    };
    change(&mut config);
    let (sender, events) = unbounded_channel();
    let handle = start(config, move |event| drop(sender.send(event))).await.unwrap();
    (handle, events)
}

fn address(handle: &Handle, transport: Transport) -> SocketAddr {
    handle.local_addrs().iter().find(|(t, _)| *t == transport).unwrap().1
}

async fn event(events: &mut UnboundedReceiver<Event>) -> Event {
    timeout(DEADLINE, events.recv()).await.expect("an event in time").expect("the driver lives")
}

fn options(transport: &str, branch: &str) -> String {
    format!(
        "OPTIONS sip:x@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/{transport} 127.0.0.1:9;rport;branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:y@z>;tag=1\r\nTo: <sip:x@127.0.0.1>\r\nCall-ID: {branch}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

/// Reads until the text has arrived and a message without a body ends.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut all = Vec::new();
    timeout(DEADLINE, async {
        while !String::from_utf8_lossy(&all).contains(text) || !all.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut all).await.unwrap(), 0, "closed before {text}");
        }
    })
    .await
    .expect("text in time");
    String::from_utf8_lossy(&all).into_owned()
}

/// Receives datagrams until a datagram contains the text. Returns this datagram.
async fn receive_until(socket: &UdpSocket, text: &str) -> String {
    let mut buffer = vec![0; 65_536];
    timeout(DEADLINE, async {
        loop {
            let (length, _) = socket.recv_from(&mut buffer).await.unwrap();
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.contains(text) {
                return message;
            }
        }
    })
    .await
    .expect("text in time")
}

#[tokio::test]
async fn the_server_answers_after_every_rfc_4475_message_over_udp_and_tcp() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpora/rfc4475");
    let Ok(entries) = std::fs::read_dir(folder) else {
        tandem_test_support::skip(tandem_test_support::Needs::Shared("corpora/rfc4475"));
        return;
    };
    let (handle, _events) = driver(|_| {}).await;
    let (udp, tcp) = (address(&handle, Transport::Udp), address(&handle, Transport::Tcp));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for (number, entry) in entries.enumerate() {
        let data = std::fs::read(entry.unwrap().path()).unwrap();
        socket.send_to(&data, udp).await.unwrap();
        let branch = format!("udp{number}x");
        socket.send_to(options("UDP", &branch).as_bytes(), udp).await.unwrap();
        assert!(receive_until(&socket, &branch).await.starts_with("SIP/2.0 200 "));
        let mut stream = TcpStream::connect(tcp).await.unwrap();
        stream.write_all(&data).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("closed in time").unwrap();
        let mut stream = TcpStream::connect(tcp).await.unwrap();
        let branch = format!("tcp{number}x");
        stream.write_all(options("TCP", &branch).as_bytes()).await.unwrap();
        assert!(read_until(&mut stream, &branch).await.starts_with("SIP/2.0 200 "));
    }
    handle.shutdown().await;
}

#[tokio::test]
async fn a_stream_carries_pipelined_and_fragmented_messages_and_keep_alives_past_a_malformed_one() {
    let (handle, _events) = driver(|_| {}).await;
    let mut stream = TcpStream::connect(address(&handle, Transport::Tcp)).await.unwrap();
    let bad = options("TCP", "bad").replace("OPTIONS sip:", "OPTIONS  sip:");
    let all = format!("{}{bad}\r\n\r\n{}", options("TCP", "one"), options("TCP", "two"));
    stream.write_all(all.as_bytes()).await.unwrap();
    let answers = read_until(&mut stream, "z9hG4bKtwo").await;
    let found: Vec<_> =
        answers.split("SIP/2.0 ").filter_map(|part| part.get(..3)).filter(|code| code.ends_with('0')).collect();
    assert_eq!(found, ["200", "400", "200"], "{answers}");
    for byte in options("TCP", "three").bytes() {
        stream.write_all(&[byte]).await.unwrap();
        stream.flush().await.unwrap();
    }
    assert!(read_until(&mut stream, "z9hG4bKthree").await.contains("SIP/2.0 200 "));
    stream.write_all(b"\r\n\r\n").await.unwrap();
    let mut pong = [0; 2];
    timeout(DEADLINE, stream.read_exact(&mut pong)).await.expect("a pong").unwrap();
    assert_eq!(pong, *b"\r\n");
    handle.shutdown().await;
}

#[tokio::test]
async fn a_far_end_that_never_reads_is_disconnected_and_delays_no_other() {
    let (handle, _events) = driver(|_| {}).await;
    let mut stream = TcpStream::connect(address(&handle, Transport::Tcp)).await.unwrap();
    let burst: String = (0..200).map(|number| options("TCP", &format!("n{number}"))).collect();
    // The task ends with a write error after the driver has closed the connection.
    let flood = tokio::spawn(async move { while stream.write_all(burst.as_bytes()).await.is_ok() {} });
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let udp = address(&handle, Transport::Udp);
    for number in 0..50 {
        let branch = format!("alive{number}x");
        socket.send_to(options("UDP", &branch).as_bytes(), udp).await.unwrap();
        receive_until(&socket, &branch).await;
    }
    timeout(DEADLINE, flood).await.expect("the flood is cut off").unwrap();
    assert!(handle.statistics().dropped > 0);
    handle.shutdown().await;
}

#[tokio::test]
async fn connections_above_the_limit_and_idle_connections_are_closed() {
    let (handle, _events) = driver(|config| {
        config.max_connections = 1;
        config.connection_idle_seconds = 1;
    })
    .await;
    let tcp = address(&handle, Transport::Tcp);
    let mut first = TcpStream::connect(tcp).await.unwrap();
    first.write_all(options("TCP", "a").as_bytes()).await.unwrap();
    read_until(&mut first, "z9hG4bKa").await;
    let mut second = TcpStream::connect(tcp).await.unwrap();
    assert_eq!(timeout(DEADLINE, second.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 0);
    let mut rest = Vec::new();
    timeout(DEADLINE, first.read_to_end(&mut rest)).await.expect("idle").unwrap();
    handle.shutdown().await;
}

#[tokio::test]
async fn connections_of_unknown_sources_leave_room_for_trunks() {
    let (handle, _events) = driver(|config| {
        config.max_connections = 5;
        for trunk in &mut config.trunks {
            trunk.networks = vec!["127.0.0.1/32".parse().unwrap()];
        }
    })
    .await;
    let tcp = address(&handle, Transport::Tcp);
    let connect = async |from: &str| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
        socket.connect(tcp).await.unwrap()
    };
    let is_closed = async |stream: &mut TcpStream| {
        timeout(DEADLINE, stream.read(&mut [0; 1])).await.expect("closed in time").unwrap_or(0) == 0
    };
    let mut open = vec![connect("127.0.0.2").await];
    assert!(is_closed(&mut connect("127.0.0.2").await).await);
    open.push(connect("127.0.0.3").await);
    assert!(is_closed(&mut connect("127.0.0.4").await).await);
    for number in 0..3 {
        let mut trunk = connect("127.0.0.1").await;
        trunk.write_all(options("TCP", &format!("trunk{number}")).as_bytes()).await.unwrap();
        assert!(read_until(&mut trunk, "z9hG4bKtrunk").await.starts_with("SIP/2.0 200 "));
        open.push(trunk);
    }
    handle.shutdown().await;
}

#[tokio::test]
async fn two_drivers_call_each_other_over_tcp_udp_and_ipv6_by_name_or_address() {
    let everywhere = |config: &mut Config| {
        config.listen =
            ["udp://127.0.0.1:0", "tcp://127.0.0.1:0", "udp://[::1]:0", "tcp://[::1]:0"].map(str::to_owned).to_vec();
    };
    let (a, mut a_events) = driver(everywhere).await;
    let (b, mut b_events) = driver(everywhere).await;
    for (number, (transport, at)) in b.local_addrs().iter().enumerate() {
        let name = if at.is_ipv4() && number == 0 { format!("localhost:{}", at.port()) } else { at.to_string() };
        let uri = format!("sip:x@{name};transport={}", transport.token().to_lowercase());
        let leg = LegId(u128::try_from(number).unwrap() + 1);
        a.send(Command::Invite { leg, invite: outgoing(&uri) }).unwrap();
        let Event::Incoming { leg: other, incoming } = event(&mut b_events).await else { panic!() };
        assert_eq!(incoming.transport, *transport);
        b.send(answer(other)).unwrap();
        assert!(matches!(event(&mut a_events).await, Event::Answered { .. }));
        assert!(matches!(event(&mut b_events).await, Event::Acknowledged { .. }));
        // The callee hangs up. Over TCP, its BYE uses the caller's connection or a new connection.
        b.send(hangup(other)).unwrap();
        assert!(matches!(event(&mut a_events).await, Event::Ended { cause: EndCause::Bye, .. }));
        assert!(matches!(event(&mut b_events).await, Event::Ended { cause: EndCause::LocalHangup, .. }));
    }
    assert_eq!((a.statistics().dropped, b.statistics().dropped), (0, 0));
    a.shutdown().await;
    b.shutdown().await;
    assert!(a.send(hangup(LegId(1))).is_err());
}

#[tokio::test]
async fn another_driver_continues_the_dialog_of_a_call_from_its_text() {
    let (a, mut a_events) = driver(|_| {}).await;
    let (b, mut b_events) = driver(|_| {}).await;
    let leg = LegId(1);
    a.send(Command::Invite { leg, invite: outgoing(&format!("sip:x@{}", address(&b, Transport::Udp))) }).unwrap();
    let Event::Incoming { leg: other, .. } = event(&mut b_events).await else { panic!() };
    b.send(answer(other)).unwrap();
    assert!(matches!(event(&mut a_events).await, Event::Answered { .. }));
    assert!(matches!(event(&mut b_events).await, Event::Acknowledged { .. }));
    let now = Now { instant: tokio::time::Instant::now().into_std(), time: jiff::Timestamp::UNIX_EPOCH };
    assert_eq!(a.dialog_state(now, LegId(9)).await, None);
    let text = a.dialog_state(now, leg).await.expect("the leg is live").to_string();
    let (new, mut new_events) = driver(|_| {}).await;
    for expected in [Ok(()), Err(ResumeError::Live)] {
        assert_eq!(new.resume(now, leg, text.parse().unwrap(), None).await, Some(expected));
    }
    new.send(hangup(leg)).unwrap();
    assert!(matches!(event(&mut b_events).await, Event::Ended { cause: EndCause::Bye, .. }));
    assert!(matches!(event(&mut new_events).await, Event::Ended { cause: EndCause::LocalHangup, .. }));
    new.shutdown().await;
    assert_eq!(new.dialog_state(now, leg).await, None);
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn a_refused_connection_and_an_unknown_name_end_the_call() {
    let (handle, mut events) = driver(|_| {}).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (uri, why) in [
        (format!("sip:x@{closed};transport=tcp"), EndCause::Unconnected(ErrorKind::ConnectionRefused)),
        ("sip:x@no-such-host.invalid".to_owned(), EndCause::Unresolved),
    ] {
        handle.send(Command::Invite { leg: LegId(1), invite: outgoing(&uri) }).unwrap();
        assert!(matches!(event(&mut events).await, Event::Ended { cause, .. } if cause == why), "{uri}");
    }
    handle.shutdown().await;
}

#[tokio::test]
async fn a_port_in_use_and_an_invalid_address_are_different_errors() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let used = socket.local_addr().unwrap();
    let message = |listen: String| async move {
        let config = Config { listen: vec![listen], ..Config::default() };
        start(config, |_| {}).await.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(
        message(format!("udp://{used}")).await.starts_with(&format!("sip.listen[0]: cannot listen on udp://{used}: "))
    );
    assert!(message("127.0.0.1:5060".into()).await.contains("is not udp://ADDRESS:PORT"));
    assert_eq!(message("udp://127.0.0.1:0".into()).await, "");
}

mod guarded;
