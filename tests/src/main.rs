//! The endurance commands: each does its faults for as long as asked, prints its figures, and exits with 1 where a goal is
//! broken. `cargo run -p understudy-tests --release -- crash 1000`

use clap::{Parser, Subcommand};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, ExitCode, Stdio};
use understudy_tests::calibrate;
use understudy_tests::endure::{
    self, Report, clock, crash, disk, guard, hold, leave, models, origin::Origin, regress, reload, replay, restart,
    soak, streams, weights,
};

#[derive(Parser)]
#[command(about = "Endurance: faults and long runs against the goals, with figures")]
struct Arguments {
    #[command(subcommand)]
    command: Goal,
}

#[derive(Subcommand)]
enum Goal {
    /// kill -9 at random under 200 calls/s
    Crash {
        #[arg(default_value_t = 1000)]
        kills: u64,
    },
    /// The spool against its model of crashes and power loss
    Power {
        #[arg(default_value_t = 1_000_000)]
        steps: u64,
    },
    /// One fault in a spool file, and a collector that starts on it
    Mutate {
        #[arg(default_value_t = 100_000)]
        faults: u64,
    },
    /// The spool's disk is full, broken, read-only, or hangs; or one of: full, EIO, read-only, hanging
    Disk {
        /// Each time with a fault, and each without
        #[arg(default_value_t = 10.0)]
        seconds: f64,
        fault: Option<String>,
    },
    /// The spool's disk hangs
    Hang {
        #[arg(default_value_t = 10.0)]
        seconds: f64,
    },
    /// Reloads, good and bad, under load
    Reload {
        #[arg(default_value_t = 100)]
        reloads: usize,
        /// Calls per second
        #[arg(default_value_t = 1000)]
        rate: u64,
    },
    /// Restarts under load: of one instance, and of two that share a socket
    Restart {
        #[arg(default_value_t = 20)]
        restarts: usize,
        /// Calls per second
        #[arg(default_value_t = 200)]
        rate: u64,
    },
    /// Very many streams at once
    Streams {
        #[arg(default_value_t = 10_000)]
        streams: u64,
        #[arg(default_value_t = 60)]
        seconds: u64,
    },
    /// Mixed traffic for long, faults off and on
    Soak {
        #[arg(default_value_t = 3600)]
        seconds: u64,
        /// Calls per second
        #[arg(default_value_t = 200)]
        rate: u64,
    },
    /// The wall clock jumps
    Clock {
        #[arg(default_value_t = 20.0)]
        seconds: f64,
    },
    /// The guard on simulated calls: false trips, and how soon a regression is seen
    Guard {
        #[arg(default_value_t = 100)]
        runs: u64,
        /// Canaried calls of a run without a regression
        #[arg(default_value_t = 20_000)]
        calls: u64,
    },
    /// A candidate with 5 % of the traffic falls ill: how soon its guard takes it out
    Regress {
        /// Of each illness
        #[arg(default_value_t = 5)]
        times: usize,
        /// Calls per second
        #[arg(default_value_t = 500)]
        rate: u64,
    },
    /// Weights change under load
    Weights {
        #[arg(default_value_t = 100)]
        changes: usize,
        /// Calls per second
        #[arg(default_value_t = 1000)]
        rate: u64,
    },
    /// Clients go away
    Leave {
        #[arg(default_value_t = 200)]
        clients: usize,
    },
    /// Verdicts on simulated tasks: how often a bad candidate is ever promoted, and how soon a good one
    Calibrate {
        #[arg(default_value_t = 1000)]
        tasks: usize,
        /// Calls of each task; it is looked at after every one
        #[arg(default_value_t = 3000)]
        calls: usize,
    },
    /// What it costs to hold a candidate's streams: time to first token and total, with `hold: none` and with hold on
    Hold {
        #[arg(default_value_t = 30)]
        calls: usize,
    },
    /// A replay of so many kept calls: calls a second, and in flight at once
    Replay {
        #[arg(default_value_t = 50_000)]
        calls: usize,
    },
    /// A fake upstream alone, until its stdin ends
    #[command(hide = true)]
    Origin,
}

fn main() -> ExitCode {
    let report = match Arguments::parse().command {
        Goal::Crash { kills } => crash::run(kills, true),
        Goal::Power { steps } => models::power(steps),
        Goal::Mutate { faults } => models::mutate(faults),
        Goal::Disk { seconds, fault } => disk::run(seconds, fault.as_deref(), true),
        Goal::Hang { seconds } => disk::run(seconds, Some("hanging"), true),
        Goal::Reload { reloads, rate } => reload::run(reloads, rate),
        Goal::Restart { restarts, rate } => restart::run(restarts, rate),
        Goal::Streams { streams, seconds } => with_origin(|origin| streams::run(streams, seconds, origin, true)),
        Goal::Soak { seconds, rate } => soak::run(seconds, rate),
        Goal::Clock { seconds } => clock::run(seconds),
        Goal::Guard { runs, calls } => guard::run(runs, calls),
        Goal::Regress { times, rate } => regress::run(times, rate, true),
        Goal::Weights { changes, rate } => weights::run(changes, rate, true),
        Goal::Leave { clients } => leave::run(clients, true),
        Goal::Calibrate { tasks, calls } => return calibrated(tasks, calls),
        Goal::Hold { calls } => hold::run(calls, true),
        Goal::Replay { calls } => replay::run(calls, true),
        Goal::Origin => return origin(),
    };
    #[expect(clippy::print_stdout, reason = "the report is what the command is for")]
    {
        println!("{report}");
    }
    ExitCode::from(u8::from(!report.holds()))
}

/// With an origin in a process of its own: two ends of ten thousand streams are too many files for one.
fn with_origin(work: impl FnOnce(SocketAddr) -> Report) -> Report {
    let mut child = Command::new(std::env::current_exe().expect("a program knows its own path"))
        .arg("origin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("stdout is piped");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("the origin says where it listens");
    let report = work(line.trim().parse().expect("an address"));
    let _ = child.kill();
    let _ = child.wait();
    report
}

fn calibrated(tasks: usize, calls: usize) -> ExitCode {
    let calibration = calibrate::run(tasks, calls);
    #[expect(clippy::print_stdout, reason = "the table is what the command is for")]
    {
        println!("{calibration}");
    }
    ExitCode::from(u8::from(!calibration.holds()))
}

fn origin() -> ExitCode {
    let runtime = endure::runtime();
    let origin = Origin::start(runtime.handle());
    #[expect(clippy::print_stdout, reason = "the parent reads the address")]
    {
        println!("{}", origin.address);
    }
    let _ = std::io::stdin().read_line(&mut String::new());
    ExitCode::SUCCESS
}
