//! What a newcomer runs into: a store that is still empty, a slip in the config, a port that is taken.

use std::collections::BTreeSet;
use std::process::Output;
use understudy_tests::fixtures::{CHAT, answer_chat, chat_request};
use understudy_tests::http::Request;
use understudy_tests::program::{Home, Program};
use understudy_tests::upstream::Upstream;

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn who_looks_before_anything_is_stored_is_told_when_it_will_be() {
    let upstream = Upstream::start(|seen| answer_chat(seen, "gpt-4o", "well"));
    let home = Home::new();
    let program = home.serve_config(&format!("upstreams: {{ llm: {{ url: {} }} }}\n", upstream.url()));
    let answer = Request::post(CHAT, chat_request("gpt-4o", "Hello", false)).send(program.listen);
    assert_eq!(answer.status(), 200);
    let data = home.data().to_string_lossy().into_owned();
    let told = |arguments: &[&str], code: i32| {
        let output = home.run(&[arguments, &["--data", &data]].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        stderr(&output)
    };
    for (arguments, code) in [(&["calls"][..], 0), (&["report"], 0), (&["tasks", "fit"], 1)] {
        let words = told(arguments, code);
        assert!(
            words.contains("within 60s") && words.contains("understudy audit"),
            "{arguments:?}: {words}"
        );
    }
    assert!(told(&["audit", "--boot", "none"], 2).contains("no boot `none`"));
    program.terminate();
    assert!(!told(&["calls"], 0).contains("within"));
}

#[test]
fn check_refuses_what_serve_would_and_warns_of_a_key_that_is_not_set() {
    let home = Home::new();
    let checked = |config: &str| {
        home.write_config(config);
        let output = home.run(&["check", "understudy.yaml"]);
        (output.status.code(), stderr(&output))
    };
    for (config, words) in [
        (
            "upstreams: { llm: { url: http://127.0.0.1:1 } }\nmask: { dictionaries: [./missing.txt] }\n",
            "the dictionary ./missing.txt",
        ),
        (
            "upstreams: { llm: { url: http://127.0.0.1:1, ca_file: ./missing.pem } }\n",
            "missing.pem",
        ),
        (
            "upstreams: { llm: { url: 'http://ann:secret@127.0.0.1' } }\n",
            "`key_env`",
        ),
    ] {
        let (code, text) = checked(config);
        assert!(
            code == Some(1) && text.contains(words) && !text.contains("secret"),
            "{code:?}: {text}"
        );
    }
    let (code, text) = checked("upstreams: { llm: { url: http://127.0.0.1:1, key_env: NO_SUCH_VARIABLE } }\n");
    assert!(
        code == Some(0) && text.contains("NO_SUCH_VARIABLE is not set") && text.contains("1 upstream, 0 routes"),
        "{code:?}: {text}"
    );
}

#[test]
fn what_went_wrong_is_said_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let home = Home::new();
    let output = home.run(&["serve", "--upstream", "http://127.0.0.1:1", "--listen", &address]);
    let text = stderr(&output);
    assert_eq!(text.matches("os error").count(), 1, "{text}");
    assert!(text.contains(&address) && text.contains("another program"), "{text}");
    let output = home.run(&["serve"]);
    assert!(stderr(&output).contains("--config <FILE>"), "{}", stderr(&output));
}

#[test]
fn keys_may_come_from_the_environment() {
    let upstream = Upstream::start(|seen| answer_chat(seen, "gpt-4o", "well"));
    let home = Home::new();
    home.write_config(&format!(
        "upstreams: {{ llm: {{ url: {} }} }}\nkeys: {{ env: DEPLOYMENT_KEYS }}\n",
        upstream.url()
    ));
    let names = ["spool", "store", "origin", "surrogate"];
    let digits = |at: usize| format!("{:02x}", at + 0xa0).repeat(32);
    let keys: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(at, name)| format!("{name}={}", digits(at)))
        .collect();
    let output = home.run(&["serve", "--config", "understudy.yaml"]);
    assert!(
        !output.status.success() && stderr(&output).contains("the variable DEPLOYMENT_KEYS is not set"),
        "{}",
        stderr(&output)
    );
    let start = || {
        home.serve(
            &["--config", "understudy.yaml"],
            &[("DEPLOYMENT_KEYS", &keys.join(" "))],
        )
    };
    let call = |program: &Program| {
        let request = Request::post(CHAT, chat_request("gpt-4o", "Hello", false)).header("authorization", "Bearer k");
        assert_eq!(request.send(program.listen).status(), 200);
    };
    for _ in 0..2 {
        let program = start();
        call(&program);
        program.terminate();
    }
    assert!(
        !home.data().join("keys").exists(),
        "keys were made beside those that are given"
    );
    let records = home.rows();
    let clients: BTreeSet<_> = records.iter().map(|record| record.client_id.clone()).collect();
    assert_eq!(
        (records.len(), clients.len()),
        (2, 1),
        "one client, whichever process saw it"
    );
}
