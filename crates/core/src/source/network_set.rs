//! The networks of a list, in which the smallest one around an address is found by bisection.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks, each with the identifier of its entry. Each is added once, with the bits behind its prefix cleared.
#[derive(Default)]
pub(super) struct NetworkSet {
    /// By first address, and of those with the same one the largest first.
    networks: Vec<Network>,
}

struct Network {
    network: IpNet,
    entry: u32,
    /// The position of the smallest network around this one.
    parent: Option<u32>,
}

impl NetworkSet {
    /// Adds a network, which is found once the set is finished.
    pub(super) fn push(&mut self, network: IpNet, entry: u32) {
        self.networks.push(Network { network, entry, parent: None });
    }

    /// Sorts the networks and connects each to the one around it.
    pub(super) fn finish(&mut self) {
        self.networks.shrink_to_fit();
        self.networks.sort_unstable_by_key(|network| network.network);
        let mut around: Vec<(u32, IpNet)> = Vec::new();
        for (position, network) in (0..).zip(&mut self.networks) {
            while around.pop_if(|(_, outer)| !outer.contains(&network.network)).is_some() {}
            network.parent = around.last().map(|(outer, _)| *outer);
            around.push((position, network.network));
        }
    }

    /// The entry of the smallest network around an address.
    pub(super) fn find(&self, ip: IpAddr) -> Option<u32> {
        // Two networks are nested or have nothing in common. So what is around the address is also around the last network
        // that begins before it.
        let after = self.networks.partition_point(|network| network.network.addr() <= ip);
        let last = self.networks.get(after.checked_sub(1)?);
        let mut around = std::iter::successors(last, |network| self.networks.get(network.parent? as usize));
        around.find(|network| network.network.contains(&ip)).map(|network| network.entry)
    }
}
