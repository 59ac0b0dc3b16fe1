//! Stores that are named outside of a configuration: on the command line, and in a recovery kit.

use crate::config::settings::{Checksum, Cloud, Sse, UrlPlace};
use crate::config::url::{address, endpoint};
use crate::config::{host, surroundings};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Why a text does not name a store.
#[derive(Debug, thiserror::Error)]
#[error("{what} ({hint})")]
pub struct BadUrl {
    /// What is wrong with it; repeats no secret.
    pub what: String,
    /// What to do.
    pub hint: String,
}

impl From<(String, String)> for BadUrl {
    fn from((what, hint): (String, String)) -> Self {
        Self { what, hint }
    }
}

impl UrlPlace {
    /// True for what is meant as an address and not as a path.
    pub fn is_url(text: &str) -> bool {
        text.contains("://")
    }

    /// The place that `text` names by itself, with the default of every setting.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        let host = host();
        let read = address(text, &surroundings(&host)).map_err(|all| {
            let none = || ("this is not the address of a store".to_owned(), "s3://bucket/prefix".to_owned());
            BadUrl::from(all.into_iter().next().unwrap_or_else(none))
        })?;
        Ok(Self {
            cloud: read.cloud,
            shown: read.shown,
            bucket: read.bucket,
            prefix: read.prefix,
            endpoint: None,
            region: None,
            path_style: false,
            profile: None,
            credentials_file: None,
            ca_file: None,
            storage_class: None,
            sse: None,
            checksum: Checksum::Auto,
            limit_upload: None,
            limit_download: None,
            allow_http: false,
        })
    }

    /// The address with everything filled in: what another machine, which has another name and other variables, must be given.
    pub fn url(&self) -> String {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        format!("{}://{}{slash}{}", self.cloud.scheme(), self.bucket, self.prefix)
    }

    /// What another machine needs beside [`UrlPlace::url`] and credentials to reach this place, for the recovery kit. Nothing of it is secret.
    pub fn kit_settings(&self) -> BTreeMap<String, String> {
        let file = |path: &PathBuf| path.display().to_string();
        let sse = self.sse.as_ref().map(|sse| match sse {
            Sse::Aes256 => "AES256".to_owned(),
            Sse::Kms(None) => "aws:kms".to_owned(),
            Sse::Kms(Some(key)) => format!("aws:kms:{key}"),
        });
        let checksum = match self.checksum {
            Checksum::Auto => None,
            Checksum::Sha256 => Some("sha256".to_owned()),
            Checksum::Off => Some("none".to_owned()),
        };
        let all = [
            ("endpoint", self.endpoint.clone()),
            ("region", self.region.clone()),
            ("path_style", (self.cloud == Cloud::S3).then(|| self.path_style.to_string())),
            ("allow_http", self.allow_http.then(|| "true".to_owned())),
            ("profile", self.profile.clone()),
            ("ca_file", self.ca_file.as_ref().map(file)),
            ("storage_class", self.storage_class.clone()),
            ("sse", sse),
            ("checksum", checksum),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    /// The place that a kit names. A setting that is not known is passed over: a later program may say more. Files of the machine that the
    /// kit was made on (`ca_file`) and its `profile` are taken as they are; where they are not there, the error names them.
    ///
    /// # Errors
    /// What is wrong with the address or a setting.
    pub fn from_kit(url: &str, settings: &BTreeMap<String, String>) -> Result<Self, BadUrl> {
        let mut place = Self::parse(url)?;
        for (name, value) in settings {
            let flag = value == "true";
            match name.as_str() {
                "endpoint" => place.endpoint = Some(endpoint(value)?.url),
                "region" => place.region = Some(value.clone()),
                "path_style" => place.path_style = flag,
                "allow_http" => place.allow_http = flag,
                "profile" => place.profile = Some(value.clone()),
                "ca_file" => place.ca_file = Some(PathBuf::from(value)),
                "storage_class" => place.storage_class = Some(value.clone()),
                "sse" => {
                    place.sse = Some(match value.strip_prefix("aws:kms") {
                        None => Sse::Aes256,
                        Some(key) => Sse::Kms(key.strip_prefix(':').map(str::to_owned)),
                    });
                }
                "checksum" if value == "sha256" => place.checksum = Checksum::Sha256,
                "checksum" if value == "none" => place.checksum = Checksum::Off,
                _ => {}
            }
        }
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_the_way_through_a_kit() {
        let mut place = UrlPlace::parse("s3://bucket/a/b").unwrap();
        assert_eq!(UrlPlace::from_kit(&place.url(), &place.kit_settings()).unwrap(), place);
        for sse in [Sse::Aes256, Sse::Kms(None), Sse::Kms(Some("arn:aws:kms:x".into()))] {
            place = UrlPlace {
                endpoint: Some("http://nas.local:9000".into()),
                region: Some("eu-central-1".into()),
                path_style: true,
                allow_http: true,
                profile: Some("backup".into()),
                ca_file: Some("/etc/ca.pem".into()),
                storage_class: Some("STANDARD_IA".into()),
                sse: Some(sse),
                checksum: Checksum::Off,
                ..place
            };
            assert_eq!(UrlPlace::from_kit(&place.url(), &place.kit_settings()).unwrap(), place);
        }
        let later = BTreeMap::from([("colour".to_owned(), "blue".to_owned())]);
        UrlPlace::from_kit("s3://bucket", &later).unwrap();
    }

    #[test]
    fn a_bad_address_on_the_command_line_is_not_repeated() {
        let error = UrlPlace::parse("s3://me:canary@bucket/x").unwrap_err().to_string();
        assert!(error.contains("user or a password") && !error.contains("canary"), "{error}");
    }
}
