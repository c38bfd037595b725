//! `Accounts`: the accounts of the configuration and their subaccounts.

use std::sync::Arc;

use jiff::Timestamp;
use tandem_accounts::Account;
use tandem_accounts::subaccount::AccountStatus;
use tandem_host::clock;
use tandem_operations::accounts::{self, AccountChange, AccountError, MAX_SUBACCOUNTS};

use super::super::account::{self, Facts};
use super::super::error::{ApiError, allow};
use super::{Answer, RestContext, Verb, created, ok};

/// Maximum length of a `FriendlyName`, in characters.
const LONGEST_NAME: usize = 64;

/// Answers requests to `Accounts.json`.
pub(super) async fn all(x: &RestContext<'_>) -> Answer {
    match x.verb {
        Verb::Get => list(x),
        Verb::Post => create(x).await,
        _ => Err(ApiError::method_not_allowed(allow::GET_POST)),
    }
}

/// Answers requests to one account: the client's own account or one of its subaccounts.
pub(super) async fn answer(x: &RestContext<'_>) -> Answer {
    match x.verb {
        Verb::Get => Ok(ok(account::account(&facts(x, &x.account)?))),
        Verb::Post => update(x).await,
        _ => Err(ApiError::method_not_allowed(allow::GET_POST)),
    }
}

pub(super) fn balance(x: &RestContext<'_>) -> Answer {
    match x.verb {
        Verb::Get => Ok(ok(account::balance(x.account_sid()))),
        _ => Err(ApiError::method_not_allowed(allow::GET)),
    }
}

fn list(x: &RestContext<'_>) -> Answer {
    let paging = x.paging("AC")?;
    let status = x.parameters.get("Status").map(account_status).transpose()?;
    let below = x.app.accounts.below(&x.account.name);
    let newest_first = below.iter().rev().map(|made| &made.account).chain([&x.account]);
    let mut rows = Vec::with_capacity(below.len() + 1);
    for account in newest_first.filter(|account| x.provider.credentials(account).is_some()) {
        let facts = facts(x, account)?;
        let fits = x.parameters.get("FriendlyName").is_none_or(|name| name == facts.friendly_name)
            && status.is_none_or(|status| status == facts.status);
        if fits {
            rows.push((facts.sid.to_string(), account::account(&facts)));
        }
    }
    let path = format!("{}/Accounts.json", x.provider.root());
    let items = paging.part(rows, |(sid, _)| x.ids().parse("AC", sid));
    Ok(ok(paging.envelope("accounts", &path, x.parameters, items)))
}

async fn create(x: &RestContext<'_>) -> Answer {
    let name = match x.parameters.get("FriendlyName") {
        Some(name) => friendly_name(name)?,
        None => Timestamp::now().strftime("SubAccount Created at %Y-%m-%d %H:%M").to_string(),
    };
    let created_account =
        accounts::create(&x.app.accounts, x.store(), &x.account.name, name, |id| x.provider.new_account(id));
    Ok(created(account::account(&facts(x, &created_account.await?.account)?)))
}

async fn update(x: &RestContext<'_>) -> Answer {
    let change = AccountChange {
        friendly_name: x.parameters.get("FriendlyName").map(friendly_name).transpose()?,
        status: x.parameters.get("Status").map(account_status).transpose()?,
    };
    let id = x.ids().parse("AC", x.account_sid()).ok_or_else(ApiError::internal)?;
    accounts::change(&x.app.accounts, x.store(), &x.account, id, x.own, change).await?;
    Ok(ok(account::account(&facts(x, &x.account)?)))
}

impl From<AccountError> for ApiError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::IsSubaccount => Self::forbidden(20006, "A subaccount cannot have subaccounts"),
            AccountError::TooManySubaccounts => {
                Self::bad(20001, format!("An account has at most {MAX_SUBACCOUNTS} subaccounts"))
            }
            AccountError::ConfigurationOnly => {
                Self::forbidden(20006, "Accounts are created in the server's configuration")
            }
            AccountError::StatusIsForParent => {
                Self::bad(20001, "Status can be changed only for a subaccount, and only by its parent")
            }
            AccountError::Store(error) => error.into(),
        }
    }
}

/// The content of the Account resource. Error 500 if the account has no credentials for this provider.
fn facts<'a>(x: &'a RestContext<'_>, account: &'a Arc<Account>) -> Result<Facts<'a>, ApiError> {
    let accounts = &x.app.accounts;
    let own = x.provider.credentials(account).ok_or_else(ApiError::internal)?;
    let parent = accounts.parent(&account.name).and_then(|parent| accounts.by_name(&parent));
    let owner = parent.and_then(|parent| Some(x.provider.credentials(&parent)?.sid.into_owned()));
    let made = accounts.subaccount(&account.name);
    Ok(Facts {
        root: x.provider.root(),
        owner: owner.unwrap_or_else(|| own.sid.to_string()),
        sid: own.sid,
        auth_token: own.secret,
        signing_key: (own.signing_key != own.secret).then_some(own.signing_key),
        friendly_name: made.as_ref().map_or_else(|| account.name.to_string(), |made| made.friendly_name.clone()),
        status: accounts.status(&account.name),
        dates: made.map_or((clock::started(), clock::started()), |made| (made.created_at, made.updated_at)),
    })
}

fn account_status(text: &str) -> Result<AccountStatus, ApiError> {
    let found = AccountStatus::WORDS.iter().find(|(word, _)| *word == text);
    found.map(|(_, status)| *status).ok_or_else(|| ApiError::bad(20001, format!("Status is not valid: {text}")))
}

fn friendly_name(name: &str) -> Result<String, ApiError> {
    match name.chars().count() <= LONGEST_NAME {
        true => Ok(name.to_owned()),
        false => Err(ApiError::bad(20002, format!("FriendlyName is longer than {LONGEST_NAME} characters"))),
    }
}
