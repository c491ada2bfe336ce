//! The decoders of this room that strangers reach, for `fuzzing`: it cannot name what is inside of a login.

use super::{
    scram::{Against, InitialResponse, ScramServer},
    token,
};
use crate::ids::ScramVerifier;

/// Parts the first SASL message from the second in what is fuzzed.
const BETWEEN: u8 = 0xff;

/// A first message, and what stands behind [`BETWEEN`] as the proof. Nothing proves what nobody knows.
pub(crate) fn decode_sasl(bytes: &[u8]) {
    let mut messages = bytes.splitn(2, |byte| *byte == BETWEEN);
    let (first, last) = (
        messages.next().unwrap_or_default(),
        messages.next().unwrap_or_default(),
    );
    let Ok(initial) = InitialResponse::parse(first) else {
        return;
    };
    for end_point in [None, Some(&[7; 32][..])] {
        let verifier = ScramVerifier {
            iterations: 4096,
            salt: vec![1; 16],
            stored_key: [2; 32],
            server_key: [3; 32],
        };
        let server = ScramServer::new(Against::known(verifier), end_point);
        let client_first = initial.client_first.unwrap_or_default();
        if let Ok((stage, challenge)) = server.challenge(initial.mechanism, client_first) {
            assert!(challenge.starts_with(b"r="));
            assert!(stage.check(last).is_err(), "it was believed");
        }
    }
}

/// A token.
pub(crate) fn decode_token(text: &[u8]) {
    token::decode(text);
}

/// A set of keys.
pub(crate) fn decode_key_set(json: &[u8]) {
    token::decode_keys(json);
}
