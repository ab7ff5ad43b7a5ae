//! What went wrong beneath, in words for people: libraries say some of it in words of their code, and much of it twice.

use std::{borrow::Cow, error::Error, io};

use rustls::CertificateError;

/// A cause in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Said(Cow<'static, str>);

impl Said {
    pub(crate) fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self(text.into())
    }

    /// What the innermost cause says; those above it only say what was being done.
    pub(crate) fn innermost(error: &(dyn Error + 'static)) -> Self {
        Self::new(innermost(error).to_string())
    }

    /// Why a certificate is not believed.
    pub(crate) fn certificate(why: &CertificateError) -> Self {
        match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Self::new("it is signed by another CA")
            }
            CertificateError::BadEncoding => Self::new("it cannot be read"),
            CertificateError::Revoked => Self::new("it was revoked"),
            CertificateError::InvalidPurpose => Self::new("it is not for a server"),
            why => Self::new(why.to_string()),
        }
    }
}

/// The error of TLS in an error of the socket.
pub(crate) fn tls(error: &io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    inner.downcast_ref().or_else(|| tls(inner.downcast_ref()?))
}

/// Why a certificate is not believed, if that is what is beneath.
pub(crate) fn distrust(error: &(dyn Error + 'static)) -> Option<Said> {
    match innermost(error).downcast_ref().and_then(tls)? {
        rustls::Error::InvalidCertificate(why) => Some(Said::certificate(why)),
        _ => None,
    }
}

fn innermost<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_cause_is_said_without_words_of_code() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let said = distrust(&io::Error::other(io::Error::other(tls))).unwrap().to_string();
        assert_eq!(said, "it is signed by another CA");
        let other = io::Error::other("cable cut");
        assert!(distrust(&other).is_none() && Said::innermost(&other).to_string() == "cable cut");
    }
}
