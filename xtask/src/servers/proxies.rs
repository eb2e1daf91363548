//! haproxy and socat in between: they terminate TLS, and forward the plaintext to a server.

use std::process::Command;
use std::time::Duration;

use tcpsocket::SocketOptions;

use super::Fixture;
use super::net::Way;
use super::pki::{Authority, Identity};
use super::process::{Folder, Server, program};
use super::redis;
use super::run::Run;

const PIPELINE: usize = 10_000;
const LARGE: u64 = 32 << 20;

const LIMIT: Duration = Duration::from_secs(60);

pub(super) const FIXTURE: Fixture = Fixture {
    name: "proxies",
    needs: &[
        ("haproxy", "haproxy"),
        ("redis-server", "redis-server"),
        ("socat", "socat"),
    ],
    run,
};

fn run(run: &mut Run, folder: &Folder) -> Result<(), String> {
    let authority = Authority::new(folder.path(), "authority")?;
    let believes = authority.client()?;
    let identity = authority.server()?;
    let behind = redis::start(folder)?;
    let haproxy = haproxy(folder, &identity, behind.port())?;
    let socat = socat(folder, &identity, behind.port())?;
    for (name, proxy) in [("haproxy", &haproxy), ("socat", &socat)] {
        let port = proxy.port();
        for way in Way::ALL {
            let options = SocketOptions::new().use_secure_transport(true);
            run.check(
                &format!("{PIPELINE} commands to redis behind {name}, {way}"),
                || {
                    way.run(&believes, LIMIT, async |net| {
                        redis::pipeline(net, port, options.clone(), PIPELINE).await
                    })
                },
            );
            run.check(
                &format!("32 MiB to redis behind {name} and back, {way}"),
                || {
                    way.run(&believes, LIMIT, async |net| {
                        redis::large(net, port, options.clone(), LARGE).await
                    })
                },
            );
        }
    }
    Ok(())
}

fn haproxy(folder: &Folder, identity: &Identity, behind: u16) -> Result<Server, String> {
    let binary = program("haproxy")?;
    Server::start(folder, 1, |ports| {
        let text = format!(
            "global\n  maxconn 64\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  \
             timeout server 60s\nfrontend secure\n  bind 127.0.0.1:{} ssl crt {}\n  \
             default_backend clear\nbackend clear\n  server redis 127.0.0.1:{behind}\n",
            ports[0],
            identity.both.display(),
        );
        let config = folder.write("haproxy.cfg", &text)?;
        let mut haproxy = Command::new(&binary);
        haproxy.arg("-db").arg("-f").arg(config);
        Ok(haproxy)
    })
}

fn socat(folder: &Folder, identity: &Identity, behind: u16) -> Result<Server, String> {
    let binary = program("socat")?;
    Server::start(folder, 1, |ports| {
        let listen = format!(
            "OPENSSL-LISTEN:{},bind=127.0.0.1,reuseaddr,fork,verify=0,cert={},key={}",
            ports[0],
            identity.certificate.display(),
            identity.key.display(),
        );
        let mut socat = Command::new(&binary);
        socat.arg(listen).arg(format!("TCP:127.0.0.1:{behind}"));
        Ok(socat)
    })
}
