//! Amounts, dates, times and quantities in words.

use super::{MONTHS, UNITS, number};

/// Thousands without their commas: `1,200`.
fn whole(text: &str) -> Option<String> {
    let mut groups = text.split(',');
    let first = groups.next()?;
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let is_grouped = is_digits(first) && groups.all(|group| group.len() == 3 && is_digits(group));
    (is_grouped && (!text.contains(',') || first.len() <= 3)).then(|| text.replace(',', ""))
}

/// The sign of an amount in words, the names of its money (many, one, small), and the rest: `-$5` has `minus `, dollars and `5`.
fn money(core: &str) -> Option<(&'static str, [&'static str; 3], &str)> {
    let (sign, rest) = core.strip_prefix('-').map_or(("", core), |rest| ("minus ", rest));
    let euros = || rest.strip_prefix('\u{20ac}').or_else(|| rest.strip_suffix('\u{20ac}'));
    let (names, rest) = if let Some(rest) = rest.strip_prefix('$') {
        (["dollars", "dollar", "cents"], rest)
    } else if let Some(rest) = euros() {
        (["euros", "euro", "cents"], rest)
    } else {
        (["pounds", "pound", "pence"], rest.strip_prefix('\u{a3}')?)
    };
    Some((sign, names, rest))
}

/// `$5.99`, `€20`.
pub(super) fn amount(core: &str) -> Option<String> {
    let (sign, [many, one, small], rest) = money(core)?;
    let (large, cents) = rest.split_once('.').unwrap_or((rest, ""));
    let large = whole(large)?;
    let unit = if large == "1" { one } else { many };
    match cents {
        "" | "00" => Some(format!("{sign}{large} {unit}")),
        cents if cents.len() == 2 && cents.bytes().all(|c| c.is_ascii_digit()) => {
            let cents = cents.trim_start_matches('0');
            Some(if large == "0" {
                format!("{sign}{cents} {small}")
            } else {
                format!("{sign}{large} {unit} and {cents} {small}")
            })
        }
        _ => None,
    }
}

/// `$3 million` becomes `3 million dollars`. Returns the number of tokens, too.
pub(super) fn large_amount(tokens: &[&str]) -> Option<(String, usize)> {
    let [amount, scale, ..] = tokens else { return None };
    let scale_word = scale.trim_end_matches(['.', ',', ';', ':', '!', '?']);
    if !matches!(scale_word, "thousand" | "million" | "billion" | "trillion") {
        return None;
    }
    let (sign, [many, ..], rest) = money(amount)?;
    let (large, fraction) = rest.split_once('.').map_or((rest, None), |(large, fraction)| (large, Some(fraction)));
    let large = whole(large)?;
    let fraction = match fraction {
        Some(fraction) if !fraction.is_empty() && fraction.bytes().all(|c| c.is_ascii_digit()) => {
            format!(".{fraction}")
        }
        Some(_) => return None,
        None => String::new(),
    };
    let closing = scale.get(scale_word.len()..).unwrap_or_default();
    Some((format!("{sign}{large}{fraction} {scale_word} {many}{closing}"), 2))
}

/// `2026-11-27` and `11/27/2026` become `November 27th, 2026`.
pub(super) fn date(core: &str) -> Option<String> {
    let parse = |text: &str, longest: usize| {
        let is_digits = (1..=longest).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit());
        text.parse::<usize>().ok().filter(|_| is_digits)
    };
    let (year, month, day) = if let [year, month, day] = core.split('-').collect::<Vec<_>>().as_slice() {
        (*year, parse(month, 2)?, parse(day, 2)?)
    } else if let [month, day, year] = core.split('/').collect::<Vec<_>>().as_slice() {
        (*year, parse(month, 2)?, parse(day, 2)?)
    } else {
        return None;
    };
    parse(year, 4).filter(|_| year.len() == 4)?;
    let month = MONTHS.get(month.checked_sub(1)?)?;
    let ending = match day {
        1 | 21 | 31 => "st",
        2 | 22 => "nd",
        3 | 23 => "rd",
        4..=30 => "th",
        _ => return None,
    };
    Some(format!("{month} {day}{ending}, {}", number(year, &[])))
}

/// `5:00`, `5:05pm`, `17:30`.
pub(super) fn time(core: &str, next: &str) -> Option<String> {
    let lower = core.to_lowercase();
    let half = ["am", "pm"].into_iter().find(|half| lower.ends_with(half));
    let clock = half.map_or(lower.as_str(), |half| lower.strip_suffix(half).unwrap_or_default());
    let half_word = half.map(|half| format!(" {}", half.to_uppercase())).unwrap_or_default();
    let is_hour = |text: &str| matches!(text.len(), 1 | 2) && text.parse::<u32>().is_ok_and(|hour| hour <= 24);
    let Some((hour, minute)) = clock.split_once(':') else {
        return (half.is_some() && is_hour(clock)).then(|| format!("{clock}{half_word}"));
    };
    if !is_hour(hour) || minute.len() != 2 || !minute.parse::<u32>().is_ok_and(|minute| minute < 60) {
        return None;
    }
    let hour = if hour.len() == 2 { hour.trim_start_matches('0') } else { hour };
    let hour = if hour.is_empty() { "0" } else { hour };
    let next = next.to_lowercase();
    let has_half = half.is_some() || ["am", "pm", "a.m", "p.m"].iter().any(|half| next.starts_with(half));
    let minute = match minute {
        "00" if has_half => String::new(),
        "00" if hour.parse::<u32>().is_ok_and(|hour| hour > 12) => " hundred".to_owned(),
        "00" => " o'clock".to_owned(),
        minute => minute.strip_prefix('0').map_or_else(|| format!(" {minute}"), |minute| format!(" oh {minute}")),
    };
    Some(format!("{hour}{minute}{half_word}"))
}

/// A number with a unit, a sign or thousands: `15%`, `5km`, `-3.5`, `1,200`.
pub(super) fn quantity(core: &str) -> Option<String> {
    let (sign, rest) = core.strip_prefix('-').map_or(("", core), |rest| ("minus ", rest));
    let end = rest.find(|c: char| !c.is_ascii_digit() && !matches!(c, ',' | '.')).unwrap_or(rest.len());
    let (figure, unit) = rest.split_at_checked(end)?;
    let (large, fraction) = figure.split_once('.').map_or((figure, None), |(large, fraction)| (large, Some(fraction)));
    let large = whole(if large.is_empty() { "0" } else { large })?;
    let fraction = match fraction {
        Some(fraction) if !fraction.is_empty() && fraction.bytes().all(|c| c.is_ascii_digit()) => {
            format!(".{fraction}")
        }
        Some(_) => return None,
        None => String::new(),
    };
    if figure.is_empty() {
        return None;
    }
    let unit = match unit {
        "" => String::new(),
        unit => format!(" {}", UNITS.iter().find(|(short, _)| *short == unit)?.1),
    };
    Some(format!("{sign}{large}{fraction}{unit}"))
}
