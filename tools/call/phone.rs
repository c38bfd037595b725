//! A SIP phone for one outgoing call, built from the same SIP and media engines as the server.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tandem_id::{LegId, OpId};
use tandem_media as media;
use tandem_sip as sip;
use tokio::sync::mpsc;

/// Maximum number of events that wait in the channel. If the channel is full, the media engine sends its event again
/// later, but an event of the SIP engine is lost. One call has only a few events per second.
const WAITING: usize = 4_096;
/// Maximum number of received frames that wait for the analysis. These frames contain 10 s of audio. Later frames are
/// dropped.
const MAX_WAITING_FRAMES: usize = 500;
/// Duration of a sent DTMF digit, in ms.
const DIGIT_MS: u16 = 120;

/// An event of the SIP engine or the media engine.
pub(crate) enum Input {
    Sip(sip::Event),
    Media(media::Event),
}

/// The parameters of the call.
pub(crate) struct Invitation {
    pub(crate) uri: String,
    /// User part of the From URI.
    pub(crate) from: String,
    /// The Call-ID of the call.
    pub(crate) sip_call_id: String,
    /// Credentials and their realm. The first INVITE contains these credentials, because the phone does not wait for a
    /// challenge from the server.
    pub(crate) credentials: Option<(sip::Credentials, String)>,
}

/// The phone with its SIP engine and its media engine.
pub(crate) struct Phone {
    sip: sip::transport::Handle,
    media: media::Engine,
    session: Option<media::Session>,
    /// Receiver for the events of both engines.
    pub(crate) inputs: mpsc::Receiver<Input>,
    key: u128,
    next_op: u64,
}

impl Phone {
    /// Starts the phone on `address`, an address of this machine.
    pub(crate) async fn start(address: IpAddr, ports: media::PortRange) -> anyhow::Result<Self> {
        let (sender, inputs) = mpsc::channel(WAITING);
        let host = if address.is_ipv4() { address.to_string() } else { format!("[{address}]") };
        let config = sip::Config {
            listen: vec![format!("udp://{host}:0"), format!("tcp://{host}:0")],
            user_agent: concat!("Tandem call/", env!("CARGO_PKG_VERSION")).to_owned(),
            trace: false,
            trace_mib: 0,
            ..sip::Config::default()
        };
        let events = sender.clone();
        let sip = sip::transport::start(config, move |event| {
            // If the channel is full, the event is lost. See `WAITING`.
            let _ = events.try_send(Input::Sip(event));
        })
        .await
        .with_context(|| format!("cannot make a call from {address}"))?;
        let config = media::Config {
            listen: address.into(),
            ports,
            workers: 1,
            kernel_relay: media::UseKernel::Off,
            ..media::Config::default()
        };
        let media = media::Engine::start(config).context("cannot receive audio")?;
        let key = rand::random();
        let sink: media::EventSink =
            Arc::new(move |_, event| sender.try_send(Input::Media(event)).map_err(|_| media::Full));
        let session = media.open(media::OpenSpec::new(LegId(key), 0), sink)?;
        Ok(Self { sip, media, session: Some(session), inputs, key, next_op: 0 })
    }

    /// Sends the INVITE. Returns a reader of the audio in these directions. All frames have one clock.
    pub(crate) fn call(&mut self, invitation: Invitation, tracks: media::Tracks) -> anyhow::Result<media::TapReader> {
        let Invitation { uri, from, sip_call_id, credentials } = invitation;
        let (sink, reader) = media::tap(MAX_WAITING_FRAMES, media::TapCodec::L16(media::ByteOrder::Little));
        let op = self.op();
        let session = self.session.as_mut().context("the call has ended")?;
        let (credentials, realm) = credentials.unzip();
        let invite = sip::Outgoing {
            request_uri: uri,
            from_user: from,
            call_id: Some(sip_call_id),
            credentials,
            realm,
            sdp: session.offer(),
            ..sip::Outgoing::default()
        };
        session.command(media::Command::Tap { op, tracks, sink })?;
        self.sip.send(sip::Command::Invite { leg: self.leg(), invite: Box::new(invite) })?;
        Ok(reader)
    }

    /// Applies the SDP of a provisional or final response. Returns the codec that the SDP selects.
    pub(crate) fn accept(&mut self, sdp: &[u8]) -> anyhow::Result<Option<media::Codec>> {
        let session = self.session.as_mut().context("the call has ended")?;
        session.accept(sdp).map_err(|error| anyhow!("{error}"))?;
        Ok(session.codec())
    }

    /// Replies to an SDP offer within the call, for example a hold.
    pub(crate) fn answer_offer(&mut self, offer: Option<&[u8]>) {
        let leg = self.leg();
        let Some(session) = self.session.as_mut() else { return };
        let answer = match offer {
            Some(offer) => session.answer(offer),
            None => Ok(session.offer()),
        };
        self.sip.post(match answer {
            Ok(sdp) => sip::Command::AnswerOffer { leg, sdp },
            Err(_) => sip::Command::RejectOffer { leg, status: 488, reason: None, headers: Vec::new() },
        });
    }

    /// Sends the offer that the session timer requires (RFC 4028).
    pub(crate) fn refresh(&mut self) {
        let leg = self.leg();
        if let Some(session) = self.session.as_mut() {
            self.sip.post(sip::Command::Offer { leg, sdp: session.offer() });
        }
    }

    /// Refuses a transfer (REFER) with 603.
    pub(crate) fn refuse_transfer(&self) {
        self.sip.post(sip::Command::AnswerRefer { leg: self.leg(), status: 603 });
    }

    /// Plays audio. An event with the returned id reports the end.
    pub(crate) fn play(&mut self, audio: &Arc<media::Audio>) -> anyhow::Result<OpId> {
        let (op, audio) = (self.op(), Arc::clone(audio));
        self.command(media::Command::Play {
            op,
            audio,
            loops: std::num::NonZeroU32::new(1),
            elapsed: std::time::Duration::ZERO,
        })?;
        Ok(op)
    }

    /// Starts to send the audio that the returned writer gets, at most `max_buffer` of it in advance. The audio is linear, at
    /// 8,000 Hz, with the least significant octet first.
    pub(crate) fn feed(&mut self, max_buffer: std::time::Duration) -> anyhow::Result<media::StreamWriter> {
        let codec = media::SourceCodec::L16(media::SourceRate::Hz8000, media::ByteOrder::Little);
        let (source, writer) = media::source(codec, max_buffer);
        let op = self.op();
        self.command(media::Command::Source { op, source })?;
        Ok(writer)
    }

    /// Sends DTMF digits. An event with the returned id reports the end.
    pub(crate) fn press(&mut self, digits: &str) -> anyhow::Result<OpId> {
        let op = self.op();
        self.command(media::Command::SendDigits { op, digits: digits.to_owned(), duration_ms: DIGIT_MS })?;
        Ok(op)
    }

    /// Records the call until its end. The left channel contains the audio of the other side, and the right channel
    /// contains the audio of this side.
    pub(crate) fn record(&mut self, path: &Path) -> anyhow::Result<()> {
        let op = self.op();
        let spec = media::RecordSpec::new(path, media::Channels::Dual);
        self.command(media::Command::Recording(media::RecordingCommand::Start { op, spec }))
    }

    /// Hangs up an answered call, or cancels a call that is not answered.
    pub(crate) fn hang_up(&self) {
        let leg = self.leg();
        self.sip.post(sip::Command::Hangup { leg, status: 480, reason: None, headers: Vec::new() });
    }

    /// Closes the media session after the call. This completes the recording. An event with the statistics follows.
    pub(crate) fn close(&mut self) {
        self.session = None;
    }

    /// Shuts the phone down.
    pub(crate) async fn stop(self) {
        self.sip.shutdown().await;
        let media = self.media;
        // The result is ignored, because the recording is already complete.
        drop(tokio::task::spawn_blocking(move || media.shutdown()).await);
    }

    fn leg(&self) -> LegId {
        LegId(self.key)
    }

    fn op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op)
    }

    fn command(&self, command: media::Command) -> anyhow::Result<()> {
        Ok(self.session.as_ref().context("the call has ended")?.command(command)?)
    }
}
