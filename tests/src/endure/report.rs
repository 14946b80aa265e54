//! What a command did and found, as one table, and whether its goals hold.

use std::fmt;
use std::time::Instant;

/// The outcome of one command.
#[derive(Debug)]
pub struct Report {
    title: String,
    begun: Instant,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    name: String,
    value: String,
    /// For a goal: what it asks, and whether it holds.
    goal: Option<(String, bool)>,
}

impl Report {
    /// Of what is about to be done.
    pub fn new(title: impl Into<String>) -> Report {
        Report {
            title: title.into(),
            begun: Instant::now(),
            lines: Vec::new(),
        }
    }

    /// A figure that nothing is asked of.
    pub fn figure(&mut self, name: &str, value: impl fmt::Display) {
        self.lines.push(Line {
            name: name.into(),
            value: value.to_string(),
            goal: None,
        });
    }

    /// A figure, what is asked of it, and whether that holds.
    pub fn goal(&mut self, name: &str, value: impl fmt::Display, asked: &str, holds: bool) {
        self.lines.push(Line {
            name: name.into(),
            value: value.to_string(),
            goal: Some((asked.into(), holds)),
        });
    }

    /// Takes over another's lines, each named after it.
    pub fn add(&mut self, part: &str, other: Report) {
        self.lines.extend(other.lines.into_iter().map(|line| Line {
            name: format!("{part}: {}", line.name),
            ..line
        }));
    }

    /// Whether every goal holds, and there is one.
    pub fn holds(&self) -> bool {
        let mut goals = self.lines.iter().filter_map(|line| line.goal.as_ref()).peekable();
        goals.peek().is_some() && goals.all(|(_, holds)| *holds)
    }

    /// Panics with the table where a goal does not hold.
    pub fn assert(&self) {
        assert!(self.holds(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |of: fn(&Line) -> &str| {
            self.lines
                .iter()
                .map(|line| of(line).chars().count())
                .max()
                .unwrap_or(0)
        };
        let (names, values) = (width(|line| &line.name), width(|line| &line.value));
        writeln!(out, "{} ({:.0} s)", self.title, self.begun.elapsed().as_secs_f64())?;
        for Line { name, value, goal } in &self.lines {
            write!(out, "  {name:<names$}  {value:<values$}")?;
            if let Some((asked, holds)) = goal {
                write!(out, "  {}  {asked}", if *holds { "pass" } else { "FAIL" })?;
            }
            writeln!(out)?;
        }
        write!(
            out,
            "{}",
            if self.holds() {
                "all goals hold"
            } else {
                "A GOAL IS BROKEN"
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_holds_only_with_goals_that_all_hold() {
        let mut report = Report::new("calls");
        report.figure("calls", 7);
        assert!(!report.holds(), "nothing was asked");
        report.goal("lost", 0, "0", true);
        assert!(report.holds());
        let mut whole = Report::new("all");
        whole.add("calls", report);
        whole.goal("twice", 1, "0", false);
        assert!(!whole.holds());
        assert!(whole.to_string().contains("calls: lost"), "{whole}");
        assert!(whole.to_string().contains("FAIL"), "{whole}");
    }
}
