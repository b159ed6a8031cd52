//! What the shipped systemd unit leaves the service is enough for it. systemd does not run here; what it would do to the
//! process is done by hand.

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::{Namespace, mmproxy, run, shell};
use harness::{State, isolated};

use super::{field, machine_root};

/// The unit's lines that begin with `key=`, without it.
fn setting(key: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd/mmproxy.service");
    let unit = fs::read_to_string(path).expect("the unit is in the tree");
    let values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.map(str::to_owned).collect()
}

/// `command` as an ordinary user with the unit's capabilities.
fn as_the_unit_has_it(command: &Command) -> Command {
    let capabilities = setting("AmbientCapabilities").join(" ").to_lowercase();
    assert_eq!(setting("CapabilityBoundingSet").join(" ").to_lowercase(), capabilities);
    let set: String =
        capabilities.split(' ').map(|name| format!(",+{}", name.trim_start_matches("cap_"))).collect();
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--reuid", "4711", "--regid", "4711", "--clear-groups", "--no-new-privs"]);
    for kind in ["--bounding-set", "--inh-caps", "--ambient-caps"] {
        wrapped.arg(format!("{kind}=-all{set}"));
    }
    wrapped.arg("--").arg(command.get_program()).args(command.get_args()).env_remove("RUST_LOG");
    wrapped
}

#[test]
fn with_the_units_capabilities_and_writable_files_the_return_path_is_installed_and_removed() {
    isolated(|| {
        if !machine_root() {
            println!("NOT SHOWN: there is one user in this namespace; run this test as root");
            return;
        }
        let net = harness::Topology::new();
        assert_eq!(setting("ProtectKernelTunables"), ["yes"]);
        let writable = setting("ReadWritePaths").join(" ");
        let before = State::of(&net.gateway);
        for command in ["setup", "teardown"] {
            let wrapped = as_the_unit_has_it(&mmproxy([command]));
            let line: Vec<_> = std::iter::once(wrapped.get_program()).chain(wrapped.get_args()).collect();
            let line = line.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
            // In a mount namespace of its own, as systemd's: everything of /proc/sys can be read alone, but for `writable`.
            let mounts = format!(
                "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; \
                 for path in {writable}; do mount --bind $path $path; mount -o remount,bind,rw $path; done; \
                 if echo 1 2>/dev/null >/proc/sys/kernel/panic; then echo 'it can be written to'; exit 1; fi; exec {line}"
            );
            shell(&net.gateway, &format!("exec unshare --mount sh -ec {}", quoted(&mounts)));
            match command {
                "setup" => assert!(State::of(&net.gateway) != before, "something was installed"),
                _ => State::of(&net.gateway).expect_unchanged_since(&before),
            }
        }
    });
}

#[test]
fn with_the_units_capabilities_a_worker_is_left_with_net_raw() {
    isolated(|| {
        if !machine_root() {
            println!("NOT SHOWN: there is one user in this namespace; run this test as root");
            return;
        }
        let here = Namespace::new("here");
        // The unit's filter has no capset(2): it is in @privileged, which is taken out.
        assert!(
            setting("SystemCallFilter")
                .iter()
                .any(|calls| calls.starts_with('~') && calls.contains("@privileged"))
        );
        let probe = super::probe(&["--as-keeper", "--refuse-capset"], &["try", "threads"]);
        let finished = run(&here, &mut as_the_unit_has_it(&probe), b"").expect_code(0);
        let confined = field(&finished.stdout, "confined");
        assert!(
            confined.starts_with("user 4711 group 4711, CAP_NET_RAW, no_new_privs, seccomp kill"),
            "{confined}"
        );
    });
}

/// For the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
