//! Audio files of applications, fetched over HTTP and cached as a shared HTTP cache (RFC 9111).
//!
//! ```text
//!   no entry ------------ GET ------> 200: decode, store the audio if the response permits it
//!   fresh entry ---------------------> the stored audio, without a request
//!   stale entry -- conditional GET --> 304: the stored audio, with the new headers; 200: as without an entry
//! ```
//!
//! A response without explicit freshness (`max-age`, `s-maxage`, `Expires`) is never fresh, so an application that
//! writes new audio to the same URL is heard at once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode, header, request, response};
use http_cache_semantics::{AfterResponse, BeforeRequest, CacheOptions, CachePolicy};
use moka::future::Cache;
use tandem_host::clock;
use tandem_http::{Budget, Client, FetchError, RedirectRules, Response, without_credentials};
use tandem_id::AccountName;
use tandem_media::Audio;
use tandem_shares::{ParentOf, PerAccount};
use tokio::sync::Mutex;
use tokio::time::timeout;
use url::Url;

use super::{
    ACCEPT, ACCOUNT_IN_FLIGHT, AudioError, CACHE, CACHE_IDLE, IN_FLIGHT, MAX_FILE, check_status, decode, weight,
};

/// Size of an entry in octets, in addition to its URL and its audio.
const ENTRY: usize = 2 * 1024;
/// Maximum time for which a call waits for another call that already fetches the same file. Then the call fetches the
/// file itself.
const WAIT: Duration = Duration::from_secs(2);
/// Maximum number of locks.
const GATES: u64 = 10_000;
/// The options of the cache. Many callers share the cache. The server assumes no freshness from `Last-Modified`,
/// and none from `immutable` alone.
const OPTIONS: CacheOptions = CacheOptions {
    shared: true,
    cache_heuristic: 0.0,
    immutable_min_time_to_live: Duration::ZERO,
    ignore_cargo_cult: false,
};

/// The fetched files. This type is cheap to clone.
#[derive(Clone)]
pub(crate) struct FetchedAudio {
    client: Client,
    in_flight: Budget,
    /// The part of each account in `in_flight`.
    parts: Arc<PerAccount<Budget>>,
    cache: Cache<Key, Entry>,
    /// A lock for each file that is being fetched. Calls that want a file at the same time share one request if the
    /// response permits it.
    gates: Cache<Key, Arc<Mutex<()>>>,
}

/// The identity of a file. The URL includes the user name and the password.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    url: String,
    /// The account, if the account has its own `[[origins]]`. They may map the URL to another file.
    account: Option<AccountName>,
}

#[derive(Clone)]
enum Entry {
    Stored {
        audio: Arc<Audio>,
        policy: Arc<CachePolicy>,
        /// Whether the response was fresh when it arrived.
        reusable: bool,
    },
    /// The last response may not be stored: a redirect, an error, or audio for only one use.
    NotStorable,
}

enum Hop {
    Audio(Arc<Audio>),
    Redirect(Url),
}

impl Entry {
    /// Whether one response can serve several calls that wait for it.
    fn can_be_shared(&self) -> bool {
        match self {
            Self::Stored { reusable, .. } => *reusable,
            Self::NotStorable => false,
        }
    }

    fn fresh(&self) -> Option<Arc<Audio>> {
        let Self::Stored { audio, policy, .. } = self else { return None };
        let fresh = matches!(policy.before_request(&cache_request(), now()), BeforeRequest::Fresh(_));
        fresh.then(|| Arc::clone(audio))
    }
}

impl FetchedAudio {
    pub(crate) fn new(client: Client) -> Self {
        let parts = Arc::new(PerAccount::new(|| Budget::new(ACCOUNT_IN_FLIGHT)));
        let weigh = |key: &Key, entry: &Entry| {
            let audio = if let Entry::Stored { audio, .. } = entry { weight(audio) } else { 0 };
            audio.saturating_add(u32::try_from(ENTRY + key.url.len()).unwrap_or(u32::MAX))
        };
        let cache = Cache::builder().max_capacity(CACHE).weigher(weigh).time_to_idle(CACHE_IDLE).build();
        let gates = Cache::builder().max_capacity(GATES).time_to_idle(WAIT).build();
        Self { client, in_flight: Budget::new(IN_FLIGHT), parts, cache, gates }
    }

    /// Sets the function that returns the main account of a subaccount, whose part a subaccount uses.
    pub(crate) fn share(&self, parent_of: ParentOf) {
        self.parts.share(parent_of);
    }

    /// Returns the audio at this URL. A stored file is used if its server permits it.
    pub(crate) async fn get(&self, url: &str, account: &AccountName) -> Result<Arc<Audio>, AudioError> {
        self.follow(url, account, true).await
    }

    /// Requests the audio at this URL without the cache.
    pub(crate) async fn get_uncached(&self, url: &str, account: &AccountName) -> Result<Arc<Audio>, AudioError> {
        self.follow(url, account, false).await
    }

    async fn follow(&self, url: &str, account: &AccountName, cached: bool) -> Result<Arc<Audio>, AudioError> {
        let part = self.parts.of(account);
        let client = self.client.of_account(account).with_budget(self.in_flight.with_part(&part));
        let limit = RedirectRules::PROVIDER.limit;
        let mut url = url.to_owned();
        for _ in 0..=limit {
            let key = Key { url, account: client.account_with_origins() };
            let hop = match cached {
                true => self.hop(&client, &key).await?,
                false => exchange(&client, &key, None).await?.0,
            };
            match hop {
                Hop::Audio(audio) => return Ok(audio),
                Hop::Redirect(target) => url = target.into(),
            }
        }
        Err(unusable(FetchError::TooManyRedirects(limit)))
    }

    async fn hop(&self, client: &Client, key: &Key) -> Result<Hop, AudioError> {
        let mut entry = self.cache.get(key).await;
        let mut turn = None;
        if entry.as_ref().and_then(Entry::fresh).is_none() && entry.as_ref().is_none_or(Entry::can_be_shared) {
            let gate: Arc<Mutex<()>> = self.gates.get_with(key.clone(), async { Arc::default() }).await;
            turn = timeout(WAIT, gate.lock_owned()).await.ok();
            entry = self.cache.get(key).await;
        }
        if let Some(audio) = entry.as_ref().and_then(Entry::fresh) {
            return Ok(Hop::Audio(audio));
        }
        if entry.as_ref().is_some_and(|entry| !entry.can_be_shared()) {
            drop(turn.take());
        }
        let stored = match entry {
            Some(Entry::Stored { audio, policy, .. }) => Some((audio, policy)),
            Some(Entry::NotStorable) | None => None,
        };
        let is_stored = stored.is_some();
        match exchange(client, key, stored).await {
            Ok((hop, entry)) => {
                self.cache.insert(key.clone(), entry).await;
                Ok(hop)
            }
            Err(error) => {
                // The next calls do not wait for each other. Stored audio stays: its server may answer again.
                if !is_stored {
                    self.cache.insert(key.clone(), Entry::NotStorable).await;
                }
                Err(error)
            }
        }
    }
}

/// Sends one request. If there is stored audio, the request is conditional. Returns the result and the new entry.
async fn exchange(
    client: &Client,
    key: &Key,
    stored: Option<(Arc<Audio>, Arc<CachePolicy>)>,
) -> Result<(Hop, Entry), AudioError> {
    let cache_request = cache_request();
    let conditions = match stored.as_ref().map(|(_, policy)| policy.before_request(&cache_request, now())) {
        Some(BeforeRequest::Stale { request, .. }) => request.headers,
        Some(BeforeRequest::Fresh(_)) | None => HeaderMap::new(),
    };
    let url = Url::parse(&key.url).map_err(unusable)?;
    let mut headers = Vec::new();
    for name in [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
        let value = conditions.get(&name).and_then(|value| value.to_str().ok());
        headers.extend(value.map(|value| (name.to_string(), value.to_owned())));
    }
    let response = client.send(&super::request(&key.url, headers, MAX_FILE)).await.map_err(unusable)?;
    if let Some(target) = response.redirect_target(&url).map_err(unusable)? {
        return Ok((Hop::Redirect(target), Entry::NotStorable));
    }
    let mut answer = parts(&response)?;
    if response.status == 304
        && let Some((audio, policy)) = stored
    {
        // The conditions name one stored response. So a 304 without validators speaks of this response (RFC 9111
        // §4.3.4).
        for (condition, validator) in
            [(header::IF_NONE_MATCH, header::ETAG), (header::IF_MODIFIED_SINCE, header::LAST_MODIFIED)]
        {
            if let Some(value) = conditions.get(condition) {
                answer.headers.entry(validator).or_insert_with(|| value.clone());
            }
        }
        return match policy.after_response(&cache_request, &answer, now()) {
            AfterResponse::NotModified(policy, _) => Ok((Hop::Audio(Arc::clone(&audio)), entry(audio, policy))),
            AfterResponse::Modified(..) => Box::pin(exchange(client, key, None)).await,
        };
    }
    check_status(&without_credentials(&key.url), response.status)?;
    let content_type = response.header("content-type").map(str::to_owned);
    let policy = CachePolicy::new_options(&cache_request, &answer, now(), OPTIONS);
    let audio = decode(response.body, content_type).await?;
    Ok((Hop::Audio(Arc::clone(&audio)), entry(audio, policy)))
}

/// The entry for a response that arrives now.
fn entry(audio: Arc<Audio>, policy: CachePolicy) -> Entry {
    let reusable = policy.is_storable() && !policy.is_stale(now());
    // With a validator, the server can say later that the audio is unchanged.
    let can_be_validated = match policy.before_request(&cache_request(), now()) {
        BeforeRequest::Stale { request, .. } => {
            [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE].iter().any(|name| request.headers.contains_key(name))
        }
        BeforeRequest::Fresh(_) => true,
    };
    match policy.is_storable() && can_be_validated {
        true => Entry::Stored { audio, policy: Arc::new(policy), reusable },
        false => Entry::NotStorable,
    }
}

/// The request as the cache sees it. All requests for files are equal, and the key has the URL and the credentials.
fn cache_request() -> request::Parts {
    let mut request = http::Request::new(());
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(ACCEPT));
    request.into_parts().0
}

fn parts(response: &Response) -> Result<response::Parts, AudioError> {
    let mut parts = http::Response::new(()).into_parts().0;
    parts.status = StatusCode::from_u16(response.status).map_err(unusable)?;
    parts.headers = response.headers.clone();
    // Directives are case-insensitive (RFC 9111 §5.2), but CachePolicy compares them with names in lower case.
    for (_, value) in parts.headers.iter_mut().filter(|(name, _)| *name == header::CACHE_CONTROL) {
        let lower = HeaderValue::from_bytes(&value.as_bytes().to_ascii_lowercase());
        *value = lower.unwrap_or_else(|_| HeaderValue::from_static("no-store"));
    }
    Ok(parts)
}

fn now() -> SystemTime {
    clock::time().into()
}

fn unusable(error: impl ToString) -> AudioError {
    AudioError::Unusable(error.to_string())
}

#[cfg(test)]
mod tests;
