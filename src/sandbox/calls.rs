//! Which system calls a confined process makes, by what it still has to do.

use linux_raw_sys::general as nr;

/// Beyond what every process needs.
pub struct Calls {
    pub files: bool,
    pub network: bool,
}

impl Calls {
    pub fn numbers(&self) -> Vec<u32> {
        let mut numbers = [ALWAYS, ALWAYS_HERE].concat();
        if self.files {
            numbers.extend([FILES, FILES_HERE].concat());
        }
        if self.network {
            numbers.extend(NETWORK);
        }
        numbers
    }

    /// Calls that are made only without an address: what is connected may be sent on, and nobody else sent to.
    pub fn unaddressed(&self) -> &'static [u32] {
        if self.network { &[] } else { &[nr::__NR_sendto] }
    }
}

/// Works with what is open, memory, threads and time. No other program is started, and nothing opened.
const ALWAYS: &[u32] = &[
    nr::__NR_read,
    nr::__NR_readv,
    nr::__NR_pread64,
    nr::__NR_write,
    nr::__NR_writev,
    nr::__NR_pwrite64,
    nr::__NR_lseek,
    nr::__NR_close,
    nr::__NR_fsync,
    nr::__NR_fdatasync,
    nr::__NR_dup,
    nr::__NR_dup3,
    nr::__NR_ioctl, // terminals and serial ports
    nr::__NR_statx,
    nr::__NR_ppoll,
    nr::__NR_pselect6,
    nr::__NR_accept,
    nr::__NR_accept4,
    nr::__NR_recvfrom,
    nr::__NR_recvmsg,
    nr::__NR_getsockname,
    nr::__NR_getpeername,
    nr::__NR_getsockopt,
    nr::__NR_setsockopt,
    nr::__NR_shutdown,
    nr::__NR_brk,
    nr::__NR_munmap,
    nr::__NR_mremap,
    nr::__NR_mprotect,
    nr::__NR_madvise,
    nr::__NR_membarrier,
    nr::__NR_futex,
    nr::__NR_clone,
    nr::__NR_clone3,
    nr::__NR_set_robust_list,
    nr::__NR_set_tid_address,
    nr::__NR_rseq,
    nr::__NR_prctl, // names of threads
    nr::__NR_gettid,
    nr::__NR_getpid,
    nr::__NR_sched_yield,
    nr::__NR_sched_getaffinity,
    nr::__NR_sigaltstack,
    nr::__NR_rt_sigaction,
    nr::__NR_rt_sigprocmask,
    nr::__NR_rt_sigreturn,
    nr::__NR_restart_syscall,
    nr::__NR_tgkill, // abort, and musl's
    nr::__NR_tkill,
    nr::__NR_exit,
    nr::__NR_exit_group,
    nr::__NR_nanosleep,
    nr::__NR_clock_nanosleep,
    nr::__NR_clock_gettime,
    nr::__NR_gettimeofday,
    nr::__NR_getrandom,
    nr::__NR_prlimit64,
];

#[cfg(target_arch = "x86_64")]
const ALWAYS_HERE: &[u32] = &[
    nr::__NR_mmap,
    nr::__NR_fstat,
    nr::__NR_fcntl,
    nr::__NR_poll,
    nr::__NR_select,
    nr::__NR_arch_prctl,
    nr::__NR_time,
];
#[cfg(target_arch = "aarch64")]
const ALWAYS_HERE: &[u32] = &[nr::__NR_mmap, nr::__NR_fstat, nr::__NR_fcntl];
#[cfg(target_arch = "arm")]
const ALWAYS_HERE: &[u32] = &[
    nr::__NR_mmap2,
    nr::__NR__llseek,
    nr::__NR_fstat64,
    nr::__NR_fcntl64,
    nr::__NR_poll,
    nr::__NR__newselect,
    nr::__NR_recv,
    nr::__NR_send,
    nr::__NR_sigreturn,
    nr::__NR_ugetrlimit,
    nr::__NR_futex_time64,
    nr::__NR_ppoll_time64,
    nr::__NR_pselect6_time64,
    nr::__NR_clock_gettime64,
    nr::__NR_clock_nanosleep_time64,
    nr::__ARM_NR_set_tls,
    nr::__ARM_NR_cacheflush,
];

/// Opens and renames, where Landlock lets it.
const FILES: &[u32] = &[
    nr::__NR_openat,
    nr::__NR_openat2,
    nr::__NR_getdents64,
    nr::__NR_readlinkat,
    nr::__NR_faccessat,
    nr::__NR_faccessat2,
    nr::__NR_memfd_create, // a model that is exchanged
    nr::__NR_renameat2,
    nr::__NR_unlinkat,
    nr::__NR_linkat,
    nr::__NR_flock,
    nr::__NR_fchmod,
    nr::__NR_ftruncate,
    nr::__NR_copy_file_range,
    nr::__NR_getcwd,
];

#[cfg(target_arch = "x86_64")]
const FILES_HERE: &[u32] = &[
    nr::__NR_open,
    nr::__NR_newfstatat,
    nr::__NR_fstatfs,
    nr::__NR_stat,
    nr::__NR_lstat,
    nr::__NR_access,
    nr::__NR_readlink,
    nr::__NR_rename,
    nr::__NR_renameat,
    nr::__NR_unlink,
    nr::__NR_link,
    nr::__NR_sendfile,
];
#[cfg(target_arch = "aarch64")]
const FILES_HERE: &[u32] = &[nr::__NR_newfstatat, nr::__NR_fstatfs, nr::__NR_renameat, nr::__NR_sendfile];
#[cfg(target_arch = "arm")]
const FILES_HERE: &[u32] = &[
    nr::__NR_open,
    nr::__NR_fstatat64,
    nr::__NR_fstatfs64,
    nr::__NR_stat64,
    nr::__NR_lstat64,
    nr::__NR_access,
    nr::__NR_readlink,
    nr::__NR_rename,
    nr::__NR_renameat,
    nr::__NR_unlink,
    nr::__NR_link,
    nr::__NR_ftruncate64,
    nr::__NR_sendfile,
    nr::__NR_sendfile64,
];

/// For a source that went away and is opened anew.
const NETWORK: &[u32] =
    &[nr::__NR_socket, nr::__NR_connect, nr::__NR_bind, nr::__NR_listen, nr::__NR_sendto, nr::__NR_sendmsg];
