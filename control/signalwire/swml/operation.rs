//! The functions and methods of expressions, as tables. [`call_method`] and [`call_function`] are the only way to them:
//! they charge the size of all arguments before the call, and the size of the result after the call. A function whose
//! result can be much larger than its arguments also charges the result before the result is allocated.

use std::fmt::Write as _;

use super::budget::{Budget, PaidText, STEP};
use super::expression::EvalError;
use super::value::Value;

/// Maximum number of decimals (ECMA-262 §21.1.3.3).
const MAX_DECIMALS: f64 = 100.0;
/// `toFixed` writes a number of this size or more with an exponent (ECMA-262 §21.1.3.3).
const LARGEST_FIXED: f64 = 1e21;
/// Maximum nesting depth of the lists and objects of a value.
const DEEPEST: usize = 64;
/// The price of an argument, in units for each octet. An operation reads an argument several times, and may copy the
/// argument, for example with other letters.
const ARGUMENT: usize = 2;

/// Other letters of a text have at most this many times the octets of the text: ΐ becomes Ϊ́.
const LONGER_LETTERS: usize = 3;

type Answer = Result<Value, EvalError>;
/// A function. It gets the arguments.
type Function = fn(&[Value], &Budget) -> Answer;
/// A method. It gets the value of the method, and the arguments.
type TextMethod = fn(&str, &[Value], &Budget) -> Answer;
type ListMethod = fn(&[Value], &[Value], &Budget) -> Answer;

pub(super) fn call_method(of: &Value, name: &str, arguments: &[Value], budget: &Budget) -> Answer {
    charge(arguments.iter().chain([of]), budget)?;
    let made = match of {
        Value::Undefined | Value::Null => Err(format!("{of} has no {name}").into()),
        Value::Text(own) => match find(TEXT_METHODS, name) {
            Some(method) => method(own.as_str(), arguments, budget),
            None => to_string(of, name),
        },
        Value::List(items) => match find(LIST_METHODS, name) {
            Some(method) => method(items.as_slice(), arguments, budget),
            None => to_string(of, name),
        },
        Value::Number(number) if name == "toFixed" => to_fixed(*number, arguments),
        Value::Number(_) | Value::Bool(_) | Value::Object(_) => to_string(of, name),
    };
    kept(made?, budget)
}

/// Calls a function: `parseInt`, or `Math.max`.
pub(super) fn call_function(name: &str, arguments: &[Value], budget: &Budget) -> Answer {
    charge(arguments.iter(), budget)?;
    match find(FUNCTIONS, name) {
        Some(function) => kept(function(arguments, budget)?, budget),
        None => Err(format!("there is no function {name}").into()),
    }
}

/// Pays for a new value.
pub(super) fn kept(value: Value, budget: &Budget) -> Answer {
    budget.spend(value.size())?;
    if value.depth() > DEEPEST { Err("a value is nested too deeply".into()) } else { Ok(value) }
}

fn charge<'a>(arguments: impl Iterator<Item = &'a Value>, budget: &Budget) -> Result<(), EvalError> {
    for argument in arguments {
        budget.spend(argument.size().saturating_mul(ARGUMENT))?;
    }
    Ok(())
}

fn find<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(own, _)| *own == name).map(|(_, found)| *found)
}

fn to_string(of: &Value, name: &str) -> Answer {
    if name == "toString" { Ok(of.to_string().into()) } else { Err(format!("{name} is not supported").into()) }
}

fn argument(arguments: &[Value], at: usize) -> &Value {
    arguments.get(at).unwrap_or(&Value::Undefined)
}

fn number(arguments: &[Value]) -> f64 {
    argument(arguments, 0).to_number()
}

#[expect(clippy::cast_precision_loss, reason = "numbers are JavaScript's")]
pub(super) fn count(number: usize) -> Value {
    Value::Number(number as f64)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and not negative")]
pub(super) fn place(key: &Value) -> Option<usize> {
    let number = key.to_number();
    (number >= 0.0 && number.fract() == 0.0 && number < 4e9).then_some(number as usize)
}

/// Converts an argument to an index between 0 and `length`. If `from_end` is set, a negative index counts from the end.
/// `missing` is the result for an undefined argument.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is bounded")]
fn index(argument: &Value, length: usize, missing: usize, from_end: bool) -> usize {
    if *argument == Value::Undefined {
        return missing;
    }
    let number = argument.to_number();
    let size = count(length).to_number();
    let number = if number.is_nan() { 0.0 } else { number.trunc() };
    let number = if number < 0.0 && from_end { size + number } else { number };
    number.clamp(0.0, size) as usize
}

// ----- functions ------------------------------------------------------------------------------------------------------

static FUNCTIONS: &[(&str, Function)] = &[
    ("parseInt", |given, _| Ok(parse_int(&argument(given, 0).to_string(), argument(given, 1).to_number()).into())),
    ("parseFloat", |given, _| Ok(parse_float(&argument(given, 0).to_string()).into())),
    ("Boolean", |given, _| Ok(argument(given, 0).is_truthy().into())),
    ("Number", |given, _| Ok(if given.is_empty() { 0.0 } else { number(given) }.into())),
    ("String", |given, _| Ok(given.first().map(Value::to_string).unwrap_or_default().into())),
    ("isNaN", |given, _| Ok(number(given).is_nan().into())),
    ("isFinite", |given, _| Ok(number(given).is_finite().into())),
    // JavaScript rounds 0.5 up, for negative numbers too.
    ("Math.round", |given, _| Ok((number(given) + 0.5).floor().into())),
    ("Math.ceil", |given, _| Ok(number(given).ceil().into())),
    ("Math.floor", |given, _| Ok(number(given).floor().into())),
    ("Math.trunc", |given, _| Ok(number(given).trunc().into())),
    ("Math.abs", |given, _| Ok(number(given).abs().into())),
    ("Math.sqrt", |given, _| Ok(number(given).sqrt().into())),
    ("Math.pow", |given, _| Ok(power(number(given), argument(given, 1).to_number()).into())),
    ("Math.max", |given, _| Ok(extreme(given, f64::NEG_INFINITY, f64::max).into())),
    ("Math.min", |given, _| Ok(extreme(given, f64::INFINITY, f64::min).into())),
    ("JSON.stringify", |given, budget| {
        let mut text = PaidText::new(budget);
        let written = serde_json::to_writer(&mut text, &argument(given, 0).to_json());
        written.map_err(|_| EvalError::Exhausted)?;
        Ok(text.into_text().into())
    }),
    ("JSON.parse", |given, budget| {
        let text = argument(given, 0).to_string();
        budget.parse_json(text.as_bytes())?;
        serde_json::from_str(&text).map_err(|error| format!("JSON.parse: {error}").into())
    }),
    ("Number.parseInt", |given, _| {
        Ok(parse_int(&argument(given, 0).to_string(), argument(given, 1).to_number()).into())
    }),
    ("Number.parseFloat", |given, _| Ok(parse_float(&argument(given, 0).to_string()).into())),
    ("Number.isInteger", |given, _| {
        Ok(matches!(argument(given, 0), Value::Number(number) if number.fract() == 0.0).into())
    }),
    ("Array.isArray", |given, _| Ok(matches!(argument(given, 0), Value::List(_)).into())),
    ("Object.keys", |given, _| {
        let keys = argument(given, 0).object().map(|object| object.iter().map(|(key, _)| key.into()).collect());
        Ok(Value::List(keys.unwrap_or_default()))
    }),
];

/// The objects whose functions are in the table: `Math` of `Math.max`.
pub(super) const OBJECTS: [&str; 5] = ["Math", "JSON", "Number", "Array", "Object"];

/// `**` (ECMA-262 §6.1.6.1.3). IEEE 754 has 1 for some powers that are NaN in JavaScript.
pub(super) fn power(base: f64, exponent: f64) -> f64 {
    let is_nan = exponent.is_nan() || (base.abs() == 1.0 && exponent.is_infinite());
    if is_nan { f64::NAN } else { base.powf(exponent) }
}

fn extreme(arguments: &[Value], none: f64, better: fn(f64, f64) -> f64) -> f64 {
    let mut numbers = arguments.iter().map(Value::to_number);
    if numbers.clone().any(f64::is_nan) { f64::NAN } else { numbers.by_ref().fold(none, better) }
}

fn parse_int(text: &str, radix: f64) -> f64 {
    let text = text.trim();
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (radix, text) = match (radix, hexadecimal) {
        (0.0 | 16.0, Some(rest)) => (16, rest),
        (radix, Some(rest)) if radix.is_nan() => (16, rest),
        (radix, _) => match place(&Value::Number(radix)) {
            Some(0) | None => (10, text),
            Some(radix @ 2..=36) => (radix, text),
            Some(_) => return f64::NAN,
        },
    };
    let radix = u32::try_from(radix).unwrap_or(10);
    let mut number = None;
    for digit in text.chars().map_while(|letter| letter.to_digit(radix)) {
        number = Some(number.unwrap_or(0.0) * f64::from(radix) + f64::from(digit));
    }
    number.map_or(f64::NAN, |number: f64| sign * number)
}

fn parse_float(text: &str) -> f64 {
    let text = text.trim_start();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && !"+-.eE".contains(letter)).unwrap_or(text.len());
    let number = |end: usize| text.get(..end)?.parse::<f64>().ok();
    (1..=end.min(64)).rev().find_map(number).unwrap_or(f64::NAN)
}

// ----- methods of texts -----------------------------------------------------------------------------------------------

static TEXT_METHODS: &[(&str, TextMethod)] = &[
    ("toUpperCase", |own, _, budget| {
        budget.spend(LONGER_LETTERS * own.len())?;
        Ok(own.to_uppercase().into())
    }),
    ("toLowerCase", |own, _, budget| {
        budget.spend(LONGER_LETTERS * own.len())?;
        Ok(own.to_lowercase().into())
    }),
    ("trim", |own, _, _| Ok(own.trim().into())),
    ("trimStart", |own, _, _| Ok(own.trim_start().into())),
    ("trimEnd", |own, _, _| Ok(own.trim_end().into())),
    ("substring", |own, given, _| {
        let all = own.chars().count();
        let (from, to) = (index(argument(given, 0), all, 0, false), index(argument(given, 1), all, all, false));
        Ok(cut(own, from.min(to), from.max(to)))
    }),
    ("slice", |own, given, _| {
        let all = own.chars().count();
        Ok(cut(own, index(argument(given, 0), all, 0, true), index(argument(given, 1), all, all, true)))
    }),
    ("substr", |own, given, _| {
        let all = own.chars().count();
        let from = index(argument(given, 0), all, 0, true);
        Ok(cut(own, from, all.min(from + index(argument(given, 1), all, all, false))))
    }),
    ("charAt", |own, given, _| {
        let at = index(argument(given, 0), usize::MAX >> 12, 0, false);
        Ok(own.chars().nth(at).map(String::from).unwrap_or_default().into())
    }),
    ("indexOf", |own, given, _| Ok(found(own, own.find(&argument(given, 0).to_string())))),
    ("lastIndexOf", |own, given, _| Ok(found(own, own.rfind(&argument(given, 0).to_string())))),
    ("includes", |own, given, _| Ok(own.contains(&argument(given, 0).to_string()).into())),
    ("startsWith", |own, given, _| Ok(own.starts_with(&argument(given, 0).to_string()).into())),
    ("endsWith", |own, given, _| Ok(own.ends_with(&argument(given, 0).to_string()).into())),
    ("replace", |own, given, budget| replaced(own, given, 1, budget)),
    ("replaceAll", |own, given, budget| replaced(own, given, usize::MAX, budget)),
    ("split", |own, given, budget| {
        let by = argument(given, 0);
        if *by == Value::Undefined {
            return Ok(vec![Value::from(own)].into());
        }
        let by = by.to_string();
        let parts = if by.is_empty() { own.len() } else { own.matches(&by).count() + 1 };
        budget.spend(parts.saturating_mul(STEP))?;
        Ok(Value::List(match by.is_empty() {
            true => own.chars().map(|letter| letter.to_string().into()).collect(),
            false => own.split(&by).map(Value::from).collect(),
        }))
    }),
    ("concat", |own, given, _| {
        let more: String = given.iter().map(Value::to_string).collect();
        Ok(format!("{own}{more}").into())
    }),
    ("repeat", |own, given, budget| {
        let times = place(argument(given, 0)).ok_or("the number of repetitions is not valid")?;
        budget.spend(own.len().saturating_mul(times))?;
        Ok(own.repeat(times).into())
    }),
    ("padStart", |own, given, budget| Ok((padding(own, given, budget)? + own).into())),
    ("padEnd", |own, given, budget| Ok((own.to_owned() + &padding(own, given, budget)?).into())),
];

fn cut(own: &str, from: usize, to: usize) -> Value {
    own.chars().skip(from).take(to.saturating_sub(from)).collect::<String>().into()
}

fn found(own: &str, at: Option<usize>) -> Value {
    at.and_then(|at| own.get(..at)).map_or(Value::Number(-1.0), |before| count(before.chars().count()))
}

fn replaced(own: &str, given: &[Value], times: usize, budget: &Budget) -> Answer {
    let (old, new) = (argument(given, 0).to_string(), argument(given, 1).to_string());
    let (mut text, mut rest) = (PaidText::new(budget), 0);
    for (at, found) in own.match_indices(&old).take(times) {
        text.push(own.get(rest..at).unwrap_or_default())?;
        text.push(&new)?;
        rest = at + found.len();
    }
    text.push(own.get(rest..).unwrap_or_default())?;
    Ok(text.into_text().into())
}

/// The padding that makes a text as long as the first argument says.
fn padding(own: &str, given: &[Value], budget: &Budget) -> Result<String, EvalError> {
    let with = match argument(given, 1) {
        Value::Undefined => " ".to_owned(),
        with => with.to_string(),
    };
    let missing = place(argument(given, 0)).unwrap_or(0).saturating_sub(own.chars().count());
    if with.is_empty() {
        return Ok(with);
    }
    // A letter has at most four octets.
    budget.spend(missing.saturating_mul(char::MAX.len_utf8()))?;
    Ok(with.chars().cycle().take(missing).collect())
}

// ----- methods of lists and numbers -----------------------------------------------------------------------------------

static LIST_METHODS: &[(&str, ListMethod)] = &[
    ("join", |items, given, budget| {
        let between = match argument(given, 0) {
            Value::Undefined => ",".to_owned(),
            between => between.to_string(),
        };
        let mut text = PaidText::new(budget);
        for (place, item) in items.iter().enumerate() {
            if place > 0 {
                text.push(&between)?;
            }
            if !item.is_nothing() {
                write!(text, "{item}").map_err(|_| EvalError::Exhausted)?;
            }
        }
        Ok(text.into_text().into())
    }),
    ("includes", |items, given, _| Ok(items.contains(argument(given, 0)).into())),
    ("indexOf", |items, given, _| {
        Ok(items.iter().position(|item| item == argument(given, 0)).map_or(Value::Number(-1.0), count))
    }),
    ("slice", |items, given, _| {
        let all = items.len();
        let (from, to) = (index(argument(given, 0), all, 0, true), index(argument(given, 1), all, all, true));
        Ok(Value::List(items.get(from..to.max(from)).unwrap_or_default().to_vec()))
    }),
    ("concat", |items, given, _| {
        let mut joined = items.to_vec();
        for argument in given {
            match argument {
                Value::List(more) => joined.extend_from_slice(more),
                one => joined.push(one.clone()),
            }
        }
        Ok(Value::List(joined))
    }),
    ("reverse", |items, _, _| Ok(Value::List(items.iter().rev().cloned().collect()))),
];

fn to_fixed(number: f64, given: &[Value]) -> Answer {
    let decimals = match argument(given, 0) {
        Value::Undefined => 0.0,
        decimals => decimals.to_number().trunc(),
    };
    if !(0.0..=MAX_DECIMALS).contains(&decimals) || !number.is_finite() {
        return Err("toFixed() takes 0 to 100 digits".into());
    }
    if number.abs() >= LARGEST_FIXED {
        return Ok(Value::Number(number).to_string().into());
    }
    Ok(fixed(number, place(&Value::Number(decimals)).unwrap_or(0)).into())
}

/// `toFixed` (ECMA-262 §21.1.3.3). If two results are equally near to the number, the result with the larger magnitude
/// is used.
fn fixed(number: f64, decimals: usize) -> String {
    // Rust rounds an exact half to the even digit. Only a number with few decimals can be an exact half.
    let text = format!("{number:.decimals$}");
    let scale = 10_f64.powi(i32::try_from(decimals).unwrap_or(0));
    let scaled = number.abs() * scale;
    let is_half = decimals < 15 && scaled < 1e15 && scaled.fract() == 0.5 && scaled / scale == number.abs();
    if is_half { format!("{:.decimals$}", number.signum() * (scaled + 0.5).floor() / scale) } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::budget::BUDGET;
    use super::*;

    /// The arguments of one call: a dear value in each place, and what makes the operation do the most.
    fn dear() -> Vec<Vec<Value>> {
        let text = || Value::from("a,".repeat(5_000));
        let list = || Value::List(vec![Value::from("ab"); 500]);
        let json = || Value::from(format!("[{}1]", "1,".repeat(5_000)));
        let object = || Value::Object((0..500).map(|key| (key.to_string(), Value::from("x"))).collect());
        let control = || Value::from("\u{1}".repeat(10_000));
        let many = || Value::Number(100_000.0);
        vec![
            Vec::new(),
            vec![text()],
            vec![list()],
            vec![json()],
            vec![object()],
            vec![control()],
            vec![many()],
            vec![many(), text()],
            vec![text(), text()],
            vec![Value::from("a"), text()],
            vec![Value::from(""), text()],
            vec![Value::from("")],
            vec![Value::from(",")],
            vec![Value::Number(0.0), many()],
            vec![list(), list(), list()],
        ]
    }

    /// Calls an operation, and checks that it paid for its arguments and its result, or that it did not run.
    fn check(name: &str, own: Option<&Value>, arguments: &[Value]) {
        let budget = Budget::default();
        let read: usize = arguments.iter().chain(own).map(Value::size).sum();
        let answer = match own {
            Some(own) => call_method(own, name, arguments, &budget),
            None => call_function(name, arguments, &budget),
        };
        let spent = BUDGET - budget.left();
        match answer {
            Ok(made) => assert!(spent >= read + made.size(), "{name}: {spent} for {read} and {}", made.size()),
            Err(EvalError::Exhausted) => assert_eq!(budget.left(), 0, "{name}"),
            Err(EvalError::Failed(why)) => assert!(spent >= read, "{name}: {spent} for {read}: {why}"),
        }
    }

    #[test]
    fn every_operation_spends_budget_for_its_arguments_and_its_result() {
        let text = Value::from("aß,".repeat(3_000));
        let list = Value::List(vec![Value::from("a".repeat(20)); 1_000]);
        for arguments in dear() {
            for (name, _) in FUNCTIONS {
                check(name, None, &arguments);
            }
            for (name, _) in TEXT_METHODS {
                check(name, Some(&text), &arguments);
            }
            for (name, _) in LIST_METHODS {
                check(name, Some(&list), &arguments);
            }
            for own in
                [&text, &list, &Value::Number(1e300), &Value::Object([("a", text.clone())].into_iter().collect())]
            {
                check("toString", Some(own), &arguments);
                check("toFixed", Some(own), &arguments);
            }
        }
    }

    #[test]
    fn a_result_beyond_the_budget_is_refused_before_its_creation() {
        let large = Value::from("x".repeat(10_000));
        let many = Value::Number(3e9);
        let list = Value::List(vec![Value::Null; 10_000]);
        let nothing = Value::from("");
        for (own, name, arguments) in [
            (&large, "repeat", vec![many.clone()]),
            (&large, "padStart", vec![many.clone()]),
            (&large, "padEnd", vec![many, large.clone()]),
            (&large, "replaceAll", vec![Value::from("x"), large.clone()]),
            (&large, "replaceAll", vec![nothing, large.clone()]),
            (&list, "join", vec![large.clone()]),
        ] {
            let budget = Budget::default();
            assert_eq!(call_method(own, name, &arguments, &budget), Err(EvalError::Exhausted), "{name}");
        }
        let items = Value::from(format!("[{}1]", "1,".repeat(400_000)));
        assert_eq!(call_function("JSON.parse", &[items], &Budget::default()), Err(EvalError::Exhausted));
    }

    #[test]
    fn powers_behave_as_in_javascript() {
        assert_eq!((power(2.0, 10.0), power(2.0, -1.0), power(0.0, 0.0)), (1024.0, 0.5, 1.0));
        for (base, exponent) in [(1.0, f64::NAN), (1.0, f64::INFINITY), (-1.0, f64::NEG_INFINITY), (-8.0, 1.0 / 3.0)] {
            assert!(power(base, exponent).is_nan(), "{base} ** {exponent}");
        }
    }

    #[test]
    fn the_depth_of_a_stored_value_is_limited() {
        let mut value = Value::Null;
        for _ in 0..DEEPEST {
            value = Value::List(vec![value]);
        }
        let budget = Budget::default();
        assert!(kept(value.clone(), &budget).is_ok());
        assert!(kept(Value::List(vec![value]), &budget).is_err());
    }
}
