//! Feedback: what is known to be right, from elsewhere. It outranks agreement with what the baseline happened to say.
//!
//! Kept masked, as create-only tables named by what they hold, so that the same file again adds nothing. Judges nothing
//! itself: it puts the right answer in the recorded one's place, and says how good the recorded one was.

use crate::mask::{Counts, Mask};
use crate::scan::{CallFilter, ScanError, for_each_call};
use crate::score::{AnswerKind, LabelSet, score};
use crate::store::{Store, StoreError};
use crate::table::{Columns, TableError, scores_from_parquet, scores_to_parquet};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use understudy_call::call::{Request, Response, ToolCall};
use understudy_call::record::{CallRecord, ScoreRecord};

/// The folder.
const FOLDER: &str = "feedback";

/// Why feedback could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum FeedbackError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Calls can't be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// A table can't be made, or read.
    #[error("feedback {key}: {source}")]
    Table {
        /// The object.
        key: String,
        /// What is wrong with it.
        source: TableError,
    },
}

/// A line as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: Option<Value>,
    call_id: Option<String>,
    external_id: Option<Value>,
    label: Option<Value>,
    correct: Option<bool>,
    score: Option<f64>,
}

/// What is known of a call's answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Truth {
    /// The right answer: text, or JSON; of a tool call its `name` and `arguments`, or a list of them.
    Label(String),
    /// How good the recorded answer is, 0 to 1.
    Score(f64),
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Lines read, empty ones aside.
    pub lines: usize,
    /// Of them, kept by this import; 0 where the same file was imported before.
    pub added: usize,
    /// Lines that could not be used: number from 1, and why.
    pub bad: Vec<(usize, String)>,
}

/// Reads lines and keeps them; `now` in microseconds since the epoch.
///
/// # Errors
/// Where the store fails; bad lines are no error.
pub async fn import(store: &Store, mask: &Mask, text: &str, now: i64) -> Result<Imported, FeedbackError> {
    let mut imported = Imported::default();
    let mut lines: Vec<(usize, String, Truth)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        imported.lines += 1;
        match read(line, mask) {
            Ok((id, truth)) => lines.push((number, id, truth)),
            Err(reason) => imported.bad.push((number, reason)),
        }
    }
    let calls = resolve(store, &lines).await?;
    let mut rows = Vec::new();
    for (number, id, truth) in lines {
        match calls.get(&id) {
            Some(call) => rows.push(row(call, truth, now)),
            None => imported.bad.push((number, format!("no kept call has the id `{id}`"))),
        }
    }
    imported.bad.sort();
    if rows.is_empty() {
        return Ok(imported);
    }
    // Named by what it says, whenever it was said.
    let mut hasher = blake3::Hasher::new();
    for row in &rows {
        let said = (
            &row.call_id,
            &row.candidate_version,
            &row.output_text,
            row.agreement.map(f64::to_bits),
        );
        hasher.update(format!("{said:?}").as_bytes());
    }
    let key = format!("{FOLDER}/{}.parquet", &hasher.finalize().to_hex()[..32]);
    let table = scores_to_parquet(&rows, store.table_keys());
    let table = table.map_err(|source| FeedbackError::Table {
        key: key.clone(),
        source,
    })?;
    if store.create(&key, table).await? {
        imported.added = rows.len();
    }
    Ok(imported)
}

fn read(line: &str, mask: &Mask) -> Result<(String, Truth), String> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let plain = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let ids = [line.call_id, line.id.map(plain), line.external_id.map(plain)];
    let mut ids = ids.into_iter().flatten();
    let (Some(id), None) = (ids.next(), ids.next()) else {
        return Err("give one of `call_id`, `id`, `external_id`".into());
    };
    let truth = match (line.label, line.correct, line.score) {
        (Some(label), None, None) => {
            let text = plain(label);
            let mut counts = Counts::default();
            let masked = match mask.json(&text, &mut counts) {
                Ok(json) if text.trim_start().starts_with(['{', '[']) => json.into_owned(),
                _ => mask.text(&text, &mut Counts::default()).into_owned(),
            };
            Truth::Label(masked)
        }
        (None, Some(correct), None) => Truth::Score(f64::from(u8::from(correct))),
        (None, None, Some(score)) if (0.0..=1.0).contains(&score) => Truth::Score(score),
        (None, None, Some(_)) => return Err("`score` must be 0 to 1".into()),
        _ => return Err("give one of `label`, `correct`, `score`".into()),
    };
    Ok((id, truth))
}

/// The calls that ids name, by the id given.
async fn resolve(
    store: &Store,
    lines: &[(usize, String, Truth)],
) -> Result<HashMap<String, CallRecord>, FeedbackError> {
    let wanted: std::collections::HashSet<&str> = lines.iter().map(|(_, id, _)| id.as_str()).collect();
    let mut found = HashMap::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let filter = CallFilter {
        columns: Columns::only(["call_id", "external_id"]),
        ..CallFilter::default()
    };
    for_each_call(store, &filter, |call| {
        for id in [Some(&call.call_id), call.external_id.as_ref()].into_iter().flatten() {
            if wanted.contains(id.as_str()) {
                found.insert(id.clone(), call.clone());
            }
        }
    })
    .await?;
    Ok(found)
}

/// Feedback is kept in the columns of scores: those who must not read content don't read labels either.
fn row(call: &CallRecord, truth: Truth, now: i64) -> ScoreRecord {
    let (what, text, score) = match truth {
        Truth::Label(text) => ("label", Some(text), None),
        Truth::Score(score) => ("score", None, Some(score)),
    };
    ScoreRecord {
        call_id: call.call_id.clone(),
        conversation_id: call.conversation_id.clone(),
        task_id: call.task_id.clone().unwrap_or_default(),
        candidate: FOLDER.into(),
        candidate_version: what.into(),
        judged_at: now,
        agreement: score,
        output_text: text,
        source: Some(FOLDER.into()),
        ..ScoreRecord::default()
    }
}

/// All that is known, by call; of several words on a call the latest.
///
/// # Errors
/// Where the store, or a table in it, can't be read.
pub async fn truths(store: &Store) -> Result<HashMap<String, Truth>, ScanError> {
    let columns = match store.table_keys().are_of_metrics_alone() {
        true => Columns::Metrics,
        false => Columns::All,
    };
    let tombstones = crate::erase::Tombstones::load(store).await?;
    let mut latest: BTreeMap<String, (i64, Truth)> = BTreeMap::new();
    for object in store.list(FOLDER).await? {
        let rows = scores_from_parquet(store.get(&object.key).await?, &columns, store.table_keys());
        let rows = rows.map_err(|source| ScanError::Table {
            key: object.key.clone(),
            source,
        })?;
        for row in rows.into_iter().filter(|row| !tombstones.covers_score(row)) {
            let truth = match (row.output_text, row.agreement) {
                (Some(label), _) => Truth::Label(label),
                (None, Some(score)) => Truth::Score(score),
                (None, None) => continue,
            };
            let is_later = latest.get(&row.call_id).is_none_or(|(at, _)| row.judged_at >= *at);
            if is_later {
                latest.insert(row.call_id, (row.judged_at, truth));
            }
        }
    }
    Ok(latest.into_iter().map(|(call, (_, truth))| (call, truth)).collect())
}

/// Puts what is known in the place of agreement: in `rows` of candidates, `recorded` being what the baseline answered,
/// by call. A call with a right answer compares both with that. One whose recorded answer has a score s: the baseline
/// has s, the candidate s times its agreement, since where it differs it may be right or wrong. Returns how many rows
/// changed.
pub fn apply(rows: &mut [ScoreRecord], truths: &HashMap<String, Truth>, recorded: &HashMap<String, Response>) -> usize {
    let mut changed = 0;
    for row in rows.iter_mut() {
        let (Some(truth), Some(kind)) = (truths.get(&row.call_id), AnswerKind::from_name(&row.kind)) else {
            continue;
        };
        match truth {
            Truth::Score(score) => {
                row.agreement = row.agreement.map(|agreement| agreement * score);
                row.floor_agreement = Some(*score);
            }
            Truth::Label(label) => {
                let Some(first) = recorded.get(&row.call_id) else {
                    continue;
                };
                let right = right_answer(label, kind);
                let answer = row.output_text.as_ref().map(|text| Response {
                    output_text: text.clone(),
                    tool_calls: row.tool_calls.clone(),
                    ..Response::default()
                });
                let is_right = |answer: &Response| {
                    score(&Request::default(), &right, answer, kind, &LabelSet::default()).agreement
                };
                // One that failed has nothing right; the baseline has what it has.
                row.agreement = answer.as_ref().and_then(is_right);
                row.floor_agreement = is_right(first);
            }
        }
        changed += 1;
    }
    changed
}

/// A label as an answer: of a tool call as `{"name", "arguments"}`, or a list of them.
pub(crate) fn right_answer(label: &str, kind: AnswerKind) -> Response {
    let calls = match serde_json::from_str::<Value>(label) {
        Ok(Value::Array(calls)) => calls,
        Ok(call) => vec![call],
        Err(_) => Vec::new(),
    };
    let call = |call: &Value| {
        let arguments = match &call["arguments"] {
            Value::String(text) => text.clone(),
            Value::Null => "{}".into(),
            other => other.to_string(),
        };
        Some(ToolCall {
            id: None,
            name: call["name"].as_str()?.to_owned(),
            arguments,
        })
    };
    let calls: Option<Vec<ToolCall>> = calls.iter().map(call).collect();
    match calls.filter(|calls| kind == AnswerKind::ToolCall && !calls.is_empty()) {
        Some(tool_calls) => Response {
            tool_calls,
            ..Response::default()
        },
        None => Response {
            output_text: label.to_owned(),
            ..Response::default()
        },
    }
}

#[cfg(test)]
mod tests;
