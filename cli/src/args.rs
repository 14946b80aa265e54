//! What can be typed: commands, flags and their help. Holds no behaviour.

mod jobs;
mod kept;
mod rehearsal;
mod tasks;
mod traffic;

pub(crate) use jobs::{Engine, JobArguments, JobCommand, JobName, WorkerArguments, WorkerStep};
pub(crate) use kept::{
    AuditArguments, CallsArguments, EraseArguments, ImportArguments, KeysCommand, MaskArguments, MaskFormat,
    RestoreArguments,
};
pub(crate) use rehearsal::{
    Bits, CandidatesArguments, CycleArguments, DatasetArguments, DatasetFormat, DatasetShape, ExportArguments,
    FeedbackArguments, FeedbackCommand, Method, ReplayArguments, ReportArguments, SpecialiseArguments,
    VerdictArguments,
};
pub(crate) use tasks::TasksCommand;
pub(crate) use traffic::{BypassArguments, ExplainArguments, RolloutArguments, RolloutCommand, Switch};

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// All commands in groups, shown by `--help`; a test sees to it that none is missing.
const COMMANDS: &str = "\
Run:
  serve       Run the proxy and, in the same process, a collector
  collect     Run a collector alone, beside a `serve --no-collect`
  bypass      Kill switch: every call to its baseline, none kept
  demo        Play the whole way once on simulated models, in a minute

Look at what is kept:
  calls       List kept calls
  audit       Account for every call: kept, dropped, stored, waiting, evicted, missing
  import      Add calls from files of JSON lines
  mask        Show what masking finds in texts, or does to them

Keep and erase:
  keys        List, make and rotate the deployment's keys
  restore     Put masked values back, where a vault was kept
  erase       Erase the calls of a client, a conversation or an age, for good

Find tasks:
  tasks       Find the tasks that agents repeat: fit, list, show, assign, edit

Rehearse:
  candidates  Choose small models to rehearse, by what each task asks for
  replay      Send kept calls of a task to a candidate, and score its answers
  verdict     Say which candidates are ready, with the evidence
  report      Write all of it as one HTML page
  feedback    Take what is known to be right, from elsewhere

Train:
  export      Write a task's calls as a data set for fine-tuning
  specialise  Train a small model on a task, with your own trainer, reproducibly
  cycle       Do what is due: train anew, rehearse, judge, propose

Shift traffic:
  rollout     Look at splits, take the next step, pause, resume, go back

Run jobs:
  job         Work on all that is stored, here or on Spark: run compact, assign, mask, stats
  worker      One step between two Arrow streams, for Spark

Configure:
  check       Validate a config file
  explain     Say where a request would go, and why";

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
    /// Work on all that is stored, in this process or on Spark.
    #[command(subcommand)]
    Job(JobCommand),
    /// One step of a job over the rows that come in: what an engine like Spark pipes them through.
    ///
    /// Reads calls as an Arrow IPC stream from standard input and writes the step's rows as one to standard output: as many
    /// as came in, but for those that are erased; sums at the end. Columns that a step does not know are ignored, those that
    /// it lacks are named.
    Worker(WorkerArguments),
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
    /// Choose small models to rehearse on each task: those that can do what its kept calls ask for, the smallest first.
    ///
    /// Context window, tool calling, licence and memory decide who is in; published benchmarks for that kind of answer say
    /// which larger ones may be worth more. It is a choice of what to rehearse, not a verdict. Nothing is sent.
    Candidates(CandidatesArguments),
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
    /// Write a task's calls as a data set for fine-tuning: train.jsonl and test.jsonl, divided by conversation, and a card.
    ///
    /// A line is `{messages, tools?}`, the answer last: the recorded one, or the right one that feedback knows. Left out, and
    /// counted, are answers that failed, were cut, come from a candidate or are known to be wrong, and repetitions. Equal
    /// prompts are never on two sides. README.md and card.json say what is in it, and what was left out and why.
    Export(ExportArguments),
    /// Train a small model on a task's calls: data set, recipe, one run of your own trainer, a manifest of what came out.
    ///
    /// Nothing is trained without a trainer (`--trainer`, or `specialise.trainer` of the config): then data and recipe are
    /// written, and how to go on. The same inputs again say that it is there; a run that failed is run again in its folder.
    /// What the model has seen is told to the store: its rehearsals and verdicts leave those calls out.
    Specialise(SpecialiseArguments),
    /// Do what is due, once: train anew where a task's calls have grown or drifted, rehearse, judge, propose a config.
    ///
    /// Runs `specialise` by the recipe of a task's last training, where the config has a trainer and the calls are half as many
    /// again or drifted, and `replay` for candidates of the config that need more pairs or are new. Then it prints verdicts,
    /// and what they amount to as a diff of the config. It changes no config, and the next pass goes on where one was broken
    /// off. The exit code is 1 where a step failed.
    Cycle(CycleArguments),
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
