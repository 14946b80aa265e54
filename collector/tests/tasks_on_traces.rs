//! Fits on recorded agent traffic whose tasks are known: floors on how well they are found again, and that masking
//! changes no assignment. Skipped where the traces are not there; a failure in CI.

#![expect(clippy::unwrap_used, reason = "a test: what it can't read is its failure")]

use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use understudy_call::call::{Message, Request, ResponseFormat, Role, ToolOffered};
use understudy_call::taskbook::CompiledBook;
use understudy_collector::cluster::{FitInput, FitOptions, fit};
use understudy_collector::mask::{Counts, Mask, MaskConfig};

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

/// A line with sensitive values of many kinds, drawn anew for each call: as a clerk, a form or a log writes them.
fn sensitive(dice: &mut impl FnMut(usize) -> usize) -> String {
    const GIVEN: [&str; 12] = [
        "Anna", "Tomasz", "Priya", "Wei", "Fatima", "Liam", "Chiara", "José", "Ngozi", "Sven", "Yuki", "Marta",
    ];
    const FAMILY: [&str; 12] = [
        "Kowalski",
        "Okafor",
        "Lindqvist",
        "García",
        "Nguyen",
        "Rossi",
        "Schmidt",
        "Patel",
        "Dubois",
        "Tanaka",
        "Murphy",
        "Silva",
    ];
    const STREETS: [&str; 4] = ["Elm Street", "Oak Grove Avenue", "King Road", "Harbour Lane"];
    let name = format!("{} {}", GIVEN[dice(12)], FAMILY[dice(12)]);
    let mail = format!(
        "{}.{}@{}mail.com",
        GIVEN[dice(12)].to_lowercase(),
        dice(1000),
        ["x", "post", "fast"][dice(3)]
    );
    let birth = format!("19{}-0{}-1{}", 50 + dice(49), 1 + dice(9), dice(9));
    let street = format!("{} {}, Leeds", 1 + dice(400), STREETS[dice(4)]);
    let phone = format!("+44 20 7{}{} {}", 1 + dice(9), 10 + dice(90), 1000 + dice(9000));
    match dice(6) {
        0 => format!("The customer's name is {name}, born on {birth}. Reach {name} at {mail} or {phone}."),
        1 => format!(
            "Patient: {name}\nDOB: {birth}\nMRN: {}\nAddress: {street}",
            1_000_000 + dice(9_000_000)
        ),
        2 => format!(
            "Signed \"{name}\", {mail}, card 4111 1111 1111 1111, from 83.12.{}.{}.",
            dice(256),
            1 + dice(254)
        ),
        3 => format!("Dear {name}, your parcel goes to {street}. Call {phone}."),
        4 => format!(
            "password: k{}Xq{}! and IBAN DE89370400440532013000",
            dice(1000),
            dice(1000)
        ),
        _ => format!(
            "{{\"customerName\": \"{name}\", \"email\": \"{mail}\", \"phone\": \"{phone}\", \"ssn\": \"123-45-6789\"}}"
        ),
    }
}

/// All messages through the mask together, as those of a body are.
fn masked(mask: &Mask, request: &Request) -> Request {
    let texts: Vec<&str> = request.messages.iter().map(|message| message.text.as_str()).collect();
    let json = serde_json::to_string(&texts).unwrap();
    let texts: Vec<String> = serde_json::from_str(&mask.json(&json, &mut Counts::default()).unwrap()).unwrap();
    let mut masked = request.clone();
    for (message, text) in masked.messages.iter_mut().zip(texts) {
        message.text = text;
    }
    masked
}

#[test]
fn masking_changes_no_assignment() {
    let files = [("metagpt", 1), ("intercode", 12), ("tau_airline", 8), ("crewai", 1)];
    let Some(read) = files
        .into_iter()
        .map(|(name, step)| traces(name, step))
        .collect::<Option<Vec<_>>>()
    else {
        return;
    };
    let mask = Mask::new(&MaskConfig::default(), &[7; 32]).unwrap();
    let mut state = 88_172_645_463_325_252_u64;
    let mut dice = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    let mut calls: Vec<Traced> = read.into_iter().flatten().collect();
    let mut raw = Vec::new();
    for call in &mut calls {
        for message in &mut call.request.messages {
            match message.role {
                Role::User if dice(2) == 0 => message.text.insert_str(0, &(sensitive(&mut dice) + "\n")),
                Role::User | Role::Tool => message.text += &("\n".to_owned() + &sensitive(&mut dice)),
                Role::System if dice(4) == 0 => message.text += &("\n".to_owned() + &sensitive(&mut dice)),
                _ => {}
            }
        }
        let masked = masked(&mask, &call.request);
        raw.push(std::mem::replace(&mut call.request, masked));
    }
    // A book is fit on what is kept, and assigns what comes.
    let book = book(&calls);
    let differ: Vec<&String> = calls
        .iter()
        .zip(&raw)
        .filter(|(call, raw)| book.assign(raw).map(|one| one.task) != book.assign(&call.request).map(|one| one.task))
        .map(|(call, _)| &call.id)
        .collect();
    eprintln!("{} of {} assignments differ", differ.len(), calls.len());
    assert!(
        differ.len() * 1000 <= calls.len(),
        "{} of {} differ: {differ:?}",
        differ.len(),
        calls.len()
    );
}
