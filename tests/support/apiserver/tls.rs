//! The double over TLS: with a certificate of its own authority, and reading those of clients.

use super::authority::{Authority, Identity};
use super::der;
use super::wire::Duplex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

/// A configuration that takes clients with a certificate of the authority, and those with none.
pub fn config(authority: &Authority, own: &Identity) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.der()).expect("a root");
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .expect("a verifier");
    let chain = CertificateDer::from_pem_slice(own.certificate.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![chain], key)
        .expect("a certificate and its key");
    Arc::new(config)
}

pub fn wrap(config: &Arc<ServerConfig>, stream: TcpStream) -> io::Result<Box<dyn Duplex>> {
    let session = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
    Ok(Box::new(Encrypted(StreamOwned::new(session, stream))))
}

struct Encrypted(StreamOwned<ServerConnection, TcpStream>);

impl Read for Encrypted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer) {
            // An end without a farewell is an end all the same.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            other => other,
        }
    }
}

impl Write for Encrypted {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Duplex for Encrypted {
    fn socket(&self) -> &TcpStream {
        &self.0.sock
    }

    fn certificate(&self) -> Option<(String, Vec<String>)> {
        let first = self.0.conn.peer_certificates()?.first()?;
        let named = der::certificate(first)?;
        Some((named.common_name, named.organisations))
    }
}
