//! The program itself as a child process: built once, started on free ports, ended as an operator or a crash ends it.
//!
//! Never talks to it but by its ports, its files, its signals and its stderr.

use crate::http::Request;
use crate::metrics::Metrics;
use crate::{PATIENCE, eventually};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;
use tempfile::TempDir;
use understudy_call::record::{CallRecord, ScoreRecord};
use understudy_collector::scan::{self, CallFilter, ScoreFilter};
use understudy_collector::store::Store;

/// The binary, built like the tests are.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let own = std::env::current_exe().expect("a program knows its own path");
        // <target>/<profile>/deps/integration-…, or <target>/<profile>/understudy-tests
        let folder = own.parent().expect("a program lies in a folder");
        let profile_folder = if folder.ends_with("deps") {
            folder.parent().expect("deps lies in a profile's folder")
        } else {
            folder
        };
        let profile = match profile_folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let target = profile_folder.parent().expect("profiles lie in a target folder");
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .args(["build", "--quiet", "--bin", "understudy", "--profile", profile])
            .arg("--target-dir")
            .arg(target);
        // What cargo tells a test would make it build again what it has just built.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if ["CARGO_PKG_", "CARGO_MANIFEST_"]
                .iter()
                .any(|own| name.starts_with(own))
            {
                cargo.env_remove(name);
            }
        }
        let built = cargo.status().expect("cargo runs");
        assert!(built.success(), "building the program failed: {built}");
        profile_folder.join(format!("understudy{}", std::env::consts::EXE_SUFFIX))
    })
}

/// A temporary folder with a data directory and a config: what outlives one run of the program.
#[derive(Debug)]
pub struct Home(TempDir);

impl Default for Home {
    fn default() -> Home {
        Home::new()
    }
}

impl Home {
    /// An empty one.
    pub fn new() -> Home {
        Home(tempfile::tempdir().expect("a temporary folder"))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// The config file.
    pub fn config(&self) -> PathBuf {
        self.path().join("understudy.yaml")
    }

    /// Writes the config file; readers see the old text or the new, nothing between.
    pub fn write_config(&self, text: &str) {
        let draft = self.path().join("understudy.yaml.draft");
        std::fs::write(&draft, text).expect("the folder is writable");
        std::fs::rename(draft, self.config()).expect("the folder is writable");
    }

    /// All stored calls.
    pub fn rows(&self) -> Vec<CallRecord> {
        rows_of(&Store::open(&self.data().to_string_lossy()).expect("a readable data directory"))
    }

    /// All stored scores.
    pub fn scores(&self) -> Vec<ScoreRecord> {
        let store = Store::open(&self.data().to_string_lossy()).expect("a readable data directory");
        runtime()
            .block_on(scan::scores(&store, &ScoreFilter::default()))
            .unwrap_or_else(|error| panic!("the stored scores can't be read: {error}"))
    }

    /// The one stored call with this value of `tags["case"]`.
    pub fn row(&self, case: &str) -> CallRecord {
        let mut rows = self.rows();
        let all = rows.len();
        rows.retain(|row| row.tags.get("case").is_some_and(|tag| tag == case));
        assert_eq!(rows.len(), 1, "rows of case {case:?} among {all}");
        rows.remove(0)
    }

    /// All files in the data directory but keys, with their bytes.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut folders = vec![self.data()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() && !path.ends_with("keys") {
                    folders.push(path);
                } else if let Ok(bytes) = std::fs::read(&path) {
                    files.push((path, bytes));
                }
            }
        }
        files
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, &[])
    }

    /// [`Home::run`] with these environment variables.
    pub fn run_with(&self, arguments: &[&str], variables: &[(String, String)]) -> Output {
        let mut command = self.command(arguments);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command.output().expect("the program starts")
    }

    /// Runs a command to its end, with this on its standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: impl AsRef<[u8]> + Send) -> Output {
        let mut command = self.command(arguments);
        let pipes = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = pipes.spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        std::thread::scope(|scope| {
            // It may end without reading, or write before it has read all.
            scope.spawn(move || stdin.write_all(input.as_ref()));
            child.wait_with_output().expect("the program ends")
        })
    }

    /// Starts a command, whose words nobody reads.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        quiet.spawn().expect("the program starts")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.current_dir(self.path()).args(arguments).stdin(Stdio::null());
        without_surroundings(&mut command);
        command
    }

    /// Starts a `collect` with these arguments.
    pub fn collect(&self, arguments: &[&str]) -> Program {
        let mut command = self.command(&["collect", "--metrics", "127.0.0.1:0"]);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
        Program::start_and_wait(command, ["", "metrics on", ""])
    }

    /// Starts `serve` in front of one upstream.
    pub fn serve_upstream(&self, url: &str) -> Program {
        self.serve(&["--upstream", url], &[])
    }

    /// Writes the config, and starts `serve` with it.
    pub fn serve_config(&self, config: &str) -> Program {
        self.write_config(config);
        self.serve(&["--config", "understudy.yaml"], &[])
    }

    /// Starts `serve` on a listening socket that the caller holds, as a service manager hands it over.
    pub fn serve_held(&self, socket: &TcpListener, arguments: &[&str]) -> Program {
        let any = "127.0.0.1:0";
        // The socket is the third descriptor, and the process that is told of it is the one that is to take it.
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"",
            ])
            .arg(binary())
            .args(["serve", "--metrics", any, "--admin", any, "--data"])
            .arg(self.data())
            .args(arguments)
            .current_dir(self.path())
            .stdin(OwnedFd::from(socket.try_clone().expect("a socket can be shared")))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        without_surroundings(&mut command);
        Program::start(command)
    }

    /// Starts `serve` on free ports with these arguments and environment variables, and waits until it listens.
    pub fn serve(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Program {
        self.serve_at(&self.data().to_string_lossy(), arguments, variables)
    }

    /// [`Home::serve`] with its data elsewhere.
    pub fn serve_at(&self, data: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Program {
        let any = "127.0.0.1:0";
        let mut command = self.command(&[
            "serve",
            "--listen",
            any,
            "--metrics",
            any,
            "--admin",
            any,
            "--data",
            data,
        ]);
        command
            .args(arguments)
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        Program::start(command)
    }
}

/// Keeps from a program what would change its ways.
fn without_surroundings(command: &mut Command) {
    for name in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "http_proxy",
        "https_proxy",
        "ALL_PROXY",
        "RUST_LOG",
    ] {
        command.env_remove(name);
    }
}

/// All calls of a store.
pub fn rows_of(store: &Store) -> Vec<CallRecord> {
    runtime()
        .block_on(scan::calls(store, &CallFilter::default()))
        .unwrap_or_else(|error| panic!("the stored calls can't be read: {error}"))
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

/// A running `serve` or `collect`; killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    stderr: Arc<Mutex<String>>,
    /// Where agents connect.
    pub listen: SocketAddr,
    /// Where Prometheus connects.
    pub metrics: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` = a signal.
    pub code: Option<i32>,
    /// All that it wrote to stderr.
    pub stderr: String,
}

impl Program {
    fn start(command: Command) -> Program {
        Program::start_and_wait(command, ["listening on", "metrics on", "admin on"])
    }

    /// Starts it, and waits until it has said an address after each of these words that is not empty.
    fn start_and_wait(mut command: Command, words: [&str; 3]) -> Program {
        let mut child = command.spawn().expect("the program starts");
        let stderr: Arc<Mutex<String>> = Arc::default();
        let (writer, pipe) = (stderr.clone(), child.stderr.take().expect("stderr is piped"));
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let mut text = writer.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&String::from_utf8_lossy(&line));
                text.push('\n');
            }
        });
        let text = || stderr.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let begun = Instant::now();
        let addresses = loop {
            let told = words.map(|words| match words {
                "" => Some(SocketAddr::from(([0, 0, 0, 0], 0))),
                words => address_after(&text(), words),
            });
            if let [Some(listen), Some(metrics), Some(admin)] = told {
                break [listen, metrics, admin];
            }
            let ended = child.try_wait().expect("a child can be asked");
            if ended.is_some() || begun.elapsed() > PATIENCE {
                // A moment for the last lines.
                std::thread::sleep(std::time::Duration::from_millis(50));
                let _ = child.kill();
                panic!(
                    "it did not say where it listens (ended: {ended:?}); stderr:\n{}",
                    text()
                );
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        let [listen, metrics, admin] = addresses;
        Program {
            child,
            stderr,
            listen,
            metrics,
            admin,
        }
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A scrape of its metrics.
    pub fn scrape(&self) -> Metrics {
        let answer = Request::get("/metrics").send(self.metrics);
        assert_eq!(answer.status(), 200, "a scrape failed: {}", answer.text());
        Metrics::parse(answer.text())
    }

    /// Waits until no call is in flight any more, and scrapes.
    pub fn scrape_at_rest(&self) -> Metrics {
        eventually("no call is in flight", || {
            self.scrape().sum("understudy_calls_in_flight", &[]) == 0.0
        });
        self.scrape()
    }

    /// Waits until each call that was kept is in an object, and scrapes. That none waits is not enough: what the spool got
    /// a moment ago is not counted as waiting yet.
    pub fn scrape_when_stored(&self) -> Metrics {
        let mut scrape = self.scrape_at_rest();
        eventually("every call is stored", || {
            scrape = self.scrape();
            let is_settled = scrape.unaccounted() == 0.0 && scrape.mislaid() == 0.0;
            is_settled && scrape.sum("understudy_waiting", &[]) == 0.0
        });
        scrape
    }

    /// The most memory that it has held at once, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The memory that it holds, in bytes.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// How many files and sockets it has open.
    pub fn open_files(&self) -> u64 {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("a Linux system");
        files.count() as u64
    }

    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a Linux system");
        let line = status.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.and_then(|kib| kib.parse::<u64>().ok()).expect("a figure in KiB") << 10
    }

    /// Sends SIGTERM and goes on.
    pub fn begin_to_terminate(&self) {
        let sent = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        assert!(sent.is_ok_and(|status| status.success()), "SIGTERM could not be sent");
    }

    /// Waits until it has ended.
    pub fn wait(mut self) -> Ended {
        let mut code = None;
        eventually("the program ends", || {
            let ended = self.child.try_wait().expect("a child can be asked");
            code = ended.map(|status| status.code());
            code.is_some()
        });
        // The reader of stderr holds the other handle until it has read the last line.
        eventually("stderr is read", || Arc::strong_count(&self.stderr) == 1);
        Ended {
            code: code.flatten(),
            stderr: self.stderr(),
        }
    }

    /// Ends it as an operator does, and asserts that it ended well: what it took is stored then.
    pub fn terminate(self) -> Ended {
        self.begin_to_terminate();
        let ended = self.wait();
        assert_eq!(ended.code, Some(0), "after SIGTERM; stderr:\n{}", ended.stderr);
        assert!(
            !ended.stderr.contains("panicked"),
            "a thread panicked:\n{}",
            ended.stderr
        );
        ended
    }

    /// Ends it as a crash does.
    pub fn kill_9(mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- stderr of the program ---\n{}", self.stderr());
        }
    }
}

/// The address in `… WORDS http://ADDRESS…`, or https.
fn address_after(text: &str, words: &str) -> Option<SocketAddr> {
    // Only whole lines: the rest of an address may still be on its way.
    let line = text
        .split_inclusive('\n')
        .find(|line| line.contains(words) && line.ends_with('\n'))?;
    let (_, rest) = line.split_once(words)?.1.split_once("://")?;
    let end = rest
        .find(|c: char| !c.is_ascii_hexdigit() && !".:[]".contains(c))
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}
