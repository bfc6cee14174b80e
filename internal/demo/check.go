package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/bridge"
	"fleetbridge/mapping"
)

// unexpected is a check that failed.
type unexpected struct{ what, want, got string }

func (u *unexpected) Error() string {
	return fmt.Sprintf("%s: expected %s, got %s", u.what, u.want, u.got)
}

// expect compares by what is printed.
func expect(what string, want, got any) error {
	w, g := fmt.Sprint(want), fmt.Sprint(got)
	if w == g {
		return nil
	}
	if g == "" {
		g = "nothing"
	}
	return &unexpected{what, w, g}
}

// missing tells that something did not come in time; have is what was there instead.
func missing(what, want string, have any) error {
	return &unexpected{what, want, fmt.Sprintf("%v, until the time was over", have)}
}

// sameJSON compares two documents, their members' order aside.
func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// holds tells whether an object has all the members of another.
func holds(object, members []byte) bool {
	var have, want map[string]any
	if json.Unmarshal(object, &have) != nil || json.Unmarshal(members, &want) != nil {
		return false
	}
	for k, v := range want {
		if !reflect.DeepEqual(have[k], v) {
			return false
		}
	}
	return true
}

// reported waits until the reported state in the cloud's shadow has these members.
func (s *stage) reported(ctx context.Context, want string) error {
	_, err := s.sim.WaitReported(ctx, Thing, func(got []byte) bool { return holds(got, []byte(want)) })
	if err != nil {
		have, _ := s.sim.Shadow(Thing)
		return missing("the reported state in the cloud's shadow", want, string(have.Reported))
	}
	return nil
}

// status waits until the Thing's entry in FLEETS_STATUS matches.
func (s *stage) status(ctx context.Context, want string, match func(bridge.Status) bool) (status bridge.Status, err error) {
	kv, err := s.js.KeyValue(ctx, "FLEETS_STATUS")
	if err != nil {
		return status, err
	}
	w, err := kv.Watch(ctx, mapping.Token(Thing))
	if err != nil {
		return status, err
	}
	defer func() { _ = w.Stop() }()
	last := "nothing"
	for {
		select {
		case e := <-w.Updates():
			if e == nil {
				continue
			}
			last = string(e.Value())
			if err := json.Unmarshal(e.Value(), &status); err != nil {
				return status, err
			}
			if match(status) {
				return status, nil
			}
		case <-ctx.Done():
			return status, missing("the status in FLEETS_STATUS", want, last)
		}
	}
}

// letter waits for a dead letter.
func (s *stage) letter(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	stream, err := s.js.Stream(ctx, "FLEETS_DEAD")
	if err != nil {
		return nil, err
	}
	var m *jetstream.RawStreamMsg
	if !s.poll(ctx, func() bool { m, err = stream.GetLastMsgForSubject(ctx, subject); return err == nil }) {
		return nil, missing("a dead letter", "one on "+subject, err)
	}
	return m, nil
}

// poll asks again and again for what nobody tells.
func (s *stage) poll(ctx context.Context, done func() bool) bool {
	for {
		if done() {
			return true
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
}

// ready tells that the start procedure is done.
func ready(v bridge.Status) bool {
	return v.Connected && v.Subscribed && v.Shadow == bridge.ShadowKnown
}

// readyz asks /readyz for its status code.
func (s *stage) readyz(ctx context.Context) (int, error) {
	code, _, err := s.get(ctx, "/readyz")
	return code, err
}

// metric sums the samples of a metric that carry all of the labels, written as name="value".
func (s *stage) metric(ctx context.Context, metric string, labels ...string) (sum int, err error) {
	_, page, err := s.get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	found := false
next:
	for line := range strings.Lines(page) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), metric)
		if !ok || !strings.HasPrefix(rest, "{") && !strings.HasPrefix(rest, " ") {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue next
			}
		}
		value, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", metric, err)
		}
		found, sum = true, sum+int(value)
	}
	if !found {
		return 0, fmt.Errorf("metric %s: not on the page", metric)
	}
	return sum, nil
}

func (s *stage) get(ctx context.Context, path string) (code int, body string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.gateway.HTTPAddr()+path, nil)
	if err != nil {
		return 0, "", err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = answer.Body.Close() }()
	b, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(b), err
}

// publish stores a message in a program's name and returns its PubAck.
func (s *stage) publish(ctx context.Context, program, tail, payload string) (*jetstream.PubAck, error) {
	js, err := jetstream.New(s.nc[program])
	if err != nil {
		return nil, err
	}
	return js.Publish(ctx, "fleets.up."+Thing+"."+tail, []byte(payload))
}

// request asks in a program's name and returns the answer with its error code, empty for none.
func (s *stage) request(ctx context.Context, program, tail, payload string) (answer *nats.Msg, code string, err error) {
	m := nats.NewMsg("fleets.req." + Thing + "." + tail)
	m.Data = []byte(payload)
	m.Header.Set("Fleets-Worker", program)
	if answer, err = s.nc[program].RequestMsgWithContext(ctx, m); err != nil {
		return nil, "", fmt.Errorf("request on %s: %w", m.Subject, err)
	}
	return answer, answer.Header.Get("Nats-Service-Error-Code"), nil
}
