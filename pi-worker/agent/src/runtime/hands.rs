//! How effects are carried out: each in a task of its own that ends in an event.

use std::{fs, sync::Arc};

use machine::{Effect, Fault, Slot, Yield};
use schemas::{
    id::{AppId, Digest},
    manifest::Manifest,
    reason::Reason,
};
use tokio::sync::mpsc::UnboundedSender;

use super::event::Event;
use crate::{
    cancel::{Cancel, Canceller},
    fault,
    fetch::{Fetcher, Manifests},
    installer::{AppDirs, Installer},
    journal,
    work::blocking,
};

/// What carries out the effects of all apps.
pub(super) struct Hands<I> {
    pub(super) installer: Arc<I>,
    pub(super) fetcher: Fetcher,
    pub(super) events: UnboundedSender<Event>,
}

impl<I: Installer> Hands<I> {
    /// Begins an effect that is answered; its end comes as an event.
    pub(super) fn begin(&self, app: &AppId, dirs: AppDirs, effect: Effect) -> Canceller {
        let (canceller, cancel) = Cancel::pair();
        let hand = Hand {
            app: app.clone(),
            dirs,
            installer: Arc::clone(&self.installer),
            fetcher: self.fetcher.clone(),
            events: self.events.clone(),
            cancel,
        };
        tokio::spawn(async move {
            let outcome = hand.carry_out(effect).await;
            // The loop has ended when nobody listens any more.
            hand.events.send(Event::Done(hand.app, outcome)).ok();
        });
        canceller
    }
}

/// What carries out one effect.
struct Hand<I> {
    app: AppId,
    dirs: AppDirs,
    installer: Arc<I>,
    fetcher: Fetcher,
    events: UnboundedSender<Event>,
    cancel: Cancel,
}

impl<I: Installer> Hand<I> {
    async fn carry_out(&self, effect: Effect) -> Result<Yield, Fault> {
        let (app, installer) = (&self.app, &self.installer);
        match effect {
            Effect::Fetch(slot) => return self.fetch(&slot).await,
            Effect::Persist(saved) => {
                let dirs = self.dirs.clone();
                blocking(move || journal::store(&dirs, &saved))
                    .await
                    .map_err(|error| fault::durable(&error))?;
            }
            Effect::Stage(slot) => {
                let manifest = self.manifest(&slot).await?;
                return installer.stage(app, &slot, Arc::new(manifest), self.cancel.clone()).await;
            }
            Effect::PreCheck(slot) => installer.pre_check(app, &slot, self.cancel.clone()).await?,
            Effect::Stop(slot) => installer.stop(app, &slot).await?,
            Effect::Switch(slot) => installer.switch(app, slot.as_deref()).await?,
            Effect::Start(slot) => installer.start(app, &slot).await?,
            Effect::Prove(slot) => installer.prove(app, &slot).await?,
            Effect::Prune { keep } => self.prune(keep).await?,
            // Done by the node itself, at once.
            Effect::Watch(_) | Effect::Cancel | Effect::Tell { .. } | Effect::Refuse(_) => {}
        }
        Ok(Yield::default())
    }

    async fn fetch(&self, slot: &Slot) -> Result<Yield, Fault> {
        let (app, installer) = (self.app.clone(), Arc::clone(&self.installer));
        let present = move |manifest: &Manifest| installer.present(&app, manifest);
        let tell = |permille| {
            self.events.send(Event::Progress(self.app.clone(), permille)).ok();
        };
        self.fetcher.fetch(&self.dirs, slot, present, &self.cancel, tell).await
    }

    async fn manifest(&self, slot: &Slot) -> Result<Manifest, Fault> {
        let (manifests, of) = (Manifests::below(&self.dirs.root), slot.clone());
        blocking(move || manifests.load(&of)).await.ok_or_else(|| {
            let text = format!("manifest {} is missing or damaged on this disk", slot.tree());
            fault::permanent(Reason::SlotMismatch, text)
        })
    }

    /// Nothing else is under way for this app: what still lies in the landing folder is of no use any more.
    async fn prune(&self, keep: Vec<Digest>) -> Result<(), Fault> {
        self.installer.prune(&self.app, &keep).await?;
        let (manifests, objects) = (Manifests::below(&self.dirs.root), self.dirs.objects.clone());
        blocking(move || {
            manifests.prune(&keep);
            match fs::remove_dir_all(&objects) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(fault::disk("remove", &objects, &error))
                }
                _ => Ok(()),
            }
        })
        .await
    }
}
