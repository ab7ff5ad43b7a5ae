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
            if used.contains(&found.id) {
                continue;
            }
            for name in stale(&found.repo_tags, &found.id, app, keep.contains(&signature)) {
                if let Err(fault) = image::remove(&docker, name).await {
                    warn!(%app, text = fault.text, "an image stays that is not needed any more");
                }
            }
        }
        Ok(())
    }
}

/// The names under which an image with the app's label is to go. What people have named, or made of it, stays; what has no name is
/// what a build has left.
pub(super) fn stale<'a>(names: &'a [String], id: &'a str, app: &AppId, is_kept: bool) -> Vec<&'a str> {
    let ours = names::images(app);
    match names.iter().filter(|name| *name != image::NAMELESS).count() {
        0 => vec![id],
        _ if is_kept => Vec::new(),
        _ => names.iter().filter(|name| name.starts_with(&ours)).map(String::as_str).collect(),
    }
}

fn serves(known: &Known, app: &AppId, slot: &Slot) -> bool {
    known.name == names::serving(app) && known.tree == slot.tree().to_string()
}

pub(super) fn stays(known: &Known, app: &AppId, keep: &[String]) -> bool {
    let roles = [names::serving(app), names::previous(app)];
    roles.contains(&known.name) && (known.is_running || keep.contains(&known.tree))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_go() {
        let app: AppId = "web".parse().unwrap();
        let of = |names: &[&str], is_kept| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            stale(&names, "sha256:1", &app, is_kept).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(of(&["deploybus/web:abc"], false), ["deploybus/web:abc"]);
        assert_eq!(of(&["deploybus/web:abc", "mine:1"], false), ["deploybus/web:abc"]);
        assert_eq!(of(&["mine:1"], false), Vec::<String>::new(), "made of ours by a person");
        assert_eq!(of(&["deploybus/web2:abc"], false), Vec::<String>::new());
        assert_eq!(of(&["deploybus/web:abc"], true), Vec::<String>::new());
        for nameless in [&[][..], &["<none>:<none>"]] {
            assert_eq!(of(nameless, true), ["sha256:1"]);
        }
    }
}
