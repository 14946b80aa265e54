//! Whether an answer is one that its agent can work with: the tools that were offered, arguments and JSON of the schemas
//! that were given, whole, and no refusal.
//!
//! Pure, and safe on any input: never panics, never fetches a schema, and leaves a schema unchecked that would cost too
//! much ([`schema`]). Judges form alone; whether an answer is right is not known here. What a [`Fault`] says holds no
//! word of the answer, so it may be kept as it is.

use serde_json::Value;

use crate::call::{Api, Request, Response, ResponseFormat, ToolCall, ToolOffered};
use crate::wire::{self, Assembled, WireError};

pub mod schema;
mod words;

pub(crate) use words::is_failure;
pub use words::{begins_refusing, truncated, withheld};

/// Why an answer is not one to work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is an error, or its finish word says that the server gave up.
    #[error("the answer is an error")]
    Error,
    /// A stream that ended before its end.
    #[error("the answer broke off")]
    Unfinished,
    /// A body, or events of a stream, that are no JSON.
    #[error("the answer can't be read")]
    Unreadable,
    /// It was cut at a length.
    #[error("the answer is truncated")]
    Truncated,
    /// It refuses, by the API's own word or by its first words.
    #[error("the answer is a refusal")]
    Refusal,
    /// Neither text nor tool calls.
    #[error("the answer is empty")]
    Empty,
    /// A tool of a name that was not offered.
    #[error("a tool was called that was not offered")]
    UnknownTool,
    /// A tool, although `tool_choice` allows none.
    #[error("a tool was called though none was allowed")]
    ForbiddenTool,
    /// No tool, or another one, although `tool_choice` asks for it.
    #[error("the tool that had to be called was not")]
    MissingTool,
    /// Arguments that are no JSON object.
    #[error("the arguments of a tool call are not a JSON object")]
    ArgumentsNotJson,
    /// Arguments that their tool's schema refuses, by which of its keywords.
    #[error("the arguments of a tool call don't fit its schema, by `{0}`")]
    ArgumentsUnfit(String),
    /// Text where JSON was asked for.
    #[error("the text is not JSON")]
    NotJson,
    /// JSON that the schema asked for refuses, by which of its keywords.
    #[error("the JSON doesn't fit its schema, by `{0}`")]
    Unfit(String),
}

impl Fault {
    /// One word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Fault::Error => "in_stream_error",
            Fault::Unfinished => "unfinished",
            Fault::Unreadable => "unreadable",
            Fault::Truncated => "truncated",
            Fault::Refusal => "refusal",
            Fault::Empty => "empty",
            Fault::UnknownTool => "unknown_tool",
            Fault::ForbiddenTool => "forbidden_tool",
            Fault::MissingTool => "missing_tool",
            Fault::ArgumentsNotJson | Fault::ArgumentsUnfit(_) => "invalid_arguments",
            Fault::NotJson | Fault::Unfit(_) => "invalid_json",
        }
    }
}

/// Which tools an answer has to call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Choice {
    #[default]
    Free,
    Never,
    Some,
    This(String),
}

/// What a request demands of its answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Demands {
    tools: Vec<ToolOffered>,
    /// Names of tools whose input is text.
    free_form: Vec<String>,
    choice: Choice,
    format: ResponseFormat,
    stream: bool,
}

impl Demands {
    /// Of a request's body.
    ///
    /// # Errors
    /// As [`wire::parse_request`].
    pub fn of(api: Api, body: &[u8]) -> Result<Demands, WireError> {
        let request = wire::parse_request(api, body)?;
        Ok(Demands::of_parsed(request, &wire::parse_json(body)?))
    }

    pub(crate) fn of_parsed(request: Request, body: &Value) -> Demands {
        let custom = wire::json::list(body, "tools")
            .iter()
            .filter(|tool| tool["type"] == "custom");
        let named = custom.filter_map(|tool| tool["custom"]["name"].as_str().or_else(|| tool["name"].as_str()));
        Demands {
            free_form: named.map(Into::into).collect(),
            tools: request.tools,
            choice: choice(body),
            format: request.response_format,
            stream: request.stream,
        }
    }

    /// Whether a stream was asked for.
    pub fn stream(&self) -> bool {
        self.stream
    }

    /// Whether the answer can be of no use before it is whole: JSON, or a call of a tool.
    pub fn structure(&self) -> bool {
        self.format != ResponseFormat::Text || matches!(self.choice, Choice::Some | Choice::This(_))
    }

    /// Whether the answer may call a tool.
    pub fn may_call(&self) -> bool {
        !self.tools.is_empty() && self.choice != Choice::Never
    }

    /// Whether an answer of `api`, brought into its non-streamed form, is one to work with.
    ///
    /// # Errors
    /// The first fault found: that it is none, then how it ended, then what it says.
    pub fn check(&self, api: Api, assembled: &Assembled) -> Result<(), Fault> {
        let answer = wire::parse_response(api, 200, assembled).without_padding();
        if answer.error.is_some() || answer.finish_reason.as_deref().is_some_and(is_failure) {
            return Err(Fault::Error);
        }
        if assembled.skipped_events > 0 {
            return Err(Fault::Unreadable);
        }
        if answer.partial {
            return Err(Fault::Unfinished);
        }
        self.check_answer(&answer)
    }

    fn check_answer(&self, answer: &Response) -> Result<(), Fault> {
        let said_so = answer.refusal.is_some() || withheld(answer.finish_reason.as_deref());
        if said_so || (answer.tool_calls.is_empty() && begins_refusing(&answer.output_text)) {
            return Err(Fault::Refusal);
        }
        if truncated(answer.finish_reason.as_deref()) {
            return Err(Fault::Truncated);
        }
        if answer.tool_calls.is_empty() && answer.output_text.trim().is_empty() {
            return Err(Fault::Empty);
        }
        answer.tool_calls.iter().try_for_each(|call| self.check_call(call))?;
        match &self.choice {
            Choice::Some if answer.tool_calls.is_empty() => return Err(Fault::MissingTool),
            Choice::This(name) if !answer.tool_calls.iter().any(|call| call.name == *name) => {
                return Err(Fault::MissingTool);
            }
            _ => {}
        }
        if answer.tool_calls.is_empty() {
            self.check_text(&answer.output_text)?;
        }
        Ok(())
    }

    fn check_call(&self, call: &ToolCall) -> Result<(), Fault> {
        let tool = self
            .tools
            .iter()
            .find(|tool| tool.name == call.name)
            .ok_or(Fault::UnknownTool)?;
        if self.choice == Choice::Never {
            return Err(Fault::ForbiddenTool);
        }
        if self.free_form.contains(&tool.name) {
            return Ok(());
        }
        let arguments: Value = serde_json::from_str(&call.arguments).map_err(|_| Fault::ArgumentsNotJson)?;
        if !arguments.is_object() {
            return Err(Fault::ArgumentsNotJson);
        }
        schema::fits(&tool.schema, &arguments).map_err(|misfit| Fault::ArgumentsUnfit(misfit.keyword))
    }

    fn check_text(&self, text: &str) -> Result<(), Fault> {
        if self.format == ResponseFormat::Text {
            return Ok(());
        }
        let value: Value = serde_json::from_str(text.trim()).map_err(|_| Fault::NotJson)?;
        match &self.format {
            ResponseFormat::JsonSchema(schema) => {
                schema::fits(schema, &value).map_err(|misfit| Fault::Unfit(misfit.keyword))
            }
            _ if !value.is_object() => Err(Fault::Unfit("type".into())),
            _ => Ok(()),
        }
    }
}

/// What the request says of which tools to call, in the words of any API.
fn choice(body: &Value) -> Choice {
    let gemini = &body["toolConfig"]["functionCallingConfig"]["mode"];
    let bedrock = &body["toolConfig"]["toolChoice"];
    let given = [&body["tool_choice"], &body["function_call"], gemini, bedrock];
    let Some(given) = given.into_iter().find(|given| !given.is_null()) else {
        return Choice::Free;
    };
    let name = ["/function/name", "/name", "/custom/name", "/tool/name"];
    if let Some(name) = name.iter().find_map(|at| given.pointer(at)?.as_str()) {
        return Choice::This(name.into());
    }
    let word = given.as_str().or_else(|| given["type"].as_str()).unwrap_or_default();
    match word.to_ascii_lowercase().as_str() {
        "none" => Choice::Never,
        "any" | "required" => Choice::Some,
        // One of some of the tools.
        "allowed_tools" if given["mode"] == "required" || given["allowed_tools"]["mode"] == "required" => Choice::Some,
        _ if given.get("any").is_some() => Choice::Some,
        _ => Choice::Free,
    }
}

#[cfg(test)]
mod tests;
