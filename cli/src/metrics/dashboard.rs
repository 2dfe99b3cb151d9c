//! A Grafana dashboard of the metrics.

use serde_json::{Value, json};

/// A picture, and the lines in it.
struct Panel {
    title: &'static str,
    /// Grafana's name of the unit.
    unit: &'static str,
    queries: &'static [Query],
}

/// A PromQL expression with `SELECT` in place of the selector of one switch, and the legend.
struct Query(&'static str, &'static str);

const PANELS: &[Panel] = &[
    Panel {
        title: "Received",
        unit: "bps",
        queries: &[Query(
            "8 * rate(vswitch_port_receive_bytes_totalSELECT[$__rate_interval])",
            "{{port}}",
        )],
    },
    Panel {
        title: "Sent",
        unit: "bps",
        queries: &[Query(
            "8 * rate(vswitch_port_transmit_bytes_totalSELECT[$__rate_interval])",
            "{{port}}",
        )],
    },
    Panel {
        title: "Frames received",
        unit: "pps",
        queries: &[Query(
            "rate(vswitch_port_receive_packets_totalSELECT[$__rate_interval])",
            "{{port}}",
        )],
    },
    Panel {
        title: "Frames sent",
        unit: "pps",
        queries: &[Query(
            "rate(vswitch_port_transmit_packets_totalSELECT[$__rate_interval])",
            "{{port}}",
        )],
    },
    Panel {
        title: "Drops by reason",
        unit: "pps",
        queries: &[Query(
            "sum by (reason) (rate(vswitch_drops_totalSELECT[$__rate_interval]))",
            "{{reason}}",
        )],
    },
    Panel {
        title: "Verdicts",
        unit: "pps",
        queries: &[Query(
            "rate(vswitch_verdicts_totalSELECT[$__rate_interval])",
            "{{verdict}}",
        )],
    },
    Panel {
        title: "Time from ring to egress, 99 of 100 frames",
        unit: "s",
        queries: &[Query(
            "histogram_quantile(0.99, sum by (le, ingress, egress) \
             (rate(vswitch_forward_latency_seconds_bucketSELECT[$__rate_interval])))",
            "{{ingress}} to {{egress}}",
        )],
    },
    Panel {
        title: "Stages, on average",
        unit: "s",
        queries: &[Query(
            "rate(vswitch_stage_latency_seconds_sumSELECT[$__rate_interval]) \
             / rate(vswitch_stage_latency_seconds_countSELECT[$__rate_interval])",
            "worker {{worker}} {{stage}}",
        )],
    },
    Panel {
        title: "Workers: share of time busy",
        unit: "percentunit",
        queries: &[Query(
            "rate(vswitch_worker_busy_seconds_totalSELECT[$__rate_interval])",
            "worker {{worker}}",
        )],
    },
    Panel {
        title: "Workers: frames in a batch",
        unit: "none",
        queries: &[Query(
            "rate(vswitch_worker_packets_totalSELECT[$__rate_interval]) \
             / rate(vswitch_worker_batches_totalSELECT[$__rate_interval])",
            "worker {{worker}}",
        )],
    },
    Panel {
        title: "NAT sessions",
        unit: "none",
        queries: &[
            Query("vswitch_nat_sessionsSELECT", "{{proto}} {{state}}"),
            Query("vswitch_nat_sessions_limitSELECT", "limit"),
        ],
    },
    Panel {
        title: "NAT: share of external ports in use",
        unit: "percentunit",
        queries: &[Query(
            "vswitch_nat_ports_usedSELECT / vswitch_nat_portsSELECT",
            "{{proto}}",
        )],
    },
    Panel {
        title: "Stations and neighbours",
        unit: "none",
        queries: &[
            Query("vswitch_fdb_entriesSELECT", "stations {{state}}"),
            Query("vswitch_neighboursSELECT", "neighbours {{state}}"),
        ],
    },
    Panel {
        title: "Ports that are up",
        unit: "none",
        queries: &[Query("vswitch_port_upSELECT", "{{port}}")],
    },
];

/// Picks the switch that the dashboard's variable names.
const SELECT: &str = r#"{instance=~"$instance"}"#;
/// What a panel reads from.
const SOURCE: &str = "${datasource}";
/// Grafana's grid is so many columns wide; two panels stand side by side.
const COLUMNS: usize = 24;
const PANEL_ROWS: usize = 8;

/// The dashboard as JSON, to be imported into Grafana (version 9 and later).
#[must_use]
pub fn dashboard() -> Value {
    let panels: Vec<Value> = PANELS.iter().enumerate().map(panel).collect();
    json!({
        "title": "vswitch",
        "uid": "vswitch",
        "tags": ["network", "vswitch"],
        "schemaVersion": 37,
        "editable": true,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [
            {
                "name": "datasource",
                "label": "Prometheus",
                "type": "datasource",
                "query": "prometheus",
            },
            {
                "name": "instance",
                "label": "Switch",
                "type": "query",
                "datasource": source(),
                "query": "label_values(vswitch_build_info, instance)",
                "refresh": 2,
                "multi": true,
                "includeAll": true,
                "current": {"text": "All", "value": "$__all"},
            },
        ]},
        "panels": panels,
    })
}

fn panel((place, panel): (usize, &Panel)) -> Value {
    let width = COLUMNS / 2;
    let queries = panel.queries.iter().zip('A'..='Z');
    let targets: Vec<Value> = queries
        .map(|(Query(expression, legend), letter)| {
            json!({
                "refId": letter,
                "datasource": source(),
                "expr": expression.replace("SELECT", SELECT),
                "legendFormat": legend,
            })
        })
        .collect();
    json!({
        "id": place + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source(),
        "gridPos": {
            "x": place % 2 * width,
            "y": place / 2 * PANEL_ROWS,
            "w": width,
            "h": PANEL_ROWS,
        },
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    })
}

fn source() -> Value {
    json!({"type": "prometheus", "uid": SOURCE})
}
