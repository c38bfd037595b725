//! Digest authentication (RFC 7616), which SIP (RFC 8760) and HTTP share: the challenges of a server, and the answers to
//! them.

use aws_lc_rs::digest::{SHA256, SHA512_256, digest};
use md5::{Digest as _, Md5};

/// Maximum number of challenges that are read from one value.
pub const MAX_CHALLENGES: usize = 8;

/// A user name and a password.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The user name.
    pub username: &'a str,
    /// The password.
    pub password: &'a str,
}

/// The parts of a request that an answer signs.
#[derive(Debug, Clone, Copy)]
pub struct SignedParts<'a> {
    /// The method.
    pub method: &'a str,
    /// The request URI of SIP, or the path and query of HTTP.
    pub uri: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// A challenge that the client can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Whether the challenge came in a 407 from a proxy. If not, the challenge came in a 401.
    pub proxy: bool,
    /// The realm: the server or the group of servers that knows the password.
    pub realm: String,
    /// The nonce, which the answer repeats.
    pub nonce: String,
    opaque: Option<String>,
    algorithm: Algorithm,
    qop: Qop,
    /// Whether only the nonce of the last answer was too old.
    pub stale: bool,
}

/// A hash function. The functions are in order, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hash {
    /// MD5 (RFC 7616 allows it only for old servers).
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512/256.
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

/// Returns the value of `Authorization` that answers the strongest challenge in these `WWW-Authenticate` values. Returns
/// `None` if no challenge can be answered. `cnonce` is a new random word.
pub fn answer(challenges: &[&str], login: Login<'_>, request: SignedParts<'_>, cnonce: &str) -> Option<String> {
    let known = challenges.iter().take(MAX_CHALLENGES).flat_map(|value| parse_challenges(value, false));
    let strongest = known.max_by_key(Challenge::strength)?;
    Some(strongest.answer(login, request, 1, cnonce))
}

/// Returns the Digest challenges in one WWW-Authenticate or Proxy-Authenticate value. Challenges that the client cannot
/// answer are left out.
pub fn parse_challenges(value: &str, proxy: bool) -> Vec<Challenge> {
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
    /// Creates the challenge of a realm that has sent none yet. Its answer has no nonce, so it proves nothing.
    pub fn expected(realm: &str) -> Self {
        Self {
            proxy: false,
            realm: realm.to_owned(),
            nonce: String::new(),
            opaque: None,
            algorithm: Algorithm { hash: Hash::Md5, session: false, named: false },
            qop: Qop::None,
            stale: false,
        }
    }

    /// Returns the hash function of the challenge.
    pub fn strength(&self) -> Hash {
        self.algorithm.hash
    }

    /// Returns the value of the header that answers the challenge. `count` is the number of answers with this nonce,
    /// from 1. `cnonce` is a new random word.
    pub fn answer(&self, login: Login<'_>, request: SignedParts<'_>, count: u32, cnonce: &str) -> String {
        let response = self.response(login, request, count, cnonce);
        let mut out = format!(
            "Digest username=\"{}\",realm=\"{}\",nonce=\"{}\",uri=\"{}\",response=\"{response}\"",
            quote(login.username),
            quote(&self.realm),
            quote(&self.nonce),
            quote(request.uri),
        );
        if self.algorithm.named {
            out.push_str(match (self.algorithm.hash, self.algorithm.session) {
                (Hash::Md5, false) => ",algorithm=MD5",
                (Hash::Md5, true) => ",algorithm=MD5-sess",
                (Hash::Sha256, false) => ",algorithm=SHA-256",
                (Hash::Sha256, true) => ",algorithm=SHA-256-sess",
                (Hash::Sha512Half, false) => ",algorithm=SHA-512-256",
                (Hash::Sha512Half, true) => ",algorithm=SHA-512-256-sess",
            });
        }
        if let Some(opaque) = &self.opaque {
            out.push_str(&format!(",opaque=\"{}\"", quote(opaque)));
        }
        match self.qop {
            Qop::None if self.algorithm.session => out.push_str(&format!(",cnonce=\"{cnonce}\"")),
            Qop::None => {}
            Qop::Auth => out.push_str(&format!(",qop=auth,nc={count:08x},cnonce=\"{cnonce}\"")),
            Qop::AuthInt => out.push_str(&format!(",qop=auth-int,nc={count:08x},cnonce=\"{cnonce}\"")),
        }
        out
    }

    /// Computes the `response` parameter (RFC 7616 §3.4.1).
    fn response(&self, login: Login<'_>, request: SignedParts<'_>, count: u32, cnonce: &str) -> String {
        let hash = |text: &str| self.algorithm.hash.of(text.as_bytes());
        let (nonce, SignedParts { method, uri, body }) = (&self.nonce, request);
        let mut ha1 = hash(&format!("{}:{}:{}", login.username, self.realm, login.password));
        if self.algorithm.session {
            ha1 = hash(&format!("{ha1}:{nonce}:{cnonce}"));
        }
        let (qop, ha2) = match self.qop {
            Qop::None => return hash(&format!("{ha1}:{nonce}:{}", hash(&format!("{method}:{uri}")))),
            Qop::Auth => ("auth", hash(&format!("{method}:{uri}"))),
            Qop::AuthInt => {
                let body = self.algorithm.hash.of(body);
                ("auth-int", hash(&format!("{method}:{uri}:{body}")))
            }
        };
        hash(&format!("{ha1}:{nonce}:{count:08x}:{cnonce}:{qop}:{ha2}"))
    }

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

impl Hash {
    /// Returns the hash of the data in lower-case hexadecimal digits.
    pub fn of(self, data: &[u8]) -> String {
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

/// Splits a header value at the commas that are outside of quoted strings.
pub fn split_outside_quotes(value: &str) -> impl Iterator<Item = &str> {
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

/// Returns the text of a quoted string, without quotes and escapes. Any other text is returned as it is.
pub fn unquote(text: &str) -> String {
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
    use super::*;

    const GET: SignedParts<'_> = SignedParts { method: "GET", uri: "/dir/index.html", body: b"" };

    fn one(value: &str) -> Challenge {
        parse_challenges(value, false).remove(0)
    }

    #[test]
    fn the_example_of_rfc_2617_is_reproduced() {
        let challenge = one(
            "Digest realm=\"testrealm@host.com\", qop=\"auth,auth-int\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", \
             opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"",
        );
        let user = Login { username: "Mufasa", password: "Circle Of Life" };
        let answer = challenge.response(user, GET, 1, "0a4f113b");
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
            let user = Login { username: "Mufasa", password: "Circle of Life" };
            let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
            assert_eq!(challenge.response(user, GET, 1, cnonce), expected);
        }
    }

    #[test]
    fn several_challenges_in_one_header_field_are_separated_and_unknown_schemes_are_skipped() {
        let value = "Basic realm=\"x\", Digest realm=\"a, \\\"b\", nonce=\"1\", algorithm=SHA-256, Digest realm=\"c\",nonce=2,\
                     algorithm=SHA3, Digest realm=\"d\",nonce=\"3\",stale=TRUE";
        let challenges = parse_challenges(value, true);
        let found: Vec<_> = challenges.iter().map(|c| (c.realm.as_str(), c.nonce.as_str(), c.stale)).collect();
        assert_eq!(found, [("a, \"b", "1", false), ("d", "3", true)]);
    }
}
