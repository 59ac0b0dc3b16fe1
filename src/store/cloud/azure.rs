//! Azure Blob Storage: which account, and where credentials come from.

use super::link::{Link, no_retries};
use super::{CloudSpec, fault};
use crate::store::StoreErrorKind;
use crate::store::s3::failure::Failure;
use object_store::ObjectStore;
use object_store::azure::{MicrosoftAzureBuilder, split_sas};
use std::collections::BTreeMap;
use std::sync::Arc;

fn denied(text: impl Into<String>) -> Failure {
    Failure::new(StoreErrorKind::Denied, text)
}

/// The container. Credentials: the connection string in `credentials_file`; else `AZURE_STORAGE_ACCOUNT_KEY`, `AZURE_STORAGE_SAS_TOKEN`, a service
/// principal (`AZURE_CLIENT_ID`, `AZURE_CLIENT_SECRET`, `AZURE_TENANT_ID`), a workload identity (`AZURE_FEDERATED_TOKEN_FILE`); else the
/// identity of the machine.
pub(super) fn container(spec: &CloudSpec, link: Link) -> Result<Arc<dyn ObjectStore>, Failure> {
    let text = match &spec.credentials_file {
        Some(file) => crate::keys::read_secret(file).map(Some),
        None => Ok(None),
    };
    let text = text.map_err(|e| denied("no credentials for Azure could be had").because(e))?;
    let said = parts(text.as_ref().map_or("", |text| text.trim()));
    let endpoint = spec.endpoint.as_deref().unwrap_or_default();
    let variable = || std::env::var("AZURE_STORAGE_ACCOUNT_NAME").ok().filter(|name| !name.is_empty());
    let named = said.get("AccountName").map(|name| (*name).to_owned());
    let (account, in_path) = match in_host(endpoint) {
        Some(account) => (account, false),
        None => (
            named.or_else(variable).ok_or_else(|| {
                denied("the account is not known: neither `endpoint`, nor a connection string in `credentials_file`, nor AZURE_STORAGE_ACCOUNT_NAME names it")
            })?,
            true,
        ),
    };
    let url = match (endpoint, in_path) {
        ("", _) => format!("https://{account}.blob.core.windows.net"),
        (_, true) => format!("{endpoint}/{account}"),
        (_, false) => endpoint.to_owned(),
    };
    let builder = match &spec.credentials_file {
        None => MicrosoftAzureBuilder::from_env(),
        Some(_) => MicrosoftAzureBuilder::new(),
    };
    let mut builder = builder
        .with_account(account)
        .with_container_name(&spec.bucket)
        .with_use_emulator(false)
        .with_endpoint(url)
        .with_http_connector(link)
        .with_retry(no_retries());
    if spec.credentials_file.is_some() {
        builder = match (said.get("AccountKey"), said.get("SharedAccessSignature")) {
            (Some(key), _) => builder.with_access_key(*key),
            (None, Some(sas)) => {
                let pairs = split_sas(sas)
                    .map_err(|_| denied("the SharedAccessSignature in the credentials_file is none"))?;
                builder.with_sas_authorization(pairs)
            }
            (None, None) => {
                return Err(denied(
                    "the credentials_file holds no connection string with an AccountKey or a SharedAccessSignature",
                ));
            }
        };
    }
    let built = builder.build().map_err(|e| match spec.credentials_file {
        // What the library says of a key that it cannot read may hold a piece of it.
        Some(_) => denied("the credentials_file holds no usable key"),
        None => denied("no credentials for Azure could be had").because(fault::failure(e)),
    })?;
    Ok(Arc::new(built))
}

/// The account that a server of Azure's is named after: `ACCOUNT.blob.…`.
fn in_host(endpoint: &str) -> Option<String> {
    let uri: http::Uri = endpoint.parse().ok()?;
    let (account, rest) = uri.host()?.split_once('.')?;
    rest.starts_with("blob.").then(|| account.to_owned())
}

/// The parts of a connection string.
fn parts(text: &str) -> BTreeMap<&str, &str> {
    text.split(';').filter_map(|part| part.trim().split_once('=')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_in_the_servers_name_or_in_the_connection_string() {
        assert_eq!(in_host("https://me.blob.core.windows.net").as_deref(), Some("me"));
        assert_eq!(in_host("http://127.0.0.1:10000"), None);
        let said = parts("DefaultEndpointsProtocol=https;AccountName=me;AccountKey=a/b+c==;");
        assert_eq!((said["AccountName"], said["AccountKey"]), ("me", "a/b+c=="));
    }
}
