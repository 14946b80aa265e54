//! What can be typed after the commands that say where calls go: `bypass`, `rollout`, `explain`.

use super::{DataArguments, RowFormat};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

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
