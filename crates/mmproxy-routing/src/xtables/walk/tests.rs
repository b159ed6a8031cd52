use super::*;
use crate::mode::{Family, Mark, Table};

fn judged(job: Job, rules: &[&str]) -> Merit {
    let wanted = Netfilter { family: Family::V4, job, mark: Mark::default(), table: Table::default() };
    judge(&Line::read_all(&rules.join("\n")), &wanted)
}

const SAVE: &str = "-A PREROUTING -m mark --mark 0x7b -m comment --comment mmproxy -j CONNMARK --save-mark \
                    --nfmask 0xffffffff --ctmask 0xffffffff";
const RESTORE: &str = "-A OUTPUT -m connmark --mark 0x7b -m comment --comment mmproxy -j CONNMARK --restore-mark \
                       --nfmask 0xffffffff --ctmask 0xffffffff";
const MARK: &str = "-A PREROUTING -m socket --transparent -j MARK --set-xmark 0x7b/0xffffffff";

#[test]
fn what_the_original_asks_its_user_to_type_does_the_job() {
    assert_eq!(judged(Job::Connmark, &[SAVE, RESTORE]), Merit::Serves);
    assert_eq!(judged(Job::Socket, &[MARK]), Merit::Serves);
    assert_eq!(judged(Job::Socket, &[&MARK.replace("PREROUTING", "PREROUTING ! -i lo")]), Merit::Serves);
    assert_eq!(judged(Job::Socket, &[SAVE, RESTORE]), Merit::Nothing);
    assert_eq!(judged(Job::Connmark, &[]), Merit::Nothing);
}

#[test]
fn what_does_the_same_in_other_words_does_it_too() {
    for (save, restore) in [
        ("-A PREROUTING -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff", RESTORE),
        (
            "-A PREROUTING -i lo -m mark --mark 0x7b/0xff -j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff",
            RESTORE,
        ),
        (
            "-A PREROUTING -m mark --mark 0x7b -m conntrack --ctstate NEW,RELATED -j CONNMARK --set-xmark 0x7b/0xff",
            RESTORE,
        ),
        (SAVE, "-A OUTPUT -m connmark ! --mark 0x0 -m state --state ESTABLISHED -j CONNMARK --restore-mark"),
        (SAVE, "-A OUTPUT -m connmark --mark 0x7b -j MARK --set-xmark 0x7b/0xffffffff"),
        (
            "-A PREROUTING -j ours\n-A ours -m mark ! --mark 0x7b -j RETURN\n-A ours -j CONNMARK --save-mark",
            RESTORE,
        ),
        (
            "-A PREROUTING -p icmp -j ACCEPT\n-A PREROUTING -i eth+ -j ACCEPT\n-A PREROUTING -j CONNMARK --save-mark",
            RESTORE,
        ),
    ] {
        assert_eq!(judged(Job::Connmark, &[save, restore]), Merit::Serves, "{save}\n{restore}");
    }
}

#[test]
fn what_does_not_do_the_job_is_told_with_the_reason() {
    let cases: [(&[&str], &str); 12] = [
        (&[SAVE], "nothing in OUTPUT gives the mark back"),
        (&[RESTORE], "is for other packets (`-m connmark --mark 0x7b`)"),
        (&[&SAVE.replace("0x7b", "0x7c"), RESTORE], "is for other packets (`-m mark --mark 0x7c`)"),
        (&[&SAVE.replace("PREROUTING", "INPUT"), RESTORE], "do not come by there (chain INPUT)"),
        (&[SAVE, &RESTORE.replace("OUTPUT", "POSTROUTING")], "do not come by there (chain POSTROUTING)"),
        (&[&SAVE.replace("PREROUTING", "PREROUTING -i eth0"), RESTORE], "is for other packets (`-i eth0`)"),
        (
            &[&SAVE.replace("PREROUTING", "PREROUTING -s 10.0.0.0/8"), RESTORE],
            "some packets only (`-s 10.0.0.0/8`)",
        ),
        (&[SAVE, &RESTORE.replace("OUTPUT", "OUTPUT -o eth0")], "some packets only (`-o eth0`)"),
        (
            &[SAVE, &RESTORE.replace("OUTPUT", "OUTPUT -p tcp -m tcp --sport 22")],
            "some packets only (`-p tcp`)",
        ),
        (
            &[SAVE, &RESTORE.replace("ctmask 0xffffffff", "ctmask 0xf")],
            "replies get the mark 0xb instead of 0x7b",
        ),
        (&["-A PREROUTING -j ACCEPT", SAVE, RESTORE], "is not reached"),
        (&["-A PREROUTING -s 10.0.0.0/8 -j ACCEPT", SAVE, RESTORE], "ends the way of some packets"),
    ];
    for (rules, reason) in cases {
        match judged(Job::Connmark, rules) {
            Merit::Falls(lack) => assert!(lack.contains(reason), "{rules:?}: {lack}"),
            found @ (Merit::Serves | Merit::Nothing) => panic!("{rules:?}: {found:?}"),
        }
    }
    for (rule, reason) in [
        (MARK.replace("0x7b", "0x7c"), "replies get the mark 0x7c"),
        (MARK.replace("PREROUTING", "PREROUTING -i lo"), "is for other packets (`-i lo`)"),
        (MARK.replace("PREROUTING", "PREROUTING -i eth0"), "some packets only (`-i eth0`)"),
        (MARK.replace("PREROUTING", "PREROUTING -d 10.0.0.0/8"), "some packets only (`-d 10.0.0.0/8`)"),
        (MARK.replace("PREROUTING", "FORWARD"), "do not come by there"),
        (MARK.replace("--transparent", "--restore-skmark"), "some packets only (`--restore-skmark`)"),
    ] {
        let found = judged(Job::Socket, &[&rule]);
        assert!(matches!(&found, Merit::Falls(lack) if lack.contains(reason)), "{rule}: {found:?}");
    }
}

/// What the dry run prints for it, as it is saved again.
#[test]
fn of_a_masked_mark_the_other_bits_do_not_matter() {
    let masked = Netfilter {
        family: Family::V4,
        job: Job::Connmark,
        mark: "0x7b/0xff".parse().unwrap(),
        table: Table::default(),
    };
    let rules = |mark: &str| {
        format!(
            "-A PREROUTING -m mark --mark {mark} -j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff\n\
             -A OUTPUT -m connmark --mark {mark} -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff"
        )
    };
    assert_eq!(judge(&Line::read_all(&rules("0x7b/0xff")), &masked), Merit::Serves);
    assert!(matches!(judge(&Line::read_all(&rules("0x7a/0xff")), &masked), Merit::Falls(_)));
    let other_bits = "-A PREROUTING -j CONNMARK --save-mark\n-A OUTPUT -j CONNMARK --restore-mark\n\
                      -A OUTPUT -j MARK --set-xmark 0x100/0x100";
    assert_eq!(judge(&Line::read_all(other_bits), &masked), Merit::Serves);
    assert!(matches!(judged(Job::Connmark, &[other_bits]), Merit::Falls(_)), "of a whole mark they do");
}

#[test]
fn rules_about_other_things_are_not_told_of() {
    let others = [
        "-A PREROUTING -p tcp -m tcp --dport 80 -j MARK --set-xmark 0x1/0xffffffff",
        "-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
    ];
    assert_eq!(judged(Job::Connmark, &others), Merit::Nothing);
    assert_eq!(judged(Job::Socket, &others), Merit::Nothing);
}
