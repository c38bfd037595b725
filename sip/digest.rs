//! The client side of Digest authentication (RFC 3261 §22, RFC 7616, RFC 8760).

use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, SHA512_256, digest};
use ipnet::IpNet;
use md5::{Digest as _, Md5};
use rand::Rng;

use crate::message::Response;

/// Maximum number of challenges that are read from one response. It is also the maximum number of challenges that are
/// stored for one leg.
const MAX_CHALLENGES: usize = 8;
/// Maximum number of attempts to answer challenges of one request, including attempts with stale nonces.
const MAX_ATTEMPTS: usize = 4;

/// The user name and password with which the endpoint answers digest challenges (RFC 3261 §22). `Debug` does not show
/// the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name for Digest authentication.
    pub username: String,
    /// The password for Digest authentication.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// A challenge that the client can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// Whether the challenge came in a 407 from a proxy. If not, the challenge came in a 401.
    pub(crate) proxy: bool,
    pub(crate) realm: String,
    nonce: String,
    opaque: Option<String>,
    algorithm: Algorithm,
    qop: Qop,
    stale: bool,
}

/// A hash function. The functions are in order, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hash {
    Md5,
    Sha256,
    Sha512Half,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Algorithm {
    hash: Hash,
    session: bool,
    /// Whether the challenge named the algorithm. If not, the answer does not name the algorithm either.
    named: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Qop {
    /// The challenge has no `qop`, as in RFC 2069.
    None,
    Auth,
    AuthInt,
}

/// The challenges that a leg has received. Later requests of the leg use these challenges again.
///
/// An attacker who reads an answer can test passwords offline. So answers go only to the servers for which the
/// credentials are meant: call [`Session::trusts`] before [`Session::learn`] and [`Session::lines`]. The route set of a
/// leg may later lead to other hosts. A challenge from such a host does not come from the trunk.
#[derive(Debug)]
pub(crate) struct Session {
    credentials: Credentials,
    /// The networks to which the credentials may be sent. `None` allows any network.
    trusted_networks: Option<Vec<IpNet>>,
    known: Vec<(Challenge, u32)>,
}

/// The state of the attempts to send one request: the number of attempts, and the realms whose challenges were
/// answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attempts {
    realms: Vec<(bool, String)>,
    count: usize,
}

impl Session {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self { credentials, trusted_networks: None, known: Vec::new() }
    }

    /// Allows the session to send its credentials only to these networks.
    pub(crate) fn for_networks(self, networks: Vec<IpNet>) -> Self {
        Self { trusted_networks: Some(networks), ..self }
    }

    /// Returns the networks to which the credentials may be sent.
    pub(crate) fn trusted_networks(&self) -> &[IpNet] {
        self.trusted_networks.as_deref().unwrap_or_default()
    }

    /// Makes the session send its user name to this realm before any challenge. This first answer has no nonce, so it
    /// proves nothing. Some servers accept a request without a password if it has no user name. With the user name,
    /// such a server sends a challenge.
    pub(crate) fn expecting(mut self, realm: &str) -> Self {
        let challenge = Challenge {
            proxy: false,
            realm: realm.to_owned(),
            nonce: String::new(),
            opaque: None,
            algorithm: Algorithm { hash: Hash::Md5, session: false, named: false },
            qop: Qop::None,
            stale: false,
        };
        self.known.push((challenge, 0));
        self
    }

    /// Returns whether the credentials may be sent to this address.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted_networks.as_ref().is_none_or(|networks| networks.iter().any(|network| network.contains(&peer)))
    }

    /// Stores the challenges of a 401 or 407. Returns `false` if the request must not be repeated. The request must not
    /// be repeated in three cases: the client can answer none of the challenges, there were too many attempts, or a
    /// realm refused an answer whose nonce was not stale.
    pub(crate) fn learn(&mut self, mut challenges: Vec<Challenge>, attempts: &mut Attempts) -> bool {
        attempts.count += 1;
        if attempts.count > MAX_ATTEMPTS {
            return false;
        }
        // The strongest supported challenge is used. The order of the server is ignored, because an attacker on the
        // path can change this order.
        challenges.sort_by_key(|challenge| Reverse(challenge.algorithm.hash));
        let mut learnt = false;
        let mut seen: Vec<(bool, String)> = Vec::new();
        for challenge in challenges {
            let realm = (challenge.proxy, challenge.realm.clone());
            if seen.contains(&realm) {
                continue;
            }
            seen.push(realm.clone());
            if attempts.realms.contains(&realm) {
                if !challenge.stale {
                    return false;
                }
            } else {
                attempts.realms.push(realm.clone());
            }
            self.known.retain(|(known, _)| (known.proxy, &known.realm) != (realm.0, &realm.1));
            if self.known.len() < MAX_CHALLENGES {
                self.known.push((challenge, 0));
                learnt = true;
            }
        }
        learnt
    }

    /// Stores a new nonce (`nextnonce`) for the next request.
    pub(crate) fn next_nonce(&mut self, nonce: &str) {
        if let Some((challenge, count)) = self.known.iter_mut().find(|(challenge, _)| !challenge.proxy) {
            nonce.clone_into(&mut challenge.nonce);
            *count = 0;
        }
    }

    /// Returns the Authorization and Proxy-Authorization lines for a request. The result is empty before the first
    /// challenge.
    pub(crate) fn lines(&mut self, method: &str, uri: &str, body: &[u8], rng: &mut impl Rng) -> String {
        let mut out = String::new();
        for (challenge, count) in &mut self.known {
            *count = count.wrapping_add(1);
            let cnonce = format!("{:016x}", rng.next_u64());
            out.push_str(&line(challenge, &self.credentials, method, uri, body, *count, &cnonce));
        }
        out
    }
}

/// Returns the `Authorization` value for an HTTP request (RFC 7616). This value answers the strongest Digest challenge
/// in these `WWW-Authenticate` values. Returns `None` if no challenge can be answered. `uri` is the path and query of
/// the request, `cnonce` is a new random word.
pub fn http_answer(
    challenges: &[&str],
    credentials: &Credentials,
    method: &str,
    uri: &str,
    body: &[u8],
    cnonce: &str,
) -> Option<String> {
    let known = challenges.iter().take(MAX_CHALLENGES).flat_map(|value| parse_challenges(value, false));
    let strongest = known.max_by_key(|challenge| challenge.algorithm.hash)?;
    let line = line(&strongest, credentials, method, uri, body, 1, cnonce);
    Some(line.strip_prefix("Authorization: ")?.trim_end().to_owned())
}

/// Returns the challenges in a 401 or 407. Challenges that the client cannot answer are left out.
pub(crate) fn challenges(response: &Response) -> Vec<Challenge> {
    let of =
        |name, proxy| response.content.values(name).into_iter().flat_map(move |value| parse_challenges(&value, proxy));
    of("WWW-Authenticate", false).chain(of("Proxy-Authenticate", true)).collect()
}

/// Returns the nonce for the next request, if the response contains one (RFC 7616 §3.5).
pub(crate) fn next_nonce(response: &Response) -> Option<String> {
    response.content.values("Authentication-Info").iter().find_map(|value| {
        split_outside_quotes(value).find_map(|item| {
            let (name, nonce) = item.split_once('=')?;
            name.trim().eq_ignore_ascii_case("nextnonce").then(|| unquote(nonce.trim()))
        })
    })
}

/// Returns the Digest challenges in one WWW-Authenticate or Proxy-Authenticate value. Challenges that the client cannot
/// answer are left out.
pub(crate) fn parse_challenges(value: &str, proxy: bool) -> Vec<Challenge> {
    let mut out = Vec::new();
    let mut parameters: Option<Vec<(String, String)>> = None;
    let finish = |parameters: Option<Vec<(String, String)>>, out: &mut Vec<Challenge>| {
        if let Some(challenge) = parameters.and_then(|parameters| Challenge::of(&parameters, proxy)) {
            out.push(challenge);
        }
    };
    for item in split_outside_quotes(value) {
        let (name, text) = item.split_once('=').unwrap_or((item, ""));
        let mut name = name.trim();
        // An item such as `Digest realm` begins a new challenge.
        if let Some((scheme, first)) = name.split_once(|c: char| c.is_ascii_whitespace()) {
            finish(parameters.take(), &mut out);
            parameters = scheme.eq_ignore_ascii_case("Digest").then(Vec::new);
            name = first.trim();
        }
        if let Some(parameters) = &mut parameters
            && parameters.len() < 32
        {
            parameters.push((name.to_ascii_lowercase(), unquote(text.trim())));
        }
        if out.len() >= MAX_CHALLENGES {
            break;
        }
    }
    finish(parameters, &mut out);
    out
}

impl Challenge {
    fn of(parameters: &[(String, String)], proxy: bool) -> Option<Self> {
        let get = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let algorithm = get("algorithm");
        let (hash, session) = match algorithm.as_deref().map(str::to_ascii_uppercase).as_deref() {
            None | Some("MD5") => (Hash::Md5, false),
            Some("MD5-SESS") => (Hash::Md5, true),
            Some("SHA-256") => (Hash::Sha256, false),
            Some("SHA-256-SESS") => (Hash::Sha256, true),
            Some("SHA-512-256") => (Hash::Sha512Half, false),
            Some("SHA-512-256-SESS") => (Hash::Sha512Half, true),
            Some(_) => return None,
        };
        let qop = match get("qop") {
            None => Qop::None,
            Some(list) if list.split(',').any(|qop| qop.trim().eq_ignore_ascii_case("auth")) => Qop::Auth,
            Some(list) if list.split(',').any(|qop| qop.trim().eq_ignore_ascii_case("auth-int")) => Qop::AuthInt,
            Some(_) => return None,
        };
        Some(Self {
            proxy,
            realm: get("realm")?,
            nonce: get("nonce")?,
            opaque: get("opaque"),
            algorithm: Algorithm { hash, session, named: algorithm.is_some() },
            qop,
            stale: get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }
}

fn line(
    challenge: &Challenge,
    credentials: &Credentials,
    method: &str,
    uri: &str,
    body: &[u8],
    count: u32,
    cnonce: &str,
) -> String {
    let response = response(challenge, credentials, method, uri, body, count, cnonce);
    let name = if challenge.proxy { "Proxy-Authorization" } else { "Authorization" };
    let mut out = format!(
        "{name}: Digest username=\"{}\",realm=\"{}\",nonce=\"{}\",uri=\"{}\",response=\"{response}\"",
        quote(&credentials.username),
        quote(&challenge.realm),
        quote(&challenge.nonce),
        quote(uri),
    );
    if challenge.algorithm.named {
        out.push_str(match (challenge.algorithm.hash, challenge.algorithm.session) {
            (Hash::Md5, false) => ",algorithm=MD5",
            (Hash::Md5, true) => ",algorithm=MD5-sess",
            (Hash::Sha256, false) => ",algorithm=SHA-256",
            (Hash::Sha256, true) => ",algorithm=SHA-256-sess",
            (Hash::Sha512Half, false) => ",algorithm=SHA-512-256",
            (Hash::Sha512Half, true) => ",algorithm=SHA-512-256-sess",
        });
    }
    if let Some(opaque) = &challenge.opaque {
        out.push_str(&format!(",opaque=\"{}\"", quote(opaque)));
    }
    match challenge.qop {
        Qop::None if challenge.algorithm.session => out.push_str(&format!(",cnonce=\"{cnonce}\"")),
        Qop::None => {}
        Qop::Auth => out.push_str(&format!(",qop=auth,nc={count:08x},cnonce=\"{cnonce}\"")),
        Qop::AuthInt => out.push_str(&format!(",qop=auth-int,nc={count:08x},cnonce=\"{cnonce}\"")),
    }
    out.push_str("\r\n");
    out
}

/// Computes the `response` parameter (RFC 7616 §3.4.1).
fn response(
    challenge: &Challenge,
    credentials: &Credentials,
    method: &str,
    uri: &str,
    body: &[u8],
    count: u32,
    cnonce: &str,
) -> String {
    let hash = |text: &str| challenge.algorithm.hash.of(text.as_bytes());
    let nonce = &challenge.nonce;
    let mut ha1 = hash(&format!("{}:{}:{}", credentials.username, challenge.realm, credentials.password));
    if challenge.algorithm.session {
        ha1 = hash(&format!("{ha1}:{nonce}:{cnonce}"));
    }
    let (qop, ha2) = match challenge.qop {
        Qop::None => return hash(&format!("{ha1}:{nonce}:{}", hash(&format!("{method}:{uri}")))),
        Qop::Auth => ("auth", hash(&format!("{method}:{uri}"))),
        Qop::AuthInt => {
            let body = challenge.algorithm.hash.of(body);
            ("auth-int", hash(&format!("{method}:{uri}:{body}")))
        }
    };
    hash(&format!("{ha1}:{nonce}:{count:08x}:{cnonce}:{qop}:{ha2}"))
}

impl Hash {
    /// Returns the hash of the data in lower-case hexadecimal digits.
    pub(crate) fn of(self, data: &[u8]) -> String {
        fn hex(bytes: &[u8]) -> String {
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        }
        match self {
            Hash::Md5 => hex(&Md5::digest(data)),
            Hash::Sha256 => hex(digest(&SHA256, data).as_ref()),
            Hash::Sha512Half => hex(digest(&SHA512_256, data).as_ref()),
        }
    }
}

pub(crate) fn split_outside_quotes(value: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |c| {
        if escaped {
            escaped = false;
            return false;
        }
        match c {
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' => return !quoted,
            _ => {}
        }
        false
    })
}

pub(crate) fn unquote(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else { return text.to_owned() };
    let mut out = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => out.extend(characters.next()),
            c => out.push(c),
        }
    }
    out
}

/// Escapes a text for a quoted string, and removes control characters.
fn quote(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c]))
        .collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn credentials(username: &str, password: &str) -> Credentials {
        Credentials { username: username.into(), password: password.into() }
    }

    fn one(value: &str) -> Challenge {
        parse_challenges(value, false).remove(0)
    }

    #[test]
    fn the_example_of_rfc_2617_is_reproduced() {
        let challenge = one(
            "Digest realm=\"testrealm@host.com\", qop=\"auth,auth-int\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", \
             opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"",
        );
        let user = credentials("Mufasa", "Circle Of Life");
        let answer = response(&challenge, &user, "GET", "/dir/index.html", b"", 1, "0a4f113b");
        assert_eq!(answer, "6629fae49393a05397450978507c4ef1");
    }

    #[test]
    fn the_examples_of_rfc_7616_are_reproduced() {
        for (algorithm, expected) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
            // The RFC has no value for these inputs. This value was computed with OpenSSL.
            ("SHA-512-256", "430d05014cecc49cab6fbe03176d41a1da86cbfe24a16580e22aaad928d960d0"),
        ] {
            let challenge = one(&format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            ));
            let user = credentials("Mufasa", "Circle of Life");
            let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
            assert_eq!(response(&challenge, &user, "GET", "/dir/index.html", b"", 1, cnonce), expected);
        }
    }

    #[test]
    fn several_challenges_in_one_value_are_split_and_unknown_ones_skipped() {
        let value = "Basic realm=\"x\", Digest realm=\"a, \\\"b\", nonce=\"1\", algorithm=SHA-256, Digest realm=\"c\",nonce=2,\
                     algorithm=SHA3, Digest realm=\"d\",nonce=\"3\",stale=TRUE";
        let challenges = parse_challenges(value, true);
        let found: Vec<_> = challenges.iter().map(|c| (c.realm.as_str(), c.nonce.as_str(), c.stale)).collect();
        assert_eq!(found, [("a, \"b", "1", false), ("d", "3", true)]);
    }

    #[test]
    fn a_realm_that_refuses_an_answer_is_not_answered_again_unless_the_nonce_was_stale() {
        let mut session = Session::new(credentials("u", "p"));
        let mut attempts = Attempts::default();
        let fresh = || vec![one("Digest realm=\"r\",nonce=\"1\"")];
        let stale = || vec![one("Digest realm=\"r\",nonce=\"2\",stale=true")];
        assert!(session.learn(fresh(), &mut attempts));
        assert!(session.learn(stale(), &mut attempts));
        assert!(!session.learn(fresh(), &mut attempts));
        let mut attempts = Attempts::default();
        assert!((0..MAX_ATTEMPTS).all(|_| session.learn(stale(), &mut attempts)));
        assert!(!session.learn(stale(), &mut attempts), "even stale nonces end");
        assert!(!session.learn(Vec::new(), &mut Attempts::default()), "nothing to answer");
    }

    #[test]
    fn the_strongest_of_several_algorithms_is_answered_wherever_it_stands() {
        let mut session = Session::new(credentials("u", "p"));
        let value = "Digest realm=\"r\",nonce=\"1\",algorithm=MD5, Digest realm=\"r\",nonce=\"2\",algorithm=SHA-512-256, \
                     Digest realm=\"r\",nonce=\"3\",algorithm=SHA-256, Digest realm=\"s\",nonce=\"4\"";
        assert!(session.learn(parse_challenges(value, false), &mut Attempts::default()));
        let lines = session.lines("INVITE", "sip:x", b"", &mut StdRng::from_seed([1; 32]));
        let nonces: Vec<_> =
            lines.lines().map(|line| line.split("nonce=\"").nth(1).unwrap().get(..1).unwrap()).collect();
        assert_eq!(nonces, ["2", "4"], "one for each realm");
    }

    #[test]
    fn a_nonce_is_counted_until_the_server_sends_another() {
        let mut session = Session::new(credentials("u", "p"));
        session.learn(vec![one("Digest realm=\"r\",nonce=\"1\",qop=\"auth\"")], &mut Attempts::default());
        let mut next = || session.lines("INVITE", "sip:x", b"", &mut StdRng::from_seed([1; 32]));
        assert!(next().contains("nc=00000001") && next().contains("nc=00000002"));
        session.next_nonce("2");
        let line = session.lines("INVITE", "sip:x", b"", &mut StdRng::from_seed([1; 32]));
        assert!(line.contains("nonce=\"2\"") && line.contains("nc=00000001"), "{line}");
    }

    #[test]
    fn credentials_are_for_their_trunks_addresses_only() {
        let networks = vec!["10.0.0.0/8".parse().unwrap(), "192.0.2.1/32".parse().unwrap()];
        let session = Session::new(credentials("u", "p")).for_networks(networks);
        let trusts = |peer: &str| session.trusts(peer.parse().unwrap());
        assert!(trusts("192.0.2.1") && trusts("::ffff:192.0.2.1") && trusts("10.9.9.9"));
        assert!(!trusts("192.0.2.2") && !trusts("::1"));
    }
}
