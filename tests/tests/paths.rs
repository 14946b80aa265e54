//! Upstreams whose paths and hosts are part of the call: Azure, Vertex, Gemini, Bedrock. Every byte of a path travels, the
//! host is the upstream's own, and where AWS wants a signature it gets one.

use understudy_tests::contains;
use understudy_tests::http::Request;
use understudy_tests::program::{Home, Program};
use understudy_tests::upstream::{Seen, Upstream, json};

const ACCESS_KEY: &str = "AKIDEXAMPLE";
const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn well() -> Upstream {
    Upstream::start(|_| json(200, &serde_json::json!({"ok": true})))
}

#[test]
fn path_query_and_host_of_every_cloud_reach_it_byte_for_byte() {
    let upstream = well();
    let home = Home::new();
    let program = home.serve_config(&format!(
        "default_upstream: cloud\nupstreams: {{ cloud: {{ url: {url} }}, based: {{ url: '{url}/openai/v1/' }} }}\n",
        url = upstream.url()
    ));
    let paths = [
        "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
        "//openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21&x=%20+a",
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse&key=k",
        "/v1/projects/p/locations/us-central1/publishers/google/models/gemini-2.5-pro:generateContent",
        "/v1/projects/p/locations/l/publishers/anthropic/models/claude-sonnet-4@20250514:streamRawPredict",
        "/model/us.amazon.nova-lite-v1%3A0/converse-stream",
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fa.b/invoke",
        "/model/a.b-v1:0/converse",
        "/v1/../%2e%2E/x;p=1//y?a=%2F&&b=#none",
    ];
    for path in paths {
        let answer = Request::post(path, "{}").send(program.listen);
        assert_eq!(answer.status(), 200, "{path}");
        let seen = upstream.requests().pop().expect("a request");
        let sent = path.split('#').next().unwrap_or_default();
        assert_eq!(seen.head.path(), sent);
        assert_eq!(
            seen.head.header("host"),
            upstream.url().strip_prefix("http://"),
            "{path}"
        );
    }
    assert_eq!(
        Request::post("/based/chat/completions?a=%3A", "{}")
            .send(program.listen)
            .status(),
        200
    );
    let seen = upstream.requests().pop().expect("a request");
    assert_eq!(seen.head.path(), "/openai/v1/chat/completions?a=%3A");
}

fn signing(home: &Home, upstream: &Upstream) -> Program {
    home.write_config(&format!(
        "limits: {{ max_routed_body: 10KiB }}\n\
         upstreams: {{ bedrock: {{ url: {}, sign: aws, aws: {{ region: us-west-2, service: bedrock }} }} }}\n",
        upstream.url()
    ));
    let variables = [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("AWS_SESSION_TOKEN", "session-token"),
    ];
    home.serve(&["--config", "understudy.yaml"], &variables)
}

fn converse(body: &str) -> Request {
    Request::post("/model/us.amazon.nova-lite-v1%3A0/converse", body)
}

fn header<'a>(seen: &'a Seen, name: &str) -> &'a str {
    seen.head.header(name).unwrap_or_default()
}

#[test]
fn calls_to_aws_are_signed_anew_and_the_clients_signature_goes_nowhere() {
    let upstream = well();
    let home = Home::new();
    let program = signing(&home, &upstream);
    let answer = converse(r#"{"messages":[]}"#)
        .header("authorization", "AWS4-HMAC-SHA256 Credential=CLIENTS/20260101/eu-west-1/bedrock/aws4_request, SignedHeaders=host, Signature=00")
        .header("x-amz-date", "20260101T000000Z")
        .header("x-amz-security-token", "CLIENTS-token")
        .header("x-amz-content-sha256", "CLIENTS-digest")
        .header("x-amzn-bedrock-trace", "ENABLED")
        .send(program.listen);
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let seen = upstream.requests().pop().expect("a request");
    assert!(
        !contains(&seen.bytes(), "CLIENTS"),
        "{}",
        String::from_utf8_lossy(&seen.head.raw)
    );
    assert_eq!(seen.body, br#"{"messages":[]}"#);
    assert_eq!(seen.head.path(), "/model/us.amazon.nova-lite-v1%3A0/converse");
    assert_eq!(header(&seen, "x-amz-security-token"), "session-token");
    assert_eq!(header(&seen, "x-amzn-bedrock-trace"), "ENABLED");
    let date = header(&seen, "x-amz-date").to_owned();
    assert!(
        date.len() == 16 && date.ends_with('Z') && date.as_str() > "20260101T000001Z",
        "{date}"
    );
    let authorization = header(&seen, "authorization");
    let scope = format!(
        "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{}/us-west-2/bedrock/aws4_request, ",
        &date[..8]
    );
    assert!(authorization.starts_with(&scope), "{authorization}");
    assert!(authorization.contains("SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature="));
    let text = String::from_utf8_lossy(&seen.head.raw).into_owned();
    assert!(!text.contains(SECRET_KEY), "the secret key travels");
}

#[test]
fn a_bearer_token_passes_as_it_is() {
    let upstream = well();
    let home = Home::new();
    let program = signing(&home, &upstream);
    let answer = converse("{}")
        .header("authorization", "Bearer bedrock-api-key")
        .send(program.listen);
    assert_eq!(answer.status(), 200);
    let seen = upstream.requests().pop().expect("a request");
    assert_eq!(header(&seen, "authorization"), "Bearer bedrock-api-key");
    assert!(seen.head.header("x-amz-date").is_none() && seen.head.header("x-amz-security-token").is_none());
}

#[test]
fn a_body_that_is_too_long_to_be_signed_is_refused_and_not_sent() {
    let upstream = well();
    let home = Home::new();
    let program = signing(&home, &upstream);
    let long = converse(&"x".repeat(11 << 10))
        .header("x-understudy-tag-case", "long")
        .send(program.listen);
    assert_eq!(long.status(), 413, "{}", long.text());
    assert!(long.text().contains("max_routed_body"), "{}", long.text());
    assert!(
        long.json()["message"].is_string(),
        "not the shape of AWS's errors: {}",
        long.text()
    );
    assert_eq!(long.head.header("x-should-retry"), Some("false"));
    assert_eq!(upstream.count(), 0, "requests at the upstream");
    assert_eq!(converse("{}").send(program.listen).status(), 200, "the next good call");
    program.terminate();
    assert_eq!(home.row("long").outcome, understudy_call::record::Outcome::Refused);
}

#[test]
fn without_credentials_in_the_environment_it_does_not_start_and_says_why() {
    let home = Home::new();
    home.write_config("upstreams: { b: { url: 'https://bedrock-runtime.us-east-1.amazonaws.com', sign: aws } }\n");
    assert!(home.run(&["check", "understudy.yaml"]).status.success());
    let output = home.run(&["serve", "--config", "understudy.yaml", "--listen", "127.0.0.1:0"]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && words.contains("AWS_ACCESS_KEY_ID"),
        "{words}"
    );
}
