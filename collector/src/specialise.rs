//! What models were trained with, so that none is rehearsed on what it learnt: a verdict on that would be told too well.
//!
//! A record is put before a training begins, and never changed. Conversations and prompts are known by digests alone, of
//! our own ids and of masked text. Trains nothing.

use crate::dataset::{conversation_digest, prompt_digest};
use crate::scan::ScanError;
use crate::store::{Store, StoreError};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use understudy_call::record::CallRecord;

/// The store's folder of what was trained.
pub const FOLDER: &str = "specialised";
/// How the objects end that say what came of a training.
pub const RESULT: &str = ".result.json";
/// Records that are read at once.
const AT_ONCE: usize = 16;

/// What a model saw: for training, and for choosing among states of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learnt {
    /// Conversations, by [`conversation_digest`].
    pub conversations: BTreeSet<String>,
    /// Prompts, by [`prompt_digest`].
    pub prompts: BTreeSet<String>,
}

/// A model that is trained with calls of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trained {
    /// The name that it is served under, and asked for.
    pub model: String,
    /// The model that it was made from, by name or path; where that one was trained here too, both saw what it saw.
    #[serde(default)]
    pub base: String,
    /// Whose calls.
    pub task: String,
    /// The digest of the data set's card.
    pub data_digest: String,
    /// Calls that the task had then.
    #[serde(default)]
    pub calls: u64,
    /// How it is trained, as the recipe says; null where nobody told.
    #[serde(default)]
    pub recipe: serde_json::Value,
    /// What it sees.
    pub learnt: Learnt,
}

impl Trained {
    /// Its object: by model, base, recipe, data and what is learnt.
    pub fn key(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let recipe = self.recipe.to_string();
        let learnt = self.learnt.conversations.iter().chain(&self.learnt.prompts);
        let named = [&self.model, &self.task, &self.data_digest, &self.base, &recipe];
        for part in named.into_iter().chain(learnt) {
            hasher
                .update(&(part.len() as u64).to_le_bytes())
                .update(part.as_bytes());
        }
        format!("{FOLDER}/{}.json", &hasher.finalize().to_hex()[..16])
    }

    /// The object that says what came of it.
    pub fn result_key(&self) -> String {
        self.key().replace(".json", RESULT)
    }

    /// Puts it, once; false where it is there.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn put(&self, store: &Store) -> Result<bool, StoreError> {
        let json = serde_json::to_vec(self).expect("names and digests have a JSON form");
        store.create(&self.key(), json.into()).await
    }
}

/// All models that were trained.
///
/// # Errors
/// Where the store fails, or a record can't be read: who would pass over it might rehearse a model on what it learnt.
pub async fn load(store: &Store) -> Result<Vec<Trained>, ScanError> {
    let objects = store.list(FOLDER).await?.into_iter();
    let records = objects.filter(|object| object.key.ends_with(".json") && !object.key.ends_with(RESULT));
    let reads = records.map(|object| async move {
        let bytes = store.get(&object.key).await?;
        serde_json::from_slice(&bytes).map_err(|source| ScanError::Record {
            key: object.key,
            source,
        })
    });
    let reads: Vec<_> = reads.collect();
    stream::iter(reads).buffered(AT_ONCE).try_collect().await
}

/// What some models saw, to be left out of their rehearsals.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    conversations: HashSet<String>,
    prompts: HashSet<String>,
}

impl Seen {
    /// What any of these names saw, and what those saw that they were made from.
    pub fn of<'a>(trained: &[Trained], models: impl IntoIterator<Item = &'a str>) -> Seen {
        let mut by_name: BTreeMap<&str, Vec<&Trained>> = BTreeMap::new();
        trained
            .iter()
            .for_each(|model| by_name.entry(&model.model).or_default().push(model));
        let mut seen = Seen::default();
        let mut names: Vec<&str> = models.into_iter().collect();
        let mut looked_at = HashSet::new();
        while let Some(name) = names.pop() {
            if !looked_at.insert(name.to_owned()) {
                continue;
            }
            // A base is often a path (`models/NAME/out`) or a name with its owner (`owner/NAME`): any part may be a name.
            let parts = name.split(['/', '\\']).chain([name]);
            for model in parts.filter_map(|part| by_name.get(part)).flatten() {
                seen.conversations.extend(model.learnt.conversations.iter().cloned());
                seen.prompts.extend(model.learnt.prompts.iter().cloned());
                names.push(&model.base);
            }
        }
        seen
    }

    /// Whether they saw nothing.
    pub fn is_empty(&self) -> bool {
        self.conversations.is_empty() && self.prompts.is_empty()
    }

    /// Whether a call is of a conversation that they saw, or asks what they were shown.
    pub fn covers(&self, call: &CallRecord) -> bool {
        !self.is_empty()
            && (self.conversations.contains(&conversation_digest(call))
                || prompt_digest(call).is_some_and(|prompt| self.prompts.contains(&prompt)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(conversation: &str, text: &str) -> CallRecord {
        let body = json!({"model": "big", "messages": [{"role": "user", "content": text}]});
        CallRecord {
            call_id: format!("{conversation}-{text}"),
            conversation_id: conversation.into(),
            api: "openai_chat".into(),
            request_body: Some(body.to_string()),
            ..CallRecord::default()
        }
    }

    fn trained(model: &str, base: &str, call: &CallRecord) -> Trained {
        Trained {
            model: model.into(),
            base: base.into(),
            learnt: Learnt {
                conversations: [conversation_digest(call)].into(),
                prompts: prompt_digest(call).into_iter().collect(),
            },
            ..Trained::default()
        }
    }

    #[test]
    fn a_model_has_seen_its_conversations_its_prompts_and_what_its_base_saw() {
        let models = [
            trained("second", "first", &call("b", "two")),
            trained("first", "from the hub", &call("a", "one")),
            trained("other", "other", &call("c", "three")),
        ];
        let second = Seen::of(&models, ["second"]);
        assert!(second.covers(&call("b", "something new in a known conversation")));
        assert!(second.covers(&call("new", "two")), "a known prompt, asked again");
        assert!(second.covers(&call("a", "new")) && second.covers(&call("new", "one")));
        assert!(!second.covers(&call("c", "three")) && !second.covers(&call("new", "new")));
        assert!(!Seen::of(&models, ["first"]).covers(&call("b", "two")));
        let third = [
            trained("third", "/srv/models/first/out", &call("d", "four")),
            models[1].clone(),
        ];
        for name in ["third", "me/third"] {
            assert!(
                Seen::of(&third, [name]).covers(&call("a", "new")),
                "{name}: its base is a path"
            );
        }
        assert!(Seen::of(&models, ["other"]).covers(&call("c", "x")), "a circle ends");
        let nobody = Seen::of(&models, ["nobody"]);
        assert!(nobody.is_empty() && !nobody.covers(&call("a", "one")));
        // Whoever may not read content knows conversations all the same.
        let unread = CallRecord {
            request_body: None,
            ..call("b", "two")
        };
        assert!(second.covers(&unread));
    }

    #[tokio::test]
    async fn a_record_is_put_once_and_one_that_cannot_be_read_stops_the_reader() {
        let store = Store::in_memory();
        let first = trained("m", "b", &call("a", "one"));
        assert!(first.put(&store).await.unwrap());
        assert!(!first.put(&store).await.unwrap());
        store.put(&first.result_key(), "{}".into()).await.unwrap();
        assert_eq!(load(&store).await.unwrap(), [first]);
        store.put("specialised/0.json", "{".into()).await.unwrap();
        let error = load(&store).await.unwrap_err().to_string();
        assert!(error.contains("specialised/0.json"), "{error}");
    }
}
