//! Flags of `job` and `worker`.

use super::{DataArguments, RowFormat};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// What to do with jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Run a job to its end; one that was cut off goes on where it was.
    Run(JobArguments),
}

/// Flags of `job run`.
#[derive(Debug, Args)]
pub(crate) struct JobArguments {
    /// Which.
    #[arg(value_enum, value_name = "NAME")]
    pub(crate) name: JobName,
    /// What runs it; `compact` is local.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) engine: Engine,
    /// A folder of its own for the results, for all but `compact`: a directory, or s3://bucket/prefix, az://, gs://.
    #[arg(long, value_name = "DIR|URL")]
    pub(crate) out: Option<String>,
    /// The task book, for `assign` and `stats` [default: the store's current one].
    #[arg(long, value_name = "FILE")]
    pub(crate) taskbook: Option<PathBuf>,
    /// Threads of the local engine [default: one a core].
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// An hour is closed so many minutes after its end, for `compact`.
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    pub(crate) closed_after: u64,
    /// How its results are printed.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: RowFormat,
    #[command(flatten)]
    pub(crate) spark: SparkArguments,
    #[command(flatten)]
    pub(crate) place: DataArguments,
}

/// The jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum JobName {
    /// Merge the small objects of closed hours; each row stays exactly once, whenever it is cut off.
    Compact,
    /// The task of each call, by a task book.
    Assign,
    /// All calls, masked again by the rules of today.
    Mask,
    /// Calls, tokens, costs and durations by task.
    Stats,
}

/// What runs a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// This process.
    #[default]
    Local,
    /// Spark, or what speaks its protocol.
    Spark,
}

/// Flags of the engine `spark`.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Spark")]
pub(crate) struct SparkArguments {
    /// A Spark master, as in `local[4]` or `spark://host:7077` [default: what Spark's own settings say].
    #[arg(long, value_name = "URL", conflicts_with = "remote")]
    pub(crate) master: Option<String>,
    /// A Spark Connect server, as in `sc://host:15002`.
    #[arg(long, value_name = "URL")]
    pub(crate) remote: Option<String>,
    /// What runs the driver: a Python that has pyspark, or spark-submit.
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub(crate) python: String,
    /// The program `understudy` as executors find it [default: where this one is].
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) worker: Option<String>,
    /// The store as Spark names it, as in `s3a://bucket/prefix` [default: as --data has it].
    #[arg(long, value_name = "URL")]
    pub(crate) store_url: Option<String>,
    /// The results' folder as Spark names it [default: as --out has it].
    #[arg(long, value_name = "URL")]
    pub(crate) out_url: Option<String>,
}

/// Flags of `worker`.
#[derive(Debug, Args)]
pub(crate) struct WorkerArguments {
    /// Which step.
    #[arg(value_enum, value_name = "STEP")]
    pub(crate) step: WorkerStep,
    /// The task book: for `assign`, and for `stats` where calls are to be assigned anew.
    #[arg(long, value_name = "FILE")]
    pub(crate) taskbook: Option<PathBuf>,
    /// Calls to leave out: tombstones as a JSON list, as `job run` hands them over.
    #[arg(long, value_name = "FILE")]
    pub(crate) erased: Option<PathBuf>,
    /// Read the step's results instead of calls, and give their number and digest.
    #[arg(long)]
    pub(crate) digest: bool,
    #[command(flatten)]
    pub(crate) place: DataArguments,
}

/// The steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WorkerStep {
    /// `call_id` → task, confidence, version of the book.
    Assign,
    /// The same rows, their texts masked again by the rules of today; keys and rules are those of --data and --config.
    Mask,
    /// Sums by task, measure and bucket, which add up.
    Stats,
}
