//! The tokens of subscribers: JWTs (RFC 7519) that this server signs with the API token of the project. The SDK reads the
//! header alone.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tandem_accounts::subaccount::AccountStatus;
use tandem_accounts::{Account, Accounts};
use tandem_host::hash::{MacAlgorithm, hex};
use tandem_host::jwt::{self, Token};

/// Usual life of a token.
pub(crate) const LIFE: SignedDuration = SignedDuration::from_hours(2);
/// Life of a token that renews another one.
pub(crate) const REFRESH_LIFE: SignedDuration = SignedDuration::from_mins(125);
/// Maximum size of a token, in octets.
const MAX_TOKEN: usize = 8 * 1024;
/// Maximum length of a subscriber's name, in characters.
const MAX_NAME: usize = 256;

/// The use of a token. The words are those of the header's `typ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A page logs in with the token.
    Access,
    /// The application renews the access token with the token.
    Refresh,
    /// A page with the SDK 1.x logs in with the token.
    Relay,
    /// The application renews a token for the SDK 1.x with the token.
    RelayRefresh,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Access => "SAT",
            Self::Refresh => "SRT",
            Self::Relay => "JWT",
            Self::RelayRefresh => "JRT",
        }
    }

    /// The reason for the refusal of a token of another kind.
    fn expected(self) -> &'static str {
        match self {
            Self::Access => "the token is of another kind: pages log in with a subscriber access token",
            Self::Relay => {
                "the token is of another kind: pages with the SDK 1.x log in with a token of /api/relay/rest/jwt"
            }
            Self::Refresh | Self::RelayRefresh => "the token is no refresh token of this kind",
        }
    }
}

/// The claims of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// The id of the project.
    pub(crate) project_id: String,
    /// The name of the subscriber.
    pub(crate) reference: String,
    /// The end of the token's life, in seconds of Unix time.
    pub(crate) exp: i64,
    /// The id of the token. The SDK compares it with a part of the session's name between `_`.
    pub(crate) jti: String,
}

impl Claims {
    /// The end of the token's life.
    pub(crate) fn expires(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.exp).ok()
    }
}

/// Whether a text can be the name of a subscriber.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.chars().count()) && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Returns a token. `host` is the host and port of this server, to which the SDK then connects.
pub(crate) fn mint(
    account: &Account,
    kind: Kind,
    reference: &str,
    expires: Timestamp,
    host: Option<&str>,
) -> Option<String> {
    let own = account.signalwire.as_ref()?;
    let claims = Claims {
        project_id: own.project_id.clone(),
        reference: reference.to_owned(),
        exp: expires.as_second(),
        jti: hex(&rand::random::<[u8; 16]>()),
    };
    let mut header = json!({ "alg": "HS256", "typ": kind.word() });
    if let (Some(host), Some(fields)) = (host, header.as_object_mut()) {
        fields.insert("ch".into(), host.into());
    }
    jwt::signed(&header, &claims, own.api_token.as_bytes()).ok()
}

/// The reason why a token is refused, and the account if it is known.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) why: &'static str,
    pub(crate) account: Option<Arc<Account>>,
}

/// Verifies a token of this kind.
pub(crate) fn verify(
    accounts: &Accounts,
    kind: Kind,
    token: &str,
    now: Timestamp,
) -> Result<(Arc<Account>, Claims), Refused> {
    let refuse = |why, account: Option<&Arc<Account>>| Refused { why, account: account.cloned() };
    let malformed = || refuse("the token is no token of this server", None);
    let token = Token::<Claims>::read(token, MAX_TOKEN).map_err(|_| malformed())?;
    if token.typ != kind.word() {
        return Err(refuse(kind.expected(), None));
    }
    let account =
        accounts.by_sid(&token.claims.project_id).ok_or_else(|| refuse("no project has the id in the token", None))?;
    let own = account.signalwire.as_ref().filter(|own| own.project_id == token.claims.project_id);
    let own = own.ok_or_else(|| refuse("no project has the id in the token", None))?;
    if !token.is_signed_with(MacAlgorithm::Sha256, own.api_token.as_bytes()) {
        return Err(refuse("the signature of the token is wrong", Some(&account)));
    }
    if accounts.status(&account.name) != AccountStatus::Active {
        return Err(refuse("the account is not active", Some(&account)));
    }
    if token.claims.exp <= now.as_second() {
        return Err(refuse("the token has expired", Some(&account)));
    }
    Ok((account, token.claims))
}

#[cfg(test)]
mod tests {
    use tandem_accounts::SignalwireCredentials;

    use super::*;

    fn account(api_token: &str) -> Account {
        let own = SignalwireCredentials {
            project_id: "3f0c1d5e-0000-4000-8000-000000000001".into(),
            api_token: api_token.into(),
            signing_key: "key".into(),
        };
        Account { signalwire: Some(own), ..Account::of_subaccount("acme", None, None) }
    }

    #[test]
    fn a_token_is_valid_until_it_expires_and_only_for_its_use() {
        let (own, now) = (account("PT1"), Timestamp::UNIX_EPOCH);
        let accounts = Accounts::new([own.clone()]);
        let token = mint(&own, Kind::Access, "alice", now + LIFE, Some("puc.example.com")).unwrap();
        let (found, claims) = verify(&accounts, Kind::Access, &token, now).unwrap();
        assert_eq!((found.name.as_str(), &*claims.reference), ("acme", "alice"));
        assert!(!claims.jti.contains('_'));
        let refused = |kind, token: &str, now| verify(&accounts, kind, token, now).unwrap_err().why;
        assert!(refused(Kind::Access, &token, now + LIFE).contains("expired"));
        for kind in [Kind::Refresh, Kind::Relay, Kind::RelayRefresh] {
            assert!(refused(kind, &token, now).contains("kind"));
        }
        let forged = mint(&account("other"), Kind::Access, "alice", now + LIFE, None).unwrap();
        assert!(refused(Kind::Access, &forged, now).contains("signature"));
        for text in ["", "a.b.c", "....", &"x".repeat(MAX_TOKEN + 1)] {
            assert!(verify(&accounts, Kind::Access, text, now).is_err());
        }
    }
}
