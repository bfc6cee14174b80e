package local

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"fleetbridge/bridge"
	"fleetbridge/bridge/local/services"
	"fleetbridge/bridge/local/wire"
	"fleetbridge/internal/race"
)

// block is a header block as it stands on the wire.
func block(lines ...string) string {
	return "NATS/1.0\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// smuggled are blocks that would have the bridge do what their sender may not: to publish on a subject, to wait for an
// answer that never comes, or to fail what others have published with it.
func smuggled(target string) map[string]string {
	trace := "Nats-Trace-Dest: " + target
	return map[string]string{
		"bare LF":                   block("X: y\n" + trace),
		"bare LF, trace only":       block("X: y\nNats-Trace-Only: true\n" + trace),
		"bare LF twice":             block("X: y\n\n" + trace),
		"bare LF at the beginning":  "NATS/1.0\n" + trace + "\r\n\r\n",
		"bare LF behind a status":   "NATS/1.0 200\n" + trace + "\r\n\r\n",
		"bare LF at the end":        "NATS/1.0\r\nX: y\n" + trace + "\n\n",
		"bare CR":                   block("X: y\r" + trace),
		"CR CR LF":                  block("X: y\r", trace),
		"behind an empty line":      block("X: y", "", trace),
		"behind two empty lines":    block("", "", trace),
		"twice":                     block("Nats-Trace-Dest: fleets.up.a.events.t", trace),
		"once":                      block(trace),
		"other case":                block("nats-trace-dest: " + target),
		"blank before the colon":    block("Nats-Trace-Dest : " + target),
		"tab before the colon":      block("Nats-Trace-Dest\t: " + target),
		"blank before the key":      block(" " + trace),
		"folded":                    block("X: y", " "+trace),
		"NUL":                       block("X: y\x00\n" + trace),
		"hides the batch":           block("X: Nats-Batch-IdNats-Batch-Id"),
		"hides the batch, 2":        block("X: Nats-Batch-Id-Nats-Batch-Id"),
		"hides the batch, 3":        block("X-Nats-Batch-IdNats-Batch-Id: y"),
		"hides the id":              block("X: Nats-Msg-IdNats-Msg-Id", "Nats-Msg-Id: 1"),
		"key in a value":            block("X: Nats-Trace-DestNats-Trace-Dest", trace),
		"vertical tab":              block("X: y\v" + trace),
		"line separator":            block("X: y\u2028"+trace, "Y: \u0085"+trace),
		"rollup behind a bare LF":   block("X: y\nNats-Rollup: all"),
		"rollup":                    block("Nats-Rollup: all"),
		"ttl":                       block("Nats-TTL: 1s"),
		"increment":                 block("Nats-Incr: +1"),
		"schedule":                  block("Nats-Schedule: @at 2020-01-01T00:00:00Z", "Nats-Schedule-Target: "+target),
		"schedule behind a bare LF": block("X: y\nNats-Schedule: @at 2020-01-01T00:00:00Z\nNats-Schedule-Target: " + target),
		"another's last subject":    block("Nats-Expected-Last-Subject-Sequence: 0", "Nats-Expected-Last-Subject-Sequence-Subject: fleets.up.b.events.x"),
		"last id":                   block("Nats-Expected-Last-Msg-Id: 1"),
		"sequence":                  block("Nats-Expected-Last-Sequence: -1"),
		"another stream":            block("Nats-Expected-Stream: FLEETS_DOWN"),
		"batch":                     block("Nats-Batch-Id: 1", "Nats-Batch-Sequence: 1"),
		"batch's end":               block("Nats-Batch-Id: 1", "Nats-Batch-Sequence: 2", "Nats-Batch-Commit: 1"),
		"API level":                 block("Nats-Required-Api-Level: 99"),
		"unknown":                   block("Nats-Future: 1"),
		"id twice":                  block("Nats-Msg-Id: 1", "Nats-Msg-Id: 2"),
		"forged sender":             block("Nats-Request-Info: {\"acc\":\"program-bob\"}", "Nats-Request-Info: {\"acc\":\"program-bob\"}"),
		"key with a blank":          block("a b: c"),
		"key with a quote":          block("a\"b: c"),
		"key beyond ASCII":          block("ü: c"),
		"value beyond ASCII":        block("k: ü"),
		"value that is no UTF-8":    block("traceparent: \xff\xfe"),
		"no colon":                  block("just text"),
		"no end":                    "NATS/1.0\r\nX: y\r\n",
		"no version":                "HTTP/1.1\r\nX: y\r\n\r\n",
	}
}

// blocksOf lists them in the same order for each target.
func blocksOf(target string) (out []string) {
	blocks := smuggled(target)
	for _, what := range slices.Sorted(maps.Keys(blocks)) {
		out = append(out, blocks[what])
	}
	return out
}

// TestSmuggledHeaders: whatever a program puts into its headers, nothing is published but on its own subjects, and it
// hears why not.
func TestSmuggledHeaders(t *testing.T) {
	t.Parallel()
	inYards(t, suspects(), func(t *testing.T, y *yard) {
		targets := []string{"fleets.cmd.b.purge", "fleets.down.b.jobs.notify", "_fleets.down.b.jobs.notify", "_fleets.dead.up.b.events.x", "fleets.up.b.events.x",
			"$KV.FLEETS_SHADOW.b", "$JS.API.STREAM.PURGE.FLEETS_UP_CONTROL", "_INBOX_bob.x"}
		y.attack(t, func(t *testing.T, name string, _ *nats.Conn) {
			c, asked := rawLogin(t, y.url, name), questions(name)
			for j, target := range targets {
				for i, b := range blocksOf(target) {
					for k, question := range slices.Sorted(maps.Keys(asked)) {
						if (i+j+k)%(len(targets)*race.Step()) == 0 { // each block on each subject, and with enough of these for each target
							c.publish(question, c.inbox(name)+".x", b, string(asked[question]))
							c.publish(question, "", b, string(asked[question]))
						}
					}
				}
			}
			c.flush()
		}, func(t *testing.T, name, seen string) {
			_, asked := questions(name)[seen]
			if isForeign(t, name, seen); slices.Contains(foreign(), seen) && !asked && !strings.HasPrefix(seen, "_fleets.down.c") {
				t.Errorf("%s had something sent to %s", name, seen)
			}
		})
	})
}

// TestRefusedHeaders: the sender is answered with the reason, and costs nobody else anything.
func TestRefusedHeaders(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, r *rig) {
		r.journal.forgive("refused what a program published", " - cid:", "could not decode headers")
		alice, bob := rawLogin(t, r.server.URL(), "alice"), stream(t, r.login("bob"))
		for what, b := range smuggled("fleets.up.a.events.t") { // where alice may have a trace sent, so that the server passes it on
			for range 5 {
				alice.publish("fleets.up.a.events.x", "", b, `{}`)
			}
			alice.flush()
			if _, err := bob.Publish(testContext(t), "fleets.up.b.events.x", []byte(`{}`)); err != nil {
				t.Errorf("%s: bob's: %v", what, err)
			}
			if _, data := alice.request("alice", "fleets.up.a.events.x", b, `{}`); (!strings.Contains(data, `"code":400`) || !strings.Contains(data, `"description":"`)) && !mended[what] {
				t.Errorf("%s: %s", what, data)
			}
		}
		for what, b := range map[string]string{
			"none": "", "empty": "NATS/1.0\r\n\r\n", "own": block("k: v", "Content-Type: a/b;  c", "k: again", "X-Ray:", "a.b_c~1: \t tab\tbed "), "trace": block("Traceparent: 00-1", "tracestate: x=y"),
			"id": block("Nats-Msg-Id: reading 1"), "stream": block("Nats-Expected-Stream: FLEETS_UP_TELEMETRY"),
			"sent on": block("Fleets-Received: 2020-01-01T00:00:00Z", "Nats-Batch-Id: 1", "Nats-Batch-Sequence: 1", "Nats-Stream: FLEETS_DOWN", "Nats-Sequence: 7"),
		} {
			if _, data := alice.request("alice", "fleets.up.a.events.x", b, `{}`); strings.Contains(data, "error") || !strings.Contains(data, `"seq"`) {
				t.Errorf("%s: %s", what, data)
			}
		}
	})
}

// mended are blocks that the server rewrites between accounts, so that they are harmless.
var mended = map[string]bool{"no end": true, "forged sender": true}

// TestAnswersGoNowhereElse: without accounts, too, nobody has the bridge's answers sent to where only the bridge is heard.
func TestAnswersGoNowhereElse(t *testing.T) {
	t.Parallel()
	for name, relaxed := range map[string]bool{"synced": false, "relaxed": true} {
		t.Run(name, func(t *testing.T) {
			r := newRelaxed(t, relaxed)
			r.journal.forgive("refused what a program published", "could not decode headers")
			s, err := services.Serve(r.nc, handle(func(context.Context, bridge.Request) (bridge.Response, error) {
				return bridge.Response{Payload: []byte("{}")}, nil
			}), services.Config{Subjects: r.subjects, Version: "1.0.0", Log: r.journal.log()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			heard := watch(t, r.program(), "fleets.cmd.>", "fleets.down.>", "fleets.dead.>", "_fleets.down.>", "_fleets.reply.>", "$KV.>", "end")
			c := rawLogin(t, r.server.URL(), "")
			for _, target := range []string{"fleets.cmd.pump.purge", "fleets.down.pump.jobs.notify", "_fleets.down.pump.jobs.notify", "_fleets.reply.pump.x", "$KV.FLEETS_SHADOW.pump", "fleets.dead.up.pump.x"} {
				for _, question := range []string{"fleets.up.pump.events.x", "fleets.up.pump.jobs.get", "fleets.req.pump.events.x", "fleets.req.pump.shadow.get"} {
					c.publish(question, target, "", `{}`)
					c.publish(question, target, block("a b: c"), `{}`)
				}
			}
			c.flush()
			js := stream(t, r.nc)
			for _, subject := range []string{"fleets.up.pump.events.y", "fleets.up.pump.jobs.get"} {
				if _, err := js.Publish(testContext(t), subject, nil); err != nil {
					t.Fatal(err)
				}
			}
			flush(t, r.nc)
			if seen := heard.told(func() { _ = r.nc.Publish("end", nil); flush(t, r.nc) }, "end"); len(seen) > 0 {
				t.Error(seen)
			}
		})
	}
}

// FuzzHeaderBlock: of a block that is admitted the server sees what is admitted, and of the block that the bridge makes
// of it, too.
func FuzzHeaderBlock(f *testing.F) {
	for _, b := range smuggled("X") {
		f.Add(strings.NewReplacer("Nats-Trace-Dest", "Nats-Expected-Stream", "Nats-Trace-Only", "Nats-Msg-Id").Replace(b))
	}
	f.Add(block("k: v", "Nats-Expected-Stream:\t no"))
	p := newProbe(f)
	f.Fuzz(func(t *testing.T, b string) {
		if len(b) > 4096 || b == "" {
			t.Skip("the probe takes less")
		}
		m := p.receive(t, b)
		if wire.Illegible(m) {
			return
		}
		h, err := wire.Admit(m.Header)
		if err != nil {
			return
		}
		ours := strings.TrimSpace(wire.Value(h, "Nats-Expected-Stream")) != "" // an empty one is none to the server
		if servers := p.refuses(t, b); servers != ours {
			t.Errorf("%q: an expectation to the server: %v, to the bridge: %v", b, servers, ours)
		}
		answer, err := p.nc.RequestMsg(&nats.Msg{Subject: "probe", Header: h}, patience)
		if err != nil {
			t.Fatalf("%q can't be sent on: %v", b, err)
		}
		if servers := wrongStream(string(answer.Data)); servers != ours {
			t.Errorf("%q becomes %q: an expectation to the server: %v, to the bridge: %v", b, h, servers, ours)
		}
	})
}

// probe shows a header block to the server and to the bridge's client.
type probe struct {
	nc  *nats.Conn
	raw *rawClient
	sub *nats.Subscription
}

func newProbe(f *testing.F) *probe {
	f.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	s.Start()
	f.Cleanup(s.Shutdown)
	if !s.ReadyForConnections(patience) {
		f.Fatal("not ready")
	}
	nc, err := nats.Connect("", nats.InProcessServer(&wire.InProcess{Server: s}), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(nc.Close)
	p := &probe{nc: nc}
	if p.sub, err = nc.SubscribeSync("seen"); err != nil {
		f.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		f.Fatal(err)
	}
	if _, err := nc.Request("$JS.API.STREAM.CREATE.PROBE", []byte(`{"name":"PROBE","subjects":["probe"],"storage":"memory","max_msgs":1}`), patience); err != nil {
		f.Fatal(err)
	}
	conn, err := s.InProcessConn()
	if err != nil {
		f.Fatal(err)
	}
	p.raw = rawOn(f, conn, "")
	return p
}

// receive is what the bridge's client makes of a block.
func (p *probe) receive(t *testing.T, b string) *nats.Msg {
	p.raw.t = t
	p.raw.publish("seen", "", b, "x")
	m, err := p.sub.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// refuses reports whether the server sees in a block an expectation that is not met.
func (p *probe) refuses(t *testing.T, b string) bool {
	p.raw.t = t
	_, data := p.raw.request("", "probe", b, "x")
	return wrongStream(data)
}

func wrongStream(answer string) bool { return strings.Contains(answer, `"err_code":10060`) }
