//! The dependency rule: `call ◀ client ◀ {proxy, collector} ◀ cli ◀ tests`, and `call` does no IO.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Which crates of ours each crate of ours may use.
const ALLOWED: [(&str, &[&str]); 6] = [
    ("understudy-call", &[]),
    ("understudy-client", &["understudy-call"]),
    ("understudy-proxy", &["understudy-call", "understudy-client"]),
    ("understudy-collector", &["understudy-call", "understudy-client"]),
    (
        "understudy-cli",
        &[
            "understudy-call",
            "understudy-client",
            "understudy-proxy",
            "understudy-collector",
        ],
    ),
    // The harness reads stored rows; it must not see the proxy but from outside.
    ("understudy-tests", &["understudy-call", "understudy-collector"]),
];

/// What a pure crate has no use for, directly or through another.
const IMPURE: [&str; 9] = [
    "async-std",
    "futures-util",
    "hyper",
    "mio",
    "object_store",
    "pingora-core",
    "reqwest",
    "socket2",
    "tokio",
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .output()
        .expect("cargo runs");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata failed:\n{words}");
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

/// Names of the normal (not build or test) dependencies of each package in the resolved graph.
fn graph(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let packages = list(&metadata["packages"]);
    let names: BTreeMap<String, String> = packages.iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
    list(&metadata["resolve"]["nodes"])
        .iter()
        .map(|node| {
            let is_normal =
                |dependency: &Value| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            let dependencies = list(&node["deps"]);
            let dependencies = dependencies.iter().filter(|dependency| is_normal(dependency));
            let used = dependencies.map(|dependency| names[&text(&dependency["pkg"])].clone());
            (names[&text(&node["id"])].clone(), used.collect())
        })
        .collect()
}

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    let graph = graph(&metadata());
    let ours: BTreeSet<&str> = graph
        .keys()
        .map(String::as_str)
        .filter(|name| name.starts_with("understudy-"))
        .collect();
    let known: BTreeSet<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        ours, known,
        "a crate without a rule: add it here and to ARCHITECTURE.md"
    );
    for (name, allowed) in ALLOWED {
        let used = graph[name]
            .iter()
            .map(String::as_str)
            .filter(|used| ours.contains(used));
        let wrong: Vec<&str> = used.filter(|used| !allowed.contains(used)).collect();
        assert!(wrong.is_empty(), "{name} may not depend on {wrong:?}");
    }
}

#[test]
fn what_both_sides_speak_is_pure() {
    let graph = graph(&metadata());
    let mut reached = BTreeSet::from(["understudy-call"]);
    let mut waiting = vec!["understudy-call"];
    while let Some(name) = waiting.pop() {
        let used = graph.get(name).into_iter().flatten();
        waiting.extend(used.map(String::as_str).filter(|used| reached.insert(used)));
    }
    let impure: Vec<&str> = IMPURE.into_iter().filter(|name| reached.contains(name)).collect();
    assert!(impure.is_empty(), "understudy-call reaches {impure:?}");
    assert!(
        reached.contains("serde_json"),
        "the graph was read wrongly: {reached:?}"
    );
}
