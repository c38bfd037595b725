//! The tokens of pages: access tokens, which an API key has signed, and capability tokens of older SDKs, which the auth
//! token of the account has signed. Both are JWTs (RFC 7519) with an HMAC (RFC 7518 §3.2).

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value};
use tandem_accounts::subaccount::AccountStatus;
use tandem_accounts::{Account, Accounts};
use tandem_host::jwt::{Token, Unreadable};
use tandem_pages::printable;

use super::super::Twilio;
use super::super::family::Provider;
use super::super::sid;

/// Maximum size of a token, in octets. Proxies limit header fields to such sizes, and tokens travel in header fields.
const MAX_TOKEN: usize = 16 * 1024;
/// Maximum difference of the clocks of this server and of the application.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_secs(60);
/// Maximum life of a token.
const MAX_LIFE: SignedDuration = SignedDuration::from_hours(24);
/// Name of a page whose token has no name. Only old tokens for outgoing calls have none.
const ANONYMOUS: &str = "Anonymous";

/// The permissions in a valid token.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    /// The account whose key has signed the token.
    pub(super) account: Arc<Account>,
    /// The SID of the account.
    pub(super) account_sid: String,
    /// The name of the page.
    pub(super) identity: Arc<str>,
    /// Whether calls may ring at the page.
    pub(super) may_receive: bool,
    /// The application to which the page's calls go. `None` if the page may not call.
    pub(super) application: Option<Arc<str>>,
    /// Parameters that the application gets with each call of the page.
    pub(super) parameters: Vec<(String, String)>,
    /// The end of the token's life.
    pub(super) expires: Timestamp,
}

/// The reason why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// The SDK's error code.
    pub(super) code: u32,
    /// The key or account that the token names, and the reason, for the log.
    pub(super) why: String,
    /// The account, if the token names one that exists.
    pub(super) account: Option<tandem_id::AccountName>,
}

/// The SDK's code for a token that cannot be used.
const INVALID: u32 = 31_204;
/// The SDK's code for an unknown key, or a wrong signature.
const NOT_AUTHENTIC: u32 = 31_201;
/// The SDK's code for an expired token.
pub(super) const EXPIRED: u32 = 31_205;
/// The SDK's code for a token that lives too long.
const LIVES_TOO_LONG: u32 = 31_207;
/// The SDK's code for a name that cannot be used.
const BAD_NAME: u32 = 31_105;

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: Option<String>,
    exp: i64,
    iat: Option<i64>,
    nbf: Option<i64>,
    grants: Option<Grants>,
    /// The permissions of a capability token, separated by spaces.
    scope: Option<String>,
}

#[derive(Deserialize)]
struct Grants {
    identity: Option<String>,
    voice: Option<Voice>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Voice {
    incoming: Incoming,
    outgoing: Outgoing,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Incoming {
    allow: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Outgoing {
    application_sid: Option<String>,
    params: Map<String, Value>,
}

/// The permissions of a page, in the form that both kinds of tokens share.
#[derive(Default)]
struct Permissions {
    identity: Option<String>,
    may_receive: bool,
    application: Option<String>,
    parameters: Vec<(String, String)>,
}

/// Verifies a token. Returns its permissions.
///
/// # Errors
/// The token is malformed, not authentic, expired, or of an account that is not active.
pub(super) fn verify(accounts: &Accounts, token: &str, now: Timestamp) -> Result<Grant, Refused> {
    let invalid = |why: &str| refused(INVALID, None, why);
    let token = Token::<Claims>::read(token, MAX_TOKEN).map_err(|why| match why {
        Unreadable::TooLong => invalid("the token is too long"),
        Unreadable::Malformed => invalid("the token is no JWT"),
        Unreadable::Claims => invalid("the token has no iss or no exp"),
    })?;
    let Some(algorithm) = token.algorithm else {
        return Err(invalid("the token is not signed with HS256, HS384 or HS512"));
    };
    let Issuer { account, account_sid, secret } = issuer(accounts, &token.claims)?;
    let signer = shown(&token.claims.iss);
    let refuse = |code, why: &str| Err(refused(code, Some(&account), &format!("{signer}: {why}")));
    if !token.is_signed_with(algorithm, secret.as_bytes()) {
        return refuse(NOT_AUTHENTIC, "the signature is wrong: the token was signed with another secret");
    }
    let claims = token.claims;
    if accounts.status(&account.name) != AccountStatus::Active {
        return refuse(INVALID, "the account is not active");
    }
    let Some(expires) = time(claims.exp) else { return refuse(INVALID, "exp is no time") };
    if expires <= now {
        return refuse(EXPIRED, &format!("the token expired at {expires}"));
    }
    let begins = claims.nbf.or(claims.iat).and_then(time).unwrap_or(now);
    if begins > now + CLOCK_SLACK {
        return refuse(INVALID, &format!("the token is valid from {begins} on: compare the clocks"));
    }
    if expires.duration_since(begins.min(now)) > MAX_LIFE + CLOCK_SLACK {
        return refuse(LIVES_TOO_LONG, "the token is valid for more than 24 hours");
    }
    let Permissions { identity, may_receive, application, parameters } = permissions(claims.grants, claims.scope);
    let identity = match identity {
        Some(name) if is_name(&name) => name,
        Some(_) => return refuse(BAD_NAME, "the identity has spaces, control characters or more than 256 characters"),
        None if may_receive => return refuse(BAD_NAME, "a token for incoming calls needs an identity"),
        None => ANONYMOUS.to_owned(),
    };
    if !may_receive && application.is_none() {
        return refuse(INVALID, "the token has no voice grant");
    }
    let (identity, application) = (identity.into(), application.map(Into::into));
    Ok(Grant { account, account_sid, identity, may_receive, application, parameters, expires })
}

/// The signer of a token.
struct Issuer {
    account: Arc<Account>,
    account_sid: String,
    secret: String,
}

fn issuer(accounts: &Accounts, claims: &Claims) -> Result<Issuer, Refused> {
    let of = |account: &Account| Twilio.credentials(account).map(|own| (own.sid.into_owned(), own.secret.to_owned()));
    let unknown = |why: &str| refused(NOT_AUTHENTIC, None, &format!("{}: {why}", shown(&claims.iss)));
    let Some(key) = sid::parse("SK", &claims.iss) else {
        // A capability token names its account.
        let account = accounts.by_sid(&claims.iss).ok_or_else(|| unknown("no key and no account has this SID"))?;
        let (account_sid, secret) = of(&account)
            .filter(|(own, _)| *own == claims.iss)
            .ok_or_else(|| unknown("no key and no account has this SID"))?;
        return Ok(Issuer { account, account_sid, secret });
    };
    let (account, secret) = accounts.key(key).ok_or_else(|| unknown("no API key has this SID"))?;
    let (account_sid, _) = of(&account).ok_or_else(|| unknown("the account of the key has no account SID"))?;
    let refuse = |why: &str| refused(NOT_AUTHENTIC, Some(&account), &format!("{}: {why}", shown(&claims.iss)));
    if claims.sub.as_deref() != Some(&account_sid) {
        return Err(refuse("the key belongs to another account than sub names"));
    }
    let Some(secret) = secret.map(|secret| secret.expose().to_owned()) else {
        return Err(refuse("the key is of an earlier version, which stored no secret: create a new key"));
    };
    Ok(Issuer { account, account_sid, secret })
}

fn refused(code: u32, account: Option<&Arc<Account>>, why: &str) -> Refused {
    Refused { code, why: why.to_owned(), account: account.map(|account| account.name.clone()) }
}

fn permissions(grants: Option<Grants>, scope: Option<String>) -> Permissions {
    if let Some(Grants { identity, voice }) = grants {
        let Voice { incoming, outgoing } = voice.unwrap_or_default();
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let parameters = outgoing.params.into_iter().map(|(name, value)| (name, text(value))).collect();
        return Permissions {
            identity,
            may_receive: incoming.allow,
            application: outgoing.application_sid,
            parameters,
        };
    }
    let mut found = Permissions::default();
    for scope in scope.as_deref().unwrap_or_default().split(' ') {
        let (name, query) = scope.split_once('?').unwrap_or((scope, ""));
        let values: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let value = |key: &str| values.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        match name {
            "scope:client:incoming" => {
                found.may_receive = true;
                found.identity = value("clientName").or(found.identity);
            }
            "scope:client:outgoing" => {
                found.application = value("appSid");
                found.identity = found.identity.or_else(|| value("clientName"));
                let parameters = value("appParams").unwrap_or_default();
                found.parameters = form_urlencoded::parse(parameters.as_bytes()).into_owned().collect();
            }
            _ => {}
        }
    }
    found
}

fn time(seconds: i64) -> Option<Timestamp> {
    Timestamp::from_second(seconds).ok()
}

fn is_name(name: &str) -> bool {
    (1..=256).contains(&name.chars().count()) && !name.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Returns the text of a token for the log: at most 40 characters, without control characters.
fn shown(text: &str) -> String {
    printable(text).chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tandem_accounts::TwilioCredentials;
    use tandem_accounts::subaccount::Key;
    use tandem_host::jwt::signed;
    use tandem_id::AccountName;

    use super::*;

    const SID: &str = "AC00000000000000000000000000000001";
    const NOW: i64 = 1_800_000_000;

    /// An account with an API key. Returns the accounts, the SID of the key and its secret.
    fn accounts() -> (Accounts, String, String) {
        let twilio = Some(TwilioCredentials::new(SID, "auth-token"));
        let account = Account { twilio, ..Account::of_subaccount("acme", None, None) };
        let accounts = Accounts::new([account]);
        let (key, secret) = Key::new(&AccountName::new("acme"), "pages".into());
        let key_sid = sid::spell("SK", key.id);
        accounts.put_key(key);
        (accounts, key_sid, secret)
    }

    fn jwt(claims: &Value, secret: &str) -> String {
        signed(&json!({ "alg": "HS256", "typ": "JWT" }), claims, secret.as_bytes()).unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    fn claims(key: &str) -> Value {
        json!({ "iss": key, "sub": SID, "iat": NOW, "exp": NOW + 3600, "grants": { "identity": "alice", "voice": {
            "incoming": { "allow": true },
            "outgoing": { "application_sid": "AP1", "params": { "plan": "gold", "level": 7 } },
        } } })
    }

    #[test]
    fn an_access_token_grants_what_it_names() {
        let (accounts, key, secret) = accounts();
        let grant = verify(&accounts, &jwt(&claims(&key), &secret), now()).unwrap();
        assert_eq!((grant.account.name.as_str(), &*grant.account_sid, &*grant.identity), ("acme", SID, "alice"));
        assert_eq!((grant.may_receive, grant.application.as_deref()), (true, Some("AP1")));
        assert_eq!(grant.parameters, [("level".into(), "7".into()), ("plan".into(), "gold".into())]);
        assert_eq!(grant.expires.as_second(), NOW + 3600);
    }

    #[test]
    fn each_invalid_token_has_its_code_and_reason() {
        let (accounts, key, secret) = accounts();
        let with = |name: &str, value: Value| {
            let mut claims = claims(&key);
            claims[name] = value;
            claims
        };
        let grants = |identity: &str| json!({ "identity": identity, "voice": { "incoming": { "allow": true } } });
        for (claims, secret, code, why) in [
            (claims(&key), "wrong-one", NOT_AUTHENTIC, "another secret"),
            (with("iss", "SK00000000000000000000000000000001".into()), &*secret, NOT_AUTHENTIC, "no API key"),
            (with("iss", "nobody".into()), &*secret, NOT_AUTHENTIC, "no key and no account"),
            (with("sub", "AC2".into()), &*secret, NOT_AUTHENTIC, "another account"),
            (with("exp", NOW.into()), &*secret, EXPIRED, "expired at"),
            (with("exp", (NOW + 90_000).into()), &*secret, LIVES_TOO_LONG, "24 hours"),
            (with("nbf", (NOW + 600).into()), &*secret, INVALID, "compare the clocks"),
            (with("grants", grants("two words")), &*secret, BAD_NAME, "spaces"),
            (with("grants", json!({ "identity": "alice" })), &*secret, INVALID, "no voice grant"),
            (with("exp", "soon".into()), &*secret, INVALID, "no exp"),
        ] {
            let refused = verify(&accounts, &jwt(&claims, secret), now()).unwrap_err();
            assert_eq!(refused.code, code, "{refused:?}");
            assert!(refused.why.contains(why), "{refused:?}");
            assert!(!refused.why.contains(secret), "the reason has no secret");
        }
        for text in ["", "a.b", "a.b.c", "e30.e30.e30", &"x".repeat(MAX_TOKEN + 1)] {
            assert_eq!(verify(&accounts, text, now()).unwrap_err().code, INVALID, "{text:.20}");
        }
    }

    #[test]
    fn a_token_without_signature_is_refused_whatever_its_algorithm_says() {
        let (accounts, key, _) = accounts();
        for algorithm in ["none", "None", "RS256", "HS1"] {
            let token = signed(&json!({ "alg": algorithm }), &claims(&key), b"").unwrap();
            let token = token.rsplit_once('.').map(|(unsigned, _)| format!("{unsigned}.")).unwrap();
            assert_eq!(verify(&accounts, &token, now()).unwrap_err().code, INVALID);
        }
    }

    #[test]
    fn a_capability_token_of_an_old_sdk_grants_the_same() {
        let (accounts, ..) = accounts();
        let scope = "scope:client:incoming?clientName=alice \
                     scope:client:outgoing?appSid=AP1&clientName=alice&appParams=plan%3Dgold%26level%3D7";
        let claims = json!({ "iss": SID, "exp": NOW + 60, "scope": scope });
        let grant = verify(&accounts, &jwt(&claims, "auth-token"), now()).unwrap();
        assert_eq!((&*grant.identity, grant.may_receive, grant.application.as_deref()), ("alice", true, Some("AP1")));
        assert_eq!(grant.parameters, [("plan".into(), "gold".into()), ("level".into(), "7".into())]);
        let claims = json!({ "iss": SID, "exp": NOW + 60, "scope": "scope:client:outgoing?appSid=AP1" });
        assert_eq!(&*verify(&accounts, &jwt(&claims, "auth-token"), now()).unwrap().identity, ANONYMOUS);
    }
}
