//! What the server logs, and how an operator changes it while it runs. There is one log in a process.

use std::time::Duration;

use parking_lot::Mutex;

/// The log of this process.
pub static LOG: LogFilter = LogFilter(Mutex::new(None));

/// Levels, the quietest first.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// Longest filter, octets.
const LONGEST: usize = 1_024;

/// What is logged.
pub struct LogFilter(Mutex<Option<Connected>>);

/// Sets a filter, or says what is wrong with it.
type Set = Box<dyn Fn(&str) -> Result<(), String> + Send>;

struct Connected {
    set: Set,
    /// What holds unless somebody wants something else for a while.
    usual: String,
    now: String,
    /// Whether `usual` is the environment's, which wins over the file.
    fixed: bool,
    /// How often it was changed: who changes it back sees whether somebody else has meanwhile.
    changes: u64,
}

/// What holds now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// What is logged.
    pub now: String,
    /// What is logged when nobody wants something else.
    pub usual: String,
}

/// Checks a filter: `LEVEL`, or `LEVEL,MODULE=LEVEL,...` as in `info,tandem_sip=debug`.
///
/// # Errors
/// What is wrong with it. A filter with a mistake would mostly be valid, and silent.
pub fn check(filter: &str) -> Result<(), String> {
    if filter.len() > LONGEST {
        return Err(format!("the filter has {} octets; at most {LONGEST} are read", filter.len()));
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
            return Err(format!("{module:?} is no module, such as \"tandem_sip\""));
        }
        if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
            return Err(format!("{level:?} is no level; there are \"{}\"", LEVELS.join("\", \"")));
        }
    }
    Ok(())
}

/// The crates below `control/`, by which `tandem_control` in a filter stands.
const CONTROL: [&str; 22] = [
    "accounts",
    "causes",
    "clock",
    "console",
    "dialect",
    "gateway",
    "history",
    "http",
    "markup",
    "metrics",
    "routing",
    "runtime",
    "server",
    "settings",
    "signalwire",
    "speech",
    "stir",
    "store",
    "telnyx",
    "texml",
    "twilio",
    "webhooks",
];

/// The filter with `tandem_control` and the modules below it written as the crates that hold their code:
/// `tandem_control=debug` becomes `tandem_accounts=debug,tandem_causes=debug,...`, and `tandem_control::store=debug` becomes
/// `tandem_store=debug,tandem_accounts::store=debug,...`. All else stays as it is.
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
    /// Says how the filter is set, and what it is. `fixed`: the settings of the file do not count.
    pub fn connect(&self, set: impl Fn(&str) -> Result<(), String> + Send + 'static, filter: String, fixed: bool) {
        let (set, now) = (Box::new(set), filter.clone());
        *self.0.lock() = Some(Connected { set, usual: filter, now, fixed, changes: 0 });
    }

    /// What holds now; `None` in a process whose log is another program's.
    pub fn get(&self) -> Option<Filter> {
        self.0.lock().as_ref().map(|log| Filter { now: log.now.clone(), usual: log.usual.clone() })
    }

    /// What the configuration says now. It ends what somebody wanted for a while.
    ///
    /// # Errors
    /// The filter cannot be set.
    pub fn configure(&self, filter: &str) -> Result<(), String> {
        let mut log = self.0.lock();
        let Some(log) = log.as_mut().filter(|log| !log.fixed && log.usual != filter) else { return Ok(()) };
        log.change(filter)?;
        log.usual = filter.to_owned();
        Ok(())
    }

    /// Changes the filter until the next change; the number of this one. `None` in a process whose log is another program's.
    ///
    /// # Errors
    /// What is wrong with the filter.
    pub fn change(&self, filter: &str) -> Option<Result<u64, String>> {
        let mut log = self.0.lock();
        let log = log.as_mut()?;
        Some(check(filter).and_then(|()| log.change(filter)).map(|()| log.changes))
    }

    /// Goes back to what is usual, unless somebody has changed it since that change.
    pub fn restore(&self, change: u64) {
        let mut log = self.0.lock();
        if let Some(log) = log.as_mut().filter(|log| log.changes == change) {
            let usual = log.usual.clone();
            // It could be set before.
            let _ = log.change(&usual);
        }
    }

    /// The same after some time.
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
    fn tandem_control_means_every_crate_below_it() {
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
    fn a_filter_with_a_mistake_is_refused() {
        for right in ["info", "WARN", "off", "info,tandem_sip=debug", "error, tandem_control::stream=trace"] {
            assert_eq!(check(right), Ok(()), "{right}");
        }
        for (wrong, why) in [
            ("debgu", "\"debgu\" is no level; there are \"off\", \"error\""),
            ("", "\"\" is no level"),
            ("tandem_sip", "\"tandem_sip\" is no level"),
            ("info,=debug", "\"\" is no module"),
            ("info,a b=debug", "\"a b\" is no module"),
        ] {
            let found = check(wrong).unwrap_err();
            assert!(found.contains(why), "{wrong}: {found}");
        }
        assert!(check(&"info,".repeat(300)).is_err());
    }

    #[test]
    fn a_change_for_a_while_ends_unless_somebody_else_has_changed_it() {
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
