//! The kernel's tables of addresses and routes as files: `/proc/net/route`, `ipv6_route`, `fib_trie` and `if_inet6`, one behind
//! the other, told apart by the form of their lines.
//!
//! The address by which the default route leaves the machine comes first, as kubeadm chooses the address that an API server
//! advertises (Kubernetes k8s.io/apimachinery pkg/util/net/interface.go reads the same files).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A route of IPv4 in the main table.
struct Route {
    interface: String,
    destination: u32,
    mask: u32,
    metric: u32,
}

/// What the tables say.
#[derive(Default)]
pub(super) struct Tables {
    routes: Vec<Route>,
    /// Of the default routes of IPv6: metric and interface.
    defaults: Vec<(u32, String)>,
    /// Own addresses of IPv4.
    four: Vec<Ipv4Addr>,
    /// Own addresses of IPv6, each with its interface.
    six: Vec<(Ipv6Addr, String)>,
}

impl Tables {
    /// Reads the tables. A line of another form says nothing.
    pub(super) fn parse(text: &str) -> Self {
        let mut tables = Self::default();
        let mut last = None;
        for line in text.lines() {
            if let Some(address) = line.trim_start().strip_prefix("|-- ") {
                last = address.trim_end().parse().ok();
                continue;
            }
            // An address of the machine is followed by a line that says so; two parts of the table may list it.
            if line.trim() == "/32 host LOCAL"
                && let Some(address) = last.filter(|address| !tables.four.contains(address))
            {
                tables.four.push(address);
            }
            let columns: Vec<&str> = line.split_whitespace().collect();
            match columns.as_slice() {
                [interface, destination, _, _, _, _, metric, mask, ..] if destination.len() == 8 => {
                    tables.routes.extend(route(interface, destination, metric, mask));
                }
                [destination, "00", _, _, _, metric, _, _, _, interface]
                    if destination.len() == 32 && destination.bytes().all(|digit| digit == b'0') =>
                {
                    let metric = u32::from_str_radix(metric, 16).unwrap_or(u32::MAX);
                    tables.defaults.push((metric, (*interface).to_owned()));
                }
                [address, _, _, _, _, interface] if address.len() == 32 => {
                    let bits = u128::from_str_radix(address, 16).ok().map(Ipv6Addr::from_bits);
                    tables.six.extend(bits.map(|address| (address, (*interface).to_owned())));
                }
                _ => {}
            }
        }
        tables
    }

    /// All addresses of the machine, those by which it goes out first.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = self.way_out().map(IpAddr::V4).into_iter().collect();
        addresses.extend(self.way_out_of_six().map(IpAddr::V6));
        let all =
            self.four.iter().copied().map(IpAddr::V4).chain(self.six.iter().map(|(address, _)| IpAddr::V6(*address)));
        for address in all {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    fn way_out(&self) -> Option<Ipv4Addr> {
        let defaults = self.routes.iter().filter(|route| route.mask == 0);
        let interface = &defaults.min_by_key(|route| route.metric)?.interface;
        let is_in = |address: &Ipv4Addr, route: &Route| address.to_bits() & route.mask == route.destination;
        let near = self.routes.iter().filter(|route| route.interface == *interface && route.mask != 0);
        near.filter_map(|route| self.four.iter().find(|address| is_in(address, route))).copied().next()
    }

    fn way_out_of_six(&self) -> Option<Ipv6Addr> {
        // Where there is none the kernel has one to nowhere, through `lo`.
        let (_, interface) = self.defaults.iter().filter(|(_, interface)| interface != "lo").min()?;
        let own = self.six.iter().filter(|(address, on)| on == interface && !address.is_unicast_link_local());
        own.map(|(address, _)| *address).next()
    }
}

/// Numbers of this file are hexadecimal, and addresses in the machine's byte order: least significant byte first. On s390x it is
/// the other one; there no route leads to an address, and none comes first.
fn route(interface: &str, destination: &str, metric: &str, mask: &str) -> Option<Route> {
    let address = |digits: &str| u32::from_str_radix(digits, 16).ok().map(u32::swap_bytes);
    Some(Route {
        interface: interface.to_owned(),
        destination: address(destination)?,
        mask: address(mask)?,
        metric: metric.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth1\t00000000\tFE00000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
        eth0\t00000000\tFE0010AC\t0003\t0\t0\t200\t00000000\t0\t0\t0\n\
        eth1\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        eth0\t000010AC\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
    const TRIE: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.0.0.0\n        \
        /24 link UNICAST\nLocal:\n     |-- 10.0.0.2\n        /32 host LOCAL\n     |-- 10.0.0.255\n        /32 link BROADCAST\n     \
        |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 172.16.0.1\n        /32 host LOCAL\n     |-- 172.16.0.1\n        \
        /32 host LOCAL\n";
    const SIX: &str = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe80000000000000000000000000000a \
        00000400 00000001 00000000 00450003     eth1\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff \
        00000001 00000000 00200200       lo\n\
        fd000000000000000000000000000007 02 40 00 80     eth0\n\
        fe80000000000000000000000000000b 03 40 20 80     eth1\n\
        fd000000000000000000000000000002 03 40 00 80     eth1\n";

    fn addresses(text: &str) -> Vec<String> {
        Tables::parse(text).addresses().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_addresses_of_the_default_routes_come_first() {
        let all = addresses(&[ROUTE, TRIE, SIX].concat());
        assert_eq!(all[..2], ["10.0.0.2", "fd00::2"]);
        assert_eq!(all[2..], ["127.0.0.1", "172.16.0.1", "fd00::7", "fe80::b"]);
    }

    #[test]
    fn the_better_of_two_default_routes_counts() {
        let text = [&ROUTE.replace("\t200\t", "\t50\t"), TRIE].concat();
        assert_eq!(addresses(&text)[0], "172.16.0.1");
    }

    #[test]
    fn a_machine_without_a_default_route_has_addresses_all_the_same() {
        assert_eq!(addresses(TRIE), ["10.0.0.2", "127.0.0.1", "172.16.0.1"]);
        assert_eq!(addresses(""), Vec::<String>::new());
    }

    #[test]
    fn lines_of_another_form_say_nothing() {
        let odd = "eth0\tzzzzzzzz\t0\t0\t0\t0\tx\tzzzzzzzz\n|-- x\n/32 host LOCAL\nzz 00 0 0 0 0\n".repeat(3);
        assert_eq!(addresses(&odd), Vec::<String>::new());
    }
}
