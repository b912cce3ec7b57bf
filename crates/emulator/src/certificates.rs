//! The certificate authority of one process, and its certificate for the hosts of Azure.

use std::error::Error;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Generates a certificate authority (as PEM) and a TLS server with a certificate that it has signed. The
/// private key of the authority is dropped, so that it signs no other certificate.
pub(crate) fn generate() -> Result<(String, ServerConfig), Box<dyn Error + Send + Sync>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Key Vault emulator (do not trust elsewhere)");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let names: Vec<String> = NAMES.split(' ').map(str::to_owned).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "Key Vault emulator");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Required by OpenSSL's strict verification, the default of Python 3.13.
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let leaf = params.signed_by(&key, &ca)?;

    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let server = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)?;
    Ok((ca.pem(), server))
}

const NAMES: &str = "*.vault.azure.net *.vault.azure.cn *.vault.usgovcloudapi.net login.microsoftonline.com \
                     login.chinacloudapi.cn login.microsoftonline.us localhost 127.0.0.1";
