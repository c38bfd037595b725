//! The server's own log on standard error, as text or as JSON (`log.format`). The text has the form that
//! `tracing_subscriber` uses. The JSON formatter is part of this module, because `tracing_subscriber` names the time
//! `timestamp`, and users parse the key `time`.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::io::{self, IsTerminal};

use tandem_host::clock;
use tandem_settings::log_filter::{LOG, by_crate};
use tandem_settings::printable::{printable_json, printable_line};
use tandem_settings::{LogConfig, LogFormat};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt as layers, reload};

/// Starts the log with the filter from `TANDEM_LOG`, or with the level from `config`. The filter can be changed later
/// with [`LOG`].
pub fn start_log(config: &LogConfig) {
    let variable = std::env::var("TANDEM_LOG").ok().filter(|variable| EnvFilter::try_new(variable).is_ok());
    let filter = variable.clone().unwrap_or_else(|| config.level.to_string());
    let (layer, handle) = reload::Layer::new(EnvFilter::new(by_crate(&filter)));
    let registry = tracing_subscriber::registry().with(layer);
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let started = match config.format {
        LogFormat::Text => {
            // A closed terminal must not end the server with a panic while the server shuts down.
            let text = layers::layer().event_format(Plain).with_ansi(colours).log_internal_errors(false);
            registry.with(text.with_writer(|| Shown(std::io::stderr(), printable_line))).try_init()
        }
        LogFormat::Json => {
            let json = layers::layer().event_format(Json).fmt_fields(Json).with_ansi(false).log_internal_errors(false);
            registry.with(json.with_writer(|| Shown(std::io::stderr(), printable_json))).try_init()
        }
    };
    // Only a test may already have another subscriber. In this case the other subscriber remains in use.
    if started.is_ok() {
        let set = move |filter: &str| {
            let filter = EnvFilter::try_new(by_crate(filter)).map_err(|error| error.to_string())?;
            handle.reload(filter).map_err(|error| error.to_string())
        };
        LOG.connect(set, filter, variable.is_some());
    }
}

/// Writes whole lines with the function for text from outside. `tracing_subscriber` has escaped the escape sequences in the text
/// format.
struct Shown<W>(W, fn(&str) -> Cow<'_, str>);

impl<W: io::Write> io::Write for Shown<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all((self.1)(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The text format, for example `2026-01-02T03:04:05.678901Z  INFO answered call=1f leg=2e`. At the levels `debug` and
/// `trace`, the line also contains the module, for example `tandem::call: answered`.
pub(super) struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // Module names help developers, but they do not help operators.
        let with_target = *event.metadata().level() > Level::INFO;
        layers::format().with_target(with_target).format_event(context, out, event)
    }
}

/// The JSON format, for example
/// `{"time":"2026-01-02T03:04:05.678901Z","level":"INFO","target":"tandem::call","message":"answered","call":"1f"}`. A
/// value is a string, a number, a boolean or null. Spans are omitted, because only libraries use them.
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        write!(
            out,
            r#"{{"time":"{:.6}","level":"{}","target":"{}""#,
            clock::time(),
            metadata.level(),
            metadata.target()
        )?;
        context.format_fields(out.by_ref(), event)?;
        out.write_str("}\n")
    }
}

impl<'w> FormatFields<'w> for Json {
    fn format_fields<R: RecordFields>(&self, mut out: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = JsonFields(String::with_capacity(FIELDS));
        fields.record(&mut line);
        out.write_str(&line.0)
    }
}

/// Collects `,"name":value` for every field. The message is also a field.
struct JsonFields(String);

impl JsonFields {
    fn put(&mut self, field: &Field, value: &str) {
        // The names are Rust identifiers, so they need no escaping. Writing to a String cannot fail.
        let _ = write!(self.0, ",\"{}\":{value}", field.name());
    }
}

impl Visit for JsonFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        // Serialising a string cannot fail.
        self.put(field, &serde_json::to_string(value).unwrap_or_default());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, if value { "true" } else { "false" });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, &value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match value.is_finite() {
            true => self.put(field, &value.to_string()),
            false => self.put(field, "null"),
        }
    }
}

/// Initial capacity of the buffer for the fields of a line, in octets. Most lines fit into this buffer.
const FIELDS: usize = 512;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_line_has_its_fields_and_at_debug_level_its_module() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).event_format(Plain).with_max_level(Level::DEBUG);
        let log = log.with_writer(move || Shown(writer.clone(), printable_line)).finish();
        tracing::subscriber::with_default(log, || {
            let span = tracing::info_span!("call", call = %"1f");
            span.in_scope(
                || tracing::error!(from = %"sip:a@b", name = "J \"D\"", none = Option::<u8>::None, "{}", "x"),
            );
            tracing::info!("\x1b[2J caf\u{e9} \u{9b}2J \x7f \u{202e}");
            tracing::debug!("for developers");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.split_at("2026-01-02T03:04:05.678901Z".len()).1).collect();
        assert_eq!(
            lines,
            [
                " ERROR call{call=1f}: x from=sip:a@b name=\"J \\\"D\\\"\"",
                "  INFO \\x1b[2J caf\u{e9} \\u{9b}2J \\x7f \\u{202e}",
                &format!(" DEBUG {}: for developers", module_path!()),
            ]
        );
    }

    #[test]
    fn each_line_of_the_json_log_is_an_object_with_top_level_fields() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).event_format(Json).fmt_fields(Json);
        let log = log.with_writer(move || Shown(writer.clone(), printable_json)).finish();
        tracing::subscriber::with_default(log, || {
            let status = Some(486);
            tracing::warn!(call = %"1f", trunk = "a \"b\"", status, ratio = 0.5, bad = f64::NAN, ok = true, none = None::<u8>, "x {}", 1);
            tracing::info_span!("of a library", call = 2)
                .in_scope(|| tracing::info!("\x1b[2J \u{9b}\u{202e} caf\u{e9}\n"));
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let all: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [first, second] = &all[..] else { panic!("{text}") };
        let expected = serde_json::json!({
            "time": first["time"], "level": "WARN", "target": module_path!(), "message": "x 1", "call": "1f",
            "trunk": "a \"b\"", "status": 486, "ratio": 0.5, "bad": null, "ok": true,
        });
        assert_eq!(*first, expected);
        assert!(first["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{first}");
        assert_eq!(
            (&second["message"], &second["call"]),
            (&"\x1b[2J \u{9b}\u{202e} caf\u{e9}\n".into(), &serde_json::Value::Null)
        );
        assert!(
            !text.contains(['\x1b', '\u{9b}', '\u{202e}']),
            "a terminal that shows the log must not take it for its own language"
        );
    }
}
