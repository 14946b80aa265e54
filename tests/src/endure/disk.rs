//! A disk of the spool that is full, broken, read-only, or hangs, while calls go on: no client may notice, what is not
//! kept is counted, and when the disk is well again so is the spool.

use super::load::{self, Agents, Done, Running, time_quantile};
use super::origin::Origin;
use super::shim::{DiskFault, Shim};
use super::{Report, kept, millis, runtime};
use crate::program::{Home, Program};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Calls per second.
const RATE: u64 = 200;
/// The longest that a call waits for its record.
const WAIT: Duration = Duration::from_millis(30);

/// How often a fault comes and goes where speed is asked for: what else a machine does can slow one time down, and the
/// median is told.
const ROUNDS: usize = 5;

/// Each fault for so many seconds, after as many without; or one of them, by name. `timed` asks for the goals of speed as
/// well, and does it five times.
pub fn run(seconds: f64, fault: Option<&str>, timed: bool) -> Report {
    let mut report = Report::new(format!(
        "faults of the spool's disk, {seconds} s each under {RATE} calls/s"
    ));
    for (name, disk) in [
        ("full", DiskFault::Full),
        ("EIO", DiskFault::Broken),
        ("read-only", DiskFault::ReadOnly),
        ("hanging", DiskFault::Hanging),
    ] {
        if fault.is_none_or(|only| only == name) {
            report.add(name, one(disk, Duration::from_secs_f64(seconds), timed));
        }
    }
    report
}

fn one(fault: DiskFault, time: Duration, timed: bool) -> Report {
    let mut report = Report::new("one fault");
    let runtime = runtime();
    let origin = Origin::start(runtime.handle());
    let (home, shim) = (Home::new(), Shim::new());
    let config = format!(
        "upstreams: {{ llm: {{ url: {} }} }}\ncapture: {{ wait: {}ms }}\nstore: {{ flush: {{ after: 500ms }} }}\n",
        origin.url(),
        WAIT.as_millis()
    );
    let program = shim.serve(&home, &config);
    let load = load::start(&runtime, Agents::new(program.listen), RATE, "call", |number| {
        if number % 20 == 0 { "stream-5-20" } else { "plain" }
    });
    std::thread::sleep(time.min(Duration::from_secs(1)));
    let mut calls = load.log.take();
    let (mut sound, mut ill) = (Vec::new(), Vec::new());
    let (mut during, mut waits, mut recovered) = (0, 0.0, Duration::ZERO);
    for _ in 0..if timed { ROUNDS } else { 1 } {
        let before = phase(&load, time, &mut calls);
        sound.push(p99(&before));
        let already = timed_out(&program);
        shim.disk(fault);
        let meanwhile = phase(&load, time, &mut calls);
        ill.push(p99(&meanwhile));
        during += meanwhile.len();
        waits += timed_out(&program) - already;
        let healed = Instant::now();
        shim.disk(DiskFault::None);
        recovered = recovered.max(until_kept_again(&program, healed));
        std::thread::sleep(Duration::from_millis(500));
        calls.extend(load.log.take());
    }
    calls.extend(load.finish(&runtime).0);
    let metrics = program.scrape_at_rest();
    let dropped = metrics.sum("understudy_dropped_total", &[]) as usize;
    program.terminate();

    let records = kept(&home);
    let (failed, words) = load::failures(&calls);
    let missing: BTreeSet<&str> = calls
        .iter()
        .filter(|call| !records.contains_key(&call.case))
        .map(|call| call.case.as_str())
        .collect();
    let twice = records.values().filter(|times| **times > 1).count();
    report.figure("calls, and during the fault", format!("{}, {during}", calls.len()));
    report.goal("client errors", words, "0", failed == 0 && during > 0);
    let (without, with) = (median(&mut sound), median(&mut ill));
    let figure = format!("{} to {}", millis(without), millis(with));
    if timed {
        report.goal(
            "p99 without and with it",
            figure,
            "1 ms more at most",
            with <= without + Duration::from_millis(1),
        );
    } else {
        report.figure("p99 without and with it", figure);
    }
    if fault == DiskFault::Hanging && timed {
        // Calls that came before the first wait timed out wait as well.
        let limit = ROUNDS as f64 * ((RATE as f64 * WAIT.as_secs_f64()).ceil() + 10.0);
        let asked = format!("{limit} at most: once a time, for {} ms", WAIT.as_millis());
        report.goal("calls that waited to the limit", waits, &asked, waits <= limit);
    }
    report.goal(
        "dropped, and missing",
        format!("{dropped}, {}", missing.len()),
        "the same",
        dropped == missing.len(),
    );
    report.goal("kept twice", twice, "0", twice == 0);
    let unaccounted = metrics.unaccounted();
    report.goal("calls - kept - dropped", unaccounted, "0", unaccounted == 0.0);
    let asked = Duration::from_secs(5);
    report.goal("kept again after", millis(recovered), "5 s at most", recovered <= asked);
    report
}

/// So long a time: the calls that began and ended in it. All that ended are among `calls` as well.
fn phase(load: &Running, time: Duration, calls: &mut Vec<Done>) -> Vec<Done> {
    calls.extend(load.log.take());
    let begun = Instant::now();
    std::thread::sleep(time);
    let ended = load.log.take();
    calls.extend_from_slice(&ended);
    ended
        .into_iter()
        .filter(|call| call.began.is_some_and(|at| at >= begun))
        .collect()
}

/// Of calls that are not streamed.
fn p99(calls: &[Done]) -> Duration {
    let plain: Vec<Done> = calls.iter().filter(|call| !call.end_mark).cloned().collect();
    time_quantile(&plain, 0.99)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Waits for the record that took as long as they may.
fn timed_out(program: &Program) -> f64 {
    let metrics = program.scrape();
    let name = "understudy_capture_wait_seconds";
    let within = metrics.sum(&format!("{name}_bucket"), &[("le", "0.025")]);
    metrics.sum(&format!("{name}_count"), &[]) - within
}

/// How long after `healed` the spool says that it is well, and keeps calls.
fn until_kept_again(program: &Program, healed: Instant) -> Duration {
    let first = program.scrape();
    let before = first.sum("understudy_kept_total", &[]);
    crate::eventually("the spool keeps calls again", || {
        let now = program.scrape();
        let is_well = ["understudy_spool_failing", "understudy_spool_slow"]
            .iter()
            .all(|gauge| now.sum(gauge, &[]) == 0.0);
        is_well && now.sum("understudy_kept_total", &[]) > before
    });
    healed.elapsed()
}
