//! Opens the store that a location names. Credentials come from the environment alone, never from a location.

use super::Store;
use super::error::{StoreError, StoreErrorKind};
use super::patience::{Failure, Patience};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use std::str::FromStr;
use std::sync::Arc;

const ACTION: &str = "open the store at";

pub(super) fn open(location: &str, variables: impl IntoIterator<Item = (String, String)>) -> Result<Store, StoreError> {
    match location.split_once("://") {
        None => directory(location, location),
        Some(("file", path)) => directory(location, file_path(location, path)?),
        Some(("s3" | "s3a", rest)) => s3(location, rest, variables),
        Some(("az" | "azure" | "abfs" | "abfss", rest)) => azure(location, rest, variables),
        Some(("gs", rest)) => google(location, rest, variables),
        Some((scheme, _)) => Err(refused(
            location,
            format!(
                "unknown scheme {scheme:?}; use a directory, s3://bucket/prefix, az://container/prefix or \
                 gs://bucket/prefix"
            ),
        )),
    }
}

fn refused(location: &str, message: impl Into<String>) -> StoreError {
    StoreError::refused(StoreErrorKind::Invalid, ACTION, location, message)
}

fn directory(location: &str, directory: impl AsRef<std::path::Path>) -> Result<Store, StoreError> {
    let directory = directory.as_ref();
    let refused = |kind, message: String| StoreError::refused(kind, ACTION, location, message);
    if directory.as_os_str().is_empty() {
        return Err(refused(StoreErrorKind::Invalid, "the location is empty".into()));
    }
    std::fs::create_dir_all(directory).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => refused(StoreErrorKind::Denied, error.to_string()),
        std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::NotADirectory => {
            refused(StoreErrorKind::Invalid, "it is not a directory".into())
        }
        _ => refused(StoreErrorKind::Retryable, error.to_string()),
    })?;
    let objects = LocalFileSystem::new_with_prefix(directory)
        .map_err(|error| StoreError::failed(ACTION, location, "", Failure::Store(error)))?
        .with_fsync(true);
    Ok(Store::of(
        Arc::new(objects),
        Path::default(),
        location,
        Patience::local(),
    ))
}

/// The path in a `file://` location; percent-encoding is decoded, a host is refused.
fn file_path(location: &str, path: &str) -> Result<std::path::PathBuf, StoreError> {
    let invalid = || refused(location, "write it as file:///directory");
    if !path.starts_with('/') {
        return Err(invalid());
    }
    url::Url::parse(location)
        .ok()
        .and_then(|url| url.to_file_path().ok())
        .ok_or_else(invalid)
}

fn s3(location: &str, rest: &str, variables: impl IntoIterator<Item = (String, String)>) -> Result<Store, StoreError> {
    let (bucket, prefix) = bucket_and_prefix(location, rest, "s3://bucket/prefix")?;
    let mut builder = AmazonS3Builder::new()
        .with_client_options(client_options())
        .with_retry(no_retries());
    for (key, value) in of_provider("AWS_", variables) {
        if matches!(key, AmazonS3ConfigKey::Endpoint) && value.starts_with("http://") {
            builder = builder.with_allow_http(true);
        }
        builder = builder.with_config(key, value);
    }
    remote(location, prefix, || builder.with_bucket_name(bucket).build())
}

fn azure(
    location: &str,
    rest: &str,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Store, StoreError> {
    let (container, prefix) = bucket_and_prefix(location, rest, "az://container/prefix")?;
    let mut builder = MicrosoftAzureBuilder::new()
        .with_client_options(client_options())
        .with_retry(no_retries());
    for (key, value) in of_provider("AZURE_", variables) {
        if matches!(key, AzureConfigKey::Endpoint) && value.starts_with("http://") {
            builder = builder.with_allow_http(true);
        }
        builder = builder.with_config(key, value);
    }
    // `container@account.dfs.core.windows.net` is read by the builder.
    let builder = match container.contains('@') {
        true => builder.with_url(location),
        false => builder.with_container_name(container),
    };
    remote(location, prefix, || builder.build())
}

fn google(
    location: &str,
    rest: &str,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Store, StoreError> {
    let (bucket, prefix) = bucket_and_prefix(location, rest, "gs://bucket/prefix")?;
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_client_options(client_options())
        .with_retry(no_retries());
    for (key, value) in of_provider("GOOGLE_", variables) {
        if matches!(key, GoogleConfigKey::BaseUrl) && value.starts_with("http://") {
            builder = builder.with_client_options(client_options().with_allow_http(true));
        }
        builder = builder.with_config(key, value);
    }
    remote(location, prefix, || builder.with_bucket_name(bucket).build())
}

fn bucket_and_prefix<'a>(location: &str, rest: &'a str, form: &str) -> Result<(&'a str, Path), StoreError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(refused(location, format!("write it as {form}")));
    }
    let prefix = Path::parse(prefix).map_err(|error| refused(location, error.to_string()))?;
    Ok((bucket, prefix))
}

/// The settings among variables that are a provider's.
fn of_provider<K: FromStr>(
    start: &'static str,
    variables: impl IntoIterator<Item = (String, String)>,
) -> impl Iterator<Item = (K, String)> {
    variables.into_iter().filter_map(move |(name, value)| {
        let key = name
            .starts_with(start)
            .then(|| name.to_ascii_lowercase().parse().ok())??;
        Some((key, value))
    })
}

/// [`Patience`] times out by what is moved; a variable such as `AWS_TIMEOUT` still sets a limit of its own.
fn client_options() -> ClientOptions {
    ClientOptions::new().with_timeout_disabled()
}

/// [`Patience`] asks again.
fn no_retries() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

fn remote<S: ObjectStore>(
    location: &str,
    prefix: Path,
    build: impl FnOnce() -> object_store::Result<S>,
) -> Result<Store, StoreError> {
    // The client panics without a process-wide provider. `main` installs the same one; a second install changes nothing.
    drop(rustls::crypto::ring::default_provider().install_default());
    let objects = build().map_err(|error| refused(location, error.to_string()))?;
    Ok(Store::of(Arc::new(objects), prefix, location, Patience::remote()))
}
