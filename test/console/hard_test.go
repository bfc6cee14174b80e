package console

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// What is named or sent to be markup is text, on every page.
func TestHostile(t *testing.T) {
	t.Parallel()
	p := shown.open(t, true)
	p.visit("#/things?q=*img*")
	p.shows("td", "<img src=x onerror=alert(1)>\\u202e 1")
	p.click("td a", "<img")
	p.until(`location.hash.startsWith('#/things/')`)
	token := eval[string](p, `decodeURIComponent(location.hash.slice('#/things/'.length))`)
	p.shows(".chip", "live")
	markup := `<img src=x onerror=alert(1)><script>alert(2)</script>`
	deep := strings.Repeat(`{"a":`, 60) + `"<b>x</b>\u202e\u0000"` + strings.Repeat("}", 60)
	payloads := []string{
		`{"eventType":"hot","severity":"info","data":{` + quoted(markup) + `:` + quoted(markup) + `}}`,
		`{"eventType":"hot","severity":"info","data":` + deep + `}`,
		`{"eventType":"hot","severity":"info","data":{"n":12345678901234567890,"s":"` + strings.Repeat("x", 100<<10) + `"}}`,
		markup, "\xff\xfe\x00<script>", "", "null", `{"eventType":"hot"`,
	}
	for _, payload := range payloads {
		shown.store(t, token+".events.hot", payload)
	}
	shown.ask(t, token+".shadow.update", `{"state":{"reported":{`+quoted(markup)+`:{"deep":`+quoted(markup)+`}}}}`)
	p.shows(".flow", "shadow.report")
	p.click(".flow button", "event hot")
	p.shows(".row-open", "Came on")
	p.click(".tabs a", "Shadow")
	p.shows("table", "<script>alert(2)</script>")
	for _, tab := range []string{"Work", "Queue", "Received", "Dead letters"} {
		p.click(".tabs a", tab)
		p.until(`document.querySelector('.panel, .empty')`)
	}
	p.until(`document.querySelectorAll('td a[href^="#/dead/"]').length >= 4`) // not those of the tab before
	letters := eval[[]string](p, `[...document.querySelectorAll('td a')].map((a) => a.getAttribute('href'))`)
	if len(letters) < 4 {
		t.Errorf("there are %d dead letters: %v", len(letters), letters)
	}
	for _, l := range letters {
		p.visit(l)
		p.until(`document.querySelector('.detail .json, .detail .dim')`)
	}
	p.visit("#/trace?q=" + letters[0][strings.LastIndex(letters[0], "/")+1:strings.Index(letters[0], "?")])
	p.until(`document.querySelector('.verdict')`)
	p.visit("#/trace?q=%3Cimg%20src=x%20onerror=alert(1)%3E")
	p.until(`document.querySelector('.verdict')`)
	p.allow("400") // no Thing has such a token
	p.visit("#/check?channel=event&thing=" + "%3Cimg%3E")
	p.fill("textarea", markup)
	p.visit("#/gateway?tab=events")
	p.shows(".log", "connected")
	p.visit("#/" + "%3Cimg%20src=x%20onerror=alert(1)%3E/%E0%A4%A?%zz=%")
	p.shows(".card h2", "Cloud link")
	if n := eval[int](p, `document.querySelectorAll('img, script:not([src="app.js"]), iframe, style, [onerror], [style*=expression]').length`); n != 0 {
		t.Errorf("%d elements are from elsewhere", n)
	}
}

// Thousands a second: the page stays usable, and what it did not show is counted.
// It runs alone: what it makes pass would have the messages of other tests counted, not shown.
func TestTailAddsUp(t *testing.T) {
	name := thing(5)
	p := shown.open(t, false)
	p.visit("#/tail?thing=" + name + "&channel=event")
	p.shows(".chip", "live")
	const sent = 2000
	nc := shown.programs(t)
	go func() {
		for n := range sent {
			_ = nc.Publish("fleets.up."+name+".events.n", fmt.Appendf(nil, `{"eventType":"n","severity":"info","data":{"n":%d}}`, n))
		}
		_ = nc.Flush()
	}()
	p.shows("tbody", "event n")
	p.press("p")
	p.shows(".chip", "paused")
	p.click("tr[data-row] td", name) // it is answered
	p.shows(".detail", "eventType")
	p.press(escape, "p")
	p.gone(".chip", "paused")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := shown.sim.WaitEvents(ctx, name, sent); err != nil {
		t.Fatal(err)
	}
	p.run(`globalThis.saved = ''; URL.createObjectURL = (b) => { b.text().then((s) => { saved = s; }); return 'blob:none'; }; HTMLAnchorElement.prototype.click = () => {}`)
	var seen, skipped int
	save := func() error {
		p.click("main button", "Save")
		p.until(`saved`)
		seen, skipped = 0, 0
		for _, line := range strings.Split(strings.TrimSpace(eval[string](p, `saved`)), "\n") {
			var row struct {
				Outcome string
				Skipped int
				By      map[string]int
			}
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				t.Fatal(err)
			}
			if row.By["event"] != row.Skipped {
				t.Errorf("a gap of %d has %v", row.Skipped, row.By)
			}
			if skipped += row.Skipped; row.Outcome != "" {
				seen++
			}
		}
		if seen+skipped != sent {
			return fmt.Errorf("%d shown and %d not shown of %d", seen, skipped, sent)
		}
		return nil
	}
	if err := until(ctx, save); err != nil {
		t.Error(err)
	}
	drawn := eval[int](p, `document.querySelectorAll('#tail-rows tr').length`)
	if drawn > 150 {
		t.Errorf("%d rows are in the page", drawn)
	}
	t.Logf("%d shown, %d not shown, %d drawn", seen, skipped, drawn)
}

// A hidden tab asks nothing, and goes on when it is seen again.
func TestHiddenTab(t *testing.T) {
	t.Parallel()
	p := shown.open(t, false)
	p.visit("#/tail?thing=" + thing(6))
	p.shows(".chip", "live")
	hide := func(hidden bool) {
		p.run(fmt.Sprintf(`Object.defineProperty(document, 'hidden', {configurable: true, value: %t}); document.dispatchEvent(new Event('visibilitychange'))`, hidden))
	}
	hide(true)
	p.run(`globalThis.asked = []; { const f = fetch; globalThis.fetch = (...a) => { asked.push(a[0]); return f(...a); }; }`)
	// As long as two rounds of asking take; another tab is seen to ask meanwhile.
	other := shown.open(t, false)
	other.run(`{ const f = fetch; globalThis.n = 0; globalThis.fetch = (...a) => { n++; return f(...a); }; }`)
	other.until(`n >= 4`)
	if asked := eval[[]string](p, `asked`); len(asked) > 0 {
		t.Errorf("a hidden tab asks for %v", asked)
	}
	hide(false)
	p.until(`asked.some((a) => a.includes('tail')) && asked.some((a) => a.includes('overview'))`)
	p.shows(".chip", "live")
	shown.ask(t, thing(6)+".events.back", fmt.Sprintf(event, "back"))
	p.shows("tbody", "event back")
}

// A viewer has no buttons that change anything, nor the configuration.
func TestViewer(t *testing.T) {
	t.Parallel()
	shown.store(t, thing(7)+".events.hot", `{"eventType":"hot","severity":"loud"}`)
	for _, operator := range []bool{false, true} {
		p := shown.open(t, operator)
		p.visit("#/dead?thing=" + thing(7))
		p.click("td a", "#")
		p.shows(".detail", "/severity")
		p.shows(".detail button", "Copy payload")
		acts := eval[int](p, `[...document.querySelectorAll('main button')].filter((b) => /Replay|Discard|Edit/.test(b.innerText)).length + document.querySelectorAll('main input[type=checkbox]').length`)
		if (acts > 0) != operator {
			t.Errorf("operator %t: %d controls that act", operator, acts)
		}
		p.visit("#/check?channel=event&thing=" + thing(7))
		p.shows("main", "Would be accepted")
		p.shows("h2", "Rules")
		if sends := eval[bool](p, `Boolean(document.querySelector('[name=subject]'))`); sends != operator {
			t.Errorf("operator %t: the page has what sends: %t", operator, sends)
		}
		p.visit("#/gateway?tab=config")
		if operator {
			p.shows("main pre", "things:")
		} else {
			p.shows("main", "Operators see the configuration")
		}
	}
}

// A link that breaks is seen at once, with the reason; what waits is counted; then all is well again.
func TestLinkBreaks(t *testing.T) {
	p := shown.open(t, false)
	shown.link.Cut()
	t.Cleanup(shown.link.Restore)
	p.shows("header .chip", "not ready")
	p.shows(".problems", "not connected")
	p.shows(".cmd", "fleetbridge doctor")
	for n := range 3 {
		shown.ask(t, thing(8)+".events.wait", fmt.Sprintf(`{"eventType":"wait","severity":"info","data":{"n":%d}}`, n))
	}
	p.visit("#/things?state=queued")
	p.shows("td", thing(8))
	p.visit("#/things/" + thing(8) + "?tab=queue")
	p.shows("td", "events.wait")
	shown.link.Restore()
	p.gone("td", "events.wait")
	p.shows("header .chip", "ready")
	p.gone("header .chip", "not ready")
}

// A bridge that is started again: the page says so, asks for a login, as others may have had the port meanwhile, and goes
// on where it was.
func TestRestart(t *testing.T) {
	p := shown.open(t, false)
	p.allow("401", "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "503")
	p.visit("#/tail?thing=" + thing(9))
	p.shows(".chip", "live")
	if err := shown.stop(); err != nil {
		t.Fatal(err)
	}
	p.shows(".bar", "The bridge does not answer")
	p.visit("#/trace") // a page that was not needed before
	p.shows("main", "could not be loaded")
	if err := shown.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.shows(".login", "The session has ended")
	p.run("location.href = " + quoted(shown.login(t, false)))
	p.shows("main h1", "What became of a message?")
	p.visit("#/tail?thing=" + thing(9))
	p.shows(".chip", "live")
	shown.ask(t, thing(9)+".events.back", fmt.Sprintf(event, "back"))
	p.shows("tbody", "event back")
}

// What the page copies for a shell is one word of it, whatever is in a payload, and nothing that a terminal takes for a key.
func TestCopiedWords(t *testing.T) {
	t.Parallel()
	p := shown.open(t, false)
	for _, text := range []string{"pump-07", "", "two words", `it's`, "{\x03   touch x\n", "\x1b[201~'\\\t\x7f\u0085é"} {
		p.run(`window.word = null; import('/part/text.js').then((m) => { window.word = m.quote(` + quoted(text) + `); })`)
		p.until(`window.word !== null`)
		word := eval[string](p, `window.word`)
		if strings.ContainsFunc(word, func(r rune) bool { return r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 }) {
			t.Errorf("%q is copied as %q", text, word)
		}
		shell := exec.CommandContext(t.Context(), "bash", "-c", "printf %s "+word)
		shell.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
		if out, err := shell.CombinedOutput(); err != nil || string(out) != text {
			t.Errorf("%q is copied as %q, which is %q: %v", text, word, out, err)
		}
	}
}
