//! STIR/SHAKEN (docs/stir.md). The server verifies the Identity headers of an inbound call before any application
//! learns about the call. The server signs outbound calls. The parts without I/O are in [`tandem_sip::stir`].
//!
//! ```text
//!   INVITE ──> verification_request ──> verify (certificates.rs) ──> CallerIdentity in the leg's facts
//!   Invite ──> signing_request ───────────────────> SigningRequest::headers, for each trunk that is tried
//! ```
#![forbid(unsafe_code)]

mod certificates;
mod replays;
mod signing;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tandem_call::leg::{CallerIdentity, Verstat};
use tandem_host::clock;
use tandem_http::{Client, NetworkPolicy, tls_config};
use tandem_leg::signal::IncomingCall;
use tandem_metrics::stir::Tally;
use tandem_routing::trunk::identity;
use tandem_routing::trunk::numbering::Numbering;
use tandem_settings::{StirConfig, TrunkConfig, Verify};
use tandem_sip::Party;
use tandem_sip::stir::{
    Anchors, Attestation, Certificate, Diversion, Expected, Fault, Identity, Passport, Signer, canonical_number,
};
use url::Url;

pub use signing::{SigningOutcome, SigningRequest};

use certificates::{Certificates, FETCH_TIMEOUT, Fetcher};
use replays::Replays;

/// Maximum number of Identity headers that are checked for a call.
const MAX_IDENTITIES: usize = 8;

/// Verification and signing according to the configuration.
pub struct Stir {
    verify: Verify,
    max_age: u32,
    timeout: Duration,
    certificates: Option<Certificates>,
    /// Fetches the certificates of our own keys. `None` if no calls are signed.
    fetcher: Option<Fetcher>,
    signers: Arc<Signers>,
    replays: Mutex<Replays>,
}

#[derive(Debug, Default)]
struct Signers {
    all: Option<Signer>,
    by_trunk: HashMap<Arc<str>, Signer>,
}

/// The facts about a call that must be verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationRequest {
    /// Values of the Identity headers of the call.
    identities: Vec<String>,
    expected: Expected,
    required: bool,
    sip_call_id: String,
}

/// A faulty setting: the path of the setting, and the error.
pub type BadSetting = (String, String);

/// Returns the errors in the settings and in the files that the settings name.
pub fn faults(config: &StirConfig, trunks: &[TrunkConfig]) -> Vec<BadSetting> {
    let mut faults = Vec::new();
    let _ = Stir::build(config, trunks, &mut faults);
    faults
}

impl Stir {
    /// Applies the settings, and reads the files that the settings name.
    pub fn new(config: &StirConfig, trunks: &[TrunkConfig]) -> Result<Self, BadSetting> {
        let mut faults = Vec::new();
        let stir = Self::build(config, trunks, &mut faults);
        faults.into_iter().next().map_or(Ok(stir), Err)
    }

    fn build(config: &StirConfig, trunks: &[TrunkConfig], faults: &mut Vec<BadSetting>) -> Self {
        let mut fault = |path: &str, message: String| faults.push((path.to_owned(), message));
        if !(1..=3_600).contains(&config.max_age_seconds) {
            fault("stir.max_age_seconds", format!("{} is not 1 to 3600", config.max_age_seconds));
        }
        if !(100..=10_000).contains(&config.timeout_ms) {
            fault("stir.timeout_ms", format!("{} is not 100 to 10000", config.timeout_ms));
        }
        if config.ports.is_empty() || config.ports.contains(&0) {
            fault("stir.ports", "must contain at least one port, and not 0".to_owned());
        }
        let verifies = |trunk: &TrunkConfig| trunk.stir.verify.is_some_and(|verify| verify != Verify::Off);
        let mut certificates = None;
        match &config.trust {
            Some(path) => match read(path).and_then(|pem| Anchors::read(&pem).map_err(|why| in_file(path, why))) {
                Ok(anchors) => match client(config) {
                    Ok(client) => certificates = Some(Certificates::new(client, anchors, config.ports.clone())),
                    Err(why) => fault("stir.ca_file", why),
                },
                Err(why) => fault("stir.trust", why),
            },
            None if config.verify != Verify::Off || trunks.iter().any(verifies) => {
                let message = "needs a trust = \"FILE\" in [stir]: the file of the trusted authorities";
                let at = trunks.iter().position(verifies).map(|index| format!("trunks[{index}].stir.verify"));
                fault(at.as_deref().filter(|_| config.verify == Verify::Off).unwrap_or("stir.verify"), message.into());
            }
            None => {}
        }
        let mut signer = |table: &str, key: Option<&Path>, url: Option<&Arc<str>>| {
            match signer(key, url) {
                Ok(signer) => return signer,
                Err((name, why)) => fault(&format!("{table}.{name}"), why),
            }
            None
        };
        let all = signer("stir", config.key.as_deref(), config.certificate_url.as_ref());
        let mut by_trunk = HashMap::new();
        for (index, trunk) in trunks.iter().enumerate() {
            let (key, url) = (trunk.stir.key.as_deref(), trunk.stir.certificate_url.as_ref());
            if let Some(signer) = signer(&format!("trunks[{index}].stir"), key, url) {
                by_trunk.insert(Arc::clone(&trunk.name), signer);
            }
        }
        let mut fetcher = None;
        if all.is_some() || !by_trunk.is_empty() {
            match client(config) {
                Ok(client) => fetcher = Some(Fetcher::new(client, config.ports.clone())),
                Err(why) if config.trust.is_none() => faults.push(("stir.ca_file".to_owned(), why)),
                // This fault is in the list already.
                Err(_) => {}
            }
        }
        Self {
            verify: config.verify,
            max_age: config.max_age_seconds,
            timeout: Duration::from_millis(config.timeout_ms.into()),
            certificates,
            fetcher,
            signers: Arc::new(Signers { all, by_trunk }),
            replays: Mutex::default(),
        }
    }

    /// Fetches the certificates of our own keys, as the far ends do. Returns each URL with the time at which the
    /// certificate expires, in seconds since 1970.
    ///
    /// # Errors
    /// A URL has a fault if the certificate cannot be fetched or read, or if the certificate is of another key.
    pub async fn own_certificates(&self) -> Vec<(String, Result<u64, Fault>)> {
        let Some(fetcher) = &self.fetcher else { return Vec::new() };
        let mut found = Vec::new();
        for signer in self.signers.all.iter().chain(self.signers.by_trunk.values()) {
            let url = signer.certificate_url();
            let fetched = fetcher.fetch(url).await.and_then(|response| Certificate::read(&response.body));
            let expiry = fetched.and_then(|certificate| match certificate.is_of(signer) {
                true => certificate.not_after().ok_or_else(|| Fault::Certificate("its dates are malformed".to_owned())),
                false => Err(Fault::Certificate("it is the certificate of another key".to_owned())),
            });
            found.push((url.to_owned(), expiry));
        }
        found
    }

    /// Returns the facts that must be verified for an inbound call. The numbers of `incoming` must already have this
    /// server's own format ([`identity::receive`]). Returns `None` if verification is off, and for a call without
    /// Identity headers if verification is not required. Also returns `None` for a call from a phone, because the phone
    /// has authenticated itself with a password.
    pub fn verification_request(
        &self,
        trunk: Option<&TrunkConfig>,
        incoming: &IncomingCall,
    ) -> Option<VerificationRequest> {
        let verify = trunk.and_then(|trunk| trunk.stir.verify).unwrap_or(self.verify);
        let identities: Vec<_> = identities(incoming.headers.iter().map(|(name, value)| (&**name, &**value)))
            .take(MAX_IDENTITIES)
            .map(str::to_owned)
            .collect();
        let required = verify == Verify::Require;
        if verify == Verify::Off || incoming.caller.is_some() || (identities.is_empty() && !required) {
            return None;
        }
        let numbering = trunk.map(Numbering::of).unwrap_or_default();
        let shown = canonical_number(&incoming.from_user);
        // For an anonymous caller, the check uses the identity that the trunk asserts.
        let asserted = || canonical_number(&numbering.caller_in(&identity::asserted(&incoming.headers)?));
        let to = Party::of_uri(&incoming.to_uri).map(|party| party.user()).unwrap_or_default();
        let to = numbering.called_in(&to);
        let mut dest: Vec<_> = [&*incoming.to_user, &*to].into_iter().filter_map(canonical_number).collect();
        dest.dedup();
        let expected = Expected { orig: shown.or_else(asserted).into_iter().collect(), dest, max_age: self.max_age };
        Some(VerificationRequest { identities, expected, required, sip_call_id: incoming.signalling_id.clone() })
    }

    /// Verifies a call. The time limit is `stir.timeout_ms`. An error means that the call must be refused, and contains
    /// the reason.
    pub async fn verify(&self, request: VerificationRequest, tally: &Tally) -> Result<CallerIdentity, Fault> {
        let identities: Vec<_> = request.identities.iter().filter_map(|value| Identity::parse(value)).collect();
        let shaken = identities.iter().find(|identity| identity.may_be_shaken());
        let outcome = match shaken {
            Some(identity) => {
                let diversions = identities.iter().filter(|identity| identity.is_diversion());
                let diversions: Vec<_> = diversions.filter_map(|one| Diversion::read(one).ok()).collect();
                let checked = self.check(identity, &request.expected, &diversions).await;
                // A diverted call returns with the Identity of the first call.
                match checked {
                    Ok(_) if diversions.is_empty() && self.is_replayed(identity, &request.sip_call_id) => {
                        Err(Fault::Invalid("another call has used the same Identity before (replay)".to_owned()))
                    }
                    checked => checked,
                }
            }
            None if request.identities.is_empty() => Err(Fault::Absent),
            None if identities.is_empty() => Err(Fault::Invalid("it cannot be read".to_owned())),
            None => Err(Fault::Unsupported("its PASSporT type is not shaken".to_owned())),
        };
        tally.verified(outcome.as_ref().err());
        let token = shaken.map(|identity| identity.token.clone());
        let attestation = shaken.and_then(Passport::claimed).map(attested);
        match outcome {
            Ok(attestation) => Ok(CallerIdentity {
                verstat: Verstat::Passed,
                attestation: Some(attested(attestation)),
                token,
                detail: None,
            }),
            Err(fault) if request.required => Err(fault),
            Err(fault) => Ok(CallerIdentity {
                verstat: if fault.is_failure() { Verstat::Failed } else { Verstat::Unknown },
                attestation,
                token,
                detail: Some(fault.to_string()),
            }),
        }
    }

    /// Records that a call uses a valid Identity. Returns whether another call has used the Identity within the time for
    /// which it is fresh (RFC 8224 §12.1). The same call may arrive several times: over two trunks, or by a fork.
    fn is_replayed(&self, identity: &Identity, sip_call_id: &str) -> bool {
        let now = clock::time().as_second().unsigned_abs();
        // An Identity may be dated up to `max_age` in the future, and is then fresh for twice this time.
        let until = now.saturating_add(2 * u64::from(self.max_age));
        self.replays.lock().is_replayed(now, until, &identity.token, sip_call_id)
    }

    async fn check(
        &self,
        identity: &Identity,
        expected: &Expected,
        diversions: &[Diversion],
    ) -> Result<Attestation, Fault> {
        let now = clock::time().as_second().unsigned_abs();
        let passport = Passport::read(identity)?;
        let along = passport.check_along(now, expected, diversions)?;
        let Some(certificates) = &self.certificates else {
            return Err(Fault::Unreachable("no authority is trusted".to_owned()));
        };
        let verified = async {
            passport.verify(&*certificates.get(&passport.x5u).await?)?;
            for diversion in along {
                diversion.verify(&*certificates.get(&diversion.x5u).await?)?;
            }
            Ok(passport.attestation)
        };
        let late = |_| Fault::Unreachable(format!("fetching the certificate from {} timed out", passport.x5u));
        tokio::time::timeout(self.timeout, verified).await.map_err(late)?
    }
}

/// Returns the result of the verification as a line for the log of the call.
pub fn line(identity: &CallerIdentity) -> String {
    let attestation = identity.attestation.map_or("none", |attestation| attestation.letter());
    match (&identity.verstat, &identity.detail) {
        (Verstat::Passed, _) => format!("Identity: passed, attestation {attestation}"),
        (Verstat::Failed, why) => {
            format!("Identity: failed, attestation {attestation}: {}", why.as_deref().unwrap_or_default())
        }
        (Verstat::Unknown, why) => format!("Identity: not verified: {}", why.as_deref().unwrap_or_default()),
    }
}

/// Iterates over the values of Identity headers (`y` in compact form, RFC 8224 §4).
fn identities<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> impl Iterator<Item = &'a str> {
    headers
        .filter(|(name, _)| name.eq_ignore_ascii_case("Identity") || name.eq_ignore_ascii_case("y"))
        .map(|(_, value)| value)
}

fn attested(attestation: Attestation) -> tandem_call::leg::Attestation {
    match attestation {
        Attestation::A => tandem_call::leg::Attestation::A,
        Attestation::B => tandem_call::leg::Attestation::B,
        Attestation::C => tandem_call::leg::Attestation::C,
    }
}

fn client(config: &StirConfig) -> Result<Client, String> {
    let tls = tls_config(config.ca_file.as_deref()).map_err(|error| error.to_string())?;
    let policy = NetworkPolicy { allow_networks: config.allow_networks.clone() };
    Client::with(policy, FETCH_TIMEOUT, tls, Arc::new(tandem_http::SystemResolver)).map_err(|error| error.to_string())
}

/// Returns the signer with this key and the URL of the key's certificate. `None` if both the key and the URL are
/// absent. An error contains the name of the wrong setting.
fn signer(key: Option<&Path>, url: Option<&Arc<str>>) -> Result<Option<Signer>, (&'static str, String)> {
    let (path, url) = match (key, url) {
        (Some(path), Some(url)) => (path, url),
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(("key", "needs a certificate_url beside it".to_owned())),
        (None, Some(_)) => return Err(("certificate_url", "needs a key beside it".to_owned())),
    };
    // A header field contains the URL in angle brackets.
    let fits = Url::parse(url).is_ok_and(|parsed| parsed.scheme() == "https" && parsed.has_host())
        && url.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"".contains(&byte));
    if !fits {
        return Err(("certificate_url", format!("{url:?} is not \"https://HOST/PATH\"")));
    }
    let pem = read(path).map_err(|why| ("key", why))?;
    let signer = Signer::new(&pem, Arc::clone(url)).map_err(|why| ("key", in_file(path, why.to_string())))?;
    Ok(Some(signer))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| in_file(path, format!("cannot be read: {error}")))
}

fn in_file(path: &Path, why: String) -> String {
    format!("{}: {why}", path.display())
}

#[cfg(test)]
mod tests;
