//! Rehearsals of candidates that speak another API than the calls: what each is asked, with whose key, and that scores,
//! floor and verdict are those that its answers deserve; by replay and by shadow.

use serde_json::{Value, json};
use understudy_call::call::Api;
use understudy_call::record::ScoreRecord;
use understudy_call::translate::{self, SPOKEN};
use understudy_tests::arms::{CANDIDATE_KEY, CLIENT_KEY};
use understudy_tests::fixtures::CHAT;
use understudy_tests::http::Request;
use understudy_tests::program::{Home, Program};
use understudy_tests::strict::{TOOL, say};
use understudy_tests::upstream::{Seen, Step, Upstream};
use understudy_tests::{contains, eventually};

/// Calls of each task; every second one is streamed.
const CALLS: usize = 240;
const BASELINE_KEY: &str = "key-of-the-baseline";
const SECRET: &str = "ann.miller@example.org";
/// Words of which each call has its own three.
const WORDS: [&str; 8] = ["amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath"];

/// The request of a call, and what is right.
fn request(task: &str, number: usize) -> Value {
    let words = [number / 64 % 8, number / 8 % 8, number % 8]
        .map(|at| WORDS[at])
        .join(" ");
    let mood = if number.is_multiple_of(3) { "bad" } else { "good" };
    let mut body = json!({"model": "gpt-4o", "temperature": 0, "stream": !number.is_multiple_of(2)});
    let (system, user) = match task {
        "mood" => (
            "Classify the review of a customer as positive or negative. Answer with that one word.",
            format!("Review by {SECRET} of the {words} shelf: it was {mood}."),
        ),
        _ => {
            let schema = json!({"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]});
            let function = json!({"name": TOOL, "description": "Looks up an item.", "parameters": schema});
            body["tools"] = json!([{"type": "function", "function": function}]);
            (
                "You keep a catalogue. Look each item up by its full name before you say anything of it.",
                format!("Where do we keep the item: {words}? Tell {SECRET}."),
            )
        }
    };
    body["messages"] = json!([{"role": "system", "content": system}, {"role": "user", "content": user}]);
    body
}

/// What a model that knows answers to a request, whatever its API: a label, or the arguments of a call.
fn right(body: &str) -> (String, Option<Value>) {
    if let Some((_, rest)) = body.split_once("keep the item: ") {
        let words = rest.split('?').next().unwrap_or_default();
        return (String::new(), Some(json!({"q": words})));
    }
    let label = if body.contains("it was bad") {
        "negative"
    } else {
        "positive"
    };
    (label.to_owned(), None)
}

/// A model that knows; `dull-1` is wrong about all that has to do with birches: another label, or words in place of a call.
fn model(seen: &Seen) -> Vec<Step> {
    let body = String::from_utf8_lossy(&seen.body).into_owned();
    let (text, arguments) = right(&body);
    if contains(&seen.bytes(), "dull-1") && body.contains("birch") {
        let other = match (arguments, &*text) {
            (Some(_), _) => "Somewhere in the house.",
            (None, "positive") => "negative",
            (None, _) => "positive",
        };
        return say(seen, other, None);
    }
    say(seen, &text, arguments)
}

struct Stage {
    home: Home,
    baseline: Upstream,
    candidate: Upstream,
}

impl Stage {
    /// Kept calls of two tasks, and a config with a candidate of each API, and dull ones of some.
    fn new(calls: usize) -> Stage {
        let stage = Stage {
            home: Home::new(),
            baseline: Upstream::start(model),
            candidate: Upstream::start(model),
        };
        let mut lines = String::new();
        for (task, number) in ["mood", "item"]
            .iter()
            .flat_map(|task| (0..calls).map(move |at| (task, at)))
        {
            let mut request = request(task, number);
            let (text, arguments) = right(&request.to_string());
            let call = |given: Value| json!({"id": "c", "type": "function", "function": {"name": TOOL, "arguments": given.to_string()}});
            let message = match arguments {
                Some(given) => json!({"role": "assistant", "content": null, "tool_calls": [call(given)]}),
                None => json!({"role": "assistant", "content": text}),
            };
            let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
            let answer = json!({"id": "a", "object": "chat.completion", "created": 1, "model": "big", "choices": [choice],
                "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}});
            request["stream"] = (!number.is_multiple_of(2)).into();
            let id = format!("{task}-{number}");
            lines += &json!({"id": id, "session": id, "step": 0, "request": request, "response": answer}).to_string();
            lines.push('\n');
        }
        std::fs::write(stage.home.path().join("calls.jsonl"), lines).expect("a writable folder");
        stage.home.write_config(&stage.config(""));
        stage.run(&["import", "calls.jsonl"]);
        stage.run(&["tasks", "fit"]);
        stage
    }

    fn config(&self, rest: &str) -> String {
        let of = |name: &str, api: Api, model: &str| {
            let (url, api) = (self.candidate.url(), api.as_str());
            format!("  {name}: {{ url: {url}, api: {api}, model: {model}, key_env: CANDIDATE_KEY, trusted: true }}\n")
        };
        let able: String = SPOKEN.iter().map(|api| of(api.as_str(), *api, "small-1")).collect();
        let dull: String = DULL.iter().map(|api| of(&dull(*api), *api, "dull-1")).collect();
        format!(
            "default_upstream: baseline\nupstreams:\n  baseline: {{ url: {}, key_env: BASELINE_KEY }}\n{able}{dull}\
             verdict: {{ margin: 0.2 }}\nstore: {{ flush: {{ after: 300ms }} }}\n{rest}",
            self.baseline.url()
        )
    }

    /// What a command prints as JSON.
    fn run(&self, arguments: &[&str]) -> Value {
        let data = self.home.data().to_string_lossy().into_owned();
        let keys = [("CANDIDATE_KEY", CANDIDATE_KEY), ("BASELINE_KEY", BASELINE_KEY)];
        let keys = keys.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let output = self.home.run_with(&[arguments, &["--data", &data]].concat(), &keys);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {words}");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// The task of the calls that are so called.
    fn task(&self, prefix: &str) -> String {
        let call = self.home.rows().into_iter().find(|row| {
            let id = row.external_id.as_deref().unwrap_or_default();
            id.starts_with(prefix)
        });
        let call = call.expect("a call").call_id;
        let assigned = self
            .home
            .run(&["tasks", "assign", "--format", "jsonl", "--data", "data"]);
        let lines = String::from_utf8(assigned.stdout).expect("text");
        let of_call = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let of_call = of_call.into_iter().find(|line| {
            let id = line["id"].as_str().unwrap_or_default();
            id == call || id.starts_with(prefix)
        });
        of_call.expect("a line")["task"].as_str().expect("a task").to_owned()
    }

    /// All that the candidates were asked came in their APIs, with their own key, and masked.
    fn assert_asked_well(&self) {
        for seen in self.candidate.requests() {
            let path = seen.head.path();
            let key = if path.starts_with("/v1beta/") {
                ("x-goog-api-key", CANDIDATE_KEY.to_owned())
            } else if path == "/v1/messages" {
                ("x-api-key", CANDIDATE_KEY.to_owned())
            } else {
                ("authorization", format!("Bearer {CANDIDATE_KEY}"))
            };
            assert_eq!(seen.head.header(key.0), Some(&*key.1), "{path}");
            let bytes = seen.bytes();
            assert!(
                !contains(&bytes, "ann.miller") && !contains(&bytes, CLIENT_KEY),
                "{path}"
            );
            assert!(!contains(&bytes, BASELINE_KEY) && !contains(&bytes, "gpt-4o"), "{path}");
        }
    }
}

/// APIs of which a dull candidate is tried too.
const DULL: [Api; 2] = [Api::CohereChat, Api::BedrockConverse];

fn dull(api: Api) -> String {
    format!("dull_{}", api.as_str())
}

fn verdict_of<'a>(verdicts: &'a Value, candidate: &str) -> &'a Value {
    let found = verdicts.as_array().expect("a list").iter();
    let mut found = found.filter(|verdict| verdict["candidate"] == candidate);
    found
        .next()
        .unwrap_or_else(|| panic!("no verdict on {candidate}: {verdicts:#}"))
}

#[test]
fn a_replay_in_any_api_comes_to_the_verdict_that_the_answers_deserve() {
    let stage = Stage::new(CALLS);
    let able = SPOKEN.iter().map(|api| (api.as_str().to_owned(), *api));
    let candidates: Vec<(String, Api)> = able.chain(DULL.map(|api| (dull(api), api))).collect();
    for (kind, prefix) in [("label", "mood"), ("tool_call", "item")] {
        let task = stage.task(prefix);
        let before = stage.candidate.count();
        for (name, api) in &candidates {
            let limit = CALLS.to_string();
            let replay = ["replay", "--task", &task, "--to", name, "--limit", &limit];
            let options = ["--floor", "--config", "understudy.yaml", "--format", "json"];
            let replayed = stage.run(&[&replay[..], &options].concat())[0].clone();
            let of_kind = &replayed["scores"][0];
            assert_eq!(
                (
                    of_kind["kind"].as_str(),
                    of_kind["answers"].as_u64(),
                    of_kind["valid"].as_u64()
                ),
                (Some(kind), Some(CALLS as u64), Some(CALLS as u64)),
                "{name}: {replayed:#}"
            );
            let asked = stage.candidate.requests();
            let asked: Vec<&str> = asked[asked.len() - CALLS..]
                .iter()
                .map(|seen| seen.head.path())
                .collect();
            let model = if name == api.as_str() { "small-1" } else { "dull-1" };
            for streams in [false, true] {
                let path = translate::path(*api, model, streams).expect("a path");
                assert!(asked.contains(&&*path), "{name}: {path}");
            }
        }
        assert_eq!(stage.candidate.count() - before, CALLS * candidates.len());
        let shown = [
            "verdict",
            "--task",
            &task,
            "--config",
            "understudy.yaml",
            "--format",
            "json",
        ];
        let verdicts = stage.run(&shown);
        let wrong = (0..CALLS).filter(|number| request(prefix, *number).to_string().contains("birch"));
        let wrong = wrong.count() as f64 / CALLS as f64;
        for (name, api) in &candidates {
            let verdict = verdict_of(&verdicts, name);
            let is_able = name == api.as_str();
            let expected = (if is_able { "promote" } else { "hold" }, CALLS as u64);
            let said = (
                verdict["verdict"].as_str().unwrap_or_default(),
                verdict["pairs"].as_u64().unwrap_or_default(),
            );
            assert_eq!(said, expected, "{name}: {verdict:#}");
            let agreement = verdict["agreement"].as_f64().expect("a share");
            let due = if is_able { 1.0 } else { 1.0 - wrong };
            // The last conversation is not closed yet.
            assert!((agreement - due).abs() < 0.01, "{name}: {verdict:#}");
            assert_eq!(verdict["floor"].as_f64(), Some(1.0), "{name}: {verdict:#}");
        }
    }
    stage.assert_asked_well();
    for row in stage.home.scores() {
        let body: Value = serde_json::from_str(row.response_body.as_deref().expect("an answer")).expect("JSON");
        assert!(body["choices"][0]["message"].is_object(), "in the call's API: {body}");
        assert_eq!(
            (row.input_tokens, row.output_tokens),
            (Some(11), Some(7)),
            "{}",
            row.candidate
        );
        let calls = usize::from(row.kind == "tool_call");
        let is_dull = row.candidate.starts_with("dull");
        assert!(row.tool_calls.len() == calls || is_dull, "{}", row.candidate);
    }
    let timed = |name: &str| {
        let rows = stage.home.scores().into_iter().filter(|row| row.candidate == name);
        rows.filter(|row| row.first_token_ms.is_some()).count()
    };
    for api in SPOKEN {
        assert_eq!(
            timed(api.as_str()),
            CALLS,
            "every second answer of both tasks was streamed"
        );
    }
}

#[test]
fn a_live_call_is_shadowed_in_every_api_masked_and_with_the_candidates_key() {
    let stage = Stage::new(24);
    let to: Vec<&str> = SPOKEN.iter().map(|api| api.as_str()).collect();
    let rule = format!(
        "shadow: [{{ match: {{ task: '*' }}, to: [{}], sample: 100% }}]\n",
        to.join(", ")
    );
    stage.home.write_config(&stage.config(&rule));
    let keys = [("CANDIDATE_KEY", CANDIDATE_KEY), ("BASELINE_KEY", BASELINE_KEY)];
    let program = stage.home.serve(&["--config", "understudy.yaml"], &keys);
    let ask = |program: &Program, number: usize| {
        let answer = Request::post(CHAT, request("mood", number).to_string())
            .header("authorization", &format!("Bearer {CLIENT_KEY}"))
            .send(program.listen);
        assert_eq!(answer.status(), 200, "{}", answer.text());
    };
    eventually("a call has a task", || {
        ask(&program, 300);
        std::thread::sleep(std::time::Duration::from_millis(50));
        program.scrape().sum("understudy_task_calls_total", &[]) > 0.0
    });
    // A set of labels is closed when enough of them were seen.
    (301..320).for_each(|number| ask(&program, number));
    let words = "fjord amber birch";
    let number = (0..512).find(|number| request("mood", *number).to_string().contains(words));
    ask(&program, number.expect("these words"));
    let about = || {
        let requests = stage.candidate.requests().into_iter();
        requests.filter(|seen| contains(&seen.body, words)).count()
    };
    eventually("each candidate is asked", || about() == SPOKEN.len());
    eventually("each answer is counted", || {
        let scrape = program.scrape();
        let counted = |name: &str| {
            let labels = [("candidate", name), ("outcome", "ok")];
            scrape.sum("understudy_shadow_calls_total", &labels)
        };
        let due = stage.candidate.count() as f64;
        to.iter().map(|name| counted(name)).sum::<f64>() == due
    });
    program.terminate();
    stage.assert_asked_well();
    let call = stage.home.rows().into_iter().find(|row| {
        let body = row.request_body.as_deref().unwrap_or_default();
        body.contains(words)
    });
    let call = call.expect("the call is kept");
    let rows = stage
        .home
        .scores()
        .into_iter()
        .filter(|row| row.call_id == call.call_id);
    let rows: Vec<ScoreRecord> = rows.collect();
    assert_eq!(rows.len(), SPOKEN.len(), "{rows:?}");
    for row in rows {
        assert_eq!(
            (row.source.as_deref(), row.kind.as_str(), row.agreement, row.valid),
            (Some("shadow"), "label", Some(1.0), true),
            "{}: {row:?}",
            row.candidate
        );
    }
}
