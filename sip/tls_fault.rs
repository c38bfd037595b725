//! The reasons why a connection fails: errors of the system, and errors of the TLS handshake.

use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// The reason why a message could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportFault {
    /// The system reported an error, for example that nothing listens at the address.
    Io(io::ErrorKind),
    /// The TLS handshake failed.
    Tls(TlsFault),
}

/// The reason why the TLS handshake with a far end failed. The far end is the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsFault {
    /// The far end's certificate has expired.
    Expired,
    /// The far end's certificate is not valid yet.
    NotYetValid,
    /// No trusted authority has issued the far end's certificate.
    UnknownIssuer,
    /// The far end's certificate is for another name.
    WrongName,
    /// The far end's certificate has none of the configured fingerprints.
    WrongFingerprint,
    /// The far end's certificate cannot be used for another reason.
    BadCertificate,
    /// The far end refused the certificate of this server, or demands one.
    Refused,
    /// Both sides have no TLS version or cipher in common.
    Incompatible,
    /// The far end did not speak TLS.
    NotTls,
    /// The handshake failed for another reason.
    Other,
}

impl From<io::ErrorKind> for TransportFault {
    fn from(kind: io::ErrorKind) -> Self {
        Self::Io(kind)
    }
}

impl TransportFault {
    /// Returns the reason for a failed handshake.
    pub(crate) fn of_handshake(error: &io::Error) -> Self {
        match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
            Some(error) => Self::Tls(TlsFault::of(error)),
            // A server without TLS closes the connection.
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Tls(TlsFault::NotTls),
            None => Self::Io(error.kind()),
        }
    }

    /// Returns the reason why reading from an open connection failed. In TLS 1.3, a far end refuses the certificate of
    /// this server with an alert after the handshake.
    pub(crate) fn of_connection(error: &io::Error) -> Self {
        match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
            Some(error @ Error::AlertReceived(_)) => Self::Tls(TlsFault::of(error)),
            _ => Self::Io(io::ErrorKind::ConnectionReset),
        }
    }
}

impl TlsFault {
    fn of(error: &Error) -> Self {
        use AlertDescription as Alert;
        match error {
            Error::InvalidCertificate(why) => match why {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
                // The signature is wrong if a trusted authority has the name of the real issuer.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::WrongName,
                CertificateError::ApplicationVerificationFailure => Self::WrongFingerprint,
                _ => Self::BadCertificate,
            },
            Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => Self::NotTls,
            Error::PeerIncompatible(_) => Self::Incompatible,
            Error::AlertReceived(alert) => match alert {
                Alert::HandshakeFailure | Alert::ProtocolVersion | Alert::InsufficientSecurity => Self::Incompatible,
                Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::CertificateRequired
                | Alert::UnknownCA
                // The signature of the certificate is wrong (RFC 8446 §6.2).
                | Alert::DecryptError
                | Alert::AccessDenied => Self::Refused,
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }
}

impl fmt::Display for TransportFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(kind) => kind.fmt(f),
            Self::Tls(fault) => write!(f, "TLS handshake failed: {fault}"),
        }
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "the certificate of the far end has expired",
            Self::NotYetValid => {
                "the certificate of the far end is not valid yet (is the clock of this machine right?)"
            }
            Self::UnknownIssuer => "no trusted authority (ca_file) has issued the certificate of the far end",
            Self::WrongName => "the certificate of the far end is for another name (tls_name)",
            Self::WrongFingerprint => "the certificate of the far end has none of the configured fingerprints",
            Self::BadCertificate => "the certificate of the far end cannot be used; the server's log says why",
            Self::Refused => "the far end refused the certificate of this server, or demands one",
            Self::Incompatible => "both sides have no TLS version and cipher in common",
            Self::NotTls => "the far end does not speak TLS on this port",
            Self::Other => "the server's log says why",
        })
    }
}
