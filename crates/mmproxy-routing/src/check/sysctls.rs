//! The kernel's switches: what is set, and what the mode needs.

use std::fs;

use super::fact::Fact;
use super::finding::{ExitKind, Finding, Subject, Target};
use crate::family::Ipv6Off;
use crate::mode::{Family, Mode, Transport};

/// What decides which switches matter.
pub(super) struct Needs<'a> {
    pub(super) mode: Mode,
    pub(super) targets: &'a [Target],
    /// The interface of the default route, and those that lead to targets elsewhere.
    pub(super) devices: &'a [String],
    /// Why there is no IPv6, if there is none.
    pub(super) ipv6_off: Option<Ipv6Off>,
}

/// Reads a number below `/proc/sys/net`; `None` if there is no such switch.
///
/// `/proc/sys/net` shows the network namespace of the thread that opens a file in it.
pub(super) fn read(path: &str) -> Option<u32> {
    fs::read_to_string(format!("/proc/sys/net/{path}")).ok()?.trim().parse().ok()
}

impl Needs<'_> {
    /// Compares the switches with what is needed; `read` takes a path below `/proc/sys/net`.
    pub(super) fn judge(&self, read: impl Fn(&str) -> Option<u32>) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(off) = self.ipv6_off.filter(|_| self.serves(Family::V6)) {
            findings.push(
                Finding::failed(
                    Subject::Kernel,
                    Fact::Ipv6Off,
                    ExitKind::Configuration,
                    format!("there is no IPv6 here, and a target wants it: {off}"),
                )
                .cured_by("`sysctl -w net.ipv6.conf.lo.disable_ipv6=0`, or use IPv4 targets only"),
            );
        }
        if self.mode == Mode::Fwmark {
            self.fwmark(&read, &mut findings);
        }
        if self.serves(Family::V4) {
            findings.extend(self.rp_filter(&read));
            findings.extend(self.route_localnet(&read));
        }
        findings.extend(self.nonlocal_bind(&read));
        findings
    }

    fn serves(&self, family: Family) -> bool {
        self.targets.iter().any(|target| target.address.is_ipv4() == (family == Family::V4))
    }

    fn fwmark(&self, read: &impl Fn(&str) -> Option<u32>, findings: &mut Vec<Finding>) {
        if !self.targets.iter().any(|target| target.transport == Transport::Tcp) {
            return;
        }
        let accept = "ipv4/tcp_fwmark_accept";
        findings.push(match read(accept) {
            Some(0) => Finding::failed(
                Subject::Kernel,
                Fact::SwitchOff,
                ExitKind::Configuration,
                format!("{} is 0", name(accept)),
            )
            .because(
                "an accepted connection inherits the mark of its SYN only while it is 1, in IPv4 and IPv6",
            )
            .cured_by(format!("`mmproxy setup`, or `sysctl -w {}=1`", name(accept))),
            Some(value) => right(accept, value),
            None => Finding::failed(
                Subject::Kernel,
                Fact::SwitchOff,
                ExitKind::Unavailable,
                format!("this kernel has no {}", name(accept)),
            )
            .because("mode fwmark rests on it")
            .cured_by(
                "Linux 3.15 or newer with /proc mounted, or `--return-path source` for loopback targets",
            ),
        });
        for (family, reflect) in [(Family::V4, "ipv4/fwmark_reflect"), (Family::V6, "ipv6/fwmark_reflect")] {
            match read(reflect) {
                _ if !self.serves(family) => {}
                Some(0) => findings.push(
                    Finding::warning(Subject::Kernel, Fact::SwitchOff, format!("{} is 0", name(reflect)))
                        .because(
                            "a refusal by the target is lost, and the client waits for a time-out instead",
                        )
                        .cured_by(format!("`mmproxy setup`, or `sysctl -w {}=1`", name(reflect))),
                ),
                Some(value) => findings.push(right(reflect, value)),
                // Without IPv6 there is nothing to reflect; without the other, the first switch has failed already.
                None => {}
            }
        }
    }

    /// The kernel takes the stricter of "all" and the interface.
    fn rp_filter(&self, read: &impl Fn(&str) -> Option<u32>) -> Vec<Finding> {
        let all = read("ipv4/conf/all/rp_filter").unwrap_or(0);
        let strict = |device: &str| read(&conf(device, "rp_filter")).unwrap_or(0).max(all) == 1;
        if self.mode != Mode::Socket {
            let named: Vec<_> =
                ["all", "default", "lo"].into_iter().filter(|device| strict(device)).collect();
            return match named.first() {
                None => Vec::new(),
                Some(device) => vec![
                    Finding::ok(
                        Subject::Kernel,
                        Fact::ReversePathHarmless,
                        format!("{} is strict", name(&conf(device, "rp_filter"))),
                    )
                    .because("it looks at packets from the network; replies of this host never leave lo"),
                ],
            };
        }
        let either = |device: &str, switch: &str| {
            read(&conf("all", switch)) == Some(1) || read(&conf(device, switch)) == Some(1)
        };
        self.devices
            .iter()
            .filter_map(|device| {
                let filter = name(&conf(device, "rp_filter"));
                // The kernel looks the source of a reply up with its mark then, and our own table says that this
                // host has it.
                if either(device, "src_valid_mark") && (strict(device) || !either(device, "accept_local")) {
                    let accept = format!("sysctl -w {}=1", name(&conf(device, "accept_local")));
                    let cure = if strict(device) {
                        format!("`{accept}` and `sysctl -w {filter}=2`")
                    } else {
                        format!("`{accept}`")
                    };
                    let found = Finding::failed(
                        Subject::Kernel,
                        Fact::SourceRefused,
                        ExitKind::Configuration,
                        format!("src_valid_mark is 1 for {device}"),
                    );
                    return Some(
                        found
                            .because(
                                "the kernel looks the source of a marked reply up with its mark, finds our own \
                                 table, and drops the reply as if this host had sent it (wg-quick sets this switch)",
                            )
                            .cured_by(cure),
                    );
                }
                strict(device).then(|| {
                    Finding::note(Subject::Kernel, Fact::ReversePathStrict, format!("{filter} is strict")).because(
                        "a reply is dropped if this host would send to the target by another interface; the reply \
                         from each target is asked about below",
                    )
                })
            })
            .collect()
    }

    fn route_localnet(&self, read: &impl Fn(&str) -> Option<u32>) -> Option<Finding> {
        let loopback = |target: &Target| target.address.is_ipv4() && target.address.ip().is_loopback();
        let needed = self.mode == Mode::Connmark && self.targets.iter().any(loopback);
        let all = conf("all", "route_localnet");
        if read(&all) == Some(1) {
            return Some(if needed {
                right(&all, 1)
            } else {
                Finding::note(Subject::Kernel, Fact::SwitchNeedless, format!("{} is 1", name(&all))).because(
                    "no mode but connmark needs it, and neighbours can reach services on 127.0.0.1 with it",
                )
            });
        }
        if !needed {
            return None;
        }
        let device = self.devices.first()?;
        let switch = conf(device, "route_localnet");
        Some(match read(&switch) {
            Some(1) => right(&switch, 1),
            _ => Finding::failed(
                Subject::Kernel,
                Fact::SwitchOff,
                ExitKind::Configuration,
                format!("{} is 0", name(&switch)),
            )
            .because("in mode connmark a reply from 127.0.0.1 is first routed out by that interface")
            .cured_by(format!(
                "`sysctl -w {}=1`, or `--return-path fwmark`, which does without",
                name(&switch)
            )),
        })
    }

    fn nonlocal_bind(&self, read: &impl Fn(&str) -> Option<u32>) -> impl Iterator<Item = Finding> {
        ["ipv4/ip_nonlocal_bind", "ipv6/ip_nonlocal_bind"]
            .into_iter()
            .filter(|switch| read(switch).is_some_and(|value| value != 0))
            .map(|switch| {
                Finding::note(Subject::Kernel, Fact::SwitchNeedless, format!("{} is 1", name(switch))).because(
                    "mmproxy does not need it; any program may bind addresses that are not this host's with it",
                )
            })
            .collect::<Vec<_>>()
            .into_iter()
    }
}

fn right(path: &str, value: u32) -> Finding {
    Finding::ok(Subject::Kernel, Fact::SwitchRight, format!("{} is {value}", name(path)))
}

fn conf(device: &str, switch: &str) -> String {
    format!("ipv4/conf/{device}/{switch}")
}

/// As sysctl(8) takes it: dots for slashes, and a slash for a dot in the name of an interface.
fn name(path: &str) -> String {
    let swapped = path.chars().map(|c| match c {
        '/' => '.',
        '.' => '/',
        other => other,
    });
    format!("net.{}", swapped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(mode: Mode, targets: &[&str], set: &[(&str, u32)]) -> Vec<Finding> {
        let targets: Vec<_> = targets.iter().map(|address| Target::tcp(address.parse().unwrap())).collect();
        let devices = ["eth0.5".to_owned()];
        let needs = Needs { mode, targets: &targets, devices: &devices, ipv6_off: None };
        needs.judge(|path| set.iter().find(|(name, _)| *name == path).map(|(_, value)| *value))
    }

    fn facts(findings: &[Finding]) -> Vec<(Fact, Option<ExitKind>)> {
        findings.iter().map(|finding| (finding.fact, finding.exit)).collect()
    }

    const LO: &[&str] = &["127.0.0.1:1"];

    #[test]
    fn mode_fwmark_needs_its_switches() {
        let both = &["127.0.0.1:1", "[::1]:1"];
        let all_on = [("ipv4/tcp_fwmark_accept", 1), ("ipv4/fwmark_reflect", 1), ("ipv6/fwmark_reflect", 1)];
        assert_eq!(facts(&judged(Mode::Fwmark, both, &all_on)), [(Fact::SwitchRight, None); 3]);

        let all_off = all_on.map(|(name, _)| (name, 0));
        let findings = judged(Mode::Fwmark, both, &all_off);
        assert_eq!(
            facts(&findings),
            [
                (Fact::SwitchOff, Some(ExitKind::Configuration)),
                (Fact::SwitchOff, None),
                (Fact::SwitchOff, None)
            ]
        );
        assert!(findings[0].cure.as_deref().unwrap().contains("sysctl -w net.ipv4.tcp_fwmark_accept=1"));
        assert!(findings[2].cure.as_deref().unwrap().contains("sysctl -w net.ipv6.fwmark_reflect=1"));
        assert_eq!(judged(Mode::Fwmark, LO, &all_off).len(), 2, "nothing about a family that is not served");
        assert_eq!(judged(Mode::Source, both, &all_off), []);
    }

    #[test]
    fn a_kernel_without_the_switch_is_told_from_one_where_it_is_off() {
        assert_eq!(facts(&judged(Mode::Fwmark, LO, &[])), [(Fact::SwitchOff, Some(ExitKind::Unavailable))]);
    }

    #[test]
    fn a_strict_reverse_path_filter_matters_for_replies_from_the_network_only() {
        let strict = [("ipv4/conf/all/rp_filter", 1), ("ipv4/conf/lo/rp_filter", 0)];
        assert_eq!(facts(&judged(Mode::Source, LO, &strict)), [(Fact::ReversePathHarmless, None)]);
        let findings = judged(Mode::Socket, &["10.0.0.9:1"], &strict);
        assert_eq!(facts(&findings), [(Fact::ReversePathStrict, None)]);
        assert!(findings[0].found.contains("net.ipv4.conf.eth0/5.rp_filter"), "{findings:?}");
        // Loose on the interface beats strict on all.
        let loose = [strict[0], ("ipv4/conf/eth0.5/rp_filter", 2)];
        assert_eq!(judged(Mode::Socket, &["10.0.0.9:1"], &loose), []);
    }

    #[test]
    fn replies_whose_source_is_looked_up_with_our_mark_are_refused() {
        let valid = ("ipv4/conf/all/src_valid_mark", 1);
        let accept = ("ipv4/conf/eth0.5/accept_local", 1);
        let strict = ("ipv4/conf/eth0.5/rp_filter", 1);
        for (set, refused) in [
            (&[valid][..], true),
            (&[("ipv4/conf/eth0.5/src_valid_mark", 1)], true),
            (&[valid, accept], false),
            (&[valid, accept, strict], true),
            (&[accept], false),
        ] {
            let findings = judged(Mode::Socket, &["10.0.0.9:1"], set);
            assert_eq!(findings.iter().any(|found| found.fact == Fact::SourceRefused), refused, "{set:?}");
        }
        let findings = judged(Mode::Socket, &["10.0.0.9:1"], &[valid, strict]);
        assert_eq!(
            findings[0].cure.as_deref(),
            Some(
                "`sysctl -w net.ipv4.conf.eth0/5.accept_local=1` and `sysctl -w net.ipv4.conf.eth0/5.rp_filter=2`"
            )
        );
        assert_eq!(
            judged(Mode::Fwmark, LO, &[valid, ("ipv4/tcp_fwmark_accept", 1)]).len(),
            1,
            "replies stay on lo"
        );
    }

    #[test]
    fn route_localnet_is_for_connmark() {
        let off = judged(Mode::Connmark, LO, &[("ipv4/conf/eth0.5/route_localnet", 0)]);
        assert_eq!(facts(&off), [(Fact::SwitchOff, Some(ExitKind::Configuration))]);
        assert!(off[0].cure.as_deref().unwrap().contains("sysctl -w net.ipv4.conf.eth0/5.route_localnet=1"));
        let on = judged(Mode::Connmark, LO, &[("ipv4/conf/eth0.5/route_localnet", 1)]);
        assert_eq!(facts(&on), [(Fact::SwitchRight, None)]);
        assert_eq!(judged(Mode::Connmark, &["10.0.0.1:1"], &[]), [], "only 127.0.0.0/8 is special");
        let needless = judged(Mode::Source, LO, &[("ipv4/conf/all/route_localnet", 1)]);
        assert_eq!(facts(&needless), [(Fact::SwitchNeedless, None)]);
    }

    #[test]
    fn nonlocal_bind_is_named_as_needless() {
        let findings = judged(Mode::Source, LO, &[("ipv6/ip_nonlocal_bind", 1)]);
        assert_eq!(facts(&findings), [(Fact::SwitchNeedless, None)]);
    }

    #[test]
    fn without_ipv6_an_ipv6_target_cannot_be_served() {
        let targets = [Target::tcp("[::1]:1".parse().unwrap())];
        let off = Some(Ipv6Off::OnLoopback);
        let needs = Needs { mode: Mode::Source, targets: &targets, devices: &[], ipv6_off: off };
        assert_eq!(facts(&needs.judge(|_| None)), [(Fact::Ipv6Off, Some(ExitKind::Configuration))]);
        let targets = [Target::tcp("127.0.0.1:1".parse().unwrap())];
        let needs = Needs { mode: Mode::Source, targets: &targets, devices: &[], ipv6_off: off };
        assert_eq!(needs.judge(|_| None), []);
    }
}
