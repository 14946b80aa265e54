//! Replays against a small HTTP server: scores, floor, resuming, failures and retries.

use super::*;
use crate::evidence::verdicts;
use crate::scan::ScoreFilter;
use crate::scan::scores;
use crate::table::{TableKeys, call_key, calls_to_parquet};
use crate::verdict::VerdictConfig;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use understudy_call::record::CallRecord;
use understudy_client::{SelfHosted, Timeouts, Upstream, UpstreamConfig};
use url::Url;

const TASK: &str = "colours-7f3a";

/// A server that answers each request body by a function; counts and keeps them.
struct Server {
    url: Url,
    seen: Arc<Mutex<Vec<Value>>>,
}

fn serve(answer: impl Fn(usize, &Value) -> (u16, Value) + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (kept, answer, asked) = (seen.clone(), Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, kept, answer, asked) = (stream.unwrap(), kept.clone(), answer.clone(), asked.clone());
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let body = loop {
                    let mut piece = [0; 4096];
                    let read = stream.read(&mut piece).unwrap_or(0);
                    if read == 0 {
                        return;
                    }
                    bytes.extend_from_slice(&piece[..read]);
                    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                        continue;
                    };
                    if let Ok(body) = serde_json::from_slice::<Value>(&bytes[end + 4..]) {
                        break body;
                    }
                };
                let (status, answer) = answer(asked.fetch_add(1, Ordering::SeqCst), &body);
                kept.lock().unwrap().push(body);
                let text = answer.to_string();
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    text.len()
                );
                let _ = stream.write_all(format!("{head}{text}").as_bytes());
            });
        }
    });
    Server { url, seen }
}

fn says(text: &str, model: &str) -> Value {
    json!({"model": model, "choices": [{"index": 0, "finish_reason": "stop",
        "message": {"role": "assistant", "content": text}}], "usage": {"prompt_tokens": 10, "completion_tokens": 2}})
}

fn upstream(name: &str, url: &Url, model: Option<&str>) -> UpstreamConfig {
    UpstreamConfig {
        model: model.map(str::to_owned),
        ..UpstreamConfig::new(name, url.clone())
    }
}

fn open(config: UpstreamConfig) -> Arc<Upstream> {
    Arc::new(Upstream::open(config, Timeouts::default()).unwrap())
}

/// A store with `calls` kept calls of the task: even ones answered `red`, odd ones `blue`.
async fn kept(calls: usize) -> Store {
    let store = Store::in_memory();
    let row = |number: usize| {
        let text = if number.is_multiple_of(2) { "red" } else { "blue" };
        CallRecord {
            call_id: format!("call-{number}"),
            conversation_id: format!("conversation-{number}"),
            api: "openai_chat".into(),
            task_id: Some(TASK.into()),
            request_body: Some(
                json!({"model": "gpt-4o", "stream": true, "messages": [{"role": "user", "content": format!("number {number}")}]})
                    .to_string(),
            ),
            response_body: Some(says(text, "big-2026").to_string()),
            output_text: Some(text.into()),
            ..CallRecord::default()
        }
    };
    let rows: Vec<CallRecord> = (0..calls).map(row).collect();
    let key = call_key(&rows[0], "test", 0, 1);
    store
        .put(&key, calls_to_parquet(&rows, &TableKeys::default()).unwrap())
        .await
        .unwrap();
    store
}

fn right(body: &Value) -> &'static str {
    let text = body["messages"][0]["content"].as_str().unwrap();
    let number: usize = text.rsplit(' ').next().unwrap().parse().unwrap();
    if number.is_multiple_of(2) { "red" } else { "blue" }
}

async fn go(store: &Store, limit: usize, candidate: &Arm, baseline: Option<&Arm>) -> Result<Replayed, ReplayError> {
    let sample = draw(store, None, TASK, limit, 7).await.unwrap();
    let config = ReplayConfig {
        retry_after: Duration::from_millis(1),
        ..ReplayConfig::new(TASK)
    };
    replay(
        store,
        &sample,
        candidate,
        baseline,
        &PriceTable::builtin(),
        &config,
        |_| {},
    )
    .await
}

#[tokio::test]
async fn answers_are_scored_beside_the_floor_and_only_once() {
    let store = kept(40).await;
    let small = serve(|_, body| (200, says(right(body), "small")));
    let big = serve(|_, body| (200, says(right(body), "big-2026")));
    let candidate = Arm::candidate(open(upstream("small", &small.url, Some("small"))));
    let baseline = Arm::baseline(open(upstream("big", &big.url, None)));
    let first = go(&store, 30, &candidate, Some(&baseline)).await.unwrap();
    assert_eq!(
        (first.progress.asked, first.progress.floor_asked, first.progress.failed),
        (30, 30, 0)
    );
    let second = go(&store, 40, &candidate, Some(&baseline)).await.unwrap();
    assert_eq!(
        (
            second.progress.already,
            second.progress.asked,
            second.progress.floor_asked
        ),
        (30, 10, 10)
    );
    for body in small.seen.lock().unwrap().iter() {
        assert_eq!((&body["model"], &body["stream"]), (&json!("small"), &json!(true)));
    }
    assert!(big.seen.lock().unwrap().iter().all(|body| body["model"] == "gpt-4o"));
    let rows = scores(&store, &ScoreFilter::default()).await.unwrap();
    let (floor, rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(is_floor);
    assert_eq!((floor.len(), rows.len()), (40, 40));
    assert!(
        rows.iter()
            .all(|row| row.agreement == Some(1.0) && row.floor_agreement == Some(1.0) && row.valid)
    );
    assert!(rows.iter().all(|row| row.kind == "label" && row.cost_usd.is_none()));
    assert!(
        floor.iter().all(|row| row.cost_usd.is_some()),
        "the floor has the price of the model asked for"
    );
    let commits = store.list("_commits").await.unwrap();
    assert_eq!(commits.len(), 2);
    let found = verdicts(
        &store,
        None,
        None,
        &VerdictConfig::default(),
        rows[0].judged_at + 1_000_000,
    )
    .await
    .unwrap();
    assert_eq!(
        (found.len(), found[0].pairs, found[0].candidate.as_str()),
        (1, 40, "small")
    );
}

#[tokio::test]
async fn a_floor_of_another_model_does_not_count() {
    let store = kept(4).await;
    let small = serve(|_, body| (200, says(right(body), "small")));
    let big = serve(|_, body| (200, says(right(body), "another")));
    let candidate = Arm::candidate(open(upstream("small", &small.url, Some("small"))));
    let baseline = Arm::baseline(open(upstream("big", &big.url, None)));
    go(&store, 4, &candidate, Some(&baseline)).await.unwrap();
    let rows = scores(&store, &ScoreFilter::default()).await.unwrap();
    assert!(rows.iter().all(|row| row.floor_agreement.is_none()));
}

#[tokio::test]
async fn what_may_pass_is_asked_again_and_what_fails_is_a_row() {
    let store = kept(4).await;
    let busy = serve(|number, body| match number {
        0..4 => (503, json!({"error": {"message": "busy"}})),
        _ if right(body) == "red" => (200, says("red", "small")),
        _ => (400, json!({"error": {"message": "too long"}})),
    });
    let mut config = upstream("busy", &busy.url, Some("small"));
    config.price = Some(SelfHosted { gpu_hour: 3600.0 });
    let replayed = go(&store, 4, &Arm::candidate(open(config)), None).await.unwrap();
    assert_eq!((replayed.progress.asked, replayed.progress.failed), (4, 2));
    let rows = scores(&store, &ScoreFilter::default()).await.unwrap();
    let failed: Vec<_> = rows
        .iter()
        .filter(|row| row.outcome == Outcome::UpstreamStatus)
        .collect();
    assert_eq!((rows.len(), failed.len()), (4, 2));
    assert!(
        failed
            .iter()
            .all(|row| !row.valid && row.agreement.is_none() && row.cost_usd.is_none())
    );
    let priced: f64 = rows.iter().filter_map(|row| row.cost_usd).sum();
    assert!(priced > 0.0 && priced < 60.0, "a dollar a second: {priced}");
}

#[tokio::test]
async fn an_upstream_that_takes_nothing_is_an_error_and_leaves_no_rows() {
    let store = kept(3).await;
    let closed = serve(|_, _| (401, json!({"error": {"message": "bad key"}})));
    let candidate = Arm::candidate(open(upstream("closed", &closed.url, Some("small"))));
    let error = go(&store, 3, &candidate, None).await.unwrap_err().to_string();
    assert!(error.contains("closed") && error.contains("bad key"), "{error}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let candidate = Arm::candidate(open(upstream("nobody", &nobody, Some("small"))));
    assert!(matches!(
        go(&store, 3, &candidate, None).await,
        Err(ReplayError::Unusable { .. })
    ));
    assert!(scores(&store, &ScoreFilter::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_larger_sample_holds_the_smaller_one() {
    let store = kept(20).await;
    let ids = |sample: Sample| {
        sample
            .calls
            .into_iter()
            .map(|call| call.call_id.clone())
            .collect::<Vec<_>>()
    };
    let small = ids(draw(&store, None, TASK, 5, 1).await.unwrap());
    let large = ids(draw(&store, None, TASK, 12, 1).await.unwrap());
    assert_eq!(small[..], large[..5]);
    assert_ne!(small, ids(draw(&store, None, TASK, 5, 2).await.unwrap()));
    assert_eq!(draw(&store, None, "other", 5, 1).await.unwrap().of_task, 0);
}

async fn put(store: &Store, rows: &[CallRecord]) {
    let key = call_key(&rows[0], "more", 0, 1);
    let parquet = calls_to_parquet(rows, &TableKeys::default()).unwrap();
    store.put(&key, parquet).await.unwrap();
}

#[tokio::test]
async fn a_candidate_of_openai_chat_is_asked_what_an_anthropic_agent_asked() {
    let store = Store::in_memory();
    let request = json!({"model": "claude-sonnet-4-5", "max_tokens": 9, "system": "One word.",
        "messages": [{"role": "user", "content": "number 2"}], "metadata": {"user_id": "u"}});
    let response = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
        "stop_reason": "end_turn", "stop_sequence": null, "content": [{"type": "text", "text": "red"}],
        "usage": {"input_tokens": 1, "output_tokens": 1}});
    let row = CallRecord {
        call_id: "call".into(),
        conversation_id: "conversation".into(),
        api: "anthropic_messages".into(),
        path: Some("/v1/messages".into()),
        task_id: Some(TASK.into()),
        request_body: Some(request.to_string()),
        response_body: Some(response.to_string()),
        ..CallRecord::default()
    };
    put(&store, &[row]).await;
    let small = serve(|_, _| (200, says("red", "small")));
    let mut config = upstream("small", &small.url, Some("small"));
    config.api = Some(understudy_call::call::Api::OpenaiChat);
    let replayed = go(&store, 4, &Arm::candidate(open(config)), None).await.unwrap();
    assert_eq!((replayed.progress.asked, replayed.progress.failed), (1, 0));
    let asked = small.seen.lock().unwrap()[0].clone();
    assert_eq!(asked["model"], "small");
    assert_eq!(asked["messages"][0], json!({"role": "system", "content": "One word."}));
    assert!(
        asked.get("stream").is_none() && asked.get("metadata").is_none(),
        "{asked}"
    );
    let rows = scores(&store, &ScoreFilter::default()).await.unwrap();
    let body: Value = serde_json::from_str(rows[0].response_body.as_deref().unwrap()).unwrap();
    assert_eq!(
        (rows[0].agreement, &body["content"][0]["text"]),
        (Some(1.0), &json!("red"))
    );
}

#[tokio::test]
async fn a_candidate_of_anthropic_messages_is_asked_what_a_chat_agent_asked() {
    let store = kept(1).await;
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "haiku-4.5",
        "stop_reason": "end_turn", "stop_sequence": null, "content": [{"type": "text", "text": "red"}],
        "usage": {"input_tokens": 2, "output_tokens": 1}});
    let small = serve(move |_, _| (200, message.clone()));
    let mut config = upstream("small", &small.url, Some("haiku"));
    config.api = Some(understudy_call::call::Api::AnthropicMessages);
    let replayed = go(&store, 4, &Arm::candidate(open(config)), None).await.unwrap();
    assert_eq!((replayed.progress.asked, replayed.progress.failed), (1, 0));
    let asked = small.seen.lock().unwrap()[0].clone();
    assert_eq!(asked["model"], "haiku");
    assert!(
        asked["max_tokens"].is_i64() && asked["messages"][0]["content"].is_array(),
        "{asked}"
    );
    let rows = scores(&store, &ScoreFilter::default()).await.unwrap();
    let body: Value = serde_json::from_str(rows[0].response_body.as_deref().unwrap()).unwrap();
    assert_eq!(
        body["choices"][0]["message"]["content"], "red",
        "the answer is kept in the call's own API"
    );
    assert_eq!((rows[0].input_tokens, rows[0].output_tokens), (Some(2), Some(1)));
}

#[tokio::test]
async fn what_the_traffic_repeats_is_floor_for_free_and_what_a_candidate_answered_is_not_replayed() {
    let store = Store::in_memory();
    let row = |number: usize, text: &str, said: &str, model: &str| {
        CallRecord {
        call_id: format!("call-{number}"),
        conversation_id: format!("conversation-{number}"),
        api: "openai_chat".into(),
        task_id: Some(TASK.into()),
        upstream: Some("big".into()),
        request_body: Some(
            json!({"model": "gpt-4o", "stream": number.is_multiple_of(2), "messages": [{"role": "user", "content": text}]})
                .to_string(),
        ),
        response_body: Some(says(said, model).to_string()),
        ..CallRecord::default()
    }
    };
    let by_candidate = CallRecord {
        arm: Some("small".into()),
        ..row(5, "number 1", "blue", "big-2026")
    };
    let rows = [
        row(1, "number 2", "red", "big-2026"),
        row(2, "number 2", "green", "big-2026"),
        row(3, "number 4", "red", "big-2026"),
        row(4, "number 4", "red", "another"),
        by_candidate,
    ];
    put(&store, &rows).await;
    let small = serve(|_, body| (200, says(right(body), "small")));
    let candidate = Arm::candidate(open(upstream("small", &small.url, Some("small"))));
    let first = go(&store, 10, &candidate, None).await.unwrap();
    let done = first.progress;
    assert_eq!(
        (done.calls, done.floor_free, done.floor_asked, done.floor_pairs),
        (4, 2, 0, 2)
    );
    let again = go(&store, 10, &candidate, None).await.unwrap().progress;
    assert_eq!((again.floor_free, again.floor_pairs), (0, 2), "they are kept");
    let rows = scores(&store, &ScoreFilter::default()).await.unwrap();
    let floor = |call: &str| {
        rows.iter()
            .find(|row| row.call_id == call && !is_floor(row))
            .unwrap()
            .floor_agreement
    };
    assert!(
        floor("call-1").is_some_and(|floor| floor < 1.0),
        "{:?}",
        floor("call-1")
    );
    assert_eq!(floor("call-3"), None, "another model's answer is no pair");
}

#[tokio::test]
async fn the_baseline_is_asked_until_its_floor_is_known_and_a_budget_ends_and_goes_on() {
    let store = kept(120).await;
    let small = serve(|_, body| (200, says(right(body), "small")));
    let big = serve(|_, body| (200, says(right(body), "big-2026")));
    let candidate = Arm::candidate(open(upstream("small", &small.url, Some("small"))));
    let baseline = Arm::baseline(open(upstream("big", &big.url, None)));
    let sample = draw(&store, None, TASK, 120, 7).await.unwrap();
    let config = ReplayConfig {
        retry_after: Duration::from_millis(1),
        budget: Budget {
            max_calls: Some(60),
            ..Budget::default()
        },
        floor_enough: Some(FloorEnough {
            min_pairs: 40,
            half_width: 0.2,
        }),
        ..ReplayConfig::new(TASK)
    };
    let run = || replay(&store, &sample, &candidate, Some(&baseline), &PRICES, &config, |_| {});
    let first = run().await.unwrap().progress;
    assert!(
        first.stopped.is_some_and(|why| why.contains("--max-calls")),
        "{first:?}"
    );
    assert_eq!(small.seen.lock().unwrap().len() + big.seen.lock().unwrap().len(), 60);
    let mut last = first;
    for _ in 0..5 {
        last = run().await.unwrap().progress;
    }
    assert_eq!((last.already, last.stopped), (120, None), "{last:?}");
    assert_eq!(small.seen.lock().unwrap().len(), 120, "each call once");
    assert!((40..120).contains(&last.floor_pairs), "{last:?}");
    assert!(last.floor_half_width.is_some_and(|half| half <= 0.2), "{last:?}");
}

#[tokio::test]
async fn a_form_that_the_answers_told_makes_another_version() {
    let store = kept(40).await;
    let arm = |constrain: bool| {
        let url = Url::parse("http://127.0.0.1:9").unwrap();
        Arm::candidate(open(UpstreamConfig {
            constrain,
            ..upstream("small", &url, Some("small"))
        }))
    };
    let labels = draw(&store, None, TASK, 40, 7).await.unwrap();
    let told = arm(true).with_forms_of(&labels).version;
    assert_ne!(told, arm(true).version, "shadows ask without it");
    let half = draw(&store, None, TASK, 20, 7).await.unwrap();
    assert_eq!(
        told,
        arm(true).with_forms_of(&half).version,
        "the same labels are the same form"
    );
    assert_eq!(arm(true).with_forms_of(&Sample::default()).version, arm(true).version);
    assert_eq!(arm(false).with_forms_of(&labels).version, arm(false).version);
}

#[tokio::test]
async fn a_form_is_asked_for_in_the_candidates_own_api() {
    let store = kept(40).await;
    let answer = json!({"model": "small", "message": {"role": "assistant", "content": "\"red\""}, "done": true,
        "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 1});
    let small = serve(move |_, _| (200, answer.clone()));
    let candidate = Arm::candidate(open(UpstreamConfig {
        constrain: true,
        api: Some(understudy_call::call::Api::Ollama),
        ..upstream("small", &small.url, Some("small"))
    }));
    let labels = draw(&store, None, TASK, 40, 7).await.unwrap();
    let replayed = go(&store, 40, &candidate.with_forms_of(&labels), None).await.unwrap();
    assert_eq!((replayed.progress.asked, replayed.progress.failed), (40, 0));
    let asked = small.seen.lock().unwrap()[0].clone();
    assert_eq!(
        asked["format"],
        json!({"type": "string", "enum": ["blue", "red"]}),
        "{asked}"
    );
    let rows = scores(&store, &ScoreFilter::default()).await.unwrap();
    assert!(
        rows.iter()
            .all(|row| row.output_text.as_deref() == Some("red") && row.valid)
    );
}

static PRICES: std::sync::LazyLock<PriceTable> = std::sync::LazyLock::new(PriceTable::builtin);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_broken_off_is_gone_on_with_and_so_is_its_budget() {
    let store = kept(300).await;
    let small = serve(|_, body| {
        std::thread::sleep(Duration::from_millis(20));
        (200, says(right(body), "small"))
    });
    let candidate = Arm::candidate(open(upstream("small", &small.url, Some("small"))));
    let sample = draw(&store, None, TASK, 300, 7).await.unwrap();
    let asked = || small.seen.lock().unwrap().len();
    let run = |max_calls| {
        let config = ReplayConfig {
            budget: Budget {
                max_calls,
                ..Budget::default()
            },
            ..ReplayConfig::new(TASK)
        };
        let (store, sample, candidate) = (&store, &sample, &candidate);
        async move { replay(store, sample, candidate, None, &PRICES, &config, |_| {}).await }
    };
    let broken_off = tokio::time::timeout(Duration::from_secs(60), async {
        let run = run(Some(280));
        let stored = async {
            while store.list("scores").await.unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            while store.list("_commits").await.unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            biased;
            () = stored => {}
            _ = run => panic!("it has ended before"),
        }
    });
    broken_off.await.unwrap();
    let rows = || async { scores(&store, &ScoreFilter::default()).await.unwrap() };
    let mut first = rows().await;
    first.sort_by_key(|row| row.judged_at);
    let ids: Vec<&str> = first.iter().map(|row| row.call_id.as_str()).collect();
    let drawn: Vec<&str> = sample.calls.iter().map(|call| call.call_id.as_str()).collect();
    assert_eq!(
        ids[..],
        drawn[..ids.len()],
        "what is stored is the beginning of the sample"
    );
    assert!(ids.len() >= 32 && ids.len() < 280, "{}", ids.len());
    let lost = asked() - ids.len();
    let second = run(Some(280)).await.unwrap().progress;
    assert_eq!(second.already, ids.len());
    assert!(second.carried_calls as usize >= ids.len(), "{second:?}");
    assert_eq!(
        second.carried_calls as usize + second.asked,
        280,
        "both together keep the budget: {second:?}"
    );
    let third = run(None).await.unwrap().progress;
    assert_eq!(
        (third.carried_calls, third.stopped),
        (0, None),
        "a run that ended is over"
    );
    let rows = rows().await;
    let calls: std::collections::BTreeSet<&str> = rows.iter().map(|row| row.call_id.as_str()).collect();
    assert_eq!((rows.len(), calls.len()), (300, 300), "each call has one answer");
    assert!(
        asked() <= 300 + lost + 16,
        "what was on its way is asked again, nothing else"
    );
}

#[tokio::test]
async fn answers_before_an_upstream_that_dies_are_kept() {
    let store = kept(120).await;
    let dying = serve(|number, body| match number {
        0..40 => (200, says(right(body), "small")),
        _ => (401, json!({"error": {"message": "key expired"}})),
    });
    let candidate = Arm::candidate(open(upstream("dying", &dying.url, Some("small"))));
    let error = go(&store, 120, &candidate, None).await.unwrap_err().to_string();
    assert!(error.contains("key expired"), "{error}");
    let rows = scores(&store, &ScoreFilter::default()).await.unwrap();
    assert!((36..=44).contains(&rows.len()), "{}", rows.len());
    assert!(rows.iter().filter(|row| row.outcome != Outcome::Ok).count() < 4);
}

#[tokio::test]
async fn the_first_floor_that_counts_is_the_floor_for_all() {
    let row = |at: i64, version: &str, floor: Option<f64>, outcome: Outcome| ScoreRecord {
        call_id: "call".into(),
        candidate_version: version.into(),
        judged_at: at,
        floor_agreement: floor,
        outcome,
        ..ScoreRecord::default()
    };
    let rows = vec![
        row(4, "floor-b", Some(0.2), Outcome::Ok),
        row(3, "floor-b", Some(0.9), Outcome::Ok),
        row(2, "floor-a", None, Outcome::Ok),
        row(1, "floor-a", Some(0.1), Outcome::UpstreamConnect),
        row(1, "other", Some(0.3), Outcome::Ok),
    ];
    let floor = floors(&rows)["call"];
    assert_eq!((floor.agreement, floor.at), (Some(0.9), 3));
}
