//! `Credentials` of a credential list. A password is stored only as digests for this server's realm, and never
//! returned.

use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_sip::Ha1;
use tandem_store::domains::{self, CredentialRow};

use super::super::super::error::ApiError;
use super::super::super::{format, sid};
use super::super::{Answer, RestContext, Verb, created, ok};
use super::{base, changed, gone, page, shown};

/// Error number: a parameter is invalid.
const INVALID: u32 = 21243;
/// Maximum number of users in a list.
const MOST: u64 = 1000;
/// Maximum length of a user name, in characters.
const LONGEST_NAME: usize = 32;
/// Minimum and maximum length of a password, in characters.
const PASSWORD: std::ops::RangeInclusive<usize> = 12..=256;

pub(super) async fn answer(x: &RestContext<'_>, list: u128, below: &[&str]) -> Answer {
    match (below, x.verb) {
        ([], Verb::Get) => all(x, list).await,
        ([], Verb::Post) => create(x, list).await,
        ([name], Verb::Get) => shown(represent(x.account_sid(), &find(x, list, name).await?)),
        ([name], Verb::Post) => update(x, find(x, list, name).await?).await,
        ([name], Verb::Delete) => {
            let id = find(x, list, name).await?.id;
            gone(x, domains::delete_credential(x.store(), &x.account.name, id).await?).await
        }
        ([] | [_], _) => Err(ApiError::method_not_allowed()),
        _ => Err(x.not_found()),
    }
}

async fn find(x: &RestContext<'_>, list: u128, name: &str) -> Result<CredentialRow, ApiError> {
    let id = sid::parse("CR", name).ok_or_else(|| x.not_found())?;
    let row = domains::credential(x.store(), &x.account.name, id).await?;
    row.filter(|row| row.list == list).ok_or_else(|| x.not_found())
}

async fn all(x: &RestContext<'_>, list: u128) -> Answer {
    let paging = x.paging("CR")?;
    let (store, account) = (x.store(), &*x.account.name);
    let cursor = async |id| Ok(domains::credential(store, account, id).await?.map(|row| row.cursor()));
    let rows = domains::credentials(store, account, list, &page(&paging, cursor).await?).await?;
    let items = rows.iter().map(|row| (sid::spell("CR", row.id), represent(x.account_sid(), row))).collect();
    Ok(ok(x.list("credentials", &place(list), &paging, items)))
}

async fn create(x: &RestContext<'_>, list: u128) -> Answer {
    let username = x.parameters.get("Username").ok_or_else(|| ApiError::bad(INVALID, "Username is required"))?;
    // SIP digest authentication cannot carry a user name with other characters.
    let sayable = username.chars().all(|c| !c.is_control() && !c.is_whitespace() && !"\":\\@;,<>".contains(c));
    if username.chars().count() > LONGEST_NAME || !sayable {
        return Err(ApiError::bad(
            INVALID,
            "Username is longer than 32 characters, or has characters that SIP does not allow",
        ));
    }
    let Ha1 { md5, sha256 } = password(x, username)?.ok_or_else(|| ApiError::bad(INVALID, "Password is required"))?;
    if domains::count_credentials(x.store(), &x.account.name, list).await? >= MOST {
        return Err(ApiError::bad(INVALID, format!("A list has at most {MOST} credentials")));
    }
    let now = Timestamp::now();
    let row = CredentialRow {
        id: rand::random(),
        account: x.account.name.to_string(),
        list,
        username: username.to_owned(),
        ha1_md5: md5.into(),
        ha1_sha256: sha256.into(),
        created_at: now,
        updated_at: now,
    };
    if !domains::upsert_credential(x.store(), &row).await? {
        return Err(ApiError::bad(INVALID, format!("The list already has a user with this name: {username}")));
    }
    changed(x, created(represent(x.account_sid(), &row))).await
}

async fn update(x: &RestContext<'_>, mut row: CredentialRow) -> Answer {
    if let Some(Ha1 { md5, sha256 }) = password(x, &row.username)? {
        (row.ha1_md5, row.ha1_sha256) = (md5.into(), sha256.into());
        row.updated_at = Timestamp::now();
        domains::upsert_credential(x.store(), &row).await?;
    }
    changed(x, ok(represent(x.account_sid(), &row))).await
}

/// The digests of `Password`; `None` if the parameter is absent or empty.
fn password(x: &RestContext<'_>, username: &str) -> Result<Option<Ha1>, ApiError> {
    let Some(password) = x.parameters.given_as_it_is("Password").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if !is_strong(password) {
        let wanted =
            "Password must have 12 to 256 characters, including a digit, a lower-case letter and an upper-case letter";
        return Err(ApiError::bad(INVALID, wanted));
    }
    let routing = x.app.calls.services().routing.get();
    Ok(Some(Ha1::of(username, routing.phones().realm(), password)))
}

pub(super) fn is_strong(password: &str) -> bool {
    PASSWORD.contains(&password.chars().count())
        && password.chars().any(|c| c.is_ascii_digit())
        && password.chars().any(char::is_lowercase)
        && password.chars().any(char::is_uppercase)
        && !password.chars().any(char::is_control)
}

fn place(list: u128) -> String {
    format!("SIP/CredentialLists/{}/Credentials", sid::spell("CL", list))
}

/// The Credential resource.
pub(super) fn represent(account: &str, row: &CredentialRow) -> Value {
    let list = sid::spell("CL", row.list);
    let place = format!("CredentialLists/{list}/Credentials");
    let mut body = base(account, ("CR", row.id), &place, (row.created_at, row.updated_at));
    format::extend(&mut body, json!({ "credential_list_sid": list, "username": row.username }));
    body
}
