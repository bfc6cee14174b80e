package console

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// all are the pages, each with something on it.
func all(t *testing.T) []string {
	t.Helper()
	name := thing(10)
	shown.ask(t, name+".shadow.update", report(1450))
	shown.store(t, name+".events.hot", `{"eventType":"hot","severity":"loud"}`)
	out := []string{"#/", "#/things", "#/things?state=queued", "#/dead", "#/dead?thing=" + name, "#/tail?thing=" + name, "#/trace", "#/trace?q=nothing",
		"#/check", "#/check?channel=shadow.report&thing=" + name}
	for _, tab := range []string{"", "shadow", "work", "queue", "received", "dead"} {
		out = append(out, "#/things/"+name+"?tab="+tab)
	}
	for _, tab := range []string{"config", "streams", "history", "events", "doctor", "about"} {
		out = append(out, "#/gateway?tab="+tab)
	}
	return out
}

// rest ends when a page shows what it was asked for.
func (p *tab) rest(hash string) {
	p.t.Helper()
	p.visit(hash)
	p.drawn()
	p.until(`document.querySelector('main[aria-busy=false] h1') && !document.querySelector('main .spin')`)
}

func colours(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
		return err
	})
}

// judge makes what reports every breach of axe-core's rules for WCAG 2.2 AA on what the page shows then.
func (p *tab) judge() func(what string) {
	t := p.t
	t.Helper()
	path := os.Getenv("AXE")
	if path == "" {
		t.Fatal("AXE names no axe.min.js; make console-test does")
	}
	axe, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p.run(string(axe))
	return func(what string) {
		t.Helper()
		var found []struct {
			ID, Impact, Help string
			Nodes            []struct{ HTML, FailureSummary string }
		}
		const script = `axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'], resultTypes: ['violations']}).then((r) => JSON.stringify(r.violations))`
		ctx, cancel := patient(p.ctx)
		defer cancel()
		said, err := chromedp.Run(ctx, chromedp.Evaluate[string](script, chromedp.EvalAwaitPromise))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if err := json.Unmarshal([]byte(said), &found); err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			t.Errorf("%s: %s (%s): %s\n%s\n%s", what, f.ID, f.Impact, f.Help, f.Nodes[0].HTML, f.Nodes[0].FailureSummary)
		}
	}
}

// fits reports what is wider than the window, on what the page shows now.
func (p *tab) fits(what string) {
	p.t.Helper()
	p.drawn()
	wide := eval[[]string](p, `document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll('#app *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll, nav, .menu, .json')).slice(0, 5).map((e) => e.outerHTML.slice(0, 120))`)
	if over := eval[int](p, `document.documentElement.scrollWidth - innerWidth`); over > 0 {
		p.t.Errorf("%s: %d too wide: %q", what, over, wide)
	}
}

// windows are a phone's, and 1,280 pixels with everything twice as large.
var windows = []struct {
	width, height int64
	scheme        string
}{{360, 740, "dark"}, {640, 400, "light"}}

// Every page passes the rules of axe-core, in light and dark. The one of the demo is in TestBeTheCloud.
func TestAccessible(t *testing.T) {
	t.Parallel()
	p := shown.open(t, true)
	check := p.judge()
	pages := all(t)
	for i, hash := range pages {
		if strings.Contains(hash, "state=") || strings.Contains(hash, "channel=") {
			continue // as without
		}
		p.do(colours([]string{"light", "dark"}[i%2]))
		p.rest(hash)
		check(hash)
	}
	p.rest("#/dead?thing=" + thing(10))
	p.click("td a", "#")
	p.shows(".json mark", "loud")
	for _, scheme := range []string{"light", "dark"} {
		p.do(colours(scheme))
		p.drawn()
		check("an open dead letter, " + scheme)
	}
	p.press("?")
	p.until(`document.querySelector('dialog[open]')`)
	check("the keys")
}

// Nothing is wider than the window: on a phone, and with everything twice as large.
func TestNarrow(t *testing.T) {
	t.Parallel()
	p := shown.open(t, true)
	pages := all(t)
	for _, size := range windows {
		p.do(chromedp.EmulateViewport(size.width, size.height), colours(size.scheme))
		for _, hash := range pages {
			p.rest(hash)
			p.fits(fmt.Sprintf("%s at %d", hash, size.width))
		}
	}
}

// Everything can be reached and done without a mouse.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	name := thing(11)
	shown.store(t, name+".events.hot", `{"eventType":"hot","severity":"loud"}`)
	p := shown.open(t, true)
	focus := func() string {
		return eval[string](p, `!document.activeElement.matches('a, button, input, select, summary') ? '' : (document.activeElement.innerText || document.activeElement.ariaLabel || document.activeElement.placeholder || document.activeElement.tagName).trim()`)
	}
	// reach presses Tab until something has the focus, as far as there is something new.
	reach := func(text string) {
		t.Helper()
		for range 60 {
			p.press(tabKey)
			if strings.Contains(focus(), text) {
				if eval[string](p, `getComputedStyle(document.activeElement).outlineStyle`) == "none" {
					t.Errorf("%s has the focus, and nobody sees it", text)
				}
				return
			}
		}
		t.Fatalf("Tab never reaches %q", text)
	}
	p.press("g", "t")
	p.shows("main h1", "Things")
	p.press("/")
	p.press(strings.Split(name, "")...)
	p.shows("main", "1 of 232 Things")
	p.press(escape, "j")
	p.until(`document.activeElement.matches('[data-row]')`)
	p.press(enter)
	p.shows("h1", name)
	p.press("2")
	p.until(`location.hash.includes('tab=shadow')`)
	p.press("g", "d")
	p.shows("main h1", "Dead letters")
	p.press("/")
	p.press(strings.Split(name, "")...)
	p.until(`location.hash.includes('thing=` + name + `')`) // what is typed counts a little later
	p.drawn()
	p.shows("td", name)
	p.until(`document.querySelectorAll('tbody tr').length === 1`)
	p.press(escape, "j", "x")
	p.shows("main", "1 letter chosen")
	p.press(enter)
	p.shows(".detail", "/severity")
	p.press(escape)
	p.until(`!document.querySelector('.detail')`)
	reach("Discard")
	p.press(enter)
	p.until(`document.querySelector('dialog[open]')`)
	p.shows("dialog[open]", "Discard dead letter")
	if got := focus(); got != "Cancel" {
		t.Errorf("%q has the focus in the question", got)
	}
	p.press(escape)
	p.until(`!document.querySelector('dialog[open]')`)
	if got := focus(); !strings.Contains(got, "Discard") {
		t.Errorf("after the question %q has the focus", got)
	}
	p.press("?")
	p.shows("dialog[open]", "next row")
	p.press(escape)
	p.press("g", "l")
	p.shows("main h1", "Tail")
	p.drawn()
	p.press("/")
	p.press(strings.Split(name, "")...)
	p.until(`location.hash.includes('thing=` + name + `')`) // else messages of other tests come between
	p.press(escape)
	p.shows(".chip", "live")
	shown.ask(t, name+".shadow.update", report(1))
	p.shows("tbody", "shadow.report")
	p.press("j")
	p.until(`document.activeElement.matches('[data-row]')`)
	p.press(enter)
	p.shows(".detail", `"speed"`)
	p.press("p")
	p.shows(".chip", "paused")
	// Single letters can be switched off, for who speaks to the computer.
	p.press("?")
	p.click("dialog[open] label", "Single letters")
	p.press(escape, "p")
	p.press("?")
	p.drawn()
	p.shows(".chip", "paused")
	if eval[bool](p, `Boolean(document.querySelector('dialog[open]'))`) {
		t.Error("? is a key, although keys are off")
	}
}
