//! `GET /metrics`: open on this machine, elsewhere for those who read the fleet.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use tracing::error;

use super::http::{caller, log_in};
use crate::{
    access::Access,
    metrics::{CONTENT_TYPE, Metrics},
    page::is_from_here,
};

/// What all requests share.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    pub(super) metrics: Arc<Metrics>,
    pub(super) access: Arc<Access>,
}

/// The route of the metrics.
pub(super) fn router(desk: Desk) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(desk)
}

async fn metrics(State(desk): State<Desk>, request: Request) -> Response {
    let from = caller(&request);
    if !is_from_here(from, request.headers()) {
        match log_in(&desk.access, request.headers(), from).await {
            Ok(user) if user.may_read_log() => {}
            Ok(_) => return StatusCode::FORBIDDEN.into_response(),
            Err(refused) => return refused,
        }
    }
    match desk.metrics.render().await {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(err) => {
            error!("{err:#}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
