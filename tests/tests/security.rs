//! What must hold against whoever reads disks, sends requests or answers them: a test for each requirement.

use crate::erase::json as run_json;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use understudy_tests::fixtures::{CHAT, answer_chat, chat_answer, chat_request};
use understudy_tests::http::Request;
use understudy_tests::program::{Home, Program};
use understudy_tests::recordings::{Exchange, exchanges};
use understudy_tests::upstream::{self, LAST_CHUNK, Seen, Step, Upstream, chunk, head};
use understudy_tests::{Dice, contains, eventually};

/// Headers that carry credentials.
const CREDENTIALS: [&str; 6] = [
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "cookie",
    "proxy-authorization",
];

fn config(upstream: &Upstream, more: &str) -> String {
    format!(
        "upstreams: {{ llm: {{ url: {} }} }}\ncapture: {{ wait: 10s }}\n{more}",
        upstream.url()
    )
}

fn chats() -> Upstream {
    Upstream::start(|seen| answer_chat(seen, "gpt-4o", "well"))
}

fn call(program: &Program, key: &str, text: &str) -> u16 {
    Request::post(CHAT, chat_request("gpt-4o", text, false))
        .header("authorization", &format!("Bearer {key}"))
        .send(program.listen)
        .status()
}

fn data(home: &Home) -> String {
    home.data().to_str().expect("a plain path").to_owned()
}

/// Exit code and what a command says on stderr.
fn run(home: &Home, arguments: &[&str]) -> (Option<i32>, String) {
    let output = home.run(&[arguments, &["--data", &data(home)]].concat());
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn files_with(home: &Home, text: &str) -> Vec<String> {
    let files = home.files().into_iter().filter(|(_, bytes)| contains(bytes, text));
    files.map(|(path, _)| path.display().to_string()).collect()
}

/// Keys under which APIs have text that somebody wrote.
const TEXTS: [&str; 7] = ["text", "content", "output", "prompt", "thinking", "message", "refusal"];
/// Keys under which they have arguments: JSON, or the text of it.
const ARGUMENTS: [&str; 5] = ["arguments", "input", "args", "partial_json", "parameters"];

/// Puts a secret wherever a message has text or arguments; how often.
fn plant(value: &mut Value, secret: &str) -> usize {
    match value {
        Value::Array(items) => items.iter_mut().map(|item| plant(item, secret)).sum(),
        Value::Object(members) => members
            .iter_mut()
            .map(|(name, member)| plant_at(name, member, secret))
            .sum(),
        _ => 0,
    }
}

fn plant_at(name: &str, member: &mut Value, secret: &str) -> usize {
    match member {
        Value::String(text) if ARGUMENTS.contains(&name) => match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(mut arguments)) => {
                arguments.insert("canary".into(), secret.into());
                *text = Value::Object(arguments).to_string();
                1
            }
            // The first piece of streamed arguments.
            _ if text.starts_with("{\"") => {
                text.insert_str(1, &format!("\"canary\":\"{secret}\","));
                1
            }
            // A piece of arguments, or a prompt.
            _ if name == "input" && !text.is_empty() => {
                text.push_str(&format!(" {secret} "));
                1
            }
            _ => 0,
        },
        Value::String(text) if TEXTS.contains(&name) && !text.is_empty() => {
            text.push_str(&format!(" {secret} "));
            1
        }
        Value::Object(arguments) if ARGUMENTS.contains(&name) && !arguments.contains_key("properties") => {
            arguments.insert("canary".into(), secret.into());
            1
        }
        nested => plant(nested, secret),
    }
}

/// A body with the secret planted: JSON, events of JSON, or lines of it; else as it is.
fn planted(body: &[u8], secret: &str) -> (Vec<u8>, usize) {
    let Ok(text) = std::str::from_utf8(body) else {
        return (body.to_vec(), 0);
    };
    if let Ok(mut value) = serde_json::from_str::<Value>(text) {
        let count = plant(&mut value, secret);
        return (value.to_string().into_bytes(), count);
    }
    let mut count = 0;
    let lines = text.split_inclusive('\n').map(|line| {
        let (start, json) = line.split_at(line.find('{').unwrap_or(line.len()));
        let end = &json[json.trim_end().len()..];
        match serde_json::from_str::<Value>(json.trim_end()) {
            Ok(mut value) => {
                count += plant(&mut value, secret);
                format!("{start}{value}{end}")
            }
            Err(_) => line.to_owned(),
        }
    });
    (lines.collect::<String>().into_bytes(), count)
}

#[test]
fn requirement_1_a_secret_in_any_position_of_any_api_is_written_nowhere() {
    let recorded: Vec<Exchange> = exchanges(None);
    if recorded.is_empty() {
        return;
    }
    let mut dice = Dice::new(2026);
    let secrets: Vec<[String; 3]> = recorded
        .iter()
        .map(|_| [(); 3].map(|()| format!("sk-proj-{}", dice.word(48))))
        .collect();
    let answers: Vec<(u16, String, Vec<u8>)> = recorded
        .iter()
        .zip(&secrets)
        .map(|(exchange, secrets)| {
            let of = |name: &str| exchange.response_headers.iter().find(|(given, _)| given == name);
            let content_type = of("content-type").map_or("", |(_, value)| value).to_owned();
            (
                exchange.status,
                content_type,
                planted(&exchange.response, &secrets[1]).0,
            )
        })
        .collect();
    let upstream = Upstream::start(move |seen: &Seen| {
        let number: usize = seen
            .head
            .header("x-case")
            .and_then(|case| case.parse().ok())
            .expect("a case");
        let (status, content_type, body) = &answers[number];
        let headers = [
            ("content-type", content_type.as_str()),
            ("transfer-encoding", "chunked"),
        ];
        let pieces = body.chunks(4096).map(|piece| Step::Send(chunk(piece)));
        let ends = [Step::Send(LAST_CHUNK.to_vec())];
        std::iter::once(Step::Send(head(*status, &headers)))
            .chain(pieces)
            .chain(ends)
            .collect()
    });
    let home = Home::new();
    let program = home.serve_config(&config(&upstream, "log: { level: debug }\n"));
    let (mut in_requests, mut in_answers) = (0, 0);
    for (number, (exchange, [in_request, in_answer, in_header])) in recorded.iter().zip(&secrets).enumerate() {
        let (body, count) = planted(&exchange.request, in_request);
        in_requests += usize::from(count > 0);
        in_answers += usize::from(planted(&exchange.response, in_answer).1 > 0);
        let joint = if exchange.path.contains('?') { '&' } else { '?' };
        let mut request = Request::post(&format!("{}{joint}key={in_header}", exchange.path), body)
            .header("x-case", &number.to_string());
        for name in CREDENTIALS {
            request = request.header(name, in_header);
        }
        request.send(program.listen);
    }
    // The test can only fail where something was planted.
    assert!(
        in_requests * 10 > recorded.len() * 8,
        "{in_requests} of {} requests",
        recorded.len()
    );
    assert!(
        in_answers * 10 > recorded.len() * 5,
        "{in_answers} of {} answers",
        recorded.len()
    );
    let metrics = program.scrape_at_rest().text;
    let stderr = program.terminate().stderr;
    let rows: Vec<Vec<u8>> = home
        .rows()
        .iter()
        .map(|row| serde_json::to_vec(row).expect("JSON"))
        .collect();
    assert_eq!(rows.len(), recorded.len());
    let mut places: Vec<(String, Vec<u8>)> = home
        .files()
        .into_iter()
        .map(|(path, bytes)| (path.display().to_string(), bytes))
        .collect();
    places.extend([
        ("stderr".into(), stderr.into_bytes()),
        ("/metrics".into(), metrics.into_bytes()),
    ]);
    places.extend(rows.into_iter().map(|row| ("a row".to_owned(), row)));
    // Surrogates look alike: what counts is the very secret.
    let mut planted_where = std::collections::HashMap::new();
    for (exchange, of) in recorded.iter().zip(&secrets) {
        for (secret, position) in of.iter().zip(["request", "answer", "header or query"]) {
            planted_where.insert(secret.as_bytes(), format!("{} ({position})", exchange.name));
        }
    }
    let mut leaks = Vec::new();
    for (place, bytes) in &places {
        let starts = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"sk-proj-"));
        let found = starts.filter_map(|at| planted_where.get(bytes.get(at..at + 56)?));
        leaks.extend(found.map(|planted| format!("{planted} in {place}")));
    }
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}

#[test]
fn requirement_2_origins_are_keyed_stable_and_unlinkable_between_deployments() {
    let upstream = chats();
    let [one, other] = [(); 2].map(|()| {
        let home = Home::new();
        let program = home.serve_config(&config(&upstream, ""));
        for key in ["sk-same-client", "sk-same-client", "sk-another"] {
            assert_eq!(call(&program, key, "hello"), 200);
        }
        program.terminate();
        assert!(files_with(&home, "sk-same-client").is_empty());
        let rows = home.rows();
        assert!(
            rows.iter().all(|row| row.key_id.is_some()),
            "which key made them is kept"
        );
        let ids: BTreeSet<String> = rows.into_iter().filter_map(|row| row.client_id).collect();
        assert_eq!(ids.len(), 2, "the same client is the same within a deployment");
        ids
    });
    assert!(one.is_disjoint(&other), "clients can be linked between deployments");
    // Without the key no guess hits: neither a bare hash of what was sent nor one under a known key.
    let guess = understudy_tests::sha256(b"Bearer sk-same-client");
    assert!(!one.iter().any(|id| guess.starts_with(id.as_str())));
}

#[test]
fn requirement_2_users_sessions_and_addresses_are_kept_as_pseudonyms_alone() {
    let (upstream, home) = (chats(), Home::new());
    let program = home.serve_config(&config(&upstream, ""));
    let named = [
        json!({"user": "jdoe-of-blue-team", "prompt_cache_key": "jdoe-of-blue-team-session"}),
        json!({"metadata": {"user_id": "jdoe-of-blue-team"}}),
        json!({"safety_identifier": "another-of-blue-team"}),
        json!({}),
    ];
    for names in &named {
        let mut body: Value = serde_json::from_str(&chat_request("gpt-4o", "hello", false)).expect("JSON");
        let members = body.as_object_mut().expect("an object");
        members.extend(names.as_object().expect("an object").clone());
        assert_eq!(Request::post(CHAT, body.to_string()).send(program.listen).status(), 200);
    }
    // The upstream gets what was sent.
    let seen = upstream.requests();
    assert!(contains(&seen[0].body, "jdoe-of-blue-team-session"));
    program.terminate();
    assert_eq!(files_with(&home, "blue-team"), Vec::<String>::new());
    let rows = home.rows();
    let user = |at: i64| {
        rows.iter()
            .find(|row| row.sequence == Some(at))
            .and_then(|row| row.user_id.as_deref())
    };
    let [first, second, third, fourth] = [1, 2, 3, 4].map(user);
    assert!(first.is_some() && third.is_some(), "{rows:?}");
    assert_eq!(first, second, "the same user, whatever the API calls it");
    assert_ne!(first, third);
    assert_eq!(fourth, None);
    let addresses: BTreeSet<_> = rows.iter().map(|row| row.address_id.as_deref()).collect();
    assert!(
        addresses.len() == 1 && addresses.iter().all(Option::is_some),
        "{addresses:?}"
    );
    assert_eq!(files_with(&home, "127.0.0.1"), Vec::<String>::new());
}

#[test]
fn requirement_3_spool_and_objects_are_encrypted_and_what_is_tampered_with_is_no_data() {
    let (upstream, home) = (chats(), Home::new());
    let encrypted = "store: { encryption: on, flush: { after: 600s } }\n";
    let program = home.serve_config(&config(&upstream, encrypted));
    assert_eq!(call(&program, "sk-1", "the pelican of the prompt"), 200);
    eventually("it waits in the spool", || {
        program.scrape().sum("understudy_spool_waiting_records", &[]) >= 1.0 || !home.files().is_empty()
    });
    assert!(files_with(&home, "pelican").is_empty(), "in the spool");
    program.terminate();
    assert!(files_with(&home, "pelican").is_empty() && files_with(&home, "gpt-4o").is_empty());
    let rows = run_json(&home, &["calls"], "");
    assert!(
        rows[0]["request_body"].to_string().contains("pelican"),
        "the keys in the folder open it"
    );

    let is_table = |path: &std::path::Path| path.extension().is_some_and(|extension| extension == "parquet");
    let (path, bytes) = home
        .files()
        .into_iter()
        .find(|(path, _)| is_table(path))
        .expect("an object");
    let mut tampered = bytes.clone();
    let middle = tampered.len() / 8;
    tampered[middle] ^= 1;
    std::fs::write(&path, &tampered).expect("a writable store");
    let (code, words) = run(&home, &["calls", "--format", "json"]);
    assert!(code == Some(1) && words.contains("could not scan"), "{words}");
    std::fs::write(&path, &bytes).expect("a writable store");

    let keys = home.data().join("keys");
    for name in ["content.key", "metrics.key"] {
        std::fs::rename(keys.join(name), home.path().join(name)).expect("a movable key");
    }
    let (code, words) = run(&home, &["calls", "--format", "json"]);
    assert!(
        code == Some(1) && words.contains("is encrypted with the key metrics-"),
        "absent: {words}"
    );
    for name in ["content.key", "metrics.key"] {
        std::fs::write(keys.join(name), "ab".repeat(32)).expect("a writable folder");
    }
    let (code, words) = run(&home, &["calls", "--format", "json"]);
    assert!(
        code == Some(1) && words.contains("is encrypted with the key metrics-"),
        "wrong: {words}"
    );
    // The metrics key alone reads what it cost, and nothing that was said.
    std::fs::remove_file(keys.join("content.key")).expect("a removable key");
    std::fs::rename(home.path().join("metrics.key"), keys.join("metrics.key")).expect("a movable key");
    let rows = run_json(&home, &["calls"], "");
    assert_eq!(
        (&rows[0]["input_tokens"], &rows[0]["request_body"]),
        (&5.into(), &Value::Null)
    );
}

#[test]
fn requirement_4_an_erased_subject_is_gone_from_all_stores_and_others_are_not() {
    let (upstream, home) = (chats(), Home::new());
    let program = home.serve_config(&config(&upstream, "store: { flush: { after: 1s } }\n"));
    (0..3).for_each(|_| assert_eq!(call(&program, "sk-ann", "hers"), 200));
    (0..5).for_each(|_| assert_eq!(call(&program, "sk-bob", "his"), 200));
    eventually("all are stored", || home.rows().len() == 8);
    let receipt = run_json(&home, &["erase", "--client-value-stdin"], "sk-ann\n");
    assert_eq!(receipt[0]["erased"]["calls"], 3);
    assert_eq!(home.rows().len(), 5, "while the program runs");
    program.terminate();
    assert_eq!(home.rows().len(), 5);
}

#[test]
fn requirement_5_the_audit_log_shows_what_was_done_and_that_it_was_tampered_with() {
    let (upstream, home) = (chats(), Home::new());
    let program = home.serve_config(&config(&upstream, ""));
    assert_eq!(call(&program, "sk-1", "hello"), 200);
    let log = || {
        run_json(&home, &["audit", "--log"], "")
            .as_array()
            .expect("entries")
            .clone()
    };
    eventually("the config is noted", || !log().is_empty());
    home.write_config(&config(&upstream, "capture_note: 1\n").replace("capture_note: 1\n", "routes: []\n"));
    eventually("the new config is noted", || log().len() >= 2);
    program.terminate();
    run_json(&home, &["calls"], "");
    run_json(&home, &["erase", "--client", "nobody"], "");
    let actions: Vec<String> = log().iter().map(|entry| entry["action"].to_string()).collect();
    assert_eq!(
        actions,
        [r#""config""#, r#""config""#, r#""read_content""#, r#""erase""#]
    );
    let (_, words) = run(&home, &["audit", "--log"]);
    let known = words.split("head ").nth(1).expect("a head").trim().to_owned();

    let folder = home.data().join("audit-log");
    let entry = folder.join("v000002.json");
    let text = std::fs::read_to_string(&entry).expect("an entry");
    std::fs::write(&entry, text.replace("config", "coffee")).expect("a writable store");
    let (code, words) = run(&home, &["audit", "--log"]);
    assert!(
        code == Some(1) && words.contains("broken: entry 3 does not continue"),
        "altered: {words}"
    );
    std::fs::remove_file(&entry).expect("a removable entry");
    let (code, words) = run(&home, &["audit", "--log"]);
    assert!(code == Some(1) && words.contains("broken"), "dropped: {words}");
    std::fs::write(&entry, text).expect("a writable store");
    assert_eq!(run(&home, &["audit", "--log", "--head", &known]).0, Some(0));
    std::fs::remove_file(folder.join("v000004.json")).expect("a removable entry");
    let (code, words) = run(&home, &["audit", "--log", "--head", &known]);
    assert!(code == Some(1) && words.contains("cut off"), "cut: {words}");
}

#[test]
fn requirement_6_the_admin_port_is_apart_and_asks_for_host_origin_token_and_role() {
    let (upstream, home) = (chats(), Home::new());
    let program = home.serve_config(&config(&upstream, ""));
    let get = |path: &str, headers: &[(&str, &str)], raw: Option<&str>| {
        let request = headers
            .iter()
            .fold(Request::get(path), |request, (name, value)| request.header(name, value));
        let mut bytes = String::from_utf8(request.bytes(program.admin)).expect("text");
        if let Some(host) = raw {
            bytes = bytes.replacen(&format!("host: {}", program.admin), &format!("host: {host}"), 1);
        }
        let mut wire = understudy_tests::http::Wire::connect(program.admin).expect("a connection");
        wire.write(bytes.as_bytes()).expect("a request");
        wire.read_head().expect("a response").expect("a head")
    };
    let good = get("/session", &[], None);
    assert_eq!(good.status(), 200);
    let policy = good.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    assert_eq!(get("/session", &[], Some("rebound.example")).status(), 421);
    assert_eq!(
        get("/session", &[("origin", "http://evil.example")], None).status(),
        403
    );
    assert_eq!(Request::post("/session", "").send(program.admin).status(), 403);
    // Nothing of it is on the data port, whatever the path.
    for path in ["/session", "//session", "/%2e%2e/session", "/admin/session"] {
        let answer = Request::get(path).send(program.listen);
        assert!(!answer.text().contains("csrf"), "{path}");
    }
    program.terminate();

    let home = Home::new();
    let open = config(&upstream, "admin: 0.0.0.0:0\n");
    home.write_config(&open);
    let refused = home.run(&["check", "understudy.yaml"]);
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && words.contains("admin_tokens"), "{words}");
    let tokens = "admin_tokens:\n  - { role: viewer, token_env: LOOK }\n  - { role: operator, token_env: MOVE }\n";
    home.write_config(&config(&upstream, tokens));
    let (look, act) = ("l".repeat(32), "m".repeat(32));
    let variables = [("LOOK", look.as_str()), ("MOVE", act.as_str())];
    let program = home.serve(&["--config", "understudy.yaml"], &variables);
    let with = |token: &str| {
        Request::get("/session")
            .header("authorization", &format!("Bearer {token}"))
            .send(program.admin)
    };
    assert_eq!(Request::get("/session").send(program.admin).status(), 401);
    assert_eq!(with("wrong").status(), 401);
    assert_eq!(with(&look).json()["role"], "viewer");
    assert_eq!(with(&act).json()["role"], "operator");
}

#[test]
fn requirement_7_only_config_chooses_an_upstream_and_redirects_are_not_followed() {
    let elsewhere = chats();
    let target = elsewhere.url();
    let upstream = Upstream::start(move |_| {
        let location = format!("{target}/latest/meta-data/");
        vec![Step::Send(head(
            308,
            &[("location", &location), ("content-length", "0")],
        ))]
    });
    let home = Home::new();
    let program = home.serve_config(&config(&upstream, ""));
    let authority = elsewhere.url().replace("http://", "");
    let body = chat_request("gpt-4o", "hello", false);
    let chosen = [
        Request::post(CHAT, &body[..]).header("x-forwarded-host", &authority),
        Request::post(CHAT, &body[..]).header("x-upstream", &elsewhere.url()),
        Request::post(CHAT, &body[..]).header("x-understudy-route", &elsewhere.url()),
        Request::post(&format!("{}{CHAT}", elsewhere.url()), &body[..]),
        Request::post(&format!("/{authority}{CHAT}"), &body[..]),
    ];
    for request in chosen {
        assert_eq!(request.send(program.listen).status(), 308, "passed on, not followed");
    }
    assert_eq!((upstream.count(), elsewhere.count()), (5, 0));
    program.terminate();
    for url in [
        "http://169.254.169.254/",
        "http://2852039166/",
        "http://[fd00:ec2::254]/",
        "http://[::ffff:169.254.169.254]/",
    ] {
        home.write_config(&format!("upstreams: {{ llm: {{ url: '{url}' }} }}\n"));
        let refused = home.run(&["check", "understudy.yaml"]);
        let words = String::from_utf8_lossy(&refused.stderr);
        assert!(
            !refused.status.success() && words.contains("allow_link_local"),
            "{url}: {words}"
        );
    }
    for scheme in ["file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/"] {
        home.write_config(&format!("upstreams: {{ llm: {{ url: '{scheme}' }} }}\n"));
        let started = home.run(&[
            "serve",
            "--config",
            "understudy.yaml",
            "--listen",
            "127.0.0.1:0",
            "--metrics",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ]);
        assert!(!started.status.success(), "{scheme}");
    }
}

/// A home whose store holds calls of one task, made with these credentials and this text.
fn rehearsable(candidate: &Upstream, baseline: &Upstream, text: &str) -> (Home, String) {
    let home = Home::new();
    let upstreams = format!(
        "default_upstream: llm\nupstreams:\n  llm: {{ url: {} }}\n  slm: {{ url: {}, api: openai_chat, model: small, key_env: SLM_KEY }}\ncapture: {{ wait: 10s }}\n",
        baseline.url(),
        candidate.url()
    );
    let program = home.serve_config(&upstreams);
    for number in 0..8 {
        let mut request = Request::post(
            CHAT,
            chat_request(
                "gpt-4o",
                &format!("Translate order number {number} {text} please"),
                false,
            ),
        );
        for name in CREDENTIALS {
            request = request.header(name, "canary-credential-of-the-client");
        }
        request = request
            .header("openai-organization", "canary-organization")
            .header("x-forwarded-for", "203.0.113.77");
        assert_eq!(request.send(program.listen).status(), 200);
    }
    program.terminate();
    let tasks = run_json(&home, &["tasks", "fit"], "");
    let task = tasks[0]["id"].as_str().expect("a task").to_owned();
    (home, task)
}

fn replay(home: &Home, task: &str) -> std::process::Output {
    let place = ["--config", "understudy.yaml", "--data", &data(home)];
    home.run(&[&["replay", "--task", task, "--to", "slm", "--timeout", "2"], &place[..]].concat())
}

#[test]
fn requirement_8_a_candidate_gets_fresh_headers_and_masked_text_and_can_not_send_us_elsewhere() {
    let (elsewhere, baseline) = (chats(), chats());
    let target = format!("{}/next", elsewhere.url());
    let candidate = Upstream::start(
        move |seen| match seen.bytes().windows(8).any(|window| window == b"number 3") {
            true => vec![Step::Send(head(307, &[("location", &target), ("content-length", "0")]))],
            false => upstream::json(200, &chat_answer("small", "well")),
        },
    );
    let (home, task) = rehearsable(&candidate, &baseline, "for jane.roe@corp-mail.net");
    let output = replay(&home, &task);
    assert_ne!(
        output.status.code(),
        Some(2),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        candidate.count() >= 8,
        "{} requests reached the candidate",
        candidate.count()
    );
    assert_eq!(elsewhere.count(), 0, "its redirect was followed");
    let canaries = [
        "canary-credential",
        "canary-organization",
        "203.0.113.77",
        "jane.roe@corp-mail.net",
    ];
    for seen in candidate.requests() {
        let bytes = [seen.bytes(), seen.body.clone()].concat();
        for canary in canaries {
            assert!(
                !contains(&bytes, canary),
                "{canary}: {}",
                String::from_utf8_lossy(&bytes)
            );
        }
        let allowed = [
            "host",
            "content-type",
            "content-length",
            "accept",
            "accept-encoding",
            "user-agent",
            "authorization",
        ];
        let names: Vec<String> = seen.head.end_to_end().into_keys().collect();
        assert!(names.iter().all(|name| allowed.contains(&name.as_str())), "{names:?}");
    }
}

#[test]
fn requirement_9_a_candidate_that_fails_or_hangs_is_never_felt_by_a_client_and_its_tools_are_not_called() {
    let touched = Arc::new(AtomicBool::new(false));
    let (hanging, baseline) = (Upstream::start(|_| vec![Step::Hang]), chats());
    let (home, task) = rehearsable(&hanging, &baseline, "today");
    let program = home.serve(&["--config", "understudy.yaml"], &[]);
    std::thread::scope(|scope| {
        let (done, home, task) = (touched.clone(), &home, &task);
        scope.spawn(move || {
            replay(home, task);
            done.store(true, Ordering::Relaxed);
        });
        eventually("the candidate is asked", || hanging.count() > 0);
        for _ in 0..10 {
            assert_eq!(call(&program, "sk-1", "hello"), 200);
        }
        assert!(!touched.load(Ordering::Relaxed) || hanging.count() > 0);
    });
    program.terminate();
    // A tool that an answer asks for has nowhere to be called: the only requests are those to the candidate.
    let tool = json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "small",
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": null,
            "tool_calls": [{"id": "t", "type": "function", "function": {
                "name": "fetch", "arguments": json!({"url": format!("{}/side-effect", baseline.url())}).to_string()}}]}}],
    });
    let candidate = Upstream::start(move |_| upstream::json(200, &tool));
    let (home, task) = rehearsable(&candidate, &baseline, "today");
    let before = baseline.count();
    replay(&home, &task);
    assert!(candidate.count() > 0 && baseline.count() == before);
}

#[test]
fn requirement_10_values_from_outside_forge_neither_log_lines_nor_headers_nor_labels() {
    let (upstream, home) = (chats(), Home::new());
    let program = home.serve_config(&config(&upstream, "log: { format: json, level: debug }\n"));
    let forged = "x\n{\"level\":\"ERROR\",\"message\":\"forged\"}\r\nx-forged: 1";
    assert_eq!(
        Request::post(CHAT, json!({"model": forged, "messages": []}).to_string())
            .send(program.listen)
            .status(),
        200
    );
    let series = |program: &Program| program.scrape_at_rest().text.lines().count();
    let before = series(&program);
    for number in 0..100 {
        let body = chat_request(&format!("model-{number}"), "hello", false);
        let request = Request::post(CHAT, body).header("x-understudy-tag-case", &format!("tag-{number}"));
        assert_eq!(request.send(program.listen).status(), 200);
    }
    let after = series(&program);
    assert!(after < before + 20, "{before} series became {after}");
    let stderr = program.terminate().stderr;
    let lines = stderr.lines().filter(|line| line.starts_with('{'));
    for line in lines {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(entry.get("message") != Some(&json!("forged")), "{line}");
    }
    for name in ["a\\r\\nx", "a\\nb", "a\\0b"] {
        home.write_config(&format!("upstreams: {{ \"{name}\": {{ url: http://127.0.0.1:1 }} }}\n"));
        assert!(!home.run(&["check", "understudy.yaml"]).status.success(), "{name}");
    }
}

#[test]
fn requirement_11_an_upstream_that_can_not_prove_its_name_gets_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let received = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut first = [0; 1024];
        let count = std::io::Read::read(&mut stream, &mut first).unwrap_or(0);
        first[..count].to_vec()
    });
    let home = Home::new();
    let program = home.serve_upstream(&format!("https://{address}"));
    assert_eq!(call(&program, "sk-canary-of-tls", "hello"), 502);
    let hello = received.join().expect("what was received");
    assert!(
        hello.first() == Some(&22) && !contains(&hello, "sk-canary-of-tls"),
        "no TLS handshake"
    );
    program.terminate();
    // Nothing in the tree can switch verification off.
    let output = std::process::Command::new("grep")
        .args(["-rlE", "danger(ous)?\\(\\)|danger_accept|NoCertificateVerification"])
        .args(["call/src", "client/src", "proxy/src", "collector/src", "cli/src"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("grep runs");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn requirement_12_what_can_not_be_kept_passes_or_is_refused_as_config_says() {
    for (mode, expected) in [("best_effort", 200), ("required", 503)] {
        let (upstream, home) = (chats(), Home::new());
        let full = format!(
            "upstreams: {{ llm: {{ url: {} }} }}\ncapture: {{ mode: {mode}, wait: 1s, spool: {{ max: 1, when_full: drop_new }} }}\n",
            upstream.url()
        );
        let program = home.serve_config(&full);
        let statuses: Vec<u16> = (0..3).map(|_| call(&program, "sk-1", "hello")).collect();
        assert_eq!(statuses.last(), Some(&expected), "{mode}: {statuses:?}");
        let metrics = program.scrape_at_rest();
        assert!(metrics.sum("understudy_dropped_total", &[]) > 0.0, "{mode}");
    }
}

#[test]
fn the_kill_switch_sends_every_call_to_its_baseline_and_keeps_none() {
    let (baseline, candidate, home) = (chats(), chats(), Home::new());
    let routed = format!(
        "default_upstream: llm\nupstreams:\n  llm: {{ url: {} }}\n  slm: {{ url: {}, api: openai_chat, model: small, trusted: true }}\n\
         capture: {{ wait: 10s }}\nroutes:\n  - {{ name: all, match: {{ model: gpt-4o }}, split: {{ slm: 100 }} }}\n",
        baseline.url(),
        candidate.url()
    );
    let program = home.serve_config(&routed);
    assert_eq!(
        call(&program, "sk-1", "the first shows that the baseline accepts its client"),
        200
    );
    assert_eq!(call(&program, "sk-1", "the second is canaried"), 200);
    assert_eq!((baseline.count(), candidate.count()), (1, 1));
    assert_eq!(run(&home, &["bypass", "on"]).0, Some(0));
    let dropped = || {
        program
            .scrape_at_rest()
            .sum("understudy_dropped_total", &[("reason", "bypass")])
    };
    eventually("calls bypass", || {
        assert_eq!(call(&program, "sk-1", "bypassing"), 200);
        dropped() > 0.0
    });
    let (candidates, drops) = (candidate.count(), dropped());
    (0..5).for_each(|_| assert_eq!(call(&program, "sk-1", "bypassing"), 200));
    assert_eq!((candidate.count(), dropped()), (candidates, drops + 5.0));
    assert_eq!(run(&home, &["bypass", "off"]).0, Some(0));
    eventually("calls are routed again", || {
        assert_eq!(call(&program, "sk-1", "routed"), 200);
        candidate.count() > candidates
    });
    program.terminate();
}
