//! The catalogue of small models: what is published of each, and where. No figure is without its source.
//!
//! One comes with the program; an operator's file, in the same format, adds models or takes the place of single figures.

use super::footprint::Shape;
use crate::score::AnswerKind;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use understudy_call::nearest::{explained, nearest};

/// The catalogue that comes with the program.
const BUILTIN: &str = include_str!("catalogue.yaml");
/// No figure of a model is larger: sums of products of them stay numbers.
const LARGEST: u64 = 1 << 48;

/// Why a catalogue can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// Not YAML of this form.
    #[error("{file}:{line}: {message}")]
    Syntax {
        /// The file.
        file: String,
        /// Where.
        line: u64,
        /// What is wrong.
        message: String,
    },
    /// A value that can't be.
    #[error("{file}: {message}")]
    Value {
        /// The file.
        file: String,
        /// Which model, what is wrong, and what to do.
        message: String,
    },
}

/// Something published, and where.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sourced<T> {
    /// What is said.
    pub value: T,
    /// Who says it: a name of `sources` in a file, here its address.
    pub source: String,
}

/// One result in a benchmark.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// The benchmark's name.
    pub name: String,
    /// Per cent.
    pub value: f64,
    /// Who says it.
    pub source: String,
}

/// A way of measuring; figures of different ones are never compared.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Benchmark {
    /// What figures call it.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// Kinds of answers that it tells of.
    #[serde(rename = "for", deserialize_with = "kinds")]
    pub kinds: Vec<AnswerKind>,
}

/// A small model; what is not known is `None`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Its name where its weights are published.
    pub name: String,
    /// What servers call it besides.
    #[serde(default)]
    pub names: Vec<String>,
    /// Weights.
    pub parameters: Option<Sourced<u64>>,
    /// Tokens of input and output together.
    pub context: Option<Sourced<u64>>,
    /// What its KV cache is made of.
    pub shape: Option<Shape>,
    /// Its licence's short name.
    pub licence: Option<Sourced<String>>,
    /// Whether it is made to call tools.
    pub tools: Option<Sourced<bool>>,
    /// Whether it takes images.
    pub media: Option<Sourced<bool>>,
    /// What to know besides.
    pub note: Option<String>,
    /// What it reached in benchmarks.
    #[serde(default)]
    pub benchmarks: Vec<Figure>,
    /// When the sources were read (RFC 3339 date); the file's where it says none.
    pub checked: Option<String>,
}

impl Model {
    /// Whether a server's name of a model means this one.
    pub fn is_called(&self, name: &str) -> bool {
        let wanted = bare(name);
        std::iter::once(&self.name)
            .chain(&self.names)
            .any(|own| bare(own) == wanted)
    }

    /// Everything that names a source.
    fn sources(&mut self) -> impl Iterator<Item = &mut String> {
        let Model {
            parameters,
            context,
            shape,
            licence,
            tools,
            media,
            benchmarks,
            ..
        } = self;
        let numbers = [parameters, context].into_iter().flatten();
        let switches = [tools, media].into_iter().flatten();
        numbers
            .map(|number| &mut number.source)
            .chain(switches.map(|switch| &mut switch.source))
            .chain(shape.iter_mut().map(|shape| &mut shape.source))
            .chain(licence.iter_mut().map(|licence| &mut licence.source))
            .chain(benchmarks.iter_mut().map(|figure| &mut figure.source))
    }

    /// These figures in place of those, as far as they are said.
    fn overridden(self, by: Model) -> Model {
        let mut benchmarks = self.benchmarks;
        benchmarks.retain(|figure| by.benchmarks.iter().all(|other| other.name != figure.name));
        benchmarks.extend(by.benchmarks);
        Model {
            name: self.name,
            names: self.names.into_iter().chain(by.names).collect(),
            parameters: by.parameters.or(self.parameters),
            context: by.context.or(self.context),
            shape: by.shape.or(self.shape),
            licence: by.licence.or(self.licence),
            tools: by.tools.or(self.tools),
            media: by.media.or(self.media),
            note: by.note.or(self.note),
            benchmarks,
            checked: by.checked.or(self.checked),
        }
    }
}

/// A file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    checked: Option<String>,
    #[serde(default)]
    benchmarks: Vec<Benchmark>,
    #[serde(default)]
    sources: BTreeMap<String, String>,
    #[serde(default)]
    models: Vec<Model>,
}

/// All models that are known.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// The models, as the files list them.
    pub models: Vec<Model>,
    /// Ways of measuring, the one to show first for its kind before the others.
    pub benchmarks: Vec<Benchmark>,
}

impl Catalogue {
    /// The models that come with the program.
    pub fn builtin() -> Catalogue {
        Catalogue::default()
            .with_file("the built-in catalogue", BUILTIN)
            .expect("the file is compiled in, and a test reads it")
    }

    /// With an operator's file: a model of a known name has its figures replaced as far as the file says some, others are
    /// added. `file` is what errors call it.
    ///
    /// # Errors
    /// Says what and where, and for an unknown name the nearest known one.
    pub fn with_file(mut self, file: &str, text: &str) -> Result<Catalogue, CatalogueError> {
        let read: File = serde_saphyr::from_str(text).map_err(|error| syntax_error(file, &error))?;
        let wrong = |message: String| CatalogueError::Value {
            file: file.to_owned(),
            message,
        };
        for benchmark in read.benchmarks {
            match self.benchmarks.iter_mut().find(|known| known.name == benchmark.name) {
                Some(known) => *known = benchmark,
                None => self.benchmarks.push(benchmark),
            }
        }
        let mut seen = BTreeSet::new();
        for mut model in read.models {
            if !seen.insert(model.name.clone()) {
                return Err(wrong(format!("models: `{}` is there twice", model.name)));
            }
            check(&model, &self.benchmarks).map_err(wrong)?;
            let name = model.name.clone();
            for source in model.sources() {
                *source = address(source, &read.sources).map_err(|problem| wrong(format!("{name}: {problem}")))?;
            }
            model.checked = model.checked.or_else(|| read.checked.clone());
            match self.models.iter_mut().find(|known| known.name == model.name) {
                Some(known) => *known = std::mem::take(known).overridden(model),
                None => self.models.push(model),
            }
        }
        Ok(self)
    }
}

/// A model's name without who publishes it and how it is punctuated; points are numbers'.
fn bare(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || *letter == '.')
        .map(|letter| letter.to_ascii_lowercase())
        .collect()
}

fn kinds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<AnswerKind>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let known = || AnswerKind::ALL.map(AnswerKind::as_str);
    let kind = |name: &String| {
        AnswerKind::from_name(name)
            .ok_or_else(|| serde::de::Error::custom(format!("`{name}` is none of {}", known().join(", "))))
    };
    names.iter().map(kind).collect()
}

fn syntax_error(file: &str, error: &serde_saphyr::Error) -> CatalogueError {
    let rendered = error.without_snippet().to_string();
    CatalogueError::Syntax {
        file: file.to_owned(),
        line: error.location().map_or(1, |location| location.line()),
        message: explained(rendered.lines().next().unwrap_or("not valid YAML")),
    }
}

fn check(model: &Model, benchmarks: &[Benchmark]) -> Result<(), String> {
    let Model { name, shape, .. } = model;
    if bare(name).is_empty() {
        return Err("models: a model has no name".into());
    }
    let number = |number: &Option<Sourced<u64>>| number.as_ref().map(|number| number.value);
    let shape = |of: fn(&Shape) -> u64| shape.as_ref().map(of);
    let numbers = [
        ("parameters", number(&model.parameters)),
        ("context", number(&model.context)),
        ("shape.layers", shape(|shape| shape.layers)),
        ("shape.kv_heads", shape(|shape| shape.kv_heads)),
        ("shape.head_dim", shape(|shape| shape.head_dim)),
    ];
    for (key, value) in numbers {
        if value.is_some_and(|value| !(1..=LARGEST).contains(&value)) {
            return Err(format!(
                "{name}: {key} is none: say a number above 0, or leave it out where it is not known"
            ));
        }
    }
    for figure in &model.benchmarks {
        if !(0.0..=100.0).contains(&figure.value) {
            return Err(format!(
                "{name}: {} is {}: say it in per cent, 0 to 100",
                figure.name, figure.value
            ));
        }
        let known = || benchmarks.iter().map(|benchmark| benchmark.name.as_str());
        if !known().any(|known| known == figure.name) {
            let near =
                nearest(&figure.name, known()).map_or_else(String::new, |near| format!("did you mean `{near}`? "));
            return Err(format!(
                "{name}: there is no benchmark `{}`: {near}`benchmarks: [{{ name: …, title: …, for: [tool_call] }}]` makes one known",
                figure.name
            ));
        }
    }
    Ok(())
}

/// What a source's name stands for.
fn address(source: &str, sources: &BTreeMap<String, String>) -> Result<String, String> {
    if let Some(address) = sources.get(source) {
        return Ok(address.clone());
    }
    if source.starts_with("https://") || source.starts_with("http://") {
        return Ok(source.to_owned());
    }
    let near = nearest(source, sources.keys().map(String::as_str));
    let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    Err(format!(
        "the source `{source}` is neither a URL nor a name of `sources`: {near}a figure needs one, such as `sources: {{ ours: measured by us }}`"
    ))
}
