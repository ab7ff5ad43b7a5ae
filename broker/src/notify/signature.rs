//! How a receiver tells our notices from a stranger's, and a new one from an old one that is sent again.

use std::fmt::Write as _;

use hmac::{Hmac, Mac as _};
use schemas::time::UnixTime;
use sha2::Sha256;

/// The header's value: `t=<seconds since 1970>,v1=<hexadecimal HMAC-SHA256 of "<t>.<body>">`.
pub(super) fn signature(secret: &[u8], at: UnixTime, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(format!("{}.", at.0).as_bytes());
    mac.update(body);
    mac.finalize().into_bytes().iter().fold(format!("t={},v1=", at.0), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_what_openssl_computes() {
        // printf '1795240000.{"kind":"started"}' | openssl dgst -sha256 -hmac 0123456789abcdef
        assert_eq!(
            signature(b"0123456789abcdef", UnixTime(1_795_240_000), br#"{"kind":"started"}"#),
            "t=1795240000,v1=ab5bb39c4507bc29b37214b4fef3d3c95d40f4b1452dde1d2b38fb00b083dcab"
        );
    }
}
