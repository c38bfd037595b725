//! The cookies of one call (RFC 6265). Applications store the state of a call in cookies.

use std::sync::Arc;

use ::http::{HeaderMap, header};
use cookie_store::{Cookie, CookieStore};
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

/// Maximum number of cookies in a jar. If the jar is full, new cookies are ignored, but existing cookies may still
/// change.
const MAXIMUM_COOKIES: usize = 50;

/// Maximum length of one `Set-Cookie` header in octets (RFC 6265 §6.1 demands at least 4096). A longer header is
/// ignored.
const MAXIMUM_LENGTH: usize = 4096;

/// The cookies of one call. The cookies are dropped with the call. All clones share the cookies.
#[derive(Debug, Clone, Default)]
pub struct CookieJar {
    store: Arc<Mutex<CookieStore>>,
}

impl CookieJar {
    /// Creates an empty jar.
    pub fn new() -> CookieJar {
        CookieJar::default()
    }

    /// The `Cookie` header for a request to `url`. `None` if no cookie matches. A `Secure` cookie is sent only over
    /// `https`. The store alone would also send it in the clear to this machine.
    pub fn header(&self, url: &Url) -> Option<String> {
        let encrypted = url.scheme() == "https";
        let store = self.store.lock();
        let matching = store.matches(url).into_iter().filter(|cookie| encrypted || cookie.secure() != Some(true));
        let pairs: Vec<String> = matching.map(|cookie| format!("{}={}", cookie.name(), cookie.value())).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// Stores the `Set-Cookie` headers of an answer from `url`. Invalid headers and headers for another host are
    /// ignored.
    pub fn store(&self, url: &Url, headers: &HeaderMap) {
        let mut store = self.store.lock();
        for value in headers.get_all(header::SET_COOKIE) {
            let Some(text) = value.to_str().ok().filter(|text| text.len() <= MAXIMUM_LENGTH) else { continue };
            let before = store.clone();
            let _ = store.parse(text, url);
            if store.iter_any().count() > MAXIMUM_COOKIES {
                *store = before;
            }
        }
    }
}

/// The written form has all cookies that have not expired, in the order of their domains, paths and names. It contains
/// secrets of the application.
impl Serialize for CookieJar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let store = self.store.lock();
        let mut cookies: Vec<_> = store.iter_unexpired().collect();
        cookies.sort_by_cached_key(|cookie| {
            (String::from(&cookie.domain), String::from(&cookie.path), cookie.name().to_owned())
        });
        serializer.collect_seq(cookies)
    }
}

impl<'de> Deserialize<'de> for CookieJar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let cookies = Vec::<Cookie<'static>>::deserialize(deserializer)?;
        let store = CookieStore::from_cookies(cookies.into_iter().map(Ok), false)?;
        Ok(Self { store: Arc::new(Mutex::new(store)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(jar: &CookieJar, url: &str, cookies: &[&str]) {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::SET_COOKIE, cookie.parse().unwrap());
        }
        jar.store(&Url::parse(url).unwrap(), &headers);
    }

    fn get(jar: &CookieJar, url: &str) -> Vec<String> {
        let header = jar.header(&Url::parse(url).unwrap()).unwrap_or_default();
        let mut pairs: Vec<String> = header.split("; ").map(str::to_owned).collect();
        pairs.sort();
        pairs
    }

    #[test]
    fn cookies_are_sent_to_their_host_and_path_only() {
        let jar = CookieJar::new();
        set(&jar, "http://app.example/voice", &["session=a=b; Path=/; HttpOnly", "deep=1; Path=/voice"]);
        assert_eq!(get(&jar, "http://app.example/voice/next?x=1"), ["deep=1", "session=a=b"]);
        assert_eq!(get(&jar, "http://app.example/other"), ["session=a=b"]);
        assert_eq!(jar.header(&Url::parse("http://other.example/voice").unwrap()), None);
    }

    #[test]
    fn a_cookie_is_replaced_and_expires() {
        let jar = CookieJar::new();
        set(&jar, "http://127.0.0.1:9/", &["a=1", "b=2"]);
        set(&jar, "http://127.0.0.1:9/", &["a=3", "b=; Max-Age=0"]);
        assert_eq!(get(&jar, "http://127.0.0.1:9/"), ["a=3"]);
    }

    #[test]
    fn cookies_for_other_domains_and_secure_cookies_from_http_are_ignored() {
        let jar = CookieJar::new();
        set(&jar, "http://app.example/", &["a=1; Domain=bank.example", "b=2; Secure", "=", ""]);
        assert_eq!(jar.header(&Url::parse("http://bank.example/").unwrap()), None);
        assert_eq!(jar.header(&Url::parse("http://app.example/").unwrap()), None);
    }

    #[test]
    fn a_secure_cookie_is_sent_over_https_only() {
        for host in ["app.example", "localhost:5000", "127.0.0.1:5000", "[::1]:5000"] {
            let jar = CookieJar::new();
            set(&jar, &format!("https://{host}/"), &["safe=1; Secure", "plain=2"]);
            assert_eq!(get(&jar, &format!("https://{host}/next")), ["plain=2", "safe=1"], "{host}");
            assert_eq!(get(&jar, &format!("http://{host}/next")), ["plain=2"], "{host}");
        }
    }

    #[test]
    fn a_jar_that_was_written_and_read_has_the_same_cookies() {
        let jar = CookieJar::new();
        set(&jar, "https://app.example/voice/", &["a=1; Max-Age=600; Domain=app.example", "b=\"2 2\"; Path=/; Secure"]);
        set(&jar, "http://127.0.0.1:9/", &["own=1; HttpOnly; SameSite=Strict", "gone=1; Max-Age=0", "z=%20", "y="]);
        let written = serde_json::to_string(&jar).unwrap();
        let read: CookieJar = serde_json::from_str(&written).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), written);
        for url in [
            "https://app.example/voice/x",
            "https://sub.app.example/voice/",
            "http://app.example/",
            "http://127.0.0.1/",
        ] {
            assert_eq!(get(&read, url), get(&jar, url), "{url}");
        }
        set(&read, "http://127.0.0.1:9/", &["own=2"]);
        assert_eq!(get(&read, "http://127.0.0.1:9/"), ["own=2", "y=", "z=%20"]);
    }

    #[test]
    fn a_full_cookie_jar_ignores_new_cookies_and_updates_stored_cookies() {
        let jar = CookieJar::new();
        for number in 0..200 {
            set(&jar, "http://app.example/", &[&format!("name{number}=1")]);
        }
        set(&jar, "http://app.example/", &["name0=2", &format!("long={}", "x".repeat(5000))]);
        let pairs = get(&jar, "http://app.example/");
        assert_eq!(pairs.len(), MAXIMUM_COOKIES);
        assert!(pairs.contains(&"name0=2".to_owned()));
    }
}
