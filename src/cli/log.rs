//! The server's own log on standard error, as text or as JSON (`log.format`). Both formatters are implemented here,
//! because they take half the time of those of `tracing_subscriber`. The two log lines of a call took as long there as
//! processing one of its SIP messages.

use std::fmt::{self, Write};
use std::io::IsTerminal;

use tandem_clock as clock;
use tandem_settings::log_filter::{LOG, by_crate};
use tandem_settings::{LogConfig, LogFormat};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt as layers, reload};

/// Starts the log with the filter from `TANDEM_LOG`, or from `config`. The filter can be changed afterwards ([`LOG`]).
pub(super) fn start(config: &LogConfig) {
    let asked = std::env::var("TANDEM_LOG").ok().filter(|asked| EnvFilter::try_new(asked).is_ok());
    let filter = asked.clone().unwrap_or_else(|| config.level.to_string());
    let (layer, handle) = reload::Layer::new(EnvFilter::new(by_crate(&filter)));
    let registry = tracing_subscriber::registry().with(layer);
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let started = match config.format {
        LogFormat::Text => {
            let text = layers::layer().event_format(Plain).fmt_fields(Plain).with_ansi(colours);
            registry.with(text.with_writer(std::io::stderr)).try_init()
        }
        LogFormat::Json => {
            let json = layers::layer().event_format(Json).fmt_fields(Json).with_ansi(false);
            registry.with(json.with_writer(std::io::stderr)).try_init()
        }
    };
    // Another subscriber can exist only in a test; then that one is used.
    if started.is_ok() {
        let set = move |filter: &str| {
            let filter = EnvFilter::try_new(by_crate(filter)).map_err(|error| error.to_string())?;
            handle.reload(filter).map_err(|error| error.to_string())
        };
        LOG.connect(set, filter, asked.is_some());
    }
}

/// The text format: `2026-01-02T03:04:05.678901Z  INFO answered call=1f leg=2e`. From level `debug` on, the line
/// contains the module: `tandem::call: answered`.
pub(super) struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = event.metadata().level();
        let colour = out.has_ansi_escapes().then(|| colour(level));
        if colour.is_some() {
            out.write_str("\x1b[2m")?;
        }
        write!(out, "{:.6}", clock::time())?;
        if colour.is_some() {
            out.write_str("\x1b[0m")?;
        }
        out.write_str(if level.as_str().len() == 4 { "  " } else { " " })?;
        match colour {
            Some(colour) => write!(out, "\x1b[{colour}m{level}\x1b[0m")?,
            None => out.write_str(level.as_str())?,
        }
        out.write_char(' ')?;
        if let Some(spans) = context.event_scope() {
            for span in spans.from_root() {
                out.write_str(span.name())?;
                let extensions = span.extensions();
                if let Some(fields) = extensions.get::<FormattedFields<N>>().filter(|fields| !fields.is_empty()) {
                    for part in ["{", fields.fields.as_str(), "}"] {
                        out.write_str(part)?;
                    }
                }
                out.write_char(':')?;
            }
            out.write_char(' ')?;
        }
        // Module names are useful to developers, not to operators.
        if *level > Level::INFO {
            out.write_str(event.metadata().target())?;
            out.write_str(": ")?;
        }
        context.format_fields(out.by_ref(), event)?;
        out.write_char('\n')
    }
}

/// Returns the ANSI colour code of a level.
fn colour(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

/// The JSON format:
/// `{"time":"2026-01-02T03:04:05.678901Z","level":"INFO","target":"tandem::call","message":"answered","call":"1f"}`. A
/// value is a string, a number or a boolean. Spans, which only libraries use, are omitted.
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

/// Collects `,"name":value` for every field, including the message.
struct JsonFields(String);

impl JsonFields {
    fn put(&mut self, field: &Field, value: &str) {
        // The names are Rust identifiers and need no escaping. Writing to a String cannot fail.
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

impl<'w> FormatFields<'w> for Plain {
    fn format_fields<R: RecordFields>(&self, out: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Fields(String::with_capacity(FIELDS));
        fields.record(&mut line);
        show(&line.0, out)
    }
}

/// Initial capacity for the fields of a line, in octets; sufficient for most lines.
const FIELDS: usize = 512;

/// Collects the message, and `name=value` for every other field.
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        if field.name() != "message" {
            self.0.push_str(field.name());
            self.0.push('=');
        }
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{value:?}");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }
}

/// Writes a text with its control characters escaped, so that text from outside cannot control a terminal that shows
/// the log.
fn show(text: &str, mut out: Writer<'_>) -> fmt::Result {
    // The loop has no early exit, so that the octets can be compared in parallel.
    let plain = |plain, octet| plain & matches!(octet, b' '..=b'~' | b'\t' | b'\n');
    if text.bytes().fold(true, plain) {
        return out.write_str(text);
    }
    for one in text.chars() {
        match one {
            '\x1b' | '\x07' | '\x08' | '\x0c' | '\x7f' => write!(out, "\\x{:02x}", u32::from(one))?,
            '\u{80}'..='\u{9f}' => write!(out, "\\u{{{:x}}}", u32::from(one))?,
            _ => out.write_char(one)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io;
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

    /// Returns the log lines of these events, without their times.
    fn logged(subscriber: impl Fn(Lines) -> Box<dyn FnOnce(fn())>) -> Vec<String> {
        let lines = Lines::default();
        subscriber(lines.clone())(|| {
            tracing::warn!("nothing around it");
            let span = tracing::info_span!("call", call = %"1f", leg = tracing::field::Empty);
            let _entered = span.enter();
            span.record("leg", "2e");
            tracing::info_span!("bare").in_scope(|| tracing::error!(answer = 42, "an error"));
            tracing::info!(
                from = %"sip:a@b", name = "J \"D\"", none = Option::<u8>::None, seconds = format_args!("{:.3}", 0.5), "{}", "x"
            );
            tracing::info!(only = true);
            tracing::info!("\x1b[2J caf\u{e9} \u{9b}2J \x7f");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.split_at("2026-01-02T03:04:05.678901Z".len()).1.to_owned()).collect()
    }

    #[test]
    fn a_line_is_what_the_usual_formatter_would_have_written() {
        let usual = logged(|lines| {
            let log = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_target(false)
                .with_writer(move || lines.clone())
                .finish();
            Box::new(move |act| tracing::subscriber::with_default(log, act))
        });
        let plain = logged(|lines| {
            let log = tracing_subscriber::fmt().with_ansi(false).event_format(Plain).fmt_fields(Plain);
            let log = log.with_writer(move || lines.clone()).finish();
            Box::new(move |act| tracing::subscriber::with_default(log, act))
        });
        assert_eq!(plain, usual);
        assert!(
            plain.iter().any(|line| line.ends_with("from=sip:a@b name=\"J \\\"D\\\"\" seconds=0.500")),
            "{plain:?}"
        );
    }

    #[test]
    fn a_line_for_developers_says_which_module_it_is_of() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt()
            .with_ansi(false)
            .event_format(Plain)
            .fmt_fields(Plain)
            .with_max_level(Level::DEBUG);
        let log = log.with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(log, || {
            tracing::info!("for operators");
            tracing::debug!("for developers");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let mut lines = text.lines();
        assert!(lines.next().unwrap().ends_with("Z  INFO for operators"), "{text}");
        assert!(lines.next().unwrap().ends_with(&format!("Z DEBUG {}: for developers", module_path!())), "{text}");
    }

    #[test]
    fn each_line_of_the_json_log_is_an_object_with_the_fields_at_its_top() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).event_format(Json).fmt_fields(Json);
        let log = log.with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(log, || {
            let status = Some(486);
            tracing::warn!(call = %"1f", trunk = "a \"b\"", status, ratio = 0.5, bad = f64::NAN, ok = true, none = None::<u8>, "x {}", 1);
            tracing::info_span!("of a library", call = 2).in_scope(|| tracing::info!("\x1b[2J caf\u{e9}\n"));
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let all: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [first, second] = &all[..] else { panic!("{text}") };
        let wanted = serde_json::json!({
            "time": first["time"], "level": "WARN", "target": module_path!(), "message": "x 1", "call": "1f",
            "trunk": "a \"b\"", "status": 486, "ratio": 0.5, "bad": null, "ok": true,
        });
        assert_eq!(*first, wanted);
        assert!(first["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{first}");
        assert_eq!((&second["message"], &second["call"]), (&"\x1b[2J caf\u{e9}\n".into(), &serde_json::Value::Null));
        assert!(!text.contains('\x1b'), "a terminal that shows the log must not take it for its own language");
    }
}
