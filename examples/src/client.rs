//! An HTTP client, and whom it asks.

use std::io;

use reqwest::{Client, ClientBuilder, Url};

use crate::{Chain, urls_or_own};

/// Names and URLs, and a client that can reach them.
pub struct Asked {
    pub targets: Vec<(String, Url)>,
    pub client: Client,
}

/// Asks these URLs, or without any the servers of this machine, which it starts.
pub fn asked(urls: Vec<Url>) -> io::Result<Asked> {
    let client = if urls.is_empty() {
        // No proxy could reach them, and they need no certificates, as they speak plain HTTP.
        build(Client::builder().no_proxy().tls_certs_only([]))?
    } else {
        build(Client::builder())?
    };
    let targets = urls_or_own(urls)?;
    Ok(Asked { targets, client })
}

fn build(builder: ClientBuilder) -> io::Result<Client> {
    // An error says that there is a provider already, and any will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    builder
        .build()
        .map_err(|error| io::Error::other(Chain(&error).to_string()))
}
