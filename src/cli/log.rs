//! The server's own log, for a file or a journal: lines as `tracing_subscriber` writes them without colours, at half of what its
//! own formatter takes. That was as much for the two lines of a call as one of its messages takes otherwise.

use std::fmt::{self, Write};

use tandem_control::clock;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// `2026-01-02T03:04:05.678901Z  INFO tandem::call: answered call=1f leg=2e`.
pub(super) struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(out, "{:.6}", clock::time())?;
        let level = event.metadata().level().as_str();
        out.write_str(if level.len() == 4 { "  " } else { " " })?;
        out.write_str(level)?;
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
        out.write_str(event.metadata().target())?;
        out.write_str(": ")?;
        context.format_fields(out.by_ref(), event)?;
        out.write_char('\n')
    }
}

impl<'w> FormatFields<'w> for Plain {
    fn format_fields<R: RecordFields>(&self, out: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Fields(String::with_capacity(FIELDS));
        fields.record(&mut line);
        show(&line.0, out)
    }
}

/// What the fields of most lines take, octets.
const FIELDS: usize = 512;

/// The message, and `name=value` for everything else.
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

/// What comes from outside is shown, and not obeyed: a terminal that shows the log must not take it for its own language.
fn show(text: &str, mut out: Writer<'_>) -> fmt::Result {
    // To the end, as no octet then waits for the one before it.
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

    /// What the log has after this, without its times.
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
            let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || lines.clone()).finish();
            Box::new(move |act| tracing::subscriber::with_default(log, act))
        });
        let plain = logged(|lines| {
            let log = tracing_subscriber::fmt().event_format(Plain).fmt_fields(Plain);
            let log = log.with_writer(move || lines.clone()).finish();
            Box::new(move |act| tracing::subscriber::with_default(log, act))
        });
        assert_eq!(plain, usual);
        assert!(
            plain.iter().any(|line| line.ends_with("from=sip:a@b name=\"J \\\"D\\\"\" seconds=0.500")),
            "{plain:?}"
        );
    }
}
