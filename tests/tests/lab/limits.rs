//! Limits and deadlines of config: each one is kept, and nonsense is refused with words.

use super::{Heard, Lab, all, one_good, post, well};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use understudy_call::record::Outcome;
use understudy_tests::eventually;
use understudy_tests::program::Home;
use understudy_tests::upstream::{Step, chunk, stream_head};

fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{headers}\r\n").into_bytes()
}

#[test]
fn f42_heads_headers_and_targets_have_a_longest_and_each_is_config() {
    let lab = Lab::new("limits: { head: 16KiB, headers: 20, uri: 100 }\n", |_| well());
    let header = |length: usize| format!("x: {}\r\n", "a".repeat(length));
    let target = |length: usize| format!("/{}", "a".repeat(length - 1));
    let cases = [
        ("a head within", get("/v1/x", &header(10_000)), &[200][..]),
        ("a head past", get("/v1/x", &header(17_000)), &[400, 431]),
        ("headers within", get("/v1/x", &header(1).repeat(18)), &[200]),
        ("headers past", get("/v1/x", &header(1).repeat(19)), &[400, 431]),
        ("a target within", get(&target(100), ""), &[200]),
        ("a target past", get(&target(101), ""), &[414]),
    ];
    for (case, bytes, expected) in &cases {
        let heard = lab.hear(bytes, all);
        assert!(
            matches!(heard.statuses()[..], [status] if expected.contains(&status)),
            "{case}: {heard:?}"
        );
    }
    let rejected = lab
        .program
        .scrape()
        .sum("understudy_rejected_total", &[("reason", "limits")]);
    assert_eq!(rejected, 3.0);
    assert_eq!(lab.seen().len(), 3);
    assert_eq!(lab.finish("f42").len(), 3);
}

#[test]
fn l19_slow_heads_are_cut_and_nobody_waits_for_them() {
    const CLIENTS: usize = 200;
    let lab = Lab::new("timeouts: { header_read: 500ms }\n", |_| well());
    // Nothing, half a method, half an HTTP/2 preface, half a head; and one that goes on a byte at a time.
    let beginnings: [&[u8]; 4] = [b"", b"G", b"PRI * HT", b"GET /x HTTP/1.1\r\nhost: h\r\nx-"];
    let mut slow: Vec<TcpStream> = (0..CLIENTS).map(|number| lab.dial(beginnings[number % 4])).collect();
    let mut trickling = lab.dial(b"GET /x HTTP/1.1\r\nhost: h\r\nx: ");
    let began = Instant::now();
    lab.assert_serves("slow heads");
    while trickling.write_all(b"a").is_ok() {
        assert!(
            began.elapsed() < understudy_tests::PATIENCE,
            "a trickling head is never cut"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    for stream in &mut slow {
        let mut piece = [0; 16];
        assert!(
            matches!(stream.read(&mut piece), Ok(0) | Err(_)),
            "a slow head is answered"
        );
    }
    let rejected = || {
        lab.program
            .scrape()
            .sum("understudy_rejected_total", &[("reason", "header_read")])
    };
    eventually("all are counted", || rejected() == CLIENTS as f64 + 1.0);
    assert_eq!(lab.finish("l19").len(), 0);
}

#[test]
fn bodies_and_next_requests_have_deadlines_too() {
    let lab = Lab::new("timeouts: { body_read: 300ms, keep_alive: 300ms }\n", |_| well());
    let request = "POST /v1/x HTTP/1.1\r\nhost: h\r\nx-understudy-tag-case: it\r\ncontent-length: 10\r\n\r\nab";
    let heard = lab.hear(request.as_bytes(), all);
    assert_ne!(heard.statuses(), [200]);
    let mut stream = lab.dial(&post("idle"));
    assert_eq!(Heard::from(&mut stream, one_good).statuses(), [200]);
    let heard = Heard::from(&mut stream, all);
    assert!(heard.closed && heard.text.is_empty(), "{heard:?}");
    assert_eq!(lab.program.scrape().sum("understudy_rejected_total", &[]), 0.0);
    let outcomes: Vec<_> = lab.finish("deadlines").iter().map(|row| row.outcome).collect();
    assert!(
        outcomes.contains(&Outcome::ClientClosed) && outcomes.contains(&Outcome::Ok),
        "{outcomes:?}"
    );
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_cut_when_the_idle_deadline_passes() {
    let piece = chunk(&vec![b'x'; 1 << 20]);
    let lab = Lab::new("timeouts: { idle: 500ms }\n", move |_| {
        vec![stream_head(), Step::Repeat(piece.clone(), Duration::ZERO)]
    });
    let stream = lab.dial(&post("it"));
    eventually("the call is cut", || {
        lab.program.scrape().sum("understudy_calls_ended_total", &[]) == 1.0
    });
    drop(stream);
    assert_eq!(lab.finish_one("idle").outcome, Outcome::ClientClosed);
}

#[test]
fn connections_past_the_limit_are_closed_and_counted() {
    let lab = Lab::new("limits: { connections: 3 }\n", |_| well());
    let mut open: Vec<TcpStream> = (0..3).map(|_| lab.dial(b"")).collect();
    let rejected = || {
        lab.program
            .scrape()
            .sum("understudy_rejected_total", &[("reason", "connections")])
    };
    let heard = lab.hear(&post("past"), all);
    assert!(heard.text.is_empty(), "{heard:?}");
    eventually("it is counted", || rejected() == 1.0);
    open[0].write_all(&post("within")).expect("an open connection");
    assert_eq!(Heard::from(&mut open[0], one_good).statuses(), [200]);
    drop(open);
    eventually("there is room again", || {
        lab.hear(&post("again"), one_good).statuses() == [200]
    });
    lab.assert_serves("connections");
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A client's preface and its empty settings.
fn preface() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, &[])].concat()
}

/// The next frame: kind, stream, payload; `None` once the connection is closed.
fn next_frame(stream: &mut TcpStream) -> Option<(u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).ok()?;
    Some((
        head[3],
        u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
        payload,
    ))
}

/// GET / at host h, from HPACK's static table.
const GET: &[u8] = &[0x82, 0x84, 0x86, 0x41, 1, b'h'];
const END_STREAM_AND_HEADERS: u8 = 5;

#[test]
fn http2_streams_have_a_limit_and_it_is_told() {
    let lab = Lab::new("limits: { streams: 7 }\n", |_| well());
    let mut stream = lab.dial(&preface());
    let (kind, _, settings) = next_frame(&mut stream).expect("the program's settings");
    assert_eq!(kind, 4);
    let value = settings
        .chunks(6)
        .find(|setting| setting[..2] == [0, 3])
        .expect("MAX_CONCURRENT_STREAMS");
    assert_eq!(value[2..], [0, 0, 0, 7]);
    // And a call by HTTP/2 is a call.
    stream
        .write_all(&frame(1, END_STREAM_AND_HEADERS, 1, GET))
        .expect("an open connection");
    let mut answered = false;
    while let Some((kind, number, payload)) = next_frame(&mut stream) {
        if (kind, number) == (0, 1) {
            answered |= String::from_utf8_lossy(&payload).contains(super::WELL);
            break;
        }
    }
    assert!(answered, "no answer by HTTP/2");
    drop(stream);
    assert_eq!(lab.finish_one("streams").outcome, Outcome::Ok);
}

#[test]
fn a_flood_of_reset_http2_streams_is_cut() {
    let lab = Lab::new("", |_| vec![Step::Hang]);
    let mut stream = lab.dial(&preface());
    let cancel = 8u32.to_be_bytes();
    let flood: Vec<u8> = (0..5000)
        .flat_map(|number| {
            let number = 2 * number + 1;
            [
                frame(1, END_STREAM_AND_HEADERS, number, GET),
                frame(3, 0, number, &cancel),
            ]
            .concat()
        })
        .collect();
    // It may close before it has read all.
    let _ = stream.write_all(&flood);
    let mut goaway = false;
    while let Some((kind, ..)) = next_frame(&mut stream) {
        goaway |= kind == 7;
    }
    assert!(goaway, "5,000 streams begun and reset are no reason to go");
    lab.assert_serves("a reset flood");
}

#[test]
fn nonsense_in_limits_and_timeouts_is_refused_with_words() {
    let home = Home::new();
    for (part, words) in [
        ("limits: { connections: 0 }", "limits.connections: it is 0"),
        ("limits: { streams: 0 }", "limits.streams: it is 0"),
        ("limits: { head: 1KiB }", "the least that makes sense is 8192"),
        ("limits: { uri: 1MiB }", "limits.uri"),
        ("timeouts: { idle: 0s }", "timeouts.idle: it is 0"),
        ("timeouts: { header_read: 0ms }", "timeouts.header_read: it is 0"),
        (
            "timeouts: { connect: 9000d }",
            "timeouts.connect: it is longer than 365d",
        ),
        ("timeouts: { keepalive: 5s }", "`keep_alive`"),
        ("threads: 0", "threads: it is 0"),
    ] {
        home.write_config(&format!(
            "upstreams: {{ llm: {{ url: 'http://127.0.0.1:9' }} }}\n{part}\n"
        ));
        let output = home.run(&["check", "understudy.yaml"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{part}: {said}");
        assert!(
            said.contains("understudy.yaml") && said.contains(words),
            "{part}: {said}"
        );
    }
}
