//! The models of spool and collector, run for long: crashes, power loss and damaged files, on file systems and stores in
//! memory. The models themselves stand beside the code that they are of; here they are only given more to do.

use super::Report;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Steps of one case of the spool's model, on average, over its two tests.
const STEPS_A_CASE: u64 = 80;

/// The spool against its model: write, flush, writeback, crash, power loss, restart, for so many steps.
pub fn power(steps: u64) -> Report {
    let mut report = Report::new("spool against its model of crashes and power loss");
    let model = Model {
        package: "understudy-proxy",
        test: "spool::tests::model",
        cases: steps.div_ceil(STEPS_A_CASE) + 200,
        unit: " steps",
    };
    let (done, held) = model.run(&mut report);
    report.goal("steps", done, &format!("{steps} or so"), done + 10_000 > steps);
    report.goal(
        "acknowledged or fsynced records lost, doubled or changed",
        if held { "none" } else { "see above" },
        "none",
        held,
    );
    report
}

/// So many faults in a spool's files (bit flips, cuts, zeroes, doubled, swapped, deleted), each before a start.
pub fn mutate(faults: u64) -> Report {
    let mut report = Report::new("one fault in a spool file, and a collector that starts on it");
    let model = Model {
        package: "understudy-collector",
        test: "ingest::tests::mutations",
        cases: faults,
        unit: " faults",
    };
    let (done, held) = model.run(&mut report);
    report.goal("faults", done, &faults.to_string(), done + 100 > faults);
    report.goal(
        "panics, loops, records lost that were not damaged or not counted",
        if held { "none" } else { "see above" },
        "none",
        held,
    );
    report
}

struct Model {
    package: &'static str,
    test: &'static str,
    cases: u64,
    /// The word after the count that the test prints now and then.
    unit: &'static str,
}

impl Model {
    /// How much it has done, and whether it held.
    fn run(&self, report: &mut Report) -> (u64, bool) {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .args([
                "test",
                "--quiet",
                "-p",
                self.package,
                "--lib",
                "--",
                self.test,
                "--nocapture",
            ])
            .env("PROPTEST_CASES", self.cases.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        report.figure(
            "command",
            format!(
                "PROPTEST_CASES={} cargo test -p {} --lib -- {}",
                self.cases, self.package, self.test
            ),
        );
        let mut child = cargo.spawn().expect("cargo runs");
        let output = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let mut done = 0;
        for line in output.lines().map_while(Result::ok) {
            match line.strip_suffix(self.unit).and_then(|count| count.parse().ok()) {
                Some(count) => done = count,
                None => eprintln!("{line}"),
            }
        }
        let ended = child.wait().expect("a child can be waited for");
        (done, ended.success())
    }
}
