//! The certificates of signers. This server fetches a certificate from the URL in a signature, and caches the
//! certificate.
//!
//! A URL comes from the network and is not trusted. The URL must be an HTTPS URL with one of the configured ports and a
//! public address. The server follows no redirects, limits the size of answers, and makes few fetches at the same time.
//! Calls that need the same certificate share one fetch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use moka::Expiry;
use moka::future::Cache;
use tandem_host::clock;
use tandem_http::{Client, Request, Response, Timeouts};
use tandem_sip::stir::{Anchors, Certificate, Fault};
use tokio::sync::Semaphore;
use url::Url;

/// Time limit of a fetch, including the time in its queue.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of simultaneous fetches. Further fetches wait.
const MAX_FETCHES: usize = 16;
/// Maximum size of a certificate file, in octets.
const LARGEST: usize = 64 * 1_024;
/// Maximum number of cached certificates. If there are more certificates, the certificate with the least use is
/// removed.
const MAX_CACHED: u64 = 512;
/// Default and maximum time for which a certificate is cached.
const CACHE_TIME: Duration = Duration::from_secs(3_600);
/// Minimum time for which a certificate is cached.
const MIN_CACHE_TIME: Duration = Duration::from_secs(60);
/// Time after which a failed fetch is repeated. An unusable certificate is also fetched again after this time.
const FAILURE_CACHE_TIME: Duration = Duration::from_secs(15);

/// The certificates of signers by URL. All clones share the cache.
#[derive(Clone)]
pub(super) struct Certificates(Arc<Shared>);

struct Shared {
    fetcher: Fetcher,
    anchors: Anchors,
    cache: Cache<String, Arc<CachedCertificate>>,
}

struct CachedCertificate {
    found: Result<Trusted, Fault>,
    lifetime: Duration,
}

/// A certificate with a valid chain to a trusted authority.
struct Trusted {
    certificate: Arc<Certificate>,
    /// Time in seconds since 1970. The chain needs no new check before this time.
    until: u64,
}

struct Lifetimes;

impl Expiry<String, Arc<CachedCertificate>> for Lifetimes {
    fn expire_after_create(&self, _: &String, cached: &Arc<CachedCertificate>, _: Instant) -> Option<Duration> {
        Some(cached.lifetime)
    }
}

impl Certificates {
    pub(super) fn new(client: Client, anchors: Anchors, ports: Vec<u16>) -> Self {
        let cache = Cache::builder().max_capacity(MAX_CACHED).expire_after(Lifetimes).build();
        Self(Arc::new(Shared { fetcher: Fetcher::new(client, ports), anchors, cache }))
    }

    /// Returns the certificate at a URL if the certificate is trusted now. If the calling code stops waiting, the fetch
    /// continues. A later call of `get` then finds the result.
    pub(super) async fn get(&self, url: &str) -> Result<Arc<Certificate>, Fault> {
        let shared = Arc::clone(&self.0);
        let cached = match shared.cache.get(url).await {
            Some(cached) => cached,
            None => {
                let (fetching, url) = (Arc::clone(&shared), url.to_owned());
                let key = url.clone();
                let fetch = tokio::spawn(async move { fetching.cache.get_with(key, fetching.find(&url)).await });
                fetch.await.map_err(|_| Fault::Unreachable("fetching its certificate failed".to_owned()))?
            }
        };
        let trusted = cached.found.as_ref().map_err(Fault::clone)?;
        let now = now();
        if now >= trusted.until {
            trusted.certificate.check(&shared.anchors, now)?;
        }
        Ok(Arc::clone(&trusted.certificate))
    }
}

impl Shared {
    async fn find(&self, url: &str) -> Arc<CachedCertificate> {
        let cached = self.fetcher.fetch(url).await.and_then(|response| {
            let lifetime = lifetime(response.header("cache-control"));
            let certificate = Certificate::read(&response.body)?;
            let now = now();
            certificate.check(&self.anchors, now)?;
            let end = now.saturating_add(lifetime.as_secs());
            let until = if certificate.check(&self.anchors, end).is_ok() { end } else { 0 };
            Ok((Trusted { certificate: Arc::new(certificate), until }, lifetime))
        });
        Arc::new(match cached {
            Ok((trusted, lifetime)) => CachedCertificate { found: Ok(trusted), lifetime },
            Err(fault) => CachedCertificate { found: Err(fault), lifetime: FAILURE_CACHE_TIME },
        })
    }
}

/// Fetches the files with certificates.
pub(super) struct Fetcher {
    client: Client,
    ports: Vec<u16>,
    turns: Semaphore,
}

impl Fetcher {
    pub(super) fn new(client: Client, ports: Vec<u16>) -> Self {
        Self { client, ports, turns: Semaphore::new(MAX_FETCHES) }
    }

    /// Fetches a file.
    ///
    /// # Errors
    /// [`Fault::Unreachable`] if the URL is not allowed, or if the file was not received within [`FETCH_TIMEOUT`].
    pub(super) async fn fetch(&self, url: &str) -> Result<Response, Fault> {
        let late = |_| Fault::Unreachable(format!("no certificate from {url} in {} s", FETCH_TIMEOUT.as_secs()));
        tokio::time::timeout(FETCH_TIMEOUT, self.request(url)).await.map_err(late)?
    }

    async fn request(&self, url: &str) -> Result<Response, Fault> {
        self.check_url(url)?;
        let unreachable = |why: String| Fault::Unreachable(format!("no certificate from {url}: {why}"));
        let _turn = self.turns.acquire().await.map_err(|error| unreachable(error.to_string()))?;
        let request = Request {
            method: Method::GET,
            url: url.to_owned(),
            headers: vec![("Accept".to_owned(), "application/pem-certificate-chain, */*;q=0.5".to_owned())],
            body: Bytes::new(),
            timeouts: Timeouts { connect: Some(FETCH_TIMEOUT), total: FETCH_TIMEOUT },
            max_body: LARGEST,
        };
        let response = self.client.send(&request).await.map_err(|error| unreachable(error.to_string()))?;
        match response.status {
            200 => Ok(response),
            status => Err(unreachable(format!("HTTP status {status}"))),
        }
    }

    /// Checks a URL against ATIS-1000074 §5.3.1. The URL must be an HTTPS URL with an allowed port (443 or 8443 by
    /// default). The URL must have no credentials, no query and no fragment.
    fn check_url(&self, url: &str) -> Result<(), Fault> {
        let bad = |why: &str| Err(Fault::Unreachable(format!("its certificate is at {url:?}: {why}")));
        let Ok(parsed) = Url::parse(url) else { return bad("not a URL") };
        if parsed.scheme() != "https" {
            return bad("not https");
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return bad("with a user");
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return bad("with a query or a fragment");
        }
        if parsed.port_or_known_default().is_none_or(|port| !self.ports.contains(&port)) {
            return bad("at a port that is not in stir.ports");
        }
        Ok(())
    }
}

/// Returns the lifetime from `Cache-Control: max-age=`. The lifetime is limited to the allowed range. `no-store` and
/// `no-cache` give the minimum lifetime.
fn lifetime(cache_control: Option<&str>) -> Duration {
    let directives = || cache_control.unwrap_or_default().split(',').map(str::trim);
    if directives().any(|one| one.eq_ignore_ascii_case("no-store") || one.eq_ignore_ascii_case("no-cache")) {
        return MIN_CACHE_TIME;
    }
    let seconds = directives().find_map(|one| one.to_ascii_lowercase().strip_prefix("max-age=")?.parse().ok());
    seconds.map_or(CACHE_TIME, |seconds| Duration::from_secs(seconds).clamp(MIN_CACHE_TIME, CACHE_TIME))
}

fn now() -> u64 {
    clock::time().as_second().unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_cached_for_its_max_age_within_limits() {
        for (cache_control, seconds) in [
            (None, 3_600),
            (Some("public, max-age=600"), 600),
            (Some("Max-Age=99999999"), 3_600),
            (Some("max-age=0"), 60),
            (Some("max-age=600, no-store"), 60),
            (Some("max-age=soon"), 3_600),
        ] {
            assert_eq!(lifetime(cache_control), Duration::from_secs(seconds), "{cache_control:?}");
        }
    }
}
