//! The store over HTTP.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use schemas::id::Digest;

use crate::bus::Bus;

/// `anna:anna-secret`, `pi-1:pi-1-secret`, `anna:wrong`.
pub(crate) const ANNA: &str = "Basic YW5uYTphbm5hLXNlY3JldA==";
pub(crate) const NODE: &str = "Basic cGktMTpwaS0xLXNlY3JldA==";
pub(crate) const WRONG: &str = "Basic YW5uYTp3cm9uZw==";

#[test]
fn what_is_uploaded_is_served_whole_and_in_parts() {
    let bus = Bus::open();
    let object = Object::new(b"hello world");
    assert_eq!(object.put(&bus, &[]).status, 201);
    assert_eq!(object.put(&bus, &[]).status, 200);

    let whole = object.get(&bus, &[]);
    assert_eq!((whole.status, &whole.body), (200, &object.stored));
    assert_eq!(whole.headers["etag"], format!("\"{}\"", object.digest));
    assert_eq!(whole.headers["cache-control"], "public, max-age=31536000, immutable");
    assert_eq!(whole.headers["content-type"], "application/octet-stream");
    assert!(!whole.headers.contains_key("content-encoding"));

    let part = object.get(&bus, &[("Range", "bytes=3-5")]);
    assert_eq!((part.status, &part.body[..]), (206, &object.stored[3..6]));
    assert_eq!(part.headers["content-range"], format!("bytes 3-5/{}", object.stored.len()));
    assert_eq!(object.get(&bus, &[("Range", "bytes=999-")]).status, 416);
    assert_eq!(object.get(&bus, &[("Range", "bytes=3-5"), ("If-Range", "\"other\"")]).status, 200);
    assert_eq!(object.get(&bus, &[("If-None-Match", &whole.headers["etag"])]).status, 304);

    let head = request(bus.http(), "HEAD", &object.path(), &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.headers["content-length"], object.stored.len().to_string());
    assert!(bus.folder().join("data/store").join(&object.path()[1..]).exists());
}

#[test]
fn manifests_are_stored_the_same_way() {
    let bus = Bus::open();
    let manifest = Object::new(b"a manifest");
    let path = format!("/v1/manifests/{}", manifest.digest);
    assert_eq!(request(bus.http(), "PUT", &path, &[], &manifest.stored).status, 201);
    assert_eq!(request(bus.http(), "GET", &path, &[], b"").body, manifest.stored);
    assert_eq!(manifest.get(&bus, &[]).status, 404);
}

#[test]
fn an_upload_goes_on_where_it_ended() {
    let bus = Bus::open();
    let object = Object::new(&noise(100_000));
    let total = object.stored.len().to_string();
    let (first, rest) = object.stored.split_at(40_000);

    let put = |offset: &str, body: &[u8]| {
        let headers = [("Upload-Offset", offset), ("Upload-Length", &total)];
        request(bus.http(), "PUT", &object.path(), &headers, body)
    };
    let begun = put("0", first);
    assert_eq!((begun.status, begun.headers["upload-offset"].as_str()), (202, "40000"));
    let absent = request(bus.http(), "HEAD", &object.path(), &[], b"");
    assert_eq!((absent.status, absent.headers["upload-offset"].as_str()), (404, "40000"));
    let wrong = put("0", first);
    assert_eq!((wrong.status, wrong.headers["upload-offset"].as_str()), (409, "40000"));
    assert_eq!(put("40000", rest).status, 201);
    assert_eq!(object.get(&bus, &[]).body, object.stored);
}

#[test]
fn an_interrupted_upload_keeps_what_arrived() {
    let bus = Bus::open();
    let object = Object::new(&noise(1_000_000));
    let mut stream = TcpStream::connect(bus.http()).unwrap();
    let head = head("PUT", &object.path(), &[], object.stored.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&object.stored[..300_000]).unwrap();
    drop(stream);
    let begin = Instant::now();
    let offset: usize = loop {
        let answer = request(bus.http(), "HEAD", &object.path(), &[], b"");
        let offset = answer.headers.get("upload-offset").map_or(0, |offset| offset.parse().unwrap());
        if offset == 300_000 {
            break offset;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "{offset}");
    };
    let from = offset.to_string();
    let length = object.stored.len().to_string();
    let headers = [("Upload-Offset", from.as_str()), ("Upload-Length", &length)];
    loop {
        let answer = request(bus.http(), "PUT", &object.path(), &headers, &object.stored[offset..]);
        // The interrupted request may not have ended yet.
        if answer.status != 409 {
            assert_eq!(answer.status, 201);
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn what_is_not_what_it_says_is_refused_and_forgotten() {
    let bus = Bus::open();
    let object = Object::new(b"right");
    let forged = [Object::new(b"wrong").stored, b"no zstd at all".to_vec(), Vec::new()];
    for stored in forged {
        let answer = request(bus.http(), "PUT", &object.path(), &[], &stored);
        assert_eq!(answer.status, 422, "{}", String::from_utf8_lossy(&answer.body));
        let absent = request(bus.http(), "HEAD", &object.path(), &[], b"");
        assert_eq!((absent.status, absent.headers.get("upload-offset")), (404, None));
    }
    assert_eq!(object.put(&bus, &[]).status, 201);
}

#[test]
fn sizes_are_limited_before_and_after_unpacking() {
    let bus = Bus::with(|settings| {
        settings.limits.object_bytes = 10_000;
        settings.limits.plain_bytes = 1_000_000;
    });
    let large = Object::new(&noise(20_000));
    assert_eq!(large.put(&bus, &[]).status, 413);
    let bomb = Object::new(&vec![0; 2_000_000]);
    assert!(bomb.stored.len() < 10_000);
    assert_eq!(bomb.put(&bus, &[]).status, 413);
    assert_eq!(bomb.put(&bus, &[("Upload-Length", "10")]).status, 400);
    assert_eq!(bomb.put(&bus, &[("Upload-Offset", "x")]).status, 411);
}

#[test]
fn only_publishers_upload_and_everybody_reads() {
    let bus = Bus::with_users(&["anna publisher", "pi-1 node groups=all"]);
    let object = Object::new(b"hello");
    assert_eq!(object.put(&bus, &[]).status, 401);
    assert_eq!(object.put(&bus, &[("Authorization", WRONG)]).status, 401);
    assert_eq!(object.put(&bus, &[("Authorization", "Bearer x")]).status, 401);
    assert_eq!(object.put(&bus, &[("Authorization", NODE)]).status, 403);
    assert_eq!(request(bus.http(), "POST", "/v1/missing", &[], b"{}").status, 401);
    assert_eq!(object.put(&bus, &[("Authorization", ANNA)]).status, 201);
    assert_eq!(object.get(&bus, &[]).status, 200);
}

#[test]
fn a_stranger_is_refused_before_the_body_of_the_question_came() {
    let bus = Bus::with_users(&["anna publisher"]);
    let mut stream = TcpStream::connect(bus.http()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(head("POST", "/v1/missing", &[], 16_000_000).as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
}

#[test]
fn connections_over_the_limit_are_closed_and_the_others_served() {
    let bus = Bus::with(|settings| settings.limits.http_connections = 2);
    let first = TcpStream::connect(bus.http()).unwrap();
    let _second = TcpStream::connect(bus.http()).unwrap();
    let mut third = TcpStream::connect(bus.http()).unwrap();
    third.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(third.read(&mut [0]).unwrap(), 0);
    drop(first);
    let begin = Instant::now();
    // The place is free when the server has seen the end.
    loop {
        let mut next = TcpStream::connect(bus.http()).unwrap();
        // Whoever is refused may be reset.
        let _ = next.write_all(head("GET", "/healthz", &[], 0).as_bytes());
        let mut answer = [0; 12];
        if next.read_exact(&mut answer).is_ok() {
            assert_eq!(&answer, b"HTTP/1.1 200");
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn what_is_missing_is_told() {
    let bus = Bus::open();
    let (there, absent) = (Object::new(b"there"), Object::new(b"absent"));
    there.put(&bus, &[]);
    let ask = |text: &str| request(bus.http(), "POST", "/v1/missing", &[], text.as_bytes());
    let text =
        format!(r#"{{"objects":["{}","{}"],"manifests":["{}"]}}"#, there.digest, absent.digest, there.digest);
    let answer = ask(&text);
    let expected = format!(r#"{{"objects":["{}"],"manifests":["{}"]}}"#, absent.digest, there.digest);
    assert_eq!((answer.status, String::from_utf8(answer.body).unwrap()), (200, expected));
    assert_eq!(ask("names").status, 400);
    assert_eq!(ask(r#"{"objects":["../../users"]}"#).status, 400);
}

#[test]
fn names_that_are_no_digests_are_not_found() {
    let bus = Bus::open();
    for path in
        ["/v1/objects/00/..", "/v1/objects/../../lock", "/v1/manifests/x", "/v1", "/v1/objects/%2e%2e/lock"]
    {
        assert_eq!(request(bus.http(), "GET", path, &[], b"").status, 404, "{path}");
    }
    assert_eq!(request(bus.http(), "GET", "/healthz", &[], b"").body, br#"{"ok":true}"#);
}

struct Object {
    digest: Digest,
    stored: Vec<u8>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Object {
    fn new(plain: &[u8]) -> Self {
        Self { digest: Digest::of(plain), stored: zstd::encode_all(plain, 3).unwrap() }
    }

    fn path(&self) -> String {
        let digest = self.digest.to_string();
        format!("/v1/objects/{}/{digest}", &digest[..2])
    }

    fn put(&self, bus: &Bus, headers: &[(&str, &str)]) -> Answer {
        request(bus.http(), "PUT", &self.path(), headers, &self.stored)
    }

    fn get(&self, bus: &Bus, headers: &[(&str, &str)]) -> Answer {
        request(bus.http(), "GET", &self.path(), headers, b"")
    }
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(length)
    .collect()
}

#[test]
fn a_broker_that_is_open_for_its_machine_is_closed_for_pages_of_strangers() {
    let bus = Bus::open();
    for host in ["evil.example", "evil.example:80", "127.0.0.1.evil.example"] {
        let login = [("Host", host), ("Authorization", "Basic eDp4")];
        let answer = request(bus.http(), "POST", "/v1/missing", &login, b"{}");
        assert_eq!(answer.status, 401, "{host}");
    }
    assert_eq!(request(bus.http(), "POST", "/v1/missing", &[("Host", "127.0.0.1:80")], b"{}").status, 200);
}

fn head(method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> String {
    let lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let lines = lines.concat();
    let host = if lines.contains("Host: ") { "" } else { "Host: localhost\r\n" };
    format!("{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n{lines}Content-Length: {length}\r\n\r\n")
}

pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(head(method, path, headers, body.len()).as_bytes()).unwrap();
    // A refused upload may be cut off before its end.
    let _ = stream.write_all(body);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer");
    let text = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = text.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_lowercase(), value.to_owned())
    };
    Answer { status, headers: lines.map(header).collect(), body: bytes[end + 4..].to_vec() }
}
