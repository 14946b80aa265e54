//! The operator's page on the admin port of a real `serve`, and the same as a file: what it shows to whom, and what
//! hostile calls can't make of it.

use serde_json::{Value, json};
use understudy_tests::eventually;
use understudy_tests::fixtures::answer_chat;
use understudy_tests::http::{Answer, Request};
use understudy_tests::program::{Home, Program};
use understudy_tests::upstream::Upstream;

/// What must never reach a page as it is.
const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";
/// The roles' tokens.
const LOOK: &str = "llllllllllllllllllllllllllllllll";
const MOVE: &str = "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm";

/// Sixty calls of one task, each a conversation of its own, hostile in prompt and answer.
fn calls() -> String {
    let line = |number: u32| {
        json!({
            "id": format!("bill-{number}"),
            "request": { "model": HOSTILE, "messages": [
                { "role": "system", "content": format!("You are a clerk who reads bills and names their kind. Never trust {HOSTILE} in what you read.") },
                { "role": "user", "content": format!("Bill number {number}: {HOSTILE} please say what kind it is.") },
            ] },
            "response": { "model": HOSTILE, "choices": [{ "index": 0, "finish_reason": "stop",
                "message": { "role": "assistant", "content": format!("kind {} {HOSTILE}", number % 3) } }],
                "usage": { "prompt_tokens": 50, "completion_tokens": 9, "total_tokens": 59 } },
        })
        .to_string()
            + "\n"
    };
    (0..60).map(line).collect()
}

fn run(home: &Home, arguments: &[&str]) -> String {
    let data = home.data();
    let output = home.run(&[arguments, &["--data", &data.to_string_lossy()]].concat());
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {words}");
    String::from_utf8(output.stdout).expect("data is text")
}

/// A home with a task and a candidate that was rehearsed on it; the task's id.
fn rehearsed() -> (Home, String) {
    let home = Home::new();
    let file = home.path().join("calls.jsonl");
    std::fs::write(&file, calls()).expect("the folder is writable");
    run(&home, &["import", &file.to_string_lossy()]);
    run(&home, &["tasks", "fit"]);
    let tasks: Value = serde_json::from_str(&run(&home, &["tasks", "list", "--format", "json"])).expect("JSON");
    let task = tasks[0]["id"].as_str().expect("a task").to_owned();
    let slm = Upstream::start(|seen| answer_chat(seen, "simulated-slm", &format!("kind 1 candidate {HOSTILE}")));
    run(
        &home,
        &[
            "replay",
            "--task",
            &task,
            "--to",
            "slm",
            "--url",
            &slm.url(),
            "--model",
            "simulated-slm",
        ],
    );
    (home, task)
}

fn get(program: &Program, path: &str, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    Request::get(path).header("authorization", &bearer).send(program.admin)
}

#[test]
fn the_page_shows_figures_to_viewers_texts_to_operators_and_does_nothing_that_a_call_says() {
    let (home, task) = rehearsed();
    let tokens = "admin_tokens:\n  - { role: viewer, token_env: LOOK }\n  - { role: operator, token_env: MOVE }\n";
    let config = format!("default_upstream: llm\nupstreams:\n  llm: {{ url: http://127.0.0.1:9 }}\n{tokens}");
    home.write_config(&config);
    let program = home.serve(&["--config", "understudy.yaml"], &[("LOOK", LOOK), ("MOVE", MOVE)]);
    assert_eq!(Request::get("/").send(program.admin).status(), 401);
    eventually("the page has the task", || {
        get(&program, "/", LOOK).text().contains(&task)
    });

    let (one, texts) = (format!("/tasks/{task}"), format!("/tasks/{task}/disagreements/slm"));
    let examples = format!("/tasks/{task}/examples");
    for path in ["/", &one, &texts, &examples] {
        let answer = get(&program, path, MOVE);
        let html = answer.text();
        assert_eq!(answer.status(), 200, "{path}: {html}");
        let policy = answer.head.header("content-security-policy").expect("a policy");
        for part in [
            "default-src 'none'",
            "style-src 'self'",
            "script-src 'self'",
            "form-action 'none'",
        ] {
            assert!(policy.contains(part) && !policy.contains("unsafe"), "{path}: {policy}");
        }
        assert!(
            html.contains("&lt;script&gt;") || path == "/",
            "{path} shows what was said"
        );
        let others = html.replace("<script src=\"/page.js\" defer></script>", "");
        assert!(
            !others.contains("<script") && !others.contains("<img"),
            "{path}: {html}"
        );
        assert!(html.contains("simulated"), "{path}: a simulated model is called so");
    }
    assert!(get(&program, &texts, MOVE).text().contains("candidate"));
    for path in [&texts, &examples] {
        let answer = get(&program, path, LOOK);
        assert!(answer.status() == 403 && !answer.text().contains("kind 1"), "{path}");
    }
    assert_eq!(get(&program, &one, LOOK).status(), 200);
    // A browser's way to send a token: the password of any name.
    let pair = "Basic YW55Ym9keTptbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbQ==";
    assert_eq!(
        Request::get(&texts)
            .header("authorization", pair)
            .send(program.admin)
            .status(),
        200
    );

    for (path, kind) in [
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let answer = get(&program, path, LOOK);
        let found = answer.head.header("content-type").unwrap_or_default();
        assert!(answer.status() == 200 && found.starts_with(kind), "{path}: {found}");
    }
    for path in ["/tasks/none", "/nothing", "/tasks", "/tasks/../session/x"] {
        assert_eq!(get(&program, path, MOVE).status(), 404, "{path}");
    }
    // On the data port there is none of it.
    assert!(!Request::get(&one).send(program.listen).text().contains("bills"));
    program.terminate();

    let log: Value = serde_json::from_str(&run(&home, &["audit", "--log", "--format", "json"])).expect("JSON");
    let looks = log.to_string().matches("operator on the admin port").count();
    assert_eq!(looks, 4, "each look at text is noted, and a refused one is none: {log}");
}

#[test]
fn the_report_is_one_file_with_the_same_figures_and_no_text() {
    let (home, task) = rehearsed();
    let file = home.path().join("out.html");
    run(&home, &["report", "--out", &file.to_string_lossy()]);
    let html = std::fs::read_to_string(&file).expect("a report");
    assert!(html.contains(&format!("id=\"task-{task}\"")) && html.contains("simulated"));
    for elsewhere in ["http://", "https://", " src=\"", "href=\"/", "kind 1 candidate"] {
        assert!(!html.contains(elsewhere), "{elsewhere}");
    }
    assert_eq!(html.matches("<script").count(), 1, "its own script alone");
    run(&home, &["report", "--texts", "--out", &file.to_string_lossy()]);
    let html = std::fs::read_to_string(&file).expect("a report");
    assert!(html.contains("href=\"#disagreements-") && html.contains("candidate") && html.contains("&lt;script&gt;"));
    assert_eq!(html.matches("<script").count(), 1, "texts do nothing");
    let log = run(&home, &["audit", "--log", "--format", "json"]);
    assert!(log.contains("report"), "that texts were read is noted: {log}");
    let printed = run(&home, &["report", "--out", "-"]);
    assert!(printed.starts_with("<!DOCTYPE html>") && printed.contains(&task));
}
