package console

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/nats-io/nats.go"
)

// busy has every Thing report, and the cloud want something of each, until the test ends.
func busy(ctx context.Context, nc *nats.Conn, things []string) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			name := things[n%len(things)]
			_ = nc.Publish("fleets.up."+name+".shadow.update", fmt.Appendf(nil, `{"state":{"reported":{"celsius":%d}}}`, n))
			if n%5 == 0 {
				_, _ = shown.sim.PatchDesired(name, fmt.Appendf(nil, `{"celsius":%d}`, n))
			}
		}
	}
}

// The pictures of the documents. Each is of something that has to be there; -shots says where they are kept.
func TestShots(t *testing.T) {
	dir := *shots
	if dir == "" {
		dir = t.TempDir()
	}
	name := "thermostat"
	p := shown.open(t, true)
	p.do(chromedp.EmulateViewport(1200, 720))
	take := func(picture, scheme string) {
		t.Helper()
		p.do(colours(scheme))
		p.drawn()
		ctx, cancel := patient(p.ctx)
		defer cancel()
		data, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, picture+".png"), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p.visit("#/things/" + name)
	p.shows(".chip", "live")
	if _, err := shown.sim.PatchDesired(name, []byte(`{"mode":"eco","targetTemperature":22}`)); err != nil {
		t.Fatal(err)
	}
	p.shows(".flow", "shadow.delta")
	for _, temperature := range []string{"20.5", "21", "21.5"} {
		shown.ask(t, name+".shadow.update", fmt.Sprintf(`{"state":{"reported":{"temperature":%s,"mode":"eco"}}}`, temperature))
		p.shows(".flow", temperature)
	}
	shown.ask(t, name+".events.started", fmt.Sprintf(event, "started"))
	shown.store(t, name+".events.hot", `{"eventType":"hot","severity":"warning","data":{"celsius":98}}`)
	p.shows(".flow", "dead schema")
	if *shots != "" { // the numbers come every two seconds
		p.shows(".facts dd", "4 delivered")
		p.shows(".facts dd", "delta")
	}
	take("thing", "light")
	p.visit("#/dead?thing=" + name)
	p.click("td a", "#")
	p.shows(".json mark", "warning")
	take("dead", "dark")
	p.visit("#/tail?channel=event")
	p.shows(".chip", "live")
	others := names()
	if *shots == "" {
		others = others[100:] // no other test's
	}
	for n := range 12 {
		severity := "info"
		if n == 8 {
			severity = "warning"
		}
		shown.store(t, others[n%7]+".events.hot", fmt.Sprintf(`{"eventType":"hot","severity":%q,"data":{"celsius":%d}}`, severity, 90+n))
	}
	p.until(`document.querySelectorAll('tbody tr[data-row]').length >= 12`)
	p.press("k", "k")
	p.until(`document.activeElement.matches('[data-row]')`)
	p.press(enter)
	p.shows(".detail", "celsius")
	take("tail", "dark")
	p.visit("#/")
	p.until(`document.querySelector(".log li")`)
	if *shots != "" { // with the lines of the first minute, and something that passes
		go busy(t.Context(), shown.programs(t), others)
		p.until(`document.querySelectorAll('.spark').length >= 5`)
		p.shows(".card dd", "p99")
	}
	take("overview", "light")
}
