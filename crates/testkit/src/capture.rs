//! What passes through a namespace, frame by frame.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use kernel::NetNs;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// Takes note of every frame that any link of a namespace sends or receives, until it's dropped.
#[derive(Debug)]
pub struct Capture {
    frames: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Begins, in `netns`.
    pub fn start(netns: &NetNs) -> Capture {
        let socket = netns
            .run(open)
            .expect("entering the namespace to look into")
            .expect("opening a packet socket (tests of the network need root)");
        let (frames, stop) = (
            Arc::<Mutex<Vec<Vec<u8>>>>::default(),
            Arc::new(AtomicBool::new(false)),
        );
        let (taken, stopped) = (Arc::clone(&frames), Arc::clone(&stop));
        let thread = thread::spawn(move || follow(&socket, &taken, &stopped));
        Capture {
            frames,
            stop,
            thread: Some(thread),
        }
    }

    /// The frames so far, Ethernet header and all. A frame that crosses a bridge is seen at each of
    /// its ports.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn open() -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )?;
    // Often enough to notice that it's over.
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 20_000))?;
    setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20))?;
    Ok(socket)
}

fn follow(socket: &OwnedFd, frames: &Mutex<Vec<Vec<u8>>>, stop: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        if let Ok(length) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            let mut frames = frames.lock().unwrap_or_else(PoisonError::into_inner);
            frames.push(buffer[..length].to_vec());
        }
    }
}
