//! `demo`: the whole way once, on simulated models, in under a minute.
//!
//! Every step is the program itself, run as a person would run it: `serve`, `tasks fit`, `replay`, `verdict`. Only the
//! agent and the three models behind it are made up, and are called simulated wherever they appear.

mod agent;
mod model;
mod server;
mod shop;

use agent::Agent;
use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use model::Model;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tickets before the verdicts; each is one conversation of every task.
const TICKETS: u64 = 260;
/// Tickets while one task is canaried.
const CANARY_TICKETS: u64 = 200;
/// Tickets of one round while the demo stays.
const TICKETS_AT_ONCE: u64 = 5;
/// Share of the canaried task that moves, in per cent.
const CANARY_WEIGHT: u32 = 10;
/// How long one step may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the demo in `dir`, or in a new temporary folder.
pub(crate) fn run(dir: Option<PathBuf>, stay: bool) -> Result<()> {
    let dir = match dir {
        Some(dir) => dir,
        None => std::env::temp_dir().join(format!("understudy-demo-{}", std::process::id())),
    };
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    if dir.join("data").exists() {
        bail!(
            "{} holds a demo already: give another --dir, or remove it",
            dir.display()
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let demo = runtime.block_on(Demo::start(dir))?;
    demo.play(&runtime, stay)
}

/// A demo whose simulated models are up.
struct Demo {
    dir: PathBuf,
    config: PathBuf,
    config_text: String,
    bar: ProgressBar,
    began: Instant,
}

impl Demo {
    async fn start(dir: PathBuf) -> Result<Demo> {
        let llm = server::serve(Arc::new(Model::new("simulated-llm", 0.01, 0.0, 40)), Some(97)).await?;
        let good = server::serve(Arc::new(Model::new("simulated-slm-good", 0.012, 0.0, 12)), None).await?;
        let poor = server::serve(Arc::new(Model::new("simulated-slm-poor", 0.25, 0.12, 8)), None).await?;
        let config_text = format!(
            "# Three simulated models: one plays the LLM, two play small models of different quality.\n\
             listen: 127.0.0.1:0\nmetrics: 127.0.0.1:0\nadmin: 127.0.0.1:0\n\
             data: {data}\ndefault_upstream: llm\nupstreams:\n\
             \x20 llm:      {{ url: http://{llm}, key_env: UNDERSTUDY_DEMO_KEY, model: gpt-4o }}\n\
             \x20 slm-good: {{ url: http://{good}, api: openai_chat, model: simulated-slm-good, trusted: true, price: {{ gpu_hour: 0.80 }} }}\n\
             \x20 slm-poor: {{ url: http://{poor}, api: openai_chat, model: simulated-slm-poor, trusted: true, price: {{ gpu_hour: 0.80 }} }}\n\
             store: {{ flush: {{ after: 1s, bytes: 8MiB }} }}\nlog: {{ level: warn }}\n",
            data = dir.join("data").display(),
        );
        let config = dir.join("understudy.yaml");
        std::fs::write(&config, &config_text).with_context(|| format!("writing {}", config.display()))?;
        let style = ProgressStyle::with_template("{bar:32.cyan/dim} {percent:>3}%  {msg}")?;
        let bar = ProgressBar::new(100).with_style(style);
        bar.enable_steady_tick(Duration::from_millis(120));
        Ok(Demo {
            dir,
            config,
            config_text,
            bar,
            began: Instant::now(),
        })
    }

    fn play(&self, runtime: &tokio::runtime::Runtime, stay: bool) -> Result<()> {
        self.say("A support agent, an LLM and two small models, all simulated, on this machine.");
        let mut serve = Serving::start(&self.config)?;
        let agent = Arc::new(Agent::new(&serve.base)?);
        if stay {
            eprintln!(
                "listening on {}\nmetrics on {}\nadmin on {}",
                serve.base, serve.metrics, serve.admin
            );
        }

        self.step(
            2,
            "the agent works through its tickets, calling its LLM through `understudy serve`",
        );
        let (bar, share) = (self.bar.clone(), 38.0 / TICKETS as f64);
        let done = std::sync::atomic::AtomicU64::new(0);
        runtime.block_on(agent.work(0, TICKETS, || {
            let done = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            bar.set_position(2 + (done as f64 * share) as u64);
        }))?;
        self.step(42, "waiting for the last records to be stored");
        serve.wait_until_stored(runtime)?;
        let kept = serve.metric(runtime, "understudy_stored_total")?;
        self.say(&format!("{} calls answered byte for byte; {kept:.0} calls kept, masked, in Parquet (the agent retried when its LLM was busy).", agent.calls()));

        self.step(46, "finding the tasks that the agent repeats");
        self.understudy(&["tasks", "fit"], Show::Nothing)?;
        self.understudy(&["tasks", "list"], Show::Table)?;
        let tasks = self.tasks()?;

        let candidates = ["slm-good", "slm-poor"];
        let rehearsals = tasks.len() * candidates.len();
        for (number, (task, candidate)) in tasks
            .iter()
            .flat_map(|task| candidates.map(|candidate| (task, candidate)))
            .enumerate()
        {
            self.step(
                50 + 30 * number as u64 / rehearsals.max(1) as u64,
                &format!("rehearsing {candidate} on {task}"),
            );
            self.understudy(
                &[
                    "replay",
                    "--task",
                    task,
                    "--to",
                    candidate,
                    "--floor",
                    "--concurrency",
                    "32",
                ],
                Show::Nothing,
            )?;
        }
        self.step(80, "weighing the evidence");
        self.say("\nVerdicts on SIMULATED models. Nothing here says anything about a real one.");
        self.understudy(&["verdict"], Show::Table)?;

        match self.first_promoted()? {
            Some(task) => self.canary(runtime, &mut serve, &agent, &task)?,
            None => self.say("No task is ready to be promoted, so nothing is canaried."),
        }
        if stay {
            self.step(
                97,
                "the agent goes on working, so that you can look around; Ctrl-C ends it",
            );
            self.say(&format!("\nThe operator's page: {}", serve.admin));
            runtime.block_on(go_on(&agent))?;
        }
        self.step(97, "ending `understudy serve`");
        serve.end()?;
        self.bar.finish_and_clear();
        self.what_next();
        Ok(())
    }

    /// Moves a few per cent of one task by appending to the config file that `serve` watches.
    fn canary(
        &self,
        runtime: &tokio::runtime::Runtime,
        serve: &mut Serving,
        agent: &Arc<Agent>,
        task: &str,
    ) -> Result<()> {
        self.step(84, &format!("canary: {CANARY_WEIGHT} % of {task} to slm-good"));
        let rest = 100 - CANARY_WEIGHT;
        let route = format!(
            "routes:\n  - match: {{ task: {task} }}\n    split: {{ llm: {rest}, slm-good: {CANARY_WEIGHT} }}\n"
        );
        std::fs::write(&self.config, format!("{}{route}", self.config_text))?;
        self.say(&format!(
            "\nCanary: these lines were added to {}, while `serve` was running:\n\n{}",
            self.config.display(),
            indent(&route)
        ));
        let reloaded = |metrics: &str| sum(metrics, "understudy_config_reloads_total{") >= 1.0;
        serve.wait_for(runtime, "the new config", reloaded)?;
        runtime.block_on(agent.work(TICKETS, TICKETS + CANARY_TICKETS, || {}))?;
        let metrics = serve.metrics(runtime)?;
        let arm = |name: &str| sum(&metrics, &format!("understudy_split_calls_total{{arm=\"{name}\""));
        let (moved, stayed) = (arm("slm-good"), arm("llm"));
        self.say(&format!(
            "Of {:.0} more calls of this task, slm-good (simulated) answered {moved:.0} and the LLM {stayed:.0}. \
             Conversations stay where they are; set the weight to 0 and all go back.",
            moved + stayed
        ));
        Ok(())
    }

    fn what_next(&self) {
        let seconds = self.began.elapsed().as_secs_f64();
        let config = self.config.display();
        self.say(&format!(
            "\nDone in {seconds:.0} s. All of it was simulated, and is left in {dir}. Look around:\n\n\
             \x20 understudy report   --config {config} --out report.html\n\
             \x20 understudy calls    --config {config} --limit 5\n\
             \x20 understudy tasks    show TASK --config {config}\n\
             \x20 understudy export   --config {config} --task TASK --format openai --out dataset\n\n\
             With your own agent, the base URL is all that changes:\n\n\
             \x20 understudy serve --upstream https://api.openai.com\n\
             \x20 export OPENAI_BASE_URL=http://127.0.0.1:4000/v1",
            dir = self.dir.display()
        ));
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| {
            let _ = writeln!(std::io::stdout(), "{text}");
        });
    }

    fn step(&self, percent: u64, text: &str) {
        self.bar.set_position(percent);
        self.bar.set_message(text.to_owned());
    }

    /// Runs one of the program's own commands on the demo's data.
    fn understudy(&self, arguments: &[&str], show: Show) -> Result<String> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(arguments)
            .arg("--config")
            .arg(&self.config)
            .env("UNDERSTUDY_DEMO_KEY", "sk-demo");
        let output = command
            .stdin(Stdio::null())
            .output()
            .context("starting one of the program's own commands")?;
        if !output.status.success() {
            bail!(
                "`understudy {}` failed:\n{}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if matches!(show, Show::Table) {
            self.say(&format!("\n$ understudy {}\n{}", arguments.join(" "), text.trim_end()));
        }
        Ok(text)
    }

    fn tasks(&self) -> Result<Vec<String>> {
        let listed: Value =
            serde_json::from_str(&self.understudy(&["tasks", "list", "--format", "json"], Show::Nothing)?)?;
        let rows = listed
            .as_array()
            .context("`tasks list --format json` printed no list")?;
        Ok(rows
            .iter()
            .filter_map(|row| row.get("id").and_then(Value::as_str))
            .map(str::to_owned)
            .collect())
    }

    fn first_promoted(&self) -> Result<Option<String>> {
        let verdicts: Value = serde_json::from_str(&self.understudy(&["verdict", "--format", "json"], Show::Nothing)?)?;
        let rows = verdicts.as_array().context("`verdict --format json` printed no list")?;
        let promoted = rows.iter().find(|row| {
            row.get("verdict").and_then(Value::as_str) == Some("promote")
                && row.get("candidate").and_then(Value::as_str) == Some("slm-good")
        });
        Ok(promoted
            .and_then(|row| row.get("task"))
            .and_then(Value::as_str)
            .map(str::to_owned))
    }
}

/// The agent takes ticket after ticket until it is told to stop.
async fn go_on(agent: &Arc<Agent>) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    for round in 0.. {
        let first = TICKETS + CANARY_TICKETS + round * TICKETS_AT_ONCE;
        let worked = async {
            agent.work(first, first + TICKETS_AT_ONCE, || {}).await?;
            tokio::time::sleep(Duration::from_millis(250)).await;
            anyhow::Ok(())
        };
        tokio::select! {
            worked = worked => worked?,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    Ok(())
}

/// Whether a command's table is shown.
#[derive(Clone, Copy)]
enum Show {
    Nothing,
    Table,
}

/// A `serve` that runs beside the demo; killed if the demo fails.
struct Serving {
    child: Child,
    base: String,
    metrics: String,
    admin: String,
}

impl Serving {
    fn start(config: &Path) -> Result<Serving> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg("--config")
            .arg(config)
            .env("UNDERSTUDY_DEMO_KEY", "sk-demo")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting `understudy serve`")?;
        let mut said = BufReader::new(child.stderr.take().context("no stderr")?);
        let (mut base, mut metrics, mut admin, mut heard) = (None, None, None, String::new());
        while base.is_none() || metrics.is_none() || admin.is_none() {
            let mut line = String::new();
            if said.read_line(&mut line)? == 0 {
                let _ = child.kill();
                bail!("`understudy serve` ended before it listened:\n{heard}");
            }
            base = base.or(line.trim().strip_prefix("listening on ").map(str::to_owned));
            metrics = metrics.or(line.trim().strip_prefix("metrics on ").map(str::to_owned));
            admin = admin.or(line.trim().strip_prefix("admin on ").map(str::to_owned));
            heard.push_str(&line);
        }
        // Its log goes on; nobody reads it, and the pipe must not fill up.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Ok(Serving {
            child,
            base: base.unwrap_or_default(),
            metrics: metrics.unwrap_or_default(),
            admin: admin.unwrap_or_default(),
        })
    }

    fn metrics(&self, runtime: &tokio::runtime::Runtime) -> Result<String> {
        runtime.block_on(get(&self.metrics))
    }

    fn metric(&self, runtime: &tokio::runtime::Runtime, name: &str) -> Result<f64> {
        Ok(sum(&self.metrics(runtime)?, name))
    }

    fn wait_for(&self, runtime: &tokio::runtime::Runtime, what: &str, holds: impl Fn(&str) -> bool) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if holds(&self.metrics(runtime)?) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("waited {PATIENCE:?} for {what}")
    }

    fn wait_until_stored(&self, runtime: &tokio::runtime::Runtime) -> Result<()> {
        self.wait_for(runtime, "the records to be stored", |metrics| {
            sum(metrics, "understudy_calls_total{")
                <= sum(metrics, "understudy_stored_total") + sum(metrics, "understudy_dropped_total{")
        })
    }

    fn end(mut self) -> Result<()> {
        let terminated = Command::new("kill").arg(self.child.id().to_string()).status();
        if !terminated.is_ok_and(|status| status.success()) {
            self.child.kill()?;
        }
        let status = self.child.wait()?;
        if !status.success() {
            bail!("`understudy serve` ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sum of all samples whose line begins with `name`.
fn sum(metrics: &str, name: &str) -> f64 {
    let samples = metrics.lines().filter(|line| line.starts_with(name));
    samples
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

async fn get(url: &str) -> Result<String> {
    use http_body_util::{BodyExt, Limited};
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<http_body_util::Empty<bytes::Bytes>>();
    let response = client.get(url.parse()?).await?;
    #[expect(clippy::disallowed_methods, reason = "bounded")]
    let body = Limited::new(response.into_body(), 16 << 20).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("reading {url}: {error}"))?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
