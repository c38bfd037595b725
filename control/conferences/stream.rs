//! Streams the audio that all participants of a conference hear to a WebSocket application. Each stream is a separate
//! task. A stream ends when the conference sends a message with the stream's `stop` sender, or drops this sender. A
//! stream also ends when the room closes, or when the application closes the WebSocket.

use std::sync::Arc;
use std::time::Duration;

use tandem_call::conference::event::{ConferenceEvent, ConferenceEventKind, ConferenceInfo};
use tandem_call::stream::{StreamFacts, StreamFailure, StreamFault, StreamSpec, StreamStatus};
use tandem_dialect::StreamWire;
use tandem_host::clock;
use tandem_http::Client;
use tandem_http::websocket::{NORMAL, Socket, SocketMessage};
use tandem_id::StreamId;
use tandem_media as media;
use tandem_streams::{FrameEncoder, TAP_FRAMES};
use tokio::sync::oneshot;

use super::Conferences;
use super::event_publisher::EventPublisher;

/// Maximum number of concurrent streams of one conference.
pub(super) const MAX_STREAMS: usize = 8;

pub(super) struct Running {
    pub(super) id: StreamId,
    pub(super) name: Option<String>,
    /// Stops the stream when a message is sent, or when this sender is dropped.
    pub(super) stop: oneshot::Sender<()>,
}

/// The parameters of a new stream.
pub(super) struct NewStream {
    pub(super) conferences: Conferences,
    pub(super) conference: Arc<ConferenceInfo>,
    pub(super) events: EventPublisher,
    pub(super) id: StreamId,
    pub(super) spec: StreamSpec,
    pub(super) wire: Box<dyn StreamWire>,
    pub(super) client: Client,
    pub(super) idle: Option<Duration>,
    pub(super) byte_order: media::ByteOrder,
    pub(super) stopped: oneshot::Receiver<()>,
}

impl NewStream {
    /// Sends audio until the stream ends, and reports the start and the end of the stream.
    pub(super) async fn run(mut self) {
        let status = match self.carry().await {
            Ok(()) => StreamStatus::Stopped,
            Err(why) => StreamStatus::Failed(why),
        };
        self.conferences.with(self.conference.id, |live| live.streams.retain(|one| one.id != self.id));
        self.publish(status);
    }

    async fn carry(&mut self) -> Result<(), StreamFailure> {
        let mut socket = tokio::select! {
            opened = Socket::open(&self.client, &self.spec.url, self.wire.handshake(), self.idle) => opened?,
            _ = &mut self.stopped => return Ok(()),
        };
        socket.send(self.wire.connected()).await?;
        socket.send(self.wire.start()).await?;
        let mut frames = FrameEncoder::new(self.spec.codec, self.byte_order);
        let (sink, mut tap) = media::tap(TAP_FRAMES, frames.tap_codec());
        let taken = self.conferences.with(self.conference.id, |live| live.command(media::RoomCommand::Tap(sink)));
        if taken != Some(true) {
            return Err(StreamFault::Internal.because("the conference is over"));
        }
        self.publish(StreamStatus::Started);
        loop {
            tokio::select! {
                frame = tap.next() => {
                    let Some(frame) = frame else { break };
                    socket.send(frames.encode(self.wire.as_mut(), &frame)).await?;
                }
                _ = &mut self.stopped => break,
                // Messages from the application are ignored.
                word = socket.next() => if let SocketMessage::Closed(how) = word {
                    return how;
                },
            }
        }
        socket.send(self.wire.stop()).await?;
        socket.close(NORMAL, "").await;
        Ok(())
    }

    fn publish(&self, status: StreamStatus) {
        let kind = ConferenceEventKind::Stream(StreamFacts { id: self.id, spec: self.spec.clone(), status });
        let (at, conference) = (clock::time(), Arc::clone(&self.conference));
        self.events.publish(ConferenceEvent { at, conference, leg: None, first: None, kind });
    }
}
