//! What it costs to hold a candidate's streams: time to the first token and to the last one, with `hold: none` and with
//! hold on, for answers at the pace of a small model.

use super::load::quantile;
use super::{Report, millis};
use crate::fixtures::CHAT;
use crate::http::Request;
use crate::program::Home;
use crate::upstream::{LAST_CHUNK, Seen, Step, Upstream, chunk, stream_head};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const TOOL: &str = "extract";
const KEY: &str = "Bearer k";

/// Tenths of a millisecond to the first token, and from each to the next: about 100 tokens a second, as a model of 135
/// million parameters gives on two cores.
const FIRST: u64 = 800;
const GAPS: [u64; 8] = [95, 102, 99, 110, 71, 93, 160, 88];

/// An answer by what it is and how many tokens it has.
#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    tokens: usize,
    is_call: bool,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "tool call, 40 tokens",
        tokens: 40,
        is_call: true,
    },
    Kind {
        name: "prose, 60 tokens",
        tokens: 60,
        is_call: false,
    },
    Kind {
        name: "prose, 400 tokens",
        tokens: 400,
        is_call: false,
    },
];

/// So many calls of each kind and config. `timed` asks for the goal of speed as well.
pub fn run(calls: usize, timed: bool) -> Report {
    let mut report = Report::new(format!("{calls} streams of each kind, not held and held"));
    let candidate = Upstream::start(answer);
    let baseline = Upstream::start(|seen| crate::fixtures::answer_chat(seen, "m", "well"));
    for kind in KINDS {
        let mut totals = Vec::new();
        for hold in ["none", "{ for: 2s, bytes: 64KiB }"] {
            let home = Home::new();
            let program = home.serve_config(&format!(
                "default_upstream: big\nexpose_headers: true\nupstreams:\n  big: {{ url: {} }}\n  \
                 small: {{ url: {}, api: openai_chat, model: small, trusted: true }}\n\
                 routes:\n  - split: {{ big: 0, small: 100 }}\n    fallback: {{ timeout: 60s }}\n    hold: {hold}\n",
                baseline.url(),
                candidate.url(),
            ));
            // The baseline accepts the client.
            request(kind, "hello").send(program.listen);
            let (mut firsts, mut all, mut good) = (Vec::new(), Vec::new(), 0);
            for call in 0..calls {
                let began = Instant::now();
                let mut open = request(kind, &call.to_string()).open(program.listen);
                open.read_bytes(1);
                firsts.push(began.elapsed().as_micros() as u64);
                let by_candidate = open.head.header("x-understudy-served-by") == Some("small");
                let answer = open.finish();
                all.push(began.elapsed().as_micros() as u64);
                good += usize::from(by_candidate && answer.complete && answer.text().ends_with("data: [DONE]\n\n"));
            }
            let mode = if hold == "none" { "hold: none" } else { "held" };
            let name = format!("{}, {mode}", kind.name);
            report.goal(&format!("{name}: whole"), good, &calls.to_string(), good == calls);
            let p50 = |times: &mut Vec<u64>| Duration::from_micros(quantile(times, 0.5));
            report.figure(&format!("{name}: first token, p50"), millis(p50(&mut firsts)));
            let total = p50(&mut all);
            report.figure(&format!("{name}: total, p50"), millis(total));
            totals.push(total);
            program.terminate();
        }
        let more = totals[1].saturating_sub(totals[0]);
        if timed {
            let name = format!("{}: total, held, more than not held", kind.name);
            report.goal(&name, millis(more), "25 ms at most", more <= Duration::from_millis(25));
        }
    }
    report
}

fn request(kind: Kind, conversation: &str) -> Request {
    let schema = json!({"type": "object", "properties": {"words": {"type": "string"}}, "required": ["words"]});
    let mut body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": kind.name}]});
    if kind.is_call {
        body["tools"] = json!([{"type": "function", "function": {"name": TOOL, "parameters": schema}}]);
    }
    Request::post(CHAT, body.to_string())
        .header("authorization", KEY)
        .header("x-understudy-conversation", conversation)
}

/// The candidate: as many tokens as the user says, at the recorded pace.
fn answer(seen: &Seen) -> Vec<Step> {
    let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    let asked = body["messages"][0]["content"].as_str().unwrap_or_default();
    let kind = KINDS.into_iter().find(|kind| kind.name == asked).unwrap_or(KINDS[0]);
    let event = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        let event = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "small", "choices": [choice]});
        Step::Send(chunk(format!("data: {event}\n\n").as_bytes()))
    };
    let token = |at: usize| {
        let words = match (kind.is_call, at) {
            (false, _) => "word ",
            (true, 0) => r#"{"words": ""#,
            (true, at) if at + 1 == kind.tokens => r#""}"#,
            (true, _) => "word ",
        };
        if !kind.is_call {
            return event(json!({"content": words}), Value::Null);
        }
        let mut call = json!({"index": 0, "function": {"arguments": words}});
        if at == 0 {
            call["id"] = "call_0".into();
            call["type"] = "function".into();
            call["function"]["name"] = TOOL.into();
        }
        event(json!({"tool_calls": [call]}), Value::Null)
    };
    let tenths = |tenths: u64| Step::Pause(Duration::from_micros(tenths * 100));
    let mut steps = vec![stream_head(), tenths(FIRST)];
    for at in 0..kind.tokens {
        steps.extend([token(at), tenths(GAPS[at % GAPS.len()])]);
    }
    let finish = if kind.is_call { "tool_calls" } else { "stop" };
    steps.push(event(json!({}), finish.into()));
    steps.push(Step::Send(chunk(b"data: [DONE]\n\n")));
    steps.push(Step::Send(LAST_CHUNK.to_vec()));
    steps
}
