use tandem_id::AccountName;
use tandem_store::resources::Resource;

use super::super::super::form::Parameters;
use super::super::tests::published;
use super::*;

const ACCOUNT: &str = "AC00000000000000000000000000000001";

fn parameters(form: &str) -> Parameters {
    Parameters::parse(&crate::Twilio, form.as_bytes())
}

fn day(text: &str) -> Date {
    text.parse().unwrap()
}

#[test]
fn a_date_range_is_divided_into_periods_newest_first() {
    let today = day("2026-03-15");
    let cut = |cut, start: &str, end: &str| {
        let form = format!("StartDate={start}&EndDate={end}");
        let day_of = |name| date(&parameters(&form), name, today).unwrap();
        let spans = spans(cut, (day_of("StartDate"), day_of("EndDate")), Some(day("2025-12-30")), today).unwrap();
        spans.iter().map(|(from, until)| format!("{from} {until}")).collect::<Vec<_>>()
    };
    assert_eq!(cut(Period::Whole, "", ""), ["2025-12-30 2026-03-15"]);
    assert_eq!(cut(Period::Whole, "-30days", "2026-03-01"), ["2026-02-13 2026-03-01"]);
    assert_eq!(cut(Period::Today, "", ""), ["2026-03-15 2026-03-15"]);
    assert_eq!(cut(Period::Yesterday, "", ""), ["2026-03-14 2026-03-14"]);
    assert_eq!(cut(Period::ThisMonth, "", ""), ["2026-03-01 2026-03-15"]);
    assert_eq!(cut(Period::LastMonth, "", ""), ["2026-02-01 2026-02-28"]);
    assert_eq!(cut(Period::Daily, "2026-03-13", "2026-03-14"), ["2026-03-14 2026-03-14", "2026-03-13 2026-03-13"]);
    assert_eq!(
        cut(Period::Monthly, "2026-01-10", ""),
        ["2026-03-01 2026-03-15", "2026-02-01 2026-02-28", "2026-01-10 2026-01-31"]
    );
    assert_eq!(cut(Period::Yearly, "", ""), ["2026-01-01 2026-03-15", "2025-12-30 2025-12-31"]);
    assert!(spans(Period::Daily, (Some(day("1900-01-01")), None), None, today).is_err());
    for bad in ["StartDate=x", "StartDate=2026-02-30", "StartDate=manydays", "StartDate=2026-01-01x"] {
        assert!(date(&parameters(bad), "StartDate", today).is_err(), "{bad}");
    }
}

#[test]
fn usage_resources_have_every_field_of_the_published_examples() {
    let today = day("2026-03-15");
    let one = category("calls").unwrap();
    let record = record(ACCOUNT, "Usage/Records", &one, &Usage::default(), (today, today), Timestamp::UNIX_EPOCH);
    assert_eq!((&record["count"], &record["usage_unit"]), (&json!("0"), &json!("minutes")));
    let form = "CallbackUrl=http://a/&TriggerValue=50&UsageCategory=totalprice&Recurring=yearly&TriggerBy=price\
                &CallbackMethod=GET";
    let row = Resource::new(&AccountName::new("acme"), "x", triggers::read(&parameters(form)).unwrap());
    let trigger = triggers::trigger(ACCOUNT, &row, 0.0);
    assert_eq!((&trigger["trigger_value"], &trigger["current_value"]), (&json!("50"), &json!("0")));
    let usage = "/2010-04-01/Accounts/{AccountSid}/Usage";
    let list = |key: &'static str, item: &Value| {
        let nothing = parameters("");
        let items = vec![(String::new(), item.clone())];
        crate::list::Paging::parse(&nothing, crate::sid::Ids::Prefixed, "UR")
            .unwrap()
            .envelope(key, "/x", &nothing, items)
    };
    published(
        "twilio_api_v2010.json",
        &[
            (format!("{usage}/Records.json"), "get", list("usage_records", &record)),
            (format!("{usage}/Records/Daily.json"), "get", list("usage_records", &record)),
            (format!("{usage}/Triggers.json"), "get", list("usage_triggers", &trigger)),
            (format!("{usage}/Triggers.json"), "post", trigger.clone()),
            (format!("{usage}/Triggers/{{Sid}}.json"), "post", trigger),
        ],
    );
}

#[test]
fn usage_triggers_are_parsed_or_refused_and_their_webhook_is_complete() {
    for bad in [
        "",
        "CallbackUrl=http://a/&TriggerValue=1",
        "CallbackUrl=/a&TriggerValue=1&UsageCategory=calls",
        "CallbackUrl=http://a/&TriggerValue=x&UsageCategory=calls",
        "CallbackUrl=http://a/&TriggerValue=NaN&UsageCategory=calls",
        "CallbackUrl=http://a/&TriggerValue=1&UsageCategory=Two+Words",
        "CallbackUrl=http://a/&TriggerValue=1&UsageCategory=calls&Recurring=hourly",
        "CallbackUrl=http://a/&TriggerValue=1&UsageCategory=calls&TriggerBy=weight",
    ] {
        assert!(triggers::read(&parameters(bad)).is_err(), "{bad}");
    }
    let row = Resource::new(
        &AccountName::new("acme"),
        "",
        triggers::read(&parameters("CallbackUrl=http://a/&TriggerValue=1&UsageCategory=calls&Recurring=daily"))
            .unwrap(),
    );
    let webhook = notice(ACCOUNT, &row, 3.0);
    let tandem_webhooks::Body::Form(fields) = webhook.body else { panic!("not a form") };
    let of = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!((of("CurrentValue"), of("TriggerBy"), of("UsageCategory")), (Some("3"), Some("usage"), Some("calls")));
    assert!(of("UsageRecordUri").unwrap().ends_with("/Usage/Records/Today.json?Category=calls"));
}
