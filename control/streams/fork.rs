//! A stream of audio in one direction, as RTP packets or as binary WebSocket messages. The receiver sends no audio.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tandem_call::stream::{RtpParameters, StreamCodec, StreamFailure, StreamFault, StreamSpec, StreamTransport};
use tandem_history::call_port::CallPort;
use tandem_http::Client;
use tandem_http::websocket::SocketMessage;
use tandem_media as media;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::local::{Channel, Pipe};
use super::{Ready, StreamFigures, StreamInput, StreamUpdate, TAP_FRAMES};

/// The order of the octets in the samples of the tap.
const ORDER: media::ByteOrder = media::ByteOrder::Little;
/// Number of samples in a frame of 20 ms.
const FRAME: usize = 160;
/// Size of an RTP header in octets (RFC 3550 §5.1).
const HEADER: usize = 12;
/// Maximum number of frames in a packet.
const MAX_FRAMES: u8 = 6;

/// Sends audio until the stream is stopped or its leg has ended.
pub(super) async fn run(
    client: &Client,
    call: &dyn CallPort<StreamUpdate>,
    spec: &StreamSpec,
    (idle, local): (Option<Duration>, Option<Pipe>),
    notes: &mut mpsc::Receiver<StreamInput>,
    figures: &StreamFigures,
) -> Result<(), StreamFailure> {
    let law = if spec.codec == Some(StreamCodec::Pcma) { media::g711::Law::A } else { media::g711::Law::Mu };
    let mut sender = tokio::select! {
        sender = Sender::open(client, spec, law, (idle, local)) => sender?,
        () = super::stopped(notes) => return Ok(()),
    };
    let (sink, mut tap) = media::tap(TAP_FRAMES, media::TapCodec::L16(ORDER));
    call.report(StreamUpdate::Ready(Box::new(Ready { sink, source: None })))?;
    let mut mix = Mix { both: spec.track == tandem_call::recording::Track::Both && sender.mixes(), waiting: None };
    loop {
        tokio::select! {
            frame = tap.next() => {
                let Some(frame) = frame else { break };
                if let Some((track, samples)) = mix.take(frame.track, samples(&frame)) {
                    let mut octets = [0; FRAME];
                    law.encode(&samples, &mut octets);
                    sender.send(track, &octets).await?;
                    figures.sent(octets.len(), tap.dropped());
                }
            }
            note = notes.recv() => if let Some(StreamInput::Stop) | None = note { break },
            closed = sender.closed() => return closed,
        }
    }
    sender.close().await;
    Ok(())
}

/// Mixes both directions of the leg's audio into one stream if both directions go to the same destination.
struct Mix {
    both: bool,
    /// The inbound frame of the current tick. The outbound frame of this tick has not arrived yet.
    waiting: Option<[i16; FRAME]>,
}

impl Mix {
    /// Takes the next frame of one direction. Returns the frame that must be sent now, and its direction.
    fn take(&mut self, track: media::Track, mut samples: [i16; FRAME]) -> Option<(media::Track, [i16; FRAME])> {
        if !self.both {
            return Some((track, samples));
        }
        if track == media::Track::Inbound {
            self.waiting = Some(samples);
            return None;
        }
        // If the inbound frame was dropped because the ring was full, only the outbound frame is sent.
        let other = self.waiting.take().unwrap_or([0; FRAME]);
        samples.iter_mut().zip(other).for_each(|(sample, other)| *sample = sample.saturating_add(other));
        Some((media::Track::Inbound, samples))
    }
}

fn samples(frame: &media::TapFrame) -> [i16; FRAME] {
    let mut samples = [0; FRAME];
    ORDER.read(frame.audio(), &mut samples);
    samples
}

enum Sender {
    WebSocket(Channel),
    Rtp { inbound: Option<Packets>, outbound: Option<Packets>, mixes: bool },
}

impl Sender {
    async fn open(
        client: &Client,
        spec: &StreamSpec,
        law: media::g711::Law,
        (idle, local): (Option<Duration>, Option<Pipe>),
    ) -> Result<Self, StreamFailure> {
        let StreamTransport::Rtp(rtp) = spec.transport else {
            let bearer = spec.auth_token.iter().map(|token| ("Authorization".to_owned(), format!("Bearer {token}")));
            let socket = Channel::open(client, &spec.url, bearer.collect(), idle, local).await?;
            return Ok(Self::WebSocket(socket));
        };
        let RtpParameters { inbound, outbound, frames } = rtp;
        let mixes = inbound.is_some() && inbound == outbound;
        let outbound = outbound.filter(|_| !mixes);
        let open = async |to: Option<SocketAddr>| match to {
            None => Ok(None),
            Some(to) => Packets::open(client, to, law, frames).await.map(Some),
        };
        Ok(Self::Rtp { inbound: open(inbound).await?, outbound: open(outbound).await?, mixes })
    }

    fn mixes(&self) -> bool {
        matches!(self, Self::WebSocket(_) | Self::Rtp { mixes: true, .. })
    }

    async fn send(&mut self, track: media::Track, octets: &[u8; FRAME]) -> Result<(), StreamFailure> {
        match self {
            Self::WebSocket(socket) => socket.send_octets(octets.to_vec()).await,
            Self::Rtp { inbound, outbound, .. } => {
                let packets = if track == media::Track::Inbound { inbound } else { outbound };
                if let Some(packets) = packets {
                    packets.send(octets).await;
                }
                Ok(())
            }
        }
    }

    /// Waits until the application has closed its socket. For an RTP stream, the future never completes.
    async fn closed(&mut self) -> Result<(), StreamFailure> {
        match self {
            Self::WebSocket(socket) => loop {
                // Messages from the application are ignored.
                if let SocketMessage::Closed(how) = socket.next().await {
                    return how;
                }
            },
            Self::Rtp { .. } => std::future::pending().await,
        }
    }

    async fn close(self) {
        if let Self::WebSocket(socket) = self {
            socket.close().await;
        }
    }
}

/// An RTP stream.
struct Packets {
    socket: UdpSocket,
    /// The packet that is being filled with audio.
    packet: Vec<u8>,
    octets: usize,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    source: u32,
}

impl Packets {
    async fn open(client: &Client, to: SocketAddr, law: media::g711::Law, frames: u8) -> Result<Self, StreamFailure> {
        let unreachable = |why: String| StreamFault::Unreachable.because(why);
        let address = client.permits(to.ip()).map_err(|refused| unreachable(refused.to_string()))?;
        let own: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let opened = async {
            let socket = UdpSocket::bind((own, 0)).await?;
            socket.connect((address, to.port())).await?;
            std::io::Result::Ok(socket)
        };
        let socket = opened.await.map_err(|error| unreachable(format!("{to}: {error}")))?;
        let octets = FRAME * usize::from(frames.clamp(1, MAX_FRAMES));
        Ok(Self {
            socket,
            packet: Vec::with_capacity(HEADER + octets),
            octets,
            payload_type: if law == media::g711::Law::A { 8 } else { 0 },
            sequence: rand::random(),
            timestamp: rand::random(),
            source: rand::random(),
        })
    }

    /// Adds 20 ms of audio to the current packet. Errors of the send call are ignored, for example if the receiver is
    /// unreachable.
    async fn send(&mut self, octets: &[u8; FRAME]) {
        if self.packet.is_empty() {
            self.packet.extend([0x80, self.payload_type]);
            self.packet.extend(self.sequence.to_be_bytes());
            self.packet.extend(self.timestamp.to_be_bytes());
            self.packet.extend(self.source.to_be_bytes());
        }
        self.packet.extend(octets);
        self.timestamp = self.timestamp.wrapping_add(FRAME as u32);
        if self.packet.len() >= HEADER + self.octets {
            let _ = self.socket.send(&self.packet).await;
            self.packet.clear();
            self.sequence = self.sequence.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use media::Track::{Inbound, Outbound};

    use super::*;

    #[test]
    fn both_directions_for_one_destination_are_mixed_into_one_frame() {
        let mut mix = Mix { both: true, waiting: None };
        assert_eq!(mix.take(Inbound, [100; FRAME]), None);
        assert_eq!(mix.take(Outbound, [-30; FRAME]), Some((Inbound, [70; FRAME])));
        assert_eq!(mix.take(Inbound, [i16::MAX; FRAME]), None);
        assert_eq!(mix.take(Outbound, [1; FRAME]), Some((Inbound, [i16::MAX; FRAME])), "the sum is limited");
    }

    #[test]
    fn if_a_frame_of_one_direction_is_missing_the_other_direction_is_sent_alone() {
        let mut mix = Mix { both: true, waiting: None };
        assert_eq!(mix.take(Outbound, [5; FRAME]), Some((Inbound, [5; FRAME])));
        assert_eq!(mix.take(Inbound, [7; FRAME]), None);
        assert_eq!(mix.take(Inbound, [8; FRAME]), None);
        assert_eq!(mix.take(Outbound, [1; FRAME]), Some((Inbound, [9; FRAME])), "the later frame is mixed");
        assert_eq!(mix.take(Outbound, [1; FRAME]), Some((Inbound, [1; FRAME])), "a frame is mixed once");
    }

    #[test]
    fn directions_with_different_destinations_are_not_mixed() {
        let mut mix = Mix { both: false, waiting: None };
        assert_eq!(mix.take(Inbound, [1; FRAME]), Some((Inbound, [1; FRAME])));
        assert_eq!(mix.take(Outbound, [2; FRAME]), Some((Outbound, [2; FRAME])));
    }

    #[tokio::test]
    async fn rtp_packets_have_the_requested_number_of_frames_and_consecutive_headers() {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(receiver.local_addr().unwrap()).await.unwrap();
        let (octets, sequence, timestamp) = (2 * FRAME, u16::MAX, u32::MAX - 159);
        let mut packets =
            Packets { socket, packet: Vec::new(), octets, payload_type: 8, sequence, timestamp, source: 0x0102_0304 };
        for frame in 1..=4 {
            packets.send(&[frame; FRAME]).await;
        }
        let mut packet = [0; 1_500];
        assert_eq!(receiver.recv(&mut packet).await.unwrap(), HEADER + 2 * FRAME);
        assert_eq!(packet[..HEADER], [0x80, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0x60, 1, 2, 3, 4]);
        assert_eq!((packet[HEADER], packet[HEADER + FRAME]), (1, 2));
        assert_eq!(receiver.recv(&mut packet).await.unwrap(), HEADER + 2 * FRAME);
        assert_eq!(packet[..HEADER], [0x80, 8, 0, 0, 0, 0, 0, 0xa0, 1, 2, 3, 4], "sequence and timestamp wrap");
        assert_eq!((packet[HEADER], packet[HEADER + FRAME]), (3, 4));
    }
}
