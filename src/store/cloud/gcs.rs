//! Google Cloud Storage: where credentials come from.

use super::link::{Link, no_retries};
use super::{CloudSpec, fault};
use crate::store::StoreErrorKind;
use crate::store::s3::failure::Failure;
use object_store::ObjectStore;
use object_store::gcp::GoogleCloudStorageBuilder;
use std::sync::Arc;

/// The file of a person's own login, as `gcloud auth application-default login` makes it.
const AUTHORIZED_USER: &str = "authorized_user";

/// The bucket. Credentials: `credentials_file`; else `GOOGLE_APPLICATION_CREDENTIALS`; else the file of gcloud's own login; else the service
/// account of the machine.
pub(super) fn bucket(spec: &CloudSpec, link: Link) -> Result<Arc<dyn ObjectStore>, Failure> {
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&spec.bucket)
        .with_http_connector(link)
        .with_retry(no_retries());
    if let Some(endpoint) = &spec.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    let unusable = |e: Box<dyn std::error::Error + Send + Sync>| {
        Failure::new(StoreErrorKind::Denied, "no credentials for Google Cloud Storage could be had")
            .because(e)
    };
    builder = match &spec.credentials_file {
        Some(file) => {
            let text = crate::keys::read_secret(file).map_err(|e| unusable(e.into()))?;
            let kind: Kind = serde_json::from_str(&text)
                .map_err(|_| unusable(format!("{} is no JSON of Google's", file.display()).into()))?;
            match kind.kind.as_deref() {
                Some(AUTHORIZED_USER) => builder.with_application_credentials(file.display().to_string()),
                _ => builder.with_service_account_key(text.as_str()),
            }
        }
        None => match std::env::var("GOOGLE_APPLICATION_CREDENTIALS").ok().filter(|path| !path.is_empty()) {
            Some(path) => builder.with_application_credentials(path),
            None => builder,
        },
    };
    let built = builder.build().map_err(|e| {
        // What the library says of a key that it cannot read may hold a piece of it.
        let failure = fault::failure(e);
        match spec.credentials_file {
            Some(_) => unusable("the credentials_file holds no usable key".into()),
            None => unusable(failure.into()),
        }
    })?;
    Ok(Arc::new(built))
}

#[derive(serde::Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: Option<String>,
}
