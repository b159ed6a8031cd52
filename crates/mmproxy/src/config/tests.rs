mod generated;

use std::fs;
use std::path::{Path, PathBuf};

use annotate_snippets::Renderer;
use clap::{CommandFactory, Parser};

use super::keys::{Absent, GlobalKeys, Key, Keys, ServiceKeys};
use super::mistake::{Mistakes, Sources};
use super::read::Typed;
use super::slot::AnySlot;
use super::*;
use crate::cli::Cli;
use crate::exit::Exit;

fn parse(text: &str) -> Result<Spec, Mistakes> {
    let path = Path::new("mmproxy.toml");
    understand(path, vec![(path.to_owned(), text.to_owned())], &|path| fs::read_to_string(path))
}

fn mistakes(result: Result<Spec, Mistakes>) -> String {
    result.unwrap_err().text(Renderer::plain())
}

#[track_caller]
fn valid(text: &str) -> Spec {
    parse(text).unwrap_or_else(|mistakes| panic!("{}\nin\n{text}", mistakes.text(Renderer::plain())))
}

/// Compares with a file, or with `MMPROXY_UPDATE` in the environment writes it.
#[track_caller]
fn same_as_file(path: &Path, text: &str) {
    if std::env::var_os("MMPROXY_UPDATE").is_some() {
        fs::write(path, text).unwrap();
    }
    let file = fs::read_to_string(path).unwrap_or_default();
    assert!(
        file == text,
        "{} is not what it should be; run with MMPROXY_UPDATE=1 and look at the difference. Now it is:\n{text}",
        path.display()
    );
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

// --- mistakes ---------------------------------------------------------------------------------------------

#[test]
fn every_kind_of_mistake_is_told_as_the_file_beside_it_has_it() {
    let mut cases = 0;
    for entry in fs::read_dir("tests/config").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = fs::read_to_string(&path).unwrap();
            let told =
                mistakes(understand(&path, vec![(path.clone(), text)], &|path| fs::read_to_string(path)));
            same_as_file(&path.with_extension("txt"), &told);
            cases += 1;
        }
    }
    assert!(cases > 20, "{cases}");
}

#[test]
fn a_file_that_is_not_there_is_a_mistake_of_the_configuration() {
    let missing = load(Path::new("/nonexistent/mmproxy.toml")).unwrap_err();
    assert!(missing.text(Renderer::plain()).contains("cannot read /nonexistent/mmproxy.toml"));
    let failure = missing.report();
    assert_eq!(failure.exit(), Exit::Config);
    assert!(failure.to_string().contains("1 mistake in /nonexistent/mmproxy.toml"), "{failure}");
}

// --- drop-ins ---------------------------------------------------------------------------------------------

const ONE: &str = "[[service]]\nname = \"one\"\nlisten = \"0.0.0.0:1\"\nallow = \"10.0.0.2\"\ntarget-v4 = \"127.0.0.1:22\"\n";

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join(DROP_INS)).unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

#[test]
fn drop_ins_add_services_and_global_keys_in_the_order_of_their_names() {
    let service =
        |name: &str, port: u16| ONE.replace("one", name).replace("0.0.0.0:1", &format!("0.0.0.0:{port}"));
    let directory = directory(&[
        ("mmproxy.toml", &format!("[global]\nworkers = 3\n{ONE}")),
        ("conf.d/20-b.toml", &service("b", 3)),
        ("conf.d/10-a.toml", &format!("[global]\ndrain = \"1s\"\n{}", service("a", 2))),
        ("conf.d/30-c.toml.bak", "nonsense"),
        ("conf.d/.40-d.toml", "nonsense"),
    ]);
    let spec = load(&directory.path().join("mmproxy.toml")).unwrap();
    let names: Vec<&str> = spec.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["one", "a", "b"]);
    assert_eq!((spec.global.workers.get(), spec.global.drain.as_secs()), (3, 1));
}

#[test]
fn a_drop_in_overrides_nothing() {
    let directory = directory(&[
        ("mmproxy.toml", &format!("[global]\nworkers = 3\n{ONE}")),
        ("conf.d/a.toml", "[global]\nworkers = 4\n"),
    ]);
    let told = mistakes(load(&directory.path().join("mmproxy.toml")));
    assert!(told.contains("`workers` is set twice"), "{told}");
    assert!(told.contains("set here first") && told.contains("set again here"), "{told}");
}

#[test]
fn relative_paths_are_meant_from_the_file_that_has_them() {
    let directory = directory(&[
        ("mmproxy.toml", ONE),
        ("ranges.txt", "192.0.2.0/24\n"),
        ("conf.d/ranges.txt", "198.51.100.0/24\n"),
        (
            "conf.d/a.toml",
            "[[service]]\nname = \"a\"\nlisten = \"0.0.0.0:2\"\nallowed-subnets = [\"ranges.txt\", \"../ranges.txt\"]\n\
             target-v4 = \"127.0.0.1:22\"\n",
        ),
    ]);
    let spec = load(&directory.path().join("mmproxy.toml")).unwrap();
    assert_eq!(
        spec.services[1].allowed,
        ["192.0.2.0/24".parse().unwrap(), "198.51.100.0/24".parse().unwrap()]
    );
}

// --- meaning ----------------------------------------------------------------------------------------------

#[test]
fn a_range_of_ports_is_written_out() {
    let spec = valid(&ONE.replace("0.0.0.0:1", "0.0.0.0:20000-20002"));
    let ports: Vec<u16> = spec.services[0].listen.iter().map(std::net::SocketAddr::port).collect();
    assert_eq!((spec.services.len(), ports), (1, vec![20000, 20001, 20002]));
}

#[test]
fn with_a_range_of_targets_each_port_is_a_service_of_its_own() {
    let text = ONE
        .replace("\"0.0.0.0:1\"", "[\"0.0.0.0:20-21\", \"[::]:20-21\"]")
        .replace("127.0.0.1:22", "127.0.0.1:30-31");
    let spec = valid(&format!("{text}target-v6 = \"[::1]:40\"\n"));
    let told: Vec<_> = spec
        .services
        .iter()
        .map(|service| {
            let listen: Vec<_> = service.listen.iter().map(ToString::to_string).collect();
            (
                service.name.as_str(),
                listen.join(" "),
                service.targets.v4.unwrap().port(),
                service.targets.v6.unwrap().port(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("one:20", "0.0.0.0:20 [::]:20".to_owned(), 30, 40),
            ("one:21", "0.0.0.0:21 [::]:21".to_owned(), 31, 40)
        ]
    );
}

#[test]
fn the_shortest_times_are_those_of_the_forwarder() {
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use crate::spec::{Marks, ServiceSpec};

    let text = "header-timeout = \"3s\"\nconnect-timeout = \"1ms\"\nidle-timeout = \"100ms\"\nhalf-closed-timeout = \"100ms\"\n\
                tcp-user-timeout = \"100ms\"\n";
    let spec = valid(&format!("{ONE}{text}"));
    let datagrams = valid(&format!("{ONE}protocol = \"udp\"\nudp-idle-timeout = \"1s\"\n"));
    let fits = |service: &ServiceSpec| {
        let dial = service.dial(Marks::default(), None)?;
        service.gateway(&spec.global, dial, NonZeroUsize::MIN, mmproxy_forwarder::TargetHealth::new())?;
        service.datagrams(NonZeroUsize::MAX).map(|_| ())
    };
    fits(&spec.services[0]).unwrap();
    fits(&datagrams.services[0]).unwrap();
    let less = |time: Duration| time - Duration::from_nanos(1);
    let shorter: [fn(&mut ServiceSpec) -> &mut Duration; 6] = [
        |service| &mut service.timeouts.header,
        |service| &mut service.timeouts.connect,
        |service| service.timeouts.idle.as_mut().unwrap(),
        |service| service.timeouts.half_closed.as_mut().unwrap(),
        |service| service.timeouts.tcp_user.as_mut().unwrap(),
        |service| &mut service.udp.idle,
    ];
    for (index, time) in shorter.into_iter().enumerate() {
        let mut service = spec.services[0].clone();
        service.udp = datagrams.services[0].udp.clone();
        let time = time(&mut service);
        *time = less(*time);
        assert!(fits(&service).is_err(), "{index}");
    }
}

// --- flags ------------------------------------------------------------------------------------------------

fn flags(line: &str) -> crate::cli::RunArgs {
    Cli::try_parse_from(["mmproxy"].into_iter().chain(line.split_whitespace())).unwrap().run
}

#[test]
fn the_file_made_from_flags_means_what_the_flags_mean() {
    for line in [
        "--allow 10.0.0.2 -l 0.0.0.0:2222 -4 127.0.0.1:22",
        "--allow 10.0.0.2 --allow 2001:db8::/32 -l 0.0.0.0:2222 -l [::]:2222 -4 127.0.0.1:22 -6 [::1]:22 -P --workers 3 \
         --drain 3s --user 990:991 --sandbox log --sandbox-missing anything --keep-net-admin --admin 127.0.0.1:9100 --control /run/c --log-format json --health-checks answer --backlog 7 --source peer --routing check --return-path connmark --mark 0x10/0xf0 --table 7 --priority 9",
        "--allow 10.0.0.2 -l 0.0.0.0:0 --target-from-header --allow-target 10.0.0.0/8:20-30 --allow-target [2001:db8::5]:22 \
         --allow-source loopback,own --target-netns docker:web --source-port ephemeral --listen-transparent",
        "--allow 10.0.0.2 -l 0.0.0.0:1 -4 127.0.0.1:22 --tproxy-ports 20-30 --tproxy-ports 40 --tproxy-mark 0x400/0xff00 \
         --tproxy-table 300 --target-netns 4711",
        "--allow 10.0.0.2 -l 0.0.0.0:1 -4 127.0.0.1:22 --header-timeout 7s --connect-timeout 900ms --idle-timeout 1h \
         --half-closed-timeout off --tcp-user-timeout 1m30s --keepalive 7,8,9",
        "--allow 10.0.0.2 -l 0.0.0.0:1 -4 127.0.0.1:22 --keepalive off",
        "-p udp --allow 10.0.0.2 -l 0.0.0.0:53 -4 127.0.0.1:53 --header spp --udp-idle-timeout 7s --udp-max-flows 9 \
         --udp-max-flows-per-balancer 8 --udp-max-flows-per-network 7",
        "-p udp --allow 10.0.0.2 -l 0.0.0.0:53 -4 127.0.0.1:53 --header v2 --udp-header first-datagram",
        "--allow 10.0.0.2 -l 0.0.0.0:1 -4 127.0.0.1:22 --header v2",
        "--allow 10.0.0.2 -l 0.0.0.0:1 -4 127.0.0.1:22 --header v2,v1",
    ] {
        let args = flags(line);
        let text = text_of_flags(&args).unwrap();
        assert_eq!(valid(&text), of_flags(&args).unwrap(), "{line}\n{text}");
    }
}

#[test]
fn every_flag_of_the_gateway_is_a_key_of_the_same_name() {
    let command = Cli::command();
    let flags: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
    // Said in another way, or only on a terminal.
    let no_keys = ["force-real-client-port", "do-not-sandbox", "quiet", "verbose", "help", "version"];
    let keys = || GlobalKeys::KEYS.iter().chain(ServiceKeys::KEYS);
    for &flag in flags.iter().filter(|flag| !no_keys.contains(flag)) {
        assert!(keys().any(|key| key.name == flag), "--{flag} has no key");
    }
    for key in keys().filter(|key| !["name", "verbosity"].contains(&key.name)) {
        assert!(flags.contains(&key.name), "`{}` has no flag", key.name);
    }
}

#[test]
fn mistakes_in_flags_are_told_all_at_once_by_their_names() {
    let failure =
        of_flags(&flags("-l 0.0.0.0:1 --header-timeout 1s --idle-timeout 1ms")).unwrap_err().report();
    let text = failure.to_string();
    assert_eq!(failure.exit(), Exit::Usage);
    for told in
        ["--header-timeout: 1s is too short", "--idle-timeout: 1ms", "--allowed-subnets", "-4 127.0.0.1:22"]
    {
        assert!(text.contains(told), "{told} in {text}");
    }
}

#[test]
fn a_file_that_a_flag_names_is_the_configuration_s_mistake() {
    let line = "-l 0.0.0.0:1 -4 127.0.0.1:22 -a /nonexistent/ranges.txt";
    let failure = of_flags(&flags(line)).unwrap_err().report();
    assert_eq!(failure.exit(), Exit::Config);
    assert!(failure.to_string().contains("cannot read /nonexistent/ranges.txt"), "{failure}");
}

// --- documents --------------------------------------------------------------------------------------------

fn every_key() -> impl Iterator<Item = &'static Key> {
    GlobalKeys::KEYS.iter().chain(ServiceKeys::KEYS)
}

#[test]
fn names_of_keys_are_there_once_and_every_default_is_a_value() {
    let mut names: Vec<&str> = every_key().map(|key| key.name).collect();
    names.sort_unstable();
    let before = names.len();
    names.dedup();
    assert_eq!(names.len(), before);
    for key in every_key() {
        if let Absent::Default(text) = key.absent {
            assert!((key.toml)(text).is_some(), "{}", key.name);
        }
        assert!(!key.doc.is_empty(), "{}", key.name);
    }
}

#[test]
fn the_example_can_be_started_from_and_is_the_one_that_ships() {
    let spec = valid(&example());
    assert_eq!(spec.services.len(), 1);
    same_as_file(&repository().join("deploy/mmproxy.toml.example"), &example());
}

#[test]
fn the_example_has_every_key_with_its_default() {
    // Keys behind `#` without a blank.
    let on: String = example()
        .lines()
        .map(|line| {
            let key = line
                .strip_prefix('#')
                .filter(|rest| rest.starts_with(|first: char| first.is_ascii_lowercase()));
            format!("{}\n", key.unwrap_or(line))
        })
        .collect();
    let (mut typed, mut sources, mut told) = (Typed::default(), Sources::default(), Vec::new());
    let file = sources.add(Path::new("example"), on);
    typed.read(file, &sources, &mut told);
    assert!(told.is_empty(), "{}", Mistakes { mistakes: told, sources, file: None }.text(Renderer::plain()));
    let written =
        typed.global.slots().into_iter().chain(typed.services[0].keys.slots()).map(AnySlot::written);
    for (key, written) in every_key().zip(written) {
        let written = written.unwrap_or_else(|| panic!("{} is missing", key.name));
        if let Absent::Default(text) = key.absent {
            assert_eq!(Some(written), (key.toml)(text), "{}", key.name);
        }
    }
}

#[test]
fn the_schema_is_the_one_that_ships() {
    same_as_file(&repository().join("deploy/mmproxy.schema.json"), &schema());
}

#[test]
fn the_reference_page_has_the_keys_as_they_are() {
    let path = repository().join("docs/configuration.md");
    let page = fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- from `mmproxy config reference` -->\n", "<!-- end -->\n");
    let (head, rest) = page.split_once(begin).unwrap();
    let (_, tail) = rest.split_once(end).unwrap();
    same_as_file(&path, &format!("{head}{begin}\n{}\n{end}{tail}", reference()));
}

// --- go-mmproxy -------------------------------------------------------------------------------------------

fn go(line: &str) -> String {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    text_of_go_mmproxy(&words).unwrap()
}

#[test]
fn a_command_line_of_go_mmproxy_becomes_a_file_that_loads() {
    let list = tempfile::NamedTempFile::new().unwrap();
    fs::write(list.path(), "10.0.0.0/8\n").unwrap();
    let list = list.path().display();
    let text = go(&format!(
        "-l 0.0.0.0:2222 -4 127.0.0.1:22 -6 [::1]:22 -p tcp -mark 123 -listeners 2 -allowed-subnets {list} -close-after 60 -v 1"
    ));
    let spec = valid(&text);
    let service = &spec.services[0];
    assert_eq!(service.listen, ["0.0.0.0:2222".parse().unwrap()]);
    assert_eq!(service.targets.v4, Some("127.0.0.1:22".parse().unwrap()));
    assert_eq!(service.return_path.mark.get(), 123);
    for told in ["-listeners 2", "-close-after 60", "-v 1", "An empty file lets everybody in"] {
        assert!(text.contains(told), "{told} in {text}");
    }
    let text = go(&format!("--p=udp -close-after=90 -allowed-subnets={list}"));
    let service = &valid(&text).services[0];
    assert!(!service.is_tcp());
    assert_eq!((service.udp.idle.as_secs(), service.listen[0].port()), (90, 8443));
    assert_eq!(service.targets.v6, Some("[::1]:443".parse().unwrap()));
}

#[test]
fn what_is_open_to_everybody_with_go_mmproxy_has_to_be_filled_in() {
    let text = go("-l 0.0.0.0:1 -dynamic-destination -listen-transparent");
    let told = mistakes(parse(&text));
    assert!(told.contains("nobody may connect") && told.contains("`allow-target` is missing"), "{told}");
    let filled: String = text.replace("#allow = ", "allow = ").replace("#allow-target", "allow-target");
    let service = &valid(&filled).services[0];
    assert!(service.listen_transparent && service.targets.v4.is_none());
}

#[test]
fn names_are_pointed_out_and_other_flags_refused() {
    let text = go("-l :8443 -4 localhost:22 -allowed-subnets f");
    assert!(text.contains("# -l :8443") && text.contains("# -4 localhost:22"), "{text}");
    for line in ["-listen 0.0.0.0:1", "-l", "0.0.0.0:1", "-mark x", "-p sctp", "-dynamic-destination=maybe"] {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let failure = text_of_go_mmproxy(&words).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage, "{line}");
    }
}
