//! Looking for credentials: one place after the other, each with a bound on its time.
//!
//! A place that has none is passed over; one that says it has some and cannot give them is an error, as it is with AWS's own tools: else a
//! mistake in it would make another account's credentials be used.

#![expect(deprecated, reason = "the file types are re-exported under these names only")]

use crate::store::s3::credentials::error::{CredentialsError, reason};
use crate::store::s3::credentials::profiles::{ProfileFiles, Stamp, setting};
use crate::store::s3::credentials::{CredentialsSpec, Environment, Timestamp};
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds::{self, credentials::ImdsCredentialsProvider};
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles as AwsFiles};
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::{StaticConfiguration, WebIdentityTokenCredentialsProvider};
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError as AwsError;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder as HttpBuilder, Connector};
use object_store::aws::AwsCredential;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A service or a program that takes longer gives nothing.
const LIMIT: Duration = Duration::from_secs(60);
/// An address that only clouds have: where there is none, nobody answers.
const INSTANCE_LIMIT: Duration = Duration::from_secs(2);
const ANYWHERE: &str = "us-east-1";

/// Where to look.
pub(super) struct Chain {
    pub spec: CredentialsSpec,
    pub environment: Environment,
}

/// What was found.
pub(super) struct Loaded {
    pub credential: Arc<AwsCredential>,
    pub expires: Option<Timestamp>,
    /// Where, in words.
    pub source: String,
    /// The files that it depends on.
    stamps: Vec<Stamp>,
}

impl Loaded {
    /// A file has changed since: the credentials may have been exchanged.
    pub(super) fn changed(&self) -> bool {
        self.stamps.iter().any(Stamp::changed)
    }
}

/// What a place answered.
enum Answer {
    Given(Credentials),
    /// It has none; why.
    Nothing(String),
    /// It has some, and cannot give them; why.
    Broken(String),
}

impl Chain {
    fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.trim().is_empty())
    }

    fn files(&self) -> ProfileFiles {
        ProfileFiles::of(&|name| self.variable(name))
    }

    fn profile(&self) -> String {
        let named = || self.variable("AWS_PROFILE").filter(|_| self.spec.credentials_file.is_none());
        self.spec.profile.clone().or_else(named).unwrap_or_else(|| "default".to_owned())
    }

    pub(super) fn region(&self) -> Option<String> {
        let variable = || self.variable("AWS_REGION").or_else(|| self.variable("AWS_DEFAULT_REGION"));
        let own = || {
            let text = crate::keys::read_secret(self.spec.credentials_file.as_deref()?).ok()?;
            setting(&text, &self.profile(), "region")
        };
        let profile = || self.files().setting(&self.profile(), "region");
        self.spec.region.clone().or_else(own).or_else(variable).or_else(profile)
    }

    /// Looks. Reads files anew each time.
    pub(super) async fn load(&self) -> Result<Loaded, CredentialsError> {
        if let Some(file) = &self.spec.credentials_file {
            return self.look_in_own_file(file).await;
        }
        if self.spec.profile.is_some() {
            let (words, answer, stamps) = self.look_in_profile().await;
            return only(words, answer, stamps);
        }
        let mut looked = Vec::new();
        let mut next = |words: String, answer: Answer, stamps: Vec<Stamp>| match answer {
            Answer::Given(credentials) => Some(Ok(loaded(&credentials, words, stamps))),
            Answer::Broken(why) => Some(Err(CredentialsError::Unusable { source_name: words, why })),
            Answer::Nothing(why) => {
                looked.push(format!("{words} ({why})"));
                None
            }
        };
        if let Some(end) =
            next("environment variable AWS_ACCESS_KEY_ID".into(), self.look_in_environment(), Vec::new())
        {
            return end;
        }
        let (words, answer, stamps) = self.look_in_profile().await;
        if let Some(end) = next(words, answer, stamps) {
            return end;
        }
        let (words, answer, stamps) = self.look_in_web_identity().await;
        if let Some(end) = next(words, answer, stamps) {
            return end;
        }
        if let Some(end) =
            next("the role of the container".into(), self.look_in_container().await, Vec::new())
        {
            return end;
        }
        if let Some(end) = next("the instance role of IMDS".into(), self.look_in_instance().await, Vec::new())
        {
            return end;
        }
        Err(CredentialsError::NoneFound { looked })
    }

    fn look_in_environment(&self) -> Answer {
        let key = self.variable("AWS_ACCESS_KEY_ID");
        let secret = self.variable("AWS_SECRET_ACCESS_KEY").or_else(|| self.variable("SECRET_ACCESS_KEY"));
        let given = |key, secret| {
            Credentials::new(key, secret, self.variable("AWS_SESSION_TOKEN"), None, "environment")
        };
        match (key, secret) {
            (Some(key), Some(secret)) => Answer::Given(given(key, secret)),
            (None, None) => Answer::Nothing("not set".into()),
            (Some(_), None) => Answer::Broken("AWS_SECRET_ACCESS_KEY is not set".into()),
            (None, Some(_)) => Answer::Nothing("not set, though AWS_SECRET_ACCESS_KEY is".into()),
        }
    }

    async fn look_in_own_file(&self, file: &Path) -> Result<Loaded, CredentialsError> {
        let profile = self.profile();
        let words = format!("profile {profile:?} of {}", file.display());
        let stamps = vec![Stamp::of(file)];
        let text = match crate::keys::read_secret(file) {
            Ok(text) => text,
            Err(error) => {
                return Err(CredentialsError::Unusable { source_name: words, why: reason(&error) });
            }
        };
        let files = AwsFiles::builder().with_contents(ProfileFileKind::Credentials, text.as_str()).build();
        let answer = self.ask_profile(&profile, files).await;
        only(words, answer, stamps)
    }

    async fn look_in_profile(&self) -> (String, Answer, Vec<Stamp>) {
        let (profile, places) = (self.profile(), self.files());
        let words = format!("profile {profile:?} of {}", places.words(&profile));
        let stamps = places.all().map(|path| Stamp::of(path)).collect();
        let mut files = AwsFiles::builder();
        let there = |path: &&std::path::PathBuf| path.exists();
        // A profile that somebody named and that is not there is a mistake: going on would find another account's credentials.
        let named = self.variable("AWS_PROFILE").is_some();
        let nothing = |why: String| if named { Answer::Broken(why) } else { Answer::Nothing(why) };
        if places.all().filter(there).count() == 0 {
            let why = if places.all().count() == 0 { "HOME is not set" } else { "no such file" };
            return (words, nothing(why.into()), stamps);
        }
        if let Some(path) = places.config.as_ref().filter(there) {
            files = files.with_file(ProfileFileKind::Config, path);
        }
        if let Some(path) = places.credentials.as_ref().filter(there) {
            files = files.with_file(ProfileFileKind::Credentials, path);
        }
        let answer = self.ask_profile(&profile, files.build()).await;
        let answer = match answer {
            Answer::Nothing(why) => nothing(why),
            answer => answer,
        };
        (words, answer, stamps)
    }

    async fn ask_profile(&self, profile: &str, files: AwsFiles) -> Answer {
        let provider = ProfileFileCredentialsProvider::builder()
            .configure(&self.services())
            .profile_name(profile)
            .profile_files(files)
            // Which a profile may name as its source of credentials.
            .with_custom_provider("EcsContainer", self.container())
            .with_custom_provider("Ec2InstanceMetadata", self.instance_of_profile())
            .build();
        ask(&provider, LIMIT).await
    }

    async fn look_in_web_identity(&self) -> (String, Answer, Vec<Stamp>) {
        let words = "web identity of AWS_WEB_IDENTITY_TOKEN_FILE".to_owned();
        let Some(file) = self.variable("AWS_WEB_IDENTITY_TOKEN_FILE") else {
            return (words, Answer::Nothing("not set".into()), Vec::new());
        };
        let Some(role_arn) = self.variable("AWS_ROLE_ARN") else {
            // Half of it is a mistake, and no reason to go on to whatever role the machine has.
            return (words, Answer::Broken("AWS_ROLE_ARN is not set".into()), Vec::new());
        };
        let stamps = vec![Stamp::of(Path::new(&file))];
        let session_name = self.variable("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "backstay".into());
        let configuration =
            StaticConfiguration { web_identity_token_file: file.into(), role_arn, session_name };
        let provider = WebIdentityTokenCredentialsProvider::builder()
            .configure(&self.services())
            .static_configuration(configuration)
            .build();
        (words, ask(&provider, LIMIT).await, stamps)
    }

    async fn look_in_container(&self) -> Answer {
        let names = ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];
        if names.iter().all(|name| self.variable(name).is_none()) {
            return Answer::Nothing(format!("{} is not set", names[0]));
        }
        ask(&self.container(), LIMIT).await
    }

    fn container(&self) -> EcsCredentialsProvider {
        EcsCredentialsProvider::builder().configure(&self.neighbours()).build()
    }

    fn instance_of_profile(&self) -> ImdsCredentialsProvider {
        ImdsCredentialsProvider::builder().configure(&self.neighbours()).build()
    }

    async fn look_in_instance(&self) -> Answer {
        if self.variable("AWS_EC2_METADATA_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true")) {
            return Answer::Nothing("switched off by AWS_EC2_METADATA_DISABLED".into());
        }
        let mut client = imds::Client::builder()
            .configure(&self.neighbours())
            .max_attempts(1)
            .connect_timeout(INSTANCE_LIMIT / 2)
            .read_timeout(INSTANCE_LIMIT);
        if let Some(endpoint) = self.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
            client = match client.endpoint(&endpoint) {
                Ok(client) => client,
                Err(_) => return Answer::Broken("AWS_EC2_METADATA_SERVICE_ENDPOINT is no address".into()),
            };
        }
        let provider = ImdsCredentialsProvider::builder()
            .configure(&self.neighbours())
            .imds_client(client.build())
            .build();
        match ask(&provider, INSTANCE_LIMIT).await {
            Answer::Broken(_) => Answer::Nothing("it gave none within 2 s".into()),
            answer => answer,
        }
    }

    /// How services of AWS (STS, SSO) are asked: as stores are, through the proxy that the environment names for them.
    fn services(&self) -> ProviderConfig {
        self.asking(ProxyConfig::from_env())
    }

    /// How the metadata of this machine or container are asked: at addresses that only it has, so a proxy would ask its own, or nobody.
    fn neighbours(&self) -> ProviderConfig {
        self.asking(ProxyConfig::disabled())
    }

    fn asking(&self, proxy: ProxyConfig) -> ProviderConfig {
        let http = HttpBuilder::new().build_with_connector_fn(move |settings, components| {
            let mut connector = Connector::builder();
            connector.set_connector_settings(settings.cloned());
            if let Some(components) = components {
                connector.set_sleep_impl(components.sleep_impl());
            }
            let connector = connector.tls_provider(Provider::Rustls(CryptoMode::Ring));
            connector.proxy_config(proxy.clone()).build()
        });
        let region = self.region().unwrap_or_else(|| ANYWHERE.to_owned());
        ProviderConfig::without_region()
            .with_region(Some(Region::new(region)))
            .with_http_client(http)
            .with_behavior_version(Some(BehaviorVersion::latest()))
    }
}

async fn ask(provider: &impl ProvideCredentials, limit: Duration) -> Answer {
    match tokio::time::timeout(limit, provider.provide_credentials()).await {
        Err(_) => Answer::Broken(format!("it gave none within {} s", limit.as_secs())),
        Ok(Ok(credentials)) => Answer::Given(credentials),
        Ok(Err(error @ AwsError::CredentialsNotLoaded(_))) => Answer::Nothing(nothing(&error)),
        Ok(Err(error)) => Answer::Broken(reason(&error)),
    }
}

/// Why there is nothing; what the library says first is only that.
fn nothing(error: &AwsError) -> String {
    std::error::Error::source(error).map_or_else(|| "it has none".to_owned(), reason)
}

fn only(words: String, answer: Answer, stamps: Vec<Stamp>) -> Result<Loaded, CredentialsError> {
    match answer {
        Answer::Given(credentials) => Ok(loaded(&credentials, words, stamps)),
        Answer::Nothing(why) | Answer::Broken(why) => {
            Err(CredentialsError::Unusable { source_name: words, why })
        }
    }
}

fn loaded(credentials: &Credentials, source: String, stamps: Vec<Stamp>) -> Loaded {
    let credential = AwsCredential {
        key_id: credentials.access_key_id().to_owned(),
        secret_key: credentials.secret_access_key().to_owned(),
        token: credentials.session_token().map(str::to_owned),
    };
    let expires = credentials.expiry().and_then(|expiry| Timestamp::try_from(expiry).ok());
    Loaded { credential: Arc::new(credential), expires, source, stamps }
}
