//! Runs one pipeline, written as for `gst-launch-1.0`, with the elements of gst-plugins-rs that speak WHIP and WHEP.
//!
//! Says on standard output, one JSON object a line and twice a second, how many buffers came through each element whose
//! name begins with `count-`, and in what form. What an element named `source` brings goes to the elements `audio` and `video`:
//! `gst-launch-1.0` links its pads by the order in which they come. Ends the pipeline, and with it the session, when standard input ends.
//!
//! **Invariant:** an error of the pipeline is said on standard error and ends the program with a failure.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{env, io, thread};

use gst::prelude::*;

const REPORT_EVERY: Duration = Duration::from_millis(500);

/// What has come through one element.
#[derive(Default)]
struct Count {
    buffers: AtomicU64,
    caps: Mutex<String>,
}

fn main() -> ExitCode {
    match env::args().nth(1).ok_or_else(|| "usage: onair-gstreamer PIPELINE".into()).and_then(|pipeline| run(&pipeline))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(description: &str) -> Result<(), Box<dyn std::error::Error>> {
    gst::init()?;
    gstrswebrtc::plugin_register_static()?;
    gstwebrtchttp::plugin_register_static()?;
    let pipeline =
        gst::parse::launch(description)?.downcast::<gst::Pipeline>().map_err(|_| "one element is no pipeline")?;
    let counts = count(&pipeline);
    link_by_kind(&pipeline);
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        over.store(true, Ordering::Relaxed);
    });

    let bus = pipeline.bus().ok_or("a pipeline has a bus")?;
    let outcome = pipeline.set_state(gst::State::Playing).map_err(Into::into).and_then(|_| {
        while !is_over.load(Ordering::Relaxed) {
            report(&counts);
            let filter = [gst::MessageType::Error, gst::MessageType::Eos];
            let message = bus.timed_pop_filtered(gst::ClockTime::try_from(REPORT_EVERY).ok(), &filter);
            match message.as_ref().map(|message| message.view()) {
                Some(gst::MessageView::Error(error)) => {
                    let place = error.src().map(|source| source.path_string());
                    return Err(format!("{}: {} {:?}", place.unwrap_or_default(), error.error(), error.debug()).into());
                }
                Some(_) => return Err("the stream has ended".into()),
                None => {}
            }
        }
        Ok(())
    });
    // This is where the elements delete their sessions.
    pipeline.set_state(gst::State::Null)?;
    outcome
}

/// RTP says its kind in its form, anything else by the pad's name.
fn link_by_kind(pipeline: &gst::Pipeline) {
    let Some(source) = pipeline.by_name("source") else { return };
    let pipeline = pipeline.downgrade();
    source.connect_pad_added(move |_, pad| {
        // A pad that stands for one of webrtcbin's does not know its form yet.
        let caps = pad.downcast_ref::<gst::GhostPad>().and_then(|ghost| ghost.target()?.current_caps());
        let media = caps.and_then(|caps| caps.structure(0)?.get::<String>("media").ok());
        let kind = if media.unwrap_or_else(|| pad.name().to_string()).contains("audio") { "audio" } else { "video" };
        let taker = pipeline.upgrade().and_then(|pipeline| pipeline.by_name(kind)?.static_pad("sink"));
        if let Some(Err(error)) = taker.map(|taker| pad.link(&taker)) {
            eprintln!("{} does not go into {kind}: {error}", pad.name());
        }
    });
}

/// Counts at the entry of each element named so.
fn count(pipeline: &gst::Pipeline) -> BTreeMap<String, Arc<Count>> {
    let named = pipeline.iterate_recurse().into_iter().flatten().filter_map(|element| {
        let name = element.name().strip_prefix("count-")?.to_string();
        let count = Arc::new(Count::default());
        let counting = Arc::clone(&count);
        let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST | gst::PadProbeType::EVENT_DOWNSTREAM;
        element.static_pad("sink")?.add_probe(kinds, move |_, info| {
            match &info.data {
                Some(gst::PadProbeData::Buffer(_)) => counting.buffers.fetch_add(1, Ordering::Relaxed),
                Some(gst::PadProbeData::BufferList(list)) => {
                    counting.buffers.fetch_add(list.len() as u64, Ordering::Relaxed)
                }
                Some(gst::PadProbeData::Event(event)) => {
                    if let gst::EventView::Caps(caps) = event.view() {
                        *counting.caps.lock().unwrap_or_else(PoisonError::into_inner) = caps.caps().to_string();
                    }
                    0
                }
                _ => 0,
            };
            gst::PadProbeReturn::Ok
        })?;
        Some((name, count))
    });
    named.collect()
}

fn report(counts: &BTreeMap<String, Arc<Count>>) {
    let each = counts.iter().map(|(name, count)| {
        let caps = count.caps.lock().unwrap_or_else(PoisonError::into_inner);
        let caps = caps.replace('\\', "\\\\").replace('"', "\\\"");
        format!("{name:?}:{{\"buffers\":{},\"caps\":\"{caps}\"}}", count.buffers.load(Ordering::Relaxed))
    });
    println!("{{\"counts\":{{{}}}}}", each.collect::<Vec<_>>().join(","));
}
