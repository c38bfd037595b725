//! The expressions of documents. They are JavaScript expressions without statements, loops, assignments and regular
//! expressions. Arrow functions are allowed only as arguments.
//!
//! An expression has at most 1,024 characters, as at SignalWire. SignalWire's engine stops an evaluation after 150 ms.
//! This engine stops an evaluation after a maximum number of steps. It also stops if a text or a list becomes too
//! large.

use super::value::{Object, Value, number_text};

/// Maximum length of an expression, in characters.
pub(super) const LONGEST: usize = 1_024;
/// Maximum number of steps of an evaluation.
const MAX_STEPS: u32 = 50_000;
/// Maximum size of the result of an operation. For a text, this is a number of octets. For a list, this is a number of
/// elements.
const LARGEST: usize = 1024 * 1024;
/// Maximum nesting depth.
const DEEPEST: u32 = 64;
/// Maximum number of decimals (ECMA-262 §21.1.3.3).
const MAX_DECIMALS: f64 = 100.0;

/// Gives the values of the names in an expression.
pub(super) trait Scope {
    /// The value of a name. `Undefined` if the name has no value.
    fn value_of(&self, name: &str) -> Value;
}

/// Evaluates an expression.
///
/// # Errors
/// A text with the reason of the failure.
pub(super) fn evaluate(text: &str, scope: &dyn Scope) -> Result<Value, String> {
    if text.chars().count() > LONGEST {
        return Err(format!("an expression has at most {LONGEST} characters"));
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens, at: 0, depth: 0 };
    let tree = parser.expression()?;
    if let Some(token) = parser.tokens.get(parser.at) {
        return Err(format!("unexpected {token}"));
    }
    let mut machine = Machine { scope, steps: 0, locals: Vec::new() };
    machine.value(&tree)
}

// ----- tokens ---------------------------------------------------------------------------------------------------------

#[derive(Clone, PartialEq, Debug)]
enum Token {
    Number(f64),
    Text(String),
    Name(String),
    Mark(&'static str),
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{}", number_text(*number)),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Name(name) => f.write_str(name),
            Self::Mark(mark) => f.write_str(mark),
        }
    }
}

/// All operators and punctuation marks. Longer marks come first. Otherwise the parser would read the beginning of a
/// longer mark as a shorter mark.
const MARKS: [&str; 34] = [
    "===", "!==", "...", "=>", "==", "!=", "<=", ">=", "&&", "||", "??", "?.", "**", "+", "-", "*", "/", "%", "<", ">",
    "!", "?", ":", "(", ")", "[", "]", "{", "}", ",", ".", "=", ";", "&",
];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '\'' | '"' | '`' => quoted(rest, first)?,
            '0'..='9' => number(rest)?,
            '.' if rest[1..].starts_with(|next: char| next.is_ascii_digit()) => number(rest)?,
            _ if first.is_alphabetic() || first == '_' || first == '$' => {
                let end = rest.find(|next: char| !next.is_alphanumeric() && next != '_' && next != '$');
                let end = end.unwrap_or(rest.len());
                (Token::Name(rest[..end].to_owned()), end)
            }
            _ => match MARKS.iter().find(|mark| rest.starts_with(**mark)) {
                Some(mark) => (Token::Mark(mark), mark.len()),
                None => return Err(format!("unexpected {first:?}")),
            },
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn quoted(text: &str, quote: char) -> Result<(Token, usize), String> {
    let mut value = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((place, letter)) = letters.next() {
        match letter {
            _ if letter == quote => return Ok((Token::Text(value), place + 1)),
            '\\' => match letters.next().map(|(_, escaped)| escaped) {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some('r') => value.push('\r'),
                Some('u') => {
                    let digits: String = letters.by_ref().take(4).map(|(_, digit)| digit).collect();
                    let code = u32::from_str_radix(&digits, 16).map_err(|_| "an invalid \\u escape".to_owned())?;
                    value.push(char::from_u32(code).unwrap_or('\u{fffd}'));
                }
                Some(other) => value.push(other),
                None => break,
            },
            _ => value.push(letter),
        }
    }
    Err("a text without a closing quote".to_owned())
}

fn number(text: &str) -> Result<(Token, usize), String> {
    let mut end = 0;
    let octets = text.as_bytes();
    while let Some(next) = octets.get(end) {
        let exponent = end > 0 && octets.get(end - 1).is_some_and(|before| before.eq_ignore_ascii_case(&b'e'));
        let hexadecimal = text.starts_with("0x");
        let fits = match next {
            b'.' => !hexadecimal,
            b'+' | b'-' => exponent && !hexadecimal,
            other => other.is_ascii_alphanumeric(),
        };
        if !fits {
            break;
        }
        end += 1;
    }
    let word = &text[..end];
    let number = Value::from(word).to_number();
    if number.is_nan() { Err(format!("{word} is not a number")) } else { Ok((Token::Number(number), end)) }
}

// ----- tree -----------------------------------------------------------------------------------------------------------

#[derive(Debug)]
enum Node {
    Constant(Value),
    Name(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
    Not(Box<Node>),
    Minus(Box<Node>),
    Plus(Box<Node>),
    TypeOf(Box<Node>),
    Binary(&'static str, Box<Node>, Box<Node>),
    Choice(Box<(Node, Node, Node)>),
    /// Access to a member. With `optional` (`?.`), the result is undefined for a null or undefined object.
    Member {
        of: Box<Node>,
        key: Box<Node>,
        optional: bool,
    },
    Call {
        of: Box<Node>,
        arguments: Vec<Node>,
    },
    Arrow {
        parameters: Vec<String>,
        body: Box<Node>,
    },
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: u32,
}

/// Binary operators by precedence. The lowest precedence comes first.
const LEVELS: [&[&str]; 7] =
    [&["??"], &["||"], &["&&"], &["===", "!==", "==", "!="], &["<", ">", "<=", ">="], &["+", "-"], &["*", "/", "%"]];

impl Parser {
    fn expression(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("nested too deeply".to_owned());
        }
        let node = self.choice();
        self.depth -= 1;
        node
    }

    fn choice(&mut self) -> Result<Node, String> {
        if let Some(arrow) = self.arrow()? {
            return Ok(arrow);
        }
        let condition = self.binary(0)?;
        if !self.takes("?") {
            return Ok(condition);
        }
        let then = self.expression()?;
        self.expect(":")?;
        let otherwise = self.expression()?;
        Ok(Node::Choice(Box::new((condition, then, otherwise))))
    }

    /// Parses `x => ...` or `(x, y) => ...`.
    fn arrow(&mut self) -> Result<Option<Node>, String> {
        let (mut at, mut parameters) = (self.at, Vec::new());
        match self.tokens.get(at) {
            Some(Token::Name(name)) => parameters.push(name.clone()),
            Some(Token::Mark("(")) => loop {
                at += 1;
                match self.tokens.get(at) {
                    Some(Token::Name(name)) => parameters.push(name.clone()),
                    Some(Token::Mark(",")) => {}
                    Some(Token::Mark(")")) => break,
                    _ => return Ok(None),
                }
            },
            _ => return Ok(None),
        }
        if self.tokens.get(at + 1) != Some(&Token::Mark("=>")) {
            return Ok(None);
        }
        self.at = at + 2;
        let body = Box::new(self.expression()?);
        Ok(Some(Node::Arrow { parameters, body }))
    }

    fn binary(&mut self, level: usize) -> Result<Node, String> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        let mut long = 0;
        while let Some(operator) = operators.iter().find(|operator| self.takes(operator)) {
            // A chain of operators nests to the left, and the evaluation is recursive, so the chain has a maximum
            // length.
            long += 1;
            if long > 4 * DEEPEST {
                return Err("too many operators in a row".to_owned());
            }
            let right = self.binary(level + 1)?;
            left = Node::Binary(operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("nested too deeply".to_owned());
        }
        let node = if self.takes("!") {
            Node::Not(Box::new(self.unary()?))
        } else if self.takes("-") {
            Node::Minus(Box::new(self.unary()?))
        } else if self.takes("+") {
            Node::Plus(Box::new(self.unary()?))
        } else if self.tokens.get(self.at) == Some(&Token::Name("typeof".to_owned())) {
            self.at += 1;
            Node::TypeOf(Box::new(self.unary()?))
        } else {
            self.postfix()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn postfix(&mut self) -> Result<Node, String> {
        let mut node = self.primary()?;
        let mut long = 0;
        loop {
            long += 1;
            if long > DEEPEST {
                return Err("too many members in a row".to_owned());
            }
            let optional = self.takes("?.");
            if self.takes("[") {
                let key = Box::new(self.expression()?);
                self.expect("]")?;
                node = Node::Member { of: Box::new(node), key, optional };
            } else if self.takes("(") {
                let arguments = self.list(")")?;
                node = Node::Call { of: Box::new(node), arguments };
            } else if optional || self.takes(".") {
                let Some(Token::Name(name)) = self.tokens.get(self.at).cloned() else {
                    return Err("a name is missing after the dot".to_owned());
                };
                self.at += 1;
                let key = Box::new(Node::Constant(Value::Text(name)));
                node = Node::Member { of: Box::new(node), key, optional };
            } else {
                return Ok(node);
            }
        }
    }

    fn primary(&mut self) -> Result<Node, String> {
        let token = self.tokens.get(self.at).cloned().ok_or_else(|| "the expression ends too early".to_owned())?;
        self.at += 1;
        match token {
            Token::Number(number) => Ok(Node::Constant(Value::Number(number))),
            Token::Text(text) => Ok(Node::Constant(Value::Text(text))),
            Token::Name(name) => Ok(match name.as_str() {
                "true" => Node::Constant(Value::Bool(true)),
                "false" => Node::Constant(Value::Bool(false)),
                "null" => Node::Constant(Value::Null),
                "undefined" => Node::Constant(Value::Undefined),
                "function" | "return" | "if" | "for" | "while" | "var" | "let" | "const" | "new" | "await"
                | "class" => {
                    return Err(format!("{name} is not supported in expressions"));
                }
                _ => Node::Name(name),
            }),
            Token::Mark("(") => {
                let node = self.expression()?;
                self.expect(")")?;
                Ok(node)
            }
            Token::Mark("[") => Ok(Node::List(self.list("]")?)),
            Token::Mark("{") => self.object(),
            token => Err(format!("unexpected {token}")),
        }
    }

    fn object(&mut self) -> Result<Node, String> {
        let mut members = Vec::new();
        while !self.takes("}") {
            let key = match self.tokens.get(self.at).cloned() {
                Some(Token::Name(name)) => name,
                Some(Token::Text(text)) => text,
                Some(Token::Number(number)) => number_text(number),
                _ => return Err("a key is missing".to_owned()),
            };
            self.at += 1;
            let value = if self.takes(":") { self.expression()? } else { Node::Name(key.clone()) };
            members.push((key, value));
            if !self.takes(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(Node::Object(members))
    }

    fn list(&mut self, end: &'static str) -> Result<Vec<Node>, String> {
        let mut items = Vec::new();
        while !self.takes(end) {
            items.push(self.expression()?);
            if !self.takes(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(items)
    }

    fn takes(&mut self, mark: &str) -> bool {
        let is_next = matches!(self.tokens.get(self.at), Some(Token::Mark(next)) if *next == mark);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, mark: &str) -> Result<(), String> {
        match self.takes(mark) {
            true => Ok(()),
            false => Err(match self.tokens.get(self.at) {
                Some(token) => format!("{mark} is missing before {token}"),
                None => format!("{mark} is missing at the end"),
            }),
        }
    }
}

// ----- evaluation -----------------------------------------------------------------------------------------------------

struct Machine<'a> {
    scope: &'a dyn Scope,
    steps: u32,
    /// The parameters of the arrow functions around the current expression. The parameters of the innermost function
    /// come last.
    locals: Vec<(String, Value)>,
}

impl Machine<'_> {
    fn value(&mut self, node: &Node) -> Result<Value, String> {
        self.spend(1)?;
        Ok(match node {
            Node::Constant(value) => value.clone(),
            Node::Name(name) => self.named(name)?,
            Node::List(items) => Value::List(self.values(items)?),
            Node::Object(members) => {
                let mut object = Object::default();
                for (key, node) in members {
                    object.set(key.as_str(), self.value(node)?);
                }
                Value::Object(object)
            }
            Node::Not(of) => Value::Bool(!self.value(of)?.is_truthy()),
            Node::Minus(of) => Value::Number(-self.value(of)?.to_number()),
            Node::Plus(of) => Value::Number(self.value(of)?.to_number()),
            Node::TypeOf(of) => match self.value(of)? {
                Value::Undefined => "undefined",
                Value::Bool(_) => "boolean",
                Value::Number(_) => "number",
                Value::Text(_) => "string",
                Value::Null | Value::List(_) | Value::Object(_) => "object",
            }
            .into(),
            Node::Binary(operator, left, right) => self.binary(operator, left, right)?,
            Node::Choice(parts) => {
                let (condition, then, otherwise) = &**parts;
                let node = if self.value(condition)?.is_truthy() { then } else { otherwise };
                self.value(node)?
            }
            Node::Member { of, key, optional } => {
                let of = self.value(of)?;
                if *optional && of.is_nothing() {
                    return Ok(Value::Undefined);
                }
                let key = self.value(key)?;
                member(&of, &key)?
            }
            Node::Call { of, arguments } => self.call(of, arguments)?,
            Node::Arrow { .. } => return Err("functions are supported only as arguments".to_owned()),
        })
    }

    fn spend(&mut self, steps: usize) -> Result<(), String> {
        self.steps = self.steps.saturating_add(u32::try_from(steps).unwrap_or(u32::MAX));
        if self.steps > MAX_STEPS { Err("the evaluation takes too many steps".to_owned()) } else { Ok(()) }
    }

    fn values(&mut self, nodes: &[Node]) -> Result<Vec<Value>, String> {
        nodes.iter().map(|node| self.value(node)).collect()
    }

    fn named(&mut self, name: &str) -> Result<Value, String> {
        let value = match self.locals.iter().rev().find(|(local, _)| local == name) {
            Some((_, value)) => value.clone(),
            None => match name {
                "NaN" => Value::Number(f64::NAN),
                "Infinity" => Value::Number(f64::INFINITY),
                _ => self.scope.value_of(name),
            },
        };
        // A value is copied, so a large value costs more steps.
        self.spend(value.size() / 256)?;
        Ok(value)
    }

    fn binary(&mut self, operator: &str, left: &Node, right: &Node) -> Result<Value, String> {
        let left = self.value(left)?;
        match operator {
            "&&" if !left.is_truthy() => return Ok(left),
            "||" if left.is_truthy() => return Ok(left),
            "??" if !left.is_nothing() => return Ok(left),
            "&&" | "||" | "??" => return self.value(right),
            _ => {}
        }
        let right = self.value(right)?;
        Ok(match operator {
            "+" => add(&left, &right)?,
            "-" => (left.to_number() - right.to_number()).into(),
            "*" => (left.to_number() * right.to_number()).into(),
            "/" => (left.to_number() / right.to_number()).into(),
            "%" => (left.to_number() % right.to_number()).into(),
            "===" => (left == right).into(),
            "!==" => (left != right).into(),
            "==" => loosely_equal(&left, &right).into(),
            "!=" => (!loosely_equal(&left, &right)).into(),
            _ => {
                let order = match (&left, &right) {
                    (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
                    _ => left.to_number().partial_cmp(&right.to_number()),
                };
                order
                    .is_some_and(|order| match operator {
                        "<" => order.is_lt(),
                        "<=" => order.is_le(),
                        ">" => order.is_gt(),
                        _ => order.is_ge(),
                    })
                    .into()
            }
        })
    }

    fn call(&mut self, of: &Node, arguments: &[Node]) -> Result<Value, String> {
        let (of, name, optional) = match of {
            Node::Name(name) => {
                let arguments = self.values(arguments)?;
                return global(name, &arguments);
            }
            Node::Member { of, key, optional } => match &**key {
                Node::Constant(Value::Text(name)) => (of, name.as_str(), *optional),
                _ => return Err("only a function with a name can be called".to_owned()),
            },
            _ => return Err("only a function with a name can be called".to_owned()),
        };
        if let Node::Name(object) = &**of
            && matches!(object.as_str(), "Math" | "JSON" | "Number" | "Array" | "Object")
            && self.scope.value_of(object) == Value::Undefined
        {
            let arguments = self.values(arguments)?;
            return static_method(object, name, &arguments);
        }
        let of = self.value(of)?;
        if optional && of.is_nothing() {
            return Ok(Value::Undefined);
        }
        if let (Value::List(items), Some(Node::Arrow { parameters, body })) = (&of, arguments.first()) {
            let first = match arguments.get(1) {
                Some(first) if name == "reduce" => Some(self.value(first)?),
                _ => None,
            };
            return self.with_each(items, name, first, parameters, body);
        }
        let arguments = self.values(arguments)?;
        let made = method(&of, name, &arguments)?;
        self.spend(made.size() / 256)?;
        Ok(made)
    }

    /// Executes a list method that calls an arrow function for each element. `first` is the initial value of `reduce`.
    fn with_each(
        &mut self,
        items: &[Value],
        name: &str,
        first: Option<Value>,
        parameters: &[String],
        body: &Node,
    ) -> Result<Value, String> {
        let before = self.locals.len();
        if name == "reduce" {
            return self.reduce(items, first, parameters, body);
        }
        let mut kept = Vec::new();
        for (place, item) in (0_u32..).zip(items) {
            let given = [item.clone(), place.into()];
            self.locals.extend(parameters.iter().cloned().zip(given));
            let value = self.value(body);
            self.locals.truncate(before);
            let value = value?;
            match name {
                "map" => kept.push(value),
                "filter" if value.is_truthy() => kept.push(item.clone()),
                "find" if value.is_truthy() => return Ok(item.clone()),
                "findIndex" if value.is_truthy() => return Ok(place.into()),
                "some" if value.is_truthy() => return Ok(true.into()),
                "every" if !value.is_truthy() => return Ok(false.into()),
                "filter" | "find" | "findIndex" | "some" | "every" => {}
                _ => return Err(format!("lists have no method {name} that takes a function")),
            }
        }
        Ok(match name {
            "find" => Value::Undefined,
            "findIndex" => Value::Number(-1.0),
            "some" => Value::Bool(false),
            "every" => Value::Bool(true),
            _ => Value::List(kept),
        })
    }
}

impl Machine<'_> {
    fn reduce(
        &mut self,
        items: &[Value],
        first: Option<Value>,
        parameters: &[String],
        body: &Node,
    ) -> Result<Value, String> {
        let before = self.locals.len();
        let (mut sum, from) = match first {
            Some(first) => (first, 0),
            None => (items.first().cloned().ok_or_else(|| "reduce() of an empty list".to_owned())?, 1),
        };
        for (place, item) in (0_u32..).zip(items).skip(from) {
            let given = [std::mem::take(&mut sum), item.clone(), place.into()];
            self.locals.extend(parameters.iter().cloned().zip(given));
            let value = self.value(body);
            self.locals.truncate(before);
            sum = value?;
        }
        Ok(sum)
    }
}

fn add(left: &Value, right: &Value) -> Result<Value, String> {
    let is_text = |value: &Value| matches!(value, Value::Text(_) | Value::List(_) | Value::Object(_));
    if !is_text(left) && !is_text(right) {
        return Ok(Value::Number(left.to_number() + right.to_number()));
    }
    text(format!("{left}{right}"))
}

/// A text value. A text with more than `LARGEST` octets is an error.
fn text(text: String) -> Result<Value, String> {
    if text.len() > LARGEST { Err("a text becomes too large".to_owned()) } else { Ok(Value::Text(text)) }
}

/// The operator `==` (ECMA-262 §7.2.13).
fn loosely_equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Undefined | Value::Null, Value::Undefined | Value::Null) => true,
        (Value::Undefined | Value::Null, _) | (_, Value::Undefined | Value::Null) => false,
        (Value::Text(left), Value::Text(right)) => left == right,
        (Value::List(_) | Value::Object(_), Value::List(_) | Value::Object(_)) => left == right,
        (Value::List(_) | Value::Object(_), Value::Text(text)) => left.to_string() == *text,
        (Value::Text(text), Value::List(_) | Value::Object(_)) => right.to_string() == *text,
        _ => left.to_number() == right.to_number(),
    }
}

/// The member of the value `of`. `key` is the name or the index of the member.
pub(super) fn member(of: &Value, key: &Value) -> Result<Value, String> {
    let found = match of {
        Value::Undefined | Value::Null => return Err(format!("{of} has no {key}")),
        Value::Object(object) => object.get(&key.to_string()).cloned(),
        Value::List(items) => match key {
            Value::Text(name) if name == "length" => Some(count(items.len())),
            _ => place(key).and_then(|place| items.get(place).cloned()),
        },
        Value::Text(text) => match key {
            Value::Text(name) if name == "length" => Some(count(text.encode_utf16().count())),
            _ => place(key).and_then(|place| text.chars().nth(place)).map(|letter| letter.to_string().into()),
        },
        Value::Bool(_) | Value::Number(_) => None,
    };
    Ok(found.unwrap_or_default())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and not negative")]
fn place(key: &Value) -> Option<usize> {
    let number = key.to_number();
    (number >= 0.0 && number.fract() == 0.0 && number < 4e9).then_some(number as usize)
}

#[expect(clippy::cast_precision_loss, reason = "numbers are JavaScript's")]
fn count(number: usize) -> Value {
    Value::Number(number as f64)
}

fn argument(arguments: &[Value], at: usize) -> Value {
    arguments.get(at).cloned().unwrap_or_default()
}

/// Calls a global function.
fn global(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let first = argument(arguments, 0);
    Ok(match name {
        "parseInt" => parse_int(&first.to_string(), argument(arguments, 1).to_number()).into(),
        "parseFloat" => parse_float(&first.to_string()).into(),
        "Boolean" => first.is_truthy().into(),
        "Number" => if arguments.is_empty() { 0.0 } else { first.to_number() }.into(),
        "String" => if arguments.is_empty() { String::new() } else { first.to_string() }.into(),
        "isNaN" => first.to_number().is_nan().into(),
        "isFinite" => first.to_number().is_finite().into(),
        _ => return Err(format!("there is no function {name}")),
    })
}

fn static_method(object: &str, name: &str, arguments: &[Value]) -> Result<Value, String> {
    let first = argument(arguments, 0);
    let number = || first.to_number();
    Ok(match (object, name) {
        // JavaScript rounds 0.5 up, for negative numbers too.
        ("Math", "round") => (number() + 0.5).floor().into(),
        ("Math", "ceil") => number().ceil().into(),
        ("Math", "floor") => number().floor().into(),
        ("Math", "trunc") => number().trunc().into(),
        ("Math", "abs") => number().abs().into(),
        ("Math", "sqrt") => number().sqrt().into(),
        ("Math", "pow") => number().powf(argument(arguments, 1).to_number()).into(),
        ("Math", "max") => extreme(arguments, f64::NEG_INFINITY, f64::max).into(),
        ("Math", "min") => extreme(arguments, f64::INFINITY, f64::min).into(),
        ("JSON", "stringify") => text(first.to_json().to_string())?,
        ("JSON", "parse") => {
            serde_json::from_str(&first.to_string()).map_err(|error| format!("JSON.parse: {error}"))?
        }
        ("Number", "parseInt" | "parseFloat") => global(name, arguments)?,
        ("Number", "isInteger") => matches!(first, Value::Number(number) if number.fract() == 0.0).into(),
        ("Array", "isArray") => matches!(first, Value::List(_)).into(),
        ("Object", "keys") => {
            let keys = first.object().map(|object| object.iter().map(|(key, _)| key.into()).collect());
            Value::List(keys.unwrap_or_default())
        }
        _ => return Err(format!("{object}.{name} is not supported")),
    })
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

fn method(of: &Value, name: &str, arguments: &[Value]) -> Result<Value, String> {
    let known = match of {
        Value::Text(own) => text_method(own, name, arguments)?,
        Value::List(items) => list_method(items, name, arguments)?,
        Value::Number(number) => number_method(*number, name, arguments)?,
        Value::Undefined | Value::Null => return Err(format!("{of} has no {name}")),
        Value::Bool(_) | Value::Object(_) => None,
    };
    match known {
        Some(value) => Ok(value),
        None if name == "toString" => text(of.to_string()),
        None => Err(format!("{name} is not supported")),
    }
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

fn text_method(own: &str, name: &str, arguments: &[Value]) -> Result<Option<Value>, String> {
    let first = argument(arguments, 0);
    let second = argument(arguments, 1);
    let letters = || own.chars().collect::<Vec<char>>();
    let cut = |letters: &[char], from: usize, to: usize| {
        Value::Text(letters.get(from..to.max(from)).unwrap_or_default().iter().collect())
    };
    Ok(Some(match name {
        "toUpperCase" => own.to_uppercase().into(),
        "toLowerCase" => own.to_lowercase().into(),
        "trim" => own.trim().into(),
        "trimStart" => own.trim_start().into(),
        "trimEnd" => own.trim_end().into(),
        "substring" => {
            let letters = letters();
            let all = letters.len();
            let (from, to) = (index(&first, all, 0, false), index(&second, all, all, false));
            cut(&letters, from.min(to), from.max(to))
        }
        "slice" => {
            let letters = letters();
            let all = letters.len();
            cut(&letters, index(&first, all, 0, true), index(&second, all, all, true))
        }
        "substr" => {
            let letters = letters();
            let all = letters.len();
            let from = index(&first, all, 0, true);
            cut(&letters, from, all.min(from + index(&second, all, all, false)))
        }
        "charAt" => {
            own.chars().nth(index(&first, usize::MAX >> 12, 0, false)).map(String::from).unwrap_or_default().into()
        }
        "indexOf" => found(own, own.find(&first.to_string())),
        "lastIndexOf" => found(own, own.rfind(&first.to_string())),
        "includes" => own.contains(&first.to_string()).into(),
        "startsWith" => own.starts_with(&first.to_string()).into(),
        "endsWith" => own.ends_with(&first.to_string()).into(),
        "replace" => text(own.replacen(&first.to_string(), &second.to_string(), 1))?,
        "replaceAll" => {
            let (old, new) = (first.to_string(), second.to_string());
            let times = own.len() / old.len().max(1) + 1;
            if times.saturating_mul(new.len()) > LARGEST {
                return Err("a text becomes too large".to_owned());
            }
            text(own.replace(&old, &new))?
        }
        "split" => match first {
            Value::Undefined => vec![Value::from(own)].into(),
            _ if first.to_string().is_empty() => {
                Value::List(own.chars().take(MAX_STEPS as usize).map(|letter| letter.to_string().into()).collect())
            }
            _ => Value::List(own.split(&first.to_string()).map(Value::from).collect()),
        },
        "concat" => {
            let more: String = arguments.iter().map(Value::to_string).collect();
            text(format!("{own}{more}"))?
        }
        "repeat" => {
            let times = place(&first).ok_or_else(|| "the number of repetitions is not valid".to_owned())?;
            if times.saturating_mul(own.len()) > LARGEST {
                return Err("a text becomes too large".to_owned());
            }
            own.repeat(times).into()
        }
        "padStart" | "padEnd" => {
            let wanted = place(&first).unwrap_or(0).min(LARGEST);
            let with = if second == Value::Undefined { " ".to_owned() } else { second.to_string() };
            let missing = wanted.saturating_sub(own.chars().count());
            let padding: String = with.chars().cycle().take(if with.is_empty() { 0 } else { missing }).collect();
            text(if name == "padStart" { padding + own } else { format!("{own}{padding}") })?
        }
        _ => return Ok(None),
    }))
}

fn found(own: &str, at: Option<usize>) -> Value {
    at.and_then(|at| own.get(..at)).map_or(Value::Number(-1.0), |before| count(before.chars().count()))
}

fn list_method(items: &[Value], name: &str, arguments: &[Value]) -> Result<Option<Value>, String> {
    let first = argument(arguments, 0);
    let second = argument(arguments, 1);
    Ok(Some(match name {
        "join" => {
            let between = if first == Value::Undefined { ",".to_owned() } else { first.to_string() };
            let shown = |item: &Value| if item.is_nothing() { String::new() } else { item.to_string() };
            let large = items.len().saturating_mul(between.len()) + items.iter().map(Value::size).sum::<usize>();
            if large > 64 * LARGEST {
                return Err("a text becomes too large".to_owned());
            }
            text(items.iter().map(shown).collect::<Vec<_>>().join(&between))?
        }
        "includes" => items.contains(&first).into(),
        "indexOf" => items.iter().position(|item| *item == first).map_or(Value::Number(-1.0), count),
        "slice" => {
            let all = items.len();
            let (from, to) = (index(&first, all, 0, true), index(&second, all, all, true));
            Value::List(items.get(from..to.max(from)).unwrap_or_default().to_vec())
        }
        "concat" => {
            let mut joined = items.to_vec();
            for argument in arguments {
                match argument {
                    Value::List(more) => joined.extend_from_slice(more),
                    one => joined.push(one.clone()),
                }
            }
            Value::List(joined)
        }
        "reverse" => Value::List(items.iter().rev().cloned().collect()),
        _ => return Ok(None),
    }))
}

fn number_method(number: f64, name: &str, arguments: &[Value]) -> Result<Option<Value>, String> {
    match name {
        "toFixed" => {
            let decimals = argument(arguments, 0);
            let decimals = if decimals == Value::Undefined { 0.0 } else { decimals.to_number().trunc() };
            if !(0.0..=MAX_DECIMALS).contains(&decimals) || !number.is_finite() {
                return Err("toFixed() takes 0 to 100 digits".to_owned());
            }
            Ok(Some(fixed(number, place(&Value::Number(decimals)).unwrap_or(0)).into()))
        }
        _ => Ok(None),
    }
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
    use super::*;

    struct Names(Object);

    impl Scope for Names {
        fn value_of(&self, name: &str) -> Value {
            self.0.get(name).cloned().unwrap_or_default()
        }
    }

    fn names() -> Names {
        let json = r#"{"a":2,"b":"3","s":"Hello World","list":[1,2,3],"o":{"k":{"d":["x"]}},"t":true,"e":""}"#;
        let value: Value = serde_json::from_str(json).unwrap();
        Names(value.object().unwrap().clone())
    }

    fn of(text: &str) -> String {
        match evaluate(text, &names()) {
            Ok(value) => value.to_string(),
            Err(why) => format!("error: {why}"),
        }
    }

    #[test]
    fn operators_are_those_of_javascript() {
        for (text, value) in [
            ("1 + 2 * 3", "7"),
            ("(1 + 2) * 3", "9"),
            ("a + b", "23"),
            ("a * b", "6"),
            ("a - -1", "3"),
            ("7 % 4", "3"),
            ("1 / 3", "0.3333333333333333"),
            ("0.1 + 0.2", "0.30000000000000004"),
            ("a == '2'", "true"),
            ("a === '2'", "false"),
            ("a !== 2", "false"),
            ("a != 3 && t", "true"),
            ("e || 'none'", "none"),
            ("missing ?? 'none'", "none"),
            ("!t", "false"),
            ("a > 1 ? 'many' : 'few'", "many"),
            ("a < 1 ? 'few' : a < 3 ? 'some' : 'many'", "some"),
            ("'10' < '9'", "true"),
            ("10 < '9'", "false"),
            ("null == undefined", "true"),
            ("null == 0", "false"),
            ("'' == 0", "true"),
            ("missing > 1", "false"),
            ("typeof missing", "undefined"),
            ("-b", "-3"),
            ("+b + 1", "4"),
            ("1 + 1 + 'a' + 1 + 1", "2a11"),
            ("NaN == NaN", "false"),
        ] {
            assert_eq!(of(text), value, "{text}");
        }
    }

    #[test]
    fn members_calls_and_lists() {
        for (text, value) in [
            ("o.k.d[0]", "x"),
            ("o['k'].d.length", "1"),
            ("list.length", "3"),
            ("s.length", "11"),
            ("s[0]", "H"),
            ("s.toUpperCase()", "HELLO WORLD"),
            ("s.substring(0, 5).toLowerCase()", "hello"),
            ("s.substring(5, 0)", "Hello"),
            ("s.slice(-5)", "World"),
            ("s.replace('World', 'there')", "Hello there"),
            ("s.split(' ').join('-')", "Hello-World"),
            ("s.includes('lo W')", "true"),
            ("s.indexOf('o')", "4"),
            ("'  x '.trim()", "x"),
            ("'7'.padStart(3, '0')", "007"),
            ("list.includes(2)", "true"),
            ("list.map(x => x * a).join(',')", "2,4,6"),
            ("list.filter((x, i) => x > 1 && i < 2).length", "1"),
            ("list.map(x => list.map(y => x + y).join('')).join(' ')", "234 345 456"),
            ("list.reduce((x, y) => x + y)", "6"),
            ("list.reduce((x, y) => x + y, '')", "123"),
            ("[1, 'a', [2]].length", "3"),
            ("({x: 1, y: {z: 2}}).y.z", "2"),
            ("(1.005 * 100).toFixed(2)", "100.50"),
            ("(2.5).toFixed(0)", "3"),
            ("(-1.5).toFixed(0)", "-2"),
            ("(5).toString()", "5"),
            ("parseInt('12px')", "12"),
            ("parseInt('ff', 16)", "255"),
            ("parseInt('x')", "NaN"),
            ("parseFloat('3.5kg')", "3.5"),
            ("Boolean(e)", "false"),
            ("Math.round(2.5) + Math.ceil(1.1) + Math.floor(-0.5)", "4"),
            ("Math.max(1, a, list.length)", "3"),
            ("Math.min()", "Infinity"),
            ("missing?.x", "undefined"),
            ("o?.k?.d?.length", "1"),
            ("JSON.stringify(list)", "[1,2,3]"),
        ] {
            assert_eq!(of(text), value, "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_an_error() {
        for text in [
            "",
            "1 +",
            "(1",
            "a = 1",
            "a; b",
            "function() { return 1 }",
            "x => x",
            "missing.x",
            "missing()",
            "s.explode()",
            "'open",
            "new Date()",
            "/a/.test(s)",
            "1 2",
            "a[",
            "#",
            "[].reduce((x, y) => x + y)",
            "list.each(x => x)",
        ] {
            assert!(of(text).starts_with("error: "), "{text}: {}", of(text));
        }
    }

    #[test]
    fn length_depth_and_work_are_bounded() {
        assert!(of(&"1".repeat(LONGEST + 1)).starts_with("error"));
        for text in ["(".repeat(1000), "!".repeat(1000), "[".repeat(1000), "a?".repeat(500), "-".repeat(999)] {
            assert!(of(&text).starts_with("error"), "{text}");
        }
        assert_eq!(of(&["1"; 500].join("+")), "error: too many operators in a row");
        let nested = "l.map(a=>l.map(b=>l.map(c=>l.map(d=>l.map(e=>l.map(f=>1))))))";
        let wide: Object = [("l", Value::List(vec![Value::Null; 50]))].into_iter().collect();
        assert_eq!(evaluate(nested, &Names(wide)).unwrap_err(), "the evaluation takes too many steps");
        let long: Object = [("l", Value::Text("x".repeat(900_000)))].into_iter().collect();
        assert!(evaluate("l + l", &Names(long)).is_err());
        assert!(of("'x'.repeat(2000000)").starts_with("error"));
        assert!(of("'xxxxxxxxxx'.repeat(100000).replaceAll('x', 'xxxxxxxx')").starts_with("error"));
    }

    #[test]
    fn any_text_is_read_without_a_panic() {
        let letters: Vec<char> = "ab1.'\"`([{}])+-*/%!=<>&|?:,xé\\ .length=>typeof ".chars().collect();
        let mut state = 7_u64;
        for _ in 0..20_000 {
            let text: String = (0..12)
                .filter_map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    letters.get(usize::try_from(state >> 33).unwrap_or(0) % letters.len())
                })
                .collect();
            let _ = evaluate(&text, &names());
        }
    }
}
