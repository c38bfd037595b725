//! Who may use the console: accounts, and operators for what belongs to the server.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use tandem_accounts::Account;
use tandem_runtime::app::App;

/// The account whose credentials a request shows, in any dialect.
pub fn caller(app: &App, headers: &HeaderMap) -> Result<Arc<Account>, Denied> {
    app.caller(headers).ok_or(Denied::Nobody)
}

/// Whether the credentials are those of an account that may see what is the server's.
pub fn operator(app: &App, headers: &HeaderMap) -> Result<(), Denied> {
    let account = caller(app, headers)?;
    app.accounts.is_operator(&account).then_some(()).ok_or(Denied::NoOperator)
}

/// The same for who changes something: with the account's own credentials, not with a key that it gave to somebody.
pub fn operator_itself(app: &App, headers: &HeaderMap) -> Result<(), Denied> {
    operator(app, headers)?;
    app.owner(headers).map(drop).ok_or(Denied::Key)
}

/// Why nothing is shown.
pub enum Denied {
    /// No account's credentials.
    Nobody,
    /// Not those of an operator.
    NoOperator,
    /// An operator's key.
    Key,
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        match self {
            Self::Nobody => {
                let challenges =
                    ["Basic realm=\"tandem\"", "Bearer"].map(|challenge| (header::WWW_AUTHENTICATE, challenge));
                let says = "an account's credentials, please\n";
                (StatusCode::UNAUTHORIZED, AppendHeaders(challenges), says).into_response()
            }
            Self::Key => {
                (StatusCode::FORBIDDEN, "this is for the account's own credentials, not for a key\n").into_response()
            }
            Self::NoOperator => {
                (StatusCode::FORBIDDEN, "this is for operators: accounts with operator = true\n").into_response()
            }
        }
    }
}
