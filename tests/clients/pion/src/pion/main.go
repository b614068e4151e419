// Publishes or plays with Pion: pion publish URL VIDEO AUDIO, or pion play URL VIDEO.
//
// VIDEO is a file of VP8 (.ivf) or H.264 (.h264), AUDIO one of Opus (.ogg); both are sent again and again, at 30 pictures and 50
// pieces of sound a second. Who plays offers the codec of VIDEO's name alone, and writes there what comes.
//
// Says on standard output, one JSON object a line, what it offered and then, twice a second, what it has. Ends its session and
// itself when standard input does.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v3"
	"github.com/pion/webrtc/v3/pkg/media"
	"github.com/pion/webrtc/v3/pkg/media/h264reader"
	"github.com/pion/webrtc/v3/pkg/media/h264writer"
	"github.com/pion/webrtc/v3/pkg/media/ivfreader"
	"github.com/pion/webrtc/v3/pkg/media/ivfwriter"
	"github.com/pion/webrtc/v3/pkg/media/oggreader"
)

const (
	pictureEvery = time.Second / 30
	soundEvery   = 20 * time.Millisecond
	reportEvery  = 500 * time.Millisecond
)

// What was sent, or came: pictures and pieces of sound.
var video, audio uint64

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 3 {
		return errors.New("usage: pion publish URL VIDEO AUDIO | pion play URL VIDEO")
	}
	role, endpoint, file := args[0], args[1], args[2]
	h264 := filepath.Ext(file) == ".h264"
	pc, err := connection(h264)
	if err != nil {
		return err
	}
	defer pc.Close()
	failed := make(chan error, 3)
	connected := make(chan struct{})
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		switch state {
		case webrtc.PeerConnectionStateConnected:
			close(connected)
		case webrtc.PeerConnectionStateFailed:
			failed <- errors.New("the connection has failed")
		}
	})
	if role == "publish" {
		if len(args) < 4 {
			return errors.New("publish needs AUDIO, too")
		}
		err = publish(pc, h264, file, args[3], connected, failed)
	} else {
		err = play(pc, h264, file, failed)
	}
	if err != nil {
		return err
	}
	resource, err := post(pc, endpoint)
	if err != nil {
		return err
	}

	over := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(over)
	}()
	for tick := time.NewTicker(reportEvery); ; {
		select {
		case <-over:
			_, _, err = request(http.MethodDelete, resource, "")
			return err
		case err = <-failed:
			return err
		case <-tick.C:
			say(map[string]interface{}{
				"connection": pc.ConnectionState().String(),
				"counts":     map[string]uint64{"video": atomic.LoadUint64(&video), "audio": atomic.LoadUint64(&audio)},
			})
		}
	}
}

func say(what map[string]interface{}) {
	line, _ := json.Marshal(what)
	fmt.Println(string(line))
}

// A peer connection that knows Opus and one codec of video, with Pion's own NACKs, reports and the like.
func connection(h264 bool) (*webrtc.PeerConnection, error) {
	engine := &webrtc.MediaEngine{}
	feedback := []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}}
	format := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000, RTCPFeedback: feedback}
	if h264 {
		format.MimeType = webrtc.MimeTypeH264
		format.SDPFmtpLine = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
	}
	sound := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}
	for kind, codec := range map[webrtc.RTPCodecType]webrtc.RTPCodecParameters{
		webrtc.RTPCodecTypeVideo: {RTPCodecCapability: format, PayloadType: 96},
		webrtc.RTPCodecTypeAudio: {RTPCodecCapability: sound, PayloadType: 111},
	} {
		if err := engine.RegisterCodec(codec, kind); err != nil {
			return nil, err
		}
	}
	interceptors := &interceptor.Registry{}
	if err := webrtc.RegisterDefaultInterceptors(engine, interceptors); err != nil {
		return nil, err
	}
	api := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithInterceptorRegistry(interceptors))
	return api.NewPeerConnection(webrtc.Configuration{})
}

// Offers with all candidates and takes the answer. Returns the session's URL.
func post(pc *webrtc.PeerConnection, endpoint string) (string, error) {
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err = pc.SetLocalDescription(offer); err != nil {
		return "", err
	}
	<-gathered
	sdp := pc.LocalDescription().SDP
	say(map[string]interface{}{"offer": sdp})
	location, answer, err := request(http.MethodPost, endpoint, sdp)
	if err != nil {
		return "", err
	}
	base, err := url.Parse(endpoint)
	if err != nil {
		return "", err
	}
	resource, err := base.Parse(location)
	if err != nil {
		return "", err
	}
	return resource.String(), pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer})
}

func request(method, to, sdp string) (location, body string, err error) {
	asked, err := http.NewRequest(method, to, strings.NewReader(sdp))
	if err != nil {
		return "", "", err
	}
	if sdp != "" {
		asked.Header.Set("Content-Type", "application/sdp")
	}
	response, err := http.DefaultClient.Do(asked)
	if err != nil {
		return "", "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", response.Status, text)
	}
	return response.Header.Get("Location"), string(text), err
}

func publish(pc *webrtc.PeerConnection, h264 bool, pictures, sound string, connected chan struct{}, failed chan error) error {
	mime, next := webrtc.MimeTypeVP8, nextVP8
	if h264 {
		mime, next = webrtc.MimeTypeH264, nextH264
	}
	for _, source := range []struct {
		mime, id, file string
		next           func([]byte) (func() ([]byte, error), error)
		every          time.Duration
		count          *uint64
	}{
		{webrtc.MimeTypeOpus, "audio", sound, nextOpus, soundEvery, &audio},
		{mime, "video", pictures, next, pictureEvery, &video},
	} {
		source := source
		track, err := webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: source.mime}, source.id, "pion")
		if err != nil {
			return err
		}
		sender, err := pc.AddTrack(track)
		if err != nil {
			return err
		}
		// The interceptors see what is read here.
		go func() {
			for {
				if _, _, err := sender.ReadRTCP(); err != nil {
					return
				}
			}
		}()
		bytes, err := os.ReadFile(source.file)
		if err != nil {
			return err
		}
		go func() {
			<-connected
			failed <- send(track, bytes, source.next, source.every, source.count)
		}()
	}
	return nil
}

// Sends a file again and again.
func send(track *webrtc.TrackLocalStaticSample, file []byte, open func([]byte) (func() ([]byte, error), error), every time.Duration, count *uint64) error {
	tick := time.NewTicker(every)
	for {
		next, err := open(file)
		if err != nil {
			return err
		}
		for {
			data, err := next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			<-tick.C
			if err = track.WriteSample(media.Sample{Data: data, Duration: every}); err != nil {
				return err
			}
			atomic.AddUint64(count, 1)
		}
	}
}

func nextVP8(file []byte) (func() ([]byte, error), error) {
	reader, _, err := ivfreader.NewWith(bytes.NewReader(file))
	return func() ([]byte, error) {
		frame, _, err := reader.ParseNextFrame()
		return frame, err
	}, err
}

// Whole access units: the file has a delimiter in front of each.
func nextH264(file []byte) (func() ([]byte, error), error) {
	reader, err := h264reader.NewReader(bytes.NewReader(file))
	var unit []byte
	return func() ([]byte, error) {
		for {
			nal, err := reader.NextNAL()
			if errors.Is(err, io.EOF) && len(unit) > 0 {
				last := unit
				unit = nil
				return last, nil
			}
			if err != nil {
				return nil, err
			}
			whole := unit
			begins := nal.UnitType == h264reader.NalUnitTypeAUD && len(unit) > 0
			if begins {
				unit = nil
			}
			unit = append(append(unit, 0, 0, 0, 1), nal.Data...)
			if begins {
				return whole, nil
			}
		}
	}, err
}

func nextOpus(file []byte) (func() ([]byte, error), error) {
	reader, _, err := oggreader.NewWith(bytes.NewReader(file))
	return func() ([]byte, error) {
		for {
			page, header, err := reader.ParseNextPage()
			// The comments are no sound.
			if err != nil || header.GranulePosition > 0 {
				return page, err
			}
		}
	}, err
}

func play(pc *webrtc.PeerConnection, h264 bool, file string, failed chan error) error {
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
		direction := webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}
		if _, err := pc.AddTransceiverFromKind(kind, direction); err != nil {
			return err
		}
	}
	var writer media.Writer
	var err error
	if h264 {
		writer, err = h264writer.New(file)
	} else {
		writer, err = ivfwriter.New(file)
	}
	if err != nil {
		return err
	}
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			packet, _, err := track.ReadRTP()
			if err != nil {
				_ = writer.Close()
				return
			}
			if track.Kind() == webrtc.RTPCodecTypeAudio {
				atomic.AddUint64(&audio, 1)
				continue
			}
			if err = writer.WriteRTP(packet); err != nil {
				failed <- err
				return
			}
			if packet.Marker {
				atomic.AddUint64(&video, 1)
			}
		}
	})
	return nil
}
