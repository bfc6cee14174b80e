package console

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

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
	for _, temperature := range []string{"20.5", "21", "21.5"} {
		shown.ask(t, name+".shadow.update", fmt.Sprintf(`{"state":{"reported":{"temperature":%s,"mode":"eco"}}}`, temperature))
		p.shows(".flow", temperature)
	}
	shown.ask(t, name+".events.started", fmt.Sprintf(event, "started"))
	shown.store(t, name+".events.hot", `{"eventType":"hot","severity":"warning","data":{"celsius":98}}`)
	p.shows(".flow", "dead schema")
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
	if *shots != "" { // with the lines of the first minute
		p.until(`document.querySelectorAll('.spark').length >= 5`)
	}
	take("overview", "light")
}
