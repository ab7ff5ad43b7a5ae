//! The announcement: an order and the release that it names, as they are retained on a group's topic.

use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, CodecError},
    id::{AppId, GroupId},
    mandate::{Mandate, MandateError},
    order::Order,
    reason::Reason,
    release::Release,
    root::Trust,
    seal::{SealError, Signed, Verified},
};

/// Order and release, both signed, and by what right a controller gives the order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Who gets it.
    pub order: Signed<Order>,
    /// What it is.
    pub release: Signed<Release>,
    /// What a controller may order, where the order is by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mandate: Option<Signed<Mandate>>,
}

/// An announcement whose documents were verified and belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// Who gets it.
    pub order: Verified<Order>,
    /// What it is.
    pub release: Verified<Release>,
    /// What a controller may order, where the order is by one.
    pub mandate: Option<Verified<Mandate>>,
}

/// Why an announcement is not believed.
#[derive(Debug, thiserror::Error)]
pub enum AnnouncementError {
    /// One of its documents is not believed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The order is by a controller that may not give it.
    #[error(transparent)]
    Mandate(#[from] MandateError),
    /// No announcement at all.
    #[error("announcement is unreadable")]
    Malformed(#[source] CodecError),
    /// The order is for another group or app than its topic says.
    #[error("order for {group}/{app} was published on another topic")]
    WrongTopic {
        /// The order's group.
        group: GroupId,
        /// The order's app.
        app: AppId,
    },
    /// The release beside the order is not the one that the order names.
    #[error("order names another release")]
    WrongRelease,
}

impl AnnouncementError {
    /// The code that reports carry.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Seal(error) => error.reason(),
            Self::Mandate(error) => error.reason(),
            Self::Malformed(CodecError::TooLarge { .. }) => Reason::TooLarge,
            Self::Malformed(_) => Reason::Malformed,
            Self::WrongTopic { .. } => Reason::WrongTopic,
            Self::WrongRelease => Reason::WrongRelease,
        }
    }
}

impl Announcement {
    /// Most bytes of an announcement: what every node and every broker takes in one message.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// Reads an announcement; its documents stay closed until they are verified.
    ///
    /// # Errors
    /// When the bytes are too many or something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AnnouncementError> {
        codec::decode(bytes, Self::MAX_BYTES).map_err(AnnouncementError::Malformed)
    }

    /// The announcement as it travels.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Verifies the documents, and that they belong together and to the topic `group`/`app`.
    ///
    /// # Errors
    /// When anything of that does not hold.
    pub fn verify(
        &self,
        trust: &Trust,
        group: &GroupId,
        app: &AppId,
    ) -> Result<Announced, AnnouncementError> {
        let mandate = self.mandate.as_ref().map(|mandate| mandate.verify(trust)).transpose()?;
        let order = match &mandate {
            None => self.order.verify(trust)?,
            Some(mandate) => mandate.verify(&self.order, trust.fleet())?,
        };
        if order.group != *group || order.app != *app {
            return Err(AnnouncementError::WrongTopic { group: order.group.clone(), app: order.app.clone() });
        }
        if order.release != self.release.digest() {
            return Err(AnnouncementError::WrongRelease);
        }
        let release = self.release.verify(trust)?;
        if release.app != order.app {
            return Err(AnnouncementError::WrongRelease);
        }
        Ok(Announced { order, release, mandate })
    }
}
