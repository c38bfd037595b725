//! Writes spelled numbers as digits, for requests that expect a number: `four seven one` becomes `471`.

/// The words for digits and their values.
const WORDS: [(&str, &str); 31] = [
    ("zero", "0"),
    ("oh", "0"),
    ("o", "0"),
    ("one", "1"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
    ("eleven", "11"),
    ("twelve", "12"),
    ("thirteen", "13"),
    ("fourteen", "14"),
    ("fifteen", "15"),
    ("sixteen", "16"),
    ("seventeen", "17"),
    ("eighteen", "18"),
    ("nineteen", "19"),
    ("twenty", "20"),
    ("thirty", "30"),
    ("forty", "40"),
    ("fourty", "40"),
    ("fifty", "50"),
    ("sixty", "60"),
    ("seventy", "70"),
    ("eighty", "80"),
    ("ninety", "90"),
];
/// Words that repeat the digit after them.
const REPEATS: [(&str, usize); 2] = [("double", 2), ("triple", 3)];

/// Words that sound like digits. They are digits between digits only.
const HOMOPHONES: [(&str, &str); 6] =
    [("to", "2"), ("too", "2"), ("for", "4"), ("won", "1"), ("ate", "8"), ("nein", "9")];

/// One word of a text.
struct Word<'a> {
    /// The word without punctuation.
    core: &'a str,
    /// The punctuation after it.
    after: &'a str,
    /// The digits that it means.
    digits: Option<String>,
}

/// Returns the text with numbers as digits. Digits that are next to each other become one number, also across spaces, hyphens
/// and commas.
pub(super) fn written(text: &str) -> String {
    let words: Vec<Word<'_>> = text.split_whitespace().flat_map(|word| word.split_inclusive('-')).map(read).collect();
    let mut out = String::new();
    let mut number = String::new();
    let mut after = "";
    let mut index = 0;
    let mut is_joined = false;
    // Whether the last word was a ten (`twenty` to `ninety`), which a digit completes.
    let mut after_ten = false;
    while let Some(word) = words.get(index) {
        index += 1;
        let repeats = REPEATS.iter().find(|(name, _)| word.core.eq_ignore_ascii_case(name));
        let next = words.get(index).and_then(|next| next.digits.as_deref());
        if let (Some((_, times)), Some(digit)) = (repeats, next.filter(|digit| digit.len() == 1)) {
            number.push_str(&digit.repeat(*times));
            after = words.get(index).map_or("", |next| next.after);
            index += 1;
        } else if let Some(digits) = &word.digits {
            append(&mut number, digits, word.core, &mut after_ten);
            after = word.after;
        } else if let Some((_, digit)) = HOMOPHONES
            .iter()
            .find(|(name, _)| word.core.eq_ignore_ascii_case(name))
            .filter(|_| !number.is_empty() && next.is_some())
        {
            number.push_str(digit);
        } else {
            flush(&mut out, &mut number, after, &mut is_joined);
            separate(&mut out, is_joined);
            out.push_str(word.core);
            out.push_str(word.after);
            is_joined = word.after == "-";
            continue;
        }
        if after.ends_with(['.', '?', '!', ':', ';']) {
            flush(&mut out, &mut number, after, &mut is_joined);
        }
    }
    flush(&mut out, &mut number, after, &mut is_joined);
    out
}

fn separate(out: &mut String, is_joined: bool) {
    if !out.is_empty() && !is_joined {
        out.push(' ');
    }
}

fn flush(out: &mut String, number: &mut String, after: &str, is_joined: &mut bool) {
    if !number.is_empty() {
        separate(out, *is_joined);
        out.push_str(number);
        out.push_str(after.trim_matches('-'));
        number.clear();
        *is_joined = false;
    }
}

/// Appends digits to a number. `twenty` and `one` are 21.
fn append(number: &mut String, digits: &str, word: &str, after_ten: &mut bool) {
    let is_spelled = !word.starts_with(|first: char| first.is_ascii_digit());
    if is_spelled && *after_ten && digits.len() == 1 && digits != "0" && number.ends_with('0') {
        number.pop();
    }
    number.push_str(digits);
    *after_ten = is_spelled && digits.len() == 2 && digits.ends_with('0') && digits != "10";
}

fn read(word: &str) -> Word<'_> {
    let core = word.trim_end_matches([',', '.', '?', '!', ':', ';', '-']);
    let after = word.get(core.len()..).unwrap_or_default();
    let spelled =
        WORDS.iter().find(|(name, _)| core.eq_ignore_ascii_case(name)).map(|(_, digits)| (*digits).to_owned());
    let is_number = core.bytes().any(|octet| octet.is_ascii_digit())
        && core.bytes().all(|octet| octet.is_ascii_digit() || b",()+".contains(&octet));
    let digits = spelled.or_else(|| is_number.then(|| core.chars().filter(char::is_ascii_digit).collect()));
    Word { core, after, digits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelled_digits_become_one_number() {
        let cases = [
            ("My order number is four seven one nine two.", "My order number is 47192."),
            ("My order number is 4719 2.", "My order number is 47192."),
            ("94-1003", "941003"),
            ("555-201-3387.", "5552013387."),
            ("Four, seven, one.", "471."),
            ("oh double five triple two", "055222"),
            ("twenty one", "21"),
            ("two oh five", "205"),
            ("five zero one four", "5014"),
            ("two zero one", "201"),
            ("Twenty-one, please.", "21, please."),
            ("nineteen eighty four", "1984"),
            ("ten zero", "100"),
            ("My PIN is 3852. Thank you.", "My PIN is 3852. Thank you."),
            ("7 too 80", "7280"),
            ("1 to go", "1 to go"),
            ("a well-known shop", "a well-known shop"),
            ("It is 10.30.", "It is 10.30."),
            ("", ""),
        ];
        for (spoken, text) in cases {
            assert_eq!(written(spoken), text, "{spoken}");
        }
    }
}
