//! The programs of mosquitto-clients. Without them these tests pass and say that they saw nothing.

use std::{
    fs,
    io::{BufRead, BufReader, Read as _, Write as _},
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use rumqttc::v5::mqttbytes::{
    QoS,
    v5::{Filter, Packet, Publish, PublishProperties},
};
use tempfile::NamedTempFile;

use super::Bus;
use crate::mqtt5::{Client5, Hello5};

const VERSIONS: [&str; 2] = ["mqttv311", "mqttv5"];
/// How a message is printed: topic, QoS, retain flag, payload.
const SHORT: [&str; 2] = ["-F", "%t q%q r%r %p"];

/// A broker, one version of the protocol, and a way to come there.
pub(super) struct Site {
    bus: Arc<Bus>,
    version: &'static str,
    /// Options for every program.
    way: Vec<String>,
}

/// A `mosquitto_sub` that runs until it has what it waits for.
pub(super) struct Subscriber {
    child: Child,
    lines: BufReader<ChildStdout>,
}

#[test]
fn messages_of_every_quality_are_seen_live_and_retained() {
    for site in sites() {
        let highest = if site.version == "mqttv311" { 2 } else { 1 };
        let mut live = site.subscribe(&["-t", "q/#", "-q", "2"]);
        for qos in 0..=highest {
            let (topic, qos) = (format!("q/{qos}"), qos.to_string());
            site.publish(&["-t", &topic, "-q", &qos, "-r", "-m", "x y"]);
        }
        let granted = |qos: i32| qos.min(1);
        for qos in 0..=highest {
            assert_eq!(live.line(), format!("q/{qos} q{} r0 x y", granted(qos)));
        }
        let late = site.read(&["-t", "q/+", "-q", "2", "-C", &(highest + 1).to_string()]);
        let expected: Vec<_> = (0..=highest).map(|qos| format!("q/{qos} q{} r1 x y", granted(qos))).collect();
        assert_eq!(late, expected);
        // Cleared, and only so.
        site.publish(&["-t", "q/0", "-r", "-n", "-q", "1"]);
        site.publish(&["-t", "q/1", "-n"]);
        assert_eq!(site.read(&["-t", "q/#", "-C", "1"])[0], "q/1 q0 r1 x y");
    }
}

#[test]
fn who_wants_no_stale_messages_gets_the_live_ones() {
    for site in sites() {
        site.publish(&["-t", "s/1", "-r", "-m", "old", "-q", "1"]);
        let mut fresh = site.command("mosquitto_sub", &["-t", "s/#", "-R", "-q", "1", "-C", "1"]);
        let mut fresh = fresh.stdout(Stdio::piped()).spawn().unwrap();
        while fresh.try_wait().unwrap().is_none() {
            site.publish(&["-t", "s/1", "-m", "new", "-q", "1"]);
        }
        let output = fresh.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "s/1 q1 r0 new\n");
    }
}

#[test]
fn a_will_is_seen_when_its_client_is_killed_and_not_when_it_leaves() {
    for site in sites() {
        let mut watcher = site.subscribe(&["-t", "will/#", "-q", "1"]);
        let will = |topic| ["-t", "x", "--will-topic", topic, "--will-payload", "gone", "--will-qos", "1"];
        site.read(&[&will("will/polite")[..], &["-E"]].concat());
        let mortal = site.subscribe(&[&will("will/killed")[..], &["--will-retain"]].concat());
        drop(mortal);
        assert_eq!(watcher.line(), "will/killed q1 r0 gone");
        assert_eq!(site.read(&["-t", "will/#", "-C", "1"]), ["will/killed q0 r1 gone"]);
    }
}

#[test]
fn a_kept_session_has_what_came_while_its_client_was_away() {
    for site in sites() {
        let mut keep = vec!["-i", "keeper", "-c", "-t", "k/#", "-q", "1"];
        if site.version == "mqttv5" {
            keep.extend(["-x", "600"]);
        }
        site.read(&[&keep[..], &["-E"]].concat());
        for payload in ["1", "2", "3"] {
            site.publish(&["-t", "k/x", "-q", "1", "-m", payload]);
        }
        let kept = site.read(&[&keep[..], &["-C", "3"]].concat());
        assert_eq!(kept, ["k/x q1 r0 1", "k/x q1 r0 2", "k/x q1 r0 3"]);
        // A clean start ends it.
        site.read(&["-i", "keeper", "-t", "other", "-E"]);
        site.publish(&["-t", "k/x", "-q", "1", "-m", "lost"]);
        site.publish(&["-t", "k/y", "-q", "1", "-m", "kept", "-r"]);
        assert_eq!(site.read(&[&keep[..], &["-C", "1"]].concat()), ["k/y q1 r1 kept"]);
    }
}

#[test]
fn ten_thousand_lines_arrive_in_their_order() {
    for site in sites() {
        let mut reader = site.subscribe(&["-t", "lines", "-q", "1", "-F", "%p"]);
        let mut writer = site.command("mosquitto_pub", &["-t", "lines", "-q", "1", "-l"]);
        let mut writer = writer.stdin(Stdio::piped()).spawn().unwrap();
        let mut lines = writer.stdin.take().unwrap();
        let mut write = |from: u32| {
            for n in from..from + 500 {
                writeln!(lines, "{n}").unwrap();
            }
        };
        // Never more on the way than the relay keeps for a slow client.
        write(0);
        for n in 0..10_000 {
            if n % 500 == 0 && n < 9_500 {
                write(n + 500);
            }
            assert_eq!(reader.line(), n.to_string());
        }
        drop(lines);
        assert!(writer.wait().unwrap().success());
    }
}

#[test]
fn a_large_file_arrives_whole() {
    for site in sites() {
        let mut file = NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        file.write_all(&bytes).unwrap();
        site.publish(&["-t", "file", "-q", "1", "-r", "-f", file.path().to_str().unwrap()]);
        let output = site.output("mosquitto_sub", &["-t", "file", "-q", "1", "-C", "1", "-N"]);
        assert!(output.status.success() && output.stdout == bytes, "{} bytes came", output.stdout.len());
        // Without room for it in a packet.
        fs::write(file.path(), vec![b'x'; 2 << 20]).unwrap();
        site.output("mosquitto_pub", &["-t", "file", "-q", "1", "-f", file.path().to_str().unwrap()]);
        site.bus.broker.assert_alive();
    }
}

#[test]
fn properties_of_mqtt_5_are_passed_on() {
    for site in sites().filter(|site| site.version == "mqttv5") {
        let format = ["-F", "%C %D %E %F %P %R %S %p"];
        let mut live = site.subscribe(
            &[&["-t", "p/#", "-q", "1", "-D", "subscribe", "subscription-identifier", "7"][..], &format]
                .concat(),
        );
        #[rustfmt::skip]
        site.publish(&[
            "-t", "p/1", "-q", "1", "-r", "-m", "{}",
            "-D", "publish", "content-type", "application/json",
            "-D", "publish", "correlation-data", "4711",
            "-D", "publish", "message-expiry-interval", "600",
            "-D", "publish", "payload-format-indicator", "1",
            "-D", "publish", "user-property", "b", "2",
            "-D", "publish", "user-property", "a", "1",
            "-D", "publish", "response-topic", "answer/here",
        ]);
        let expected =
            |ids: &str, secs: u32| format!("application/json 4711 {secs} 1 b:2 a:1 answer/here {ids} {{}}");
        let is = |line: &str, ids: &str| (590..=600).any(|secs| line == expected(ids, secs));
        let line = live.line();
        assert!(is(&line, "7"), "{line}");
        let late = site.read(&[&["-t", "p/#", "-C", "1"][..], &format].concat());
        assert!(is(&late[0], ""), "{late:?}");
        // The retain flag as it was published, for who wants it so.
        let mut as_published = site.subscribe(&["-t", "p/2", "--retain-as-published"]);
        site.publish(&["-t", "p/2", "-r", "-m", "x"]);
        assert_eq!(as_published.line(), "p/2 q0 r1 x");
    }
}

#[test]
fn a_request_is_answered() {
    for site in sites() {
        let mut responder = Client5::say(site.bus.broker.mqtt(), Hello5::new("responder"));
        responder.subscribe(Filter::new("ask", QoS::AtLeastOnce), None);
        let asking = site.command("mosquitto_rr", &["-t", "ask", "-e", "answer", "-m", "how?", "-W", "20"]);
        let asking = { asking }.stdout(Stdio::piped()).spawn().unwrap();
        let asked = responder.message();
        assert_eq!(asked.payload, "how?");
        let asked = asked.properties.unwrap_or_default();
        // In MQTT 3.1.1 the response topic is a matter of agreement.
        let topic = asked.response_topic.unwrap_or("answer".into());
        let properties = PublishProperties { correlation_data: asked.correlation_data, ..Default::default() };
        responder.send(&Packet::Publish(Publish::new(topic, QoS::AtMostOnce, "so", Some(properties))));
        let output = asking.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "so\n");
    }
}

/// A broker for each version, if the programs are there.
fn sites() -> impl Iterator<Item = Site> {
    versions().map(|version| {
        let bus = Arc::new(Bus::start());
        Site::by(&bus, version, &["-h", "127.0.0.1", "-p", &bus.port().to_string()])
    })
}

/// Each version, if the programs are there.
pub(super) fn versions() -> impl Iterator<Item = &'static str> {
    let is_there = Command::new("mosquitto_sub").arg("--help").output().is_ok();
    if !is_there {
        println!("skipped: needs mosquitto_sub");
    }
    VERSIONS.into_iter().filter(move |_| is_there)
}

impl Site {
    /// `bus`, by this way.
    pub(super) fn by(bus: &Arc<Bus>, version: &'static str, way: &[&str]) -> Self {
        Self { bus: Arc::clone(bus), version, way: way.iter().map(|&word| word.to_owned()).collect() }
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(&self.way).args(["-V", self.version]);
        // The last format counts.
        if program == "mosquitto_sub" && !args.contains(&"-F") && !args.contains(&"-N") {
            command.args(SHORT);
        }
        command.args(args).stdin(Stdio::null());
        command
    }

    pub(super) fn output(&self, program: &str, args: &[&str]) -> Output {
        self.command(program, args).output().unwrap()
    }

    pub(super) fn publish(&self, args: &[&str]) {
        let output = self.output("mosquitto_pub", args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What a `mosquitto_sub` prints that ends by itself.
    pub(super) fn read(&self, args: &[&str]) -> Vec<String> {
        let output = self.output("mosquitto_sub", &[args, &["-W", "20"]].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// A `mosquitto_sub` that is subscribed: it has already got something that is retained.
    pub(super) fn subscribe(&self, args: &[&str]) -> Subscriber {
        static SUBSCRIBERS: AtomicU32 = AtomicU32::new(0);
        let ready = format!("ready/{}", SUBSCRIBERS.fetch_add(1, Ordering::Relaxed));
        self.publish(&["-t", &ready, "-r", "-m", "yes"]);
        let mut child = self.command("mosquitto_sub", &[&["-t", &ready, "-W", "20"], args].concat());
        let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut subscriber = Subscriber { child, lines };
        assert!(subscriber.line().contains("yes"));
        subscriber
    }
}

impl Subscriber {
    pub(super) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.by_ref().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // Ended already if it had enough.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
