//! What can be typed after `tasks`.

use super::{DataArguments, RowFormat};
use clap::Subcommand;
use understudy_collector::cluster::FitOptions;

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
