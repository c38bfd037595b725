//! `Usage/Triggers`: callbacks that this server sends when the usage reaches a value.

use serde_json::{Value, json};
use tandem_accounts::usage::{self, Figure, Recurring, TRIGGER, Trigger, Usage};
use tandem_call::Target;
use tandem_dialect::Notice;
use tandem_operations::usage as operations;
use tandem_store::resources::{self, Filter, Resource};
use tandem_webhooks::Body;

use super::super::super::error::{ApiError, allow};
use super::super::super::form::Parameters;
use super::super::super::{NAME, format, path, sid};
use super::super::{Answer, RestContext, Verb, created, deleted, not_added, ok};

/// Error number: a parameter is invalid.
const INVALID: u32 = 20001;
/// Maximum length of a `FriendlyName`, in characters.
const LONGEST_NAME: usize = 64;

const FIGURES: [(&str, Figure); 3] = [("count", Figure::Count), ("usage", Figure::Usage), ("price", Figure::Price)];
const RECURRING: [(&str, Recurring); 4] = [
    ("daily", Recurring::Daily),
    ("monthly", Recurring::Monthly),
    ("yearly", Recurring::Yearly),
    ("alltime", Recurring::Alltime),
];

pub(super) async fn answer(x: &RestContext<'_>, below: &[&str]) -> Answer {
    match (below, x.verb) {
        ([], Verb::Get) => list(x).await,
        ([], Verb::Post) => create(x).await,
        ([name], Verb::Get) => shown(x, &find(x, name).await?).await,
        ([name], Verb::Post) => update(x, find(x, name).await?).await,
        ([name], Verb::Delete) => {
            let id = find(x, name).await?.id;
            operations::delete_trigger(x.services(), &x.account.name, id).await?;
            Ok(deleted())
        }
        ([], _) => Err(ApiError::method_not_allowed(allow::GET_POST)),
        ([_], _) => Err(ApiError::method_not_allowed(allow::GET_POST_DELETE)),
        _ => Err(x.not_found()),
    }
}

async fn find(x: &RestContext<'_>, name: &str) -> Result<Resource<Trigger>, ApiError> {
    let id = sid::parse("UT", name).ok_or_else(|| x.not_found())?;
    resources::get(x.store(), TRIGGER, &x.account.name, id).await?.ok_or_else(|| x.not_found())
}

async fn used(x: &RestContext<'_>) -> Result<Usage, ApiError> {
    Ok(operations::used(x.services(), &x.account.name).await?)
}

async fn shown(x: &RestContext<'_>, row: &Resource<Trigger>) -> Answer {
    let figure = row.details.figure(&used(x).await?, usage::today());
    Ok(ok(trigger(x.account_sid(), row, figure)))
}

async fn list(x: &RestContext<'_>) -> Answer {
    let paging = x.paging("UT")?;
    let all = resources::every(x.store(), TRIGGER, &x.account.name, &Filter::default()).await?;
    let is = |name: &str, word: &str| x.parameters.get(name).is_none_or(|expected| expected == word);
    let (used, today) = (used(x).await?, usage::today());
    let fitting = all.iter().filter(|row| {
        is("UsageCategory", &row.details.word)
            && is("TriggerBy", figure_word(row.details.by))
            && is("Recurring", row.details.recurring.map_or("", recurring_word))
    });
    let represent = |row: &Resource<Trigger>| {
        (sid::spell("UT", row.id), trigger(x.account_sid(), row, row.details.figure(&used, today)))
    };
    let rows = fitting.map(represent).collect();
    let items = paging.part(rows, |(sid, _)| sid::parse("UT", sid));
    Ok(ok(x.list("usage_triggers", "Usage/Triggers", &paging, items)))
}

async fn create(x: &RestContext<'_>) -> Answer {
    let details = read(x.parameters)?;
    let name = friendly_name(x.parameters)?.unwrap_or_default();
    // `+10` means the current value plus 10.
    let more = details.written.starts_with('+');
    let full = |max| format!("An account has at most {max} usage triggers");
    let added = operations::create_trigger(x.services(), &x.account.name, name, details, more).await;
    let (row, figure) = added.map_err(|why| not_added(why, full))?;
    Ok(created(trigger(x.account_sid(), &row, figure)))
}

async fn update(x: &RestContext<'_>, mut row: Resource<Trigger>) -> Answer {
    if let Some(name) = friendly_name(x.parameters)? {
        row.name = name;
    }
    if let Some(url) = x.parameters.url("CallbackUrl", 21502)? {
        row.details.callback.url = url;
    }
    if x.parameters.get("CallbackMethod").is_some() {
        row.details.callback.method = x.parameters.method("CallbackMethod")?;
    }
    operations::change_trigger(x.services(), &mut row).await?;
    shown(x, &row).await
}

fn friendly_name(parameters: &Parameters) -> Result<Option<String>, ApiError> {
    let Some(name) = parameters.given("FriendlyName") else { return Ok(None) };
    match name.chars().count() <= LONGEST_NAME {
        true => Ok(Some(name.to_owned())),
        false => Err(ApiError::bad(20002, format!("FriendlyName is longer than {LONGEST_NAME} characters"))),
    }
}

/// Parses the parameters of a new trigger.
pub(super) fn read(parameters: &Parameters) -> Result<Trigger, ApiError> {
    let required = |name: &str| {
        parameters.get(name).ok_or_else(|| ApiError::bad(INVALID, format!("{name} is required"))).map(str::to_owned)
    };
    required("CallbackUrl")?;
    let url = parameters.url("CallbackUrl", 21502)?.ok_or_else(ApiError::internal)?;
    let written = required("TriggerValue")?;
    let value: f64 = written
        .parse()
        .ok()
        .filter(|value: &f64| value.is_finite() && *value >= 0.0)
        .ok_or_else(|| ApiError::bad(INVALID, format!("TriggerValue is not a number: {written}")))?;
    let word = required("UsageCategory")?;
    let category = super::category(&word)?.2;
    let recurring = match parameters.get("Recurring") {
        Some(_) => Some(parameters.word("Recurring", &RECURRING, Recurring::Alltime, INVALID)?),
        None => None,
    };
    Ok(Trigger {
        dialect: NAME.to_owned(),
        category,
        word,
        by: parameters.word("TriggerBy", &FIGURES, Figure::Usage, INVALID)?,
        value,
        written,
        recurring,
        callback: Target { url, method: parameters.method("CallbackMethod")? },
        fired_at: None,
    })
}

/// The UsageTrigger resource.
pub(super) fn trigger(account_sid: &str, row: &Resource<Trigger>, figure: f64) -> Value {
    let (sid, details) = (sid::spell("UT", row.id), &row.details);
    json!({
        "account_sid": account_sid,
        "api_version": path::VERSION,
        "callback_method": details.callback.method.name(),
        "callback_url": &*details.callback.url,
        "current_value": figure.to_string(),
        "date_created": format::rfc2822(row.created_at),
        "date_fired": details.fired_at.map(format::rfc2822),
        "date_updated": format::rfc2822(row.updated_at),
        "friendly_name": row.name,
        "recurring": details.recurring.map(recurring_word),
        "trigger_by": figure_word(details.by),
        "trigger_value": details.written,
        "uri": path::uri(account_sid, &format!("Usage/Triggers/{sid}")),
        "usage_category": details.word,
        "usage_record_uri": record_uri(account_sid, details),
        "sid": sid,
    })
}

/// The notice that a trigger sends when the usage has reached the trigger's value.
pub(in super::super::super) fn notice(account_sid: &str, row: &Resource<Trigger>, figure: f64) -> Notice {
    let details = &row.details;
    let fired = details.fired_at.unwrap_or(row.updated_at);
    let sid = sid::spell("UT", row.id);
    let token = format!("{sid}-FIRES-{}", format::iso8601(fired));
    let fields = [
        ("AccountSid", account_sid.to_owned()),
        ("UsageTriggerSid", sid),
        ("Recurring", details.recurring.map_or("", recurring_word).to_owned()),
        ("TriggerBy", figure_word(details.by).to_owned()),
        ("TriggerValue", details.written.clone()),
        ("CurrentValue", figure.to_string()),
        ("UsageCategory", details.word.clone()),
        ("UsageRecordUri", record_uri(account_sid, details)),
        ("DateFired", format::rfc2822(fired)),
        ("IdempotencyToken", token),
    ];
    Notice {
        event: "usage trigger".to_owned(),
        target: details.callback.clone(),
        failover: None,
        body: Body::Form(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        numbered: false,
    }
}

fn record_uri(account_sid: &str, trigger: &Trigger) -> String {
    let name = match trigger.recurring {
        Some(Recurring::Daily) => "/Today",
        Some(Recurring::Monthly) => "/ThisMonth",
        Some(Recurring::Yearly) => "/Yearly",
        Some(Recurring::Alltime) | None => "",
    };
    format!("{}?Category={}", path::uri(account_sid, &format!("Usage/Records{name}")), trigger.word)
}

fn figure_word(figure: Figure) -> &'static str {
    FIGURES.iter().find(|(_, known)| *known == figure).map_or("usage", |(word, _)| word)
}

fn recurring_word(recurring: Recurring) -> &'static str {
    RECURRING.iter().find(|(_, known)| *known == recurring).map_or("alltime", |(word, _)| word)
}
