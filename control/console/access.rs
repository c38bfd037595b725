//! Access control of the console. Accounts see their own data. Operators also see the data of the server.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use tandem_accounts::Account;
use tandem_runtime::app::App;

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

/// Requires the credentials of an operator's account itself, because the request changes data. An API key of the
/// account is not sufficient.
pub fn operator_itself(app: &App, headers: &HeaderMap) -> Result<(), Denied> {
    operator(app, headers)?;
    app.owner(headers).map(drop).ok_or(Denied::Key)
}

/// The reason why a request is denied.
pub enum Denied {
    /// The request has no valid credentials of an account.
    NoCredentials,
    /// The account is not an operator's account.
    NoOperator,
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
            Self::NoOperator => {
                (StatusCode::FORBIDDEN, "this requires an operator: an account with operator = true\n").into_response()
            }
        }
    }
}
