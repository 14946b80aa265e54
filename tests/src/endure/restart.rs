//! Restarts under load, as a service manager makes them that holds the listening socket: SIGTERM, drain, next start.
//!
//! One instance: connections wait in the socket while it drains and starts again. Two that accept from the same socket,
//! one after the other: they need not wait.

use super::load::{self, Agents, time_quantile};
use super::origin::Origin;
use super::{Report, kept, millis};
use crate::program::{Home, Program};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// So many restarts of one instance, and so many of two that take turns, at so many calls per second.
pub fn run(restarts: usize, rate: u64) -> Report {
    let mut report = Report::new(format!("{restarts} restarts under {rate} calls/s, twice"));
    report.add("one instance", of_instances(1, restarts, rate));
    report.add("two instances", of_instances(2, restarts, rate));
    report
}

fn of_instances(instances: usize, restarts: usize, rate: u64) -> Report {
    let mut report = Report::new("restarts");
    let runtime = super::runtime();
    let origin = Origin::start(runtime.handle());
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("a bound socket has an address");
    let homes: Vec<Home> = (0..instances).map(|_| Home::new()).collect();
    let start = |home: &Home| home.serve_held(&socket, &["--upstream", &origin.url()]);
    let mut running: Vec<Program> = homes.iter().map(start).collect();
    let load = load::start(&runtime, Agents::new(address), rate, "call", |number| {
        match number % 20 {
            0 => "stream-20-100",
            1..=5 => "stream-5-20",
            _ => "plain",
        }
    });
    std::thread::sleep(Duration::from_millis(500));
    let mut downs = Vec::new();
    for number in 0..restarts {
        let begun = Instant::now();
        let which = number % instances;
        running.remove(which).terminate();
        running.insert(which, start(&homes[which]));
        downs.push(begun.elapsed().as_micros() as u64);
        // What has waited is served meanwhile.
        std::thread::sleep(Duration::from_secs(1));
    }
    let (calls, measured) = load.finish(&runtime);
    running.into_iter().for_each(|program| drop(program.terminate()));
    let (failed, words) = load::failures(&calls);
    let streams = calls.iter().filter(|call| call.end_mark).count();
    let records: Vec<_> = homes.iter().map(kept).collect();
    let times_kept = |case: &str| records.iter().filter_map(|of_home| of_home.get(case)).sum::<usize>();
    let missing = calls
        .iter()
        .filter(|call| call.is_whole() && times_kept(&call.case) != 1)
        .count();
    let plain: Vec<_> = calls.iter().filter(|call| !call.end_mark).cloned().collect();
    report.figure("calls", calls.len());
    report.figure("calls/s", format!("{measured:.0}"));
    report.figure("streams seen to their end mark", streams);
    report.figure(
        "SIGTERM to listening again, p50",
        millis(Duration::from_micros(load::quantile(&mut downs, 0.5))),
    );
    report.figure("plain calls, p50", millis(time_quantile(&plain, 0.5)));
    report.figure("plain calls, p99", millis(time_quantile(&plain, 0.99)));
    report.figure("plain calls, slowest", millis(time_quantile(&plain, 1.0)));
    report.goal("calls failed or cut", words, "0", failed == 0 && !calls.is_empty());
    report.goal("calls not kept once", missing, "0", missing == 0);
    report
}
