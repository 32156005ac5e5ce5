//! The broker's process: the broker's functions and version, and the process's threads.

use std::ffi::{CString, c_int, c_void};
use std::io;
use std::os::fd::RawFd;
use std::ptr;
use std::thread::JoinHandle;
use std::time::Instant;

use once_cell::sync::OnceCell;

use super::code::Code;
use super::os::clock::Clock;
use super::os::copies;
use super::os::in_hand::InHand;
use super::os::interest::Whereabouts;
use super::os::names;
use super::os::read_ahead::ReadAhead;
use super::os::sockets::{self, Sockets};
use super::os::threads;
use super::os::waker::Waker;
use super::publish::publish;
use super::steered::{about, kick_by};
use super::sys;
use super::terminated::terminated;
use crate::broker::{
    Broker, BrokerCell, BrokerThread, Caller, Client, Connection, HangUp, ListenAddress, Look, LookUp, Unread,
};
use crate::log::Level;

/// A callback as the broker calls it: with the event's number, its data, and the data that was registered.
pub(super) type Callback = unsafe extern "C" fn(c_int, *mut c_void, *mut c_void) -> c_int;

/// The broker's process. The broker's functions may be called only on the broker's own thread, the one that created
/// this.
pub(super) struct Process {
    pub(super) functions: sys::mha_broker,
    thread: usize,
    clock: Clock,
    /// Prepared at its first use; `None` inside if it cannot work in this process.
    waker: OnceCell<Option<Waker>>,
    sockets: BrokerCell<Sockets>,
    read_ahead: BrokerCell<ReadAhead>,
    in_hand: BrokerCell<InHand>,
}

/// The broker's name for this plugin, which most of its functions want.
#[derive(Clone, Copy)]
pub(super) struct Identifier(pub(super) *mut sys::mosquitto_plugin_id_t);

impl Process {
    /// Finds the broker's functions in this process. The calling thread is taken for the broker's own.
    pub(super) fn find() -> Self {
        // SAFETY: fills a struct with addresses and has no conditions.
        Self::with(unsafe { sys::mha_broker_find() })
    }

    /// A broker with these functions. The calling thread is taken for the broker's own.
    pub(super) fn with(functions: sys::mha_broker) -> Self {
        Self {
            functions,
            thread: threads::own(),
            clock: Clock::start(),
            waker: OnceCell::new(),
            sockets: BrokerCell::default(),
            read_ahead: BrokerCell::default(),
            in_hand: BrokerCell::default(),
        }
    }

    /// Whether this process has all functions that every supported broker has.
    pub(super) fn is_a_broker(&self) -> bool {
        let functions = &self.functions;
        functions.callback_register.is_some()
            && functions.callback_unregister.is_some()
            && functions.log_printf.is_some()
            && functions.client_address.is_some()
            && functions.client_id.is_some()
            && functions.client_clean_session.is_some()
            && functions.client_username.is_some()
    }

    /// Whether this is called on the broker's own thread.
    pub(super) fn is_own_thread(&self) -> bool {
        threads::own() == self.thread
    }

    /// The proof of that, if this is called there.
    fn own_thread(&self) -> Option<BrokerThread> {
        self.is_own_thread().then(BrokerThread::vouched_for)
    }

    /// The time for a topic check: cheap to get, and up to 25 ms ahead (see [`Clock`]).
    pub(super) fn coarse_now(&self) -> Instant {
        self.clock.now()
    }

    /// Writes a line to the broker's log; does nothing on another thread. The broker may call back into the plugin
    /// before this returns.
    pub(super) fn write_log(&self, level: Level, line: &str) {
        let Some(log_printf) = self.functions.log_printf.filter(|_| self.is_own_thread()) else { return };
        let level = match level {
            Level::Error => sys::MOSQ_LOG_ERR,
            Level::Warning => sys::MOSQ_LOG_WARNING,
            Level::Notice => sys::MOSQ_LOG_NOTICE,
            Level::Info => sys::MOSQ_LOG_INFO,
        };
        let line: Vec<u8> = line.bytes().filter(|byte| *byte != 0).collect();
        let Ok(line) = CString::new(line) else { return };
        let name = c"mosquitto-http-auth";
        // SAFETY: three NUL-terminated strings for a format with two %s, on the broker's thread.
        unsafe { log_printf(level.cast_signed(), c"%s: %s".as_ptr(), name.as_ptr(), line.as_ptr()) };
    }

    /// Tells the broker the plugin's name and version, if it has a function for that (since 2.1).
    pub(super) fn introduce(&self, identifier: Identifier) {
        let Some(set_info) = self.functions.plugin_set_info else { return };
        // The crate's version has no NUL in it.
        let version = CString::new(env!("CARGO_PKG_VERSION")).unwrap_or_default();
        // SAFETY: the broker gave this identifier to init, and both strings are terminated; the broker copies them.
        unsafe { set_info(identifier.0, c"mosquitto-http-auth".as_ptr(), version.as_ptr()) };
    }

    /// Has the broker call `callback` with `user_data` for an event, until it is unregistered.
    ///
    /// # Safety
    /// `callback` must be sound to call with this `user_data` until it is unregistered.
    pub(super) unsafe fn register(
        &self,
        identifier: Identifier,
        event: sys::mosquitto_plugin_event::Type,
        callback: Callback,
        user_data: *mut c_void,
    ) -> Result<(), Code> {
        let register = self.functions.callback_register.ok_or(Code::NOT_SUPPORTED)?;
        let about = about(event);
        // SAFETY: the identifier is the broker's own; the caller vouches for callback and data.
        let code = unsafe { register(identifier.0, event.cast_signed(), Some(callback), about, user_data) };
        if code == Code::SUCCESS.0 { Ok(()) } else { Err(Code(code)) }
    }

    /// Has the broker forget a callback. A callback that was never registered is not an error.
    pub(super) fn unregister(
        &self,
        identifier: Identifier,
        event: sys::mosquitto_plugin_event::Type,
        callback: Callback,
    ) {
        let Some(unregister) = self.functions.callback_unregister else { return };
        // SAFETY: the identifier is the broker's own, and the other arguments are only compared.
        unsafe { unregister(identifier.0, event.cast_signed(), Some(callback), about(event)) };
    }

    /// A client logs in: now it has a socket, which tells how to find out whose the others are. Returns what there is to
    /// say in the log.
    pub(super) fn meet(&self, client: Client<'_>, now: Instant) -> Option<String> {
        // Sessions that were restored from disk, and who has hung up, have none.
        client.address?;
        let thread = self.own_thread()?;
        self.sockets.with(&thread, |sockets| sockets.meet(client.connection, now))
    }

    /// A turn of the broker's loop begins.
    pub(super) fn new_turn(&self) {
        if let Some(thread) = self.own_thread() {
            self.sockets.with(&thread, Sockets::new_turn);
        }
    }

    /// Whether a connection that has a socket at this moment is a client that waits under this id for its login. The
    /// number of one that has gone may be somebody else's by now: then its id is another one, or it is let in.
    fn is_parked(&self, thread: &BrokerThread, client: Client<'_>) -> bool {
        let pointer = ptr::with_exposed_provenance::<sys::mosquitto>(client.connection);
        // SAFETY: an event has shown this pointer as a client's, and while the broker has it in its list of sockets, what
        // it points to is a client: the broker takes it out before it frees it, and makes listeners only at its start.
        let id = unsafe { self.client_id(pointer) };
        id.is_some_and(|id| id.to_bytes() == client.id.as_bytes())
            && !self.is_session(thread, client.id, client.connection)
    }

    /// The connection of a client id's session, 0 if there is none. `None` where the broker does not tell. For the
    /// broker's own thread.
    fn session_of(&self, client_id: &str) -> Option<Connection> {
        let client = self.functions.client?;
        // SAFETY: a terminated string, on the broker's thread. The pointer that comes back is compared, not followed.
        terminated(client_id, |client_id| unsafe { client(client_id) }.addr())
    }
}

impl Broker for Process {
    fn spawn(&self, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        threads::spawn(body)
    }

    fn look_up(&self) -> LookUp {
        names::look_up
    }

    fn caller(&self) -> Caller {
        self.own_thread().map_or(Caller::HttpListener, Caller::Broker)
    }

    fn is_2_1(&self) -> bool {
        self.functions.complete_basic_auth.is_some()
    }

    fn is_only_copy(&self) -> bool {
        copies::is_only_one()
    }

    fn can_wake(&self, _: &BrokerThread) -> bool {
        self.waker.get_or_init(Waker::prepare).is_some()
    }

    fn wake(&self) {
        if let Some(Some(waker)) = self.waker.get() {
            waker.wake();
        }
    }

    fn is_session(&self, _: &BrokerThread, client_id: &str, connection: Connection) -> bool {
        self.session_of(client_id) == Some(connection)
    }

    fn has_session(&self, _: &BrokerThread, client_id: &str) -> Option<bool> {
        self.session_of(client_id).map(|connection| connection != 0)
    }

    fn complete_login(&self, _: &BrokerThread, client_id: &str, allow: bool) {
        let Some(complete) = self.functions.complete_basic_auth else { return };
        let Ok(client_id) = CString::new(client_id) else { return };
        let code = if allow { Code::SUCCESS } else { Code::AUTH };
        // SAFETY: a terminated string, on the broker's thread; ids that are not parked are ignored.
        unsafe { complete(client_id.as_ptr(), code.0) };
    }

    fn has_sent_more(
        &self,
        thread: &BrokerThread,
        connection: Connection,
        length: &dyn Fn(&[u8]) -> Option<usize>,
    ) -> bool {
        let now = Instant::now();
        if self.read_ahead.with(thread, |read_ahead| read_ahead.has_more(connection, length, now)) {
            return true;
        }
        let socket =
            self.sockets.with(thread, |sockets| sockets.interest().socket_of_newcomer(connection, now));
        socket.is_some_and(sockets::has_unread)
    }

    fn packet_in_hand(
        &self,
        thread: &BrokerThread,
        connection: Connection,
        ends: &dyn Fn(&[u8]) -> Vec<usize>,
    ) -> Option<Vec<u8>> {
        self.in_hand.with(thread, |in_hand| in_hand.body(connection, ends, Instant::now()))
    }

    fn hang_up(&self, thread: &BrokerThread, client: Client<'_>, insists: bool) -> HangUp {
        let whereabouts =
            self.sockets.with(thread, |sockets| sockets.interest().socket_of(client.connection, insists));
        match whereabouts {
            Whereabouts::At(socket) if self.is_parked(thread, client) => sockets::shut_down(socket),
            Whereabouts::At(_) | Whereabouts::Unknown => HangUp::Impossible,
            Whereabouts::From(time) => HangUp::From(time),
        }
    }

    fn kick(&self, _: &BrokerThread, client_id: &str, username: &str) {
        // By client id 2.0 would also kick a session that sleeps, and read freed memory when it expires; by username it
        // visits connected clients only. Those without one it finds by client id alone.
        let (kick, name) = if self.is_2_1() || username.is_empty() {
            (self.functions.kick_client_by_clientid, client_id)
        } else {
            (self.functions.kick_client_by_username, username)
        };
        // SAFETY: on the broker's thread, and not in a callback about this client.
        unsafe { kick_by(kick, name) };
    }

    fn kick_username(&self, _: &BrokerThread, username: &str) {
        // SAFETY: on the broker's thread, and not in a callback about one of these clients.
        unsafe { kick_by(self.functions.kick_client_by_username, username) };
    }

    fn kick_client_id(&self, _: &BrokerThread, client_id: &str) {
        // SAFETY: as in `kick_username`. The caller knows that the client is connected.
        unsafe { kick_by(self.functions.kick_client_by_clientid, client_id) };
    }

    fn connection_of(&self, _: &BrokerThread, client_id: &str) -> Option<Connection> {
        self.session_of(client_id).filter(|connection| *connection != 0)
    }

    fn publish(&self, _: &BrokerThread, client_id: Option<&str>, topic: &str, payload: &[u8]) {
        publish(&self.functions, client_id, topic, payload);
    }

    fn reload(&self, _: &BrokerThread) {
        // SAFETY: plain numbers. The broker handles this signal when its loop comes round.
        unsafe { libc::kill(libc::getpid(), libc::SIGHUP) };
    }

    fn listens(&self, place: ListenAddress<'_>) -> bool {
        sockets::listens(place)
    }

    fn listens_for_plugin(&self, socket: RawFd, listens: bool) {
        sockets::listens_for_plugin(socket, listens);
    }

    fn peek(&self, thread: &BrokerThread, look: Look<'_>, see: &mut dyn FnMut(Unread<'_>)) {
        self.sockets.with(thread, |sockets| sockets.look(look, see));
    }

    fn descriptor_of(&self, thread: &BrokerThread, connection: Connection) -> Option<i32> {
        self.sockets.with(thread, |sockets| sockets.interest().descriptor_of(connection))
    }

    fn connections(&self, thread: &BrokerThread) -> Option<Vec<Connection>> {
        self.sockets.with(thread, |sockets| sockets.connections().map(<[_]>::to_vec))
    }

    fn has_socket(&self, thread: &BrokerThread, connection: Connection) -> Option<bool> {
        let is_among = |connections: &[Connection]| connections.binary_search(&connection).is_ok();
        self.sockets.with(thread, |sockets| sockets.connections().map(is_among))
    }

    fn has_socket_since(
        &self,
        thread: &BrokerThread,
        connection: Connection,
        since: Instant,
    ) -> Option<bool> {
        let is_among = |connections: &[Connection]| connections.binary_search(&connection).is_ok();
        self.sockets.with(thread, |sockets| sockets.connections_since(since).map(is_among))
    }
}
