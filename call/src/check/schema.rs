//! Whether a value fits a JSON schema, within a bound of work: clients bring the schemas, and some would take for ever.
//!
//! Fetches nothing. A schema that is none, that can't be compiled, that refers to elsewhere, or whose check would cost too
//! much is unknown, and everything fits it.

use std::collections::{HashMap, HashSet};
use std::fmt;

use jsonschema::PatternOptions;
use serde_json::{Map, Value};

/// The most values in a schema that is compiled.
const MAX_VALUES: usize = 20_000;
/// The most regular expressions in it.
const MAX_PATTERNS: usize = 64;
/// The most memory of one compiled expression, in bytes.
const MAX_PATTERN: usize = 256 << 10;
/// The most levels of JSON that compiling may go down by way of references: each counts the schema's whole depth.
const MAX_LEVELS: usize = 1024;
/// The longest way of schemas down into a value.
const MAX_HEIGHT: usize = 256;
/// The most schemas that are held against values in one check: schemas on all ways down, times values.
const MAX_WORK: u64 = 2_000_000;

/// Where and why a value doesn't fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The keyword of the schema that refused, as `required`.
    pub keyword: String,
    /// What it said, the value's scalars left out; keys of the value may be in it.
    pub words: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.words)
    }
}

/// Whether a value fits a schema.
///
/// # Errors
/// Why it doesn't.
pub fn fits(schema: &Value, value: &Value) -> Result<(), Misfit> {
    if !schema.is_object() || !is_affordable(schema, value) {
        return Ok(());
    }
    let patterns = PatternOptions::regex()
        .size_limit(MAX_PATTERN)
        .dfa_size_limit(MAX_PATTERN);
    let options = jsonschema::options().with_pattern_options(patterns).offline();
    let Ok(validator) = options.build(schema) else {
        return Ok(());
    };
    validator.validate(value).map_err(|error| Misfit {
        keyword: error.kind().keyword().to_owned(),
        words: format!("{} at {:?}", error.masked(), error.instance_path().as_str()),
    })
}

fn is_affordable(schema: &Value, value: &Value) -> bool {
    let (size, held) = (Size::of(schema), Size::of(value));
    if size.values > MAX_VALUES || size.patterns > MAX_PATTERNS || size.levels() > MAX_LEVELS {
        return false;
    }
    let mut ways = Ways {
        root: schema,
        known: HashMap::new(),
    };
    let ways = ways.down(schema, held.depth, 0);
    ways.is_some_and(|ways| ways.schemas.saturating_mul(held.values as u64) <= MAX_WORK)
}

/// How large a JSON value is.
#[derive(Default)]
struct Size<'a> {
    values: usize,
    /// Levels below the outermost value.
    depth: usize,
    /// Regular expressions, as far as keys tell.
    patterns: usize,
    references: HashSet<&'a str>,
}

impl<'a> Size<'a> {
    fn of(value: &'a Value) -> Size<'a> {
        let mut size = Size::default();
        let mut open = vec![(value, 0)];
        while let Some((value, depth)) = open.pop() {
            size.values += 1;
            size.depth = size.depth.max(depth);
            match value {
                Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
                Value::Object(fields) => {
                    size.references.extend(fields.get("$ref").and_then(Value::as_str));
                    size.patterns += usize::from(fields.contains_key("pattern"));
                    let by_pattern = fields.get("patternProperties").and_then(Value::as_object);
                    size.patterns += by_pattern.map_or(0, serde_json::Map::len);
                    open.extend(fields.values().map(|field| (field, depth + 1)));
                }
                _ => {}
            }
        }
        size
    }

    /// The longest way down that passes no reference twice, at most.
    fn levels(&self) -> usize {
        (self.references.len() + 1).saturating_mul(self.depth)
    }
}

/// Keywords with a schema, or a list of them, for the same value.
const HERE: [&str; 7] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else"];
/// Keywords with schemas by name, for the same value.
const HERE_BY_NAME: [&str; 2] = ["dependentSchemas", "dependencies"];
/// Keywords with a schema, or a list of them, for what the value holds.
const BELOW: [&str; 9] = [
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "items",
    "prefixItems",
    "additionalItems",
    "unevaluatedItems",
    "contains",
    "contentSchema",
];
/// Keywords with schemas by name, for what the value holds.
const BELOW_BY_NAME: [&str; 2] = ["properties", "patternProperties"];
/// References that are not followed here.
const ELSEWHERE: [&str; 4] = ["$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$recursiveAnchor"];

/// The schemas that are held against values on the ways down from one.
#[derive(Clone, Copy)]
struct Down {
    schemas: u64,
    /// On the longest way.
    height: usize,
}

struct Ways<'a> {
    root: &'a Value,
    /// By the schema's address and the value's levels left; `None` while it is being counted: to meet it again is a circle.
    known: HashMap<(*const Value, usize), Option<Down>>,
}

impl<'a> Ways<'a> {
    /// Absent where there is no end, no telling, or too long a way. `levels` are those of the value.
    fn down(&mut self, schema: &'a Value, levels: usize, passed: usize) -> Option<Down> {
        let mut down = Down { schemas: 1, height: 1 };
        let Value::Object(keywords) = schema else {
            return Some(down);
        };
        let place = (std::ptr::from_ref(schema), levels);
        if let Some(known) = self.known.get(&place) {
            return *known;
        }
        let has_own_base = !std::ptr::eq(schema, self.root) && keywords.get("$id").is_some_and(Value::is_string);
        let leads_away = ELSEWHERE.iter().any(|keyword| keywords.contains_key(*keyword));
        if passed > MAX_HEIGHT || has_own_base || leads_away || self.known.len() > MAX_VALUES {
            return None;
        }
        self.known.insert(place, None);
        for (inner, levels) in self.inner(keywords, levels)? {
            let inner = self.down(inner, levels, passed + 1)?;
            down.schemas = down.schemas.saturating_add(inner.schemas);
            down.height = down.height.max(inner.height + 1);
        }
        if down.height > MAX_HEIGHT {
            return None;
        }
        self.known.insert(place, Some(down));
        Some(down)
    }

    /// The schemas inside one, each with the levels of the value that it is held against.
    fn inner(&self, keywords: &'a Map<String, Value>, levels: usize) -> Option<Vec<(&'a Value, usize)>> {
        let listed = |keyword: &&str| match keywords.get(*keyword) {
            Some(Value::Array(list)) => list.as_slice(),
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        let by_name = |keyword: &&str| {
            keywords
                .get(*keyword)
                .and_then(Value::as_object)
                .into_iter()
                .flat_map(Map::values)
        };
        let here = HERE
            .iter()
            .flat_map(listed)
            .chain(HERE_BY_NAME.iter().flat_map(by_name));
        let mut inner: Vec<_> = here.map(|schema| (schema, levels)).collect();
        if let Some(reference) = keywords.get("$ref").and_then(Value::as_str) {
            inner.push((self.root.pointer(reference.strip_prefix('#')?)?, levels));
        }
        if let Some(levels) = levels.checked_sub(1) {
            let below = BELOW
                .iter()
                .flat_map(listed)
                .chain(BELOW_BY_NAME.iter().flat_map(by_name));
            inner.extend(below.map(|schema| (schema, levels)));
        }
        Some(inner)
    }
}
