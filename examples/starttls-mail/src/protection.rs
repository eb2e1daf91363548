//! What a socket says of its protection.

use tcpsocket::{Security, TcpSocket};

/// What protects the bytes of this socket now, for people.
///
/// ```
/// use tcpsocket::{SocketOptions, SocketProvider, SocketProviderExt, StartTls, TcpSocketExt};
///
/// async fn watch(net: &dyn SocketProvider) -> Result<(), tcpsocket::Error> {
///     let socket = net.connect("pop.example.org", 110, SocketOptions::new()).await?;
///     assert_eq!(starttls_mail::protection(&*socket), "nothing");
///     socket.starttls(StartTls::Pop3).await?;
///     assert_ne!(starttls_mail::protection(&*socket), "nothing");
///     Ok(())
/// }
/// ```
pub fn protection(socket: &dyn TcpSocket) -> String {
    match socket.security() {
        Security::Plain => "nothing".to_owned(),
        Security::Handshaking => "TLS, as soon as it is there".to_owned(),
        Security::Secure(agreed) => {
            let certificates = agreed.peer_chain.len();
            format!("{} ({certificates} certificates)", agreed.version)
        }
        _ => "something new".to_owned(),
    }
}
