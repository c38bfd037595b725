//! The expressions of documents. They are JavaScript expressions without statements, loops, assignments and regular
//! expressions. Arrow functions are allowed only as arguments.
//!
//! An expression has at most 1,024 characters, as at SignalWire. SignalWire's engine stops an evaluation after 150 ms.
//! This engine charges each operation to the budget of the script (`budget`).

mod parser;
#[cfg(test)]
mod tests;

use super::budget::{Budget, Exhausted, PARSED_OCTET, STEP};
use super::operation::{OBJECTS, call_function, call_method, count, kept, place, power};
use super::value::{Object, Value};
use parser::Node;

/// Maximum length of an expression, in characters.
pub(super) const LONGEST: usize = 1_024;

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
    let tree = parser::parse(text)?;
    Machine { scope, budget, locals: Vec::new() }.value(&tree)
}

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
