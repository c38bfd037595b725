//! Tests of the routes, and of the ports with real sockets on 127.0.0.1.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use super::*;

const UDP: Protocol = Protocol::Udp;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

/// The leg of RTP from a source.
fn leg_at(routes: &Routes, port: u16) -> Option<u128> {
    routes.find((UDP, address(port)), &[0x80; 12]).map(|leg| leg.0)
}

#[test]
fn a_source_is_known_after_an_authentic_check_and_until_the_leg_ends() {
    let mut routes = Routes::default();
    routes.announce(LegId(1), "one");
    assert_eq!(leg_at(&routes, 10), None);
    routes.admit("one", (UDP, address(10)));
    routes.admit("nobody", (UDP, address(11)));
    assert_eq!((leg_at(&routes, 10), leg_at(&routes, 11)), (Some(1), None));
    assert_eq!(routes.find((Protocol::Tcp, address(10)), &[0x80; 12]), None, "another protocol is another source");
    routes.rename(LegId(1), LegId(2));
    assert_eq!(leg_at(&routes, 10), Some(2));
    routes.forget(LegId(2));
    assert_eq!(leg_at(&routes, 10), None);
}

#[test]
fn an_expected_source_takes_no_packets_of_another_leg_but_a_check_does() {
    let mut routes = Routes::default();
    routes.announce(LegId(1), "one");
    routes.announce(LegId(2), "two");
    routes.admit("one", (UDP, address(10)));
    routes.note_target("two", (UDP, address(10)));
    routes.note_target("two", (UDP, address(11)));
    assert_eq!((leg_at(&routes, 10), leg_at(&routes, 11)), (Some(1), Some(2)));
    routes.admit("two", (UDP, address(10)));
    routes.forget(LegId(1));
    assert_eq!(leg_at(&routes, 10), Some(2), "the old leg has no right to it any more");
}

#[test]
fn a_leg_has_at_most_96_sources_and_two_user_names() {
    let mut routes = Routes::default();
    for ufrag in ["one", "two", "three"] {
        routes.announce(LegId(1), ufrag);
    }
    for port in 0..97 {
        routes.admit("three", (UDP, address(port)));
    }
    routes.admit("one", (UDP, address(200)));
    assert_eq!((leg_at(&routes, 0), leg_at(&routes, 1), leg_at(&routes, 200)), (None, Some(1), None));
}

/// A shared port with a running thread, and one worker that does nothing.
struct Bench {
    shared: Arc<Shared>,
    udp: SocketAddr,
    tcp: SocketAddr,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Bench {
    fn new() -> Bench {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port = IcePort::bind(&[[127, 0, 0, 1].into()], Some(free), Some(free)).unwrap();
        let shared = Arc::new(Shared::of_workers(1, Some(port)).unwrap());
        shared.homes.lock().unwrap().insert(LegId(1), 0);
        let running = Arc::clone(&shared);
        let thread = std::thread::spawn(move || running.ice_port.as_ref().unwrap().run(&running));
        let at = SocketAddr::from(([127, 0, 0, 1], free));
        Bench { shared, udp: at, tcp: at, thread: Some(thread) }
    }

    fn port(&self) -> &IcePort {
        self.shared.ice_port.as_ref().unwrap()
    }

    /// Waits for a packet, and returns its content.
    fn arrival(&self) -> (Flow, SocketAddr, Vec<u8>) {
        let (limit, interval) = (Duration::from_secs(5), Duration::from_millis(1));
        tandem_test_support::wait_for_blocking(limit, interval, "a packet", || {
            let mut found = None;
            let mut arrivals = std::mem::take(&mut *self.shared.inboxes[0].arrivals());
            arrivals.drain(|_, flow, from, packet| found = Some((flow, from, packet.to_vec())));
            found
        })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.port().stop();
        let _ = self.thread.take().unwrap().join();
    }
}

#[test]
fn packets_of_known_sources_reach_the_worker_and_others_are_counted() {
    let bench = Bench::new();
    let (known, strange) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    bench.port().announce(LegId(1), "one");
    bench.port().admit("one", Flow::IceUdp, known.local_addr().unwrap());
    strange.send_to(b"strange", bench.udp).unwrap();
    known.send_to(b"known", bench.udp).unwrap();
    assert_eq!(bench.arrival(), (Flow::IceUdp, known.local_addr().unwrap(), b"known".to_vec()));
    assert_eq!(bench.port().counts(), IcePortCounts { refused: 1, lost: 0 });
    let mut buffer = [0; 16];
    bench.port().send(Flow::IceUdp, known.local_addr().unwrap(), b"back");
    assert_eq!(known.recv(&mut buffer).unwrap(), 4);
}

#[test]
fn packets_of_a_stream_are_split_by_their_length_and_a_stream_with_a_long_one_ends() {
    let bench = Bench::new();
    let mut stream = TcpStream::connect(bench.tcp).unwrap();
    let from = stream.local_addr().unwrap();
    bench.port().announce(LegId(1), "one");
    bench.port().admit("one", Flow::IceTcp, from);
    stream.write_all(&[0, 3, b'a']).unwrap();
    stream.write_all(b"bc").unwrap();
    assert_eq!(bench.arrival(), (Flow::IceTcp, from, b"abc".to_vec()));
    bench.port().send(Flow::IceTcp, from, b"back");
    let mut frame = [0; 6];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(&frame, &[0, 4, b'b', b'a', b'c', b'k']);
    stream.write_all(&[0xFF, 0xFF]).unwrap();
    assert_eq!(stream.read(&mut frame).unwrap(), 0);
}

#[test]
fn a_stream_without_an_authentic_check_ends_after_10_s() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let streams = Streams::new(0);
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let known = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut strange = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    listener.set_nonblocking(true).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a clock needs some origin")]
    let began = Instant::now();
    streams.accept(&listener, began, &epoll);
    let is_known = |peer: SocketAddr| peer == known.local_addr().unwrap();
    assert_eq!(streams.sweep(began + Duration::from_secs(9), is_known), 0);
    assert_eq!(streams.sweep(began + Duration::from_secs(10), is_known), 1);
    assert_eq!(strange.read(&mut [0]).unwrap(), 0);
    assert!(streams.send(known.local_addr().unwrap(), b"packet"));
}
