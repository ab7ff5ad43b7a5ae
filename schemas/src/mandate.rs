//! The mandate: what a controller may order by itself in a rollout that ops has signed.
//!
//! A controller runs where the broker does, which is not trusted. So it has no key of the fleet: its own key counts within the
//! bounds of one mandate, for one release, some groups and a range of revisions, until it expires. It makes nothing urgent, so nodes
//! keep to their windows and wait for consent. Any later order of a person has a revision above that range.

use serde::{Deserialize, Serialize};

use crate::{
    id::{AppId, Digest, FleetId, GroupId, PublicKey, Revision},
    order::Order,
    reason::Reason,
    root::Role,
    seal::{Document, Head, RoleDocument, SealError, Signed, Verified},
    time::UnixTime,
};

/// Most controllers that one mandate names: the first one carries the rollout out, the others would take its place.
pub const MAX_CONTROLLERS: usize = 4;
/// So many revisions are set aside for the orders of one rollout: far more than it can need.
pub const REVISIONS: u64 = 100_000;

/// What a controller may order by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mandate {
    /// What every document has in common.
    pub head: Head,
    /// The one app.
    pub app: AppId,
    /// The groups that it may give orders to.
    pub groups: Vec<GroupId>,
    /// Digest of the one release.
    pub release: Digest,
    /// The keys of the controllers; each counts alone. Who comes first takes the rollout up first.
    pub keys: Vec<PublicKey>,
    /// The lowest revision of its orders; also the name of the rollout.
    pub first: Revision,
    /// The highest one.
    pub last: Revision,
    /// Its orders expire then at the latest.
    pub expires: UnixTime,
}

impl Document for Mandate {
    const TYPE: &'static str = "mandate";
    const MAX_BYTES: usize = 8 * 1024;

    fn head(&self) -> &Head {
        &self.head
    }
}

impl RoleDocument for Mandate {
    const ROLE: Role = Role::Ops;
}

/// Why an order by mandate is not believed.
#[derive(Debug, thiserror::Error)]
pub enum MandateError {
    /// It is not signed by a controller that the mandate names.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It orders more than it may.
    #[error("order {revision} is beyond its mandate: {what}")]
    Beyond {
        /// The order.
        revision: Revision,
        /// What it may not.
        what: &'static str,
    },
}

impl MandateError {
    /// The code that reports carry.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Seal(error) => error.reason(),
            Self::Beyond { .. } => Reason::BeyondMandate,
        }
    }
}

impl Mandate {
    /// Opens what a controller has signed: any document of one of its keys.
    ///
    /// # Errors
    /// When none of the keys that the mandate names has signed it.
    pub fn open<T: Document>(&self, signed: &Signed<T>, fleet: &FleetId) -> Result<Verified<T>, SealError> {
        signed.verify_any(self.keys.iter().take(MAX_CONTROLLERS), fleet)
    }

    /// Verifies an order by a controller.
    ///
    /// # Errors
    /// When no controller that is named here has signed it, or it is beyond the bounds.
    pub fn verify(&self, order: &Signed<Order>, fleet: &FleetId) -> Result<Verified<Order>, MandateError> {
        let order = self.open(order, fleet)?;
        match self.excess(&order) {
            None => Ok(order),
            Some(what) => Err(MandateError::Beyond { revision: order.revision, what }),
        }
    }

    /// The place of a controller among those that are named here.
    pub fn place(&self, key: &PublicKey) -> Option<usize> {
        self.keys.iter().take(MAX_CONTROLLERS).position(|named| named == key)
    }

    /// Whether `revision` is one of those that it sets aside.
    pub fn covers(&self, revision: Revision) -> bool {
        (self.first..=self.last).contains(&revision)
    }

    fn excess(&self, order: &Order) -> Option<&'static str> {
        let bounds = [
            (order.app == self.app, "another app"),
            (self.groups.contains(&order.group), "another group"),
            (order.release == self.release, "another release"),
            (self.covers(order.revision), "a revision outside its range"),
            (order.expires <= self.expires, "it lasts longer"),
            (!order.policy.urgent, "it is urgent"),
            (order.continues == Some(self.first), "it is not of the rollout's series"),
        ];
        bounds.into_iter().find(|(holds, _)| !holds).map(|(_, what)| what)
    }
}
