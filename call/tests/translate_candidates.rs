//! Recorded calls put to candidates of other APIs than chat: each request is one that the candidate's API takes, and says the
//! same; each recorded answer, whole or streamed and cut anyhow, comes back to every client's API as it was.
//!
//! The recordings are not part of the repository: without them the tests say so and pass, except in CI.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use understudy_call::call::{Api, Request, Response, Role};
use understudy_call::translate::{self, Back, SPOKEN};
use understudy_call::wire;

#[path = "../../tests/src/recordings.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "a part of the test harness, which asks for more"
)]
mod recordings;
#[path = "../../tests/src/strict/rules.rs"]
#[expect(unreachable_pub, reason = "a part of the test harness")]
mod rules;

use recordings::{Exchange, exchanges};

/// All but chat, of which `translate.rs` tells.
fn candidates() -> impl Iterator<Item = Api> {
    SPOKEN.into_iter().filter(|spoken| *spoken != Api::OpenaiChat)
}

fn api_of(exchange: &Exchange) -> Api {
    wire::detect(plain(&exchange.path))
}

fn plain(path: &str) -> &str {
    path.split('?').next().unwrap_or_default()
}

fn content_type(exchange: &Exchange) -> Option<&str> {
    let headers = exchange.response_headers.iter();
    headers
        .clone()
        .find(|(name, _)| name == "content-type")
        .map(|(_, value)| value.as_str())
}

fn refused(api: Api, body: &Value) -> Result<(), String> {
    match api {
        Api::AnthropicMessages => rules::messages(body),
        Api::OpenaiResponses => rules::responses(body),
        Api::Gemini => rules::gemini(body),
        Api::CohereChat => rules::cohere(body),
        Api::BedrockConverse => rules::converse(body),
        _ => rules::ollama(body),
    }
}

/// What a role says, without the blanks by which texts are joined.
fn said(request: &Request, role: Role) -> String {
    let texts = request.messages.iter().filter(|message| message.role == role);
    texts.flat_map(|message| message.text.split_whitespace()).collect()
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn calls(request: &Request) -> Vec<(&str, Value)> {
    let calls = request.messages.iter().flat_map(|message| &message.tool_calls);
    calls
        .map(|call| (call.name.as_str(), json_of(&call.arguments)))
        .collect()
}

fn assert_says_the_same(name: &str, before: &Request, after: &Request) {
    for role in [Role::System, Role::User] {
        assert_eq!(said(before, role), said(after, role), "{name}");
    }
    assert_eq!(calls(before), calls(after), "{name}");
    let results = |request: &Request| {
        let results = request.messages.iter().filter(|message| message.role == Role::Tool);
        results.count()
    };
    assert_eq!(results(before), results(after), "{name}");
    let media = |request: &Request| request.messages.iter().map(|message| message.media_parts).sum::<u32>();
    assert_eq!(media(before), media(after), "{name}");
    // Those that may not be called are not offered; where none is, Anthropic is told those of the history.
    let offered: Vec<&str> = before.tools.iter().map(|tool| tool.name.as_str()).collect();
    let is_offered = |name: &str| offered.is_empty() || offered.contains(&name);
    assert!(after.tools.iter().all(|tool| is_offered(&tool.name)), "{name}");
}

#[test]
fn recorded_requests_are_such_that_the_candidates_api_takes_them() {
    let mut tally: BTreeMap<(String, String), BTreeMap<String, usize>> = BTreeMap::new();
    let mut chats = BTreeMap::new();
    for exchange in exchanges(None) {
        let api = api_of(&exchange);
        if !SPOKEN.contains(&api) {
            continue;
        }
        for spoken in candidates().filter(|spoken| translate::is_needed(api, *spoken)) {
            let name = format!("{} to {}", exchange.name, spoken.as_str());
            let counts = tally
                .entry((api.as_str().to_owned(), spoken.as_str().to_owned()))
                .or_default();
            // As if the agent had asked the provider to keep nothing.
            let mut body: Value = serde_json::from_slice(&exchange.request).unwrap_or_default();
            if api == Api::OpenaiResponses {
                body["store"] = false.into();
            }
            let body = body.to_string();
            let outcome = match translate::between(api, spoken, &exchange.path, body.as_bytes()) {
                Ok(translated) => {
                    let why = refused(spoken, &translated.body);
                    assert_eq!(why, Ok(()), "{name}: {}", translated.body);
                    let before = wire::parse_request_at(api, plain(&exchange.path), body.as_bytes()).unwrap();
                    let after = wire::parse_request(spoken, translated.body.to_string().as_bytes()).unwrap();
                    assert_says_the_same(&name, &before, &after);
                    "translated".to_owned()
                }
                Err(refusal) => {
                    let text = refusal.to_string();
                    text.chars().filter(|letter| !letter.is_ascii_digit()).collect()
                }
            };
            if api == Api::OpenaiChat && spoken == Api::AnthropicMessages {
                *chats.entry(outcome == "translated").or_insert(0) += 1;
            }
            *counts.entry(outcome).or_default() += 1;
        }
    }
    for ((api, spoken), outcomes) in &tally {
        eprintln!("{api} to {spoken}");
        for (outcome, count) in outcomes {
            eprintln!("  {count:4} {outcome}");
        }
    }
    let (done, not) = (chats.get(&true).unwrap_or(&0), chats.get(&false).unwrap_or(&0));
    assert!(tally.is_empty() || *done > 2 * *not, "{done} translated, {not} refused");
}

fn back(api: Api, spoken: Api, stream: bool) -> Back {
    Back {
        api,
        spoken,
        model: "asked-for".into(),
        stream,
        as_array: false,
        created: 1,
        request: json!({"stream_options": {"include_usage": true}}),
    }
}

fn through(back: &Back, stream: &[u8], size: usize) -> Vec<u8> {
    let mut translation = back.stream().expect("a translated API");
    let mut out: Vec<u8> = stream
        .chunks(size.max(1))
        .flat_map(|piece| translation.push(piece))
        .collect();
    out.extend(translation.finish());
    out
}

fn read(api: Api, content_type: &str, body: &[u8]) -> Response {
    let assembled = wire::assemble(api, Some(content_type), body).expect("an answer");
    assert_eq!(assembled.skipped_events, 0);
    wire::parse_response(api, 200, &assembled)
}

/// What an answer says: text, refusal, calls with arguments as values, tokens, and how it ended in chat's words.
type Meaning = (String, Option<String>, Vec<(String, Value)>, [Option<i64>; 2], String);

fn meaning(answer: &Response) -> Meaning {
    let answer = answer.clone().without_padding();
    let calls = answer
        .tool_calls
        .iter()
        .map(|call| (call.name.clone(), json_of(&call.arguments)));
    let chat = translate::to_chat("", &answer);
    (
        answer.output_text.clone(),
        answer.refusal.clone(),
        calls.collect(),
        [answer.usage.input, answer.usage.output],
        chat["choices"][0]["finish_reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    )
}

/// The same, as an API can say it: refusals are text in some, and their finish is told elsewhere.
fn comparable(api: Api, (text, refusal, calls, usage, finish): Meaning) -> Meaning {
    let is_half_known = api == Api::OpenaiResponses && usage.contains(&None);
    let usage = usage.map(|count| Some(count.filter(|_| !is_half_known).unwrap_or(0)));
    if api == Api::OpenaiChat {
        return (text, refusal, calls, usage, finish);
    }
    // What a filter ended is an error to Cohere, and reads as one.
    let is_told = api != Api::CohereChat || finish != "content_filter";
    let finish = if matches!(finish.as_str(), "stop" | "tool_calls") || !is_told {
        "ended"
    } else {
        &finish
    };
    // The API takes no blank text back.
    let text = if text.trim().is_empty() { String::new() } else { text };
    (text + &refusal.unwrap_or_default(), None, calls, usage, finish.into())
}

fn is_plain(answer: &Response) -> bool {
    let are_objects = answer
        .tool_calls
        .iter()
        .all(|call| json_of(&call.arguments).is_object());
    let has_names = answer
        .tool_calls
        .iter()
        .all(|call| !call.name.is_empty() && call.name != "shell");
    answer.error.is_none()
        && !answer.partial
        && answer.choices == 1
        && answer.finish_reason.is_some()
        && are_objects
        && has_names
}

/// Recorded answers of candidates, with what they say.
fn answers() -> Vec<(Exchange, Api, Response, bool)> {
    let mut answers = Vec::new();
    for exchange in exchanges(None) {
        let spoken = api_of(&exchange);
        let Ok(assembled) = wire::assemble(spoken, content_type(&exchange), &exchange.response) else {
            continue;
        };
        let answer = wire::parse_response(spoken, exchange.status, &assembled);
        // Gemini's arrays are not asked for; items that only a Responses client offers are no function calls.
        let is_array = spoken == Api::Gemini && exchange.response.starts_with(b"[");
        let has_other_calls =
            exchange.response.windows(9).any(|window| window == b"tool_call") && spoken == Api::OpenaiResponses;
        if candidates().any(|candidate| candidate == spoken)
            && exchange.status == 200
            && is_plain(&answer)
            && !is_array
            && !has_other_calls
        {
            let streamed = assembled.streamed;
            answers.push((exchange, spoken, answer, streamed));
        }
    }
    answers
}

#[test]
fn recorded_answers_of_candidates_come_back_in_every_clients_api() {
    let mut tally: BTreeMap<(&str, &str), [usize; 3]> = BTreeMap::new();
    for (exchange, spoken, recorded, streamed) in answers() {
        let assembled = wire::assemble(spoken, content_type(&exchange), &exchange.response).expect("an answer");
        for api in SPOKEN.into_iter().filter(|api| translate::is_needed(*api, spoken)) {
            let name = format!("{} to {}", exchange.name, api.as_str());
            let counts = tally.entry((spoken.as_str(), api.as_str())).or_default();
            let whole = back(api, spoken, false).response(assembled.body.to_string().as_bytes());
            let Ok(whole) = whole else {
                counts[2] += 1;
                continue;
            };
            let whole = read(api, "application/json", whole.to_string().as_bytes());
            let expected = comparable(api, meaning(&recorded));
            assert_eq!(comparable(api, meaning(&whole)), expected, "{name}");
            counts[0] += 1;
            if !streamed {
                continue;
            }
            let back = back(api, spoken, true);
            let written = through(&back, &exchange.response, usize::MAX);
            for size in [1, 7, 1000] {
                assert_eq!(
                    through(&back, &exchange.response, size),
                    written,
                    "{name}: cut at {size}"
                );
            }
            let read = read(api, back.content_type(), &written);
            assert!(read.error.is_none() && !read.partial, "{name}: {read:?}");
            assert_eq!(comparable(api, meaning(&read)), expected, "{name} streamed");
            assert_eq!(read.model.as_deref().unwrap_or("asked-for"), "asked-for", "{name}");
            counts[1] += 1;
        }
    }
    for ((spoken, api), [whole, streamed, refused]) in &tally {
        eprintln!("{spoken:20} to {api:20} {whole:4} whole, {streamed:4} streamed, {refused:3} refused");
    }
}

#[test]
fn a_candidates_stream_that_breaks_off_anywhere_never_looks_whole_unless_it_is() {
    for (exchange, spoken, recorded, _) in answers().into_iter().filter(|(.., streamed)| *streamed) {
        let back = back(Api::OpenaiChat, spoken, true);
        let length = exchange.response.len();
        for cut in (0..length).step_by((length / 23).max(1)) {
            let read = read(
                Api::OpenaiChat,
                "text/event-stream",
                &through(&back, &exchange.response[..cut], 4096),
            );
            if read.finish_reason.is_some() {
                let (text, _, calls, ..) = meaning(&recorded);
                let (cut_text, _, cut_calls, ..) = meaning(&read);
                assert_eq!((cut_text, cut_calls), (text, calls), "{} cut at {cut}", exchange.name);
            } else {
                assert!(read.error.is_some(), "{} cut at {cut}", exchange.name);
            }
        }
    }
}
