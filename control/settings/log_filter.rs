//! The filter of the server's log. An operator can change the filter at run time. A process has one log.

use std::time::Duration;

use parking_lot::Mutex;

/// The log filter of this process.
pub static LOG: LogFilter = LogFilter(Mutex::new(None));

/// The levels. The first level writes no lines, and each further level writes more lines.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// Maximum length of a filter in octets.
const LONGEST: usize = 1_024;

/// The filter of a process's log.
pub struct LogFilter(Mutex<Option<Connected>>);

/// Sets a filter. The error describes the mistake in the filter.
type Set = Box<dyn Fn(&str) -> Result<(), String> + Send>;

struct Connected {
    set: Set,
    /// The filter that applies when there is no temporary change.
    usual: String,
    now: String,
    /// Whether `usual` comes from the environment. The environment takes priority over the file.
    fixed: bool,
    /// The number of changes so far. A temporary change is reverted only if there was no later change.
    changes: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// The filter that applies now.
    pub now: String,
    /// The filter that applies when there is no temporary change.
    pub usual: String,
}

/// Checks a filter. The form is `LEVEL` or `LEVEL,MODULE=LEVEL,...`, for example `info,tandem_sip=debug`.
///
/// # Errors
/// Returns the mistake in the filter as text. Without this check, the log would accept most wrong filters and then show
/// no lines.
pub fn check(filter: &str) -> Result<(), String> {
    if filter.len() > LONGEST {
        return Err(format!("the filter has {} octets; the maximum is {LONGEST}", filter.len()));
    }
    for part in filter.split(',') {
        let (module, level) = match part.split_once('=') {
            Some((module, level)) => (Some(module.trim()), level.trim()),
            None => (None, part.trim()),
        };
        let named = |module: &str| {
            !module.is_empty() && module.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"_:".contains(&octet))
        };
        if let Some(module) = module.filter(|module| !named(module)) {
            return Err(format!("{module:?} is not a module name such as \"tandem_sip\""));
        }
        if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
            return Err(format!("{level:?} is not a level; the levels are \"{}\"", LEVELS.join("\", \"")));
        }
    }
    Ok(())
}

/// The names of the crates below `control/`, without the prefix `tandem_`. In a filter, `tandem_control` means all of
/// these crates.
const CONTROL: [&str; 38] = [
    "accounts",
    "agent",
    "audio",
    "causes",
    "clients",
    "cluster",
    "conferences",
    "console",
    "conversations",
    "dialect",
    "documents",
    "events",
    "gateway",
    "history",
    "host",
    "http",
    "legs",
    "markup",
    "metrics",
    "operations",
    "pages",
    "queues",
    "routing",
    "runtime",
    "server",
    "settings",
    "shares",
    "signalwire",
    "siprec",
    "softphone",
    "speech",
    "stir",
    "store",
    "streams",
    "telnyx",
    "texml",
    "twilio",
    "webhooks",
];

/// Replaces `tandem_control` and its modules in a filter with the crates that contain their code.
/// `tandem_control=debug` becomes `tandem_accounts=debug,tandem_causes=debug,...`, and `tandem_control::store=debug`
/// becomes `tandem_store=debug,tandem_accounts::store=debug,...`. Other parts of the filter do not change.
pub fn by_crate(filter: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in filter.split(',') {
        match part.trim().strip_prefix("tandem_control").filter(|rest| rest.starts_with(['=', ':'])) {
            Some(rest) => {
                parts.extend(rest.strip_prefix("::").map(|module| format!("tandem_{module}")));
                parts.extend(CONTROL.iter().map(|name| format!("tandem_{name}{rest}")));
            }
            None => parts.push(part.to_owned()),
        }
    }
    parts.join(",")
}

impl LogFilter {
    /// Connects the filter to the log. The function `set` applies a filter to the log. `filter` is the current filter.
    /// If `fixed` is true, the settings in the file are ignored.
    pub fn connect(&self, set: impl Fn(&str) -> Result<(), String> + Send + 'static, filter: String, fixed: bool) {
        let (set, now) = (Box::new(set), filter.clone());
        *self.0.lock() = Some(Connected { set, usual: filter, now, fixed, changes: 0 });
    }

    /// Returns the filters. Returns `None` if the log of this process belongs to another program.
    pub fn get(&self) -> Option<Filter> {
        self.0.lock().as_ref().map(|log| Filter { now: log.now.clone(), usual: log.usual.clone() })
    }

    /// Applies the filter of the configuration if this filter has changed. This also ends a temporary change.
    ///
    /// # Errors
    /// Returns an error if the filter cannot be set.
    pub fn configure(&self, filter: &str) -> Result<(), String> {
        let mut log = self.0.lock();
        let Some(log) = log.as_mut().filter(|log| !log.fixed && log.usual != filter) else { return Ok(()) };
        log.change(filter)?;
        log.usual = filter.to_owned();
        Ok(())
    }

    /// Changes the filter until the next change. Returns the number of this change, or `None` if the log of this
    /// process belongs to another program.
    ///
    /// # Errors
    /// Returns the mistake in the filter.
    pub fn change(&self, filter: &str) -> Option<Result<u64, String>> {
        let mut log = self.0.lock();
        let log = log.as_mut()?;
        Some(check(filter).and_then(|()| log.change(filter)).map(|()| log.changes))
    }

    /// Replaces the filter of this change with the usual filter, unless there was a later change.
    pub fn restore(&self, change: u64) {
        let mut log = self.0.lock();
        if let Some(log) = log.as_mut().filter(|log| log.changes == change) {
            let usual = log.usual.clone();
            // This cannot fail, because the usual filter was set before.
            let _ = log.change(&usual);
        }
    }

    /// Waits for `time` and then does the same as `restore`.
    pub fn restore_after(&'static self, change: u64, time: Duration) {
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            self.restore(change);
        });
    }
}

impl Connected {
    fn change(&mut self, filter: &str) -> Result<(), String> {
        (self.set)(filter)?;
        filter.clone_into(&mut self.now);
        self.changes += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_filter_tandem_control_selects_every_crate_below_control() {
        assert_eq!(by_crate("info,tandem_sip=debug"), "info,tandem_sip=debug");
        let all = by_crate("info,tandem_control=debug");
        assert!(all.starts_with("info,tandem_accounts=debug,") && all.ends_with(",tandem_webhooks=debug"), "{all}");
        let module = by_crate("tandem_control::store=trace");
        assert!(
            module.starts_with("tandem_store=trace,") && module.contains(",tandem_runtime::store=trace"),
            "{module}"
        );
        let crates = std::fs::read_dir(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap();
        let mut found: Vec<_> = crates.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        assert_eq!(found, CONTROL, "the list above is the folders below control/");
    }

    #[test]
    fn an_invalid_log_filter_is_refused() {
        for right in ["info", "WARN", "off", "info,tandem_sip=debug", "error, tandem_control::stream=trace"] {
            assert_eq!(check(right), Ok(()), "{right}");
        }
        for (wrong, why) in [
            ("debgu", "\"debgu\" is not a level; the levels are \"off\", \"error\""),
            ("", "\"\" is not a level"),
            ("tandem_sip", "\"tandem_sip\" is not a level"),
            ("info,=debug", "\"\" is not a module name"),
            ("info,a b=debug", "\"a b\" is not a module name"),
        ] {
            let found = check(wrong).unwrap_err();
            assert!(found.contains(why), "{wrong}: {found}");
        }
        assert!(check(&"info,".repeat(300)).is_err());
    }

    #[test]
    fn a_temporary_log_filter_ends_unless_a_later_change_replaced_it() {
        let set = Arc::new(Mutex::new(Vec::new()));
        let log = LogFilter(Mutex::new(None));
        assert_eq!((log.get(), log.change("debug")), (None, None));
        let seen = Arc::clone(&set);
        let note = move |filter: &str| {
            seen.lock().push(filter.to_owned());
            Ok(())
        };
        log.connect(note, "info".to_owned(), false);
        let first = log.change("debug").unwrap().unwrap();
        let second = log.change("trace").unwrap().unwrap();
        log.restore(first);
        assert_eq!(log.get().unwrap(), Filter { now: "trace".to_owned(), usual: "info".to_owned() });
        log.restore(second);
        assert_eq!(log.get().unwrap().now, "info");
        log.change("error").unwrap().unwrap();
        log.configure("info").unwrap();
        assert_eq!(log.get().unwrap().now, "error", "a reload that says nothing new changes nothing");
        log.configure("warn").unwrap();
        assert_eq!(*set.lock(), ["debug", "trace", "info", "error", "warn"]);
        assert!(log.change("no such level").unwrap().is_err());
        log.connect(|_| Ok(()), "debug".to_owned(), true);
        log.configure("warn").unwrap();
        assert_eq!(log.get().unwrap().now, "debug", "the environment wins over the file");
    }
}
