//! The store's HTTP: who may ask what, and how the answers look.

use std::{
    io::{self, SeekFrom},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{DefaultBodyLimit, Path, Request, State},
    http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::stream;
use schemas::{enroll, id::Digest, seal::Signed};
use serde::{Deserialize, Serialize};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
    time::timeout,
};
use tracing::{debug, error, info};

use super::{
    door::Door,
    layout::{Layout, Name},
    range::{Span, Wanted},
    upload::{Announced, UploadError, UploadLimits, Uploaded, Uploads, partial_bytes},
};
use crate::{
    access::{Access, User},
    page::is_from_here,
};

/// Where an upload goes on.
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// How large an upload will be.
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
/// Most names in one question for what is missing.
const MAX_NAMES: usize = 200_000;
/// A question with that many names.
const MAX_QUESTION_BYTES: usize = 16 * 1024 * 1024;
/// How long such a question may take to arrive.
const QUESTION_LIMIT: Duration = Duration::from_mins(5);
/// How long a request to be let in may take to arrive.
const ENROLL_LIMIT: Duration = Duration::from_secs(10);
/// What is in memory of one download.
const CHUNK_BYTES: usize = 128 * 1024;

/// What all requests share.
#[derive(Debug)]
pub(super) struct Site {
    layout: Layout,
    access: Arc<Access>,
    uploads: Uploads,
    door: Option<Door>,
}

/// Names of things that somebody wants to upload, and those of them that are not there.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Names {
    #[serde(default)]
    objects: Vec<Digest>,
    #[serde(default)]
    manifests: Vec<Digest>,
}

impl Site {
    /// A store in `layout`.
    pub(super) fn new(layout: Layout, access: Arc<Access>, limits: UploadLimits, door: Option<Door>) -> Self {
        Self { layout, access, uploads: Uploads::new(limits), door }
    }
}

/// All routes.
pub(super) fn router(site: Site) -> Router {
    let unlimited = DefaultBodyLimit::disable();
    Router::new()
        .route("/v1/objects/:shelf/:digest", get(object).put(object).layer(unlimited))
        .route("/v1/manifests/:digest", get(manifest).put(manifest).layer(unlimited))
        .route("/v1/missing", post(missing))
        .route("/v1/enroll", post(enroll))
        .route("/healthz", get(|| async { ([(header::CONTENT_TYPE, "application/json")], r#"{"ok":true}"#) }))
        .with_state(Arc::new(site))
}

async fn object(
    State(site): State<Arc<Site>>,
    Path((shelf, digest)): Path<(String, String)>,
    request: Request,
) -> Response {
    answer(&site, Name::object(&shelf, &digest), request).await
}

async fn manifest(State(site): State<Arc<Site>>, Path(digest): Path<String>, request: Request) -> Response {
    answer(&site, Name::manifest(&digest), request).await
}

async fn answer(site: &Site, name: Option<Name>, request: Request) -> Response {
    let Some(name) = name else { return StatusCode::NOT_FOUND.into_response() };
    let result = match *request.method() {
        Method::PUT => put(site, name, request).await,
        _ => read(site, name, request.headers()).await,
    };
    result.unwrap_or_else(|err| {
        error!(digest = %name.digest(), error = %err, "cannot read from the store");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })
}

/// axum answers HEAD with this too, without the body.
async fn read(site: &Site, name: Name, headers: &HeaderMap) -> io::Result<Response> {
    let file = match File::open(site.layout.file(name)).await {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(absent(site, name)),
        Err(err) => return Err(err),
    };
    let size = file.metadata().await?.len();
    let etag = format!("\"{}\"", name.digest());
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::IF_NONE_MATCH).is_some_and(|tags| tags == "*" || tags.contains(&etag)) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let is_current = text(header::IF_RANGE).is_none_or(|tag| tag == etag);
    let range = text(header::RANGE).filter(|_| is_current);
    let (status, span) = match Wanted::parse(range, size) {
        Wanted::Whole => (StatusCode::OK, Span { start: 0, end: size }),
        Wanted::Part(span) => (StatusCode::PARTIAL_CONTENT, span),
        Wanted::Unsatisfiable => {
            let headers = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response());
        }
    };
    let mut response = content(file, span).await?;
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, span.length().into());
    insert(headers, header::ETAG, &etag);
    if status == StatusCode::PARTIAL_CONTENT {
        insert(headers, header::CONTENT_RANGE, &format!("bytes {}-{}/{size}", span.start, span.end - 1));
    }
    Ok(response)
}

async fn content(mut file: File, span: Span) -> io::Result<Response> {
    file.seek(SeekFrom::Start(span.start)).await?;
    file.set_max_buf_size(CHUNK_BYTES);
    let chunks = stream::try_unfold(file.take(span.length()), |mut file| async move {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES.min(file.limit() as usize));
        let count = file.read_buf(&mut chunk).await?;
        Ok::<_, io::Error>((count > 0).then(|| (Bytes::from(chunk), file)))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::ACCEPT_RANGES, "bytes"),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

fn absent(site: &Site, name: Name) -> Response {
    match partial_bytes(&site.layout.partial(name)) {
        Some(bytes) => with_offset(StatusCode::NOT_FOUND, bytes),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn put(site: &Site, name: Name, request: Request) -> io::Result<Response> {
    if let Err(refused) = check_uploader(&site.access, request.headers(), caller(&request)).await {
        return Ok(refused);
    }
    if tokio::fs::try_exists(site.layout.file(name)).await? {
        return Ok(StatusCode::OK.into_response());
    }
    let Some(announced) = announced(request.headers()) else {
        return Ok(
            (StatusCode::LENGTH_REQUIRED, "Upload-Length or Content-Length is missing\n").into_response()
        );
    };
    let digest = name.digest();
    Ok(match site.uploads.receive(&site.layout, name, announced, request.into_body()).await {
        Ok(Uploaded::Complete) => {
            info!(%digest, bytes = announced.total, "stored");
            StatusCode::CREATED.into_response()
        }
        Ok(Uploaded::Partial(offset)) => with_offset(StatusCode::ACCEPTED, offset),
        Err(err) => {
            debug!(%digest, error = %crate::chain(&err), "upload not taken");
            refusal(&err)
        }
    })
}

fn refusal(err: &UploadError) -> Response {
    let status = match err {
        UploadError::WrongOffset(offset) | UploadError::Busy(offset) => {
            return with_offset(StatusCode::CONFLICT, *offset);
        }
        UploadError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        UploadError::TooMuch => StatusCode::BAD_REQUEST,
        UploadError::WrongDigest { .. } | UploadError::NotZstd(_) => StatusCode::UNPROCESSABLE_ENTITY,
        UploadError::Interrupted => StatusCode::REQUEST_TIMEOUT,
        UploadError::Io(source) => {
            error!(error = %source, "cannot store uploads");
            let is_full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            if is_full { StatusCode::INSUFFICIENT_STORAGE } else { StatusCode::INTERNAL_SERVER_ERROR }
        }
    };
    (status, format!("{err}\n")).into_response()
}

async fn missing(State(site): State<Arc<Site>>, request: Request) -> Response {
    // Before the body: it may be large.
    if let Err(refused) = check_uploader(&site.access, request.headers(), caller(&request)).await {
        return refused;
    }
    let body = match timeout(QUESTION_LIMIT, to_bytes(request.into_body(), MAX_QUESTION_BYTES)).await {
        Ok(Ok(body)) => body,
        Ok(Err(err)) => return (StatusCode::PAYLOAD_TOO_LARGE, format!("{err}\n")).into_response(),
        Err(_late) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    let names: Names = match serde_json::from_slice(&body) {
        Ok(names) => names,
        Err(err) => return (StatusCode::BAD_REQUEST, format!("{err}\n")).into_response(),
    };
    if names.objects.len() + names.manifests.len() > MAX_NAMES {
        return (StatusCode::PAYLOAD_TOO_LARGE, format!("more than {MAX_NAMES} names\n")).into_response();
    }
    let absent = move || {
        let is_absent = |name| !site.layout.file(name).exists();
        Names {
            objects: names.objects.into_iter().filter(|digest| is_absent(Name::Object(*digest))).collect(),
            manifests: names
                .manifests
                .into_iter()
                .filter(|digest| is_absent(Name::Manifest(*digest)))
                .collect(),
        }
    };
    let body = tokio::task::spawn_blocking(absent).await.map(|names| serde_json::to_vec(&names));
    match body {
        Ok(Ok(body)) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn enroll(State(site): State<Arc<Site>>, request: Request) -> Response {
    let Some(door) = &site.door else {
        let why = "nodes are let in by the users file alone here: `root` is not set, or another broker is the bus\n";
        return (StatusCode::NOT_FOUND, why).into_response();
    };
    let from = caller(&request);
    match timeout(ENROLL_LIMIT, to_bytes(request.into_body(), Signed::<enroll::Request>::MAX_BYTES)).await {
        Ok(Ok(body)) => door.answer(&body, from),
        Ok(Err(err)) => (StatusCode::PAYLOAD_TOO_LARGE, format!("{err}\n")).into_response(),
        Err(_late) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    /// The address.
    pub(crate) from: IpAddr,
    /// Nobody in between could read it.
    pub(crate) over_tls: bool,
}

impl Caller {
    /// Whose request it is.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        let nobody = Self { from: IpAddr::V4(Ipv4Addr::UNSPECIFIED), over_tls: false };
        extensions.get().copied().unwrap_or(nobody)
    }
}

/// Where `request` comes from.
pub(super) fn caller(request: &Request) -> IpAddr {
    Caller::of(request.extensions()).from
}

/// 403 for who may not.
async fn check_uploader(access: &Access, headers: &HeaderMap, from: IpAddr) -> Result<(), Response> {
    let user = log_in(access, headers, from).await?;
    if user.may_upload() { Ok(()) } else { Err(StatusCode::FORBIDDEN.into_response()) }
}

/// Who asks; 401 for who is not known.
pub(crate) async fn log_in(
    access: &Access,
    headers: &HeaderMap,
    from: IpAddr,
) -> Result<Arc<User>, Response> {
    // Where nobody has a password, whoever is not on this machine by a name of it is a page of somebody else's in its browser.
    if matches!(access, Access::Open(_)) && !is_from_here(from, headers) {
        return Err(StatusCode::UNAUTHORIZED.into_response());
    }
    let login = credentials(headers);
    let login = login.as_ref().map(|(name, password)| (name.as_str(), password.as_bytes()));
    access.log_in(login, from).await.map_err(|_| {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"deploybus\", charset=\"UTF-8\"")];
        (StatusCode::UNAUTHORIZED, challenge).into_response()
    })
}

fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

fn announced(headers: &HeaderMap) -> Option<Announced> {
    let number = |name| headers.get(name).map(|value| value.to_str().ok()?.parse::<u64>().ok());
    let offset = number(UPLOAD_OFFSET).unwrap_or(Some(0))?;
    let total = match number(UPLOAD_LENGTH) {
        Some(total) => total?,
        None => offset.checked_add(number(header::CONTENT_LENGTH)??)?,
    };
    (offset <= total).then_some(Announced { offset, total })
}

fn with_offset(status: StatusCode, offset: u64) -> Response {
    (status, [(UPLOAD_OFFSET, offset.to_string())]).into_response()
}

/// `value` is made of digits and ASCII here.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
