//! Fits a task book on trace files and writes which task each call is assigned to.
//!
//! `fit_traces OUT.jsonl [key=value…] FIT.jsonl.zst… [-- ASSIGN.jsonl.zst…]`; never part of the product.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool, run by hand")]

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::time::Instant;
use understudy_call::call::{Message, Request, Response, ResponseFormat, Role, ToolCall, ToolOffered};
use understudy_collector::cluster::{FitInput, FitOptions, fit};

struct Traced {
    id: String,
    session: String,
    request: Request,
    response: Response,
}

fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect::<Vec<_>>()
            .join("\n"),
        _ => String::new(),
    }
}

fn tool_calls(message: &Value) -> Vec<ToolCall> {
    let calls = message["tool_calls"].as_array().into_iter().flatten();
    calls
        .map(|call| ToolCall {
            id: call["id"].as_str().map(str::to_owned),
            name: call["function"]["name"].as_str().unwrap_or_default().to_owned(),
            arguments: call["function"]["arguments"].as_str().unwrap_or("{}").to_owned(),
        })
        .collect()
}

fn parse(body: &Value) -> Request {
    let messages = body["messages"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|message| Message {
            role: match message["role"].as_str() {
                Some("system" | "developer") => Role::System,
                Some("assistant") => Role::Assistant,
                Some("tool" | "function") => Role::Tool,
                _ => Role::User,
            },
            text: text(&message["content"]),
            tool_calls: tool_calls(message),
            tool_call_id: None,
            media_parts: 0,
        });
    let tools = body["tools"].as_array().into_iter().flatten().map(|tool| ToolOffered {
        name: tool["function"]["name"].as_str().unwrap_or_default().to_owned(),
        description: tool["function"]["description"].as_str().map(str::to_owned),
        schema: tool["function"]["parameters"].clone(),
    });
    let response_format = match body["response_format"]["type"].as_str() {
        Some("json_object") => ResponseFormat::JsonObject,
        Some("json_schema") => ResponseFormat::JsonSchema(body["response_format"]["json_schema"]["schema"].clone()),
        _ => ResponseFormat::Text,
    };
    Request {
        messages: messages.collect(),
        tools: tools.collect(),
        response_format,
        ..Request::default()
    }
}

fn read(path: &str) -> Vec<Traced> {
    let file = std::fs::File::open(path).unwrap();
    let mut decoder = zstd::Decoder::new(file).unwrap();
    decoder.window_log_max(27).unwrap();
    let parse = |line: std::io::Result<String>| {
        let row: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let message = &row["response"]["choices"][0]["message"];
        Traced {
            id: row["id"].as_str().unwrap().to_owned(),
            session: row["session"].to_string(),
            request: parse(&row["request"]),
            response: Response {
                output_text: text(&message["content"]),
                tool_calls: tool_calls(message),
                ..Response::default()
            },
        }
    };
    BufReader::new(decoder).lines().map(parse).collect()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let out = arguments.next().expect("OUT.jsonl");
    let mut options = FitOptions::default();
    let (mut every, mut book_out) = (1, None);
    let (mut fitted_on, mut assigned_to, mut after) = (Vec::new(), Vec::new(), false);
    for argument in arguments {
        match argument.split_once('=') {
            None if argument == "--" => after = true,
            None => if after { &mut assigned_to } else { &mut fitted_on }.extend(read(&argument)),
            Some(("likeness", value)) => options.likeness = value.parse().unwrap(),
            Some(("sample", value)) => options.sample = value.parse().unwrap(),
            Some(("seed", value)) => options.seed = value.parse().unwrap(),
            Some(("min_calls", value)) => options.min_calls = value.parse().unwrap(),
            Some(("min_prompts", value)) => options.min_prompts = value.parse().unwrap(),
            Some(("min_conversations", value)) => options.min_conversations = value.parse().unwrap(),
            Some(("every", value)) => every = value.parse().unwrap(),
            Some(("book", value)) => book_out = Some(value.to_owned()),
            Some(_) => panic!("unknown {argument}"),
        }
    }
    let inputs: Vec<FitInput> = fitted_on
        .iter()
        .step_by(every)
        .map(|call| FitInput {
            call_id: &call.id,
            conversation: &call.session,
            request: &call.request,
            response: Some(&call.response),
        })
        .collect();
    let began = Instant::now();
    let book = fit(&inputs, None, &options).unwrap();
    let fit_seconds = began.elapsed().as_secs_f64();
    let json = book.to_json();
    if let Some(path) = book_out {
        std::fs::write(path, &json).unwrap();
    }
    let calls: Vec<&Traced> = if assigned_to.is_empty() {
        fitted_on.iter().collect()
    } else {
        assigned_to.iter().collect()
    };
    println!(
        "{} calls fit in {fit_seconds:.2} s: {} tasks, {} templates, {} phrases, book {} KB, other {:.3}",
        inputs.len(),
        book.tasks.len(),
        book.templates.len(),
        book.vocabulary.len(),
        json.len() / 1024,
        book.other
    );
    let compiled = book.compile();
    let began = Instant::now();
    let assigned: Vec<_> = calls.iter().map(|call| compiled.assign(&call.request)).collect();
    let micros = began.elapsed().as_secs_f64() * 1e6 / calls.len() as f64;
    println!("assign {micros:.1} us a call");
    let mut file = std::io::BufWriter::new(std::fs::File::create(out).unwrap());
    for (call, assignment) in calls.iter().zip(assigned) {
        let task = assignment.map(|assignment| assignment.task);
        writeln!(file, "{}", serde_json::json!({ "id": call.id, "task": task })).unwrap();
    }
}
