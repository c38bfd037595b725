//! The logins of pages: the user name and password of a phone, or the token of a telephony credential.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use tandem_clients::User;
use tandem_host::hash::MacAlgorithm;
use tandem_host::jwt::{self, Token};
use tandem_id::AccountName;
use tandem_pages::printable;
use tandem_routing::connections::CONNECTION_PHONES;
use tandem_routing::phones::provisioned::ProvisionedPhone;
use tandem_runtime::app::App;
use tandem_store::StoreError;
use tandem_store::resources::{self, Resource};

use crate::id;

/// Lifetime of a token.
const TOKEN_LIVES_FOR: SignedDuration = SignedDuration::from_hours(24);
/// Key of a credential's password among the stored settings.
pub(crate) const SECRET: &str = "sip_password";

/// Maximum size of a token, in octets.
const MAX_TOKEN: usize = 8 * 1024;

/// A login that was refused: the reason for the log, and the account if it is known.
pub(super) struct Refused {
    pub(super) why: String,
    pub(super) account: Option<AccountName>,
}

/// A page that has logged in.
pub(super) struct LoggedIn {
    pub(super) user: User,
    /// The end of the token's life. `None` for a login with a password.
    pub(super) expires: Option<Timestamp>,
}

/// The reason why a login has no result.
pub(super) enum NoLogin {
    /// The login is refused.
    Refused(Refused),
    /// The database failed. The page may try again.
    Failed(StoreError),
}

/// The claims of a token. The SDK reads `exp` alone.
#[derive(Deserialize)]
struct Claims {
    exp: i64,
    /// The account and the row of the credential.
    tel_token: String,
}

/// Returns a token for a credential. The token is a JWT (RFC 7519) that is signed with the credential's password.
pub(crate) fn token(credential: &Resource<ProvisionedPhone>, now: Timestamp) -> String {
    let expires = now + TOKEN_LIVES_FOR;
    let expires = credential.details.expires_at.map_or(expires, |end| end.min(expires));
    let claims = json!({
        "aud": "telnyx_telephony",
        "iss": "telnyx_telephony",
        "sub": id::uuid_v4(credential.id),
        "jti": id::uuid_v4(rand::random()),
        "iat": now.as_second(),
        "nbf": now.as_second() - 1,
        "exp": expires.as_second(),
        "tel_token": URL_SAFE_NO_PAD.encode(format!("{:032x}{}", credential.id, credential.account)),
        "typ": "access",
    });
    // The claims are JSON values, which can always be written.
    jwt::signed(&json!({ "alg": "HS256", "typ": "JWT" }), &claims, secret(credential).as_bytes()).unwrap_or_default()
}

fn secret(credential: &Resource<ProvisionedPhone>) -> &str {
    credential.details.other.get(SECRET).and_then(Value::as_str).unwrap_or_default()
}

/// Verifies the login in these parameters. Returns the user.
pub(super) async fn verify(app: &App, params: &Value, now: Timestamp) -> Result<LoggedIn, NoLogin> {
    let text = |name: &str| params[name].as_str().filter(|text| !text.is_empty());
    if let Some(token) = text("login_token") {
        return of_token(app, token, now).await;
    }
    let (Some(name), Some(password)) = (text("login"), text("passwd").or_else(|| text("password"))) else {
        let why = "the login has neither a token nor a user name and password".to_owned();
        return Err(NoLogin::Refused(Refused { why, account: None }));
    };
    let routing = app.calls.services().routing.load_full();
    match routing.phones().with_password(name, password) {
        Some(user) => Ok(LoggedIn { user, expires: None }),
        None => {
            let why = format!("no user {:?} has this password", printable(name));
            Err(NoLogin::Refused(Refused { why, account: None }))
        }
    }
}

async fn of_token(app: &App, token: &str, now: Timestamp) -> Result<LoggedIn, NoLogin> {
    let refuse = |why: &str, account: Option<&AccountName>| {
        NoLogin::Refused(Refused { why: why.to_owned(), account: account.cloned() })
    };
    let malformed = || refuse("the token is no token of this server", None);
    let token = Token::<Claims>::read(token, MAX_TOKEN).map_err(|_| malformed())?;
    let names = URL_SAFE_NO_PAD.decode(&token.claims.tel_token).ok();
    let names = names.and_then(|octets| String::from_utf8(octets).ok()).ok_or_else(malformed)?;
    let (row, account) = names.split_at_checked(32).ok_or_else(malformed)?;
    let row = u128::from_str_radix(row, 16).map_err(|_| malformed())?;
    let account = AccountName::new(account);
    let found = resources::get(&app.calls.services().store, CONNECTION_PHONES, &account, row).await;
    let Some(credential) = found.map_err(NoLogin::Failed)? else {
        return Err(refuse("the credential of the token was deleted", None));
    };
    if !token.is_signed_with(MacAlgorithm::Sha256, secret(&credential).as_bytes()) {
        return Err(refuse("the signature of the token is wrong", Some(&account)));
    }
    let expires = Timestamp::from_second(token.claims.exp).ok();
    if expires.is_none_or(|at| at <= now) {
        return Err(refuse("the token has expired", Some(&account)));
    }
    if credential.details.inactive || credential.details.expires_at.is_some_and(|at| at <= now) {
        return Err(refuse("the credential of the token has expired or is not active", Some(&account)));
    }
    Ok(LoggedIn { user: User { account, name: credential.name.as_str().into(), domain: None }, expires })
}
