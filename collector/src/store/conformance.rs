//! One conformance suite over every kind of store: memory and a directory in each run, and whatever store
//! `UNDERSTUDY_TEST_STORE` names, with its credentials in the usual variables.

use super::*;

/// More than S3 lists in one page.
const MANY: usize = 1_050;

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// What every store must do; `store` is empty. Listings are tried with so many objects.
async fn conforms(store: &Store, many: usize) {
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
    odd_names(store).await;
    replaced_whole(store).await;
    many_pages(store, many).await;
}

/// Names that are escaped on the way come back as they were given.
async fn odd_names(store: &Store) {
    let names = [
        "odd/a b+c%25d~e(f)'g'&h=i,j;k@l$m!n:o.json",
        "odd/größe-☂-日本.json",
        "odd/task=a%2Fb/x",
        "odd/.hidden",
        "odd/-",
        "odd/compact-0.parquet",
        "odd/two..dots",
    ];
    for name in names {
        store.put(name, bytes(name)).await.unwrap();
        assert!(!store.create(name, bytes("again")).await.unwrap(), "{name}");
        assert_eq!(store.get(name).await.unwrap(), bytes(name), "{name}");
    }
    let mut expected = names.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(keys(store, "odd").await, expected);
    assert_eq!(keys(store, "odd/task=a%2Fb").await, ["odd/task=a%2Fb/x"]);
    for name in names {
        store.delete(name).await.unwrap();
    }
    assert_eq!(keys(store, "odd").await, [""; 0]);
}

/// While an object is replaced, who reads it gets the old one or the new one, whole.
async fn replaced_whole(store: &Store) {
    const LENGTH: usize = 3 << 20;
    let of = |letter: u8| Bytes::from(vec![letter; LENGTH]);
    store.put("replaced", of(b'a')).await.unwrap();
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for letter in b'b'..=b'h' {
                store.put("replaced", of(letter)).await.unwrap();
            }
        })
    };
    while !writer.is_finished() {
        let read = store.get("replaced").await.unwrap();
        assert_eq!(read.len(), LENGTH);
        assert!(read.iter().all(|letter| *letter == read[0]), "a mix of two objects");
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    assert!(
        store
            .get("replaced")
            .await
            .unwrap()
            .iter()
            .all(|letter| *letter == b'h')
    );
}

/// Listings come in pages: all of them are read, whichever is asked.
async fn many_pages(store: &Store, many: usize) {
    let key = |number: usize| format!("many/dt={}/n{number:06}.parquet", number % 2);
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in (writer..many).step_by(16) {
                    store.put(&key(number), bytes("x")).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    store.put("many-others/x", bytes("x")).await.unwrap();
    let mut expected: Vec<String> = (0..many).map(key).collect();
    expected.sort();
    assert!(
        keys(store, "many").await == expected,
        "a listing of {many} objects is not whole"
    );
    assert_eq!(keys(store, "many/dt=1").await.len(), many / 2);
}

async fn keys(store: &Store, folder: &str) -> Vec<String> {
    let listed = store.list(folder).await.unwrap();
    listed.into_iter().map(|object| object.key).collect()
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
    conforms(&store, MANY).await;
    let key = "calls/dt=2026-11-20/hour=h23/seg-0-1.parquet";
    assert!(nested.join(key).is_file(), "keys are paths as they are");

    let url = format!("file://{}/made/when%20missing", directory.path().display());
    assert_eq!(Store::open(&url).unwrap().get(key).await.unwrap(), bytes(""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_conforms() {
    conforms(&Store::in_memory(), MANY).await;
}

#[tokio::test]
async fn a_prefix_holds_all_keys() {
    let below = Store {
        prefix: Path::from("team/understudy"),
        ..Store::in_memory()
    };
    conforms(&below, MANY).await;
    let (objects, prefix) = below.object_store();
    assert_eq!(prefix.as_ref(), "team/understudy");
    objects
        .head(&Path::from("team/understudy/taskbooks/v000009.json"))
        .await
        .unwrap();
}

/// `tests/real/stores.py` starts servers and runs this against each: `UNDERSTUDY_TEST_STORE=s3://bucket/prefix`.
/// `UNDERSTUDY_TEST_OBJECTS` is how many objects are listed, more than fit in a page.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_store_of_the_environment_conforms() {
    let Ok(location) = std::env::var("UNDERSTUDY_TEST_STORE") else {
        eprintln!("SKIPPED: UNDERSTUDY_TEST_STORE names no store");
        return;
    };
    let many = std::env::var("UNDERSTUDY_TEST_OBJECTS").map_or(MANY, |many| many.parse().unwrap());
    let unique = uuid::Uuid::now_v7().simple().to_string();
    let location = format!("{}/{unique}", location.trim_end_matches('/'));
    conforms(&Store::open(&location).unwrap(), many).await;
    let error = {
        let (scheme, _) = location.split_once("://").unwrap();
        let missing = Store::open(&format!("{scheme}://no-such-place-{unique}/x")).unwrap();
        missing.put("x", bytes("x")).await.unwrap_err()
    };
    assert!(error.is_not_found(), "{error}");
    assert!(error.to_string().contains("make it first"), "{error}");
    eprintln!("CONFORMS: {location}");
}
