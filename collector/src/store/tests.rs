//! What is particular to opening each kind of store, how long it is waited for, and how failures are told.

use super::*;
use conformance::bytes;
use std::time::{Duration, Instant};

#[test]
fn a_location_that_can_not_be_opened_says_why() {
    let kind = |location: &str| Store::open_with(location, []).unwrap_err().kind();
    assert_eq!(kind(""), StoreErrorKind::Invalid);
    assert_eq!(kind("s3://"), StoreErrorKind::Invalid);
    assert_eq!(kind("ftp://host/dir"), StoreErrorKind::Invalid);
    assert_eq!(kind("file://host/dir"), StoreErrorKind::Invalid);
    assert_eq!(kind("az://"), StoreErrorKind::Invalid);
    assert_eq!(kind("gs:///prefix"), StoreErrorKind::Invalid);
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(kind(file.path().to_str().unwrap()), StoreErrorKind::Invalid);
    // An account is part of where it is.
    let error = Store::open_with("az://container/prefix", []).unwrap_err();
    assert!(
        error.to_string().to_lowercase().contains("account") && !error.is_retryable(),
        "{error}"
    );
}

#[test]
fn failures_of_the_way_there_are_worth_a_retry_and_secrets_are_not_shown() {
    let lost = object_store::Error::Generic {
        store: "S3",
        source: "connection reset".into(),
    };
    let error = StoreError::failed("put", "calls/x", "s3://b", Failure::Store(lost));
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

#[test]
fn azure_and_google_open_with_their_variables() {
    let open = |location: &str, variables: &[(&str, &str)]| {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Store::open_with(location, variables)
    };
    let key = "c2VjcmV0LWNhbmFyeQ==";
    let azure = [
        ("AZURE_STORAGE_ACCOUNT_NAME", "team"),
        ("AZURE_STORAGE_ACCOUNT_KEY", key),
    ];
    for location in ["az://container/a/b", "abfss://container@team.dfs.core.windows.net/a/b"] {
        let store = open(location, &azure).unwrap();
        assert_eq!(store.prefix.as_ref(), "a/b");
        assert!(!format!("{store:?}").contains(key));
    }
    let error = open(
        "az://container",
        &[
            ("AZURE_STORAGE_ACCOUNT_NAME", "team"),
            ("AZURE_STORAGE_ACCOUNT_KEY", "not base64 canary"),
        ],
    );
    let error = error.unwrap_err();
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    open("gs://bucket/a", &[("GOOGLE_SKIP_SIGNATURE", "true")]).unwrap();
}

fn lost() -> Failure {
    let source = "503 Slow Down".into();
    Failure::Store(object_store::Error::Generic { store: "S3", source })
}

#[tokio::test]
async fn what_may_pass_is_asked_again_a_few_times_and_never_in_step() {
    let patience = Patience::remote();
    let mut waits = Vec::new();
    for failing in 0..=patience.tries {
        let (mut asked, began) = (0, Instant::now());
        let result = patience
            .ask(|| {
                asked += 1;
                let failed = asked <= failing;
                async move { if failed { Err(lost()) } else { Ok(asked) } }
            })
            .await;
        assert_eq!(result.is_ok(), failing < patience.tries);
        assert_eq!(asked, (failing + 1).min(patience.tries));
        waits.push(began.elapsed());
    }
    // One wait after the first try, two after the second, none after the last.
    let least = |wait: Duration| wait >= Duration::from_millis(75);
    assert!(
        least(waits[1]) && least(waits[2] - Duration::from_millis(300)),
        "{waits:?}"
    );
    let second = Duration::from_secs(1);
    let delays: Vec<_> = (0..200).map(|_| jittered(second)).collect();
    assert!(delays.iter().all(|delay| (second / 2..=second).contains(delay)));
    let (least, most) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
    assert!(*most - *least > second / 4, "{least:?} to {most:?}");
}

#[tokio::test]
async fn a_store_that_hangs_is_given_up_by_every_verb_and_large_objects_get_longer() {
    let faulty = faulty::Faulty::new();
    let patience = Patience {
        answer: Duration::from_millis(40),
        ..Patience::remote()
    };
    let store = Store {
        patience,
        ..faulty.store()
    };
    store.put("x", bytes("x")).await.unwrap();
    faulty.plan(|_, _| faulty::Fault::Hang);
    let failures = [
        store.put("x", bytes("x")).await.unwrap_err(),
        store.create("y", bytes("x")).await.unwrap_err(),
        store.get("x").await.unwrap_err(),
        store.list("").await.unwrap_err(),
        store.delete("x").await.unwrap_err(),
    ];
    for error in failures {
        assert_eq!(error.kind(), StoreErrorKind::Timeout);
        assert!(
            error.is_retryable() && error.to_string().contains("no answer within 40ms"),
            "{error}"
        );
    }
    let began = Instant::now();
    store.put("x", Bytes::from(vec![0; 128 << 10])).await.unwrap_err();
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_create_is_not_asked_twice() {
    let faulty = faulty::Faulty::new();
    let store = Store {
        patience: Patience::remote(),
        ..faulty.store()
    };
    faulty.plan(|_, _| faulty::Fault::After);
    // Done, but its answer was lost: asked again, it would lose against itself.
    assert!(store.create("x", bytes("x")).await.unwrap_err().is_retryable());
    faulty.plan(|_, _| faulty::Fault::None);
    assert!(!store.create("x", bytes("x")).await.unwrap());
    let mut left = 2;
    faulty.plan(move |_, _| {
        left -= 1;
        if left >= 0 {
            faulty::Fault::Before
        } else {
            faulty::Fault::None
        }
    });
    store.put("x", bytes("y")).await.unwrap();
    assert_eq!(store.get("x").await.unwrap(), bytes("y"));
}

/// A request that reached nobody.
#[derive(Debug, thiserror::Error)]
#[error("Error performing PUT {0} in 1ms - HTTP error")]
struct Unsent(String, #[source] std::io::Error);

#[test]
fn an_error_says_what_where_and_what_to_do_and_tells_no_token() {
    let refused = |status: &str, code: &str, message: &str| {
        let body = format!("<Error><Code>{code}</Code><Message>{message}</Message><Token>canary</Token></Error>");
        object_store::Error::Generic {
            store: "store",
            source: format!("Server returned non-2xx status code: {status}: {body}").into(),
        }
    };
    let way = |url: &str| object_store::Error::Generic {
        store: "store",
        source: Box::new(Unsent(url.into(), std::io::ErrorKind::ConnectionRefused.into())),
    };
    let (s3, az, gs) = ("s3://bucket/team", "az://container/team", "gs://bucket/team");
    let denied = || refused("403 Forbidden", "AccessDenied", "Access Denied.");
    let cases = [
        (
            s3,
            "put",
            denied(),
            "403 Forbidden: AccessDenied: Access Denied; the credentials lack the permission s3:PutObject",
        ),
        (s3, "list", denied(), "s3:ListBucket"),
        (s3, "delete", denied(), "s3:DeleteObject"),
        (
            az,
            "get",
            refused("403 Forbidden", "AuthorizationPermissionMismatch", "no"),
            "Storage Blob Data Reader",
        ),
        (gs, "create", denied(), "storage.objects.create"),
        (
            s3,
            "put",
            refused("403 Forbidden", "RequestTimeTooSkewed", "The difference"),
            "set the clock",
        ),
        (
            az,
            "put",
            refused(
                "403 Forbidden",
                "AuthenticationFailed",
                "Request date header too old: 'Sat'",
            ),
            "set the clock",
        ),
        (
            s3,
            "put",
            refused("403 Forbidden", "InvalidAccessKeyId", "no such key"),
            "AWS_ACCESS_KEY_ID",
        ),
        (
            az,
            "put",
            refused("403 Forbidden", "AuthenticationFailed", "no"),
            "AZURE_STORAGE_ACCOUNT_KEY",
        ),
        (
            gs,
            "put",
            refused("401 Unauthorized", "", ""),
            "GOOGLE_APPLICATION_CREDENTIALS",
        ),
        (
            s3,
            "put",
            refused("404 Not Found", "NoSuchBucket", "no"),
            "make it first",
        ),
        (
            s3,
            "put",
            refused("503 Service Unavailable", "SlowDown", "Reduce"),
            "it answered 503 Service Unavailable: SlowDown",
        ),
        (
            s3,
            "put",
            way("http://169.254.169.254/latest/api/token"),
            "no credentials are set",
        ),
        (
            s3,
            "put",
            way("https://u:canary@s3.example:9000/b/k?X-Amz-Signature=canary"),
            ": https://s3.example:9000: ",
        ),
        (az, "put", way("REDACTED"), ": the server: "),
    ];
    for (location, action, error, expected) in cases {
        let said = StoreError::failed(action, "calls/x", location, Failure::Store(error)).to_string();
        assert!(
            said.starts_with(&format!("could not {action} \"calls/x\" in {location}: ")),
            "{said}"
        );
        assert!(said.contains(expected), "{expected:?} is not in {said}");
        let (_, told) = said.split_once(location).unwrap();
        assert!(!told.contains("canary"), "{said}");
    }
}
