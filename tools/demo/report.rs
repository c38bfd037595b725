//! The output of the demo: the timeline of the call, the measured audio, and the checks with their results.

use std::path::Path;
use tandem_cli::say;

use anyhow::Context;
use tandem_call::leg::{Direction, LegInfo};
use tandem_history::event_log::{self, Line};
use tandem_media as media;

/// A check and its result.
pub(super) struct Check {
    what: String,
    holds: bool,
}

/// All checks that have been made.
#[derive(Default)]
pub(super) struct Checks(Vec<Check>);

impl Checks {
    /// Adds a check and prints it.
    pub(super) fn add(&mut self, what: impl Into<String>, holds: bool) {
        let check = Check { what: what.into(), holds };
        say!("  {} {}", if check.holds { "✓" } else { "✗" }, check.what);
        self.0.push(check);
    }

    /// Returns the failed checks.
    pub(super) fn failed(&self) -> Vec<&str> {
        self.0.iter().filter(|check| !check.holds).map(|check| check.what.as_str()).collect()
    }
}

/// Returns the number of webhooks that were sent, and the number of those whose answer was not 200.
pub(super) fn webhooks(lines: &[Line]) -> (usize, usize) {
    let sent = lines.iter().filter(|line| line.kind == "webhook");
    (sent.clone().count(), sent.filter(|line| !line.text.contains(" 200 ")).count())
}

/// Prints the lines of the call's log. The times are relative to the first line.
pub(super) fn timeline(lines: &[Line], legs: &[&LegInfo]) {
    say!("\nTimeline (seconds since the INVITE)\n");
    let timeline = event_log::timeline(lines, |id| legs.iter().find(|leg| leg.id == id).map(|leg| who(leg)));
    say!("{}", timeline.trim_end());
}

/// Prints the media statistics of both ends of each leg.
pub(super) fn audio(legs: &[&LegInfo], phones: &[(&str, media::Stats)]) {
    say!("\nAudio            packets in      out     lost   jitter     MOS\n");
    for leg in legs {
        if let Some(quality) = &leg.sip.quality {
            let mos = quality.mos.map_or("-".to_owned(), |mos| format!("{mos:.2}"));
            say!(
                "  server, {:<8} {:>8} {:>8} {:>8} {:>5.1} ms {mos:>7}",
                who(leg),
                quality.packets_in,
                quality.packets_out,
                quality.lost,
                quality.jitter_ms
            );
        }
    }
    for (name, stats) in phones {
        let mos = stats.mos.map_or("-".to_owned(), |mos| format!("{mos:.2}"));
        say!(
            "  phone, {name:<9} {:>8} {:>8} {:>8} {:>5.1} ms {mos:>7}",
            stats.packets_in,
            stats.packets_out,
            stats.lost,
            stats.jitter_ms
        );
    }
}

fn who(leg: &LegInfo) -> &'static str {
    match leg.direction {
        Direction::Inbound => "caller",
        _ => "desk",
    }
}

/// Returns the similarity between the recording at `path` and the audio `sent`, from 0 to 1. The result is the highest
/// normalised cross-correlation between the recording and the middle second of `sent`.
pub(super) fn likeness(path: &Path, sent: &media::Audio) -> anyhow::Result<f64> {
    let octets = std::fs::read(path).with_context(|| format!("no recording at {}", path.display()))?;
    let received = media::read_wav(&octets)?;
    let middle = sent.samples().len() / 2;
    let needle = sent.samples().get(middle.saturating_sub(4_000)..).unwrap_or_default();
    let needle: Vec<f32> = needle.iter().take(8_000).map(|sample| f32::from(*sample)).collect();
    let received: Vec<f32> = received.samples().iter().map(|sample| f32::from(*sample)).collect();
    let energy = |part: &[f32]| part.iter().map(|sample| f64::from(sample * sample)).sum::<f64>();
    let own = energy(&needle);
    let mut best = 0.0_f64;
    for window in received.windows(needle.len().max(1)) {
        let product: f32 = window.iter().zip(&needle).map(|(received, sent)| received * sent).sum();
        // The energy of the window is computed only if the correlation may be higher than the best correlation found so
        // far.
        if f64::from(product) > best.max(0.3) * own * 0.2 {
            best = best.max(f64::from(product) / (own * energy(window)).sqrt().max(1.0));
        }
    }
    Ok(best)
}
