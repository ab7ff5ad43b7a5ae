//! What a saved image consists of, as it is signed: nodes prove by it what they have loaded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use anyhow::Result;
use schemas::{
    id::{Digest, Hasher},
    release::ANY_PLATFORM,
};
use serde::Deserialize;

use crate::{
    problem::{Advise as _, problem},
    show::clean,
};

/// A larger file is a layer, not what is said of an image.
const MAX_INDEX_BYTES: u64 = 1024 * 1024;
const BUFFER_BYTES: usize = 128 * 1024;
/// How files begin that are compressed by gzip and zstd.
const COMPRESSED: [&[u8]; 2] = [&[0x1f, 0x8b], &[0x28, 0xb5, 0x2f, 0xfd]];

/// An image as it was saved.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// Digests of its layers, unpacked, the lowest first.
    pub(super) layers: Vec<Digest>,
    /// As nodes spell it.
    pub(super) platform: String,
    /// The commit that it says it is of, or empty.
    pub(super) commit: String,
}

/// `manifest.json`: one entry for each image of the file.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Index {
    config: String,
}

/// What an image says of itself.
#[derive(Deserialize)]
struct Config {
    os: String,
    architecture: String,
    rootfs: RootFiles,
    #[serde(default, rename = "config")]
    settings: Settings,
}

#[derive(Default, Deserialize)]
struct Settings {
    #[serde(rename = "Env", default)]
    env: Option<Vec<String>>,
    /// What is done when something is built on it, as nodes do to write their labels.
    #[serde(rename = "OnBuild", default)]
    triggers: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RootFiles {
    diff_ids: Vec<String>,
}

/// The files of an archive.
#[derive(Default)]
struct Archive {
    digests: BTreeSet<Digest>,
    small: BTreeMap<String, Vec<u8>>,
    has_compressed: bool,
}

/// Reads it, and sees that all of it is there.
pub(super) fn read(folder: &Path, file: &str) -> Result<Image> {
    let again = format!("save one image into it, as in `docker save --output {} IMAGE`", clean(file));
    let what = format!("{} is no image that can be loaded", clean(file));
    let path = folder.join(file);
    let open = || File::open(&path).map(|file| BufReader::with_capacity(BUFFER_BYTES, file));
    let mut begin = Vec::new();
    open()?.take(4).read_to_end(&mut begin)?;
    if is_compressed(&begin) {
        let advice = "unpack it, as with `gunzip`: what travels is compressed anyhow";
        return Err(problem(format!("{} is compressed", clean(file)), advice));
    }
    let archive = Archive::read(open()?).advise(what.clone(), again.clone())?;
    let images: Vec<Index> = archive.json("manifest.json").advise(what.clone(), again.clone())?;
    let [image] = images.as_slice() else {
        return Err(problem(format!("{} has {} images", clean(file), images.len()), again));
    };
    let config: Config = archive.json(&image.config).advise(what.clone(), again.clone())?;
    let layers: Option<Vec<_>> = config.rootfs.diff_ids.iter().map(|text| digest(text)).collect();
    let layers = layers.ok_or_else(|| problem(what, again.clone()))?;
    // Of layers that are compressed in the file, nothing is known until they are unpacked.
    let lost = layers.iter().find(|layer| !archive.digests.contains(layer));
    if let Some(lost) = lost.filter(|_| !archive.has_compressed) {
        return Err(problem(
            format!("layer {} of {} is missing or damaged", lost.short(), clean(file)),
            again,
        ));
    }
    if config.settings.triggers.iter().flatten().next().is_some() {
        let text = format!("{} has ONBUILD instructions, which nodes would carry out", clean(file));
        return Err(problem(text, "save an image that was built on it"));
    }
    let env = config.settings.env.iter().flatten();
    let commit = env.filter_map(|pair| pair.strip_prefix("GIT_COMMIT=")).next_back().unwrap_or_default();
    Ok(Image { layers, platform: spelled(&config), commit: commit.to_owned() })
}

/// The platform of the part: that of the image, which another one must not be said to be.
pub(super) fn platform(file: &str, image: String, said: &str) -> Result<String> {
    if said == ANY_PLATFORM || said == image {
        return Ok(image);
    }
    Err(problem(
        format!("{} is for {}, not for {said}", clean(file), clean(&image)),
        "build it with `docker build --platform`, or correct `platform` under [app] in deploybus.toml",
    ))
}

/// An image that says another commit than its release would not prove itself on any node.
pub(super) fn check_commit(file: &str, image: &str, release: &str) -> Result<()> {
    if image.is_empty() || image == release {
        return Ok(());
    }
    let (file, image, release) = (clean(file), clean(image), clean(release));
    Err(problem(
        format!("{file} says by GIT_COMMIT that it is of commit {image}, and the release is of {release}"),
        format!("say `--commit {image}`, or save the image of this commit"),
    ))
}

/// The platform as nodes spell it, which is how Rust does.
fn spelled(config: &Config) -> String {
    let architecture = match config.architecture.as_str() {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "386" => "x86",
        other => other,
    };
    format!("{}/{architecture}", config.os)
}

fn digest(text: &str) -> Option<Digest> {
    text.strip_prefix("sha256:")?.parse().ok()
}

fn is_compressed(begin: &[u8]) -> bool {
    COMPRESSED.iter().any(|magic| begin.starts_with(magic))
}

impl Archive {
    fn read(file: impl Read) -> io::Result<Self> {
        let (mut all, mut buffer) = (Self::default(), vec![0; BUFFER_BYTES]);
        for entry in tar::Archive::new(file).entries()? {
            let mut entry = entry?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = entry.path()?.to_string_lossy().into_owned();
            let is_small = entry.size() <= MAX_INDEX_BYTES;
            let (mut hash, mut content, mut is_first) = (Hasher::default(), Vec::new(), true);
            loop {
                let len = entry.read(&mut buffer)?;
                if len == 0 {
                    break;
                }
                all.has_compressed |= is_first && is_compressed(&buffer[..len]);
                is_first = false;
                hash.update(&buffer[..len]);
                if is_small {
                    content.extend_from_slice(&buffer[..len]);
                }
            }
            all.digests.insert(hash.finish());
            if is_small {
                all.small.insert(path, content);
            }
        }
        Ok(all)
    }

    fn json<T: for<'a> Deserialize<'a>>(&self, path: &str) -> Result<T> {
        let text = self.small.get(path).map(Vec::as_slice);
        let text = text.ok_or_else(|| anyhow::anyhow!("it has no {}", clean(path)))?;
        Ok(serde_json::from_slice(text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, *content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn read_of(bytes: &[u8]) -> Result<Image, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("app.tar"), bytes).unwrap();
        read(dir.path(), "app.tar").map_err(|error| error.to_string())
    }

    #[test]
    fn layers_and_platform_are_read_out_of_what_docker_save_has_written() {
        let layer = Digest::of(b"layer");
        let config = format!(
            r#"{{"os":"linux","architecture":"arm64","config":{{"Env":["A=1","GIT_COMMIT=abc"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:{layer}"]}}}}"#
        );
        let index = br#"[{"Config":"c.json","RepoTags":["web:1"],"Layers":["1/layer.tar"]}]"#;
        let of = |layer: &[u8], index: &[u8]| {
            tar(&[("1/layer.tar", layer), ("c.json", config.as_bytes()), ("manifest.json", index)])
        };
        let whole = of(b"layer", index);
        let image = Image { layers: vec![layer], platform: "linux/aarch64".into(), commit: "abc".into() };
        assert_eq!(read_of(&whole), Ok(image));
        let damaged = read_of(&of(b"lay", index)).unwrap_err();
        assert!(damaged.ends_with("of app.tar is missing or damaged"), "{damaged}");
        assert_eq!(read_of(&of(b"layer", b"[]")).unwrap_err(), "app.tar has 0 images");
        assert_eq!(read_of(b"\x1f\x8b...").unwrap_err(), "app.tar is compressed");
        let triggers = config.replace(r#""Env""#, r#""OnBuild":["RUN evil"],"Env""#);
        let triggers =
            tar(&[("1/layer.tar", b"layer"), ("c.json", triggers.as_bytes()), ("manifest.json", index)]);
        assert!(read_of(&triggers).unwrap_err().contains("ONBUILD"));
        for other in [&b"no tar"[..], &tar(&[("app.py", b"print()")]), &whole[..600]] {
            assert_eq!(read_of(other).unwrap_err(), "app.tar is no image that can be loaded");
        }
    }

    #[test]
    fn an_image_of_another_commit_is_not_released() {
        let of = |image| check_commit("app.tar", image, "abc").map_err(|error| error.to_string());
        assert_eq!((of(""), of("abc")), (Ok(()), Ok(())));
        assert!(of("old").unwrap_err().contains("commit old, and the release is of abc"));
    }

    #[test]
    fn an_image_is_for_the_platform_that_it_says() {
        let of = |said| platform("app.tar", "linux/aarch64".into(), said).map_err(|error| error.to_string());
        assert_eq!(of(ANY_PLATFORM), Ok("linux/aarch64".into()));
        assert_eq!(of("linux/aarch64"), Ok("linux/aarch64".into()));
        assert_eq!(of("linux/x86_64").unwrap_err(), "app.tar is for linux/aarch64, not for linux/x86_64");
    }
}
