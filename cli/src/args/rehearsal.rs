//! What can be typed after the commands that rehearse candidates, and take home what is known of them.

use super::{DataArguments, RowFormat};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use understudy_call::call::Api;
use understudy_call::translate::SPOKEN;

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

/// Shapes of data sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DatasetFormat {
    /// Lines `{messages, tools?}` in OpenAI chat shape.
    #[default]
    Openai,
}

/// Flags of `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// The task's id, or its name.
    #[arg(long)]
    pub(crate) task: String,
    /// The shape of the lines.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: DatasetFormat,
    /// The folder for train.jsonl and test.jsonl.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) out: PathBuf,
    /// Share of conversations for testing, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    pub(crate) test_share: f64,
    /// Changes which conversations are for testing.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) place: DataArguments,
}
