//! Very many streams at once: memory, errors, and how much later each event comes than without the program between.

use super::load::{Agents, Done, quantile};
use super::{Report, runtime};
use crate::program::Home;
use std::net::SocketAddr;
use std::time::Duration;

/// Streams that begin each second.
const RAMP: u64 = 1000;

/// More streams than this are many: of few each event's way can be told apart from waiting.
const FEW: u64 = 100;

/// So many streams for so many seconds, at an origin that another process may run: of an event a second, or of fifty where
/// they are few. `timed` asks for the goals of speed as well.
pub fn run(streams: u64, seconds: u64, origin: SocketAddr, timed: bool) -> Report {
    let pace = if streams > FEW { 1000 } else { 20 };
    let mut report = Report::new(format!("{streams} streams at once, an event in {pace} ms, {seconds} s"));
    let runtime = runtime();
    // All are open together for the time asked.
    let events = (seconds + streams.div_ceil(RAMP)) * 1000 / pace;
    let model = format!("stream-{events}-{pace}");
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
    let figure = format!("{without:.2} ms, {with:.2} ms");
    if timed && streams <= FEW {
        let asked = "0.3 ms more at most";
        report.goal(
            "event's way, p50, without and with",
            figure,
            asked,
            with - without <= 0.3,
        );
    } else {
        report.figure("event's way, p50, without and with", figure);
    }
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
