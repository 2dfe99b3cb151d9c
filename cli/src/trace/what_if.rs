//! `vswitch trace --what-if`: what would become of a packet.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use switch::pcapng::Reader;

use crate::args::{Common, WhatIfPacket, WhatIfPlan};
use crate::client::Client;
use crate::control::api::{TracedFrame, WhatIf, WhatIfAsked};
use crate::dispatch::{Outcome, message, print, print_json};
use crate::error::{CliError, Exit};
use crate::show;

/// Prints the packet's way; exit code 4 where it would be dropped.
///
/// # Errors
/// No such port, no vswitch that runs, or a file without a packet.
pub fn command(common: &Common, plan: &WhatIfPlan) -> Outcome {
    let mut asked = WhatIfAsked {
        port: plan.port.clone(),
        packet: None,
        frame: None,
    };
    match &plan.packet {
        WhatIfPacket::Words(words) => asked.packet = Some(words.clone()),
        WhatIfPacket::First(file) => asked.frame = Some(first(common, file)?),
    }
    let client = Client::new(common);
    let body = client.what_if(&asked)?;
    let answer: WhatIf = client.read(&body)?;
    if common.json {
        print_json(common, &body)?;
    } else {
        print(common.colour, &show::trace::what_if(&answer))?;
    }
    Ok(if answer.dropped { Exit::No } else { Exit::Done })
}

/// The first packet of a capture, in hexadecimal digits.
fn first(common: &Common, path: &Path) -> Result<String, CliError> {
    let name = path.display().to_string();
    let fix = "vswitch trace --what-if PORT -r one.pcap";
    let unread = |why: String| CliError::failed(name.clone(), why, fix);
    let file = File::open(path).map_err(|error| unread(error.to_string()))?;
    let mut reader =
        Reader::new(BufReader::new(file)).map_err(|error| unread(error.to_string()))?;
    let packet = reader
        .next_packet()
        .map_err(|error| unread(error.to_string()))?;
    let packet = packet.ok_or_else(|| unread("it holds no packet".into()))?;
    if packet.is_cut() {
        return Err(unread("its first packet was not captured whole".into()));
    }
    let length = u32::try_from(packet.bytes.len()).unwrap_or(u32::MAX);
    let frame = TracedFrame::new(packet.bytes, length);
    if matches!(reader.next_packet(), Ok(Some(_))) {
        message(
            common,
            &format!("{name} holds more packets; this is the first"),
        );
    }
    Ok(frame.bytes)
}
