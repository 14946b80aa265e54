//! The parts of a chat message's content: text and images.

use serde_json::{Value, json};

use super::Refusal;
use super::fields::inexpressible;

/// Kinds of images that SLM servers decode.
const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/webp", "image/gif"];

/// A part of text.
pub(super) fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// An image by its URL, with the detail asked for.
pub(super) fn image(url: &str, detail: Option<&str>) -> Value {
    match detail {
        Some(detail) => json!({"type": "image_url", "image_url": {"url": url, "detail": detail}}),
        None => json!({"type": "image_url", "image_url": {"url": url}}),
    }
}

/// The content of a message: plain text where all parts are text, since some chat templates take no list.
pub(super) fn content(parts: Vec<Value>) -> Value {
    if parts.iter().any(|part| part["type"] != "text") {
        return parts.into();
    }
    let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
    texts.join("\n").into()
}

/// The kind of image of a media type, in its usual name.
///
/// # Errors
/// Where it is no image, or none that SLM servers decode.
pub(super) fn image_type(media_type: &str, at: &str) -> Result<&'static str, Refusal> {
    let essence = media_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let usual = if essence == "image/jpg" { "image/jpeg" } else { &essence };
    let known = IMAGES.into_iter().find(|image| *image == usual);
    known.ok_or_else(|| {
        let kind = essence.split('/').next().unwrap_or_default();
        inexpressible(
            at,
            if kind == "image" {
                "an image of this kind"
            } else {
                "media other than images"
            },
        )
    })
}

/// The kind of image that base64 text begins with, by the first bytes of each format.
pub(super) fn image_type_of_base64(data: &str) -> Option<&'static str> {
    let begins = [
        ("iVBORw0KGgo", IMAGES[0]),
        ("/9j/", IMAGES[1]),
        ("UklGR", IMAGES[2]),
        ("R0lGOD", IMAGES[3]),
    ];
    begins
        .into_iter()
        .find(|(begin, _)| data.starts_with(begin))
        .map(|(_, image)| image)
}

/// A data URL of base64 in either alphabet, padded or not.
///
/// # Errors
/// Where the data is no base64.
pub(super) fn data_url(media_type: &str, data: &str, at: &str) -> Result<String, Refusal> {
    let mut url = format!("data:{media_type};base64,");
    let start = url.len();
    for letter in data.trim_end_matches('=').chars() {
        url.push(match letter {
            '-' => '+',
            '_' => '/',
            '+' | '/' => letter,
            _ if letter.is_ascii_alphanumeric() => letter,
            _ if letter.is_ascii_whitespace() => continue,
            _ => return Err(inexpressible(at, "it is no base64")),
        });
    }
    match (url.len() - start) % 4 {
        0 => {}
        1 => return Err(inexpressible(at, "it is no base64")),
        letters => url.push_str(&"=="[letters - 2..]),
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_alone_is_plain_and_beside_images_a_part() {
        assert_eq!(content(vec![text("a"), text("b")]), "a\nb");
        assert_eq!(content(Vec::new()), "");
        let mixed = vec![text("a"), image("http://x/y.png", Some("low"))];
        assert_eq!(content(mixed.clone()), Value::from(mixed));
    }

    #[test]
    fn images_become_data_urls_in_the_standard_alphabet() {
        assert_eq!(
            data_url("image/png", "ab-_\nYQ", "x").unwrap(),
            "data:image/png;base64,ab+/YQ=="
        );
        assert_eq!(
            data_url("image/png", "YQ==", "x").unwrap(),
            "data:image/png;base64,YQ=="
        );
        assert!(data_url("image/png", "a\"bc", "x").is_err());
        assert!(data_url("image/png", "abcde", "x").is_err());
        assert_eq!(image_type("IMAGE/JPG; x=y", "x").unwrap(), "image/jpeg");
        assert_eq!(
            image_type("image/heic", "x"),
            Err(inexpressible("x", "an image of this kind"))
        );
        assert_eq!(
            image_type("video/mp4", "x"),
            Err(inexpressible("x", "media other than images"))
        );
        assert_eq!(image_type_of_base64("/9j/4AAQ"), Some("image/jpeg"));
        assert_eq!(image_type_of_base64("JVBERi0"), None);
    }
}
