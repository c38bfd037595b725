//! The grammar of expressions: text becomes tokens, and tokens become a tree.

use super::super::value::{Value, number_text};

/// Maximum nesting depth.
const DEEPEST: u32 = 64;

/// Reads a whole expression.
///
/// # Errors
/// The reason why the text is not an expression.
pub(super) fn parse(text: &str) -> Result<Node, String> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let tree = parser.expression()?;
    match parser.tokens.get(parser.at) {
        Some(token) => Err(format!("unexpected {token}")),
        None => Ok(tree),
    }
}

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

#[derive(Debug)]
pub(super) enum Node {
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
