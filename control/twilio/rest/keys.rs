//! `Keys`, and `SigningKeys` (an older name of the same resource): credentials that a program uses instead of the
//! account's auth token. Only the answer to the creation request contains the secret. The database has the secret too,
//! because the secret verifies the access tokens of browsers (`browser`).

use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_accounts::subaccount::{self, Key};
use tandem_operations::keys::{self, KeyError, MAX_KEYS};
use tandem_store::resources::Filter;

use super::super::error::{ApiError, allow};
use super::super::{format, sid};
use super::{Answer, RestContext, Verb, created, deleted, ok};

/// Maximum length of a `FriendlyName`, in characters.
const LONGEST_NAME: usize = 64;

/// The name by which a request addresses the resource. Paths and the envelope use this name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Name {
    Key,
    SigningKey,
}

pub(super) async fn answer(x: &RestContext<'_>, name: Name, below: &[&str]) -> Answer {
    match (below, x.verb) {
        ([], Verb::Get) => list(x, name).await,
        ([], Verb::Post) => create(x).await,
        ([sid], Verb::Get) => Ok(ok(key(&find(x, sid).await?))),
        ([sid], Verb::Post) => update(x, find(x, sid).await?).await,
        ([sid], Verb::Delete) => {
            let key = find(x, sid).await?;
            keys::delete(&x.app.accounts, x.store(), &key).await?;
            Ok(deleted())
        }
        ([], _) => Err(ApiError::method_not_allowed(allow::GET_POST)),
        ([_], _) => Err(ApiError::method_not_allowed(allow::GET_POST_DELETE)),
        _ => Err(x.not_found()),
    }
}

async fn find(x: &RestContext<'_>, sid: &str) -> Result<Key, ApiError> {
    let id = sid::parse("SK", sid).ok_or_else(|| x.not_found())?;
    subaccount::key(x.store(), &x.account.name, id).await?.ok_or_else(|| x.not_found())
}

async fn list(x: &RestContext<'_>, name: Name) -> Answer {
    let place = match name {
        Name::Key => ("keys", "Keys", "SK"),
        Name::SigningKey => ("signing_keys", "SigningKeys", "SK"),
    };
    x.resources(subaccount::KEY, place, &Filter::default(), |row| {
        represent(row.id, &row.name, (row.created_at, row.updated_at))
    })
    .await
}

async fn create(x: &RestContext<'_>) -> Answer {
    let name = match x.parameters.get("FriendlyName") {
        Some(name) => friendly_name(name)?,
        None => String::new(),
    };
    let (new, secret) = keys::create(&x.app.accounts, x.store(), &x.account.name, name).await?;
    let mut body = key(&new);
    format::extend(&mut body, json!({ "secret": secret }));
    Ok(created(body))
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::TooMany => Self::bad(20001, format!("An account has at most {MAX_KEYS} keys")),
            KeyError::Store(error) => error.into(),
        }
    }
}

async fn update(x: &RestContext<'_>, mut one: Key) -> Answer {
    if let Some(name) = x.parameters.given("FriendlyName") {
        keys::rename(&x.app.accounts, x.store(), &mut one, friendly_name(name)?).await?;
    }
    Ok(ok(key(&one)))
}

fn friendly_name(name: &str) -> Result<String, ApiError> {
    match name.chars().count() <= LONGEST_NAME {
        true => Ok(name.to_owned()),
        false => Err(ApiError::bad(20002, format!("FriendlyName is longer than {LONGEST_NAME} characters"))),
    }
}

fn key(key: &Key) -> Value {
    represent(key.id, &key.friendly_name, (key.created_at, key.updated_at))
}

/// The Key resource without its secret.
fn represent(id: u128, friendly_name: &str, (created_at, updated_at): (Timestamp, Timestamp)) -> Value {
    json!({
        "sid": sid::spell("SK", id),
        "friendly_name": friendly_name,
        "date_created": format::rfc2822(created_at),
        "date_updated": format::rfc2822(updated_at),
    })
}
