//! What the engine is told to make a container of. Pure.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, HostConfig, HostConfigLogConfig, Mount, MountType, PortBinding,
    RestartPolicy, RestartPolicyNameEnum,
};
use machine::{Fault, Slot};
use schemas::{
    codec,
    id::{AppId, Digest},
    reason::Reason,
    release::container::{Container, Device, Port, Restart, Volume},
};

use super::names;
use crate::{
    environment::Environment,
    fault::{chain, fault},
    surroundings::HOST_ONLY,
};

/// A container that is to be.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) body: ContainerCreateBody,
    /// Networks beside the first one.
    pub(super) networks: Vec<String>,
    /// Tells it from one with other settings or another environment.
    pub(super) launch: String,
}

/// The container of a slot on this node.
pub(super) fn spec(
    app: &AppId,
    slot: &Slot,
    container: &Container,
    environment: &Environment,
) -> Result<Spec, Fault> {
    let inside: Vec<(&String, &String)> =
        environment.values().iter().filter(|(name, _)| !HOST_ONLY.contains(&name.as_str())).collect();
    let image = names::image(app, slot.tree());
    let (ports, exposed) = ports(container, environment)?;
    let volumes = parsed::<Volume>(&container.volumes, environment)?;
    let launch =
        Digest::of(&codec::encode(&(&image, container, &inside, &container_text(environment, container)?)));
    let mut labels = names::labels(app, slot, container.forced);
    labels.insert(names::LAUNCH.to_owned(), launch.to_string());
    if container.start_first {
        labels.insert(names::STARTS_FIRST.to_owned(), String::new());
    }
    let host = HostConfig {
        port_bindings: Some(ports),
        mounts: Some(volumes.into_iter().map(mount).collect()),
        devices: Some(parsed::<Device>(&container.devices, environment)?.into_iter().map(device).collect()),
        group_add: Some(container.groups.clone()),
        network_mode: container.networks.first().cloned(),
        memory: limit(container.limits.memory_bytes),
        nano_cpus: limit(container.limits.cpu_permille.saturating_mul(1_000_000)),
        pids_limit: limit(container.limits.pids),
        log_config: Some(log_config(container)),
        // Until the release is kept, nobody but the worker starts it.
        restart_policy: Some(restart(Restart::No)),
        ..HostConfig::default()
    };
    let body = ContainerCreateBody {
        image: Some(image),
        env: Some(inside.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        cmd: (!container.command.is_empty()).then(|| container.command.clone()),
        exposed_ports: Some(exposed),
        labels: Some(labels),
        stop_timeout: i64::try_from(container.stop_timeout_ms.div_ceil(1_000)).ok(),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    };
    Ok(Spec {
        body,
        networks: container.networks.iter().skip(1).cloned().collect(),
        launch: launch.to_string(),
    })
}

/// The restart policy as the engine takes it.
pub(super) fn restart(restart: Restart) -> RestartPolicy {
    let name = match restart {
        Restart::No => RestartPolicyNameEnum::NO,
        Restart::OnFailure => RestartPolicyNameEnum::ON_FAILURE,
        Restart::UnlessStopped => RestartPolicyNameEnum::UNLESS_STOPPED,
        Restart::Always => RestartPolicyNameEnum::ALWAYS,
    };
    RestartPolicy { name: Some(name), maximum_retry_count: None }
}

/// What ports, volumes and devices are on this node.
fn container_text(environment: &Environment, container: &Container) -> Result<Vec<String>, Fault> {
    let all = container.ports.iter().chain(&container.volumes).chain(&container.devices);
    all.map(|text| expanded(text, environment)).collect()
}

type Bindings = HashMap<String, Option<Vec<PortBinding>>>;

/// The engine publishes no port that is not exposed as well.
fn ports(container: &Container, environment: &Environment) -> Result<(Bindings, Vec<String>), Fault> {
    let mut bindings = Bindings::new();
    for port in parsed::<Port>(&container.ports, environment)? {
        let binding =
            PortBinding { host_ip: Some(port.address.clone()), host_port: Some(port.host.to_string()) };
        bindings.entry(port.to_string()).or_default().get_or_insert_default().push(binding);
    }
    let exposed = bindings.keys().cloned().collect();
    Ok((bindings, exposed))
}

fn mount(volume: Volume) -> Mount {
    let is_folder = volume.source.starts_with('/');
    Mount {
        typ: Some(if is_folder { MountType::BIND } else { MountType::VOLUME }),
        source: Some(volume.source),
        target: Some(volume.target),
        read_only: Some(volume.read_only),
        ..Mount::default()
    }
}

fn device(device: Device) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(device.host),
        path_in_container: Some(device.container),
        cgroup_permissions: Some(device.permissions),
    }
}

fn log_config(container: &Container) -> HostConfigLogConfig {
    let config =
        [("max-size", container.log.file_bytes.to_string()), ("max-file", container.log.files.to_string())];
    HostConfigLogConfig {
        typ: Some("json-file".to_owned()),
        config: Some(config.map(|(name, value)| (name.to_owned(), value)).into()),
    }
}

fn limit(amount: u64) -> Option<i64> {
    i64::try_from(amount).ok().filter(|amount| *amount > 0)
}

fn parsed<T>(texts: &[String], environment: &Environment) -> Result<Vec<T>, Fault>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let parse = |text: &String| {
        let text = expanded(text, environment)?;
        text.parse::<T>().map_err(|err| fault(Reason::StartFailed, err.to_string()))
    };
    texts.iter().map(parse).collect()
}

fn expanded(text: &str, environment: &Environment) -> Result<String, Fault> {
    environment.expand(text).map_err(|err| fault(Reason::StartFailed, chain(err)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{super::fixture::container, *};
    use crate::slots::fixture::release;

    fn of(container: &Container, env: &[(&str, &str)]) -> Result<Spec, Fault> {
        let layer: BTreeMap<_, _> =
            env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let slot = release("1", &[("Dockerfile", "FROM scratch", false)]).slot;
        spec(&"web".parse().unwrap(), &slot, container, &Environment::merge([&layer]))
    }

    #[test]
    fn what_is_declared_is_what_the_engine_is_told() {
        let declared = Container {
            ports: vec!["${PORT}:8000".into(), "${PORT}:8000/udp".into()],
            volumes: vec!["${DEPLOYBUS_DATA}:/data".into(), "cache:/cache:ro".into()],
            devices: vec!["/dev/snd".into()],
            networks: vec!["home".into(), "lab".into()],
            ..container()
        };
        let spec =
            of(&declared, &[("PORT", "8001"), ("DEPLOYBUS_DATA", "/d"), ("DEPLOYBUS_SLOT", "/s")]).unwrap();
        let host = spec.body.host_config.unwrap();
        let bindings = host.port_bindings.unwrap();
        assert_eq!(bindings["8000/tcp"].as_ref().unwrap()[0].host_port.as_deref(), Some("8001"));
        assert_eq!(spec.body.exposed_ports.unwrap().len(), 2);
        let mounts = host.mounts.unwrap();
        assert_eq!((mounts[0].typ, mounts[0].source.as_deref()), (Some(MountType::BIND), Some("/d")));
        assert_eq!((mounts[1].typ, mounts[1].read_only), (Some(MountType::VOLUME), Some(true)));
        assert_eq!(
            (host.network_mode.as_deref(), spec.networks.as_slice()),
            (Some("home"), &["lab".to_owned()][..])
        );
        assert_eq!(host.restart_policy, Some(restart(Restart::No)));
        assert_eq!(spec.body.env.unwrap(), ["PORT=8001"], "paths of the node mean nothing inside");
    }

    #[test]
    fn another_environment_is_another_container_of_the_same_image() {
        let (one, other) =
            (of(&container(), &[("A", "1")]).unwrap(), of(&container(), &[("A", "2")]).unwrap());
        assert_eq!(one.body.image, other.body.image);
        assert_ne!(one.launch, other.launch);
        assert_eq!(one.launch, of(&container(), &[("A", "1")]).unwrap().launch);
    }

    #[test]
    fn what_the_node_does_not_know_is_named() {
        let declared = Container { ports: vec!["${PORT}:80".into()], ..container() };
        assert!(of(&declared, &[]).unwrap_err().text.contains("${PORT}"));
        assert!(of(&declared, &[("PORT", "x")]).unwrap_err().text.contains("`x:80` is not like"));
    }
}
