//! Secrets: wherever a client puts one, no file, log line or metric holds it; and what people write is masked in rows.

mod streams;

use serde_json::{Value, json};
use understudy_tests::fixtures::{CHAT, MESSAGES};
use understudy_tests::http::Request;
use understudy_tests::program::Home;
use understudy_tests::upstream::{self, Upstream};
use understudy_tests::{Dice, contains};

/// Headers that carry credentials, or may.
const HEADERS: [&str; 12] = [
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "cookie",
    "proxy-authorization",
    "openai-organization",
    "x-amz-security-token",
    "x-auth-token",
    "x-forwarded-for",
    "user-agent",
    "x-anything-else",
];

/// Secrets in the shapes of providers, made up anew from these dice.
fn shapes(dice: &mut Dice) -> Vec<String> {
    let upper = |word: String| word.to_ascii_uppercase();
    vec![
        format!("sk-proj-{}", dice.word(48)),
        format!("sk-{}T3BlbkFJ{}", dice.word(20), dice.word(20)),
        format!("sk-ant-api03-{}-{}AA", dice.word(60), dice.word(30)),
        format!("AKIA{}", upper(dice.word(16))),
        format!("ghp_{}", dice.word(36)),
        format!("AIza{}", dice.word(35)),
        format!(
            "xoxb-{}-{}-{}",
            100_000_000_000 + dice.roll(899_999_999_999),
            123_456_789_012u64,
            dice.word(24)
        ),
    ]
}

/// Every place of a chat answer where text can be.
fn chat_answer(secret: &str) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o",
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": format!("The key is {secret}, keep it."),
            "tool_calls": [{"id": "call_1", "type": "function", "function": {
                "name": "login", "arguments": json!({"token": secret, "deep": [{"again": secret}]}).to_string(),
            }}],
        }}],
    })
}

fn chat_request(secret: &str) -> Value {
    json!({
        "model": "gpt-4o", "user": "u-1",
        "messages": [
            {"role": "system", "content": format!("Use {secret} for the API.")},
            {"role": "user", "content": [{"type": "text", "text": format!("export API_KEY={secret}\nand go on")}]},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "call_0", "type": "function", "function": {
                "name": "login", "arguments": json!({"password": secret}).to_string(),
            }}]},
            {"role": "tool", "tool_call_id": "call_0", "content": format!("{{\"session\": \"{secret}\"}}")},
        ],
        "tools": [{"type": "function", "function": {
            "name": "login", "description": format!("for instance {secret}"), "parameters": {"type": "object"},
        }}],
    })
}

/// Asserts that no file of the data directory, no row, and none of the texts holds any of the secrets.
fn assert_nowhere(home: &Home, secrets: &[(String, String)], texts: &[(&str, &str)]) {
    let rows: Vec<(String, Vec<u8>)> = home
        .rows()
        .iter()
        .map(|row| {
            (
                format!("row {:?}", row.tags),
                serde_json::to_vec(row).expect("a row is JSON"),
            )
        })
        .collect();
    assert!(!rows.is_empty(), "nothing was kept, so nothing was tested");
    let files = home
        .files()
        .into_iter()
        .map(|(path, bytes)| (path.display().to_string(), bytes));
    let texts = texts
        .iter()
        .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()));
    let places: Vec<(String, Vec<u8>)> = rows.iter().cloned().chain(files).chain(texts).collect();
    let mut leaks = Vec::new();
    for (place, bytes) in &places {
        for (what, secret) in secrets {
            if contains(bytes, secret) {
                leaks.push(format!("{what} ({secret}) is in {place}"));
            }
        }
    }
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}

#[test]
fn credentials_are_nowhere_on_disk_in_logs_or_in_metrics() {
    let mut dice = Dice::new(7);
    let mut secrets: Vec<(String, String)> = Vec::new();
    let upstream = Upstream::start(|seen| {
        let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
        let secret = body["messages"][0]["content"]
            .as_str()
            .and_then(|text| text.split(' ').nth(1));
        upstream::json(200, &chat_answer(secret.unwrap_or_default()))
    });
    let home = Home::new();
    home.write_config(&format!(
        "upstreams: {{ llm: {{ url: {} }} }}\ncapture: {{ wait: 5s }}\nlog: {{ level: trace }}\n",
        upstream.url()
    ));
    let program = home.serve(&["--config", "understudy.yaml"], &[]);

    let plain = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let mut loaded = Request::post(CHAT, &plain[..]).header("x-understudy-tag-case", "headers");
    for name in HEADERS {
        let secret = dice.word(24);
        loaded = loaded.header(name, &secret);
        secrets.push((format!("header {name}"), secret));
    }
    assert_eq!(loaded.send(program.listen).status(), 200);

    let in_query = dice.word(24);
    let query = Request::post(&format!("{CHAT}?key={in_query}&api-version=1"), &plain[..]);
    assert_eq!(
        query
            .header("x-understudy-tag-case", "query")
            .send(program.listen)
            .status(),
        200
    );
    let in_unknown_path = dice.word(24);
    let unknown = Request::get(&format!("/v1/files?token={in_unknown_path}"));
    assert_eq!(
        unknown
            .header("x-understudy-tag-case", "other")
            .send(program.listen)
            .status(),
        200
    );
    secrets.push(("the query".into(), in_query));
    secrets.push(("the query of an unknown path".into(), in_unknown_path));

    let conversation = dice.word(24);
    let session = Request::post(CHAT, &plain[..])
        .header("x-understudy-conversation", &conversation)
        .header("x-understudy-tag-case", "conversation");
    assert_eq!(session.send(program.listen).status(), 200);
    secrets.push(("the conversation's name".into(), conversation));

    for (number, secret) in shapes(&mut dice).into_iter().enumerate() {
        let request = Request::post(CHAT, chat_request(&secret).to_string())
            .header("x-understudy-tag-case", &format!("shape {number}"));
        let answer = request.send(program.listen);
        assert!(answer.text().contains(&secret), "the client gets the answer unmasked");
        secrets.push((format!("shape {number} in a body"), secret));
    }
    for seen in upstream.requests() {
        assert!(seen.complete, "a request was cut");
    }

    let metrics = program.scrape_at_rest().text;
    let live: Vec<(std::path::PathBuf, Vec<u8>)> = home.files();
    for (path, bytes) in &live {
        for (what, secret) in &secrets {
            assert!(
                !contains(bytes, secret),
                "{what} is in {} while running",
                path.display()
            );
        }
    }
    let ended = program.terminate();
    assert_nowhere(&home, &secrets, &[("stderr", &ended.stderr), ("/metrics", &metrics)]);
    assert_eq!(home.rows().len(), 4 + 7, "all calls are kept all the same");
}

#[test]
fn a_secret_in_a_broken_body_or_in_an_error_is_not_kept_either() {
    let mut dice = Dice::new(11);
    let key = format!("sk-proj-{}", dice.word(48));
    let in_error = key.clone();
    let upstream = Upstream::start(move |_| {
        let message = format!("Incorrect API key provided: {in_error}. You can find your key on the site.");
        upstream::json(
            401,
            &json!({"error": {"message": message, "type": "invalid_request_error"}}),
        )
    });
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    let broken = format!("{{\"model\": \"gpt-4o\", \"messages\": [{{\"content\": \"{key}");
    let bodies = [
        ("broken", broken.as_bytes().to_vec()),
        ("bytes", [b"\xff\xfe", key.as_bytes()].concat()),
    ];
    for (case, body) in bodies {
        let request = Request::post(CHAT, body).header("x-understudy-tag-case", case);
        assert_eq!(request.send(program.listen).status(), 401);
    }
    let in_tag = Request::post(CHAT, "{}")
        .header("x-understudy-tag-case", "tag")
        .header("x-understudy-tag-key", &key);
    assert_eq!(in_tag.send(program.listen).status(), 401);
    let ended = program.terminate();
    assert_nowhere(&home, &[("a key".into(), key)], &[("stderr", &ended.stderr)]);
    assert_eq!(home.rows().len(), 3);
}

#[test]
fn people_are_masked_in_messages_tool_arguments_and_answers() {
    let (email, card) = ("jane.roe@corp-mail.net", "4532 0151 1283 0366");
    let answer = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "tool_use",
        "content": [
            {"type": "text", "text": format!("I wrote to {email}.")},
            {"type": "tool_use", "id": "toolu_1", "name": "pay", "input": {"to": email, "card": card}},
        ],
        "usage": {"input_tokens": 1, "output_tokens": 1},
    });
    let given = answer.to_string();
    let upstream = Upstream::start(move |_| upstream::json(200, &answer));
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    let request = json!({
        "model": "claude", "max_tokens": 9, "system": format!("You write for {email}."),
        "messages": [
            {"role": "user", "content": format!("Pay with my card {card} please, mail {email}")},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_0", "name": "find", "input": {"q": email}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_0", "content": format!("card: {card}")}]},
        ],
    });
    let sent = Request::post(MESSAGES, request.to_string()).header("x-understudy-tag-case", "it");
    assert_eq!(
        sent.send(program.listen).text(),
        given,
        "the client's answer is not masked"
    );
    assert!(
        contains(&upstream.requests()[0].body, email),
        "the upstream's request is not masked"
    );
    program.terminate();

    let secrets = [
        ("the e-mail".to_owned(), email.to_owned()),
        ("the card".to_owned(), card.to_owned()),
    ];
    assert_nowhere(&home, &secrets, &[]);
    let row = home.row("it");
    let kinds: Vec<&str> = row.masked.iter().map(|count| count.kind.as_str()).collect();
    assert!(kinds.iter().any(|kind| kind.contains("EMAIL")), "{kinds:?}");
    assert!(kinds.iter().any(|kind| kind.contains("CARD")), "{kinds:?}");
    // One surrogate stands for one value throughout, and keeps its form.
    let arguments: Value = serde_json::from_str(&row.tool_calls[0].arguments).expect("arguments stay JSON");
    let surrogate = arguments["to"].as_str().expect("a text stays a text");
    assert!(
        surrogate.contains('@'),
        "the surrogate of an e-mail is one: {surrogate}"
    );
    for text in [&row.request_body, &row.response_body, &row.output_text] {
        assert!(
            text.as_deref().is_some_and(|text| text.contains(surrogate)),
            "another surrogate in {text:?}"
        );
    }
}
