//! Price files: JSON `{"models": [{"model", "input", "output", "cache_read"?, "cache_write"?, "reasoning"?}]}`, USD per
//! token.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::Price;

/// No model costs as much per token: what is meant is a price per thousand or million.
const MOST: f64 = 0.01;
const UNITS: &str = "USD per token";
/// What a row may hold.
const FIELDS: [&str; 6] = ["model", "input", "output", "cache_read", "cache_write", "reasoning"];

/// What is wrong with a price file.
#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    /// Not JSON.
    #[error("it is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// JSON, but no price list.
    #[error("field `{field}`: {message}")]
    File {
        /// The field.
        field: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
    /// A model's row is wrong.
    #[error("model `{model}`, field `{field}`: {message}")]
    Row {
        /// The model, or which row it is where it has no name.
        model: String,
        /// The field.
        field: String,
        /// What is wrong and what to do.
        message: String,
    },
}

/// The models of a file and their prices.
pub(super) fn rows(text: &str) -> Result<Vec<(String, Price)>, PriceError> {
    let file: Value = serde_json::from_str(text)?;
    if let Some(units) = file.get("units").filter(|units| *units != UNITS) {
        return Err(PriceError::File {
            field: "units",
            message: format!("it is {units}, and only \"{UNITS}\" is known"),
        });
    }
    let Some(models) = file.get("models").and_then(Value::as_array) else {
        return Err(PriceError::File {
            field: "models",
            message: r#"a list is missing: write {"models": [{"model": "m", "input": 2e-6, "output": 8e-6}]}"#.into(),
        });
    };
    let mut seen = HashSet::new();
    let mut rows = Vec::with_capacity(models.len());
    for (number, model) in models.iter().enumerate() {
        let row = Row::of(number, model)?;
        let price = row.price()?;
        if !seen.insert(row.model.clone()) {
            return Err(row.error("model", "it has two rows".into()));
        }
        rows.push((row.model, price));
    }
    Ok(rows)
}

struct Row<'a> {
    model: String,
    fields: &'a Map<String, Value>,
}

impl<'a> Row<'a> {
    fn of(number: usize, value: &'a Value) -> Result<Row<'a>, PriceError> {
        let name = value
            .get("model")
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty());
        match (value.as_object(), name) {
            (Some(fields), Some(model)) => Ok(Row {
                model: model.to_owned(),
                fields,
            }),
            _ => Err(PriceError::Row {
                model: format!("models[{number}]"),
                field: "model".into(),
                message: "a name is missing".into(),
            }),
        }
    }

    fn price(&self) -> Result<Price, PriceError> {
        if let Some(unknown) = self.fields.keys().find(|key| !FIELDS.contains(&key.as_str())) {
            return Err(self.error(unknown, format!("it is not known: use {}", FIELDS.join(", "))));
        }
        let needed = |field: &'static str| {
            let price = self.per_token(field)?;
            price.ok_or_else(|| self.error(field, "it is missing".into()))
        };
        Ok(Price {
            input: needed("input")?,
            output: needed("output")?,
            cache_read: self.per_token("cache_read")?,
            cache_write: self.per_token("cache_write")?,
            reasoning: self.per_token("reasoning")?,
        })
    }

    fn per_token(&self, field: &'static str) -> Result<Option<f64>, PriceError> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(price) if (0.0..=MOST).contains(&price) => Ok(Some(price)),
                Some(price) if price > MOST => Err(self.error(
                    field,
                    format!("{value} US dollars for one token? Divide a price per million"),
                )),
                _ => Err(self.error(
                    field,
                    format!("it is {value}, and must be 0 or more US dollars per token"),
                )),
            },
        }
    }

    fn error(&self, field: &str, message: String) -> PriceError {
        PriceError::Row {
            model: self.model.clone(),
            field: field.to_owned(),
            message,
        }
    }
}
