//! The retained log on disk: appended in batches, synced, rewritten when most of it is garbage.
//!
//! Blocking; lives in a thread of its own ([`super::writer`]).

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use tracing::{error, info, warn};

use super::format::{HEADER_BYTES, Marker, Record, Scanner, Stretch};
use crate::{advice, clock, relay::topic::TopicName};

/// Garbage below this is not worth a rewrite.
const MIN_GARBAGE_BYTES: u64 = 1024 * 1024;

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The file system refuses.
    #[error("cannot {doing} retained log {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The log.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{0} is not a retained log of this version")]
    Foreign(PathBuf),
}

impl LogError {
    /// What a person should do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Io { .. } => advice::DISK,
            Self::Foreign(_) => "start the version that wrote it, or move it away to start without it",
        }
    }
}

/// The newest record of each topic.
pub(super) type Loaded = BTreeMap<TopicName, Record>;

/// An open log.
#[derive(Debug)]
pub(super) struct RetainedLog {
    path: PathBuf,
    file: File,
    marker: Marker,
    /// Where the next record goes; everything before is synced or about to be.
    end: u64,
    index: HashMap<TopicName, Place>,
    live_bytes: u64,
    /// Set when it is unknown what the disk has: nothing is appended before a rewrite has succeeded.
    in_doubt: bool,
    /// Garbage below this is left alone: a rewrite that failed would fail again at once.
    bearable_bytes: u64,
    #[cfg(test)]
    folder_breaks: bool,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    length: u64,
}

impl RetainedLog {
    /// Opens or creates the log at `path` and reads it. A torn tail is cut; a log that is damaged elsewhere is set
    /// aside and rewritten with everything that is valid.
    pub(super) fn open(path: PathBuf) -> Result<(Self, Loaded), LogError> {
        let failed = |doing| {
            let path = path.clone();
            move |source| LogError::Io { doing, path, source }
        };
        if !path.exists() {
            create(&path).map_err(failed("create"))?;
        }
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed("open"))?;
        let mut header = [0; HEADER_BYTES];
        let is_read = file.read_exact_at(&mut header, 0).is_ok();
        let Some(marker) = Marker::of(header).filter(|_| is_read) else {
            return Err(LogError::Foreign(path));
        };
        let mut log = Self {
            path: path.clone(),
            file,
            marker,
            end: HEADER_BYTES as u64,
            index: HashMap::new(),
            live_bytes: 0,
            in_doubt: false,
            bearable_bytes: MIN_GARBAGE_BYTES,
            #[cfg(test)]
            folder_breaks: false,
        };
        let loaded = log.load().map_err(failed("read"))?;
        if !Marker::is_current(&header) {
            log.rewrite()?;
        }
        Ok((log, loaded))
    }

    /// Writes `records` and syncs. On an error none of them is kept.
    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), LogError> {
        if self.in_doubt {
            self.rewrite()?;
        }
        let mut bytes = Vec::new();
        let mut places = Vec::with_capacity(records.len());
        for record in records {
            let start = bytes.len();
            record.encode(self.marker, &mut bytes);
            places.push(Place { offset: self.end + start as u64, length: (bytes.len() - start) as u64 });
        }
        if let Err(source) = self.file.write_all_at(&bytes, self.end) {
            self.in_doubt = self.file.set_len(self.end).is_err();
            return Err(self.failed("write", source));
        }
        if let Err(source) = self.file.sync_data() {
            // After a failed sync the kernel may have dropped the pages: only a new file tells what is there.
            self.in_doubt = true;
            return Err(self.failed("sync", source));
        }
        self.end += bytes.len() as u64;
        for (record, place) in records.iter().zip(places) {
            self.note(record, place);
        }
        Ok(())
    }

    /// Rewrites the log when more than half of it is garbage. A failure costs nothing but space.
    pub(super) fn tidy(&mut self) {
        let garbage = self.end - HEADER_BYTES as u64 - self.live_bytes;
        if garbage <= self.bearable_bytes || garbage * 2 <= self.end {
            return;
        }
        match self.rewrite() {
            Ok(()) => {
                self.bearable_bytes = MIN_GARBAGE_BYTES;
                info!(freed_bytes = garbage, bytes = self.end, "retained log rewritten");
            }
            Err(err) => {
                self.bearable_bytes = garbage * 2;
                warn!(error = %crate::chain(&err), "retained log stays long");
            }
        }
    }

    /// Makes every write fail as on a full disk, or work again.
    #[cfg(test)]
    pub(super) fn fill_disk(&mut self, full: bool) {
        let path = if full { Path::new("/dev/full") } else { &self.path };
        self.file = OpenOptions::new().read(true).write(true).open(path).expect("both are there");
    }

    fn load(&mut self) -> io::Result<Loaded> {
        let mut loaded = Loaded::new();
        let mut damaged = 0;
        let mut pending_damage = 0;
        let mut reader = BufReader::new(self.file.try_clone()?);
        reader.seek(SeekFrom::Start(self.end))?;
        let mut scanner = Scanner::new(reader, self.marker);
        let mut offset = self.end;
        while let Some((stretch, length)) = scanner.next()? {
            match stretch {
                Stretch::Damage => pending_damage = length,
                Stretch::Record(record) => {
                    damaged += std::mem::take(&mut pending_damage);
                    self.note(&record, Place { offset, length });
                    if record.message.payload.is_empty() {
                        loaded.remove(&record.message.topic);
                    } else {
                        loaded.insert(record.message.topic.clone(), record);
                    }
                    self.end = offset + length;
                }
            }
            offset += length;
        }
        if pending_damage > 0 {
            warn!(path = %self.path.display(), bytes = pending_damage, "torn end of the retained log cut off");
            self.file.set_len(self.end)?;
            self.file.sync_data()?;
        }
        if damaged > 0 {
            self.set_aside(damaged)?;
        }
        Ok(loaded)
    }

    /// Keeps the damaged file under another name and goes on with a new one.
    fn set_aside(&mut self, damaged: u64) -> io::Result<()> {
        let aside = self.path.with_extension(format!("log.damaged-{}", clock::now().0));
        error!(
            path = %self.path.display(), bytes = damaged, aside = %aside.display(),
            "retained log is damaged in the middle: everything readable is kept, check the disk"
        );
        fs::hard_link(&self.path, aside)?;
        self.rewrite().map_err(io::Error::other)
    }

    /// Copies what is live into a new file that takes the place of this one.
    fn rewrite(&mut self) -> Result<(), LogError> {
        let temporary = self.path.with_extension("log.new");
        let copied = self.copy_live(&temporary).and_then(|copy| {
            fs::rename(&temporary, &self.path)?;
            Ok(copy)
        });
        let (file, index, end) = copied.map_err(|source| {
            // Half a copy takes the room that the next append needs. If it cannot go, the next rewrite replaces it.
            let _ = fs::remove_file(&temporary);
            self.failed("rewrite", source)
        })?;
        self.file = file;
        self.index = index;
        self.live_bytes = end - HEADER_BYTES as u64;
        self.end = end;
        // The file before has no name any more; but until the folder is synced, a power cut may bring it back.
        self.in_doubt = true;
        self.sync_folder().map_err(|source| self.failed("replace", source))?;
        self.in_doubt = false;
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        #[cfg(test)]
        if self.folder_breaks {
            return Err(io::Error::other("broken for a test"));
        }
        sync_folder(&self.path)
    }

    fn copy_live(&self, to: &Path) -> io::Result<(File, HashMap<TopicName, Place>, u64)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(to)?;
        let mut out = io::BufWriter::with_capacity(256 * 1024, &file);
        out.write_all(&self.marker.header())?;
        let mut end = HEADER_BYTES as u64;
        let mut in_order: Vec<_> = self.index.iter().collect();
        in_order.sort_unstable_by_key(|(_, place)| place.offset);
        let mut index = HashMap::with_capacity(in_order.len());
        let mut record = Vec::new();
        for (topic, place) in in_order {
            record.resize(place.length as usize, 0);
            self.file.read_exact_at(&mut record, place.offset)?;
            out.write_all(&record)?;
            index.insert(topic.clone(), Place { offset: end, length: place.length });
            end += place.length;
        }
        out.flush()?;
        drop(out);
        file.sync_all()?;
        Ok((file, index, end))
    }

    fn note(&mut self, record: &Record, place: Place) {
        let topic = &record.message.topic;
        let before = if record.message.payload.is_empty() {
            self.index.remove(topic)
        } else {
            self.live_bytes += place.length;
            self.index.insert(topic.clone(), place)
        };
        self.live_bytes -= before.map_or(0, |place| place.length);
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> LogError {
        LogError::Io { doing, path: self.path.clone(), source }
    }
}

/// A log with its header or no log: never half a header.
fn create(path: &Path) -> io::Result<()> {
    let temporary = path.with_extension("log.new");
    let mut file = File::create(&temporary)?;
    file.write_all(&Marker::random()?.header())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
