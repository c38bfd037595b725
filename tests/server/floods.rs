//! Floods of connections and datagrams. Many connections at the same time are malformed or slow, or state wrong
//! lengths. Datagrams come from many addresses. The memory use must be bounded, and a live call must lose no audio.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tandem_test_support::wait_until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::abuse::assert_answers;
use crate::audio::{FRAME, encode, noise};
use crate::bridge::{arrived, live_call};
use crate::log::PATIENCE;
use crate::phone::SipEvent;

/// The number of simultaneous connections.
const CONNECTIONS: usize = 200;
/// The number of source addresses of the datagrams.
const SOURCES: u32 = 1_000;
/// The limit for the memory growth of the whole process, in KiB. The process includes the phones and attackers of the
/// test.
const GROWTH_KIB: u64 = 96 * 1024;

/// The octets that connection `number` sends. Seven of eight connections begin like a SIP request. No connection sends
/// a complete valid request.
fn malice(number: usize) -> Vec<u8> {
    let start = format!(
        "INVITE sip:700@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKf{number};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:f@127.0.0.1>;tag={number}\r\nTo: <sip:700@127.0.0.1>\r\nCall-ID: f{number}\r\nCSeq: 1 INVITE\r\n"
    );
    let length = |length: &str, body: &str| format!("{start}Content-Length: {length}\r\n\r\n{body}").into_bytes();
    match number % 8 {
        0 => start.into_bytes(),
        1 => length("99999999999999999999", "v=0"),
        2 => length("-1", "v=0"),
        3 => length("65000", "v=0"),
        4 => format!("{start}X-Long: {}\r\n", "x".repeat(64 * 1024)).into_bytes(),
        5 => format!("{start}{}", "X-Many: 1\r\n".repeat(6_000)).into_bytes(),
        6 => {
            let parts: String = (0..200).map(nested).collect();
            let body = format!("{parts}--b199--\r\n");
            format!("{start}Content-Type: multipart/mixed;boundary=b0\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                .into_bytes()
        }
        _ => [&[0xFF; 4_096][..], b"\r\n\r\n"].concat(),
    }
}

/// The beginning of a multipart body part that contains another multipart body.
fn nested(depth: usize) -> String {
    format!("--b{depth}\r\nContent-Type: multipart/mixed;boundary=b{}\r\n\r\n", depth + 1)
}

/// Opens one connection and sends the octets of this connection. Then sends one octet every 100 ms. Returns `true` when
/// the server closes the connection. Otherwise runs until the end of the test.
async fn attack(to: SocketAddr, number: usize) -> bool {
    let Ok(mut stream) = TcpStream::connect(to).await else { return true };
    if stream.write_all(&malice(number)).await.is_err() {
        return true;
    }
    let mut answer = [0; 2_048];
    loop {
        tokio::select! {
            read = stream.read(&mut answer) => match read {
                Ok(0) | Err(_) => return true,
                Ok(_) => {}
            },
            () = tokio::time::sleep(Duration::from_millis(100)) => {
                if stream.write_all(b"x").await.is_err() {
                    return true;
                }
            }
        }
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_does_not_disturb_a_live_call_and_uses_limited_memory() {
    let (server, mut caller, mut called) = live_call().await;
    let before = resident_kib();

    let audio = noise(4_000, 77);
    caller.audio.say(&audio);
    let mut attacks = JoinSet::new();
    for number in 0..CONNECTIONS {
        attacks.spawn(attack(server.tcp, number));
    }
    // 1,000 addresses send one datagram each. Half of the datagrams are malformed, and half are well-formed requests.
    for source in 0..SOURCES {
        let address = Ipv4Addr::from(0x7F_64_00_01 + source);
        let socket = UdpSocket::bind((address, 0)).await.unwrap();
        let request = format!(
            "OPTIONS sip:700@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch=z9hG4bKs{source};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:s@{address}>;tag=1\r\nTo: <sip:700@127.0.0.1>\r\nCall-ID: s{source}\r\nCSeq: 1 OPTIONS\r\n\r\n"
        );
        let octets = if source % 2 == 0 { request.into_bytes() } else { malice(source as usize) };
        // Some messages are larger than the maximum size of a datagram. Such messages are not sent. The test does not
        // need them.
        let _ = socket.send_to(&octets, server.udp).await;
    }
    let last = encode(&audio)[audio.len() - FRAME..].to_vec();
    called.audio.heard().find("the last word", |packet| packet.payload == last).await;
    assert_eq!(arrived(&audio, &called.audio.heard().all()), (0..200).collect::<Vec<_>>(), "each packet came");
    assert_answers(&server).await;
    let grown = resident_kib().saturating_sub(before);
    println!("the process grew by {grown} KiB");
    assert!(grown < GROWTH_KIB, "{grown} KiB");
    attacks.shutdown().await;

    // The server has closed all connections and has no state of refused requests.
    let sip = || server.calls().services().sip.statistics();
    wait_until(PATIENCE, "no connection is left", async || sip().connections == 0).await;
    assert_eq!(sip().legs, 2, "the live call's, and no other");
    caller.hangup().await;
    called.until(SipEvent::Bye).await;
    server.quiet().await;
    server.end().await;
}
