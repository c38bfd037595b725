//! The configuration file and the environment, joined into one table. The table also records where each key was set.

use std::collections::{BTreeMap, HashMap};

use toml::Value;
use toml::de::{DeTable, DeValue};

use crate::error::{Fault, Origin};

/// Keys of this server whose environment variables contain no `__`.
const TOP_LEVEL_SCALARS: [&str; 2] = ["data_dir", "drain_timeout"];

/// A parsed configuration before it is decoded to types. The path of a key has the form `numbers[2].voice_url`.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) table: toml::Table,
    origins: HashMap<String, Origin>,
    /// The environment variables, each under the path of its key. The type of a variable's value is not known until the
    /// key is decoded.
    variables: BTreeMap<String, Variable>,
}

#[derive(Debug)]
struct Variable {
    /// Interpretations of the variable's value that have not been tried. The last element is tried next.
    readings: Vec<Value>,
    /// Error messages of the interpretations that failed.
    errors: Vec<String>,
}

impl Document {
    /// Parses the file. If the file is not valid TOML, returns all syntax errors that the parser can find.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let (table, errors) = DeTable::parse_recoverable(text);
        let lines = Lines::of(text);
        if !errors.is_empty() {
            let fault = |error: &toml::de::Error| Fault {
                origin: error.span().map_or(Origin::WholeFile, |span| lines.at(span.start)),
                path: String::new(),
                message: error.message().to_owned(),
            };
            return Err(errors.iter().map(fault).collect());
        }
        let mut document = Self::default();
        document.table = document.convert_table(&lines, "", table.get_ref());
        Ok(document)
    }

    /// Sets the keys of the `TANDEM_*` variables to the values of these variables. Returns a fault for each variable
    /// whose path is invalid.
    pub(crate) fn overlay(&mut self, environment: impl IntoIterator<Item = (String, String)>) -> Vec<Fault> {
        let mut ours: Vec<(String, Vec<String>, String)> = environment
            .into_iter()
            .filter_map(|(name, text)| {
                let key = name.strip_prefix("TANDEM_")?.to_ascii_lowercase();
                // A container orchestrator sets variables such as TANDEM_PORT if a service has the name tandem. These
                // variables are not settings of the server.
                let ours = key.contains("__") || TOP_LEVEL_SCALARS.contains(&key.as_str());
                ours.then(|| (name, key.split("__").map(str::to_owned).collect(), text))
            })
            .collect();
        // Array elements must be set in numerical order, with element 10 after element 9.
        ours.sort_by_key(|(_, segments, _)| {
            segments.iter().map(|segment| (segment.parse::<usize>().unwrap_or(0), segment.clone())).collect::<Vec<_>>()
        });
        let mut faults = Vec::new();
        for (name, segments, text) in ours {
            if let Err(message) = self.set(&name, &segments, text) {
                faults.push(Fault { origin: Origin::Variable(name), path: String::new(), message });
            }
        }
        faults
    }

    /// Returns where the key was set. If the key was not set, returns where the nearest enclosing table was set.
    pub(crate) fn origin(&self, path: &str) -> Origin {
        let mut path = path;
        loop {
            if let Some(origin) = self.origins.get(path) {
                return origin.clone();
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = path.get(..end).unwrap_or_default(),
                None => return Origin::WholeFile,
            }
        }
    }

    /// Returns whether the key was set in the file or the environment.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.origins.contains_key(path)
    }

    /// Replaces the value of a variable by its next interpretation. The variable is at `path` or above `path`. `error`
    /// says why the current interpretation failed. If no interpretation remains, returns the most informative error.
    pub(crate) fn try_next_reading(&mut self, path: &str, error: String) -> Result<(), String> {
        let above = path.match_indices('[').map(|(end, _)| path.get(..end).unwrap_or_default());
        let Some(at) = above.chain([path]).find(|key| self.variables.contains_key(*key)).map(str::to_owned) else {
            return Err(error);
        };
        let Some(variable) = self.variables.get_mut(&at) else { return Err(error) };
        variable.errors.push(error);
        let Some(value) = variable.readings.pop() else {
            let about_type = |error: &&String| error.starts_with("invalid type");
            let informative = variable.errors.iter().find(|error| !about_type(error));
            return Err(informative.or(variable.errors.first()).cloned().unwrap_or_default());
        };
        if let Some(place) = self.value_mut(&at) {
            *place = value;
        }
        Ok(())
    }

    /// Returns the number of elements of a list at the top of the document. Returns 0 if there is no such list.
    pub(crate) fn length(&self, list: &str) -> usize {
        self.table.get(list).and_then(Value::as_array).map_or(0, Vec::len)
    }

    /// Returns an element of a list at the top of the document.
    pub(crate) fn element(&self, list: &str, index: usize) -> Option<&Value> {
        self.table.get(list)?.as_array()?.get(index)
    }

    /// Puts an element into a list at the top of the document. Empty tables fill the places before it.
    pub(crate) fn put_element(&mut self, (list, index): (&str, usize), element: Value, origin: Origin) {
        let array = self.table.entry(list.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
        let Value::Array(array) = array else { return };
        array.truncate(index);
        array.resize_with(index, || Value::Table(toml::Table::new()));
        array.push(element);
        let path = format!("{list}[{index}]");
        self.origins.retain(|key, _| !key.strip_prefix(&path).is_some_and(|rest| rest.starts_with('.')));
        self.origins.insert(path, origin);
    }

    /// Removes the value at the path. If the path selects an array element, removes the whole array. Otherwise the
    /// other elements would get wrong indexes. Returns false if the path has no value.
    pub(crate) fn remove(&mut self, path: &str) -> bool {
        let path = path.trim_end_matches(']').rsplit_once('[').map_or(path, |(array, index)| {
            if index.bytes().all(|octet| octet.is_ascii_digit()) { array } else { path }
        });
        let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
        match parent {
            "" => self.table.remove(key).is_some(),
            parent => match self.value_mut(parent) {
                Some(Value::Table(table)) => table.remove(key).is_some(),
                _ => false,
            },
        }
    }

    /// Sets a key to a text. Returns false if the table around the key does not exist.
    pub(crate) fn put(&mut self, path: &str, text: &str) -> bool {
        let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
        let table = match parent {
            "" => Some(&mut self.table),
            parent => self.value_mut(parent).and_then(Value::as_table_mut),
        };
        table.map(|table| table.insert(key.to_owned(), Value::String(text.to_owned()))).is_some()
    }

    /// Returns the text of a key as it was configured, or `None` if the value is not text.
    pub(crate) fn text(&mut self, path: &str) -> Option<String> {
        let from_variable = self.variables.contains_key(path);
        match self.value_mut(path)? {
            Value::String(text) => Some(text.clone()),
            // A variable is interpreted as a list last, so this list was configured as one text.
            Value::Array(list) if from_variable => {
                Some(list.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?.join(", "))
            }
            _ => None,
        }
    }

    fn convert_table(&mut self, lines: &Lines, path: &str, table: &DeTable<'_>) -> toml::Table {
        let mut converted = toml::Table::new();
        for (key, value) in table {
            let name = key.get_ref().to_string();
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            self.origins.insert(path.clone(), lines.at(key.span().start));
            let value = self.convert(lines, &path, value.get_ref());
            converted.insert(name, value);
        }
        converted
    }

    fn convert(&mut self, lines: &Lines, path: &str, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(string) => Value::String(string.to_string()),
            DeValue::Boolean(boolean) => Value::Boolean(*boolean),
            DeValue::Datetime(datetime) => Value::Datetime(*datetime),
            DeValue::Integer(integer) => i64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix())
                .map_or_else(|_| Value::String(integer.to_string()), Value::Integer),
            DeValue::Float(float) => float
                .as_str()
                .replace('_', "")
                .parse()
                .map_or_else(|_| Value::String(float.as_str().to_owned()), Value::Float),
            DeValue::Table(table) => Value::Table(self.convert_table(lines, path, table)),
            DeValue::Array(array) => {
                let mut converted = Vec::new();
                for (index, element) in array.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.origins.insert(path.clone(), lines.at(element.span().start));
                    converted.push(self.convert(lines, &path, element.get_ref()));
                }
                Value::Array(converted)
            }
        }
    }

    fn set(&mut self, name: &str, segments: &[String], text: String) -> Result<(), String> {
        let origin = Origin::Variable(name.to_owned());
        let mut path = String::new();
        let mut place: Option<&mut Value> = None;
        for segment in segments {
            if segment.is_empty() {
                return Err("an empty name between two \"__\"".to_owned());
            }
            let next = match place {
                None => {
                    path.push_str(segment);
                    self.table.entry(segment.clone()).or_insert_with(|| Value::Table(toml::Table::new()))
                }
                Some(value) => match segment.parse::<usize>() {
                    Ok(index) => {
                        // The value was created as a table for an earlier segment, but this index shows that the value
                        // is an array.
                        if value.as_table().is_some_and(toml::Table::is_empty) {
                            *value = Value::Array(Vec::new());
                        }
                        let Value::Array(array) = value else { return Err(format!("{path} is not an array")) };
                        path = format!("{path}[{index}]");
                        if array.len() == index {
                            array.push(Value::Table(toml::Table::new()));
                        }
                        let length = array.len();
                        array
                            .get_mut(index)
                            .ok_or_else(|| format!("{path} skips indices: the next index is {length}"))?
                    }
                    Err(_) => {
                        let Value::Table(table) = value else { return Err(format!("{path} is not a table")) };
                        path = format!("{path}.{segment}");
                        table.entry(segment.clone()).or_insert_with(|| Value::Table(toml::Table::new()))
                    }
                },
            };
            self.origins.entry(path.clone()).or_insert_with(|| origin.clone());
            place = Some(next);
        }
        let list = text.split(',').map(|part| Value::String(part.trim().to_owned())).collect();
        let mut readings = vec![Value::Array(list), Value::String(text.clone())];
        if let Some(value) = toml_value(&text) {
            readings.push(value);
        }
        let mut replaced = None;
        if let (Some(place), Some(first)) = (place, readings.pop()) {
            replaced = Some(std::mem::replace(place, first));
        }
        // Only a table or a list has keys whose origins must be removed.
        if replaced.is_some_and(|old| old.as_table().is_some_and(|table| !table.is_empty()) || old.is_array()) {
            let within = |key: &String| key.strip_prefix(&path).is_some_and(|rest| rest.starts_with(['.', '[']));
            self.origins.retain(|key, _| !within(key));
        }
        self.origins.insert(path.clone(), origin);
        self.variables.insert(path, Variable { readings, errors: Vec::new() });
        Ok(())
    }

    fn value_mut(&mut self, path: &str) -> Option<&mut Value> {
        let mut segments = path.split('.');
        let mut place = step(None, Some(&mut self.table), segments.next()?)?;
        for segment in segments {
            place = step(Some(place), None, segment)?;
        }
        Some(place)
    }
}

/// Returns the value that one segment of a path selects. The segment has the form `key` or `key[0]`. The function
/// searches in `value`. If `value` is `None`, it searches in `root`.
fn step<'a>(value: Option<&'a mut Value>, root: Option<&'a mut toml::Table>, segment: &str) -> Option<&'a mut Value> {
    let table = match value {
        Some(value) => value.as_table_mut()?,
        None => root?,
    };
    let mut parts = segment.split('[');
    let mut place = table.get_mut(parts.next()?)?;
    for index in parts {
        place = place.as_array_mut()?.get_mut(index.trim_end_matches(']').parse::<usize>().ok()?)?;
    }
    Some(place)
}

fn toml_value(text: &str) -> Option<Value> {
    toml::from_str::<toml::Table>(&format!("value = {text}")).ok()?.remove("value")
}

/// The places of the line breaks in a text, in ascending order.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, octet)| *octet == b'\n').map(|(place, _)| place).collect())
    }

    /// Returns the line of the octet with this offset.
    fn at(&self, offset: usize) -> Origin {
        Origin::Line(self.0.partition_point(|line_break| *line_break < offset) + 1)
    }
}
