//! Images of an app, and what they say of themselves.

use std::collections::HashMap;

use bollard::{
    Docker,
    models::{ImageInspect, ImageSummary},
    query_parameters::{ListImagesOptions, RemoveImageOptions},
};
use machine::{Fault, Slot};
use schemas::{id::AppId, reason::Reason};

use super::{
    engine::{OnEngine as _, is_absent},
    names,
};

/// What a Dockerfile is given, and may hand on to the environment.
pub(super) const GIT_COMMIT: &str = "GIT_COMMIT";
/// The same: the tree hash.
pub(super) const CODE_SIGNATURE: &str = "CODE_SIGNATURE";

/// How the engine calls an image that has lost its name to another.
pub(super) const NAMELESS: &str = "<none>:<none>";

/// An image as the engine has it.
#[derive(Debug, Clone)]
pub(super) struct Image {
    pub(super) size_bytes: u64,
    labels: HashMap<String, String>,
    env: Vec<String>,
}

/// The image of that name.
pub(super) async fn find(docker: &Docker, name: &str) -> Result<Option<Image>, Fault> {
    match docker.inspect_image(name).await {
        Ok(found) => Ok(Some(Image::from(found))),
        Err(err) if is_absent(&err) => Ok(None),
        Err(err) => Err(err).on_engine(Reason::BuildFailed, || format!("look at image {name}")),
    }
}

/// Every image of the app, newest first.
pub(super) async fn all(docker: &Docker, app: &AppId) -> Result<Vec<ImageSummary>, Fault> {
    with_label(docker, format!("{}={app}", names::APP)).await
}

/// Every image of every app, newest first; not only of those apps that this node has now.
pub(super) async fn ours(docker: &Docker) -> Result<Vec<ImageSummary>, Fault> {
    with_label(docker, names::APP.to_owned()).await
}

async fn with_label(docker: &Docker, label: String) -> Result<Vec<ImageSummary>, Fault> {
    let doing = format!("list the images with label {label}");
    let options = ListImagesOptions {
        all: false,
        filters: Some([("label".to_owned(), vec![label])].into()),
        ..ListImagesOptions::default()
    };
    let mut images = docker.list_images(Some(options)).await.on_engine(Reason::BuildFailed, || doing)?;
    images.sort_by_key(|image| std::cmp::Reverse(image.created));
    Ok(images)
}

/// Removes an image by its id or name. One that a container needs, or that has several names, stays.
pub(super) async fn remove(docker: &Docker, id: &str) -> Result<(), Fault> {
    let options = RemoveImageOptions { force: false, ..RemoveImageOptions::default() };
    match docker.remove_image(id, Some(options), None).await {
        Err(err) if is_absent(&err) => Ok(()),
        removed => removed.map(drop).on_engine(Reason::BuildFailed, || format!("remove image {id}")),
    }
}

impl From<ImageInspect> for Image {
    fn from(found: ImageInspect) -> Self {
        let config = found.config.unwrap_or_default();
        Self {
            size_bytes: found.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
            labels: config.labels.unwrap_or_default(),
            env: config.env.unwrap_or_default(),
        }
    }
}

impl Image {
    /// Whether it says that it is the slot's: what differs, with both values.
    pub(super) fn proves(&self, slot: &Slot, forced: u64) -> Result<(), String> {
        let (tree, commit) = (slot.tree().to_string(), slot.commit.as_str());
        let label = |name: &str| self.labels.get(name).map(String::as_str).unwrap_or_default();
        compare("code signature", label(names::SIGNATURE), &tree)?;
        compare("commit", label(names::COMMIT), commit)?;
        compare("forced build", label(names::FORCED), &forced.to_string())?;
        environment_proves(&self.env, slot)
    }
}

/// Whether an environment, where it has them, says the commit and the signature of the slot. An image that was saved cannot know
/// the signature of a tree that it is in, and may have been built without saying a commit.
pub(super) fn environment_proves(env: &[String], slot: &Slot) -> Result<(), String> {
    let is_saved = slot.part.container().is_some_and(|container| container.saved.is_some());
    let value = |name| {
        let mut pairs = env.iter().filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    if let Some(found) = value(GIT_COMMIT).filter(|found| !(is_saved && found.is_empty())) {
        compare(GIT_COMMIT, found, &slot.commit)?;
    }
    match value(CODE_SIGNATURE) {
        Some(found) if !is_saved => compare(CODE_SIGNATURE, found, &slot.tree().to_string()),
        _ => Ok(()),
    }
}

fn compare(what: &str, found: &str, expected: &str) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what} is `{found}`, expected `{expected}`")) }
}

#[cfg(test)]
mod tests {
    use schemas::release::{
        PartKind,
        container::{Container, Saved},
    };

    use super::{super::fixture::container, *};
    use crate::slots::fixture::release;

    #[test]
    fn an_image_proves_itself_by_what_is_written_on_it() {
        let slot = release("1", &[("Dockerfile", "FROM scratch", false)]).slot;
        let image = |commit: &str, env: &[String]| {
            let mut labels = names::labels(&"web".parse().unwrap(), &slot, 0);
            labels.insert(names::COMMIT.to_owned(), commit.to_owned());
            Image { size_bytes: 1, labels, env: env.to_vec() }
        };
        assert_eq!(image(&slot.commit, &[]).proves(&slot, 0), Ok(()));
        let text = image("old", &[]).proves(&slot, 0).unwrap_err();
        assert_eq!(text, "commit is `old`, expected `commit-of-1`");
        assert!(image(&slot.commit, &[]).proves(&slot, 1).is_err(), "a build that was asked for again");
        let stale = image(&slot.commit, &["GIT_COMMIT=old".to_owned()]).proves(&slot, 0).unwrap_err();
        assert!(stale.contains("GIT_COMMIT is `old`"), "{stale}");
        let good = [format!("GIT_COMMIT={}", slot.commit), format!("CODE_SIGNATURE={}", slot.tree())];
        assert_eq!(image(&slot.commit, &good).proves(&slot, 0), Ok(()));
    }

    #[test]
    fn a_saved_image_need_not_say_a_commit_but_says_no_other_one() {
        let mut slot = release("1", &[("app.tar", "", false)]).slot;
        slot.part.kind = PartKind::Image;
        let saved = Some(Saved { file: "app.tar".into(), layers: Vec::new() });
        slot.part.container = Some(Box::new(Container { saved, ..container() }));
        let proves = |env: &str| environment_proves(&[env.to_owned()], &slot).is_ok();
        assert!(proves("GIT_COMMIT=") && proves("CODE_SIGNATURE=of its Dockerfile"));
        assert!(proves(&format!("GIT_COMMIT={}", slot.commit)) && !proves("GIT_COMMIT=old"));
    }
}
