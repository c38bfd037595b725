//! Access to the console: for accounts, and for operators to the data of the server itself.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use tandem_accounts::Account;
use tandem_runtime::app::App;

/// Returns the account that the request's credentials belong to, in any dialect.
pub fn caller(app: &App, headers: &HeaderMap) -> Result<Arc<Account>, Denied> {
    app.caller(headers).ok_or(Denied::Nobody)
}

/// Requires the credentials, or a key, of an operator's account.
pub fn operator(app: &App, headers: &HeaderMap) -> Result<(), Denied> {
    let account = caller(app, headers)?;
    app.accounts.is_operator(&account).then_some(()).ok_or(Denied::NoOperator)
}

/// Requires an operator's own credentials, for requests that change something. A key of the account is not enough.
pub fn operator_itself(app: &App, headers: &HeaderMap) -> Result<(), Denied> {
    operator(app, headers)?;
    app.owner(headers).map(drop).ok_or(Denied::Key)
}

/// The reason why a request is denied.
pub enum Denied {
    /// The request has no valid credentials of an account.
    Nobody,
    /// The account is not an operator's.
    NoOperator,
    /// The credentials are a key of an operator's account, not its own.
    Key,
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        match self {
            Self::Nobody => {
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
