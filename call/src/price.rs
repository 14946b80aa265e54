//! Tokens to money, or to "unknown": list prices per token, from files that name their source.
//!
//! Never guesses: a model that is in no table, or that goes by a name that several sell at different prices, has no
//! price. Prices are flat; where a provider charges more for long prompts, the price is that of short ones, and premiums
//! of regions are left out: an operator's own file says what is paid.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::call::Usage;

mod file;
mod names;

pub use file::PriceError;

/// USD per token. A class without a price of its own is billed as the class that it is part of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Input tokens neither read from nor written to a cache.
    pub input: f64,
    /// Output tokens, reasoning included unless [`Price::reasoning`] says otherwise.
    pub output: f64,
    /// Input tokens read from the provider's cache; absent = as [`Price::input`].
    pub cache_read: Option<f64>,
    /// Input tokens written to the provider's cache; absent = as [`Price::input`].
    pub cache_write: Option<f64>,
    /// Output tokens spent on reasoning; absent = as [`Price::output`].
    pub reasoning: Option<f64>,
}

impl Price {
    /// What a call cost, in USD. None where the provider did not say how many tokens went in, or came out of a model
    /// whose output costs something.
    pub fn cost(&self, usage: &Usage) -> Option<f64> {
        let costs_output = self.output > 0.0 || self.reasoning.is_some_and(|price| price > 0.0);
        let input = usage.input?.max(0);
        let output = usage.output.or((!costs_output).then_some(0))?.max(0);
        let cached = usage.cached.unwrap_or(0).clamp(0, input);
        let cache_write = usage.cache_write.unwrap_or(0).clamp(0, input - cached);
        let reasoning = usage.reasoning.unwrap_or(0).clamp(0, output);
        let classes = [
            (input - cached - cache_write, self.input),
            (cached, self.cache_read.unwrap_or(self.input)),
            (cache_write, self.cache_write.unwrap_or(self.input)),
            (output - reasoning, self.output),
            (reasoning, self.reasoning.unwrap_or(self.output)),
        ];
        Some(classes.iter().map(|(tokens, price)| *tokens as f64 * price).sum())
    }
}

/// Prices by model name: an operator's own, where given, before those that come with the program.
#[derive(Clone, Debug)]
pub struct PriceTable {
    lists: Vec<PriceList>,
}

/// The prices of one file.
#[derive(Clone, Debug, Default)]
struct PriceList {
    by_name: HashMap<String, Price>,
    /// By the name that a model has at its maker's own API; None where one name has two prices.
    by_own_name: HashMap<String, Option<Price>>,
}

impl PriceTable {
    /// The prices that come with the program (`prices.json`, which names its source and version).
    pub fn builtin() -> PriceTable {
        let list =
            PriceList::read(include_str!("../prices.json")).expect("the file is compiled in, and a test reads it");
        PriceTable { lists: vec![list] }
    }

    /// With an operator's file, in the format of `prices.json`, whose models take the place of those of the same name,
    /// with date or prefix or without.
    ///
    /// # Errors
    /// Names the model and the field that are wrong.
    pub fn with_file(mut self, text: &str) -> Result<PriceTable, PriceError> {
        self.lists.insert(0, PriceList::read(text)?);
        Ok(self)
    }

    /// The price of a model as a request or response names it: by its whole name, else without what a provider or router
    /// puts around it, where that makes no difference to the price.
    pub fn lookup(&self, model: &str) -> Option<&Price> {
        let names = names::of_wire(model);
        self.lists
            .iter()
            .find_map(|list| names.iter().find_map(|name| list.get(name)))
    }
}

impl PriceList {
    fn read(text: &str) -> Result<PriceList, PriceError> {
        let mut list = PriceList::default();
        for (model, price) in file::rows(text)? {
            if let Some(own) = names::at_its_maker(&model) {
                match list.by_own_name.entry(own.to_owned()) {
                    Entry::Vacant(vacant) => {
                        vacant.insert(Some(price));
                    }
                    Entry::Occupied(mut occupied) if *occupied.get() != Some(price) => {
                        occupied.insert(None);
                    }
                    Entry::Occupied(_) => {}
                }
            }
            list.by_name.insert(model, price);
        }
        Ok(list)
    }

    fn get(&self, name: &str) -> Option<&Price> {
        self.by_name.get(name).or_else(|| self.by_own_name.get(name)?.as_ref())
    }
}

#[cfg(test)]
mod tests;
