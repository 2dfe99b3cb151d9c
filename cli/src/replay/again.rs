//! What a recording brings along: surroundings, tables, published ports.

use std::sync::Arc;

use nat::{Nanos, Protocol, Publish, Publishes, Target};

use super::Surroundings;
use super::scene::{BEGIN, Scene};
use crate::args::replay::{neighbour, route};
use crate::config::words;
use crate::error::CliError;
use crate::record::{RecordedPublish, Recording};

fn damaged(what: &str, why: impl ToString) -> CliError {
    CliError::failed(format!("the recording's {what}"), why.to_string(), "")
}

/// What is given by flags, and else what was recorded.
pub(super) fn surroundings(
    recording: &Recording,
    given: &Surroundings,
) -> Result<Surroundings, CliError> {
    let mut around = given.clone();
    let Some(uplink) = &recording.uplink else {
        return Ok(around);
    };
    if around.routes.is_empty() {
        let routes = uplink.routes.iter().map(|text| route(text));
        let routes: Result<Vec<_>, _> = routes.collect();
        around.routes = routes.map_err(|why| damaged("routes", why))?;
    }
    // One of the switch's own is in the settings.
    if !uplink.own && around.address.is_none() {
        let address = words::cidr(&uplink.address).map_err(|why| damaged("uplink", why))?;
        let mac = words::station(&uplink.mac).map_err(|why| damaged("uplink", why))?;
        around.address = Some(address);
        around.mac = around.mac.or(Some(mac));
    }
    Ok(around)
}

/// Gives the switch what it knew when the recording began. `mtu` is that of all ports, where it
/// was given.
pub(super) fn restore(
    scene: &mut Scene,
    recording: &Recording,
    mtu: Option<u32>,
) -> Result<(), CliError> {
    let list = recording.publishes.iter().map(publish);
    let list: Option<Vec<Publish>> = list.collect();
    let list = list.ok_or_else(|| damaged("published ports", "an unknown protocol"))?;
    let publishes = Publishes::new(list).map_err(|error| damaged("published ports", error))?;
    let publishes = Arc::new(publishes);
    let indexes: Vec<_> = (scene.wires.iter())
        .map(|wire| (wire.name.clone(), wire.index))
        .collect();
    let index = |name: &str| indexes.iter().find(|(known, _)| known == name);
    scene.switch.update(|view| {
        view.publishes = publishes;
        view.host.addresses.clone_from(&recording.host);
        view.host.addresses.sort();
        for port in &recording.ports {
            if let Some((_, index)) = index(&port.name)
                && let Some(Some(view)) = view.ports.get_mut(index.index())
            {
                view.mtu = mtu.unwrap_or(port.mtu);
            }
        }
    });
    for station in &recording.stations {
        let mac = words::station(&station.mac).map_err(|why| damaged("stations", why))?;
        let heard = BEGIN.saturating_sub(Nanos::from_secs(station.age.into()));
        if let Some((_, index)) = index(&station.port) {
            scene.switch.fdb().learn(0, mac, *index, heard);
        }
    }
    for text in &recording.neighbours {
        let (address, mac) = neighbour(text).map_err(|why| damaged("neighbours", why))?;
        scene.introduce(address, mac);
    }
    for worker in &mut scene.workers {
        worker.tick(BEGIN);
    }
    Ok(())
}

fn publish(recorded: &RecordedPublish) -> Option<Publish> {
    let protocol = Protocol::ALL
        .into_iter()
        .find(|protocol| protocol.number() == recorded.protocol)?;
    let targets = recorded.targets.iter();
    Some(Publish {
        protocol,
        external: recorded.external,
        ports: recorded.ports.0..=recorded.ports.1,
        targets: targets
            .map(|(address, port)| Target {
                address: *address,
                port: *port,
            })
            .collect(),
        by_source: recorded.by_source,
        owner: recorded.owner,
    })
}
