//! F: requests whose framing is wrong, ambiguous or unusual.

use super::{Heard, Lab, WELL, all, well};
use std::io::Write;
use understudy_call::record::Outcome;
use understudy_tests::eventually;
use understudy_tests::upstream::{Seen, Step};

/// What is to become of a case.
enum Then {
    /// One of these statuses, the connection closed, nothing at the upstream, no call, one refusal counted.
    Refused(&'static [u16]),
    /// A call that is refused within its body: this status, the connection closed, nothing whole at the upstream.
    BrokenOff(u16),
    /// So many good answers of as many calls.
    Answered(usize),
}
use Then::{Answered, BrokenOff, Refused};

/// What the upstream's requests must be.
type Check = fn(&[Seen]) -> bool;

struct Case(&'static str, Vec<u8>, Then, Check);

fn anything(_: &[Seen]) -> bool {
    true
}

/// A POST with these headers and this body, whatever they are.
fn post(case: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("POST /v1/x HTTP/1.1\r\nhost: h\r\nx-understudy-tag-case: {case}\r\n{headers}\r\n{body}").into_bytes()
}

fn check(cases: Vec<Case>) {
    let lab = Lab::new("", |_| well());
    let mut faults = Vec::new();
    for Case(name, bytes, then, is_right) in &cases {
        let (before, seen_before) = (lab.program.scrape_at_rest(), lab.seen().len());
        let enough = |text: &str| matches!(then, Answered(count) if text.matches(WELL).count() == *count);
        let heard = lab.hear(bytes, enough);
        if matches!(then, Refused(_)) {
            // Counted when the connection has ended, on both sides.
            eventually("a refusal is counted", || {
                let metrics = lab.program.scrape();
                metrics.sum("understudy_rejected_total", &[]) > before.sum("understudy_rejected_total", &[])
            });
        }
        let after = lab.program.scrape_at_rest();
        let more = |metric: &str| after.sum(metric, &[]) - before.sum(metric, &[]);
        let seen = lab.seen().split_off(seen_before);
        let whole = seen.iter().filter(|seen| seen.complete).count();
        let (calls, rejected) = (more("understudy_calls_total"), more("understudy_rejected_total"));
        let statuses = heard.statuses();
        let good = match then {
            Refused(expected) => {
                matches!(statuses[..], [status] if expected.contains(&status))
                    && heard.closed
                    && (seen.len(), calls, rejected) == (0, 0.0, 1.0)
            }
            BrokenOff(expected) => statuses == [*expected] && heard.closed && (whole, calls, rejected) == (0, 1.0, 0.0),
            Answered(count) => {
                statuses == vec![200; *count]
                    && seen.len() == *count
                    && (whole, calls, rejected) == (*count, *count as f64, 0.0)
            }
        };
        if !good || !is_right(&seen) {
            faults.push(format!(
                "{name}: heard {heard:?}; upstream {seen:?}; calls {calls}, rejected {rejected}"
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let rows = lab.finish("framing");
    for Case(name, _, then, _) in &cases {
        let of_case: Vec<Outcome> = rows
            .iter()
            .filter(|row| row.tags.get("case").is_some_and(|tag| tag == name))
            .map(|row| row.outcome)
            .collect();
        let expected = match then {
            Refused(_) => vec![],
            BrokenOff(_) => vec![Outcome::Refused],
            Answered(count) => vec![Outcome::Ok; *count],
        };
        assert_eq!(of_case, expected, "{name}: outcomes of its rows");
    }
}

#[test]
fn lengths_and_codings_that_can_be_read_two_ways_are_refused() {
    let chunks = "2\r\n{}\r\n0\r\n\r\n";
    let coding =
        |name: &'static str, headers: &str, then: Then| Case(name, post(name, headers, chunks), then, anything);
    let length = |name: &'static str, headers: &str, then: Then| Case(name, post(name, headers, "{}"), then, anything);
    const BAD: &[u16] = &[400, 501];
    let long = format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", chunks.len());
    let short = "transfer-encoding: chunked\r\nx: y\r\nContent-Length: 4\r\n";
    check(vec![
        coding("f1_length_and_chunks", &long, Refused(BAD)),
        coding("f2_chunks_and_length", short, Refused(BAD)),
        length(
            "f3_two_lengths",
            "content-length: 2\r\ncontent-length: 3\r\n",
            Refused(BAD),
        ),
        Case(
            "f4_a_length_twice",
            post("f4_a_length_twice", "content-length: 2\r\ncontent-length: 2\r\n", "{}"),
            Answered(1),
            |seen| {
                seen[0]
                    .head
                    .headers
                    .iter()
                    .filter(|(name, _)| name == "content-length")
                    .count()
                    == 1
            },
        ),
        length("f4_a_list_of_lengths", "content-length: 2, 2\r\n", Refused(BAD)),
        length("f5_plus", "content-length: +2\r\n", Refused(BAD)),
        length("f6_minus", "content-length: -1\r\n", Refused(BAD)),
        length("f7_hex", "content-length: 0x2\r\n", Refused(BAD)),
        length("f8_empty", "content-length: \r\n", Refused(BAD)),
        length("f9_overflow", "content-length: 18446744073709551618\r\n", Refused(BAD)),
        length("f10_space_before_the_colon", "content-length : 2\r\n", Refused(BAD)),
        coding(
            "f10_space_before_the_colon_of_a_coding",
            "transfer-encoding : chunked\r\n",
            Refused(BAD),
        ),
        coding("f11_xchunked", "transfer-encoding: xchunked\r\n", Refused(BAD)),
        coding(
            "f12_chunked_identity",
            "transfer-encoding: chunked, identity\r\n",
            Refused(BAD),
        ),
        coding(
            "f13_identity_chunked",
            "transfer-encoding: identity, chunked\r\n",
            Refused(BAD),
        ),
        coding("f14_gzip_chunked", "transfer-encoding: gzip, chunked\r\n", Refused(BAD)),
        coding(
            "f15_two_lines",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            Refused(BAD),
        ),
        coding(
            "f15_two_lines_identity",
            "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
            Refused(BAD),
        ),
        coding(
            "f16_chunked_chunked",
            "transfer-encoding: chunked, chunked\r\n",
            Refused(BAD),
        ),
        coding("f17_vertical_tab", "transfer-encoding: \x0bchunked\r\n", Refused(BAD)),
        Case(
            "f18_case",
            post("f18_case", "transfer-encoding: CHUNKED\r\n", chunks),
            Answered(1),
            |seen| seen[0].head.header("transfer-encoding") == Some("chunked") && seen[0].body == b"{}",
        ),
        coding("f18_tab", "transfer-encoding:\tchunked\r\n", Answered(1)),
        coding("f19_folded", "transfer-encoding:\r\n chunked\r\n", Refused(BAD)),
        Case(
            "f20_http_1_0_chunked",
            format!("POST /v1/x HTTP/1.0\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n{chunks}").into_bytes(),
            Refused(BAD),
            anything,
        ),
        Case(
            "f21_http_1_0",
            b"POST /v1/x HTTP/1.0\r\nx-understudy-tag-case: f21_http_1_0\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
            Answered(1),
            |seen| seen[0].head.header("content-length") == Some("2"),
        ),
    ]);
}

#[test]
fn heads_that_are_none_are_refused() {
    let head = |name: &'static str, headers: &str, then: Then| {
        let headers = format!("{headers}content-length: 2\r\n");
        Case(name, post(name, &headers, "{}"), then, anything)
    };
    let line = |name: &'static str, line: &str, then: Then, is_right: Check| {
        let bytes = format!("{line}\r\nhost: h\r\nx-understudy-tag-case: {name}\r\n\r\n").into_bytes();
        Case(name, bytes, then, is_right)
    };
    check(vec![
        Case(
            "f22_bare_line_feeds",
            b"POST /v1/x HTTP/1.1\nhost: h\nx-understudy-tag-case: f22_bare_line_feeds\ncontent-length: 2\n\n{}"
                .to_vec(),
            Answered(1),
            |seen| {
                !seen[0]
                    .head
                    .raw
                    .windows(2)
                    .any(|pair| pair[1] == b'\n' && pair[0] != b'\r')
            },
        ),
        head("f23_bare_cr", "x: a\rb\r\n", Refused(&[400])),
        head("f24_nul", "x: a\0b\r\n", Refused(&[400])),
        head("f25_space_in_a_name", "x y: a\r\n", Refused(&[400])),
        head("f26_no_name", ": a\r\n", Refused(&[400])),
        head("f27_no_colon", "xy\r\n", Refused(&[400])),
        Case(
            "f28_space_first",
            b"POST /v1/x HTTP/1.1\r\n x: 1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
            Refused(&[400]),
            anything,
        ),
        Case(
            "f29_no_host",
            b"GET /v1/x HTTP/1.1\r\n\r\n".to_vec(),
            Refused(&[400]),
            anything,
        ),
        head("f30_two_hosts", "host: h\r\n", Refused(&[400])),
        line(
            "f31_another_host_in_the_target",
            "GET http://evil.example/v1/x?q HTTP/1.1",
            Answered(1),
            |seen| seen[0].head.path() == "/v1/x?q" && seen[0].head.header("host") != Some("evil.example"),
        ),
        Case(
            "f32_a_bad_host",
            b"GET /v1/x HTTP/1.1\r\nhost: a b/c\r\n\r\n".to_vec(),
            Refused(&[400]),
            anything,
        ),
        Case(
            "f32_a_user",
            b"GET /v1/x HTTP/1.1\r\nhost: u@h\r\n\r\n".to_vec(),
            Refused(&[400]),
            anything,
        ),
        Case(
            "f32_an_empty_host",
            b"GET /v1/x HTTP/1.1\r\nhost:\r\n\r\n".to_vec(),
            Refused(&[400]),
            anything,
        ),
        line("f43_nul_in_the_target", "GET /a\0b HTTP/1.1", Refused(&[400]), anything),
        line(
            "f43_space_in_the_target",
            "GET /a b HTTP/1.1",
            Refused(&[400]),
            anything,
        ),
        line(
            "f43_a_target_without_a_slash",
            "GET word HTTP/1.1",
            Refused(&[400]),
            anything,
        ),
        line("f44_dots", "GET /v1/../%2e%2e%2fx%00 HTTP/1.1", Answered(1), |seen| {
            seen[0].head.path() == "/v1/../%2e%2e%2fx%00"
        }),
        line("f45_slashes", "GET //v1//x HTTP/1.1", Answered(1), |seen| {
            seen[0].head.path() == "//v1//x"
        }),
        line(
            "f45_odd_characters",
            "GET /{a}|\\^[b]'?q={%} HTTP/1.1",
            Answered(1),
            |seen| seen[0].head.path() == "/{a}|\\^[b]'?q={%}",
        ),
        line(
            "f45_characters_that_no_uri_has",
            "GET /<a>`?q=\"b\" HTTP/1.1",
            Answered(1),
            |seen| seen[0].head.path() == "/%3Ca%3E%60?q=%22b%22",
        ),
        line("f49_http_1_2", "GET /v1/x HTTP/1.2", Refused(&[400, 505]), anything),
        line("f49_http_0_9", "GET /v1/x", Refused(&[400]), anything),
        Case(
            "f49_tls_on_a_plain_port",
            vec![0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3],
            Refused(&[400]),
            anything,
        ),
        line("f50_connect", "CONNECT h:443 HTTP/1.1", Refused(&[405]), anything),
        line("f51_trace", "TRACE /v1/x HTTP/1.1", Refused(&[405]), anything),
        line("f52_lower_case", "get /v1/x HTTP/1.1", Answered(1), |seen| {
            seen[0].head.start.starts_with("get ")
        }),
        Case(
            "f56_underscore",
            post("f56_underscore", "content_length: 50\r\ncontent-length: 2\r\n", "{}"),
            Answered(1),
            |seen| seen[0].head.header("content_length") == Some("50") && seen[0].body == b"{}",
        ),
    ]);
}

#[test]
fn chunks_that_are_none_are_refused_and_never_completed_upstream() {
    let chunked = |name: &'static str, body: &str, then: Then, is_right: Check| {
        Case(name, post(name, "transfer-encoding: chunked\r\n", body), then, is_right)
    };
    let long = format!("2;a={}\r\n{{}}\r\n0\r\n\r\n", "b".repeat(1 << 20));
    check(vec![
        chunked(
            "f33_overflow",
            "ffffffffffffffff2\r\n{}\r\n0\r\n\r\n",
            BrokenOff(400),
            anything,
        ),
        chunked("f34_hex", "0x2\r\n{}\r\n0\r\n\r\n", BrokenOff(400), anything),
        chunked("f35_plus", "+2\r\n{}\r\n0\r\n\r\n", BrokenOff(400), anything),
        chunked("f36_extensions", "2;a=b\r\n{}\r\n0;z\r\n\r\n", Answered(1), |seen| {
            seen[0].body == b"{}"
        }),
        chunked("f36_an_extension_of_1_mib", &long, BrokenOff(400), anything),
        chunked(
            "f37_line_feed_in_an_extension",
            "2;a\nb\r\n{}\r\n0\r\n\r\n",
            BrokenOff(400),
            anything,
        ),
        chunked(
            "f37_data_that_goes_on",
            "2\r\n{}X\r\n0\r\n\r\n",
            BrokenOff(400),
            anything,
        ),
        chunked("f38_bare_line_feeds", "2\n{}\n0\n\n", BrokenOff(400), anything),
    ]);
}

#[test]
fn f39_trailers_are_passed_or_dropped_and_never_become_headers() {
    let chunks = |trailer: &str| format!("2\r\n{{}}\r\n0\r\n{trailer}\r\n\r\n");
    let case = |name: &'static str, headers: &str, trailer: &str| {
        let headers = format!("{headers}transfer-encoding: chunked\r\n");
        Case(name, post(name, &headers, &chunks(trailer)), Answered(1), |seen| {
            seen[0].body == b"{}"
                && seen[0].head.header("x-sum").is_none()
                && seen[0].head.header("content-length").is_none()
        })
    };
    check(vec![
        case("f39_declared", "trailer: x-sum\r\n", "x-sum: 1"),
        case("f39_undeclared", "", "x-sum: 1"),
        case("f39_length", "trailer: content-length\r\n", "content-length: 99"),
    ]);
}

#[test]
fn connections_carry_calls_one_by_one_and_headers_of_a_hop_end_there() {
    let pair = |name: &'static str, first: &str| {
        let second = format!("GET /v1/second HTTP/1.1\r\nhost: h\r\nx-understudy-tag-case: {name}\r\n\r\n");
        [first.replace("CASE", name), second].concat().into_bytes()
    };
    let get = "GET /v1/x HTTP/1.1\r\nhost: h\r\nx-understudy-tag-case: CASE\r\n";
    let hop = "connection: content-length, authorization, x-api-key, api-key, x-goog-api-key, cookie, x-hop\r\n\
               authorization: Bearer k\r\nx-api-key: a\r\napi-key: b\r\nx-goog-api-key: c\r\ncookie: d\r\nx-hop: 1\r\n\
               content-length: 2\r\n";
    check(vec![
        Case(
            "f40_two_at_once",
            pair(
                "f40_two_at_once",
                "POST /v1/x HTTP/1.1\r\nhost: h\r\nx-understudy-tag-case: CASE\r\ncontent-length: 2\r\n\r\n{}",
            ),
            Answered(2),
            |seen| seen[0].head.path() == "/v1/x" && seen[1].head.path() == "/v1/second",
        ),
        Case(
            "f41_hop_by_hop",
            post("f41_hop_by_hop", hop, "{}"),
            Answered(1),
            |seen| {
                let has = |name: &str| seen[0].head.header(name).is_some();
                let kept = [
                    "content-length",
                    "authorization",
                    "x-api-key",
                    "api-key",
                    "x-goog-api-key",
                    "cookie",
                ];
                kept.into_iter().all(has) && !has("x-hop") && seen[0].body == b"{}"
            },
        ),
        Case(
            "f46_upgrade_and_more",
            pair(
                "f46_upgrade_and_more",
                &format!("{get}upgrade: websocket\r\nconnection: upgrade\r\n\r\n"),
            ),
            Answered(2),
            |seen| seen[1].head.path() == "/v1/second",
        ),
        Case(
            "f47_h2c",
            pair(
                "f47_h2c",
                &format!(
                    "{get}upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n"
                ),
            ),
            Answered(2),
            |seen| {
                ["upgrade", "http2-settings", "connection"]
                    .iter()
                    .all(|name| seen[0].head.header(name).is_none())
            },
        ),
        Case(
            "f46_upgrade_with_a_body",
            pair(
                "f46_upgrade_with_a_body",
                &format!("{get}upgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 2\r\n\r\n{{}}"),
            ),
            Answered(2),
            |seen| {
                seen[0].body == b"{}" && seen[0].head.header("upgrade").is_none() && seen[1].head.path() == "/v1/second"
            },
        ),
        Case(
            "f48_get_with_chunks",
            pair(
                "f48_get_with_chunks",
                &format!("{get}transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"),
            ),
            Answered(2),
            |seen| {
                seen[0].body == b"{}"
                    && seen[0].head.header("transfer-encoding") == Some("chunked")
                    && seen[1].head.path() == "/v1/second"
            },
        ),
        Case(
            "f48_get_with_a_body",
            get.replace("CASE", "f48_get_with_a_body")
                .into_bytes()
                .into_iter()
                .chain(*b"content-length: 2\r\n\r\n{}")
                .collect(),
            Answered(1),
            |seen| seen[0].body == b"{}" && seen[0].head.start.starts_with("GET "),
        ),
        Case(
            "f54_expect_foo",
            post("f54_expect_foo", "expect: foo\r\ncontent-length: 2\r\n", "{}"),
            Answered(1),
            anything,
        ),
    ]);
}

#[test]
fn f53_a_client_that_waits_for_100_gets_it_and_then_its_answer() {
    let lab = Lab::new("", |_| well());
    let mut stream = lab.dial(&post("it", "expect: 100-continue\r\ncontent-length: 2\r\n", ""));
    let heard = Heard::from(&mut stream, |text| text.ends_with("\r\n\r\n"));
    assert_eq!(heard.statuses(), [100]);
    stream.write_all(b"{}").expect("an open connection");
    let heard = Heard::from(&mut stream, super::one_good);
    assert_eq!(heard.statuses(), [200]);
    drop(stream);
    assert_eq!(lab.seen()[0].body, b"{}");
    assert_eq!(lab.finish_one("f53").outcome, Outcome::Ok);
}

#[test]
fn f55_a_short_body_is_not_completed_whether_its_client_is_gone_or_listens() {
    for listens in [false, true] {
        let lab = Lab::new("", |_| well());
        let stream = lab.dial(&post("it", "content-length: 50\r\n", "{\"a\":"));
        if listens {
            super::half_close(&stream);
            let mut stream = stream;
            assert_ne!(
                Heard::from(&mut stream, all).statuses(),
                [200],
                "a short body was answered"
            );
        } else {
            drop(stream);
        }
        eventually("the call has ended", || {
            lab.program.scrape().sum("understudy_calls_ended_total", &[]) == 1.0
        });
        assert!(
            lab.seen().iter().all(|seen| !seen.complete),
            "the upstream got a whole request"
        );
        let rows = lab.finish("f55");
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].outcome, Outcome::ClientClosed);
    }
}

#[test]
fn f57_an_answer_with_control_bytes_in_a_header_is_a_502() {
    let bad = ["x: a\0b", "x: a\rb", "x y: z"];
    let lab = Lab::new("", move |seen| {
        let number: usize = seen
            .head
            .header("x-case")
            .and_then(|number| number.parse().ok())
            .expect("a number");
        let answer = format!("HTTP/1.1 200 OK\r\n{}\r\ncontent-length: 2\r\n\r\nok", bad[number]);
        vec![Step::Send(answer.into_bytes()), Step::Close]
    });
    for (number, bad) in bad.iter().enumerate() {
        let heard = lab.hear(&post("it", &format!("x-case: {number}\r\n"), ""), |text| {
            text.ends_with('}')
        });
        assert_eq!(heard.statuses(), [502], "{bad:?}");
    }
    let rows = lab.finish("f57");
    assert_eq!(rows.len(), bad.len());
    assert!(
        rows.iter().all(|row| row.outcome == Outcome::UpstreamProtocol),
        "{rows:?}"
    );
}

#[test]
fn f58_what_follows_an_early_answer_is_no_request() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n";
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n{smuggled}", 2000, "x".repeat(2000));
    let lab = Lab::new("limits: { max_body: 1KiB }\n", |_| well());
    let by_length = lab.hear(
        &post("length", "content-length: 900000\r\n", &smuggled.repeat(100)),
        all,
    );
    let by_chunks = lab.hear(&post("chunks", "transfer-encoding: chunked\r\n", &chunk), all);
    for heard in [by_length, by_chunks] {
        assert!(heard.statuses() == [413] && heard.closed, "{heard:?}");
    }
    assert!(
        lab.seen()
            .iter()
            .all(|seen| !seen.complete && seen.head.path() != "/smuggled")
    );
    let rows = lab.finish("f58");
    let outcomes: Vec<_> = rows
        .iter()
        .map(|row| (row.tags["case"].as_str(), row.outcome))
        .collect();
    assert_eq!(
        outcomes,
        [("chunks", Outcome::Refused)],
        "the first was refused before it was a call"
    );
}
