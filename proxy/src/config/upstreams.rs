//! Upstreams as config gives them, checked one by one and together.

use super::raw::{self, File};
use super::{ConfigError, Validation};
use std::collections::BTreeMap;
use understudy_call::call::Api;
use understudy_call::translate::SPOKEN;
use understudy_client::{AwsCredentials, Secret, SelfHosted, Signing, UpstreamConfig};
use url::Url;

/// First path segments of providers' own APIs, which no upstream may be named after.
const RESERVED_NAMES: [&str; 5] = ["v1", "v1beta", "api", "model", "models"];

impl Validation<'_> {
    pub(super) fn upstreams(&self, file: &File) -> Result<BTreeMap<String, UpstreamConfig>, ConfigError> {
        if file.upstreams.is_empty() {
            return Err(
                self.invalid("no upstream: give at least `upstreams: { openai: { url: https://api.openai.com } }`")
            );
        }
        file.upstreams
            .iter()
            .map(|(name, raw)| Ok((name.clone(), self.upstream(name, raw)?)))
            .collect()
    }

    /// What is said of the variables that `key_env` names and that are not set: no error, since a machine that only
    /// checks a config, or only reads a store, needs no secret.
    pub(super) fn unset_keys(&self, file: &File) -> Vec<String> {
        let unset = |variable: &str| (self.environment)(variable).is_none_or(|text| text.is_empty());
        let keys = file
            .upstreams
            .iter()
            .filter_map(|(name, raw)| Some((name, raw.key_env.as_deref()?)));
        keys.filter(|(_, variable)| unset(variable))
            .map(|(name, variable)| format!("upstreams.{name}.key_env: {variable} is not set, so no key goes with calls that are made to it from here"))
            .collect()
    }

    fn upstream(&self, name: &str, raw: &raw::Upstream) -> Result<UpstreamConfig, ConfigError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || !name.chars().all(fits) {
            return Err(self.invalid(format!(
                "upstreams: `{name}` is no name: use letters, digits, `-`, `_` and `.`"
            )));
        }
        let url = Url::parse(&raw.url)
            .map_err(|error| self.invalid(format!("upstreams.{name}.url: `{}` is not a URL: {error}", raw.url)))?;
        if !raw.allow_link_local && understudy_client::is_refused_url(&url) {
            return Err(self.invalid(format!(
                "upstreams.{name}.url: `{}` is a link-local address or a cloud's metadata service; if it is really meant, say `allow_link_local: true`",
                raw.url
            )));
        }
        let api = raw.api.as_deref().map(|text| self.api(name, text)).transpose()?;
        if raw.key_env.is_some() && raw.key_file.is_some() {
            return Err(self.invalid(format!("upstreams.{name}: give `key_env` or `key_file`, not both")));
        }
        let key = match (&raw.key_env, &raw.key_file) {
            (Some(variable), _) => (self.environment)(variable).filter(|text| !text.is_empty()),
            (_, Some(file)) => Some(
                std::fs::read_to_string(file)
                    .map(|text| text.trim().to_owned())
                    .map_err(|error| self.invalid(format!("upstreams.{name}.key_file: {}: {error}", file.display())))?,
            ),
            _ => None,
        };
        if raw
            .price
            .as_ref()
            .is_some_and(|price| !price.gpu_hour.is_finite() || price.gpu_hour < 0.0)
        {
            return Err(self.invalid(format!("upstreams.{name}.price.gpu_hour: must be 0 or more US dollars")));
        }
        let sign = self.signing(name, &url, raw)?;
        Ok(UpstreamConfig {
            name: name.to_owned(),
            url,
            sign,
            api,
            model: raw.model.clone(),
            ask_usage: raw.ask_usage,
            key: key.map(Secret::new),
            ca_file: raw.ca_file.clone(),
            trusted: raw.trusted,
            allow_link_local: raw.allow_link_local,
            constrain: raw.constrain == raw::Constrain::Schema,
            max_in_flight: raw.max_in_flight,
            price: raw.price.as_ref().map(|price| SelfHosted {
                gpu_hour: price.gpu_hour,
            }),
        })
    }

    /// Region and service as given, or as the host name tells; credentials as AWS's own programs take them.
    fn signing(&self, name: &str, url: &Url, raw: &raw::Upstream) -> Result<Option<Signing>, ConfigError> {
        let given = match (raw.sign, &raw.aws) {
            (Some(raw::Sign::Aws), given) => given.as_ref(),
            (None, None) => return Ok(None),
            (None, Some(_)) => {
                return Err(self.invalid(format!("upstreams.{name}.aws: nothing is signed: add `sign: aws`")));
            }
        };
        let told = Signing::of_host(url.host_str().unwrap_or_default()).unzip();
        let region = given.and_then(|given| given.region.clone()).or(told.0);
        let service = given.and_then(|given| given.service.clone()).or(told.1);
        let (Some(region), Some(service)) = (region, service) else {
            return Err(self.invalid(format!(
                "upstreams.{name}.sign: the host name does not tell region and service: add `aws: {{ region: us-east-1, service: bedrock }}`"
            )));
        };
        let variable = |name: &str| (self.environment)(name).filter(|text| !text.is_empty());
        let pair = variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY"));
        let credentials = pair.map(|(access_key_id, secret)| AwsCredentials {
            access_key_id,
            secret_access_key: Secret::new(secret),
            session_token: variable("AWS_SESSION_TOKEN").map(Secret::new),
        });
        Ok(Some(Signing {
            region,
            service,
            credentials,
        }))
    }

    fn api(&self, upstream: &str, text: &str) -> Result<Api, ConfigError> {
        match Api::from_name(text) {
            Some(api) if SPOKEN.contains(&api) => Ok(api),
            known => Err(self.invalid(format!(
                "upstreams.{upstream}.api: `{text}` is {}: use one of {}",
                if known.is_some() {
                    "no API that we make calls of"
                } else {
                    "no API"
                },
                SPOKEN.map(Api::as_str).join(", ")
            ))),
        }
    }

    pub(super) fn default_upstream(
        &self,
        file: &File,
        upstreams: &BTreeMap<String, UpstreamConfig>,
    ) -> Result<String, ConfigError> {
        let name = match (&file.default_upstream, upstreams.len()) {
            (Some(name), _) => name.clone(),
            (None, 1) => upstreams.keys().next().cloned().unwrap_or_default(),
            (None, _) => return Err(self.invalid("default_upstream: several upstreams and none named as the default")),
        };
        let default = upstreams
            .get(&name)
            .ok_or_else(|| self.invalid(format!("default_upstream: `{name}` is not among the upstreams")))?;
        // Azure's and Groq's own paths begin with /openai.
        let host = default.url.host_str().unwrap_or_default();
        let openai_is_a_path = host.ends_with("azure.com") || host.ends_with("groq.com");
        for other in upstreams.keys() {
            if RESERVED_NAMES.contains(&other.as_str()) || (other == "openai" && openai_is_a_path && *other != name) {
                return Err(self.invalid(format!(
                    "upstreams.{other}: the name is a first path segment of the default upstream's own API, so a key would go to the wrong provider: rename it"
                )));
            }
        }
        Ok(name)
    }
}
