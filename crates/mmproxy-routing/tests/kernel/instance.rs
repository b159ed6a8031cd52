//! Running instances: processes of their own, which can be killed.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use mmproxy_routing::{Families, Lease, Plan, Policy, Settings, default_device};

use crate::namespace::run;

/// A process that holds a lease.
pub(crate) struct Instance {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Instance {
    /// Starts an instance, which holds its lease when this returns.
    pub(crate) fn start(plan: &Plan, policy: Policy) -> Self {
        Self::start_in(Command::new(std::env::current_exe().unwrap()), plan, policy)
    }

    /// The same as the user nobody, who may change routes, or may not.
    pub(crate) fn start_as_nobody(may_route: bool, plan: &Plan, policy: Policy) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        if may_route {
            command.args(["--inh-caps=+net_admin", "--ambient-caps=+net_admin"]);
        }
        command.arg("--").arg(readable_by_everybody());
        Self::start_in(command, plan, policy)
    }

    fn start_in(mut command: Command, plan: &Plan, policy: Policy) -> Self {
        let Settings { mark, table, .. } = plan.settings();
        let families = plan.families();
        let mode = plan.mode().expect("a return path");
        let mut process = command
            .args(["--exact", "instance::process", "--ignored", "--nocapture", "--test-threads=1"])
            .env(
                ORDERS,
                format!(
                    "{mode} {mark} {table} {} {} {}",
                    families.v4,
                    families.v6,
                    policy == Policy::Install
                ),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = process.stdin.take().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let mut instance = Self { process, stdin, stdout };
        instance.expect("ready");
        instance
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.process.id()).unwrap()
    }

    /// Lets the instance give its lease back and end.
    pub(crate) fn stop(mut self) {
        writeln!(self.stdin, "stop").unwrap();
        self.expect("stopped");
        assert!(self.process.wait().unwrap().success());
    }

    /// `kill -9`
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn expect(&mut self, word: &str) {
        let mut heard = String::new();
        while !heard.lines().any(|line| line.ends_with(word)) {
            assert_ne!(self.stdout.read_line(&mut heard).unwrap(), 0, "waiting for {word:?}, heard: {heard}");
        }
    }
}

/// A copy of this program where every user may run it.
fn readable_by_everybody() -> PathBuf {
    let copy = PathBuf::from("/mnt/instance");
    if !copy.exists() {
        run("mount", "-t tmpfs -o mode=755 tmpfs /mnt");
        std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    copy
}

/// What an [`Instance`] runs.
#[tokio::test]
#[ignore = "the body of the processes that other tests start"]
async fn process() {
    let orders = std::env::var(ORDERS).unwrap();
    let orders: Vec<&str> = orders.split(' ').collect();
    let [mode, mark, table, v4, v6, install] = orders[..] else { panic!("{orders:?}") };
    let settings =
        Settings { mark: mark.parse().unwrap(), table: table.parse().unwrap(), ..Settings::default() };
    let families = Families { v4: v4 == "true", v6: v6 == "true" };
    let plan = match mode {
        "fwmark" => Plan::fwmark(settings, families),
        "connmark" => Plan::connmark(settings, families, default_device().await.unwrap()),
        "socket" => Plan::socket(settings, families),
        mode => panic!("{mode}"),
    };
    let policy = if install == "true" { Policy::Install } else { Policy::CheckOnly };
    let lease = Lease::acquire(plan, policy).await.unwrap();
    println!("\nready");
    // The lease is looked at by others meanwhile: the runtime must not be blocked.
    let order = tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await.unwrap();
    assert_eq!(order.unwrap().unwrap(), "stop");
    lease.release().await.unwrap();
    println!("\nstopped");
}

const ORDERS: &str = "MMPROXY_ROUTING_TEST_ORDERS";
