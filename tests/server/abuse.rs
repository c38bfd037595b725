//! Malformed input on every port does not harm a live call.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::audio::{FRAME, encode, noise};
use crate::bridge::{arrived, live_call};
use crate::log::PATIENCE;
use crate::phone::{Message, Phone, SipEvent};
use crate::test_server::{TestServer, inline};

const RUBBISH: [&[u8]; 8] = [
    b"",
    b"\0",
    b"\r\n\r\n\r\n\r\n",
    b"INVITE sip:700@127.0.0.1 SIP/2.0\r\n\r\n",
    b"INVITE sip:700@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKrubbish\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"SIP/2.0 999 \xff\xfe\r\nCSeq: 4294967296 INVITE\r\n\r\n",
    &[0xFF; 1_400],
];

/// Sends one OPTIONS over UDP and one OPTIONS over TCP. Asserts that both get a 200.
pub(crate) async fn assert_answers(server: &TestServer) {
    let options = |via: &str, from: SocketAddr| {
        format!(
            "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/{via} {from};branch=z9hG4bK{branch:x};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:a@{from}>;tag=1\r\nTo: <sip:{to}>\r\nCall-ID: {branch:x}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
            to = server.udp,
            branch = rand::random::<u64>()
        )
    };
    let exchange = async {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        udp.send_to(options("UDP", udp.local_addr().unwrap()).as_bytes(), server.udp).await.unwrap();
        let mut answer = [0; 4_096];
        let length = udp.recv(&mut answer).await.unwrap();
        assert_eq!(Message::parse(&answer[..length]).and_then(|message| message.status()), Some(200));
        let mut tcp = TcpStream::connect(server.tcp).await.unwrap();
        tcp.write_all(options("TCP", tcp.local_addr().unwrap()).as_bytes()).await.unwrap();
        let length = tcp.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"SIP/2.0 200"), "{:?}", String::from_utf8_lossy(&answer[..length]));
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("an answer to OPTIONS");
}

/// Sends the octets over TCP and reads until the server closes the connection, for at most 1 s.
async fn send(to: SocketAddr, octets: &[u8]) {
    let Ok(mut stream) = TcpStream::connect(to).await else { panic!("{to} takes no connection") };
    if stream.write_all(octets).await.is_ok() && stream.shutdown().await.is_ok() {
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(1), stream.read_to_end(&mut answer)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_data_on_every_port_does_not_disturb_a_live_call() {
    let (server, mut caller, mut called) = live_call().await;

    let audio = noise(3_000, 31);
    caller.audio.say(&audio);
    let unknown = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for rubbish in RUBBISH {
        unknown.send_to(rubbish, server.udp).await.unwrap();
        // A foreign socket sends to the RTP port and to the RTCP port. The caller's own socket sends to the RTP port.
        let rtp = caller.audio.remote();
        unknown.send_to(rubbish, rtp).await.unwrap();
        unknown.send_to(rubbish, SocketAddr::new(rtp.ip(), rtp.port() + 1)).await.unwrap();
        caller.audio.throw(rubbish);
        send(server.tcp, rubbish).await;
        send(server.api.0, rubbish).await;
    }
    // A foreign socket sends well-formed RTP and tries to inject audio into the call.
    let mut forged = vec![0x80, 0, 0, 1, 0, 0, 0, 1, 9, 9, 9, 9];
    forged.extend([0x55; FRAME]);
    unknown.send_to(&forged, caller.audio.remote()).await.unwrap();

    let last = encode(&audio)[audio.len() - FRAME..].to_vec();
    called.audio.heard().find("the last word", |packet| packet.payload == last).await;
    let heard = called.audio.heard().all();
    assert_eq!(arrived(&audio, &heard), (0..150).collect::<Vec<_>>());
    assert!(heard.iter().all(|packet| packet.payload != [0x55; FRAME]));
    assert_answers(&server).await;
    assert_eq!(server.api.get("/healthz").await.status, 200);
    caller.hangup().await;
    called.until(SipEvent::Bye).await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_answers_after_the_torture_messages_of_rfc_4475() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora/rfc4475");
    let Ok(files) = std::fs::read_dir(&folder) else {
        tandem_test_support::skip(tandem_test_support::Needs::Shared("corpora/rfc4475"));
        return;
    };
    let server = TestServer::start(&inline("600", "<Response><Hangup/></Response>")).await;
    let mut sent = 0;
    for file in files {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "dat") {
            continue;
        }
        let message = std::fs::read(&path).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        udp.send_to(&message, server.udp).await.unwrap();
        // The test does not wait for an answer, because the server must accept the next message in any case.
        let mut tcp = TcpStream::connect(server.tcp).await.unwrap();
        tcp.write_all(&message).await.unwrap();
        sent += 1;
        if sent % 10 == 0 {
            assert_answers(&server).await;
        }
    }
    assert!(sent > 40, "{sent} messages");
    assert_answers(&server).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "600").await;
    phone.until(SipEvent::Bye).await;
    server.end().await;
}
