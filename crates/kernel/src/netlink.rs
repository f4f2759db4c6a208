//! A route netlink connection into one network namespace.
//!
//! The socket belongs to the namespace that its maker was in, so it's made on a thread inside that
//! namespace and then used from anywhere. Every write waits for the kernel's acknowledgement, and
//! every dump that was disturbed by a change is read again.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::AsyncSocket;
use tokio::sync::Mutex;

use crate::{Error, NetNs, Result};

/// Set in the answers of a dump that a change ran into.
const DUMP_INTERRUPTED: u16 = 0x10;
/// How often a disturbed dump is read again.
const DUMP_ATTEMPTS: usize = 8;

type Answers = BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>;

/// A route netlink connection into one network namespace; clones share the socket.
#[derive(Debug, Clone)]
pub struct Netlink {
    handle: rtnetlink::Handle,
    /// Where it leads to.
    netns: Arc<NetNs>,
    /// A socket can carry one dump at a time: the kernel refuses a second with EBUSY.
    dumping: Arc<Mutex<()>>,
}

impl Netlink {
    /// Connects to the calling thread's namespace.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, as all of this type: it drives the connection.
    pub fn current() -> Result<Netlink> {
        let failed = |action| move |source| Error::Io { action, source };
        let (mut connection, handle, _) =
            rtnetlink::new_connection_with_strict_check().map_err(failed("open a netlink socket"))?;
        // Success must be told apart from a connection that ended.
        connection.set_forward_ack(true);
        connection.set_forward_done(true);
        let socket = connection.socket_mut().socket_mut();
        socket
            .set_ext_ack(true)
            .map_err(failed("ask netlink for its reasons"))?;
        socket
            .set_cap_ack(true)
            .map_err(failed("ask netlink for short answers"))?;
        tokio::spawn(connection);
        Ok(Netlink {
            handle,
            netns: Arc::new(NetNs::current()?),
            dumping: Arc::default(),
        })
    }

    /// Connects to the given namespace.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn open(netns: &NetNs) -> Result<Netlink> {
        let runtime = tokio::runtime::Handle::current();
        netns.run(move || {
            let _runtime = runtime.enter();
            Netlink::current()
        })?
    }

    /// The namespace that it leads into.
    pub(crate) fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// The underlying handle, for requests that this crate has no word for.
    pub fn handle(&self) -> &rtnetlink::Handle {
        &self.handle
    }

    /// Sends one request and waits until the kernel has done it.
    pub(crate) async fn execute(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        request: impl Fn() -> String,
    ) -> Result<()> {
        let mut answers = self.send(message, NLM_F_ACK | flags, &request)?;
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::Error(answer) if answer.code.is_some() => {
                    return Err(Error::refused(request(), &answer));
                }
                NetlinkPayload::Error(_) => return Ok(()),
                _ => {}
            }
        }
        Err(Error::Disconnected { request: request() })
    }

    /// Reads one object.
    pub(crate) async fn get(
        &self,
        message: RouteNetlinkMessage,
        request: impl Fn() -> String,
    ) -> Result<RouteNetlinkMessage> {
        let mut answers = self.send(message, 0, &request)?;
        match answers.next().await.map(|answer| answer.payload) {
            Some(NetlinkPayload::InnerMessage(object)) => Ok(object),
            Some(NetlinkPayload::Error(answer)) => Err(Error::refused(request(), &answer)),
            _ => Err(Error::Disconnected { request: request() }),
        }
    }

    /// Reads all objects that match, again if a change ran into it.
    pub(crate) async fn dump(
        &self,
        message: RouteNetlinkMessage,
        request: impl Fn() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        let _alone = self.dumping.lock().await;
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(objects) = self.dump_once(message.clone(), &request).await? {
                return Ok(objects);
            }
        }
        Err(Error::Unsettled { request: request() })
    }

    async fn dump_once(
        &self,
        message: RouteNetlinkMessage,
        request: &impl Fn() -> String,
    ) -> Result<Option<Vec<RouteNetlinkMessage>>> {
        let mut answers = self.send(message, NLM_F_DUMP, request)?;
        let (mut objects, mut disturbed) = (Vec::new(), false);
        while let Some(answer) = answers.next().await {
            disturbed |= answer.header.flags & DUMP_INTERRUPTED != 0;
            match answer.payload {
                NetlinkPayload::InnerMessage(object) => objects.push(object),
                NetlinkPayload::Error(answer) if answer.code.is_some() => {
                    return Err(Error::refused(request(), &answer));
                }
                NetlinkPayload::Done(_) => return Ok((!disturbed).then_some(objects)),
                _ => {}
            }
        }
        Err(Error::Disconnected { request: request() })
    }

    fn send(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        request: &impl Fn() -> String,
    ) -> Result<Answers> {
        let answers = self.handle.clone().request(request_of(message, flags));
        answers
            .map(futures::StreamExt::boxed)
            .map_err(|_| Error::Disconnected { request: request() })
    }
}

/// A request as bytes, for sockets that are used directly.
pub(crate) fn serialize(message: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
    let mut message = request_of(message, flags);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn request_of(message: RouteNetlinkMessage, flags: u16) -> NetlinkMessage<RouteNetlinkMessage> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    NetlinkMessage::new(header, NetlinkPayload::from(message))
}
