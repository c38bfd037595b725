//! Recordings on the disk of another node of the cluster: those that wait for the bucket, and all if there is no bucket.
//! The node that needs a file reads it from the owner in parts, and keeps a copy.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use tandem_causes::Cause;
use tandem_cluster::{AskError, Cluster, Note, Question};
use tandem_id::RecordingId;
use tandem_id::node::NodeTag;
use tandem_store::nodes::NodeRow;
use tokio::io::AsyncWriteExt as _;

use super::files::{Place, RecordingFiles, blocking};

/// Maximum number of octets of a part. In base64, the part is smaller than a message of the bus.
const PART: u64 = 512 * 1024;

/// Asks for a part of a recording's file.
#[derive(Serialize, Deserialize)]
struct PartOf {
    recording: RecordingId,
    from: u64,
}

/// A recording was deleted: each node removes its file or its copy.
#[derive(Serialize, Deserialize)]
struct Deleted {
    recording: RecordingId,
}

impl Note for Deleted {
    const NAME: &'static str = "recording-deleted";
}

/// A part of a file.
#[derive(Serialize, Deserialize)]
struct Part {
    /// The octets of the part, in base64. Empty at the end of the file.
    octets: String,
    /// Number of octets of the file.
    length: u64,
}

/// The owner of a recording does not answer. A later request may succeed.
#[derive(Debug, thiserror::Error)]
#[error("the recording is on the disk of node {node}: {error}")]
pub(super) struct OwnerAway {
    node: String,
    error: AskError,
}

impl OwnerAway {
    pub(super) fn cause(&self) -> Cause {
        if self.error == AskError::NoNode { Cause::NodeDied } else { Cause::BusAway }
    }
}

impl Question for PartOf {
    const NAME: &'static str = "recording";
    /// `None` if the file is not on the disk of the owner, or is in the bucket.
    type Answer = Option<Part>;
}

impl RecordingFiles {
    /// Connects the files with those of the other nodes.
    #[must_use]
    pub fn with_cluster(mut self, cluster: &Cluster) -> Self {
        self.cluster = cluster.clone();
        let files = self.clone();
        cluster.listen(move |deleted: Deleted, _| {
            let files = files.clone();
            tokio::spawn(async move {
                if let Err(error) = files.remove_local(deleted.recording).await {
                    tracing::warn!(%error, recording = %deleted.recording, "the audio of a deleted recording stays");
                }
            });
        });
        let files = self.clone();
        cluster.answer(move |asked: PartOf| {
            let files = files.clone();
            async move { files.part(asked).await.inspect_err(|error| tracing::warn!(%error, "a recording")).ok().flatten() }
        });
        self
    }

    /// Tells the other nodes that a recording was deleted.
    pub(super) fn tell_deleted(&self, recording: RecordingId) {
        self.cluster.post(&Deleted { recording });
    }

    /// Returns the other nodes on whose disk a recording may be: its owner. If the owner was started again since, and there
    /// is no bucket, it may be any node.
    pub(super) fn holders(&self, id: RecordingId) -> Vec<NodeRow> {
        let is_own = self.cluster.tag() == Some(NodeTag::of_id(id.0));
        match self.cluster.other_owner_of(id.0) {
            Some(owner) => vec![owner],
            None if is_own || self.bucket.is_some() => Vec::new(),
            None => self.cluster.others(),
        }
    }

    /// Copies the file of a recording from one of the nodes, as [`Self::fetch_from`] does.
    pub(super) async fn fetch(&self, nodes: &[NodeRow], id: RecordingId, to: &Path, known: &Path) -> io::Result<bool> {
        let mut failed = None;
        for node in nodes {
            match self.fetch_from(node, id, to, known).await {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(false), Err)
    }

    async fn part(&self, asked: PartOf) -> io::Result<Option<Part>> {
        // A file that is also in the bucket is read from there.
        let place = if self.bucket.is_some() { Place::Waiting } else { Place::Running };
        let path = self.path_in(place, asked.recording);
        let read = blocking(move || {
            let mut file = std::fs::File::open(path)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(asked.from))?;
            let mut octets = Vec::new();
            file.take(PART).read_to_end(&mut octets)?;
            Ok(Part { octets: BASE64_STANDARD.encode(octets), length })
        });
        match read.await {
            Ok(part) => Ok(Some(part)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Copies the file of a recording from its owner to `to`. Returns `false` if the owner has no such file. If a copy
    /// with the same length is at `known`, nothing is copied, and `to` does not exist afterwards.
    async fn fetch_from(&self, owner: &NodeRow, id: RecordingId, to: &Path, known: &Path) -> io::Result<bool> {
        let away = |error| io::Error::other(OwnerAway { node: owner.name.clone(), error });
        let mut file: Option<tokio::fs::File> = None;
        let mut from = 0;
        loop {
            let asked = self.cluster.ask(owner, &PartOf { recording: id, from }).await;
            let Some(part) = asked.map_err(away)? else { return Ok(false) };
            let octets = BASE64_STANDARD.decode(part.octets).map_err(io::Error::other)?;
            let output = match &mut file {
                Some(file) => file,
                None => {
                    if tokio::fs::metadata(known).await.is_ok_and(|known| known.len() == part.length) {
                        return Ok(true);
                    }
                    if let Some(folder) = to.parent() {
                        tokio::fs::create_dir_all(folder).await?;
                    }
                    file.insert(tokio::fs::File::create(to).await?)
                }
            };
            output.write_all(&octets).await?;
            from += octets.len() as u64;
            if octets.is_empty() || from >= part.length {
                output.sync_data().await?;
                return Ok(true);
            }
        }
    }
}
