//! What was released and ordered, so that it can be ordered again without building it again.
//!
//! ```text
//! releases/<app>/<counter>-<version>.cbor     signed release
//! orders/<app>/<group>/<revision>.cbor        signed order
//! mandates/<app>/<first revision>.cbor        signed mandate: which revisions are set aside for a controller
//! ```

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use schemas::{
    announcement::Announcement,
    id::{AppId, Digest, GroupId, Revision},
    mandate::Mandate,
    order::Order,
    release::Release,
    rollout::{Planned, Plans},
    root::Trust,
    seal::{RoleDocument, Signed, Verified},
};

use super::{Home, files};

/// Folder of what was set aside for controllers.
pub(super) const MANDATES: &str = "mandates";

/// A document with the envelope that proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept<T> {
    pub(crate) signed: Signed<T>,
    pub(crate) document: Verified<T>,
}

impl Home {
    /// Keeps both documents of an announcement; the same ones again change nothing.
    pub(crate) fn remember(
        &self,
        announcement: &Announcement,
        order: &Order,
        release: &Release,
    ) -> Result<()> {
        self.remember_release(&announcement.release, release)?;
        if announcement.mandate.is_some() {
            // A controller's order proves nothing without its mandate, and is nobody's to order again.
            return Ok(());
        }
        let orders = self.orders_folder(&order.app, &order.group);
        keep(&orders.join(format!("{}.cbor", order.revision)), &announcement.order.to_bytes())
    }

    /// Keeps what a rollout is about, and which revisions are taken by it.
    pub(crate) fn remember_rollout(&self, planned: &Planned, plans: &Plans) -> Result<()> {
        self.remember_release(&planned.release, &plans.release)?;
        let folder = self.path(MANDATES).join(plans.mandate.app.as_str());
        keep(&folder.join(format!("{}.cbor", plans.mandate.first)), &planned.mandate.to_bytes())
    }

    fn remember_release(&self, signed: &Signed<Release>, release: &Release) -> Result<()> {
        let name = format!("{}-{}.cbor", release.counter, files::name_of(&release.version));
        keep(&self.releases_folder(&release.app).join(name), &signed.to_bytes())
    }

    /// All releases of an app, oldest first.
    pub(crate) fn releases(&self, app: &AppId) -> Result<Vec<Kept<Release>>> {
        let mut releases = read_all::<Release>(&self.releases_folder(app), &self.trust)?;
        releases.sort_by_key(|release| release.document.counter);
        Ok(releases)
    }

    /// All orders of an app to a group, oldest first.
    pub(crate) fn orders(&self, app: &AppId, group: &GroupId) -> Result<Vec<Kept<Order>>> {
        let mut orders = read_all::<Order>(&self.orders_folder(app, group), &self.trust)?;
        orders.sort_by_key(|order| order.document.revision);
        Ok(orders)
    }

    /// The releases of an app that were ever ordered for a group, by orders or by rollouts, with the first revision of each.
    pub(crate) fn ordered(&self, app: &AppId, group: &GroupId) -> Result<Vec<(Revision, Digest)>> {
        let orders = self.orders(app, group)?.into_iter();
        let orders = orders.map(|order| (order.document.revision, order.document.release));
        let mandates = self.believed_below::<Mandate>(MANDATES)?.into_iter();
        let mandates = mandates.filter(|mandate| mandate.app == *app && mandate.groups.contains(group));
        let mut all: Vec<_> =
            orders.chain(mandates.map(|mandate| (mandate.first, mandate.release))).collect();
        all.sort_unstable();
        Ok(all)
    }

    /// The apps that were ever ordered for a group.
    pub(crate) fn apps_of(&self, group: &GroupId) -> Result<Vec<AppId>> {
        let names = list(&self.path("orders"))?;
        let apps = names.iter().filter(|folder| folder.join(group.as_str()).is_dir());
        let apps = apps.filter_map(|folder| folder.file_name()?.to_str()?.parse().ok());
        let mandates = self.believed_below::<Mandate>(MANDATES)?.into_iter();
        let of_rollouts = mandates.filter(|mandate| mandate.groups.contains(group)).map(|it| it.app.clone());
        let all: BTreeSet<AppId> = apps.chain(of_rollouts).collect();
        Ok(all.into_iter().collect())
    }

    /// The highest revision that was ever ordered from here, of any app and group, by keys that count now: a stolen key may
    /// have used up the highest ones.
    pub(crate) fn highest_revision(&self) -> Result<Revision> {
        let orders = self.believed_below::<Order>("orders")?.into_iter().map(|order| order.revision);
        let mandates = self.believed_below::<Mandate>(MANDATES)?.into_iter().map(|mandate| mandate.last);
        Ok(orders.chain(mandates).max().unwrap_or_default())
    }

    fn believed_below<T: RoleDocument>(&self, folder: &str) -> Result<Vec<Verified<T>>> {
        let read =
            |path: &PathBuf| Signed::<T>::from_bytes(&fs::read(path).ok()?).ok()?.verify(&self.trust).ok();
        Ok(files_below(&self.path(folder))?.iter().filter_map(read).collect())
    }

    fn releases_folder(&self, app: &AppId) -> PathBuf {
        self.path("releases").join(app.as_str())
    }

    fn orders_folder(&self, app: &AppId, group: &GroupId) -> PathBuf {
        self.path("orders").join(app.as_str()).join(group.as_str())
    }
}

fn keep(path: &Path, bytes: &[u8]) -> Result<()> {
    let what = || format!("cannot write {}", path.display());
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(what)?;
    }
    files::replace(path, bytes, files::PUBLIC).with_context(what)
}

/// All documents below a folder.
pub(super) fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in list(folder)? {
        if path.is_dir() {
            found.extend(files_below(&path)?);
        } else if path.extension().is_some_and(|end| end == "cbor") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The entries of a folder in the order of their names; none when there is no such folder.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let what = || format!("cannot read {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(what)?,
    };
    let paths: std::io::Result<Vec<_>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.with_context(what)?;
    paths.sort();
    Ok(paths)
}

/// Every document of a folder that verifies; one that does not is said and left out.
fn read_all<T: RoleDocument>(folder: &Path, trust: &Trust) -> Result<Vec<Kept<T>>> {
    let mut all = Vec::new();
    for path in list(folder)?.into_iter().filter(|path| path.extension().is_some_and(|end| end == "cbor")) {
        let read = || -> Result<Kept<T>> {
            let signed: Signed<T> = Signed::from_bytes(&fs::read(&path)?)?;
            let document = signed.verify(trust)?;
            Ok(Kept { signed, document })
        };
        match read() {
            Ok(kept) => all.push(kept),
            Err(error) => tracing::warn!("Left out {}: {error:#}", path.display()),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Sample;

    #[test]
    fn what_was_announced_is_found_again_in_order() {
        let sample = Sample::new();
        let (group, app) = ("canary".parse().unwrap(), "web".parse().unwrap());
        for (revision, counter, version) in [(30, 9, "1.1.0"), (4, 8, "1.0.0"), (30, 9, "1.1.0")] {
            let announcement = sample.announcement(revision, counter, version);
            let announced = announcement.verify(&sample.home.trust, &group, &app).unwrap();
            sample.home.remember(&announcement, &announced.order, &announced.release).unwrap();
        }
        let home = &sample.home;
        let versions: Vec<_> = home
            .releases(&app)
            .unwrap()
            .into_iter()
            .map(|release| release.document.into_inner().version)
            .collect();
        assert_eq!(versions, ["1.0.0", "1.1.0"]);
        let revisions: Vec<_> =
            home.orders(&app, &group).unwrap().iter().map(|order| order.document.revision.0).collect();
        assert_eq!(revisions, [4, 30]);
        assert_eq!(home.highest_revision().unwrap().0, 30);
        let planned = sample.planned("[[stage]]\ngroup = \"all\"", 1, |_| {});
        let plans = planned.verify(&home.trust, &app).unwrap();
        for _ in 0..2 {
            home.remember_rollout(&planned, &plans).unwrap();
        }
        assert_eq!(home.highest_revision().unwrap(), plans.mandate.last, "what is set aside is taken");
        assert_eq!(home.releases(&app).unwrap().len(), 3);
        fs::remove_file(home.path("releases/web/7-1.1.0.cbor")).unwrap();
        assert_eq!(home.apps_of(&group).unwrap(), std::slice::from_ref(&app));
        // A rollback goes back to what a rollout ordered, too.
        let all = "all".parse().unwrap();
        assert_eq!(home.apps_of(&all).unwrap(), std::slice::from_ref(&app));
        assert_eq!(home.ordered(&app, &all).unwrap(), [(plans.mandate.first, plans.mandate.release)]);
        assert_eq!(home.apps_of(&"kitchen".parse().unwrap()).unwrap(), []);
        fs::write(home.path("releases/web/10-x.cbor"), "rubbish").unwrap();
        assert_eq!(home.releases(&app).unwrap().len(), 2);
    }
}
