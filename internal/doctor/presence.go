package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"fleetbridge/bridge"
	"fleetbridge/bridge/gateway"
	"fleetbridge/bridge/local"
	"fleetbridge/bridge/local/storedir"
	"fleetbridge/mapping"
)

// presence is what is known of a running bridge with this configuration.
type presence struct {
	running bool
	// unknown is why it can't be told; then nothing is done that could disturb one.
	unknown string
	ready   *readiness // what /readyz said; nil: it was not asked or did not answer
}

// readiness is the body of /readyz.
type readiness struct {
	Ready    bool               `json:"ready"`
	Things   map[string]bool    `json:"things"`
	Problems []gateway.NotReady `json:"problems"`
}

// findBridge finds out whether the bridge runs: by its lock on the store directory, its HTTP listener, and
// its services on an external NATS server. release gives the lock back.
func (d *Doctor) findBridge(ctx context.Context) (release func()) {
	release = func() {}
	if b := d.options.Running; b != nil {
		d.bridge = presence{running: true, ready: d.askItself(ctx)}
		d.lent = true
		d.nc, _, d.ncErr = b.NATS()
		d.ok(checkBridge, "", "fleetbridge is running, and examines itself%s", d.bridge.said())
		return release
	}
	sure, how := false, ""
	if d.embedded() {
		held, err := storedir.Hold(d.cfg.NATS.Embedded.StoreDir)
		switch {
		case errors.Is(err, storedir.ErrInUse):
			d.bridge.running, how = true, "its store directory is locked"
		case err != nil:
			d.bridge.unknown = err.Error()
		default:
			sure = true
			if held != nil {
				release = held
			}
		}
	}
	d.bridge.ready = d.askReady(ctx)
	if d.bridge.ready != nil && !d.bridge.running {
		d.bridge.running, how = true, "http.listen answers"
	}
	d.reachNATS(ctx)
	if d.nc != nil && !d.bridge.running && !d.embedded() {
		served, err := d.serving(ctx)
		switch {
		case served:
			d.bridge.running, how = true, "its services answer on nats.url"
		case err != nil:
			d.bridge.unknown = err.Error()
		default:
			sure = true
		}
	}
	if d.bridge.running {
		d.bridge.unknown = ""
		d.ok(checkBridge, "", "fleetbridge is running: %s%s", how, d.bridge.said())
		return release
	}
	d.notRunning(sure)
	return release
}

// notRunning tells of a bridge that was not found.
func (d *Doctor) notRunning(sure bool) {
	if !sure && d.bridge.unknown == "" {
		d.bridge.unknown = "NATS can't be asked"
	}
	if !sure {
		d.add(Finding{Warn, checkBridge, "", "can't tell whether fleetbridge is running: " + d.bridge.unknown,
			"run doctor as the user that runs fleetbridge, on the same machine"})
		return
	}
	d.bridge.unknown = ""
	if address := d.cfg.HTTP.Listen; address != "" && !d.free(checkBridge, "http.listen", address) {
		return
	}
	d.ok(checkBridge, "", "not running; the checks connect as it would, and leave everything as it is")
}

// free reports whether the bridge could listen on an address, and reports a failure if it could not.
func (d *Doctor) free(check, key, address string) bool {
	l, err := net.Listen("tcp", address)
	if err != nil {
		d.add(Finding{Fail, check, key, err.Error(), "choose another address, or stop what uses it"})
		return false
	}
	_ = l.Close()
	return true
}

// said is what /readyz answered, for the end of a sentence.
func (p presence) said() string {
	switch {
	case p.ready == nil:
		return "; /readyz did not answer"
	case p.ready.Ready:
		return "; /readyz says ready"
	}
	text := "; /readyz says not ready"
	const most = 5
	for _, problem := range p.ready.Problems[:min(len(p.ready.Problems), most)] {
		text += fmt.Sprintf(" (%s)", strings.TrimSpace(problem.Thing+" "+problem.Reason))
	}
	if more := len(p.ready.Problems) - most; more > 0 {
		text += fmt.Sprintf(" and %d more problems", more)
	}
	return text
}

// askItself is what /readyz of this process says.
func (d *Doctor) askItself(ctx context.Context) *readiness {
	out := &readiness{Things: map[string]bool{}, Problems: d.options.Running.Ready(ctx)}
	out.Ready = len(out.Problems) == 0
	for _, t := range d.cfg.Things {
		out.Things[t.Name] = true
	}
	for _, p := range out.Problems {
		if p.Thing != "" {
			out.Things[p.Thing] = false
		}
	}
	return out
}

// askReady asks the HTTP listener. An answer of a bridge with other Things is somebody else's.
func (d *Doctor) askReady(ctx context.Context) *readiness {
	if d.cfg.HTTP.Listen == "" {
		return nil
	}
	ctx, cancel := d.step(ctx)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.cfg.HTTP.URL()+"/readyz", nil)
	if err != nil {
		return nil
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // on this machine: no proxy
	answer, err := client.Do(r)
	if err != nil {
		return nil
	}
	defer answer.Body.Close()
	var out readiness
	if json.NewDecoder(http.MaxBytesReader(nil, answer.Body, 1<<20)).Decode(&out) != nil {
		return nil
	}
	for _, t := range d.cfg.Things {
		if _, known := out.Things[t.Name]; known {
			return &out
		}
	}
	return nil
}

// status is what a running bridge says of a Thing: the status bucket knows more than /readyz. nil: nothing.
func (d *Doctor) status(ctx context.Context, thing string) *bridge.Status {
	if d.nc != nil {
		ctx, cancel := d.step(ctx)
		defer cancel()
		value, err := local.StatusOf(ctx, d.nc, d.subjects, mapping.Thing(thing))
		var out bridge.Status
		if err == nil && len(value) > 0 && json.Unmarshal(value, &out) == nil {
			return &out
		}
	}
	if d.bridge.ready == nil {
		return nil
	}
	ready, known := d.bridge.ready.Things[thing]
	if !known {
		return nil
	}
	out := bridge.Status{Connected: ready, Subscribed: ready}
	for _, p := range d.bridge.ready.Problems {
		if p.Thing == thing {
			out.LastError = p.Reason
		}
	}
	return &out
}
