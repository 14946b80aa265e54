//! What goes into the vault comes out with its key, and with no other; what is erased does not.

use super::*;
use crate::erase::{Aged, Wanted, erase};
use crate::mask::{Counts, Kind, Mask, MaskConfig};

const NOW: i64 = 1_795_244_400_000_000;

fn key(byte: u8) -> Key {
    Key::new([byte; 32])
}

fn vault(bytes: &[u8]) -> Vault {
    Vault::new(bytes.iter().map(|byte| key(*byte)).collect()).unwrap()
}

fn call(id: &str, client: &str) -> CallRecord {
    CallRecord {
        call_id: id.into(),
        client_id: Some(client.into()),
        conversation_id: id.into(),
        started_at: Some(NOW - 1),
        ..CallRecord::default()
    }
}

fn mask() -> Mask {
    Mask::new(&MaskConfig::default(), &[3; 32]).unwrap()
}

/// The body as it is kept, and what was replaced in it.
fn masked(body: &str) -> (String, Replaced) {
    let mask = mask();
    let draft = mask.draft(body.as_bytes());
    let known = mask.known(&crate::mask::Values::of_drafts([&draft]));
    let pen = mask.pen(None);
    let text = pen.finish(draft, &known, &mut Counts::default()).text;
    (text, pen.into_replaced())
}

const BODY: &str = r#"{"messages":[{"role":"user","content":"I am \"Ann\", mail ann.larkin@acme.test or call +1 415 555 2671."},
{"role":"tool","content":"{\"to\":\"ann.larkin@acme.test\",\"card\":\"4111 1111 1111 1111\"}"}],"ssn":"536-22-8726"}"#;

async fn put(store: &Store, name: &str, lines: &[Line]) -> String {
    let key = format!("{VAULT}/dt=2026-11-21/hour=h07/{name}.jsonl");
    store.put(&key, to_bytes(lines)).await.unwrap();
    key
}

#[tokio::test]
async fn what_was_masked_is_restored_to_the_byte_inside_json_and_json_within_it() {
    let (text, replaced) = masked(BODY);
    assert!(
        !text.contains("ann.larkin@acme.test") && !text.contains("4111 1111"),
        "{text}"
    );
    let line = vault(&[1]).seal(&call("c1", "ann"), &replaced).unwrap().unwrap();
    let store = Store::in_memory();
    let object = put(&store, "s-0-0", &[line]).await;
    let bytes = store.get(&object).await.unwrap();
    let stored = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(!stored.contains("ann.larkin") && !stored.contains("4111"), "{stored}");

    let contents = vault(&[1]).open(&store).await.unwrap();
    let (all, one) = (contents.of_all().unwrap(), contents.of_call("c1").unwrap().unwrap());
    for restorer in [all, one] {
        let (restored, many) = restorer.restore(&text);
        assert_eq!((restored.as_str(), many > 3), (BODY, true));
    }
    assert!(contents.of_call("c2").unwrap().is_none());
}

#[tokio::test]
async fn another_key_opens_nothing_a_rotated_one_does_and_what_was_altered_is_an_error() {
    let (_, replaced) = masked(BODY);
    let line = vault(&[1]).seal(&call("c1", "ann"), &replaced).unwrap().unwrap();
    let store = Store::in_memory();
    put(&store, "s-0-0", std::slice::from_ref(&line)).await;
    let other = vault(&[2]).open(&store).await.unwrap();
    assert_eq!((other.calls(), other.locked), (0, [(key(1).id(), 1)].into()));
    assert_eq!(vault(&[2, 1]).open(&store).await.unwrap().calls(), 1);
    // What is sealed belongs to its call.
    let moved = Line {
        call_id: "c2".into(),
        ..line
    };
    put(&store, "s-0-0", &[moved]).await;
    let error = vault(&[1]).open(&store).await.err().unwrap().to_string();
    assert!(error.contains("c2 was altered"), "{error}");
    assert!(Vault::new(Vec::new()).is_none());
}

#[tokio::test]
async fn what_is_erased_goes_without_a_key_and_nobody_elses() {
    let (_, replaced) = masked(BODY);
    let seal = |id: &str, client: &str| vault(&[1]).seal(&call(id, client), &replaced).unwrap().unwrap();
    let store = Store::in_memory();
    let mixed = put(&store, "mixed", &[seal("a", "ann"), seal("b", "bob")]).await;
    let own = put(&store, "own", &[seal("aa", "ann")]).await;
    let wanted = Wanted {
        clients: ["ann".to_owned()].into(),
        ..Wanted::default()
    };
    let (receipt, _) = erase(&store, &wanted, NOW, false).await.unwrap().unwrap();
    assert_eq!(receipt.erased.vault, 2);
    assert!(store.get(&own).await.unwrap_err().is_not_found());
    let left = lines(&store, &mixed).await.unwrap();
    assert_eq!(left.iter().map(|line| line.call_id.as_str()).collect::<Vec<_>>(), ["b"]);
    // One that comes back, from a copy, is not opened.
    put(&store, "back", &[seal("a", "ann")]).await;
    assert_eq!(vault(&[1]).open(&store).await.unwrap().calls(), 1);
}

#[tokio::test]
async fn what_is_kept_no_longer_goes_by_its_age_and_route() {
    let (_, replaced) = masked(BODY);
    let hour = 3_600_000_000;
    let line = |id: &str, hours: i64, route: Option<&str>| {
        let call = CallRecord {
            started_at: Some(NOW - hours * hour),
            route: route.map(str::to_owned),
            ..call(id, "ann")
        };
        vault(&[1]).seal(&call, &replaced).unwrap().unwrap()
    };
    let store = Store::in_memory();
    let lines_put = [
        line("new", 1, None),
        line("old", 5, None),
        line("kept longer", 5, Some("audited")),
    ];
    let object = put(&store, "s-0-2", &lines_put).await;
    let wanted = Wanted {
        aged: vec![Aged {
            before: NOW - 3 * hour,
            route: None,
            except: vec!["audited".into()],
        }],
        ..Wanted::default()
    };
    let (receipt, _) = erase(&store, &wanted, NOW, false).await.unwrap().unwrap();
    let left = lines(&store, &object).await.unwrap();
    let left: Vec<&str> = left.iter().map(|line| line.call_id.as_str()).collect();
    assert_eq!((receipt.erased.vault, left), (1, vec!["new", "kept longer"]));
}

#[test]
fn credentials_are_never_given_to_the_vault() {
    let secret = "sk-proj-Zk3vTq9LmX2bW8nR5yHd7CfJ1aPsGu4EoViK6wNtBrQx0MzY";
    let (text, replaced) = masked(&format!("my key is {secret} and my mail ann.larkin@acme.test"));
    assert!(!text.contains(secret), "{text}");
    let pairs = replaced.pairs();
    assert!(
        !pairs.is_empty() && pairs.iter().all(|(_, value)| !value.contains("sk-proj")),
        "{}",
        pairs.len()
    );
    assert_eq!(mask().find(secret).first().map(|span| span.kind), Some(Kind::Secret));
    let shown = format!("{replaced:?}");
    assert!(!shown.contains("ann"), "{shown}");
}
