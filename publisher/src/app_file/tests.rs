use schemas::release::{Expect, Probe};

use super::*;

const FULL: &str = r#"
[app]
name = "web"
version = "1.2.0"
platform = "linux/aarch64"
include = ["src", "*.py"]
ignore = ["*.log"]
gitignore = false

[run]
command = ["python3", "app.py"]
stop_timeout = "3s"

[env]
PORT = "8000"

[[check]]
http = "http://127.0.0.1:8000/health"
interval = "500ms"
timeout = "2s"
healthy_after = 2
unhealthy_after = 4

[[check]]
tcp = "127.0.0.1:${PORT}"

[[check]]
exec = ["./check.sh"]

[[check]]
unit = "web.service"

[proof]
http = "http://127.0.0.1:8000/version"
pointer = "/commit"
expect = "commit"

[hooks]
pre_check = ["./pre-check.sh"]
timeout = "1m"

[trial]
min_healthy = "2s"
deadline = "1m 30s"
tries = 2
"#;

#[test]
fn every_key_finds_its_place_in_the_release() {
    let app = parse(FULL).unwrap();
    assert_eq!((app.name.as_str(), app.platform.as_str()), ("web", "linux/aarch64"));
    assert_eq!(app.version.unwrap().to_string(), "1.2.0");
    assert_eq!(app.files.include, ["src", "*.py"]);
    assert!(!app.files.gitignore);
    assert_eq!(
        app.run,
        Run::Process { command: vec!["python3".into(), "app.py".into()], stop_timeout_ms: 3_000 }
    );
    assert_eq!(app.env["PORT"], "8000");
    assert_eq!(app.pre_check.unwrap().timeout_ms, 60_000);
    assert_eq!(app.checks.len(), 4);
    assert_eq!((app.checks[0].interval_ms, app.checks[0].healthy_after), (500, 2));
    assert_eq!(app.checks[3].probe, Probe::SystemdActive { unit: "web.service".into() });
    assert!(matches!(app.proof, Proof::Http { expect: Expect::Commit, .. }));
    assert_eq!(app.trial, Trial { min_healthy_ms: 2_000, deadline_ms: 90_000, tries: 2 });
}

#[test]
fn the_example_is_all_that_a_file_needs() {
    let app = parse(EXAMPLE).unwrap();
    assert_eq!((app.trial, app.proof, app.version), (Trial::default(), Proof::None, None));
    assert!(app.files.gitignore);
}

#[test]
fn errors_name_the_line_and_say_what_is_meant() {
    let cases = [
        "[app]\nname = \"Web App\"\n",
        "[app]\nname = \"web\"\ncolour = \"red\"\n",
        "[app]\nname = \"web\"\nversion = \"1.0 beta/2\"\n",
        "[app]\nname = \"web\"\nplatform = \"linux\"\n",
        "[app]\nname = \"web\"\n\n[run]\ncommand = []\n",
        "[app]\nname = \"web\"\n\n[run]\ncommand = [\"a\"]\nunit = \"b.service\"\n",
        "[app]\nname = \"web\"\n\n[run]\nunit = \"web\"\n",
        "[app]\nname = \"web\"\n\n[[check]]\ntcp = \"a:1\"\n\n[[check]]\ninterval = \"1s\"\n",
        "[app]\nname = \"web\"\n\n[[check]]\nhttp = \"https://a/\"\n",
        "[app]\nname = \"web\"\n\n[[check]]\ntcp = \"a\"\n",
        "[app]\nname = \"web\"\n\n[[check]]\ntcp = \"a:1\"\ntimeout = \"soon\"\n",
        "[app]\nname = \"web\"\n\n[[check]]\ntcp = \"a:1\"\ntimeout = \"0s\"\n",
        "[app]\nname = \"web\"\n\n[proof]\nhttp = \"http://a/\"\nexpect = \"commit\"\n",
        "[app]\nname = \"web\"\n\n[proof]\nexec = [\"a\"]\nexpect = \"magic\"\n",
        "[app]\nname = \"web\"\n\n[trial]\nmin_healthy = \"3m\"\n",
        "[app]\nname = \"web\"\n\n[hooks]\ntimeout = \"3m\"\n",
        "[app]\nname = \"web\"\n\n[joint]\npico = \"../pico\"\n",
        "[app]\nname = \"web\"\n\n[joint]\npico = \"pico\"\nfirst = \"both\"\n",
        "[app]\nname = \"web\"\n\n[pico]\n\n[joint]\npico = \"pico\"\n",
        "[app]\nname = \"web\"\n\n[env]\nDEPLOYBUS_APP = \"x\"\n",
        "[run]\ncommand = [\"a\"]\n",
        "[app\n",
    ];
    let errors: Vec<String> = cases.iter().map(|text| parse(text).unwrap_err().to_string()).collect();
    insta::assert_snapshot!(errors.join("\n"));
}
