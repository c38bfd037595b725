//! A SIP phone for one call at a time, built from the same SIP and media engines as the server.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tandem_id::{LegId, OpId};
use tandem_media as media;
use tandem_sip as sip;
use tokio::sync::mpsc;

/// Time limit for each step of the phone.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum number of events that wait for the phone. A phone of the demo has some ten. A further event is lost, and the step
/// that waits for it fails.
const EVENTS: usize = 256;

/// A phone with its own SIP socket and RTP ports.
pub(super) struct Phone {
    name: &'static str,
    sip: sip::transport::Handle,
    media: media::Engine,
    key: u128,
    session: Option<media::Session>,
    inputs: mpsc::Receiver<PhoneEvent>,
    sender: mpsc::Sender<PhoneEvent>,
    next_op: u64,
}

enum PhoneEvent {
    Sip(sip::Event),
    Media(media::Event),
}

impl Phone {
    /// Starts the phone on loopback with free ports.
    pub(super) async fn start(name: &'static str, ports: &str) -> anyhow::Result<Self> {
        let (sender, inputs) = mpsc::channel(EVENTS);
        let anyone = ["127.0.0.0/8"].iter().filter_map(|network| network.parse().ok()).collect();
        let config = sip::Config {
            listen: vec!["udp://127.0.0.1:0".to_owned()],
            trunks: vec![sip::TrunkAcl { name: "anyone".into(), networks: anyone }],
            user_agent: format!("Tandem demo phone ({name})"),
            trace: false,
            ..sip::Config::default()
        };
        let events = sender.clone();
        let sip = sip::transport::start(config, move |event| drop(events.try_send(PhoneEvent::Sip(event)))).await?;
        let ports = ports.parse().map_err(|error: String| anyhow!(error))?;
        let media = media::Engine::start(media::Config { ports, workers: 1, ..media::Config::default() })?;
        Ok(Self { name, sip, media, key: rand::random(), session: None, inputs, sender, next_op: 0 })
    }

    /// Returns the URI at which the phone can be called.
    pub(super) fn uri(&self) -> String {
        let address = self.sip.local_addrs().first().map(|(_, address)| address.to_string()).unwrap_or_default();
        format!("sip:{}@{address}", self.name)
    }

    /// Calls `uri` with `from` as the caller's number, and waits for the answer.
    pub(super) async fn call(&mut self, uri: &str, from: &str) -> anyhow::Result<()> {
        let mut session = self.open()?;
        let invite = sip::Outgoing {
            request_uri: uri.to_owned(),
            from_user: from.to_owned(),
            sdp: session.offer(),
            ..sip::Outgoing::default()
        };
        self.sip.send(sip::Command::Invite { leg: LegId(self.key), invite: Box::new(invite) })?;
        let answer = self
            .until("answer", |event| match event {
                PhoneEvent::Sip(sip::Event::Answered { sdp, .. }) => Some(Ok(sdp.clone())),
                PhoneEvent::Sip(sip::Event::Ended { status, .. }) => Some(Err(*status)),
                _ => None,
            })
            .await?;
        let answer = answer.map_err(|status| anyhow!("the call was refused with {status:?}"))?;
        session.accept(&answer.context("an answer without SDP")?)?;
        self.session = Some(session);
        Ok(())
    }

    /// Waits for a call and answers it.
    pub(super) async fn answer(&mut self) -> anyhow::Result<()> {
        let (leg, offer) = self
            .until("call", |event| match event {
                PhoneEvent::Sip(sip::Event::Incoming { leg, incoming }) => Some((*leg, incoming.offer.clone())),
                _ => None,
            })
            .await?;
        self.key = leg.0;
        let mut session = self.open()?;
        let sdp = session.answer(&offer.context("a call without an offer")?)?;
        self.session = Some(session);
        self.sip.send(sip::Command::Provisional { leg, status: 180, sdp: None, headers: Vec::new() })?;
        self.sip.send(sip::Command::Answer { leg, sdp, headers: Vec::new() })?;
        Ok(())
    }

    /// Plays audio, and waits until the audio has ended.
    pub(super) async fn say(&mut self, audio: &Arc<media::Audio>) -> anyhow::Result<()> {
        let op = self.op();
        self.command(media::Command::Play {
            op,
            audio: Arc::clone(audio),
            loops: std::num::NonZeroU32::new(1),
            elapsed: Duration::ZERO,
        })?;
        self.until_finished(op).await
    }

    /// Sends DTMF digits (RFC 4733), and waits until all digits have been sent.
    pub(super) async fn press(&mut self, digits: &str) -> anyhow::Result<()> {
        let op = self.op();
        self.command(media::Command::SendDigits { op, digits: digits.to_owned(), duration_ms: 100 })?;
        self.until_finished(op).await
    }

    /// Starts to record the received audio.
    pub(super) fn record(&mut self, path: &Path) -> anyhow::Result<()> {
        let spec = media::RecordSpec {
            track: media::Tracks::Inbound,
            ..media::RecordSpec::new(path.to_owned(), media::Channels::Mono)
        };
        let op = self.op();
        self.command(media::Command::Recording(media::RecordingCommand::Start { op, spec }))
    }

    /// Hangs up, or waits until the other side hangs up. Returns the media statistics.
    pub(super) async fn end(&mut self, hangup: bool) -> anyhow::Result<media::Stats> {
        let leg = LegId(self.key);
        if hangup {
            self.sip.send(sip::Command::Hangup { leg, status: 480, reason: None, headers: Vec::new() })?;
        }
        self.until("end", |event| matches!(event, PhoneEvent::Sip(sip::Event::Ended { .. })).then_some(())).await?;
        self.session = None;
        self.until("final statistics", |event| match event {
            PhoneEvent::Media(media::Event::Closed { stats, .. }) => Some(**stats),
            _ => None,
        })
        .await
    }

    /// Shuts the phone down.
    pub(super) async fn stop(self) {
        self.sip.shutdown().await;
        let media = self.media;
        // The recordings are already complete.
        drop(tokio::task::spawn_blocking(move || media.shutdown()).await);
    }

    fn open(&self) -> anyhow::Result<media::Session> {
        let sender = self.sender.clone();
        let sink: media::EventSink =
            Arc::new(move |_, event| sender.try_send(PhoneEvent::Media(event)).map_err(|_| media::Full));
        Ok(self.media.open(media::OpenSpec::new(LegId(self.key), 0), sink)?)
    }

    fn op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op)
    }

    fn command(&self, command: media::Command) -> anyhow::Result<()> {
        match &self.session {
            Some(session) => Ok(session.command(command)?),
            None => bail!("{}: no call", self.name),
        }
    }

    async fn until_finished(&mut self, op: OpId) -> anyhow::Result<()> {
        let finished = |event: &PhoneEvent| {
            matches!(event, PhoneEvent::Media(media::Event::Finished { op: done, .. }) if *done == op).then_some(())
        };
        self.until("end of its audio", finished).await
    }

    async fn until<T>(&mut self, what: &str, mut pick: impl FnMut(&PhoneEvent) -> Option<T>) -> anyhow::Result<T> {
        let wait = async {
            while let Some(event) = self.inputs.recv().await {
                if let Some(found) = pick(&event) {
                    return Some(found);
                }
            }
            None
        };
        let found = tokio::time::timeout(TIMEOUT, wait).await;
        found.ok().flatten().with_context(|| format!("{}: no {what} within {} s", self.name, TIMEOUT.as_secs()))
    }
}
