"""Publishes or plays with aiortc: aiortc_client.py publish|play URL

Says on standard output, one JSON object a line, what it offered and then, twice a second, what it has. Ends its session and
itself when standard input does.
"""

import asyncio
import json
import sys
import urllib.request
from urllib.parse import urljoin

from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, VideoStreamTrack

REPORT_EVERY_S = 0.5


def say(**what):
    print(json.dumps(what), flush=True)


def request(url, method, body=None):
    headers = {"Content-Type": "application/sdp"} if body else {}
    asked = urllib.request.Request(url, body.encode() if body else None, headers, method=method)
    with urllib.request.urlopen(asked) as response:
        return urljoin(url, response.headers.get("Location", "")), response.read().decode()


async def count(track, frames):
    try:
        while True:
            frame = await track.recv()
            frames[track.kind] += 1
            if track.kind == "video":
                frames["size"] = f"{frame.width}x{frame.height}"
    except MediaStreamError:
        pass


async def sent_and_received(pc):
    packets = {}
    for entry in (await pc.getStats()).values():
        if entry.type == "outbound-rtp":
            packets[entry.kind] = entry.packetsSent
        if entry.type == "inbound-rtp":
            packets[entry.kind] = entry.packetsReceived
    return packets


async def main(role, url):
    pc = RTCPeerConnection()
    frames = {"audio": 0, "video": 0}
    counting = []
    if role == "publish":
        pc.addTrack(AudioStreamTrack())
        pc.addTrack(VideoStreamTrack())
    else:
        pc.addTransceiver("audio", direction="recvonly")
        pc.addTransceiver("video", direction="recvonly")
        pc.on("track", lambda track: counting.append(asyncio.ensure_future(count(track, frames))))
    await pc.setLocalDescription(await pc.createOffer())
    say(offer=pc.localDescription.sdp)
    resource, answer = await asyncio.to_thread(request, url, "POST", pc.localDescription.sdp)
    await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    over = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    while not over.done():
        await asyncio.wait([over], timeout=REPORT_EVERY_S)
        say(connection=pc.connectionState, frames=frames, packets=await sent_and_received(pc))
    await asyncio.to_thread(request, resource, "DELETE")
    await pc.close()
    await asyncio.gather(*counting)


asyncio.run(main(*sys.argv[1:]))
