//! Parquet Modular Encryption: content columns under one master key, all others and the footer under another.
//!
//! Each file has two random data keys, wrapped by the master keys. How is said in the file, in the JSON form of the
//! key tools (single wrapping, material inside), so that pyarrow and parquet-mr read it given the master keys. Never
//! writes a key in the clear.

use super::TableError;
use arrow_schema::Schema;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parquet::arrow::ArrowSchemaConverter;
use parquet::encryption::decrypt::{FileDecryptionProperties, KeyRetriever};
use parquet::encryption::encrypt::FileEncryptionProperties;
use parquet::errors::ParquetError;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use understudy_call::keys::Key;

/// Columns that hold what was said, of `calls` and `scores`: whoever has only the metrics key does not read them.
pub const CONTENT_COLUMNS: [&str; 6] = [
    "error",
    "request_body",
    "response_body",
    "output_text",
    "tool_calls",
    "reason",
];

/// How new files are written.
#[derive(Clone, Debug, Default)]
enum Writing {
    /// In the clear.
    #[default]
    Plain,
    /// With the content key and the metrics key of these names.
    Encrypted(String, String),
    /// Not at all: they are to be encrypted, and a key is missing.
    Refused,
}

/// The master keys that tables are written and read with; without any, tables are plain.
#[derive(Clone, Debug, Default)]
pub struct TableKeys {
    /// How new files are written.
    writing: Writing,
    /// All keys, by name: those of older files too.
    ring: Arc<HashMap<String, Key>>,
}

impl TableKeys {
    /// Keys for reading; each list begins with the newest generation. An empty list is a role without that key.
    pub fn reading(content: &[Key], metrics: &[Key]) -> TableKeys {
        let named = |role: &'static str, keys: &[Key]| -> Vec<(String, Key)> {
            keys.iter().map(|key| (master_name(role, key), key.clone())).collect()
        };
        let ring = named("content", content).into_iter().chain(named("metrics", metrics));
        TableKeys {
            writing: Writing::Plain,
            ring: Arc::new(ring.collect()),
        }
    }

    /// The same keys, of which these encrypt what is written from now on.
    #[must_use]
    pub fn writing(mut self, content: &Key, metrics: &Key) -> TableKeys {
        let names = (master_name("content", content), master_name("metrics", metrics));
        let ring = Arc::make_mut(&mut self.ring);
        ring.insert(names.0.clone(), content.clone());
        ring.insert(names.1.clone(), metrics.clone());
        self.writing = Writing::Encrypted(names.0, names.1);
        self
    }

    /// The same keys, which are too few to write: a write is an error, never a plain file.
    #[must_use]
    pub fn only_reading(mut self) -> TableKeys {
        self.writing = Writing::Refused;
        self
    }

    /// Whether there is any key.
    pub fn are_there(&self) -> bool {
        !self.ring.is_empty()
    }

    /// Whether these are the keys of a role that reads no content.
    pub fn are_of_metrics_alone(&self) -> bool {
        let holds = |role: &str| self.ring.keys().any(|name| name.starts_with(role));
        holds("metrics-") && !holds("content-")
    }

    /// How a file of this schema is encrypted; `None` = not at all.
    pub(super) fn encryption(&self, schema: &Schema) -> Result<Option<Arc<FileEncryptionProperties>>, ParquetError> {
        let (content, metrics) = match &self.writing {
            Writing::Plain => return Ok(None),
            Writing::Encrypted(content, metrics) => (content, metrics),
            Writing::Refused => {
                return Err(general(
                    "the store is encrypted: writing to it needs the content key and the metrics key",
                ));
            }
        };
        let content_key = self.data_key(content)?;
        let metrics_key = self.data_key(metrics)?;
        let mut builder = FileEncryptionProperties::builder(metrics_key.to_vec())
            .with_footer_key_metadata(self.material(metrics, &metrics_key, true)?);
        let of_content = self.material(content, &content_key, false)?;
        let of_metrics = self.material(metrics, &metrics_key, false)?;
        // A column without a key of its own would be written in the clear.
        for column in ArrowSchemaConverter::new().convert(schema)?.columns() {
            let root = column.path().parts().first().map_or("", String::as_str);
            let (key, material) = match CONTENT_COLUMNS.contains(&root) {
                true => (&content_key, &of_content),
                false => (&metrics_key, &of_metrics),
            };
            builder = builder.with_column_key_and_metadata(&column.path().string(), key.to_vec(), material.clone());
        }
        builder.build().map(Some)
    }

    /// What a reader finds keys with, and what it could not find.
    pub(super) fn decryption(&self) -> Result<(Arc<FileDecryptionProperties>, Arc<Retriever>), ParquetError> {
        let retriever = Arc::new(Retriever {
            ring: self.ring.clone(),
            missing: Mutex::default(),
        });
        let properties = FileDecryptionProperties::with_key_retriever(retriever.clone()).build()?;
        Ok((properties, retriever))
    }

    fn data_key(&self, master: &str) -> Result<[u8; 32], ParquetError> {
        let mut key = [0; 32];
        let filled = SystemRandom::new().fill(&mut key);
        filled.map_err(|_| general(format!("the system gives no random bytes for a key under {master}")))?;
        Ok(key)
    }

    fn material(&self, master: &str, data_key: &[u8; 32], is_footer: bool) -> Result<Vec<u8>, ParquetError> {
        let cipher = cipher(self.ring.get(master), master)?;
        let mut nonce = [0; NONCE_LEN];
        let filled = SystemRandom::new().fill(&mut nonce);
        filled.map_err(|_| general("the system gives no random bytes"))?;
        let mut wrapped = data_key.to_vec();
        let sealed = cipher.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(master.as_bytes()),
            &mut wrapped,
        );
        sealed.map_err(|_| general("a data key could not be wrapped"))?;
        let default = || is_footer.then(|| "DEFAULT".to_owned());
        let material = KeyMaterial {
            key_material_type: "PKMT1".into(),
            internal_storage: true,
            is_footer_key: is_footer,
            kms_instance_id: default(),
            kms_instance_url: default(),
            master_key_id: master.to_owned(),
            wrapped_key: STANDARD.encode([nonce.as_slice(), &wrapped].concat()),
            double_wrapping: false,
        };
        serde_json::to_vec(&material).map_err(|error| general(error.to_string()))
    }
}

/// The public name of a master key: its role, and which one it is.
fn master_name(role: &str, key: &Key) -> String {
    format!("{role}-{}", key.id())
}

fn general(message: impl Into<String>) -> ParquetError {
    ParquetError::General(message.into())
}

fn cipher(key: Option<&Key>, name: &str) -> Result<LessSafeKey, ParquetError> {
    let key = key.ok_or_else(|| general(format!("there is no key {name}")))?;
    let key = UnboundKey::new(&AES_256_GCM, key.bytes()).map_err(|_| general("the key does not fit"))?;
    Ok(LessSafeKey::new(key))
}

/// How a data key is kept beside what it encrypts: the key tools' form.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyMaterial {
    key_material_type: String,
    internal_storage: bool,
    is_footer_key: bool,
    #[serde(rename = "kmsInstanceID", skip_serializing_if = "Option::is_none")]
    kms_instance_id: Option<String>,
    #[serde(rename = "kmsInstanceURL", skip_serializing_if = "Option::is_none")]
    kms_instance_url: Option<String>,
    #[serde(rename = "masterKeyID")]
    master_key_id: String,
    #[serde(rename = "wrappedDEK")]
    wrapped_key: String,
    double_wrapping: bool,
}

/// Unwraps the data keys of a file, and remembers which master key was missing.
pub(super) struct Retriever {
    ring: Arc<HashMap<String, Key>>,
    missing: Mutex<Option<String>>,
}

impl Retriever {
    /// The error that says which key is missing, where one is; `what` is what it would have opened.
    pub(super) fn locked(&self, what: &str) -> Option<TableError> {
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner).take();
        missing.map(|key| TableError::Locked {
            what: what.to_owned(),
            key,
        })
    }
}

impl KeyRetriever for Retriever {
    fn retrieve_key(&self, key_metadata: &[u8]) -> Result<Vec<u8>, ParquetError> {
        let material: KeyMaterial = serde_json::from_slice(key_metadata)
            .map_err(|error| general(format!("the file's key material can't be read: {error}")))?;
        if !material.internal_storage || material.double_wrapping {
            return Err(general(
                "the file's keys are kept outside it or wrapped twice, which is not read here",
            ));
        }
        let master = material.master_key_id;
        let Some(key) = self.ring.get(&master) else {
            let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
            *missing = Some(master.clone());
            return Err(general(format!("there is no key {master}")));
        };
        let damaged = || {
            general(format!(
                "the data key under {master} can't be unwrapped: the file is damaged"
            ))
        };
        let mut wrapped = STANDARD.decode(material.wrapped_key).map_err(|_| damaged())?;
        let (nonce, sealed) = wrapped.split_at_mut_checked(NONCE_LEN).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let opened = cipher(Some(key), &master)?
            .open_in_place(nonce, Aad::from(master.as_bytes()), sealed)
            .map_err(|_| damaged())?;
        Ok(opened.to_vec())
    }
}

#[cfg(test)]
mod tests;
