//! `tcpsocket demo`: a client and a server play the whole interface on one stage, over real TCP, then two apps ask their
//! guards for a low port, and a judge who sees only the log says whether everything went as specified.
//!
//! The parts know little of each other: an act ([`transfer`], [`permissions`]) tells the [`stage`] what to do, the stage
//! keeps the [`log`], [`judge`] reads the log, and [`render`] prints it.

mod judge;
mod log;
mod permissions;
mod render;
mod stage;
#[cfg(test)]
mod tests;
mod transfer;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use tcpsocket::SocketProvider;

use crate::demo::log::Log;
use crate::demo::permissions::{Admit, guarded};
use crate::demo::stage::Stage;
use crate::exit::Failure;

/// How the demo is played.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// How much the client sends in bulk.
    payload: usize,
    /// How long to wait for a `Drain` before the kernel counts as full.
    patience: Duration,
    /// How long to watch the suspended client: nothing may arrive.
    quiet: Duration,
    /// The time limit of an act.
    deadline: Duration,
    /// How apps are guarded.
    admit: Admit,
}

impl Plan {
    const USUAL: Plan = Plan {
        payload: 8 << 20,
        patience: Duration::from_millis(50),
        quiet: Duration::from_millis(100),
        deadline: Duration::from_secs(30),
        admit: guarded,
    };
}

/// Plays every act, prints the log and the verdicts, and fails if any check failed.
pub(crate) async fn run(net: Arc<dyn SocketProvider>, out: &mut dyn Write) -> Result<(), Failure> {
    let log = play(net, Plan::USUAL, out).await.map_err(cannot_print)?;
    let verdicts = judge::judge(&log);
    render::verdicts(out, &verdicts)
        .and_then(|()| render::summary(out, &log, &verdicts))
        .map_err(cannot_print)?;
    match verdicts.iter().filter(|it| it.problem.is_some()).count() {
        0 => Ok(()),
        failed => Err(Failure::Checks(failed)),
    }
}

async fn play(net: Arc<dyn SocketProvider>, plan: Plan, out: &mut dyn Write) -> io::Result<Log> {
    render::header(out)?;
    let mut stage = Stage::new(net, out);
    stage
        .play(plan.deadline, async |stage| {
            transfer::play(stage, plan).await
        })
        .await;
    stage
        .play(plan.deadline, async |stage| {
            permissions::play(stage, plan).await
        })
        .await;
    stage.leave()
}

fn cannot_print(error: io::Error) -> Failure {
    Failure::Local("cannot write the output", error)
}
