//! Access control of the console. Accounts see their own data. Operators also see the data of the server. A handler names
//! what its client needs by the type of an argument: [`Scope`], [`Changer`], [`Itself`], [`Operator`] or [`OperatorItself`].

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use tandem_accounts::Account;
use tandem_runtime::app::App;
use tandem_settings::ConsoleRole;

use crate::Scope;
use crate::session::SignedIn;

/// Returns the account to which the credentials of the request belong. The credentials may have the form of any
/// provider.
pub fn caller(app: &App, headers: &HeaderMap) -> Result<Arc<Account>, Denied> {
    app.caller(headers).ok_or(Denied::NoCredentials)
}

/// Requires the credentials of an operator's account. An API key of the account is sufficient.
pub fn operator(app: &App, headers: &HeaderMap) -> Result<(), Denied> {
    let account = caller(app, headers)?;
    app.accounts.is_operator(&account).then_some(()).ok_or(Denied::NoOperator)
}

impl FromRequestParts<App> for Scope {
    type Rejection = Denied;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Denied> {
        match parts.extensions.get::<SignedIn>() {
            Some(user) => user.scope(app).ok_or(Denied::NoCredentials),
            None => Ok(Self::of(app, caller(app, &parts.headers)?)),
        }
    }
}

/// A client that may change what it sees.
pub struct Changer(pub Scope);

impl FromRequestParts<App> for Changer {
    type Rejection = Denied;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Denied> {
        let scope = Scope::from_request_parts(parts, app).await?;
        if scope.role() == ConsoleRole::Reader { Err(Denied::Reader) } else { Ok(Self(scope)) }
    }
}

/// A client that sees the data of the server.
pub struct Operator(pub Scope);

impl FromRequestParts<App> for Operator {
    type Rejection = Denied;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Denied> {
        let scope = Scope::from_request_parts(parts, app).await?;
        if scope.is_operator() { Ok(Self(scope)) } else { Err(Denied::NoOperator) }
    }
}

/// An operator that may change the server: a user of the console, or the credentials of an operator's account itself. An
/// API key of the account is not sufficient.
pub struct OperatorItself(pub Scope);

impl FromRequestParts<App> for OperatorItself {
    type Rejection = Denied;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Denied> {
        let Itself(scope) = Itself::from_request_parts(parts, app).await?;
        if scope.is_operator() { Ok(Self(scope)) } else { Err(Denied::NoOperator) }
    }
}

/// A client that may change its settings: a user of the console who may change data, or the credentials of an account itself. An
/// API key of the account is not sufficient.
pub struct Itself(pub Scope);

impl FromRequestParts<App> for Itself {
    type Rejection = Denied;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Denied> {
        let Changer(scope) = Changer::from_request_parts(parts, app).await?;
        let is_itself = parts.extensions.get::<SignedIn>().is_some() || app.owner(&parts.headers).is_some();
        if is_itself { Ok(Self(scope)) } else { Err(Denied::Key) }
    }
}

/// The reason why a request is denied.
pub enum Denied {
    /// The request has no valid credentials of an account.
    NoCredentials,
    /// The account is not an operator's account.
    NoOperator,
    /// The user of the console may only read.
    Reader,
    /// The credentials are an API key of an operator's account, but the request requires the credentials of the account
    /// itself.
    Key,
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        match self {
            Self::NoCredentials => {
                let challenges =
                    ["Basic realm=\"tandem\"", "Bearer"].map(|challenge| (header::WWW_AUTHENTICATE, challenge));
                let says = "the credentials of an account are required\n";
                (StatusCode::UNAUTHORIZED, AppendHeaders(challenges), says).into_response()
            }
            Self::Key => {
                (StatusCode::FORBIDDEN, "this requires the account's own credentials, not a key\n").into_response()
            }
            Self::Reader => (StatusCode::FORBIDDEN, "this requires a user who may change data: the role is reader\n")
                .into_response(),
            Self::NoOperator => {
                (StatusCode::FORBIDDEN, "this requires an operator: an account with operator = true\n").into_response()
            }
        }
    }
}
