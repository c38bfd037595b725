//! A leg as data, without its handles.
//!
//! ```text
//!   LegIo::write ──────────────► LegIoSnapshot    the machine, header fields, the connection to a leg of this server
//!   LegIo::parts ──(waits)─────► LegParts         what the owners of the handles know: SIP dialogs, the media session
//!   handles of the new process ─► LegIo::read ──► a leg
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tandem_call::header_fields::HeaderFields;
use tandem_call::snapshot::base64_octets;
use tandem_id::{LegId, Now};
use tandem_leg::{Leg, LegSnapshot};
use tandem_media as media;
use tokio::sync::oneshot;

use crate::description::Description;
use crate::internal::InternalSnapshot;
use crate::{LegIo, Signalling};

/// The data of a leg. It contains secrets: descriptions with keys, and header fields of the application.
///
/// The further routes of a leg that is not answered are not data, because they belong to the routing of the process. A
/// leg that continues has only the route that it is trying.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct LegIoSnapshot {
    leg: LegSnapshot,
    headers: HeaderFields,
    handed_back: HeaderFields,
    /// The number of internal calls of the leg's call chain.
    chain: usize,
    /// The connection to the other leg, if the far end is a leg of this server.
    internal: Option<InternalSnapshot>,
}

/// The parts of a leg that the SIP endpoint and the media engine write. They contain secrets: SRTP keys and digits.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LegParts {
    /// The dialogs of the leg and of its branches, by the id of the leg or the branch.
    pub dialogs: BTreeMap<LegId, Arc<str>>,
    /// The media session. `None` if the leg has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<MediaPart>,
}

/// The octets of a media session ([`media::SessionSnapshot::write`]), which are not encrypted.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaPart(#[serde(with = "base64_octets")] pub Bytes);

/// The reason why a part of a leg is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoParts {
    /// The media engine accepts no commands now.
    #[error("the media engine is overloaded")]
    Busy,
    /// The media session cannot be written.
    #[error(transparent)]
    Media(#[from] media::SessionSnapshotError),
}

impl LegIoSnapshot {
    /// Returns the connection to the other leg, if the far end is a leg of this server.
    pub fn internal(&self) -> Option<InternalSnapshot> {
        self.internal
    }
}

impl LegIo {
    /// Writes the leg. Poll every report first: reports are not part of the data.
    pub fn write(&self, now: Now) -> LegIoSnapshot {
        LegIoSnapshot {
            leg: self.leg.write(now),
            headers: self.headers.clone(),
            handed_back: self.handed_back.clone(),
            chain: self.call_chain.count(),
            internal: match &self.signalling {
                Signalling::Internal(internal) => Some(internal.write()),
                Signalling::Sip(_) | Signalling::Web(_) => None,
            },
        }
    }

    /// Asks the SIP endpoint and the media engine for the parts of this leg. The leg need not live until the answer. A
    /// session that is closing is not part of the answer.
    pub fn parts(&self, now: Now) -> impl Future<Output = Result<LegParts, NoParts>> + Send + use<> {
        let ids: Vec<LegId> = std::iter::once(self.leg.id()).chain(self.leg.branches()).collect();
        let dialogs = match &self.signalling {
            Signalling::Sip(sip) => Some(sip.dialogs(now, ids)),
            Signalling::Internal(_) | Signalling::Web(_) => None,
        };
        let (taken, snapshot) = oneshot::channel();
        // The receiver may have been dropped.
        let asked = self.media.as_ref().map(|media| media.session.snapshot(move |snapshot| drop(taken.send(snapshot))));
        async move {
            let mut parts = LegParts::default();
            if let Some(dialogs) = dialogs {
                parts.dialogs = dialogs.await;
            }
            if let Some(asked) = asked {
                asked.map_err(|media::Busy| NoParts::Busy)?;
                if let Ok(snapshot) = snapshot.await {
                    parts.media = Some(MediaPart(snapshot.write(|plain| plain)?.into()));
                }
            }
            Ok(parts)
        }
    }

    /// Reads a leg that [`LegIo::write`] has written, with the handles of this process. The media session has no codec
    /// preference of another leg.
    pub fn read(snapshot: LegIoSnapshot, signalling: Signalling, session: Option<media::Session>, now: Now) -> Self {
        let LegIoSnapshot { leg, headers, handed_back, chain, internal: _ } = snapshot;
        let mut leg = Leg::read(leg, now);
        // This process does not know the further routes.
        leg.keep_route();
        let media = session.map(|session| Description::new(session, media::Preference::default(), Vec::new()));
        let call_chain = match &signalling {
            Signalling::Internal(internal) => internal.call_chain().clone(),
            Signalling::Sip(_) | Signalling::Web(_) => crate::internal::CallChain::with(chain),
        };
        Self { leg, media, headers, handed_back, call_chain, ..Self::outgoing(LegId(0), signalling) }
    }
}
