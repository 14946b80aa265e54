//! Gathers what verdicts look at from a store: scores, the floor of the same calls, what was tried, what the baseline took.
//!
//! Reads only. The verdict itself is [`crate::verdict`]'s.

use crate::books::for_each_assigned;
use crate::feedback::{self, Truth, truths};
use crate::replay::{floors, is_floor, is_reverse, twin_key};
use crate::scan::{CallFilter, ScanError, ScoreFilter, scores};
use crate::specialise::{self, Seen, Trained};
use crate::store::{Store, StoreError};
use crate::verdict::{Evidence, Machine, Spent, Tried, Verdict, VerdictConfig, Volume, together, verdict};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use understudy_call::call::{Api, Response};
use understudy_call::record::{CallRecord, Outcome, ScoreRecord};
use understudy_call::taskbook::CompiledBook;

/// Commits read at once.
const COMMITS_AT_ONCE: usize = 16;
/// Models of unknown price that are named, at most.
const MOST_UNPRICED: usize = 20;

/// A task's calls as far as verdicts need them.
#[derive(Default)]
struct TaskCalls {
    spent: Vec<Spent>,
    volume: Volume,
    /// Upstreams that they were addressed to, and how many.
    addressed: BTreeMap<String, usize>,
    /// Models of answers whose cost is not known.
    unpriced: BTreeSet<String>,
    /// Calls of each conversation.
    conversations: HashMap<String, u32>,
    /// Scored call → its conversation, and a digest of its request.
    scored: HashMap<String, (String, String)>,
    /// Scored calls whose answers hold masked values.
    masked: HashSet<String>,
    /// What was recorded of those scored calls of which the right answer is known.
    recorded: HashMap<String, Response>,
    /// Scored call → the versions of candidates that saw it in their training, by [`version_key`]; of whatever task the call
    /// is now.
    trained_on: HashMap<String, BTreeSet<String>>,
}

impl TaskCalls {
    fn add(&mut self, call: CallRecord, scored: &BTreeSet<&str>, truths: &HashMap<String, Truth>) {
        self.volume.add(call.started_at);
        if let Some(upstream) = &call.upstream {
            match self.addressed.get_mut(upstream) {
                Some(calls) => *calls += 1,
                None => drop(self.addressed.insert(upstream.clone(), 1)),
            }
        }
        if call.outcome == Outcome::Ok && !call.is_by_candidate() {
            self.spent.push(Spent::from(&call));
            if call.cost_usd.is_none() && self.unpriced.len() < MOST_UNPRICED {
                let model = call.response_model.as_ref().or(call.request_model.as_ref());
                self.unpriced.extend(model.cloned());
            }
        }
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
            let api = Api::from_name(&call.api).unwrap_or(Api::Other);
            let twin = twin_key(api, &call.request_body.unwrap_or_default());
            let twin = format!("request {}", understudy_call::keys::hex(&twin));
            if call.masked_in.iter().any(|masked| masked.column == "response_body") {
                self.masked.insert(call.call_id.clone());
            }
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

/// What a finished replay says of itself, as far as verdicts need it.
#[derive(Clone, Debug, Deserialize)]
struct Commit {
    job: String,
    task: String,
    candidate: String,
    candidate_version: String,
    #[serde(default)]
    candidate_model: Option<String>,
    #[serde(default)]
    asked: u64,
    #[serde(default)]
    failed: u64,
    /// Seconds in which the candidate had something to answer; older commits don't say.
    #[serde(default)]
    busy_seconds: f64,
}

impl Commit {
    /// When its job began: its id says it.
    fn tried(&self) -> Option<Tried> {
        let id = JOBS.iter().find_map(|job| self.job.strip_prefix(job))?;
        let id = uuid::Uuid::parse_str(id).ok()?;
        let (seconds, nanos) = id.get_timestamp()?.to_unix();
        let micros = i64::try_from(seconds).ok()?.checked_mul(1_000_000)?;
        Some(Tried {
            candidate: self.candidate.clone(),
            version: self.candidate_version.clone(),
            at: micros + i64::from(nanos / 1000),
        })
    }
}

/// How the jobs that try candidates are called.
const JOBS: [&str; 2] = ["replay-", "shadow-"];

/// The commits of all replays and shadows. One that can't be read is none of ours.
async fn commits(store: &Store) -> Result<Vec<Commit>, StoreError> {
    let objects = store.list("_commits").await?;
    let is_trial = |key: &str| {
        let name = key.strip_prefix("_commits/").unwrap_or_default();
        JOBS.iter().any(|job| name.starts_with(job))
    };
    let replays = objects.into_iter().filter(|object| is_trial(&object.key));
    let read = stream::iter(replays.map(|object| async move { store.get(&object.key).await }));
    let bytes: Vec<_> = read.buffer_unordered(COMMITS_AT_ONCE).try_collect().await?;
    Ok(bytes
        .iter()
        .filter_map(|bytes| serde_json::from_slice(bytes).ok())
        .collect())
}

/// The verdict on each candidate of each task that has scores, or of one task; by task, then candidate. All tasks are
/// looked at in any case: how much evidence one needs depends on how many are tried. `now` is in microseconds since the
/// epoch.
pub async fn verdicts(
    store: &Store,
    book: Option<&CompiledBook>,
    task: Option<&str>,
    config: &VerdictConfig,
    now: i64,
) -> Result<Vec<Verdict>, ScanError> {
    let mut by_task: BTreeMap<String, Vec<ScoreRecord>> = BTreeMap::new();
    // What a canary served is watched by the guard; it was not sampled for this.
    let rows = scores(store, &ScoreFilter::default()).await?;
    for row in rows.into_iter().filter(|row| !is_reverse(row)) {
        by_task.entry(row.task_id.clone()).or_default().push(row);
    }
    let truths = truths(store).await?;
    let commits = commits(store).await?;
    let trained = saw(&specialise::load(store).await?, by_task.values().flatten(), &commits);
    let mut calls: BTreeMap<&str, TaskCalls> = BTreeMap::new();
    let mut trained_on: HashMap<String, BTreeSet<String>> = HashMap::new();
    let scored: BTreeSet<&str> = by_task.values().flatten().map(|row| row.call_id.as_str()).collect();
    if !by_task.is_empty() {
        for_each_assigned(store, &CallFilter::default(), book, |call| {
            // Also where the call is now of another task than when it was scored.
            if scored.contains(call.call_id.as_str()) {
                let saw = trained.iter().filter(|(_, seen)| seen.covers(&call));
                let saw: BTreeSet<String> = saw.map(|(version, _)| version.clone()).collect();
                if !saw.is_empty() {
                    trained_on.insert(call.call_id.clone(), saw);
                }
            }
            let known = call.task_id.as_deref().and_then(|task| by_task.get_key_value(task));
            if let Some((task, _)) = known {
                calls.entry(task).or_default().add(call, &scored, &truths);
            }
        })
        .await?;
    }
    for (task, rows) in &by_task {
        let saw = |row: &ScoreRecord| Some((row.call_id.clone(), trained_on.get(&row.call_id)?.clone()));
        calls
            .entry(task)
            .or_default()
            .trained_on
            .extend(rows.iter().filter_map(saw));
    }
    let nothing = TaskCalls::default();
    let mut verdicts = Vec::new();
    for (task, rows) in &by_task {
        let calls = calls.get(task.as_str()).unwrap_or(&nothing);
        let commits: Vec<&Commit> = commits.iter().filter(|commit| &commit.task == task).collect();
        verdicts.extend(of_task(task, rows.clone(), calls, &truths, &commits, config, now));
    }
    together(&mut verdicts, config);
    verdicts.retain(|verdict| task.is_none_or(|task| verdict.task == task));
    Ok(verdicts)
}

/// What each version of a candidate saw in its training, by [`version_key`]; only of those that saw something.
///
/// A version is known by the model that it was asked for, which its commits tell, and by the candidate's own name.
fn saw<'a>(
    trained: &[Trained],
    rows: impl Iterator<Item = &'a ScoreRecord>,
    commits: &[Commit],
) -> BTreeMap<String, Seen> {
    if trained.is_empty() {
        return BTreeMap::new();
    }
    let mut names: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for row in rows {
        let key = version_key(&row.candidate, &row.candidate_version);
        names.entry(key).or_default().insert(&row.candidate);
    }
    for commit in commits {
        let key = version_key(&commit.candidate, &commit.candidate_version);
        names.entry(key).or_default().extend(commit.candidate_model.as_deref());
    }
    let seen = names
        .into_iter()
        .map(|(version, names)| (version, Seen::of(trained, names)));
    seen.filter(|(_, seen)| !seen.is_empty()).collect()
}

fn version_key(candidate: &str, version: &str) -> String {
    format!("{candidate} {version}")
}

fn of_task(
    task: &str,
    rows: Vec<ScoreRecord>,
    calls: &TaskCalls,
    truths: &HashMap<String, Truth>,
    commits: &[&Commit],
    config: &VerdictConfig,
    now: i64,
) -> Vec<Verdict> {
    let (floor, mut rows): (Vec<ScoreRecord>, Vec<ScoreRecord>) = rows.into_iter().partition(is_floor);
    let paired = pair(&mut rows, &floor);
    feedback::apply(&mut rows, truths, &calls.recorded);
    let baseline = baseline(calls, &floor);
    let units = calls.units();
    let is_trained_on = |row: &ScoreRecord| {
        let saw = calls.trained_on.get(&row.call_id);
        saw.is_some_and(|saw| saw.contains(&version_key(&row.candidate, &row.candidate_version)))
    };
    let trained_on: HashSet<(String, String)> = rows
        .iter()
        .filter(|row| is_trained_on(row))
        .map(|row| (row.candidate_version.clone(), row.call_id.clone()))
        .collect();
    let tried: Vec<Tried> = commits.iter().filter_map(|commit| commit.tried()).collect();
    let candidates: BTreeSet<&str> = rows.iter().map(|row| row.candidate.as_str()).collect();
    let of_candidate = |candidate: &str| {
        let own = || rows.iter().filter(|row| row.candidate == candidate);
        let machine = Machine {
            gpu_hour: config.gpu_hours.get(candidate).copied(),
            calls_per_hour: own()
                .max_by_key(|row| row.judged_at)
                .and_then(|newest| throughput(commits, newest)),
        };
        let mut unpriced: Vec<String> = calls.unpriced.iter().cloned().collect();
        let is_priced = |row: &ScoreRecord| row.cost_usd.is_some() || row.outcome != Outcome::Ok;
        if machine.gpu_hour.is_none() && !own().all(is_priced) {
            unpriced.push(candidate.to_owned());
        }
        let evidence = Evidence {
            task,
            candidate,
            rows: &rows,
            tried: &tried,
            baseline: &baseline,
            units: Some(&units),
            paired: Some(&paired),
            masked: Some(&calls.masked),
            trained_on: Some(&trained_on),
            volume: calls.volume,
            machine,
            unpriced: &unpriced,
            addressed: most(&calls.addressed),
            now,
        };
        verdict(&evidence, config)
    };
    candidates.into_iter().map(of_candidate).collect()
}

/// Where most calls went.
fn most(addressed: &BTreeMap<String, usize>) -> Option<&str> {
    let (upstream, _) = addressed.iter().max_by_key(|(_, calls)| **calls)?;
    Some(upstream)
}

/// Answers in an hour of work, over all replays of a version; `None` where none was timed.
fn throughput(commits: &[&Commit], newest: &ScoreRecord) -> Option<f64> {
    let own = commits.iter().filter(|commit| {
        commit.candidate == newest.candidate
            && commit.candidate_version == newest.candidate_version
            && commit.busy_seconds > 0.0
    });
    let (answers, seconds) = own.fold((0, 0.0), |(answers, seconds), commit| {
        (
            answers + commit.asked.saturating_sub(commit.failed),
            seconds + commit.busy_seconds,
        )
    });
    (answers > 0).then(|| answers as f64 * 3600.0 / seconds)
}

/// A floor that was measured after the candidate's score belongs to it all the same: it is the same request. When those were
/// measured, by call: such a pair is as new as its floor.
fn pair(rows: &mut [ScoreRecord], floor: &[ScoreRecord]) -> HashMap<String, i64> {
    let by_call = floors(floor);
    let mut paired = HashMap::new();
    for row in rows.iter_mut().filter(|row| row.floor_agreement.is_none()) {
        if let Some(floor) = by_call.get(&row.call_id).filter(|floor| floor.agreement.is_some()) {
            row.floor_agreement = floor.agreement;
            paired.insert(row.call_id.clone(), floor.at);
        }
    }
    paired
}

/// What the baseline took: of its live calls, else (imported calls often don't say) of the floor's.
fn baseline(calls: &TaskCalls, floor: &[ScoreRecord]) -> Vec<Spent> {
    // Pairs that the traffic itself held took nothing.
    let asked = floor.iter().filter(|row| row.duration_ms.is_some());
    let again: Vec<Spent> = asked.map(Spent::from).collect();
    let of = |value: fn(&Spent) -> Option<f64>| {
        let known = |spent: &[Spent]| spent.iter().filter_map(value).collect::<Vec<f64>>();
        let live = known(&calls.spent);
        if live.is_empty() { known(&again) } else { live }
    };
    let duration = of(|spent| spent.duration_ms).into_iter().map(|value| Spent {
        duration_ms: Some(value),
        ..Spent::default()
    });
    let first_token = of(|spent| spent.first_token_ms).into_iter().map(|value| Spent {
        first_token_ms: Some(value),
        ..Spent::default()
    });
    let cost = of(|spent| spent.cost_usd).into_iter().map(|value| Spent {
        cost_usd: Some(value),
        ..Spent::default()
    });
    duration.chain(first_token).chain(cost).collect()
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
        let later = ScoreRecord {
            judged_at: 7,
            ..score("a", "floor-x", Some(0.9))
        };
        let paired = pair(&mut rows, &[later, score("b", "floor-x", None)]);
        assert_eq!(paired, HashMap::from([("a".to_owned(), 7)]));
        let floors: Vec<Option<f64>> = rows.iter().map(|row| row.floor_agreement).collect();
        assert_eq!(floors, [Some(0.9), None, Some(0.5)]);
    }

    #[test]
    fn single_calls_that_ask_the_same_are_one_unit_whoever_asks() {
        let mut calls = TaskCalls::default();
        let call = |number: usize, user: &str, text: &str| CallRecord {
            call_id: format!("call-{number}"),
            conversation_id: format!("conversation-{number}"),
            api: "openai_chat".into(),
            request_body: Some(
                serde_json::json!({"model": "m", "user": user, "messages": [{"role": "user", "content": text}]})
                    .to_string(),
            ),
            ..CallRecord::default()
        };
        let scored = BTreeSet::from(["call-1", "call-2", "call-3"]);
        for call in [call(1, "ann", "x"), call(2, "bob", "x"), call(3, "ann", "y")] {
            calls.add(call, &scored, &HashMap::new());
        }
        let units = calls.units();
        assert_eq!(units["call-1"], units["call-2"]);
        assert_ne!(units["call-1"], units["call-3"]);
    }

    #[test]
    fn the_floor_stands_in_where_the_calls_say_nothing() {
        let mut calls = TaskCalls::default();
        calls.spent.push(Spent {
            cost_usd: Some(0.1),
            ..Spent::default()
        });
        let baseline = baseline(&calls, &[score("a", "floor-x", None)]);
        let durations: Vec<f64> = baseline.iter().filter_map(|spent| spent.duration_ms).collect();
        let costs: Vec<f64> = baseline.iter().filter_map(|spent| spent.cost_usd).collect();
        assert_eq!((durations, costs), (vec![7.0], vec![0.1]));
    }

    #[test]
    fn a_commit_says_when_what_was_tried_and_how_fast_it_was() {
        let commit = |json: serde_json::Value| serde_json::from_value::<Commit>(json).unwrap();
        let old = serde_json::json!({"job": "replay-01932c07-209f-7cb2-9a5e-000000000000", "task": "t", "candidate": "slm",
            "candidate_version": "v", "asked": 90, "failed": 10});
        let old = commit(old);
        assert_eq!(
            old.tried(),
            Some(Tried {
                candidate: "slm".into(),
                version: "v".into(),
                at: 0x0193_2c07_209f * 1000,
            })
        );
        let newest = ScoreRecord {
            candidate: "slm".into(),
            candidate_version: "v".into(),
            ..ScoreRecord::default()
        };
        assert_eq!(throughput(&[&old], &newest), None, "it was not timed");
        let timed = Commit {
            busy_seconds: 40.0,
            ..old.clone()
        };
        assert_eq!(throughput(&[&old, &timed], &newest), Some(80.0 * 90.0));
        let foreign =
            commit(serde_json::json!({"job": "other", "task": "t", "candidate": "", "candidate_version": ""}));
        assert_eq!(foreign.tried(), None);
    }
}
