//! Ids of tool calls that travel between a candidate and a baseline.

/// The id that the client is given for a tool call of a candidate: the candidate's own where every API takes it (1 to 40
/// letters, digits, `_` and `-`), else one made from it and the call's place, the same each time.
pub fn tool_call_id(candidates: &str, index: usize) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=40).contains(&candidates.len()) && candidates.bytes().all(is_plain) {
        return candidates.to_owned();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(candidates.as_bytes());
    hasher.update(&index.to_le_bytes());
    format!("call_{}", &hasher.finalize().to_hex()[..24])
}
