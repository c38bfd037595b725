//! Live calls by leg, and the ended ones behind them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tandem_call::address::Address;
use tandem_call::command::{Accepted, Refused, Request};
use tandem_call::id::{CallId, LegId, RecordingId};
use tandem_call::leg::{Direction, LegInfo, Status};
use tandem_call::program::instruction::{Credentials, Program};
use tandem_call::recording::{Recording, RecordingSpec};
use tandem_call::stream::StreamSpec;
use tandem_call::{Callback, Target};

/// Every call of the server. Cheap to clone.
#[derive(Clone)]
pub struct Calls {}

impl Calls {
    /// Makes an outbound call. Returns at once: its progress is told by events.
    pub async fn create(&self, _call: NewCall) -> Result<Arc<LegInfo>, CreateError> {
        unimplemented!()
    }

    /// Asks something of a live leg.
    pub async fn request(&self, _leg: LegId, _request: Request) -> Result<Accepted, Refused> {
        unimplemented!()
    }

    /// A leg of this account, live or ended.
    pub async fn get(&self, _account: &str, _leg: LegId) -> Result<Option<Arc<LegInfo>>, StoreFailed> {
        unimplemented!()
    }

    /// Legs of this account, newest first. At most `page.limit + 1` are returned, so that the caller sees whether there are more.
    pub async fn list(
        &self,
        _account: &str,
        _filter: &LegFilter,
        _page: Page,
    ) -> Result<Vec<Arc<LegInfo>>, StoreFailed> {
        unimplemented!()
    }

    /// Forgets an ended leg. `false` if there is none.
    pub async fn delete(&self, _account: &str, _leg: LegId) -> Result<bool, StoreFailed> {
        unimplemented!()
    }
}

/// Every recording of the server. Cheap to clone.
#[derive(Clone)]
pub struct Recordings {}

impl Recordings {
    /// A recording of this account.
    pub async fn get(&self, _account: &str, _id: RecordingId) -> Result<Option<Recording>, StoreFailed> {
        unimplemented!()
    }

    /// A recording by its id alone: its URL is the secret.
    pub async fn get_public(&self, _id: RecordingId) -> Result<Option<Recording>, StoreFailed> {
        unimplemented!()
    }

    /// Recordings of this account, newest first; at most `page.limit + 1`.
    pub async fn list(
        &self,
        _account: &str,
        _filter: &RecordingFilter,
        _page: Page,
    ) -> Result<Vec<Recording>, StoreFailed> {
        unimplemented!()
    }

    /// Forgets a recording and its audio. `false` if there is none.
    pub async fn delete(&self, _account: &str, _id: RecordingId) -> Result<bool, StoreFailed> {
        unimplemented!()
    }

    /// The file with its audio (16-bit PCM WAV, 8 kHz), complete once the recording is completed.
    pub fn path(&self, _id: RecordingId) -> PathBuf {
        unimplemented!()
    }

    /// Its audio as an MPEG layer III file.
    pub async fn mp3(&self, _id: RecordingId) -> std::io::Result<bytes::Bytes> {
        unimplemented!()
    }
}

/// A call to be made.
#[derive(Clone, Debug)]
pub struct NewCall {
    /// Whose.
    pub account: Arc<str>,
    /// The dialect that speaks for it.
    pub dialect: &'static str,
    /// The application it belongs to.
    pub application: Option<Arc<str>>,
    /// Who is called.
    pub to: Address,
    /// Who calls.
    pub from: Address,
    /// Name shown with it.
    pub caller_name: Option<String>,
    /// Extra SIP headers.
    pub headers: Vec<(String, String)>,
    /// For a peer that challenges.
    pub credentials: Option<Credentials>,
    /// How long it may ring.
    pub timeout: Duration,
    /// How long it may last from the answer.
    pub time_limit: Option<Duration>,
    /// What it does once answered.
    pub first: First,
    /// DTMF sent first.
    pub send_digits: Option<String>,
    /// Recorded from the answer.
    pub record: Option<RecordingSpec>,
    /// Streamed from the answer.
    pub stream: Option<StreamSpec>,
    /// Told of its progress.
    pub status: Option<Callback>,
    /// Opaque word of the application.
    pub client_state: Option<String>,
    /// Made within that leg's session.
    pub link_to: Option<LegId>,
    /// Joined to `link_to` when answered.
    pub bridge_on_answer: bool,
}

/// What a new call does once answered.
#[derive(Clone, PartialEq, Debug)]
pub enum First {
    /// Fetch this.
    Document {
        /// The document.
        target: Target,
        /// When it fails.
        fallback: Option<Target>,
    },
    /// Run this.
    Program(Program),
    /// Wait for commands.
    Commands,
}

/// Why a call cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// No trunk takes the number.
    #[error("no trunk takes {0}")]
    NoRoute(String),
    /// `link_to` is not a live leg.
    #[error("no such leg to link to")]
    NoSuchLeg,
    /// Too many calls.
    #[error("the server takes no more calls")]
    Full,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// The database failed; its own words are in the log.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the database failed")]
pub struct StoreFailed;

/// Which legs.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LegFilter {
    /// Exactly this called party.
    pub to: Option<String>,
    /// Exactly this calling party.
    pub from: Option<String>,
    /// Children of this leg.
    pub parent: Option<LegId>,
    /// Legs born in this session.
    pub session: Option<CallId>,
    /// Of this application.
    pub application: Option<String>,
    /// In one of these states; all if empty.
    pub status: Vec<Status>,
    /// In this direction.
    pub direction: Option<Direction>,
    /// Answered (never answered: created) at or after / before.
    pub started: Range,
    /// Ended at or after / before.
    pub ended: Range,
}

/// Which recordings.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RecordingFilter {
    /// Of this leg.
    pub leg: Option<LegId>,
    /// Of this session.
    pub session: Option<CallId>,
    /// Started at or after / before.
    pub started: Range,
}

/// A half-open span of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Range {
    /// At or after.
    pub from: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

/// A part of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// How many, at most 1,000.
    pub limit: usize,
    /// Those after (older than) this id; stable while new ones arrive.
    pub after: Option<u128>,
    /// How many of them to pass over.
    pub offset: usize,
}
