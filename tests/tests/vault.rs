//! The vault: off unless asked for, useless without its key, and empty of what is erased.

use crate::erase::{call, json};
use understudy_tests::eventually;
use understudy_tests::fixtures::answer_chat;
use understudy_tests::program::Home;
use understudy_tests::upstream::Upstream;

const SECRET: &str = "sk-proj-Zk3vTq9LmX2bW8nR5yHd7CfJ1aPsGu4EoViK6wNtBrQx0MzY";

fn config(upstream: &Upstream, mask: &str) -> String {
    format!(
        "upstreams: {{ llm: {{ url: {} }} }}\ncapture: {{ wait: 10s }}\nmask: {{ {mask} }}\n",
        upstream.url()
    )
}

/// What `restore` makes of the stored calls, or says.
fn restored(home: &Home) -> Result<String, String> {
    let data = home.data();
    let data = data.to_str().expect("a plain path");
    let rows = home.run(&["calls", "--format", "jsonl", "--data", data]);
    let rows = String::from_utf8(rows.stdout).expect("text");
    let output = home.run_with_input(&["restore", "-", "--data", data], &rows);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(0) => Ok(String::from_utf8(output.stdout).expect("text")),
        _ => Err(words),
    }
}

#[test]
fn who_has_the_vaults_key_gets_values_back_until_they_are_erased() {
    let (upstream, home) = (Upstream::start(|seen| answer_chat(seen, "gpt-4o", "well")), Home::new());
    let program = home.serve_config(&config(&upstream, "vault: on"));
    call(&program, "sk-ann-1234", "write to ann.larkin@acme.test");
    call(
        &program,
        "sk-bob-1234",
        &format!("write to bob.marsh@acme.test with {SECRET}"),
    );
    eventually("both are kept", || {
        program.scrape().sum("understudy_kept_total", &[]) == 2.0
    });
    program.terminate();
    let leaks = |what: &str| {
        let files = home.files().into_iter();
        files
            .filter(|(_, bytes)| understudy_tests::contains(bytes, what))
            .count()
    };
    assert_eq!(leaks("ann.larkin@acme.test") + leaks(SECRET), 0);
    let text = restored(&home).expect("the key is there");
    assert!(
        text.contains("write to ann.larkin@acme.test") && text.contains("write to bob.marsh@acme.test with"),
        "{text}"
    );
    assert!(!text.contains(SECRET), "a credential was in the vault");
    let log = json(&home, &["audit", "--log"], "").to_string();
    assert!(log.contains("\"restore\""), "{log}");

    let receipt = json(&home, &["erase", "--client-value-stdin"], "sk-ann-1234\n");
    assert_eq!(receipt[0]["erased"]["vault"], 1, "{receipt}");
    let text = restored(&home).expect("the key is there");
    assert!(
        !text.contains("ann.larkin") && text.contains("bob.marsh@acme.test"),
        "{text}"
    );

    // Another generation seals from now on; the old one goes on opening. Without any it is an error.
    let data = home.data();
    let rotated = home.run(&[
        "keys",
        "rotate",
        "vault",
        "--data",
        data.to_str().expect("a plain path"),
    ]);
    assert!(rotated.status.success(), "{}", String::from_utf8_lossy(&rotated.stderr));
    assert!(
        restored(&home)
            .expect("both keys are there")
            .contains("bob.marsh@acme.test")
    );
    for file in std::fs::read_dir(home.data().join("keys")).expect("keys").flatten() {
        if file.file_name().to_string_lossy().starts_with("vault.") {
            std::fs::remove_file(file.path()).expect("a file");
        }
    }
    let words = restored(&home).expect_err("there is no key");
    assert!(words.contains("there is no vault key"), "{words}");
}

#[test]
fn there_is_no_vault_unless_it_is_asked_for_and_none_of_surrogates_that_tell_nothing() {
    let (upstream, home) = (Upstream::start(|seen| answer_chat(seen, "gpt-4o", "well")), Home::new());
    let program = home.serve_config(&config(&upstream, "surrogates: consistent"));
    call(&program, "sk-ann-1234", "write to ann.larkin@acme.test");
    program.terminate();
    assert!(!home.data().join("vault").exists() && !home.data().join("keys/vault.key").exists());
    let file = home.path().join("wrong.yaml");
    std::fs::write(&file, config(&upstream, "vault: on, surrogates: label")).expect("a file");
    let output = home.run(&["check", file.to_str().expect("a plain path")]);
    let words = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && words.contains("mask.vault"), "{words}");
}
