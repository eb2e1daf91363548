//! STARTTLS without the helper.

use tcpsocket::{
    Error, ErrorName, SocketOptions, SocketProvider, SocketProviderExt, StartTls, TcpSocketExt,
};

use crate::reply::reply;

/// The same for SMTP, with nothing but [`upgrade_to_secure`](tcpsocket::TcpSocket::upgrade_to_secure): to see what there is to do.
///
/// # Errors
///
/// As [`ask`](crate::ask), and `SecurityError` if the server refuses.
///
/// ```
/// use tcpsocket::{Error, SocketProvider};
///
/// async fn report(net: &dyn SocketProvider) -> Result<usize, Error> {
///     let lines = starttls_mail::ask_by_hand(net, "mail.example.org", 587).await?;
///     Ok(lines.len())
/// }
/// ```
pub async fn ask_by_hand(
    net: &dyn SocketProvider,
    host: &str,
    port: u16,
) -> Result<Vec<String>, Error> {
    let socket = net.connect(host, port, SocketOptions::new()).await?;
    reply(&*socket, StartTls::Smtp).await?; // the greeting
    socket.send_string("EHLO client.example\r\n")?;
    reply(&*socket, StartTls::Smtp).await?;
    socket.send_string("STARTTLS\r\n")?;
    let go_ahead = reply(&*socket, StartTls::Smtp).await?;
    if !go_ahead[0].starts_with("220") {
        return Err(Error::new(
            ErrorName::Security,
            "the server refuses STARTTLS",
        ));
    }
    // In the turn of the data event that ended the go-ahead, and with nothing left over from it.
    socket.upgrade_to_secure()?;
    socket.send_string("EHLO client.example\r\n")?;
    let answer = reply(&*socket, StartTls::Smtp).await?;
    socket.send_string("QUIT\r\n")?;
    Ok(answer)
}
