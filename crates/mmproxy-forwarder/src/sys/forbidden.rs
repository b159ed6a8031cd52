//! What a jailed process must not be able to do, where no library makes the call: so that it can be shown that a jail
//! holds. Nothing here is of use to a gateway.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;
use nix::libc::{self, c_long, c_void};

/// One thing to try. Each is undone at once if it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// Makes a BPF map.
    Bpf,
    /// Makes an io_uring.
    IoUring,
    /// Makes a descriptor that handles page faults.
    UserFaults,
    /// Makes a counter of performance events.
    PerfEvent,
    /// Asks for the session's keyring.
    Keyring,
    /// Reads memory, its own here, the way that others' can be read.
    ProcessMemory,
    /// Starts a process in a user namespace of its own.
    ProcessInNamespace,
    /// Maps memory that can be written and executed.
    WritableCode,
    /// Makes memory executable that was written to.
    WrittenCode,
}

impl Forbidden {
    /// Tries it, and cleans up if it worked.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn attempt(self) -> io::Result<()> {
        match self {
            Self::Bpf => {
                // union bpf_attr, BPF_MAP_CREATE: BPF_MAP_TYPE_ARRAY, sizes of key and value, number of entries.
                let map: [u32; 4] = [2, 4, 4, 1];
                close(call(libc::SYS_bpf, [0, address(&map), size_of_val(&map) as c_long, 0, 0])?)
            }
            Self::IoUring => {
                // struct io_uring_params, which the kernel fills in.
                let parameters = [0_u64; 15];
                close(call(libc::SYS_io_uring_setup, [1, address(&parameters), 0, 0, 0])?)
            }
            // UFFD_USER_MODE_ONLY, which takes no privilege.
            Self::UserFaults => close(call(libc::SYS_userfaultfd, [1, 0, 0, 0, 0])?),
            Self::PerfEvent => {
                // struct perf_event_attr: PERF_TYPE_SOFTWARE, its size (PERF_ATTR_SIZE_VER0), PERF_COUNT_SW_DUMMY.
                let mut event = [0_u32; 16];
                (event[0], event[1], event[2]) = (1, 64, 9);
                close(call(libc::SYS_perf_event_open, [address(&event), 0, -1, -1, 0])?)
            }
            // KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, and it is not made if it is not there.
            Self::Keyring => call(libc::SYS_keyctl, [0, -3, 0, 0, 0]).map(drop),
            Self::ProcessMemory => {
                let (from, to) = ([7_u8], [0_u8]);
                let vector =
                    |bytes: &[u8; 1]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: 1 };
                let (from, to) = (vector(&from), vector(&to));
                let this = c_long::from(nix::unistd::getpid().as_raw());
                call(libc::SYS_process_vm_readv, [this, address(&to), 1, address(&from), 1]).map(drop)
            }
            Self::ProcessInNamespace => process_in_namespace(),
            Self::WritableCode => {
                unmap(map(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC)?);
                Ok(())
            }
            Self::WrittenCode => {
                let page = map(libc::PROT_READ | libc::PROT_WRITE)?;
                // SAFETY: `page` was mapped here with this length, and nobody has a reference to it.
                let result = unsafe { libc::mprotect(page, PAGE, libc::PROT_READ | libc::PROT_EXEC) };
                let done = Errno::result(result);
                unmap(page);
                done?;
                Ok(())
            }
        }
    }
}

/// A system call by its number. What `arguments` point to must be as the kernel expects it, and outlive the call.
fn call(number: c_long, arguments: [c_long; 5]) -> io::Result<c_long> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: all callers are above: the pointers among the arguments lead to arrays of theirs with the length or the
    // layout that the call expects, and none of these calls writes to anything but those arrays. They are of integers,
    // and read by nobody afterwards.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, NOTHING) };
    Ok(Errno::result(result)?)
}

fn address<T>(object: &T) -> c_long {
    ptr::from_ref(object).expose_provenance() as c_long
}

fn close(descriptor: c_long) -> io::Result<()> {
    let descriptor = i32::try_from(descriptor).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel has just made this descriptor for the caller, who is the only one to know it.
    drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
    Ok(())
}

fn process_in_namespace() -> io::Result<()> {
    let flags = c_long::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
    // SAFETY: without CLONE_VM the child has a copy of everything, as after fork(2), and returns here on a copy of this
    // stack; the other arguments are not used with these flags.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, NOTHING, NOTHING, NOTHING, NOTHING) };
    if pid == 0 {
        // SAFETY: ends the child without running anything of the parent's, so that it does not matter what other
        // threads held when it was made.
        unsafe { libc::_exit(0) }
    }
    let pid = Errno::result(pid)?;
    let pid = i32::try_from(pid).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: waits for our own child, and wants no status.
    let waited = unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
    Errno::result(waited)?;
    Ok(())
}

fn map(protection: libc::c_int) -> io::Result<*mut c_void> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, where the kernel finds room, takes nothing from anybody.
    let page = unsafe { libc::mmap(ptr::null_mut(), PAGE, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(page) }
}

fn unmap(page: *mut c_void) {
    // SAFETY: `page` was mapped here with this length, and nobody has a reference to it.
    unsafe { libc::munmap(page, PAGE) };
}

/// An argument that is not used: of full width, because syscall(2) passes on whatever the register has.
const NOTHING: c_long = 0;

/// Enough for any page; the kernel rounds up.
const PAGE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_of_a_jail_memory_can_be_made_executable() {
        for forbidden in [Forbidden::WritableCode, Forbidden::WrittenCode, Forbidden::ProcessMemory] {
            forbidden.attempt().unwrap();
        }
    }
}
