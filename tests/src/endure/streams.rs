//! Very many streams at once: memory, errors, and how much later each event comes than without the program between.

use super::load::{Agents, Done, quantile};
use super::{Report, runtime};
use crate::program::Home;
use std::net::SocketAddr;
use std::time::Duration;

/// Streams that begin each second.
const RAMP: u64 = 1000;

/// So many streams of an event a second for so many seconds, at an origin that another process may run. `timed` asks for
/// the goals of speed as well.
pub fn run(streams: u64, seconds: u64, origin: SocketAddr, timed: bool) -> Report {
    let mut report = Report::new(format!("{streams} streams at once, an event a second, {seconds} s"));
    let runtime = runtime();
    // All are open together for the time asked.
    let events = seconds + streams.div_ceil(RAMP);
    let model = format!("stream-{events}-1000");
    let direct = runtime.block_on(all(&Agents::new(origin), streams, &model));
    let home = Home::new();
    let program = home.serve_config(&format!(
        "upstreams: {{ llm: {{ url: http://{origin} }} }}\nlimits: {{ connections: 20000 }}\n"
    ));
    let through = runtime.block_on(all(&Agents::new(program.listen), streams, &model));
    let memory = program.peak_memory() >> 20;
    let metrics = program.scrape_at_rest();
    program.terminate();

    let cut = |calls: &[Done]| calls.iter().filter(|call| !call.is_whole() || !call.end_mark).count();
    let delays = |calls: &[Done], share: f64| {
        let mut all: Vec<u64> = calls.iter().flat_map(|call| call.delays.iter().copied()).collect();
        quantile(&mut all, share) as f64 / 1000.0
    };
    report.figure(
        "events through the program",
        through.iter().map(|call| call.delays.len()).sum::<usize>(),
    );
    report.figure("streams cut without the program", cut(&direct));
    let (failed, words) = super::load::failures(&through);
    report.goal(
        "streams failed or cut",
        words,
        "0",
        failed == 0 && cut(&through) == 0 && !through.is_empty(),
    );
    report.goal("memory at most", format!("{memory} MiB"), "1024 MiB", memory <= 1024);
    let (without, with) = (delays(&direct, 0.5), delays(&through, 0.5));
    report.figure(
        "event's way, p50, without and with",
        format!("{without:.2} ms, {with:.2} ms"),
    );
    let (without, with) = (delays(&direct, 0.99), delays(&through, 0.99));
    let figure = format!("{without:.2} ms, {with:.2} ms");
    if timed {
        report.goal(
            "event's way, p99, without and with",
            figure,
            "20 ms more at most",
            with - without <= 20.0,
        );
    } else {
        report.figure("event's way, p99, without and with", figure);
    }
    let unaccounted = metrics.unaccounted();
    report.goal("calls - kept - dropped", unaccounted, "0", unaccounted == 0.0);
    report
}

async fn all(agents: &Agents, streams: u64, model: &str) -> Vec<Done> {
    let mut open = tokio::task::JoinSet::new();
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    for number in 0..streams {
        if number % (RAMP / 100) == 0 {
            pace.tick().await;
        }
        let (agents, model) = (agents.clone(), model.to_owned());
        open.spawn(async move { agents.call(&format!("stream-{number}"), &model).await });
    }
    open.join_all().await
}
