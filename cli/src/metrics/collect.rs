//! A reading as metrics: every name, with what it means.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use switch::latency::Counts;

use super::{Forwarded, NatReading, Reading};
use crate::control::api::{self, OperState};

/// Where metrics are written, one family after the other.
struct Sheet<'e>(DescriptorEncoder<'e>);

impl Sheet<'_> {
    /// A counter's samples, each with its labels; `name` is without `_total`.
    fn counter<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        (name, help): (&str, &str),
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let kind = MetricType::Counter;
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            let mut sample = family.encode_family(&labels)?;
            sample.encode_counter::<NoLabelSet, V, f64>(&value, None)?;
        }
        Ok(())
    }

    fn gauge<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        (name, help): (&str, &str),
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let kind = MetricType::Gauge;
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// A gauge of the whole switch, if it has one.
    fn single(
        &mut self,
        (name, help): (&str, &str),
        value: Option<impl EncodeGaugeValue>,
    ) -> fmt::Result {
        let kind = MetricType::Gauge;
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        value.map_or(Ok(()), |value| family.encode_gauge(&value))
    }

    /// A counter of the whole switch, if it has one; `name` is without `_total`.
    fn single_counter(&mut self, (name, help): (&str, &str), count: Option<u64>) -> fmt::Result {
        let kind = MetricType::Counter;
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        count.map_or(Ok(()), |count| {
            family.encode_counter::<NoLabelSet, u64, f64>(&count, None)
        })
    }

    fn histogram<'c, L: EncodeLabelSet>(
        &mut self,
        (name, help): (&str, &str),
        samples: impl IntoIterator<Item = (L, &'c Counts)>,
    ) -> fmt::Result {
        let kind = MetricType::Histogram;
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, counts) in samples {
            let mut sample = family.encode_family(&labels)?;
            #[expect(clippy::cast_precision_loss, reason = "nanoseconds as seconds")]
            let sum = counts.sum() as f64 / 1e9;
            sample.encode_histogram::<NoLabelSet>(sum, counts.count(), &buckets(counts), None)?;
        }
        Ok(())
    }

    /// What is told by labels; `name` is without `_info`.
    fn info<L: EncodeLabelSet>(
        &mut self,
        (name, help): (&str, &str),
        samples: impl IntoIterator<Item = L>,
    ) -> fmt::Result {
        let kind = MetricType::Info;
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for labels in samples {
            family.encode_info(&labels)?;
        }
        Ok(())
    }
}

impl Collector for Reading {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet(encoder);
        self.whole(&mut sheet)?;
        self.ports(&mut sheet)?;
        self.workers(&mut sheet)?;
        // Without NAT the families stand there empty, so that a query for one is no mistake.
        nat(&mut sheet, self.nat.as_ref())?;
        latency(&mut sheet, &self.latency)
    }
}

impl Reading {
    fn whole(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let Self { status, .. } = self;
        let build = [
            ("version", status.version.as_str()),
            ("name", status.name.as_str()),
        ];
        sheet.info(("vswitch_build", "Which vswitch this is"), [build])?;
        let name = ("vswitch_uptime_seconds", "Time since the switch was ready");
        sheet.single(name, Some(status.uptime))?;
        let totals = status.totals;
        let verdicts = [
            ("forwarded", totals.forwarded),
            ("routed", totals.routed),
            ("flooded", totals.flooded),
            ("answered", totals.answered),
            ("absorbed", totals.absorbed),
            ("held", totals.held),
            ("handed_over", totals.handed_over),
            ("dropped", totals.dropped),
        ];
        let help = "Frames by what was decided about them";
        let samples = verdicts.map(|(verdict, count)| ([("verdict", verdict)], count));
        sheet.counter(("vswitch_verdicts", help), samples)?;
        let help = "Entries of the forwarding table";
        let stations = [
            ([("state", "learned")], self.stations_learned),
            ([("state", "static")], self.stations_static),
        ];
        sheet.gauge(("vswitch_fdb_entries", help), stations)?;
        let neighbours = self.neighbours.iter();
        let samples = neighbours
            .map(|(state, count)| ([("state", state.to_string().to_lowercase())], *count));
        let help = "Neighbours of the gateway";
        sheet.gauge(("vswitch_neighbours", help), samples)
    }

    fn ports(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let labels = |port: &api::Port| {
            let detail = &port.vswitch;
            [
                ("port", port.ifname.clone()),
                ("kind", detail.kind.clone()),
                ("role", detail.role.to_string()),
                ("guard", detail.guard.clone()),
            ]
        };
        let help = "What a port is made of and for";
        sheet.info(("vswitch_port", help), self.ports.iter().map(labels))?;
        let mut gauge = |name, help, value: fn(&api::Port) -> u64| {
            let ports = self.ports.iter();
            let samples = ports.map(|port| ([("port", port.ifname.as_str())], value(port)));
            sheet.gauge((name, help), samples)
        };
        let help = "Whether the port can carry frames";
        let up = |port: &api::Port| u64::from(port.operstate == OperState::Up);
        gauge("vswitch_port_up", help, up)?;
        let help = "The most bytes of IP that a frame may carry";
        gauge("vswitch_port_mtu_bytes", help, |port| port.mtu.into())?;
        let help = "The worker that receives from the port; the first where several do";
        gauge("vswitch_port_worker", help, |port| {
            port.vswitch.worker.into()
        })?;
        self.port_counters(sheet)?;
        let each = |port: &api::Port| {
            let name = port.ifname.clone();
            let drops = port.vswitch.drops.clone().into_iter();
            drops.map(move |drop| {
                let labels = [("port", name.clone()), ("reason", drop.reason)];
                (labels, drop.count)
            })
        };
        let help = "Frames and copies dropped; vswitch drops --why REASON explains";
        let samples = self.ports.iter().flat_map(each);
        sheet.counter(("vswitch_drops", help), samples)
    }

    fn port_counters(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        type Count = fn(&api::Stats64) -> u64;
        let counters: [(&str, &str, Count); 6] = [
            (
                "vswitch_port_receive_bytes",
                "Bytes from the port into the switch",
                |stats| stats.rx.bytes,
            ),
            (
                "vswitch_port_receive_packets",
                "Frames from the port into the switch, those lost in its ring included",
                |stats| stats.rx.packets,
            ),
            (
                "vswitch_port_receive_errors",
                "Malformed frames from the port",
                |stats| stats.rx.errors,
            ),
            (
                "vswitch_port_transmit_bytes",
                "Bytes sent out of the port",
                |stats| stats.tx.bytes,
            ),
            (
                "vswitch_port_transmit_packets",
                "Frames sent out of the port",
                |stats| stats.tx.packets,
            ),
            (
                "vswitch_port_transmit_errors",
                "Frames that the kernel refused to send",
                |stats| stats.tx.errors,
            ),
        ];
        for (name, help, count) in counters {
            let ports = self.ports.iter();
            let samples =
                ports.map(|port| ([("port", port.ifname.as_str())], count(&port.stats64)));
            sheet.counter((name, help), samples)?;
        }
        Ok(())
    }

    fn workers(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        type Count = fn(&api::Worker) -> u64;
        let workers = &self.status.workers;
        let name = ("vswitch_workers", "Worker threads");
        sheet.single(name, Some(workers.len() as u64))?;
        let label = |worker: &api::Worker| [("worker", worker.index.to_string())];
        let help = "Time in rounds that found frames; neither spinning nor sleep is in it";
        let samples = workers.iter().map(|worker| (label(worker), worker.busy));
        sheet.counter(("vswitch_worker_busy_seconds", help), samples)?;
        let counters: [(&str, &str, Count); 7] = [
            (
                "vswitch_worker_packets",
                "Frames the worker received",
                |worker| worker.frames,
            ),
            (
                "vswitch_worker_batches",
                "Batches the worker processed",
                |worker| worker.batches,
            ),
            (
                "vswitch_worker_polls",
                "Rounds of the worker over its ports",
                |worker| worker.polls,
            ),
            (
                "vswitch_worker_sleeps",
                "Times the worker went to sleep",
                |worker| worker.sleeps,
            ),
            (
                "vswitch_worker_handed_over_packets",
                "Frames handed over to other workers",
                |worker| worker.handed_over,
            ),
            (
                "vswitch_worker_taken_over_packets",
                "Frames taken over from other workers",
                |worker| worker.taken_over,
            ),
            (
                "vswitch_worker_carried_packets",
                "Frames that the kernel carried by the fast path",
                |worker| worker.carried,
            ),
        ];
        for (name, help, count) in counters {
            let samples = workers.iter().map(|worker| (label(worker), count(worker)));
            sheet.counter((name, help), samples)?;
        }
        Ok(())
    }
}

/// The bounds of a histogram's buckets are powers of two in nanoseconds, where the workers' own
/// have bounds too, so that no frame is in the wrong one: 2^10, a microsecond, to 2^30, a second.
const POWERS: std::ops::RangeInclusive<u32> = 10..=30;

/// Frames by the bound they are within, in seconds; without what is longer than the one before.
fn buckets(counts: &Counts) -> Vec<(f64, u64)> {
    let bound = |nanos: u64| Duration::from_nanos(nanos).as_secs_f64();
    let bounds = POWERS.map(|power| 1_u64 << power);
    let mut buckets: Vec<(u64, f64, u64)> = bounds.map(|nanos| (nanos, bound(nanos), 0)).collect();
    buckets.push((u64::MAX, f64::INFINITY, 0));
    for bucket in counts.buckets() {
        let place = buckets.partition_point(|(nanos, ..)| *nanos < bucket.to);
        if let Some((.., count)) = buckets.get_mut(place) {
            *count += bucket.count;
        }
    }
    let each = buckets.into_iter();
    each.map(|(_, bound, count)| (bound, count)).collect()
}

fn latency(sheet: &mut Sheet<'_>, latency: &Forwarded) -> fmt::Result {
    let help = "From the ring's time stamp to the end of the send, of frames sent on; estimated";
    let samples = latency.pairs.iter().map(|((ingress, egress), counts)| {
        let labels = [("ingress", ingress.as_str()), ("egress", egress.as_str())];
        (labels, counts)
    });
    sheet.histogram(("vswitch_forward_latency_seconds", help), samples)?;
    let help = "The stages of it, of all frames: wait in the ring, process, send; estimated";
    let stages = latency.stages.iter();
    let samples = stages.filter(|((_, stage), _)| *stage != "total");
    let samples = samples.map(|((worker, stage), counts)| {
        let labels = [("worker", worker.to_string()), ("stage", (*stage).into())];
        (labels, counts)
    });
    sheet.histogram(("vswitch_stage_latency_seconds", help), samples)
}

fn nat(sheet: &mut Sheet<'_>, nat: Option<&NatReading>) -> fmt::Result {
    let kinds = nat.into_iter().flat_map(|nat| nat.sessions.kinds());
    let samples = kinds.map(|kind| {
        let labels = [
            ("proto", kind.protocol.to_owned()),
            ("state", kind.state.to_lowercase()),
        ];
        (labels, kind.sessions)
    });
    let help = "Sessions of the address translation";
    sheet.gauge(("vswitch_nat_sessions", help), samples)?;
    let help = "The most sessions there may be";
    let most = nat.map(|nat| nat.sessions_max);
    sheet.single(("vswitch_nat_sessions_limit", help), most)?;
    let used = nat.into_iter().flat_map(|nat| &nat.ports_used);
    let samples = used.map(|(proto, used)| ([("proto", *proto)], *used));
    let help = "External ports, and echo identifiers, in use";
    sheet.gauge(("vswitch_nat_ports_used", help), samples)?;
    let used = nat.into_iter().flat_map(|nat| &nat.ports_used);
    let all = nat.map_or(0, |nat| nat.ports);
    let samples = used.map(|(proto, _)| ([("proto", *proto)], all));
    let help = "External ports, and echo identifiers, there are";
    sheet.gauge(("vswitch_nat_ports", help), samples)?;
    for (name, help, count) in api::NatCounters::named(nat.map(|nat| &nat.counters)) {
        let name = format!("vswitch_nat_{name}");
        let help = format!("NATV2-MIB: {help}");
        sheet.single_counter((&name, &help), count)?;
    }
    Ok(())
}
