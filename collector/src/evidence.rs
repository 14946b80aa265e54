//! Gathers what verdicts look at from a store: scores, the floor of the same calls, what the baseline took.
//!
//! Reads only. The verdict itself is [`crate::verdict`]'s.

use crate::books::for_each_assigned;
use crate::feedback::{self, Truth, truths};
use crate::replay::{is_floor, is_reverse};
use crate::scan::{CallFilter, ScanError, ScoreFilter, scores};
use crate::store::Store;
use crate::verdict::{Evidence, Spent, Verdict, VerdictConfig, verdict};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use understudy_call::call::Response;
use understudy_call::record::{CallRecord, ScoreRecord};
use understudy_call::taskbook::CompiledBook;

/// A task's calls as far as verdicts need them.
#[derive(Default)]
struct TaskCalls {
    spent: Vec<Spent>,
    /// Calls of each conversation.
    conversations: HashMap<String, u32>,
    /// Scored call → its conversation, and a digest of its request.
    scored: HashMap<String, (String, String)>,
    /// What was recorded of those scored calls of which the right answer is known.
    recorded: HashMap<String, Response>,
}

impl TaskCalls {
    fn add(&mut self, call: CallRecord, scored: &BTreeSet<&str>, truths: &HashMap<String, Truth>) {
        self.spent.push(Spent::from(&call));
        *self.conversations.entry(call.conversation_id.clone()).or_default() += 1;
        if scored.contains(call.call_id.as_str()) {
            if truths.contains_key(&call.call_id) {
                let recorded = Response {
                    output_text: call.output_text.unwrap_or_default(),
                    tool_calls: call.tool_calls,
                    ..Response::default()
                };
                self.recorded.insert(call.call_id.clone(), recorded);
            }
            let digest = blake3::hash(call.request_body.unwrap_or_default().as_bytes());
            let twin = format!("request {}", digest.to_hex());
            self.scored.insert(call.call_id, (call.conversation_id, twin));
        }
    }

    /// Identical single calls are one unit.
    fn units(&self) -> HashMap<String, String> {
        let single = self
            .scored
            .iter()
            .filter(|(_, (conversation, _))| self.conversations.get(conversation) == Some(&1));
        single.map(|(call, (_, twin))| (call.clone(), twin.clone())).collect()
    }
}

/// The verdict on each candidate of each task that has scores, or of one task; by task, then candidate. `now` is in
/// microseconds since the epoch.
pub async fn verdicts(
    store: &Store,
    book: Option<&CompiledBook>,
    task: Option<&str>,
    config: &VerdictConfig,
    now: i64,
) -> Result<Vec<Verdict>, ScanError> {
    let filter = ScoreFilter {
        task: task.map(str::to_owned),
        ..ScoreFilter::default()
    };
    let mut by_task: BTreeMap<String, Vec<ScoreRecord>> = BTreeMap::new();
    // What a canary served is watched by the guard; it was not sampled for this.
    for row in scores(store, &filter).await?.into_iter().filter(|row| !is_reverse(row)) {
        by_task.entry(row.task_id.clone()).or_default().push(row);
    }
    let truths = truths(store).await?;
    let mut calls: BTreeMap<&str, TaskCalls> = BTreeMap::new();
    let scored: BTreeSet<&str> = by_task.values().flatten().map(|row| row.call_id.as_str()).collect();
    let filter = CallFilter {
        task: task.map(str::to_owned),
        ..CallFilter::default()
    };
    if !by_task.is_empty() {
        for_each_assigned(store, &filter, book, |call| {
            let known = call.task_id.as_deref().and_then(|task| by_task.get_key_value(task));
            if let Some((task, _)) = known {
                calls.entry(task).or_default().add(call, &scored, &truths);
            }
        })
        .await?;
    }
    let mut verdicts = Vec::new();
    for (task, rows) in &by_task {
        let nothing = TaskCalls::default();
        verdicts.extend(of_task(
            task,
            rows.clone(),
            calls.get(task.as_str()).unwrap_or(&nothing),
            &truths,
            config,
            now,
        ));
    }
    Ok(verdicts)
}

fn of_task(
    task: &str,
    rows: Vec<ScoreRecord>,
    calls: &TaskCalls,
    truths: &HashMap<String, Truth>,
    config: &VerdictConfig,
    now: i64,
) -> Vec<Verdict> {
    let (floor, mut rows): (Vec<ScoreRecord>, Vec<ScoreRecord>) = rows.into_iter().partition(is_floor);
    pair(&mut rows, &floor);
    feedback::apply(&mut rows, truths, &calls.recorded);
    let baseline = baseline(calls, &floor);
    let units = calls.units();
    let versions: BTreeSet<(&str, &str)> = rows
        .iter()
        .map(|row| (row.candidate.as_str(), row.candidate_version.as_str()))
        .collect();
    let candidates: BTreeSet<&str> = versions.iter().map(|(candidate, _)| *candidate).collect();
    let of_candidate = |candidate: &str| {
        let evidence = Evidence {
            task,
            candidate,
            rows: &rows,
            baseline: &baseline,
            units: Some(&units),
            candidates_tried: versions.len(),
            now,
        };
        verdict(&evidence, config)
    };
    candidates.into_iter().map(of_candidate).collect()
}

/// A floor that was measured after the candidate's score belongs to it all the same: it is the same request.
fn pair(rows: &mut [ScoreRecord], floor: &[ScoreRecord]) {
    let by_call: HashMap<&str, f64> = floor
        .iter()
        .filter_map(|row| Some((row.call_id.as_str(), row.floor_agreement?)))
        .collect();
    for row in rows.iter_mut().filter(|row| row.floor_agreement.is_none()) {
        row.floor_agreement = by_call.get(row.call_id.as_str()).copied();
    }
}

/// What the baseline took: of its live calls, else (imported calls often don't say) of the floor's.
fn baseline(calls: &TaskCalls, floor: &[ScoreRecord]) -> Vec<Spent> {
    let again: Vec<Spent> = floor.iter().map(Spent::from).collect();
    let durations = known(&calls.spent, &again, |spent| spent.duration_ms);
    let costs = known(&calls.spent, &again, |spent| spent.cost_usd);
    let duration = durations.into_iter().map(|duration_ms| Spent {
        duration_ms: Some(duration_ms),
        cost_usd: None,
    });
    let cost = costs.into_iter().map(|cost_usd| Spent {
        duration_ms: None,
        cost_usd: Some(cost_usd),
    });
    duration.chain(cost).collect()
}

fn known(live: &[Spent], again: &[Spent], value: fn(&Spent) -> Option<f64>) -> Vec<f64> {
    let of = |spent: &[Spent]| spent.iter().filter_map(value).collect::<Vec<f64>>();
    let live = of(live);
    if live.is_empty() { of(again) } else { live }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(call: &str, version: &str, floor: Option<f64>) -> ScoreRecord {
        ScoreRecord {
            call_id: call.into(),
            candidate_version: version.into(),
            floor_agreement: floor,
            duration_ms: Some(7.0),
            ..ScoreRecord::default()
        }
    }

    #[test]
    fn a_later_floor_is_paired_with_its_call() {
        let mut rows = [score("a", "v", None), score("b", "v", None), score("c", "v", Some(0.5))];
        pair(
            &mut rows,
            &[score("a", "floor-x", Some(0.9)), score("b", "floor-x", None)],
        );
        let floors: Vec<Option<f64>> = rows.iter().map(|row| row.floor_agreement).collect();
        assert_eq!(floors, [Some(0.9), None, Some(0.5)]);
    }

    #[test]
    fn the_floor_stands_in_where_the_calls_say_nothing() {
        let mut calls = TaskCalls::default();
        calls.spent.push(Spent {
            duration_ms: None,
            cost_usd: Some(0.1),
        });
        let baseline = baseline(&calls, &[score("a", "floor-x", None)]);
        let durations: Vec<f64> = baseline.iter().filter_map(|spent| spent.duration_ms).collect();
        let costs: Vec<f64> = baseline.iter().filter_map(|spent| spent.cost_usd).collect();
        assert_eq!((durations, costs), (vec![7.0], vec![0.1]));
    }
}
