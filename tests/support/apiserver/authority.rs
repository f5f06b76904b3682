//! The certificate authority of the double's cluster: its own certificate, those of clients, and the answers to signing
//! requests, by the rules of kube-controller-manager's approver and signer for kubelet clients.

use super::der;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SignatureAlgorithm, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use std::time::{Duration, SystemTime};

/// A certificate and its key, both as PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

/// Clocks of nodes may be a little behind.
const BEHIND: Duration = Duration::from_secs(300);
/// The extension for alternative names, as it stands in a request's attributes.
const ALTERNATIVE_NAMES: &[u8] = &[0x06, 0x03, 0x55, 0x1d, 0x11];

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    /// For a server of these names and addresses.
    pub fn server(&self, names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("names");
        self.identity(params, "kube-apiserver", &[], ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// For a user in these groups, valid from `begin` for `life`.
    pub fn client(&self, name: &str, groups: &[&str], begin: SystemTime, life: Duration) -> Identity {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        set_validity(&mut params, begin, life);
        self.identity(params, name, groups, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn identity(
        &self,
        mut params: CertificateParams,
        name: &str,
        groups: &[&str],
        usage: ExtendedKeyUsagePurpose,
    ) -> Identity {
        let key = KeyPair::generate().expect("a key");
        params.distinguished_name = distinguished(name, groups.iter().copied());
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// The certificate for a signing request that [`check`] accepts.
    pub fn sign(&self, request: &Accepted, life: Duration) -> String {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        set_validity(&mut params, SystemTime::now() - BEHIND, life + BEHIND);
        params.distinguished_name = distinguished(&request.name, ["system:nodes"]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.signed_by(request, &self.issuer).expect("a certificate").pem()
    }
}

fn distinguished<'a>(name: &str, groups: impl IntoIterator<Item = &'a str>) -> DistinguishedName {
    let mut out = DistinguishedName::new();
    for group in groups {
        // One only of a kind: what a node's certificate has.
        out.push(DnType::OrganizationName, group);
    }
    out.push(DnType::CommonName, name);
    out
}

fn set_validity(params: &mut CertificateParams, begin: SystemTime, life: Duration) {
    let since = begin.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    // Certificates have whole seconds.
    let since = Duration::from_secs(since.as_secs());
    params.not_before = date_time_ymd(1970, 1, 1) + since;
    params.not_after = date_time_ymd(1970, 1, 1) + since + life;
}

/// Of a request that may be signed: whom it names and its key.
pub struct Accepted {
    pub name: String,
    key: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

impl PublicKeyData for Accepted {
    fn der_bytes(&self) -> &[u8] {
        &self.key
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

/// What the approver and the signer want of a kubelet's request, or what is wrong with this one.
pub fn check(pem: &[u8], usages: &[&str]) -> Result<Accepted, String> {
    let der = CertificateSigningRequestDer::from_pem_slice(pem).map_err(|e| format!("no PEM request: {e}"))?;
    let request = der::request(&der).ok_or("not a PKCS#10 request")?;
    let known = ring::default_provider().signature_verification_algorithms.all;
    let fitting = known.iter().filter(|algorithm| {
        algorithm.public_key_alg_id().as_ref() == request.named.key_algorithm
            && algorithm.signature_alg_id().as_ref() == request.signature_algorithm
    });
    let mut fitting = fitting.peekable();
    fitting.peek().ok_or("a key or signature of an unknown kind")?;
    if !fitting.any(|a| a.verify_signature(request.named.key, request.info, request.signature).is_ok()) {
        return Err("its signature is not of its key".to_owned());
    }
    let named = &request.named;
    if named.organisations != ["system:nodes"] {
        return Err(format!("the organisation is {:?}, not system:nodes alone", named.organisations));
    }
    if named.common_name.strip_prefix("system:node:").is_none_or(str::is_empty) {
        return Err(format!("the common name is {:?}, not that of a node", named.common_name));
    }
    if request.attributes.windows(ALTERNATIVE_NAMES.len()).any(|bytes| bytes == ALTERNATIVE_NAMES) {
        return Err("it has alternative names".to_owned());
    }
    let mut usages = usages.to_vec();
    usages.sort_unstable();
    if usages != ["client auth", "digital signature"]
        && usages != ["client auth", "digital signature", "key encipherment"]
    {
        return Err(format!("the usages are {usages:?}"));
    }
    // The object identifiers of elliptic curves and of RSA; what is left is Ed25519.
    let algorithm = match named.key_algorithm {
        [0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, ..] if named.key.len() == 65 => &rcgen::PKCS_ECDSA_P256_SHA256,
        [0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, ..] => &rcgen::PKCS_ECDSA_P384_SHA384,
        [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, ..] => &rcgen::PKCS_RSA_SHA256,
        _ => &rcgen::PKCS_ED25519,
    };
    Ok(Accepted { name: named.common_name.clone(), key: named.key.to_vec(), algorithm })
}
