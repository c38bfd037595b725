//! The audio of the pieces of a conversation, from its production to the buffer of the media session. Speech is played while
//! the engine still makes it.
//!
//! ```text
//!   Make ──► production (a task) ──parts──► piece ──Put──► line of pieces ──► buffer of the media session
//! ```
//!
//! The buffer gets the pieces one after another. If a piece is not complete yet, the next pieces wait in the line. A mark
//! follows the last audio of each piece.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tandem_audio::{AudioError, AudioLoader, AudioPart};
use tandem_call::program::instruction::AudioSource;
use tandem_id::AccountName;
use tandem_media as media;
use tandem_speech::VoiceSession;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

/// Number of parts that wait for the conversation.
const PARTS: usize = 64;
/// Number of samples of a piece that must be there before the piece can begin: 100 ms. So the network may delay the next
/// samples a little.
const HEAD: usize = 800;

/// The audio of a conversation.
pub(super) struct Playout {
    loader: AudioLoader,
    session: Arc<VoiceSession>,
    account: AccountName,
    writer: media::StreamWriter,
    pieces: HashMap<u64, Piece>,
    /// The pieces that are put, and whose audio is not completely in the buffer of the media session.
    line: VecDeque<u64>,
    makers: JoinSet<()>,
    sender: mpsc::Sender<(u64, Part)>,
    parts: mpsc::Receiver<(u64, Part)>,
    /// Number of times that the buffer was cleared. A mark that was set before the latest clear is ignored.
    cleared: u64,
}

/// A part of a piece. `None` means the end of the piece.
pub(super) type Part = Option<Result<AudioPart, AudioError>>;

/// The change that a part makes to its piece.
#[derive(Debug, PartialEq)]
pub(super) enum Progress {
    /// The piece can begin to play. Its length is not known yet.
    Began,
    /// The piece is complete. The field is its length.
    Complete(Duration),
    /// An engine failed, and another engine speaks in its place.
    InsteadOf(String),
    /// There is no more audio for this reason. The caller hears the audio so far, which has this length.
    Failed(String, Duration),
}

/// The audio of a piece.
struct Piece {
    audio: Vec<Bytes>,
    /// Number of samples in `audio`.
    samples: usize,
    /// Number of entries of `audio` that are in the buffer of the media session.
    written: usize,
    began: bool,
    is_complete: bool,
    maker: AbortHandle,
}

impl Playout {
    pub(super) fn new(loader: AudioLoader, account: AccountName, writer: media::StreamWriter) -> Self {
        let (sender, parts) = mpsc::channel(PARTS);
        let session = Arc::new(loader.voice().session());
        let (pieces, line) = (HashMap::new(), VecDeque::new());
        Self { loader, session, account, writer, pieces, line, makers: JoinSet::new(), sender, parts, cleared: 0 }
    }

    /// Starts to produce the audio of a piece.
    pub(super) fn make(&mut self, id: u64, source: AudioSource) {
        // The tasks that have ended leave the set.
        while self.makers.try_join_next().is_some() {}
        let (loader, session, account) = (self.loader.clone(), Arc::clone(&self.session), self.account.clone());
        let sender = self.sender.clone();
        let maker = self.makers.spawn(async move {
            let mut stream = loader.stream(&session, &source, &account);
            loop {
                let part = stream.next().await;
                let is_last = !matches!(part, Some(Ok(_)));
                // The conversation may have ended.
                if sender.send((id, part)).await.is_err() || is_last {
                    return;
                }
            }
        });
        let (audio, samples, written) = (Vec::new(), 0, 0);
        self.pieces.insert(id, Piece { audio, samples, written, began: false, is_complete: false, maker });
    }

    /// Returns the next part of any piece. Cancel-safe.
    pub(super) async fn next(&mut self) -> (u64, Part) {
        match self.parts.recv().await {
            Some(part) => part,
            // `sender` keeps the channel open.
            None => std::future::pending().await,
        }
    }

    /// Takes a part of a piece. Returns what the part changes, and the piece that does not fit into the buffer of the media
    /// session, if there is one.
    pub(super) fn take(&mut self, id: u64, part: Part) -> (Option<Progress>, Option<u64>) {
        let Some(piece) = self.pieces.get_mut(&id).filter(|piece| !piece.is_complete) else { return (None, None) };
        let progress = match part {
            Some(Ok(AudioPart::Samples(samples))) => {
                let octets: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
                piece.samples += samples.len();
                piece.audio.push(octets.into());
                let begins = piece.samples >= HEAD && !std::mem::replace(&mut piece.began, piece.samples >= HEAD);
                begins.then_some(Progress::Began)
            }
            Some(Ok(AudioPart::InsteadOf(why))) => Some(Progress::InsteadOf(why)),
            Some(Err(why)) => {
                piece.is_complete = true;
                Some(Progress::Failed(why.to_string(), piece.length()))
            }
            None => {
                piece.is_complete = true;
                Some(Progress::Complete(piece.length()))
            }
        };
        (progress, self.write())
    }

    /// Appends the audio of a piece to the line, and a mark behind the audio. Returns the piece that does not fit into the
    /// buffer of the media session, if there is one.
    pub(super) fn put(&mut self, id: u64) -> Option<u64> {
        if let Some(piece) = self.pieces.get_mut(&id) {
            piece.written = 0;
        }
        self.line.push_back(id);
        self.write()
    }

    /// Drops the audio of a piece, or ends its production.
    pub(super) fn forget(&mut self, id: u64) {
        if let Some(piece) = self.pieces.remove(&id) {
            piece.maker.abort();
        }
    }

    /// Drops the audio that is put and not played yet. The marks of this audio become invalid.
    pub(super) fn clear(&mut self) {
        self.cleared += 1;
        self.line.clear();
        self.writer.clear();
    }

    pub(super) fn pause(&self) {
        self.writer.pause();
    }

    pub(super) fn resume(&self) {
        self.writer.resume();
    }

    /// Returns the piece to which this mark belongs. Returns `None` if the mark was set before the latest clear.
    pub(super) fn piece_of(&self, mark: &str) -> Option<u64> {
        let (cleared, piece) = mark.split_once(':')?;
        (cleared.parse() == Ok(self.cleared)).then(|| piece.parse().ok())?
    }

    /// Writes the audio that is there to the buffer of the media session. If a piece does not fit, its mark follows at once,
    /// because no further audio of the piece is played. Returns this piece.
    fn write(&mut self) -> Option<u64> {
        let mut too_long = None;
        while let Some(id) = self.line.front().copied() {
            if let Some(piece) = self.pieces.get_mut(&id) {
                while let Some(octets) = piece.audio.get(piece.written) {
                    piece.written += 1;
                    if self.writer.audio(octets.clone()).is_err() {
                        too_long = Some(id);
                        piece.written = piece.audio.len();
                        piece.maker.abort();
                        piece.is_complete = true;
                    }
                }
                if !piece.is_complete {
                    break;
                }
            }
            self.writer.mark(format!("{}:{id}", self.cleared).into());
            self.line.pop_front();
        }
        too_long
    }
}

impl Piece {
    /// The length of the audio so far. There are 8,000 samples in a second.
    fn length(&self) -> Duration {
        Duration::from_micros(self.samples as u64 * 125)
    }
}
