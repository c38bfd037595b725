//! The expressions of documents. They are JavaScript expressions without statements, loops, assignments and regular
//! expressions. Arrow functions are allowed only as arguments.
//!
//! An expression has at most 1,024 characters, as at SignalWire. SignalWire's engine stops an evaluation after 150 ms.
//! This engine charges each operation to the budget of the script (`budget`).

use super::budget::{Budget, Exhausted, PARSED_OCTET, STEP};
use super::operation::{OBJECTS, call_function, call_method, count, kept, place, power};
use super::value::{Object, Value, number_text};

/// Maximum length of an expression, in characters.
pub(super) const LONGEST: usize = 1_024;
/// Maximum nesting depth.
const DEEPEST: u32 = 64;

/// Gives the values of the names in an expression.
pub(super) trait Scope {
    /// The value of a name. `None` if the name has no value.
    fn find(&self, name: &str) -> Option<Found<'_>>;

    /// The budget of the script.
    fn budget(&self) -> &Budget;
}

/// A value that a name leads to. The value is not copied.
#[derive(Clone, Copy)]
pub(super) enum Found<'a> {
    Value(&'a Value),
    Object(&'a Object),
}

impl<'a> Found<'a> {
    /// The member of an object or a list with this name or index. `None` for other values.
    pub(super) fn member(self, key: &str) -> Option<Self> {
        match self {
            Self::Object(object) | Self::Value(Value::Object(object)) => object.get(key).map(Self::Value),
            Self::Value(Value::List(items)) => items.get(place(&key.into())?).map(Self::Value),
            Self::Value(_) => None,
        }
    }

    /// The number of members that a search looks at.
    pub(super) fn width(self) -> usize {
        match self {
            Self::Object(object) | Self::Value(Value::Object(object)) => object.len(),
            Self::Value(_) => 1,
        }
    }

    /// Whether the value is `undefined` or `null`.
    pub(super) fn is_nothing(self) -> bool {
        matches!(self, Self::Value(value) if value.is_nothing())
    }

    /// A copy of the value.
    pub(super) fn copied(self, budget: &Budget) -> Result<Value, Exhausted> {
        match self {
            Self::Value(value) => {
                budget.spend(value.size())?;
                Ok(value.clone())
            }
            Self::Object(object) => {
                budget.spend(object.size())?;
                Ok(object.clone().into())
            }
        }
    }
}

/// The reason why an expression has no value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum EvalError {
    /// The script has used up its budget.
    Exhausted,
    /// Another reason.
    Failed(String),
}

impl From<Exhausted> for EvalError {
    fn from(_: Exhausted) -> Self {
        Self::Exhausted
    }
}

impl From<String> for EvalError {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl From<&str> for EvalError {
    fn from(why: &str) -> Self {
        Self::Failed(why.to_owned())
    }
}

/// Evaluates an expression.
///
/// # Errors
/// The reason of the failure.
pub(super) fn evaluate(text: &str, scope: &dyn Scope) -> Result<Value, EvalError> {
    let budget = scope.budget();
    budget.spend(4 * STEP + text.len().saturating_mul(PARSED_OCTET))?;
    if text.chars().count() > LONGEST {
        return Err(format!("an expression has at most {LONGEST} characters").into());
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens, at: 0, depth: 0 };
    let tree = parser.expression()?;
    if let Some(token) = parser.tokens.get(parser.at) {
        return Err(format!("unexpected {token}").into());
    }
    Machine { scope, budget, locals: Vec::new() }.value(&tree)
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
        let Some(operators) = LEVELS.get(level) else { return self.unary(false) };
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

    /// Parses unary operators and `**`. `prefixed` says whether a unary operator stands before this expression.
    fn unary(&mut self, prefixed: bool) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("nested too deeply".to_owned());
        }
        let node = if self.takes("!") {
            Node::Not(Box::new(self.unary(true)?))
        } else if self.takes("-") {
            Node::Minus(Box::new(self.unary(true)?))
        } else if self.takes("+") {
            Node::Plus(Box::new(self.unary(true)?))
        } else if matches!(self.tokens.get(self.at), Some(Token::Name(name)) if name == "typeof") {
            self.at += 1;
            Node::TypeOf(Box::new(self.unary(true)?))
        } else {
            let base = self.postfix()?;
            match self.takes("**") {
                // JavaScript does not decide whether -2 ** 2 is 4 or -4.
                true if prefixed => return Err("parentheses are missing before **".to_owned()),
                true => Node::Binary("**", Box::new(base), Box::new(self.unary(false)?)),
                false => base,
            }
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
    budget: &'a Budget,
    /// The parameters of the arrow functions around the current expression. The parameters of the innermost function
    /// come last.
    locals: Vec<(String, Value)>,
}

impl Machine<'_> {
    fn value(&mut self, node: &Node) -> Result<Value, EvalError> {
        self.budget.spend(STEP)?;
        Ok(match node {
            Node::Constant(value) => Found::Value(value).copied(self.budget)?,
            Node::Name(name) => match (self.found(node)?, name.as_str()) {
                (Some(found), _) => found.copied(self.budget)?,
                (None, "NaN") => Value::Number(f64::NAN),
                (None, "Infinity") => Value::Number(f64::INFINITY),
                (None, _) => Value::Undefined,
            },
            Node::List(items) => kept(Value::List(self.values(items)?), self.budget)?,
            Node::Object(members) => {
                let mut object = Object::default();
                for (key, node) in members {
                    object.set(key.as_str(), self.value(node)?);
                }
                kept(Value::Object(object), self.budget)?
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
                if let Some(found) = self.found(node)? {
                    return Ok(found.copied(self.budget)?);
                }
                let of = self.value(of)?;
                if *optional && of.is_nothing() {
                    return Ok(Value::Undefined);
                }
                let key = self.value(key)?;
                self.budget.spend(of.size() + key.size())?;
                member(&of, &key)?
            }
            Node::Call { of, arguments } => self.call(of, arguments)?,
            Node::Arrow { .. } => return Err("functions are supported only as arguments".into()),
        })
    }

    fn values(&mut self, nodes: &[Node]) -> Result<Vec<Value>, EvalError> {
        nodes.iter().map(|node| self.value(node)).collect()
    }

    /// The value of a name, or of a path such as `a.b[0]`, without a copy. `None` if there is no such value, or if the
    /// expression is not a path.
    fn found(&self, node: &Node) -> Result<Option<Found<'_>>, EvalError> {
        self.budget.spend(STEP)?;
        match node {
            Node::Name(name) => {
                self.budget.spend(self.locals.len())?;
                let local = self.locals.iter().rev().find(|(local, _)| local == name);
                Ok(local.map(|(_, value)| Found::Value(value)).or_else(|| self.scope.find(name)))
            }
            Node::Member { of, key, .. } => {
                let Node::Constant(key @ (Value::Text(_) | Value::Number(_))) = &**key else { return Ok(None) };
                let Some(of) = self.found(of)? else { return Ok(None) };
                // The length of a list is not one of its elements.
                if matches!(of, Found::Value(Value::List(_))) && key.text() == Some("length") {
                    return Ok(None);
                }
                self.budget.spend(of.width())?;
                Ok(of.member(&key.to_string()))
            }
            _ => Ok(None),
        }
    }

    fn binary(&mut self, operator: &str, left: &Node, right: &Node) -> Result<Value, EvalError> {
        let left = self.value(left)?;
        match operator {
            "&&" if !left.is_truthy() => return Ok(left),
            "||" if left.is_truthy() => return Ok(left),
            "??" if !left.is_nothing() => return Ok(left),
            "&&" | "||" | "??" => return self.value(right),
            _ => {}
        }
        let right = self.value(right)?;
        self.budget.spend(left.size() + right.size())?;
        Ok(match operator {
            "+" => kept(add(&left, &right), self.budget)?,
            "-" => (left.to_number() - right.to_number()).into(),
            "*" => (left.to_number() * right.to_number()).into(),
            "/" => (left.to_number() / right.to_number()).into(),
            "%" => (left.to_number() % right.to_number()).into(),
            "**" => power(left.to_number(), right.to_number()).into(),
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

    fn call(&mut self, of: &Node, arguments: &[Node]) -> Result<Value, EvalError> {
        let (of, name, optional) = match of {
            Node::Name(name) => return call_function(name, &self.values(arguments)?, self.budget),
            Node::Member { of, key, optional } => match &**key {
                Node::Constant(Value::Text(name)) => (of, name.as_str(), *optional),
                _ => return Err("only a function with a name can be called".into()),
            },
            _ => return Err("only a function with a name can be called".into()),
        };
        if let Node::Name(object) = &**of
            && OBJECTS.contains(&object.as_str())
            && self.found(of)?.is_none()
        {
            return call_function(&format!("{object}.{name}"), &self.values(arguments)?, self.budget);
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
            let made = self.with_each(items, name, first, parameters, body)?;
            return kept(made, self.budget);
        }
        let arguments = self.values(arguments)?;
        call_method(&of, name, &arguments, self.budget)
    }

    /// Evaluates the body of an arrow function with these arguments.
    fn apply(
        &mut self,
        parameters: &[String],
        given: impl IntoIterator<Item = Value>,
        body: &Node,
    ) -> Result<Value, EvalError> {
        let before = self.locals.len();
        for (parameter, value) in parameters.iter().zip(given) {
            self.budget.spend(STEP + value.size())?;
            self.locals.push((parameter.clone(), value));
        }
        let value = self.value(body);
        self.locals.truncate(before);
        value
    }

    /// Executes a list method that calls an arrow function for each element. `first` is the initial value of `reduce`.
    fn with_each(
        &mut self,
        items: &[Value],
        name: &str,
        first: Option<Value>,
        parameters: &[String],
        body: &Node,
    ) -> Result<Value, EvalError> {
        if name == "reduce" {
            return self.reduce(items, first, parameters, body);
        }
        let mut list = Vec::new();
        for (place, item) in (0_u32..).zip(items) {
            self.budget.spend(item.size())?;
            let value = self.apply(parameters, [item.clone(), place.into()], body)?;
            match name {
                "map" => list.push(value),
                "filter" if value.is_truthy() => list.push(item.clone()),
                "find" if value.is_truthy() => return Ok(item.clone()),
                "findIndex" if value.is_truthy() => return Ok(place.into()),
                "some" if value.is_truthy() => return Ok(true.into()),
                "every" if !value.is_truthy() => return Ok(false.into()),
                "filter" | "find" | "findIndex" | "some" | "every" => {}
                _ => return Err(format!("lists have no method {name} that takes a function").into()),
            }
        }
        Ok(match name {
            "find" => Value::Undefined,
            "findIndex" => Value::Number(-1.0),
            "some" => Value::Bool(false),
            "every" => Value::Bool(true),
            _ => Value::List(list),
        })
    }

    fn reduce(
        &mut self,
        items: &[Value],
        first: Option<Value>,
        parameters: &[String],
        body: &Node,
    ) -> Result<Value, EvalError> {
        let (mut sum, from) = match first {
            Some(first) => (first, 0),
            None => (items.first().cloned().ok_or("reduce() of an empty list")?, 1),
        };
        for (place, item) in (0_u32..).zip(items).skip(from) {
            self.budget.spend(item.size())?;
            sum = self.apply(parameters, [sum, item.clone(), place.into()], body)?;
        }
        Ok(sum)
    }
}

fn add(left: &Value, right: &Value) -> Value {
    let is_text = |value: &Value| matches!(value, Value::Text(_) | Value::List(_) | Value::Object(_));
    if is_text(left) || is_text(right) {
        return Value::Text(format!("{left}{right}"));
    }
    Value::Number(left.to_number() + right.to_number())
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
fn member(of: &Value, key: &Value) -> Result<Value, EvalError> {
    let found = match of {
        Value::Undefined | Value::Null => return Err(format!("{of} has no {key}").into()),
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Names(Object, Budget);

    impl Scope for Names {
        fn find(&self, name: &str) -> Option<Found<'_>> {
            self.0.get(name).map(Found::Value)
        }

        fn budget(&self) -> &Budget {
            &self.1
        }
    }

    fn names() -> Names {
        let json = r#"{"a":2,"b":"3","s":"Hello World","list":[1,2,3],"o":{"k":{"d":["x"]}},"t":true,"e":""}"#;
        let value: Value = serde_json::from_str(json).unwrap();
        Names(value.object().unwrap().clone(), Budget::default())
    }

    fn of(text: &str) -> String {
        match evaluate(text, &names()) {
            Ok(value) => value.to_string(),
            Err(EvalError::Failed(why)) => format!("error: {why}"),
            Err(EvalError::Exhausted) => "exhausted".to_owned(),
        }
    }

    #[test]
    fn operators_behave_as_in_javascript() {
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
            ("2 ** 10", "1024"),
            ("2 ** 3 ** 2", "512"),
            ("2 ** -1", "0.5"),
            ("(-2) ** 2", "4"),
            ("2 * 3 ** 2", "18"),
            ("a ** b", "8"),
            ("-(2 ** 2)", "-4"),
            ("1 ** Infinity", "NaN"),
        ] {
            assert_eq!(of(text), value, "{text}");
        }
    }

    #[test]
    fn members_methods_and_lists_behave_as_in_javascript() {
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
    fn an_unsupported_expression_is_an_error() {
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
            "-2 ** 2",
            "!a ** 2",
            "2 **",
        ] {
            assert!(of(text).starts_with("error: "), "{text}: {}", of(text));
        }
    }

    #[test]
    fn length_and_depth_of_an_expression_are_limited() {
        assert!(of(&"1".repeat(LONGEST + 1)).starts_with("error"));
        for text in ["(".repeat(1000), "!".repeat(1000), "[".repeat(1000), "a?".repeat(500), "-".repeat(999)] {
            assert!(of(&text).starts_with("error"), "{text}");
        }
        assert_eq!(of(&["1"; 500].join("+")), "error: too many operators in a row");
    }

    #[test]
    fn every_costly_expression_exhausts_the_budget() {
        let list = |length| Value::List(vec![Value::Null; length]);
        let text = |length| Value::Text("x".repeat(length));
        let names = [
            ("l", list(50)),
            ("long", list(20_000)),
            ("t", text(900_000)),
            ("o", Value::Object((0..5_000).map(|key| (format!("k{key}"), text(10))).collect())),
        ];
        let names: Object = names.into_iter().collect();
        for dear in [
            "l.map(a=>l.map(b=>l.map(c=>l.map(d=>l.map(e=>l.map(f=>1))))))",
            "l.map(a=>t+t)",
            "l.reduce((a,b)=>a+a,'x')",
            "l.reduce((a,b)=>[a,a],'x')",
            "l.map(x=>long)",
            "l.map(x=>t===t)",
            "l.map(x=>t<t)",
            "l.map(x=>[t,t]==[t,t])",
            "l.map(x=>-t)",
            "l.map(x=>typeof t)",
            "l.map(x=>!t)",
            "l.map(x=>t.length)",
            "l.map(x=>t[899999])",
            "l.map(x=>long.map(y=>o.k4999))",
            "l.map(x=>({a:t,b:t}))",
            "l.filter(x=>t?t:t).map(x=>t)",
            "l.map(x=>(t&&t)||t)",
            "l.map(x=>o[t])",
            "l.map(x=>JSON.parse(JSON.stringify(o)))",
            "'x'.repeat(2000000).toUpperCase()",
            "'xxxxxxxxxx'.repeat(100000).replaceAll('x', 'xxxxxxxx')",
            "t.split('')",
            "JSON.parse('['+'1,'.repeat(400000)+'1]')",
            "''.padStart(4000000)",
            "long.join(t)",
        ] {
            let names = Names(names.clone(), Budget::default());
            assert_eq!(evaluate(dear, &names), Err(EvalError::Exhausted), "{dear}");
            assert_eq!(names.1.left(), 0, "{dear}");
        }
    }

    #[test]
    fn a_path_costs_only_the_size_of_its_value() {
        let large = Value::Text("x".repeat(900_000));
        let inner: Object = [("small", Value::from("y")), ("large", large)].into_iter().collect();
        let names = Names([("o", Value::Object(inner))].into_iter().collect(), Budget::default());
        assert_eq!(evaluate("[o.small, o['small'], o.small.length].join()", &names), Ok("y,y,1".into()));
        assert!(super::super::budget::BUDGET - names.1.left() < 20_000);
    }

    #[test]
    fn the_depth_of_a_value_in_an_expression_is_limited() {
        let long: Object = [("l", Value::List(vec![Value::Null; 1_000]))].into_iter().collect();
        let names = Names(long, Budget::default());
        for deep in ["l.reduce((a,b)=>[a])", "l.reduce((a,b)=>({a}))", "l.reduce((a,b)=>[].concat([[a]]))"] {
            names.1.renew();
            assert_eq!(evaluate(deep, &names), Err("a value is nested too deeply".into()), "{deep}");
        }
    }

    #[test]
    fn an_expression_of_random_text_never_panics() {
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
