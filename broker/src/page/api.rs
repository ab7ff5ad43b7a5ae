//! The JSON API: what `publisher … --json` prints, by the same code, and the two things that may be done. `docs/openapi.json` describes it.

use std::sync::Arc;

use axum::{
    Router,
    body::to_bytes,
    extract::{Path, Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use schemas::{
    deploy_log::{self, Page as LogPage},
    hold::{Ask, AskKind},
    id::{AppId, NodeId},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use show::{rollout as rollouts, status, why};
use tracing::error;

use super::{
    MAX_FORM_BYTES, Page,
    actions::Refused,
    lookout::Picture,
    sessions::TOKEN_LIMIT,
    visit::{Visit, is_from_the_page},
};
use crate::{
    access::Access,
    clock,
    store::{Caller, log_in},
};

const OPENAPI: &str = include_str!("../../../docs/openapi.json");

/// One app of a node.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OfApp {
    app: Option<AppId>,
}

/// A question that has nothing in it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Nothing {}

/// What a node says of itself; nobody has signed that.
#[derive(Debug, Serialize)]
struct NodeJson<'a> {
    at: String,
    node: &'a NodeId,
    info: Option<&'a schemas::status::Info>,
    health: Option<&'a schemas::status::Health>,
}

/// What logs a browser in.
#[derive(Debug, Serialize)]
struct TokenJson<'a> {
    token: &'a str,
    path: String,
    expires_at: String,
}

#[derive(Debug, Serialize)]
struct ErrorJson<'a> {
    error: &'a str,
}

/// A question, or the answer to it.
type Answered<T> = Result<T, Response>;

pub(super) fn routes() -> Router<Arc<Page>> {
    let openapi = || async { ([(header::CONTENT_TYPE, "application/json")], OPENAPI) };
    Router::new()
        .route("/openapi.json", get(openapi))
        .route("/status", get(status))
        .route("/nodes/:node", get(node))
        .route("/nodes/:node/why", get(why))
        .route("/nodes/:node/request", post(request))
        .route("/rollouts", get(rollouts))
        .route("/rollouts/:app", get(rollout))
        .route("/rollouts/:app/pause", post(pause))
        .route("/log", get(log))
        .route("/web-token", post(web_token))
}

async fn status(
    State(page): State<Arc<Page>>,
    query: Result<Query<Nothing>, QueryRejection>,
    request: Parts,
) -> Response {
    let answer = async {
        let (_, _, picture) = page.asked(query, &request).await?;
        Ok(json(&status::json(&picture.fleet, clock::now())))
    };
    answer.await.unwrap_or_else(|refused| refused)
}

async fn node(
    State(page): State<Arc<Page>>,
    Path(node): Path<String>,
    query: Result<Query<Nothing>, QueryRejection>,
    request: Parts,
) -> Response {
    let answer = async {
        let (_, _, picture) = page.asked(query, &request).await?;
        let node = known(&picture, &node).ok_or_else(|| no("node"))?;
        let told = picture.told.get(&node);
        Ok(json(&NodeJson {
            at: clock::now().to_string(),
            node: &node,
            info: told.and_then(|told| told.info.as_ref()),
            health: told.and_then(|told| told.health.as_ref()),
        }))
    };
    answer.await.unwrap_or_else(|refused| refused)
}

async fn why(
    State(page): State<Arc<Page>>,
    Path(node): Path<String>,
    query: Result<Query<OfApp>, QueryRejection>,
    request: Parts,
) -> Response {
    let answer = async {
        let (_, of, picture) = page.asked(query, &request).await?;
        let node = known(&picture, &node).ok_or_else(|| no("node"))?;
        let why = why::why(&picture.fleet, &node, of.app.as_ref(), clock::now());
        Ok(json(&why.ok_or_else(|| no("node"))?))
    };
    answer.await.unwrap_or_else(|refused| refused)
}

async fn rollouts(
    State(page): State<Arc<Page>>,
    query: Result<Query<Nothing>, QueryRejection>,
    request: Parts,
) -> Response {
    let answer = async {
        let (_, _, picture) = page.asked(query, &request).await?;
        let now = clock::now();
        Ok(json(&rollouts::list_json(&rollouts::views(&picture.fleet, now), now)))
    };
    answer.await.unwrap_or_else(|refused| refused)
}

async fn rollout(
    State(page): State<Arc<Page>>,
    Path(app): Path<String>,
    query: Result<Query<Nothing>, QueryRejection>,
    request: Parts,
) -> Response {
    let answer = async {
        let (_, _, picture) = page.asked(query, &request).await?;
        let wanted = app.parse().ok().and_then(|app| picture.fleet.rollouts().plan(&app));
        let (wanted, now) = (wanted.ok_or_else(|| no("rollout of that app"))?, clock::now());
        Ok(json(&rollouts::json(&[rollouts::view(&picture.fleet, wanted, now)], now)))
    };
    answer.await.unwrap_or_else(|refused| refused)
}

async fn log(
    State(page): State<Arc<Page>>,
    query: Result<Query<deploy_log::Query>, QueryRejection>,
    request: Parts,
) -> Response {
    let answer = async {
        page.api_reader(&request).await?;
        let Query(query) = query.map_err(|wrong| error(StatusCode::BAD_REQUEST, &wrong.body_text()))?;
        let found =
            page.query(query).await.map_err(|()| StatusCode::INTERNAL_SERVER_ERROR.into_response())?;
        Ok(json(&LogPage::from(found)))
    };
    answer.await.unwrap_or_else(|refused| refused)
}

async fn pause(State(page): State<Arc<Page>>, Path(app): Path<String>, request: Request) -> Response {
    let answer = async {
        let (visit, Nothing {}) = page.deed(request).await?;
        page.pause(&visit, &app).await.map_err(refused)?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    answer.await.unwrap_or_else(|refused| refused)
}

async fn request(State(page): State<Arc<Page>>, Path(node): Path<String>, request: Request) -> Response {
    let answer = async {
        let (visit, ask): (_, Ask) = page.deed(request).await?;
        let app = ask.app.filter(|_| ask.what == AskKind::Install);
        let app = app.ok_or_else(|| {
            error(StatusCode::BAD_REQUEST, "an app is installed, and nothing else is asked here")
        })?;
        let asked = page.ask(&visit, &node, app.as_str()).await.map_err(refused)?;
        Ok((StatusCode::ACCEPTED, json(&asked)).into_response())
    };
    answer.await.unwrap_or_else(|refused| refused)
}

/// What logs a browser in, once, as the one who asks for it.
async fn web_token(State(page): State<Arc<Page>>, request: Request) -> Response {
    let answer = async {
        let by_password = request.headers().contains_key(header::AUTHORIZATION);
        let (visit, Nothing {}) = page.deed(request).await?;
        // A session makes no other: it would outlive its week.
        if !by_password && !matches!(*page.access, Access::Open(_)) {
            return Err(error(StatusCode::FORBIDDEN, "name and password of a user are needed for a token"));
        }
        let user = visit.user.filter(|user| user.may_read_log());
        let user = user.ok_or_else(|| error(StatusCode::FORBIDDEN, "this user may not read the fleet"))?;
        let drawn =
            page.sessions.invite(user).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())?;
        let token = drawn.ok_or_else(|| {
            error(
                StatusCode::TOO_MANY_REQUESTS,
                "so many tokens were made and not used: use one, or wait ten minutes",
            )
        })?;
        let expires_at = clock::now().plus_secs(TOKEN_LIMIT.as_secs()).to_string();
        let path = format!("/login?token={}", token.reveal());
        Ok(json(&TokenJson { token: token.reveal(), path, expires_at }))
    };
    answer.await.unwrap_or_else(|refused| refused)
}

impl Page {
    /// Who reads: as on the page, or with a user's name and password in each request.
    async fn api_reader(&self, request: &Parts) -> Answered<Visit> {
        let visit = self.api_visit(request).await?;
        if visit.may_read() {
            return Ok(visit);
        }
        Err(match visit.user {
            Some(_) => error(StatusCode::FORBIDDEN, "this user may not read the fleet"),
            None => unknown(),
        })
    }

    async fn api_visit(&self, request: &Parts) -> Answered<Visit> {
        let mut visit = Visit::of(self, request);
        if request.headers.contains_key(header::AUTHORIZATION) {
            let from = Caller::of(&request.extensions).from;
            let user = log_in(&self.access, &request.headers, from).await.map_err(|_| unknown())?;
            visit.user = Some(user);
        }
        Ok(visit)
    }

    /// A question, from somebody who may ask it, and what there is to see.
    async fn asked<T>(
        &self,
        query: Result<Query<T>, QueryRejection>,
        request: &Parts,
    ) -> Answered<(Visit, T, Arc<Picture>)> {
        let visit = self.api_reader(request).await?;
        let Query(query) = query.map_err(|wrong| error(StatusCode::BAD_REQUEST, &wrong.body_text()))?;
        Ok((visit, query, self.look().await.map_err(|_| closed())?))
    }

    /// Somebody who wants to do something, and what. A browser sends names and passwords that it knows for any site that asks it to; but
    /// JSON it sends from our own page alone.
    async fn deed<T: DeserializeOwned>(&self, request: Request) -> Answered<(Visit, T)> {
        let (request, body) = request.into_parts();
        let visit = self.api_visit(&request).await?;
        if visit.user.is_none() {
            return Err(unknown());
        }
        if !is_json(&request.headers) {
            return Err(error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send it as application/json"));
        }
        if !is_from_the_page(&request.headers, true) {
            return Err(error(StatusCode::FORBIDDEN, "another site has sent this"));
        }
        let body = to_bytes(body, MAX_FORM_BYTES).await;
        let body = body.map_err(|err| error(StatusCode::PAYLOAD_TOO_LARGE, &err.to_string()))?;
        let wanted = serde_json::from_slice(&body);
        Ok((visit, wanted.map_err(|wrong| error(StatusCode::BAD_REQUEST, &wrong.to_string()))?))
    }
}

fn known(picture: &Picture, node: &str) -> Option<NodeId> {
    node.parse().ok().filter(|node| picture.fleet.nodes().contains_key(node))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], show::json(text)).into_response(),
        Err(err) => {
            error!(error = %err, "cannot write an answer as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn error(status: StatusCode, text: &str) -> Response {
    (status, json(&ErrorJson { error: text.trim() })).into_response()
}

fn refused((status, text): Refused) -> Response {
    error(status, &text)
}

fn no(what: &str) -> Response {
    error(StatusCode::NOT_FOUND, &format!("there is no {what}"))
}

fn closed() -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, "nothing is known of the fleet here")
}

fn unknown() -> Response {
    let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"deploybus\", charset=\"UTF-8\"")];
    (challenge, error(StatusCode::UNAUTHORIZED, "name and password of a user are needed")).into_response()
}
