//! Nodes that make their own keys: invited with a one-time token, or let in by people who compared six words.
//!
//! ```text
//! invitations/<node>/invitation.toml    what the node will be, and the token
//! invitations/<node>/card/              what is copied to the node: worth nothing once the node has come
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
};

use anyhow::Result;
use schemas::{
    enroll::{Request, is_proven},
    id::{GroupId, NodeId, Seq},
    record::RecordStatus,
    root::Role,
    seal::Signed,
    time::UnixTime,
};
use serde::{Deserialize, Serialize};

use super::{super::files, Home, Kept, NewNode, keys};
use crate::problem::{Advise as _, problem};

/// The file of the one-time token, in a node's folder.
pub(super) const TOKEN: &str = "invitation";

/// What a node that was invited will be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Invitation {
    pub(crate) node: NodeId,
    token: String,
    /// May take the place of a node that was added before.
    replaces: bool,
    pub(crate) groups: BTreeSet<GroupId>,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Invitation {
    /// Whether the request comes from who has this invitation.
    pub(crate) fn is_for(&self, request: &Request) -> bool {
        self.node == request.node && is_proven(request, &self.token)
    }
}

impl Home {
    /// Invites a node, and returns the folder that is to be copied to it.
    pub(crate) fn invite(&self, new: &NewNode) -> Result<PathBuf> {
        let _lock = self.lock()?;
        self.check_name(new, &self.node_folder(&new.name))?;
        let folder = self.invitation_folder(&new.name);
        let what = || format!("cannot write {}", folder.display());
        let _ = fs::remove_dir_all(&folder);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder.join("card"))
            .advise(what(), super::super::WRITABLE)?;
        let token = keys::new_token()?;
        let invitation = Invitation {
            node: new.name.clone(),
            token: token.clone(),
            replaces: new.replace,
            groups: new.groups.clone(),
            labels: new.labels.clone(),
        };
        let card = folder.join("card");
        self.write_settings(&card, new)?;
        files::create(&card.join(TOKEN), format!("{token}\n").as_bytes(), files::PRIVATE)?;
        // Last: without it there is no invitation.
        files::replace(
            &folder.join("invitation.toml"),
            toml::to_string(&invitation)?.as_bytes(),
            files::PRIVATE,
        )?;
        files::sync_folder(&folder)?;
        Ok(card)
    }

    /// Who was invited and has not come.
    pub(crate) fn invitations(&self) -> Vec<Invitation> {
        let folder = self.path("invitations");
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path().join("invitation.toml");
            let Ok(text) = fs::read_to_string(&path) else { continue };
            match toml::from_str(&text) {
                Ok(invitation) => found.push(invitation),
                Err(error) => tracing::warn!("Left out {}: {error}", path.display()),
            }
        }
        found
    }

    /// Lets in a node that was invited; its token is worth nothing from then on.
    pub(crate) fn accept(&self, invitation: &Invitation, request: &Request, now: UnixTime) -> Result<Kept> {
        let place = Place { groups: invitation.groups.clone(), labels: invitation.labels.clone() };
        let kept = self.admit(request, &place, invitation.replaces, now)?;
        if let Kept::Waits(_) = kept {
            return Ok(kept);
        }
        let folder = self.invitation_folder(&invitation.node);
        fs::remove_dir_all(&folder)
            .advise(format!("cannot remove {}", folder.display()), super::super::WRITABLE)?;
        Ok(kept)
    }

    /// Signs the record of a node that made its own key. A node that is there already keeps its name unless it is to be
    /// replaced; its own key may ask for another token.
    pub(crate) fn admit(
        &self,
        request: &Request,
        place: &Place,
        replace: bool,
        now: UnixTime,
    ) -> Result<Kept> {
        let _lock = self.lock()?;
        let folder = self.node_folder(&request.node);
        let new = NewNode {
            name: request.node.clone(),
            groups: place.groups.clone(),
            labels: place.labels.clone(),
            env: BTreeMap::new(),
            data: PathBuf::new(),
            replace: true,
        };
        let before = self.check_name(&new, &folder)?;
        let is_same = before.as_ref().is_some_and(|known| {
            known.record.key == request.key && known.record.status == RecordStatus::Active
        });
        if folder.exists() && !replace && !is_same {
            return Err(problem(
                format!("node {} was added before, with another key, or is retired", request.node),
                "say --force when this one is to take its place: then the old one is no longer believed",
            ));
        }
        let seq = before.map_or(Seq(0), |known| known.record.seq).next(now.0);
        let record = self.record(&new, request.key, Some(request.login), seq, now);
        self.keep_record(&request.node, &Signed::seal(&record, &[self.key(Role::Ops)?]))
    }

    fn invitation_folder(&self, node: &NodeId) -> PathBuf {
        self.path("invitations").join(node.as_str())
    }
}

/// Where in the fleet a node is to be.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) groups: BTreeSet<GroupId>,
    pub(crate) labels: BTreeMap<String, String>,
}
