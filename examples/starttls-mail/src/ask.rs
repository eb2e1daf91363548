//! STARTTLS with the helper.

use tcpsocket::{
    Error, ErrorName, SocketOptions, SocketProvider, SocketProviderExt, StartTls, TcpSocketExt,
};

use crate::reply::reply;

/// Asks a mail server under TLS what it offers, and returns the lines of its answer.
///
/// Cancel-safe: dropping the future closes the connection.
///
/// # Errors
///
/// Those of [`connect`](SocketProviderExt::connect) and of [`starttls`](TcpSocketExt::starttls); those of the handshake, whose
/// names begin with `Security`; `NetworkError` for an answer that is none.
///
/// ```
/// use tcpsocket::{Error, SocketProvider, StartTls};
///
/// async fn report(net: &dyn SocketProvider) -> Result<(), Error> {
///     for line in starttls_mail::ask(net, "imap.example.org", 143, StartTls::Imap).await? {
///         println!("{line}");
///     }
///     Ok(())
/// }
/// ```
pub async fn ask(
    net: &dyn SocketProvider,
    host: &str,
    port: u16,
    protocol: StartTls,
) -> Result<Vec<String>, Error> {
    let (question, goodbye) = match protocol {
        StartTls::Smtp => ("EHLO client.example\r\n", "QUIT\r\n"),
        StartTls::Imap => ("A1 CAPABILITY\r\n", "A2 LOGOUT\r\n"),
        StartTls::Pop3 => ("CAPA\r\n", "QUIT\r\n"),
        _ => return Err(Error::new(ErrorName::NotSupported, "never heard of it")),
    };
    let socket = net.connect(host, port, SocketOptions::new()).await?;
    socket.starttls(protocol).await?;
    // From here on, what is sent leaves inside TLS or not at all.
    socket.send_string(question)?;
    let answer = reply(&*socket, protocol).await?;
    socket.send_string(goodbye)?;
    Ok(answer)
}
