//! The client side of Digest authentication (RFC 3261 §22, RFC 7616, RFC 8760).

use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use rand::Rng;
use tandem_net::digest::{
    Challenge, Login, MAX_CHALLENGES, SignedParts, parse_challenges, split_outside_quotes, unquote,
};

use crate::message::Response;

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
        self.known.push((Challenge::expected(realm), 0));
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
        challenges.sort_by_key(|challenge| Reverse(challenge.strength()));
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
        let login = Login { username: &self.credentials.username, password: &self.credentials.password };
        let mut out = String::new();
        for (challenge, count) in &mut self.known {
            *count = count.wrapping_add(1);
            let cnonce = format!("{:016x}", rng.next_u64());
            let answer = challenge.answer(login, SignedParts { method, uri, body }, *count, &cnonce);
            let name = if challenge.proxy { "Proxy-Authorization" } else { "Authorization" };
            out.push_str(&format!("{name}: {answer}\r\n"));
        }
        out
    }
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
    fn the_strongest_of_several_algorithms_is_answered_in_any_order() {
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
    fn credentials_are_sent_to_the_addresses_of_their_trunk_only() {
        let networks = vec!["10.0.0.0/8".parse().unwrap(), "192.0.2.1/32".parse().unwrap()];
        let session = Session::new(credentials("u", "p")).for_networks(networks);
        let trusts = |peer: &str| session.trusts(peer.parse().unwrap());
        assert!(trusts("192.0.2.1") && trusts("::ffff:192.0.2.1") && trusts("10.9.9.9"));
        assert!(!trusts("192.0.2.2") && !trusts("::1"));
    }
}
