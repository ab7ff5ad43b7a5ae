//! What of an app's containers and images stays: what serves, what served before, and nothing else. Only what has our
//! labels is touched.

use machine::{Fault, Slot};
use schemas::id::{AppId, Digest};
use tracing::warn;

use super::{
    Containers, image, names,
    swap::{Known, Swap},
};

impl Containers {
    /// Hands the committed container over to the engine's restart policy, and removes every container and image but
    /// those of `keep`.
    pub(crate) async fn prune(
        &self,
        app: &AppId,
        active: Option<&Slot>,
        keep: &[Digest],
    ) -> Result<(), Fault> {
        let docker = self.endpoint.connect().await?;
        let swap = Swap { docker: &docker, app };
        let keep: Vec<String> = keep.iter().map(Digest::to_string).collect();
        for known in swap.all().await? {
            let committed = active.filter(|slot| serves(&known, app, slot));
            if let Some(container) = committed.and_then(|slot| slot.part.container()) {
                swap.set_restart(&known, container.restart).await?;
            } else if !stays(&known, app, &keep) {
                swap.remove(&known).await?;
            }
        }
        let used: Vec<String> = swap.all().await?.into_iter().map(|known| known.image).collect();
        for found in image::all(&docker, app).await? {
            let signature = found.labels.get(names::SIGNATURE).cloned().unwrap_or_default();
            let is_named = found.repo_tags.iter().any(|tag| tag.starts_with("deploybus/"));
            let is_kept = is_named && keep.contains(&signature);
            if !is_kept
                && !used.contains(&found.id)
                && let Err(fault) = image::remove(&docker, &found.id).await
            {
                // Somebody has given it another name, too: the others are removed all the same.
                warn!(%app, text = fault.text, "an image stays that is not needed any more");
            }
        }
        Ok(())
    }
}

fn serves(known: &Known, app: &AppId, slot: &Slot) -> bool {
    known.name == names::serving(app) && known.tree == slot.tree().to_string()
}

fn stays(known: &Known, app: &AppId, keep: &[String]) -> bool {
    let roles = [names::serving(app), names::previous(app)];
    roles.contains(&known.name) && (known.is_running || keep.contains(&known.tree))
}
