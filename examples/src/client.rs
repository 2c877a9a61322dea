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
    let client = client(urls.is_empty(), |builder| builder)?;
    let targets = urls_or_own(urls)?;
    Ok(Asked { targets, client })
}

/// A client for the program's own servers, or for any server.
pub fn client(
    is_for_own: bool,
    set_up: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> io::Result<Client> {
    let mut builder = Client::builder();
    if is_for_own {
        // A proxy could not reach these servers. They speak plain HTTP, so they need no certificates.
        builder = builder.no_proxy().tls_certs_only([]);
    }
    // An error means that there is a provider already, and any provider is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    set_up(builder)
        .build()
        .map_err(|error| io::Error::other(Chain(&error).to_string()))
}
