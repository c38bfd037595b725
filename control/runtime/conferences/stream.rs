//! A stream of what all in a conference hear, to a WebSocket application. It is a task of its own; the conference keeps a sender, and
//! the stream ends when that is used or dropped, when the room ends, or when the application closes its socket.

use std::sync::Arc;
use std::time::Duration;

use tandem_call::conference::event::{ConferenceEvent, ConferenceEventKind, ConferenceInfo};
use tandem_call::id::StreamId;
use tandem_call::stream::{StreamFacts, StreamFailure, StreamFault, StreamSpec, StreamStatus};
use tandem_clock as clock;
use tandem_dialect::StreamWire;
use tandem_http::Client;
use tandem_http::websocket::{Socket, Word};
use tandem_media as media;
use tokio::sync::oneshot;

use super::Conferences;
use super::teller::Teller;
use crate::stream::{NORMAL, TAP_FRAMES, tap_codec, written};

/// Streams of one conference at a time.
pub(super) const MOST: usize = 8;

/// A stream that runs.
pub(super) struct Running {
    pub(super) id: StreamId,
    pub(super) name: Option<String>,
    /// Used or dropped, it ends.
    pub(super) stop: oneshot::Sender<()>,
}

/// What a stream needs.
pub(super) struct NewStream {
    pub(super) conferences: Conferences,
    pub(super) conference: Arc<ConferenceInfo>,
    pub(super) teller: Teller,
    pub(super) id: StreamId,
    pub(super) spec: StreamSpec,
    pub(super) wire: Box<dyn StreamWire>,
    pub(super) client: Client,
    pub(super) idle: Option<Duration>,
    pub(super) stopped: oneshot::Receiver<()>,
}

impl NewStream {
    /// Carries audio until somebody ends it, and tells of both.
    pub(super) async fn run(mut self) {
        let status = match self.carry().await {
            Ok(()) => StreamStatus::Stopped,
            Err(why) => StreamStatus::Failed(why),
        };
        self.conferences.with(self.conference.id, |live| live.streams.retain(|one| one.id != self.id));
        self.tell(status);
    }

    async fn carry(&mut self) -> Result<(), StreamFailure> {
        let mut socket = tokio::select! {
            opened = Socket::open(&self.client, &self.spec.url, self.wire.handshake(), self.idle) => opened?,
            _ = &mut self.stopped => return Ok(()),
        };
        socket.send(self.wire.connected()).await?;
        socket.send(self.wire.start()).await?;
        let (sink, mut tap) = media::tap(TAP_FRAMES, tap_codec(self.spec.codec));
        let taken = self.conferences.with(self.conference.id, |live| live.command(media::RoomCommand::Tap(sink)));
        if taken != Some(true) {
            return Err(StreamFault::Internal.because("the conference is over"));
        }
        self.tell(StreamStatus::Started);
        loop {
            tokio::select! {
                frame = tap.next() => {
                    let Some(frame) = frame else { break };
                    socket.send(written(self.wire.as_mut(), &frame)).await?;
                }
                _ = &mut self.stopped => break,
                // Nobody hears what the application says.
                word = socket.next() => if let Word::Closed(how) = word {
                    return how;
                },
            }
        }
        socket.send(self.wire.stop()).await?;
        socket.close(NORMAL, "").await;
        Ok(())
    }

    fn tell(&self, status: StreamStatus) {
        let kind = ConferenceEventKind::Stream(StreamFacts { id: self.id, spec: self.spec.clone(), status });
        let (at, conference) = (clock::time(), Arc::clone(&self.conference));
        self.teller.tell(ConferenceEvent { at, conference, leg: None, first: None, kind });
    }
}
