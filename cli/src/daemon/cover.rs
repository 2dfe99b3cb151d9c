//! What the switch takes of the uplink's traffic, and the host therefore does not get.
//!
//! Three programs in the kernel must agree: the guard withholds from the host's stack, the filter
//! of the rings passes on to the workers, and the steering of the group names the worker. All are
//! made from one [`Cover`], and replaced while frames flow whenever it changes: first the guard, so
//! that nobody answers for a port that the switch is about to take.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use switch::port::steer::{self, Program, Share, Taken};
use switch::port::{FloodgateSettings, PortError};

use crate::config::Cidr;
use crate::error::CliError;
use crate::host::guard::{Rule, Shared};
use crate::host::hold;
use crate::host::sysctl::PortSet;

use super::Daemon;
use super::floods::Flood;
use super::ports::{from_port, unusable};
use super::uplink::Uplink;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// The switch's share of the uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cover {
    /// What is withheld from the host.
    pub(super) rule: Rule,
    /// What the rings take.
    pub(super) taken: Vec<Taken>,
    /// Published ports and the workers that own them.
    pub(super) steered: Vec<(RangeInclusive<u16>, u16)>,
}

impl Daemon {
    /// The switch's share, with this external address.
    pub(super) fn cover(&self, address: Option<Cidr>) -> Cover {
        let pool: Vec<Ipv4Addr> = self.settings.nat_pool.addresses().collect();
        let (rule, first) = match address.map(|cidr| cidr.address) {
            None => (Rule::Nothing, None),
            Some(own) if self.settings.uplink_address.is_some() => {
                let all = [own].into_iter().chain(pool.iter().copied());
                (Rule::Addresses(all.collect()), Some((own, Share::All)))
            }
            Some(shared) => {
                let (rule, share) = self.shared(shared, &pool);
                (Rule::Ports(rule), Some((shared, share)))
            }
        };
        let alone = pool.into_iter().map(|address| (address, Share::All));
        let mut taken: Vec<Taken> = first
            .into_iter()
            .chain(alone)
            .map(|(network, share)| Taken {
                network,
                prefix: 32,
                share,
            })
            .collect();
        if !self.settings.no_nat_for.is_empty() {
            // Answers from there come to the members' own addresses.
            taken.push(Taken {
                network: self.gateway_cidr().network(),
                prefix: self.gateway.prefix,
                share: Share::All,
            });
        }
        let covered = self.covered.iter();
        let steered = covered.map(|range| (range.ports.clone(), range.owner));
        Cover {
            rule,
            taken,
            steered: steered.collect(),
        }
    }

    /// Of an address that the host has too: the NAT's ports and the published ones.
    fn shared(&self, addr: Ipv4Addr, pool: &[Ipv4Addr]) -> (Shared, Share) {
        let nat = PortSet::range(self.settings.nat_ports.low, self.settings.nat_ports.high);
        let of = |protocol: u8| {
            let covered = self.covered.iter();
            let own = covered.filter(|range| {
                range.protocol == protocol && range.address.is_none_or(|own| own == addr)
            });
            own.fold(nat.clone(), |set, range| {
                set.union(&PortSet::range(*range.ports.start(), *range.ports.end()))
            })
        };
        let (tcp, udp) = (of(TCP), of(UDP));
        let list = |set: &PortSet| {
            set.ranges()
                .iter()
                .map(|(low, high)| *low..=*high)
                .collect()
        };
        let share = Share::Ports {
            tcp: list(&tcp),
            udp: list(&udp),
            others: true,
        };
        let sctp = if hold::has_sctp() {
            of(SCTP)
        } else {
            PortSet::range(0, u16::MAX)
        };
        let alone = pool.to_vec();
        let shared = Shared {
            addr,
            tcp,
            udp,
            sctp,
            alone,
        };
        (shared, share)
    }

    /// The program that names the worker of an external port.
    pub(super) fn steering(&self, published: &[(RangeInclusive<u16>, u16)]) -> Program {
        let ports = self.settings.nat_ports.low..=self.settings.nat_ports.high;
        let workers = self.switch.workers();
        let per_slice = steer::ports_per_slice(&ports, workers);
        steer::steering(*ports.start(), per_slice, workers, published)
    }

    /// Replaces what of the guard and the programs differs from what is to be taken now.
    ///
    /// # Errors
    /// What the kernel refused; the rest is as it was, and the next call tries again.
    pub(super) fn cover_uplink(&mut self) -> Result<(), CliError> {
        let Some(uplink) = &self.uplink else {
            return Ok(());
        };
        if !self.settings.nat {
            return Ok(());
        }
        let cover = self.cover(uplink.address);
        let steering = self.steering(&cover.steered);
        let grouped = self.switch.workers() > 1;
        let floodgate = self.floodgate();
        let Some(uplink) = &mut self.uplink else {
            return Ok(());
        };
        if uplink.cover.rule != cover.rule
            && let Some(guard) = &mut uplink.guard
        {
            let updated = guard.update(cover.rule.clone());
            updated.map_err(|error| unusable(&uplink.device, &error))?;
            uplink.cover.rule = cover.rule;
        }
        if uplink.cover.taken != cover.taken {
            let before = std::mem::replace(&mut uplink.cover.taken, cover.taken);
            if let Err(error) = uplink.set_filters(floodgate) {
                uplink.cover.taken = before;
                return Err(from_port(&error));
            }
        }
        if uplink.cover.steered != cover.steered {
            if grouped && let Some(program) = uplink.programs.first() {
                let set = program.set_steering(&uplink.device, &steering);
                set.map_err(|error| from_port(&error))?;
            }
            uplink.cover.steered = cover.steered;
        }
        Ok(())
    }
}

impl Uplink {
    /// Gives each of the rings the filter for what is taken, and one that refuses floods if there
    /// is one. A kernel that does not take that is no reason to take anything else than is wanted.
    ///
    /// # Errors
    /// What the kernel refused; the filters of the rest are as they were.
    pub(super) fn set_filters(&mut self, floodgate: FloodgateSettings) -> Result<(), PortError> {
        let filter = steer::filter(&self.cover.taken);
        if self.flood.is_closed() {
            let mut programs = self.programs.iter();
            let refused = programs
                .try_for_each(|it| it.refuse_floods(&self.device, &filter, floodgate))
                .err();
            let Some(error) = refused else { return Ok(()) };
            self.unrefused = Some(error);
            self.flood = Flood::Unrefused;
        }
        let mut programs = self.programs.iter();
        programs.try_for_each(|it| it.set_filter(&self.device, Some(&filter)))
    }
}
