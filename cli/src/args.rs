//! What can be typed: commands, flags and their help. Holds no behaviour.

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use understudy_call::call::Api;
use understudy_call::translate::SPOKEN;
use understudy_collector::cluster::FitOptions;

/// All commands in groups, shown by `--help`; a test sees to it that none is missing.
const COMMANDS: &str = "\
Run:
  serve     Run the proxy and, in the same process, a collector
  collect   Run a collector alone, beside a `serve --no-collect`
  bypass    Kill switch: every call to its baseline, none kept
  demo      Play the whole way once on simulated models, in a minute

Look at what is kept:
  calls     List kept calls
  audit     Account for every call: kept, dropped, stored, waiting, evicted, missing
  import    Add calls from files of JSON lines
  mask      Show what masking finds in texts, or does to them
  restore   Put masked values back, where a vault was kept

Keep and erase:
  keys      List, make and rotate the deployment's keys
  erase     Erase the calls of a client, a conversation or an age, for good

Find tasks:
  tasks     Find the tasks that agents repeat: fit, list, show, assign, edit

Rehearse:
  replay    Send kept calls of a task to a candidate, and score its answers
  verdict   Say which candidates are ready, with the evidence
  report    Write all of it as one HTML page
  feedback  Take what is known to be right, from elsewhere
  export    Write a task's calls as a data set for fine-tuning

Shift traffic:
  rollout   Look at splits, take the next step, pause, resume, go back

Run jobs:
  job       Work on what is stored: run compact

Configure:
  check     Validate a config file
  explain   Say where a request would go, and why";

/// Finds the tasks that agents repeat, rehearses small models on them, and lets them take over step by step.
///
/// Understudy stands between agents and their LLM API. It passes every call through unchanged, keeps a masked copy,
/// finds the recurring tasks in them, replays those to smaller models out of sight, and says with evidence which ones
/// are ready. Start with `understudy demo`, or with `understudy serve --upstream https://api.openai.com`.
#[derive(Debug, Parser)]
#[command(
    name = "understudy",
    version,
    subcommand_help_heading = "Commands",
    help_template = "{about-with-newline}\n{usage-heading} {usage}{after-help}\n\nOptions:\n{options}",
    after_help = COMMANDS,
    disable_help_subcommand = true
)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the proxy and, unless told otherwise, a collector in the same process.
    Serve(ServeArguments),
    /// Run a collector alone, beside a `serve --no-collect` that shares its spool.
    Collect(CollectArguments),
    /// Play the whole way once on simulated models: serve, capture, tasks, rehearsals, verdicts, a canary.
    Demo {
        /// A new folder for the demo's config and data.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Go on with the traffic until Ctrl-C, for a look at metrics and dashboards.
        #[arg(long)]
        stay: bool,
    },
    /// Add calls from files of JSON lines `{id, session?, step?, request, response}` in OpenAI chat shape.
    ///
    /// Files may be plain or zstd; `-` is standard input. Calls are masked like live ones. The same file and id again add
    /// nothing, so an import that was cut off is finished by running it again. A line that can't be read is named on
    /// stderr, the rest goes on, and the exit code is 1.
    Import(ImportArguments),
    /// List kept calls, the latest last.
    ///
    /// A table shows the last 20 unless `--limit` says otherwise; the other formats give all, with bodies, as kept: masked.
    Calls(CallsArguments),
    /// Account for every call, by boot of the proxy: kept or dropped; and what is kept: stored, waiting or evicted.
    ///
    /// Names the calls that are missing, as after a crash, by their numbers within the boot. The exit code is 1 where an
    /// equation does not hold: a record that was kept is gone, one is stored twice, or a boot ended with calls unaccounted
    /// for. Calls cut by a crash are named, and are no fault of the accounts.
    Audit(AuditArguments),
    /// List, make and rotate the deployment's keys; their bytes are never shown.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Kill switch: every route to its baseline and nothing captured, on all replicas within seconds.
    Bypass(BypassArguments),
    /// Erase the calls of a client, a conversation or an age, for good.
    ///
    /// A tombstone is put first: from then on no command shows these calls, and what still waits in a spool is left out when
    /// it is stored. Then they are taken out of the stored calls, scores and exported data sets. The receipt, printed and
    /// kept in the store, says what was done and what could not be reached. Calls that begin later are not covered.
    Erase(EraseArguments),
    /// Work on what is stored.
    #[command(subcommand)]
    Job(JobCommand),
    /// Show what masking finds in texts, or does to them.
    ///
    /// Reads lines `{id, text}` from FILE, or from standard input where it is `-`. Gives lines `{id, text}` with surrogates
    /// put in, or with `--format spans` lines `{id, spans: [{start, end, type}]}`, counted in Unicode code points.
    Mask(MaskArguments),
    /// Put masked values back into text or JSON, where a vault was kept (`mask.vault: on`) and its key is there.
    ///
    /// Lines that name a `call_id` get back that call's values, all else those of all calls. Each use is in the audit log.
    /// Credentials are never in the vault.
    Restore(RestoreArguments),
    /// Find the tasks that agents repeat, look at them, name them.
    #[command(subcommand)]
    Tasks(TasksCommand),
    /// Send kept calls of a task to a candidate, and score its answers against the recorded ones.
    ///
    /// Only masked text is sent, with the candidate's own credential. What is scored already is not asked again, so a replay
    /// that was cut off is continued by running it again. Where the baseline's upstream has a key, it is asked the same
    /// requests once more: how it agrees with itself is the noise floor that candidates are measured by.
    Replay(ReplayArguments),
    /// What is known to be right, from elsewhere: it outranks agreement with recorded answers.
    #[command(subcommand)]
    Feedback(FeedbackCommand),
    /// Say for each task and candidate: promote, hold, or need more; with sample sizes, intervals and costs.
    Verdict(VerdictArguments),
    /// Write the operator's page as one HTML file: tasks, candidates, savings against risk.
    ///
    /// The file needs nothing else, no network and no script, and without `--texts` it holds no text of a call. `serve` shows
    /// the same, and examples besides, on its admin port. Figures of calls that were counted before are taken from the
    /// store, so that a second report is quick.
    Report(ReportArguments),
    /// Write a task's calls as a data set for fine-tuning: train.jsonl and test.jsonl, divided by conversation.
    ///
    /// A line is `{messages, tools?}`, the answer last: the recorded one, or the right one that feedback knows. Left out, and
    /// counted, are answers that failed, were cut, come from a candidate or are known to be wrong, and repetitions.
    Export(ExportArguments),
    /// Look at the splits in force, and move them: status, promote, pause, resume, rollback.
    ///
    /// What is done is a control object in the store, which every proxy follows within seconds. Config stays what it is: it
    /// says what a candidate may have at most.
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Validate a config file: exit code 0 if `serve` would take it, 1 if not, with the reason.
    Check {
        /// The config file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Say which task, route and upstream a request would get, and why; nothing is sent.
    Explain(ExplainArguments),
}

/// Flags of `serve` and `collect`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("upstreams").args(["upstream", "config"]).required(true)))]
pub(crate) struct ServeArguments {
    /// The one upstream, where no config file is given.
    #[arg(long, value_name = "URL")]
    pub(crate) upstream: Option<String>,
    /// The config file. deploy/understudy.yaml shows its keys; `limits`, `timeouts` and `tls` are those of the listener.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where agents connect; port 0 takes a free port.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where Prometheus and probes connect.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Where operators connect.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<SocketAddr>,
    /// The store: a directory, or s3://bucket/prefix, az://, gs://.
    #[arg(long, value_name = "DIR|URL")]
    pub(crate) data: Option<String>,
    /// Leave the spool to a `collect` of its own.
    #[arg(long)]
    pub(crate) no_collect: bool,
}

/// Flags of `collect`.
#[derive(Debug, Args)]
pub(crate) struct CollectArguments {
    #[command(flatten)]
    pub(crate) serve: ServeArguments,
    /// Read the spool a second time, under this name and with a position of its own, into another store (`--data`).
    #[arg(long, value_name = "NAME")]
    pub(crate) reader: Option<String>,
}

/// Where the data is.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Where the data is")]
pub(crate) struct DataArguments {
    /// The store: a directory, or s3://bucket/prefix, az://, gs:// [default: the config's, else ./understudy-data].
    #[arg(long, value_name = "DIR|URL")]
    pub(crate) data: Option<String>,
    /// The config file that `serve` runs with: its store, keys, mask, upstreams and verdict settings are used.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum RowFormat {
    /// For people.
    #[default]
    Table,
    /// One JSON list.
    Json,
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated, with a head; nested values as JSON.
    Csv,
}

/// Flags of `import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// Files of JSON lines, plain or zstd; `-` is standard input.
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<String>,
    /// The name that, with a line's id, says what is the same call again [default: the file's full path].
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// How the counts are printed.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: RowFormat,
    #[command(flatten)]
    pub(crate) place: DataArguments,
}

/// Flags of `calls`.
#[derive(Debug, Args)]
pub(crate) struct CallsArguments {
    /// Only calls of this task, by the current task book.
    #[arg(long)]
    pub(crate) task: Option<String>,
    /// Only calls of this conversation.
    #[arg(long, value_name = "ID")]
    pub(crate) conversation: Option<String>,
    /// Only the latest N [default: 20 for a table, else all].
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Instead of the calls, how many values were masked in them, by column and kind.
    #[arg(long, conflicts_with = "limit")]
    pub(crate) masked: bool,
    /// How they are printed.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: RowFormat,
    #[command(flatten)]
    pub(crate) place: DataArguments,
}

/// Flags of `audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArguments {
    /// Only this boot.
    #[arg(long, value_name = "ID")]
    pub(crate) boot: Option<String>,
    /// Instead of calls: who read content, exported, erased and changed the config; 1 where the log was tampered with.
    #[arg(long, conflicts_with = "boot")]
    pub(crate) log: bool,
    /// A head that was shown before, with `--log`: 1 where the log does not hold it any more.
    #[arg(long, value_name = "HASH", requires = "log")]
    pub(crate) head: Option<String>,
    /// How they are printed.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: RowFormat,
    #[command(flatten)]
    pub(crate) place: DataArguments,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// In force.
    On,
    /// Not in force.
    Off,
}

/// Flags of `bypass`.
#[derive(Debug, Args)]
pub(crate) struct BypassArguments {
    /// Whether calls bypass all that is configured.
    #[arg(value_enum)]
    pub(crate) switch: Switch,
    #[command(flatten)]
    pub(crate) place: DataArguments,
}

/// Flags of `erase`.
#[derive(Debug, Args)]
pub(crate) struct EraseArguments {
    /// Calls of this client, as the column `client_id` shows it.
    #[arg(long, value_name = "HASH")]
    pub(crate) client: Vec<String>,
    /// Calls of the clients whose credentials are given on standard input, one a line; under all generations of the origin
    /// key.
    #[arg(long)]
    pub(crate) client_value_stdin: bool,
    /// Calls of this user, as the column `user_id` shows it.
    #[arg(long, value_name = "HASH")]
    pub(crate) user: Vec<String>,
    /// Calls of the users given on standard input, one a line, as requests name them (`user`, `safety_identifier`,
    /// `metadata.user_id`); under all generations of the origin key.
    #[arg(long, conflicts_with = "client_value_stdin")]
    pub(crate) user_value_stdin: bool,
    /// Calls of this conversation.
    #[arg(long, value_name = "ID")]
    pub(crate) conversation: Vec<String>,
    /// Calls that began longer ago, as in `90d` or `12h`.
    #[arg(long, value_name = "AGE")]
    pub(crate) older_than: Option<String>,
    /// How long to wait until collectors have taken it through their spools; who has not answered by then is named.
    #[arg(long, value_name = "DURATION", default_value = "45s")]
    pub(crate) wait: String,
    /// How the receipt is printed: `table` or `json`.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: RowFormat,
    #[command(flatten)]
    pub(crate) place: DataArguments,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// List them by id, all generations.
    List {
        /// How they are printed.
        #[arg(long, value_enum, default_value_t)]
        format: RowFormat,
        #[command(flatten)]
        place: DataArguments,
    },
    /// Make those that are missing; none is ever replaced.
    Make {
        /// Which: spool, store, origin, surrogate, content, metrics, vault [default: the first four].
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
        #[command(flatten)]
        place: DataArguments,
    },
    /// Begin a new generation of a key; the old one stays, to read what it made.
    ///
    /// Running processes take the new one at their next start.
    Rotate {
        /// Which: spool, store, origin, surrogate, content, metrics, vault.
        #[arg(value_name = "KEY")]
        key: String,
        #[command(flatten)]
        place: DataArguments,
    },
}

/// What to do with jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Run a job to its end.
    Run {
        /// Which.
        #[arg(value_enum, value_name = "NAME")]
        name: JobName,
        /// An hour is closed so many minutes after its end, for `compact`.
        #[arg(long, value_name = "MINUTES", default_value_t = 60)]
        closed_after: u64,
        /// How its results are printed.
        #[arg(long, value_enum, default_value_t)]
        format: RowFormat,
        #[command(flatten)]
        place: DataArguments,
    },
}

/// The jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum JobName {
    /// Merge the small objects of closed hours; each row stays exactly once, whenever it is cut off.
    Compact,
}

/// What `mask` gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum MaskFormat {
    /// Lines `{id, text}` with surrogates put in.
    #[default]
    Text,
    /// Lines `{id, spans: [{start, end, type}]}`.
    Spans,
}

/// Flags of `mask`.
#[derive(Debug, Args)]
pub(crate) struct MaskArguments {
    /// Lines `{id, text}`; `-` is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: String,
    /// What to give.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: MaskFormat,
    #[command(flatten)]
    pub(crate) place: DataArguments,
}

/// Flags of `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArguments {
    /// Text or JSON lines, as `calls --format jsonl` prints them; `-` is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: String,
    #[command(flatten)]
    pub(crate) place: DataArguments,
}

/// What to do with tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum TasksCommand {
    /// Find tasks in the kept calls and write a new task book.
    ///
    /// Needs no labels and no LLM: tasks are told by what recurs in prompts, tools and answer formats. Tasks that were known
    /// keep their ids. Older books stay; the highest number is in force, in a running `serve` too.
    Fit {
        /// Changes which calls are sampled.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// The most calls to learn from.
        #[arg(long, value_name = "N", default_value_t = FitOptions::default().sample)]
        sample: usize,
        /// Show what would change, and leave the current book in force.
        #[arg(long)]
        dry_run: bool,
        /// How the tasks found are printed.
        #[arg(long, value_enum, default_value_t)]
        format: RowFormat,
        #[command(flatten)]
        place: DataArguments,
    },
    /// List the tasks with the calls, tokens and cost of each.
    List {
        /// How they are printed.
        #[arg(long, value_enum, default_value_t)]
        format: RowFormat,
        #[command(flatten)]
        place: DataArguments,
    },
    /// Show one task: its template, tools, answers and examples.
    Show {
        /// Its id, or its name.
        task: String,
        /// `table` or `json`.
        #[arg(long, value_enum, default_value_t)]
        format: RowFormat,
        #[command(flatten)]
        place: DataArguments,
    },
    /// Say for every kept call which task the current book gives it; null is none.
    Assign {
        /// How the calls are printed; `jsonl` gives lines `{"id", "task"}`.
        #[arg(long, value_enum, default_value = "jsonl")]
        format: RowFormat,
        #[command(flatten)]
        place: DataArguments,
    },
    /// Let an LLM name the tasks, from their templates and two example requests each, masked as they are kept.
    ///
    /// One call a task, with the upstream's own credential. Names outlive later fits; ids never change.
    Name {
        /// Only this task: its id, or its name [default: all].
        task: Option<String>,
        /// The upstream of the config that is asked.
        #[arg(long, value_name = "UPSTREAM")]
        with: String,
        /// The model that is asked for [default: the upstream's].
        #[arg(long)]
        model: Option<String>,
        #[command(flatten)]
        place: DataArguments,
    },
    /// Show how much of the traffic, and of its cost, is in tasks with narrow answers: tool calls, JSON, labels, forms.
    ///
    /// A task is narrow where nine in ten of its answers are. Needs no rehearsal: it says where to look first.
    Replaceable {
        /// Apart for each value of this: `client`, `upstream`, `route`, `model`, or `tag:NAME`.
        #[arg(long, value_name = "WHAT")]
        by: Option<String>,
        /// How the shares are printed.
        #[arg(long, value_enum, default_value_t)]
        format: RowFormat,
        #[command(flatten)]
        place: DataArguments,
    },
    /// Make the calls of one task calls of another, now and after every fit.
    Merge {
        /// The task that goes: its id, or its name.
        task: String,
        /// The task that stays.
        into: String,
        #[command(flatten)]
        place: DataArguments,
    },
    /// Make the calls of a task whose prompt holds certain words a task of their own, now and after every fit.
    Split {
        /// Its id, or its name.
        task: String,
        /// Three words or more, in a row, of the system prompt or the first user messages.
        #[arg(long, value_name = "WORDS")]
        phrase: String,
        /// The new task's name [default: the words].
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        place: DataArguments,
    },
    /// Count the calls of a task as no task's, until `--off`.
    Ignore {
        /// Its id, or its name.
        task: String,
        /// Make it a task again.
        #[arg(long)]
        off: bool,
        #[command(flatten)]
        place: DataArguments,
    },
    /// Give a task another name; its id stays.
    Rename {
        /// Its id, or its name.
        task: String,
        /// The new name.
        name: String,
        #[command(flatten)]
        place: DataArguments,
    },
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

/// What to do with rollouts.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Show every split: weights given and in force, step, trips, freezes, and what comes next.
    Status {
        /// How they are printed.
        #[arg(long, value_enum, default_value_t)]
        format: RowFormat,
        /// The config file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Take the next step of a rollout now, whatever its time, calls and verdict.
    Promote(RolloutArguments),
    /// Keep the weights where they are, until `resume`.
    Pause(RolloutArguments),
    /// End a pause, a freeze, a rollback and trips of the guard: the split is as its config says, and a rollout that was taken
    /// back begins anew.
    Resume(RolloutArguments),
    /// Give all of a route's calls to the baseline, until `resume` or until its split or guard changes.
    Rollback(RolloutArguments),
}

/// Flags of what moves a rollout.
#[derive(Debug, Args)]
pub(crate) struct RolloutArguments {
    /// The route: its name, or what `rollout status` calls it [default: the only one with a split].
    pub(crate) route: Option<String>,
    /// Why, for the audit log.
    #[arg(long, value_name = "WORDS")]
    pub(crate) why: Option<String>,
    /// How what is in force then is printed.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: RowFormat,
    /// The config file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// Flags of `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// The request's body.
    #[arg(value_name = "REQUEST.json")]
    pub(crate) request: PathBuf,
    /// The path it is sent to, an upstream's segment included.
    #[arg(long, default_value = "/v1/chat/completions")]
    pub(crate) path: String,
    /// A request header, as `name: value`.
    #[arg(long = "header", value_name = "HEADER")]
    pub(crate) headers: Vec<String>,
    /// `table` or `json`.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: RowFormat,
    /// The config file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn flags_do_not_clash_and_every_command_is_in_the_overview() {
        let command = Arguments::command();
        command.clone().debug_assert();
        for subcommand in command.get_subcommands() {
            let line = format!("\n  {:<8}", subcommand.get_name());
            assert!(COMMANDS.contains(&line), "{}", subcommand.get_name());
        }
    }
}
