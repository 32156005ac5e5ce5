//! A private certificate authority, and TLS in front of a mock API.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use tempfile::TempDir;

use super::servers::Server;
use super::{Broker, MockApi, PATIENCE, Setup, eventually, free_port, login, read_some};

/// A certificate with its key, both in PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Setup {
    /// Adds a listener for TLS, which has this certificate and these further lines.
    pub fn tls_listener(self, server: &Identity, lines: &[&str]) -> Self {
        let lines = [&["certfile server.pem", "keyfile server.key"], lines].concat();
        self.file("server.pem", &server.certificate).file("server.key", &server.key).listener(lines)
    }
}

/// The API gives no answer, and one line of the log has all of these words.
pub fn assert_no_answer(broker: &Broker, what: &str, words: &[&str]) {
    login("alice").unanswered(broker.port());
    broker.wait_for_log("gave no answer", PATIENCE);
    let log = broker.log();
    let told = |line: &str| words.iter().all(|word| line.contains(word));
    let lines: Vec<_> = log.lines().filter(|line| line.contains("gave no answer")).collect();
    assert!(lines.iter().any(|line| told(line)), "{what}: none says {words:?}: {lines:#?}");
}

/// A certificate authority, made with the program `openssl`.
pub struct Authority {
    folder: TempDir,
    /// Held while a certificate is added: the authority's list of certificates is a file.
    signing: Mutex<()>,
    pub certificate: String,
}

/// The period in which a certificate is valid, in openssl's notation.
pub struct Validity(&'static str, &'static str);

impl Validity {
    pub const NOW: Self = Self("20200101000000Z", "20991231235959Z");
    pub const OVER: Self = Self("20200101000000Z", "20210101000000Z");
    pub const NOT_YET: Self = Self("20980101000000Z", "20991231235959Z");
}

/// The configuration of `openssl ca`, for settings that have no option on the command line.
const CONFIGURATION: &str = "[ca]
default_ca = this
[this]
database = index.txt
new_certs_dir = .
certificate = leaf.pem
private_key = leaf.key
rand_serial = yes
default_md = sha256
unique_subject = no
policy = anything
[anything]
commonName = supplied
";

impl Authority {
    pub fn new(name: &str) -> Self {
        let folder = TempDir::with_prefix("mha-ca-").unwrap();
        fs::write(folder.path().join("ca.conf"), CONFIGURATION).unwrap();
        fs::write(folder.path().join("index.txt"), "").unwrap();
        let subject = format!("/CN={name}");
        let itself = ["req", "-x509", "-out", "leaf.pem", "-days", "3650", "-subj", &subject];
        openssl(folder.path(), &[&itself[..], &NEW_KEY].concat());
        let certificate = read_identity(folder.path()).certificate;
        Self { folder, signing: Mutex::new(()), certificate }
    }

    /// Issues a certificate for a server or client. `name` is in the notation of a subjectAltName, such as
    /// `IP:127.0.0.1`.
    pub fn issue(&self, name: &str, validity: &Validity) -> Identity {
        self.issue_to("leaf", name, validity)
    }

    /// Issues a certificate with this common name, which a broker takes for a username where it is told to.
    pub fn issue_to(&self, common_name: &str, name: &str, validity: &Validity) -> Identity {
        self.issue_with("CA:FALSE", common_name, name, validity)
    }

    /// Issues the certificate of an authority.
    pub fn issue_authority(&self, name: &str, validity: &Validity) -> Identity {
        self.issue_with("CA:TRUE", "leaf", name, validity)
    }

    fn issue_with(&self, constraints: &str, common_name: &str, name: &str, validity: &Validity) -> Identity {
        let (here, leaf) = (self.folder.path(), TempDir::with_prefix("mha-cert-").unwrap());
        let extensions = format!("basicConstraints={constraints}\nsubjectAltName={name}\n");
        fs::write(leaf.path().join("leaf.ext"), extensions).unwrap();
        let subject = format!("/CN={common_name}");
        let request = ["req", "-new", "-out", "leaf.csr", "-subj", &subject];
        openssl(leaf.path(), &[&request[..], &NEW_KEY].concat());
        let file = |name: &str| leaf.path().join(name).to_str().unwrap().to_owned();
        let (csr, pem, ext) = (file("leaf.csr"), file("leaf.pem"), file("leaf.ext"));
        let Validity(start, end) = validity;
        let sign = ["ca", "-batch", "-notext", "-config", "ca.conf", "-in", &csr, "-out", &pem];
        let details = ["-extfile", &ext, "-startdate", start, "-enddate", end];
        let signing = self.signing.lock().unwrap();
        openssl(here, &[&sign[..], &details].concat());
        drop(signing);
        read_identity(leaf.path())
    }
}

/// A self-signed certificate of a server, which is not that of an authority.
pub fn self_signed(name: &str) -> Identity {
    self_signed_with(name, "basicConstraints=critical,CA:FALSE")
}

/// A self-signed certificate as `openssl req -x509` makes it: of a server that is an authority, too.
pub fn self_signed_authority(name: &str) -> Identity {
    self_signed_with(name, "basicConstraints=critical,CA:TRUE")
}

fn self_signed_with(name: &str, constraints: &str) -> Identity {
    let folder = TempDir::with_prefix("mha-cert-").unwrap();
    let name = format!("subjectAltName={name}");
    let itself = ["req", "-x509", "-out", "leaf.pem", "-days", "3650", "-subj", "/CN=itself"];
    let extensions = ["-addext", &name, "-addext", constraints];
    openssl(folder.path(), &[&itself[..], &extensions, &NEW_KEY].concat());
    read_identity(folder.path())
}

/// What these commands of openssl, run in a folder of their own, leave there as leaf.pem and leaf.key, and as ca.pem, if
/// they do.
pub fn made_by(commands: &[&str]) -> (Identity, String) {
    let folder = TempDir::with_prefix("mha-cert-").unwrap();
    for command in commands {
        openssl(folder.path(), &command.split_whitespace().collect::<Vec<_>>());
    }
    (read_identity(folder.path()), fs::read_to_string(folder.path().join("ca.pem")).unwrap_or_default())
}

/// The output of a command of openssl that reads this.
pub fn converted(pem: &str, command: &str) -> Vec<u8> {
    let folder = TempDir::with_prefix("mha-cert-").unwrap();
    fs::write(folder.path().join("in.pem"), pem).unwrap();
    let arguments: Vec<_> = command.split(' ').chain(["-in", "in.pem", "-out", "out"]).collect();
    openssl(folder.path(), &arguments);
    fs::read(folder.path().join("out")).unwrap()
}

/// `openssl s_server`, for what no current library would show. Killed when it is dropped.
pub struct OpensslServer {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl OpensslServer {
    pub fn start(identity: &Identity, options: &str) -> Self {
        let folder = TempDir::with_prefix("mha-server-").unwrap();
        fs::write(folder.path().join("leaf.pem"), &identity.certificate).unwrap();
        fs::write(folder.path().join("leaf.key"), &identity.key).unwrap();
        let port = free_port();
        let process = Command::new("openssl")
            .args(["s_server", "-quiet", "-cert", "leaf.pem", "-key", "leaf.key"])
            .args(["-cipher", "DEFAULT:@SECLEVEL=0", "-accept", &format!("127.0.0.1:{port}")])
            .args(options.split_whitespace())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl");
        let server = Self { process, port, _folder: folder };
        assert!(eventually(PATIENCE, || TcpStream::connect(("127.0.0.1", port)).is_ok()), "openssl s_server");
        server
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for OpensslServer {
    fn drop(&mut self) {
        let _ = self.process.kill(); // fails if it has ended
        let _ = self.process.wait();
    }
}

const NEW_KEY: [&str; 7] =
    ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "leaf.key"];

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {}: {said}", arguments.join(" "));
}

fn read_identity(folder: &Path) -> Identity {
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    Identity { certificate: read("leaf.pem"), key: read("leaf.key") }
}

/// TLS in front of a mock API: takes requests on a port of its own and passes them on, until it is dropped.
pub struct TlsFront {
    server: Server,
    config: Arc<Mutex<Arc<ServerConfig>>>,
}

impl TlsFront {
    /// Starts TLS with this certificate. With an authority, clients must show one of its certificates.
    pub fn start(api: &MockApi, identity: &Identity, clients_by: Option<&Authority>) -> Self {
        let config = Arc::new(Mutex::new(config(identity, clients_by)));
        let (api, shown) = (api.address(), Arc::clone(&config));
        let server = Server::start(move |stream| {
            let config = Arc::clone(&shown.lock().unwrap());
            // A client that does not accept the certificate, or has none to show, ends the connection here.
            let _ = serve(&stream, config, api);
        });
        Self { server, config }
    }

    pub fn port(&self) -> u16 {
        self.server.address.port()
    }

    /// Changes the certificate for new connections.
    pub fn show(&self, identity: &Identity) {
        *self.config.lock().unwrap() = config(identity, None);
    }
}

fn config(identity: &Identity, clients_by: Option<&Authority>) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match clients_by {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(&authority.certificate));
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    Arc::new(builder.with_single_cert(certificates(&identity.certificate), key).unwrap())
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

fn serve(stream: &TcpStream, config: Arc<ServerConfig>, api: SocketAddr) -> io::Result<()> {
    let tls = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut client = StreamOwned::new(tls, stream.try_clone()?);
    while client.conn.is_handshaking() {
        client.conn.complete_io(&mut client.sock)?;
    }
    let mut api = TcpStream::connect(api)?;
    // Requests come one after the other, so there is no need to read from both sides at once.
    let passed_on = loop {
        let request = read_message(&mut client)?;
        if request.is_empty() {
            break Ok(());
        }
        api.write_all(&request)?;
        let answer = read_message(&mut api)?;
        if answer.is_empty() {
            break Ok(());
        }
        client.write_all(&answer)?;
        client.flush()?;
    };
    let _ = stream.shutdown(Shutdown::Both); // fails if the other side was first
    passed_on
}

/// A client's end of a TLS connection.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

impl Authority {
    /// What clients need who trust this authority.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        Arc::new(self.trusted().with_no_client_auth())
    }

    fn trusted(&self) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(&self.certificate));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots)
    }

    /// A connection to a TLS port of this machine, with the handshake done. What is written to it leaves at once.
    pub fn connect(&self, port: u16) -> TlsStream {
        connect_tls(self.client_config(), port).expect("a TLS connection")
    }
}

/// The same, with what was made before.
pub fn connect_tls(config: Arc<ClientConfig>, port: u16) -> io::Result<TlsStream> {
    let name = ServerName::try_from("127.0.0.1").map_err(io::Error::other)?;
    let tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_nodelay(true)?;
    let mut stream = StreamOwned::new(tls, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// A port that passes plain connections on to a TLS port, with a client certificate, so that a client without TLS can
/// have one. Its threads end with their connections.
pub struct TlsTunnel(Server);

impl TlsTunnel {
    pub fn start(to: u16, identity: &Identity, authority: &Authority) -> Self {
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let config = authority.trusted().with_client_auth_cert(certificates(&identity.certificate), key);
        let config = Arc::new(config.unwrap());
        Self(Server::start(move |stream| {
            // The end of one side ends the other.
            let _ = pass_on(&stream, to, Arc::clone(&config));
            let _ = stream.shutdown(Shutdown::Both);
        }))
    }

    pub fn port(&self) -> u16 {
        self.0.address.port()
    }
}

/// Passes bytes on in both directions until one side ends.
fn pass_on(mut plain: &TcpStream, to: u16, config: Arc<ClientConfig>) -> io::Result<()> {
    let mut server = connect_tls(config, to)?;
    for side in [plain, &server.sock] {
        side.set_read_timeout(Some(Duration::from_millis(2)))?;
    }
    let is_late = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
    let mut chunk = [0; 16 << 10];
    loop {
        match read_some(&mut plain, &mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => server.write_all(&chunk[..length])?,
            Err(error) if is_late(&error) => {}
            Err(error) => return Err(error),
        }
        match read_some(&mut server, &mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => plain.write_all(&chunk[..length])?,
            Err(error) if is_late(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads a head and the body that it announces, unchanged; `None` at the end of the connection.
fn read_message(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    let mut chunk = [0; 16 << 10];
    while !is_whole(&message) {
        match read_some(from, &mut chunk)? {
            0 => break,
            length => message.extend_from_slice(&chunk[..length]),
        }
    }
    Ok(message)
}

fn is_whole(message: &[u8]) -> bool {
    let text = String::from_utf8_lossy(message).to_ascii_lowercase();
    let Some(head) = text.find("\r\n\r\n") else { return false };
    let announced = text[..head].lines().find_map(|line| line.strip_prefix("content-length:"));
    message.len() >= head + 4 + announced.map_or(0, |length| length.trim().parse().unwrap_or(0))
}
