//! Users and sessions that a body names become pseudonyms before anything else reads it: no pattern tells a user's name
//! in an application from any other word, but its place does.

use std::borrow::Cow;
use understudy_call::keys::Origins;
use understudy_call::wire::splice::replace_at;

/// Where requests name their end user, and the answers of some APIs repeat it: OpenAI and its dialects, Anthropic, and
/// what gateways taught others to send. The first that is there is the call's user.
const USERS: [&[&str]; 4] = [
    &["safety_identifier"],
    &["user"],
    &["metadata", "user_id"],
    &["user_id"],
];
/// Where they name a session, or what tells one.
const SESSIONS: [&[&str]; 3] = [&["prompt_cache_key"], &["session_id"], &["metadata", "session_id"]];

/// Puts pseudonyms in the place of users and sessions; the user's, where one is named.
pub(super) fn hide(origins: &Origins, body: &mut Cow<'_, [u8]>) -> Option<String> {
    let places = [&USERS[..], &SESSIONS[..]].concat();
    let mut first: Option<(usize, String)> = None;
    let hidden = replace_at(body, &places, |place, said| {
        if place >= USERS.len() {
            return origins.pseudonym("conversation", said.as_bytes());
        }
        let user = origins.pseudonym("user", said.as_bytes());
        if !said.is_empty() && first.as_ref().is_none_or(|(before, _)| place < *before) {
            first = Some((place, user.clone()));
        }
        user
    })?;
    *body = Cow::Owned(hidden);
    first.map(|(_, user)| user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_call::keys::Key;

    #[test]
    fn users_and_sessions_become_pseudonyms_wherever_they_are_named() {
        let origins = Origins::new(&Key::new([3; 32]));
        let hidden = |body: &str| {
            let mut bytes = Cow::Borrowed(body.as_bytes());
            let user = hide(&origins, &mut bytes);
            (user, String::from_utf8(bytes.into_owned()).unwrap())
        };
        let user = origins.pseudonym("user", b"jdoe42");
        let (told, body) = hidden(r#"{"model":"m","user":"jdoe42","prompt_cache_key":"jdoe42-chat","messages":[]}"#);
        assert_eq!(told.as_deref(), Some(&*user));
        assert!(body.contains(&user) && !body.contains("jdoe42"), "{body}");

        let (told, body) = hidden(r#"{"metadata":{"user_id":"jdoe42","team":"blue"},"max_tokens":5}"#);
        assert_eq!(told.as_deref(), Some(&*user), "the same user in another API");
        assert!(body.contains(r#""team":"blue"},"max_tokens":5"#), "{body}");

        let (told, _) = hidden(r#"{"user":"team-key","safety_identifier":"jdoe42"}"#);
        assert_eq!(told.as_deref(), Some(&*user), "the more exact one");

        let body = r#"{"messages":[{"role":"user","content":"{\"user\":\"jdoe42\"}"}],"user":null}"#;
        assert_eq!(hidden(body), (None, body.to_owned()));
    }
}
