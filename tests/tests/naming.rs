//! Names of tasks by an LLM: asked for with masked text and the upstream's own key, kept by later fits, and no task needs one.

use crate::erase::json as run_json;
use understudy_tests::contains;
use understudy_tests::fixtures::{CHAT, answer_chat, chat_request};
use understudy_tests::http::Request;
use understudy_tests::program::Home;
use understudy_tests::upstream::Upstream;

/// A kept task of twelve calls, and its id.
fn fitted(upstream: &Upstream) -> (Home, String) {
    let home = Home::new();
    let program = home.serve_config(&format!(
        "upstreams: {{ llm: {{ url: {}, key_env: NAMING_KEY }} }}\n",
        upstream.url()
    ));
    for number in 0..12 {
        let text =
            format!("Translate the order of ann.smith{number}@post.org into French, and keep its number {number}");
        let answer = Request::post(CHAT, chat_request("gpt-4o", &text, false)).send(program.listen);
        assert_eq!(answer.status(), 200);
    }
    program.terminate();
    let tasks = run_json(&home, &["tasks", "fit"], "");
    let id = tasks[0]["id"].as_str().expect("a task").to_owned();
    (home, id)
}

#[test]
fn an_llm_names_tasks_from_masked_text_and_a_later_fit_keeps_the_name() {
    let upstream = Upstream::start(|seen| {
        let is_naming = contains(&seen.body, "You name recurring tasks");
        answer_chat(
            seen,
            "gpt-4o",
            if is_naming { "**Name:** translate orders" } else { "oui" },
        )
    });
    let (home, id) = fitted(&upstream);
    let before = upstream.count();
    let data = home.data();
    let data = data.to_str().expect("a plain path");
    let key = [("NAMING_KEY".to_owned(), "sk-of-the-operator".to_owned())];
    let named = home.run_with(
        &[
            "tasks",
            "name",
            "--with",
            "llm",
            "--model",
            "gpt-4o-mini",
            "--config",
            "understudy.yaml",
            "--data",
            data,
        ],
        &key,
    );
    let said = String::from_utf8_lossy(&named.stderr).into_owned();
    assert!(
        named.status.success() && said.contains(&format!("{id}: translate orders")),
        "{said}"
    );
    let asked = &upstream.requests()[before..];
    assert_eq!(
        asked.len(),
        run_json(&home, &["tasks", "list"], "").as_array().expect("tasks").len()
    );
    for request in asked {
        assert_eq!(request.head.header("authorization"), Some("Bearer sk-of-the-operator"));
        assert!(contains(&request.body, "French") && !contains(&request.body, "ann.smith"));
        assert!(contains(&request.body, "gpt-4o-mini"));
    }
    run_json(&home, &["tasks", "fit"], "");
    let tasks = run_json(&home, &["tasks", "list"], "");
    let task = tasks.as_array().expect("tasks").iter().find(|task| task["id"] == *id);
    assert_eq!(task.expect("the same task")["name"], "translate orders");
    let log = run_json(&home, &["audit", "--log"], "").to_string();
    assert!(log.contains("tasks name"), "{log}");
}

#[test]
fn a_model_that_gives_no_name_leaves_the_names_as_they_are() {
    let upstream = Upstream::start(|seen| answer_chat(seen, "gpt-4o", "…"));
    let (home, id) = fitted(&upstream);
    let data = home.data();
    let place = [
        "--config",
        "understudy.yaml",
        "--data",
        data.to_str().expect("a plain path"),
    ];
    let run = |arguments: &[&str]| {
        let output = home.run(&[&["tasks", "name"], arguments, &place].concat());
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let books = run_json(&home, &["tasks", "list"], "");
    let (code, said) = run(&["--with", "llm", "--model", "m"]);
    assert!(
        code == Some(1) && said.contains(&id) && said.contains("holds no name"),
        "{said}"
    );
    assert_eq!(run_json(&home, &["tasks", "list"], ""), books);
    let (code, said) = run(&["--with", "llm"]);
    assert!(code == Some(2) && said.contains("--model"), "{said}");
    let (code, said) = run(&["--with", "other", "--model", "m"]);
    assert!(
        code == Some(2) && said.contains("`other` is not among the upstreams llm"),
        "{said}"
    );
}
