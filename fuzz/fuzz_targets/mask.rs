//! The mask: any bytes, as a body and as text. JSON stays JSON, spans lie on characters, and nothing panics.
//!
//! Built from the mask's own files, so that no table and no store is compiled with it.

#![no_main]

#[path = "../../collector/src"]
#[allow(dead_code, unused_imports, reason = "the collector uses more of it")]
mod collector {
    pub(crate) mod mask;
}

use collector::mask;
use libfuzzer_sys::fuzz_target;
use mask::{Counts, Mask, MaskConfig};
use std::sync::LazyLock;

static MASK: LazyLock<Mask> = LazyLock::new(|| Mask::new(&MaskConfig::default(), &[7; 32]).expect("the built-in rules"));

fuzz_target!(|data: &[u8]| {
    let body = MASK.body(data, &mut Counts::default());
    // What is skipped over is not checked for UTF-8, which JSON is.
    let is_json = |bytes: &[u8]| {
        std::str::from_utf8(bytes).is_ok() && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
    };
    if is_json(data) {
        assert!(!body.parse_error && is_json(body.text.as_bytes()));
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let spans = MASK.find(text);
        assert!(spans.iter().all(|span| text.get(span.start..span.end).is_some()));
        assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start));
        MASK.text(text, &mut Counts::default());
    }
});
