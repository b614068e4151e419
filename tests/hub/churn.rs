//! Hundreds of viewers that come and go for minutes: nothing is left of them, and who stays loses nothing.

use onair::rtp::codec::{Codec, TrackKind};

use crate::simulation::stream::{assert_whole, stretch};
use crate::simulation::{ClientId, Program, Simulation, ms, secs};

#[test]
fn two_hundred_viewers_that_come_and_go_leave_nothing_behind() {
    let mut sim = Simulation::new(1);
    let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
    // Pictures as large as they need to be for what is tested, and no larger.
    sim[publisher].track_mut(TrackKind::Video).encoder.interval = ms(100);
    sim[publisher].track_mut(TrackKind::Audio).encoder.interval = ms(60);
    let stay = [sim.subscribe("r/u"), sim.subscribe("r")];
    sim.run_for(secs(2));
    let before = sim.hub.sizes();
    let mut viewers: Vec<ClientId> = Vec::new();
    let mut joined = 0;
    while joined < 200 || !viewers.is_empty() {
        let joins = joined < 200 && (viewers.len() < 3 || (viewers.len() < 25 && sim.random.u8(..5) > 1));
        if joins {
            joined += 1;
            viewers.push(match sim.random.u8(..4) {
                0 => sim.subscribe("r"),
                1 => sim.play("r/u", &[Codec::Vp8]).0,
                _ => sim.subscribe("r/u"),
            });
        } else {
            let leaver = viewers.swap_remove(sim.random.usize(..viewers.len()));
            match sim.random.u8(..3) {
                // Its process dies: the WebSocket goes first, or the connection.
                0 => sim.vanish(leaver),
                1 => {
                    sim[leaver].close();
                    let now = sim.now;
                    sim[leaver].poke(now);
                    sim.run_for(ms(50));
                    sim.vanish(leaver);
                }
                _ => {
                    sim[leaver].is_gone = true;
                    sim.run_for(ms(200));
                    sim.vanish(leaver);
                }
            }
        }
        sim.forget_received(&viewers);
        let pause = ms(sim.random.u64(..500));
        sim.run_for(pause);
    }
    sim.run_for(secs(12));
    assert_eq!(sim.hub.sizes(), before);
    assert!(sim.now - sim.start > secs(60), "minutes: {:?}", sim.now - sim.start);
    for viewer in stay {
        assert_eq!(sim.errors(viewer), []);
        for kind in [TrackKind::Audio, TrackKind::Video] {
            let mid = sim.mid(viewer, "r/u", kind).unwrap();
            assert_whole(&stretch(&sim[viewer], mid), sim[publisher].encoder(kind));
        }
    }
    assert_eq!(sim.hub.snapshot(sim.now).metrics.panics, 0);
    for client in [publisher, stay[0], stay[1]] {
        sim.vanish(client);
    }
    sim.run_for(secs(6));
    assert_eq!(sim.hub.sizes(), [0; 6]);
}
