//! How much memory a model takes: its weights, and the keys and values that it keeps of what it has read.
//!
//! What a server needs besides (activations, its own code) is not in it.

use serde::{Deserialize, Serialize};

/// Bytes of a number in the KV cache: servers keep 16 bits unless told otherwise.
const CACHE_BYTES: u64 = 2;

/// What a model's KV cache is made of.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Layers with attention.
    pub layers: u64,
    /// Heads whose keys and values are kept.
    pub kv_heads: u64,
    /// Numbers in a key, and in a value.
    pub head_dim: u64,
    /// Who says it.
    pub source: String,
}

impl Shape {
    /// Bytes of the keys and values of so many tokens in each of so many calls: 2 × layers × heads × numbers × 2 bytes, a
    /// token. Layers that look back less far keep less, so this is the most.
    pub fn cache_bytes(&self, tokens: u64, calls: u64) -> u64 {
        [self.layers, self.kv_heads, self.head_dim, CACHE_BYTES, tokens, calls]
            .into_iter()
            .fold(2, u64::saturating_mul)
    }
}

/// How finely weights are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 4 bits, and a 16-bit scale for each 32 weights.
    Four,
    /// 8 bits, and a 16-bit scale for each 32 weights.
    Eight,
    /// 16 bits, as published: what benchmarks were run with.
    #[default]
    Sixteen,
}

impl Precision {
    /// Bytes of 32 weights.
    fn block(self) -> u64 {
        match self {
            Precision::Four => 18,
            Precision::Eight => 34,
            Precision::Sixteen => 64,
        }
    }

    /// Bytes of so many weights.
    pub fn weights_bytes(self, parameters: u64) -> u64 {
        parameters.saturating_mul(self.block()).div_ceil(32)
    }
}
