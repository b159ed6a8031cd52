//! What the arguments of a system call may be.

use seccompiler::{BackendError, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

/// One argument, counted from 0, and what it may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Argument {
    index: u8,
    may_be: MayBe,
}

/// Ints and flags of which the lower half counts are compared by that alone: the C library may leave anything in the
/// upper half of the register.
#[derive(Clone, Copy, Debug)]
enum MayBe {
    /// The bits of a mask have this value.
    Bits { mask: u32, value: u32 },
    /// The whole register is 0.
    Null,
}

/// The argument has this value.
pub(super) const fn is(index: u8, value: i32) -> Argument {
    is_with(index, value, 0)
}

/// The argument has this value, whichever of `flags` are set beside it.
pub(super) const fn is_with(index: u8, value: i32, flags: i32) -> Argument {
    Argument { index, may_be: MayBe::Bits { mask: !flags.cast_unsigned(), value: value.cast_unsigned() } }
}

/// None of `flags` is set.
pub(super) const fn lacks(index: u8, flags: i32) -> Argument {
    Argument { index, may_be: MayBe::Bits { mask: flags.cast_unsigned(), value: 0 } }
}

/// The pointer leads nowhere.
pub(super) const fn null(index: u8) -> Argument {
    Argument { index, may_be: MayBe::Null }
}

/// All of `arguments` are as they may be.
pub(super) fn rule(arguments: &[Argument]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(arguments.iter().map(condition).collect::<Result<_, _>>()?)
}

fn condition(argument: &Argument) -> Result<SeccompCondition, BackendError> {
    let (width, compared, value) = match argument.may_be {
        MayBe::Null => (SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0),
        MayBe::Bits { mask: u32::MAX, value } => (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value),
        MayBe::Bits { mask, value } => (SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask.into()), value),
    };
    SeccompCondition::new(argument.index, width, compared, value.into())
}
