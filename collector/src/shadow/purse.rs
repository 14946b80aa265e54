//! What shadows have spent today, written down beside the spool so that a restart spends nothing twice.

use super::rule::RuleBudget;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The file.
const FILE: &str = "shadow.json";
/// Seconds of a day.
const DAY: u64 = 86_400;
/// Steps of rollouts that are counted.
const MAX_STEPS: usize = 1000;

/// What was spent, by rule, and how far the steps of rollouts are.
pub(super) struct Purses {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct State {
    /// Days since the epoch, UTC.
    day: u64,
    spent: BTreeMap<String, Spent>,
    /// Canaried calls whose baseline was asked, by step.
    steps: BTreeMap<String, u64>,
    #[serde(skip)]
    changed: bool,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Spent {
    calls: u64,
    usd: f64,
    /// Answers that have a price.
    priced: u64,
    #[serde(skip)]
    in_flight: u64,
}

impl Purses {
    /// As they were written down. A file that can't be read is begun anew, which is said.
    pub(super) fn load(folder: &Path) -> Purses {
        let path = folder.join(FILE);
        let state = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, path = %path.display(), "what shadows spent today can't be read: it counts from 0");
                State::default()
            }),
            Err(_) => State::default(),
        };
        Purses {
            path,
            state: Mutex::new(state),
        }
    }

    /// Takes so many calls, which belong together, out of a purse.
    ///
    /// # Errors
    /// Why there is none left, in a word for a metric.
    pub(super) fn begin(&self, purse: &str, budget: &RuleBudget, calls: u64) -> Result<(), &'static str> {
        self.begin_on(today(), purse, budget, calls)
    }

    fn begin_on(&self, day: u64, purse: &str, budget: &RuleBudget, calls: u64) -> Result<(), &'static str> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.day != day {
            let in_flight = |(name, spent): (&String, &Spent)| {
                let rest = Spent {
                    in_flight: spent.in_flight,
                    ..Spent::default()
                };
                (name.clone(), rest)
            };
            state.spent = state.spent.iter().map(in_flight).collect();
            (state.day, state.changed) = (day, true);
        }
        let spent = state.spent.entry(purse.to_owned()).or_default();
        if spent.calls.saturating_add(calls) > budget.calls_per_day {
            return Err("budget_calls");
        }
        if let Some(most) = budget.usd_per_day {
            let each = spent.usd / spent.priced.max(1) as f64;
            if spent.usd + each * (spent.in_flight + 1) as f64 > most {
                return Err("budget_usd");
            }
        }
        spent.calls += calls;
        spent.in_flight += 1;
        state.changed = true;
        Ok(())
    }

    /// What [`Purses::begin`] was asked for is over; its cost, where it is known.
    pub(super) fn end(&self, purse: &str, usd: Option<f64>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = state.spent.entry(purse.to_owned()).or_default();
        spent.in_flight = spent.in_flight.saturating_sub(1);
        if let Some(usd) = usd {
            (spent.usd, spent.priced) = (spent.usd + usd, spent.priced + 1);
        }
        state.changed = true;
    }

    /// Counts a canaried call of a step; how many there were before.
    pub(super) fn step(&self, step: &str) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.steps.contains_key(step) && state.steps.len() >= MAX_STEPS {
            // A step begun again only costs calls.
            state.steps.clear();
        }
        let count = state.steps.entry(step.to_owned()).or_default();
        let before = *count;
        *count = count.saturating_add(1);
        state.changed = true;
        before
    }

    /// Writes down what changed; a file that can't be written is tried again with the next change.
    pub(super) fn save(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::take(&mut state.changed) {
            return;
        }
        let Ok(json) = serde_json::to_vec(&*state) else { return };
        drop(state);
        let temporary = self.path.with_extension("json.new");
        let written = std::fs::write(&temporary, json).and_then(|()| std::fs::rename(&temporary, &self.path));
        if let Err(error) = written {
            tracing::warn!(%error, path = %self.path.display(), "what shadows spent could not be written down");
            self.state.lock().unwrap_or_else(PoisonError::into_inner).changed = true;
        }
    }
}

fn today() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
        / DAY
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: RuleBudget = RuleBudget {
        calls_per_day: 3,
        usd_per_day: Some(1.0),
        concurrency: 1,
    };

    #[test]
    fn a_restart_spends_nothing_twice_and_a_new_day_begins_at_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let purses = Purses::load(folder.path());
        for _ in 0..2 {
            purses.begin_on(7, "a", &BUDGET, 1).unwrap();
            purses.end("a", Some(0.1));
        }
        purses.save();
        let again = Purses::load(folder.path());
        again.begin_on(7, "a", &BUDGET, 1).unwrap();
        assert_eq!(again.begin_on(7, "a", &BUDGET, 1), Err("budget_calls"));
        assert_eq!(again.begin_on(7, "b", &BUDGET, 1), Ok(()));
        assert_eq!(again.begin_on(8, "a", &BUDGET, 1), Ok(()));
    }

    #[test]
    fn money_ends_before_the_call_that_would_pass_it() {
        let purses = Purses::load(Path::new("/nowhere"));
        purses.begin_on(7, "a", &BUDGET, 1).unwrap();
        purses.end("a", Some(0.6));
        assert_eq!(purses.begin_on(7, "a", &BUDGET, 1), Err("budget_usd"));
        assert_eq!((purses.step("s"), purses.step("s"), purses.step("t")), (0, 1, 0));
    }
}
