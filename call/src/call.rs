//! One parsed call, whatever its API: what the agent asked and what the model answered.
//!
//! Never holds wire bytes, headers or credentials; [`crate::wire`] makes these values from bodies.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The wire format of a call; the names are those of the `api` column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// OpenAI Chat Completions and its dialects.
    OpenaiChat,
    /// OpenAI Responses.
    OpenaiResponses,
    /// OpenAI legacy Completions.
    OpenaiCompletions,
    /// OpenAI Embeddings.
    OpenaiEmbeddings,
    /// Anthropic Messages.
    AnthropicMessages,
    /// Gemini and Vertex generateContent.
    Gemini,
    /// Ollama's native API.
    Ollama,
    /// Bedrock Converse.
    BedrockConverse,
    /// Bedrock InvokeModel.
    BedrockInvoke,
    /// Cohere v2 chat.
    CohereChat,
    /// Anything else: passed through and counted, not parsed.
    Other,
}

impl Api {
    /// Every API, in the order of the enum.
    pub const ALL: [Api; 11] = [
        Api::OpenaiChat,
        Api::OpenaiResponses,
        Api::OpenaiCompletions,
        Api::OpenaiEmbeddings,
        Api::AnthropicMessages,
        Api::Gemini,
        Api::Ollama,
        Api::BedrockConverse,
        Api::BedrockInvoke,
        Api::CohereChat,
        Api::Other,
    ];

    /// The name in the `api` column and in config.
    pub fn as_str(self) -> &'static str {
        match self {
            Api::OpenaiChat => "openai_chat",
            Api::OpenaiResponses => "openai_responses",
            Api::OpenaiCompletions => "openai_completions",
            Api::OpenaiEmbeddings => "openai_embeddings",
            Api::AnthropicMessages => "anthropic_messages",
            Api::Gemini => "gemini",
            Api::Ollama => "ollama",
            Api::BedrockConverse => "bedrock_converse",
            Api::BedrockInvoke => "bedrock_invoke",
            Api::CohereChat => "cohere_chat",
            Api::Other => "other",
        }
    }

    /// The API of a name, if there is one.
    pub fn from_name(name: &str) -> Option<Api> {
        Api::ALL.into_iter().find(|api| api.as_str() == name)
    }
}

/// What a call asks its API to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Answer a conversation: the calls that have tasks and can be rehearsed.
    #[default]
    Chat,
    /// Continue a text.
    Complete,
    /// Turn texts into vectors.
    Embed,
    /// Count the tokens of a request.
    CountTokens,
}

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions of the developer (`system`, `developer`, Anthropic's top-level `system`).
    System,
    /// The person, or the agent speaking for one.
    User,
    /// The model.
    Assistant,
    /// The result of a tool.
    Tool,
}

/// One message of a request, or the answer's message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// All text parts joined by a newline; those of an assistant, pieces of one answer, by nothing. For [`Role::Tool`]
    /// the tool's result.
    pub text: String,
    /// The tools that an assistant message called.
    pub tool_calls: Vec<ToolCall>,
    /// For [`Role::Tool`]: the id of the tool call that this answers.
    pub tool_call_id: Option<String>,
    /// How many parts were not text (images, audio, files).
    pub media_parts: u32,
}

impl Message {
    /// A message of text alone.
    pub fn text(role: Role, text: impl Into<String>) -> Message {
        Message {
            role,
            text: text.into(),
            tool_calls: Vec::new(),
            tool_call_id: None,
            media_parts: 0,
        }
    }
}

/// A tool call as the model made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The provider's id; absent in some APIs.
    pub id: Option<String>,
    /// The tool's name.
    pub name: String,
    /// The arguments as JSON text; the model's own text where it is not valid JSON. No arguments = `{}`.
    pub arguments: String,
}

impl ToolCall {
    /// Whether this is no call, though it is kept as the provider said it: Snowflake pads every message with a call of
    /// no name and no arguments.
    pub fn is_padding(&self) -> bool {
        self.name.is_empty() && self.arguments == "{}"
    }
}

/// A tool that the request offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolOffered {
    /// The tool's name; for a provider-side tool its type.
    pub name: String,
    /// What the tool is said to do.
    pub description: Option<String>,
    /// JSON schema of its arguments; null where none is given.
    pub schema: Value,
}

/// What shape of answer the request asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseFormat {
    /// No constraint.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON of this schema.
    JsonSchema(Value),
}

/// What the agent asked, whatever the API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// What is asked for; only chats have tasks.
    #[serde(default)]
    pub operation: Operation,
    /// The model asked for.
    pub model: Option<String>,
    /// Whether a streamed answer was asked for.
    pub stream: bool,
    /// All messages in order, system messages first where the API keeps them apart.
    pub messages: Vec<Message>,
    /// The tools offered.
    pub tools: Vec<ToolOffered>,
    /// The shape of answer asked for.
    pub response_format: ResponseFormat,
    /// The most output tokens allowed.
    pub max_tokens: Option<i64>,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// The person or session that the agent names (`user`, `metadata.user_id`, …); raw, never stored.
    pub user: Option<String>,
    /// The provider's id of the answer that this request continues, where the history lies at the provider and is not
    /// sent again.
    #[serde(default)]
    pub previous_response_id: Option<String>,
}

impl Request {
    /// The text of all system messages, joined by a newline.
    pub fn system_text(&self) -> String {
        let texts: Vec<&str> = self
            .messages
            .iter()
            .filter(|message| message.role == Role::System)
            .map(|m| m.text.as_str())
            .collect();
        texts.join("\n")
    }

    /// The text of the first user message, if there is one.
    pub fn first_user_text(&self) -> Option<&str> {
        self.messages
            .iter()
            .find(|message| message.role == Role::User)
            .map(|message| message.text.as_str())
    }
}

/// Tokens in the normal form: input includes cached, output includes reasoning; absent = the provider did not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// All input tokens, cache reads and writes included.
    pub input: Option<i64>,
    /// Input tokens read from the provider's cache.
    pub cached: Option<i64>,
    /// Input tokens written to the provider's cache.
    pub cache_write: Option<i64>,
    /// All output tokens, reasoning included.
    pub output: Option<i64>,
    /// Output tokens spent on reasoning.
    pub reasoning: Option<i64>,
}

impl Usage {
    /// These tokens; where input or output is not said, what `other` says of it.
    pub fn or(self, other: Usage) -> Usage {
        let input = if self.input.is_some() { self } else { other };
        let output = if self.output.is_some() { self } else { other };
        Usage {
            output: output.output,
            reasoning: output.reasoning,
            ..input
        }
    }
}

/// What the model answered, whatever the API. Text and tool calls are those of choice 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// The provider's id of the answer.
    #[serde(default)]
    pub id: Option<String>,
    /// The model that served, as the provider names it.
    pub model: Option<String>,
    /// Assistant text of choice 0, without reasoning and refusal.
    pub output_text: String,
    /// Reasoning text of choice 0, where the provider shows it.
    pub reasoning_text: String,
    /// A refusal, where the API says so apart from the text.
    pub refusal: Option<String>,
    /// Tool calls of choice 0.
    pub tool_calls: Vec<ToolCall>,
    /// Tools that the provider ran itself, by name.
    pub server_tool_calls: Vec<String>,
    /// The provider's own finish word of choice 0.
    pub finish_reason: Option<String>,
    /// How many choices were answered.
    pub choices: usize,
    /// Tokens in the normal form.
    pub usage: Usage,
    /// An error body, or an error inside a stream: the provider's JSON, or text where it is none.
    pub error: Option<Value>,
    /// A stream that ended without its end mark.
    pub partial: bool,
}

impl Response {
    /// Whether the answer has neither text nor tool calls.
    pub fn is_empty(&self) -> bool {
        self.output_text.is_empty() && self.tool_calls.iter().all(ToolCall::is_padding)
    }

    /// The answer without calls that are none ([`ToolCall::is_padding`]), for those who compare or count calls.
    pub fn without_padding(mut self) -> Response {
        self.tool_calls.retain(|call| !call.is_padding());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_names_are_those_of_the_column_and_come_back() {
        for api in Api::ALL {
            assert_eq!(Api::from_name(api.as_str()), Some(api));
            assert_eq!(serde_json::to_value(api).unwrap(), Value::String(api.as_str().into()));
        }
    }
}
