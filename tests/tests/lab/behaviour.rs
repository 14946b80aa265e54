//! L: upstreams and clients that behave oddly.

use super::{Heard, Lab, WELL, all, cancelled, half_close, leave, one_good, post, well};
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use understudy_call::record::Outcome;
use understudy_tests::eventually;
use understudy_tests::upstream::{LAST_CHUNK, Step, chunk, head, stream_head};

/// A lab whose upstream writes these bytes and goes on.
fn answers(bytes: &'static [u8]) -> Lab {
    Lab::new("", move |_| vec![Step::Send(bytes.to_vec())])
}

/// Goodbye of the program to a client that is gone: generous, to be robust where machines are busy.
const SOON: Duration = Duration::from_millis(500);

#[test]
fn l9_a_second_answer_is_discarded_with_its_connection() {
    let lab = answers(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad");
    let heard = lab.hear(&post("it"), |text| text.ends_with("ok"));
    assert_eq!(heard.statuses(), [200]);
    assert!(!heard.text.contains("bad"));
    assert_eq!(lab.finish_one("l9").outcome, Outcome::Ok);
}

#[test]
fn l10_answers_without_a_body_pass_and_none_is_invented() {
    let request = |method: &str| {
        format!("{method} /v1/x HTTP/1.1\r\nhost: h\r\nconnection: close\r\nx-understudy-tag-case: it\r\n\r\n")
            .into_bytes()
    };
    let cases: [(&'static [u8], &str, u16); 4] = [
        (
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "POST",
            200,
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "DELETE", 204),
        (b"HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n", "GET", 304),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n", "HEAD", 200),
    ];
    let lab = Lab::new("", move |seen| {
        let (answer, ..) = cases
            .iter()
            .find(|(_, method, _)| seen.head.start.starts_with(method))
            .expect("a case");
        vec![Step::Send(answer.to_vec())]
    });
    for (_, method, status) in cases {
        let heard = lab.hear(&request(method), all);
        assert_eq!(heard.statuses(), [status], "{method}: 103 is dropped, the rest passes");
        assert!(heard.text.ends_with("\r\n\r\n") && heard.closed, "{method}: {heard:?}");
        assert_eq!(method == "HEAD", heard.text.contains("content-length: 50"), "{heard:?}");
    }
    assert_eq!(lab.seen().len(), cases.len());
    let rows = lab.finish("l10");
    for (_, method, status) in cases {
        let row = rows
            .iter()
            .find(|row| row.method.as_deref() == Some(method))
            .expect("a row for each call");
        assert_eq!(
            (row.outcome, row.status),
            (Outcome::Ok, Some(i32::from(status))),
            "{method}"
        );
    }
}

#[test]
fn l11_declared_trailers_reach_a_client_that_takes_them() {
    let lab = answers(
        b"HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n",
    );
    let takes = b"POST /v1/x HTTP/1.1\r\nhost: h\r\nte: trailers\r\nconnection: te\r\nx-understudy-tag-case: it\r\ncontent-length: 2\r\n\r\n{}";
    let heard = lab.hear(takes, |text| text.contains("\r\n0\r\n") && text.ends_with("\r\n\r\n"));
    assert!(heard.text.ends_with("2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n"), "{heard:?}");
    assert_eq!(
        lab.seen()[0].head.header("te"),
        Some("trailers"),
        "the upstream is told"
    );
    assert_eq!(lab.finish_one("l11").outcome, Outcome::Ok);
}

#[test]
fn l12_an_answer_that_ends_with_its_connection_gets_a_framing_of_its_own() {
    let lab = Lab::new("", |_| {
        vec![
            Step::Send(b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nhello".to_vec()),
            Step::Close,
        ]
    });
    let heard = lab.hear(&post("it"), |text| text.ends_with("\r\n0\r\n\r\n"));
    assert!(
        heard.text.starts_with("HTTP/1.1 200") && heard.text.contains("5\r\nhello\r\n0\r\n\r\n"),
        "{heard:?}"
    );
    assert_eq!(lab.finish_one("l12").outcome, Outcome::Ok);
}

#[test]
fn l13_a_long_head_passes_and_one_without_end_is_a_502() {
    for (length, status, outcome) in [(60 << 10, 200, Outcome::Ok), (1 << 20, 502, Outcome::UpstreamProtocol)] {
        let head = format!(
            "HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 2\r\n\r\nok",
            "a".repeat(length)
        );
        let lab = Lab::new("", move |_| vec![Step::Send(head.clone().into_bytes()), Step::Close]);
        let heard = lab.hear(&post("it"), |text| text.ends_with("\r\n\r\nok") || text.ends_with('}'));
        assert_eq!(heard.statuses(), [status], "a head of {length} bytes");
        assert_eq!(heard.text.len() > length, status == 200);
        assert_eq!(lab.finish_one("l13").outcome, outcome);
    }
}

#[test]
fn l14_a_redirect_is_passed_on_and_never_followed() {
    let lab = answers(
        b"HTTP/1.1 308 Permanent Redirect\r\nlocation: http://169.254.169.254/latest\r\ncontent-length: 0\r\n\r\n",
    );
    let heard = lab.hear(&post("it"), |text| text.ends_with("\r\n\r\n"));
    assert_eq!(heard.statuses(), [308]);
    assert!(heard.text.contains("location: http://169.254.169.254/latest\r\n"));
    let row = lab.finish_one("l14");
    assert_eq!((row.outcome, row.status), (Outcome::Ok, Some(308)));
}

/// Ten events of a stream, some time apart, and its end.
fn ten_events() -> Vec<Step> {
    let events = (0..10).flat_map(|number| {
        let event = chunk(format!("data: {number}\n\n").as_bytes());
        [Step::Pause(Duration::from_millis(15)), Step::Send(event)]
    });
    std::iter::once(stream_head())
        .chain(events)
        .chain([Step::Send(LAST_CHUNK.to_vec())])
        .collect()
}

#[test]
fn l16_a_client_that_has_closed_its_sending_side_is_served() {
    let slow = || {
        let mut steps = vec![Step::Pause(Duration::from_millis(100))];
        steps.extend(well());
        steps
    };
    // At once, before a slow answer's head, and in the middle of a stream.
    for (case, then) in [("at once", 0), ("slow", 0), ("within", 3)] {
        let lab = Lab::new("", move |_| if case == "slow" { slow() } else { ten_events() });
        let mut stream = lab.dial(&post("it"));
        let mut text = String::new();
        if then > 0 {
            text = Heard::from(&mut stream, |text| text.matches("data:").count() >= then).text;
        }
        half_close(&stream);
        let heard = Heard::from(&mut stream, all);
        text.push_str(&heard.text);
        assert!(text.starts_with("HTTP/1.1 200 "), "{case}: {text}");
        if case == "slow" {
            assert!(text.ends_with(WELL), "{case}: {text}");
        } else {
            assert_eq!(text.matches("data:").count(), 10, "{case}: {text}");
            assert!(text.ends_with("0\r\n\r\n"), "{case}: {text}");
        }
        assert!(heard.closed, "{case}: the connection ends with its last answer");
        assert_eq!(lab.finish_one("l16").outcome, Outcome::Ok, "{case}");
    }
}

#[test]
fn l4_a_client_that_is_gone_cancels_a_silent_upstream() {
    let half = || vec![stream_head(), Step::Send(chunk(b"data: half\n\n")), Step::Hang];
    let sized = || {
        let head = head(200, &[("content-length", "100")]);
        vec![Step::Send([&head[..], b"half"].concat()), Step::Hang]
    };
    let lab = Lab::new("", move |seen| {
        match seen.head.header("x-understudy-tag-case").or(seen.head.header("x-case")) {
            Some("stream") => half(),
            Some("sized") => sized(),
            _ => vec![Step::Hang],
        }
    });
    let mut calls = 0;
    for case in ["silent", "stream", "sized"] {
        for by_reset in [false, true] {
            let request = format!("POST /v1/x HTTP/1.1\r\nhost: h\r\nx-case: {case}\r\ncontent-length: 2\r\n\r\n{{}}");
            let mut stream = lab.dial(request.as_bytes());
            calls += 1;
            if case == "silent" {
                eventually("the request has come", || lab.seen().len() == calls);
            } else {
                Heard::from(&mut stream, |text| text.contains("half"));
            }
            let before = lab.upstream.closed().len();
            let then = Instant::now();
            leave(stream, by_reset);
            let took = cancelled(&lab, before, then);
            assert!(took < SOON, "{case}, reset {by_reset}: cancelled after {took:?}");
        }
    }
    let rows = lab.finish("l4");
    assert_eq!(rows.len(), calls);
    assert!(rows.iter().all(|row| row.outcome == Outcome::ClientClosed));
}

#[test]
fn l4_a_half_closed_client_that_then_goes_is_seen_too() {
    let tick = chunk(b"data: x\n\n");
    let lab = Lab::new("", move |_| {
        vec![stream_head(), Step::Repeat(tick.clone(), Duration::from_millis(10))]
    });
    let mut stream = lab.dial(&post("it"));
    half_close(&stream);
    Heard::from(&mut stream, |text| text.matches("data:").count() >= 5);
    let then = Instant::now();
    drop(stream);
    let took = cancelled(&lab, 0, then);
    assert!(took < SOON, "cancelled after {took:?}");
    assert_eq!(lab.finish_one("l4").outcome, Outcome::ClientClosed);
}

#[test]
fn l18_a_client_that_reads_nothing_blocks_its_upstream_and_costs_no_memory() {
    const STREAMS: usize = 8;
    let piece = chunk(&[b"data: ".as_slice(), &[b'x'; 16 << 10], b"\n\n"].concat());
    let lab = Lab::new("capture: { bodies: none }\n", move |_| {
        // Much more than kernels buffer.
        let pieces = std::iter::repeat_n(Step::Send(piece.clone()), (64 << 20) / piece.len());
        std::iter::once(stream_head()).chain(pieces).collect()
    });
    lab.assert_serves("the start");
    let before = lab.program.peak_memory();
    let streams: Vec<_> = (0..STREAMS).map(|_| lab.dial(&post("it"))).collect();
    let passed = || lab.program.scrape().sum("understudy_response_bytes_total", &[]);
    eventually("all streams are open", || lab.seen().len() == STREAMS);
    // Blocked once no more comes.
    let mut last = (passed(), Instant::now());
    eventually("the upstream is blocked", || {
        if passed() != last.0 {
            last = (passed(), Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(300)
    });
    let grown = lab.program.peak_memory() - before;
    assert!(
        grown < (STREAMS as u64) << 20,
        "{STREAMS} streams that nobody reads took {} KiB",
        grown >> 10
    );
    drop(streams);
    let rows = lab.finish("l18");
    assert_eq!(rows.len(), STREAMS);
    assert!(rows.iter().all(|row| row.outcome == Outcome::ClientClosed));
}

#[test]
fn l22_an_early_answer_reaches_a_client_that_is_still_uploading() {
    // The harness's upstream reads whole bodies: this one answers after the head.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let upstream = listener.local_addr().expect("a bound socket");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head);
                let _ =
                    stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig");
                std::thread::sleep(Duration::from_millis(50));
            });
        }
    });
    let home = understudy_tests::program::Home::new();
    let program = home.serve_upstream(&format!("http://{upstream}"));
    for length in [20 << 20, 1_000_000] {
        let mut stream = std::net::TcpStream::connect(program.listen).expect("the program listens");
        stream
            .set_read_timeout(Some(understudy_tests::PATIENCE))
            .expect("a socket");
        let head = format!("POST /v1/files HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\nabc");
        stream.write_all(head.as_bytes()).expect("the program reads");
        if length > 1_000_000 {
            // A client that does not look up before it has sent all.
            let _ = stream.write_all(&vec![b'x'; length - 3]);
        }
        let heard = Heard::from(&mut stream, |text| text.ends_with("big"));
        assert_eq!(heard.statuses(), [413], "{length}: {heard:?}");
        assert!(heard.text.ends_with("big"), "{length}: {heard:?}");
    }
    assert_eq!(program.scrape_at_rest().unaccounted(), 0.0);
    program.terminate();
    let rows = home.rows();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row.status == Some(413)));
}

#[test]
fn l10_calls_after_calls_on_one_connection_are_told_apart() {
    let lab = Lab::new("", |_| well());
    let mut stream = lab.dial(b"");
    for number in 0..20 {
        stream
            .write_all(&post(&format!("call-{number}")))
            .expect("an open connection");
        let heard = Heard::from(&mut stream, one_good);
        assert_eq!(heard.statuses(), [200], "call {number}");
    }
    half_close(&stream);
    assert!(
        Heard::from(&mut stream, all).closed,
        "a client that has no more to say is let go"
    );
    assert_eq!(lab.finish("keep-alive").len(), 20);
}
