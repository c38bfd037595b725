//! `[console]`: the users of the web console.

use serde::Deserialize;
use tandem_id::AccountName;

use crate::Secret;

/// `[console]`: the users that sign in to the web console with a password of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsoleConfig {
    /// `[[console.users]]`. An account can always sign in with its own credentials.
    pub users: Vec<ConsoleUser>,
}

/// `[[console.users]]`: a user of the web console.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleUser {
    /// The name with which the user signs in. The list of changes shows it.
    pub name: String,
    /// The password, at least 12 characters.
    pub password: Secret,
    /// The role, which decides about the visible data and the changes.
    pub role: ConsoleRole,
    /// The account whose data the user sees. Without it, an operator or a reader sees all accounts.
    #[serde(default)]
    pub account: Option<AccountName>,
}

/// The role of a user of the web console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleRole {
    /// Sees and changes the data of all accounts and of the server.
    Operator,
    /// Sees and changes the data of one account.
    Account,
    /// Sees data and changes nothing.
    Reader,
}
