//! A candidate's answer that its agent could not work with: the client gets one clean answer, the baseline's, and the
//! lost attempt is kept with its reason, tokens and cost. In each API, whole and streamed, and at the limits of `hold`.

use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use understudy_call::call::{Api, Response};
use understudy_call::record::{Attempt, CallRecord, Outcome};
use understudy_call::wire;
use understudy_tests::agents::Agent;
use understudy_tests::eventually;
use understudy_tests::http::{Answer, Request, Wire};
use understudy_tests::program::{Home, Program};
use understudy_tests::strict::{Strict, TOOL};
use understudy_tests::upstream::{
    Gate, LAST_CHUNK, Seen, Step, Upstream, chunk, head, json as whole, stream, stream_head,
};

const KEY: &str = "Bearer key-of-the-client";
/// Words that only the candidate says.
const MARK: &str = "from-the-candidate";
/// What the baseline says of everything.
const FROM_BASELINE: &str = "Let me see.";
const QUICK: &str = "fallback: { timeout: 1500ms }\n    hold: { for: 500ms, bytes: 8KiB }";

struct Stage {
    candidate: Upstream,
    strict: Arc<Strict>,
    home: Home,
    program: Program,
}

impl Stage {
    /// All conversations go to the candidate, once the client is known; `more` is the rest of their route.
    fn new(more: &str, small: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Stage {
        let strict = Arc::new(Strict::new(3));
        let answering = strict.clone();
        let baseline = Upstream::start(move |seen| answering.answer(seen));
        let candidate = Upstream::start(small);
        let home = Home::new();
        let price = |model: &str| json!({"model": model, "input": 1e-6, "output": 2e-6});
        let prices = json!({"models": [price("small-1"), price("big-1")]});
        std::fs::write(home.path().join("prices.json"), prices.to_string()).expect("the folder is writable");
        let program = home.serve_config(&format!(
            "default_upstream: baseline\nexpose_headers: true\nprices: prices.json\nupstreams:\n  baseline: {{ url: {} }}\n  \
             small: {{ url: {}, api: openai_chat, model: small-1, trusted: true }}\n\
             routes:\n  - name: canary\n    split: {{ baseline: 0, small: 100 }}\n    {more}\n",
            baseline.url(),
            candidate.url(),
        ));
        Stage {
            candidate,
            strict,
            home,
            program,
        }
    }

    fn request(&self, agent: Agent, case: &str, body: &Value) -> Request {
        Request::post(&agent.path(), body.to_string())
            .header("authorization", KEY)
            .header("x-understudy-tag-case", case)
    }

    /// Makes the client one that the baseline knows.
    fn introduce(&self, agent: Agent) {
        let hello = agent.request(&[agent.first_message("Hello.")]);
        let answer = self.request(agent, "hello", &hello).send(self.program.listen);
        assert_eq!(served_by(&answer), "baseline", "the first call of an unknown client");
    }

    fn fallbacks(&self, reason: &str) -> f64 {
        let labels = [("route", "canary"), ("candidate", "small"), ("reason", reason)];
        self.program.scrape().sum("understudy_fallbacks_total", &labels)
    }

    fn end(self) -> Home {
        assert_eq!(self.strict.refused(), Vec::<String>::new());
        assert_eq!(self.program.scrape_at_rest().unaccounted(), 0.0);
        self.program.terminate();
        self.home
    }
}

fn served_by(answer: &Answer) -> &str {
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.head.header("x-understudy-served-by").unwrap_or_default()
}

/// The answer as the client of its API reads it: whole, without an error.
fn read(agent: Agent, answer: &Answer) -> Response {
    let text = answer.text();
    assert!(answer.complete, "{}: {text}", agent.name());
    let assembled = wire::assemble(agent.api, answer.head.header("content-type"), &answer.body);
    let assembled = assembled.unwrap_or_else(|error| panic!("{}: {error}: {text}", agent.name()));
    assert_eq!(assembled.streamed, agent.streams, "{}: {text}", agent.name());
    assert!(
        !assembled.partial && assembled.error.is_none(),
        "{}: {text}",
        agent.name()
    );
    wire::parse_response(agent.api, 200, &assembled)
}

fn assert_from_baseline(agent: Agent, case: &str, answer: &Answer) {
    let told = format!("{case}, {}: {}", agent.name(), answer.text());
    assert_eq!(served_by(answer), "baseline", "{told}");
    let read = read(agent, answer);
    assert_eq!(read.output_text, said_by_baseline(agent), "{told}");
    assert_eq!(read.tool_calls.len(), 1, "{told}");
    assert!(
        !answer.text().contains(MARK) && !answer.text().contains("small-1"),
        "{told}"
    );
}

/// Cohere tells in a plan what the others say.
fn said_by_baseline(agent: Agent) -> &'static str {
    if agent.api == Api::CohereChat {
        ""
    } else {
        FROM_BASELINE
    }
}

/// A chat answer of the candidate's, with tokens.
fn say(streams: bool, text: &str, calls: &[(&str, &str)], finish: &str) -> Vec<Step> {
    let call = |(at, (name, arguments)): (usize, &(&str, &str))| json!({"index": at, "id": format!("call_{at}"), "type": "function", "function": {"name": name, "arguments": arguments}});
    let calls: Vec<Value> = calls.iter().enumerate().map(call).collect();
    let mut message = json!({"role": "assistant", "content": text});
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    let usage = json!({"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18});
    let part = |object: &str, choices: Value| json!({"id": "chatcmpl-1", "object": object, "created": 1, "model": "small-1", "choices": choices});
    if !streams {
        let choice = json!([{"index": 0, "message": message, "finish_reason": finish}]);
        let mut answer = part("chat.completion", choice);
        answer["usage"] = usage;
        return whole(200, &answer);
    }
    let event = |value: Value| format!("data: {value}\n\n");
    let delta = |delta: &Value, finish: Value| {
        part(
            "chat.completion.chunk",
            json!([{"index": 0, "delta": delta, "finish_reason": finish}]),
        )
    };
    let mut last = part("chat.completion.chunk", json!([]));
    last["usage"] = usage;
    stream(&[
        event(delta(&message, Value::Null)),
        event(delta(&json!({}), finish.into())),
        event(last),
        "data: [DONE]\n\n".into(),
    ])
}

/// One event of text.
fn piece(text: &str) -> Step {
    let choice = json!({"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": null});
    let event = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "small-1", "choices": [choice]});
    Step::Send(chunk(format!("data: {event}\n\n").as_bytes()))
}

/// The last events.
fn ending() -> Vec<Step> {
    let choice = json!({"index": 0, "delta": {}, "finish_reason": "stop"});
    let event = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "small-1", "choices": [choice]});
    let end = chunk(format!("data: {event}\n\ndata: [DONE]\n\n").as_bytes());
    vec![Step::Send(end), Step::Send(LAST_CHUNK.to_vec())]
}

const GOOD: &str = r#"{"q": "from-the-candidate", "n": []}"#;

/// What the candidate does wrong, the reason in one word, and whether it told its tokens by then.
const FAULTS: [(&str, &str, bool); 13] = [
    ("status", "error", false),
    ("reset", "error", false),
    ("error inside", "error", false),
    ("garbage", "error", false),
    ("breaks off", "error", false),
    ("hangs", "timeout", false),
    ("unknown tool", "invalid_output", true),
    ("arguments that are no JSON", "invalid_output", true),
    ("arguments that do not fit", "invalid_output", true),
    ("one good call and one bad", "invalid_output", true),
    ("truncated", "truncated", true),
    ("refusal", "refusal", true),
    ("empty", "empty", true),
];

/// The candidate's answer to a request whose user names the fault.
fn faulty(seen: &Seen) -> Vec<Step> {
    let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    let said = body["messages"].to_string();
    let fault = FAULTS
        .iter()
        .map(|(fault, _, _)| *fault)
        .find(|fault| said.contains(fault));
    let streams = body["stream"] == true;
    let html = || {
        vec![Step::Send(
            b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>".to_vec(),
        )]
    };
    let cut = || {
        let head = head(200, &[("content-type", "application/json"), ("content-length", "500")]);
        vec![Step::Send(head), Step::Send(br#"{"choices": ["#.to_vec()), Step::Close]
    };
    let error = r#"{"error":{"message":"out of memory","type":"server_error"}}"#;
    match fault.unwrap_or_default() {
        "status" => whole(503, &json!({"error": "busy"})),
        "reset" => vec![Step::Reset],
        "error inside" if streams => {
            let error = chunk(format!("data: {error}\n\n").as_bytes());
            vec![
                stream_head(),
                piece(MARK),
                Step::Send(error),
                Step::Send(LAST_CHUNK.to_vec()),
            ]
        }
        "error inside" => whole(200, &serde_json::from_str(error).expect("JSON")),
        "garbage" if streams => stream(&["data: {\"choices\": [{]}\n\n".into(), "data: <html>\n\n".into()]),
        "garbage" => html(),
        "breaks off" if streams => vec![stream_head(), piece(MARK), Step::Send(LAST_CHUNK.to_vec())],
        "breaks off" => cut(),
        "hangs" => vec![Step::Hang],
        "unknown tool" => say(streams, MARK, &[("cook_up", GOOD)], "tool_calls"),
        "arguments that are no JSON" => say(streams, "", &[(TOOL, r#"{"q": "from-the-candidate"#)], "tool_calls"),
        "arguments that do not fit" => say(
            streams,
            "",
            &[(TOOL, r#"{"q": 7, "n": "from-the-candidate"}"#)],
            "tool_calls",
        ),
        "one good call and one bad" => say(streams, "", &[(TOOL, GOOD), (TOOL, "{}")], "tool_calls"),
        "truncated" => say(streams, MARK, &[], "length"),
        "refusal" => say(
            streams,
            "I'm sorry, but I can't help with from-the-candidate.",
            &[],
            "stop",
        ),
        "empty" => say(streams, " ", &[], "stop"),
        _ => say(streams, MARK, &[(TOOL, GOOD)], "tool_calls"),
    }
}

fn lost_and_served(row: &CallRecord) -> (&Attempt, &Attempt) {
    let [lost, served] = &row.attempts[..] else {
        panic!("not two attempts: {:?}", row.attempts);
    };
    assert_eq!(
        (lost.upstream.as_str(), lost.served),
        ("small", false),
        "{:?}",
        row.attempts
    );
    assert_eq!(
        (served.upstream.as_str(), served.served),
        ("baseline", true),
        "{:?}",
        row.attempts
    );
    (lost, served)
}

fn every_fault_falls_back(api: Api, way: &'static str) {
    let stage = Stage::new(QUICK, faulty);
    let agents = [false, true].map(|streams| Agent { api, way, streams });
    stage.introduce(agents[0]);
    for agent in agents {
        let sound = agent.request(&[agent.first_message("nothing wrong")]);
        let answer = stage.request(agent, "sound", &sound).send(stage.program.listen);
        assert_eq!(served_by(&answer), "small", "{}: {}", agent.name(), answer.text());
        assert!(answer.head.header("x-understudy-call").is_some());
        let read = read(agent, &answer);
        assert_eq!(
            (read.output_text.as_str(), read.tool_calls.len()),
            (MARK, 1),
            "{}",
            agent.name()
        );
        for (fault, reason, _) in FAULTS {
            let before = stage.fallbacks(reason);
            let body = agent.request(&[agent.first_message(fault)]);
            let case = format!("{fault} {}", agent.name());
            let answer = stage.request(agent, &case, &body).send(stage.program.listen);
            assert_from_baseline(agent, fault, &answer);
            assert_eq!(stage.fallbacks(reason), before + 1.0, "{case}: {reason}");
        }
    }
    let held = [("route", "canary"), ("candidate", "small")];
    assert!(stage.program.scrape().sum("understudy_held_seconds_count", &held) >= 8.0);
    let home = stage.end();
    for agent in agents {
        for (fault, reason, tells_tokens) in FAULTS {
            let row = home.row(&format!("{fault} {}", agent.name()));
            let told = format!("{fault} {}: {:?}", agent.name(), row.attempts);
            let (lost, served) = lost_and_served(&row);
            let why = lost.reason.as_deref().unwrap_or_default();
            assert!(why.starts_with(&format!("{reason}: ")) && !why.contains(MARK), "{told}");
            assert_eq!(served.reason.as_deref(), Some("fallback"), "{told}");
            assert!(lost.duration_ms.is_some_and(|time| time > 0.0), "{told}");
            if tells_tokens {
                assert_eq!(lost.output_tokens, Some(7), "{told}");
                assert_eq!(lost.cost_usd, Some(11e-6 + 14e-6), "{told}");
            }
            assert_eq!(
                (row.arm.as_deref(), row.outcome),
                (Some("baseline"), Outcome::Ok),
                "{told}"
            );
            assert_eq!(row.output_text.as_deref(), Some(said_by_baseline(agent)), "{told}");
            if let (Some(lost), Some(served), Some(all)) = (lost.cost_usd, served.cost_usd, row.cost_usd) {
                assert!((lost + served - all).abs() < 1e-12, "{told}");
            }
        }
    }
}

#[test]
fn a_chat_agent_gets_the_baselines_answer_in_place_of_each_faulty_one() {
    every_fault_falls_back(Api::OpenaiChat, "");
}

#[test]
fn a_messages_agent_gets_the_baselines_answer_in_place_of_each_faulty_one() {
    every_fault_falls_back(Api::AnthropicMessages, "");
}

#[test]
fn a_responses_agent_gets_the_baselines_answer_in_place_of_each_faulty_one() {
    every_fault_falls_back(Api::OpenaiResponses, "");
}

#[test]
fn a_gemini_agent_gets_the_baselines_answer_in_place_of_each_faulty_one() {
    every_fault_falls_back(Api::Gemini, "");
}

#[test]
fn an_ollama_agent_gets_the_baselines_answer_in_place_of_each_faulty_one() {
    every_fault_falls_back(Api::Ollama, "");
}

#[test]
fn a_cohere_agent_gets_the_baselines_answer_in_place_of_each_faulty_one() {
    every_fault_falls_back(Api::CohereChat, "");
}

const CHAT_AGENTS: [Agent; 2] = [
    Agent {
        api: Api::OpenaiChat,
        way: "",
        streams: false,
    },
    Agent {
        api: Api::OpenaiChat,
        way: "",
        streams: true,
    },
];

/// A request without tools.
fn prose(agent: Agent, words: &str) -> Value {
    let mut body = agent.request(&[agent.first_message(words)]);
    body.as_object_mut().expect("an object").remove("tools");
    body
}

fn with(mut body: Value, key: &str, value: Value) -> Value {
    body[key] = value;
    body
}

#[test]
fn json_that_is_asked_for_and_tools_that_must_be_called_are_checked() {
    let stage = Stage::new(QUICK, |seen| {
        let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
        let words = body["messages"][0]["content"].as_str().unwrap_or_default();
        say(body["stream"] == true, words, &[], "stop")
    });
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false});
    let schema = json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}});
    stage.introduce(CHAT_AGENTS[0]);
    for agent in CHAT_AGENTS {
        let send = |case: &str, body: &Value| {
            let case = format!("{case} {}", agent.streams);
            stage.request(agent, &case, body).send(stage.program.listen)
        };
        let asking = |words: &str| with(prose(agent, words), "response_format", schema.clone());
        let good = send("good", &asking(r#"{"a": 1}"#));
        assert_eq!(
            (served_by(&good), read(agent, &good).output_text.as_str()),
            ("small", r#"{"a": 1}"#)
        );
        for wrong in [r#"{"a": "1"}"#, r#"{"a": 1, "b": 2}"#, r#"{"a": 1"#, "The answer is 1."] {
            assert_eq!(served_by(&send(wrong, &asking(wrong))), "baseline", "{wrong}");
        }
        let any = with(
            prose(agent, "It is so."),
            "response_format",
            json!({"type": "json_object"}),
        );
        assert_eq!(served_by(&send("any", &any)), "baseline");
        let must = with(
            agent.request(&[agent.first_message("Hm.")]),
            "tool_choice",
            "required".into(),
        );
        assert_eq!(served_by(&send("must", &must)), "baseline");
    }
    assert_eq!(stage.fallbacks("invalid_output"), 12.0);
    stage.end();
}

#[test]
fn what_is_not_listed_is_the_candidates_to_say() {
    let stage = Stage::new("fallback: { on: [refusal] }", faulty);
    stage.introduce(CHAT_AGENTS[0]);
    for agent in CHAT_AGENTS {
        for (fault, by) in [
            ("unknown tool", "small"),
            ("truncated", "small"),
            ("empty", "small"),
            ("refusal", "baseline"),
            ("status", "baseline"),
            ("error inside", "baseline"),
        ] {
            let body = agent.request(&[agent.first_message(fault)]);
            let answer = stage.request(agent, fault, &body).send(stage.program.listen);
            assert_eq!(served_by(&answer), by, "{fault}: {}", answer.text());
        }
    }
    stage.end();
}

/// Streams `begun`, waits for the gate, and ends; or hangs where there is none.
fn slow(begun: Vec<Step>, gate: Option<&Gate>) -> Vec<Step> {
    let rest = gate.map_or(vec![Step::Hang], |gate| {
        let mut rest = vec![Step::Wait(gate.clone()), piece("and the end")];
        rest.extend(ending());
        rest
    });
    [vec![stream_head()], begun, rest].concat()
}

#[test]
fn prose_is_released_at_the_limits_and_streams_on() {
    let many = || (0..80).map(|_| piece("so much of it ")).collect::<Vec<_>>();
    let [_, agent] = CHAT_AGENTS;
    // Tools may be offered: what has begun is prose.
    for body in [prose(agent, "Tell."), agent.request(&[agent.first_message("Tell.")])] {
        for (case, hold, begun) in [
            (
                "time",
                "hold: { for: 300ms, bytes: 1MiB }",
                vec![piece("so much of it ")],
            ),
            ("bytes", "hold: { for: 8s, bytes: 2KiB }", many()),
        ] {
            let gate = Gate::default();
            let until = gate.clone();
            let stage = Stage::new(hold, move |_| slow(begun.clone(), Some(&until)));
            stage.introduce(agent);
            let mut open = stage.request(agent, case, &body).open(stage.program.listen);
            open.read_until("so much of it ");
            gate.open();
            let answer = open.finish();
            assert_eq!(served_by(&answer), "small", "{case}");
            assert!(read(agent, &answer).output_text.ends_with("and the end"), "{case}");
            assert_eq!(
                stage.program.scrape().sum("understudy_fallbacks_total", &[]),
                0.0,
                "{case}"
            );
            let row = stage.end().row(case);
            assert_eq!(row.attempts.len(), 1, "{case}: {:?}", row.attempts);
        }
    }
}

#[test]
fn what_is_of_no_use_before_it_is_whole_goes_to_the_baseline_at_the_limits() {
    let call = |arguments: &str| {
        let function = json!({"name": TOOL, "arguments": arguments});
        let call = json!({"index": 0, "id": "call_0", "type": "function", "function": function});
        let choice = json!({"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": null});
        let event =
            json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "small-1", "choices": [choice]});
        Step::Send(chunk(format!("data: {event}\n\n").as_bytes()))
    };
    let long = format!(r#"{{"q": "{}"#, MARK.repeat(300));
    let [_, agent] = CHAT_AGENTS;
    let tools = agent.request(&[agent.first_message("Look.")]);
    let as_json = with(
        prose(agent, "Say it."),
        "response_format",
        json!({"type": "json_object"}),
    );
    for (case, begun, body) in [
        (
            "a tool call that takes too long",
            vec![piece(MARK), call(r#"{"q": "#)],
            tools.clone(),
        ),
        ("a tool call that is too long", vec![call(&long)], tools.clone()),
        (
            "JSON that takes too long",
            vec![piece(r#"{"from-the-candidate": "#)],
            as_json,
        ),
        ("a head and nothing more", vec![], tools),
    ] {
        let stage = Stage::new(
            "fallback: { timeout: 8s }\n    hold: { for: 400ms, bytes: 4KiB }",
            move |_| slow(begun.clone(), None),
        );
        stage.introduce(agent);
        let answer = stage.request(agent, case, &body).send(stage.program.listen);
        assert_eq!(served_by(&answer), "baseline", "{case}: {}", answer.text());
        assert!(!answer.text().contains(MARK), "{case}: {}", answer.text());
        read(agent, &answer);
        assert_eq!(stage.fallbacks("hold"), 1.0, "{case}");
        eventually("the losing attempt is cancelled", || {
            stage.candidate.closed().len() == 1
        });
        let row = stage.end().row(case);
        let (lost, _) = lost_and_served(&row);
        assert!(
            lost.reason.as_deref().is_some_and(|why| why.starts_with("hold: ")),
            "{lost:?}"
        );
        assert_eq!(
            (lost.output_tokens, lost.cost_usd, row.cost_usd),
            (None, None, None),
            "unknown, never 0"
        );
    }
}

#[test]
fn a_candidate_that_thinks_long_before_its_prose_is_waited_for_until_the_timeout() {
    let stage = Stage::new("fallback: { timeout: 1200ms }\n    hold: { for: 200ms }", |seen| {
        let slow = Step::Pause(Duration::from_millis(600));
        match String::from_utf8_lossy(&seen.body).contains("hangs") {
            true => slow_start(vec![Step::Hang]),
            false => slow_start([vec![slow, piece("at last")], ending()].concat()),
        }
    });
    let [_, agent] = CHAT_AGENTS;
    stage.introduce(agent);
    let waited = stage
        .request(agent, "waited", &prose(agent, "Tell."))
        .send(stage.program.listen);
    assert_eq!(
        (served_by(&waited), read(agent, &waited).output_text.as_str()),
        ("small", "at last")
    );
    let hung = stage
        .request(agent, "hung", &prose(agent, "hangs"))
        .send(stage.program.listen);
    assert_eq!(served_by(&hung), "baseline");
    assert_eq!(stage.fallbacks("timeout"), 1.0);
    stage.end();
}

fn slow_start(rest: Vec<Step>) -> Vec<Step> {
    [vec![stream_head()], rest].concat()
}

#[test]
fn a_clients_own_timeout_leaves_time_for_the_baseline() {
    let stage = Stage::new("fallback: { timeout: 60s }\n    hold: { for: 50s }", |_| {
        vec![Step::Hang]
    });
    let [agent, _] = CHAT_AGENTS;
    stage.introduce(agent);
    let body = agent.request(&[agent.first_message("Hm.")]);
    let asked = stage
        .request(agent, "patient", &body)
        .header("x-stainless-timeout", "1");
    let answer = asked.send(stage.program.listen);
    assert_eq!(served_by(&answer), "baseline");
    let row = stage.end().row("patient");
    let (lost, _) = lost_and_served(&row);
    assert!(
        lost.duration_ms.is_some_and(|time| (450.0..10_000.0).contains(&time)),
        "{lost:?}"
    );
}

#[test]
fn a_stream_that_is_not_held_flows_and_a_client_that_leaves_while_one_is_held_ends_it() {
    let gate = Gate::default();
    let until = gate.clone();
    let stage = Stage::new("hold: none", move |_| slow(vec![piece("first ")], Some(&until)));
    let [_, agent] = CHAT_AGENTS;
    stage.introduce(agent);
    let mut open = stage
        .request(agent, "flows", &prose(agent, "Tell."))
        .open(stage.program.listen);
    open.read_until("first ");
    gate.open();
    assert_eq!(read(agent, &open.finish()).output_text, "first and the end");
    stage.end();

    let stage = Stage::new("fallback: { timeout: 60s }\n    hold: { for: 50s }", |_| {
        slow(vec![piece("first ")], None)
    });
    stage.introduce(agent);
    let wire = Wire::connect(stage.program.listen).expect("it listens");
    let asking = stage
        .request(agent, "leaves", &prose(agent, "Tell."))
        .bytes(stage.program.listen);
    wire.write(&asking).expect("it reads");
    eventually("the candidate is asked", || stage.candidate.count() == 1);
    drop(wire);
    eventually("the candidate's stream is cancelled", || {
        stage.candidate.closed().len() == 1
    });
    let row = stage.end().row("leaves");
    assert_eq!(row.outcome, Outcome::ClientClosed);
}
