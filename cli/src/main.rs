//! The program `understudy`: a transparent proxy for LLM APIs that finds, rehearses and promotes small models.

mod demo;
mod keys;
mod serve;

use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use understudy_proxy::config::{Config, Overrides};

#[derive(Parser)]
#[command(name = "understudy", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the proxy and, unless told otherwise, a collector in the same process.
    Serve(ServeArguments),
    /// Run a collector alone, beside a `serve --no-collect` that shares its spool.
    Collect(ServeArguments),
    /// Play the whole way once on simulated models: serve, capture, tasks, rehearsals, verdicts, a canary.
    Demo {
        /// A new folder for the demo's config and data.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

#[derive(clap::Args)]
struct ServeArguments {
    /// The one upstream, where no config file is given.
    #[arg(
        long,
        value_name = "URL",
        conflicts_with = "config",
        required_unless_present = "config"
    )]
    upstream: Option<String>,
    /// The config file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where agents connect; port 0 takes a free port.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where Prometheus and probes connect.
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// Where operators connect.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// The store: a directory, or s3://bucket/prefix.
    #[arg(long, value_name = "DIR|URL")]
    data: Option<String>,
    /// Leave the spool to a `collect` of its own.
    #[arg(long)]
    no_collect: bool,
}

impl ServeArguments {
    fn overrides(&self) -> Overrides {
        Overrides {
            listen: self.listen,
            metrics: self.metrics,
            admin: self.admin,
            data: self.data.clone(),
        }
    }

    fn config(&self) -> anyhow::Result<Config> {
        let overrides = self.overrides();
        Ok(match (&self.config, &self.upstream) {
            (Some(file), _) => Config::load(file, &overrides, &serve::environment)?,
            (None, url) => Config::of_upstream(url.as_deref().unwrap_or_default(), &overrides)?,
        })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Serve(arguments) => arguments.config().and_then(|config| {
            let overrides = arguments.overrides();
            serve::serve(serve::Serve {
                config,
                file: arguments.config,
                overrides,
                collect: !arguments.no_collect,
            })
        }),
        Command::Demo { dir } => demo::run(dir),
        Command::Collect(arguments) => arguments.config().and_then(|config| serve::collect(&config)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("understudy: {error:#}");
            ExitCode::FAILURE
        }
    }
}
