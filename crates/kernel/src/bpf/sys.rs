//! bpf(2), where aya has no word for it: programs on a link or a control group without a link object of
//! their own, so that they live as long as that does, and many entries of a map at once.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

const OBJ_GET: libc::c_int = 7;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;
const MAP_LOOKUP_BATCH: libc::c_int = 24;
const MAP_UPDATE_BATCH: libc::c_int = 26;
const MAP_DELETE_BATCH: libc::c_int = 27;

/// `BPF_F_ALLOW_MULTI`
const ALLOW_MULTI: u32 = 1 << 1;
/// `BPF_F_REPLACE`
const REPLACE: u32 = 1 << 2;
/// More programs than anybody hangs on one side of a link, or one hook of a control group; the kernel's
/// limit is 64.
const MOST_PROGRAMS: usize = 64;

/// Which side of a link, as a tcx attach type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Side {
    /// What comes in by the link: `BPF_TCX_INGRESS`.
    Ingress = 46,
    /// What goes out: `BPF_TCX_EGRESS`.
    Egress = 47,
}

/// What a socket of a control group does, as an attach type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum SocketHook {
    /// `BPF_CGROUP_INET4_CONNECT`
    Connect4 = 10,
    /// `BPF_CGROUP_INET6_CONNECT`
    Connect6 = 11,
    /// `BPF_CGROUP_UDP4_SENDMSG`
    SendMsg4 = 14,
    /// `BPF_CGROUP_UDP6_SENDMSG`
    SendMsg6 = 15,
    /// `BPF_CGROUP_UDP4_RECVMSG`
    RecvMsg4 = 19,
    /// `BPF_CGROUP_UDP6_RECVMSG`
    RecvMsg6 = 20,
    /// `BPF_CGROUP_INET4_GETPEERNAME`
    GetPeer4 = 29,
    /// `BPF_CGROUP_INET6_GETPEERNAME`
    GetPeer6 = 30,
    /// `BPF_CGROUP_INET_SOCK_RELEASE`
    Release = 34,
}

/// `BPF_PROG_ATTACH`'s and `BPF_PROG_DETACH`'s part of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
    relative: u32,
    revision: u64,
}

/// `BPF_PROG_QUERY`'s.
#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    zero: u32,
    program_flags: u64,
    link_ids: u64,
    link_flags: u64,
    revision: u64,
}

/// `BPF_OBJ_GET`'s.
#[repr(C)]
#[derive(Default)]
struct Get {
    path: u64,
    zero: [u32; 2],
}

/// The part of the commands that handle many entries.
#[repr(C)]
#[derive(Default)]
struct Batch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// `BPF_PROG_GET_FD_BY_ID`'s.
#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// `BPF_OBJ_GET_INFO_BY_FD`'s.
#[repr(C)]
#[derive(Default)]
struct InfoByFd {
    fd: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`.
#[repr(C)]
struct Info {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    lengths: [u32; 2],
    code: [u64; 2],
    loaded: u64,
    user: u32,
    maps: u32,
    map_ids: u64,
    name: [u8; 16],
}

/// Lets this process have as much locked memory as it asks for, as far as it may: what is too little
/// shows when a map is made.
pub(super) fn lock_memory() {
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
}

/// Whether links of this kernel take programs by tcx at all.
pub(super) fn has_tcx() -> bool {
    // No link has the index 0: with tcx that's what the kernel says. Others don't know the side.
    let mut query = Query {
        kind: Side::Ingress as u32,
        ..Query::default()
    };
    !matches!(bpf(PROG_QUERY, &mut query), Err(error) if error.raw_os_error() == Some(libc::EINVAL))
}

/// Ids of the programs on one side of a link of the calling thread's namespace, in the order in which
/// they run.
pub(super) fn attached(link: u32, side: Side) -> io::Result<Vec<u32>> {
    programs(link, side as u32)
}

/// Attaches a program to one side of a link of the calling thread's namespace: instead of `replaced`,
/// in one step, or after all that are there.
pub(super) fn attach(
    link: u32,
    side: Side,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    put(link, side as u32, 0, program, replaced)
}

/// Detaches a program from one side of a link of the calling thread's namespace.
pub(super) fn detach(link: u32, side: Side, program: BorrowedFd<'_>) -> io::Result<()> {
    take(link, side as u32, program)
}

/// Ids of the programs on a hook of a control group itself, not of those above it.
pub(super) fn attached_to_group(group: BorrowedFd<'_>, hook: SocketHook) -> io::Result<Vec<u32>> {
    programs(number(group), hook as u32)
}

/// Attaches a program to a hook of a control group: instead of `replaced`, in one step, or after all
/// that are there. Those of groups below run, too.
pub(super) fn attach_to_group(
    group: BorrowedFd<'_>,
    hook: SocketHook,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    put(number(group), hook as u32, ALLOW_MULTI, program, replaced)
}

/// Detaches a program from a hook of a control group.
pub(super) fn detach_from_group(
    group: BorrowedFd<'_>,
    hook: SocketHook,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    take(number(group), hook as u32, program)
}

fn programs(target: u32, kind: u32) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; MOST_PROGRAMS];
    let mut query = Query {
        target,
        kind,
        ids: ids.as_mut_ptr() as u64,
        count: MOST_PROGRAMS as u32,
        ..Query::default()
    };
    match bpf(PROG_QUERY, &mut query) {
        Ok(_) => Ok(ids[..(query.count as usize).min(MOST_PROGRAMS)].to_vec()),
        // Nothing was ever attached there.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn put(
    target: u32,
    kind: u32,
    flags: u32,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attach = Attach {
        target,
        program: number(program),
        kind,
        flags,
        ..Attach::default()
    };
    if let Some(replaced) = replaced {
        attach.flags |= REPLACE;
        attach.replaced = number(replaced);
    }
    bpf(PROG_ATTACH, &mut attach).map(drop)
}

fn take(target: u32, kind: u32, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut detach = Attach {
        target,
        program: number(program),
        kind,
        ..Attach::default()
    };
    bpf(PROG_DETACH, &mut detach).map(drop)
}

/// Writes entries, over whatever is there; says how many before the first that failed, if one did.
///
/// # Safety
///
/// `keys` and `values` must be `count` of the map's.
pub(super) unsafe fn update_batch(
    map: BorrowedFd<'_>,
    keys: *const u8,
    values: *const u8,
    count: usize,
) -> (usize, io::Result<()>) {
    let mut batch = batch(map, keys, values, count);
    let result = bpf(MAP_UPDATE_BATCH, &mut batch).map(drop);
    (batch.count as usize, result)
}

/// Removes entries; says how many before the first that failed, if one did.
///
/// # Safety
///
/// `keys` must be `count` of the map's.
pub(super) unsafe fn delete_batch(
    map: BorrowedFd<'_>,
    keys: *const u8,
    count: usize,
) -> (usize, io::Result<()>) {
    let mut batch = batch(map, keys, std::ptr::null(), count);
    let result = bpf(MAP_DELETE_BATCH, &mut batch).map(drop);
    (batch.count as usize, result)
}

/// Reads up to `count` entries of a hash from where `at` says on, and says there where to go on; an
/// error `ENOENT` comes with the last.
///
/// # Safety
///
/// `keys` and `values` must be room for `count` of the map's.
pub(super) unsafe fn lookup_batch(
    map: BorrowedFd<'_>,
    at: &mut Option<u32>,
    keys: *mut u8,
    values: *mut u8,
    count: usize,
) -> (usize, io::Result<()>) {
    let (from, mut to) = (*at, 0_u32);
    let mut batch = Batch {
        from: from.as_ref().map_or(0, |from| std::ptr::from_ref(from) as u64),
        to: &raw mut to as u64,
        ..batch(map, keys, values, count)
    };
    let result = bpf(MAP_LOOKUP_BATCH, &mut batch).map(drop);
    *at = Some(to);
    (batch.count as usize, result)
}

fn batch(map: BorrowedFd<'_>, keys: *const u8, values: *const u8, count: usize) -> Batch {
    Batch {
        keys: keys as u64,
        values: values as u64,
        count: u32::try_from(count).expect("a batch is small"),
        map: number(map),
        ..Batch::default()
    }
}

/// What is pinned at a path.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut get = Get {
        path: path.as_ptr() as u64,
        ..Get::default()
    };
    let fd = bpf(OBJ_GET, &mut get)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A program of the machine's, by id.
pub(super) fn open(id: u32) -> io::Result<OwnedFd> {
    let fd = bpf(
        PROG_GET_FD_BY_ID,
        &mut ById {
            id,
            ..ById::default()
        },
    )?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A program's id and name.
pub(super) fn describe(program: BorrowedFd<'_>) -> io::Result<(u32, String)> {
    // SAFETY: all of it is numbers.
    let mut info: Info = unsafe { std::mem::zeroed() };
    let mut request = InfoByFd {
        fd: number(program),
        length: size_of::<Info>() as u32,
        info: &raw mut info as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut request)?;
    let name = info.name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok((info.id, String::from_utf8_lossy(name).into_owned()))
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: `attributes` is the command's part of `union bpf_attr`, from its beginning, and what it
    // points to outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(libc::c_int::try_from(result).expect("descriptors fit"))
}
