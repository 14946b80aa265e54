//! One conformance suite over every kind of store, and what is particular to opening each.

use super::*;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// What every store must do; `store` is empty.
async fn conforms(store: &Store) {
    assert_eq!(store.list("").await.unwrap(), []);
    assert!(store.get("calls/none").await.unwrap_err().is_not_found());
    store.delete("calls/none").await.unwrap();

    let key = "calls/dt=2026-11-21/hour=h07/seg-0-9.parquet";
    store.put(key, bytes("one")).await.unwrap();
    store.put(key, bytes("two")).await.unwrap();
    assert_eq!(store.get(key).await.unwrap(), bytes("two"), "a put overwrites");
    assert!(!store.create(key, bytes("three")).await.unwrap(), "a create does not");
    assert_eq!(store.get(key).await.unwrap(), bytes("two"));

    store
        .put("calls/dt=2026-11-20/hour=h23/seg-0-1.parquet", bytes(""))
        .await
        .unwrap();
    store.put("callsother/x", bytes("elsewhere")).await.unwrap();
    let listed = store.list("calls/").await.unwrap();
    let expected = [("calls/dt=2026-11-20/hour=h23/seg-0-1.parquet", 0), (key, 3)];
    let expected = expected.map(|(key, size)| Object { key: key.into(), size });
    assert_eq!(
        listed, expected,
        "a folder is not a prefix of letters, and keys are sorted"
    );
    assert_eq!(store.list("").await.unwrap().len(), 3);
    assert_eq!(
        store.get("calls/dt=2026-11-20/hour=h23/seg-0-1.parquet").await.unwrap(),
        bytes("")
    );

    store.delete(key).await.unwrap();
    assert!(store.get(key).await.unwrap_err().is_not_found());
    for bad in ["../escape", "a//b", "calls/./x"] {
        assert_eq!(
            store.put(bad, bytes("x")).await.unwrap_err().kind(),
            StoreErrorKind::Invalid,
            "{bad}"
        );
    }
    numbers(store).await;
    one_winner(store).await;
}

async fn numbers(store: &Store) {
    assert_eq!(store.latest("taskbooks").await.unwrap(), None);
    assert_eq!(store.create_numbered("taskbooks", bytes("{}")).await.unwrap(), 1);
    store.put("taskbooks/v000009.json", bytes("{}")).await.unwrap();
    for stray in [
        "taskbooks/v99.json",
        "taskbooks/v000099.txt",
        "taskbooks/deep/v000100.json",
    ] {
        store.put(stray, bytes("{}")).await.unwrap();
    }
    assert_eq!(
        store.latest("taskbooks").await.unwrap(),
        Some((9, "taskbooks/v000009.json".into()))
    );
    assert_eq!(store.create_numbered("taskbooks/", bytes("ten")).await.unwrap(), 10);
    assert_eq!(store.get("taskbooks/v000010.json").await.unwrap(), bytes("ten"));
    store.put("taskbooks/v1000000.json", bytes("{}")).await.unwrap();
    assert_eq!(
        store.create_numbered("taskbooks", bytes("{}")).await.unwrap(),
        1_000_001,
        "numbers, not names, are ordered"
    );
}

/// Sixteen writers at once: one wins a key, and each gets its own number.
async fn one_winner(store: &Store) {
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let won = store
                    .create("_commits/job.json", bytes(&format!("writer {writer}")))
                    .await
                    .unwrap();
                (
                    won.then_some(writer),
                    store.create_numbered("control/all", bytes("{}")).await.unwrap(),
                )
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for writer in writers {
        outcomes.push(writer.await.unwrap());
    }
    let winners: Vec<i32> = outcomes.iter().filter_map(|(won, _)| *won).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(
        store.get("_commits/job.json").await.unwrap(),
        bytes(&format!("writer {}", winners[0]))
    );
    let mut numbers: Vec<u32> = outcomes.iter().map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=16).collect::<Vec<u32>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_directory_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let nested = directory.path().join("made/when missing");
    let store = Store::open(nested.to_str().unwrap()).unwrap();
    conforms(&store).await;
    let key = "calls/dt=2026-11-20/hour=h23/seg-0-1.parquet";
    assert!(nested.join(key).is_file(), "keys are paths as they are");

    let url = format!("file://{}/made/when%20missing", directory.path().display());
    assert_eq!(Store::open(&url).unwrap().get(key).await.unwrap(), bytes(""));
}

#[tokio::test]
async fn memory_conforms() {
    conforms(&Store::in_memory()).await;
}

#[tokio::test]
async fn a_prefix_holds_all_keys() {
    let below = Store {
        prefix: Path::from("team/understudy"),
        ..Store::in_memory()
    };
    conforms(&below).await;
    let (objects, prefix) = below.object_store();
    assert_eq!(prefix.as_ref(), "team/understudy");
    objects
        .head(&Path::from("team/understudy/taskbooks/v000009.json"))
        .await
        .unwrap();
}

/// `moto_server -H 127.0.0.1 -p P`, then `UNDERSTUDY_TEST_S3=http://127.0.0.1:P`.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s3_conforms() {
    let Ok(endpoint) = std::env::var("UNDERSTUDY_TEST_S3") else {
        eprintln!("SKIPPED: s3_conforms needs UNDERSTUDY_TEST_S3 (the address of an S3 server)");
        return;
    };
    let bucket = format!("understudy-{}", uuid::Uuid::now_v7().simple());
    make_bucket(&endpoint, &bucket).await;
    let open = |secret: &str, bucket: &str| {
        let variables = [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", secret),
            ("AWS_REGION", "us-east-1"),
            ("HOME", "/nowhere"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Store::open_with(&format!("s3://{bucket}/some/prefix/"), variables).unwrap()
    };
    conforms(&open("test", &bucket)).await;
    let error = open("test", "no-such-bucket-here")
        .put("x", bytes("x"))
        .await
        .unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

async fn make_bucket(endpoint: &str, bucket: &str) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = endpoint.strip_prefix("http://").unwrap().trim_end_matches('/');
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!("PUT /{bucket} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_location_that_can_not_be_opened_says_why() {
    let kind = |location: &str| Store::open_with(location, []).unwrap_err().kind();
    assert_eq!(kind(""), StoreErrorKind::Invalid);
    assert_eq!(kind("s3://"), StoreErrorKind::Invalid);
    assert_eq!(kind("ftp://host/dir"), StoreErrorKind::Invalid);
    assert_eq!(kind("file://host/dir"), StoreErrorKind::Invalid);
    assert_eq!(kind("az://container/prefix"), StoreErrorKind::Unsupported);
    assert_eq!(kind("gs://bucket"), StoreErrorKind::Unsupported);
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(kind(file.path().to_str().unwrap()), StoreErrorKind::Invalid);
    let error = Store::open("az://container").unwrap_err();
    assert!(
        error.to_string().contains("not built in") && !error.is_retryable(),
        "{error}"
    );
}

#[test]
fn failures_of_the_way_there_are_worth_a_retry_and_secrets_are_not_shown() {
    let lost = object_store::Error::Generic {
        store: "S3",
        source: "connection reset".into(),
    };
    let error = StoreError::failed("put", "calls/x", lost);
    assert!(error.is_retryable() && error.to_string().contains("calls/x"), "{error}");
    let open = |variables: &[(&str, &str)]| {
        Store::open_with(
            "s3://bucket",
            variables.iter().map(|(name, value)| ((*name).into(), (*value).into())),
        )
    };
    let store = open(&[("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret-canary")]).unwrap();
    assert!(!format!("{store:?}").contains("secret-canary"));
    let error = open(&[("AWS_SECRET_ACCESS_KEY", "secret-canary")]).unwrap_err();
    assert_eq!(
        error.kind(),
        StoreErrorKind::Invalid,
        "a half-set key will not mend by itself"
    );
    assert!(!format!("{error:?}").contains("secret-canary"));
}
