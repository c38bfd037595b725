//! The usage of accounts, and the triggers that react to the usage. The usage is counted from the records of calls and
//! recordings.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use tandem_call::Target;
use tandem_host::clock;
use tandem_id::AccountName;
use tandem_store::resources::Kind;
use tandem_store::usage::{CallUsage, RecordingUsage};
use tandem_store::{Store, StoreError, TimeRange, usage as records};

use super::Accounts;

/// The kind of the stored triggers. The name of such a resource is the display name of the trigger.
pub const TRIGGER: Kind<Trigger> = Kind::new("usage trigger");

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// All legs.
    Calls,
    /// Inbound legs.
    Inbound,
    /// Outbound legs.
    Outbound,
    /// Legs to or from clients.
    Client,
    /// Legs with a SIP URI, in both directions.
    Sip,
    /// Inbound legs from SIP URIs.
    SipInbound,
    /// Outbound legs to SIP URIs.
    SipOutbound,
    Recordings,
    /// The total price, which is always zero.
    Price,
    /// A category that this server does not count.
    Other,
}

/// The usage of a category.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Total {
    /// Number of legs or recordings.
    pub count: u64,
    /// Number of minutes. The duration of each leg or recording is rounded up to full minutes.
    pub minutes: u64,
}

/// The usage of accounts for each day.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    calls: Vec<CallUsage>,
    recordings: Vec<RecordingUsage>,
}

impl Usage {
    /// Reads the usage of these accounts between the days `from` and `until`. Both days are included. If one of the
    /// days is `None`, the range has no limit on this side.
    pub async fn read(
        store: &Store,
        accounts: &[AccountName],
        (from, until): (Option<Date>, Option<Date>),
    ) -> Result<Self, StoreError> {
        let range = TimeRange {
            since: from.and_then(midnight),
            before: until.and_then(|day| day.tomorrow().ok()).and_then(midnight),
        };
        let calls = records::calls(store, accounts, range).await?;
        Ok(Self { calls, recordings: records::recordings(store, accounts, range).await? })
    }

    /// Returns the first day with any usage.
    pub fn first_day(&self) -> Option<Date> {
        let days = self.calls.iter().map(|row| row.day).chain(self.recordings.iter().map(|row| row.day));
        date(days.min()?)
    }

    /// Returns the usage of a category between the days `from` and `until`. Both days are included.
    pub fn total(&self, category: Category, (from, until): (Date, Date)) -> Total {
        let within = |day: i64| date(day).is_some_and(|day| (from..=until).contains(&day));
        let mut total = Total::default();
        let mut add = |count, minutes| {
            total.count += count;
            total.minutes += minutes;
        };
        if category == Category::Recordings {
            self.recordings.iter().filter(|row| within(row.day)).for_each(|row| add(row.count, row.minutes));
            return total;
        }
        let fits = |row: &&CallUsage| {
            let (inbound, sip) = (row.direction == "inbound", row.party == "sip");
            match category {
                Category::Calls => true,
                Category::Inbound => inbound,
                Category::Outbound => !inbound,
                Category::Client => row.party == "client",
                Category::Sip => sip,
                Category::SipInbound => sip && inbound,
                Category::SipOutbound => sip && !inbound,
                Category::Recordings | Category::Price | Category::Other => false,
            }
        };
        self.calls.iter().filter(|row| within(row.day)).filter(fits).for_each(|row| add(row.count, row.minutes));
        total
    }
}

/// A trigger, which reports once that the usage has reached a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    /// Name of the dialect that created the trigger. This dialect reports the trigger.
    pub dialect: String,
    pub category: Category,
    /// The name that the dialect uses for the category.
    pub word: String,
    /// The figure that is compared with `value`.
    pub by: Figure,
    /// The value at which the trigger fires.
    pub value: f64,
    /// The value in the notation of the dialect.
    pub written: String,
    /// The period after which the trigger can fire again. `None` if the trigger fires only once.
    pub recurring: Option<Recurring>,
    /// The URL that the server requests when the trigger fires.
    pub callback: Target,
    /// Time at which the trigger last fired.
    pub fired_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Figure {
    /// Number of legs or recordings.
    Count,
    /// Number of minutes.
    Usage,
    Price,
}

/// The period of a trigger. The usage is counted from the beginning of the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recurring {
    /// The period begins at midnight (UTC).
    Daily,
    /// The period begins on the first day of the month.
    Monthly,
    /// The period begins on January 1.
    Yearly,
    /// The period is unlimited, so the trigger fires only once.
    Alltime,
}

impl Trigger {
    /// Returns the first day and the last day of the current period.
    pub fn period(&self, today: Date) -> (Date, Date) {
        let begin = match self.recurring {
            Some(Recurring::Daily) => today,
            Some(Recurring::Monthly) => today.first_of_month(),
            Some(Recurring::Yearly) => today.first_of_year(),
            Some(Recurring::Alltime) | None => Date::MIN,
        };
        (begin, today)
    }

    /// Returns the figure that the trigger compares.
    pub fn figure(&self, usage: &Usage, today: Date) -> f64 {
        let total = usage.total(self.category, self.period(today));
        match self.by {
            Figure::Count => total.count as f64,
            Figure::Usage => total.minutes as f64,
            Figure::Price => 0.0,
        }
    }

    /// Whether the trigger must fire. `figure` is the current figure.
    pub fn is_due(&self, figure: f64, today: Date) -> bool {
        figure >= self.value && !self.is_reported(today)
    }

    /// Whether the trigger has fired in the current period.
    pub fn is_reported(&self, today: Date) -> bool {
        self.fired_at.is_some_and(|at| utc(at) >= self.period(today).0)
    }
}

pub fn with_subaccounts(accounts: &Accounts, name: &AccountName) -> Vec<AccountName> {
    let below = accounts.below(name);
    std::iter::once(name.clone()).chain(below.iter().map(|made| made.account.name.clone())).collect()
}

/// Returns the current date in UTC.
pub fn today() -> Date {
    utc(clock::time())
}

fn utc(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

fn midnight(day: Date) -> Option<Timestamp> {
    day.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

fn date(day: i64) -> Option<Date> {
    Date::constant(1970, 1, 1).checked_add(day.days()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> i64 {
        let day: Date = text.parse().unwrap();
        midnight(day).unwrap().as_second() / 86_400
    }

    fn usage() -> Usage {
        let row = |at: &str, direction: &str, party: &str, count, minutes| CallUsage {
            day: day(at),
            direction: direction.into(),
            party: party.into(),
            count,
            minutes,
        };
        Usage {
            calls: vec![
                row("2026-10-31", "inbound", "phone", 1, 2),
                row("2026-11-20", "inbound", "sip", 2, 5),
                row("2026-11-21", "outbound-api", "client", 4, 4),
                row("2026-11-21", "outbound-dial", "sip", 8, 9),
            ],
            recordings: vec![RecordingUsage { day: day("2026-11-21"), count: 3, minutes: 7 }],
        }
    }

    #[test]
    fn each_usage_category_counts_its_own_calls() {
        let usage = usage();
        let all = (Date::MIN, Date::MAX);
        let total = |category| {
            let Total { count, minutes } = usage.total(category, all);
            (count, minutes)
        };
        for (category, expected) in [
            (Category::Calls, (15, 20)),
            (Category::Inbound, (3, 7)),
            (Category::Outbound, (12, 13)),
            (Category::Client, (4, 4)),
            (Category::Sip, (10, 14)),
            (Category::SipInbound, (2, 5)),
            (Category::SipOutbound, (8, 9)),
            (Category::Recordings, (3, 7)),
            (Category::Price, (0, 0)),
            (Category::Other, (0, 0)),
        ] {
            assert_eq!(total(category), expected, "{category:?}");
        }
        let date = |text: &str| text.parse::<Date>().unwrap();
        let yesterday = (date("2026-11-20"), date("2026-11-20"));
        assert_eq!(usage.total(Category::Calls, yesterday), Total { count: 2, minutes: 5 });
        assert_eq!(usage.first_day(), Some(date("2026-10-31")));
    }

    #[test]
    fn a_usage_trigger_is_due_once_per_period() {
        let today: Date = "2026-11-21".parse().unwrap();
        let target = Target { url: "http://a/".into(), method: tandem_call::Method::Post };
        let mut trigger = Trigger {
            dialect: "twilio".into(),
            category: Category::Calls,
            word: "calls".into(),
            by: Figure::Count,
            value: 12.0,
            written: "12".into(),
            recurring: Some(Recurring::Daily),
            callback: target,
            fired_at: None,
        };
        let usage = usage();
        assert_eq!(trigger.figure(&usage, today), 12.0);
        assert!(trigger.is_due(12.0, today) && !trigger.is_due(11.0, today));
        trigger.fired_at = Some("2026-11-21T08:00:00Z".parse().unwrap());
        assert!(!trigger.is_due(12.0, today), "told already today");
        assert!(trigger.is_due(12.0, today.tomorrow().unwrap()), "tomorrow is another day");
        trigger.recurring = Some(Recurring::Monthly);
        assert_eq!(trigger.figure(&usage, today), 14.0);
        assert!(!trigger.is_due(14.0, today.tomorrow().unwrap()));
        trigger.recurring = None;
        assert_eq!(trigger.figure(&usage, today), 15.0);
        assert!(!trigger.is_due(15.0, Date::MAX), "once is once");
    }
}
