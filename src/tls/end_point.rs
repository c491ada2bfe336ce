//! The channel binding `tls-server-end-point`: a hash of the certificate, made the way the certificate says.
//!
//! RFC 5929, section 4.1. Used both ways: for the certificate that a client was shown and for the one that a
//! server showed us.

use aws_lc_rs::digest::{
    self, Algorithm, SHA3_256, SHA3_384, SHA3_512, SHA224, SHA256, SHA384, SHA512, SHA512_256,
};
use rustls_pki_types::CertificateDer;
use x509_parser::{parse_x509_certificate, signature_algorithm::RsaSsaPssParams, x509::AlgorithmIdentifier};

/// The binding of a certificate; `None` where the RFC defines none, because its signature has no hash of its
/// own (Ed25519, Ed448, ML-DSA) or the certificate cannot be read.
pub(crate) fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let algorithm = hash_of_signature(&parsed.signature_algorithm)?;
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

/// The hash in a signature algorithm, MD5 and SHA-1 replaced by SHA-256.
fn hash_of_signature(signature: &AlgorithmIdentifier<'_>) -> Option<&'static Algorithm> {
    Some(match signature.algorithm.to_id_string().as_str() {
        // md5- and sha1WithRSAEncryption, dsa-with-sha1, ecdsa-with-SHA1
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.10040.4.3" | "1.2.840.10045.4.1" => {
            &SHA256
        }
        // sha…WithRSAEncryption, id-dsa-with-sha…, ecdsa-with-SHA…
        "1.2.840.113549.1.1.14" | "2.16.840.1.101.3.4.3.1" | "1.2.840.10045.4.3.1" => &SHA224,
        "1.2.840.113549.1.1.11" | "2.16.840.1.101.3.4.3.2" | "1.2.840.10045.4.3.2" => &SHA256,
        "1.2.840.113549.1.1.12" | "2.16.840.1.101.3.4.3.3" | "1.2.840.10045.4.3.3" => &SHA384,
        "1.2.840.113549.1.1.13" | "2.16.840.1.101.3.4.3.4" | "1.2.840.10045.4.3.4" => &SHA512,
        "1.2.840.113549.1.1.16" => &SHA512_256,
        // id-ecdsa-with-sha3-…, id-rsassa-pkcs1-v1-5-with-sha3-…
        "2.16.840.1.101.3.4.3.10" | "2.16.840.1.101.3.4.3.14" => &SHA3_256,
        "2.16.840.1.101.3.4.3.11" | "2.16.840.1.101.3.4.3.15" => &SHA3_384,
        "2.16.840.1.101.3.4.3.12" | "2.16.840.1.101.3.4.3.16" => &SHA3_512,
        // id-RSASSA-PSS: the hash stands in its parameters
        "1.2.840.113549.1.1.10" => {
            let parameters = RsaSsaPssParams::try_from(signature.parameters.as_ref()?).ok()?;
            return hash(&parameters.hash_algorithm_oid().to_id_string());
        }
        _ => return None,
    })
}

fn hash(oid: &str) -> Option<&'static Algorithm> {
    Some(match oid {
        // id-md5, id-sha1, id-sha256
        "1.2.840.113549.2.5" | "1.3.14.3.2.26" | "2.16.840.1.101.3.4.2.1" => &SHA256,
        "2.16.840.1.101.3.4.2.2" => &SHA384,
        "2.16.840.1.101.3.4.2.3" => &SHA512,
        "2.16.840.1.101.3.4.2.4" => &SHA224,
        "2.16.840.1.101.3.4.2.6" => &SHA512_256,
        "2.16.840.1.101.3.4.2.8" => &SHA3_256,
        "2.16.840.1.101.3.4.2.9" => &SHA3_384,
        "2.16.840.1.101.3.4.2.10" => &SHA3_512,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::{path::Path, process::Command};

    use super::*;
    use crate::tls::read_certificates;

    fn openssl(arguments: &[&str], folder: &Path) -> String {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Has openssl make a certificate, and hash it where `hash` names one.
    fn check(making: &[&str], hash: Option<&str>) {
        let folder = tempfile::tempdir().unwrap();
        let fixed = [
            "req", "-x509", "-nodes", "-subj", "/CN=x", "-keyout", "k.pem", "-out", "c.pem",
        ];
        openssl(&[&fixed, making].concat(), folder.path());

        let certificate = &read_certificates(&folder.path().join("c.pem")).unwrap()[0];
        let found = end_point(certificate);

        let expected = hash.map(|hash| {
            openssl(
                &["x509", "-in", "c.pem", "-outform", "DER", "-out", "c.der"],
                folder.path(),
            );
            let line = openssl(&["dgst", &format!("-{hash}"), "-r", "c.der"], folder.path());
            line.split_whitespace().next().unwrap().to_owned()
        });
        let found = found.map(|bytes| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>());
        assert_eq!(found, expected, "{making:?}");
    }

    const EC: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    const RSA: [&str; 2] = ["-newkey", "rsa:2048"];

    #[test]
    fn the_hash_is_that_of_the_signature() {
        check(&[&EC[..], &["-sha256"]].concat(), Some("sha256"));
        check(&[&EC[..], &["-sha384"]].concat(), Some("sha384"));
        check(&[&RSA[..], &["-sha256"]].concat(), Some("sha256"));
        check(&[&RSA[..], &["-sha512"]].concat(), Some("sha512"));
        check(&[&RSA[..], &["-sha224"]].concat(), Some("sha224"));
        check(&[&RSA[..], &["-sha3-256"]].concat(), Some("sha3-256"));
    }

    #[test]
    fn sha1_and_md5_are_replaced_by_sha256() {
        check(&[&RSA[..], &["-sha1"]].concat(), Some("sha256"));
        check(&[&RSA[..], &["-md5"]].concat(), Some("sha256"));
        check(&[&EC[..], &["-sha1"]].concat(), Some("sha256"));
    }

    #[test]
    fn rsa_pss_names_its_hash_in_its_parameters() {
        let pss = ["-sigopt", "rsa_padding_mode:pss"];
        check(&[&RSA[..], &pss, &["-sha256"]].concat(), Some("sha256"));
        check(&[&RSA[..], &pss, &["-sha384"]].concat(), Some("sha384"));
        check(&[&RSA[..], &pss, &["-sha1"]].concat(), Some("sha256"));
    }

    #[test]
    fn signatures_without_a_hash_of_their_own_bind_nothing() {
        check(&["-newkey", "ed25519"], None);
        check(&["-newkey", "ed448"], None);
    }
}
