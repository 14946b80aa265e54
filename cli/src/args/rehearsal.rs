//! What can be typed after the commands that rehearse candidates, and take home what is known of them.

use super::{DataArguments, RowFormat};
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use understudy_call::call::Api;
use understudy_call::translate::SPOKEN;
use understudy_proxy::config::bytes_of;

/// Flags of `candidates`.
#[derive(Debug, Args)]
pub(crate) struct CandidatesArguments {
    /// Only this task, with every model and why it is in or out: its id, or its name [default: all, the first of each].
    pub(crate) task: Option<String>,
    /// Licences that will do, by short name (`apache-2.0,mit`); `permissive` is those that ask for little more than a notice
    /// [default: all].
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) licence: Vec<String>,
    /// The most memory for weights and KV cache, as `8GiB` [default: any].
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) memory: Option<u64>,
    /// Bits of a weight: 16, as published and as benchmarks were run with, 8 or 4.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) bits: Bits,
    /// Calls that the model answers at once: each has a KV cache of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub(crate) at_once: u64,
    /// A file of models, in the format of the built-in catalogue: adds some, or takes the place of single figures.
    #[arg(long, value_name = "FILE")]
    pub(crate) catalogue: Option<PathBuf>,
    /// How they are printed; all but the table have every model and the source of each figure.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: RowFormat,
    #[command(flatten)]
    pub(crate) place: DataArguments,
}

/// How finely weights are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bits {
    /// 4 bits, 4.5 with their scales.
    #[value(name = "4")]
    Four,
    /// 8 bits, 8.5 with their scales.
    #[value(name = "8")]
    Eight,
    /// As published.
    #[default]
    #[value(name = "16")]
    Sixteen,
}

fn size(text: &str) -> Result<u64, String> {
    match bytes_of(text) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err(format!("`{text}` is not a size such as 500MiB or 8GiB")),
    }
}

/// Flags of `replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// The task's id, or its name.
    #[arg(long)]
    pub(crate) task: String,
    /// The candidate: an upstream of the config, or any name where `--url` says where it is.
    #[arg(long, value_name = "CANDIDATE")]
    pub(crate) to: String,
    /// The base URL of the candidate, if it is not in a config.
    #[arg(long, requires = "model")]
    pub(crate) url: Option<String>,
    /// What the candidate at `--url` speaks, as `api` of an upstream [default: openai_chat].
    #[arg(long, requires = "url", value_parser = spoken)]
    pub(crate) api: Option<Api>,
    /// The model that the candidate is asked for.
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Environment variable that holds the candidate's key, with `--url`.
    #[arg(long, value_name = "NAME", requires = "url")]
    pub(crate) key_env: Option<String>,
    /// Hold the candidate's answers to a form, by a JSON schema (`response_format`): the request's own, one made of its tools,
    /// or the form that the recorded answers have in common. For servers that follow it; a version of its own.
    #[arg(long)]
    pub(crate) constrain: bool,
    /// An upstream of the config that compares each written answer with the recorded one, blind and in both orders; it is
    /// neither the candidate nor the baseline. Counts against `--max-calls` and `--max-usd`.
    #[arg(long, value_name = "UPSTREAM")]
    pub(crate) judge: Option<String>,
    /// The model that the judge is asked for [default: its upstream's].
    #[arg(long, value_name = "MODEL", requires = "judge")]
    pub(crate) judge_model: Option<String>,
    /// Ask the baseline again for every call of the sample: also where the noise floor is known well enough already, and
    /// where no key of the baseline is configured.
    #[arg(long)]
    pub(crate) floor: bool,
    /// Calls sent a second, at most.
    #[arg(long, value_name = "CALLS", value_parser = above_zero)]
    pub(crate) rate: Option<f64>,
    /// Calls sent in all, at most: to candidate and baseline, retries included.
    #[arg(long, value_name = "N")]
    pub(crate) max_calls: Option<u64>,
    /// US dollars, at most; ends the replay where a price is not known.
    #[arg(long, value_name = "USD", value_parser = above_zero)]
    pub(crate) max_usd: Option<f64>,
    /// The most calls in the sample; a larger sample holds the smaller one.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) limit: usize,
    /// Changes the sample.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Calls in flight at once; an upstream's `max_in_flight` holds besides.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) concurrency: usize,
    /// The longest wait for one answer, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub(crate) timeout: u64,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: RowFormat,
    #[command(flatten)]
    pub(crate) place: DataArguments,
}

/// An API that candidates speak.
fn spoken(text: &str) -> Result<Api, String> {
    let known = SPOKEN.into_iter().find(|api| api.as_str() == text);
    known.ok_or_else(|| format!("use one of {}", SPOKEN.map(Api::as_str).join(", ")))
}

/// A number above 0.
fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err(format!("`{text}` is not a number above 0")),
    }
}

/// What to do with feedback.
#[derive(Debug, Subcommand)]
pub(crate) enum FeedbackCommand {
    /// Keep the feedback in files of JSON lines.
    ///
    /// A line names a kept call by `call_id`, or by `id` or `external_id` as it was imported with, and says one of: `label`
    /// (the right answer, as text or JSON), `correct` (whether the recorded answer is right), `score` (0 to 1, how good the
    /// recorded answer is). The same file again adds nothing; a later word on a call outranks an earlier one.
    Import(FeedbackArguments),
}

/// Flags of `feedback import`.
#[derive(Debug, Args)]
pub(crate) struct FeedbackArguments {
    /// Files of JSON lines.
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) place: DataArguments,
}

/// Flags of `verdict`.
#[derive(Debug, Args)]
pub(crate) struct VerdictArguments {
    /// Only this task: its id, or its name.
    #[arg(long)]
    pub(crate) task: Option<String>,
    /// Instead of the verdicts, what they amount to: a diff of the config file, to be reviewed and applied.
    #[arg(long, requires = "config")]
    pub(crate) propose: bool,
    /// How they are printed.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: RowFormat,
    #[command(flatten)]
    pub(crate) place: DataArguments,
}

/// Flags of `report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// The file; `-` is standard output.
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    pub(crate) out: PathBuf,
    /// Put in where each candidate disagrees, answers side by side: masked text of calls, as they are kept.
    #[arg(long)]
    pub(crate) texts: bool,
    #[command(flatten)]
    pub(crate) place: DataArguments,
}

/// The one value that `export --format` ever had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DatasetFormat {
    /// JSON lines in OpenAI chat shape.
    #[default]
    Openai,
}

/// Shapes of the lines of a data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DatasetShape {
    /// `{messages, tools?}`, the answer last: OpenAI's fine-tuning, TRL, Axolotl, LLaMA-Factory.
    #[default]
    Chat,
    /// `{prompt, completion, tools?}`, both lists of messages: TRL learns the completion alone then.
    PromptCompletion,
}

/// What goes into a data set.
#[derive(Debug, Args)]
#[command(next_help_heading = "What goes into the data set")]
pub(crate) struct DatasetArguments {
    /// The shape of the lines.
    #[arg(long = "as", value_name = "SHAPE", value_enum, default_value_t)]
    pub(crate) shape: DatasetShape,
    /// Share of conversations for testing, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    pub(crate) test_share: f64,
    /// Share of conversations for validation, 0 to 1 [default: 0 of `export`, 0.1 of `specialise`].
    #[arg(long, value_name = "SHARE")]
    pub(crate) validation_share: Option<f64>,
    /// Changes which conversations are held out, and what `--limit` draws.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// The most examples, in all parts together: a seeded sample.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// No answer (tools called, a label, or all else of a kind) gets more than an even share of train.jsonl.
    #[arg(long)]
    pub(crate) balance: bool,
    /// The most tokens of an example: as the provider counted them, else a quarter of its bytes.
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<i64>,
    /// Leave out answers that hold masked values. They are surrogates, the same as in the prompt that they were copied from.
    #[arg(long)]
    pub(crate) without_masked: bool,
}

/// Flags of `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// The task's id, or its name.
    #[arg(long)]
    pub(crate) task: String,
    /// Kept for scripts: `openai` is `--as chat`.
    #[arg(long, value_enum, default_value_t, hide = true)]
    pub(crate) format: DatasetFormat,
    /// The folder for train.jsonl, validation.jsonl, test.jsonl and the card.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) out: PathBuf,
    /// The model that you will train with it, by the name that it will be served under: rehearsals and verdicts leave out what
    /// it learns from.
    #[arg(long = "for", value_name = "MODEL")]
    pub(crate) for_model: Option<String>,
    #[command(flatten)]
    pub(crate) set: DatasetArguments,
    #[command(flatten)]
    pub(crate) place: DataArguments,
}

/// How a model is made to fit a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Method {
    /// Low-rank adapters beside frozen weights.
    #[default]
    Lora,
    /// The same, on weights of four bits.
    Qlora,
    /// All weights.
    Full,
}

/// Flags of `specialise`.
#[derive(Debug, Args)]
pub(crate) struct SpecialiseArguments {
    /// The task's id, or its name.
    #[arg(value_name = "TASK")]
    pub(crate) task: String,
    /// The model to begin with, as the trainer knows it.
    #[arg(long, value_name = "MODEL")]
    pub(crate) base: String,
    /// The name that the trained model will be served under [default: the task and a digest of recipe and data].
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// The command that trains; {recipe}, {data} and {out} are replaced by paths [default: the config's `specialise.trainer`;
    /// without one, data and recipe are written].
    #[arg(long, value_name = "COMMAND")]
    pub(crate) trainer: Option<String>,
    /// The folder for trainings; each has one of its own in it.
    #[arg(long, value_name = "DIR", default_value = "./understudy-models")]
    pub(crate) out: PathBuf,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: RowFormat,
    #[command(flatten)]
    pub(crate) recipe: RecipeArguments,
    #[command(flatten)]
    pub(crate) set: DatasetArguments,
    #[command(flatten)]
    pub(crate) place: DataArguments,
}

/// What the recipe says besides.
#[derive(Debug, Args)]
#[command(next_help_heading = "The recipe")]
pub(crate) struct RecipeArguments {
    /// How the model is made to fit.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) method: Method,
    /// Rank of the adapters.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rank: u32,
    /// How far a step goes [default: 2e-4 with adapters, 1e-5 of all weights].
    #[arg(long, value_name = "RATE", value_parser = above_zero)]
    pub(crate) learning_rate: Option<f64>,
    /// Times that each example is seen.
    #[arg(long, value_name = "N", default_value_t = 3.0, value_parser = above_zero)]
    pub(crate) epochs: f64,
    /// Examples of a step.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch: u32,
    /// The trainer's seed; `--seed` is that of the data set.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub(crate) training_seed: u64,
}

/// Flags of `cycle`.
#[derive(Debug, Args)]
pub(crate) struct CycleArguments {
    /// Only this task: its id, or its name.
    #[arg(long)]
    pub(crate) task: Option<String>,
    /// Say what is due, and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The most calls in the sample of a rehearsal.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) limit: usize,
    /// The folder for trainings, as `specialise` has it.
    #[arg(long, value_name = "DIR", default_value = "./understudy-models")]
    pub(crate) out: PathBuf,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: RowFormat,
    #[command(flatten)]
    pub(crate) place: DataArguments,
}
