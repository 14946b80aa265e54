use super::*;
use understudy_collector::verdict::{Decision, Evidence, VerdictConfig, verdict};

const CONFIG: &str = "default_upstream: big\nupstreams:\n  big: { url: http://b }\n  small: { url: http://s, trusted: true, model: m-135m }\n  \
     middle: { url: http://m, trusted: true, model: m-1b }\nroutes: # in order\n  - match: { model: x }\n    split: { big: 100 }\nlog: { level: info }\n";

fn ready(task: &str, candidate: &str) -> Verdict {
    let evidence = Evidence {
        task,
        candidate,
        ..Evidence::default()
    };
    Verdict {
        verdict: Decision::Promote,
        ..verdict(&evidence, &VerdictConfig::default())
    }
}

fn proposal(text: &str, verdicts: &[Verdict]) -> Proposal {
    let path = Path::new("u.yaml");
    let config = Config::parse(text, path, &Overrides::default(), &|_| None).unwrap();
    of_text(text, path, &config, verdicts).unwrap()
}

#[test]
fn the_smallest_sufficient_candidate_is_proposed_as_a_diff_that_patch_takes() {
    let told = proposal(CONFIG, &[ready("t-1", "middle"), ready("t-1", "small")]);
    let expected = "--- a/u.yaml\n+++ b/u.yaml\n@@ -4,6 +4,10 @@\n   small: { url: http://s, trusted: true, model: m-135m }\n   \
         middle: { url: http://m, trusted: true, model: m-1b }\n routes: # in order\n+  - match: { task: t-1 }\n\
         +    split: { big: 95, small: 5 }\n\
         +    rollout: { stepWeight: 5, maxWeight: 50, interval: 10m, minCalls: 200, promote: manual }\n\
         +    guard: { error: 2%, invalid: 1%, fallback: 5%, p95_latency: 1.2x, agreement: 5% }\n   \
         - match: { model: x }\n     split: { big: 100 }\n log: { level: info }\n";
    assert_eq!(told.diff, expected);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("u.yaml"), CONFIG).unwrap();
    std::fs::write(folder.path().join("p"), &told.diff).unwrap();
    let patch = std::process::Command::new("patch")
        .args(["-i", "p"])
        .current_dir(folder.path())
        .output();
    if let Ok(patched) = patch {
        assert!(patched.status.success(), "{patched:?}");
    }
}

#[test]
fn a_config_without_routes_gets_some_and_what_cant_be_edited_is_said() {
    let verdicts = [ready("t-1", "small"), ready("t-2", "nobody")];
    let bare = CONFIG.split("routes:").next().unwrap().to_owned();
    let told = proposal(&bare, &verdicts);
    assert!(
        told.diff.contains("+routes:\n+  - match: { task: t-1 }"),
        "{}",
        told.diff
    );
    assert!(told.words[0].contains("nobody"), "{told:?}");
    let flow = format!("{bare}routes: [{{ match: {{ model: x }}, split: {{ big: 100 }} }}]\n");
    let told = proposal(&flow, &verdicts);
    assert!(
        told.diff.is_empty() && told.words[1].contains("add to `routes`"),
        "{told:?}"
    );
    assert_eq!(proposal(CONFIG, &[]), Proposal::default());
}

fn held(task: &str, candidate: &str) -> Verdict {
    Verdict {
        verdict: Decision::Hold,
        reason: "it agrees less".into(),
        ..ready(task, candidate)
    }
}

/// The text after `patch` took the diff; as it would be where there is no `patch`.
fn patched(text: &str, diff: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("u.yaml"), text).unwrap();
    std::fs::write(folder.path().join("p"), diff).unwrap();
    let patch = std::process::Command::new("patch")
        .args(["-i", "p"])
        .current_dir(folder.path())
        .output();
    let patch = patch.ok()?;
    assert!(patch.status.success(), "{patch:?}\n{diff}");
    Some(std::fs::read_to_string(folder.path().join("u.yaml")).unwrap())
}

const ROUTED: &str = "default_upstream: big\nupstreams:\n  big: { url: http://b }\n  small: { url: http://s, trusted: true, model: m-135m }\n  \
     middle: { url: http://m, trusted: true, model: m-1b }\nroutes:\n  # invoices first\n  - name: invoices # by hand\n    match: { task: t-1 }\n    \
     split: { big: 95, small: 5 } # a careful start\n  - match: { task: t-2 }\n    split: # two\n      big: 90   # most\n\n      \
     middle: 10 # the rest\n    guard: { error: 2% }\n  - { match: { task: t-3 }, split: { big: 100 } }\n  - match: { task: t-4 }\n    split: { big: 50, small: 50 }\n\
     log: { level: info }\n";

#[test]
fn a_route_that_is_there_gets_other_weights_and_keeps_its_comments() {
    let verdicts = [
        ready("t-1", "small"),
        ready("t-2", "small"),
        ready("t-3", "middle"),
        held("t-4", "small"),
    ];
    let told = proposal(ROUTED, &verdicts);
    let expected = ROUTED
        .replace(
            "{ big: 95, small: 5 } # a careful",
            "{ big: 90, small: 10 } # a careful",
        )
        .replace("big: 90   # most", "big: 85   # most")
        .replace("10 # the rest\n", "10 # the rest\n      small: 5\n")
        .replace("{ big: 100 } }", "{ big: 95, middle: 5 } }")
        .replace("{ big: 50, small: 50 }", "{ big: 100, small: 0 }");
    if let Some(patched) = patched(ROUTED, &told.diff) {
        assert_eq!(patched, expected);
    }
    assert!(
        told.words
            .iter()
            .any(|words| words.contains("taken back") && words.contains("it agrees less")),
        "{told:?}"
    );
    assert_eq!(told.diff.matches("\n-").count(), 4, "{}", told.diff);
}

#[test]
fn of_several_that_are_sufficient_the_cheapest_is_put_forward_and_of_equals_the_smallest() {
    let costing = |candidate: &str, cost: Option<f64>| Verdict {
        cost_per_1k: cost,
        ..ready("t-3", candidate)
    };
    let split = |verdicts: &[Verdict]| {
        let diff = proposal(ROUTED, verdicts).diff;
        let new = diff.lines().find(|line| line.starts_with('+') && line.contains("t-3"));
        let (_, split) = new.expect(&diff).split_once("split: ").expect("a split");
        split.to_owned()
    };
    let (small, middle) = ("{ big: 95, small: 5 } }", "{ big: 95, middle: 5 } }");
    for (of_small, of_middle, expected) in [
        (Some(1.0), Some(2.0), small),
        (Some(2.0), Some(1.0), middle),
        (Some(1.0), Some(1.0), small),
        (None, None, small),
        (None, Some(1.0), middle),
    ] {
        let verdicts = [costing("middle", of_middle), costing("small", of_small)];
        assert_eq!(split(&verdicts), expected, "{of_small:?} {of_middle:?}");
    }
    // A smaller one that is not sufficient is nothing.
    assert_eq!(split(&[costing("middle", Some(2.0)), held("t-3", "small")]), middle);
}

#[test]
fn new_routes_and_changed_ones_make_one_diff() {
    let mut text = ROUTED.to_owned();
    text.push_str(&"# a line that stays\n".repeat(20));
    text = text.replace("log: { level: info }", "log:\n  level: info");
    let told = proposal(&text, &[ready("t-0", "small"), held("t-4", "small")]);
    if let Some(patched) = patched(&text, &told.diff) {
        let config = Config::parse(&patched, Path::new("u.yaml"), &Overrides::default(), &|_| None).unwrap();
        let routes = config.routes.all();
        assert_eq!(routes.len(), 5);
        assert_eq!((routes[0].split["small"], routes[4].split["small"]), (5, 0));
    }
}

#[test]
fn steps_are_the_rollouts_where_there_is_one_and_half_is_the_most_that_is_proposed() {
    let steps = "    rollout: { stepWeight: 5, maxWeight: 50, interval: 10m }\n";
    let rolling = ROUTED.replace("# a careful start\n", &format!("# a careful start\n{steps}"));
    let told = proposal(&rolling, &[ready("t-1", "small"), ready("t-4", "small")]);
    assert_eq!(told.diff, "");
    assert!(told.words[0].contains("its rollout takes the steps"), "{told:?}");
    assert!(told.words[1].contains("for people to say"), "{told:?}");
    // Also with one, who is held is taken back.
    let told = proposal(&rolling, &[held("t-1", "small")]);
    assert!(
        told.diff
            .contains("+    split: { big: 100, small: 0 } # a careful start"),
        "{}",
        told.diff
    );
}

#[test]
fn a_split_that_cant_be_changed_by_the_line_is_put_in_words() {
    let odd = ROUTED.replace("split: { big: 95, small: 5 }", "split: {\n      big: 95, small: 5 }");
    let told = proposal(&odd, &[ready("t-1", "small")]);
    assert_eq!(told.diff, "");
    assert!(
        told.words.iter().any(|words| words.contains("{ big: 90, small: 10 }")),
        "{told:?}"
    );
    // Nor is what a comment says taken for a split.
    let odd = ROUTED.replace(
        "    match: { task: t-1 }\n",
        "    # split: { big: 1, small: 99 }\n    match: { task: t-1 }\n",
    );
    let told = proposal(&odd, &[ready("t-1", "small")]);
    assert!(
        told.diff.contains("+    split: { big: 90, small: 10 }"),
        "{}",
        told.diff
    );
}

#[test]
fn a_diff_names_the_file_from_where_the_command_runs() {
    let here = std::env::current_dir().unwrap();
    for (path, name) in [
        (PathBuf::from("deploy/u.yaml"), "deploy/u.yaml"),
        (PathBuf::from("./u.yaml"), "u.yaml"),
        (here.join("deploy/u.yaml"), "deploy/u.yaml"),
        (PathBuf::from("/etc/understudy/u.yaml"), "etc/understudy/u.yaml"),
        (PathBuf::from("../u.yaml"), "u.yaml"),
    ] {
        assert_eq!(name_here(&path), name);
    }
}

#[test]
fn git_and_patch_both_take_a_diff_of_a_file_in_a_folder() {
    let told = proposal(CONFIG, &[ready("t-1", "small")]);
    let diff = told.diff.replace("u.yaml", "deploy/u.yaml");
    for tool in ["git apply p", "patch -p1 -i p"] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("deploy")).unwrap();
        std::fs::write(folder.path().join("deploy/u.yaml"), CONFIG).unwrap();
        std::fs::write(folder.path().join("p"), &diff).unwrap();
        let words: Vec<&str> = tool.split(' ').collect();
        let ran = std::process::Command::new(words[0])
            .args(&words[1..])
            .current_dir(folder.path())
            .output();
        let Ok(ran) = ran else {
            eprintln!("skipped: {tool} is not here");
            continue;
        };
        assert!(ran.status.success(), "{tool}: {ran:?}");
        let now = std::fs::read_to_string(folder.path().join("deploy/u.yaml")).unwrap();
        assert!(now.contains("split: { big: 95, small: 5 }"), "{tool}: {now}");
    }
}

#[test]
fn a_task_of_another_provider_gets_a_route_that_takes_its_calls() {
    let of = |addressed: &str| Verdict {
        addressed: Some(addressed.into()),
        ..ready("t-1", "small")
    };
    let text = CONFIG.replace("upstreams:\n", "upstreams:\n  other: { url: http://o }\n");
    let told = proposal(&text, &[of("other")]);
    assert!(
        told.diff.contains("+  - match: { task: t-1, upstream: other }"),
        "{}",
        told.diff
    );
    assert!(
        told.diff.contains("+    split: { other: 95, small: 5 }"),
        "{}",
        told.diff
    );
    let told = proposal(&text, &[of("an import")]);
    assert!(told.diff.contains("+    split: { big: 95, small: 5 }"), "{}", told.diff);
}
