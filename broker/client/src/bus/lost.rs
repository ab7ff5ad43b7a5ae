//! Why the bus is away, and what to do about it.

use std::{error::Error, io, mem, sync::Arc};

use rumqttc::{ConnectReturnCode, ConnectionError, StateError, TlsError, mqttbytes};

use super::{address::Server, message::MAX_PACKET_BYTES, options::Options};
use crate::cause::{self, Said};

/// What went wrong beneath.
type Cause = Arc<dyn Error + Send + Sync>;

/// Why the bus is away. The client goes on trying, whatever the reason.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Lost {
    /// Its machine answers, but no broker does.
    #[error("no broker at {bus}")]
    BrokerDown {
        /// Where it was looked for.
        bus: Server,
        /// What went wrong beneath.
        #[source]
        cause: Cause,
    },
    /// It ended the connection, before or after it let us in; MQTT 3.1.1 has no words for why.
    #[error("{bus} ended the connection")]
    Cut {
        /// Where the broker is.
        bus: Server,
    },
    /// Nothing answers.
    #[error("no answer from {bus}")]
    Unreachable {
        /// Where it was looked for.
        bus: Server,
        /// What went wrong beneath.
        #[source]
        cause: Cause,
    },
    /// Its certificate is not believed.
    #[error("the certificate of {bus} is not believed")]
    Untrusted {
        /// Where the broker is.
        bus: Server,
        /// What is wrong with it.
        #[source]
        cause: Cause,
    },
    /// It does not let us in.
    #[error("the broker at {bus} does not let {who} in")]
    Refused {
        /// Where the broker is.
        bus: Server,
        /// As whom we tried.
        who: String,
    },
    /// It does not take this client id.
    #[error("the broker at {bus} does not take client id `{client_id}`")]
    ClientIdRefused {
        /// Where the broker is.
        bus: Server,
        /// The id that we gave.
        client_id: String,
    },
    /// A packet was larger than can be taken.
    #[error("a message from {bus} is larger than {MAX_PACKET_BYTES} bytes")]
    TooLarge {
        /// Where the broker is.
        bus: Server,
    },
    /// It speaks something else than MQTT 3.1.1, or no TLS.
    #[error("what answers at {bus} does not speak MQTT 3.1.1 as agreed")]
    Garbled {
        /// Where it was looked for.
        bus: Server,
        /// What went wrong beneath.
        #[source]
        cause: Cause,
    },
}

impl Lost {
    /// What an error of the MQTT client means.
    pub(super) fn new(error: ConnectionError, options: &Options, server: &Server) -> Self {
        let bus = server.clone();
        match error {
            ConnectionError::ConnectionRefused(code) => refused(code, options, bus),
            ConnectionError::Io(error)
            | ConnectionError::Tls(TlsError::Io(error))
            | ConnectionError::MqttState(
                StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)),
            ) => from_io(error, bus),
            ConnectionError::MqttState(StateError::Deserialization(
                mqttbytes::Error::PayloadSizeLimitExceeded(_),
            )) => Self::TooLarge { bus },
            ConnectionError::MqttState(StateError::ConnectionAborted) => Self::Cut { bus },
            ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => {
                Self::Unreachable { bus, cause: said("it takes too long") }
            }
            ConnectionError::MqttState(StateError::AwaitPingResp | StateError::CollisionTimeout) => {
                Self::Unreachable { bus, cause: said("it has gone silent") }
            }
            ConnectionError::NotConnAck(_) => {
                Self::Garbled { bus, cause: said("it answers CONNECT with something else than CONNACK") }
            }
            ConnectionError::MqttState(StateError::Deserialization(_)) => {
                Self::Garbled { bus, cause: said("what it sends is no packet") }
            }
            error => Self::Garbled { bus, cause: Arc::new(Said::innermost(&error)) },
        }
    }

    /// What a person should do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::BrokerDown { .. } => "see that the broker runs there, and that the address is right",
            Self::Cut { .. } => {
                "see the broker's log, that the port is its one for MQTT, with TLS for mqtts:// and without for mqtt://, and, if this comes again and again, that no other machine has the same name"
            }
            Self::Unreachable { .. } => "see that its machine is up, and that the network reaches it",
            Self::Untrusted { .. } => {
                "see that `ca` names the fleet's CA file, that the address is one of those in the certificate, and that the clock is right"
            }
            Self::Refused { .. } => {
                "see that user and password here are those that it knows, from its users file or a node's record (`publisher node show`)"
            }
            Self::ClientIdRefused { .. } => "give it a client id that begins with the name of its user",
            Self::TooLarge { .. } => "clear the retained message of that size, or subscribe to less",
            Self::Garbled { .. } => {
                "see that the port is that of the broker, and that both sides agree on TLS: mqtts:// or mqtt://"
            }
        }
    }

    /// Whether the two are the same news.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        mem::discriminant(self) == mem::discriminant(other)
    }
}

fn refused(code: ConnectReturnCode, options: &Options, bus: Server) -> Lost {
    match code {
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => Lost::Refused {
            bus,
            who: match &options.credentials {
                Some(credentials) => format!("user `{}`", credentials.user),
                None => "anybody without user and password".to_owned(),
            },
        },
        ConnectReturnCode::BadClientId => {
            Lost::ClientIdRefused { bus, client_id: options.client_id.to_string() }
        }
        ConnectReturnCode::ServiceUnavailable => {
            Lost::BrokerDown { bus, cause: said("it answers that it cannot serve now") }
        }
        ConnectReturnCode::RefusedProtocolVersion | ConnectReturnCode::Success => {
            Lost::Garbled { bus, cause: said("it refuses this version of the protocol") }
        }
    }
}

fn said(text: &'static str) -> Cause {
    Arc::new(Said::new(text))
}

fn from_io(error: io::Error, bus: Server) -> Lost {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, UnexpectedEof};

    match cause::tls(&error) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            return Lost::Untrusted { bus, cause: Arc::new(Said::certificate(why)) };
        }
        Some(_) => return Lost::Garbled { bus, cause: Arc::new(error) },
        None => {}
    }
    let kind = error.kind();
    let cause: Cause = Arc::new(error);
    match kind {
        ConnectionRefused => Lost::BrokerDown { bus, cause },
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => Lost::Cut { bus },
        _ => Lost::Unreachable { bus, cause },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Credentials;

    #[test]
    fn a_refused_log_in_names_the_user_and_what_to_do() {
        let lost = lost(ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized));
        assert!(matches!(lost, Lost::Refused { .. }));
        let sentence = lost.to_string();
        assert!(sentence.contains("user `anna`") && lost.advice().contains("users file"), "{sentence}");
        assert!(!sentence.contains("hunter2"), "{sentence}");
    }

    #[test]
    fn a_broker_that_is_down_is_told_from_one_that_cannot_be_reached() {
        let io = |kind: io::ErrorKind| lost(ConnectionError::Io(kind.into()));
        assert!(matches!(io(io::ErrorKind::ConnectionRefused), Lost::BrokerDown { .. }));
        assert!(matches!(io(io::ErrorKind::ConnectionReset), Lost::Cut { .. }));
        assert!(matches!(io(io::ErrorKind::HostUnreachable), Lost::Unreachable { .. }));
        assert!(matches!(io(io::ErrorKind::TimedOut), Lost::Unreachable { .. }));
        assert!(matches!(lost(ConnectionError::NetworkTimeout), Lost::Unreachable { .. }));
        assert!(matches!(
            lost(ConnectionError::MqttState(StateError::AwaitPingResp)),
            Lost::Unreachable { .. }
        ));
    }

    #[test]
    fn the_cause_is_in_the_chain_and_not_in_the_sentence() {
        let lost = lost(ConnectionError::Io(io::Error::other("cable cut")));
        assert!(!lost.to_string().contains("cable cut"));
        assert!(lost.source().unwrap().to_string().contains("cable cut"));
    }

    fn lost(error: ConnectionError) -> Lost {
        let mut options = Options::new("mqtt://pi".parse().unwrap(), "anna".parse().unwrap());
        options.credentials = Some(Credentials::new("anna", "hunter2"));
        Lost::new(error, &options, options.url.first())
    }
}
