//! The deploy log over HTTP, for those who read the fleet.

use std::sync::Arc;

use anyhow::Context as _;
use axum::{
    Router,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::get,
};
use schemas::deploy_log::{self, Page};
use serde::Serialize;
use tracing::error;

use super::http::{caller, log_in};
use crate::{
    access::Access,
    log::{Log, LogError},
};

/// What all requests share.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    pub(super) log: Log,
    pub(super) access: Arc<Access>,
}

/// The routes of the log.
pub(super) fn router(desk: Desk) -> Router {
    Router::new()
        .route("/v1/log", get(entries))
        .route("/v1/log/head", get(head))
        .route("/v1/log/nodes", get(nodes))
        .layer(from_fn_with_state(desk.clone(), check_reader))
        .with_state(desk)
}

async fn check_reader(State(desk): State<Desk>, request: Request, next: Next) -> Response {
    match log_in(&desk.access, request.headers(), caller(&request)).await {
        Ok(user) if user.may_read_log() => next.run(request).await,
        Ok(_) => StatusCode::FORBIDDEN.into_response(),
        Err(refused) => refused,
    }
}

async fn entries(
    State(desk): State<Desk>,
    query: Result<Query<deploy_log::Query>, QueryRejection>,
) -> Response {
    match query {
        Ok(Query(query)) => answer(move || desk.log.query(&query).map(Page::from)).await,
        Err(wrong) => (StatusCode::BAD_REQUEST, format!("{}\n", wrong.body_text())).into_response(),
    }
}

async fn head(State(desk): State<Desk>) -> Response {
    answer(move || desk.log.state()).await
}

async fn nodes(State(desk): State<Desk>) -> Response {
    answer(move || desk.log.nodes()).await
}

/// Reads where it may block.
async fn answer<T: Serialize + Send + 'static>(
    read: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Response {
    let read = move || {
        let found = read().context("cannot read the deploy log")?;
        serde_json::to_vec(&found).context("cannot write the answer as JSON")
    };
    match tokio::task::spawn_blocking(read).await.context("cannot read the deploy log").flatten() {
        Ok(found) => ([(header::CONTENT_TYPE, "application/json")], found).into_response(),
        Err(err) => {
            error!("{err:#}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
