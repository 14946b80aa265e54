//! What a path tells: API, operation, model, whether the answer streams.
//!
//! Matched on the last segments, so that prefixes of gateways, doubled slashes and a trailing `:port` are allowed, while
//! what lies below a known path (`…/messages/batches`) is [`Api::Other`].

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::call::{Api, Operation};

/// What a path addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The wire format.
    pub api: Api,
    /// What the call asks for.
    pub operation: Operation,
}

/// The API that a request path speaks, without its query.
pub fn detect(path: &str) -> Api {
    endpoint(path).map_or(Api::Other, |endpoint| endpoint.api)
}

/// API and operation of a path, without its query; absent for what is passed through unread.
pub fn endpoint(path: &str) -> Option<Endpoint> {
    use Operation::{Chat, Complete, CountTokens, Embed};
    let mut segments = path.rsplit('/').filter(|segment| !segment.is_empty());
    let last = decoded(segments.next()?);
    let last = without_port(&last);
    let before = segments.next();
    let folder = segments.next();
    let (api, operation) = match (before, last) {
        (Some("chat"), "completions") => (Api::OpenaiChat, Chat),
        (_, "completions") => (Api::OpenaiCompletions, Complete),
        (_, "responses") => (Api::OpenaiResponses, Chat),
        (Some("api"), "embeddings" | "embed") => (Api::Ollama, Embed),
        (_, "embeddings") => (Api::OpenaiEmbeddings, Embed),
        // OpenAI's `/v1/threads/{id}/messages` is another API: only a version may stand before `messages`.
        (None, "messages") => (Api::AnthropicMessages, Chat),
        (Some(before), "messages") if is_version(before) => (Api::AnthropicMessages, Chat),
        (Some("messages"), "count_tokens") => (Api::AnthropicMessages, CountTokens),
        (Some(before), "complete") if is_version(before) => (Api::AnthropicMessages, Complete),
        (Some("api"), "chat") => (Api::Ollama, Chat),
        (Some("api"), "generate") => (Api::Ollama, Complete),
        (Some("v1" | "v2"), "chat") => (Api::CohereChat, Chat),
        (Some("v1" | "v2"), "embed") => (Api::CohereChat, Embed),
        // KoboldAI's `/api/v1/generate` is another API.
        (Some("v1"), "generate") if folder != Some("api") => (Api::CohereChat, Complete),
        (Some(model), verb) if folder == Some("model") => bedrock(model, verb)?,
        (Some("models" | "tunedModels" | "endpoints"), last) => google(path, last)?,
        _ => return None,
    };
    Some(Endpoint { api, operation })
}

/// Models that make vectors say so in their names.
fn bedrock(model: &str, verb: &str) -> Option<(Api, Operation)> {
    match verb {
        "converse" | "converse-stream" => Some((Api::BedrockConverse, Operation::Chat)),
        "invoke" if model.contains("embed") => Some((Api::BedrockInvoke, Operation::Embed)),
        "invoke" | "invoke-with-response-stream" => Some((Api::BedrockInvoke, Operation::Chat)),
        "count-tokens" => Some((Api::BedrockConverse, Operation::CountTokens)),
        _ => None,
    }
}

/// The last segment is `{model}:{verb}`.
fn google(path: &str, last: &str) -> Option<(Api, Operation)> {
    let (model, verb) = last.rsplit_once(':')?;
    match verb {
        "generateContent" | "streamGenerateContent" => Some((Api::Gemini, Operation::Chat)),
        "countTokens" => Some((Api::Gemini, Operation::CountTokens)),
        "embedContent" | "batchEmbedContents" => Some((Api::Gemini, Operation::Embed)),
        "predict" if model.contains("embedding") => Some((Api::Gemini, Operation::Embed)),
        "rawPredict" | "streamRawPredict" if path.contains("/anthropic/") => {
            let counts = model == VERTEX_COUNT_TOKENS;
            let operation = if counts {
                Operation::CountTokens
            } else {
                Operation::Chat
            };
            Some((Api::AnthropicMessages, operation))
        }
        _ => None,
    }
}

/// What Vertex has in place of a model where Anthropic's API counts tokens; the body names the model.
const VERTEX_COUNT_TOKENS: &str = "count-tokens";

/// The model or deployment named in a path, percent-decoded; absent for APIs that name it in the body alone.
pub fn model_in_path(path: &str) -> Option<Cow<'_, str>> {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let is_folder = |segment: &&str| {
        matches!(
            *segment,
            "deployments" | "models" | "model" | "tunedModels" | "endpoints"
        )
    };
    let folder = segments.find(is_folder)?;
    let named = segments.next()?;
    match folder {
        "deployments" => Some(decoded(named)),
        // Bedrock's model ids end in `:0`, escaped or not; the operation is a segment of its own.
        "model" => segments.next().map(|_| decoded(named)),
        // `/models/chat/completions` names none.
        _ => {
            let named = decoded(named);
            let model = &named[..named.rfind(':')?];
            (model != VERTEX_COUNT_TOKENS).then(|| Cow::Owned(model.to_owned()))
        }
    }
}

/// Whether a path alone asks for a streamed answer.
pub fn streams_by_path(path: &str) -> bool {
    let Some(last) = path.rsplit('/').find(|segment| !segment.is_empty()) else {
        return false;
    };
    let last = decoded(last);
    let last = without_port(&last);
    let verb = last.rsplit_once(':').map_or(last, |(_, verb)| verb);
    matches!(
        verb,
        "streamGenerateContent" | "streamRawPredict" | "converse-stream" | "invoke-with-response-stream"
    )
}

/// Percent-decoding; what is no escape, or no UTF-8 when decoded, stays as it is.
fn decoded(segment: &str) -> Cow<'_, str> {
    let decoded = percent_decode_str(segment).decode_utf8();
    decoded.unwrap_or(Cow::Borrowed(segment))
}

fn without_port(segment: &str) -> &str {
    match segment.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => segment,
    }
}

fn is_version(segment: &str) -> bool {
    let mut bytes = segment.bytes();
    bytes.next() == Some(b'v') && bytes.next().is_some_and(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_and_models_are_read_from_paths() {
        use Operation::{Chat, Complete, CountTokens, Embed};
        for (path, api, operation, model) in [
            ("/v1/completions", Api::OpenaiCompletions, Complete, None),
            (
                "/openai/deployments/emb/embeddings",
                Api::OpenaiEmbeddings,
                Embed,
                Some("emb"),
            ),
            ("/models/chat/completions", Api::OpenaiChat, Chat, None),
            ("/openai/v1/responses", Api::OpenaiResponses, Chat, None),
            ("/v1/messages/count_tokens", Api::AnthropicMessages, CountTokens, None),
            ("/v1/complete", Api::AnthropicMessages, Complete, None),
            (
                "/v1beta/models/gemini-2.5-flash:generateContent",
                Api::Gemini,
                Chat,
                Some("gemini-2.5-flash"),
            ),
            (
                "/v1/projects/p/locations/l/publishers/google/models/g:streamGenerateContent",
                Api::Gemini,
                Chat,
                Some("g"),
            ),
            (
                "/v1/publishers/google/models/text-embedding-5:predict",
                Api::Gemini,
                Embed,
                Some("text-embedding-5"),
            ),
            (
                "/v1/publishers/anthropic/models/claude-x@1:rawPredict",
                Api::AnthropicMessages,
                Chat,
                Some("claude-x@1"),
            ),
            (
                "/model/us.amazon.nova-lite-v1%3A0/converse",
                Api::BedrockConverse,
                Chat,
                Some("us.amazon.nova-lite-v1:0"),
            ),
            (
                "/model/cohere.embed-v4%3A0/invoke",
                Api::BedrockInvoke,
                Embed,
                Some("cohere.embed-v4:0"),
            ),
            (
                "/model/a.b-v1:0/invoke-with-response-stream",
                Api::BedrockInvoke,
                Chat,
                Some("a.b-v1:0"),
            ),
            ("/api/chat", Api::Ollama, Chat, None),
            ("/api/embeddings", Api::Ollama, Embed, None),
            ("/ollama/api/generate", Api::Ollama, Complete, None),
            ("/v2/chat", Api::CohereChat, Chat, None),
            ("/v1/chat", Api::CohereChat, Chat, None),
            ("/v1/generate", Api::CohereChat, Complete, None),
            ("/v2/embed", Api::CohereChat, Embed, None),
        ] {
            assert_eq!(endpoint(path), Some(Endpoint { api, operation }), "{path}");
            assert_eq!(model_in_path(path).as_deref(), model, "{path}");
        }
    }

    #[test]
    fn what_is_beside_the_known_paths_passes_unread() {
        for path in [
            "/v1beta/models",
            "/v1beta/models/gemini-x",
            "/v1beta/models/gemini-x:batchGenerateContent",
            "/v1/publishers/google/models/imagen-4:predict",
            "/v1/publishers/mistralai/models/m:rawPredict",
            "/v1beta/cachedContents",
            "/api/tags",
            "/api/v1/generate",
            "/v1/rerank",
            "/v1/models/x/complete",
        ] {
            assert_eq!(endpoint(path), None, "{path}");
        }
    }

    #[test]
    fn some_paths_alone_ask_for_a_stream() {
        for (path, streams) in [
            ("/v1beta/models/g:streamGenerateContent", true),
            ("/v1beta/models/g%3astreamGenerateContent/", true),
            ("/v1beta/models/g:generateContent", false),
            ("/v1/publishers/anthropic/models/c@1:streamRawPredict", true),
            ("/model/m/converse-stream", true),
            ("/model/m/invoke-with-response-stream:443", true),
            ("/model/m/invoke", false),
            ("/streamGenerateContent/x", false),
            ("", false),
        ] {
            assert_eq!(streams_by_path(path), streams, "{path}");
        }
    }
}
