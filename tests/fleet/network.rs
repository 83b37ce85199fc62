//! A network of the nodes' own: each has an address and a loopback interface that no other machine has, so that the ports of
//! what runs there are its own. From the workstation nothing is reached but sshd.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::machines::FOLDERS;
use crate::server::Setup;
use crate::skip;

/// A bridge of this machine that the nodes hang on; it goes with the test.
pub struct Network {
    bridge: String,
    /// The first three numbers of every address.
    prefix: String,
}

impl Network {
    /// Makes a network; `None`, and said so, where that cannot be.
    pub fn new(test: &str) -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        if let Err(error) = Command::new("ip").arg("-V").output() {
            skip::skipped(test, &format!("ip (iproute2) does not run: {error}"));
            return None;
        }
        let number = std::process::id().wrapping_mul(8).wrapping_add(MADE.fetch_add(1, Ordering::Relaxed)) % 16_000;
        let network =
            Self { bridge: format!("kpki{number}"), prefix: format!("10.{}.{}", 150 + number / 250, number % 250) };
        let made = ip(&format!("link add {} type bridge", network.bridge))
            && ip(&format!("address add {}/24 dev {}", network.address(1), network.bridge))
            && ip(&format!("link set {} up", network.bridge));
        if !made {
            skip::skipped(test, "networks cannot be made here");
        }
        made.then_some(network)
    }

    pub fn address(&self, number: usize) -> String {
        format!("{}.{number}", self.prefix)
    }

    /// A node at [`Network::address`] `number`. `more` is done last, before sshd starts.
    pub fn node(&self, number: usize, more: &str) -> Setup {
        let (near, own, gateway) = (format!("{}n{number}", self.bridge), self.address(number), self.address(1));
        // What answers on those ports is lost on its way to the workstation, as behind a firewall.
        let inside = format!(
            "ip link set lo up; ip address add {own}/24 dev eth0; ip link set eth0 up; ip route add default via {gateway}; \
             ip rule add to {gateway} ipproto tcp sport 2379-2380 blackhole"
        );
        let prepare = format!(
            "touch $FOLDER/net; unshare --net=$FOLDER/net true\n\
             ip link add {near} type veth peer name eth0 netns $FOLDER/net; ip link set {near} master {bridge} up\n\
             nsenter --net=$FOLDER/net /bin/sh -ec '{inside}'\n{FOLDERS}\n{more}",
            bridge = self.bridge
        );
        Setup {
            prepare,
            config: "LogLevel DEBUG1".to_owned(),
            address: own,
            launcher: "nsenter --net=$FOLDER/net".to_owned(),
            ..Setup::default()
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        ip(&format!("link delete {}", self.bridge));
    }
}

fn ip(words: &str) -> bool {
    Command::new("ip").args(words.split(' ')).output().is_ok_and(|output| output.status.success())
}
