//! Answers whose framing is odd, that come too early, or on a connection that was kept too long.

use super::{Heard, Lab, all, one_good, post, well};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use understudy_call::record::Outcome;
use understudy_tests::PATIENCE;
use understudy_tests::program::Home;
use understudy_tests::upstream::Step;

#[test]
fn an_answer_with_lengths_that_contradict_its_framing_comes_whole() {
    let chunks = "6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n";
    let chunked = |headers: &str| format!("{headers}\r\n{chunks}");
    let cases = [
        (
            "shorter",
            chunked("content-length: 5\r\ntransfer-encoding: chunked\r\n"),
        ),
        (
            "longer",
            chunked("transfer-encoding: chunked\r\ncontent-length: 500\r\n"),
        ),
        (
            "stream",
            chunked("content-type: text/event-stream\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n"),
        ),
        ("list", "content-length: 11, 11\r\n\r\nhello world".into()),
        (
            "twice",
            "content-length: 11\r\ncontent-length: 11\r\n\r\nhello world".into(),
        ),
    ];
    let answers = cases.clone();
    let lab = Lab::new("", move |seen| {
        let case = seen.head.header("x-case");
        let (_, answer) = answers.iter().find(|(name, _)| case == Some(name)).expect("a case");
        vec![Step::Send(format!("HTTP/1.1 200 OK\r\n{answer}").into_bytes())]
    });
    let mut stream = lab.dial(b"");
    for (case, _) in &cases {
        // On one connection: what is left of one answer would be taken for the next.
        let call = format!("POST /v1/x HTTP/1.1\r\nhost: h\r\nx-case: {case}\r\ncontent-length: 2\r\n\r\n{{}}");
        stream.write_all(call.as_bytes()).expect("an open connection");
        let heard = Heard::from(&mut stream, |text| {
            text.ends_with("world") || text.ends_with("0\r\n\r\n")
        });
        assert_eq!(heard.statuses(), [200], "{case}: {heard:?}");
        let lengths = heard.text.matches("content-length: ").count();
        if matches!(*case, "list" | "twice") {
            assert!(
                heard.text.contains("content-length: 11\r\n") && lengths == 1,
                "{case}: {heard:?}"
            );
            assert!(heard.text.ends_with("\r\n\r\nhello world"), "{case}: {heard:?}");
        } else {
            assert!(
                heard.text.contains("transfer-encoding: chunked") && lengths == 0,
                "{case}: {heard:?}"
            );
            assert!(
                heard.text.contains("hello ") && heard.text.contains("world"),
                "{case}: {heard:?}"
            );
        }
    }
    let rows = lab.finish("lengths");
    assert_eq!(rows.len(), cases.len());
    assert!(
        rows.iter()
            .all(|row| (row.outcome, row.response_bytes) == (Outcome::Ok, Some(11)))
    );
}

#[test]
fn a_switch_that_nobody_asked_for_is_a_502() {
    let lab = Lab::new("", |_| {
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nsecret";
        vec![Step::Send(switch.to_vec()), Step::Hang]
    });
    let heard = lab.hear(&post("it"), |text| text.ends_with('}'));
    assert_eq!(heard.statuses(), [502], "{heard:?}");
    assert!(!heard.text.contains("secret"));
    assert_eq!(lab.finish_one("101").outcome, Outcome::UpstreamProtocol);
}

#[test]
fn l13_a_head_of_900_lines_passes() {
    let lines: String = (0..900).map(|number| format!("x-{number}: v\r\n")).collect();
    let answer = format!("HTTP/1.1 200 OK\r\n{lines}content-length: 2\r\n\r\nok");
    let lab = Lab::new("", move |_| vec![Step::Send(answer.clone().into_bytes())]);
    let heard = lab.hear(&post("it"), |text| text.ends_with("\r\n\r\nok") || text.ends_with('}'));
    assert_eq!(heard.statuses(), [200]);
    assert_eq!(heard.text.matches("\r\nx-").count(), 900);
    assert_eq!(lab.finish_one("l13").outcome, Outcome::Ok);
}

/// A lab whose upstream closes each connection when the second request comes on it.
fn closes_on_the_second(by_reset: bool) -> Lab {
    let count = AtomicUsize::new(0);
    Lab::new("", move |_| match count.fetch_add(1, Ordering::Relaxed) {
        1 if by_reset => vec![Step::Reset],
        1 => vec![Step::Close],
        _ => well(),
    })
}

#[test]
fn what_may_be_sent_twice_is_sent_again_where_a_kept_connection_was_closed() {
    for by_reset in [false, true] {
        for (method, body, statuses) in [
            ("GET", "", [200, 200]),
            ("DELETE", "", [200, 200]),
            ("POST", "content-length: 2\r\n\r\n{}", [200, 502]),
        ] {
            let lab = closes_on_the_second(by_reset);
            let mut stream = lab.dial(b"");
            for status in statuses {
                let end = if body.is_empty() { "\r\n" } else { body };
                let call = format!("{method} /v1/x HTTP/1.1\r\nhost: h\r\n{end}");
                stream.write_all(call.as_bytes()).expect("an open connection");
                let heard = Heard::from(&mut stream, |text| one_good(text) || text.ends_with("}}"));
                assert_eq!(heard.statuses(), [status], "{method}, reset {by_reset}");
            }
            let is_repeated = statuses == [200, 200];
            assert_eq!(lab.seen().len(), if is_repeated { 3 } else { 2 }, "{method}");
            let rows = lab.finish("a closed connection");
            assert_eq!(rows.len(), 2, "{method}: one row for a call, however often it is sent");
            let attempts: Vec<usize> = rows.iter().map(|row| row.attempts.len()).collect();
            assert_eq!(
                attempts.iter().sum::<usize>(),
                if is_repeated { 3 } else { 2 },
                "{method}: {attempts:?}"
            );
        }
    }
}

#[test]
fn l7_a_new_connection_that_is_closed_is_not_tried_again() {
    let lab = Lab::new("", |_| vec![Step::Close]);
    let heard = lab.hear(b"GET /v1/x HTTP/1.1\r\nhost: h\r\n\r\n", |text| text.ends_with("}}"));
    assert_eq!(heard.statuses(), [502]);
    assert_eq!(lab.finish_one("l7").outcome, Outcome::UpstreamReset);
}

#[test]
fn l22_an_early_answer_whose_upstream_is_gone_at_once_reaches_the_client() {
    // It has read nothing but the head: that it closes resets the upload.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let upstream = listener.local_addr().expect("a bound socket");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 256]);
            let _ = stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig");
        }
    });
    let home = Home::new();
    let program = home.serve_upstream(&format!("http://{upstream}"));
    let tries = 20;
    for number in 0..tries {
        let mut stream = std::net::TcpStream::connect(program.listen).expect("the program listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let length = 3_000_000;
        let head = format!("POST /v1/files HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n");
        let _ = stream.write_all(&[head.as_bytes(), &vec![b'x'; length]].concat());
        let heard = Heard::from(&mut stream, |text| text.ends_with("big") || text.ends_with("}}"));
        assert_eq!(heard.statuses(), [413], "call {number}: {heard:?}");
    }
    assert_eq!(program.scrape_at_rest().unaccounted(), 0.0);
    program.terminate();
    assert_eq!(home.rows().len(), tries);
}

#[test]
fn http_1_0_upgrades_nothing() {
    let lab = Lab::new("", |_| well());
    let call = b"GET /v1/x HTTP/1.0\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let heard = lab.hear(call, all);
    assert_eq!(heard.statuses(), [200]);
    assert_eq!(lab.seen()[0].head.header("upgrade"), None);
    assert_eq!(lab.finish_one("upgrade").outcome, Outcome::Ok);
}
