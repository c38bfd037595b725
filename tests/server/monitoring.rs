//! The metrics at `/metrics`, and the files in docs/ that depend on the metrics: the dashboard, the alert rules and the
//! page.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tandem_causes::Cause;

use crate::phone::Phone;
use crate::test_server::{Reply, TestServer, inline};

const DASHBOARD: &str = include_str!("../../docs/monitoring/dashboard.json");
const RULES: &str = include_str!("../../docs/monitoring/alerts.yml");
const PAGE: &str = include_str!("../../docs/reference/metrics.md");

/// The metric families of `/metrics` and their types. Panics if a family has no help text, or if a sample is not below
/// its own family.
fn families(text: &str) -> BTreeMap<String, String> {
    let mut families = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty(), "{line}");
            name.clone_into(&mut current);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, current, "HELP comes before TYPE");
            assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is there twice");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let name = name.split('{').next().unwrap();
            assert!(family(name, &families) == Some(current.as_str()), "{line} is below {current}");
            for label in line.split('"').skip(1).step_by(2) {
                assert!(!label.contains(' '), "a label's value has no spaces: {line}");
            }
        }
    }
    families
}

/// The family of a series. The name of the family is the name of the series, or the name without the `_bucket`, `_sum`
/// or `_count` of a histogram.
fn family<'a>(series: &'a str, families: &BTreeMap<String, String>) -> Option<&'a str> {
    let whole = families.contains_key(series).then_some(series);
    let parts = ["_bucket", "_sum", "_count"].into_iter().filter_map(|part| series.strip_suffix(part));
    whole.or_else(|| parts.into_iter().find(|name| families.get(*name).is_some_and(|kind| kind == "histogram")))
}

/// The names of the metrics in a PromQL expression.
fn named(expression: &str) -> BTreeSet<String> {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = expression.split(|letter: char| !is_name(letter));
    words.filter(|word| word.starts_with("tandem_") || word.starts_with("process_")).map(str::to_owned).collect()
}

fn text(reply: Reply) -> String {
    String::from_utf8(reply.body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dashboards_alert_rules_and_docs_name_exactly_the_existing_metrics() {
    let server = TestServer::start(&inline("100", "<Response><Hangup/></Response>")).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    phone.until(crate::phone::SipEvent::Bye).await;
    server.quiet().await;
    let metrics = text(server.api.get("/metrics").await);
    let families = families(&metrics);
    assert!(metrics.contains("\ntandem_legs_ended_total{cause=\"hung_up\"} 1\n"), "{metrics}");
    assert!(metrics.contains("\ntandem_build_info{version=\""), "{metrics}");

    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    let mut shown = 0;
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{}", panel["title"]);
        for target in targets {
            let names = named(target["expr"].as_str().unwrap());
            assert!(!names.is_empty(), "{target}");
            shown += names.len();
            for name in names {
                assert!(family(&name, &families).is_some(), "{} shows {name}, which is no metric", panel["title"]);
            }
        }
    }
    assert!(shown >= 50, "{shown}");

    let mut alerts = 0;
    for rule in RULES.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap();
        alerts += 1;
        for part in ["\n        expr: ", "\n          severity: ", "\n          summary: ", "\n          description: "]
        {
            assert!(rule.contains(part), "{name} has no{part}");
        }
        let expression = rule.split("expr: ").nth(1).unwrap().split("        labels:").next().unwrap();
        let names = named(expression);
        assert!(!names.is_empty() || expression.starts_with("up{"), "{name}");
        for metric in names {
            assert!(family(&metric, &families).is_some(), "{name} goes by {metric}, which is no metric");
        }
    }
    assert!(alerts >= 10, "{alerts}");
    let rules: Vec<(bool, BTreeSet<&str>)> = RULES
        .split("cause")
        .skip(1)
        .filter_map(|rest| {
            let (fits, names) = [(true, "=~\""), (false, "!~\"")]
                .into_iter()
                .find_map(|(fits, start)| Some((fits, rest.strip_prefix(start)?)))?;
            Some((fits, names.split('"').next()?.split('|').collect()))
        })
        .collect();
    for cause in Cause::ALL {
        let is_asked = rules.iter().any(|(fits, names)| names.contains(cause.id()) == *fits);
        assert!(is_asked, "no alert rule fires for {cause}");
    }
    for name in rules.iter().flat_map(|(_, names)| names) {
        assert!(Cause::of_id(name).is_some(), "an alert rule asks for {name}, which is no cause");
    }

    let listed: BTreeSet<&str> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| !name.contains('='))
        .collect();
    for name in families.keys() {
        assert!(listed.contains(name.as_str()), "docs/reference/metrics.md does not list {name}");
    }
    for name in listed {
        assert!(families.contains_key(name), "docs/reference/metrics.md lists {name}, which is no metric");
    }
    server.end().await;
}
