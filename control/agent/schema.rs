//! Checks of the arguments of tool calls against the JSON schemas of the tools. This module is pure.

use serde_json::Value;

/// Drops the members that no schema declares, at every depth: the caller may have persuaded the model to add them. The
/// members of an object without `properties` are not known, so an inner object of this kind keeps all its members. So
/// does an object whose schema allows `additionalProperties`.
pub(super) fn drop_undeclared(schema: &Value, value: &mut Value) {
    drop_members(schema, value, true);
}

fn drop_members(schema: &Value, value: &mut Value, is_outer: bool) {
    match value {
        Value::Object(members) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let others = schema.get("additionalProperties").filter(|others| **others != Value::Bool(false));
            if others.is_none() && (properties.is_some() || is_outer) {
                members.retain(|name, _| properties.is_some_and(|properties| properties.contains_key(name)));
            }
            for (name, member) in members {
                let own = properties.and_then(|properties| properties.get(name)).or(others);
                own.into_iter().for_each(|own| drop_members(own, member, false));
            }
        }
        Value::Array(items) => {
            let own = schema.get("items").into_iter();
            own.for_each(|own| items.iter_mut().for_each(|item| drop_members(own, item, false)));
        }
        _ => {}
    }
}

/// Checks a value against a schema. Returns a text about the first violation, or `None` if there is no violation. The
/// function checks types, `required` and `enum`, in objects and arrays. The web server of the tool checks the other
/// keywords of JSON Schema.
pub(super) fn fault(schema: &Value, value: &Value) -> Option<String> {
    let fits = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => true,
    };
    let kinds: Vec<&str> = match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| fits(kind)) {
        return Some(format!("{value} is not of type {}", kinds.join(" or ")));
    }
    if let Some(Value::Array(choices)) = schema.get("enum")
        && !choices.contains(value)
    {
        return Some(format!("{value} is none of {}", Value::Array(choices.clone())));
    }
    let named = |name: &str| schema.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    if let Value::Object(object) = value {
        if let Some(missing) = named("required").find(|name| !object.contains_key(*name)) {
            return Some(format!("{missing:?} is missing"));
        }
        let properties = schema.get("properties")?.as_object()?;
        return object.iter().find_map(|(name, value)| {
            let why = fault(properties.get(name)?, value)?;
            Some(format!("{name}: {why}"))
        });
    }
    let items = schema.get("items")?;
    value.as_array()?.iter().find_map(|item| fault(items, item))
}
