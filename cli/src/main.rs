//! The program `understudy`: a transparent proxy for LLM APIs that finds, rehearses and promotes small models.
//!
//! Exit codes: 0 done, 1 it failed, 2 it was asked wrongly.

mod agreements;
mod args;
mod commands;
mod dataset;
mod demo;
mod draft;
mod drain;
mod exports;
mod keys;
mod log;
mod output;
mod page;
mod parts;
mod place;
mod propose;
mod retention;
mod rollouts;
mod serve;
mod shadow;
mod trainer;

use anyhow::{Context, Result};
use args::{Arguments, Command, ServeArguments};
use clap::Parser;
use output::Closed;
use place::Wrong;
use std::future::Future;
use std::process::ExitCode;
use understudy_proxy::config::{Config, ConfigError, Overrides};

/// Gives memory back after a burst; glibc keeps what was freed below something that lives on.
#[cfg(target_os = "linux")]
#[global_allocator]
static MEMORY: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        // Whoever read our output has seen enough.
        Err(error) if error.downcast_ref::<Closed>().is_some() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("understudy: {}", understudy_client::chain(error.as_ref()));
            let asked_wrongly =
                error.downcast_ref::<Wrong>().is_some() || error.downcast_ref::<ConfigError>().is_some();
            ExitCode::from(if asked_wrongly { 2 } else { 1 })
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Serve(arguments) => done(serve(arguments)),
        Command::Collect(arguments) => done(collect(arguments.serve, arguments.reader)),
        Command::Demo { dir, stay } => done(demo::run(dir, stay)),
        Command::Import(arguments) => block_on(commands::import::run(arguments)),
        Command::Calls(arguments) => done(block_on(commands::calls::run(arguments))),
        Command::Audit(arguments) => block_on(commands::audit::run(arguments)),
        Command::Bypass(arguments) => done(block_on(commands::bypass::run(arguments))),
        Command::Erase(arguments) => done(block_on(commands::erase::run(arguments))),
        Command::Keys(command) => done(block_on(commands::keys::run(command))),
        Command::Job(command) => done(block_on(commands::job::run(command))),
        Command::Worker(arguments) => done(commands::worker::run(&arguments)),
        Command::Restore(arguments) => done(block_on(commands::restore::run(arguments))),
        Command::Mask(arguments) => commands::mask::run(&arguments),
        Command::Tasks(command) => done(block_on(commands::tasks::run(command))),
        Command::Candidates(arguments) => done(block_on(commands::candidates::run(arguments))),
        Command::Replay(arguments) => done(block_on(commands::replay::run(arguments))),
        Command::Feedback(command) => done(block_on(commands::feedback::run(command))),
        Command::Verdict(arguments) => done(block_on(commands::verdict::run(arguments))),
        Command::Report(arguments) => done(block_on(commands::report::run(arguments))),
        Command::Export(arguments) => done(block_on(commands::export::run(arguments))),
        Command::Cycle(arguments) => block_on(commands::cycle::run(arguments)),
        Command::Specialise(arguments) => done(block_on(commands::specialise::run(arguments))),
        Command::Rollout(command) => done(block_on(commands::rollout::run(command))),
        Command::Check { file } => Ok(commands::check::run(&file)),
        Command::Explain(arguments) => done(block_on(commands::explain::run(arguments))),
    }
}

fn done(result: Result<()>) -> Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}

/// Runs a command that waits for stores and upstreams.
fn block_on<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting threads")?
        .block_on(command)
}

fn serve(arguments: ServeArguments) -> Result<()> {
    serve::serve(serve::Serve {
        config: config_of(&arguments)?,
        overrides: overrides_of(&arguments),
        file: arguments.config,
        collect: !arguments.no_collect,
    })
}

fn collect(arguments: ServeArguments, reader: Option<String>) -> Result<()> {
    let config = config_of(&arguments)?;
    let overrides = overrides_of(&arguments);
    serve::collect(&config, arguments.config, overrides, reader)
}

fn overrides_of(arguments: &ServeArguments) -> Overrides {
    Overrides {
        listen: arguments.listen,
        metrics: arguments.metrics,
        admin: arguments.admin,
        data: arguments.data.clone(),
    }
}

fn config_of(arguments: &ServeArguments) -> Result<Config> {
    let overrides = overrides_of(arguments);
    Ok(match (&arguments.config, &arguments.upstream) {
        (Some(file), _) => Config::load(file, &overrides, &parts::environment)?,
        (None, url) => Config::of_upstream(url.as_deref().unwrap_or_default(), &overrides)?,
    })
}
