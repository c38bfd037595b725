//! `/console/accounts`: the accounts, their subaccounts and their API keys. Accounts of the configuration file are only shown.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, put};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_accounts::Account;
use tandem_accounts::subaccount::{self, AccountStatus, KEY};
use tandem_id::AccountName;
use tandem_operations::accounts::{self, AccountChange, AccountError};
use tandem_operations::keys::{self, KeyError, MAX_KEYS};
use tandem_runtime::app::App;
use tandem_store::resources::{self, Filter};
use tandem_store::{Page, StoreError};

use super::{Scope, json};
use crate::access::Itself;
use crate::session::refused;

/// Maximum length of the name of an account or of a key, in characters.
const LONGEST_NAME: usize = 64;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/console/accounts", get(list).post(create))
        .route("/console/accounts/{name}", put(change))
        .route("/console/accounts/{name}/keys", get(list_keys).post(create_key))
        .route("/console/accounts/{name}/keys/{id}", delete(delete_key))
}

#[derive(Serialize)]
struct Accounts {
    accounts: Vec<AccountRow>,
}

#[derive(Serialize)]
struct AccountRow {
    name: AccountName,
    friendly_name: Option<String>,
    /// The status: `active`, `suspended` or `closed`.
    status: &'static str,
    /// The account that has created this account.
    parent: Option<AccountName>,
    /// The source of the account: `file`, or `api` for a subaccount.
    source: &'static str,
    is_operator: bool,
    /// The ids of the account in the APIs for which it has credentials.
    apis: Vec<Api>,
    keys: usize,
}

#[derive(Serialize)]
struct Api {
    provider: &'static str,
    /// The id, which is no secret. `None` if the API has no such id.
    id: Option<String>,
}

impl AccountRow {
    fn of(app: &App, account: &Account) -> Self {
        let made = app.accounts.subaccount(&account.name);
        let parent = app.accounts.parent(&account.name);
        let ids = [
            account.twilio.as_ref().map(|own| ("twilio", Some(own.account_sid.clone()))),
            account.telnyx.as_ref().map(|_| ("telnyx", None)),
            account.signalwire.as_ref().map(|own| ("signalwire", Some(own.project_id.clone()))),
        ];
        Self {
            name: account.name.clone(),
            friendly_name: made.as_ref().map(|made| made.friendly_name.clone()).filter(|name| !name.is_empty()),
            status: app.accounts.status(&account.name).word(),
            source: if parent.is_some() { "api" } else { "file" },
            parent,
            is_operator: app.accounts.is_operator(account),
            apis: ids.into_iter().flatten().map(|(provider, id)| Api { provider, id }).collect(),
            keys: app.accounts.keys_of(&account.name),
        }
    }
}

/// Whether the client sees an account: its own, the subaccounts of its own, or all.
fn sees(app: &App, scope: &Scope, account: &AccountName) -> bool {
    scope.sees(account) || app.accounts.parent(account).as_ref() == Some(scope.account())
}

/// Finds an account that the client sees.
fn find(app: &App, scope: &Scope, name: &str) -> Result<Arc<Account>, Box<Response>> {
    let account = app.accounts.by_name(&AccountName::new(name)).filter(|account| sees(app, scope, &account.name));
    account.ok_or_else(|| Box::new(refused(StatusCode::NOT_FOUND, "there is no such account")))
}

async fn list(State(app): State<App>, scope: Scope) -> Response {
    let all = app.accounts.all();
    let seen = all.iter().filter(|account| sees(&app, &scope, &account.name));
    let mut accounts: Vec<_> = seen.map(|account| AccountRow::of(&app, account)).collect();
    accounts.sort_by(|a, b| (&a.parent, &a.name).cmp(&(&b.parent, &b.name)));
    json(&Accounts { accounts })
}

#[derive(Deserialize)]
struct NewAccount {
    parent: AccountName,
    friendly_name: String,
}

/// The credentials of a new account or of a new key. The server shows the secret only once.
#[derive(Serialize)]
struct Created {
    id: String,
    secret: String,
}

async fn create(State(app): State<App>, Itself(scope): Itself, Json(new): Json<NewAccount>) -> Response {
    let parent = match find(&app, &scope, new.parent.as_str()) {
        Ok(parent) => parent,
        Err(response) => return *response,
    };
    let Some(friendly_name) = name(new.friendly_name) else { return bad_name() };
    let store = &app.calls.services().store;
    let make = |id| parent.twilio.as_ref().map(|_| Account::new_subaccount(id));
    match accounts::create(&app.accounts, store, &parent.name, friendly_name, make).await {
        Ok(made) => {
            let own = made.account.twilio.as_ref();
            let (id, secret) = own.map(|own| (own.account_sid.clone(), own.auth_token.clone())).unwrap_or_default();
            (StatusCode::CREATED, Json(Created { id, secret })).into_response()
        }
        Err(why) => not_changed(&why),
    }
}

#[derive(Deserialize)]
struct ChangedAccount {
    friendly_name: Option<String>,
    status: Option<AccountStatus>,
}

async fn change(
    State(app): State<App>,
    Itself(scope): Itself,
    Path(account): Path<String>,
    Json(changed): Json<ChangedAccount>,
) -> Response {
    let account = match find(&app, &scope, &account) {
        Ok(account) => account,
        Err(response) => return *response,
    };
    let friendly_name = match changed.friendly_name.map(name) {
        Some(None) => return bad_name(),
        given => given.flatten(),
    };
    let Some(made) = app.accounts.subaccount(&account.name).filter(|made| made.parent.is_some()) else {
        return refused(StatusCode::CONFLICT, "the configuration file has this account; change it there");
    };
    let by_itself = !scope.is_operator() && account.name == *scope.account();
    let change = AccountChange { friendly_name, status: changed.status };
    let store = &app.calls.services().store;
    match accounts::change(&app.accounts, store, &account, made.id, by_itself, change).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(why) => not_changed(&why),
    }
}

#[derive(Serialize)]
struct KeyRow {
    id: String,
    friendly_name: String,
    created_at: Timestamp,
}

#[derive(Serialize)]
struct Keys {
    keys: Vec<KeyRow>,
}

async fn list_keys(State(app): State<App>, scope: Scope, Path(account): Path<String>) -> Response {
    let account = match find(&app, &scope, &account) {
        Ok(account) => account,
        Err(response) => return *response,
    };
    let page = Page::first(u32::try_from(MAX_KEYS).unwrap_or(u32::MAX));
    match resources::list(&app.calls.services().store, KEY, &account.name, &Filter::default(), &page).await {
        Ok(rows) => {
            let row = |row: resources::Resource<_>| KeyRow {
                id: format!("SK{:032x}", row.id),
                friendly_name: row.name,
                created_at: row.created_at,
            };
            json(&Keys { keys: rows.into_iter().map(row).collect() })
        }
        Err(error) => failed(&error),
    }
}

#[derive(Deserialize)]
struct NewKey {
    friendly_name: String,
}

async fn create_key(
    State(app): State<App>,
    Itself(scope): Itself,
    Path(account): Path<String>,
    Json(new): Json<NewKey>,
) -> Response {
    let account = match find(&app, &scope, &account) {
        Ok(account) => account,
        Err(response) => return *response,
    };
    let Some(friendly_name) = name(new.friendly_name) else { return bad_name() };
    let store = &app.calls.services().store;
    match keys::create(&app.accounts, store, &account.name, friendly_name).await {
        Ok((key, secret)) => {
            (StatusCode::CREATED, Json(Created { id: format!("SK{:032x}", key.id), secret })).into_response()
        }
        Err(KeyError::TooMany) => {
            refused(StatusCode::CONFLICT, &format!("the account has {MAX_KEYS} keys, the maximum; delete one first"))
        }
        Err(KeyError::Store(error)) => failed(&error),
    }
}

async fn delete_key(
    State(app): State<App>,
    Itself(scope): Itself,
    Path((account, id)): Path<(String, String)>,
) -> Response {
    let account = match find(&app, &scope, &account) {
        Ok(account) => account,
        Err(response) => return *response,
    };
    let store = &app.calls.services().store;
    let found = match id.strip_prefix("SK").map(|digits| u128::from_str_radix(digits, 16)) {
        Some(Ok(id)) => subaccount::key(store, &account.name, id).await,
        _ => Ok(None),
    };
    let deleted = match found {
        Ok(Some(key)) => keys::delete(&app.accounts, store, &key).await,
        Ok(None) => return refused(StatusCode::NOT_FOUND, "there is no such key"),
        Err(error) => Err(error),
    };
    match deleted {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => failed(&error),
    }
}

/// Returns a name without space around it. Returns `None` if it is too long.
fn name(text: String) -> Option<String> {
    let text = text.trim();
    (text.chars().count() <= LONGEST_NAME).then(|| text.to_owned())
}

fn bad_name() -> Response {
    refused(StatusCode::UNPROCESSABLE_ENTITY, &format!("the name has more than {LONGEST_NAME} characters"))
}

fn failed(error: &StoreError) -> Response {
    refused(StatusCode::SERVICE_UNAVAILABLE, &format!("the database failed: {error}"))
}

fn not_changed(why: &AccountError) -> Response {
    match why {
        AccountError::Store(error) => failed(error),
        AccountError::ConfigurationOnly => refused(
            StatusCode::CONFLICT,
            "only accounts with credentials for Twilio's API have subaccounts; add [[accounts]] to the configuration file",
        ),
        why => refused(StatusCode::CONFLICT, &why.to_string()),
    }
}
