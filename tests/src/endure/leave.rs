//! Clients that go away: how soon the upstream's call is cancelled, silent or in the middle of a stream.

use super::load::quantile;
use super::origin::{CASE, Origin};
use super::{Report, millis};
use crate::fixtures::{CHAT, chat_request};
use crate::http::{Request, Wire};
use crate::program::Home;
use std::time::{Duration, Instant};

/// So many clients leave, half of them while the upstream is silent. `timed` asks for the goal of speed as well.
pub fn run(clients: usize, timed: bool) -> Report {
    let mut report = Report::new(format!("{clients} clients go away"));
    let runtime = super::runtime();
    let origin = Origin::start(runtime.handle());
    let home = Home::new();
    let program = home.serve_upstream(&origin.url());
    for (what, model) in [("silent", "silent"), ("streaming", "stream-100000-20")] {
        let mut times = Vec::new();
        for client in 0..clients.div_ceil(2) {
            let case = format!("{what}-{client}");
            let before = origin.requests();
            let wire = Wire::connect(program.listen).expect("the program listens");
            let body = chat_request(model, "How are you?", true);
            let request = Request::post(CHAT, body)
                .header(CASE, &case)
                .header("x-understudy-tag-case", &case);
            wire.write(&request.bytes(program.listen)).expect("the program reads");
            crate::eventually("the upstream has the call", || origin.requests() > before);
            // A stream is under way then.
            std::thread::sleep(Duration::from_millis(30));
            let left = Instant::now();
            drop(wire);
            crate::eventually("the upstream's call is cancelled", || origin.left_at(&case).is_some());
            let cancelled = origin.left_at(&case).map(|at| at.saturating_duration_since(left));
            times.push(cancelled.unwrap_or_default().as_micros() as u64);
        }
        let of = |share| Duration::from_micros(quantile(&mut times.clone(), share));
        report.figure(&format!("upstream {what}: clients"), times.len());
        report.figure(&format!("upstream {what}: cancelled after, p50"), millis(of(0.5)));
        let slowest = of(1.0);
        let name = format!("upstream {what}: cancelled after, slowest");
        if timed {
            report.goal(
                &name,
                millis(slowest),
                "50 ms at most",
                slowest <= Duration::from_millis(50),
            );
        }
    }
    program.scrape_at_rest();
    program.terminate();
    let rows = home.rows();
    let told = rows
        .iter()
        .filter(|row| row.outcome == understudy_call::record::Outcome::ClientClosed);
    let told = told.count();
    report.goal(
        "records that say client_closed",
        told,
        "every call",
        told == rows.len() && !rows.is_empty(),
    );
    report
}
