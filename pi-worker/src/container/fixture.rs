//! A container for tests.

use schemas::release::container::{Container, Limits, LogLimits, Restart};

/// A container that says nothing but its Dockerfile.
pub(crate) fn container() -> Container {
    Container {
        dockerfile: "Dockerfile".to_owned(),
        target: String::new(),
        args: [].into(),
        full_on: Vec::new(),
        forced: 0,
        files: [].into(),
        command: Vec::new(),
        ports: Vec::new(),
        volumes: Vec::new(),
        devices: Vec::new(),
        groups: Vec::new(),
        networks: Vec::new(),
        limits: Limits::default(),
        log: LogLimits::default(),
        restart: Restart::default(),
        start_first: false,
        stop_timeout_ms: 1_000,
        saved: None,
    }
}
