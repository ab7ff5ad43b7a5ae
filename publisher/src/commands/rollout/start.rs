//! `publisher rollout start`: signs what the controller may order and what is wanted of it, and gives it the rollout.

use std::{collections::BTreeSet, path::Path, time::Duration};

use anyhow::Result;
use rollout::{
    Fleet,
    plan::{self, MAX_NAMED, Plan},
};
use schemas::{
    announcement::Announcement,
    id::{AppId, GroupId, PublicKey, Revision, Seq},
    mandate::{Mandate, REVISIONS},
    order::Audience,
    release::Release as Document,
    rollout::{Planned, Plans, Rollout, Wish},
    root::Role,
    seal::{Head, Signed},
    time::UnixTime,
    topic::Kind,
};

use super::{
    super::{
        node, order,
        ordering::{learn, next_revision},
        release,
    },
    SEVERAL, app_of, controllers,
    follow::{Followed, until_heeded},
    read_plan,
};
use crate::{
    cli::{Folder, RolloutStart, RolloutTerms},
    clock,
    exit::Exit,
    home::{Home, history::Kept},
    problem::{Advise as _, problem},
    screen::Screen,
    session::Session,
    show::clean,
};

const UNSIGNED: &str = "make it with `publisher release build`, let others `publisher sign` it, then start the rollout of that file";
const JOINT: &str =
    "a joint release cannot go out in waves: a Pi and its Picos would not be told at the same time";
const ONE_BY_ONE: &str =
    "announce it, group by group: `publisher announce FOLDER --group canary`, then the next group";
const UNBELIEVED: &str = "shorten the plan and the notes; else the files in the folder `keys` are not those of root.cbor: bring them back from a backup";

/// How a release is to be rolled out.
pub(in super::super) struct Start<'a> {
    /// The plan as a person wrote it, if somebody did.
    pub(in super::super) plan: Option<(String, Plan)>,
    /// Whose nodes when there is no plan.
    pub(in super::super) group: Option<GroupId>,
    pub(in super::super) terms: &'a RolloutTerms,
    pub(in super::super) detach: bool,
    pub(in super::super) timeout: Option<Duration>,
}

/// Where the release comes from.
enum Source<'a> {
    Folder(Folder),
    File(&'a Path),
    Known(String),
}

/// Finds or makes the release, and begins.
pub(super) async fn run(home: &Home, arguments: RolloutStart, screen: &Screen) -> Result<Exit> {
    home.sole_key(Role::Ops, SEVERAL)?;
    let source = source(&arguments)?;
    let start = Start {
        plan: arguments.plan.as_deref().map(read_plan).transpose()?,
        group: arguments.group.clone(),
        terms: &arguments.terms,
        detach: arguments.detach,
        timeout: arguments.timeout,
    };
    let packed = match source {
        Source::Folder(folder) => {
            home.sole_key(Role::Release, UNSIGNED)?;
            return start.pack(home, folder, &arguments.notes, screen).await;
        }
        Source::File(file) => Ok(order::read_release(home, file)?),
        Source::Known(version) => Err(version),
    };
    Session::with(home, async |session| {
        let mut fleet = session.read_fleet(home).await?;
        learn(home, &fleet)?;
        node::sync(home, session, &mut fleet).await?;
        let release = match packed {
            Ok(release) => release,
            Err(version) => start.known(home, &fleet, arguments.app.as_ref(), &version)?,
        };
        start.run(home, session, &mut fleet, &release, screen).await
    })
    .await
}

fn source(arguments: &RolloutStart) -> Result<Source<'_>> {
    Ok(match (&arguments.path, &arguments.release) {
        (Some(path), _) if path.is_file() && arguments.force_build => {
            return Err(problem(
                format!("{} is signed: how its image is built is a part of it", path.display()),
                "start the rollout of the folder, or make a release with `publisher release build --force-build`",
            ));
        }
        (Some(path), _) if path.is_file() => Source::File(path),
        (Some(path), _) => Source::Folder(Folder {
            path: path.clone(),
            app: arguments.app.clone(),
            version: arguments.version.clone(),
            commit: arguments.commit.clone(),
            force_build: arguments.force_build,
        }),
        (None, version) => Source::Known(version.as_ref().map(ToString::to_string).unwrap_or_default()),
    })
}

impl Start<'_> {
    /// Packs, then uploads while the bus is read, and begins.
    async fn pack(&self, home: &Home, folder: Folder, notes: &str, screen: &Screen) -> Result<Exit> {
        let packed = release::pack_folder(home, folder, screen).await?;
        Session::with(home, async |session| {
            let (mut fleet, _, release) = release::bring(home, session, &packed, notes, screen).await?;
            self.run(home, session, &mut fleet, &release, screen).await
        })
        .await
    }

    /// Gives the rollout of `release` to the controller and follows it.
    pub(in super::super) async fn run(
        &self,
        home: &Home,
        session: &mut Session,
        fleet: &mut Fleet,
        release: &Kept<Document>,
        screen: &Screen,
    ) -> Result<Exit> {
        let app = &release.document.app;
        if release.document.parts.iter().any(|part| part.joint.is_some()) {
            return Err(problem(JOINT, ONE_BY_ONE));
        }
        let (text, plan) = self.plan(fleet, &release.document)?;
        let controllers = controllers::to_name(home, fleet, screen)?;
        self.ask_about_another(fleet, app, screen)?;
        let (planned, plans) = self.sign(home, fleet, release, (text, &plan), controllers)?;
        let (topic, bytes) = (Kind::Plan(app.clone()).of(&home.settings.fleet), planned.to_bytes());
        session.publish(topic.clone(), bytes.clone()).await?;
        session.read_back(fleet, &topic, &bytes).await?;
        let first = plans.mandate.first;
        screen.say(&format!("rollout {first} of {app} {} is on the bus", clean(&release.document.version)));
        until_heeded(session, fleet, &plans.rollout).await?;
        let followed = Followed { app, first, timeout: self.timeout };
        if self.detach {
            followed.end(fleet, Exit::Done, screen)?;
            return Ok(Exit::Done);
        }
        followed.run(session, fleet, screen).await
    }

    /// The plan that was said, or the usual one, when somebody is in it.
    fn plan(&self, fleet: &Fleet, release: &Document) -> Result<(String, Plan)> {
        let members = plan::members(fleet);
        let (text, plan) = if let Some((text, plan)) = &self.plan {
            (text.clone(), plan.clone())
        } else {
            let group = self.group.clone().unwrap_or("all".parse()?);
            let size = members.iter().filter(|member| member.groups.contains(&group)).count();
            let plan = Plan::by_size(release.app.clone(), group, size);
            (plan.to_toml()?, plan)
        };
        if plan.app != release.app {
            return Err(problem(
                format!("the plan is for {}, and the release is of {}", plan.app, release.app),
                "correct `app` in the plan, or name another folder",
            ));
        }
        let said = self.group.as_ref().filter(|group| !plan.groups().contains(*group));
        if let Some(group) = said {
            return Err(problem(
                format!("the plan has no stage for group {group}"),
                "leave --group away, or add a stage to the plan",
            ));
        }
        if plan::lay_out(&plan, &members, release.counter).is_empty() {
            return Err(nobody(&plan, fleet));
        }
        Ok((text, plan))
    }

    /// Another rollout of the same app ends where it stands.
    fn ask_about_another(&self, fleet: &Fleet, app: &AppId, screen: &Screen) -> Result<()> {
        let Some(wanted) = fleet.rollouts().plan(app) else { return Ok(()) };
        let state = fleet.rollouts().course(app).map(|course| &course.state);
        let is_over = state.is_some_and(schemas::rollout::CourseState::is_over)
            || wanted.plans.mandate.expires < clock::now();
        if is_over || self.terms.yes {
            return Ok(());
        }
        let version = clean(&wanted.plans.release.version);
        let state = state.map_or("planned", |state| state.name()).replace('_', " ");
        let question = format!(
            "a rollout of {app} {version} is {state}: it ends where it stands when this one begins. Begin?"
        );
        let unattended =
            format!("say --yes when it is to end, or `publisher rollout abort {app} --keep` before");
        if screen.confirm(&question, &unattended)? {
            return Ok(());
        }
        Err(problem("nothing was started", format!("see it with `publisher rollout status {app}`")))
    }

    /// Rollout and mandate, signed by the ops key that is here.
    fn sign(
        &self,
        home: &Home,
        fleet: &Fleet,
        release: &Kept<Document>,
        (text, plan): (String, &Plan),
        keys: Vec<PublicKey>,
    ) -> Result<(Planned, Plans)> {
        let (key, now) = (home.key(Role::Ops)?, home.signing_time()?);
        let _lock = home.lock()?;
        let first = next_revision(home, fleet, REVISIONS)?;
        let (head, app) = (Head::new(home.settings.fleet.clone(), now), release.document.app.clone());
        let not_before = self.terms.at.unwrap_or(UnixTime(0));
        let mandate = Mandate {
            head: head.clone(),
            app: app.clone(),
            groups: groups(plan, fleet),
            release: release.document.digest(),
            keys,
            first,
            last: Revision(first.0 + REVISIONS),
            expires: not_before.max(now).plus_secs(self.terms.expires.as_secs()),
        };
        let rollout = Rollout {
            head,
            app,
            first,
            seq: Seq(1),
            plan: text,
            wish: Wish::Run,
            approved: 0,
            acknowledged: Vec::new(),
            not_before,
        };
        let planned = Planned {
            rollout: Signed::seal(&rollout, std::slice::from_ref(&key)),
            mandate: Signed::seal(&mandate, &[key]),
            release: release.signed.clone(),
        };
        let plans = check(home, fleet, &planned, plan)?;
        // Its revisions are taken from now on.
        home.remember_rollout(&planned, &plans)?;
        Ok((planned, plans))
    }

    /// A release that was made before.
    fn known(
        &self,
        home: &Home,
        fleet: &Fleet,
        app: Option<&AppId>,
        version: &str,
    ) -> Result<Kept<Document>> {
        let app = match (&self.plan, app) {
            (Some((_, plan)), None) => plan.app.clone(),
            _ => app_of(home, fleet, app, self.group.as_ref().unwrap_or(&"all".parse()?))?,
        };
        let releases = home.releases(&app)?;
        let floor = releases.iter().map(|release| release.document.min_counter).max().unwrap_or_default();
        let known: BTreeSet<_> = releases.iter().map(|release| clean(&release.document.version)).collect();
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        let release = releases.into_iter().rfind(|release| release.document.version == version);
        let release = release.ok_or_else(|| match known.as_str() {
            "" => problem(
                format!("no release of {app} is known"),
                "name its folder: `publisher rollout start FOLDER` makes one",
            ),
            _ => problem(
                format!("no release of {app} has version {version}; known are {known}"),
                "name one of these, or a folder",
            ),
        })?;
        if release.document.counter < floor {
            return Err(problem(
                format!("{app} {version} is below the floor {floor} that a security release has set"),
                "name a newer one",
            ));
        }
        Ok(release)
    }
}

/// Verifies as controller and nodes will: better to hear here than from them what is wrong with it.
fn check(home: &Home, fleet: &Fleet, planned: &Planned, plan: &Plan) -> Result<Plans> {
    /// An order without its audience, and envelopes.
    const REST_BYTES: usize = 1_024;
    let plans = planned
        .verify(&home.trust, &plan.app)
        .advise("what was signed here would not be believed", UNBELIEVED)?;
    let members = plan::members(fleet);
    let names =
        members.iter().filter(|member| plan.groups().iter().any(|group| member.groups.contains(group)));
    let names: usize = names.take(MAX_NAMED).map(|member| member.node.as_str().len() + 2).sum();
    let order = planned.release.to_bytes().len() + planned.mandate.to_bytes().len() + names + REST_BYTES;
    if order > Announcement::MAX_BYTES {
        return Err(problem(
            format!("an order of it would have {order} bytes, {} are allowed", Announcement::MAX_BYTES),
            "shorten --notes, or [env] and the commands in deploybus.toml; or name fewer nodes, in smaller groups",
        ));
    }
    Ok(plans)
}

pub(super) fn nobody(plan: &Plan, fleet: &Fleet) -> anyhow::Error {
    let groups: Vec<_> = plan.groups().iter().map(ToString::to_string).collect();
    let members = plan::members(fleet);
    let there: BTreeSet<_> = members.iter().flat_map(|member| &member.groups).map(GroupId::as_str).collect();
    let there = if there.is_empty() {
        "no group has any".to_owned()
    } else {
        format!("groups that have some are {}", there.into_iter().collect::<Vec<_>>().join(", "))
    };
    problem(
        format!("no node is in {}", groups.join(", ")),
        format!("add nodes with `publisher node add NAME --group GROUP`; {there}"),
    )
}

/// The groups that the controller may order for: those of the plan, and those in which an earlier rollout of the app lets
/// some nodes begin, for that is to end, too.
fn groups(plan: &Plan, fleet: &Fleet) -> Vec<GroupId> {
    let mandated = fleet.believed_orders().filter(|ordered| ordered.announced.mandate.is_some());
    let orders = mandated.map(|ordered| &ordered.announced.order);
    let half_done = orders.filter(|order| order.app == plan.app && order.audience != Audience::All);
    let half_done = half_done.map(|order| order.group.clone());
    plan.groups().into_iter().chain(half_done).collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command, RolloutCommand};

    fn start(words: &[&str]) -> RolloutStart {
        let words = ["publisher", "rollout", "start"].iter().chain(words);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Rollout(RolloutCommand::Start(arguments)) => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_build_is_forced_by_who_makes_the_release_and_by_nobody_later() {
        let forced = start(&["./app", "--force-build"]);
        assert!(matches!(source(&forced).unwrap(), Source::Folder(folder) if folder.force_build));
        assert!(matches!(source(&start(&["./app"])).unwrap(), Source::Folder(folder) if !folder.force_build));
        let file = tempfile::NamedTempFile::new().unwrap();
        let signed = start(&[file.path().to_str().unwrap(), "--force-build"]);
        let error = source(&signed).err().unwrap().to_string();
        assert!(error.contains("is signed: how its image is built is a part of it"), "{error}");
        let known = ["publisher", "rollout", "start", "--release", "1.0.0", "--force-build"];
        assert!(Cli::try_parse_from(known).is_err());
    }
}
