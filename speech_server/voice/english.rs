//! Writes out what a text for the phone has in symbols: times, dates, amounts, telephone numbers, addresses, codes. espeak-ng
//! reads plain numbers and words well; it would read an e-mail address as one word and a code as one large number.

mod figures;

use figures::{amount, date, large_amount, quantity, time};

/// Words after which a number is read digit by digit.
const BEFORE_CODES: &[&str] = &[
    "account",
    "code",
    "confirmation",
    "digits",
    "ending",
    "extension",
    "flight",
    "id",
    "number",
    "order",
    "passcode",
    "password",
    "pin",
    "policy",
    "postcode",
    "reference",
    "ticket",
    "tracking",
    "zip",
];
/// Words that can be between those and the number.
const BETWEEN: &[&str] = &["a", "are", "code", "in", "is", "number", "no", "was", "with", "your"];
/// A number of so many digits without separators is a code.
const CODE: usize = 5;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const ABBREVIATIONS: &[(&str, &str)] = &[
    ("mr.", "Mister"),
    ("mrs.", "Missus"),
    ("ms.", "Miz"),
    ("dr.", "Doctor"),
    ("prof.", "Professor"),
    ("jr.", "Junior"),
    ("sr.", "Senior"),
    ("e.g.", "for example"),
    ("i.e.", "that is"),
    ("etc.", "et cetera"),
    ("vs.", "versus"),
    ("approx.", "approximately"),
    ("appt.", "appointment"),
    ("apt.", "apartment"),
    ("ave.", "Avenue"),
    ("blvd.", "Boulevard"),
    ("rd.", "Road"),
    ("dept.", "department"),
    ("est.", "established"),
    ("ext.", "extension"),
    ("inc.", "Incorporated"),
    ("ltd.", "Limited"),
    ("corp.", "Corporation"),
    ("min.", "minutes"),
    ("hrs.", "hours"),
    ("a.m.", "AM"),
    ("p.m.", "PM"),
    ("a.m", "AM"),
    ("p.m", "PM"),
    ("u.s.", "US"),
    ("u.k.", "UK"),
    ("w/", "with"),
    ("w/o", "without"),
    ("jan.", "January"),
    ("feb.", "February"),
    ("aug.", "August"),
    ("sept.", "September"),
    ("oct.", "October"),
    ("nov.", "November"),
    ("dec.", "December"),
    ("mon.", "Monday"),
    ("tue.", "Tuesday"),
    ("tues.", "Tuesday"),
    ("thu.", "Thursday"),
    ("thurs.", "Thursday"),
    ("fri.", "Friday"),
];

const UNITS: &[(&str, &str)] = &[
    ("km/h", "kilometers per hour"),
    ("mph", "miles per hour"),
    ("km", "kilometers"),
    ("cm", "centimeters"),
    ("mm", "millimeters"),
    ("kg", "kilograms"),
    ("lbs", "pounds"),
    ("lb", "pounds"),
    ("oz", "ounces"),
    ("ft", "feet"),
    ("mg", "milligrams"),
    ("ml", "milliliters"),
    ("hrs", "hours"),
    ("hr", "hours"),
    ("mins", "minutes"),
    ("min", "minutes"),
    ("sec", "seconds"),
    ("GB", "gigabytes"),
    ("MB", "megabytes"),
    ("TB", "terabytes"),
    ("kB", "kilobytes"),
    ("°C", "degrees Celsius"),
    ("°F", "degrees Fahrenheit"),
    ("°", "degrees"),
    ("%", "percent"),
];

/// Writes out a text.
pub(super) fn write_out(text: &str) -> String {
    text.lines().map(write_out_line).collect::<Vec<_>>().join("\n")
}

fn write_out_line(line: &str) -> String {
    let plain: String = line.chars().map(plain).collect();
    let mut tokens: Vec<&str> = plain.split_whitespace().collect();
    // The signs of a heading or of an item of a list (Markdown).
    if tokens.first().is_some_and(|token| token.chars().all(|c| matches!(c, '#' | '-' | '+'))) {
        tokens.remove(0);
    }
    let mut words: Vec<String> = Vec::new();
    let mut rest = tokens.as_slice();
    while let Some((token, after)) = rest.split_first() {
        if let Some((text, count)) = telephone_number(rest) {
            words.push(text);
            rest = rest.get(count..).unwrap_or_default();
            continue;
        }
        if let Some((text, count)) = large_amount(rest) {
            words.push(text);
            rest = rest.get(count..).unwrap_or_default();
            continue;
        }
        rest = after;
        // A dash between spaces is a pause.
        if matches!(*token, "-" | "--" | "\u{2014}") {
            if let Some(last) = words.last_mut() {
                last.push(',');
            }
            continue;
        }
        let next = after.first().copied().unwrap_or_default();
        words.push(token_in_words(token, &words, next));
    }
    words.join(" ")
}

/// Replaces what nobody says, and the typographic forms of signs.
fn plain(c: char) -> char {
    match c {
        '*' | '`' | '|' | '<' | '>' | '~' | '"' | '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{ab}' | '\u{bb}'
        | '\u{200b}' | '\u{fe0f}' | '{' | '}' | '\\' | '^' | '\u{2022}' => ' ',
        '\u{2019}' | '\u{2018}' => '\'',
        '\u{2013}' | '\u{2010}' | '\u{2011}' | '\u{2212}' => '-',
        '\u{a0}' | '\u{202f}' | '\u{2009}' => ' ',
        // Emoji and arrows.
        '\u{2190}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}' => ' ',
        c => c,
    }
}

/// One token without its punctuation, and the punctuation after it. What opens before it becomes a pause.
fn token_in_words(token: &str, before: &[String], next: &str) -> String {
    if let Some(word) = abbreviation(token, next) {
        return word;
    }
    let core = token.trim_start_matches(['(', '[', '\'']);
    let opening = if core.len() < token.len() && token.starts_with(['(', '[']) { ", " } else { "" };
    let end = core.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '\'', '\u{2026}']).len();
    let (core, closing) = core.split_at(end);
    if core.is_empty() {
        return token.to_owned();
    }
    // `p.m.)`: the abbreviation has a point of its own.
    if closing.len() > 1
        && let Some(word) = abbreviation(&format!("{core}."), next)
    {
        return format!("{opening}{word}{}", closing.get(1..).unwrap_or_default());
    }
    let words = core_in_words(core, before, next);
    format!("{opening}{words}{closing}")
}

fn abbreviation(token: &str, next: &str) -> Option<String> {
    let lower = token.to_lowercase();
    let (lower, comma) = lower.strip_suffix(',').map_or((lower.as_str(), ""), |lower| (lower, ","));
    let starts_upper = |text: &str| text.chars().next().is_some_and(char::is_uppercase);
    if lower == "st." {
        return Some(if starts_upper(next) { "Saint".to_owned() } else { format!("Street{comma}") });
    }
    if lower == "no." && next.starts_with(|c: char| c.is_ascii_digit()) {
        return Some("number".to_owned());
    }
    let (_, word) = ABBREVIATIONS.iter().find(|(short, _)| *short == lower)?;
    // At the end of a text or before a capital letter, the point of `p.m.` or `Inc.` ends the sentence too.
    let is_title = matches!(lower, "mr." | "mrs." | "ms." | "dr." | "prof.");
    let is_end = comma.is_empty() && !is_title && lower.ends_with('.') && (next.is_empty() || starts_upper(next));
    let ends_sentences = matches!(
        lower,
        "a.m." | "p.m." | "etc." | "inc." | "ltd." | "corp." | "jr." | "sr." | "ave." | "blvd." | "rd."
    );
    Some(format!("{word}{comma}{}", if is_end && ends_sentences { "." } else { "" }))
}

/// A token without punctuation around it.
fn core_in_words(core: &str, before: &[String], next: &str) -> String {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    if core.contains('@') && core.len() > 1 && !core.starts_with('@') {
        return email(core);
    }
    if let Some(address) = web_address(core) {
        return address;
    }
    if let Some(amount) = amount(core) {
        return amount;
    }
    if let Some(date) = date(core) {
        return date;
    }
    if let Some(time) = time(core, next) {
        return time;
    }
    if let Some(digits) = core.strip_prefix('#').filter(|digits| is_number(digits)) {
        return format!("number {}", number(digits, before));
    }
    if is_number(core) {
        return number(core, before);
    }
    if let Some((from, to)) = core.split_once('-').filter(|(from, to)| is_number(from) && is_number(to)) {
        return format!("{} to {}", number(from, before), number(to, before));
    }
    if let Some(quantity) = quantity(core) {
        return quantity;
    }
    // `20 °C`: the unit is a token of its own.
    if let Some((_, unit)) =
        UNITS.iter().find(|(short, _)| *short == core && !short.starts_with(|c: char| c.is_ascii_alphabetic()))
    {
        return (*unit).to_owned();
    }
    if is_mixed_code(core) {
        return spelled(core);
    }
    symbols(core)
}

/// Signs that are words.
fn symbols(core: &str) -> String {
    let mut words = String::new();
    for c in core.chars() {
        match c {
            '&' => words += " and ",
            '@' => words += " at ",
            '+' => words += " plus ",
            '=' => words += " equals ",
            '%' => words += " percent ",
            '\u{20ac}' => words += " euros ",
            '\u{a3}' => words += " pounds ",
            '$' => words += " dollars ",
            '/' | '_' | '#' => words.push(' '),
            c => words.push(c),
        }
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Digits and letters, each as a word of its own.
fn spelled(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).map(String::from).collect::<Vec<_>>().join(" ")
}

/// Digits in groups of three, with a pause between the groups if there are more than five.
fn digits(text: &str) -> String {
    let digits: Vec<char> = text.chars().filter(char::is_ascii_digit).collect();
    let size = if digits.len() > CODE { 3 } else { CODE };
    // The last group has up to four digits: 415 555 0123.
    let mut groups: Vec<&[char]> = digits.chunks(size).collect();
    if let [.., one, two] = groups.as_slice()
        && two.len() == 1
        && one.len() == 3
    {
        let start = digits.len() - 4;
        groups.truncate(groups.len() - 2);
        groups.push(digits.get(start..).unwrap_or_default());
    }
    let spelled = |group: &&[char]| group.iter().map(char::to_string).collect::<Vec<_>>().join(" ");
    groups.iter().map(spelled).collect::<Vec<_>>().join(", ")
}

/// A number without a sign: a code, a year or a plain number.
fn number(text: &str, before: &[String]) -> String {
    let is_code = text.len() >= CODE
        || (text.len() > 1 && text.starts_with('0'))
        || (text.len() >= 3 && follows_code_word(before));
    if is_code {
        return digits(text);
    }
    // espeak-ng reads 1984 as nineteen hundred eighty four, and 2026 as two thousand twenty six.
    match text.split_at_checked(2) {
        Some((century @ ("19" | "20"), rest)) if text.len() == 4 && !rest.starts_with('0') => {
            format!("{century} {rest}")
        }
        Some(("19", rest)) if text.len() == 4 && rest != "00" => format!("19 oh {}", rest.trim_start_matches('0')),
        _ => text.to_owned(),
    }
}

fn follows_code_word(before: &[String]) -> bool {
    for word in before.iter().rev().take(4) {
        let word = word.to_lowercase();
        let ended = word.ends_with(['.', '!', '?']);
        let word = word.trim_matches(|c: char| !c.is_alphanumeric());
        if ended {
            return false;
        }
        if BEFORE_CODES.contains(&word) {
            return true;
        }
        if !BETWEEN.contains(&word) {
            return false;
        }
    }
    false
}

/// A code of digits and capital letters: `AB12`, `MP3`.
fn is_mixed_code(core: &str) -> bool {
    let plain = core.replace('-', "");
    plain.len() <= 20
        && plain.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase())
        && plain.contains(|c: char| c.is_ascii_digit())
        && plain.contains(|c: char| c.is_ascii_uppercase())
}

/// A telephone number, which can have several tokens: `+1 (415) 555-0123`. Returns the number of tokens, too.
fn telephone_number(tokens: &[&str]) -> Option<(String, usize)> {
    let mut found = None;
    let mut written = String::new();
    for (index, token) in tokens.iter().take(6).enumerate() {
        let core = token.trim_end_matches(['.', ',', ';', ':', '!', '?']);
        let is_part = core.contains(|c: char| c.is_ascii_digit())
            && core
                .chars()
                .enumerate()
                .all(|(at, c)| c.is_ascii_digit() || matches!(c, '(' | ')' | '-' | '.') || (at == 0 && c == '+'));
        if !is_part || (index > 0 && core.starts_with('+')) {
            break;
        }
        written.push(' ');
        written += core;
        let count = written.bytes().filter(u8::is_ascii_digit).count();
        let closing = token.get(core.len()..).unwrap_or_default();
        if is_telephone_number(&written) && count <= 15 {
            found = Some((format!("{}{closing}", groups(&written)), index + 1));
        }
        if count > 15 || !closing.is_empty() {
            break;
        }
    }
    found
}

/// Whether digits with separators are a telephone number: a plus sign, or groups as in 555-0123 and 415-555-0123.
fn is_telephone_number(written: &str) -> bool {
    let groups: Vec<usize> =
        written.split(|c: char| !c.is_ascii_digit()).map(str::len).filter(|length| *length > 0).collect();
    let count: usize = groups.iter().sum();
    if written.trim_start().starts_with('+') {
        return (7..=15).contains(&count);
    }
    matches!(groups.as_slice(), [3, 4] | [3, 3, 4] | [1, 3, 3, 4])
}

fn groups(written: &str) -> String {
    let mut parts: Vec<&str> = written.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty()).collect();
    let is_international = written.trim_start().starts_with('+');
    // The country code 1 has one digit, so the groups would begin at the wrong place.
    if let ([whole], true) = (parts.as_slice(), is_international)
        && let Some(rest) = whole.strip_prefix('1')
    {
        parts = vec!["1", rest];
    }
    let text = parts.into_iter().map(digits).collect::<Vec<_>>().join(", ");
    if is_international { format!("plus {text}") } else { text }
}

/// `john.doe@example.com` becomes `john dot doe at example dot com`.
fn email(core: &str) -> String {
    core.split('@').map(address_part).collect::<Vec<_>>().join(" at ")
}

fn address_part(part: &str) -> String {
    let mut words = String::new();
    for c in part.chars() {
        match c {
            '.' => words += " dot ",
            '-' => words += " dash ",
            '_' => words += " underscore ",
            '/' => words += " slash ",
            '+' => words += " plus ",
            c if c.is_ascii_digit() => {
                words.push(' ');
                words.push(c);
                words.push(' ');
            }
            c if c.is_alphanumeric() => words.push(c),
            _ => words.push(' '),
        }
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `https://www.example.com/help` becomes `w w w dot example dot com slash help`.
fn web_address(core: &str) -> Option<String> {
    let lower = core.to_lowercase();
    let rest = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://"));
    let rest = rest.or_else(|| {
        let host = lower.split('/').next().unwrap_or_default();
        let (name, top) = host.rsplit_once('.')?;
        let is_host = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
            && name.contains(|c: char| c.is_ascii_lowercase());
        let is_top = matches!(
            top,
            "com" | "org" | "net" | "io" | "edu" | "gov" | "co" | "uk" | "de" | "eu" | "us" | "app" | "dev" | "ai"
        );
        // `i.e`, `p.m`: one letter is no name of a host.
        (is_host && is_top && name.len() > 1).then_some(lower.as_str())
    })?;
    Some(address_part(rest.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pairs: &[(&str, &str)]) {
        for (text, expected) in pairs {
            assert_eq!(write_out(text), *expected, "{text}");
        }
    }

    #[test]
    fn plain_text_stays() {
        check(&[
            ("Hello, how can I help you today?", "Hello, how can I help you today?"),
            ("It's 5 or 42; I don't know.", "It's 5 or 42; I don't know."),
            ("", ""),
        ]);
    }

    #[test]
    fn markdown_quotes_and_emoji_are_not_spoken() {
        check(&[
            ("## **Hello** \u{1f600} \u{201c}Ann\u{201d}", "Hello Ann"),
            ("- one\n- two", "one\ntwo"),
            ("Don\u{2019}t \u{2014} wait", "Don't, wait"),
        ]);
    }

    #[test]
    fn codes_are_read_digit_by_digit() {
        check(&[
            ("The code is 4821.", "The code is 4 8 2 1."),
            ("Your PIN: 123", "Your PIN: 1 2 3"),
            ("postcode is 94103", "postcode is 9 4 1 0 3"),
            ("007", "0 0 7"),
            ("A room for 250 people", "A room for 250 people"),
            ("Order AB12-9 and MP3", "Order A B 1 2 9 and M P 3"),
            ("#3", "number 3"),
        ]);
    }

    #[test]
    fn telephone_numbers_are_read_in_groups() {
        check(&[
            ("Call +1 (415) 555-0123, please", "Call plus 1, 4 1 5, 5 5 5, 0 1 2 3, please"),
            ("555-0123.", "5 5 5, 0 1 2 3."),
            ("+14155550123", "plus 1, 4 1 5, 5 5 5, 0 1 2 3"),
            ("415.555.0123", "4 1 5, 5 5 5, 0 1 2 3"),
            ("4155550123", "4 1 5, 5 5 5, 0 1 2 3"),
        ]);
    }

    #[test]
    fn times_are_read_as_people_say_them() {
        check(&[
            ("at 5:30 p.m. on Monday", "at 5 30 PM on Monday"),
            ("at 5:00.", "at 5 o'clock."),
            ("at 5:00 pm", "at 5 pm"),
            ("at 9:05am, or 17:30", "at 9 oh 5 AM, or 17 30"),
            ("3pm", "3 PM"),
            ("We close at 6 p.m. Bye.", "We close at 6 PM. Bye."),
        ]);
    }

    #[test]
    fn dates_and_years_are_read_as_people_say_them() {
        check(&[
            ("2026-11-27", "November 27th, 20 26"),
            ("on 3/1/1999!", "on March 1st, 19 99!"),
            ("in 1984, 2005 or 1905", "in 19 84, 2005 or 19 oh 5"),
            ("13/45/2026", "13 45 2026"),
        ]);
    }

    #[test]
    fn amounts_and_units_are_words() {
        check(&[
            ("$5.99 or $1", "5 dollars and 99 cents or 1 dollar"),
            ("$1,200.00", "1200 dollars"),
            ("\u{20ac}20, 20\u{20ac}", "20 euros, 20 euros"),
            ("$0.50", "50 cents"),
            ("$3 million, or \u{20ac}1.5 billion.", "3 million dollars, or 1.5 billion euros."),
            ("$x million", "dollars x million"),
            ("15% of 5km at -3.5 °C", "15 percent of 5 kilometers at minus 3.5 degrees Celsius"),
            ("1,200 people", "1200 people"),
            ("9-5", "9 to 5"),
        ]);
    }

    #[test]
    fn addresses_are_spoken() {
        check(&[
            ("Write to john.doe7@example.com.", "Write to john dot doe 7 at example dot com."),
            ("Visit https://www.example.com/help!", "Visit www dot example dot com slash help!"),
            ("example.org", "example dot org"),
        ]);
    }

    #[test]
    fn abbreviations_are_written_out() {
        check(&[
            ("Dr. Smith and Mrs. Jones", "Doctor Smith and Missus Jones"),
            ("12 Main St. in St. Louis", "12 Main Street in Saint Louis"),
            ("tools, e.g. a hammer, etc.", "tools, for example a hammer, et cetera."),
            ("Q&A", "Q and A"),
            ("No. 5", "number 5"),
            ("No. I will not.", "No. I will not."),
        ]);
    }

    #[test]
    fn strange_texts_do_not_panic() {
        for text in [
            "$", "$.", "-", "@", "a@", "@a", "...", "#", "+", "1-", "-1-2-3", ":", "1:", "$1.2.3", "\u{20ac}", "(",
            "()", "((a))", "1,2,3", "°", "%", "5°x", "+1",
        ] {
            let _ = write_out(text);
        }
    }
}
