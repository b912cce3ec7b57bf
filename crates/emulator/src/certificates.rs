//! The certificates: an authority of this process only, and a leaf for the hosts of Azure.

use std::io;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

pub(crate) struct Certificates {
    pub(crate) ca_pem: String,
    pub(crate) server: ServerConfig,
}

impl Certificates {
    /// New ones. The authority's key is forgotten at once, so that it can sign nothing else.
    pub(crate) fn new() -> io::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Key Vault emulator (do not trust elsewhere)");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let ca = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;

        let names: Vec<String> = NAMES.split(' ').map(str::to_owned).collect();
        let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, "Key Vault emulator");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // OpenSSL's strict verification, which Python 3.13 switches on, requires it.
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let leaf = params.signed_by(&key, &ca).map_err(io::Error::other)?;

        let provider = rustls::crypto::ring::default_provider().into();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|it| it.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], private))
            .map_err(io::Error::other)?;
        Ok(Self { ca_pem: ca.pem(), server })
    }
}

const NAMES: &str = "*.vault.azure.net *.vault.azure.cn *.vault.usgovcloudapi.net login.microsoftonline.com \
                     login.chinacloudapi.cn login.microsoftonline.us localhost 127.0.0.1";
