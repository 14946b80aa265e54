//! Cascades: splits that name several candidates, hard calls that stay with the baseline, and who answered, as clients are told.

use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use understudy_tests::eventually;
use understudy_tests::fixtures::{CHAT, answer_chat, chat_request, chat_text};
use understudy_tests::http::{Answer, Request};
use understudy_tests::program::{Home, Program};
use understudy_tests::upstream::{self, Seen, Step, Upstream, refusing_address};

/// 72 made-up calls of three tasks; those of `mood` are labels.
const CALLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/agent-calls.jsonl");
const MODEL: &str = "gpt-4o-mini";
const KEY: &str = "Bearer k";
/// Names of the upstreams, which are also what each of them answers.
const BASELINE: &str = "baseline";
const SMALL: &str = "small";
const MIDDLE: &str = "middle";
/// Conversations that are looked at.
const KEYS: usize = 600;

fn overloaded() -> Vec<Step> {
    upstream::json(503, &json!({"error": {"message": "overloaded", "type": "x"}}))
}

/// A baseline, two candidates, and where the program lives.
struct Stage {
    baseline: Upstream,
    small: Upstream,
    middle: Upstream,
    /// Whether the smaller candidate is.
    is_broken: Arc<AtomicBool>,
    home: Home,
}

impl Stage {
    fn new() -> Stage {
        let is_broken = Arc::new(AtomicBool::new(false));
        let broken = is_broken.clone();
        let small = move |seen: &Seen| match broken.load(Ordering::SeqCst) {
            true => overloaded(),
            false => answer_chat(seen, "s-135m", SMALL),
        };
        let mut stage = Stage::with(|seen| answer_chat(seen, MODEL, BASELINE), small);
        stage.is_broken = is_broken;
        stage
    }

    /// With what the baseline and the smaller candidate answer.
    fn with(
        baseline: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
        small: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
    ) -> Stage {
        Stage {
            baseline: Upstream::start(baseline),
            small: Upstream::start(small),
            middle: Upstream::start(|seen| answer_chat(seen, "m-1b", MIDDLE)),
            is_broken: Arc::default(),
            home: Home::new(),
        }
    }

    /// With one route, `canary`, of these lines.
    fn config(&self, matching: &str, split: &str, more: &str) -> String {
        format!(
            "default_upstream: baseline\ndata: {}\nupstreams:\n  baseline: {{ url: {} }}\n  \
             small: {{ url: {}, api: openai_chat, model: s-135m, trusted: true }}\n  \
             middle: {{ url: {}, api: openai_chat, model: m-1b, trusted: true }}\n  \
             away: {{ url: http://{} }}\n\
             routes:\n  - name: canary\n    match: {{ {matching} }}\n    split: {{ {split} }}\n{more}",
            self.home.data().display(),
            self.baseline.url(),
            self.small.url(),
            self.middle.url(),
            refusing_address(),
        )
    }

    fn of_model(&self, split: &str, more: &str) -> String {
        self.config("model: 'gpt-4o*'", split, more)
    }

    fn serve(&self, config: &str) -> Program {
        self.home.serve_config(config)
    }

    fn run(&self, arguments: &[&str]) -> String {
        let ran = self.home.run(arguments);
        let words = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(0), "{arguments:?}: {words}");
        String::from_utf8(ran.stdout).expect("data is text")
    }

    /// What `explain` says of a request of this conversation.
    fn explain(&self, body: &str, conversation: &str) -> Value {
        std::fs::write(self.home.path().join("request.json"), body).expect("a writable folder");
        let (key, named) = (
            format!("authorization: {KEY}"),
            format!("x-understudy-conversation: {conversation}"),
        );
        let told = self.run(&[
            "explain",
            "request.json",
            "--config",
            "understudy.yaml",
            "--format",
            "json",
            "--header",
            &key,
            "--header",
            &named,
        ]);
        serde_json::from_str(&told).expect("JSON")
    }
}

fn request(body: &str, conversation: &str) -> Request {
    Request::post(CHAT, body)
        .header("authorization", KEY)
        .header("x-understudy-conversation", conversation)
}

/// Who answers a call of this conversation.
fn arm(program: &Program, conversation: &str) -> String {
    let answer = request(&chat_request(MODEL, "How are you?", false), conversation).send(program.listen);
    assert_eq!(answer.status(), 200, "{}", answer.text());
    chat_text(&answer.text())
}

/// Who answers each of the conversations.
fn arms(program: &Program) -> Vec<String> {
    (0..KEYS).map(|number| arm(program, &number.to_string())).collect()
}

fn gauge(program: &Program, arm: &str) -> f64 {
    program.scrape().sum("understudy_split_weight", &[("arm", arm)])
}

#[test]
fn a_key_has_one_of_several_candidates_and_without_one_of_them_only_its_keys_move() {
    let stage = Stage::new();
    let program = stage.serve(&stage.of_model("baseline: 60, small: 25, middle: 15", ""));
    assert_eq!(arm(&program, "introduction"), BASELINE);
    let before = arms(&program);
    assert_eq!(arms(&program), before, "a conversation changed its arm");
    for (name, share) in [(BASELINE, 0.60), (SMALL, 0.25), (MIDDLE, 0.15)] {
        let seen = before.iter().filter(|arm| *arm == name).count() as f64 / KEYS as f64;
        let bound = 5.0 * f64::sqrt(share * (1.0 - share) / KEYS as f64);
        assert!((seen - share).abs() < bound, "{name}: {seen} of {share}");
    }

    // Left out, or at 0: what of the others' weights stays as it is keeps its conversations.
    for split in ["baseline: 60, middle: 15", "baseline: 60, small: 0, middle: 15"] {
        stage.home.write_config(&stage.of_model(split, ""));
        eventually("the new split is in force", || {
            gauge(&program, SMALL) == 0.0 && gauge(&program, MIDDLE) == 0.2
        });
        let after = arms(&program);
        for (number, (before, after)) in before.iter().zip(&after).enumerate() {
            assert!(before == after || before == SMALL, "{number}: from {before} to {after}");
            assert_ne!(after, SMALL, "{number}");
        }
        let gained = |name: &str| {
            before
                .iter()
                .zip(&after)
                .any(|(one, other)| one == SMALL && other == name)
        };
        assert!(
            gained(BASELINE) && gained(MIDDLE),
            "its keys went where the weights say"
        );
    }
    stage
        .home
        .write_config(&stage.of_model("baseline: 60, small: 25, middle: 15", ""));
    eventually("it is back", || gauge(&program, SMALL) == 0.25);
    assert_eq!(arms(&program), before, "and has the same conversations");
}

#[test]
fn a_candidate_that_the_guard_takes_out_leaves_the_other_one_in_and_its_share_goes_to_the_baseline() {
    let stage = Stage::new();
    let program = stage.serve(&stage.of_model(
        "baseline: 60, small: 25, middle: 15",
        "    guard: { error: 2%, fallback: 5% }\n",
    ));
    assert_eq!(arm(&program, "introduction"), BASELINE);
    let before = arms(&program);
    stage.is_broken.store(true, Ordering::SeqCst);
    let asked = stage.small.count();
    let mut number = 0;
    eventually("it is taken out", || {
        for _ in 0..10 {
            number += 1;
            arm(&program, &format!("ill {number}"));
        }
        gauge(&program, SMALL) == 0.0
    });
    let asked = stage.small.count() - asked;
    assert!(asked <= 200, "it was asked {asked} times");
    assert_eq!(gauge(&program, MIDDLE), 0.15);
    for (number, (before, after)) in before.iter().zip(arms(&program)).enumerate() {
        let expected = if before == SMALL { BASELINE } else { before.as_str() };
        assert_eq!(after, expected, "{number}, which was {before}'s");
    }

    let written = stage.home.data().join("control/canary/v000001.json");
    eventually("the trip is written", || written.exists());
    let status = stage.run(&["rollout", "status", "--config", "understudy.yaml", "--format", "json"]);
    let status: Value = serde_json::from_str(&status).expect("rows of JSON");
    let row = |name: &str| {
        let mut rows = status.as_array().into_iter().flatten();
        rows.find(|row| row["candidate"] == name).expect(name)
    };
    assert_eq!((&row(SMALL)["weight"], &row(MIDDLE)["weight"]), (&json!(0), &json!(15)));
    let why = row(SMALL)["trips"][0]["why"].as_str().unwrap_or_default();
    assert!(why.contains(" for `status 503`)"), "{why}");
    assert_eq!(row(MIDDLE)["trips"], json!([]));

    let of = |name: &str| {
        let number = before
            .iter()
            .position(|arm| arm == name)
            .expect("a conversation of each");
        stage.explain(&chat_request(MODEL, "How are you?", false), &number.to_string())
    };
    let told = of(SMALL);
    assert_eq!(told["upstream"], BASELINE, "{told}");
    assert!(
        told["why"].as_str().is_some_and(|why| why.contains("tripped")),
        "{told}"
    );
    assert_eq!(
        told["weights"],
        json!([[BASELINE, 85], [MIDDLE, 15], [SMALL, 0]]),
        "{told}"
    );
    assert_eq!(of(MIDDLE)["upstream"], MIDDLE);
    assert_eq!(of(BASELINE)["upstream"], BASELINE);
}

/// The stage's tasks are fitted; the id of the task of labels, and a request of it.
fn fitted(stage: &Stage) -> (String, Value) {
    let data = stage.home.data();
    let data = data.to_string_lossy();
    stage.run(&["import", CALLS, "--data", &data]);
    stage.run(&["tasks", "fit", "--data", &data]);
    // What is somewhat like the task is of it too, so that there is something at its rim.
    let book = stage.home.data().join("taskbooks/v000001.json");
    let mut book: Value = serde_json::from_slice(&std::fs::read(book).expect("a task book")).expect("JSON");
    book["version"] = json!(2);
    for template in book["templates"].as_array_mut().into_iter().flatten() {
        template["floor"] = json!(0.4);
    }
    let newer = stage.home.data().join("taskbooks/v000002.json");
    std::fs::write(newer, book.to_string()).expect("a writable folder");
    let assigned = stage.run(&["tasks", "assign", "--format", "jsonl", "--data", &data]);
    let lines = |text: &str| -> Vec<Value> {
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().expect("lines of JSON")
    };
    let is_mood = |line: &Value| line["id"].as_str().is_some_and(|id| id.starts_with("mood"));
    let assigned = lines(&assigned).into_iter().find(is_mood).expect("a call of the task");
    let calls = lines(&std::fs::read_to_string(CALLS).expect("the fixture"));
    let call = calls.into_iter().find(is_mood).expect("a call of the task");
    let task = assigned["task"].as_str().expect("a task").to_owned();
    (task, call["request"].clone())
}

/// The request with a system prompt that was cut until it is at the rim of its task.
fn unlike(stage: &Stage, easy: &Value, task: &str) -> Value {
    let prompt = easy["messages"][0]["content"].as_str().expect("a system prompt");
    let words: Vec<&str> = prompt.split(' ').collect();
    let cut = (1..words.len()).rev().find_map(|kept| {
        let mut request = easy.clone();
        request["messages"][0]["content"] = json!(words[..kept].join(" "));
        let told = stage.explain(&request.to_string(), "any");
        let is_at_rim = told["task"] == task && told["task_confidence"].as_f64()? < 0.75;
        is_at_rim.then_some(request)
    });
    cut.expect("a prompt that is less like the task, and of it")
}

/// A tool that the task's calls don't offer.
fn tool(number: usize) -> Value {
    json!({"type": "function", "function": {"name": format!("unheard_of_{number}"), "parameters": {"type": "object"}}})
}

#[test]
fn hard_calls_of_a_task_stay_with_the_baseline_easy_ones_are_canaried_and_explain_says_the_same() {
    let stage = Stage::new();
    let (task, easy) = fitted(&stage);
    let route = stage.config(&format!("task: {task}"), "baseline: 0, small: 100", "    when: easy\n");
    let program = stage.serve(&format!("expose_headers: true\n{route}"));
    eventually("the task book is in force", || {
        program.scrape().sum("understudy_taskbook_version", &[]) == 2.0
    });
    let with = |change: &dyn Fn(&mut Value)| {
        let mut request = easy.clone();
        change(&mut request);
        request
    };
    let long = with(&|request| {
        let text = request["messages"][1]["content"].as_str().expect("text").to_owned();
        request["messages"][1]["content"] = json!(text + &" and so on".repeat(4_000));
    });
    let many = with(&|request| request["tools"] = (0..3).map(tool).collect());
    let deep = with(&|request| {
        let messages = request["messages"].as_array_mut().expect("messages");
        messages.push(json!({"role": "assistant", "content": "neutral"}));
        messages.push(json!({"role": "user", "content": "Are you sure?"}));
    });
    let seen = with(&|request| {
        let text = request["messages"][1]["content"].clone();
        let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}});
        request["messages"][1]["content"] = json!([{"type": "text", "text": text}, image]);
    });
    let hard = [
        ("unlike", unlike(&stage, &easy, &task), "likeness"),
        ("long", long, "bytes"),
        ("many tools", many, "tools"),
        ("deep", deep, "answers lie before"),
        ("an image", seen, "not text"),
    ];
    let ask = |case: &str, body: &Value| {
        let answer = request(&body.to_string(), "one")
            .header("x-understudy-tag-case", case)
            .send(program.listen);
        assert_eq!(answer.status(), 200, "{case}: {}", answer.text());
        assert_eq!(answer.head.header("x-understudy-task"), Some(&*task), "{case}");
        answer
    };
    let served_by = |answer: &Answer| {
        let name = answer.head.header("x-understudy-served-by").unwrap_or_default();
        assert_eq!(chat_text(&answer.text()), name);
        name.to_owned()
    };
    let stayed = || {
        let labels = [("route", "canary"), ("reason", "hard")];
        program.scrape().sum("understudy_not_canaried_total", &labels)
    };
    assert_eq!(served_by(&ask("introduction", &easy)), BASELINE);
    for (number, (case, body, word)) in hard.iter().enumerate() {
        assert_eq!(served_by(&ask(case, body)), BASELINE, "{case}");
        assert_eq!(stayed(), (number + 1) as f64, "{case}");
        let told = stage.explain(&body.to_string(), "one");
        assert_eq!(
            (&told["upstream"], &told["task"]),
            (&json!(BASELINE), &json!(task)),
            "{told}"
        );
        let why = told["why"].as_str().unwrap_or_default();
        assert!(why.contains("hard: ") && why.contains(word), "{case}: {why}");
        // In the same conversation.
        assert_eq!(served_by(&ask(&format!("easy {number}"), &easy)), SMALL);
    }
    assert_eq!(stage.explain(&easy.to_string(), "one")["upstream"], SMALL);
    assert_eq!((stage.small.count(), stayed()), (hard.len(), hard.len() as f64));
    // Of no task: the route is none of its business, and no task is told.
    let other = request(&chat_request(MODEL, "Tell me a tale.", false), "one").send(program.listen);
    assert_eq!(served_by(&other), BASELINE);
    assert_eq!(other.head.header("x-understudy-task"), None);

    program.terminate();
    for (number, (case, ..)) in hard.iter().enumerate() {
        for (case, arm) in [(*case, BASELINE), (format!("easy {number}").as_str(), SMALL)] {
            let row = stage.home.row(case);
            let told = (row.task_id.as_deref(), row.arm.as_deref(), row.attempts.len());
            assert_eq!(told, (Some(&*task), Some(arm), 1), "{case}");
        }
    }
}

/// Half of the baseline's calls are hard, and fail: that the candidate, which gets none of these, fails at two in five is no
/// better for it.
#[test]
fn hard_calls_that_the_baseline_fails_do_not_hide_a_candidate_that_fails_at_easy_ones() {
    let asked = AtomicUsize::new(0);
    let stage = Stage::with(
        |seen| match String::from_utf8_lossy(&seen.body).contains("unheard_of") {
            true => overloaded(),
            false => answer_chat(seen, MODEL, BASELINE),
        },
        move |seen| match asked.fetch_add(1, Ordering::SeqCst) % 5 {
            0 | 2 => overloaded(),
            _ => answer_chat(seen, "s-135m", SMALL),
        },
    );
    let (task, easy) = fitted(&stage);
    let route = stage.config(
        &format!("task: {task}"),
        "baseline: 50, small: 50",
        "    when: easy\n    guard: { error: 2% }\n",
    );
    let program = stage.serve(&route);
    eventually("the task book is in force", || {
        program.scrape().sum("understudy_taskbook_version", &[]) == 2.0
    });
    let mut hard = easy.clone();
    hard["tools"] = (0..3).map(tool).collect();
    let (easy, hard) = (easy.to_string(), hard.to_string());
    let tripped = || program.scrape().sum("understudy_guard_tripped", &[("route", "canary")]) == 1.0;
    let mut number = 0;
    while !tripped() {
        for _ in 0..10 {
            number += 1;
            let conversation = number.to_string();
            assert_eq!(request(&easy, &conversation).send(program.listen).status(), 200);
            assert_eq!(request(&hard, &conversation).send(program.listen).status(), 503);
        }
        assert!(stage.small.count() <= 200, "it was asked more than 200 times");
    }
}

/// What an upstream may say of itself under our names.
const LIES: [(&str, &str); 4] = [
    ("x-understudy-served-by", "a-lie"),
    ("x-understudy-task", "a-lie"),
    ("x-understudy-call", "a-lie"),
    ("x-understudy-anything", "a-lie"),
];

/// An answer whose head holds these headers too.
fn lying(mut steps: Vec<Step>) -> Vec<Step> {
    if let Some(Step::Send(bytes)) = steps.first_mut() {
        let at = bytes.windows(2).position(|pair| pair == b"\r\n").expect("a head") + 2;
        let lines: String = LIES
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        bytes.splice(at..at, lines.into_bytes());
    }
    steps
}

fn says(seen: &Seen, words: &str) -> bool {
    String::from_utf8_lossy(&seen.body).contains(words)
}

#[test]
fn clients_are_told_who_answered_where_that_is_asked_for_and_no_upstream_says_it_in_our_name() {
    // Case, path, model, text, whether streamed, the status, and who serves it once the client is known.
    let away = format!("/away{CHAT}");
    let cases = [
        ("first", CHAT, MODEL, "Hello", false, 200, Some(BASELINE)),
        ("whole", CHAT, MODEL, "Hello", false, 200, Some(SMALL)),
        ("streamed", CHAT, MODEL, "Hello", true, 200, Some(SMALL)),
        ("fallback", CHAT, MODEL, "Give up", false, 200, Some(BASELINE)),
        ("fallback, streamed", CHAT, MODEL, "Give up", true, 200, Some(BASELINE)),
        ("its own", CHAT, "o3", "Hello", false, 200, Some(BASELINE)),
        ("its own, streamed", CHAT, "o3", "Hello", true, 200, Some(BASELINE)),
        ("its own error", CHAT, "o3", "Fail", false, 503, Some(BASELINE)),
        ("our own error", away.as_str(), "o3", "Hello", false, 502, None),
    ];
    for is_exposed in [true, false] {
        let stage = Stage::with(
            |seen| match says(seen, "Fail") || seen.head.header("upgrade").is_some() {
                true => lying(overloaded()),
                false => lying(answer_chat(seen, MODEL, BASELINE)),
            },
            |seen| match says(seen, "Give up") {
                true => lying(overloaded()),
                false => lying(answer_chat(seen, "s-135m", SMALL)),
            },
        );
        let route = stage.of_model("baseline: 0, small: 100", "");
        let program = stage.serve(&format!("expose_headers: {is_exposed}\n{route}"));
        let mut calls = Vec::new();
        for (case, path, model, text, streamed, status, served_by) in cases {
            let answer = request(&chat_request(model, text, streamed), "one")
                .to(path)
                .header("x-understudy-tag-case", case)
                .send(program.listen);
            let told = format!("{case}: {:?} {}", answer.head, answer.text());
            assert_eq!(answer.status(), status, "{told}");
            if let Some(served_by) = served_by.filter(|_| status == 200) {
                assert_eq!(chat_text(&answer.text()), served_by, "{told}");
            }
            let ours: Vec<&str> = answer
                .head
                .headers
                .iter()
                .filter(|(name, _)| name.starts_with("x-understudy-"))
                .map(|(name, _)| name.as_str())
                .collect();
            if !is_exposed {
                assert!(ours.is_empty(), "{told}");
                continue;
            }
            assert_eq!(ours.len(), 1 + usize::from(served_by.is_some()), "{told}");
            assert_eq!(answer.head.header("x-understudy-served-by"), served_by, "{told}");
            let call = answer.head.header("x-understudy-call").expect(&told);
            calls.push((case, call.to_owned()));
        }
        // A socket that the upstream does not open.
        let refused = Request::get("/v1/realtime")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .send(program.listen);
        let expected = is_exposed.then_some(BASELINE);
        assert_eq!(
            (refused.status(), refused.head.header("x-understudy-served-by")),
            (503, expected)
        );
        assert!(!String::from_utf8_lossy(&refused.head.raw).contains("a-lie"));
        program.terminate();
        for (case, call) in calls {
            assert_eq!(stage.home.row(case).call_id, call, "{case}");
        }
    }
}
