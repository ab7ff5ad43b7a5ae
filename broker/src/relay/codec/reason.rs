//! Reason codes of MQTT 5, and the fewer codes of MQTT 3.1.1.

/// Why something is as it is (MQTT 5, 2.4). Those that the relay says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::relay) enum Reason {
    /// Done; or QoS 0 is granted; or good-bye.
    Success = 0x00,
    /// QoS 1 is granted.
    GrantedQos1 = 0x01,
    /// UNSUBACK: there was no such subscription.
    NoSubscriptionExisted = 0x11,
    /// Something is wrong that has no code of its own.
    UnspecifiedError = 0x80,
    /// The bytes are no packet.
    MalformedPacket = 0x81,
    /// The packet is not allowed, or not now.
    ProtocolError = 0x82,
    /// Not what this relay does.
    ImplementationSpecificError = 0x83,
    /// Another version than 3.1.1 and 5.
    UnsupportedProtocolVersion = 0x84,
    /// The client id cannot be used.
    ClientIdentifierNotValid = 0x85,
    /// No such user with this password.
    BadUserNameOrPassword = 0x86,
    /// The user may not do that.
    NotAuthorized = 0x87,
    /// There is no room.
    ServerUnavailable = 0x88,
    /// The relay stops.
    ServerShuttingDown = 0x8b,
    /// Enhanced authentication is not spoken here.
    BadAuthenticationMethod = 0x8c,
    /// Nothing heard within one and a half keep-alives.
    KeepAliveTimeout = 0x8d,
    /// Another connection with the same client id.
    SessionTakenOver = 0x8e,
    /// Not a topic filter.
    TopicFilterInvalid = 0x8f,
    /// Not a topic name.
    TopicNameInvalid = 0x90,
    /// PUBCOMP: no such packet id.
    PacketIdentifierNotFound = 0x92,
    /// More unacknowledged publishes than were allowed.
    ReceiveMaximumExceeded = 0x93,
    /// A topic alias that is too high or was not introduced.
    TopicAliasInvalid = 0x94,
    /// Longer than was allowed.
    PacketTooLarge = 0x95,
    /// There is as much as there may be.
    QuotaExceeded = 0x97,
    /// Above the maximum QoS.
    QosNotSupported = 0x9b,
    /// `$share/…`.
    SharedSubscriptionsNotSupported = 0x9e,
}

impl Reason {
    /// The code of MQTT 5.
    pub(in crate::relay) const fn code(self) -> u8 {
        self as u8
    }

    /// Whether it says no.
    pub(in crate::relay) const fn is_error(self) -> bool {
        self.code() >= 0x80
    }

    /// The code of CONNACK in MQTT 3.1.1 (its table 3.1), which has five ways to say no; `None` where it only closes.
    pub(super) const fn connect_code_of_v3(self) -> Option<u8> {
        Some(match self {
            Self::UnsupportedProtocolVersion => 1,
            Self::ClientIdentifierNotValid => 2,
            Self::ServerUnavailable | Self::ServerShuttingDown => 3,
            Self::BadUserNameOrPassword => 4,
            Self::NotAuthorized => 5,
            _ => return None,
        })
    }
}
