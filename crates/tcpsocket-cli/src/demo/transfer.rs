//! The first act: a greeting, a bulk under back-pressure, a suspension, and a close that flushes.

use tcpsocket::Bytes;

use crate::demo::Plan;
use crate::demo::log::{Side, What};
use crate::demo::stage::{CutShort, Stage};

/// The length of one `send` of the client: exactly the mark, so that the first answers `true` and the next does not.
const SLICE: usize = 64 * 1024;

pub(super) async fn play(stage: &mut Stage<'_>, plan: Plan) -> Result<(), CutShort> {
    use Side::{Client, Server};

    stage.scene("The server listens, the client opens");
    let port = stage.listen().await?;
    stage.open(port)?;
    stage
        .until("both ends to be open", |log| {
            log.any(Client, |it| matches!(it, What::Opened))
                && log.any(Server, |it| matches!(it, What::Accepted { .. }))
        })
        .await?;

    stage.scene("They greet each other");
    stage.send(Client, Bytes::from_static(b"hello, server\n"))?;
    all_of(Client, stage).await?;
    stage.send(Server, Bytes::from_static(b"hello, client\n"))?;
    all_of(Server, stage).await?;

    stage.scene("The client sends in bulk while the server does not read");
    bulk(stage, plan).await?;

    stage.scene("The client suspends: the server's data has to wait");
    stage.suspend(Client)?;
    stage.send(Server, noise(SLICE))?;
    // After this drain the bytes have left the server, so they are at the client's kernel.
    stage
        .until("the server's Drain", |log| !log.armed(Server))
        .await?;
    stage
        .until_or(plan.quiet, "the quiet to be over", |_| false)
        .await?;
    stage.resume(Client)?;
    all_of(Server, stage).await?;

    stage.scene("The client sends once more and closes: everything accepted still arrives");
    stage.send(Client, noise(3 * SLICE))?;
    stage.close(Client)?;
    let closed = |it: &What| matches!(it, What::Closed { .. });
    stage
        .until("Close on both sides", |log| {
            log.any(Client, closed) && log.any(Server, closed)
        })
        .await?;
    stage.nothing_more().await
}

/// Sends until `send` answers `false`, waits for `Drain`, and so on. The server begins to read when the client is stuck.
async fn bulk(stage: &mut Stage<'_>, plan: Plan) -> Result<(), CutShort> {
    use Side::{Client, Server};

    let payload = noise(plan.payload);
    let so_far = stage.log().sent(Client).bytes;
    let began = stage.now();
    stage.ignore(Server);
    for at in (0..payload.len()).step_by(SLICE) {
        let slice = payload.slice(at..payload.len().min(at + SLICE));
        if stage.send(Client, slice)? {
            continue;
        }
        if stage.is_ignored(Server)
            && !stage
                .until_or(plan.patience, "Drain", |log| !log.armed(Client))
                .await?
        {
            let log = stage.log_mut();
            let held = log
                .of(Client)
                .last()
                .and_then(|it| it.after)
                .map_or(0, |it| it.1);
            log.stuck = Some(log.sent(Client).bytes - so_far - held);
            stage.scene("The kernel is full: now the server reads");
            stage.heed(Server);
        }
        stage
            .until("the client's Drain", |log| !log.armed(Client))
            .await?;
    }
    stage.heed(Server);
    stage
        .until("the client's last Drain", |log| !log.armed(Client))
        .await?;
    all_of(Client, stage).await?;
    let took = stage.now() - began;
    let sent = stage.log().sent(Client).bytes - so_far;
    stage.log_mut().bulk = Some((sent, took));
    Ok(())
}

/// Waits until everything that `side` sent has arrived.
async fn all_of(side: Side, stage: &mut Stage<'_>) -> Result<(), CutShort> {
    let what = match side {
        Side::Client => "what the client sent to arrive",
        Side::Server => "what the server sent to arrive",
    };
    stage
        .until(what, |log| {
            log.received(side.peer()).bytes >= log.sent(side).bytes
        })
        .await
}

/// Bytes that do not repeat, the same in every run (xorshift64).
fn noise(len: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    Bytes::from(bytes)
}
