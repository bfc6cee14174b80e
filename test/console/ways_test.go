package console

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fleetbridge/fleetsim"
)

// programs is a connection as programs have one.
func (s *site) programs(t *testing.T) *nats.Conn {
	t.Helper()
	if s.nc == nil || s.nc.IsClosed() {
		nc, err := nats.Connect("nats://"+s.server, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		s.nc = nc
	}
	return s.nc
}

// ask makes a request on req, and fails when it is refused.
func (s *site) ask(t *testing.T, subject, payload string) {
	t.Helper()
	m, err := s.programs(t).Request("fleets.req."+subject, []byte(payload), patience)
	if err != nil {
		t.Fatal(err)
	}
	if code := m.Header.Get("Nats-Service-Error-Code"); code != "" {
		t.Fatalf("%s %s: %s %s", subject, payload, code, m.Header.Get("Nats-Service-Error"))
	}
}

// store publishes for the cloud; what is wrong with it is found when it is its turn.
func (s *site) store(t *testing.T, subject, payload string) {
	t.Helper()
	js, err := jetstream.New(s.programs(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := js.Publish(ctx, "fleets.up."+subject, []byte(payload)); err != nil {
		t.Fatal(err)
	}
}

func report(speed int) string {
	return fmt.Sprintf(`{"state":{"reported":{"pump":{"speed":%d,"mode":"eco"}}}}`, speed)
}

const event = `{"eventType":"%s","severity":"info","data":{"celsius":98}}`

// A link logs in once; a used one says what to do.
func TestLogin(t *testing.T) {
	t.Parallel()
	link := shown.login(t, false)
	p := newTab(t)
	p.do(chromedp.Navigate(link))
	p.shows(".card h2", "Cloud link")
	p.shows("header .chip", "ready")
	if hash := eval[string](p, `location.hash`); strings.Contains(hash, "login") {
		t.Errorf("the link stays in the URL: %s", hash)
	}
	again := newTab(t)
	again.allow("401")
	again.do(chromedp.Navigate(link))
	again.shows(".login", "fleetbridge console prints a new one")
	again.fill(`.login input[name=link]`, shown.login(t, false)) // pasted
	again.press(enter)
	again.shows(".card h2", "Cloud link")
}

// Who has a password logs in with it, by a plain form; a wrong one says so, and leaves what was typed.
func TestPassword(t *testing.T) {
	t.Parallel()
	p := newTab(t)
	p.allow("401", "429") // guesses of all tests come from one address
	p.do(chromedp.Navigate(shown.url(t)))
	p.fill(`.login input[name=user]`, "alice")
	p.fill(`.login input[name=password]`, "wrong")
	p.press(enter)
	p.shows(".login [role=alert]", "wrong")
	if typed := eval[string](p, `document.querySelector('.login input[name=user]').value`); typed != "alice" {
		t.Errorf("the name is %q now", typed)
	}
	p.fill(`.login input[name=password]`, password)
	p.press(enter)
	p.shows(".card h2", "Cloud link")
	p.shows("header .menu summary", "operator")
	if href := eval[string](p, `location.href`); strings.Contains(href, "alice") {
		t.Errorf("the URL is %s", href)
	}
}

// A session that is over leads to the login, and from there back to where one was.
func TestExpiredSession(t *testing.T) {
	t.Parallel()
	p := shown.open(t, false)
	p.allow("401")
	p.visit("#/things?q=pump-01&sort=queued")
	p.shows("td", thing(10))
	p.run(`{ const s = JSON.parse(localStorage['fleetbridge.session']); s.token = 'x' + s.token.slice(1); localStorage['fleetbridge.session'] = JSON.stringify(s) }`)
	p.do(chromedp.Reload())
	p.shows(".login", "The session has ended")
	p.run("location.href = " + quoted(shown.login(t, false)))
	p.shows("td", thing(10))
	if hash := eval[string](p, `location.hash`); hash != "#/things?q=pump-01&sort=queued" {
		t.Errorf("it comes back to %s", hash)
	}
}

// Things are filtered, sorted and paged on the gateway, and the URL says how.
func TestThings(t *testing.T) {
	t.Parallel()
	p := shown.open(t, false)
	p.visit("#/things")
	p.shows("td", thing(0))
	if n := eval[int](p, `document.querySelectorAll('tbody tr').length`); n != 100 {
		t.Errorf("%d rows are on the page, want 100", n)
	}
	p.click("a", "Next page")
	p.shows("td", thing(150))
	p.gone("td", thing(0))
	p.press("/")
	p.press(strings.Split("pump-22", "")...)
	p.shows("td", thing(225))
	p.gone("td", thing(150))
	p.shows("main", "10 of 232 Things")
	p.click("th button", "Last message")
	p.until(`location.hash.includes('sort=last')`)
	p.do(chromedp.Reload())
	p.shows("main", "10 of 232 Things")
	p.shows(`th[aria-sort]`, "Last message")
	if q := eval[string](p, `document.querySelector('[data-filter]').value`); q != "pump-22" {
		t.Errorf("the filter is %q after a reload", q)
	}
	p.fill("[data-filter]", "no such Thing")
	p.shows("main", "No Thing matches")
	p.click("a", "Show all")
	p.shows("td", thing(0))
}

// A report shows what changed, and the shadow follows.
func TestReportAndShadow(t *testing.T) {
	t.Parallel()
	name := thing(1)
	p := shown.open(t, false)
	p.visit("#/things/" + name)
	p.shows(".chip", "live")
	shown.ask(t, name+".shadow.update", report(1450))
	p.shows(".flow", "shadow.report")
	shown.ask(t, name+".shadow.update", report(1500))
	p.shows(".flow .peek", "speed 1450 → 1500")
	p.click(".flow button", "shadow.report")
	p.shows(".row-open", `"speed"`)
	p.click(".tabs a", "Shadow")
	p.shows("table", "speed")
	p.shows("table", "1500")
	if _, err := shown.sim.PatchDesired(name, []byte(`{"pump":{"speed":1600}}`)); err != nil {
		t.Fatal(err)
	}
	p.shows("tr.differs", "1600")
	shown.ask(t, name+".shadow.update", report(1600))
	p.gone("tr.differs", "1600")
}

// A command that nobody answers is open, counts down, and ends; its trace says so.
func TestCommand(t *testing.T) {
	t.Parallel()
	name := thing(2)
	p := shown.open(t, false)
	p.visit("#/things/" + name + "?tab=work")
	p.shows("main", "None waits for its answer")
	got := make(chan struct{}, 1)
	sub, err := shown.programs(t).Subscribe("fleets.cmd."+name+".setSpeed", func(*nats.Msg) { got <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	if err := shown.programs(t).Flush(); err != nil {
		t.Fatal(err)
	}
	id, err := shown.sim.SendCommand(fleetsim.Command{Thing: name, Action: "setSpeed", Params: json.RawMessage(`{"speed":1500}`), TTL: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	p.shows("table", id)
	p.shows("table", "left")
	select {
	case <-got:
	case <-time.After(patience):
		t.Fatal("the command reached no handler")
	}
	p.shows("main", "None waits for its answer")
	p.click("a", id)
	p.until(`location.hash.startsWith('#/trace')`)
	p.shows(".verdict", "TIMED_OUT")
	p.shows(".steps", "FLEETS_DOWN")
}

// A bad event is a dead letter; its fault is marked, it is mended here, sent again, and arrives.
func TestDeadLetter(t *testing.T) {
	t.Parallel()
	name := thing(3)
	p := shown.open(t, true)
	shown.store(t, name+".events.hot", `{"eventType":"hot","severity":"warning","data":{"celsius":98}}`)
	p.visit("#/dead?thing=" + name)
	p.click("td a", "#")
	p.shows(".json mark", `"warning"`)
	p.shows(".note.bad", "Would be refused again now")
	p.click("button", "Edit and replay")
	p.fill("textarea", `{"eventType":"hot","severity":"bad"}`)
	p.shows(".detail", "/severity")
	p.fill("textarea", `{"eventType":"hot","severity":"warn"}`)
	p.shows(".detail", "Would be accepted")
	p.click("button", "Replay the edited")
	p.shows("dialog[open]", "Replay the edited dead letter #")
	p.click("dialog[open] button", "Replay")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	events, err := shown.sim.WaitEvents(ctx, name, 1)
	if err != nil {
		t.Fatal(err)
	}
	if events[0].Severity != "warn" {
		t.Errorf("the cloud got %+v", events[0])
	}
	p.shows("main", "None matches")
}

// Of fifty that are sent again one would be refused again; it stays, and says why.
func TestBulkReplay(t *testing.T) {
	t.Parallel()
	name := thing(4)
	p := shown.open(t, true)
	for range 49 { // the cloud says what is no JSON; a program may want it all the same
		if err := shown.sim.Publish("$emqx/things/"+name+"/shadow/update/delta", []byte("{"), fleetsim.PublishOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	shown.store(t, name+".events.load", `{"eventType":"load","severity":"loud"}`)
	p.visit("#/dead?thing=" + name)
	p.until(`document.querySelectorAll('tbody tr').length === 50`)
	down, err := shown.programs(t).SubscribeSync("fleets.down." + name + ".shadow.update.delta")
	if err == nil {
		err = shown.programs(t).Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	p.click("label", "Select all 50 shown")
	p.shows("main", "50 letters chosen")
	p.click("button", "Replay 50")
	p.shows("dialog[open]", "Replay 50 dead letters?")
	p.click("dialog[open] button", "Replay")
	p.shows("td", "Not sent")
	p.until(`document.querySelectorAll('tbody tr').length === 1`)
	for n := range 49 {
		if _, err := down.NextMsg(patience); err != nil {
			t.Fatalf("message %d: %v", n, err)
		}
	}
	p.click("button", "Discard 1") // it is still chosen
	p.shows("dialog[open]", "Discard dead letter #")
	p.press(escape) // not this time
	p.until(`!document.querySelector('dialog[open]')`)
	p.click("button", "Discard 1")
	p.click("dialog[open] button", "Discard")
	p.shows("main", "None matches")
}

// An operator sends a message from a Thing's page: what would be refused can't be sent, what is sent arrives, and the log says
// who it was.
func TestSend(t *testing.T) {
	t.Parallel()
	name := thing(12)
	p := shown.open(t, true)
	p.visit("#/things/" + name)
	p.click("a", "Send a message")
	p.shows("h1", "Is this payload right?")
	p.fill("textarea", `{"eventType":"door","severity":"warning"}`)
	p.shows(".note.bad", "/severity")
	p.until(`[...document.querySelectorAll('main button')].find((b) => b.innerText === 'Send').disabled`)
	p.fill("textarea", `{"eventType":"door","severity":"warn"}`)
	p.shows(".note.ok", "Would be accepted")
	p.until(`document.querySelector('[name=subject]').value === 'fleets.req.` + name + `.events.door'`)
	p.click("main button", "Send")
	p.shows("dialog[open]", "Send this message?")
	p.click("dialog[open] button", "Send")
	p.shows(".note.ok", `"seq"`)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if events, err := shown.sim.WaitEvents(ctx, name, 1); err != nil || events[0].Type != "door" {
		t.Errorf("the cloud has %+v, %v", events, err)
	}
	p.visit("#/gateway?tab=events")
	p.shows(".log", "a message was sent from the console")
	p.shows(".log", "subject=fleets.req."+name+".events.door")
	p.shows(".log", "role=operator")
}

// A certificate that expires soon is on the overview, and all that are in use are with the gateway.
func TestCertificate(t *testing.T) {
	t.Parallel()
	p := shown.open(t, false)
	p.shows(".card dt", "fleets.tls.ca_file")
	p.shows(".card dd.warn", "expires in 12 d")
	p.visit("#/gateway?tab=about")
	p.shows(".card dt", "ca.pem")
	p.shows(".card dd", "12 d left")
}

// An operator has the bridge examined, and the page says what is wrong and what is well.
func TestDoctor(t *testing.T) {
	t.Parallel()
	p := shown.open(t, true)
	p.visit("#/gateway?tab=doctor")
	p.click("main button", "Examine")
	p.shows("main", "Nothing has failed")
	p.shows(".findings li", "use https") // of fleets.url
	p.shows(".findings li", "and says: connected")
	p.shows("main button", "Examine again")
	p.judge()("an examination")
	for _, size := range windows {
		p.do(chromedp.EmulateViewport(size.width, size.height), colours(size.scheme))
		p.fits(fmt.Sprintf("an examination at %d", size.width))
	}
	looker := shown.open(t, false)
	looker.visit("#/gateway?tab=doctor")
	looker.shows("main", "Operators can have the whole way to the cloud examined")
}

// The history says what was when: pointed at, or with the arrow keys, for all charts alike, and for a day.
func TestHistory(t *testing.T) {
	t.Parallel()
	p := shown.open(t, false)
	p.visit("#/gateway?tab=history")
	p.shows(".big", fmt.Sprint(len(names())))
	p.until(`document.querySelectorAll('.plot path').length >= 6`) // there are two samples
	p.run(`document.querySelector('.plot').focus()`)
	p.press(kb.ArrowLeft)
	p.until(`[...document.querySelectorAll('.big small')].every((e) => e.innerText.startsWith('at '))`)
	p.until(`/^(not known|[0-9]+), [0-9:]+$/.test(document.querySelector('.plot').ariaValueText)`) // another test may have cut the link then
	p.press(escape)
	p.gone(".big", "at ")
	p.click("a", "24 hours")
	p.shows("main", "the fewest that were connected")
	p.until(`document.querySelectorAll('.plot').length >= 6`)
}

// demo starts fleetbridge demo, and opens its link when the tour is over. server is where programs connect.
func demo(t *testing.T) (p *tab, server string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	run := exec.CommandContext(ctx, os.Getenv("FLEETBRIDGE"), "demo")
	run.Cancel, run.WaitDelay = func() error { return run.Process.Signal(os.Interrupt) }, patience
	run.Env = append(os.Environ(), "NO_COLOR=1")
	out, err := run.StdoutPipe()
	if err == nil {
		err = run.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = run.Wait()
	})
	link, lines := "", bufio.NewScanner(out)
	for toured := false; lines.Scan() && (!toured || link == ""); {
		toured = toured || strings.HasPrefix(lines.Text(), "The demo stays up")
		if i := strings.Index(lines.Text(), "http://"); toured && strings.Contains(lines.Text(), "#login=") {
			link = lines.Text()[i:]
		}
		if i := strings.Index(lines.Text(), "nats://"); i >= 0 && server == "" {
			server = strings.Fields(lines.Text()[i:])[0]
		}
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	p = newTab(t)
	p.do(chromedp.Navigate(link))
	p.shows(".card h2", "Cloud link")
	return p, server
}

// Somebody who has never seen it finds out in two clicks why a message did not arrive, and mends it in three more. The steps are
// those of docs/console.md.
func TestNewcomer(t *testing.T) {
	t.Parallel()
	p, server := demo(t)
	nc, err := nats.Connect(server)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Request("fleets.up.thermostat-001.events.overheated", []byte(`{"eventType":"overheated","severity":"warning"}`), patience); err != nil {
		t.Fatal(err)
	}
	p.shows("nav.main .count", "3") // two are the tour's
	p.click("nav.main a", "Dead letters")
	p.shows("tbody tr:first-child", `"warning" is not allowed, use one of info, warn, error`)
	p.shows("tbody tr:first-child", "overheated")
	p.click("tbody tr:first-child a", "#")
	p.shows(".json mark", `"warning"`)
	p.shows(".json .why", "use one of info, warn, error")
	p.click(".detail button", "Edit and replay")
	p.fill(".detail textarea", `{"eventType":"overheated","severity":"warn"}`)
	p.shows(".detail", "Would be accepted")
	p.click(".detail button", "Replay")
	p.click("dialog[open] button", "Replay")
	p.gone("tbody tr", "overheated")
}

// In the demo somebody acts as the cloud, and sees what passes because of it.
func TestBeTheCloud(t *testing.T) {
	t.Parallel()
	p, _ := demo(t)
	p.press("g", "c")
	p.shows("h1", "Be the cloud")
	p.shows(".chip", "live")
	p.click("main button", "Set the desired state")
	p.shows(".flow", "shadow.desired")
	p.shows(".flow", "targetTemperature")
	p.click("main button", "Send a command")
	p.shows(".flow", "replied")
	p.click("main button", "Create a job")
	p.shows(".flow", "job.update")
	p.click("main button", "Cut the link")
	p.shows("header .chip", "not ready")
	p.click("main button", "Restore the link")
	p.gone("header .chip", "not ready")
	p.click("main button", "Refuse reports")
	p.shows("main", "Refuse reports, ")
	p.click("main button", "Accept reports")
	p.fill("textarea", "{")
	p.click("main button", "Set the desired state")
	p.shows(".note.bad", "JSON")
	check := p.judge()
	for _, scheme := range []string{"light", "dark"} {
		p.do(colours(scheme))
		p.drawn()
		check("the cloud's page, " + scheme)
	}
	for _, size := range windows {
		p.do(chromedp.EmulateViewport(size.width, size.height), colours(size.scheme))
		p.fits(fmt.Sprintf("the cloud's page at %d", size.width))
	}
	p.click("a", "what became of it")
	p.shows(".verdict", "job")
}
