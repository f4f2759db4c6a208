//! Services at the socket: an address is translated once, when a socket connects or sends to it, and
//! back when it asks.
//!
//! ```text
//!   connect, sendmsg      Service ─► backend, and (socket, backend) ─► Service is kept
//!                         the node's own: port of its loopback ─► pod, the same
//!   getpeername, recvmsg  backend ─► Service, if that socket was sent there
//!   release               what was kept is forgotten
//! ```
//!
//! An IPv6 socket's addresses may be IPv4's in disguise (`::ffff:a.b.c.d`); those are IPv4's here, too.
//! What isn't translated here goes on as it is, and is translated behind the link it leaves by.

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval};
use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr};
use aya_ebpf::programs::{SockAddrContext, SockContext};
use bpf_abi::endpoint;
use bpf_abi::service::{
    Backend, Frontend, FrontendKey, Namespace, Peer, PeerKey, TalkKey, frontend, namespace, strategy, used,
};

use crate::loopback::loopback;
use crate::maps::{Ipv4, Ipv6};
use crate::named::{self, Called};
use crate::packet::{TCP, UDP};
use crate::pick::{Picked, pick};
use crate::service::{self, Services};

/// Whether a program may say what an error is (Linux 6.1); the agent writes it when it loads this.
#[unsafe(no_mangle)]
static SAYS_ERRORS: u32 = 1;

const REFUSE: i32 = 0;
const PASS: i32 = 1;
const ECONNREFUSED: i32 = 111;
/// `::ffff:0:0/96`, its third word.
const MAPPED: u32 = 0x0000_ffff_u32.to_be();
/// `AF_INET`, `AF_INET6`
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// A socket's call, as the kernel shows it: word by word, as the verifier wants it read and written.
struct Call(*mut bpf_sock_addr);

#[cgroup_sock_addr(connect4)]
pub fn rip_connect4(ctx: SockAddrContext) -> i32 {
    let call = Call(ctx.sock_addr);
    connect::<Ipv4>(&call, call.v4(), |to| call.set_v4(to))
}

#[cgroup_sock_addr(connect6)]
pub fn rip_connect6(ctx: SockAddrContext) -> i32 {
    let call = Call(ctx.sock_addr);
    match mapped(call.v6()) {
        Some(address) => connect::<Ipv4>(&call, address, |to| call.set_last(to)),
        None => connect::<Ipv6>(&call, call.v6(), |to| call.set_v6(to)),
    }
}

#[cgroup_sock_addr(sendmsg4)]
pub fn rip_sendmsg4(ctx: SockAddrContext) -> i32 {
    let call = Call(ctx.sock_addr);
    sendmsg::<Ipv4>(&call, call.v4(), |to| call.set_v4(to))
}

#[cgroup_sock_addr(sendmsg6)]
pub fn rip_sendmsg6(ctx: SockAddrContext) -> i32 {
    let call = Call(ctx.sock_addr);
    match mapped(call.v6()) {
        Some(address) => sendmsg::<Ipv4>(&call, address, |to| call.set_last(to)),
        None => sendmsg::<Ipv6>(&call, call.v6(), |to| call.set_v6(to)),
    }
}

#[cgroup_sock_addr(recvmsg4)]
pub fn rip_recvmsg4(ctx: SockAddrContext) -> i32 {
    name4(&Call(ctx.sock_addr))
}

#[cgroup_sock_addr(recvmsg6)]
pub fn rip_recvmsg6(ctx: SockAddrContext) -> i32 {
    name6(&Call(ctx.sock_addr))
}

#[cgroup_sock_addr(getpeername4)]
pub fn rip_getpeer4(ctx: SockAddrContext) -> i32 {
    name4(&Call(ctx.sock_addr))
}

#[cgroup_sock_addr(getpeername6)]
pub fn rip_getpeer6(ctx: SockAddrContext) -> i32 {
    name6(&Call(ctx.sock_addr))
}

/// Forgets what was kept of a socket. A socket that wasn't connected has told several backends apart;
/// those go when their table is full.
#[cgroup_sock(sock_release)]
pub fn rip_release(ctx: SockContext) -> i32 {
    let sock = ctx.sock;
    // SAFETY: the context is valid as long as the program runs; so below. Each field by itself, as the
    // verifier wants it.
    let cookie = unsafe { bpf_get_socket_cookie(sock.cast()) };
    match named::forget(cookie) {
        Some(false) => return PASS,
        Some(true) => {
            service::count_down(cookie);
            return PASS;
        }
        None if named::is_used(used::COUNTED) => service::count_down(cookie),
        None => {}
    }
    if named::is_used(used::PEERS) {
        forget_peer(sock, cookie);
    }
    PASS
}

/// Forgets the Service of a socket that is connected.
#[inline(always)]
fn forget_peer(sock: *mut bpf_sock, cookie: u64) {
    let port = unsafe { (&raw const (*sock).dst_port).read_volatile() };
    if port == 0 {
        return;
    }
    match unsafe { (&raw const (*sock).family).read_volatile() } {
        AF_INET => {
            let address = unsafe { (&raw const (*sock).dst_ip4).read_volatile() };
            Ipv4::forget_peer(&peer_key(cookie, address, port));
        }
        AF_INET6 => {
            let address = dst_ip6(sock);
            match mapped(address) {
                Some(address) => Ipv4::forget_peer(&peer_key(cookie, address, port)),
                None => Ipv6::forget_peer(&peer_key(cookie, address, port)),
            }
        }
        _ => {}
    }
}

#[inline(always)]
fn dst_ip6(sock: *mut bpf_sock) -> [u32; 4] {
    // SAFETY: see `rip_release`.
    let word = |at: usize| unsafe { (&raw const (*sock).dst_ip6[at]).read_volatile() };
    [word(0), word(1), word(2), word(3)]
}

impl Call {
    // SAFETY of all: the context is valid as long as the program runs.
    #[inline(always)]
    fn v4(&self) -> u32 {
        unsafe { (&raw const (*self.0).user_ip4).read_volatile() }
    }

    #[inline(always)]
    fn set_v4(&self, address: u32) {
        unsafe { (&raw mut (*self.0).user_ip4).write_volatile(address) }
    }

    #[inline(always)]
    fn v6(&self) -> [u32; 4] {
        let word = |at: usize| unsafe { (&raw const (*self.0).user_ip6[at]).read_volatile() };
        [word(0), word(1), word(2), word(3)]
    }

    #[inline(always)]
    fn set_v6(&self, address: [u32; 4]) {
        let write = |at: usize| unsafe { (&raw mut (*self.0).user_ip6[at]).write_volatile(address[at]) };
        write(0);
        write(1);
        write(2);
        write(3);
    }

    /// Another IPv4 address in the same disguise.
    #[inline(always)]
    fn set_last(&self, address: u32) {
        unsafe { (&raw mut (*self.0).user_ip6[3]).write_volatile(address) }
    }

    #[inline(always)]
    fn port(&self) -> u16 {
        unsafe { (&raw const (*self.0).user_port).read_volatile() as u16 }
    }

    #[inline(always)]
    fn set_port(&self, port: u16) {
        unsafe { (&raw mut (*self.0).user_port).write_volatile(port.into()) }
    }

    /// TCP or UDP; whatever else a socket speaks is translated behind its link.
    #[inline(always)]
    fn protocol(&self) -> Option<u8> {
        let protocol = unsafe { (&raw const (*self.0).protocol).read_volatile() } as u8;
        (protocol == TCP || protocol == UDP).then_some(protocol)
    }

    #[inline(always)]
    fn socket(&self) -> u64 {
        unsafe { bpf_get_socket_cookie(self.0.cast()) }
    }

    #[inline(always)]
    fn namespace(&self) -> u64 {
        unsafe { bpf_get_netns_cookie(self.0.cast()) }
    }
}

/// The IPv4 address in an IPv6 address's disguise.
#[inline(always)]
fn mapped(address: [u32; 4]) -> Option<u32> {
    (address[0] == 0 && address[1] == 0 && address[2] == MAPPED).then_some(address[3])
}

/// What becomes of a call.
enum Fate<F: Services> {
    /// It isn't translated here.
    Pass,
    /// The call fails: the connection is refused.
    Refuse,
    /// The call fails: it's not permitted.
    Forbid,
    /// The backend takes the Service's place.
    To(Picked<F>),
}

#[inline(always)]
fn connect<F: Services>(call: &Call, address: F::Address, set: impl Fn(F::Address)) -> i32 {
    let Some((key, found)) = frontend::<F>(call, address) else {
        return at_loopback::<F>(call, address, set);
    };
    match decide::<F>(call, found, |_| None) {
        Fate::To((id, backend)) => {
            let socket = call.socket();
            keep_connected::<F>(socket, FrontendKey { address, ..key }, id, backend);
            if found.strategy == strategy::LEAST_CONNECTIONS {
                service::count_up(socket, id);
                named::mark_counted(socket);
            }
            set(backend.address);
            call.set_port(backend.port);
            PASS
        }
        fate => end(&fate),
    }
}

#[inline(always)]
fn sendmsg<F: Services>(call: &Call, address: F::Address, set: impl Fn(F::Address)) -> i32 {
    let Some((key, found)) = frontend::<F>(call, address) else {
        return at_loopback::<F>(call, address, set);
    };
    let socket = call.socket();
    let talk = TalkKey {
        socket: words(socket),
        frontend: FrontendKey { address, ..key },
    };
    let stays = |_: &Frontend| {
        let id = F::talk(&talk)?;
        Some((id, F::backend(id)?))
    };
    match decide::<F>(call, found, stays) {
        Fate::To((id, backend)) => {
            if F::talk(&talk) != Some(id) {
                F::set_talk(&talk, id);
            }
            keep::<F>(socket, talk.frontend, id, backend);
            set(backend.address);
            call.set_port(backend.port);
            PASS
        }
        fate => end(&fate),
    }
}

/// A socket of the node's own that connects or sends to a port of its loopback which leads to a pod. None of the
/// Services' backends has the id zero.
#[inline(always)]
fn at_loopback<F: Services>(call: &Call, address: F::Address, set: impl Fn(F::Address)) -> i32 {
    if !F::is_loopback(address) || !named::is_used(used::LOOPBACKS) {
        return PASS;
    }
    let Some(protocol) = call.protocol() else {
        return PASS;
    };
    let (port, zero) = (call.port(), 0);
    let called = FrontendKey {
        address: F::next_hop(address),
        port,
        protocol,
        zero,
    };
    let Some(found) = loopback(&called) else {
        return PASS;
    };
    if found.namespace != words(call.namespace()) {
        return PASS;
    }
    let backend = Backend {
        address: F::of_words(found.address),
        port: found.port,
        flags: 0,
    };
    let called = FrontendKey {
        address,
        port,
        protocol,
        zero,
    };
    keep_connected::<F>(call.socket(), called, 0, &backend);
    set(backend.address);
    call.set_port(backend.port);
    PASS
}

#[inline(always)]
fn end<F: Services>(fate: &Fate<F>) -> i32 {
    match fate {
        Fate::Refuse => {
            // SAFETY: the loader has written it, and nobody writes it any more.
            if unsafe { (&raw const SAYS_ERRORS).read_volatile() } != 0 {
                unsafe { bpf_set_retval(-ECONNREFUSED) };
            }
            REFUSE
        }
        Fate::Forbid => REFUSE,
        Fate::Pass | Fate::To(_) => PASS,
    }
}

/// The frontend that a socket calls, with its key; a node port's is that of all the node's addresses.
#[inline(always)]
fn frontend<F: Services>(
    call: &Call,
    address: F::Address,
) -> Option<(FrontendKey<F::Address>, &'static Frontend)> {
    if address == F::NONE {
        return None;
    }
    let mut key = FrontendKey {
        address,
        port: call.port(),
        protocol: call.protocol()?,
        zero: 0,
    };
    if let Some(found) = F::frontend(&key) {
        return Some((key, found));
    }
    if F::endpoint(address).is_some_and(|found| found.flags & endpoint::OWN != 0) {
        key.address = F::NONE;
        return F::frontend(&key).map(|found| (key, found));
    }
    None
}

/// Whose socket it is, as far as a Service wants to know.
struct Whose {
    /// The network namespace's cookie; zero if nobody wants to know.
    cookie: u64,
    known: Option<&'static Namespace>,
    /// Its sockets see Services' addresses.
    left_out: bool,
}

impl Whose {
    #[inline(always)]
    fn of(call: &Call, found: &Frontend) -> Whose {
        let wanted = found.flags & frontend::RANGES != 0
            || found.affinity != 0
            || found.strategy == strategy::SOURCE_HASH
            || named::is_used(used::LEFT_OUT);
        let cookie = if wanted { call.namespace() } else { 0 };
        let known = if wanted { service::namespace(cookie) } else { None };
        Whose {
            cookie,
            known,
            left_out: known.is_some_and(|known| known.flags & namespace::UNTRANSLATED != 0),
        }
    }

    /// Its address, if that is known.
    #[inline(always)]
    fn address<F: Services>(&self) -> F::Address {
        self.known.map_or(F::NONE, F::address_of)
    }

    /// The client's name: the address, or the namespace where that isn't known.
    #[inline(always)]
    fn client<F: Services>(&self) -> [u32; 4] {
        let own = self.address::<F>();
        if own == F::NONE {
            let [low, high] = words(self.cookie);
            return [low, high, 0, 0];
        }
        F::client(own)
    }
}

#[inline(always)]
fn decide<F: Services>(
    call: &Call,
    found: &'static Frontend,
    stays: impl Fn(&Frontend) -> Option<Picked<F>>,
) -> Fate<F> {
    let whose = Whose::of(call, found);
    if whose.left_out {
        return Fate::Pass;
    }
    if found.flags & frontend::RANGES != 0 && !F::in_ranges(found.outside.set, whose.address::<F>()) {
        return Fate::Forbid;
    }
    if let Some(picked) = stays(found) {
        return Fate::To(picked);
    }
    if found.inside.slots == 0 {
        // What is dropped behind the link is asked for again, and may find an endpoint then.
        return match found.flags & frontend::INSIDE_SILENT {
            0 => Fate::Refuse,
            _ => Fate::Pass,
        };
    }
    match pick::<F>(found, &found.inside, whose.client::<F>()) {
        Some(picked) => Fate::To(picked),
        None => Fate::Refuse,
    }
}

/// Keeps whom a socket believes to talk to: TCP's in its slot, if that isn't another's.
#[inline(always)]
fn keep_connected<F: Services>(
    socket: u64,
    called: FrontendKey<F::Address>,
    id: u32,
    backend: &Backend<F::Address>,
) {
    let slots = Called {
        address: F::next_hop(called.address),
        port: called.port,
        backend: id,
    };
    let has_slot =
        called.protocol == TCP && named::keep::<F>(socket, &slots, (backend.address, backend.port));
    if !has_slot {
        keep::<F>(socket, called, id, backend);
    }
}

/// Keeps whom a socket believes to talk to.
#[inline(always)]
fn keep<F: Services>(socket: u64, called: FrontendKey<F::Address>, id: u32, backend: &Backend<F::Address>) {
    let key = peer_key(socket, backend.address, backend.port);
    let peer = Peer {
        address: called.address,
        port: called.port,
        protocol: called.protocol,
        zero: 0,
        backend: id,
    };
    if let Some(kept) = F::peer(&key)
        && kept.address == peer.address
        && kept.port == peer.port
        && kept.backend == id
    {
        return;
    }
    F::set_peer(&key, &peer);
}

/// Says the Service's name in place of the backend's, IPv4.
#[inline(always)]
fn name4(call: &Call) -> i32 {
    if let Some(([address, ..], port)) = name::<Ipv4>(call, call.v4()) {
        call.set_v4(address);
        call.set_port(port);
    }
    PASS
}

/// The same, IPv6.
#[inline(always)]
fn name6(call: &Call) -> i32 {
    let address = call.v6();
    if let Some(address) = mapped(address) {
        if let Some(([address, ..], port)) = name::<Ipv4>(call, address) {
            call.set_last(address);
            call.set_port(port);
        }
    } else if let Some((address, port)) = name::<Ipv6>(call, address) {
        call.set_v6(address);
        call.set_port(port);
    }
    PASS
}

/// The Service's name, if the socket got this peer in its place.
#[inline(always)]
fn name<F: Services>(call: &Call, peer: F::Address) -> Option<([u32; 4], u16)> {
    let (socket, port) = (call.socket(), call.port());
    if call.protocol() == Some(TCP)
        && let Some(called) = named::called::<F>(socket, peer, port)
    {
        return Some((called.address, called.port));
    }
    let kept = F::peer(&peer_key(socket, peer, port))?;
    Some((F::next_hop(kept.address), kept.port))
}

#[inline(always)]
fn peer_key<A>(socket: u64, address: A, port: u16) -> PeerKey<A> {
    PeerKey {
        socket: words(socket),
        address,
        port,
        zero: 0,
    }
}

#[inline(always)]
fn words(cookie: u64) -> [u32; 2] {
    [cookie as u32, (cookie >> 32) as u32]
}
