//! Scores against the rewards of two benchmarks: where one system solved an instance, does another one that agrees with it
//! solve it as well? Prints the figures that docs/scores.md states.

use super::*;
use std::collections::{BTreeMap, HashMap};
use understudy_call::call::Api;
use understudy_call::wire;

/// One system's run of one instance.
#[derive(Default)]
struct Run {
    system: String,
    reward: f64,
    request: Request,
    /// All its answers, in order.
    answers: Vec<Response>,
}

/// Runs by (task, instance), of a file of traces; `None` where it is missing.
fn runs(file: &str, system: impl Fn(&Value) -> String) -> Option<BTreeMap<(String, String), Vec<Run>>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/traces")
        .join(file);
    let Ok(input) = std::fs::File::open(&path) else {
        assert!(std::env::var_os("CI").is_none(), "{} is missing", path.display());
        eprintln!("SKIPPED: needs {}", path.display());
        return None;
    };
    let mut decoder = zstd::Decoder::new(input).unwrap();
    decoder.window_log_max(27).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut decoder, &mut text).unwrap();
    let mut sessions: HashMap<String, ((String, String), Run)> = HashMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let (Some(instance), Some(reward)) = (line["instance"].as_str(), line["reward"].as_f64()) else {
            continue;
        };
        let body = wire::assemble(Api::OpenaiChat, None, line["response"].to_string().as_bytes()).unwrap();
        let key = (line["task_group"].as_str().unwrap().to_owned(), instance.to_owned());
        let session = line["session"].as_str().unwrap().to_owned();
        let (_, run) = sessions.entry(session).or_insert_with(|| (key, Run::default()));
        if run.answers.is_empty() {
            run.request = wire::parse_request(Api::OpenaiChat, line["request"].to_string().as_bytes()).unwrap();
        }
        run.system = system(&line);
        run.reward = reward;
        run.answers.push(wire::parse_response(Api::OpenaiChat, 200, &body));
    }
    let mut runs: BTreeMap<(String, String), Vec<Run>> = BTreeMap::new();
    for (key, run) in sessions.into_values() {
        runs.entry(key).or_default().push(run);
    }
    runs.values_mut()
        .for_each(|runs| runs.sort_by(|left, right| left.system.cmp(&right.system)));
    Some(runs)
}

/// (agreement, reward) of each run against each run of another system that solved the instance.
fn pairs<'a>(runs: impl IntoIterator<Item = &'a Vec<Run>>, agreement: impl Fn(&Run, &Run) -> f64) -> Vec<(f64, f64)> {
    let mut pairs = Vec::new();
    for runs in runs {
        for solved in runs.iter().filter(|run| run.reward >= 1.0) {
            for other in runs.iter().filter(|run| run.system != solved.system) {
                pairs.push((agreement(solved, other), other.reward));
            }
        }
    }
    pairs
}

/// Spearman's rank correlation, equal values at their mean rank.
fn spearman(pairs: &[(f64, f64)]) -> f64 {
    let ranks = |values: Vec<f64>| {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|left, right| values[*left].total_cmp(&values[*right]));
        let mut ranks = vec![0.0; values.len()];
        let mut start = 0;
        for same in order.chunk_by(|left, right| values[*left] == values[*right]) {
            let rank = start as f64 + (same.len() - 1) as f64 / 2.0;
            same.iter().for_each(|place| ranks[*place] = rank);
            start += same.len();
        }
        ranks
    };
    let (left, right) = pairs.iter().copied().unzip();
    let (left, right): (Vec<f64>, Vec<f64>) = (ranks(left), ranks(right));
    let mean = (pairs.len() as f64 - 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    product(&left, &right) / (product(&left, &left) * product(&right, &right)).sqrt()
}

/// The chance that a solved run agrees more than one that is not.
fn auc(pairs: &[(f64, f64)]) -> f64 {
    let (solved, other): (Vec<_>, Vec<_>) = pairs.iter().partition(|(_, reward)| *reward >= 1.0);
    let wins: f64 = solved
        .iter()
        .flat_map(|(left, _)| other.iter().map(move |(right, _)| (left, right)))
        .map(|(left, right)| {
            if left > right {
                1.0
            } else if left == right {
                0.5
            } else {
                0.0
            }
        })
        .sum();
    wins / (solved.len() * other.len()) as f64
}

fn report(name: &str, pairs: &[(f64, f64)]) -> (f64, f64) {
    let (rho, auc) = (spearman(pairs), auc(pairs));
    let share = pairs.iter().filter(|(_, reward)| *reward >= 1.0).count() as f64 / pairs.len() as f64;
    eprintln!(
        "{name}: {} pairs, {share:.2} solved, Spearman {rho:.2}, AUC {auc:.2}",
        pairs.len()
    );
    (rho, auc)
}

/// The last answers of two models to the same instance: commands and queries.
#[test]
fn answers_agree_with_the_reward_of_intercode() {
    let Some(runs) = runs("intercode.jsonl.zst", |line| line["model"].to_string()) else {
        return;
    };
    let agreement = |solved: &Run, other: &Run| {
        let (first, last) = (solved.answers.last().unwrap(), other.answers.last().unwrap());
        score(&solved.request, first, last, AnswerKind::Prose, &LabelSet::default())
            .agreement
            .unwrap_or(0.0)
    };
    let groups: std::collections::BTreeSet<&String> = runs.keys().map(|(group, _)| group).collect();
    for group in groups {
        let of_group = runs.iter().filter(|((of, _), _)| of == group).map(|(_, runs)| runs);
        let pairs = pairs(of_group, agreement);
        let both = pairs.iter().any(|pair| pair.1 >= 1.0) && pairs.iter().any(|pair| pair.1 < 1.0);
        if both {
            report(group, &pairs);
        }
    }
    let (rho, auc) = report("intercode", &pairs(runs.values(), agreement));
    assert!(rho > 0.1 && auc > 0.55, "{rho} {auc}");
}

/// All tool calls of a trial, against those of another trial of the same instance.
#[test]
fn tool_calls_agree_with_the_reward_of_tau_bench() {
    let Some(runs) = runs("tau_airline.jsonl.zst", |line| line["session"].to_string()) else {
        return;
    };
    let all = |run: &Run| Response {
        tool_calls: run
            .answers
            .iter()
            .flat_map(|answer| answer.tool_calls.clone())
            .collect(),
        ..Response::default()
    };
    let agreement = |solved: &Run, other: &Run| {
        let (first, last) = (all(solved), all(other));
        if first.tool_calls.is_empty() {
            return f64::from(u8::from(last.tool_calls.is_empty()));
        }
        score(
            &solved.request,
            &first,
            &last,
            AnswerKind::ToolCall,
            &LabelSet::default(),
        )
        .agreement
        .unwrap_or(0.0)
    };
    let (rho, auc) = report("tau_airline", &pairs(runs.values(), agreement));
    assert!(rho > 0.1 && auc > 0.55, "{rho} {auc}");
}
