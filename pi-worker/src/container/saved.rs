//! An image that was saved into a file of the tree. It is loaded without the names that it had where it was saved: those may be
//! somebody else's here. A label is all that is built on it, so its layers prove it: by their digests, and by their bytes as the
//! engine reads them back from its disk.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use bollard::{Docker, errors::Error, query_parameters::ImportImageOptions};
use futures_util::StreamExt as _;
use machine::Fault;
use schemas::{
    id::{Digest, Hasher},
    manifest::Manifest,
    reason::Reason,
    release::container::Saved,
};
use serde_json::Value;

use super::{
    BUILD_WITHIN, context,
    engine::{OnEngine as _, engine_fault, is_absent, known_reason},
    read_back::reading,
};
use crate::fault::fault;

/// What an engine says when it has loaded an image that has no name.
const LOADED: &str = "Loaded image ID: ";
/// An index of more bytes is none that `docker save` has written.
const MAX_INDEX_BYTES: u64 = 1024 * 1024;
/// How files begin that are compressed by gzip and zstd.
const COMPRESSED: [&[u8]; 2] = [&[0x1f, 0x8b], &[0x28, 0xb5, 0x2f, 0xfd]];

/// Loads the image, and gives its id.
pub(super) async fn load(
    docker: &Docker,
    saved: &Saved,
    manifest: &Manifest,
    folder: &Path,
) -> Result<String, Fault> {
    let failed = |why: &str| fault(Reason::BuildFailed, format!("cannot load image {}: {why}", saved.file));
    if !manifest.files().any(|(path, ..)| path == saved.file) {
        return Err(failed("it is not among the files of the release"));
    }
    let path = folder.join(&saved.file);
    let body = context::stream(move |out| without_names(File::open(&path)?, out));
    let options = ImportImageOptions { quiet: true, ..ImportImageOptions::default() };
    let patient = docker.clone().with_timeout(BUILD_WITHIN);
    let mut answers = Box::pin(patient.import_image_stream(options, body, None));
    let mut said = String::new();
    while let Some(answer) = answers.next().await {
        let doing = || format!("load image {}", saved.file);
        said += answer.on_engine(Reason::BuildFailed, doing)?.stream.as_deref().unwrap_or_default();
    }
    let id = said.lines().find_map(|line| line.trim().strip_prefix(LOADED));
    id.map(str::to_owned).ok_or_else(|| failed(&format!("the engine says `{}`", said.trim())))
}

/// How an image differs from the one that was saved; nothing where it is the same, byte for byte.
pub(super) async fn differs(docker: &Docker, image: &str, saved: &Saved) -> Result<Option<String>, Fault> {
    if let Some(difference) = lacks_layers(docker, image, saved).await? {
        return Ok(Some(difference));
    }
    // An engine may write all of it to its disk before it sends the first byte.
    let patient = docker.clone().with_timeout(BUILD_WITHIN);
    match reading(Box::pin(patient.export_image(image)), Contents::read).await {
        Ok(Ok(contents)) => Ok(contents.lacks(saved)),
        Ok(Err(err)) => Ok(Some(format!("what the engine has of it is no image: {err}"))),
        // An engine checks its own files as it reads them; that its disk is full says nothing of them.
        Err(Error::DockerResponseServerError { message, .. }) if known_reason(&message).is_none() => {
            Ok(Some(format!("its bytes are damaged: {message}")))
        }
        Err(err) => Err(engine_fault(Reason::NoProof, &format!("read image {image} back"), err)),
    }
}

/// Whether an image has other layers than the saved one, by what the engine says of it.
pub(super) async fn lacks_layers(
    docker: &Docker,
    image: &str,
    saved: &Saved,
) -> Result<Option<String>, Fault> {
    let doing = || format!("look at image {image}");
    let found = match docker.inspect_image(image).await {
        Err(err) if is_absent(&err) => return Ok(Some("the engine does not have it any more".to_owned())),
        found => found.on_engine(Reason::NoProof, doing)?,
    };
    let layers = found.root_fs.and_then(|files| files.layers).unwrap_or_default();
    let expected = saved.layers.iter().map(|layer| format!("sha256:{layer}"));
    let is_same = expected.eq(layers.iter().cloned());
    let different = || format!("it has {} layers, and not those that {} has", layers.len(), saved.file);
    Ok((!is_same).then(different))
}

/// Copies an archive of images, without the names that they had.
fn without_names(archive: impl Read, out: &mut impl Write) -> io::Result<()> {
    let mut archive = tar::Archive::new(archive);
    let mut tar = tar::Builder::new(out);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let mut header = entry.header().clone();
        if entry.path_bytes() != header.path_bytes() {
            let text = "a file of the archive has two names";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let strip: fn(&mut Value) = match entry.path()?.file_name().and_then(|name| name.to_str()) {
            // Names for engines that are older than ours may be.
            Some("repositories") => continue,
            Some("manifest.json") => strip_manifest,
            Some("index.json") => strip_index,
            _ => {
                tar.append(&header, &mut entry)?;
                continue;
            }
        };
        let mut index: Value = serde_json::from_reader(entry.take(MAX_INDEX_BYTES))?;
        strip(&mut index);
        let bytes = serde_json::to_vec(&index)?;
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        tar.append(&header, bytes.as_slice())?;
    }
    tar.finish()
}

fn strip_manifest(index: &mut Value) {
    for image in index.as_array_mut().into_iter().flatten() {
        if let Some(image) = image.as_object_mut() {
            image.insert("RepoTags".to_owned(), Value::Null);
        }
    }
}

fn strip_index(index: &mut Value) {
    let images = index.get_mut("manifests").and_then(Value::as_array_mut);
    for image in images.into_iter().flatten() {
        if let Some(image) = image.as_object_mut() {
            image.remove("annotations");
        }
    }
}

/// What is in an image as the engine hands it out.
#[derive(Debug, Default)]
struct Contents {
    files: BTreeSet<Digest>,
    /// Some files are compressed, so that their digests say nothing of what is in them.
    has_compressed: bool,
}

impl Contents {
    fn read(archive: impl Read) -> io::Result<Self> {
        let mut contents = Self::default();
        for entry in tar::Archive::new(archive).entries()? {
            let mut entry = entry?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let (mut begin, mut hash) = (Vec::new(), Hasher::default());
            (&mut entry).take(4).read_to_end(&mut begin)?;
            contents.has_compressed |= COMPRESSED.iter().any(|magic| begin.starts_with(magic));
            hash.update(&begin);
            io::copy(&mut entry, &mut Hashing(&mut hash))?;
            contents.files.insert(hash.finish());
        }
        Ok(contents)
    }

    /// A layer whose bytes are not there.
    fn lacks(&self, saved: &Saved) -> Option<String> {
        let lost = saved.layers.iter().find(|layer| !self.files.contains(layer))?;
        let damaged = || format!("layer {} has other bytes than in {}", lost.short(), saved.file);
        (!self.has_compressed).then(damaged)
    }
}

/// Takes what is written.
struct Hashing<'a>(&'a mut Hasher);

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, *content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn texts(archive: &[u8]) -> Vec<(String, String)> {
        let mut archive = tar::Archive::new(archive);
        let text = |entry: io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (entry.path().unwrap().to_str().unwrap().to_owned(), text)
        };
        archive.entries().unwrap().map(text).collect()
    }

    #[test]
    fn an_image_is_loaded_without_the_names_that_it_had() {
        let saved = archive(&[
            ("abc/layer.tar", b"layer"),
            ("manifest.json", br#"[{"Config":"c.json","Layers":["abc/layer.tar"],"RepoTags":["web:1"]}]"#),
            ("repositories", b"{}"),
            ("index.json", br#"{"manifests":[{"annotations":{"name":"web:1"},"digest":"x"}]}"#),
        ]);
        let mut out = Vec::new();
        without_names(saved.as_slice(), &mut out).unwrap();
        let pair = |path: &str, text: &str| (path.to_owned(), text.to_owned());
        let expected = [
            pair("abc/layer.tar", "layer"),
            pair("manifest.json", r#"[{"Config":"c.json","Layers":["abc/layer.tar"],"RepoTags":null}]"#),
            pair("index.json", r#"{"manifests":[{"digest":"x"}]}"#),
        ];
        assert_eq!(texts(&out), expected);
        assert!(without_names(&saved[..700], &mut Vec::new()).is_err(), "one that is cut off");
    }

    #[test]
    fn a_hostile_archive_keeps_no_name_and_ends_nothing() {
        let odd = archive(&[
            ("./manifest.json", br#"[{"RepoTags":["debian:bookworm"]}, 7]"#),
            ("index.json", b"[]"),
        ]);
        let mut out = Vec::new();
        without_names(odd.as_slice(), &mut out).unwrap();
        let [manifest, index] = texts(&out).try_into().unwrap();
        assert_eq!((manifest.1.as_str(), index.1.as_str()), (r#"[{"RepoTags":null},7]"#, "[]"));
        // A name that is too long for its header stands in an entry before it: what unpacks it may see another.
        let long = format!("{}/manifest.json", "x".repeat(120));
        assert!(without_names(archive(&[(&long, b"[]")]).as_slice(), &mut Vec::new()).is_err());
    }

    #[test]
    fn a_layer_whose_bytes_are_not_there_is_found() {
        let saved = Saved { file: "app.tar".into(), layers: vec![Digest::of(b"one"), Digest::of(b"two")] };
        let lacks =
            |files: &[(&str, &[u8])]| Contents::read(archive(files).as_slice()).unwrap().lacks(&saved);
        assert_eq!(lacks(&[("1/layer.tar", b"one"), ("2/layer.tar", b"two"), ("c.json", b"{}")]), None);
        let text = lacks(&[("1/layer.tar", b"one"), ("2/layer.tar", b"")]).unwrap();
        assert!(text.contains("has other bytes than in app.tar"), "{text}");
        assert_eq!(lacks(&[("1", b"one"), ("2", b"\x1f\x8bpacked")]), None, "nothing can be said of it");
    }
}
