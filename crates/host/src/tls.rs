//! TLS: the certificate that clients see, and the certification authorities that calls trust.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Reads the certificate chain and the key that clients see. An error names the file.
pub fn server(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
    let versions = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| error.to_string())?.with_no_client_auth();
    let config = builder.with_single_cert(certificates(certificate)?, private);
    let fits = |error| format!("{} does not fit {}: {error}", key.display(), certificate.display());
    let mut config = config.map_err(fits)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Makes the TLS of calls. It trusts what the machine trusts, or the file and folder that `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` name in its place, the authorities of the Web, and these additional `files`. An error names
/// the file that is missing or wrong.
pub fn client(files: &[impl AsRef<Path>]) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let (added, _) = roots.add_parsable_certificates(trusted_by_the_machine());
    if let Some(file) = std::env::var_os("SSL_CERT_FILE").filter(|_| added == 0) {
        return Err(format!(
            "SSL_CERT_FILE: {} has no certificate that can be read",
            Path::new(&file).display()
        ));
    }
    for file in files {
        for certificate in certificates(file.as_ref())? {
            roots.add(certificate).map_err(|error| unreadable(file.as_ref(), &error))?;
        }
    }
    let builder = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// On Linux this is the one file in which a distribution keeps all authorities, if there is one. The folder beside
/// it has the same ones as hundreds of files, and reading them took a third of the time until the host listened.
fn trusted_by_the_machine() -> Vec<CertificateDer<'static>> {
    #[cfg(target_os = "linux")]
    if ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().all(|name| std::env::var_os(name).is_none()) {
        let bundle = openssl_probe::probe().cert_file;
        let bundle = rustls_native_certs::load_certs_from_paths(bundle.as_deref(), None);
        if !bundle.certs.is_empty() {
            return bundle.certs;
        }
    }
    rustls_native_certs::load_native_certs().certs
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| unreadable(file, &error))?;
    if certificates.is_empty() {
        Err(format!("{} has no certificate", file.display()))
    } else {
        Ok(certificates)
    }
}

fn unreadable(file: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{} cannot be used: {error}", file.display())
}
