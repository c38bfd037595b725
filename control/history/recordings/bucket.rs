//! The S3 bucket of recordings. Each recording is one object, with the octets of its file: encrypted files stay encrypted.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::path::Path as Key;
use object_store::{ClientOptions, Error, ObjectStore, ObjectStoreExt as _, RetryConfig};
use tandem_id::RecordingId;
use tandem_settings::RecordingsConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio_util::io::StreamReader;

/// Time for the connection to the bucket's server.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for one request. An upload has one request for each [`PART`].
const REQUEST: Duration = Duration::from_secs(60);
/// Size of the parts of an upload, in octets. A smaller file is uploaded with one request. One part of each running upload is
/// in memory. A file has at most 10,000 parts: 80 GB, or 60 days of both channels.
const PART: u64 = 8 * 1024 * 1024;
/// Maximum number of objects that are fetched at the same time. Further requests wait.
const FETCHES: usize = 8;
/// Name of the object that shows at the start of the server whether the bucket accepts objects.
const PROBE: &str = ".tandem";

/// The bucket, and the prefix of the names in it.
#[derive(Debug)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    /// `s3://BUCKET/PREFIX`, without a final slash.
    url: String,
    fetches: Semaphore,
}

/// The bucket failed. The text has the reason.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {reason}")]
pub struct BucketError {
    url: String,
    reason: String,
    /// Whether the bucket has refused the request: the settings are wrong, and a repetition does not help.
    pub is_refused: bool,
}

impl Bucket {
    /// Creates the access to the bucket of `recordings.url`. `None` if the URL names a folder. The error describes the
    /// fault of the settings.
    pub(super) fn new(config: &RecordingsConfig) -> Result<Option<Self>, String> {
        let Some((name, prefix)) = config.bucket() else { return Ok(None) };
        // Without these settings: the variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION ..., or the role of
        // the machine.
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(name);
        let s3 = &config.s3;
        if let Some(endpoint) = &s3.endpoint {
            builder = builder.with_endpoint(&**endpoint);
        }
        if let Some(region) = &s3.region {
            builder = builder.with_region(&**region);
        }
        if let (Some(id), Some(key)) = (&s3.access_key_id, &s3.secret_access_key) {
            builder = builder.with_access_key_id(&**id).with_secret_access_key(key.expose());
        }
        let is_plain = s3.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        // The HTTP client of the library takes the provider of the process. An error means that there is one already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let options =
            ClientOptions::new().with_connect_timeout(CONNECT).with_timeout(REQUEST).with_allow_http(is_plain);
        let retry = RetryConfig { max_retries: 2, retry_timeout: REQUEST, ..RetryConfig::default() };
        let store =
            builder.with_client_options(options).with_retry(retry).build().map_err(|error| error.to_string())?;
        let prefix = Key::parse(prefix).map_err(|error| error.to_string())?;
        let url = config.url.trim_end_matches('/').to_owned();
        Ok(Some(Self { store: Arc::new(store), prefix, url, fetches: Semaphore::new(FETCHES) }))
    }

    #[cfg(test)]
    pub(super) fn of(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            prefix: Key::from("tests"),
            url: "s3://bucket/tests".to_owned(),
            fetches: Semaphore::new(FETCHES),
        }
    }

    /// Returns the URL of a recording's object.
    pub(super) fn url_of(&self, id: RecordingId) -> String {
        format!("{}/{id}.wav", self.url)
    }

    fn key(&self, id: RecordingId) -> Key {
        self.prefix.clone().join(format!("{id}.wav"))
    }

    /// Writes a small object, to find out whether the bucket exists and accepts objects.
    pub(super) async fn try_write(&self) -> Result<(), BucketError> {
        let (probe, text) = (self.prefix.clone().join(PROBE), "This bucket has recordings of Tandem.\n");
        self.store.put(&probe, text.into()).await.map(drop).map_err(|error| self.failed(error))
    }

    /// Uploads a file. The outer error is that of the file.
    pub(super) async fn put(&self, id: RecordingId, path: &Path) -> io::Result<Result<(), BucketError>> {
        let mut file = tokio::fs::File::open(path).await?;
        let key = self.key(id);
        if file.metadata().await?.len() <= PART {
            let content = part(&mut file).await?.unwrap_or_default();
            return Ok(self.store.put(&key, content.into()).await.map(drop).map_err(|error| self.failed(error)));
        }
        let mut upload = match self.store.put_multipart(&key).await {
            Ok(upload) => upload,
            Err(error) => return Ok(Err(self.failed(error))),
        };
        let result = loop {
            match part(&mut file).await {
                Ok(Some(content)) => {
                    if let Err(error) = upload.put_part(content.into()).await {
                        break Ok(Err(self.failed(error)));
                    }
                }
                Ok(None) => break Ok(upload.complete().await.map(drop).map_err(|error| self.failed(error))),
                Err(error) => break Err(error),
            }
        };
        if !matches!(result, Ok(Ok(()))) {
            // The parts are of no use. If this request fails too, the bucket's own rule for incomplete uploads removes them.
            let _ = upload.abort().await;
        }
        result
    }

    /// Fetches a recording into a new file. The error is `NotFound` if the bucket does not have the recording. A
    /// [`BucketError`] is inside of an error of another kind.
    pub(super) async fn fetch(&self, id: RecordingId, to: &Path) -> io::Result<()> {
        let _permit = self.fetches.acquire().await.map_err(io::Error::other)?;
        let found = match self.store.get(&self.key(id)).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Err(io::ErrorKind::NotFound.into()),
            Err(error) => return Err(io::Error::other(self.failed(error))),
        };
        let mut file = tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).await?;
        let octets =
            futures_util::TryStreamExt::map_err(found.into_stream(), |error| io::Error::other(self.failed(error)));
        tokio::io::copy(&mut StreamReader::new(octets), &mut file).await?;
        file.flush().await
    }

    /// Deletes a recording. It is no error if the bucket does not have the recording.
    pub(super) async fn delete(&self, id: RecordingId) -> Result<(), BucketError> {
        match self.store.delete(&self.key(id)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: Error) -> BucketError {
        let is_refused =
            matches!(error, Error::NotFound { .. } | Error::PermissionDenied { .. } | Error::Unauthenticated { .. });
        BucketError { url: self.url.clone(), reason: reason(&error), is_refused }
    }
}

/// Reads the next part of a file. `None` at its end.
async fn part(file: &mut tokio::fs::File) -> io::Result<Option<Vec<u8>>> {
    let mut content = Vec::new();
    file.take(PART).read_to_end(&mut content).await?;
    Ok(Some(content).filter(|content| !content.is_empty()))
}

/// Returns the innermost text of an error, and the message of the bucket's server. The texts around it repeat it and add
/// the request.
fn reason(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    let first = text.lines().next().unwrap_or_default();
    // The server's own words are in XML.
    let own = text.split_once("<Message>").and_then(|(_, rest)| Some(rest.split_once("</Message>")?.0));
    let shown = match (own, first.split_once(": <?xml")) {
        (Some(own), Some((status, _))) => format!("{status}: {own}"),
        _ => first.to_owned(),
    };
    shown.chars().take(300).collect()
}
