//! Tokens to money, or to "unknown": list prices per token, from a file that names its source.
//!
//! Never guesses: a model that is not in the table, or that providers sell at different prices, has no price. Prices
//! are flat; where a provider charges more for long prompts, the price is that of short ones.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde::Deserialize;

use crate::call::Usage;

/// USD per token.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Price {
    /// Input tokens neither read from nor written to a cache.
    pub input: f64,
    /// Output tokens, reasoning included.
    pub output: f64,
    /// Input tokens read from the provider's cache; absent = as [`Price::input`].
    pub cache_read: Option<f64>,
    /// Input tokens written to the provider's cache; absent = as [`Price::input`].
    pub cache_write: Option<f64>,
}

impl Price {
    /// What a call cost, in USD. None where the provider did not say how many tokens went in or came out.
    pub fn cost(&self, usage: &Usage) -> Option<f64> {
        let (input, output) = (usage.input?.max(0), usage.output?.max(0));
        let cached = usage.cached.unwrap_or(0).clamp(0, input);
        let cache_write = usage.cache_write.unwrap_or(0).clamp(0, input - cached);
        let fresh = input - cached - cache_write;
        let input_cost = fresh as f64 * self.input
            + cached as f64 * self.cache_read.unwrap_or(self.input)
            + cache_write as f64 * self.cache_write.unwrap_or(self.input);
        Some(input_cost + output as f64 * self.output)
    }
}

/// Prices by model name.
#[derive(Clone, Debug)]
pub struct PriceTable {
    by_name: HashMap<String, Price>,
    /// By the name without what routers and hosts put around it; None where those differ in price.
    by_bare_name: HashMap<String, Option<Price>>,
}

#[derive(Deserialize)]
struct PriceFile {
    models: Vec<PriceRow>,
}

#[derive(Deserialize)]
struct PriceRow {
    model: String,
    #[serde(flatten)]
    price: Price,
}

impl PriceTable {
    /// The prices that come with the program (`prices.json`, which names its source and version).
    pub fn builtin() -> PriceTable {
        let file: PriceFile =
            serde_json::from_str(include_str!("../prices.json")).expect("the file is compiled in, and a test reads it");
        let mut table = PriceTable {
            by_name: HashMap::new(),
            by_bare_name: HashMap::new(),
        };
        for row in file.models {
            match table.by_bare_name.entry(bare(&row.model).to_owned()) {
                Entry::Vacant(vacant) => {
                    vacant.insert(Some(row.price));
                }
                Entry::Occupied(mut occupied) if *occupied.get() != Some(row.price) => {
                    occupied.insert(None);
                }
                Entry::Occupied(_) => {}
            }
            table.by_name.insert(row.model, row.price);
        }
        table
    }

    /// The price of a model as a request or response names it: by its whole name, else without the date of its
    /// snapshot, else without the provider that routers and hosts put in front.
    pub fn lookup(&self, model: &str) -> Option<&Price> {
        let names = [model, without_date(model), bare(model), without_date(bare(model))];
        let by_name = names.iter().find_map(|name| self.by_name.get(*name));
        by_name.or_else(|| {
            names
                .iter()
                .find_map(|name| self.by_bare_name.get(*name))
                .and_then(Option::as_ref)
        })
    }
}

/// `openai/gpt-x`, `us.anthropic.claude-x-v1:0` → the model's own name.
fn bare(model: &str) -> &str {
    let name = model.rsplit('/').next().unwrap_or(model);
    // Bedrock: `[region.]vendor.model-vN:M`; elsewhere a dot stands between digits.
    let name = match name.rfind('.') {
        Some(dot)
            if name[..dot]
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'.' | b'-')) =>
        {
            &name[dot + 1..]
        }
        _ => name,
    };
    match name.rsplit_once("-v") {
        Some((stem, version)) if version.contains(':') => stem,
        _ => name,
    }
}

/// `gpt-x-2024-08-06`, `claude-x-20250929`, `claude-x@20250929` → the model's name.
fn without_date(model: &str) -> &str {
    let is_date = |suffix: &str| {
        let digits: String = suffix.chars().filter(|c| *c != '-').collect();
        let separated =
            suffix.len() == 8 || (suffix.len() == 10 && [4, 7].iter().all(|at| suffix.as_bytes()[*at] == b'-'));
        separated && digits.len() == 8 && digits.starts_with("20") && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    for length in [10, 8] {
        let Some(cut) = model.len().checked_sub(length + 1) else {
            continue;
        };
        let is_separated = matches!(model.as_bytes()[cut], b'-' | b'@');
        if is_separated && model.get(cut + 1..).is_some_and(is_date) {
            return &model[..cut];
        }
    }
    model
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: i64, cached: Option<i64>, cache_write: Option<i64>, output: i64) -> Usage {
        Usage {
            input: Some(input),
            cached,
            cache_write,
            output: Some(output),
            reasoning: None,
        }
    }

    #[test]
    fn cache_reads_and_writes_are_billed_apart_from_the_rest_of_the_input() {
        let price = Price {
            input: 3.0,
            output: 15.0,
            cache_read: Some(0.5),
            cache_write: Some(4.0),
        };
        assert_eq!(
            price.cost(&usage(100, Some(60), Some(30), 2)),
            Some(10.0 * 3.0 + 60.0 * 0.5 + 30.0 * 4.0 + 30.0)
        );
        assert_eq!(price.cost(&usage(100, None, None, 2)), Some(330.0));
        let flat = Price {
            cache_read: None,
            cache_write: None,
            ..price
        };
        assert_eq!(flat.cost(&usage(100, Some(60), Some(30), 0)), Some(300.0));
        // A provider that counts cached tokens apart must not make a negative cost.
        assert_eq!(price.cost(&usage(10, Some(60), Some(30), 0)), Some(5.0));
    }

    #[test]
    fn no_tokens_known_is_no_cost_rather_than_zero() {
        let price = *PriceTable::builtin().lookup("gpt-4o").unwrap();
        assert_eq!(price.cost(&Usage::default()), None);
        assert_eq!(
            price.cost(&Usage {
                input: Some(1),
                ..Usage::default()
            }),
            None
        );
        assert_eq!(price.cost(&usage(0, None, None, 0)), Some(0.0));
    }

    #[test]
    fn names_are_found_without_date_and_provider() {
        let table = PriceTable::builtin();
        for (written, name) in [
            ("gpt-4o-2024-08-06", "gpt-4o"),
            ("openai/gpt-4o-mini", "gpt-4o-mini"),
            ("claude-opus-5@20261101", "claude-opus-5"),
            (
                "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
                "claude-sonnet-4-5-20250929",
            ),
            ("mistral-small", "mistral/mistral-small"),
            ("models/gemini-2.5-pro", "gemini-2.5-pro"),
        ] {
            assert_eq!(table.lookup(written), table.by_name.get(name), "{written}");
            assert!(table.lookup(written).is_some(), "{written}");
        }
    }

    #[test]
    fn another_model_or_a_price_that_hosts_differ_on_is_unknown() {
        let table = PriceTable::builtin();
        for unknown in [
            "",
            "gpt",
            "gpt-4o-audio-preview",
            "gpt-4o-2024",
            "my-gpt-4o",
            "gpt-oss-120b",
            "é-20240101é",
            "-20240101",
        ] {
            assert_eq!(table.lookup(unknown), None, "{unknown}");
        }
        assert!(table.lookup("groq/openai/gpt-oss-120b").is_some());
    }
}
