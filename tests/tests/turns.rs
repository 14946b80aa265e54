//! A tool loop whose arm changes at every turn, both ways, in every API: a strict baseline refuses any id, signature or
//! pairing that is not as it would be without us, and never has to.

use serde_json::{Value, json};
use std::sync::Arc;
use understudy_call::call::Api;
use understudy_call::wire;
use understudy_tests::http::{Answer, Request};
use understudy_tests::program::{Home, Program};
use understudy_tests::strict::{Strict, TOOL, candidate};
use understudy_tests::upstream::Upstream;

const TURNS: usize = 9;
const KEY: &str = "Bearer key-of-the-client";

/// An agent: its requests and how it goes on, in one API.
#[derive(Clone, Copy, Debug)]
struct Agent {
    api: Api,
    /// Distinguishes two ways of one API.
    way: &'static str,
    streams: bool,
}

fn tool_schema() -> Value {
    json!({"type": "object", "properties": {"q": {"type": "string"}, "n": {"type": "array"}}, "required": ["q"]})
}

impl Agent {
    fn name(&self) -> String {
        let streams = if self.streams { "streamed" } else { "whole" };
        format!("{} {} {streams}", self.api.as_str(), self.way)
    }

    fn path(&self) -> String {
        match self.api {
            Api::OpenaiChat => "/v1/chat/completions".into(),
            Api::AnthropicMessages => "/v1/messages".into(),
            Api::OpenaiResponses => "/v1/responses".into(),
            Api::Ollama => "/api/chat".into(),
            Api::CohereChat => "/v2/chat".into(),
            _ => {
                let model = if self.way == "signed" {
                    "gemini-3-pro"
                } else {
                    "gemini-2.5-flash"
                };
                let verb = match (self.streams, self.way) {
                    (false, _) => "generateContent",
                    (true, "array") => "streamGenerateContent",
                    (true, _) => "streamGenerateContent?alt=sse",
                };
                format!("/v1beta/models/{model}:{verb}")
            }
        }
    }

    fn first_message(&self) -> Value {
        let words = "Look it up, please.";
        match self.api {
            Api::AnthropicMessages => json!({"role": "user", "content": [{"type": "text", "text": words}]}),
            Api::Gemini => json!({"role": "user", "parts": [{"text": words}]}),
            _ => json!({"role": "user", "content": words}),
        }
    }

    fn request(&self, history: &[Value]) -> Value {
        let (schema, stream) = (tool_schema(), self.streams);
        let function = json!({"name": TOOL, "description": "Looks up.", "parameters": schema});
        let tools = json!([{"type": "function", "function": function}]);
        match self.api {
            Api::AnthropicMessages => {
                let tools = json!([{"name": TOOL, "description": "Looks up.", "input_schema": schema}]);
                let thinking = if self.way == "thinking" {
                    json!({"type": "enabled", "budget_tokens": 1024})
                } else {
                    json!({"type": "disabled"})
                };
                json!({"model": "claude", "max_tokens": 4096, "system": "You look up.", "stream": stream,
                    "messages": history, "tools": tools, "thinking": thinking})
            }
            Api::OpenaiResponses => {
                let tools = json!([{"type": "function", "name": TOOL, "parameters": schema, "strict": false}]);
                json!({"model": "gpt-5", "instructions": "You look up.", "stream": stream, "store": false, "input": history,
                    "tools": tools, "include": ["reasoning.encrypted_content"]})
            }
            Api::Gemini => json!({"contents": history, "tools": [{"functionDeclarations": [function]}],
                "systemInstruction": {"parts": [{"text": "You look up."}]}}),
            _ => json!({"model": "big", "stream": stream, "messages": history, "tools": tools}),
        }
    }

    /// Adds the answer to the history as agents do, and a result for each of its calls; false where there is none.
    fn go_on(&self, history: &mut Vec<Value>, answer: &Value) -> bool {
        let result = "12 é";
        let before = history.len();
        match self.api {
            Api::AnthropicMessages => {
                history.push(json!({"role": "assistant", "content": answer["content"]}));
                let calls = items(&answer["content"]).filter(|block| block["type"] == "tool_use");
                let results: Vec<Value> = calls
                    .map(|call| json!({"type": "tool_result", "tool_use_id": call["id"], "content": result}))
                    .collect();
                if !results.is_empty() {
                    history.push(json!({"role": "user", "content": results}));
                }
                history.len() == before + 2
            }
            Api::OpenaiResponses => {
                history.extend(items(&answer["output"]).cloned());
                let calls = items(&answer["output"]).filter(|item| item["type"] == "function_call");
                let results: Vec<Value> = calls
                    .map(|call| json!({"type": "function_call_output", "call_id": call["call_id"], "output": result}))
                    .collect();
                history.extend_from_slice(&results);
                !results.is_empty()
            }
            Api::Gemini => {
                let content = &answer["candidates"][0]["content"];
                history.push(content.clone());
                let calls = items(&content["parts"]).filter_map(|part| part.get("functionCall"));
                let results: Vec<Value> = calls
                    .map(|call| {
                        let mut response = json!({"name": call["name"], "response": {"result": result}});
                        if let Some(id) = call.get("id") {
                            response["id"] = id.clone();
                        }
                        json!({"functionResponse": response})
                    })
                    .collect();
                if !results.is_empty() {
                    history.push(json!({"role": "user", "parts": results}));
                }
                history.len() == before + 2
            }
            _ => {
                let message = match self.api {
                    Api::OpenaiChat => &answer["choices"][0]["message"],
                    _ => &answer["message"],
                };
                let mut echoed = json!({"role": "assistant"});
                for key in ["content", "tool_calls", "tool_plan"] {
                    if let Some(value) = message.get(key).filter(|value| !value.is_null()) {
                        echoed[key] = value.clone();
                    }
                }
                history.push(echoed);
                for call in items(&message["tool_calls"]) {
                    let mut told = json!({"role": "tool", "content": result});
                    if self.api == Api::Ollama {
                        told["tool_name"] = call["function"]["name"].clone();
                    } else {
                        told["tool_call_id"] = call["id"].clone();
                    }
                    history.push(told);
                }
                history.len() > before + 1
            }
        }
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

struct Stage {
    strict: Arc<Strict>,
    home: Home,
    program: Program,
}

impl Stage {
    fn new() -> Stage {
        let strict = Arc::new(Strict::new(TURNS));
        let answering = strict.clone();
        let baseline = Upstream::start(move |seen| answering.answer(seen));
        let small = Upstream::start(|seen| candidate(seen, TURNS));
        let home = Home::new();
        let program = home.serve_config(&format!(
            "default_upstream: baseline\nallow_pins: true\nexpose_headers: true\nupstreams:\n  baseline: {{ url: {} }}\n  \
             small: {{ url: {}, api: openai_chat, model: small-1, trusted: true }}\n",
            baseline.url(),
            small.url(),
        ));
        Stage { strict, home, program }
    }

    fn send(&self, agent: Agent, arm: &str, case: &str, history: &[Value]) -> Answer {
        Request::post(&agent.path(), agent.request(history).to_string())
            .header("authorization", KEY)
            .header("x-understudy-route", arm)
            .header("x-understudy-tag-case", case)
            .send(self.program.listen)
    }

    /// A whole conversation; who served each of its turns.
    fn converse(&self, agent: Agent, arms: [&str; 2]) -> Vec<String> {
        let mut history = vec![agent.first_message()];
        let mut served = Vec::new();
        loop {
            let (turn, name) = (served.len(), agent.name());
            let arm = arms[turn % 2];
            let answer = self.send(agent, arm, &format!("{name} from {} turn {turn}", arms[0]), &history);
            let why = || {
                format!(
                    "{name}, turn {turn} at {arm}: {}\n{:#?}",
                    answer.text(),
                    self.strict.refused()
                )
            };
            assert_eq!(answer.status(), 200, "{}", why());
            assert!(answer.complete, "{}", why());
            assert!(
                !answer.text().contains("nobody sees"),
                "a candidate's reasoning shows: {}",
                why()
            );
            served.push(
                answer
                    .head
                    .header("x-understudy-served-by")
                    .unwrap_or_default()
                    .to_owned(),
            );
            let content_type = answer.head.header("content-type");
            let assembled = wire::assemble(agent.api, content_type, &answer.body)
                .unwrap_or_else(|error| panic!("{error}: {}", why()));
            assert_eq!(assembled.streamed, agent.streams, "{}", why());
            assert!(!assembled.partial && assembled.error.is_none(), "{}", why());
            if !agent.go_on(&mut history, &assembled.body) {
                break;
            }
            assert!(served.len() < 2 * TURNS, "the conversation has no end: {}", why());
        }
        assert!(
            history
                .last()
                .is_some_and(|last| last.to_string().contains("All done.")),
            "{history:#?}"
        );
        served
    }

    fn assert_alternates(&self, agent: Agent) {
        // The first call makes the client one that the baseline knows.
        assert_eq!(
            self.send(agent, "baseline", "hello", &[agent.first_message()]).status(),
            200
        );
        for arms in [["baseline", "small"], ["small", "baseline"]] {
            let served = self.converse(agent, arms);
            let expected: Vec<&str> = (0..TURNS).map(|turn| arms[turn % 2]).collect();
            assert_eq!(served, expected, "{}", agent.name());
        }
        assert_eq!(self.strict.refused(), Vec::<String>::new());
    }
}

fn alternates(api: Api, ways: &[&'static str]) -> Stage {
    let stage = Stage::new();
    for way in ways {
        for streams in [false, true] {
            stage.assert_alternates(Agent { api, way, streams });
        }
    }
    stage
}

/// Rows of both arms say the same kind of thing, in the client's API.
fn assert_rows(stage: Stage, api: Api) {
    assert_eq!(stage.program.scrape_at_rest().unaccounted(), 0.0);
    stage.program.terminate();
    for row in stage.home.rows() {
        let case = row.tags.get("case").cloned().unwrap_or_default();
        assert_eq!(row.api, api.as_str(), "{case}");
        assert_eq!(
            (row.input_tokens, row.output_tokens),
            (Some(11), Some(7)),
            "{case}: {:?}",
            row.response_body
        );
        assert!(!row.partial && row.error.is_none(), "{case}: {:?}", row.error);
        let served: Vec<&str> = row
            .attempts
            .iter()
            .filter(|it| it.served)
            .map(|it| it.upstream.as_str())
            .collect();
        let by_candidate = served == ["small"];
        if by_candidate {
            assert_eq!(row.response_model.as_deref(), Some("small-1"), "{case}");
            assert_eq!(row.arm.as_deref(), Some("small"), "{case}");
        }
        let is_last = row.output_text.as_deref() == Some("All done.");
        assert_eq!(
            row.tool_calls.is_empty(),
            is_last,
            "{case}: {:?} {:?}",
            row.output_text,
            row.tool_calls
        );
    }
}

#[test]
fn a_chat_changes_its_arm_at_every_turn() {
    assert_rows(alternates(Api::OpenaiChat, &[""]), Api::OpenaiChat);
}

#[test]
fn a_messages_conversation_changes_its_arm_at_every_turn() {
    assert_rows(alternates(Api::AnthropicMessages, &[""]), Api::AnthropicMessages);
}

#[test]
fn a_responses_conversation_changes_its_arm_at_every_turn() {
    assert_rows(alternates(Api::OpenaiResponses, &[""]), Api::OpenaiResponses);
}

#[test]
fn a_gemini_conversation_changes_its_arm_at_every_turn() {
    assert_rows(alternates(Api::Gemini, &["", "array"]), Api::Gemini);
}

#[test]
fn an_ollama_conversation_changes_its_arm_at_every_turn() {
    assert_rows(alternates(Api::Ollama, &[""]), Api::Ollama);
}

#[test]
fn a_cohere_conversation_changes_its_arm_at_every_turn() {
    assert_rows(alternates(Api::CohereChat, &[""]), Api::CohereChat);
}

/// What a candidate can't sign stays with the baseline, which never sees that another arm was asked for.
#[test]
fn conversations_that_only_the_baseline_can_sign_stay_there_and_never_fail() {
    let stage = Stage::new();
    for (api, way) in [(Api::AnthropicMessages, "thinking"), (Api::Gemini, "signed")] {
        for streams in [false, true] {
            let agent = Agent { api, way, streams };
            assert_eq!(
                stage
                    .send(agent, "baseline", "hello", &[agent.first_message()])
                    .status(),
                200
            );
            for arms in [["baseline", "small"], ["small", "baseline"]] {
                let served = stage.converse(agent, arms);
                let calls_tools = &served[..served.len() - 1];
                assert!(
                    calls_tools.iter().all(|by| by == "baseline"),
                    "{}: {served:?}",
                    agent.name()
                );
            }
        }
    }
    assert_eq!(stage.strict.refused(), Vec::<String>::new());
}
