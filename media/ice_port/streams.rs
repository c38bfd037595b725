//! The TCP streams of far ends (RFC 6544). Each packet has a length of two octets before it (RFC 4571).

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::DATAGRAM;

/// The highest number of streams. Another one is closed at once.
const MOST: usize = 4_096;
/// The highest number of streams of one address. A browser has one for each call and network.
const MOST_OF_ADDRESS: usize = 256;
/// The time within which an authentic check must come on a stream.
const SETUP: Duration = Duration::from_secs(10);
/// The octets that wait for a slow stream: about a second of G.711. What comes then is lost.
const MOST_WAITING: usize = 16_384;
/// The octets of the length before a packet.
const LENGTH: usize = 2;
/// The octets of one read, the number of reads before other streams have their turn, and the number of streams that are
/// accepted before others are read.
const READ: usize = 4_096;
const READS: usize = 16;
const ACCEPTS: usize = 64;

/// All streams.
#[derive(Debug)]
pub(super) struct Streams {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    next: u64,
    numbers: HashMap<SocketAddr, u64>,
    streams: HashMap<u64, Stream>,
}

#[derive(Debug)]
struct Stream {
    peer: SocketAddr,
    stream: Arc<TcpStream>,
    began: Instant,
    /// Octets of a packet that is not complete.
    received: Vec<u8>,
    /// Octets that the kernel did not accept yet.
    waiting: Vec<u8>,
}

impl Streams {
    /// Creates an empty set. The streams have numbers from `first` on.
    pub(super) fn new(first: u64) -> Streams {
        Streams { inner: Mutex::new(Inner { next: first, numbers: HashMap::new(), streams: HashMap::new() }) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts the streams that wait at a listener.
    pub(super) fn accept(&self, listener: &TcpListener, now: Instant, epoll: &OwnedFd) {
        for _ in 0..ACCEPTS {
            let Ok((stream, peer)) = listener.accept() else { return };
            let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            let mut inner = self.inner();
            let of_address = inner.numbers.keys().filter(|one| one.ip() == peer.ip()).count();
            if inner.streams.len() >= MOST || of_address >= MOST_OF_ADDRESS {
                continue;
            }
            let number = inner.next;
            let watched = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).and_then(|()| {
                let data = epoll::EventData::new_u64(number);
                Ok(epoll::add(epoll, stream.as_fd(), data, epoll::EventFlags::IN)?)
            });
            if watched.is_err() {
                continue;
            }
            inner.next += 1;
            inner.numbers.insert(peer, number);
            let (stream, received, waiting) = (Arc::new(stream), Vec::new(), Vec::new());
            inner.streams.insert(number, Stream { peer, stream, began: now, received, waiting });
        }
    }

    /// Reads a stream, and gives its packets to `take`.
    pub(super) fn handle(&self, number: u64, mut take: impl FnMut(SocketAddr, &[u8])) {
        let (stream, peer, mut received) = {
            let mut inner = self.inner();
            let Some(entry) = inner.streams.get_mut(&number) else { return };
            (Arc::clone(&entry.stream), entry.peer, std::mem::take(&mut entry.received))
        };
        // The lock is not held while packets are given away, because a worker may send on a stream in the meantime.
        let is_open = read(&stream, &mut received, |packet| take(peer, packet));
        let mut inner = self.inner();
        if !is_open {
            inner.close(number);
        } else if let Some(entry) = inner.streams.get_mut(&number) {
            entry.received = received;
        }
    }

    /// Sends a packet, or puts it behind octets that wait. They are sent with the next packet. Returns false if there is no
    /// such stream, or if it is too slow.
    pub(super) fn send(&self, to: SocketAddr, packet: &[u8]) -> bool {
        let mut inner = self.inner();
        let number = inner.numbers.get(&to).copied();
        let Some(entry) = number.and_then(|number| inner.streams.get_mut(&number)) else { return false };
        let Ok(length) = u16::try_from(packet.len()) else { return false };
        if entry.waiting.len() + LENGTH + packet.len() > MOST_WAITING {
            return false;
        }
        entry.waiting.extend_from_slice(&length.to_be_bytes());
        entry.waiting.extend_from_slice(packet);
        flush(&entry.stream, &mut entry.waiting);
        true
    }

    /// Closes the streams of nobody. Returns their number.
    pub(super) fn sweep(&self, now: Instant, is_known: impl Fn(SocketAddr) -> bool) -> u64 {
        let old = |stream: &&Stream| now.saturating_duration_since(stream.began) >= SETUP;
        let old: Vec<SocketAddr> = self.inner().streams.values().filter(old).map(|stream| stream.peer).collect();
        let strange: Vec<SocketAddr> = old.into_iter().filter(|peer| !is_known(*peer)).collect();
        let mut inner = self.inner();
        for peer in &strange {
            if let Some(number) = inner.numbers.get(peer).copied() {
                inner.close(number);
            }
        }
        strange.len() as u64
    }
}

impl Inner {
    /// Closes a stream. The kernel removes it from epoll.
    fn close(&mut self, number: u64) {
        if let Some(entry) = self.streams.remove(&number) {
            self.numbers.remove(&entry.peer);
            let _ = entry.stream.shutdown(Shutdown::Both);
        }
    }
}

/// Sends octets as far as the kernel accepts them. After an error, the reader learns that the stream has ended.
fn flush(mut stream: &TcpStream, waiting: &mut Vec<u8>) {
    while !waiting.is_empty() {
        match stream.write(waiting) {
            Ok(sent) => drop(waiting.drain(..sent)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Reads a stream, and gives the complete packets to `take`. Returns false at the end of the stream, and if a packet is too
/// long. epoll reports the stream again if it holds more.
fn read(mut stream: &TcpStream, received: &mut Vec<u8>, mut take: impl FnMut(&[u8])) -> bool {
    let mut buffer = [0; READ];
    for _ in 0..READS {
        let count = match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        };
        received.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let mut rest = &received[..];
        while let Some((length, after)) = rest.split_first_chunk::<LENGTH>() {
            let length = usize::from(u16::from_be_bytes(*length));
            if length > DATAGRAM {
                return false;
            }
            let Some((packet, after)) = after.split_at_checked(length) else { break };
            take(packet);
            rest = after;
        }
        let left = rest.len();
        received.drain(..received.len() - left);
    }
    true
}
