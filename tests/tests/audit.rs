//! The audit: every call of every boot is where it says, and after a crash the missing ones are named.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use understudy_call::record::CallRecord;
use understudy_collector::store::Store;
use understudy_tests::eventually;
use understudy_tests::fixtures::{CHAT, answer_chat, chat_request};
use understudy_tests::http::{Request, Wire};
use understudy_tests::program::{Home, Program, rows_of};
use understudy_tests::upstream::{Step, Upstream};

/// Nothing is flushed before the end, and waits never time out.
const WAITING: &str = "capture: { wait: 10s, spool: { commit_interval: 20ms }, exclude: [{ model: 'private*' }] }\n";

fn serve(home: &Home, upstream: &Upstream, more: &str) -> Program {
    home.serve_config(&format!("upstreams: {{ llm: {{ url: {} }} }}\n{more}", upstream.url()))
}

/// An upstream that answers chats, and hangs elsewhere.
fn upstream() -> Upstream {
    Upstream::start(|seen| match seen.head.path() {
        CHAT => answer_chat(seen, "gpt-4o", "well"),
        _ => vec![Step::Hang],
    })
}

fn call(program: &Program, model: &str) {
    let answer = Request::post(CHAT, chat_request(model, "Hello", false)).send(program.listen);
    assert_eq!(answer.status(), 200);
}

/// Exit code and boots.
fn audit(home: &Home) -> (Option<i32>, Vec<Value>) {
    let data = home.data();
    let output = home.run(&["audit", "--data", &data.to_string_lossy(), "--format", "json"]);
    let boots = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), boots)
}

fn segments(home: &Home) -> Vec<PathBuf> {
    let files = std::fs::read_dir(home.data().join("spool")).expect("a spool");
    let mut segments: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments.sort();
    segments
}

#[test]
fn a_boot_that_ended_well_is_accounted_for_to_the_last_call() {
    let (upstream, home) = (upstream(), Home::new());
    let program = serve(&home, &upstream, WAITING);
    (0..5).for_each(|_| call(&program, "gpt-4o"));
    (0..2).for_each(|_| call(&program, "private"));
    eventually("what runs is accounted for too", || {
        let (code, boots) = audit(&home);
        assert_eq!((code, &boots[0]["state"]), (Some(0), &Value::from("running")));
        boots[0]["calls"] == 7 && boots[0]["waiting"] == 5 && boots[0]["in_flight"] == 0
    });
    program.terminate();
    let (code, boots) = audit(&home);
    let boot = &boots[0];
    assert_eq!(
        (code, boots.len(), &boot["state"]),
        (Some(0), 1, &Value::from("ended")),
        "{boot}"
    );
    assert_eq!(
        (&boot["calls"], &boot["kept"], &boot["stored"]),
        (&7.into(), &5.into(), &5.into())
    );
    assert_eq!((&boot["waiting"], &boot["in_flight"]), (&0.into(), &0.into()));
    assert_eq!(boot["dropped"]["excluded"], 2);
    assert_eq!(
        (&boot["missing"], &boot["faults"]),
        (&"".into(), &serde_json::json!([]))
    );
}

#[test]
fn calls_cut_by_a_crash_are_named() {
    let (upstream, home) = (upstream(), Home::new());
    let program = serve(&home, &upstream, WAITING);
    (0..3).for_each(|_| call(&program, "gpt-4o"));
    let hanging = Request::post("/v1/embeddings", "{}");
    let open: Vec<Wire> = (0..2)
        .map(|_| {
            let wire = Wire::connect(program.listen).expect("the program listens");
            wire.write(&hanging.bytes(program.listen)).expect("the program reads");
            wire
        })
        .collect();
    eventually("the calls are at the upstream", || upstream.count() == 5);
    call(&program, "gpt-4o");
    // The account is written down at the commit interval.
    std::thread::sleep(std::time::Duration::from_millis(200));
    program.kill_9();
    drop(open);
    for state in ["in the spool", "in the store"] {
        let (code, boots) = audit(&home);
        let boot = &boots[0];
        assert_eq!(
            (code, &boot["state"]),
            (Some(0), &Value::from("crashed")),
            "{state}: {boot}"
        );
        assert_eq!(
            (&boot["calls"], &boot["kept"], &boot["in_flight"]),
            (&6.into(), &4.into(), &2.into())
        );
        assert_eq!(boot["missing"], "4-5", "{state}: {boot}");
        assert!(boot["mark"].as_u64() >= boot["calls"].as_u64());
        serve(&home, &upstream, WAITING).terminate();
    }
}

#[test]
fn records_that_are_gone_make_it_fail_and_are_named() {
    let (upstream, home) = (upstream(), Home::new());
    let program = serve(&home, &upstream, WAITING);
    (0..4).for_each(|_| call(&program, "gpt-4o"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    program.kill_9();
    let [segment] = &segments(&home)[..] else {
        panic!("one segment is expected")
    };
    std::fs::remove_file(segment).expect("a file");
    let (code, boots) = audit(&home);
    assert_eq!(
        (code, &boots[0]["missing"]),
        (Some(1), &Value::from("1-4")),
        "{}",
        boots[0]
    );
    // And for good: another start does not make it good.
    serve(&home, &upstream, WAITING).terminate();
    let (code, boots) = audit(&home);
    assert_eq!(
        (code, &boots[0]["missing"], boots.len()),
        (Some(1), &Value::from("1-4"), 2)
    );
}

#[test]
fn records_that_are_damaged_are_evicted_and_explained() {
    let (upstream, home) = (upstream(), Home::new());
    let program = serve(&home, &upstream, WAITING);
    (0..4).for_each(|_| call(&program, "gpt-4o"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    program.kill_9();
    let segment = &segments(&home)[0];
    let mut bytes = std::fs::read(segment).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(segment, bytes).expect("a file");
    let program = serve(&home, &upstream, "store: { flush: { after: 50ms } }\n");
    eventually("the rest is stored", || {
        program.scrape().sum("understudy_stored_total", &[]) == 3.0
    });
    eventually("kept + recovered = stored + waiting + evicted", || {
        program.scrape().mislaid() == 0.0
    });
    program.terminate();
    let (code, boots) = audit(&home);
    assert_eq!(code, Some(0), "{}", boots[0]);
    assert_eq!(
        (&boots[0]["stored"], &boots[0]["evicted"]["corrupt"]),
        (&3.into(), &1.into())
    );
    let rows = home.rows();
    assert_eq!(rows.len(), 3);
}

#[test]
fn a_table_says_it_in_words() {
    let (upstream, home) = (upstream(), Home::new());
    let program = serve(&home, &upstream, WAITING);
    call(&program, "gpt-4o");
    program.terminate();
    let data = home.data();
    let output = home.run(&["audit", "--data", &data.to_string_lossy()]);
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(
        table.contains("in flight") && table.contains("ended") && table.contains("yes"),
        "{table}"
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("the account of 1 boot holds"));
    let output = home.run(&["audit", "--data", "nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
}

fn segments_in(folder: &Path) -> usize {
    let files = folder.read_dir().into_iter().flatten().filter_map(Result::ok);
    files
        .filter(|file| file.path().extension().is_some_and(|extension| extension == "seg"))
        .count()
}

#[test]
fn a_further_reader_has_a_position_of_its_own_and_a_store_of_its_own() {
    let upstream = Upstream::start(|seen| answer_chat(seen, "gpt-4o", "well"));
    let home = Home::new();
    let data = home.data().to_str().expect("a plain path").to_owned();
    let folders = format!("keys: {{ dir: {data}/keys }}\ncapture: {{ spool: {{ dir: {data}/spool }} }}\n");
    let program = serve(&home, &upstream, &folders);
    let call = |text: &str| {
        let answer = Request::post(CHAT, chat_request("gpt-4o", text, false)).send(program.listen);
        assert_eq!(answer.status(), 200);
    };
    let mirror = home.path().join("mirror");
    let reader = || {
        let mirror = mirror.to_str().expect("a plain path");
        home.collect(&["--reader", "mirror", "--config", "understudy.yaml", "--data", mirror])
    };
    let folder = home.data().join("spool/readers/mirror");
    let texts = |rows: &[CallRecord]| -> BTreeSet<String> {
        rows.iter()
            .map(|row| row.request_body.clone().expect("a body"))
            .collect()
    };
    let mirrored = || match Store::open(mirror.to_str().expect("a plain path")) {
        Ok(store) => rows_of(&store),
        Err(_) => Vec::new(),
    };
    let first = reader();
    eventually("it has joined", || folder.is_dir());
    call("one");
    call("two");
    eventually("the segment is linked", || segments_in(&folder) > 0);
    first.terminate();
    assert_eq!(mirrored().len(), 2, "stored when it ends");
    // While it is away the first reader stores and deletes; its links stay.
    call("three");
    program.terminate();
    assert_eq!(home.rows().len(), 3);
    let again = reader();
    eventually("it goes on where it was", || mirrored().len() == 3);
    again.terminate();
    assert_eq!(texts(&mirrored()), texts(&home.rows()));
    assert_eq!(segments_in(&folder), 0);
    let refused = home.run(&["collect", "--reader", "../up", "--config", "understudy.yaml"]);
    assert_eq!(refused.status.code(), Some(2));
}
