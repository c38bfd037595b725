//! Writes the words: takes the most probable token again and again (greedy search), with the rules of Whisper and with bounds.
//!
//! A result that is improbable is not tried again at a higher temperature. That took up to four times as long, and on the
//! telephone such a result is noise.

use rten_simd::SimdOp as _;
use rten_vecmath::SumExpSub;

use super::decoder::{Decoder, Memory};
use super::kernel::Products;
use super::tokens::Vocabulary;

/// Tokens for each second of audio, above [`TOKENS`]. Fast speech has five.
const TOKENS_PER_SECOND: f32 = 8.0;
/// Tokens for audio of any length.
const TOKENS: usize = 8;
/// The largest number of tokens of hints. Whisper has room for half of its 448 positions.
const MAX_HINTS: usize = 223;

/// The rules for the choice of tokens. They are the same for all searches with one model.
pub(super) struct Rules {
    /// Whether a token may be chosen.
    permitted: Vec<bool>,
    /// The tokens that may not be the first one.
    not_first: Vec<u32>,
    /// The tokens of digits, with and without a space before them.
    digits: Vec<u32>,
    /// The tokens of more than one digit.
    long_numbers: Vec<u32>,
    /// The tokens that end a sentence.
    ends: Vec<u32>,
}

impl Rules {
    /// `suppressed` and `suppressed_first` are the lists of the model's `config.json`: tokens that are not speech, such as
    /// brackets and notes of music.
    pub(super) fn new(vocabulary: &Vocabulary, suppressed: &[u32], suppressed_first: &[u32]) -> Self {
        let all = 0..u32::try_from(vocabulary.len()).unwrap_or(u32::MAX);
        let permitted = all.clone().map(|token| token <= vocabulary.end && !suppressed.contains(&token)).collect();
        let is = |token: u32, shortest: usize, test: fn(u8) -> bool| {
            let octets = vocabulary.octets(token);
            let octets = octets.strip_prefix(b" ").unwrap_or(octets);
            octets.len() >= shortest && octets.iter().all(|octet| test(*octet))
        };
        Self {
            permitted,
            not_first: suppressed_first.to_vec(),
            digits: all.clone().filter(|token| is(*token, 1, |octet| octet.is_ascii_digit())).collect(),
            long_numbers: all.clone().filter(|token| is(*token, 2, |octet| octet.is_ascii_digit())).collect(),
            ends: all.filter(|token| is(*token, 1, |octet| b".?!".contains(&octet))).collect(),
        }
    }
}

/// The settings of a search.
#[derive(Debug, Clone, Default)]
pub(super) struct Query {
    /// The token of the language. Models for English only take none.
    pub(super) language: Option<u32>,
    /// The tokens of the hints.
    pub(super) hints: Vec<u32>,
    /// Whether each digit is a token of its own. Then a spoken digit is one step, and fewer are lost or doubled. To make digits
    /// more probable as well made numbers longer than they were spoken.
    pub(super) digits: bool,
    /// Length of the audio, in seconds.
    pub(super) seconds: f32,
}

/// The words that were found.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub(super) tokens: Vec<u32>,
    /// The mean of the natural logarithms of the probabilities.
    pub(super) log_probability: f32,
    /// The probability that the audio has no speech.
    pub(super) no_speech: f32,
}

/// Finds the words of the audio in `memory`.
pub(super) fn search(
    products: &Products,
    decoder: &Decoder,
    vocabulary: &Vocabulary,
    rules: &Rules,
    memory: &mut Memory,
    query: &Query,
) -> Found {
    let mut prompt = Vec::new();
    if !query.hints.is_empty() {
        prompt.push(vocabulary.previous);
        prompt.extend(query.hints.iter().skip(query.hints.len().saturating_sub(MAX_HINTS)));
    }
    let start = prompt.len();
    prompt.push(vocabulary.start);
    prompt.extend(query.language);
    prompt.extend(vocabulary.transcribe);
    prompt.push(vocabulary.no_times);
    let vectors = decoder.add(products, memory, &prompt);
    let width = vectors.len() / prompt.len().max(1);
    let vector = |index: usize| vectors.get(index * width..(index + 1) * width).unwrap_or_default();
    let at_start = decoder.scores(products, vector(start));
    let no_speech = probability(&at_start, vocabulary.no_speech);

    let mut scores = decoder.scores(products, vector(prompt.len() - 1));
    let room = decoder.max_tokens().saturating_sub(prompt.len());
    let limit = room.min(TOKENS + (query.seconds * TOKENS_PER_SECOND) as usize);
    let mut found = Found { no_speech, ..Found::default() };
    let mut sum = 0.0;
    loop {
        let (token, logarithm) = choose(&mut scores, rules, found.tokens.is_empty(), query.digits);
        sum += logarithm;
        let is_end = token == vocabulary.end;
        if !is_end {
            found.tokens.push(token);
        }
        found.log_probability = sum / (found.tokens.len() + usize::from(is_end)).max(1) as f32;
        if is_end || found.tokens.len() >= limit {
            break;
        }
        if let Some(length) = repeated(&found.tokens, rules) {
            found.tokens.truncate(length);
            break;
        }
        let vector = decoder.add(products, memory, &[token]);
        scores = decoder.scores(products, &vector);
    }
    found
}

/// Returns the most probable language and its probability.
pub(super) fn language(
    products: &Products,
    decoder: &Decoder,
    vocabulary: &Vocabulary,
    memory: &mut Memory,
) -> Option<(u32, f32)> {
    let vector = decoder.add(products, memory, &[vocabulary.start]);
    let scores = decoder.scores(products, &vector);
    let score = |token: u32| scores.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
    let best = vocabulary
        .languages
        .iter()
        .map(|(_, token)| *token)
        .max_by(|one, other| score(*one).total_cmp(&score(*other)))?;
    let sum: f32 = vocabulary.languages.iter().map(|(_, token)| (score(*token) - score(best)).exp()).sum();
    Some((best, sum.recip()))
}

/// Chooses a token, and returns the logarithm of its probability among the permitted tokens.
fn choose(scores: &mut [f32], rules: &Rules, is_first: bool, digits: bool) -> (u32, f32) {
    for (score, permitted) in scores.iter_mut().zip(&rules.permitted) {
        if !permitted {
            *score = f32::NEG_INFINITY;
        }
    }
    let mut change = |tokens: &[u32], by: f32| {
        for token in tokens {
            if let Some(score) = scores.get_mut(*token as usize) {
                *score += by;
            }
        }
    };
    if is_first {
        change(&rules.not_first, f32::NEG_INFINITY);
    }
    if digits {
        change(&rules.long_numbers, f32::NEG_INFINITY);
    }
    let (best, score) = (0_u32..)
        .zip(scores.iter())
        .fold((0, f32::NEG_INFINITY), |best, (token, score)| if *score > best.1 { (token, *score) } else { best });
    (best, -SumExpSub::new(scores, score).dispatch().ln())
}

fn probability(scores: &[f32], token: u32) -> f32 {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let score = scores.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
    (score - largest).exp() / SumExpSub::new(scores, largest).dispatch()
}

/// With little audio after the words, Whisper likes to write the words again. Returns the length without the repetition: the
/// tokens end with a sentence that occurs twice in a row, or with anything that occurs three times in a row. Numbers may have
/// the same digit eight times.
fn repeated(tokens: &[u32], rules: &Rules) -> Option<usize> {
    let is_end = tokens.last().is_some_and(|token| rules.ends.contains(token));
    let times = |length: usize| {
        let mut pieces = tokens.rchunks_exact(length);
        let last = pieces.next();
        1 + pieces.take_while(|piece| Some(*piece) == last).count()
    };
    (1..=tokens.len() / 2).find_map(|length| {
        let times = times(length);
        let is_digit = || length == 1 && tokens.last().is_some_and(|token| rules.digits.contains(token));
        let is_repeated = times >= 2 && is_end && length > 1 || times >= 3 && (times >= 9 || !is_digit());
        is_repeated.then(|| tokens.len() - length * (times - 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            permitted: vec![true, false, true, true],
            not_first: vec![2],
            digits: vec![8],
            long_numbers: vec![2],
            ends: vec![9],
        }
    }

    #[test]
    fn a_sentence_that_is_written_twice_is_cut() {
        for (tokens, length) in [
            (&[1, 2, 9, 1, 2, 9][..], Some(3)),
            (&[5, 9, 1, 2, 9, 1, 2, 9], Some(5)),
            (&[1, 2, 9, 1, 2], None),
            // Very good, very good.
            (&[1, 2, 1, 2], None),
            (&[1, 2, 1, 2, 1, 2], Some(2)),
            (&[7, 4, 4, 4], Some(2)),
            (&[], None),
        ] {
            assert_eq!(repeated(tokens, &rules()), length, "{tokens:?}");
        }
    }

    #[test]
    fn a_number_may_have_the_same_digit_several_times_but_no_group() {
        assert_eq!(repeated(&[8, 7, 8, 7, 8, 7], &rules()), Some(2));
        assert_eq!(repeated(&[1, 8, 8, 8, 8], &rules()), None);
        assert_eq!(repeated(&[8; 9], &rules()), Some(1));
    }

    #[test]
    fn suppressed_tokens_are_never_chosen_and_long_numbers_are_not_on_request() {
        let rules = rules();
        let scores = [0.5, 9.0, 3.0, 1.5];
        assert_eq!(choose(&mut scores.clone(), &rules, false, false).0, 2);
        assert_eq!(choose(&mut scores.clone(), &rules, true, false).0, 3);
        assert_eq!(choose(&mut scores.clone(), &rules, false, true).0, 3);
        let (_, logarithm) = choose(&mut [0.0, 5.0, 0.0, 0.0], &rules, false, false);
        assert!((logarithm - (1.0_f32 / 3.0).ln()).abs() < 1e-5);
    }
}
