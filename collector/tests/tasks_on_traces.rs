//! Fits on recorded agent traffic whose tasks are known: floors on how well they are found again, and that masking
//! changes no assignment. Skipped where the traces are not there; a failure in CI.

#![expect(clippy::unwrap_used, reason = "a test: what it can't read is its failure")]

use regex::Regex;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use understudy_call::call::{Message, Request, ResponseFormat, Role, ToolOffered};
use understudy_call::taskbook::CompiledBook;
use understudy_collector::cluster::{FitInput, FitOptions, fit};

struct Traced {
    id: String,
    session: String,
    label: String,
    request: Request,
}

impl Traced {
    fn input(&self) -> FitInput<'_> {
        FitInput {
            call_id: &self.id,
            conversation: &self.session,
            request: &self.request,
            response: None,
        }
    }
}

/// Every `step`th call of a trace file; `None` where there are no traces.
fn traces(name: &str, step: usize) -> Option<Vec<Traced>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces");
    let path: PathBuf = folder.join(format!("{name}.jsonl.zst"));
    let Ok(file) = std::fs::File::open(&path) else {
        assert!(std::env::var_os("CI").is_none(), "no traces at {}", path.display());
        eprintln!("SKIPPED: no traces at {}", path.display());
        return None;
    };
    let mut decoder = zstd::Decoder::new(file).unwrap();
    decoder.window_log_max(27).unwrap();
    let traced = |line: std::io::Result<String>| {
        let row: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        Traced {
            id: text("id"),
            session: row["session"].to_string(),
            label: text("task_label"),
            request: request(&row["request"]),
        }
    };
    Some(BufReader::new(decoder).lines().step_by(step).map(traced).collect())
}

/// The parts of a chat body that features read.
fn request(body: &Value) -> Request {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |content: &Value| match content {
        Value::String(text) => text.clone(),
        parts => list(parts)
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect::<Vec<_>>()
            .join("\n"),
    };
    let message = |message: &Value| {
        let role = match message["role"].as_str() {
            Some("system" | "developer") => Role::System,
            Some("assistant") => Role::Assistant,
            Some("tool" | "function") => Role::Tool,
            _ => Role::User,
        };
        Message::text(role, text(&message["content"]))
    };
    let tool = |tool: &Value| ToolOffered {
        name: tool["function"]["name"].as_str().unwrap_or_default().to_owned(),
        description: None,
        schema: Value::Null,
    };
    let response_format = match body["response_format"]["type"].as_str() {
        Some("json_object") => ResponseFormat::JsonObject,
        Some("json_schema") => ResponseFormat::JsonSchema(body["response_format"]["json_schema"]["schema"].clone()),
        _ => ResponseFormat::Text,
    };
    Request {
        messages: list(&body["messages"]).iter().map(message).collect(),
        tools: list(&body["tools"]).iter().map(tool).collect(),
        response_format,
        ..Request::default()
    }
}

fn book(calls: &[Traced]) -> CompiledBook {
    let inputs: Vec<FitInput> = calls.iter().map(Traced::input).collect();
    fit(&inputs, None, &FitOptions::default()).unwrap().compile()
}

/// Homogeneity, V-measure and adjusted Rand index of pairs of label and task; no task is a cluster of one.
fn scores(book: &CompiledBook, calls: &[Traced]) -> (f64, f64, f64) {
    let (mut joint, mut labels, mut tasks) = (HashMap::new(), HashMap::new(), HashMap::new());
    for call in calls {
        let task = book
            .assign(&call.request)
            .map_or_else(|| call.id.clone(), |assignment| assignment.task);
        *joint.entry((&call.label, task.clone())).or_insert(0.0) += 1.0;
        *labels.entry(&call.label).or_insert(0.0) += 1.0;
        *tasks.entry(task).or_insert(0.0) += 1.0;
    }
    let total = calls.len() as f64;
    let entropy = |counts: &[f64]| {
        -counts
            .iter()
            .map(|count| count / total * (count / total).ln())
            .sum::<f64>()
    };
    let pairs = |counts: &[f64]| counts.iter().map(|count| count * (count - 1.0) / 2.0).sum::<f64>();
    let joint: Vec<f64> = joint.into_values().collect();
    let labels: Vec<f64> = labels.into_values().collect();
    let tasks: Vec<f64> = tasks.into_values().collect();
    let homogeneity = 1.0 - (entropy(&joint) - entropy(&tasks)) / entropy(&labels);
    let completeness = 1.0 - (entropy(&joint) - entropy(&labels)) / entropy(&tasks);
    let v_measure = 2.0 * homogeneity * completeness / (homogeneity + completeness);
    let expected = pairs(&labels) * pairs(&tasks) / pairs(&[total]);
    let rand = (pairs(&joint) - expected) / ((pairs(&labels) + pairs(&tasks)) / 2.0 - expected);
    (homogeneity, v_measure, rand)
}

#[test]
fn known_tasks_are_found_again() {
    let files = [
        ("metagpt", 1, 0.90, 0.84, 0.65),
        ("intercode", 12, 0.97, 0.90, 0.80),
        ("tau_airline", 8, 0.97, 0.97, 0.97),
    ];
    let mut everything = Vec::new();
    for (name, step, least_homogeneity, least_v, least_rand) in files {
        let Some(mut calls) = traces(name, step) else { return };
        calls.retain(|call| !call.label.ends_with("/other"));
        let (homogeneity, v_measure, rand) = scores(&book(&calls), &calls);
        let all = format!("{name}: homogeneity {homogeneity:.3}, V {v_measure:.3}, adjusted Rand {rand:.3}");
        assert!(
            homogeneity >= least_homogeneity && v_measure >= least_v && rand >= least_rand,
            "{all}"
        );
        everything.extend(calls);
    }
    // One book for all agents is as good as one for each.
    let (homogeneity, v_measure, rand) = scores(&book(&everything), &everything);
    let all = format!("together: homogeneity {homogeneity:.3}, V {v_measure:.3}, adjusted Rand {rand:.3}");
    assert!(homogeneity >= 0.95 && v_measure >= 0.90 && rand >= 0.80, "{all}");
}

#[test]
fn an_agent_that_was_never_seen_is_other() {
    let (Some(seen), Some(unseen)) = (traces("intercode", 20), traces("tau_airline", 20)) else {
        return;
    };
    let book = book(&seen);
    assert!(unseen.iter().all(|call| book.assign(&call.request).is_none()));
}

/// Sensitive values of the same kinds: those of a call, and those that a mask puts in their place.
const RAW: &str =
    "\nSigned \"Ann Lee\", ann.lee@example.org, +49 171 2345678, card 4111 1111 1111 1111, from 10.0.0.7.";
const MASKED: &str =
    "\nSigned \"Oleander Vance\", qx7.zz@example.net, +49 160 9981230, card 5500 0055 5555 5559, from 192.168.31.250.";

/// Replaces e-mail addresses, digits and quoted names everywhere, as a format-preserving mask does, and more.
fn mask(text: &str, patterns: &[Regex; 3]) -> String {
    let [email, name, digit] = patterns;
    let text = email.replace_all(text, "surrogate.of.them@example.com");
    let text = name.replace_all(&text, "\"Oleander Vance\"");
    let other = |found: &regex::Captures| {
        let digit = found[0].bytes().next().map_or(0, |byte| byte - b'0');
        let mut shown = String::new();
        write!(shown, "{}", (digit + 3) % 10).unwrap();
        shown
    };
    digit.replace_all(&text, other).into_owned()
}

#[test]
fn masking_changes_no_assignment() {
    let patterns =
        [r"[\w.+-]+@[\w-]+\.[\w.-]+", "\"[A-Z][a-z]+ [A-Z][a-z]+\"", "[0-9]"].map(|p| Regex::new(p).unwrap());
    let files = [("metagpt", 1), ("intercode", 12), ("tau_airline", 8), ("crewai", 1)];
    let Some(read) = files
        .into_iter()
        .map(|(name, step)| traces(name, step))
        .collect::<Option<Vec<_>>>()
    else {
        return;
    };
    let calls: Vec<Traced> = read.into_iter().flatten().collect();
    let book = book(&calls);
    let mut differ = Vec::new();
    for call in &calls {
        let (mut raw, mut masked) = (call.request.clone(), call.request.clone());
        for (before, after) in raw.messages.iter_mut().zip(&mut masked.messages) {
            after.text = mask(&after.text, &patterns);
            if before.role == Role::User {
                before.text.insert_str(0, RAW);
                after.text.insert_str(0, MASKED);
            }
        }
        if book.assign(&raw).map(|one| one.task) != book.assign(&masked).map(|one| one.task) {
            differ.push(&call.id);
        }
    }
    assert!(
        differ.len() * 1000 <= calls.len(),
        "{} of {} differ: {differ:?}",
        differ.len(),
        calls.len()
    );
}
