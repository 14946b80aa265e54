//! Bodies that are not parsed: forms with files and speech pass through unread, and their row has model and sizes.

use understudy_tests::Dice;
use understudy_tests::http::Request;
use understudy_tests::program::Home;
use understudy_tests::upstream::{Step, Upstream, head, json};

const FORM: &str = "multipart/form-data; boundary=----limit-7f3a";

/// A file of random bytes, with fields before and after it.
fn form(model_first: bool) -> Vec<u8> {
    let mut dice = Dice::new(7);
    let audio: Vec<u8> = (0..300_000).map(|_| dice.roll(256) as u8).collect();
    let field = |name: &str, value: &str| {
        format!("------limit-7f3a\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").into_bytes()
    };
    let file = [
        b"------limit-7f3a\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n",
        audio.as_slice(),
        b"\r\n",
    ]
    .concat();
    let model = field("model", "whisper-1");
    let parts = if model_first { [model, file] } else { [file, model] };
    [
        parts.concat(),
        field("language", "en"),
        b"------limit-7f3a--\r\n".to_vec(),
    ]
    .concat()
}

#[test]
fn a_form_passes_byte_for_byte_and_its_row_has_model_and_sizes() {
    let upstream = Upstream::start(|_| json(200, &serde_json::json!({"text": "hello"})));
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    for (case, path, model_first) in [
        ("first", "/v1/audio/transcriptions", true),
        ("last", "/v1/audio/transcriptions", false),
        ("edits", "/v1/images/edits", false),
    ] {
        let body = form(model_first);
        let answer = Request::new("POST", path)
            .header("content-type", FORM)
            .header("x-understudy-tag-case", case)
            .body(body.clone())
            .send(program.listen);
        assert_eq!(answer.text(), r#"{"text":"hello"}"#, "{case}");
        let seen = upstream.requests().pop().expect("a request");
        assert!(
            seen.body == body && seen.complete,
            "{case}: the upstream got other bytes"
        );
        assert_eq!(seen.head.header("content-type"), Some(FORM));
    }
    program.terminate();
    for case in ["first", "last", "edits"] {
        let row = home.row(case);
        assert_eq!(row.api, "other", "{case}");
        assert_eq!(row.request_model.as_deref(), Some("whisper-1"), "{case}");
        assert_eq!(row.request_bytes, Some(form(true).len() as i64), "{case}");
        assert_eq!(row.response_bytes, Some(16), "{case}");
        assert!(
            row.request_body.is_none() && row.response_body.is_none(),
            "{case}: a body was kept"
        );
    }
}

#[test]
fn speech_and_images_pass_and_their_rows_have_the_model() {
    let audio = [0xff, 0xfb, 0x90, 0x00].repeat(1000);
    let answered = audio.clone();
    let upstream = Upstream::start(move |_| {
        let length = answered.len().to_string();
        let head = head(200, &[("content-type", "audio/mpeg"), ("content-length", &length)]);
        vec![Step::Send([&head[..], &answered].concat())]
    });
    let home = Home::new();
    let program = home.serve_upstream(&upstream.url());
    for (path, model) in [("/v1/audio/speech", "tts-1"), ("/v1/images/generations", "gpt-image-1")] {
        let body = format!(r#"{{"input":"say \"model\":\"no\"","model":"{model}","voice":"alloy"}}"#);
        let answer = Request::post(path, body)
            .header("x-understudy-tag-case", model)
            .send(program.listen);
        assert!(answer.body == audio, "{path}: other bytes came back");
    }
    program.terminate();
    for model in ["tts-1", "gpt-image-1"] {
        let row = home.row(model);
        assert_eq!(row.request_model.as_deref(), Some(model));
        assert_eq!((row.api.as_str(), row.response_bytes), ("other", Some(4000)));
    }
}
