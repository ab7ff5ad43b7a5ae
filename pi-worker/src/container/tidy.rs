//! What people ask to be removed of the engine's disk: all that is ours and that neither the present nor the previous release
//! of any app needs, by our labels alone. Of an app that this node does not have, all stays while something of it runs: it
//! may be another worker's.

use std::collections::BTreeSet;

use agent::{Tidied, Tidying};
use bollard::{
    Docker,
    models::{ContainerSummary, ImageSummary},
};
use machine::Fault;
use schemas::{
    id::{AppId, Digest},
    status::error_text,
};

use super::{
    Containers, disk, image, names,
    prune::{stale, stays},
    swap::{Known, Swap, known, list},
};

/// What the engine has, as far as it matters here.
#[derive(Debug)]
struct Stock {
    /// Ours, with their apps.
    containers: Vec<(AppId, Known)>,
    /// Those with our label: ours, and what people have made of them.
    images: Vec<ImageSummary>,
    /// Ids of the images of all containers, people's as well.
    used: Vec<(String, String)>,
}

/// What is to go.
#[derive(Debug, Default)]
struct Plan<'a> {
    containers: Vec<&'a (AppId, Known)>,
    /// Images by the names, or the ids, under which they go.
    images: Vec<(&'a ImageSummary, Vec<&'a str>)>,
}

impl Containers {
    /// Removes it, or only says what would be removed.
    pub(crate) async fn tidy(&self, wanted: &Tidying) -> Tidied {
        let Ok(_alone) = self.images.try_write() else {
            let problems = vec!["an image is being made: ask again when it is there".to_owned()];
            return Tidied { problems, ..Tidied::default() };
        };
        let mut tidied = self.tidy_alone(wanted).await.unwrap_or_else(|fault| Tidied {
            problems: vec![error_text(Some(fault.reason), &fault.text)],
            ..Tidied::default()
        });
        let busy = wanted.busy.iter();
        tidied.problems.extend(busy.map(|app| format!("{app} is busy or cannot be opened: all of it stays")));
        tidied
    }

    async fn tidy_alone(&self, wanted: &Tidying) -> Result<Tidied, Fault> {
        let docker = self.endpoint.connect().await?;
        let stock = Stock::read(&docker).await?;
        let plan = stock.plan(wanted);
        let all = stock.images.iter().map(|image| image.id.as_str());
        let before = disk::layers(&docker, all.clone(), disk::of_ours).await;
        let (mut tidied, mut gone) = (Tidied::default(), BTreeSet::new());
        for (app, known) in plan.containers {
            let swap = Swap { docker: &docker, app };
            let removed = if wanted.dry_run { Ok(()) } else { swap.remove(known).await };
            tidied.note(format!("container {}", known.name), removed);
        }
        for (found, names) in plan.images {
            let mut names_left = found.repo_tags.len().max(1);
            for name in names {
                let removed = if wanted.dry_run { Ok(()) } else { image::remove(&docker, name).await };
                names_left -= usize::from(tidied.note(format!("image {name}"), removed));
            }
            if names_left == 0 {
                gone.insert(found.id.as_str());
            }
        }
        // What people have made of ours needs all that is below it.
        let after = disk::layers(&docker, all.filter(|id| !gone.contains(id)), disk::whole).await;
        let freed = before.iter().filter(|(layer, _)| !after.contains_key(*layer));
        tidied.freed_bytes = freed.map(|(_, bytes)| bytes).sum();
        Ok(tidied)
    }
}

impl Stock {
    async fn read(docker: &Docker) -> Result<Self, Fault> {
        let all = list(docker, Vec::new()).await?;
        let used = all.iter().map(|listed| {
            let (id, image) = (listed.id.clone(), listed.image_id.clone());
            (id.unwrap_or_default(), image.unwrap_or_default())
        });
        let used = used.collect();
        let containers = all.into_iter().filter_map(of_ours).collect();
        Ok(Self { containers, images: image::ours(docker).await?, used })
    }

    fn plan(&self, wanted: &Tidying) -> Plan<'_> {
        let containers: Vec<_> =
            self.containers.iter().filter(|(app, known)| self.goes(wanted, app, known)).collect();
        let gone: BTreeSet<&str> = containers.iter().map(|(_, known)| known.id.as_str()).collect();
        let used: BTreeSet<&str> = self
            .used
            .iter()
            .filter(|(id, _)| !gone.contains(id.as_str()))
            .map(|(_, image)| image.as_str())
            .collect();
        let named = |image| {
            let names = self.stale(wanted, image);
            (!names.is_empty()).then_some((image, names))
        };
        let images = self.images.iter().filter(|image| !used.contains(image.id.as_str())).filter_map(named);
        Plan { images: images.collect(), containers }
    }

    fn goes(&self, wanted: &Tidying, app: &AppId, known: &Known) -> bool {
        !known.is_running && self.needed(wanted, app).is_some_and(|keep| !stays(known, app, &keep))
    }

    fn stale<'a>(&self, wanted: &Tidying, image: &'a ImageSummary) -> Vec<&'a str> {
        let label = |name: &str| image.labels.get(name).map(String::as_str).unwrap_or_default();
        let Ok(app) = label(names::APP).parse::<AppId>() else { return Vec::new() };
        let Some(keep) = self.needed(wanted, &app) else { return Vec::new() };
        let is_kept = keep.iter().any(|tree| tree == label(names::SIGNATURE));
        stale(&image.repo_tags, &image.id, &app, is_kept)
    }

    /// The trees that an app needs; nothing is known of one that has something under way, or is another worker's.
    fn needed(&self, wanted: &Tidying, app: &AppId) -> Option<Vec<String>> {
        if wanted.busy.contains(app) {
            return None;
        }
        if let Some(trees) = wanted.keep.get(app) {
            return Some(trees.iter().map(Digest::to_string).collect());
        }
        // Another worker's may have nothing that runs just now.
        let has_container = self.containers.iter().any(|(of, _)| of == app);
        (!has_container).then(Vec::new)
    }
}

trait Note {
    /// Whether it is gone.
    fn note(&mut self, what: String, removed: Result<(), Fault>) -> bool;
}

impl Note for Tidied {
    fn note(&mut self, what: String, removed: Result<(), Fault>) -> bool {
        match removed {
            Ok(()) => self.removed.push(what),
            Err(fault) => {
                self.problems.push(error_text(Some(fault.reason), &fault.text));
                return false;
            }
        }
        true
    }
}

/// A container that we have made, with its app.
fn of_ours(listed: ContainerSummary) -> Option<(AppId, Known)> {
    let labels = listed.labels.as_ref()?;
    let app = labels.get(names::LAUNCH).and(labels.get(names::APP))?.parse().ok()?;
    let known = known(listed)?;
    names::is_role(&known.name, &app).then_some((app, known))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn container(app: &str, name: &str, tree: Digest, is_running: bool) -> (AppId, Known) {
        let labels =
            [(names::APP, app.to_owned()), (names::SIGNATURE, tree.to_string()), (names::LAUNCH, "x".into())];
        let state = if is_running { "running" } else { "exited" };
        let listed = serde_json::json!({
            "Id": name, "Names": [format!("/{name}")], "ImageID": tree.to_string(), "State": state,
            "Labels": labels.into_iter().collect::<HashMap<_, _>>(),
        });
        of_ours(serde_json::from_value(listed).unwrap()).unwrap()
    }

    fn image(app: &str, tree: Digest, tags: &[&str]) -> ImageSummary {
        let labels = [(names::APP, app.to_owned()), (names::SIGNATURE, tree.to_string())];
        ImageSummary {
            id: tree.to_string(),
            repo_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            labels: labels.map(|(name, value)| (name.to_owned(), value)).into(),
            ..ImageSummary::default()
        }
    }

    #[test]
    fn what_present_and_previous_need_stays_and_so_does_what_is_not_ours() {
        let [present, previous, old, by_hand, other] = [1, 2, 3, 4, 5].map(|n| Digest([n; 32]));
        let containers = vec![
            container("web", "web", present, true),
            container("web", "web.previous", previous, false),
            container("web", "web.failed", old, false),
            container("lab", "lab", other, false),
            container("lab", "lab.previous", old, false),
            container("busy", "busy.next", old, false),
        ];
        let mut used: Vec<_> =
            containers.iter().map(|(_, known)| (known.id.clone(), known.image.clone())).collect();
        used.push(("of a person".to_owned(), by_hand.to_string()));
        let images = vec![
            image("web", present, &["deploybus/web:1"]),
            image("web", previous, &["deploybus/web:2"]),
            image("web", Digest([9; 32]), &["deploybus/web:9"]),
            image("web", Digest([8; 32]), &["mine:1"]),
            image("web", by_hand, &["deploybus/web:4"]),
            image("gone", Digest([7; 32]), &["deploybus/gone:7"]),
            image("lab", Digest([6; 32]), &["deploybus/lab:6"]),
            image("busy", Digest([5; 32]), &["deploybus/busy:5"]),
        ];
        let stock = Stock { containers, images, used };
        let web: AppId = "web".parse().unwrap();
        let wanted = Tidying {
            keep: [(web, vec![present, previous])].into(),
            busy: ["busy".parse().unwrap()].into(),
            dry_run: false,
        };
        let plan = stock.plan(&wanted);
        let gone: Vec<_> = plan.containers.iter().map(|(_, known)| known.name.as_str()).collect();
        assert_eq!(gone, ["web.failed"]);
        let gone: Vec<_> = plan.images.iter().flat_map(|(_, names)| names.clone()).collect();
        assert_eq!(gone, ["deploybus/web:9", "deploybus/gone:7"]);
    }
}
