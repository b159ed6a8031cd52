//! Which worker a datagram belongs to: decided by its client, so that a balancer may change its port.

use std::net::{IpAddr, SocketAddr};

use nix::libc::{self, sock_filter};

use crate::udp::key::{FlowKey, Origin};
use crate::udp::options::DatagramFormat;

/// The worker, of `workers`, that has the flow `key`.
pub(crate) fn owner(key: &FlowKey, workers: usize) -> usize {
    let hash = match key.origin {
        Origin::Client { source, .. } => hash_client(source),
        Origin::Balancer { .. } => mixed(folded(key.balancer)),
    };
    hash as usize % workers
}

/// A classic BPF program for `SO_ATTACH_REUSEPORT_CBPF` that says the same as [`owner`] of most datagrams.
///
/// Not of all: several datagrams that a network card or a sender put together arrive as one, with one answer for them.
/// Those have to be handed over.
pub(crate) fn program(format: DatagramFormat, workers: u32) -> Vec<sock_filter> {
    let mut program = Program(Vec::new());
    match format {
        DatagramFormat::V2 => {
            // Offsets in a version 2 header: command, family and transport, addresses.
            program.byte(12).unless(0x21, Label::Balancer);
            program.byte(13).when(0x12, Label::Inet).unless(0x22, Label::Balancer);
            program.fold([16, 20, 24, 28]).xor_half(48).jump(Label::Mix);
            program.mark(Label::Inet);
            // As if it were mapped.
            program.word(16).xor(MAPPED).keep().half(24).xor_x().jump(Label::Mix);
        }
        DatagramFormat::Spp => {
            program.fold([2, 6, 10, 14]).xor_half(34).jump(Label::Mix);
        }
    }
    program.mark(Label::Balancer);
    program.protocol().when(libc::ETH_P_IP as u32, Label::BalancerInet);
    program.fold([8, 12, 16, 20].map(network)).jump(Label::Mix);
    program.mark(Label::BalancerInet);
    program.word(network(12)).xor(MAPPED);
    program.mark(Label::Mix);
    program.multiply(MULTIPLIER).shift(SHIFT).modulo(workers).answer();
    program.linked()
}

fn hash_client(source: SocketAddr) -> u32 {
    mixed(folded(source.ip()) ^ u32::from(source.port()))
}

fn folded(ip: IpAddr) -> u32 {
    let octets = match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    octets.as_chunks::<4>().0.iter().fold(0, |fold, word| fold ^ u32::from_be_bytes(*word))
}

const fn mixed(fold: u32) -> u32 {
    fold.wrapping_mul(MULTIPLIER) >> SHIFT
}

/// Third word of an IPv4-mapped address.
const MAPPED: u32 = 0xFFFF;

/// 2^32 divided by the golden ratio: spreads neighbours evenly in the upper half.
const MULTIPLIER: u32 = 0x9E37_79B1;
const SHIFT: u32 = 16;

/// Offset in the network header rather than in the payload.
const fn network(offset: u32) -> u32 {
    (libc::SKF_NET_OFF as u32).wrapping_add(offset)
}

/// Places to jump to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    Inet,
    Balancer,
    BalancerInet,
    Mix,
}

/// An instruction, or a place.
enum Line {
    Plain(u32, u32),
    /// To the label if the accumulator is the value.
    When(u32, Label),
    /// To the label unless it is.
    Unless(u32, Label),
    Jump(Label),
    Mark(Label),
}

/// An assembler for the few instructions needed here. A load behind the end of a datagram ends the program with 0.
struct Program(Vec<Line>);

impl Program {
    fn line(&mut self, line: Line) -> &mut Self {
        self.0.push(line);
        self
    }

    fn plain(&mut self, code: u32, operand: u32) -> &mut Self {
        self.line(Line::Plain(code, operand))
    }

    fn byte(&mut self, offset: u32) -> &mut Self {
        self.plain(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, offset)
    }

    fn half(&mut self, offset: u32) -> &mut Self {
        self.plain(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, offset)
    }

    fn word(&mut self, offset: u32) -> &mut Self {
        self.plain(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
    }

    /// EtherType of the packet.
    fn protocol(&mut self) -> &mut Self {
        self.word((libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL) as u32)
    }

    /// Four words, one xor the other.
    fn fold(&mut self, offsets: [u32; 4]) -> &mut Self {
        let [first, rest @ ..] = offsets;
        self.word(first);
        for offset in rest {
            self.keep().word(offset).xor_x();
        }
        self
    }

    fn xor_half(&mut self, offset: u32) -> &mut Self {
        self.keep().half(offset).xor_x()
    }

    /// To the index register.
    fn keep(&mut self) -> &mut Self {
        self.plain(libc::BPF_MISC | libc::BPF_TAX, 0)
    }

    fn xor_x(&mut self) -> &mut Self {
        self.plain(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0)
    }

    fn xor(&mut self, value: u32) -> &mut Self {
        self.plain(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_K, value)
    }

    fn multiply(&mut self, value: u32) -> &mut Self {
        self.plain(libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K, value)
    }

    fn shift(&mut self, bits: u32) -> &mut Self {
        self.plain(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, bits)
    }

    fn modulo(&mut self, value: u32) -> &mut Self {
        self.plain(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, value)
    }

    fn answer(&mut self) -> &mut Self {
        self.plain(libc::BPF_RET | libc::BPF_A, 0)
    }

    fn when(&mut self, value: u32, label: Label) -> &mut Self {
        self.line(Line::When(value, label))
    }

    fn unless(&mut self, value: u32, label: Label) -> &mut Self {
        self.line(Line::Unless(value, label))
    }

    fn jump(&mut self, label: Label) -> &mut Self {
        self.line(Line::Jump(label))
    }

    fn mark(&mut self, label: Label) {
        self.line(Line::Mark(label));
    }

    /// The instructions, with labels turned into distances.
    fn linked(self) -> Vec<sock_filter> {
        let is_code = |line: &&Line| !matches!(line, Line::Mark(_));
        let distance = |from: usize, label: Label| {
            let ahead = &self.0[from + 1..];
            let place = ahead.iter().position(|line| matches!(line, Line::Mark(mark) if *mark == label));
            ahead.iter().take(place.unwrap_or_default()).filter(is_code).count()
        };
        let jump =
            |code: u32, at: usize, value: u32, (yes, no): (Option<Label>, Option<Label>)| sock_filter {
                code: (libc::BPF_JMP | code) as u16,
                jt: yes.map_or(0, |label| distance(at, label)) as u8,
                jf: no.map_or(0, |label| distance(at, label)) as u8,
                k: value,
            };
        let instruction = |(at, line): (usize, &Line)| match *line {
            Line::Plain(code, operand) => Some(sock_filter { code: code as u16, jt: 0, jf: 0, k: operand }),
            Line::When(value, label) => {
                Some(jump(libc::BPF_JEQ | libc::BPF_K, at, value, (Some(label), None)))
            }
            Line::Unless(value, label) => {
                Some(jump(libc::BPF_JEQ | libc::BPF_K, at, value, (None, Some(label))))
            }
            Line::Jump(label) => Some(jump(libc::BPF_JA, at, distance(at, label) as u32, (None, None))),
            Line::Mark(_) => None,
        };
        self.0.iter().enumerate().filter_map(instruction).collect()
    }
}
