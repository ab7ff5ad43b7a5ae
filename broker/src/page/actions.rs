//! What people may do on the page: pause a rollout, and ask a node for what waits there. Neither takes a key of the fleet, and the page has
//! none.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Path, Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use schemas::{
    hold::Ask,
    id::{AppId, NodeId},
    rollout::CourseState,
};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use tracing::info;

use super::{
    Page, entry,
    views::asks,
    visit::{Visit, is_from_the_page, is_ours},
};

/// So long a page waits to show what was done: the bus has it within milliseconds.
const SHOWN_LIMIT: Duration = Duration::from_secs(2);

/// What every form has in it.
#[derive(Debug, Deserialize)]
pub(super) struct Form {
    form: String,
    #[serde(default)]
    app: String,
}

/// Why something was not done, for a person or a program.
pub(super) type Refused = (StatusCode, String);

/// Begins nothing new of a rollout.
pub(super) async fn pause(
    State(page): State<Arc<Page>>,
    Path(app): Path<String>,
    request: Request,
) -> Response {
    let (visit, _) = match sent_by_the_page(&page, request).await {
        Ok(sent) => sent,
        Err(refused) => return refused,
    };
    match page.pause(&visit, &app).await {
        Ok(app) => Redirect::to(&format!("/rollout/{app}")).into_response(),
        Err(refused) => said(refused),
    }
}

/// Asks a node for what waits there.
pub(super) async fn request(
    State(page): State<Arc<Page>>,
    Path(node): Path<String>,
    request: Request,
) -> Response {
    let (visit, form) = match sent_by_the_page(&page, request).await {
        Ok(sent) => sent,
        Err(refused) => return refused,
    };
    match page.ask(&visit, &node, &form.app).await {
        Ok(_) => Redirect::to(&format!("/node/{node}")).into_response(),
        Err(refused) => said(refused),
    }
}

fn said((status, text): Refused) -> Response {
    (status, format!("{text}\n")).into_response()
}

/// Who sends a form, when it is one of ours.
async fn sent_by_the_page(page: &Page, request: Request) -> Result<(Visit, Form), Response> {
    let (parts, body) = request.into_parts();
    let visit = Visit::of(page, &parts);
    let is_the_page = is_from_the_page(&parts.headers, false);
    let form: Form = entry::read(Request::from_parts(parts, body)).await?;
    if visit.user.is_none() {
        return Err((StatusCode::UNAUTHORIZED, "log in first\n").into_response());
    }
    if !is_the_page || !is_ours(&visit, &form.form) {
        return Err(
            (StatusCode::FORBIDDEN, "this form is not from this page: load it again\n").into_response()
        );
    }
    Ok((visit, form))
}

impl Page {
    /// Begins nothing new of the rollout of `app`, and waits until the bus shows that.
    pub(super) async fn pause(&self, visit: &Visit, app: &str) -> Result<AppId, Refused> {
        let gone = || (StatusCode::NOT_FOUND, "there is no rollout of that app".to_owned());
        let app: AppId = app.parse().map_err(|_| gone())?;
        if !self.may_pause(visit, &app) {
            return Err(forbidden(&format!("publisher rollout pause {app}")));
        }
        let name = visit.name().unwrap_or_default();
        let window = self.window.as_ref().ok_or_else(gone)?;
        let closed = |closed| (StatusCode::SERVICE_UNAVAILABLE, format!("{closed}"));
        let picture = window.look().await.map_err(closed)?;
        picture.fleet.rollouts().plan(&app).ok_or_else(gone)?;
        let news = window.news();
        let paused =
            window.pause(app.clone(), format!("{name} has paused it on the page")).await.map_err(closed)?;
        paused.map_err(|why| {
            let otherwise = format!("{why}: see `publisher rollout status {app}`, and pause it with `publisher rollout pause {app}`");
            (StatusCode::CONFLICT, otherwise)
        })?;
        info!(user = name, %app, from = %visit.caller.from, "rollout paused on the page");
        self.until_paused(&app, news).await;
        Ok(app)
    }

    /// Asks a node to install what waits there.
    pub(super) async fn ask(&self, visit: &Visit, node: &str, app: &str) -> Result<Ask, Refused> {
        let gone = |what: &str| (StatusCode::NOT_FOUND, format!("there is no {what}"));
        let node: NodeId = node.parse().map_err(|_| gone("node of that name"))?;
        let app: AppId = app.parse().map_err(|_| gone("app of that name"))?;
        if !self.may_ask(visit, &node) {
            return Err(forbidden(&format!("publisher request {node} install --app {app}")));
        }
        let window = self.window.as_ref().ok_or_else(|| gone("node of that name"))?;
        let picture =
            window.look().await.map_err(|closed| (StatusCode::SERVICE_UNAVAILABLE, closed.to_string()))?;
        let known = picture.fleet.nodes().get(&node).filter(|node| !node.is_retired());
        let known = known.ok_or_else(|| gone("node of that name"))?;
        if known.online() != Some(true) {
            return Err((StatusCode::CONFLICT, format!("{node} is offline and would not hear it")));
        }
        let nothing = || (StatusCode::CONFLICT, format!("nothing of {app} waits on {node}"));
        let ask = known.app(&app).and_then(asks).ok_or_else(nothing)?;
        let closed = |closed| (StatusCode::SERVICE_UNAVAILABLE, format!("{closed}"));
        window.request(node.clone(), ask.clone()).await.map_err(closed)?;
        info!(user = visit.name(), %node, %app, from = %visit.caller.from, "node asked to install on the page");
        Ok(ask)
    }

    /// Until the bus shows it to everybody, or for a while.
    async fn until_paused(&self, app: &AppId, mut news: tokio::sync::watch::Receiver<u64>) {
        let until = Instant::now() + SHOWN_LIMIT;
        while let Some(window) = &self.window {
            let Ok(picture) = window.look().await else { return };
            let state = picture.fleet.rollouts().course(app).map(|course| course.state.clone());
            if matches!(state, Some(CourseState::Paused(_))) {
                return;
            }
            if !matches!(timeout_at(until, news.changed()).await, Ok(Ok(()))) {
                return;
            }
            // Else the picture is the same.
            tokio::time::sleep(window.fresh()).await;
        }
    }
}

fn forbidden(command: &str) -> Refused {
    (
        StatusCode::FORBIDDEN,
        format!("this user may not do that: it takes the role publisher or admin; or `{command}`"),
    )
}
