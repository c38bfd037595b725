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
/// Words that multiply the number before them, and the number of their zeros.
const SCALES: [(&str, usize); 2] = [("hundred", 2), ("thousand", 3)];
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
    /// The number of zeros of a scale.
    zeros: Option<usize>,
    is_spelled: bool,
}

impl Word<'_> {
    fn is(&self, name: &str) -> bool {
        self.core.eq_ignore_ascii_case(name)
    }

    /// Whether the word is a zero only next to other digits. Else it is an exclamation.
    fn is_oh(&self) -> bool {
        self.is("oh") || self.is("o")
    }
}

/// A number while it is read. `four seven twenty one` is 47 and the group 21.
#[derive(Default)]
struct Number {
    done: String,
    /// The digits of the last spoken number.
    group: String,
    /// The zeros at the end of the group that the next words can fill: one after `twenty`, two after `hundred`, three after
    /// `thousand`.
    room: usize,
}

impl Number {
    fn is_empty(&self) -> bool {
        self.done.is_empty() && self.group.is_empty()
    }

    /// Begins a new group.
    fn begin(&mut self, digits: &str) {
        self.done += &std::mem::replace(&mut self.group, digits.to_owned());
        self.room = 0;
    }

    /// Replaces the last zeros of the group.
    fn fill(&mut self, digits: &str) {
        self.group.truncate(self.group.len().saturating_sub(digits.len()));
        self.group += digits;
        self.room = 0;
    }

    /// Adds the digits of a word. `is_sum` says that the word before was `and`. `next` is the word after it.
    fn add(&mut self, digits: &str, is_spelled: bool, is_sum: bool, next: Option<&Word<'_>>) {
        let is_zero = digits.bytes().all(|digit| digit == b'0');
        // `eight hundred five five five` is a telephone number, `eight hundred five` is 805, `one thousand three hundred` is 1300.
        let is_list = digits.len() == 1 && !is_sum && next.is_some_and(|next| next.digits.is_some());
        let scale = next.and_then(|next| next.zeros);
        match self.room {
            3 if digits.len() == 1 && !is_zero && scale == Some(2) => {
                self.group.truncate(self.group.len().saturating_sub(3));
                self.group += digits;
                self.room = 0;
            }
            room @ (2 | 3)
                if digits.len() <= room && !is_zero && !is_list && scale.is_none_or(|zeros| zeros > room) =>
            {
                self.fill(digits);
            }
            1 if is_spelled && digits.len() == 1 && !is_zero => self.fill(digits),
            _ => self.begin(digits),
        }
        if is_spelled && digits.len() == 2 && digits.ends_with('0') && digits != "10" {
            self.room = 1;
        }
    }

    /// Multiplies the group. Returns whether the word belongs to a number.
    fn scale(&mut self, zeros: usize) -> bool {
        let is_known = self.room < zeros && (1..=6).contains(&self.group.len()) && !self.group.starts_with('0');
        if is_known {
            self.group += &"0".repeat(zeros);
            self.room = zeros;
        }
        is_known
    }

    fn take(&mut self) -> String {
        let number = std::mem::take(self);
        number.done + &number.group
    }
}

/// Returns the text with numbers as digits. Digits that are next to each other become one number, also across spaces, hyphens
/// and commas. The words for digits are known in English only.
pub(super) fn written(text: &str, is_english: bool) -> String {
    let words = text.split_whitespace().flat_map(|word| word.split_inclusive('-'));
    let words: Vec<Word<'_>> = words.map(|word| read(word, is_english)).collect();
    let mut out = String::new();
    let mut number = Number::default();
    let mut after = "";
    let mut is_joined = false;
    let mut is_sum = false;
    let mut rest = words.as_slice();
    while let Some((word, behind)) = rest.split_first() {
        rest = behind;
        let next = behind.first();
        let is_before_digit = next.is_some_and(|next| next.digits.is_some());
        let times = REPEATS.iter().find(|(name, _)| is_english && word.is(name)).map(|(_, times)| *times);
        let homophone = HOMOPHONES.iter().find(|(name, _)| is_english && word.is(name)).map(|(_, digit)| *digit);
        let digit_after = next.and_then(|next| next.digits.as_deref()).filter(|digits| digits.len() == 1);
        let was_sum = std::mem::take(&mut is_sum);
        after = if let (Some(times), Some(digit), Some((next, behind))) = (times, digit_after, behind.split_first()) {
            number.begin(&digit.repeat(times));
            rest = behind;
            next.after
        } else if let Some(digits) =
            word.digits.as_deref().filter(|_| !word.is_oh() || !number.is_empty() || is_number_after(behind))
        {
            number.add(digits, word.is_spelled, was_sum, next);
            word.after
        } else if let (Some(digit), true) = (homophone, !number.is_empty() && is_before_digit) {
            number.begin(digit);
            word.after
        } else if word.zeros.is_some_and(|zeros| number.scale(zeros)) {
            word.after
        } else if is_english && word.is("a") && next.is_some_and(|next| next.zeros.is_some()) && number.is_empty() {
            number.begin("1");
            word.after
        } else if word.is("and") && number.room >= 2 && is_before_digit {
            is_sum = true;
            word.after
        } else {
            flush(&mut out, &mut number, after, &mut is_joined);
            separate(&mut out, is_joined);
            out.push_str(word.core);
            out.push_str(word.after);
            is_joined = word.after == "-";
            continue;
        };
        if after.ends_with(['.', '?', '!', ':', ';']) {
            flush(&mut out, &mut number, after, &mut is_joined);
        }
    }
    flush(&mut out, &mut number, after, &mut is_joined);
    out
}

/// Whether a number comes after words that are zeros or exclamations.
fn is_number_after(words: &[Word<'_>]) -> bool {
    let next = words.iter().find(|word| !word.is_oh());
    next.is_some_and(|next| next.digits.is_some() || REPEATS.iter().any(|(name, _)| next.is(name)))
}

fn separate(out: &mut String, is_joined: bool) {
    if !out.is_empty() && !is_joined {
        out.push(' ');
    }
}

fn flush(out: &mut String, number: &mut Number, after: &str, is_joined: &mut bool) {
    if !number.is_empty() {
        separate(out, *is_joined);
        out.push_str(&number.take());
        out.push_str(after.trim_matches('-'));
        *is_joined = false;
    }
}

fn read(word: &str, is_english: bool) -> Word<'_> {
    let core = word.trim_end_matches([',', '.', '?', '!', ':', ';', '-']);
    let after = word.get(core.len()..).unwrap_or_default();
    let of = |name: &&str| is_english && core.eq_ignore_ascii_case(name);
    let spelled = WORDS.iter().find(|(name, _)| of(name)).map(|(_, digits)| (*digits).to_owned());
    let zeros = SCALES.iter().find(|(name, _)| of(name)).map(|(_, zeros)| *zeros);
    let is_number = core.bytes().any(|octet| octet.is_ascii_digit())
        && core.bytes().all(|octet| octet.is_ascii_digit() || b",()+".contains(&octet));
    let is_spelled = spelled.is_some();
    let digits = spelled.or_else(|| is_number.then(|| core.chars().filter(char::is_ascii_digit).collect()));
    Word { core, after, digits, zeros, is_spelled }
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
            assert_eq!(written(spoken, true), text, "{spoken}");
        }
    }

    #[test]
    fn hundreds_and_thousands_are_one_number() {
        let cases = [
            ("one hundred twenty three", "123"),
            ("one hundred and five", "105"),
            ("Two thousand twenty-six.", "2026."),
            ("one thousand three hundred twelve", "1312"),
            ("nineteen hundred", "1900"),
            ("a hundred", "100"),
            ("5 hundred", "500"),
            ("one hundred thousand", "100000"),
            ("one hundred twenty three thousand", "123000"),
            ("one hundred two hundred", "100200"),
            ("eight hundred five five five one two", "80055512"),
            ("one eight hundred five five five", "1800555"),
            ("four hundred, four", "404"),
            ("A hundred people and a thousand ideas", "100 people and 1000 ideas"),
            ("hundreds of hundred things", "hundreds of hundred things"),
            ("one hundred and done", "100 and done"),
        ];
        for (spoken, text) in cases {
            assert_eq!(written(spoken, true), text, "{spoken}");
        }
    }

    #[test]
    fn repeated_digits_and_zeros_are_found_between_digits_only() {
        let cases = [
            ("double four", "44"),
            ("double oh seven", "007"),
            ("triple 9", "999"),
            ("4 double 7 one", "4771"),
            ("twenty oh five", "2005"),
            ("Oh, I see", "Oh, I see"),
            ("oh oh", "oh oh"),
            ("Oh seven seven", "077"),
            ("oh oh seven", "007"),
            ("one oh", "10"),
            ("double check two", "double check 2"),
        ];
        for (spoken, text) in cases {
            assert_eq!(written(spoken, true), text, "{spoken}");
        }
    }

    #[test]
    fn words_of_other_languages_are_no_english_digits() {
        for text in ["dos o tres", "ten moment", "1 to 1 o 2", "nein", "6 o 7"] {
            let expected = text;
            assert_eq!(written(text, false), expected, "{text}");
        }
        assert_eq!(written("47 19, 2.", false), "47192.");
    }
}
