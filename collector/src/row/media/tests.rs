//! Unit tests of what is left out of bodies, and what stays.

use super::*;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};

const KEY: [u8; 32] = [4; 32];

fn key() -> Key {
    Key::new(KEY)
}

/// Bytes that look like no text, after a head that tells their type.
fn bytes(head: &[u8], length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let noise = std::iter::repeat_with(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    head.iter().copied().chain(noise).take(length).collect()
}

fn png(length: usize) -> String {
    STANDARD.encode(bytes(b"\x89PNG\r\n", length))
}

fn kept(body: &str) -> String {
    String::from_utf8(left_out(&key(), body.as_bytes()).into_owned()).unwrap()
}

fn marker_of(kind: &str, bytes: &[u8]) -> String {
    let digest = keyed_digest(&key(), [bytes]);
    format!("media:{kind};bytes={};digest={digest}", bytes.len())
}

#[test]
fn media_in_every_apis_shape_become_markers() {
    let image = bytes(b"\x89PNG\r\n", 9000);
    let data = STANDARD.encode(&image);
    let url = format!("data:image/webp;base64,{data}");
    let (plain, of_url) = (marker_of("image/png", &image), marker_of("image/webp", &image));
    for (body, path, marker) in [
        (
            json!({"content": [{"type": "image_url", "image_url": {"url": url, "detail": "low"}}]}),
            "/content/0/image_url/url",
            &of_url,
        ),
        (
            json!({"content": [{"type": "input_image", "image_url": url}]}),
            "/content/0/image_url",
            &of_url,
        ),
        (
            json!({"source": {"type": "base64", "media_type": "image/png", "data": data}}),
            "/source/data",
            &plain,
        ),
        (
            json!({"inlineData": {"mimeType": "image/png", "data": data}}),
            "/inlineData/data",
            &plain,
        ),
        (
            json!({"input_audio": {"data": data, "format": "wav"}}),
            "/input_audio/data",
            &plain,
        ),
        (
            json!({"file": {"filename": "a.png", "file_data": url}}),
            "/file/file_data",
            &of_url,
        ),
        (json!({"prompt": "what?", "images": [data, data]}), "/images/1", &plain),
        (
            json!({"image": {"format": "png", "source": {"bytes": data}}}),
            "/image/source/bytes",
            &plain,
        ),
        (json!({"data": [{"b64_json": data}]}), "/data/0/b64_json", &plain),
        (json!({"unheard_of": data}), "/unheard_of", &plain),
        (
            json!({"text": format!("see ![x]({url}) and")}),
            "/text",
            &format!("see ![x]({of_url}) and"),
        ),
    ] {
        let text = kept(&body.to_string());
        assert!(!text.contains(&data[10..200]), "{path}");
        let kept: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(kept.pointer(path), Some(&json!(marker)), "{path}");
        assert!(is_missing_in(&text));
    }
}

#[test]
fn vectors_in_base64_are_left_out_and_numbers_are_not() {
    let floats: Vec<u8> = (0..1536)
        .flat_map(|at| (at as f32 * 0.001).sin().to_le_bytes())
        .collect();
    let data = STANDARD.encode(&floats);
    let body = json!({"data": [{"embedding": data}], "usage": {"prompt_tokens": 3}});
    let expected =
        json!({"data": [{"embedding": marker_of("application/octet-stream", &floats)}], "usage": {"prompt_tokens": 3}});
    assert_eq!(kept(&body.to_string()), expected.to_string());
    let numbers = json!({"embedding": vec![0.123456789; 3000]}).to_string();
    assert_eq!(kept(&numbers), numbers);
}

#[test]
fn up_to_the_limit_it_stays_and_from_there_it_does_not() {
    for (length, stays) in [
        (3000, true),
        (LIMIT / 4 * 3, true),
        (LIMIT / 4 * 3 + 3, false),
        (100_000, false),
    ] {
        let body = format!("{{\"data\":\"{}\"}}", png(length));
        assert_eq!(kept(&body) == body, stays, "{length}");
        let padding = " ".repeat(LIMIT - 7);
        let moved = format!("{padding}{body}{padding}{body}");
        assert_eq!(
            kept(&moved),
            format!("{padding}{0}{padding}{0}", kept(&body)),
            "{length}"
        );
    }
}

#[test]
fn text_numbers_and_hexadecimal_stay_byte_for_byte() {
    for body in [
        json!({"content": "word ".repeat(4000)}).to_string(),
        json!({"content": "a".repeat(9000)}).to_string(),
        json!({"content": "ACGT".repeat(3000)}).to_string(),
        json!({"content": "0123456789abcdef".repeat(1000)}).to_string(),
        json!({"content": "-".repeat(9000)}).to_string(),
        json!({"content": "Apple1\nPear2\n".repeat(2000)}).to_string(),
        json!({"content": "C:\\Users\\Ann1\\".repeat(1000)}).to_string(),
        json!({"content": "日本語テキスト".repeat(2000)}).to_string(),
        "[1,2,3]".repeat(3000),
        String::new(),
    ] {
        assert_eq!(kept(&body), body);
        assert!(matches!(left_out(&key(), body.as_bytes()), Cow::Borrowed(_)));
    }
}

#[test]
fn what_a_provider_encrypted_for_itself_stays() {
    for key in ["signature", "thoughtSignature", "encrypted_content"] {
        let body = json!({ key: png(9000) }).to_string();
        assert_eq!(kept(&body), body);
    }
}

#[test]
fn silence_is_media_where_an_api_puts_media() {
    let silence = STANDARD.encode(vec![0; 9000]);
    let body = json!({"input_audio": {"data": silence}}).to_string();
    assert!(kept(&body).contains("media:application/octet-stream;bytes=9000;digest="));
    let url = json!({"url": format!("data:audio/pcm;base64,{silence}")}).to_string();
    assert!(kept(&url).contains("\"media:audio/pcm;bytes=9000;digest="));
}

#[test]
fn the_same_bytes_have_the_same_marker_however_they_were_written() {
    let image = bytes(b"\x89PNG\r\n", 8999);
    let marker = marker_of("image/png", &image);
    let standard = STANDARD.encode(&image);
    let lines: Vec<&str> = standard
        .as_bytes()
        .chunks(76)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let inner = json!({"data": lines.join("\n")}).to_string();
    for body in [
        json!({"data": standard}).to_string(),
        json!({"data": URL_SAFE_NO_PAD.encode(&image)}).to_string(),
        json!({"data": lines.join("\n")}).to_string(),
        json!({"data": lines.join("\r\n")}).to_string(),
        json!({"data": standard}).to_string().replace('/', "\\/"),
        json!({"arguments": inner}).to_string(),
    ] {
        let text = kept(&body);
        assert!(text.contains(&marker), "{text:.200}");
        assert!(text.len() < 300, "{text:.200}");
        serde_json::from_str::<Value>(&text).unwrap();
    }
    let other_key = left_out(&Key::new([5; 32]), standard.as_bytes()).into_owned();
    assert_ne!(other_key, marker.as_bytes());
    assert_eq!(kept(&standard), marker);
}

#[test]
fn what_was_cut_in_the_middle_of_media_has_none() {
    let body = json!({"model": "m", "data": png(9000)}).to_string();
    let cut = kept(&body[..body.len() - 3000]);
    assert!(
        cut.starts_with("{\"model\":\"m\",\"data\":\"media:image/png;bytes="),
        "{cut}"
    );
}

#[test]
fn odd_data_urls_are_left_out_too() {
    let data = png(9000);
    for (head, kind) in [
        ("data:;base64,", "image/png"),
        ("data:image/png;charset=x;base64,", "image/png"),
        ("data:a b\\u0000;base64,", "image/png"),
        ("data:image\\/jpeg;base64,", "image/jpeg"),
    ] {
        let text = kept(&format!("{{\"url\":\"{head}{data}\"}}"));
        assert!(
            text.starts_with(&format!("{{\"url\":\"media:{kind};bytes=9000;digest=")),
            "{text}"
        );
    }
}

#[test]
fn the_mask_leaves_markers_as_they_are() {
    let mask = crate::mask::Mask::new(&crate::mask::MaskConfig::default(), &[3; 32]).unwrap();
    let mut counts = crate::mask::Counts::default();
    for seed in 0..2000u32 {
        let marker = marker_of("image/png", &seed.to_le_bytes().repeat(3000));
        let body = json!({"image_url": {"url": marker}, "data": marker, "images": [marker]}).to_string();
        assert_eq!(mask.body(body.as_bytes(), &mut counts).text, body);
    }
}

#[test]
fn time_is_linear_in_any_body() {
    let began = std::time::Instant::now();
    let line = format!("{}\\n", "Ab1".repeat(20));
    for unit in [
        "a\\n",
        "Ab1\\/",
        "\\",
        "Aa1\\u0041",
        &line,
        "=",
        "base64,",
        &"Ab1".repeat(1365),
        "\"Ab1\",",
    ] {
        let body = unit.repeat((8 << 20) / unit.len());
        left_out(&key(), body.as_bytes());
    }
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_stays_json_and_all_else_stays_the_same(
        parts in prop::collection::vec(prop::sample::select(vec![
            "word ", "\n", "\\", "\"", "/", "Ab1", "data:image/png;base64,", "é", "=",
        ]), 0..12),
        length in 0usize..9000,
        position in 0usize..12,
    ) {
        let mut text: String = parts[..position.min(parts.len())].concat();
        text.push_str(&STANDARD.encode(bytes(b"", length)));
        text.push_str(&parts[position.min(parts.len())..].concat());
        let body = json!({"a": "x", "content": text, "n": 1.5}).to_string();
        let after: Value = serde_json::from_str(&kept(&body)).unwrap();
        prop_assert_eq!(&after["a"], "x");
        prop_assert_eq!(&after["n"], &json!(1.5));
        let said = after["content"].as_str().unwrap();
        let longest = said.split(|c: char| !c.is_ascii_alphanumeric() && !"+/".contains(c)).map(str::len).max().unwrap();
        prop_assert!(longest <= LIMIT + 8);
    }

    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(prop::sample::select(b"Ab1\\n/=\"u+:".to_vec()), 0..20_000)) {
        left_out(&key(), &body);
    }
}
