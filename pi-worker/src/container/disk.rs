//! How much of the engine's disk images of ours take, and how much is free there. Layers that several of them share count
//! once; layers of an image that somebody else has named, as that of a Dockerfile's `FROM`, are not ours.

use std::collections::BTreeMap;

use agent::EngineDisk;
use bollard::{Docker, models::ImageHistoryResponseItem};
use tracing::debug;

use super::{Containers, image, names, room};

/// Layers by what tells them apart, with their bytes.
pub(super) type Layers = BTreeMap<String, u64>;

impl Containers {
    /// What the engine has of ours; nothing where there is none, or it does not answer.
    pub(crate) async fn disk(&self) -> Option<EngineDisk> {
        let docker = self.endpoint.connect().await.ok()?;
        let images = image::ours(&docker).await.inspect_err(|fault| debug!(text = fault.text)).ok()?;
        let layers = layers(&docker, images.iter().map(|image| image.id.as_str()), of_ours).await;
        let free_bytes = room::free(&docker).await.map(|(_, free)| free);
        Some(EngineDisk { used_bytes: layers.values().sum(), free_bytes })
    }
}

/// The layers of images, as `of` takes them from the history of each.
pub(super) async fn layers(
    docker: &Docker,
    images: impl Iterator<Item = &str>,
    of: impl Fn(&[ImageHistoryResponseItem]) -> Layers,
) -> Layers {
    let mut layers = Layers::new();
    for id in images {
        // One that is gone by now takes nothing.
        layers.extend(of(&docker.image_history(id).await.unwrap_or_default()));
    }
    layers
}

/// The layers of an image, newest first, down to the first that is somebody else's.
pub(super) fn of_ours(history: &[ImageHistoryResponseItem]) -> Layers {
    let is_ours = |layer: &&ImageHistoryResponseItem| {
        layer.tags.iter().all(|name| names::is_ours(name) || name == image::NAMELESS)
    };
    history.iter().take_while(is_ours).map(named).collect()
}

/// All layers of an image.
pub(super) fn whole(history: &[ImageHistoryResponseItem]) -> Layers {
    history.iter().map(named).collect()
}

fn named(layer: &ImageHistoryResponseItem) -> (String, u64) {
    let name = match layer.id.as_str() {
        // What came from elsewhere has no id of its own here.
        "<missing>" => format!("{} {} {}", layer.created, layer.size, layer.created_by),
        id => id.to_owned(),
    };
    (name, u64::try_from(layer.size).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(id: &str, size: i64, tags: &[&str]) -> ImageHistoryResponseItem {
        ImageHistoryResponseItem {
            id: id.to_owned(),
            size,
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            ..ImageHistoryResponseItem::default()
        }
    }

    #[test]
    fn layers_that_images_share_count_once_and_those_of_the_base_do_not() {
        let base = [layer("base", 700, &["python:3"]), layer("<missing>", 90, &[])];
        let below = |own: &[ImageHistoryResponseItem]| of_ours(&[own, &base].concat());
        let mut layers = below(&[layer("one", 5, &["deploybus/web:1"]), layer("deps", 30, &[])]);
        layers.extend(below(&[layer("two", 6, &["deploybus/web:2"]), layer("deps", 30, &[])]));
        assert_eq!(layers.values().sum::<u64>(), 5 + 6 + 30);
        // An image that was brought here whole has nobody else's layers.
        let whole = [layer("top", 0, &["deploybus/web:3"]), layer("<missing>", 40, &[])];
        assert_eq!(of_ours(&whole).values().sum::<u64>(), 40);
    }
}
