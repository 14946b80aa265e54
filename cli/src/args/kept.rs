//! What can be typed after the commands for what is kept: looking at it, masking, keys, erasure, jobs.

use super::{DataArguments, RowFormat};
use clap::{Args, Subcommand, ValueEnum};

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
