//! A service of a compose file, as a `deploybus.toml` says it. Pure: text in, text out.
//!
//! What has no meaning here is left out and named; what would mean something else here is an error that names all of it.

mod service;

use serde_json::Value;

use self::service::Service;

/// What became of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Imported {
    /// The `deploybus.toml`.
    pub(crate) text: String,
    /// What was left out, and why.
    pub(crate) left_out: Vec<String>,
}

/// Why a compose file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ComposeError {
    /// It is no YAML.
    #[error("it is no YAML: {0}")]
    Yaml(String),
    /// It has no services.
    #[error("it has no services")]
    NoServices,
    /// It has several, and nobody said which.
    #[error("it has several services: {0}")]
    Several(String),
    /// It has no such service.
    #[error("it has no service {0}; there are {1}")]
    NoSuch(String, String),
    /// What it says cannot be said here.
    #[error("service {service}: {}", faults.join("; "))]
    Unsupported {
        /// The service.
        service: String,
        /// Each of them.
        faults: Vec<String>,
    },
}

/// The service of that name, or the only one.
pub(crate) fn import(yaml: &str, service: Option<&str>) -> Result<Imported, ComposeError> {
    let document: Value =
        serde_saphyr::from_str(yaml).map_err(|error| ComposeError::Yaml(error.to_string()))?;
    let services = document.get("services").and_then(Value::as_object).ok_or(ComposeError::NoServices)?;
    let names = || services.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let (name, keys) = match service {
        Some(name) => {
            services.get_key_value(name).ok_or_else(|| ComposeError::NoSuch(name.to_owned(), names()))?
        }
        None if services.len() == 1 => services.iter().next().ok_or(ComposeError::NoServices)?,
        None if services.is_empty() => return Err(ComposeError::NoServices),
        None => return Err(ComposeError::Several(names())),
    };
    let mut service = Service::new(name);
    for (key, value) in keys.as_object().into_iter().flatten() {
        service.take(key, value);
    }
    service.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
x-logging: &logging
  driver: json-file
  options: { max-size: 2m, max-file: "3" }
services:
  web:
    build:
      context: .
      dockerfile: docker/Dockerfile
      target: run
      args: [BASE=bookworm]
    image: registry.lan/web:1
    container_name: web
    command: ["python3", "app.py"]
    environment:
      LOG_LEVEL: info
      WORKERS: 2
      SECRET:
    ports:
      - "8000:80"
      - { target: 53, published: 5353, host_ip: 127.0.0.1, protocol: udp }
    volumes:
      - ./data:/data
      - cache:/cache:ro
      - { type: bind, source: /srv/music, target: /music, read_only: true }
    devices: ["/dev/snd"]
    group_add: [audio]
    networks: { home: {} }
    mem_limit: 256m
    deploy: { resources: { limits: { cpus: "1.5" } } }
    logging: *logging
    restart: always
    stop_grace_period: 5s
    depends_on: [db]
    healthcheck:
      test: ["CMD", "wget", "-q", "http://localhost/health"]
      interval: 10s
      retries: 3
  db:
    image: postgres:16
volumes: { cache: }
"#;

    #[test]
    fn a_service_becomes_an_app_that_is_understood() {
        let imported = import(WHOLE, Some("web")).unwrap();
        crate::app_file::parse(&imported.text).unwrap_or_else(|error| panic!("{error}\n{}", imported.text));
        insta::assert_snapshot!(format!("{}\n{}", imported.text, imported.left_out.join("\n")));
    }

    #[test]
    fn what_cannot_be_said_here_is_named() {
        let service = |text: &str| format!("services:\n  web:\n    build: .\n{text}");
        let cases = [
            ("services: [", None),
            ("version: 3", None),
            ("services: {}", None),
            (WHOLE, None),
            (WHOLE, Some("api")),
            (WHOLE, Some("db")),
            (&service("    privileged: true\n    cap_add: [NET_ADMIN]\n"), None),
            (&service("    ports: [\"80\"]\n"), None),
            (&service("    command: python3 -c \"import app\"\n"), None),
            (&service("    environment: { HOST: \"${HOST:-lan}\" }\n"), None),
            (&service("    restart: on-failure:3\n    mem_limit: lots\n"), None),
            ("services:\n  web:\n    build: ../other\n", None),
            ("services:\n  Web_1:\n    build: .\n", None),
        ];
        let errors = cases.map(|(text, service)| import(text, service).unwrap_err().to_string());
        insta::assert_snapshot!(errors.join("\n"));
    }

    #[test]
    fn no_text_makes_it_fall_over() {
        for text in [
            "",
            "~",
            "services: 7",
            "services: { web: 7 }",
            "services: { web: { build: [1], ports: 7 } }",
            "- 1",
        ] {
            let _ = import(text, None);
        }
        let deep = format!("services: {}1{}", "[".repeat(5_000), "]".repeat(5_000));
        import(&deep, None).unwrap_err();
        let bomb = "a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
            d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
            g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nservices: *g\n";
        import(bomb, None).unwrap_err();
    }
}
