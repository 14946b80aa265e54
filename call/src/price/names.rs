//! Which names of a model have the same price for certain.
//!
//! Models with open weights are sold by many, each at a price of its own: a host's prefix is never taken off, nor put on.

use std::borrow::Cow;

/// Prefixes, in price lists, of makers whose own API names the model without.
const MAKERS: [&str; 6] = ["gemini", "mistral", "deepseek", "xai", "moonshot", "zai"];

/// What routers and clouds put in front of models that nobody else sells.
const PREFIXES: [&str; 10] = [
    "models",
    "publishers",
    "openai",
    "anthropic",
    "google",
    "gemini",
    "x-ai",
    "openrouter",
    "vertex_ai",
    "bedrock",
];

/// Where Bedrock may compute, in front of its model ids. Government regions have prices of their own.
const REGIONS: [&str; 9] = ["us", "eu", "apac", "jp", "au", "ca", "in", "sa", "global"];

/// Whose models Bedrock sells at the price that their maker asks.
const SAME_ON_BEDROCK: [&str; 2] = ["anthropic", "amazon"];

/// Snapshots that have not the price of the model that they are one of.
const SNAPSHOTS_APART: [&str; 1] = ["gpt-4o-2024-05-13"];

/// The names under which a model of the wire may stand in a price list, the closest first.
pub(super) fn of_wire(model: &str) -> Vec<Cow<'_, str>> {
    let mut names = vec![Cow::Borrowed(model)];
    let bare = without_prefixes(model);
    names.push(Cow::Borrowed(bare));
    if let Some((vendor, id)) = bedrock(bare) {
        let unversioned = without_version(id);
        names.extend([id, unversioned].map(|id| Cow::Owned(format!("{vendor}.{id}"))));
        if SAME_ON_BEDROCK.contains(&vendor) {
            names.extend([id, unversioned].map(Cow::Borrowed));
        }
    }
    if model.contains("anthropic/") {
        // As OpenRouter writes `claude-sonnet-4-5`.
        names.push(Cow::Owned(bare.replace('.', "-")));
    }
    let undated: Vec<Cow<'_, str>> = names
        .iter()
        .filter_map(|name| without_date(name))
        .map(Cow::Owned)
        .collect();
    names.extend(undated);
    names
}

/// The name of a list's model at its maker's own API, where the list puts the maker in front.
pub(super) fn at_its_maker(row: &str) -> Option<&str> {
    match row.split_once('/') {
        Some((maker, name)) => (MAKERS.contains(&maker) && !name.contains('/')).then_some(name),
        None => {
            let (vendor, id) = bedrock(row)?;
            let is_whole = row.len() == vendor.len() + 1 + id.len();
            (vendor == "amazon" && is_whole).then(|| without_version(id))
        }
    }
}

/// `models/m`, `openrouter/openai/m`, `projects/…/publishers/google/models/m`, the ARN of an inference profile → `m`.
fn without_prefixes(model: &str) -> &str {
    let Some((prefix, name)) = model.rsplit_once('/') else {
        return model;
    };
    let is_cloud = prefix.starts_with("projects/") || (prefix.starts_with("arn:aws") && prefix.contains(":bedrock:"));
    let is_known = is_cloud || prefix.split('/').all(|segment| PREFIXES.contains(&segment));
    if is_known { name } else { model }
}

/// `[region.]vendor.model` → vendor and model; elsewhere dots stand between digits.
fn bedrock(name: &str) -> Option<(&str, &str)> {
    let is_word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let (first, rest) = name.split_once('.')?;
    let (vendor, id) = match rest.split_once('.') {
        Some((vendor, id)) if REGIONS.contains(&first) => (vendor, id),
        _ => (first, rest),
    };
    let begins_with_letter = |text: &str| text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    (is_word(vendor) && begins_with_letter(vendor) && begins_with_letter(id)).then_some((vendor, id))
}

/// `model-v1:0` → `model`.
fn without_version(id: &str) -> &str {
    match id.rsplit_once("-v") {
        Some((stem, version)) if version.contains(':') && version.starts_with(|c: char| c.is_ascii_digit()) => stem,
        _ => id,
    }
}

/// `gpt-x-2024-08-06`, `claude-x-20250929`, `claude-x@20250929` → the model's name; none where there is no date.
fn without_date(model: &str) -> Option<String> {
    let is_date = |suffix: &str| {
        let digits: String = suffix.chars().filter(|c| *c != '-').collect();
        let separated =
            suffix.len() == 8 || (suffix.len() == 10 && [4, 7].iter().all(|at| suffix.as_bytes()[*at] == b'-'));
        separated && digits.len() == 8 && digits.starts_with("20") && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    if SNAPSHOTS_APART.contains(&model) {
        return None;
    }
    [10, 8].into_iter().find_map(|length| {
        let cut = model.len().checked_sub(length + 1)?;
        let is_separated = matches!(model.as_bytes()[cut], b'-' | b'@');
        let is_dated = is_separated && model.get(cut + 1..).is_some_and(is_date);
        is_dated.then(|| model[..cut].to_owned())
    })
}
