//! Connections to the node's own ports, as channels of an SSH login.
//!
//! That login is the one scripts ran through when it is free to be given away, which saves a handshake: after reading a
//! node, nothing but such connections is usually wanted of it. A login that holds a lock stays where it is.

use std::sync::Arc;
use std::time::Duration;

use super::access::unpoisoned;
use super::config::known_name;
use super::connect;
use super::jump::Jump;
use super::link::Patience;
use super::shell::Shell;
use super::trouble::Trouble;
use crate::node::wire::{NoWire, Wire};

/// Connects to `host` as the node sees it.
///
/// # Errors
/// Why there is no connection. Only the node's own word counts for a closed port: a login that broke says nothing about it.
pub(super) fn dial(shell: &Shell, host: &str, port: u16, limit: Duration) -> Result<Box<dyn Wire>, NoWire> {
    let mut is_old = true;
    loop {
        let tunnel = match is_old.then(|| standing(shell)).flatten() {
            Some(tunnel) => tunnel,
            None => {
                is_old = false;
                renewed(shell)?
            }
        };
        let patience = Patience::new(limit, Some(shell.access().interrupt()));
        let trouble = match tunnel.open(host, port, patience) {
            Ok(stream) => {
                // The pump left its own end that way, and the mode belongs to each end.
                stream.set_nonblocking(false).map_err(|error| crate::node::reading::words(&error))?;
                return Ok(Box::new(stream));
            }
            Err(trouble) => trouble,
        };
        match trouble {
            // The login died while nobody looked; a fresh one is worth a try.
            Trouble::Lost(_) if is_old => {
                forget(shell, &tunnel);
                is_old = false;
            }
            // One channel of a login is opened at a time: those to come do not queue behind one that hangs.
            Trouble::Late(_) => {
                forget(shell, &tunnel);
                return Err(trouble.to_string().into());
            }
            trouble => return Err(reason(&trouble, host, port)),
        }
    }
}

/// The login that is there: the tunnel of before, or the connection of scripts if that can be spared.
fn standing(shell: &Shell) -> Option<Arc<Jump>> {
    let mut place = unpoisoned(&shell.tunnel);
    if let Some(tunnel) = place.as_ref().filter(|tunnel| tunnel.is_alive()) {
        return Some(Arc::clone(tunnel));
    }
    // A script may be running: then there is nothing to be had, and nothing to wait for.
    let mut state = shell.idle_state()?;
    let is_spare = state.fences.is_empty() && state.link.as_ref().is_some_and(|link| link.held.is_empty());
    let link = is_spare.then(|| state.link.take()).flatten()?;
    let tunnel = Arc::new(Jump::start(link).ok()?);
    *place = Some(Arc::clone(&tunnel));
    Some(tunnel)
}

/// A new login, unless somebody made one in the meantime.
fn renewed(shell: &Shell) -> Result<Arc<Jump>, String> {
    let mut place = unpoisoned(&shell.tunnel);
    if let Some(tunnel) = place.as_ref().filter(|tunnel| tunnel.is_alive()) {
        return Ok(Arc::clone(tunnel));
    }
    let link = connect::connect(&shell.node, shell.options(), shell.access(), &[]).map_err(|error| {
        let text = format!("{error:#}");
        text.strip_prefix(&format!("{}: ", shell.node)).map_or(text.clone(), str::to_owned)
    })?;
    let tunnel = Arc::new(Jump::start(link).map_err(|error| crate::node::reading::words(&error))?);
    *place = Some(Arc::clone(&tunnel));
    Ok(tunnel)
}

/// Lets no further connection go through `tunnel`; those that do go on.
fn forget(shell: &Shell, tunnel: &Arc<Jump>) {
    let mut place = unpoisoned(&shell.tunnel);
    if place.as_ref().is_some_and(|known| Arc::ptr_eq(known, tunnel)) {
        *place = None;
    }
}

fn reason(trouble: &Trouble, host: &str, port: u16) -> NoWire {
    let place = known_name(host, port);
    match trouble {
        Trouble::Refused(error) if error.message().contains("prohibited") => NoWire::Unknown(format!(
            "the SSH server does not forward to {place}; look at AllowTcpForwarding and PermitOpen there"
        )),
        Trouble::Refused(error) if error.message().contains("connect failed") => {
            NoWire::Closed("nothing listens there, or the node cannot reach it".to_owned())
        }
        Trouble::Refused(error) => {
            NoWire::Unknown(format!("the SSH server opens no connection to {place}: {}", error.message()))
        }
        other => NoWire::Unknown(other.to_string()),
    }
}
