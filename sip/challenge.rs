//! The server side of Digest authentication (RFC 3261 §22, RFC 7616, RFC 8760).
//!
//! A nonce contains its creation time and a proof that this server created it. So the server needs no memory for the
//! nonce of a challenge that nobody answers. For a used nonce, the server stores the highest nonce count until the nonce expires.
//! So an attacker cannot send a recorded request again.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use rand::Rng;
use tandem_net::digest::{Hash, split_outside_quotes, unquote};

use crate::directory::{Directory, User};
use crate::message::Uri;
use crate::registrar::DigestAlgorithm;

/// Lifetime of a nonce. A request with an older nonce gets a new challenge with `stale=true`, so that the client does
/// not ask the user for the password again.
const NONCE_LIFE: Duration = Duration::from_secs(300);
/// Maximum number of used nonces that are stored. Above this number, the server deletes the oldest nonce. A deleted
/// nonce counts as too old in later requests.
const MAX_NONCES: usize = 65_536;
/// Maximum number of users of one name whose passwords are tried. Different accounts may have users with the same name.
const MAX_CANDIDATES: usize = 16;
/// Maximum number of Authorization values that are read in one request.
const MAX_ANSWERS: usize = 8;

/// Creates challenges, and checks the answers to these challenges.
#[derive(Debug)]
pub(crate) struct Authority {
    secret: u128,
    /// The instant from which the creation times of nonces are counted.
    epoch: Option<Instant>,
    /// The highest nonce count that was received for each used nonce. The key is the salt of the nonce.
    used: HashMap<u64, u32>,
    /// The used nonces, oldest first. Each entry has the creation time and the salt.
    order: VecDeque<(Duration, u64)>,
    /// Nonces that were created at or before this time count as too old, even if their lifetime has not ended.
    floor: Option<Duration>,
    /// The addresses (`HOST:PORT`) at which phones reach this server.
    own_addresses: Vec<String>,
}

/// The result of the check of a Digest answer.
#[derive(Debug)]
pub(crate) enum AuthenticationResult<'a> {
    /// The answer proves that this user sent the request.
    Accepted(&'a User),
    /// The password is right, but the nonce is not valid.
    Stale,
    /// No user with the name in the answer has this password. Contains the claimed name.
    WrongCredentials(String),
    /// The password is right, but the answer was computed for another Request-URI. Contains the claimed name and the
    /// URI in the answer.
    WrongUri(String, String),
    /// The request contains no answer for this realm.
    Missing,
}

struct Answer {
    username: String,
    nonce: String,
    uri: String,
    response: String,
    sha256: bool,
    /// The values of `nc` and `cnonce`, if the answer has `qop=auth`.
    count: Option<(String, String)>,
}

impl Authority {
    pub(crate) fn new(rng: &mut impl Rng) -> Self {
        Self {
            secret: u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64()),
            epoch: None,
            used: HashMap::new(),
            order: VecDeque::new(),
            floor: None,
            own_addresses: Vec::new(),
        }
    }

    /// Sets the addresses (`HOST:PORT`) at which phones reach this server. An answer for `sip:HOST:PORT` is then valid
    /// for any call to this server.
    pub(crate) fn set_own(&mut self, own_addresses: Vec<String>) {
        self.own_addresses = own_addresses;
    }

    /// Returns whether the URI in an answer is this server's own address without a user. SIPp uses this URI for every
    /// call. It is safe to accept this URI. If a phone answers a challenge that an attacker passed to it, the URI in
    /// the answer contains the attacker's address.
    fn is_own(&self, signed: &str) -> bool {
        signed.strip_prefix("sip:").is_some_and(|at| self.own_addresses.iter().any(|own| own.eq_ignore_ascii_case(at)))
    }

    /// Returns the WWW-Authenticate lines, one line for each algorithm. The lines have the order of `algorithms` (RFC
    /// 8760 §2.3).
    pub(crate) fn challenge(
        &mut self,
        now: Instant,
        realm: &str,
        algorithms: &[DigestAlgorithm],
        stale: bool,
        rng: &mut impl Rng,
    ) -> String {
        let age = now.saturating_duration_since(*self.epoch.get_or_insert(now));
        let nonce = self.nonce(age, rng.next_u64());
        let stale = if stale { ",stale=true" } else { "" };
        let line = |algorithm: &DigestAlgorithm| {
            let name = match algorithm {
                DigestAlgorithm::Md5 => "MD5",
                DigestAlgorithm::Sha256 => "SHA-256",
            };
            format!(
                "WWW-Authenticate: Digest realm=\"{realm}\",nonce=\"{nonce}\",algorithm={name},qop=\"auth\"{stale}\r\n"
            )
        };
        algorithms.iter().map(line).collect()
    }

    /// Checks the Authorization values of a request. `uri` is the Request-URI, and `host` is the host of this URI.
    pub(crate) fn check<'a>(
        &mut self,
        now: Instant,
        method: &str,
        (uri, host): (&Uri, &'a str),
        values: &[String],
        directory: &'a Directory,
    ) -> AuthenticationResult<'a> {
        let mine = |value: &String| Answer::read(value, directory.realm());
        let Some(answer) = values.iter().take(MAX_ANSWERS).find_map(mine) else { return AuthenticationResult::Missing };
        let right = |user: &&User| answer.is_right(method, user);
        let Some(user) = directory.users(&answer.username, host).take(MAX_CANDIDATES).find(right) else {
            return AuthenticationResult::WrongCredentials(answer.username);
        };
        if !is_same_resource(method, &answer.uri, uri) && !self.is_own(&answer.uri) {
            return AuthenticationResult::WrongUri(answer.username, answer.uri);
        }
        // An answer without `qop` has no nonce count (RFC 2069). Such an answer is valid once.
        let count = match &answer.count {
            None => Some(1),
            Some((count, _)) => u32::from_str_radix(count, 16).ok(),
        };
        match count.filter(|count| self.use_nonce(now, &answer.nonce, *count)) {
            Some(_) => AuthenticationResult::Accepted(user),
            None => AuthenticationResult::Stale,
        }
    }

    /// Records the use of the nonce with this count. Returns `false` in three cases: this server did not create the
    /// nonce, the nonce is too old, or the nonce was already used with this count or a higher count.
    fn use_nonce(&mut self, now: Instant, nonce: &str, count: u32) -> bool {
        let age = now.saturating_duration_since(*self.epoch.get_or_insert(now));
        let field = |range| nonce.get(range).and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let (Some(made), Some(salt)) = (field(0..16), field(16..32)) else { return false };
        let made = Duration::from_millis(made);
        if self.nonce(made, salt) != nonce || age.saturating_sub(made) > NONCE_LIFE {
            return false;
        }
        while let Some((oldest, salt)) = self.order.front().copied() {
            let full = self.order.len() >= MAX_NONCES;
            if !full && age.saturating_sub(oldest) <= NONCE_LIFE {
                break;
            }
            if full {
                self.floor = self.floor.max(Some(oldest));
            }
            self.order.pop_front();
            self.used.remove(&salt);
        }
        match self.used.get_mut(&salt) {
            Some(highest) if count > *highest => *highest = count,
            Some(_) => return false,
            None if self.floor.is_some_and(|floor| made <= floor) => return false,
            None => {
                self.used.insert(salt, count);
                self.order.push_back((made, salt));
            }
        }
        true
    }

    fn nonce(&self, made: Duration, salt: u64) -> String {
        let made = u64::try_from(made.as_millis()).unwrap_or(u64::MAX);
        let proof = Hash::Sha256.of(format!("{:032x}{made:016x}{salt:016x}", self.secret).as_bytes());
        format!("{made:016x}{salt:016x}{}", proof.get(..32).unwrap_or_default())
    }
}

/// Returns the user names that the Authorization values for this realm claim. The answers are not checked.
pub(crate) fn claimed(values: &[String], realm: &str) -> impl Iterator<Item = String> {
    values.iter().take(MAX_ANSWERS).filter_map(move |value| Answer::read(value, realm)).map(|answer| answer.username)
}

impl Answer {
    fn read(value: &str, realm: &str) -> Option<Self> {
        let (scheme, rest) = value.trim().split_once(|c: char| c.is_ascii_whitespace())?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let parameters: Vec<(String, String)> = split_outside_quotes(rest)
            .take(32)
            .filter_map(|item| item.split_once('='))
            .map(|(name, text)| (name.trim().to_ascii_lowercase(), unquote(text.trim())))
            .collect();
        let get = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let sha256 = match get("algorithm").as_deref().map(str::to_ascii_uppercase).as_deref() {
            None | Some("MD5") => false,
            Some("SHA-256") => true,
            Some(_) => return None,
        };
        let count = match get("qop").as_deref() {
            None => None,
            Some(qop) if qop.eq_ignore_ascii_case("auth") => Some((get("nc")?, get("cnonce")?)),
            Some(_) => return None,
        };
        Some(Self {
            username: get("username")?,
            nonce: get("nonce")?,
            uri: get("uri")?,
            response: get("response")?,
            sha256,
            count,
        })
        .filter(|_| get("realm").as_deref() == Some(realm))
    }

    /// Returns whether the answer matches the user's password (RFC 7616 §3.4.1).
    fn is_right(&self, method: &str, user: &User) -> bool {
        let (hash, ha1) = if self.sha256 { (Hash::Sha256, &user.ha1.sha256) } else { (Hash::Md5, &user.ha1.md5) };
        let ha2 = hash.of(format!("{method}:{}", self.uri).as_bytes());
        let nonce = &self.nonce;
        let whole = match &self.count {
            None => format!("{ha1}:{nonce}:{ha2}"),
            Some((count, cnonce)) => format!("{ha1}:{nonce}:{count}:{cnonce}:auth:{ha2}"),
        };
        !ha1.is_empty() && hash.of(whole.as_bytes()).eq_ignore_ascii_case(&self.response)
    }
}

/// Returns whether an answer for the URI `signed` is valid for a request to `uri` (RFC 7616 §3.4.6). If a phone calls
/// an attacker, the attacker can pass a challenge of this server to the phone and get an answer. This answer must not
/// be valid for a call to another party.
///
/// The two URIs must have the same user and the same host. Phones often rewrite the URI instead of copying it. So these
/// differences are ignored:
/// - parameters, header fields, and `sip` instead of `sips`, because these parts change the path of a request, but not
///   its recipient;
/// - letter case in the host;
/// - a port that only one of the two URIs has;
/// - no user in `signed` (`sip:HOST`), because some phones write the URI in this form. If such a phone calls an
///   attacker, the host in `signed` is the attacker's host and not this server;
/// - the user, if the request is a REGISTER. RFC 3261 §10.2 allows no user in the Request-URI of a REGISTER, but some
///   phones write a user in one of the two URIs. The registered user is in To.
///
/// If a proxy on the path changes the user or the host, the answer is not valid. RFC 3261 §22.4 leaves the comparison
/// to the server.
fn is_same_resource(method: &str, signed: &str, uri: &Uri) -> bool {
    if signed.as_bytes() == uri.text().as_ref() {
        return true;
    }
    let Some(signed) = Uri::parse(signed.as_bytes()).filter(|signed| signed.is_sip() && uri.is_sip()) else {
        return false;
    };
    let same_port = match (signed.port(), uri.port()) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    let same_host = signed.host_text().eq_ignore_ascii_case(&uri.host_text()) && !uri.host_text().is_empty();
    same_host && same_port && (method == "REGISTER" || signed.user().is_empty() || signed.user() == uri.user())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::digest::{Attempts, Credentials, Session};
    use crate::directory::Ha1;
    use crate::testing::instant;
    use tandem_id::AccountName;
    use tandem_net::digest::parse_challenges;

    fn directory() -> Directory {
        let user = User {
            account: AccountName::new("acme"),
            username: "alice".into(),
            ha1: Ha1::of("alice", "tandem", "secret"),
            domain: None,
            trunk: None,
            registers: true,
            calls: true,
        };
        Directory::new("tandem", [user], [])
    }

    /// Returns a client session that has stored one challenge. `which` is the index of this challenge among the
    /// challenges of the server.
    fn client(authority: &mut Authority, now: Instant, password: &str, which: usize) -> Session {
        let lines = authority.challenge(
            now,
            "tandem",
            &[DigestAlgorithm::Sha256, DigestAlgorithm::Md5],
            false,
            &mut StdRng::from_seed([2; 32]),
        );
        let line = lines.lines().nth(which).unwrap().strip_prefix("WWW-Authenticate: ").unwrap();
        let mut session = Session::new(Credentials { username: "alice".into(), password: password.into() });
        assert!(session.learn(parse_challenges(line, false), &mut Attempts::default()));
        session
    }

    fn answer(session: &mut Session) -> Vec<String> {
        let lines = session.lines("REGISTER", "sip:tandem", b"", &mut StdRng::from_seed([3; 32]));
        vec![lines.trim_end().strip_prefix("Authorization: ").unwrap().to_owned()]
    }

    fn uri(text: &str) -> Uri {
        Uri::parse(text.as_bytes()).unwrap()
    }

    fn authority() -> Authority {
        Authority::new(&mut StdRng::from_seed([1; 32]))
    }

    #[test]
    fn the_digest_client_is_accepted_with_each_algorithm_and_each_nonce_count_once() {
        let (mut authority, directory, now) = (authority(), directory(), instant());
        for which in [0, 1] {
            let mut session = client(&mut authority, now, "secret", which);
            let (first, second) = (answer(&mut session), answer(&mut session));
            let mut check = |values: &[String], method| {
                format!("{:?}", authority.check(now, method, (&uri("sip:tandem"), "tandem"), values, &directory))
                    .split('(')
                    .next()
                    .unwrap()
                    .to_owned()
            };
            assert_eq!(check(&first, "INVITE"), "WrongCredentials", "signed for another method");
            // The second challenge has the same salt as the first challenge, so its nonce counts continue.
            if which == 0 {
                assert_eq!(check(&first, "REGISTER"), "Accepted");
                assert_eq!(check(&first, "REGISTER"), "Stale");
                assert_eq!(check(&second, "REGISTER"), "Accepted");
                assert_eq!(check(&first, "REGISTER"), "Stale");
            }
        }
    }

    #[test]
    fn a_wrong_password_an_unknown_user_and_a_missing_answer_are_different_results() {
        let (mut authority, directory, now) = (authority(), directory(), instant());
        let wrong = answer(&mut client(&mut authority, now, "guess", 1));
        assert!(
            matches!(authority.check(now, "REGISTER", (&uri("sip:tandem"), "h"), &wrong, &directory), AuthenticationResult::WrongCredentials(name) if name == "alice")
        );
        let unknown_user = vec![wrong[0].replace("alice", "mallory")];
        assert!(matches!(
            authority.check(now, "REGISTER", (&uri("sip:tandem"), "h"), &unknown_user, &directory),
            AuthenticationResult::WrongCredentials(_)
        ));
        for value in ["", "Digest", "Basic abc", "Digest realm=\"tandem\"", "Digest username=\"alice\",realm=\"other\""]
        {
            let result = authority.check(now, "REGISTER", (&uri("sip:tandem"), "h"), &[value.to_owned()], &directory);
            assert!(matches!(result, AuthenticationResult::Missing), "{value}");
        }
    }

    #[test]
    fn a_digest_answer_is_valid_for_its_request_uri_in_any_spelling_and_no_other() {
        let same = |method, signed, requested| is_same_resource(method, signed, &uri(requested));
        for (signed, requested) in [
            ("sip:100@Tandem", "sip:100@tandem"),
            ("sip:100@tandem:5060", "sip:100@tandem"),
            ("sip:100@tandem", "sip:100@tandem:5070;transport=tcp"),
            ("sip:100@tandem;user=phone", "sip:100@tandem"),
            ("sips:100@tandem", "sip:100@tandem"),
            ("sip:tandem", "sip:100@tandem"),
            ("sip:+1555-000@tandem", "sip:+1555000@tandem"),
            ("sip:%31%30%30@tandem", "sip:100@tandem"),
            ("tel:+15550001", "tel:+15550001"),
        ] {
            assert!(same("INVITE", signed, requested), "{signed} for {requested}");
        }
        for (signed, requested) in [
            ("sip:100@tandem", "sip:101@tandem"),
            ("sip:+19005550001@tandem", "sip:100@tandem"),
            ("sip:100@tandem", "sip:tandem"),
            ("sip:attacker.example", "sip:100@tandem"),
            ("sip:100@elsewhere", "sip:100@tandem"),
            ("sip:100@tandem:5070", "sip:100@tandem:5080"),
            ("tel:+15550001", "sip:+15550001@tandem"),
            ("tel:+15550001", "tel:+15550002"),
            ("", "sip:100@tandem"),
            ("100@tandem", "sip:100@tandem"),
        ] {
            assert!(!same("INVITE", signed, requested), "{signed} for {requested}");
        }
        // Some phones write a user in one of the two URIs.
        assert!(
            same("REGISTER", "sip:alice@tandem", "sip:tandem") && same("REGISTER", "sip:tandem", "sip:alice@tandem")
        );
        assert!(!same("REGISTER", "sip:elsewhere", "sip:tandem"));
    }

    #[test]
    fn a_correct_digest_answer_for_another_uri_differs_from_a_wrong_answer() {
        let (mut authority, directory, now) = (authority(), directory(), instant());
        let lured = answer(&mut client(&mut authority, now, "secret", 1));
        let result = authority.check(now, "REGISTER", (&uri("sip:victim"), "victim"), &lured, &directory);
        assert!(matches!(result, AuthenticationResult::WrongUri(name, to) if name == "alice" && to == "sip:tandem"));
        let result = authority.check(now, "REGISTER", (&uri("sip:tandem"), "tandem"), &lured, &directory);
        assert!(matches!(result, AuthenticationResult::Accepted(_)), "it has not been used up");
    }

    #[test]
    fn a_digest_answer_for_an_own_address_is_valid_for_any_call_to_this_server() {
        let (mut authority, directory, now) = (authority(), directory(), instant());
        let shown = answer(&mut client(&mut authority, now, "secret", 1));
        authority.set_own(vec!["tandem".to_owned()]);
        let elsewhere =
            authority.check(now, "REGISTER", (&uri("sip:acme.example"), "acme.example"), &shown, &directory);
        assert!(matches!(elsewhere, AuthenticationResult::Accepted(_)), "{elsewhere:?}");
    }

    #[test]
    fn an_old_or_foreign_nonce_is_stale() {
        let (mut authority, directory, now) = (authority(), directory(), instant());
        let old = answer(&mut client(&mut authority, now, "secret", 1));
        let later = now + NONCE_LIFE + Duration::from_secs(1);
        assert!(matches!(
            authority.check(later, "REGISTER", (&uri("sip:tandem"), "h"), &old, &directory),
            AuthenticationResult::Stale
        ));
        let mut another = Authority::new(&mut StdRng::from_seed([9; 32]));
        assert!(matches!(
            another.check(now, "REGISTER", (&uri("sip:tandem"), "h"), &old, &directory),
            AuthenticationResult::Stale
        ));
    }

    #[test]
    fn stored_nonces_are_limited_and_a_removed_nonce_is_stale() {
        let (mut authority, now) = (authority(), instant());
        authority.epoch = Some(now);
        let nonces: Vec<String> = (0..MAX_NONCES as u64 + 10)
            .map(|salt| authority.nonce(Duration::from_millis(salt / 1_000), salt))
            .collect();
        assert!(nonces.iter().all(|nonce| {
            let taken = authority.use_nonce(now, nonce, 1);
            assert!(authority.used.len() <= MAX_NONCES && authority.order.len() <= MAX_NONCES);
            taken
        }));
        assert!(!authority.use_nonce(now, &nonces[0], 2), "forgotten, and its use with it");
        let later = now + NONCE_LIFE * 2;
        assert!(!authority.use_nonce(later, &nonces[MAX_NONCES], 2));
        let fresh = authority.nonce(NONCE_LIFE * 2, 7_777_777);
        assert!(authority.use_nonce(later, &fresh, 1));
        assert_eq!(authority.used.len(), 1, "what is too old is not kept");
    }
}
