//! What this machine says about itself: name, addresses, user. Its clock is the one that others are compared with.
//!
//! Nothing is sent to find an address out; the kernel is only asked which one it would use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use super::resolve::Root;
use super::{FoundState, NodeFacts, Query, reading};

/// Facts of this machine; the host name is that of the root folder when one is written there.
pub(super) fn facts(root: &Root, is_machine: bool) -> anyhow::Result<NodeFacts> {
    let host_name = if is_machine { None } else { written_host_name(root) };
    Ok(NodeFacts {
        host_name: host_name.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned()),
        clock_skew: time::Duration::ZERO,
        addresses: addresses()?,
        uid: rustix::process::geteuid().as_raw(),
    })
}

/// `/etc/hostname` of a mounted root: its first line that is not a comment (hostname(5)).
fn written_host_name(root: &Root) -> Option<String> {
    let mut found = Vec::new();
    reading::answer(root, &Query::File(PathBuf::from("/etc/hostname")), &mut found);
    let Some(FoundState::File(content)) = found.first().map(|found| &found.state) else { return None };
    let text = String::from_utf8_lossy(content);
    text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned)
}

fn addresses() -> anyhow::Result<Vec<IpAddr>> {
    let preferred = [
        route(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        route(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    ];
    let all = if_addrs::get_if_addrs()?.into_iter().map(|interface| interface.ip());
    let mut addresses = Vec::new();
    for address in preferred.into_iter().flatten().chain(all) {
        if is_reachable(address) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// The address with which this machine would speak to `destination`, a documentation address (RFC 5737, RFC 3849)
/// that only the default route covers. Connecting a datagram socket sends nothing.
fn route(from: IpAddr, destination: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(SocketAddr::new(from, 0)).ok()?;
    socket.connect(SocketAddr::new(destination, 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

/// Whether other machines could reach this one by `address`.
pub(super) fn is_reachable(address: IpAddr) -> bool {
    !address.is_loopback()
        && !address.is_unspecified()
        && !address.is_multicast()
        && match address {
            IpAddr::V4(address) => !address.is_link_local(),
            IpAddr::V6(address) => !address.is_unicast_link_local(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_link_local_addresses_reach_nobody() {
        for address in ["127.0.0.1", "::1", "169.254.3.4", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1"] {
            assert!(!is_reachable(address.parse().expect("an address")), "{address}");
        }
        for address in ["10.77.0.11", "192.168.1.1", "fd00::1", "2001:db8::1"] {
            assert!(is_reachable(address.parse().expect("an address")), "{address}");
        }
    }

    #[test]
    fn the_address_of_the_default_route_comes_first_and_none_comes_twice() {
        let addresses = addresses().expect("the interfaces of this machine");
        let preferred = route(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into());
        if let Some(preferred) = preferred.filter(|address| is_reachable(*address)) {
            assert_eq!(addresses[0], preferred);
        }
        for (position, address) in addresses.iter().enumerate() {
            assert!(!addresses[..position].contains(address), "{address} twice in {addresses:?}");
        }
    }
}
