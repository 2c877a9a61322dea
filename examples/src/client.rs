//! An HTTP client, and the URLs that it requests.

use std::io;

use reqwest::{Client, ClientBuilder, Url};

use crate::{Chain, urls_or_own};

/// Names and URLs, and a client that can reach them.
pub struct Asked {
    pub targets: Vec<(String, Url)>,
    pub client: Client,
}

/// These URLs; or, if there are none, URLs of servers that it starts on this machine.
pub fn asked(urls: Vec<Url>) -> io::Result<Asked> {
    let client = if urls.is_empty() {
        // A proxy could not reach these servers. They speak plain HTTP, so they need no certificates.
        build(Client::builder().no_proxy().tls_certs_only([]))?
    } else {
        build(Client::builder())?
    };
    let targets = urls_or_own(urls)?;
    Ok(Asked { targets, client })
}

fn build(builder: ClientBuilder) -> io::Result<Client> {
    // An error means that there is a provider already, and any provider is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    builder
        .build()
        .map_err(|error| io::Error::other(Chain(&error).to_string()))
}
