//! `Accounts`: those of the configuration.

use super::super::error::ApiError;
use super::super::list::Paging;
use super::super::{account, path};
use super::{Answer, Exchange, Verb, ok};

pub(super) fn list(x: &Exchange<'_>) -> Answer {
    if x.verb != Verb::Get {
        return Err(ApiError::method_not_allowed());
    }
    let paging = Paging::parse(x.parameters, "AC")?;
    let name_fits = x.parameters.get("FriendlyName").is_none_or(|name| name == &*x.account.name);
    let status_fits = x.parameters.get("Status").is_none_or(|status| status == "active");
    let page = paging.page();
    let here = name_fits && status_fits && page.offset == 0 && page.after.is_none();
    let item = (x.account_sid().to_owned(), account::account(&x.account, &x.credentials));
    let items = if here { vec![item] } else { Vec::new() };
    let path = format!("/{}/Accounts.json", path::VERSION);
    Ok(ok(paging.envelope("accounts", &path, x.parameters, items)))
}

pub(super) fn answer(x: &Exchange<'_>) -> Answer {
    match x.verb {
        Verb::Get => Ok(ok(account::account(&x.account, &x.credentials))),
        _ => Err(ApiError::method_not_allowed()),
    }
}

pub(super) fn balance(x: &Exchange<'_>) -> Answer {
    match x.verb {
        Verb::Get => Ok(ok(account::balance(x.account_sid()))),
        _ => Err(ApiError::method_not_allowed()),
    }
}
