//! kill -9 at random moments under load: what a client saw complete is kept, once, and the next start is quick.

use super::load::{self, Agents, Done};
use super::origin::Origin;
use super::{Report, kept, millis};
use crate::Dice;
use crate::program::Home;
use std::time::{Duration, Instant};

/// Calls per second.
const RATE: u64 = 200;

/// So many kills. `timed` asks for the goal of speed as well.
pub fn run(kills: u64, timed: bool) -> Report {
    let mut report = Report::new(format!("kill -9 at random, {kills} times, under {RATE} calls/s"));
    let runtime = super::runtime();
    let origin = Origin::start(runtime.handle());
    let home = Home::new();
    // What is promised is promised for waits that completed: here none times out.
    let config = format!(
        "upstreams: {{ llm: {{ url: {} }} }}\ncapture: {{ wait: 60s }}\nstore: {{ flush: {{ after: 1s }} }}\n",
        origin.url()
    );
    // Builds the program where it has changed: no start waits for that.
    home.run(&["--version"]);
    let mut dice = Dice::new(kills);
    let mut calls: Vec<Done> = Vec::new();
    let mut starts = Vec::new();
    for round in 0..kills {
        let begun = Instant::now();
        let program = home.serve_config(&config);
        starts.push(begun.elapsed().as_micros() as u64);
        let load = load::start(
            &runtime,
            Agents::new(program.listen),
            RATE,
            &format!("{round}"),
            |number| {
                if number % 2 == 0 { "stream-8-10" } else { "plain" }
            },
        );
        std::thread::sleep(Duration::from_millis(50 + dice.roll(600)));
        program.kill_9();
        calls.extend(load.finish(&runtime).0);
    }
    home.serve_config(&config).terminate();
    let whole: Vec<&Done> = calls.iter().filter(|call| call.is_whole()).collect();
    let kept = kept(&home);
    let lost = whole.iter().filter(|call| !kept.contains_key(&call.case)).count();
    let twice = kept.values().filter(|times| **times > 1).count();
    let slowest = starts.iter().max().copied().unwrap_or(0);
    report.figure("calls begun", calls.len());
    report.figure("calls cut by a kill", calls.len() - whole.len());
    report.figure("calls whose end mark the client saw", whole.len());
    report.figure("records kept", kept.len());
    report.figure(
        "start, p50",
        millis(Duration::from_micros(load::quantile(&mut starts, 0.5))),
    );
    report.goal("calls lost", lost, "0", lost == 0 && !whole.is_empty());
    report.goal("calls kept twice", twice, "0", twice == 0);
    let slowest = Duration::from_micros(slowest);
    if timed {
        report.goal(
            "start, slowest",
            millis(slowest),
            "2 s at most",
            slowest < Duration::from_secs(2),
        );
    }
    let data = home.data().to_string_lossy().into_owned();
    let audit = home.run(&["audit", "--config", "understudy.yaml", "--data", &data]);
    let code = audit.status.code();
    report.goal(
        "audit: calls unaccounted for, or an unreadable file",
        format!("exit {code:?}"),
        "exit 0",
        code == Some(0),
    );
    report
}
