//! The pages for reading.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{Path, Query, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse as _, Response},
};
use schemas::{
    deploy_log::{self, Chained},
    id::{AppId, NodeId},
    time::UnixTime,
    topic::{Kind, NodeTopic},
};
use show::rollout as rollouts;
use tracing::error;

use super::{
    Page, html,
    views::{Beside, Find, Frame, LogPage, NodePage, Overview, RolloutPage, Wanted},
    visit::Visit,
};
use crate::{
    clock,
    log::{Found, LogError},
};

/// Entries of the log on a node's page.
const OF_NODE: u32 = 20;

/// The first page.
pub(super) async fn overview(
    State(page): State<Arc<Page>>,
    Query(find): Query<Find>,
    request: Parts,
) -> Response {
    let (visit, picture) = match page.enter(&request).await {
        Ok(entered) => entered,
        Err(refused) => return refused,
    };
    let (seen, now) = (page.seen().await, clock::now());
    let frame = Frame::new(&page.fleet, &visit, "Fleet", now);
    html(StatusCode::OK, &Overview::new(frame, &picture, &seen, &find, now))
}

/// A node.
pub(super) async fn node(
    State(page): State<Arc<Page>>,
    Path(name): Path<String>,
    request: Parts,
) -> Response {
    let (visit, picture) = match page.enter(&request).await {
        Ok(entered) => entered,
        Err(refused) => return refused,
    };
    let Ok(name) = name.parse::<NodeId>() else { return no("node") };
    let query = deploy_log::Query {
        node: Some(name.clone()),
        newest: true,
        limit: Some(OF_NODE),
        ..deploy_log::Query::default()
    };
    let log: Vec<Chained> = page.query(query).await.map(|found| found.entries).unwrap_or_default();
    let (seen, now) = (page.seen().await, clock::now());
    let beside = Beside { seen: seen.get(name.as_str()).copied(), log, may_ask: page.may_ask(&visit, &name) };
    let frame = Frame::new(&page.fleet, &visit, name.as_str(), now);
    match NodePage::new(frame, &picture, &name, &beside, now) {
        Some(node) => html(StatusCode::OK, &node),
        None => no("node"),
    }
}

/// A rollout.
pub(super) async fn rollout(
    State(page): State<Arc<Page>>,
    Path(app): Path<String>,
    request: Parts,
) -> Response {
    let (visit, picture) = match page.enter(&request).await {
        Ok(entered) => entered,
        Err(refused) => return refused,
    };
    let Ok(app) = app.parse::<AppId>() else { return no("rollout of that app") };
    let Some(wanted) = picture.fleet.rollouts().plan(&app) else { return no("rollout of that app") };
    let now = clock::now();
    let view = rollouts::view(&picture.fleet, wanted, now);
    let frame = Frame::new(&page.fleet, &visit, &format!("{app} {}", view.version), now);
    html(StatusCode::OK, &RolloutPage::new(frame, &view, page.may_pause(&visit, &app), now))
}

/// The deploy log.
pub(super) async fn log(
    State(page): State<Arc<Page>>,
    Query(wanted): Query<Wanted>,
    request: Parts,
) -> Response {
    let visit = match page.reader(&request) {
        Ok(visit) => visit,
        Err(refused) => return refused,
    };
    let found = match wanted.query() {
        Ok(query) => match page.query(query).await {
            Ok(found) => Ok(found),
            Err(_logged) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        },
        Err(wrong) => Err(wrong),
    };
    let status = if found.is_ok() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let frame = Frame::new(&page.fleet, &visit, "Log", clock::now());
    html(status, &LogPage::new(frame, wanted, found))
}

fn no(what: &str) -> Response {
    (StatusCode::NOT_FOUND, format!("there is no {what}\n")).into_response()
}

impl Page {
    /// Somebody who may read, and what there is to see.
    async fn enter(&self, request: &Parts) -> Result<(Visit, Arc<super::Picture>), Response> {
        let visit = self.reader(request)?;
        let picture = self.look().await?;
        Ok((visit, picture))
    }

    /// Whether what that visitor asks of the node reaches it.
    pub(super) fn may_ask(&self, visit: &Visit, node: &NodeId) -> bool {
        let topic = Kind::Node(node.clone(), NodeTopic::Request).of(&self.fleet);
        self.asks_nodes && visit.may_publish(&topic.to_string())
    }

    /// Whether that visitor may begin nothing new of a rollout: who may say so to everybody on the bus may say so here.
    pub(super) fn may_pause(&self, visit: &Visit, app: &AppId) -> bool {
        visit.may_publish(&Kind::Plan(app.clone()).of(&self.fleet).to_string())
    }

    /// What the log has, read where it may block.
    pub(super) async fn query(&self, query: deploy_log::Query) -> Result<Found, ()> {
        let log = self.log.clone();
        read(move || log.query(&query)).await
    }

    /// When the broker has seen each node last.
    async fn seen(&self) -> BTreeMap<String, UnixTime> {
        let log = self.log.clone();
        let nodes = read(move || log.nodes()).await.unwrap_or_default();
        nodes.into_iter().filter_map(|seen| Some((seen.node, seen.last_seen.parse().ok()?))).collect()
    }
}

/// Says in the log of the program what does not work.
async fn read<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, ()> {
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(err)) => {
            error!(error = %crate::chain(&err), "cannot read the deploy log");
            Err(())
        }
        Err(err) => {
            error!(error = %err, "cannot read the deploy log");
            Err(())
        }
    }
}
