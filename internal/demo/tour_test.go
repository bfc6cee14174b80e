package demo

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"fleetbridge/bridge/gateway"
	"fleetbridge/fleetsim"
)

var update = flag.Bool("update", false, "write testdata/tour.txt anew")

// paper is what the demo prints on, for several goroutines.
type paper struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func newPaper() *paper { return &paper{changed: make(chan struct{})} }

func (p *paper) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
	return p.text.Write(b)
}

func (p *paper) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// wait returns the text once the pattern matches.
func (p *paper) wait(t *testing.T, ctx context.Context, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for {
		p.mu.Lock()
		text, changed := p.text.String(), p.changed
		p.mu.Unlock()
		if re.MatchString(text) {
			return text
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%s was not printed in\n%s", pattern, text)
		}
	}
}

// limit is a context for a whole test.
func limit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// TestMain sees to it that the demo leaves no files behind, whatever becomes of it.
func TestMain(m *testing.M) {
	fleetsim.Hurry()
	dir, err := os.MkdirTemp("", "fleetbridge-demo-test-")
	if err != nil {
		panic(err)
	}
	_ = os.Setenv("TMPDIR", dir)
	_ = os.Setenv("TMP", dir) // Windows
	code := m.Run()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		fmt.Printf("left behind in %s: %v %v\n", dir, left, err)
		code = 1
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// Every flow works, is printed as the golden file says, and warns of nothing but the cut link and the dead letters that
// it makes; nothing stays behind.
func TestTour(t *testing.T) {
	out := newPaper()
	var j *journal
	if err := Run(limit(t), Options{Out: out, Once: true, patience: 2 * time.Minute, opened: func(s *stage) { j = s.journal }}); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	text := out.String()
	if !strings.Contains(text, "14 of 14 flows work") || strings.Count(text, "    ✓ ") < len(flows()) {
		t.Errorf("got\n%s", text)
	}
	for _, w := range j.warnings {
		if !strings.HasPrefix(w, "connection lost") && !strings.HasPrefix(w, "cannot connect") && !strings.HasPrefix(w, deadLetters) {
			t.Errorf("the bridge warned: %s", w)
		}
	}
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
			t.Errorf("%d wide: %s", n, line)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Error("colours in plain output")
	}
	for _, u := range regexp.MustCompile(`\w+://127\.0\.0\.1:\d+`).FindAllString(text, -1) {
		address, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := net.Dial("tcp", address.Host); err == nil {
			_ = c.Close()
			t.Errorf("%s is still open", u)
		}
	}
	golden(t, text)
}

// deadLetters begins the bridge's line about dead letters, which comes before the tick or behind it.
const deadLetters = "messages become dead letters"

// golden compares with testdata/tour.txt. What differs from run to run is masked; the messages between
// two ticks are sorted, because those of two programs come in any order.
func golden(t *testing.T, text string) {
	t.Helper()
	for _, m := range []struct{ pattern, mask string }{
		{`127\.0\.0\.1:\d+( *)`, "127.0.0.1:PORT "},
		{`/readyz +`, "/readyz "},
		{`"commandId":"[^"]*"`, `"commandId":"ID"`},
		{`\d{13}|\b179\d{7}\b|\b\d{10}\b`, "TIME"},
		{`fb-[0-9a-f]+-\d+`, "TOKEN"},
		{`\d+m\d+\.?\d*s`, "LATE"},
		{`\(in [0-9.]+ s\)`, "(in N s)"},
		{`(?m)^.* logs: ` + deadLetters + `.*\n`, ""},
		{`logs: .*`, "logs: LINE"},
	} {
		text = regexp.MustCompile(m.pattern).ReplaceAllString(text, m.mask)
	}
	text = sorted(text)
	path := filepath.Join("testdata", "tour.txt")
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("it is not as in %s; run with -update if that is right. The first line that differs, and all of it:\n%s\n%s", path, different(text, string(want)), text)
	}
}

// different shows the first line of a text that is not as wanted.
func different(got, want string) string {
	lines, wanted := strings.Split(got, "\n"), strings.Split(want, "\n")
	n := 0
	for n < min(len(lines), len(wanted))-1 && lines[n] == wanted[n] {
		n++
	}
	return fmt.Sprintf("line %d: got  %s\n         want %s\n", n+1, lines[n], wanted[n])
}

// sorted orders each run of messages: a message is a line with an arrow and the lines below it. Lines
// that are cut off in the middle of a mask lose their end.
func sorted(text string) string {
	var out, run []string
	flush := func() {
		slices.Sort(run)
		run = slices.CompactFunc(run, func(a, b string) bool { return a == b && strings.Contains(a, " logs: ") })
		out = append(out, run...)
		run = nil
	}
	for line := range strings.Lines(text) {
		if head, ok := strings.CutSuffix(line, "…\n"); ok {
			line = string([]rune(head)[:min(70, utf8.RuneCountInString(head))]) + "…\n"
		}
		switch {
		case regexp.MustCompile(`^    \w+ +[←→!] `).MatchString(line):
			run = append(run, line)
		case strings.HasPrefix(line, "      ") && len(run) > 0:
			run[len(run)-1] += line
		default:
			flush()
			out = append(out, line)
		}
	}
	flush()
	return strings.Join(out, "")
}

// A cloud that answers no question: the job does not work, and the tour says so, goes on, and fails.
func TestAFlowThatFails(t *testing.T) {
	t.Parallel()
	out := newPaper()
	err := Run(limit(t), Options{Out: out, Once: true, misbehaviour: fleetsim.Misbehaviour{DropAnswers: 1}, patience: 2500 * time.Millisecond})
	text := out.String()
	if err == nil || !strings.Contains(err.Error(), "10 job") {
		t.Errorf("got %v\n%s", err, text)
	}
	for _, want := range []string{
		"✗ a message at the broker\n        expected  one on $emqx/things/thermostat-001/jobs/firmware-2/update\n        got       none",
		" of 14 flows work (", "  ✗ 10 job", "14 what is left\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// Without Once the demo stays; what somebody else does is shown; the end of the context is its end.
func TestStaying(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(limit(t))
	defer cancel()
	out := newPaper()
	ended := make(chan error, 1)
	var s *stage
	go func() { ended <- Run(ctx, Options{Out: out, opened: func(opened *stage) { s = opened }}) }()
	text := out.wait(t, ctx, "Ctrl-C ends it")
	nc, err := nats.Connect(regexp.MustCompile(`nats://\S+`).FindString(text))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	cfg, err := gateway.Load(regexp.MustCompile(`FLEETBRIDGE_CONFIG=(\S+)`).FindStringSubmatch(text)[1], os.LookupEnv)
	if err != nil || "nats://"+cfg.NATS.Embedded.Listen != s.gateway.NATSURL() || cfg.NATS.Embedded.StoreDir != s.gateway.Config().NATS.Embedded.StoreDir || cfg.HTTP.Listen != s.gateway.HTTPAddr() {
		t.Errorf("the configuration for the other commands: %v, %+v", err, cfg)
	}
	if _, err := nc.RequestWithContext(ctx, "fleets.up.thermostat-001.shadow.update", []byte(`{"state":{"reported":{"door":"open"}}}`)); err != nil {
		t.Error(err)
	}
	out.wait(t, ctx, `you +→  fleets\.up\.thermostat-001\.shadow\.update +→  …/shadow/update\n +report +{"state":{"reported":{"door":"open"}}}`)
	if _, err := nc.RequestWithContext(ctx, "fleets.req.thermostat-001.shadow.get", nil); err != nil {
		t.Error(err)
	}
	out.wait(t, ctx, `you +←  the reply to the request +←  GET …/shadow over HTTP\n +answer +{"reported":`)
	// The tap must not seem to be somebody who serves.
	for _, subject := range []string{"fleets.cmd.thermostat-001.dance", "fleets.up.nobody.events.x"} {
		if _, err := nc.RequestWithContext(ctx, subject, nil); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("%s: %v, want no responders", subject, err)
		}
	}
	// A job needs no help from the tour any more.
	job, err := s.sim.CreateJob(fleetsim.Job{Things: []string{Thing}, Document: []byte(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.sim.WaitExecution(ctx, job.ID, Thing, fleetsim.Succeeded); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "14 of 14 flows work") {
		t.Errorf("got\n%s", out)
	}
}

// An interrupted tour is no success, but a clean end.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for _, once := range []bool{true, false} {
		ctx, cancel := context.WithCancel(limit(t))
		out := newPaper()
		err := Run(ctx, Options{Out: out, Once: once, opened: func(*stage) { cancel() }})
		if (err != nil) != once || !strings.Contains(out.String(), "interrupted") {
			t.Errorf("once %t: %v\n%s", once, err, out)
		}
	}
}

// full is an output that takes so many bytes.
type full struct{ left int }

func (f *full) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, errors.New("broken pipe")
	}
	return len(b), nil
}

// Nobody reads on: the demo ends.
func TestBrokenOutput(t *testing.T) {
	t.Parallel()
	for _, once := range []bool{true, false} {
		if err := Run(limit(t), Options{Out: &full{3000}, Once: once}); err == nil || !strings.Contains(err.Error(), "broken pipe") {
			t.Errorf("got %v", err)
		}
	}
}

// Without a place for the store the error says what to do.
func TestNoPlaceForTheStore(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "missing"))
	t.Setenv("TMP", filepath.Join(t.TempDir(), "missing"))
	if err := Run(limit(t), Options{Out: newPaper(), Once: true}); err == nil || !strings.Contains(err.Error(), "set TMPDIR") {
		t.Errorf("got %v", err)
	}
}
