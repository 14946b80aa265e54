use super::*;
use crate::audit_log::verify;
use crate::table::{call_key, calls_to_parquet, score_key, scores_to_parquet};
use understudy_call::record::{CallRecord, ScoreRecord};
use understudy_call::taskbook::{SCHEMA as BOOK_SCHEMA, Task};

/// What must never reach a page as it is.
const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";

fn id(number: u32) -> String {
    let millis = 1_795_219_200_000 + u64::from(number);
    uuid::Builder::from_unix_timestamp_millis(millis, &[7; 10])
        .into_uuid()
        .to_string()
}

/// A store whose every name and text is hostile: one task, one candidate that disagrees, the baseline asked again.
async fn hostile(candidate: &str) -> Store {
    let store = Store::in_memory();
    let mut book = TaskBook {
        schema: BOOK_SCHEMA,
        tasks: vec![Task {
            id: "bills-1".into(),
            name: HOSTILE.into(),
            description: HOSTILE.into(),
            lines: vec![HOSTILE.into()],
            tools: vec![HOSTILE.into()],
            answers: vec![("json".into(), 1.0)],
            examples: vec![id(0)],
            ..Task::default()
        }],
        ..TaskBook::default()
    };
    books::publish(&store, &mut book).await.unwrap();
    let request = json!({ "model": HOSTILE, "messages": [{ "role": "user", "content": HOSTILE }] });
    let call = |number: u32| CallRecord {
        call_id: id(number),
        conversation_id: format!("talk {number}"),
        started_at: Some(1_795_219_200_000_000 + i64::from(number) * 1000),
        api: "openai_chat".into(),
        upstream: Some(HOSTILE.into()),
        request_model: Some(HOSTILE.into()),
        request_body: Some(request.to_string()),
        output_text: Some(format!("recorded {HOSTILE}")),
        task_id: Some("bills-1".into()),
        taskbook_version: Some(1),
        duration_ms: Some(100.0),
        ..CallRecord::default()
    };
    let calls: Vec<CallRecord> = (0..20).map(call).collect();
    let bytes = calls_to_parquet(&calls, store.table_keys()).unwrap();
    store.put(&call_key(&calls[0], "segment", 0, 20), bytes).await.unwrap();
    let now = Timestamp::now().as_microsecond();
    let score = |number: u32| ScoreRecord {
        call_id: id(number),
        conversation_id: format!("talk {number}"),
        task_id: "bills-1".into(),
        candidate: candidate.into(),
        candidate_version: "v1".into(),
        judged_at: now,
        kind: "prose".into(),
        valid: true,
        agreement: Some(0.25),
        floor_agreement: Some(0.75),
        judge: Some(0.5),
        output_text: Some(format!("candidate {HOSTILE}")),
        response_body: Some(json!({ "model": HOSTILE }).to_string()),
        ..ScoreRecord::default()
    };
    let scores: Vec<ScoreRecord> = (0..20).map(score).collect();
    let bytes = scores_to_parquet(&scores, store.table_keys()).unwrap();
    store
        .put(&score_key("bills-1", candidate, "job", 0), bytes)
        .await
        .unwrap();
    let again = ScoreRecord {
        candidate: "llm".into(),
        candidate_version: "floor-1".into(),
        output_text: Some(format!("again {HOSTILE}")),
        ..score(0)
    };
    let bytes = scores_to_parquet(&[again], store.table_keys()).unwrap();
    store.put(&score_key("bills-1", "llm", "job", 0), bytes).await.unwrap();
    store
}

fn web(store: &Store) -> Arc<Web> {
    Web::new(store.clone(), Box::new(Settings::default))
}

async fn page(web: &Arc<Web>, path: &str, may_read: bool) -> (u16, String) {
    let page = web.page(path, may_read, "tester").await.unwrap();
    (page.status, String::from_utf8(page.body.to_vec()).unwrap())
}

fn is_harmless(html: &str) -> bool {
    // The file's own script is the only one.
    let own = html.replace(view::SCRIPT, "").replace("<script></script>", "");
    let own = own.replace("<script src=\"/page.js\" defer></script>", "");
    !own.contains("<script") && !own.contains("<img") && !own.contains("onerror=alert(2)>\"")
}

#[tokio::test]
async fn hostile_names_and_texts_are_shown_and_do_nothing() {
    let store = hostile(HOSTILE).await;
    let web = web(&store);
    let candidate = percent_encoding::utf8_percent_encode(HOSTILE, percent_encoding::NON_ALPHANUMERIC);
    for path in [
        "/".to_owned(),
        "/tasks/bills-1".to_owned(),
        "/tasks/bills-1/examples".to_owned(),
        format!("/tasks/bills-1/disagreements/{candidate}"),
        "/tasks/%3Cscript%3E".to_owned(),
    ] {
        let (status, html) = page(&web, &path, true).await;
        assert_eq!(
            status,
            if path.contains("%3Cscript%3E/") || path == "/tasks/%3Cscript%3E" {
                404
            } else {
                200
            },
            "{path}"
        );
        assert!(html.contains("&lt;script&gt;"), "{path} shows it");
        assert!(is_harmless(&html), "{path}: {html}");
        assert!(
            !html.contains("style=") && !html.contains("javascript:"),
            "{path} would need more than its policy allows"
        );
    }
    let (_, html) = page(&web, "/tasks/bills-1", true).await;
    assert!(html.contains("A judge compared 20 answers with the recorded ones: 0.500"));
    assert!(html.contains("No price is known of &lt;script&gt;"));
    let report = web.refresh(|_, _| {}).await.unwrap();
    let html = file(&report);
    assert!(is_harmless(&html) && html.contains("&lt;script&gt;"));
}

#[tokio::test]
async fn a_file_needs_nothing_else_and_holds_no_text_of_a_call() {
    let store = hostile("slm").await;
    let report = web(&store).refresh(|_, _| {}).await.unwrap();
    let html = file(&report);
    for elsewhere in ["http://", "https://", "src=\"", "url(", "@import", "href=\"/"] {
        assert!(!html.contains(elsewhere), "{elsewhere}");
    }
    assert!(html.contains("id=\"task-bills-1\"") && html.contains("href=\"#task-bills-1\""));
    assert!(!html.contains("recorded &lt;") && !html.contains("candidate &lt;"));
    assert!(html.contains("prefers-color-scheme: dark") && html.contains("Content-Security-Policy"));
}

#[tokio::test]
async fn texts_are_for_operators_and_each_look_is_noted_first() {
    let store = hostile("slm").await;
    let web = web(&store);
    let texts = ["/tasks/bills-1/examples", "/tasks/bills-1/disagreements/slm"];
    for path in texts {
        let (status, html) = page(&web, path, false).await;
        assert!(status == 403 && !html.contains("recorded"), "{path}");
    }
    assert!(!page(&web, "/tasks/bills-1", false).await.1.contains("/disagreements/"));
    assert!(
        verify(&store).await.unwrap().entries.is_empty(),
        "figures are no content"
    );
    let (_, html) = page(&web, texts[1], true).await;
    for said in ["recorded", "again", "candidate"] {
        assert!(html.contains(said), "{said}");
    }
    assert!(
        html.contains("<del>recorded</del>") && html.contains("<ins>again</ins>"),
        "{html}"
    );
    page(&web, texts[0], true).await;
    let log = verify(&store).await.unwrap();
    let noted: Vec<(&str, &str)> = log
        .entries
        .iter()
        .map(|entry| (entry.action.as_str(), entry.by.as_str()))
        .collect();
    assert_eq!(noted, [("read_content", "tester"); 2]);
    assert_eq!(log.entries[0].details["candidate"], "slm");
}

#[tokio::test]
async fn paths_that_are_no_page_are_none() {
    let web = web(&Store::in_memory());
    for path in [
        "/nothing",
        "/tasks",
        "/tasks/a/b",
        "/tasks/a/disagreements",
        "//",
        "/session",
        "",
    ] {
        assert!(web.page(path, true, "tester").await.is_none(), "{path}");
    }
    let (status, html) = page(&web, "/", false).await;
    assert!(status == 200 && html.contains("No calls are kept yet"));
    assert_eq!(page(&web, "/tasks/none", false).await.0, 404);
}

#[tokio::test]
async fn what_was_counted_is_taken_up_again() {
    let store = hostile("slm").await;
    let first = web(&store);
    first.refresh(|_, _| {}).await.unwrap();
    first.save(&mut *first.state.lock().await).await;
    let text = String::from_utf8(store.get(SUMMARY).await.unwrap().to_vec()).unwrap();
    assert!(!text.contains("recorded "), "a summary holds figures");
    let (mut asked, second) = (0, web(&store));
    let report = second.refresh(|_, _| asked += 1).await.unwrap();
    assert_eq!(
        (report.took.calls, report.tasks[0].candidates.len(), asked),
        (20, 1, 0),
        "no object was read"
    );
    store.put(SUMMARY, "{\"schema\":99}".into()).await.unwrap();
    let report = web(&store).refresh(|_, _| asked += 1).await.unwrap();
    assert_eq!((report.took.calls, asked), (20, 1), "another form is counted anew");
}
